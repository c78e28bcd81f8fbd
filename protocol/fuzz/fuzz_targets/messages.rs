//! Every message is read or refused, and says the same once it is written again.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use protocol::code::Code;
use protocol::link::{About, Downstream, Renewal, Renewed, Upstream};
use protocol::pairing::console::Keys;
use protocol::pairing::machine::Claimant;
use protocol::pairing::{Claim, Grant, Verdict};
use protocol::problem::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(text: &[u8]) -> Option<T> {
    serde_json::from_slice(text).ok()
}

fn assert_same<T: Debug + DeserializeOwned + PartialEq + Serialize>(value: Option<T>) {
    if let Some(value) = value {
        let text = serde_json::to_vec(&value).expect("what is read can be written");
        assert_eq!(read::<T>(&text), Some(value));
    }
}

fuzz_target!(|text: &[u8]| {
    let mut upstream = read::<Upstream>(text);
    if let Some(heartbeat) = upstream.as_mut().and_then(|upstream| upstream.heartbeat.as_mut()) {
        // serde_json's reading of a fraction may be off by its last bit.
        heartbeat.metrics.load = heartbeat.metrics.load.trunc().clamp(-1e6, 1e6);
    }
    assert_same(upstream);
    // Arguments of commands are anything, so fractions too.
    if let Some(mut downstream) = read::<Downstream>(text) {
        for command in &mut downstream.commands {
            command.arguments.take();
        }
        assert_same(Some(downstream));
    }
    assert_same(read::<Renewal>(text));
    assert_same(read::<Renewed>(text));
    assert_same(read::<About>(text));
    assert_same(read::<Claim>(text));
    assert_same(read::<Verdict>(text));
    assert_same(read::<Grant>(text));
    assert_same(read::<Problem>(text));
    // What is kept is outside data too.
    if let Some(claimant) = read::<Claimant>(text) {
        let _ = claimant.number();
    }
    let _ = read::<Keys>(text);
    if let Ok(text) = str::from_utf8(text)
        && let Ok(code) = Code::parse(text)
    {
        assert_eq!(Code::new(code.locator(), code.secret()), Some(code));
    }
});
