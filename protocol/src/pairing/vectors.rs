//! Test vectors of a whole pairing: everything that is random otherwise is given.

use rand_core::{CryptoRng, RngCore};
use serde_json::{Value, json};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use uuid::Uuid;

use super::keys::Side;
use super::machine::Machine;
use super::{Claim, Confirm, Confirmed, Verdict, console, identities};
use crate::bytes::Bytes;
use crate::code::Code;
use crate::testdata;

/// Gives one scalar below the group's order, for those who take 64 bytes and reduce them.
struct Scalar([u8; 32]);

impl RngCore for Scalar {
    fn next_u32(&mut self) -> u32 {
        unreachable!("spake2 fills bytes")
    }

    fn next_u64(&mut self) -> u64 {
        unreachable!("spake2 fills bytes")
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), 64);
        bytes.fill(0);
        bytes[..32].copy_from_slice(&self.0);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Scalar {}

/// Bytes that look like something, different for each `first`; the last is below 16, so that they are a scalar as well.
fn filled<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [0; N];
    for (byte, at) in bytes.iter_mut().zip(0u8..) {
        *byte = first.wrapping_add(at.wrapping_mul(37));
    }
    bytes[N - 1] &= 0x0f;
    bytes
}

fn vector(code: &str, origin: &str, first: u8, claim: &Value, verdicts: &[Value]) -> Value {
    let code = Code::parse(code).unwrap();
    let device_key = testdata::device_key(filled(first)).public();
    let (x, y) = (filled(first.wrapping_add(1)), filled(first.wrapping_add(2)));
    let session = Uuid::from_bytes(filled(first.wrapping_add(3)));
    let nonces = (filled(first.wrapping_add(4)), filled(first.wrapping_add(5)));
    let seed: [u8; 32] = filled(first.wrapping_add(20));

    let a = |pw: &Password, a: &Identity, b: &Identity| Spake2::start_a_with_rng(pw, a, b, Scalar(x));
    let b = |pw: &Password, a: &Identity, b: &Identity| Spake2::start_b_with_rng(pw, a, b, Scalar(y));
    let (machine, start) = Machine::start_with(&code, origin, device_key, (nonces.0, seed), a);
    let secret = code.secret().as_bytes();
    let (started, console) =
        console::start_with(code.locator(), secret, &[origin], &start, (session, nonces.1), b).unwrap();
    let machine = machine.started(&started).unwrap();

    // The same once more, for what no message shows.
    let (machine_name, console_name) = identities(code.locator(), origin);
    let (spake2, _): (Spake2<Ed25519Group>, _) = a(&Password::new(secret), &machine_name, &console_name);
    let shared = spake2.finish(&started.pake.0).unwrap();

    let claim: Claim = serde_json::from_value(claim.clone()).unwrap();
    let nonce = filled(first.wrapping_add(6));
    let (mac, sealed) = machine.keys.say_with(Side::Machine, &machine.opening(&claim), nonce);
    let confirm = Confirm { mac, sealed };
    let number = machine.number();
    assert_eq!(console.open(&confirm).unwrap(), (claim.clone(), number.clone()));
    let confirmed: Vec<_> = (7..)
        .zip(verdicts)
        .map(|(n, verdict)| {
            let verdict: Verdict = serde_json::from_value(verdict.clone()).unwrap();
            let nonce = filled(first.wrapping_add(n));
            let (mac, sealed) = console.keys.say_with(Side::Console, &verdict, nonce);
            let confirmed = Confirmed { mac, sealed };
            assert_eq!(machine.confirmed(&confirmed).unwrap(), verdict);
            let text = serde_json::to_string(&verdict).unwrap();
            json!({ "nonce": Bytes(nonce.to_vec()), "verdict": text, "message": confirmed })
        })
        .collect();
    let keys = serde_json::to_value(&console.keys).unwrap();
    assert_eq!(keys, serde_json::to_value(&machine.keys).unwrap());
    json!({
        "code": code.expose().expose(),
        "machine_scalar": Bytes(x.to_vec()),
        "console_scalar": Bytes(y.to_vec()),
        "number_seed": Bytes(seed.to_vec()),
        "start": start,
        "started": started,
        "shared_key": Bytes(shared),
        "transcript": keys["transcript"],
        "machine_mac_key": keys["machine_mac"],
        "machine_seal_key": keys["machine_seal"],
        "console_mac_key": keys["console_mac"],
        "console_seal_key": keys["console_seal"],
        "number_key": keys["number"],
        "number": number,
        "claim": serde_json::to_string(&machine.opening(&claim)).unwrap(),
        "confirm_nonce": Bytes(nonce.to_vec()),
        "confirm": confirm,
        "confirmed": confirmed,
    })
}

#[test]
fn a_whole_pairing() {
    let bare = json!({
        "certificate_request": "MA==", "hostname": "edge-01", "addresses": [], "software": "0.1.0",
        "clock": "2027-01-15T08:00:00Z", "chain": [],
    });
    let full = json!({
        "certificate_request": "MIIBAA==", "vm_uuid": "4207f9a1-52d1-4e0c-9d1b-3fd2a2a7e3f1", "hostname": "edge-zürich",
        "addresses": ["192.0.2.10", "2001:db8::10"], "software": "0.1.0", "clock": "2027-01-15T08:00:00.5Z",
        "chain": ["MAA=", "MAEA"], "by_proxy_ca": true,
    });
    let granted = json!({
        "verdict": "granted", "gateway": "0198f1f0-3c1e-7cc0-8000-000000000001", "name": "edge-01",
        "certificate": "-----BEGIN CERTIFICATE-----\n", "ca_bundle": "-----BEGIN CERTIFICATE-----\n",
        "origin": "https://console.example.com", "time": "2027-01-15T08:00:01Z", "heartbeat_seconds": 30,
    });
    let waiting = json!({ "verdict": "waiting", "poll_seconds": 2 });
    let intercepted = json!({ "verdict": "intercepted", "issuer": "CN=Inspection" });
    let refused = json!({ "verdict": "refused", "reason": "An administrator refused this machine." });
    let vectors = json!([
        vector("4821 7739 0515", "https://console.example.com", 1, &bare, &[waiting.clone(), granted]),
        vector("0000 0000 0000", "https://[2001:db8::1]:8443", 90, &full, &[waiting, refused, intercepted]),
    ]);
    testdata::assert_file("pairing.json", &vectors);
}
