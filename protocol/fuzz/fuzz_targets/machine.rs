//! Messages 2 and 4, as a machine takes them: nothing is believed that does not come from one who knows the secret.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::machine::{Claimant, Machine};
use protocol::pairing::{Confirmed, Start, Started, console};

const ORIGIN: &str = "https://console.example.com";

fn started() -> (Machine, Start) {
    let code = Code::new("4821", "7739051").expect("it is one");
    Machine::start(&code, ORIGIN, DeviceKey::generate().public())
}

static CLAIMANT: LazyLock<Claimant> = LazyLock::new(|| {
    let (machine, start) = started();
    let (answer, _) = console::start("4821", "7739051", &[ORIGIN], &start).expect("it is honest");
    machine.started(&answer).expect("so is this")
});

fuzz_target!(|text: &[u8]| {
    if let Ok(answer) = serde_json::from_slice::<Started>(text)
        && let Ok(claimant) = started().0.started(&answer)
    {
        assert_eq!((answer.pake.0.len(), answer.nonce.0.len()), (33, 32));
        assert_eq!(claimant.session(), answer.session);
        assert_eq!(claimant.number().len(), 6);
    }
    if let Ok(answer) = serde_json::from_slice::<Confirmed>(text) {
        assert!(CLAIMANT.confirmed(&answer).is_err());
    }
});
