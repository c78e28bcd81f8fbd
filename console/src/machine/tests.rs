//! Pairing and the link against a console in this process, by the handlers themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::http::Request;
use axum::http::request::Parts;
use jiff::Timestamp;
use protocol::bytes::Bytes;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::link::{
    Body, CommandResult, Condition, ConditionStatus, Downstream, Entry, Event, Heartbeat, Outcome, Renewal,
    Severity, Upstream,
};
use protocol::pairing::machine::{Claimant, Machine};
use protocol::pairing::{Claim, Confirm, Confirmed, Grant, Start, Started, Verdict};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::json;
use uuid::Uuid;

use super::{Rates, link, pairing};
use crate::api::{Id, Json};
use crate::auth::{Principal, Role, Via};
use crate::error::Result;
use crate::gateways::{self, Action, NewCode};
use crate::serve::{self, Config, Running};
use crate::state::{App, Peer};
use crate::store::{conditions, events, pairings};

const ORIGIN: &str = "https://console.test";

struct Console {
    running: Running,
    folder: tempfile::TempDir,
}

impl Console {
    async fn start() -> Console {
        Console::with(1000).await
    }

    async fn with(starts_per_address: u32) -> Console {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data: folder.path().to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            urls: vec![ORIGIN.parse().unwrap()],
            database: None,
            key_file: None,
            tls: None,
            unhealthy_after: Duration::from_secs(600),
            starts: Rates { per_address: starts_per_address.try_into().unwrap(), ..Rates::default() },
            installer: None,
        };
        Console { running: serve::serve(config).await.unwrap(), folder }
    }

    fn app(&self) -> &App {
        &self.running.app
    }

    async fn gateway(&self, name: &str, approval: bool) -> (Uuid, Code) {
        let code = NewCode { require_approval: Some(approval), expires_in_seconds: None };
        let gateway = gateways::create(self.app(), &person(), name, &code).await.unwrap();
        (gateway.id, Code::parse(&gateway.pairing.unwrap().code.unwrap()).unwrap())
    }

    async fn pairing(&self, gateway: Uuid) -> (pairings::State, i64) {
        let mut db = self.app().store.read().await.unwrap();
        let pairing = pairings::newest(&mut db, gateway).await.unwrap().unwrap();
        (pairing.state, pairing.attempts_left)
    }

    async fn sql(&self, statement: &'static str) {
        let mut db = self.app().store.write().await.unwrap();
        sqlx::query(statement).execute(&mut *db).await.unwrap();
        db.commit().await.unwrap();
    }

    /// What the gateway's events are, oldest first.
    async fn reasons(&self, gateway: Uuid) -> Vec<String> {
        let mut db = self.app().store.read().await.unwrap();
        let events = events::after(&mut db, gateway, Uuid::nil(), 1000).await.unwrap();
        events.into_iter().map(|event| event.reason).collect()
    }

    async fn send_start(&self, locator: &str, start: &Start) -> Result<Started> {
        let answer = pairing::start(
            State(self.app().clone()),
            Extension(peer(None)),
            Path(locator.into()),
            Json(start.clone()),
        );
        answer.await.map(|answer| answer.0)
    }

    async fn send_confirm(&self, claimant: &Claimant, claim: &Claim) -> Result<Confirmed> {
        self.send(claimant, &claimant.confirm(claim)).await
    }

    async fn send(&self, claimant: &Claimant, message: &Confirm) -> Result<Confirmed> {
        let (id, message) = (Id(claimant.session()), Json(message.clone()));
        let answer = pairing::confirm(State(self.app().clone()), Extension(peer(None)), id, message);
        answer.await.map(|answer| answer.0)
    }

    async fn claimant(&self, key: &DeviceKey, code: &Code) -> Claimant {
        let (machine, start) = Machine::start(code, ORIGIN, key.public());
        machine.started(&self.send_start(code.locator(), &start).await.unwrap()).unwrap()
    }

    async fn verdict(&self, key: &DeviceKey, code: &Code, claim: &Claim) -> Result<Verdict> {
        let claimant = self.claimant(key, code).await;
        let answer = self.send_confirm(&claimant, claim).await?;
        Ok(claimant.confirmed(&answer).unwrap())
    }

    async fn pair(&self, key: &DeviceKey, code: &Code) -> Grant {
        match self.verdict(key, code, &self.claim(key)).await.unwrap() {
            Verdict::Granted(grant) => *grant,
            other => panic!("{other:?}"),
        }
    }

    fn claim(&self, key: &DeviceKey) -> Claim {
        let pem = std::fs::read(self.folder.path().join("server.pem")).unwrap();
        let chain = CertificateDer::pem_slice_iter(&pem).map(|der| Bytes(der.unwrap().to_vec())).collect();
        Claim {
            certificate_request: request(key),
            vm_uuid: None,
            hostname: "machine".into(),
            addresses: vec![],
            software: "0".into(),
            clock: Timestamp::now(),
            chain,
            by_proxy_ca: false,
        }
    }

    async fn poll(&self, grant: &Grant, upstream: &Upstream) -> Result<Downstream> {
        let body = serde_json::to_vec(upstream).unwrap();
        let peer = peer(Some(grant));
        link::poll(State(self.app().clone()), Extension(peer), parts("/v1/link/poll"), Ok(body.into()))
            .await
            .map(|answer| answer.0)
    }
}

fn person() -> Principal {
    Principal {
        account: Uuid::nil(),
        name: "alice".into(),
        role: Role::Administrator,
        via: Via::Token { id: Uuid::nil(), name: "test".into() },
        must_change: false,
        address: [192, 0, 2, 1].into(),
    }
}

fn peer(grant: Option<&Grant>) -> Peer {
    let certificate =
        grant.map(|grant| Arc::new(CertificateDer::from_pem_slice(grant.certificate.as_bytes()).unwrap()));
    Peer { address: SocketAddr::from(([192, 0, 2, 7], 40_000)), certificate }
}

fn parts(path: &str) -> Parts {
    Request::post(path).body(()).unwrap().into_parts().0
}

fn request(key: &DeviceKey) -> Bytes {
    let pair =
        KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key.to_pkcs8()), &PKCS_ED25519)
            .unwrap();
    Bytes(CertificateParams::default().serialize_request(&pair).unwrap().der().to_vec())
}

/// A code with the same locator and another secret.
fn wrong(code: &Code) -> Code {
    let secret: u32 = code.secret().parse().unwrap();
    Code::new(code.locator(), &format!("{:07}", (secret + 1) % 10_000_000)).unwrap()
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().problem().kind
}

fn event(sequence: u64) -> Entry {
    let event = Event {
        severity: Severity::Info,
        reason: format!("R{sequence}"),
        message: "m".into(),
        source: "test".into(),
    };
    Entry { sequence, time: Timestamp::UNIX_EPOCH, body: Body::Event(event) }
}

fn entries(spool: Uuid, entries: Vec<Entry>) -> Upstream {
    Upstream { spool, heartbeat: None, entries }
}

#[tokio::test]
async fn a_machine_pairs_and_repeats_cost_nothing() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let key = DeviceKey::generate();
    let (machine, start) = Machine::start(&code, ORIGIN, key.public());
    let first = console.send_start(code.locator(), &start).await.unwrap();
    assert_eq!(console.pairing(gateway).await, (pairings::State::Pending, 4));
    assert_eq!(console.send_start(code.locator(), &start).await.unwrap(), first, "the same answer");
    assert_eq!(console.pairing(gateway).await, (pairings::State::Pending, 4), "for nothing");

    let claimant = machine.started(&first).unwrap();
    let message = claimant.confirm(&console.claim(&key));
    let answer = console.send(&claimant, &message).await.unwrap();
    let Verdict::Granted(grant) = claimant.confirmed(&answer).unwrap() else { panic!() };
    assert_eq!((grant.gateway, grant.origin.as_str()), (gateway, ORIGIN));
    assert_eq!(console.pairing(gateway).await, (pairings::State::Paired, 5));
    let again = console.send(&claimant, &message).await.unwrap();
    assert_eq!(again, answer, "message 4 was lost, and is sent again as it was");
    assert_eq!(console.reasons(gateway).await, ["Paired"]);

    // The code is dead, and looks like any other that is.
    let other = DeviceKey::generate();
    assert_eq!(kind(console.verdict(&other, &code, &console.claim(&other)).await), "rejected");
}

#[tokio::test]
async fn five_wrong_codes_lock_it() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let key = DeviceKey::generate();
    for left in (0..5).rev() {
        let rejected = console.verdict(&key, &wrong(&code), &console.claim(&key)).await;
        assert_eq!(kind(rejected), "rejected");
        assert_eq!(console.pairing(gateway).await.1, left);
    }
    assert_eq!(console.pairing(gateway).await.0, pairings::State::Locked);
    assert_eq!(kind(console.verdict(&key, &code, &console.claim(&key)).await), "rejected");
    let reasons = console.reasons(gateway).await;
    assert_eq!(reasons[4..], ["PairingRejected", "PairingLocked"]);
    // A locator that is nobody's ends with the same words.
    let nobody = Code::new(if code.locator() == "0000" { "0001" } else { "0000" }, "1234567").unwrap();
    assert_eq!(kind(console.verdict(&key, &nobody, &console.claim(&key)).await), "rejected");
}

#[tokio::test]
async fn fifty_at_once_take_five() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let keys: Vec<_> = (0..50).map(|_| DeviceKey::generate()).collect();
    let (ours, code) = (&console, &code);
    let starts = keys.iter().map(|key| async move {
        let (machine, start) = Machine::start(code, ORIGIN, key.public());
        (key, machine.started(&ours.send_start(code.locator(), &start).await.unwrap()).unwrap())
    });
    let claimants = futures_util::future::join_all(starts).await;
    assert_eq!(
        console.pairing(gateway).await,
        (pairings::State::Pending, 0),
        "one of the five may still know it"
    );
    let mut paired = 0;
    for (key, claimant) in &claimants {
        let answer = console.send_confirm(claimant, &console.claim(key)).await;
        match answer {
            Ok(answer) => {
                assert!(matches!(claimant.confirmed(&answer).unwrap(), Verdict::Granted(_)));
                paired += 1;
            }
            Err(error) => assert_eq!(error.problem().kind, "rejected"),
        }
    }
    assert_eq!(paired, 1, "the first of them ends the others");
}

#[tokio::test]
async fn what_is_over_stays_over() {
    let console = Console::start().await;
    let key = DeviceKey::generate();
    let (expired, code) = console.gateway("expired", false).await;
    let claimant = console.claimant(&key, &code).await;
    console.sql("UPDATE pairings SET expires_at = '2020-01-01T00:00:00.000Z'").await;
    let answer = console.send_confirm(&claimant, &console.claim(&key)).await;
    assert_eq!(kind(answer), "rejected", "it expired between the messages");
    super::background::over(console.app(), Timestamp::now()).await.unwrap();
    assert_eq!(console.pairing(expired).await.0, pairings::State::Expired);
    assert_eq!(console.reasons(expired).await, ["PairingExpired"]);

    let (cancelled, code) = console.gateway("cancelled", false).await;
    let claimant = console.claimant(&key, &code).await;
    gateways::cancel_code(console.app(), &person(), cancelled).await.unwrap();
    assert_eq!(kind(console.send_confirm(&claimant, &console.claim(&key)).await), "rejected");

    // Started five times and never finished: locked once none of them can finish any more.
    let (burnt, code) = console.gateway("burnt", false).await;
    for _ in 0..5 {
        console.claimant(&key, &code).await;
    }
    super::background::over(console.app(), Timestamp::now()).await.unwrap();
    assert_eq!(console.pairing(burnt).await, (pairings::State::Pending, 0));
    console.sql("UPDATE pairing_sessions SET expires_at = '2020-01-01T00:00:00.000Z'").await;
    super::background::over(console.app(), Timestamp::now()).await.unwrap();
    assert_eq!(console.pairing(burnt).await.0, pairings::State::Locked);
}

#[tokio::test]
async fn interception_is_named_and_the_code_stays_good() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let key = DeviceKey::generate();
    let inspection = {
        let mut params = CertificateParams::new(vec!["console.test".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "Inspection");
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    };
    let mut claim = Claim { chain: vec![Bytes(inspection)], ..console.claim(&key) };
    let verdict = console.verdict(&key, &code, &claim).await.unwrap();
    assert_eq!(verdict, Verdict::Intercepted { issuer: "CN=Inspection".into() });
    assert_eq!(console.pairing(gateway).await, (pairings::State::Pending, 5));
    // A certificate request of another key is refused, and costs nothing either.
    let stolen = Claim { certificate_request: request(&DeviceKey::generate()), ..console.claim(&key) };
    assert!(matches!(console.verdict(&key, &code, &stolen).await.unwrap(), Verdict::Refused { .. }));
    claim.by_proxy_ca = true;
    assert!(matches!(console.verdict(&key, &code, &claim).await.unwrap(), Verdict::Granted(_)));
    assert_eq!(console.reasons(gateway).await, ["TlsIntercepted", "PairingRefused", "Paired"]);

    // One machine is one gateway.
    let (_, code) = console.gateway("second", false).await;
    let verdict = console.verdict(&key, &code, &console.claim(&key)).await.unwrap();
    assert_eq!(verdict, Verdict::Refused { reason: "This machine is the gateway `edge` already.".into() });
}

#[tokio::test]
async fn a_person_decides() {
    let console = Console::start().await;
    for approve in [true, false] {
        let name = if approve { "approved" } else { "refused" };
        let (gateway, code) = console.gateway(name, true).await;
        let key = DeviceKey::generate();
        let claimant = console.claimant(&key, &code).await;
        let message = claimant.confirm(&console.claim(&key));
        for _ in 0..2 {
            let answer = console.send(&claimant, &message).await.unwrap();
            assert!(matches!(claimant.confirmed(&answer).unwrap(), Verdict::Waiting { .. }));
        }
        let mut db = console.app().store.read().await.unwrap();
        let waiting = super::waiting(&mut db, gateway).await.unwrap().unwrap();
        drop(db);
        assert_eq!((waiting.number, waiting.hostname.as_str()), (claimant.number(), "machine"));
        // Nobody else gets in meanwhile.
        let other = DeviceKey::generate();
        assert_eq!(kind(console.verdict(&other, &code, &console.claim(&other)).await), "rejected");
        let by = person();
        if approve {
            let other = super::approve(console.app(), gateway, "no number", &by).await;
            assert_eq!(kind(other), "other-number");
            super::approve(console.app(), gateway, &claimant.number(), &by).await.unwrap();
        } else {
            super::refuse(console.app(), gateway, &by).await.unwrap();
        }
        assert_eq!(kind(super::approve(console.app(), gateway, "000000", &by).await), "nobody-waits");
        let answer = console.send(&claimant, &message).await.unwrap();
        match claimant.confirmed(&answer).unwrap() {
            Verdict::Granted(grant) if approve => assert_eq!(grant.name, "approved"),
            Verdict::Refused { reason } if !approve => assert_eq!(reason, "alice refused it in the console."),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn starts_are_limited() {
    let console = Console::with(3).await;
    let key = DeviceKey::generate();
    let code = Code::new("1234", "1234567").unwrap();
    for _ in 0..3 {
        let (_, start) = Machine::start(&code, ORIGIN, key.public());
        console.send_start("1234", &start).await.unwrap();
    }
    let (_, start) = Machine::start(&code, ORIGIN, key.public());
    assert_eq!(kind(console.send_start("1234", &start).await), "too-many-starts");
}

#[tokio::test]
async fn a_message_that_no_machine_sends_costs_nothing() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let (_, good) = Machine::start(&code, ORIGIN, DeviceKey::generate().public());
    let elsewhere = Start { origin: "https://elsewhere.test".into(), ..good.clone() };
    assert_eq!(kind(console.send_start(code.locator(), &elsewhere).await), "unknown-origin");
    let newer = Start { version: 2, ..good.clone() };
    assert_eq!(kind(console.send_start(code.locator(), &newer).await), "version");
    let identity = Start { pake: Bytes([b"A".as_slice(), &[1], &[0; 31]].concat()), ..good.clone() };
    assert_eq!(kind(console.send_start(code.locator(), &identity).await), "malformed");
    assert_eq!(kind(console.send_start("12a4", &good).await), "malformed");
    assert_eq!(console.pairing(gateway).await, (pairings::State::Pending, 5));
}

#[tokio::test]
async fn entries_are_stored_once() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let grant = console.pair(&DeviceKey::generate(), &code).await;
    let spool = Uuid::now_v7();
    let condition = Condition {
        kind: "HostConfigured".into(),
        status: ConditionStatus::True,
        reason: "Done".into(),
        message: "nul \0 and\nline".into(),
        last_transition_time: Timestamp::UNIX_EPOCH,
    };
    let condition = Entry { sequence: 3, time: Timestamp::UNIX_EPOCH, body: Body::Condition(condition) };
    let all = vec![event(1), event(2), condition];
    assert_eq!(console.poll(&grant, &entries(spool, all.clone())).await.unwrap().acknowledged, 3);
    assert_eq!(console.poll(&grant, &entries(spool, all)).await.unwrap().acknowledged, 3);
    let dropped = Entry { sequence: 9, time: Timestamp::UNIX_EPOCH, body: Body::Dropped { count: 6 } };
    assert_eq!(
        console.poll(&grant, &entries(spool, vec![dropped, event(10)])).await.unwrap().acknowledged,
        10
    );
    assert_eq!(console.poll(&grant, &entries(Uuid::now_v7(), vec![event(1)])).await.unwrap().acknowledged, 1);
    assert_eq!(console.reasons(gateway).await, ["Paired", "R1", "R2", "EntriesDropped", "R10", "R1"]);
    let mut db = console.app().store.read().await.unwrap();
    assert_eq!(conditions::list(&mut db, gateway).await.unwrap()[0].message, "nul   and\nline");
}

#[tokio::test]
async fn commands_go_out_until_their_result_is_stored() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let grant = console.pair(&DeviceKey::generate(), &code).await;
    let given = gateways::command(console.app(), &person(), gateway, &Action::CollectBundle).await.unwrap();
    let spool = Uuid::now_v7();
    let down = console.poll(&grant, &entries(spool, vec![])).await.unwrap();
    assert_eq!(down.commands.iter().map(|command| command.id).collect::<Vec<_>>(), [given.id]);
    assert_eq!((down.commands[0].kind.as_str(), &down.commands[0].arguments), ("collect-bundle", &json!({})));
    // Under way: not at once again, but after a while, as an answer may be lost.
    assert_eq!(console.poll(&grant, &entries(spool, vec![event(1)])).await.unwrap().commands, []);
    console.sql("UPDATE commands SET delivered_at = '2020-01-01T00:00:00.000Z'").await;
    assert_eq!(console.poll(&grant, &entries(spool, vec![])).await.unwrap().commands.len(), 1);
    for (sequence, outcome) in [(2, Outcome::Done), (3, Outcome::Failed)] {
        let result = CommandResult { command: given.id, outcome, message: "so".into() };
        let result = Entry { sequence, time: Timestamp::UNIX_EPOCH, body: Body::Result(result) };
        console.poll(&grant, &entries(spool, vec![result])).await.unwrap();
    }
    let commands = gateways::commands(console.app(), gateway, None, 10).await.unwrap();
    assert_eq!(commands[0].outcome.as_deref(), Some("done"), "the first result counts");
    console.sql("UPDATE commands SET delivered_at = '2020-01-01T00:00:00.000Z'").await;
    assert_eq!(console.poll(&grant, &entries(spool, vec![event(4)])).await.unwrap().commands, []);
}

#[tokio::test]
async fn a_waiting_poll_hears_of_commands_and_of_its_end() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let grant = console.pair(&DeviceKey::generate(), &code).await;
    let nothing = entries(Uuid::now_v7(), vec![]);
    let waiting = async {
        while !console.app().hub.has(gateway) {
            tokio::task::yield_now().await;
        }
        gateways::command(console.app(), &person(), gateway, &Action::CollectBundle).await.unwrap();
    };
    let (down, ()) = tokio::join!(console.poll(&grant, &nothing), waiting);
    assert_eq!(down.unwrap().commands.len(), 1);
    let waiting = async {
        while !console.app().hub.has(gateway) {
            tokio::task::yield_now().await;
        }
        gateways::delete(console.app(), &person(), gateway).await.unwrap();
    };
    let (down, ()) = tokio::join!(console.poll(&grant, &nothing), waiting);
    assert_eq!(kind(down), "revoked");
    assert_eq!(kind(console.poll(&grant, &nothing).await), "revoked");
}

#[tokio::test]
async fn another_machine_takes_the_place_of_the_first() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let first = console.pair(&DeviceKey::generate(), &code).await;
    let again = gateways::new_code(console.app(), &person(), gateway, &NewCode::default()).await.unwrap();
    let code = Code::parse(&again.pairing.unwrap().code.unwrap()).unwrap();
    let spool = Uuid::now_v7();
    console.poll(&first, &entries(spool, vec![event(1)])).await.expect("it is the gateway until another is");
    let second = console.pair(&DeviceKey::generate(), &code).await;
    assert_eq!(kind(console.poll(&first, &entries(spool, vec![event(2)])).await), "revoked");
    assert_eq!(console.poll(&second, &entries(spool, vec![event(1)])).await.unwrap().acknowledged, 1);
}

/// What the machine before had still to do is not for the new one; the configuration is the gateway's.
#[tokio::test]
async fn a_machine_that_takes_a_place_gets_the_configuration() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let unpaired = gateways::command(console.app(), &person(), gateway, &Action::CollectBundle).await;
    assert_eq!(kind(unpaired), "state", "there is no machine yet");
    console.pair(&DeviceKey::generate(), &code).await;
    let wanted = configuration();
    gateways::configure(console.app(), &person(), gateway, wanted.clone()).await.unwrap();
    gateways::command(console.app(), &person(), gateway, &Action::CollectBundle).await.unwrap();
    let code = gateways::new_code(console.app(), &person(), gateway, &NewCode::default()).await.unwrap();
    let code = Code::parse(&code.pairing.unwrap().code.unwrap()).unwrap();
    let second = console.pair(&DeviceKey::generate(), &code).await;
    let down = console.poll(&second, &entries(Uuid::now_v7(), vec![])).await.unwrap();
    assert_eq!(down.commands.len(), 1, "{:?}", down.commands);
    assert_eq!(
        (down.commands[0].kind.as_str(), &down.commands[0].arguments),
        ("configure", &wanted.expose()),
        "with its password"
    );
}

/// A resize that is done is the size from then on; a delete that is done is the gateway's end.
#[tokio::test]
async fn what_a_machine_has_done_is_so() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let grant = console.pair(&DeviceKey::generate(), &code).await;
    gateways::configure(console.app(), &person(), gateway, configuration()).await.unwrap();
    console.sql("UPDATE gateways SET state = 'running'").await;
    let resize = Action::Resize(gateways::Resize { size: 3 });
    let spool = Uuid::now_v7();
    for (number, action) in [resize.clone(), Action::Delete].iter().enumerate() {
        let given = gateways::command(console.app(), &person(), gateway, action).await.unwrap();
        let result = CommandResult { command: given.id, outcome: Outcome::Done, message: "so".into() };
        let sequence = number as u64 + 1;
        let result = Entry { sequence, time: Timestamp::UNIX_EPOCH, body: Body::Result(result) };
        console.poll(&grant, &entries(spool, vec![result])).await.unwrap();
        if number == 0 {
            let now = gateways::configuration(console.app(), gateway).await.unwrap();
            assert_eq!(now.configuration.size, 3);
            assert!(now.password_is_set);
            let again = gateways::command(console.app(), &person(), gateway, &resize).await;
            assert_eq!(kind(again), "invalid", "from three to three");
        }
    }
    assert_eq!(kind(gateways::configuration(console.app(), gateway).await), "not-found");
    assert_eq!(kind(console.poll(&grant, &entries(spool, vec![])).await), "revoked");
}

fn configuration() -> gateway::Configuration {
    serde_json::from_value(json!({
        "vcenter": { "server": "vcenter.example.com", "username": "u@vsphere.local", "password": "p" },
        "placement": {
            "datacenter": "DC1", "folder": "f", "cluster": "C1", "datastore": "d", "network": "n",
        },
        "size": 1,
        "ip_allocation": "dhcp",
    }))
    .unwrap()
}

#[tokio::test]
async fn signed_requests_count_once_and_in_time() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let key = DeviceKey::generate();
    console.pair(&key, &code).await;
    let body = serde_json::to_vec(&entries(Uuid::now_v7(), vec![event(1)])).unwrap();
    let poll = async |created: Timestamp, nonce: &str, key: &DeviceKey| {
        let headers = protocol::signature::sign(key, "POST", "/v1/link/poll", None, &body, created, nonce);
        let mut parts = parts("/v1/link/poll");
        for (name, value) in headers {
            parts.headers.insert(name, value.parse().unwrap());
        }
        link::poll(State(console.app().clone()), Extension(peer(None)), parts, Ok(body.clone().into())).await
    };
    let now = Timestamp::now();
    assert_eq!(poll(now, "first-request-0001", &key).await.unwrap().0.acknowledged, 1);
    assert_eq!(kind(poll(now, "first-request-0001", &key).await), "replayed");
    let early = now - Duration::from_secs(3600);
    assert_eq!(kind(poll(early, "second-request-001", &key).await), "clock");
    assert_eq!(kind(poll(now, "third-request-0001", &DeviceKey::generate()).await), "revoked");
    let unsigned = link::poll(
        State(console.app().clone()),
        Extension(peer(None)),
        parts("/v1/link/poll"),
        Ok(body.clone().into()),
    );
    assert_eq!(kind(unsigned.await), "unauthenticated");
    gateways::delete(console.app(), &person(), gateway).await.unwrap();
    assert_eq!(kind(poll(now, "fourth-request-001", &key).await), "revoked");
}

#[tokio::test]
async fn certificates_are_renewed_for_the_same_key() {
    let console = Console::start().await;
    let (_, code) = console.gateway("edge", false).await;
    let key = DeviceKey::generate();
    let grant = console.pair(&key, &code).await;
    let renew = async |request: Bytes| {
        let body = serde_json::to_vec(&Renewal { certificate_request: request }).unwrap();
        let app = State(console.app().clone());
        link::renew(app, Extension(peer(Some(&grant))), parts("/v1/link/certificate"), Ok(body.into())).await
    };
    let renewed = renew(request(&key)).await.unwrap().0;
    assert_ne!(renewed.certificate, grant.certificate);
    let renewed = Grant { certificate: renewed.certificate, ..grant.clone() };
    let entries = entries(Uuid::now_v7(), vec![event(1)]);
    assert_eq!(console.poll(&renewed, &entries).await.unwrap().acknowledged, 1);
    assert_eq!(kind(renew(request(&DeviceKey::generate())).await), "malformed");
}

#[tokio::test]
async fn heartbeats_are_written_together() {
    let console = Console::start().await;
    let (gateway, code) = console.gateway("edge", false).await;
    let grant = console.pair(&DeviceKey::generate(), &code).await;
    let heartbeat = Heartbeat {
        time: Timestamp::now(),
        state: "running".into(),
        software: "0".into(),
        uptime_seconds: 1,
        addresses: vec!["x".repeat(1000); 100],
        metrics: protocol::link::Metrics::default(),
    };
    let beat = Upstream { heartbeat: Some(heartbeat), ..entries(Uuid::now_v7(), vec![event(1)]) };
    console.poll(&grant, &beat).await.unwrap();
    let mut changes = console.app().hub.changes();
    while changes.recv().await.unwrap().gateway != gateway {}
    let shown = gateways::get(console.app(), gateway, false).await.unwrap();
    assert_eq!(shown.state, "running");
    let heartbeat = shown.heartbeat.unwrap();
    assert_eq!((heartbeat.addresses.len(), heartbeat.addresses[0].len()), (32, 64), "bounded");
    assert_eq!(shown.health.reasons, <[String; 0]>::default());
}

/// Many rows in one statement, with a last piece that is smaller.
#[tokio::test]
async fn a_thousand_heartbeats_are_one_transaction() {
    let console = Console::start().await;
    console
        .sql(
            "WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 1001) \
             INSERT INTO gateways (id, name, state, created_at, created_by, device_key, paired_at) \
             SELECT printf('00000000-0000-4000-8000-%012d', i), 'g' || i, 'pending', '', '', 'k' || i, '' FROM n",
        )
        .await;
    let heartbeat = Heartbeat {
        time: Timestamp::now(),
        state: "unheard-of".into(),
        software: String::new(),
        uptime_seconds: 0,
        addresses: vec![],
        metrics: protocol::link::Metrics::default(),
    };
    for i in 1..=1001 {
        let id = format!("00000000-0000-4000-8000-{i:012}").parse().unwrap();
        console.app().hub.heartbeats.hear(
            id,
            heartbeat.clone(),
            super::health::Short::default(),
            Timestamp::now(),
        );
    }
    // The console's own task may be quicker; together they write all.
    console.app().hub.heartbeats.write(&console.app().store).await.unwrap();
    let count = async |condition: &'static str| -> i64 {
        let mut db = console.app().store.read().await.unwrap();
        sqlx::query_scalar(condition).fetch_one(&mut *db).await.unwrap()
    };
    while count("SELECT COUNT(*) FROM gateways WHERE heartbeat_at IS NOT NULL").await < 1001 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        count("SELECT COUNT(*) FROM gateways WHERE state = 'pending'").await,
        1001,
        "an unknown state is no state"
    );
}
