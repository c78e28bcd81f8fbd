//! The key that a machine is known by: Ed25519 (RFC 8032), made by the machine itself; the private half never leaves it.

use std::fmt;

use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// A machine's key pair.
pub struct DeviceKey {
    pair: Ed25519KeyPair,
    pkcs8: Zeroizing<Vec<u8>>,
}

/// Some bytes are no Ed25519 key in PKCS #8.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("This is no Ed25519 key pair in PKCS #8, version 2")]
pub struct NoKey;

impl DeviceKey {
    /// A new one.
    #[must_use]
    pub fn generate() -> DeviceKey {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("getrandom(2) does not fail");
        DeviceKey::from_pkcs8(pkcs8.as_ref()).expect("ring reads the keys it writes")
    }

    /// One that was kept.
    ///
    /// # Errors
    /// Where `bytes` are something else than [`DeviceKey::to_pkcs8`] gave.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<DeviceKey, NoKey> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| NoKey)?;
        Ok(DeviceKey { pair, pkcs8: Zeroizing::new(bytes.to_vec()) })
    }

    /// To keep it, or to make a certificate request with it: PKCS #8 v2 with the public key (RFC 5958), DER.
    #[must_use]
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half, as RFC 8032 encodes it.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.pair.public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.pair.sign(message).as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[test]
    fn a_kept_key_is_the_same_key() {
        let key = DeviceKey::generate();
        let kept = DeviceKey::from_pkcs8(key.to_pkcs8()).unwrap();
        assert_eq!(kept.public(), key.public());
        assert_eq!(kept.sign(b"words"), key.sign(b"words"));
        UnparsedPublicKey::new(&ED25519, key.public()).verify(b"words", &kept.sign(b"words")).unwrap();
        assert_ne!(DeviceKey::generate().public(), key.public());
        assert_eq!(format!("{key:?}"), "DeviceKey(secret)");
    }

    #[test]
    fn a_file_that_is_cut_or_changed_is_no_key() {
        let key = DeviceKey::generate();
        let whole = key.to_pkcs8();
        for length in 0..whole.len() {
            assert_eq!(DeviceKey::from_pkcs8(&whole[..length]).unwrap_err(), NoKey, "{length} bytes");
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            // The public half is in the file: one that is changed does not fit the other.
            assert!(DeviceKey::from_pkcs8(&changed).is_err(), "bit {bit}");
        }
    }
}
