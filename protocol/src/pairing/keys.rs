//! What both sides make of the shared key: a transcript that binds everything said so far, and keys for each direction.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::{digest, hkdf, hmac};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use super::{MAX_MESSAGE, PairingError, Start, Started};
use crate::bytes::Bytes;
use crate::random;

/// Who says something.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Side {
    Machine,
    Console,
}

/// Everything after SPAKE2.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Keys {
    transcript: Key,
    machine_mac: Key,
    machine_seal: Key,
    console_mac: Key,
    console_seal: Key,
    number: Key,
}

impl Keys {
    /// From the key that SPAKE2 agreed on, and messages 1 and 2.
    pub(super) fn derive(locator: &str, start: &Start, started: &Started, shared: &[u8]) -> Keys {
        let transcript = transcript(&[
            start.version.to_string().as_bytes(),
            locator.as_bytes(),
            start.origin.as_bytes(),
            &start.pake.0,
            &started.pake.0,
            &start.nonce.0,
            &started.nonce.0,
            &start.device_key.0,
            &start.commitment.0,
        ]);
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, &*transcript.0).extract(shared);
        let key = |purpose: &str| {
            let info = [b"gatewright pairing v1 ".as_slice(), purpose.as_bytes()];
            let mut key = Key::default();
            secret
                .expand(&info, hkdf::HKDF_SHA256)
                .and_then(|material| material.fill(&mut *key.0))
                .expect("32 bytes are within what HKDF gives");
            key
        };
        Keys {
            machine_mac: key("machine mac"),
            machine_seal: key("machine seal"),
            console_mac: key("console mac"),
            console_seal: key("console seal"),
            number: key("number"),
            transcript,
        }
    }

    /// Six digits that both sides show, to be compared by people: of what only the machine knew until message 2 was said.
    pub(super) fn number(&self, seed: &[u8]) -> String {
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*self.number.0), seed);
        let first = mac.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        format!("{:06}", u32::from_be_bytes(*first) % 1_000_000)
    }

    /// Says something: its MAC, and it sealed.
    pub(super) fn say<T: Serialize>(&self, side: Side, value: &T) -> (Bytes, Bytes) {
        self.say_with(side, value, random::bytes())
    }

    pub(super) fn say_with<T: Serialize>(
        &self,
        side: Side,
        value: &T,
        nonce: [u8; NONCE_LEN],
    ) -> (Bytes, Bytes) {
        let mut text =
            Zeroizing::new(serde_json::to_vec(value).expect("messages have no maps with odd keys"));
        let tag = self
            .cipher(side)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), self.associated(), &mut text)
            .expect("a message is far below 256 GiB");
        let sealed = [&nonce, text.as_slice(), tag.as_ref()].concat();
        (self.mac(side, &sealed), Bytes(sealed))
    }

    pub(super) fn mac(&self, side: Side, sealed: &[u8]) -> Bytes {
        Bytes(hmac::sign(&self.mac_key(side), &self.confirmed(sealed)).as_ref().to_vec())
    }

    /// Hears what the other `side` said. Nothing is looked at before the MAC is right.
    pub(super) fn hear<T: DeserializeOwned>(
        &self,
        side: Side,
        mac: &Bytes,
        sealed: &Bytes,
    ) -> Result<T, PairingError> {
        if sealed.0.len() > MAX_MESSAGE {
            return Err(PairingError::Malformed("sealed"));
        }
        hmac::verify(&self.mac_key(side), &self.confirmed(&sealed.0), &mac.0)
            .map_err(|_| PairingError::Unproven)?;
        let malformed = PairingError::Malformed("sealed");
        let (nonce, text) = sealed.0.split_first_chunk::<NONCE_LEN>().ok_or(malformed)?;
        let mut text = Zeroizing::new(text.to_vec());
        let text = self
            .cipher(side)
            .open_in_place(Nonce::assume_unique_for_key(*nonce), self.associated(), &mut text)
            .map_err(|_| malformed)?;
        serde_json::from_slice(text).map_err(|_| malformed)
    }

    /// What a MAC is over.
    fn confirmed(&self, sealed: &[u8]) -> Vec<u8> {
        [&*self.transcript.0, digest::digest(&digest::SHA256, sealed).as_ref()].concat()
    }

    fn mac_key(&self, side: Side) -> hmac::Key {
        let key = match side {
            Side::Machine => &self.machine_mac,
            Side::Console => &self.console_mac,
        };
        hmac::Key::new(hmac::HMAC_SHA256, &*key.0)
    }

    fn cipher(&self, side: Side) -> LessSafeKey {
        let key = match side {
            Side::Machine => &self.machine_seal,
            Side::Console => &self.console_seal,
        };
        LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &*key.0).expect("ChaCha20's keys have 32 bytes"))
    }

    fn associated(&self) -> Aad<&[u8]> {
        Aad::from(&*self.transcript.0)
    }
}

/// SHA-256 over each part behind its length, 8 bytes, big endian: so no two lists of parts give the same.
fn transcript(parts: &[&[u8]]) -> Key {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut transcript = Key::default();
    transcript.0.copy_from_slice(context.finish().as_ref());
    transcript
}

/// 32 bytes that nobody else may know; base64 where they are kept.
#[derive(Clone, Default)]
pub(super) struct Key(pub(super) Zeroizing<[u8; 32]>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(*self.0)))
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = Zeroizing::new(
            STANDARD.decode(text.as_bytes()).map_err(|_| de::Error::custom("this is no base64"))?,
        );
        let mut key = Key::default();
        if bytes.len() != key.0.len() {
            return Err(de::Error::custom("this is no key of 32 bytes"));
        }
        key.0.copy_from_slice(&bytes);
        Ok(key)
    }
}
