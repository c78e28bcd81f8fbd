//! Pairing: how a machine and a console that share twelve digits come to trust each other.
//!
//! ```text
//! machine                                                         console
//!   1 POST /v1/pairings/{locator}/start    Start      ─────────>   one attempt is taken off
//!   2                                      Started    <─────────
//!   3 POST /v1/pairings/{session}/confirm  Confirm    ─────────>   MAC; sealed Claim
//!   4                                      Confirmed  <─────────   MAC; sealed Verdict
//! ```
//!
//! Neither side trusts anything before the other's MAC is right. This module is the messages; `machine` and
//! `console` are the two sides, without network, files or clock.

pub mod console;
mod element;
mod keys;
pub mod machine;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use spake2::Identity;
use uuid::Uuid;

use crate::VERSION;
use crate::bytes::Bytes;

/// The largest of the four messages, in bytes of JSON.
pub const MAX_MESSAGE: usize = 64 * 1024;
/// Bytes of the nonces in messages 1 and 2.
const NONCE: usize = 32;

/// Why a message is not taken. It names nothing but the message itself: whether a locator exists, or why a code does not
/// hold, cannot be told from it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PairingError {
    /// The versions differ.
    #[error("The other side speaks version {0} of the protocol, this one version {VERSION}")]
    Version(u32),
    /// The machine wanted to reach another console, or this one under a name that it does not know.
    #[error("The machine means a console with another address than this one has")]
    Origin,
    /// A field is nothing that an honest peer sends: the wrong length, no element of the group, reflected.
    #[error("`{0}` of the message is malformed")]
    Malformed(&'static str),
    /// The MAC is wrong: another code, or somebody in between. Or message 3 does not open what message 1 committed to.
    #[error("The other side did not prove that it knows the pairing code")]
    Unproven,
}

/// SPAKE2's identities of machine and console. The locator is public: it is named here, and no part of the password.
fn identities(locator: &str, origin: &str) -> (Identity, Identity) {
    (
        Identity::new(format!("gateway:{locator}").as_bytes()),
        Identity::new(format!("console:{origin}").as_bytes()),
    )
}

/// What message 1 says of a number's seed that message 3 opens. The seed is the machine's alone while the console chooses its
/// part of message 2, and fixed before it sees that: so neither side, nor who plays both, can look for keys that give the
/// number that the person expects.
fn commitment(seed: &[u8]) -> [u8; 32] {
    digest(&SHA256, seed).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What message 3 seals.
#[derive(Deserialize, Serialize)]
struct Opening<C> {
    number_seed: Bytes,
    #[serde(flatten)]
    claim: C,
}

/// Message 1: to `/v1/pairings/{locator}/start`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Start {
    /// [`crate::VERSION`] of the machine.
    pub version: u32,
    /// Where the machine believes to speak: scheme, host and, unless it is the scheme's own, port.
    #[cfg_attr(feature = "openapi", schema(example = "https://console.example.com"))]
    pub origin: String,
    /// SPAKE2's message of side A: `A` and 32 bytes.
    pub pake: Bytes,
    /// 32 bytes.
    pub nonce: Bytes,
    /// The machine's Ed25519 public key, 32 bytes.
    pub device_key: Bytes,
    /// SHA-256 of 32 random bytes that message 3 opens: the number that people compare is made of them.
    pub commitment: Bytes,
}

/// Message 2.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Started {
    /// The version that both speak.
    pub version: u32,
    /// Names this exchange.
    pub session: Uuid,
    /// SPAKE2's message of side B: `B` and 32 bytes.
    pub pake: Bytes,
    /// 32 bytes.
    pub nonce: Bytes,
}

/// Message 3: to `/v1/pairings/{session}/confirm`. The same message may come again and gets the same answer, or a newer
/// [`Verdict`] where that was [`Verdict::Waiting`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Confirm {
    /// HMAC-SHA-256 over the transcript and SHA-256 of `sealed`, by the machine's MAC key.
    pub mac: Bytes,
    /// A [`Claim`] as JSON, and in it as `number_seed` what [`Start`] committed to; by ChaCha20-Poly1305 (RFC 8439) under
    /// the machine's encryption key: a random nonce of 12 bytes, then ciphertext and tag. Associated data is the transcript.
    pub sealed: Bytes,
}

/// Message 4.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Confirmed {
    /// HMAC-SHA-256 over the transcript and SHA-256 of `sealed`, by the console's MAC key.
    pub mac: Bytes,
    /// A [`Verdict`] as JSON, sealed as in [`Confirm`] under the console's encryption key.
    pub sealed: Bytes,
}

/// What the machine says of itself once it is known to know the secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim {
    /// PKCS #10, DER, signed with the device key.
    pub certificate_request: Bytes,
    /// The virtual machine's BIOS UUID, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vm_uuid: Option<String>,
    /// Its host name.
    pub hostname: String,
    /// Its addresses, as text.
    pub addresses: Vec<String>,
    /// Of its software.
    pub software: String,
    /// Its clock, RFC 3339.
    pub clock: jiff::Timestamp,
    /// The certificates that it was shown in TLS, DER, leaf first.
    pub chain: Vec<Bytes>,
    /// Whether a proxy CA that it was given vouches for that chain: then interception is meant.
    #[serde(default)]
    pub by_proxy_ca: bool,
}

/// What the console answers to a [`Claim`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Paired.
    Granted(Box<Grant>),
    /// A person must approve first, comparing numbers; ask again with the same message.
    Waiting {
        /// After how many seconds.
        poll_seconds: u32,
    },
    /// TLS was ended by somebody who is neither the console nor a proxy that the machine was told of. Not paired.
    Intercepted {
        /// Who signed the certificate that the machine was shown.
        issuer: String,
    },
    /// A person said no, or the request makes no sense. Not paired.
    Refused {
        /// One sentence.
        reason: String,
    },
    /// Of a newer console.
    #[serde(other)]
    Unknown,
}

/// What a machine needs from now on.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Grant {
    /// The gateway's id.
    pub gateway: Uuid,
    /// The name it has in the console.
    pub name: String,
    /// Client certificate and its chain, PEM.
    pub certificate: String,
    /// CAs that the console's own certificate comes from, PEM: all that is trusted from now on (besides a proxy CA).
    pub ca_bundle: String,
    /// Where the API is; the origin that was paired with.
    pub origin: String,
    /// The console's clock.
    pub time: jiff::Timestamp,
    /// How often it wants to hear from the machine.
    pub heartbeat_seconds: u32,
}
