//! Machines that are no gateways any more, signatures that are not what they seem, and messages that no machine sends.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use gatewright_tests::https::Answer;
use gatewright_tests::machine;
use jiff::{SignedDuration, Timestamp};
use protocol::bytes::Bytes;
use protocol::device_key::DeviceKey;
use protocol::link::{
    Body, Downstream, Entry, Event, MAX_ENTRIES, MAX_MESSAGE, SUBPROTOCOL, Severity, Upstream,
};
use protocol::pairing::Grant;
use protocol::signature::sign;
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use uuid::Uuid;

use crate::by_hand::{ByHand, Gateway, certificate_request, identity};
use crate::console;
use crate::line::{self, Line};

const POLL: &str = "/v1/link/poll";

/// A machine that has paired.
struct Paired {
    gateway: Gateway,
    key: DeviceKey,
    grant: Grant,
}

impl Paired {
    fn new() -> Result<Paired> {
        let gateway = Gateway::new()?;
        let mut machine = ByHand::new()?;
        let grant = machine.pair(&gateway.code)?;
        Ok(Paired { gateway, key: machine.key, grant })
    }

    fn identity(&self) -> Result<Arc<CertifiedKey>> {
        identity(&self.key, &self.grant.certificate)
    }

    /// By the client certificate.
    fn poll(&self) -> Result<Answer> {
        Ok(Line::open(Some(self.identity()?))?.post(POLL, &upstream(1))?.0)
    }

    /// By a signature.
    fn poll_signed(&self) -> Result<Answer> {
        let body = serde_json::to_vec(&upstream(1))?;
        let headers = self.sign("POST", POLL, &body, Timestamp::now());
        Line::open(None)?.ask("POST", POLL, &headers, body)
    }

    fn sign(&self, method: &str, path: &str, body: &[u8], created: Timestamp) -> Vec<(&'static str, String)> {
        sign(&self.key, method, path, None, body, created, &Uuid::new_v4().to_string()).into()
    }

    fn renewal(&self) -> Result<Value> {
        Ok(json!({ "certificate_request": Bytes(certificate_request(&self.key, "gateway")?) }))
    }

    fn renew(&self) -> Result<Answer> {
        Ok(Line::open(Some(self.identity()?))?.post("/v1/link/certificate", &self.renewal()?)?.0)
    }

    /// A link, once its first heartbeat is answered, which tells how it ends.
    fn stream(&self) -> Result<tokio::task::JoinHandle<Result<CloseFrame>>> {
        let identity = self.identity()?;
        let (ready, is_ready) = std::sync::mpsc::channel();
        let handle = runtime().spawn(async move {
            let mut socket = open(identity).await?;
            socket.send(Message::text(serde_json::to_string(&upstream(1))?)).await?;
            let mut told = false;
            while let Some(message) = socket.next().await {
                match message? {
                    Message::Text(text) => {
                        let _: Downstream = serde_json::from_str(&text)?;
                        if !told {
                            ready.send(())?;
                            told = true;
                        }
                    }
                    Message::Close(frame) => return frame.context("it is closed without a word"),
                    _ => {}
                }
            }
            bail!("it broke")
        });
        is_ready.recv_timeout(Duration::from_secs(30)).context("the link has no answer")?;
        Ok(handle)
    }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("threads can be started")
    })
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>;

async fn open(identity: Arc<CertifiedKey>) -> Result<Socket> {
    let mut request =
        format!("wss://127.0.0.1:{}/v1/link", console().said().address.port()).into_client_request()?;
    request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
    let stream = line::connect(line::address(), line::tls(Some(identity))?).await?;
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

fn ended(stream: tokio::task::JoinHandle<Result<CloseFrame>>) -> Result<CloseFrame> {
    runtime().block_on(async {
        tokio::time::timeout(Duration::from_secs(10), stream).await.context("it goes on")??
    })
}

/// With something to store: it is answered at once.
fn upstream(sequence: u64) -> Upstream {
    let word = || "test".to_owned();
    let event = Event { severity: Severity::Info, reason: word(), message: word(), source: word() };
    let entry = Entry { sequence, time: Timestamp::now(), body: Body::Event(event) };
    Upstream { spool: Uuid::nil(), heartbeat: None, entries: vec![entry] }
}

fn kind(answer: &Answer) -> Result<(u16, String)> {
    let kind = answer.read::<Value>()?["type"].as_str().unwrap_or_default().to_owned();
    Ok((answer.status.as_u16(), kind))
}

fn refused(kind: &str) -> (u16, String) {
    (401, kind.to_owned())
}

#[test]
fn the_certificate_and_key_of_a_deleted_gateway_are_worth_nothing() -> Result<()> {
    let stolen = Paired::new()?;
    stolen.poll()?.expect(200)?;
    stolen.poll_signed()?.expect(200)?;
    let stream = stolen.stream()?;
    stolen.gateway.delete()?;
    assert_eq!(u16::from(ended(stream)?.code), 4001, "its open link is closed at once");
    assert_eq!(kind(&stolen.poll()?)?, refused("revoked"));
    assert_eq!(kind(&stolen.poll_signed()?)?, refused("revoked"));
    assert_eq!(kind(&stolen.renew()?)?, refused("revoked"));
    assert!(runtime().block_on(open(stolen.identity()?)).is_err(), "a new link");
    Ok(())
}

#[test]
fn a_machine_that_another_has_replaced_is_a_stranger() -> Result<()> {
    let mut old = Paired::new()?;
    old.gateway.new_code()?;
    old.poll()?.expect(200)?;
    let stream = old.stream()?;
    let mut machine = ByHand::new()?;
    let grant = machine.pair(&old.gateway.code)?;
    assert_eq!(grant.gateway, old.grant.gateway);
    assert_eq!(u16::from(ended(stream)?.code), 4001);
    assert_eq!(kind(&old.poll()?)?, refused("revoked"));
    assert_eq!(kind(&old.poll_signed()?)?, refused("revoked"));
    assert_eq!(kind(&old.renew()?)?, refused("revoked"));
    let line = identity(&machine.key, &grant.certificate)?;
    Line::open(Some(line))?.post(POLL, &upstream(1))?.0.expect(200)?;
    Ok(())
}

#[test]
fn certificates_of_strangers_are_refused() -> Result<()> {
    let paired = Paired::new()?;
    // By a CA that calls itself as ours does, for that gateway and another key.
    let key = KeyPair::generate()?;
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (_, ours) = x509(&paired.grant.certificate)?;
    ca.distinguished_name = ours;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, &paired.gateway.id);
    let thief = DeviceKey::generate();
    let forged = params.signed_by(&machine::pair(&thief)?, &Issuer::new(ca, &key))?.pem();
    let answer =
        Line::open(Some(identity(&thief, &forged)?)).and_then(|mut line| line.post(POLL, &upstream(1)));
    assert!(answer.is_err(), "TLS does not take it: {answer:?}");
    // None at all.
    assert_eq!(kind(&Line::open(None)?.post(POLL, &upstream(1))?.0)?, refused("unauthenticated"));
    // A key that the console never saw.
    let body = serde_json::to_vec(&upstream(1))?;
    let nonce = Uuid::new_v4().to_string();
    let headers = sign(&thief, "POST", POLL, None, &body, Timestamp::now(), &nonce);
    assert_eq!(kind(&Line::open(None)?.ask("POST", POLL, &headers, body)?)?, refused("revoked"));
    // A machine gets certificates for its own key, and in its own name only.
    let mut line = Line::open(Some(paired.identity()?))?;
    let other = json!({ "certificate_request": Bytes(certificate_request(&thief, "gateway")?) });
    assert_eq!(line.post("/v1/link/certificate", &other)?.0.status, 400);
    let other =
        json!({ "certificate_request": Bytes(certificate_request(&paired.key, &Uuid::nil().to_string())?) });
    let renewed = line.post("/v1/link/certificate", &other)?.0.expect(200)?;
    let (subject, _) = x509(renewed["certificate"].as_str().context("there is no certificate")?)?;
    assert_eq!(subject, paired.gateway.id);
    Ok(())
}

/// Common name of a certificate, and its issuer's name.
fn x509(pem: &str) -> Result<(String, rcgen::DistinguishedName)> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    let certificate = pem.parse_x509()?;
    let name = |name: &x509_parser::x509::X509Name<'_>| {
        anyhow::Ok(name.iter_common_name().next().context("it has no name")?.as_str()?.to_owned())
    };
    let mut issuer = rcgen::DistinguishedName::new();
    issuer.push(DnType::CommonName, name(certificate.issuer())?);
    Ok((name(certificate.subject())?, issuer))
}

#[test]
fn signatures_hold_for_one_request_once() -> Result<()> {
    let paired = Paired::new()?;
    let body = serde_json::to_vec(&upstream(1))?;
    let now = Timestamp::now();
    let ask = |path: &str, headers: &[(&'static str, String)], body: &[u8]| {
        Line::open(None)?.ask("POST", path, headers, body.to_vec())
    };
    let right = paired.sign("POST", POLL, &body, now);
    ask(POLL, &right, &body)?.expect(200)?;
    assert_eq!(kind(&ask(POLL, &right, &body)?)?, refused("replayed"));

    // Twenty at once of one request: one counts.
    let right = paired.sign("POST", POLL, &body, now);
    let answers = std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(POLL, &right, &body))).collect();
        all.into_iter().map(|one| one.join().expect("it does not panic")).collect::<Result<Vec<_>>>()
    })?;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);

    let right = || paired.sign("POST", POLL, &body, now);
    let certificate = "/v1/link/certificate";
    assert_eq!(kind(&ask(certificate, &right(), &body)?)?, refused("signature"), "another address");
    assert_eq!(kind(&ask(&format!("{POLL}?x"), &right(), &body)?)?, refused("signature"), "a query");
    assert_eq!(kind(&ask(POLL, &right(), b"{}")?)?, refused("signature"), "another body");
    let without = |name: &str| right().into_iter().filter(|(known, _)| *known != name).collect::<Vec<_>>();
    assert_eq!(kind(&ask(POLL, &without("content-digest"), &body)?)?, refused("signature"));
    assert_eq!(kind(&ask(POLL, &without("signature"), &body)?)?, refused("signature"));
    assert_eq!(kind(&ask(POLL, &without("signature-input"), &body)?)?, refused("signature"));
    let twice = [right(), right()].concat();
    assert_eq!(kind(&ask(POLL, &twice, &body)?)?, refused("signature"), "two signatures");
    Ok(())
}

#[test]
fn a_clock_an_hour_off_is_named() -> Result<()> {
    let paired = Paired::new()?;
    let body = serde_json::to_vec(&upstream(1))?;
    for hours in [-1, 1, 24 * 365 * 10, -24 * 365 * 10] {
        let created = Timestamp::now() + SignedDuration::from_hours(hours);
        let headers = paired.sign("POST", POLL, &body, created);
        let answer = Line::open(None)?.ask("POST", POLL, &headers, body.clone())?;
        assert_eq!(kind(&answer)?, refused("clock"), "{hours} hours");
        let problem: Value = answer.read()?;
        assert!(problem["title"].as_str().is_some_and(|title| title.contains("clock")), "{problem}");
        assert!(problem["hint"].is_string(), "{problem}");
        // So that the machine can reckon with the console's.
        assert!(answer.header("date").is_some_and(|date| date.ends_with("GMT")), "{:?}", answer.headers);
    }
    // Nor does the answer to a stranger depend on a clock.
    let stranger = sign(
        &DeviceKey::generate(),
        "POST",
        POLL,
        None,
        &body,
        Timestamp::UNIX_EPOCH,
        &Uuid::new_v4().to_string(),
    );
    assert_eq!(kind(&Line::open(None)?.ask("POST", POLL, &stranger, body)?)?, refused("revoked"));
    Ok(())
}

#[test]
fn messages_that_no_machine_sends() -> Result<()> {
    let paired = Paired::new()?;
    let many = Upstream {
        entries: (1..=MAX_ENTRIES as u64 + 1).flat_map(|n| upstream(n).entries).collect(),
        ..upstream(1)
    };
    let long = format!("{{\"spool\":\"{}\",\"x\":\"{}\"}}", Uuid::nil(), "y".repeat(MAX_MESSAGE));
    let deep = format!("{{\"spool\":\"{}\",\"x\":{}", Uuid::nil(), "[".repeat(50_000));
    for (what, status, body) in [
        ("too many entries", 400, serde_json::to_string(&many)?),
        ("too long", 413, long.clone()),
        ("deep", 400, deep.clone()),
        ("nothing", 400, String::new()),
        ("no spool", 400, "{}".into()),
    ] {
        let answer = Line::open(Some(paired.identity()?))?.ask("POST", POLL, &[], body.into_bytes())?;
        assert_eq!(answer.status.as_u16(), status, "{what}: {}", answer.text());
        assert!(answer.read::<Value>()?["type"].is_string(), "{what}: {}", answer.text());
    }
    for (what, message) in [
        ("no JSON", Message::text("hello")),
        ("bytes", Message::binary(vec![0xff; 100])),
        ("too many entries", Message::text(serde_json::to_string(&many)?)),
        ("too long", Message::text(long)),
        ("deep", Message::text(deep)),
    ] {
        let identity = paired.identity()?;
        let ended = runtime().block_on(async {
            let mut socket = open(identity).await?;
            // A console that hangs up while we still write has not waited for the rest, which is as good.
            let sent = socket.send(message).await;
            let ended = async {
                while let Some(message) = socket.next().await {
                    match message {
                        Ok(Message::Close(_)) | Err(_) => return,
                        Ok(_) => {}
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(10), ended)
                .await
                .with_context(|| format!("{what}: it goes on ({sent:?})"))
        });
        ended?;
    }
    // Text is data: as long as it may be, and nothing in it means anything to the console.
    let odd = "<script>alert(1)</script>'; DROP TABLE events;-- \u{0} \u{202e} ${7*7} {{7*7}}";
    let mut message = upstream(2);
    for entry in &mut message.entries {
        if let Body::Event(event) = &mut entry.body {
            (event.reason, event.message) = ("Odd".into(), format!("{odd}{}", "z".repeat(100_000)));
        }
    }
    Line::open(Some(paired.identity()?))?.post(POLL, &message)?.0.expect(200)?;
    let stored = paired.gateway.events("Odd")?;
    ensure!(stored.len() == 1, "{stored:?}");
    assert!(
        stored[0].starts_with("<script>alert(1)</script>'; DROP TABLE") && stored[0].len() <= 4096,
        "{}",
        stored[0].len()
    );
    paired.poll()?.expect(200)?;
    assert!(!console().log().contains("panicked"), "{}", console().log());
    Ok(())
}
