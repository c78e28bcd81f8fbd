//! Guessing, replaying, changing, being in between.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use gatewright_tests::https::Answer;
use link::{Bounds, Facts, Proxy, Route, Stage, Store};
use protocol::bytes::Bytes;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::{Confirm, PairingError, Start, Started, Verdict};
use protocol::secret::Secret;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::by_hand::{ByHand, Gateway, certificate_request};
use crate::console;
use crate::impostor::Impostor;
use crate::interceptor::{self, Interceptor};
use crate::line::{self, Line};

const ATTEMPTS: usize = 5;

#[test]
fn five_wrong_codes_and_it_is_locked() -> Result<()> {
    let gateway = Gateway::new()?;
    for (n, code) in gateway.wrong_codes().take(ATTEMPTS).enumerate() {
        assert_eq!(gateway.pairing("state")?, "pending", "after {n} wrong codes");
        assert_eq!(ByHand::new()?.try_code(&code)?, None);
        assert_eq!(gateway.pairing("attempts_left")?, ATTEMPTS - n - 1);
    }
    assert_eq!(gateway.pairing("state")?, "locked");
    assert_eq!(ByHand::new()?.try_code(&gateway.code)?, None, "the right code comes too late");
    assert_eq!(gateway.events("PairingRejected")?.len(), ATTEMPTS);
    assert_eq!(gateway.events("PairingLocked")?.len(), 1);
    assert!(!gateway.is_paired()?);
    Ok(())
}

#[test]
fn a_right_code_costs_nothing_and_is_good_once() -> Result<()> {
    let gateway = Gateway::new()?;
    for code in gateway.wrong_codes().take(ATTEMPTS - 1) {
        assert_eq!(ByHand::new()?.try_code(&code)?, None);
    }
    let grant = ByHand::new()?.pair(&gateway.code)?;
    assert_eq!(grant.gateway.to_string(), gateway.id);
    assert_eq!(gateway.pairing("attempts_left")?, 1);
    assert_eq!(ByHand::new()?.try_code(&gateway.code)?, None, "it is used");
    assert_eq!(gateway.pairing("attempts_left")?, 1, "a dead code has no attempts to take");
    Ok(())
}

/// All begin, and then all end, so that they meet on the way.
fn at_once<T: Send>(count: usize, one: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    thread::scope(|scope| {
        let all: Vec<_> = (0..count)
            .map(|n| {
                scope.spawn({
                    let one = &one;
                    move || one(n)
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().expect("it does not panic")).collect()
    })
}

#[test]
fn fifty_starts_at_once_take_exactly_five_attempts() -> Result<()> {
    let gateway = Gateway::new()?;
    // They know the code: whoever has a real session could pair.
    let machines = at_once(50, |_| {
        let mut machine = ByHand::new()?;
        let claimant = machine.shake(&gateway.code)?;
        Ok((machine, claimant))
    })?;
    assert_eq!(gateway.pairing("attempts_left")?, 0);
    assert_eq!(ByHand::new()?.try_code(&gateway.code)?, None, "none is left for the fifty-first");
    // Of those that took an attempt the first to claim pairs, which ends the others.
    let mut paired = 0;
    for (mut machine, claimant) in machines {
        match machine.claimed(&claimant)? {
            Some(Verdict::Granted(_)) => paired += 1,
            None => {}
            other => anyhow::bail!("{other:?}"),
        }
    }
    assert_eq!(paired, 1);
    assert_eq!(gateway.pairing("attempts_left")?, 1, "the right one gave its attempt back");
    Ok(())
}

#[test]
fn guesses_in_parallel_are_five_guesses() -> Result<()> {
    let gateway = Gateway::new()?;
    let codes: Vec<Code> = gateway.wrong_codes().take(40).collect();
    let answers = at_once(codes.len(), |n| ByHand::new()?.try_code(&codes[n]))?;
    assert!(answers.iter().all(Option::is_none), "{answers:?}");
    // Those that were judged, and did not only meet a decoy.
    assert_eq!(gateway.events("PairingRejected")?.len(), ATTEMPTS);
    assert_eq!((gateway.pairing("state")?, gateway.pairing("attempts_left")?), (json!("locked"), json!(0)));
    assert_eq!(ByHand::new()?.try_code(&gateway.code)?, None);
    Ok(())
}

#[test]
fn one_session_is_one_guess() -> Result<()> {
    let gateway = Gateway::new()?;
    let mut machine = ByHand::new()?;
    let wrong = gateway.wrong_codes().next().context("there are more codes")?;
    let session = machine.shake(&wrong)?.session();
    let claim = machine.claim()?;
    let right = machine.shake(&gateway.code)?;
    let message = right.confirm(&claim);
    let garbage = Confirm { mac: Bytes(vec![7; 32]), sealed: message.sealed.clone() };
    assert_eq!(machine.confirm(session, &garbage)?.status, 403);
    // The session is over, whatever comes now; and the message of one is worth nothing in another.
    for message in [&garbage, &message] {
        assert_eq!(machine.confirm(session, message)?.status, 403);
    }
    assert_eq!(gateway.events("PairingRejected")?.len(), 1);
    assert!(
        matches!(machine.claimed(&right)?, Some(Verdict::Granted(_))),
        "the other session is not touched"
    );
    Ok(())
}

#[test]
fn messages_that_come_again_get_the_same_answer_for_nothing() -> Result<()> {
    let gateway = Gateway::new()?;
    let mut machine = ByHand::new()?;
    let (state, start) = machine.begin(&gateway.code);
    let first = machine.start(gateway.code.locator(), &start)?;
    first.expect(200)?;
    // From elsewhere, too, and many at once.
    let again = at_once(8, |_| ByHand::new()?.start(gateway.code.locator(), &start))?;
    for again in &again {
        assert_eq!(again.body, first.body);
    }
    assert_eq!(gateway.pairing("attempts_left")?, ATTEMPTS - 1);

    let claimant = state.started(&first.read::<Started>()?)?;
    let message = claimant.confirm(&machine.claim()?);
    let session = claimant.session();
    let answers = at_once(8, |_| ByHand::new()?.confirm(session, &message))?;
    let granted = claimant.confirmed(&answers[0].read()?)?;
    ensure!(matches!(granted, Verdict::Granted(_)), "{granted:?}");
    for answer in &answers {
        assert_eq!(answer.body, answers[0].body, "one decision, one answer");
    }
    // Another message for the same session, by one who knows the keys.
    let other = claimant.confirm(&machine.claim()?);
    assert_ne!(other, message);
    assert_eq!(machine.confirm(session, &other)?.status, 403);
    assert_eq!(gateway.events("Paired")?.len(), 1);
    Ok(())
}

#[test]
fn whatever_is_changed_on_the_way_ends_in_a_rejection() -> Result<()> {
    let thief = DeviceKey::generate();
    type Change = Box<dyn Fn(&mut Start)>;
    let changes: [(&str, Change); 4] = [
        ("device key", Box::new(move |start| start.device_key = Bytes(thief.public().to_vec()))),
        ("nonce", Box::new(|start| start.nonce.0[31] ^= 1)),
        ("commitment", Box::new(|start| start.commitment.0[0] ^= 1)),
        // Another element, well formed: that of another machine.
        (
            "element",
            Box::new(|start| {
                let (code, key) =
                    (Code::new("0000", "0000000").expect("it is one"), DeviceKey::generate().public());
                start.pake = protocol::pairing::machine::Machine::start(&code, "https://x", key).1.pake;
            }),
        ),
    ];
    for (what, change) in changes {
        let gateway = Gateway::new()?;
        let mut machine = ByHand::new()?;
        let (state, mut start) = machine.begin(&gateway.code);
        change(&mut start);
        let answer = machine.start(gateway.code.locator(), &start)?;
        answer.expect(200)?;
        let claimant = state.started(&answer.read::<Started>()?)?;
        assert_eq!(machine.claimed(&claimant)?, None, "{what}");
        assert!(!gateway.is_paired()?, "{what}");
    }
    // Message 2 changed: the machine's MAC is wrong then.
    let gateway = Gateway::new()?;
    let mut machine = ByHand::new()?;
    let (state, start) = machine.begin(&gateway.code);
    let mut started: Started = machine.start(gateway.code.locator(), &start)?.read()?;
    started.nonce.0[0] ^= 0x80;
    let claimant = state.started(&started)?;
    assert_eq!(machine.claimed(&claimant)?, None);
    Ok(())
}

#[test]
fn a_request_for_another_key_is_refused_by_name() -> Result<()> {
    let gateway = Gateway::new()?;
    let mut machine = ByHand::new()?;
    let claimant = machine.shake(&gateway.code)?;
    let mut claim = machine.claim()?;
    claim.certificate_request = Bytes(certificate_request(&DeviceKey::generate(), "gateway")?);
    let message = claimant.confirm(&claim);
    let verdict = claimant.confirmed(&machine.confirm(claimant.session(), &message)?.read()?)?;
    ensure!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");

    // The right key, signed by another: the last bytes are the signature.
    let mut machine = ByHand::new()?;
    let claimant = machine.shake(&gateway.code)?;
    let mut claim = machine.claim()?;
    let last = claim.certificate_request.0.len() - 1;
    claim.certificate_request.0[last - 40] ^= 1;
    let message = claimant.confirm(&claim);
    let verdict = claimant.confirmed(&machine.confirm(claimant.session(), &message)?.read()?)?;
    ensure!(matches!(verdict, Verdict::Refused { .. }), "{verdict:?}");
    assert!(!gateway.is_paired()?);
    // What was wrong was mended: the code is still good.
    ByHand::new()?.pair(&gateway.code)?;
    Ok(())
}

#[test]
fn messages_that_no_machine_sends() -> Result<()> {
    let gateway = Gateway::new()?;
    let mut machine = ByHand::new()?;
    let (_, start) = machine.begin(&gateway.code);
    let locator = gateway.code.locator();
    let low_order = [b"A".as_slice(), &[0; 32]].concat();
    let identity = [b"A".as_slice(), &[1], &[0; 31]].concat();
    let reflected = [b"B".as_slice(), &start.pake.0[1..]].concat();
    for (start, status, kind) in [
        (Start { version: 2, ..start.clone() }, 400, "version"),
        (Start { origin: "https://elsewhere.example.com".into(), ..start.clone() }, 421, "unknown-origin"),
        (Start { nonce: Bytes(vec![1; 31]), ..start.clone() }, 400, "malformed"),
        (Start { nonce: Bytes(vec![1; 40_000]), ..start.clone() }, 400, "malformed"),
        (Start { pake: Bytes(low_order), ..start.clone() }, 400, "malformed"),
        (Start { pake: Bytes(identity), ..start.clone() }, 400, "malformed"),
        (Start { pake: Bytes(reflected), ..start.clone() }, 400, "malformed"),
        (Start { commitment: Bytes(vec![1; 31]), ..start.clone() }, 400, "malformed"),
        (Start { device_key: Bytes(vec![0; 32]), ..start.clone() }, 400, "malformed"),
        (Start { device_key: Bytes(Vec::new()), ..start.clone() }, 400, "malformed"),
    ] {
        // From an address of its own: refusals count as starts, too.
        let answer = ByHand::new()?.start(locator, &start)?;
        assert_eq!(
            (answer.status.as_u16(), kind),
            (status, answer.read::<Value>()?["type"].as_str().unwrap_or_default())
        );
        assert_eq!(
            answer.body,
            ByHand::new()?.start("0000", &start)?.body,
            "the same for a locator of nobody"
        );
    }
    assert_eq!(gateway.pairing("attempts_left")?, ATTEMPTS, "nothing of it costs an attempt");

    let path = format!("/v1/pairings/{locator}/start");
    let text = serde_json::to_string(&start)?;
    let deep = "[".repeat(100_000);
    for (what, path, kind, body) in [
        ("nothing", path.as_str(), "application/json", String::new()),
        ("half", &path, "application/json", text[..text.len() / 2].to_owned()),
        ("a list", &path, "application/json", "[]".into()),
        ("deep", &path, "application/json", deep),
        ("a huge one", &path, "application/json", format!("{{\"x\":\"{}\"}}", "y".repeat(10 << 20))),
        ("no JSON", &path, "text/plain", text.clone()),
        ("a long locator", "/v1/pairings/48211/start", "application/json", text.clone()),
        ("a locator of letters", "/v1/pairings/abcd/start", "application/json", text.clone()),
        ("SQL", "/v1/pairings/'%20OR%201=1--/start", "application/json", text.clone()),
        (
            "no session",
            "/v1/pairings/4821/confirm",
            "application/json",
            "{\"mac\":\"\",\"sealed\":\"\"}".into(),
        ),
    ] {
        let header = [("content-type", kind.to_owned())];
        // Of what is far too long the console may hang up before it has read it.
        let Ok(answer) = Line::open(None)?.ask("POST", path, &header, body.into_bytes()) else {
            assert_eq!(what, "a huge one");
            continue;
        };
        assert!(answer.status.is_client_error(), "{what}: {}", answer.status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{what}");
        assert!(answer.read::<Value>()?["type"].is_string(), "{what}: {}", answer.text());
    }
    let bytes = vec![0xff; 1000];
    let answer = Line::open(None)?.ask("POST", &path, &[], bytes)?;
    assert!(answer.status.is_client_error());
    // It lives, and the code is as good as before.
    machine.pair(&gateway.code)?;
    assert!(!console().log().contains("panicked"), "{}", console().log());
    Ok(())
}

#[test]
fn an_address_may_start_ten_times_a_minute() -> Result<()> {
    let address = line::address();
    let mut line = Line::open_from(address, None)?;
    let machine = ByHand::new()?;
    let (code, mut refused) = (Code::new("0001", "0000000").context("it is one")?, 0);
    for n in 0..15 {
        let (_, start) = machine.begin(&code);
        let (answer, _) = line.post("/v1/pairings/0001/start", &start)?;
        if answer.status == 429 {
            refused += 1;
            assert_eq!(answer.read::<Value>()?["type"], "too-many-starts");
            let wait: u32 = answer.header("retry-after").context("it does not say when")?.parse()?;
            assert!((1..=60).contains(&wait), "{wait} s");
        } else {
            answer.expect(200)?;
            assert!(n < 12, "start {n} is taken");
        }
    }
    assert!(refused >= 3, "{refused} of 15 were refused");
    let (_, start) = machine.begin(&code);
    Line::open(None)?.post("/v1/pairings/0001/start", &start)?.0.expect(200)?;
    Ok(())
}

/// What can be told of an answer: all but what differs each time.
fn shape(answer: &Answer) -> Value {
    let mut headers: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    headers.sort();
    let body: Value = answer.read().unwrap_or_default();
    let body = match body.as_object() {
        // Of message 2, which is random, the names and lengths.
        Some(fields) if answer.status == 200 => fields
            .iter()
            .map(|(name, value)| (name.clone(), json!(value.to_string().len())))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        _ => body,
    };
    json!({ "status": answer.status.as_u16(), "headers": headers, "body": body })
}

#[test]
fn a_locator_of_nobody_cannot_be_told_from_a_wrong_secret() -> Result<()> {
    let pending = Gateway::new()?;
    let locked = Gateway::new()?;
    for code in locked.wrong_codes().take(ATTEMPTS) {
        ByHand::new()?.try_code(&code)?;
    }
    let used = Gateway::new()?;
    ByHand::new()?.pair(&used.code)?;
    let cancelled = Gateway::new()?;
    console()
        .api()?
        .json("DELETE", &format!("/v1/gateways/{}/pairing", cancelled.id), &Value::Null)?
        .expect(204)?;
    let nobody = (0..10_000)
        .map(|n| format!("{n:04}"))
        .find(|locator| {
            [&pending, &locked, &used, &cancelled].iter().all(|known| known.code.locator() != *locator)
        })
        .context("there are more locators")?;

    let probe = |code: &Code| {
        let mut machine = ByHand::new()?;
        let (state, start) = machine.begin(code);
        let two = machine.start(code.locator(), &start)?;
        let claimant = state.started(&two.read::<Started>()?)?;
        let message = claimant.confirm(&machine.claim()?);
        let four = machine.confirm(claimant.session(), &message)?;
        let again = machine.confirm(claimant.session(), &message)?;
        anyhow::Ok([shape(&two), shape(&four), shape(&again)])
    };
    let expected = probe(&pending.wrong_codes().next().context("there are more codes")?)?;
    assert_eq!((&expected[0]["status"], &expected[1]["status"]), (&json!(200), &json!(403)));
    assert_eq!(expected[1]["body"]["type"], "rejected");
    let nobody = Code::new(&nobody, "1234567").context("it is one")?;
    for (what, code) in [
        ("nobody's", &nobody),
        ("locked", &locked.code),
        ("used", &used.code),
        ("cancelled", &cancelled.code),
    ] {
        assert_eq!(probe(code)?, expected, "{what}");
    }
    // Nor a session that never was.
    let mut machine = ByHand::new()?;
    let message = Confirm { mac: Bytes(vec![0; 32]), sealed: Bytes(vec![0; 100]) };
    assert_eq!(shape(&machine.confirm(Uuid::new_v4(), &message)?), expected[1]);
    Ok(())
}

/// Pairs as the installer does.
fn pair(
    route: &Route,
    code: &Code,
    store: &Store,
) -> Result<std::result::Result<protocol::pairing::Grant, link::Failure>> {
    let facts = Facts {
        hostname: "edge-of-the-world".into(),
        addresses: vec!["192.0.2.99".into()],
        ..Facts::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(link::pair(route, store, code, &facts, |_| ())))
}

#[test]
fn who_ends_tls_in_between_is_named_and_pairs_nothing() -> Result<()> {
    let gateway = Gateway::new()?;
    let interceptor = Interceptor::start(true)?;
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), Bounds::default())?;
    let route = |proxy: &Interceptor| {
        let proxy = Proxy { url: Secret::new(format!("http://{}", proxy.address)), no_proxy: Vec::new() };
        anyhow::Ok(Route { origin: console().said().url.parse()?, proxy: Some(proxy), proxy_ca: Vec::new() })
    };
    let failure = pair(&route(&interceptor)?, &gateway.code, &store)?.err().context("it was paired")?;
    assert_eq!(failure.stage, Stage::Intercepted, "{failure:?}");
    assert!(failure.message.contains(interceptor::CA), "{}", failure.message);
    assert!(!gateway.is_paired()?);
    let told = gateway.events("TlsIntercepted")?;
    assert!(told.len() == 1 && told[0].contains(interceptor::CA), "{told:?}");

    // It has read everything, and learned nothing.
    let read = interceptor.has_read();
    assert!(read.contains("/start") && read.contains("\"sealed\""), "{read}");
    for secret in [gateway.code.secret(), "edge-of-the-world", "192.0.2.99", "BEGIN CERTIFICATE"] {
        assert!(!read.contains(secret), "{secret} in {read}");
    }
    // Past it, the same machine pairs with the same code.
    let grant = pair(&route(&Interceptor::start(false)?)?, &gateway.code, &store)??;
    assert_eq!(grant.gateway.to_string(), gateway.id);
    Ok(())
}

#[test]
fn who_plays_the_console_has_five_guesses_and_hears_nothing() -> Result<()> {
    let code = Code::new("4821", "7739051").context("it is one")?;
    // It starts right behind the secret: five more guesses and it would be there, ten million before.
    let impostor = Impostor::start(7_739_052)?;
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path(), Bounds::default())?;
    let route = Route { origin: impostor.origin.parse()?, proxy: None, proxy_ca: Vec::new() };
    for n in 1..=ATTEMPTS {
        let failure = pair(&route, &code, &store)?.err().context("it was paired")?;
        assert_eq!(failure.stage, Stage::Intercepted, "handshake {n}: {failure:?}");
        assert!(failure.message.contains(&impostor.origin), "{}", failure.message);
    }
    for _ in 0..2 {
        let failure = pair(&route, &code, &store)?.err().context("it was paired")?;
        assert_eq!(failure.stage, Stage::Code, "{failure:?}");
    }
    let told = impostor.told();
    assert_eq!(told.starts as usize, ATTEMPTS);
    assert!(!told.claims.is_empty() && told.claims.iter().all(|claim| *claim == Err(PairingError::Unproven)));
    for secret in [code.secret(), "edge-of-the-world", "192.0.2.99"] {
        assert!(!told.words.contains(secret), "{secret} in {}", told.words);
    }
    assert_eq!(store.grant()?, None);
    Ok(())
}
