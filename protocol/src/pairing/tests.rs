use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use jiff::Timestamp;
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::console::{self, Keys};
use super::keys::Side;
use super::machine::{Claimant, Machine};
use super::{Claim, Confirm, Confirmed, MAX_MESSAGE, PairingError, Start, Started, Verdict};
use crate::bytes::Bytes;
use crate::code::Code;
use crate::device_key::DeviceKey;

const ORIGIN: &str = "https://console.example.com:8443";
const LOCATOR: &str = "4821";
const SECRET: &str = "7739051";

fn code() -> Code {
    Code::new(LOCATOR, SECRET).unwrap()
}

fn claim() -> Claim {
    Claim {
        certificate_request: Bytes(vec![0x30, 0x82]),
        vm_uuid: Some("4207f9a1-0000-4000-8000-3fd2a2a7e3f1".into()),
        hostname: "edge-01".into(),
        addresses: vec!["192.0.2.10".into(), "2001:db8::10".into()],
        software: "0.1.0".into(),
        clock: Timestamp::UNIX_EPOCH,
        chain: vec![Bytes(vec![1, 2, 3])],
        by_proxy_ca: false,
    }
}

fn machine() -> (Machine, Start) {
    Machine::start(&code(), ORIGIN, DeviceKey::generate().public())
}

fn console(start: &Start) -> Result<(Started, Keys), PairingError> {
    console::start(LOCATOR, SECRET, &[ORIGIN], start)
}

/// Both sides after messages 1 and 2.
fn met() -> (Claimant, Keys) {
    let (machine, start) = machine();
    let (started, keys) = console(&start).unwrap();
    (machine.started(&started).unwrap(), keys)
}

/// That neither side takes the other for one who knows the code.
fn assert_strangers(machine: Claimant, console: &Keys, what: &str) {
    let verdict = Verdict::Waiting { poll_seconds: 2 };
    assert_eq!(console.open(&machine.confirm(&claim())), Err(PairingError::Unproven), "{what}");
    assert_eq!(machine.confirmed(&console.confirmed(&verdict)), Err(PairingError::Unproven), "{what}");
}

/// Message 1 as `change` leaves it, to an honest console: refused, or the sides stay strangers.
fn assert_start_is_bound(what: &str, change: impl FnOnce(&mut Start)) {
    let (machine, mut start) = machine();
    change(&mut start);
    if let Ok((started, keys)) = console(&start) {
        match machine.started(&started) {
            Ok(claimant) => assert_strangers(claimant, &keys, what),
            Err(error) => panic!("{what}: an honest answer is refused: {error}"),
        }
    }
}

/// Message 2 as `change` leaves it, likewise.
fn assert_started_is_bound(what: &str, change: impl FnOnce(&mut Started)) {
    let (machine, start) = machine();
    let (mut started, keys) = console(&start).unwrap();
    change(&mut started);
    if let Ok(claimant) = machine.started(&started) {
        assert_strangers(claimant, &keys, what);
    }
}

#[test]
fn both_sides_meet() {
    let (machine, start) = machine();
    let (started, console) = console(&start).unwrap();
    let machine = machine.started(&started).unwrap();
    assert_eq!(machine.session(), started.session);
    assert_eq!(machine.number().len(), 6);
    assert_eq!(console.device_key(), start.device_key.0.as_slice());
    assert_eq!(console.origin(), ORIGIN);
    assert_eq!(console.open(&machine.confirm(&claim())).unwrap(), (claim(), machine.number()));
    for verdict in [
        Verdict::Waiting { poll_seconds: 2 },
        Verdict::Refused { reason: "No.".into() },
        Verdict::Intercepted { issuer: "CN=Proxy".into() },
    ] {
        assert_eq!(machine.confirmed(&console.confirmed(&verdict)).unwrap(), verdict);
    }
}

#[test]
fn what_is_kept_is_whole_and_what_is_shown_is_no_secret() {
    let (machine, console) = met();
    let (before, number) = (machine.confirm(&claim()), machine.number());
    let machine: Claimant = serde_json::from_str(&serde_json::to_string(&machine).unwrap()).unwrap();
    let console: Keys = serde_json::from_str(&serde_json::to_string(&console).unwrap()).unwrap();
    assert_eq!(console.open(&before).unwrap(), (claim(), number.clone()));
    assert_eq!(console.open(&machine.confirm(&claim())).unwrap(), (claim(), number));
    let verdict = Verdict::Waiting { poll_seconds: 2 };
    assert_eq!(machine.confirmed(&console.confirmed(&verdict)).unwrap(), verdict);

    let kept = serde_json::to_value(&machine).unwrap();
    let shown = format!("{machine:?} {console:?}");
    for key in ["transcript", "machine_mac", "machine_seal", "console_mac", "console_seal", "number"] {
        assert!(!shown.contains(kept["keys"][key].as_str().unwrap()), "{key} in {shown}");
    }
    assert!(!shown.contains(kept["seed"].as_str().unwrap()), "{shown}");
    let shown = format!("{:?}", self::machine().0);
    assert!(!shown.contains(SECRET) && shown.contains("seed: (secret)"), "{shown}");
}

#[test]
fn keys_of_another_length_are_not_read() {
    let (_, console) = met();
    let mut kept = serde_json::to_value(&console).unwrap();
    for text in ["", "AAAA", "?"] {
        kept["keys"]["machine_mac"] = text.into();
        assert!(serde_json::from_value::<Keys>(kept.clone()).is_err(), "{text:?}");
    }
}

#[test]
fn who_does_not_know_the_secret_stays_a_stranger() {
    let (machine, start) = machine();
    let (started, keys) = console::start(LOCATOR, "7739052", &[ORIGIN], &start).unwrap();
    let machine = machine.started(&started).unwrap();
    assert_strangers(machine, &keys, "another secret");
}

/// Somebody in between who has the code, and seeks that a person sees one number in two places.
#[test]
fn a_number_cannot_be_sought() {
    // As the console of the machine: when it has everything but message 3, any number may still come.
    let (machine, keys) = met();
    let numbers: std::collections::BTreeSet<_> =
        (0..200_u8).map(|seed| machine.keys.number(&[seed; 32])).collect();
    assert!(numbers.len() > 190, "{numbers:?}");
    // As the machine of the console: whatever it opens but what it committed to is refused.
    for bit in 0..32 * 8 {
        let mut opening = serde_json::to_value(machine.opening(&claim())).unwrap();
        let mut seed: Bytes = serde_json::from_value(opening["number_seed"].take()).unwrap();
        seed.0[bit / 8] ^= 1 << (bit % 8);
        opening["number_seed"] = serde_json::to_value(seed).unwrap();
        let (mac, sealed) = machine.keys.say(Side::Machine, &opening);
        assert_eq!(keys.open(&Confirm { mac, sealed }), Err(PairingError::Unproven), "bit {bit}");
    }
}

#[test]
fn a_decoy_has_the_shape_of_a_pairing_and_never_meets() {
    let (_, start) = machine();
    let shape =
        |started: &Started| (started.version, started.pake.0.len(), started.pake.0[0], started.nonce.0.len());
    let (real, _) = console(&start).unwrap();
    let (machine, start) = machine();
    let (started, keys) = console::decoy(LOCATOR, &[ORIGIN], &start).unwrap();
    assert_eq!(shape(&started), shape(&real));
    assert_strangers(machine.started(&started).unwrap(), &keys, "a decoy");

    for (change, error) in [
        (Start { version: 7, ..start.clone() }, PairingError::Version(7)),
        (Start { origin: "https://other".into(), ..start.clone() }, PairingError::Origin),
        (Start { nonce: Bytes(vec![0; 31]), ..start.clone() }, PairingError::Malformed("nonce")),
        (Start { commitment: Bytes(vec![0; 33]), ..start.clone() }, PairingError::Malformed("commitment")),
    ] {
        assert_eq!(console(&change).unwrap_err(), error);
        assert_eq!(
            console::decoy(LOCATOR, &[ORIGIN], &change).unwrap_err(),
            error,
            "and a decoy refuses the same"
        );
    }
}

#[test]
fn every_bit_of_message_1_is_bound() {
    type Field = fn(&mut Start) -> &mut Vec<u8>;
    let fields: [(&str, Field); 4] = [
        ("pake", |start| &mut start.pake.0),
        ("nonce", |start| &mut start.nonce.0),
        ("device_key", |start| &mut start.device_key.0),
        ("commitment", |start| &mut start.commitment.0),
    ];
    for (name, field) in fields {
        let bits = field(&mut machine().1).len() * 8;
        for bit in 0..bits {
            assert_start_is_bound(&format!("bit {bit} of {name}"), |start| {
                field(start)[bit / 8] ^= 1 << (bit % 8)
            });
        }
    }
    for bit in 0..32 {
        assert_start_is_bound(&format!("bit {bit} of version"), |start| start.version ^= 1 << bit);
    }
}

#[test]
fn every_bit_of_message_2_is_bound() {
    for bit in 0..33 * 8 {
        assert_started_is_bound(&format!("bit {bit} of pake"), |started| {
            started.pake.0[bit / 8] ^= 1 << (bit % 8)
        });
    }
    for bit in 0..32 * 8 {
        assert_started_is_bound(&format!("bit {bit} of nonce"), |started| {
            started.nonce.0[bit / 8] ^= 1 << (bit % 8)
        });
    }
    for bit in 0..32 {
        assert_started_is_bound(&format!("bit {bit} of version"), |started| started.version ^= 1 << bit);
    }
}

#[test]
fn every_bit_of_messages_3_and_4_is_bound() {
    let (machine, console) = met();
    let confirm = machine.confirm(&claim());
    let confirmed = console.confirmed(&Verdict::Waiting { poll_seconds: 2 });
    for (mac, sealed, side) in
        [(&confirm.mac, &confirm.sealed, "3"), (&confirmed.mac, &confirmed.sealed, "4")]
    {
        for bit in 0..(mac.0.len() + sealed.0.len()) * 8 {
            let (mut mac, mut sealed) = (mac.clone(), sealed.clone());
            match bit / 8 {
                at if at < mac.0.len() => mac.0[at] ^= 1 << (bit % 8),
                at => sealed.0[at - mac.0.len()] ^= 1 << (bit % 8),
            }
            let error = match side {
                "3" => console.open(&Confirm { mac, sealed }).unwrap_err(),
                _ => machine.confirmed(&Confirmed { mac, sealed }).unwrap_err(),
            };
            assert_eq!(error, PairingError::Unproven, "bit {bit} of message {side}");
        }
    }
}

#[test]
fn a_swapped_device_key_an_origin_a_locator_are_noticed() {
    let thief = DeviceKey::generate().public();
    assert_start_is_bound("device key", |start| start.device_key = Bytes(thief.to_vec()));

    // A machine that means another console, whose message somebody rewrites for this one.
    let (machine, mut start) = Machine::start(&code(), "https://elsewhere.example.com", thief);
    assert_eq!(console(&start).unwrap_err(), PairingError::Origin);
    start.origin = ORIGIN.into();
    let (started, keys) = console(&start).unwrap();
    assert_strangers(machine.started(&started).unwrap(), &keys, "origin");

    let (machine, start) = self::machine();
    let (started, keys) = console::start("4822", SECRET, &[ORIGIN], &start).unwrap();
    assert_strangers(machine.started(&started).unwrap(), &keys, "locator");
}

#[test]
fn all_origins_of_a_console_are_its_own() {
    let origins = ["https://console.example.com".to_owned(), ORIGIN.to_owned()];
    let (_, start) = machine();
    assert!(console::start(LOCATOR, SECRET, &origins, &start).is_ok());
    assert_eq!(console::start(LOCATOR, SECRET, &[] as &[&str], &start).unwrap_err(), PairingError::Origin);
}

#[test]
fn an_element_that_is_reflected_is_refused() {
    for side in *b"AB" {
        let (machine, start) = machine();
        let (mut started, _) = console(&start).unwrap();
        started.pake.0 = [&[side], &start.pake.0[1..]].concat();
        assert_eq!(machine.started(&started).unwrap_err(), PairingError::Malformed("pake"));
    }
}

/// Encodings that no honest peer sends, 32 bytes each.
fn improper() -> Vec<(&'static str, [u8; 32])> {
    let little_endian = |first: u8, last: u8, between: u8| {
        let mut bytes = [between; 32];
        (bytes[0], bytes[31]) = (first, last);
        bytes
    };
    let mut all: Vec<_> =
        EIGHT_TORSION.iter().map(|point| ("of low order", point.compress().to_bytes())).collect();
    for torsion in &EIGHT_TORSION[1..] {
        all.push(("with a part of low order", (ED25519_BASEPOINT_POINT + torsion).compress().to_bytes()));
    }
    all.push(("identity with a sign", little_endian(1, 0x80, 0)));
    // y is p, p + 1, …, 2^255 - 1, where p = 2^255 - 19: each has a shorter way to write it.
    for above in 0..19 {
        all.push(("y above p", little_endian(0xed + above, 0x7f, 0xff)));
        all.push(("y above p, with a sign", little_endian(0xed + above, 0xff, 0xff)));
    }
    let off_curve =
        (0..=255).map(|y| little_endian(y, 0, 0)).find(|y| CompressedEdwardsY(*y).decompress().is_none());
    all.push(("not on the curve", off_curve.unwrap()));
    all
}

#[test]
fn elements_that_no_honest_peer_sends_are_refused() {
    for (what, bytes) in improper() {
        let (machine, start) = machine();
        let (mut started, _) = console(&start).unwrap();
        let to_console = Start { pake: Bytes([b"A".as_slice(), &bytes].concat()), ..start.clone() };
        assert_eq!(
            console(&to_console).unwrap_err(),
            PairingError::Malformed("pake"),
            "{what}: {bytes:02x?}"
        );
        let to_console = Start { device_key: Bytes(bytes.to_vec()), ..start };
        assert_eq!(
            console(&to_console).unwrap_err(),
            PairingError::Malformed("device_key"),
            "{what}: {bytes:02x?}"
        );
        started.pake.0 = [b"B".as_slice(), &bytes].concat();
        assert_eq!(
            machine.started(&started).unwrap_err(),
            PairingError::Malformed("pake"),
            "{what}: {bytes:02x?}"
        );
    }
}

#[test]
fn lengths_are_exact() {
    let (_, start) = machine();
    let (started, _) = console(&start).unwrap();
    let refused_start = |start: Start| console(&start).unwrap_err();
    let refused_started = |started: Started| machine().0.started(&started).unwrap_err();
    for length in [0, 1, 31, 32, 33, 34, 65, 100_000] {
        let bytes =
            |first: u8| Bytes([vec![first; length.min(1)], vec![0x42; length.saturating_sub(1)]].concat());
        if length != 33 {
            let field = PairingError::Malformed("pake");
            assert_eq!(refused_start(Start { pake: bytes(b'A'), ..start.clone() }), field, "{length}");
            assert_eq!(refused_started(Started { pake: bytes(b'B'), ..started.clone() }), field, "{length}");
        }
        if length != 32 {
            let field = PairingError::Malformed("nonce");
            assert_eq!(refused_start(Start { nonce: bytes(0), ..start.clone() }), field, "{length}");
            assert_eq!(refused_started(Started { nonce: bytes(0), ..started.clone() }), field, "{length}");
            let field = PairingError::Malformed("device_key");
            assert_eq!(refused_start(Start { device_key: bytes(0), ..start.clone() }), field, "{length}");
            let field = PairingError::Malformed("commitment");
            assert_eq!(refused_start(Start { commitment: bytes(0), ..start.clone() }), field, "{length}");
        }
    }
}

#[test]
fn messages_of_another_exchange_or_direction_are_not_taken() {
    let (machine, console) = met();
    let (other_machine, other_console) = met();
    let verdict = Verdict::Waiting { poll_seconds: 2 };
    assert_eq!(console.open(&other_machine.confirm(&claim())), Err(PairingError::Unproven));
    assert_eq!(machine.confirmed(&other_console.confirmed(&verdict)), Err(PairingError::Unproven));
    let said = machine.confirm(&claim());
    let echo = Confirmed { mac: said.mac, sealed: said.sealed };
    assert_eq!(machine.confirmed(&echo), Err(PairingError::Unproven), "its own words");
    let said = console.confirmed(&verdict);
    assert_eq!(
        console.open(&Confirm { mac: said.mac, sealed: said.sealed }),
        Err(PairingError::Unproven),
        "its own words"
    );
}

#[test]
fn a_replayed_message_1_makes_a_new_exchange() {
    let (machine, start) = machine();
    let (first, first_keys) = console(&start).unwrap();
    let (second, second_keys) = console(&start).unwrap();
    assert_ne!((first.session, &first.pake, &first.nonce), (second.session, &second.pake, &second.nonce));
    let machine = machine.started(&second).unwrap();
    assert_eq!(first_keys.open(&machine.confirm(&claim())), Err(PairingError::Unproven));
    assert!(second_keys.open(&machine.confirm(&claim())).is_ok());
}

#[test]
fn what_is_too_long_or_no_claim_is_refused() {
    let (machine, console) = met();
    let long = Claim { hostname: "x".repeat(MAX_MESSAGE), ..claim() };
    assert_eq!(console.open(&machine.confirm(&long)), Err(PairingError::Malformed("sealed")));
    // The right MAC over what is no claim: the machine knows the code, but not this protocol.
    let (machine, console) = met();
    let (mac, sealed) = machine.keys.say(Side::Machine, &["not", "a", "claim"]);
    assert_eq!(console.open(&Confirm { mac, sealed }), Err(PairingError::Malformed("sealed")));
    // The right MAC over too few bytes.
    let mac = machine.keys.mac(Side::Machine, &[0; 5]);
    assert_eq!(
        console.open(&Confirm { mac, sealed: Bytes(vec![0; 5]) }),
        Err(PairingError::Malformed("sealed"))
    );
    // And over what was sealed with another key.
    let (_, sealed) = machine.keys.say(Side::Console, &claim());
    let mac = machine.keys.mac(Side::Machine, &sealed.0);
    assert_eq!(console.open(&Confirm { mac, sealed }), Err(PairingError::Malformed("sealed")));
}

#[test]
fn fields_of_a_newer_peer_are_tolerated() {
    fn with_more<T: Serialize + DeserializeOwned>(value: &T) -> T {
        let mut json = serde_json::to_value(value).unwrap();
        json["of-a-newer-version"] = serde_json::json!({ "any": ["thing"] });
        serde_json::from_value(json).unwrap()
    }
    let (machine, start) = machine();
    let (started, console) = console(&with_more(&start)).unwrap();
    let machine = machine.started(&with_more(&started)).unwrap();
    assert_eq!(console.open(&with_more(&machine.confirm(&claim()))).unwrap().0, claim());
    let verdict = Verdict::Refused { reason: "No.".into() };
    assert_eq!(machine.confirmed(&with_more(&console.confirmed(&verdict))).unwrap(), verdict);
    assert_eq!(with_more(&claim()), claim());
    assert_eq!(with_more(&verdict), verdict);
    let newer = serde_json::json!({ "verdict": "postponed", "until": 3 });
    assert_eq!(serde_json::from_value::<Verdict>(newer).unwrap(), Verdict::Unknown);
}

fn bytes(longest: usize) -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..longest).prop_map(Bytes)
}

proptest! {
    #[test]
    fn no_message_1_panics(
        (version, origin) in (0u32..3, prop_oneof![Just(ORIGIN.to_owned()), "\\PC{0,40}"]),
        (pake, nonce, device_key, commitment) in (bytes(70), bytes(70), bytes(70), bytes(70)),
    ) {
        let _ = console(&Start { version, origin, pake, nonce, device_key, commitment });
    }

    #[test]
    fn no_message_2_panics((version, pake, nonce) in (0u32..3, bytes(70), bytes(70))) {
        let _ = machine().0.started(&Started { version, session: Uuid::nil(), pake, nonce });
    }

    #[test]
    fn no_message_3_or_4_opens(mac in bytes(70), sealed in bytes(200)) {
        let (machine, console) = met();
        prop_assert_eq!(console.open(&Confirm { mac: mac.clone(), sealed: sealed.clone() }), Err(PairingError::Unproven));
        prop_assert_eq!(machine.confirmed(&Confirmed { mac, sealed }), Err(PairingError::Unproven));
    }

    /// Of the text of message 1 or 2, as it travels.
    #[test]
    fn a_bit_flipped_in_the_text_of_a_message_never_pairs(position in any::<prop::sample::Index>(), bit in 0u8..8, second: bool) {
        let (machine, start) = machine();
        let flip = |text: String| {
            let mut text = text.into_bytes();
            let at = position.index(text.len());
            text[at] ^= 1 << bit;
            text
        };
        if second {
            let (started, keys) = console(&start).unwrap();
            let changed = serde_json::from_slice::<Started>(&flip(serde_json::to_string(&started).unwrap()));
            if let Ok(changed) = changed && changed != started && let Ok(claimant) = machine.started(&changed) {
                // The session only names: another finds nobody in the console.
                if changed.session == started.session {
                    assert_strangers(claimant, &keys, "message 2");
                }
            }
        } else {
            let changed = serde_json::from_slice::<Start>(&flip(serde_json::to_string(&start).unwrap()));
            if let Ok(changed) = changed && changed != start && let Ok((started, keys)) = console(&changed) {
                assert_strangers(machine.started(&started).unwrap(), &keys, "message 1");
            }
        }
    }
}
