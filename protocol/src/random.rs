//! Random numbers of the operating system.

use ring::rand::{SecureRandom as _, SystemRandom};

/// So many random bytes.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("getrandom(2) does not fail once the machine is up, and waits before");
    bytes
}
