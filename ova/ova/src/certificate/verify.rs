//! Verifies signatures of manifests, and who made them.

use std::cell::RefCell;
use std::time::Duration;

use ring::signature::{
    RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512,
    RsaParameters, UnparsedPublicKey,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::X509Version;

use super::{Certificate, CertificateError, certificates, parse, rsa_key, subject, x509};
use crate::manifest::Algorithm;

/// `id-kp-codeSigning`, 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// Certificates of those who are trusted to say who others are. A signer's own may be among them.
#[derive(Clone, Debug, Default)]
pub struct Roots {
    certificates: Vec<CertificateDer<'static>>,
}

impl Roots {
    /// From a PEM text with any number of certificates.
    ///
    /// # Errors
    /// PEM or X.509 that cannot be decoded.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        let certificates = certificates(pem)?;
        for (certificate, number) in certificates.iter().zip(1..) {
            x509(certificate, number)?;
        }
        Ok(Self { certificates })
    }
}

/// A good signature.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified {
    /// The manifest's name, as the certificate has it.
    pub manifest: String,
    /// What the manifest was hashed with. SHA1 is no proof any more.
    pub algorithm: Algorithm,
    /// Who signed.
    pub subject: String,
    /// Who says so.
    pub issuer: String,
    /// From when on that is so, in seconds since 1970.
    pub not_before: i64,
    /// Until when that is so, in seconds since 1970.
    pub not_after: i64,
    /// Length of the signer's key.
    pub key_bits: usize,
    /// Whether to believe it.
    pub trust: Trust,
}

/// Whether a signer is trusted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trust {
    /// A chain leads to this one of the roots.
    Trusted {
        /// Its subject.
        root: String,
    },
    /// No chain does.
    Untrusted(Distrust),
}

/// Why a signer is not trusted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Distrust {
    /// The chain ends outside the roots.
    #[error(
        "No trusted root issued the certificate of `{subject}` or of one who did; its issuer is `{issuer}`"
    )]
    UnknownIssuer {
        /// The signer.
        subject: String,
        /// Who issued its certificate.
        issuer: String,
    },
    /// Anyone can make such a certificate.
    #[error("The certificate of `{0}` is signed by itself and not one of the trusted roots")]
    SelfSigned(String),
    /// Its time is over.
    #[error("The certificate of `{0}` has expired")]
    Expired(String),
    /// Its time has not come, or a clock is wrong.
    #[error("The certificate of `{0}` is not valid yet")]
    NotYetValid(String),
    /// It issued a certificate and must not.
    #[error("`{0}` is not a certificate authority, but issued a certificate of the chain")]
    NotAnAuthority(String),
    /// An authority's certificate signs certificates, not packages.
    #[error("The certificate of `{0}` is one of a certificate authority, which signs no packages")]
    Authority(String),
    /// The certificate says what its key is for, and it is not this.
    #[error("The certificate of `{0}` does not allow this use of its key")]
    Usage(String),
    /// A certificate of the chain was changed, or does not come from the issuer it names.
    #[error("A certificate of the chain does not bear its issuer's signature")]
    Signature,
    /// Anything else in RFC 5280: constraints of names or of the path's length, weak algorithms, unknown extensions.
    #[error("The chain of the signer breaks a rule: {0}")]
    Rule(String),
}

/// Verifies that `certificate` (a `.cert` file) signs `manifest`, and looks for a chain to one of `roots` that holds
/// `now`, in seconds since 1970.
///
/// The chain is built as RFC 5280 has it: signatures by SHA-2, validity, CA, path length, name constraints, key usage;
/// an extended key usage, where there is one, must have code signing. Revocation is not looked up.
///
/// # Errors
/// The certificate is malformed, its key is unfit or its signature is bad. An untrusted signer is no error.
pub fn verify(
    manifest: &[u8],
    certificate: &[u8],
    roots: &Roots,
    now: u64,
) -> Result<Verified, CertificateError> {
    let Certificate { algorithm, manifest: name, signature, chain, .. } = parse(certificate)?;
    let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
    let signer = x509(&chain[0], 1)?;
    let subject = subject(&signer);
    let Some((key_bits, key)) = rsa_key(&signer) else { return Err(CertificateError::NotRsa { subject }) };
    let (parameters, least): (&RsaParameters, _) = match algorithm {
        Algorithm::Sha1 => (&RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY, 1024),
        Algorithm::Sha256 => (&RSA_PKCS1_2048_8192_SHA256, 2048),
        Algorithm::Sha512 => (&RSA_PKCS1_2048_8192_SHA512, 2048),
    };
    if key_bits < least {
        return Err(CertificateError::KeySize { subject, bits: key_bits, algorithm });
    }
    if UnparsedPublicKey::new(parameters, key).verify(manifest, &signature).is_err() {
        return Err(CertificateError::Signature { subject });
    }
    let trust = match trust(&chain, &signer, roots, now) {
        Ok(root) => Trust::Trusted { root },
        Err(distrust) => Trust::Untrusted(distrust),
    };
    Ok(Verified {
        manifest: name,
        algorithm,
        subject,
        issuer: issuer(&signer),
        not_before: signer.validity().not_before.timestamp(),
        not_after: signer.validity().not_after.timestamp(),
        key_bits,
        trust,
    })
}

fn issuer(certificate: &X509Certificate<'_>) -> String {
    certificate.issuer().to_string().escape_debug().to_string()
}

/// The root's subject.
fn trust(
    chain: &[CertificateDer<'_>],
    signer: &X509Certificate<'_>,
    roots: &Roots,
    now: u64,
) -> Result<String, Distrust> {
    check_validity(signer, now)?;
    check_usage(signer, |usage| usage.digital_signature() || usage.non_repudiation())?;
    // Whoever trusts a certificate itself needs no chain, and `webpki` would not have one.
    if roots.certificates.contains(&chain[0]) {
        return Ok(subject(signer));
    }
    if signer.subject().as_raw() == signer.issuer().as_raw() {
        return Err(Distrust::SelfSigned(subject(signer)));
    }
    let anchors: Vec<_> =
        roots.certificates.iter().filter_map(|root| anchor_from_trusted_cert(root).ok()).collect();
    let rule = |e: webpki::Error| Distrust::Rule(e.to_string());
    let end_entity = EndEntityCert::try_from(&chain[0]).map_err(rule)?;
    // `webpki` knows neither key usage nor anything of a root but its name and key: looked at here, and what was
    // wrong with the last path is what is told.
    let root = RefCell::new(None);
    let found = end_entity.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &anchors,
        &chain[1..],
        UnixTime::since_unix_epoch(Duration::from_secs(now)),
        KeyUsage::required_if_present(CODE_SIGNING),
        None,
        Some(&|path| {
            let checked = check_path(path, roots, now);
            let result = checked.as_ref().map(drop).map_err(|_| webpki::Error::UnknownIssuer);
            *root.borrow_mut() = Some(checked);
            result
        }),
    );
    match (found, root.into_inner()) {
        (Ok(_), Some(checked)) => checked,
        (Err(_), Some(Err(distrust))) => Err(distrust),
        (Err(e), _) => Err(explain(&e, chain, signer, now)),
        (Ok(_), None) => Err(rule(webpki::Error::UnknownIssuer)),
    }
}

/// Judges a path that `webpki` found; answers with the root's subject.
fn check_path(path: &VerifiedPath<'_>, roots: &Roots, now: u64) -> Result<String, Distrust> {
    let malformed = |e: CertificateError| Distrust::Rule(e.to_string());
    for intermediate in path.intermediate_certificates() {
        let der = intermediate.der();
        check_usage(&x509(&der, 1).map_err(malformed)?, |usage| usage.key_cert_sign())?;
    }
    let mut result = Err(Distrust::Rule("the root is gone".into()));
    // Several roots may have one name and key, say of a renewed certificate.
    for der in &roots.certificates {
        let Ok(anchor) = anchor_from_trusted_cert(der) else { continue };
        if (&anchor.subject, &anchor.subject_public_key_info)
            != (&path.anchor().subject, &path.anchor().subject_public_key_info)
        {
            continue;
        }
        let root = x509(der, 1).map_err(malformed)?;
        result = check_root(&root, now).map(|()| subject(&root));
        if result.is_ok() {
            break;
        }
    }
    result
}

fn check_root(root: &X509Certificate<'_>, now: u64) -> Result<(), Distrust> {
    check_validity(root, now)?;
    // Before version 3 there was no way to say so.
    if root.version() == X509Version::V3 && !root.is_ca() {
        return Err(Distrust::NotAnAuthority(subject(root)));
    }
    check_usage(root, |usage| usage.key_cert_sign())
}

fn check_validity(certificate: &X509Certificate<'_>, now: u64) -> Result<(), Distrust> {
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        Err(Distrust::NotYetValid(subject(certificate)))
    } else if now > validity.not_after.timestamp() {
        Err(Distrust::Expired(subject(certificate)))
    } else {
        Ok(())
    }
}

/// Where a certificate does not say what its key is for, it is for everything.
fn check_usage(
    certificate: &X509Certificate<'_>,
    allows: impl Fn(&x509_parser::extensions::KeyUsage) -> bool,
) -> Result<(), Distrust> {
    match certificate.key_usage() {
        Ok(None) => Ok(()),
        Ok(Some(usage)) if allows(usage.value) => Ok(()),
        _ => Err(Distrust::Usage(subject(certificate))),
    }
}

/// Why `webpki` found no path, with the name of the certificate, which it does not tell.
fn explain(
    error: &webpki::Error,
    chain: &[CertificateDer<'_>],
    signer: &X509Certificate<'_>,
    now: u64,
) -> Distrust {
    let issuers = || chain[1..].iter().filter_map(|der| x509(der, 1).ok());
    let unknown = || Distrust::UnknownIssuer { subject: subject(signer), issuer: issuer(signer) };
    match error {
        webpki::Error::UnknownIssuer => unknown(),
        webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => {
            issuers().find_map(|issuer| check_validity(&issuer, now).err()).unwrap_or_else(unknown)
        }
        webpki::Error::EndEntityUsedAsCa => issuers()
            .find(|issuer| !issuer.is_ca())
            .map_or_else(unknown, |issuer| Distrust::NotAnAuthority(subject(&issuer))),
        webpki::Error::CaUsedAsEndEntity => Distrust::Authority(subject(signer)),
        webpki::Error::InvalidSignatureForPublicKey => Distrust::Signature,
        webpki::Error::RequiredEkuNotFoundContext(_) => Distrust::Usage(subject(signer)),
        other => Distrust::Rule(other.to_string()),
    }
}
