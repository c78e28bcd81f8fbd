//! The machine's side: side A of SPAKE2.

use serde::{Deserialize, Serialize};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keys::{Key, Keys, Side};
use super::{
    Claim, Confirm, Confirmed, NONCE, Opening, PairingError, Start, Started, Verdict, commitment, element,
    identities,
};
use crate::bytes::Bytes;
use crate::code::Code;
use crate::{VERSION, random};

/// After message 1. Whoever loses it begins anew.
#[derive(Debug)]
pub struct Machine {
    locator: String,
    start: Start,
    seed: Key,
    spake2: Spake2<Ed25519Group>,
}

impl Machine {
    /// Begins: message 1, for the console at `origin` (`https://host[:port]`, as the WHATWG URL standard serializes it),
    /// from the machine whose public [`DeviceKey`](crate::device_key::DeviceKey) is given.
    #[must_use]
    pub fn start(code: &Code, origin: &str, device_key: [u8; 32]) -> (Machine, Start) {
        Machine::start_with(code, origin, device_key, (random::bytes(), random::bytes()), Spake2::start_a)
    }

    pub(super) fn start_with(
        code: &Code,
        origin: &str,
        device_key: [u8; 32],
        (nonce, seed): ([u8; NONCE], [u8; 32]),
        start_a: impl FnOnce(&Password, &Identity, &Identity) -> (Spake2<Ed25519Group>, Vec<u8>),
    ) -> (Machine, Start) {
        let (machine, console) = identities(code.locator(), origin);
        let (spake2, pake) = start_a(&Password::new(code.secret()), &machine, &console);
        let start = Start {
            version: VERSION,
            origin: origin.to_owned(),
            pake: Bytes(pake),
            nonce: Bytes(nonce.to_vec()),
            device_key: Bytes(device_key.to_vec()),
            commitment: Bytes(commitment(&seed).to_vec()),
        };
        let seed = Key(Zeroizing::new(seed));
        (Machine { locator: code.locator().to_owned(), start: start.clone(), seed, spake2 }, start)
    }

    /// Takes message 2.
    ///
    /// # Errors
    /// Where no honest console could have sent it.
    pub fn started(self, answer: &Started) -> Result<Claimant, PairingError> {
        if answer.version != self.start.version {
            return Err(PairingError::Version(answer.version));
        }
        if answer.nonce.0.len() != NONCE {
            return Err(PairingError::Malformed("nonce"));
        }
        let theirs = element::of(&answer.pake.0).ok_or(PairingError::Malformed("pake"))?;
        if theirs == self.start.pake.0[1..] {
            return Err(PairingError::Malformed("pake")); // ours, reflected
        }
        let shared =
            Zeroizing::new(self.spake2.finish(&answer.pake.0).map_err(|_| PairingError::Malformed("pake"))?);
        let keys = Keys::derive(&self.locator, &self.start, answer, &shared);
        Ok(Claimant { session: answer.session, keys, seed: self.seed })
    }
}

/// After message 2. To be kept together with message 3, readable by nobody else, from before that is sent until message 4 is
/// handled: then a machine that was switched off in between sends the same message 3 again, and gets its answer.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Claimant {
    session: Uuid,
    pub(super) keys: Keys,
    seed: Key,
}

impl Claimant {
    /// Message 3. The console takes one for each session: whoever sends it again sends the same.
    #[must_use]
    pub fn confirm(&self, claim: &Claim) -> Confirm {
        let (mac, sealed) = self.keys.say(Side::Machine, &self.opening(claim));
        Confirm { mac, sealed }
    }

    pub(super) fn opening<'a>(&self, claim: &'a Claim) -> Opening<&'a Claim> {
        Opening { number_seed: Bytes(self.seed.0.to_vec()), claim }
    }

    /// Takes message 4.
    ///
    /// # Errors
    /// [`PairingError::Unproven`] where it does not come from one who knows the code: nothing of it may be believed.
    pub fn confirmed(&self, answer: &Confirmed) -> Result<Verdict, PairingError> {
        self.keys.hear(Side::Console, &answer.mac, &answer.sealed)
    }

    /// Six digits to show, for people to compare with the console's.
    #[must_use]
    pub fn number(&self) -> String {
        self.keys.number(&*self.seed.0)
    }

    /// What the exchange is called, for the address of message 3.
    #[must_use]
    pub fn session(&self) -> Uuid {
        self.session
    }
}
