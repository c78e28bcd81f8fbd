//! What the gateway installer, the gateway's agent and the console say to each other, and nothing else: no network, no
//! files, no clock of its own.
//!
//! ```text
//! code ──> pairing (SPAKE2, key confirmation) ──> certificate ──> link: heartbeats, entries up, commands down
//! ```
//!
//! Documented in `docs/pairing.md`. Unknown fields are tolerated everywhere, so that either side may be the newer one;
//! [`VERSION`] changes only where that is not enough.

pub mod bytes;
pub mod code;
pub mod device_key;
pub mod link;
pub mod pairing;
pub mod problem;
mod random;
pub mod secret;
pub mod signature;
#[cfg(test)]
mod testdata;

/// The version of the protocol.
pub const VERSION: u32 = 1;
