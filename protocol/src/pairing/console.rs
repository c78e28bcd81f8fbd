//! The console's side: side B of SPAKE2. Counting attempts, keeping sessions and deciding are not here.

use serde::{Deserialize, Serialize};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keys::{self, Side};
use super::{
    Claim, Confirm, Confirmed, NONCE, Opening, PairingError, Start, Started, Verdict, commitment, element,
    identities,
};
use crate::bytes::Bytes;
use crate::{VERSION, random};

/// After message 2: what the console keeps, sealed, until the pairing is over.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Keys {
    device_key: [u8; 32],
    commitment: [u8; 32],
    origin: String,
    pub(super) keys: keys::Keys,
}

/// Takes message 1 to `locator` and answers it with message 2. `secret` are the seven digits; `origins` are all under which
/// this console is known. The attempt must have been taken off, and stored, before the answer goes out.
///
/// # Errors
/// Where no honest machine could have sent it: that depends on the message alone, and costs no attempt.
pub fn start(
    locator: &str,
    secret: &str,
    origins: &[impl AsRef<str>],
    start: &Start,
) -> Result<(Started, Keys), PairingError> {
    start_with(locator, secret.as_bytes(), origins, start, (Uuid::new_v4(), random::bytes()), Spake2::start_b)
}

/// The same for a locator that is nobody's, or no longer: the same work and the same shape, so that nobody can tell. The
/// secret is no digits, so nothing that a machine sends will ever open with these keys.
///
/// # Errors
/// The same.
pub fn decoy(
    locator: &str,
    origins: &[impl AsRef<str>],
    start: &Start,
) -> Result<(Started, Keys), PairingError> {
    let secret: [u8; 32] = random::bytes();
    start_with(locator, &secret, origins, start, (Uuid::new_v4(), random::bytes()), Spake2::start_b)
}

pub(super) fn start_with(
    locator: &str,
    secret: &[u8],
    origins: &[impl AsRef<str>],
    start: &Start,
    (session, nonce): (Uuid, [u8; NONCE]),
    start_b: impl FnOnce(&Password, &Identity, &Identity) -> (Spake2<Ed25519Group>, Vec<u8>),
) -> Result<(Started, Keys), PairingError> {
    if start.version != VERSION {
        return Err(PairingError::Version(start.version));
    }
    if !origins.iter().any(|origin| origin.as_ref() == start.origin) {
        return Err(PairingError::Origin);
    }
    if start.nonce.0.len() != NONCE {
        return Err(PairingError::Malformed("nonce"));
    }
    // A key of low order would take any signature for its own.
    let device_key = start.device_key.0.as_slice().try_into().ok().filter(|key| element::is_proper(*key));
    let device_key = device_key.ok_or(PairingError::Malformed("device_key"))?;
    let commitment = start.commitment.0.as_slice().try_into();
    let commitment = commitment.map_err(|_| PairingError::Malformed("commitment"))?;
    element::of(&start.pake.0).ok_or(PairingError::Malformed("pake"))?;
    let (machine, console) = identities(locator, &start.origin);
    let (spake2, pake) = start_b(&Password::new(secret), &machine, &console);
    let shared = Zeroizing::new(spake2.finish(&start.pake.0).map_err(|_| PairingError::Malformed("pake"))?);
    let started = Started { version: VERSION, session, pake: Bytes(pake), nonce: Bytes(nonce.to_vec()) };
    let keys = keys::Keys::derive(locator, start, &started, &shared);
    Ok((started, Keys { device_key, commitment, origin: start.origin.clone(), keys }))
}

impl Keys {
    /// Takes message 3: the claim, and six digits to show, for people to compare with the machine's.
    ///
    /// # Errors
    /// [`PairingError::Unproven`] where the machine does not know the code, or looks for a number that it likes better than
    /// the one that message 1 committed it to; [`PairingError::Malformed`] where it does, but what it says is no claim.
    pub fn open(&self, confirm: &Confirm) -> Result<(Claim, String), PairingError> {
        let opening: Opening<Claim> = self.keys.hear(Side::Machine, &confirm.mac, &confirm.sealed)?;
        if commitment(&opening.number_seed.0) != self.commitment {
            return Err(PairingError::Unproven);
        }
        Ok((opening.claim, self.keys.number(&opening.number_seed.0)))
    }

    /// Message 4.
    #[must_use]
    pub fn confirmed(&self, verdict: &Verdict) -> Confirmed {
        let (mac, sealed) = self.keys.say(Side::Console, verdict);
        Confirmed { mac, sealed }
    }

    /// The machine's key, from message 1: once [`Keys::open`] was right, known to be its. The certificate request must be
    /// for this key.
    #[must_use]
    pub fn device_key(&self) -> [u8; 32] {
        self.device_key
    }

    /// Where the machine reached the console, from message 1.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }
}
