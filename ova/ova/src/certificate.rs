//! Certificates of packages: a signature of the manifest and the chain of the signer (DSP0243, section 5.1).
//!
//! ```text
//! SHA256(appliance.mf)= <hexadecimal RSA PKCS#1 v1.5 signature of the manifest's bytes>
//! -----BEGIN CERTIFICATE-----        the signer, then those who issued one another
//! ```
//!
//! A bad signature is an error. A signer that nobody here knows is not: it is for the caller to judge.

mod signer;
mod verify;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

pub use self::signer::{Signer, SignerError};
pub use self::verify::{Distrust, Roots, Trust, Verified, verify};
use crate::manifest::{Algorithm, Statement, lines, unhex};

/// No certificate is longer, in bytes.
pub const MAX_SIZE: u64 = 1 << 18;
/// Longest chain.
const MAX_CHAIN: usize = 16;

/// A certificate, as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Certificate {
    /// What the manifest was hashed with before it was signed.
    pub algorithm: Algorithm,
    /// The manifest's name.
    pub manifest: String,
    /// RSA PKCS#1 v1.5.
    pub signature: Vec<u8>,
    /// X.509 in DER, the signer's first. At least one.
    pub chain: Vec<Vec<u8>>,
    /// Whether the first line is `SHA256(name)= digits` or `SHA512(...` to the letter.
    pub strict: bool,
}

/// Why a certificate is no good.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// Not what anyone needs.
    #[error("The certificate is longer than 256 KiB")]
    TooLong,
    /// Not one line `ALGORITHM(name)= signature` before the chain.
    #[error("Line {line} of the certificate is not its one `ALGORITHM(name)= signature`")]
    Statement {
        /// From 1.
        line: usize,
    },
    /// PEM that cannot be decoded.
    #[error("The PEM text of a certificate is malformed: {0}")]
    Pem(String),
    /// None, or more than 16.
    #[error("There are {0} X.509 certificates where 1 to 16 were expected")]
    Chain(usize),
    /// DER that cannot be decoded.
    #[error("X.509 certificate {number} is malformed: {reason}")]
    X509 {
        /// In its file, from 1.
        number: usize,
        /// Why.
        reason: String,
    },
    /// OVF knows RSA only.
    #[error("The key of `{subject}` is not an RSA key")]
    NotRsa {
        /// The signer.
        subject: String,
    },
    /// Anyone can sign with so short a key.
    #[error("The key of `{subject}` has {bits} bits, which is too short for a signature by {algorithm}")]
    KeySize {
        /// The signer.
        subject: String,
        /// Of the modulus.
        bits: usize,
        /// With SHA1, keys down to 1024 bits are taken: such packages are old.
        algorithm: Algorithm,
    },
    /// The manifest was changed after it was signed, or somebody else signed it.
    #[error("The signature is not one of this manifest by `{subject}`")]
    Signature {
        /// The signer.
        subject: String,
    },
}

/// Reads a certificate without judging it.
///
/// # Errors
/// All of [`CertificateError`] but those of keys and signatures.
pub fn parse(bytes: &[u8]) -> Result<Certificate, CertificateError> {
    if bytes.len() as u64 > MAX_SIZE {
        return Err(CertificateError::TooLong);
    }
    let mut statement = None;
    let mut pem = bytes;
    let mut number = 1;
    for line in lines(bytes) {
        if line.starts_with(b"-----BEGIN") {
            break;
        }
        if !line.trim_ascii().is_empty() {
            let error = CertificateError::Statement { line: number };
            let Ok(parsed) = Statement::parse(line, number) else { return Err(error) };
            let Some(signature) = unhex(parsed.digits).filter(|bytes| !bytes.is_empty()) else {
                return Err(error);
            };
            if statement.replace((parsed, signature)).is_some() {
                return Err(error);
            }
        }
        pem = pem.get(line.len() + 1..).unwrap_or_default();
        number += 1;
    }
    let (Statement { algorithm, name, strict, .. }, signature) =
        statement.ok_or(CertificateError::Statement { line: number })?;
    let chain = certificates(pem)?;
    if !(1..=MAX_CHAIN).contains(&chain.len()) {
        return Err(CertificateError::Chain(chain.len()));
    }
    let chain = chain.into_iter().map(|der| der.to_vec()).collect();
    Ok(Certificate { algorithm, manifest: name.into(), signature, chain, strict })
}

/// The X.509 certificates of a PEM text; sections of other kinds are left out.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|e| CertificateError::Pem(e.to_string()))
}

/// Certificate `number` of a chain.
fn x509(der: &[u8], number: usize) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(CertificateError::X509 { number, reason: "There is more after its end".into() }),
        Err(e) => Err(CertificateError::X509 { number, reason: e.to_string() }),
    }
}

/// The name of whom a certificate is about, fit for a terminal.
fn subject(certificate: &X509Certificate<'_>) -> String {
    certificate.subject().to_string().escape_debug().to_string()
}

/// The RSA key of a certificate: length of its modulus in bits, `RSAPublicKey` in DER.
fn rsa_key<'a>(certificate: &'a X509Certificate<'_>) -> Option<(usize, &'a [u8])> {
    let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed() else { return None };
    let start = key.modulus.iter().position(|byte| *byte != 0)?;
    let modulus = &key.modulus[start..];
    let bits = 8 * modulus.len() - modulus[0].leading_zeros() as usize;
    Some((bits, &certificate.public_key().subject_public_key.data))
}

#[cfg(test)]
mod tests;
