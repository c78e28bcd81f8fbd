//! Pairing and renewal with a console that does what a test wants: real TLS and real messages, and the faults that a real
//! console does not make.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::{SignedDuration, Timestamp};
use link::{Applied, Bounds, End, Facts, Failure, Kind, Link, Progress, Route, Stage, State, Store, pair};
use protocol::VERSION;
use protocol::code::Code;
use protocol::link::{
    About, Body, Downstream, Event, Heartbeat, Metrics, Renewal, Renewed, Severity, Upstream,
};
use protocol::pairing::console::{self, Keys};
use protocol::pairing::{Confirm, Confirmed, Grant, MAX_MESSAGE, Start, Verdict};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, IsCa, Issuer, KeyPair,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SECRET: &str = "7739051";

/// What the console answers.
enum Reply {
    Json(u16, Value),
    /// 429, to come again after a second.
    Later,
    /// The connection ends.
    Nothing,
}

/// A certificate authority, and a server's certificate by it.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    fn server(&self) -> Arc<ServerConfig> {
        self.server_of(vec!["127.0.0.1".into()])
    }

    fn server_of(&self, names: Vec<String>) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())
            .unwrap();
        Arc::new(config)
    }
}

/// Says what is answered, where that is not what an honest console answers.
type Script = Box<dyn FnMut(&mut Honest, &str, &Value) -> Option<Reply>>;

/// A console that knows one code.
struct Fake {
    origin: String,
    script: Script,
    honest: Honest,
    /// All requests: path and body.
    seen: Vec<(String, Value)>,
    /// How many of them were signed.
    signed: usize,
}

/// What an honest console does.
struct Honest {
    code: Code,
    authority: Authority,
    protocols: Vec<u32>,
    keys: Option<Keys>,
    started: Option<(Value, Value)>,
    /// What comes before the grant.
    before: Vec<Verdict>,
    /// From and to how many days from now the certificates of machines are valid.
    days: (i64, i64),
    /// Of its grants: how long they have waited for the machine.
    age: SignedDuration,
    origin: String,
}

impl Honest {
    fn answer(&mut self, path: &str, body: &Value) -> Reply {
        if path == "/v1/version" {
            let about = About {
                product: "gatewright-console".into(),
                software: "1.2.3".into(),
                protocols: self.protocols.clone(),
                time: Timestamp::now(),
            };
            return Reply::Json(200, json!(about));
        }
        if path.ends_with("/start") {
            return self.start(body);
        }
        self.confirm(body)
    }

    /// The same message gets the same answer.
    fn start(&mut self, body: &Value) -> Reply {
        if let Some((message, answer)) = &self.started
            && message == body
        {
            return Reply::Json(200, answer.clone());
        }
        let start: Start = serde_json::from_value(body.clone()).unwrap();
        let origins = [self.origin.clone()];
        let (started, keys) =
            console::start(self.code.locator(), self.code.secret(), &origins, &start).unwrap();
        self.keys = Some(keys);
        self.started = Some((body.clone(), json!(started)));
        Reply::Json(200, json!(started))
    }

    fn confirm(&mut self, body: &Value) -> Reply {
        let confirm: Confirm = serde_json::from_value(body.clone()).unwrap();
        let Some(keys) = &self.keys else { return rejected() };
        let Ok((claim, _)) = keys.open(&confirm) else { return rejected() };
        let verdict = match self.before.pop() {
            Some(verdict) => verdict,
            None => {
                let certificate = self.certify(claim.certificate_request.0);
                Verdict::Granted(Box::new(Grant {
                    gateway: Uuid::now_v7(),
                    name: "gateway".into(),
                    certificate,
                    ca_bundle: self.authority.pem.clone(),
                    origin: keys.origin().into(),
                    time: Timestamp::now() - self.age,
                    heartbeat_seconds: 30,
                }))
            }
        };
        Reply::Json(200, json!(keys.confirmed(&verdict)))
    }
}

impl Honest {
    fn certify(&self, request: Vec<u8>) -> String {
        let request = CertificateSigningRequestDer::from(request);
        let mut request = CertificateSigningRequestParams::from_der(&request).unwrap();
        let day = |days: i64| match Duration::from_secs(86400 * days.unsigned_abs()) {
            past if days < 0 => SystemTime::now() - past,
            future => SystemTime::now() + future,
        };
        request.params.not_before = day(self.days.0).into();
        request.params.not_after = day(self.days.1).into();
        request.signed_by(&self.authority.issuer).unwrap().pem()
    }

    /// A console that carries no WebSocket.
    fn link(&mut self, path: &str, body: &Value) -> Option<Reply> {
        match path {
            "/v1/link" => Some(problem(400, "websocket")),
            "/v1/link/poll" => {
                let upstream: Upstream = serde_json::from_value(body.clone()).unwrap();
                let acknowledged = upstream.entries.last().map_or(0, |entry| entry.sequence);
                let time = Timestamp::now();
                Some(Reply::Json(
                    200,
                    json!(Downstream { time, acknowledged, commands: Vec::new(), heartbeat_seconds: 30 }),
                ))
            }
            "/v1/link/certificate" => {
                let renewal: Renewal = serde_json::from_value(body.clone()).unwrap();
                self.days = (0, 30);
                let certificate = self.certify(renewal.certificate_request.0);
                Some(Reply::Json(200, json!(Renewed { certificate, ca_bundle: self.authority.pem.clone() })))
            }
            _ => None,
        }
    }
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        time: Timestamp::now(),
        state: "pending".into(),
        software: String::new(),
        uptime_seconds: 0,
        addresses: Vec::new(),
        metrics: Metrics::default(),
    }
}

fn rejected() -> Reply {
    problem(403, "rejected")
}

fn problem(status: u16, kind: &str) -> Reply {
    Reply::Json(status, json!({ "type": kind, "title": format!("It is {kind}."), "status": status }))
}

/// A fake console that listens, and a machine's folder.
struct Scene {
    fake: Rc<RefCell<Fake>>,
    dir: tempfile::TempDir,
    route: Route,
}

impl Scene {
    async fn new(script: impl FnMut(&mut Honest, &str, &Value) -> Option<Reply> + 'static) -> Scene {
        let authority = Authority::new("Console CA");
        let tls = authority.server();
        Scene::with(authority, tls, script).await
    }

    async fn with(
        authority: Authority,
        tls: Arc<ServerConfig>,
        script: impl FnMut(&mut Honest, &str, &Value) -> Option<Reply> + 'static,
    ) -> Scene {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("https://{}", listener.local_addr().unwrap());
        let code = Code::new("4821", SECRET).unwrap();
        let honest = Honest {
            code,
            authority,
            protocols: vec![VERSION],
            keys: None,
            started: None,
            before: Vec::new(),
            days: (0, 30),
            age: SignedDuration::ZERO,
            origin: origin.clone(),
        };
        let fake =
            Fake { origin: origin.clone(), script: Box::new(script), honest, seen: Vec::new(), signed: 0 };
        let fake = Rc::new(RefCell::new(fake));
        tokio::task::spawn_local(serve(listener, TlsAcceptor::from(tls), Rc::clone(&fake)));
        let route = Route { origin: origin.parse().unwrap(), proxy: None, proxy_ca: Vec::new() };
        Scene { fake, dir: tempfile::tempdir().unwrap(), route }
    }

    fn store(&self) -> Store {
        Store::open(self.dir.path(), Bounds::default()).unwrap()
    }

    async fn pair(&self, code: &Code) -> (Result<Grant, Failure>, Vec<Progress>) {
        self.pair_in(&self.store(), code).await
    }

    async fn pair_in(&self, store: &Store, code: &Code) -> (Result<Grant, Failure>, Vec<Progress>) {
        let mut progress = Vec::new();
        let facts = Facts::default();
        let result = pair(&self.route, store, code, &facts, |step| progress.push(step)).await;
        assert_eq!(store.grant().unwrap().as_ref(), result.as_ref().ok());
        (result, progress)
    }

    async fn fails(&self, code: &Code) -> Failure {
        let failure = self.pair(code).await.0.unwrap_err();
        assert!(!failure.hint.is_empty());
        failure
    }

    fn code(&self) -> Code {
        self.fake.borrow().honest.code.clone()
    }

    /// Requests whose path ends so.
    fn seen(&self, end: &str) -> Vec<Value> {
        let fake = self.fake.borrow();
        fake.seen.iter().filter(|(path, _)| path.ends_with(end)).map(|(_, body)| body.clone()).collect()
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, fake: Rc<RefCell<Fake>>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { continue };
        loop {
            let Some((path, body, signed)) = read(&mut stream).await else { break };
            let reply = {
                let fake = &mut *fake.borrow_mut();
                fake.signed += usize::from(signed);
                fake.seen.push((path.clone(), body.clone()));
                (fake.script)(&mut fake.honest, &path, &body)
                    .unwrap_or_else(|| fake.honest.answer(&path, &body))
            };
            let (status, more, body) = match reply {
                Reply::Json(status, body) => (status, "", body.to_string()),
                Reply::Later => {
                    let problem = json!({ "type": "too-many-starts", "title": "Too many.", "status": 429 });
                    (429, "Retry-After: 1\r\n", problem.to_string())
                }
                Reply::Nothing => break,
            };
            let answer = format!(
                "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                break;
            }
        }
    }
}

/// A request, as simply as our own client sends them: path, body, and whether it is signed.
async fn read(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<(String, Value, bool)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let path = head.split(' ').nth(1)?.to_owned();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    while bytes.len() < end + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    let signed = head.contains("\nsignature-input: ");
    Some((path, serde_json::from_slice(&bytes[end..]).unwrap_or_default(), signed))
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new()
        .block_on(&runtime, async { tokio::time::timeout(Duration::from_secs(120), test).await.unwrap() });
}

#[test]
fn a_code_becomes_a_grant_and_is_forgotten() {
    run(async {
        let scene = Scene::new(|_, _, _| None).await;
        let (grant, progress) = scene.pair(&scene.code()).await;
        let grant = grant.unwrap();
        assert_eq!(grant.origin, scene.fake.borrow().origin);
        assert!(matches!(&progress[..], [Progress::Number(number)] if number.len() == 6), "{progress:?}");
        let files: Vec<_> = std::fs::read_dir(scene.dir.path())
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(
            files.contains(&"paired.json".into()) && !files.contains(&"pairing.json".into()),
            "{files:?}"
        );
        for file in files {
            use std::os::unix::fs::PermissionsExt as _;
            let path = scene.dir.path().join(&file);
            if file != "lock" {
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{file}");
            }
            assert!(!String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(SECRET), "{file}");
        }
    });
}

/// The machine goes down between message 3 and 4: it sends the same message again, and nothing is counted.
#[test]
fn it_is_resumed_with_the_same_message() {
    run(async {
        let mut lost = 4;
        let scene = Scene::new(move |_, path, _| {
            let is_lost = path.ends_with("/confirm") && lost > 0;
            lost -= i32::from(is_lost);
            is_lost.then_some(Reply::Nothing)
        })
        .await;
        assert_eq!(scene.fails(&scene.code()).await.stage, Stage::Http);
        scene.pair(&scene.code()).await.0.unwrap();
        assert_eq!(scene.seen("/start").len(), 1);
        let messages = scene.seen("/confirm");
        assert!(messages.len() > 4 && messages.iter().all(|message| *message == messages[0]));
    });
}

/// A bad line loses the answer to message 1 again and again: the same message comes each time, which costs no other attempt.
#[test]
fn message_1_is_the_same_until_it_is_answered() {
    run(async {
        let mut lost = 6;
        let scene = Scene::new(move |honest, path, body| {
            let is_lost = path.ends_with("/start") && lost > 0;
            lost -= i32::from(is_lost);
            // The console has it, and has taken an attempt off.
            is_lost.then(|| honest.answer(path, body)).map(|_| Reply::Nothing)
        })
        .await;
        let store = scene.store();
        for _ in 0..2 {
            let failure = scene.pair_in(&store, &scene.code()).await.0.unwrap_err();
            assert_eq!(failure.stage, Stage::Http);
        }
        scene.pair_in(&store, &scene.code()).await.0.unwrap();
        let messages = scene.seen("/start");
        assert!(messages.len() == 7 && messages.iter().all(|message| *message == messages[0]));
    });
}

/// Nor is it taken for another code, or sent once more after it was answered.
#[test]
fn another_code_begins_with_another_message_1() {
    run(async {
        let scene = Scene::new(|_, _, _| None).await;
        let store = scene.store();
        let wrong = Code::new("4821", "7739052").unwrap();
        for _ in 0..2 {
            assert_eq!(scene.pair_in(&store, &wrong).await.0.unwrap_err().stage, Stage::Code);
        }
        scene.pair_in(&store, &scene.code()).await.0.unwrap();
        let messages = scene.seen("/start");
        assert_eq!(messages.len(), 3);
        assert!(messages[0] != messages[1] && messages[1] != messages[2]);
    });
}

/// A grant that has waited in the console tells no time; unless this machine's clock cannot be right.
#[test]
fn a_grant_that_has_waited_tells_no_time() {
    let hours = SignedDuration::from_hours;
    for (age, learned) in [(hours(48), false), (hours(24 * 365), true), (hours(-2), true)] {
        run(async move {
            let mut lost = 3;
            let scene = Scene::new(move |_, path, _| {
                let is_lost = path.ends_with("/confirm") && lost > 0;
                lost -= i32::from(is_lost);
                is_lost.then_some(Reply::Nothing)
            })
            .await;
            scene.fake.borrow_mut().honest.age = age;
            scene.fails(&scene.code()).await;
            scene.pair(&scene.code()).await.0.unwrap();
            assert_eq!(scene.store().clock().off().is_some(), learned, "{age}");
        });
    }
}

/// What a console is told begins with 1 at each pairing, and nothing of it is lost.
#[test]
fn another_pairing_begins_another_spool() {
    run(async {
        let scene = Scene::new(|honest, path, body| honest.link(path, body)).await;
        let store = scene.store();
        let event = || {
            let (reason, message, source) = ("Test".into(), String::new(), "test".into());
            store
                .spool()
                .push(Body::Event(Event { severity: Severity::Info, reason, message, source }))
                .unwrap();
        };
        for pairing in 1..=2 {
            event();
            assert_eq!(store.spool().waiting(), 1);
            scene.pair_in(&store, &scene.code()).await.0.unwrap();
            let link = Link::new(scene.route.clone(), store.clone()).unwrap();
            let cancel = CancellationToken::new();
            let sent = async {
                while store.spool().waiting() > 0 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                cancel.cancel();
            };
            let handler = async |_| -> Applied { unreachable!("no command was given") };
            tokio::join!(link.run(heartbeat, handler, cancel.clone()), sent);
            let with_entries: Vec<Upstream> = scene
                .seen("/poll")
                .into_iter()
                .map(|body| serde_json::from_value(body).unwrap())
                .filter(|upstream: &Upstream| !upstream.entries.is_empty())
                .collect();
            let mut spools: Vec<_> = with_entries.iter().map(|upstream| upstream.spool).collect();
            spools.dedup();
            assert_eq!(spools.len(), pairing);
            assert_eq!(with_entries.last().unwrap().entries[0].sequence, 1);
        }
    });
}

/// The console has forgotten the exchange meanwhile: another one, with the same code.
#[test]
fn an_exchange_that_is_over_is_begun_anew() {
    run(async {
        let mut lost = 3;
        let scene = Scene::new(move |honest, path, _| {
            if path.ends_with("/confirm") && lost > 0 {
                lost -= 1;
                honest.keys = None;
                return Some(Reply::Nothing);
            }
            None
        })
        .await;
        assert_eq!(scene.fails(&scene.code()).await.stage, Stage::Http);
        scene.pair(&scene.code()).await.0.unwrap();
        assert_eq!(scene.seen("/start").len(), 2);
    });
}

/// An impostor has five guesses, and then needs another code.
#[test]
fn an_impostor_has_five_guesses() {
    run(async {
        let scene = Scene::new(|honest, path, body| {
            let guess = Code::new("4821", "0000000").unwrap();
            if path.ends_with("/start") {
                let start: Start = serde_json::from_value(body.clone()).unwrap();
                let origins = [honest.origin.clone()];
                let (started, keys) = console::start("4821", guess.secret(), &origins, &start).unwrap();
                honest.keys = Some(keys);
                return Some(Reply::Json(200, json!(started)));
            }
            let keys = honest.keys.as_ref()?;
            path.ends_with("/confirm").then(|| {
                let confirmed: Confirmed = keys.confirmed(&Verdict::Waiting { poll_seconds: 1 });
                Reply::Json(200, json!(confirmed))
            })
        })
        .await;
        for _ in 0..5 {
            let failure = scene.fails(&scene.code()).await;
            assert_eq!(failure.stage, Stage::Intercepted);
            assert!(failure.message.contains("does not know the pairing code"), "{failure}");
            assert!(failure.message.contains("`Console CA`"), "{failure}");
        }
        let failure = scene.fails(&scene.code()).await;
        assert_eq!(failure.stage, Stage::Code);
        assert!(failure.message.contains("not used again"), "{failure}");
        assert_eq!(scene.seen("/start").len(), 5);
        // Another code has its own five.
        let other = Code::new("4821", "1111111").unwrap();
        assert_eq!(scene.fails(&other).await.stage, Stage::Intercepted);
        // And an answer of whoever does not even know the protocol costs none: nothing was told.
        assert_eq!(scene.seen("/start").len(), 6);
    });
}

#[test]
fn refusals_are_told_apart() {
    run(async {
        let scene = Scene::new(|_, _, _| None).await;
        let wrong = Code::new("4821", "7739052").unwrap();
        let failure = scene.fails(&wrong).await;
        assert_eq!((failure.stage, failure.needs_somebody()), (Stage::Code, true));
        assert_eq!(failure.message, "It is rejected.");

        // Anybody may be there: what is shown of it is fit for a screen.
        let long = format!("\u{1b}[31m{}", "x".repeat(100_000));
        let noisy = json!({ "type": "rejected", "title": long, "hint": long, "status": 403 });
        let mut noisy = Some(Reply::Json(403, noisy));
        let scene =
            Scene::new(move |_, path, _| path.ends_with("/start").then(|| noisy.take()).flatten()).await;
        let failure = scene.fails(&scene.code()).await;
        let shown = format!("{}{}", failure.message, failure.hint);
        assert!(shown.len() <= 600 && !shown.contains('\u{1b}'), "{shown}");

        let table = [
            (problem(421, "unknown-origin"), Stage::Origin),
            (problem(400, "version"), Stage::Version),
            (problem(400, "malformed"), Stage::Http),
            (Reply::Json(404, json!("not found")), Stage::Http),
            (Reply::Json(503, json!(null)), Stage::Http),
            (Reply::Json(200, json!({ "hello": "world" })), Stage::Http),
        ];
        for (reply, stage) in table {
            let reply = RefCell::new(Some(reply));
            let scene =
                Scene::new(move |_, path, _| path.ends_with("/start").then(|| reply.take()).flatten()).await;
            assert_eq!(scene.fails(&scene.code()).await.stage, stage);
        }
        for (protocols, words) in [(vec![0], "console is too old"), (vec![VERSION + 1], "machine is too old")]
        {
            let scene = Scene::new(|_, _, _| None).await;
            scene.fake.borrow_mut().honest.protocols = protocols;
            let failure = scene.fails(&scene.code()).await;
            assert_eq!(failure.stage, Stage::Version);
            assert!(failure.message.to_lowercase().contains(words), "{failure}");
            assert!(scene.seen("/start").is_empty());
        }
    });
}

#[test]
fn it_waits_when_it_is_asked_to() {
    run(async {
        let mut busy = 1;
        let scene = Scene::new(move |_, path, _| {
            let is_busy = path.ends_with("/start") && busy > 0;
            busy -= i32::from(is_busy);
            is_busy.then_some(Reply::Later)
        })
        .await;
        scene.fake.borrow_mut().honest.before = vec![Verdict::Waiting { poll_seconds: 1 }];
        let (grant, progress) = scene.pair(&scene.code()).await;
        grant.unwrap();
        let expected = [Progress::Busy(Duration::from_secs(1)), progress[1].clone(), Progress::Waiting];
        assert_eq!(progress, expected);

        // For longer than a person waits, the caller is told.
        let scene = Scene::new(|_, path, _| path.ends_with("/start").then_some(Reply::Later)).await;
        let failure = scene.fails(&scene.code()).await;
        assert_eq!((failure.stage, failure.retry_after), (Stage::Busy, Some(Duration::from_secs(1))));
    });
}

#[test]
fn verdicts() {
    run(async {
        let table = [
            (Verdict::Intercepted { issuer: "CN=Inspector".into() }, Stage::Intercepted, "CN=Inspector"),
            (Verdict::Refused { reason: "Anna said no.".into() }, Stage::Refused, "Anna said no."),
            (Verdict::Unknown, Stage::Version, "newer"),
        ];
        for (verdict, stage, words) in table {
            let scene = Scene::new(|_, _, _| None).await;
            // A right message 4 is no failed handshake, whatever it says.
            scene.fake.borrow_mut().honest.before = vec![verdict; 6];
            for _ in 0..6 {
                let failure = scene.fails(&scene.code()).await;
                assert_eq!(failure.stage, stage);
                assert!(failure.message.contains(words), "{failure}");
            }
            scene.pair(&scene.code()).await.0.unwrap();
        }
    });
}

/// The proof is right, but the certificate that TLS showed is not of the CA in the grant: somebody passes on what both
/// sides say.
#[test]
fn whoever_passes_messages_on_is_found() {
    run(async {
        let inspector = Authority::new("Inspector");
        let scene = Scene::with(Authority::new("Console CA"), inspector.server(), |_, _, _| None).await;
        let failure = scene.fails(&scene.code()).await;
        assert_eq!((failure.stage, failure.needs_somebody()), (Stage::Intercepted, false));
        assert!(failure.message.contains("`Inspector`"), "{failure}");
        // Unless it is known to be there.
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let mut scene = scene;
        scene.route.proxy_ca = vec![CertificateDer::from_pem_slice(inspector.pem.as_bytes()).unwrap()];
        scene.pair(&scene.code()).await.0.unwrap();
    });
}

/// Nor does a certificate that is so large that it fills message 3.
#[test]
fn whoever_has_a_large_certificate_is_found() {
    run(async {
        let names = ["127.0.0.1".to_string()].into_iter();
        let names = names.chain((0..2000).map(|n| format!("name-{n:06}.inspector.test"))).collect();
        let inspector = Authority::new("Inspector").server_of(names);
        let scene = Scene::with(Authority::new("Console CA"), inspector, |_, _, _| None).await;
        let failure = scene.fails(&scene.code()).await;
        assert_eq!(failure.stage, Stage::Intercepted);
        assert!(failure.message.contains("`Inspector`"), "{failure}");
        let length = scene.seen("/confirm")[0].to_string().len();
        assert!(length <= MAX_MESSAGE && length > 16 * 1024, "{length} bytes");
    });
}

/// A third of the life of one certificate is over, and the other's whole life: both are renewed without being asked, and
/// with the second, requests are signed until then.
#[test]
fn certificates_are_renewed() {
    for (days, signs) in [((-20, 10), false), ((-40, -10), true)] {
        run(async move {
            let scene = Scene::new(|honest, path, body| honest.link(path, body)).await;
            scene.fake.borrow_mut().honest.days = days;
            let old = scene.pair(&scene.code()).await.0.unwrap();
            let store = Store::open(scene.dir.path(), Bounds::default()).unwrap();
            let link = Link::new(scene.route.clone(), store.clone()).unwrap();
            let cancel = CancellationToken::new();
            let renewed = async {
                let mut status = link.status();
                loop {
                    let grant = store.grant().unwrap().unwrap();
                    let connected = status.borrow().state == State::Connected;
                    if connected && grant.certificate != old.certificate {
                        assert_eq!((grant.gateway, &grant.ca_bundle), (old.gateway, &old.ca_bundle));
                        let transport = status.borrow().transport.clone().unwrap();
                        assert_eq!(transport.kind, Kind::Polling);
                        cancel.cancel();
                        return;
                    }
                    status.changed().await.unwrap();
                }
            };
            let handler = async |_| -> Applied { unreachable!("no command was given") };
            let (end, ()) = tokio::join!(link.run(heartbeat, handler, cancel.clone()), renewed);
            assert_eq!(end, End::Cancelled);
            assert_eq!(scene.seen("/certificate").len(), 1);
            assert_eq!(scene.fake.borrow().signed > 0, signs);
        });
    }
}
