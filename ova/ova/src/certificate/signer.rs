//! Signs manifests.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::{CertificateError, MAX_CHAIN, certificates, rsa_key, subject, x509};
use crate::manifest::hex;

/// A private key and the certificates that say whose it is.
///
/// The key's text and DER are wiped from the memory they were decoded into; *ring*, which signs in constant time,
/// keeps its own form of the key while this value lives.
pub struct Signer {
    key: RsaKeyPair,
    /// As the `.cert` file has it.
    chain: String,
}

/// Why a signer cannot be made of a key and a chain, or cannot sign.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignerError {
    /// Not PEM, or not in the form that all tools write: lines of 64 characters.
    #[error("The private key is not a PEM text: {0}")]
    Pem(String),
    /// Something else than a private key.
    #[error("The private key's file starts with a `{0}`, not with a `PRIVATE KEY` or `RSA PRIVATE KEY`")]
    Label(String),
    /// There is nobody here to type a passphrase.
    #[error("The private key is encrypted: decrypt it with `openssl pkey`")]
    Encrypted,
    /// Of another kind than RSA, shorter than 2048 bits or longer than 4096, or malformed.
    #[error("The private key cannot be used, it must be RSA of 2048 to 4096 bits: {0}")]
    Key(String),
    /// The chain cannot be read.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The first certificate is somebody else's.
    #[error("The certificate of `{subject}`, the first of the chain, is not one for the private key")]
    Mismatch {
        /// Whose it is.
        subject: String,
    },
    /// The certificates are not in the order in which they were issued.
    #[error("Certificate {number} of the chain was not issued by the one after it")]
    Order {
        /// From 1.
        number: usize,
    },
    /// The system has no random numbers to protect the key with.
    #[error("Signing failed")]
    Sign,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("public", self.key.public()).finish_non_exhaustive()
    }
}

impl Signer {
    /// From a private key (PKCS#8 or PKCS#1, not encrypted) and the chain of its certificates, its own first and the
    /// root's last or left out; both PEM. The caller should hold the key's text in something that is wiped.
    ///
    /// # Errors
    /// See [`SignerError`].
    pub fn from_pem(key: &[u8], chain: &[u8]) -> Result<Self, SignerError> {
        let key = private_key(key)?;
        let chain = certificates(chain)?;
        if !(1..=MAX_CHAIN).contains(&chain.len()) {
            return Err(CertificateError::Chain(chain.len()).into());
        }
        let parsed =
            chain.iter().zip(1..).map(|(der, number)| x509(der, number)).collect::<Result<Vec<_>, _>>()?;
        if rsa_key(&parsed[0]).is_none_or(|(_, public)| public != key.public().as_ref()) {
            return Err(SignerError::Mismatch { subject: subject(&parsed[0]) });
        }
        for (pair, number) in parsed.windows(2).zip(1..) {
            if pair[0].issuer().as_raw() != pair[1].subject().as_raw() {
                return Err(SignerError::Order { number });
            }
        }
        Ok(Self { key, chain: chain.iter().map(pem).collect() })
    }

    /// The certificate of a manifest: the same for the same manifest.
    ///
    /// # Errors
    /// The system has no random numbers; they do not show in the signature.
    pub fn sign(&self, name: &str, manifest: &[u8]) -> Result<Vec<u8>, SignerError> {
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), manifest, &mut signature)
            .map_err(|_| SignerError::Sign)?;
        Ok(self.certificate(name, &signature))
    }

    /// How long the certificate of any manifest of this name is, in bytes.
    pub fn certificate_len(&self, name: &str) -> usize {
        self.certificate(name, &vec![0; self.key.public().modulus_len()]).len()
    }

    fn certificate(&self, name: &str, signature: &[u8]) -> Vec<u8> {
        format!("SHA256({name})= {}\n{}", hex(signature), self.chain).into_bytes()
    }
}

fn private_key(text: &[u8]) -> Result<RsaKeyPair, SignerError> {
    // Longer than what it encodes, whatever that is.
    let mut buffer = Zeroizing::new(vec![0; text.len()]);
    let (label, der) = pem_rfc7468::decode(text, &mut buffer).map_err(|e| match e {
        pem_rfc7468::Error::HeaderDisallowed => SignerError::Encrypted,
        e => SignerError::Pem(e.to_string()),
    })?;
    match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(der),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(der),
        "ENCRYPTED PRIVATE KEY" => return Err(SignerError::Encrypted),
        other => return Err(SignerError::Label(other.into())),
    }
    .map_err(|e| SignerError::Key(e.to_string()))
}

/// Made anew of DER, so that the same certificates give the same text.
fn pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text + "-----END CERTIFICATE-----\n"
}
