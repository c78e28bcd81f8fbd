//! The console's API as a process: who may what, and that nobody gets round it.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::io::Read as _;
use std::net::TcpStream;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Result;
use gatewright_console::auth::{Role, token};
use gatewright_console::data_key::Secrets;
use gatewright_console::store::{Store, accounts};
use gatewright_tests::console::{Console, PASSWORD, Setup, program, session};
use gatewright_tests::https::{Answer, Client};
use gatewright_tests::machine::{Machine, gateway};
use gatewright_tests::postgres::Postgres;
use gatewright_tests::prerequisites::needed;
use gatewright_tests::process;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// What breaks out of a statement or a page, if anything does.
const TRICKY: &[&str] = &[
    "'; DROP TABLE accounts; --",
    "' OR '1'='1",
    "\"; DELETE FROM gateways; --",
    "1) UNION SELECT password FROM accounts --",
    "$1",
    "?1",
    "\\'; SELECT pg_sleep(30); --",
    "<script>alert(1)</script>",
    "%27%20OR%201=1",
    "\u{0}",
];

/// One console for the cases that leave it as it is.
fn shared() -> &'static Console {
    static CONSOLE: OnceLock<Console> = OnceLock::new();
    CONSOLE.get_or_init(|| Console::start().unwrap())
}

/// The operations of the document: method, path with its parameters filled in, what the document says.
fn operations(client: &Client) -> Vec<(String, String, Value)> {
    let document = client.get("/openapi.json").unwrap().expect(200).unwrap();
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let path: Vec<_> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "00000000-0000-4000-8000-000000000000" } else { part })
            .collect();
        for (method, operation) in item.as_object().unwrap() {
            operations.push((method.to_uppercase(), path.join("/"), operation.clone()));
        }
    }
    assert!(operations.len() > 30, "the document has {} operations", operations.len());
    operations
}

fn ask(client: &Client, method: &str, path: &str, operation: &Value) -> Answer {
    let body = if operation.get("requestBody").is_some() { json!({}) } else { Value::Null };
    client.json(method, path, &body).unwrap()
}

fn problem(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let problem: Value = answer.read().unwrap();
    assert_eq!(problem["status"], answer.status.as_u16());
    problem["type"].as_str().unwrap().to_owned()
}

fn rank(role: &str) -> usize {
    ["viewer", "operator", "administrator"].iter().position(|known| *known == role).unwrap()
}

/// Every route, every role.
#[test]
fn each_may_what_its_role_says() {
    let console = shared();
    let client = console.client().unwrap();
    let operations = operations(&client);
    let mut looked = 0;
    for role in ["viewer", "operator", "administrator"] {
        let token = console.new_token(role).unwrap();
        let member = client.header("authorization", &format!("Bearer {token}"));
        for (method, path, operation) in &operations {
            let Some(needed) = operation["x-role"].as_str() else { continue };
            let answer = ask(&member, method, path, operation);
            let status = answer.status.as_u16();
            if rank(role) < rank(needed) {
                assert_eq!((status, problem(&answer).as_str()), (403, "role"), "{role} {method} {path}");
            } else {
                assert!(![401, 403].contains(&status) && status < 500, "{role} {method} {path}: {answer:?}");
            }
            looked += 1;
        }
    }
    assert!(looked > 60, "{looked}");
}

/// Every route that is not open: without a sign-in, with a made-up one, with half of one.
#[test]
fn strangers_are_refused() {
    let client = shared().client().unwrap();
    let strangers = [
        client.clone(),
        client.header("authorization", "Bearer gwt_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        client.header("authorization", "Basic YWRtaW46YWRtaW4="),
        client.header("cookie", "__Host-session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
        // A session is a cookie and nothing else, a token a header and nothing else.
        client.header("cookie", &format!("__Host-session={}", shared().token())),
    ];
    for (method, path, operation) in operations(&client) {
        if operation["x-role"].is_null() {
            continue;
        }
        for stranger in &strangers {
            let answer = ask(stranger, &method, &path, &operation);
            assert_eq!(answer.status, 401, "{method} {path}");
            assert_eq!(problem(&answer), "unauthorized");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
}

/// Every route that changes something, of a session without the right CSRF token or from somebody else's page.
#[test]
fn other_sites_cannot_act_for_who_is_signed_in() {
    let console = shared();
    let client = console.client().unwrap();
    let answer =
        client.json("POST", "/v1/session", &json!({ "name": "admin", "password": PASSWORD })).unwrap();
    let csrf = answer.expect(200).unwrap()["csrf"].as_str().unwrap().to_owned();
    let cookie = answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let signed_in = client.header("cookie", &cookie);
    let other = console.sign_in("admin", PASSWORD).unwrap();
    let others: Value = other.get("/v1/session").unwrap().expect(200).unwrap();
    let right = signed_in.header("x-csrf-token", &csrf);
    let own = format!("https://127.0.0.1:{}", console.said().address.port());
    let wrong = [
        (signed_in.clone(), "csrf"),
        (signed_in.header("x-csrf-token", ""), "csrf"),
        (signed_in.header("x-csrf-token", others["csrf"].as_str().unwrap()), "csrf"),
        (right.header("origin", "https://evil.example"), "cross-site"),
        (right.header("origin", "null"), "cross-site"),
        (right.header("origin", &own.replace("https", "http")), "cross-site"),
        (right.header("sec-fetch-site", "cross-site"), "cross-site"),
        (right.header("sec-fetch-site", "same-site"), "cross-site"),
        (right.header("origin", &own).header("sec-fetch-site", "cross-site"), "cross-site"),
    ];
    let mut looked = 0;
    for (method, path, operation) in operations(&client) {
        if operation["x-role"].is_null() || method == "GET" {
            continue;
        }
        for (forged, why) in &wrong {
            let answer = ask(forged, &method, &path, &operation);
            assert_eq!((answer.status.as_u16(), problem(&answer).as_str()), (403, *why), "{method} {path}");
        }
        looked += 1;
    }
    assert!(looked > 15, "{looked}");
    // And what is right goes through.
    for good in [right.clone(), right.header("origin", &own).header("sec-fetch-site", "same-origin")] {
        let body = json!({ "name": "csrf", "role": "viewer" });
        good.json("POST", "/v1/tokens", &body).unwrap().expect(201).unwrap();
    }
    // Nobody is signed in by somebody else's page either.
    let login = json!({ "name": "admin", "password": PASSWORD });
    let forged = client.header("origin", "https://evil.example").json("POST", "/v1/session", &login).unwrap();
    assert_eq!((forged.status.as_u16(), problem(&forged).as_str()), (403, "cross-site"));
    // A form cannot send JSON.
    let body = format!(r#"{{"name":"admin","password":"{PASSWORD}"}}"#).into_bytes();
    let form = client.request("POST", "/v1/session", Some(("text/plain", body))).unwrap();
    assert_eq!(form.status, 415);
}

/// An account of its own, so that its sessions are nobody else's.
fn account(console: &Console, name: &str, role: &str) -> String {
    let body = json!({ "name": name, "role": role });
    let made = console.api().unwrap().json("POST", "/v1/accounts", &body).unwrap().expect(201).unwrap();
    made["initial_password"].as_str().unwrap().to_owned()
}

#[test]
fn a_session_is_new_at_every_sign_in() {
    let console = shared();
    let initial = account(console, "fixation", "viewer");
    let login = json!({ "name": "fixation", "password": initial });
    let client = console.client().unwrap();
    // What an attacker had the browser take before is none of the session.
    let planted = client.header("cookie", "__Host-session=planted; __Host-session=planted2");
    let answer = planted.json("POST", "/v1/session", &login).unwrap();
    let flags = answer.header("set-cookie").unwrap().to_owned();
    let (value, flags) = flags.split_once(';').unwrap();
    assert_eq!(flags.trim(), "HttpOnly; SameSite=Lax; Secure; Path=/");
    let value = value.strip_prefix("__Host-session=").unwrap();
    assert!(value.len() == 43 && value != "planted", "{value}");
    assert_eq!(planted.get("/v1/session").unwrap().status, 401);

    let first = session(&client, &answer).unwrap();
    let second = console.sign_in("fixation", &initial).unwrap();
    // Until the password is changed, that and leaving is all there is: no route is forgotten.
    for (method, path, operation) in operations(&client) {
        if operation["x-role"].is_null() || path.starts_with("/v1/session") {
            continue;
        }
        let answer = ask(&first, &method, &path, &operation);
        assert_eq!(
            (answer.status.as_u16(), problem(&answer).as_str()),
            (403, "password-change-required"),
            "{method} {path}"
        );
    }
    let refused = |new: &str| {
        let body = json!({ "current": initial, "new": new });
        let answer = first.json("PUT", "/v1/session/password", &body).unwrap();
        assert_eq!(answer.status, 422, "{}", answer.text());
    };
    refused("short");
    refused("fixation fixation");
    refused(&initial);
    let body = json!({ "current": initial, "new": PASSWORD });
    let changed = first.json("PUT", "/v1/session/password", &body).unwrap();
    let third = session(&client, &changed).unwrap();
    for dead in [&first, &second] {
        assert_eq!(dead.get("/v1/session").unwrap().status, 401, "a session from before the change");
    }
    third.get("/v1/gateways").unwrap().expect(200).unwrap();
    let old = client.json("POST", "/v1/session", &login).unwrap();
    assert_eq!((old.status.as_u16(), problem(&old).as_str()), (401, "wrong-password"));

    let left = third.json("DELETE", "/v1/session", &Value::Null).unwrap();
    assert_eq!(left.status, 204);
    assert!(left.header("set-cookie").unwrap().contains("Max-Age=0"), "{left:?}");
    assert_eq!(third.get("/v1/session").unwrap().status, 401);
}

/// Of failures, so many; also for the right password after them; nobody else is locked out.
#[test]
fn guessing_passwords_is_slow() {
    let console = Console::start().unwrap();
    let client = console.client().unwrap();
    let guess = |name: &str, password: &str| {
        client.json("POST", "/v1/session", &json!({ "name": name, "password": password })).unwrap()
    };
    let mut told = Vec::new();
    for _ in 0..10 {
        // An account that is there and one that is not are told alike.
        let name = if told.len() % 2 == 0 { "admin" } else { "nobody" };
        let answer = guess(name, "wrong wrong wrong");
        assert_eq!(answer.status, 401);
        told.push(answer.text());
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    let refused = guess("admin", PASSWORD);
    assert_eq!((refused.status.as_u16(), problem(&refused).as_str()), (429, "too-many-sign-ins"));
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=6).contains(&after), "{after}");
    // Tokens and sessions go on.
    let api = console.api().unwrap();
    let audit = api.get("/v1/audit?limit=500").unwrap().expect(200).unwrap();
    let failed =
        audit["items"].as_array().unwrap().iter().filter(|entry| entry["action"] == "login.failed").count();
    assert_eq!(failed, 10);
    let back = process::wait_for("another try", Duration::from_secs(30), || {
        let answer = guess("admin", PASSWORD);
        Ok((answer.status == 200).then_some(()))
    });
    back.unwrap();
}

#[test]
fn tokens_end() {
    let console = shared();
    let client = console.client().unwrap();
    let api = console.api().unwrap();
    let with = |secret: &str| {
        client.header("authorization", &format!("Bearer {secret}")).get("/v1/session").unwrap()
    };

    // Deleted: at once.
    let body = json!({ "name": "to go", "role": "operator", "expires_in_days": 1 });
    let made = api.json("POST", "/v1/tokens", &body).unwrap().expect(201).unwrap();
    let secret = made["secret"].as_str().unwrap();
    let who: Value = with(secret).expect(200).unwrap();
    assert_eq!((&who["role"], who.get("csrf")), (&json!("operator"), None));
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    api.json("DELETE", &path, &Value::Null).unwrap().expect(204).unwrap();
    assert_eq!(with(secret).status, 401);

    // One that was made with another ends with it: at its time, and when it is deleted.
    let made = api.json("POST", "/v1/tokens", &body).unwrap().expect(201).unwrap();
    let parent = client.header("authorization", &format!("Bearer {}", made["secret"].as_str().unwrap()));
    let child = json!({ "name": "child", "role": "viewer" });
    let child = parent.json("POST", "/v1/tokens", &child).unwrap().expect(201).unwrap();
    assert_eq!(child["expires_at"], made["expires_at"]);
    let secret = child["secret"].as_str().unwrap();
    with(secret).expect(200).unwrap();
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    api.json("DELETE", &path, &Value::Null).unwrap().expect(204).unwrap();
    assert_eq!(with(secret).status, 401);

    // Expired: made in the table as the console makes them, a moment ago and a moment ahead.
    let expired = |offset: i64| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let secrets = Secrets::from_file(&console.folder().join("data-key")).unwrap();
            let url = Store::sqlite(&console.folder().join("console.db")).unwrap();
            let store = Store::open(&url, secrets).await.unwrap();
            let mut db = store.write().await.unwrap();
            let admin = accounts::by_name(&mut db, "admin").await.unwrap().unwrap();
            let now = Timestamp::now();
            let end = Timestamp::from_second(now.as_second() + offset).unwrap();
            let (_, secret) =
                token::create(&mut db, admin.id, "x", Role::Viewer, Some(end), None, now).await.unwrap();
            db.commit().await.unwrap();
            store.close().await;
            secret.expose().to_owned()
        })
    };
    assert_eq!(with(&expired(-1)).status, 401);
    assert_eq!(with(&expired(60)).status, 200);

    // Nobody makes one for more than they may, and nobody ends somebody else's.
    let operator = console.new_token("operator").unwrap();
    let operator = client.header("authorization", &format!("Bearer {operator}"));
    let more =
        operator.json("POST", "/v1/tokens", &json!({ "name": "more", "role": "administrator" })).unwrap();
    assert_eq!((more.status.as_u16(), problem(&more).as_str()), (403, "role"));

    // With its account: disabled, and gone.
    let initial = account(console, "leaver", "operator");
    let theirs = console.sign_in("leaver", &initial).unwrap();
    let change = json!({ "current": initial, "new": PASSWORD });
    let theirs = session(&client, &theirs.json("PUT", "/v1/session/password", &change).unwrap()).unwrap();
    let body = json!({ "name": "leaver's", "role": "operator" });
    let made = theirs.json("POST", "/v1/tokens", &body).unwrap().expect(201).unwrap();
    let secret = made["secret"].as_str().unwrap();
    let path = format!("/v1/accounts/{}", made["account"].as_str().unwrap());
    let demoted = api.json("PUT", &path, &json!({ "role": "viewer", "disabled": false })).unwrap();
    demoted.expect(200).unwrap();
    assert_eq!(with(secret).expect(200).unwrap()["role"], "viewer", "the account's role is the limit");
    api.json("PUT", &path, &json!({ "role": "viewer", "disabled": true })).unwrap().expect(200).unwrap();
    assert_eq!(with(secret).status, 401);
    assert_eq!(theirs.get("/v1/session").unwrap().status, 401);
    api.json("PUT", &path, &json!({ "role": "viewer", "disabled": false })).unwrap().expect(200).unwrap();
    assert_eq!(with(secret).status, 200);
    api.json("DELETE", &path, &Value::Null).unwrap().expect(204).unwrap();
    assert_eq!(with(secret).status, 401);
}

#[test]
fn nobody_locks_themselves_out() {
    let api = shared().api().unwrap();
    let accounts = api.get("/v1/accounts").unwrap().expect(200).unwrap();
    let admin =
        accounts["items"].as_array().unwrap().iter().find(|account| account["name"] == "admin").unwrap();
    let path = format!("/v1/accounts/{}", admin["id"].as_str().unwrap());
    for (method, path, body) in [
        ("DELETE", path.clone(), Value::Null),
        ("PUT", path.clone(), json!({ "role": "viewer", "disabled": false })),
        ("PUT", path.clone(), json!({ "role": "administrator", "disabled": true })),
        ("POST", format!("{path}/password"), Value::Null),
    ] {
        let answer = api.json(method, &path, &body).unwrap();
        assert_eq!(
            (answer.status.as_u16(), problem(&answer).as_str()),
            (409, "own-account"),
            "{method} {path}"
        );
    }
}

/// Every text that gets in, as a statement would break at it; on both databases.
#[test]
fn no_text_is_part_of_a_statement() {
    inject(shared());
    let Some(postgres) = needed("no_text_is_part_of_a_statement", Postgres::start()) else { return };
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let url = postgres.database("injected", "nobody-else-may").unwrap();
    let console = Setup::default().database(&url, &key).start().unwrap();
    inject(&console);
    assert!(!console.log().contains("nobody-else-may"), "the database's password is in the log");
}

fn inject(console: &Console) {
    let api = console.api().unwrap();
    // Two, or the address would be shut out.
    for text in &TRICKY[..2] {
        let login = json!({ "name": text, "password": text });
        assert_eq!(console.client().unwrap().json("POST", "/v1/session", &login).unwrap().status, 401);
    }
    let before = api.get("/v1/accounts").unwrap().expect(200).unwrap()["items"].as_array().unwrap().len();
    let gateways = api.get("/v1/gateways?limit=500").unwrap().expect(200).unwrap();
    for text in TRICKY {
        let id = url(text);
        for (method, path, body) in [
            ("POST", "/v1/gateways".to_owned(), json!({ "name": text })),
            ("GET", format!("/v1/gateways?after={id}"), Value::Null),
            ("GET", format!("/v1/gateways/{id}"), Value::Null),
            ("DELETE", format!("/v1/gateways/{id}"), Value::Null),
            ("GET", format!("/v1/gateways/{id}/events?before={id}"), Value::Null),
            ("GET", format!("/v1/audit?before={id}"), Value::Null),
            ("POST", "/v1/accounts".into(), json!({ "name": text, "role": "viewer" })),
            ("POST", "/v1/accounts".into(), json!({ "name": "x", "role": text })),
            ("POST", "/v1/pools/check".into(), json!({ "ip_pools": [{ "name": text, "start": text }] })),
            ("POST", format!("/v1/pairings/{id}/start"), json!({ "version": 1, "origin": text })),
        ] {
            let answer = api.json(method, &path, &body).unwrap();
            assert!(
                answer.status.as_u16() < 500 && answer.status != 201,
                "{method} {path} {body}: {answer:?}"
            );
        }
        // A token's name is any text; it comes back as it was.
        let made = api.json("POST", "/v1/tokens", &json!({ "name": text, "role": "viewer" })).unwrap();
        if text.contains('\0') {
            made.expect(422).unwrap();
            continue;
        }
        let made = made.expect(201).unwrap();
        assert_eq!(made["name"], *text);
        let tokens = api.get("/v1/tokens").unwrap().expect(200).unwrap();
        assert!(tokens["items"].as_array().unwrap().iter().any(|token| token["name"] == *text));
    }
    let audit = api.get("/v1/audit?limit=500").unwrap().expect(200).unwrap();
    assert!(audit["items"].as_array().unwrap().iter().any(|entry| entry["subject"] == TRICKY[0]));
    let after = api.get("/v1/accounts").unwrap().expect(200).unwrap()["items"].as_array().unwrap().len();
    assert!(after >= before);
    for known in gateways["items"].as_array().unwrap() {
        let path = format!("/v1/gateways/{}", known["id"].as_str().unwrap());
        assert!([200, 404].contains(&api.get(&path).unwrap().status.as_u16()));
    }
}

fn url(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Whatever is wrong is said the same way.
#[test]
fn refusals_are_problems() {
    let api = shared().api().unwrap();
    let json = |body: &str| Some(("application/json", body.as_bytes().to_vec()));
    let large = format!(r#"{{"name":"{}"}}"#, "a".repeat(300_000));
    for (method, path, body, status, kind) in [
        ("GET", "/nothing", None, 404, "not-found"),
        ("GET", "/v1/gateways/no-uuid", None, 404, "not-found"),
        ("PATCH", "/v1/gateways", None, 405, "method"),
        ("TRACE", "/v1/session", None, 405, "method"),
        ("POST", "/v1/gateways", json(&large), 413, "too-large"),
        ("POST", "/v1/gateways", Some(("text/plain", b"{}".to_vec())), 415, "not-json"),
        ("POST", "/v1/gateways", None, 415, "not-json"),
        ("POST", "/v1/gateways", json("{"), 400, "malformed"),
        ("POST", "/v1/gateways", json("\u{feff}{}"), 400, "malformed"),
        ("POST", "/v1/gateways", json(r#"{"name": 1}"#), 422, "invalid"),
        ("POST", "/v1/gateways", json(r#"{"name": "UPPER"}"#), 422, "invalid"),
        ("POST", "/v1/gateways", json(r#"{"name": "a", "more": 1}"#), 422, "invalid"),
        ("POST", "/v1/gateways", json(r#"{"name": "a", "expires_in_seconds": 1}"#), 422, "invalid"),
        ("POST", "/v1/gateways", json(&"[".repeat(100_000)), 400, "malformed"),
        ("GET", "/v1/gateways?limit=0", None, 400, "bad-query"),
        ("GET", "/v1/gateways?limit=x", None, 400, "bad-query"),
        ("GET", "/v1/gateways?more=1", None, 400, "bad-query"),
    ] {
        let answer = api.request(method, path, body).unwrap();
        assert_eq!((answer.status.as_u16(), problem(&answer).as_str()), (status, kind), "{method} {path}");
        if status == 405 {
            assert!(answer.header("allow").unwrap().contains("GET"), "{answer:?}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{method} {path}: {name}");
        }
        assert!(answer.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert!(answer.header("date").is_some());
    }
}

/// A gateway's life as the API tells it, and the audit log with it; a password is taken and never given.
#[test]
fn a_gateway_from_code_to_deletion() {
    let console = Console::start().unwrap();
    let api = console.api().unwrap();
    let (id, code) = gateway(&console, "edge-01", &json!({})).unwrap();
    let path = |rest: &str| format!("/v1/gateways/{id}{rest}");
    let taken = api.json("POST", "/v1/gateways", &json!({ "name": "edge-01" })).unwrap();
    assert_eq!((taken.status.as_u16(), problem(&taken).as_str()), (409, "name-taken"));
    let viewer = console.new_token("viewer").unwrap();
    let viewer = console.client().unwrap().header("authorization", &format!("Bearer {viewer}"));
    let seen = viewer.get(&path("")).unwrap().expect(200).unwrap();
    assert_eq!((&seen["pairing"]["state"], seen["pairing"].get("code")), (&json!("pending"), None));
    let early = api.json("PUT", &path("/configuration"), &json!({})).unwrap();
    assert_eq!((early.status.as_u16(), problem(&early).as_str()), (409, "state"));
    assert_eq!(api.get(&path("/configuration")).unwrap().status, 404);

    // A new code is another, and the old one is worthless.
    let renewed = api.json("POST", &path("/pairing"), &json!({ "expires_in_seconds": 900 })).unwrap();
    let renewed = renewed.expect(200).unwrap();
    let shown = renewed["pairing"]["code"].as_str().unwrap();
    assert_ne!(shown, code.expose().expose());
    let new = protocol::code::Code::parse(shown).unwrap();
    Machine::new(&console).unwrap().pair(&console, &new).unwrap();
    let paired = api.get(&path("")).unwrap().expect(200).unwrap();
    assert_eq!((&paired["state"], &paired["pairing"]["state"]), (&json!("pending"), &json!("paired")));

    // Wrong in many places, all said at once.
    let wrong = api.json("PUT", &path("/configuration"), &json!({ "size": 2 })).unwrap();
    let fields = wrong.expect(422).unwrap()["fields"].as_array().unwrap().len();
    assert!(fields > 3, "{}", wrong.text());
    const SECRET: &str = "hunter2-of-the-vcenter";
    let good = json!({
        "vcenter": { "server": "vcenter.example.com", "username": "gateway@vsphere.local", "password": SECRET },
        "placement": {
            "datacenter": "DC0", "folder": "gateways", "image_template_folder": "templates", "cluster": "C0",
            "datastore": "DS0", "network": "VM Network",
        },
        "ip_allocation": "dhcp", "size": 1,
    });
    let set = api.json("PUT", &path("/configuration"), &good).unwrap();
    assert_eq!(set.expect(200).unwrap()["password_is_set"], true);
    let mut again = good.clone();
    again["vcenter"].as_object_mut().unwrap().remove("password");
    api.json("PUT", &path("/configuration"), &again).unwrap().expect(200).unwrap();
    again["vcenter"]["server"] = "evil.example.com".into();
    let stolen = api.json("PUT", &path("/configuration"), &again).unwrap();
    assert_eq!(stolen.status, 422, "the password went to another server: {}", stolen.text());

    let resize = api
        .json("POST", &path("/commands"), &json!({ "kind": "resize", "arguments": { "size": 3 } }))
        .unwrap();
    assert_eq!((resize.status.as_u16(), problem(&resize).as_str()), (409, "state"));
    let bundle = api.json("POST", &path("/commands"), &json!({ "kind": "collect-bundle" })).unwrap();
    bundle.expect(201).unwrap();
    let commands = api.get(&path("/commands")).unwrap().expect(200).unwrap();
    let kinds: Vec<_> = commands["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["kind"].clone(), one["outcome"].clone()))
        .collect();
    assert_eq!(
        kinds,
        [
            (json!("collect-bundle"), Value::Null),
            (json!("configure"), Value::Null),
            (json!("configure"), json!("cancelled")),
        ]
    );
    let settings = json!({ "require_approval": true, "unhealthy_after_seconds": 60 });
    api.json("PUT", "/v1/settings", &settings).unwrap().expect(200).unwrap();
    api.json("DELETE", &path(""), &Value::Null).unwrap().expect(204).unwrap();
    assert_eq!(api.get(&path("")).unwrap().status, 404);

    let mut everything = String::new();
    for path in ["/v1/audit?limit=500", "/v1/gateways", &path("/configuration"), &path("/commands")] {
        everything += &api.get(path).unwrap().text();
    }
    everything += &console.log();
    for file in ["console.db", "console.db-wal"] {
        everything += &String::from_utf8_lossy(&std::fs::read(console.folder().join(file)).unwrap());
    }
    let digits = shown.replace(' ', "");
    for secret in [SECRET, PASSWORD, shown, &digits, console.token()] {
        assert!(!everything.contains(secret), "a secret is where it must not be: {secret}");
    }
    let audit = api.get("/v1/audit?limit=500").unwrap().expect(200).unwrap();
    let told: Vec<String> = audit["items"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|entry| {
            let [actor, action, subject] =
                ["actor", "action", "subject"].map(|name| entry[name].as_str().unwrap().to_owned());
            format!("{actor}: {action} {subject}")
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn the_command_line_helps_who_is_locked_out() {
    let mut console = Console::start().unwrap();
    let before = console.sign_in("admin", PASSWORD).unwrap();
    let run = |arguments: &[&str]| {
        let said = process::output(
            Command::new(program().unwrap()).args(arguments).arg("--data").arg(console.folder()),
        );
        said.map(|text| text.trim().to_owned())
    };
    let initial = run(&["reset-password"]).unwrap();
    assert_eq!(before.get("/v1/session").unwrap().status, 401);
    let again = console.sign_in("admin", &initial).unwrap();
    assert_eq!(again.get("/v1/session").unwrap().expect(200).unwrap()["must_change"], true);
    let change = json!({ "current": initial, "new": PASSWORD });
    again.json("PUT", "/v1/session/password", &change).unwrap().expect(200).unwrap();
    let token = run(&["token", "create", "ci", "--role", "viewer", "--days", "1"]).unwrap();
    let ci = console.client().unwrap().header("authorization", &format!("Bearer {token}"));
    assert_eq!(ci.get("/v1/session").unwrap().expect(200).unwrap()["role"], "viewer");
    let nobody = run(&["reset-password", "nobody"]).unwrap_err().to_string();
    assert!(nobody.contains("There is no account `nobody`") && nobody.contains("hint: "), "{nobody}");
    let second = run(&["serve", "--listen", "127.0.0.1:0"]).unwrap_err().to_string();
    assert!(second.contains("another console is running"), "{second}");

    // It ends when it is told to, and everything is there again, the session too.
    let session = console.sign_in("admin", PASSWORD).unwrap();
    let said = console.said().clone();
    assert!(console.stop().unwrap(), "{}", console.log());
    console.start_again().unwrap();
    session.get("/v1/session").unwrap().expect(200).unwrap();
    assert_eq!(
        console.said().certificate_sha256,
        said.certificate_sha256,
        "nobody must trust a new certificate"
    );
    assert_eq!(console.said().initial_password, None);
}

/// Who is refused before all is sent sees why.
#[test]
fn a_refusal_waits_for_what_is_being_sent() {
    let client = shared().client().unwrap();
    // More than the kernel's buffers take at once.
    let body = vec![b'x'; 900_000];
    for _ in 0..10 {
        let answer = client.request("PUT", "/v1/settings", Some(("application/json", body.clone()))).unwrap();
        assert_eq!(answer.status, 401);
    }
}

/// A connection that does nothing is not kept; one that waits for what it asked for is.
#[test]
fn idle_connections_are_closed_and_others_kept() {
    let console = shared();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = TcpStream::connect(console.said().address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            assert_eq!(stream.read(&mut [0; 16]).unwrap_or(usize::MAX), 0, "no TLS within ten seconds");
        });
        scope.spawn(|| idle_http2(console).unwrap());
        let (id, _) = gateway(console, "stream", &json!({})).unwrap();
        let path = format!("/v1/gateways/{id}/events");
        // Signed out: its streams end within some 15 seconds, however much happens to other gateways.
        let leaver = console.sign_in("admin", PASSWORD).unwrap();
        let watching = scope.spawn({
            let (stream, path) = (leaver.header("accept", "text/event-stream"), path.clone());
            move || stream.stays_open(&path, Duration::from_secs(30)).unwrap()
        });
        scope.spawn(move || {
            std::thread::sleep(Duration::from_secs(1));
            leaver.json("DELETE", "/v1/session", &Value::Null).unwrap().expect(204).unwrap();
            for number in 0..25 {
                gateway(console, &format!("busy-{number}"), &json!({})).unwrap();
                std::thread::sleep(Duration::from_secs(1));
            }
            assert!(!watching.join().unwrap(), "who has signed out goes on reading");
        });
        let stream = console.api().unwrap().header("accept", "text/event-stream");
        // Heads have 30 seconds.
        let open = stream.stays_open(&path, Duration::from_secs(35)).unwrap();
        assert!(open, "the stream was cut off");
    });
}

/// One that answers PINGs, but asks for nothing any more, is let go within about a minute.
fn idle_http2(console: &Console) -> Result<()> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&console.said().ca_file)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(console.said().address).await?;
        let stream = TlsConnector::from(Arc::new(tls)).connect("127.0.0.1".try_into()?, stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let url = format!("https://{}/healthz", console.said().address);
        let answer = sender.send_request(hyper::Request::get(url).body(Full::<Bytes>::default())?).await?;
        assert_eq!(answer.status(), 200);
        drop(answer);
        tokio::time::timeout(Duration::from_secs(75), connection).await.expect("it is kept for ever")??;
        Ok(())
    })
}

#[test]
fn a_given_certificate_is_used_and_read_again() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let make = |name: &str| -> Result<String> {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = rcgen::KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem())?;
        std::fs::write(folder.path().join("cert.pem"), certificate.pem())?;
        Ok(certificate.pem())
    };
    let first = make("first")?;
    let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let child =
        Setup::default().argument("--tls-cert").argument(&certificate).argument("--tls-key").argument(&key);
    let console = child.data(&data).trusting(&certificate).start()?;
    let address = console.said().address;
    Client::new(address, "localhost", &first)?.get("/healthz")?.expect(200)?;
    let second = make("second")?;
    process::output(Command::new("kill").args(["-HUP", &console.id().unwrap().to_string()]))?;
    process::wait_for("the second certificate", Duration::from_secs(20), || {
        Ok(Client::new(address, "localhost", &second)?.get("/healthz").ok())
    })?;
    assert!(Client::new(address, "localhost", &first)?.get("/healthz").is_err());
    // What is no certificate changes nothing.
    std::fs::write(&certificate, "rubbish")?;
    process::output(Command::new("kill").args(["-HUP", &console.id().unwrap().to_string()]))?;
    process::wait_for("a complaint", Duration::from_secs(20), || {
        Ok(console.log().contains("the certificate stays as it is").then_some(()))
    })?;
    Client::new(address, "localhost", &second)?.get("/healthz")?.expect(200)?;
    Ok(())
}
