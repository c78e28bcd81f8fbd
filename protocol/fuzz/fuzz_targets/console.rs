//! Messages 1 and 3, as a console takes them: answered in one shape or refused, and nobody who does not know the secret gets
//! in.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::console::{self, Keys};
use protocol::pairing::machine::Machine;
use protocol::pairing::{Confirm, Start};

const ORIGIN: &str = "https://console.example.com";

static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let code = Code::new("4821", "7739051").expect("it is one");
    let (_, start) = Machine::start(&code, ORIGIN, DeviceKey::generate().public());
    console::start("4821", "7739051", &[ORIGIN], &start).expect("it is honest").1
});

fuzz_target!(|text: &[u8]| {
    if let Ok(start) = serde_json::from_slice::<Start>(text) {
        let real = console::start("4821", "7739051", &[ORIGIN], &start);
        let decoy = console::decoy("4821", &[ORIGIN], &start);
        match (real, decoy) {
            (Ok((real, keys)), Ok((decoy, _))) => {
                assert_eq!((real.pake.0.len(), real.nonce.0.len()), (33, 32));
                assert_eq!((decoy.pake.0.len(), decoy.nonce.0.len()), (33, 32));
                assert_eq!(keys.origin(), ORIGIN);
                assert_eq!(keys.device_key(), start.device_key.0.as_slice());
            }
            (Err(real), Err(decoy)) => assert_eq!(real, decoy),
            (real, decoy) => panic!("{real:?}, but {decoy:?}"),
        }
    }
    if let Ok(confirm) = serde_json::from_slice::<Confirm>(text) {
        assert!(KEYS.open(&confirm).is_err());
    }
});
