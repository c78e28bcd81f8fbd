//! What certificates say, in words.

use std::io;

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::clock::Clock;
use crate::failure::{Failure, Stage, clean};
use crate::route::Place;

/// What to do about a stranger who ends TLS.
pub(crate) const INTERCEPTED: &str = "if that is your proxy, give its CA as `proxy-ca` or have it let this host pass; if not, somebody listens";

/// Who signed the first certificate; as the certificate says, which need not be true.
pub(crate) fn issuer(chain: &[CertificateDer<'_>]) -> String {
    let parsed = chain.first().and_then(|leaf| X509Certificate::from_der(leaf).ok());
    let Some((_, leaf)) = parsed else { return "nobody".into() };
    let issuer = leaf.issuer();
    let name =
        issuer.iter_common_name().chain(issuer.iter_organization()).find_map(|name| name.as_str().ok());
    // Whoever made it up may have put anything in.
    let name: String = name.map_or_else(|| issuer.to_string(), String::from);
    clean(&name.replace('`', "'"), 100)
}

/// Why the TLS handshake failed.
pub(crate) fn tls_failure(
    place: &Place,
    chain: &[CertificateDer<'_>],
    error: &io::Error,
    clock: &Clock,
) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => refused(place, chain, error, clock),
        None => Failure::new(
            Stage::Tls,
            format!("The connection to {place} broke off in the TLS handshake ({error})."),
            "a firewall or proxy on the way may cut TLS that it cannot read",
        ),
    }
}

/// Why a chain, or all that was said in TLS, is not taken.
pub(crate) fn refused(place: &Place, chain: &[CertificateDer<'_>], error: &Error, clock: &Clock) -> Failure {
    let (message, hint) = match error {
        Error::InvalidCertificate(why) => return certificate_failure(place, chain, why, clock),
        Error::InvalidMessage(_) => (
            format!("What listens at {place} does not speak TLS."),
            "check the port; the console's URL begins with `https://`",
        ),
        Error::AlertReceived(alert) => (
            format!("{place} ended TLS ({alert:?})."),
            "something on the way may not let this host pass; look at the console's log",
        ),
        other => (format!("There is no TLS with {place}: {other}."), "look at the console's log"),
    };
    Failure::new(Stage::Tls, message, hint)
}

fn certificate_failure(
    place: &Place,
    chain: &[CertificateDer<'_>],
    why: &CertificateError,
    clock: &Clock,
) -> Failure {
    let issuer = issuer(chain);
    match why {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Failure::new(
            Stage::Tls,
            format!(
                "The certificate of {place} is valid {}, and it is {:.0}.",
                validity(chain).unwrap_or_else(|| "at another time".into()),
                clock.now()
            ),
            "set this machine's clock if that is wrong; else the console needs a new certificate",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Failure::new(
            Stage::Tls,
            format!("The certificate that {place} shows, by `{issuer}`, is for another host."),
            "use the name that the console's certificate is for, or start the console with `--url` and this one",
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => intercepted(place, chain),
        other => Failure::new(
            Stage::Tls,
            format!("The certificate of {place}, by `{issuer}`, cannot be taken: {other:?}."),
            "the console needs another certificate",
        ),
    }
}

/// TLS is ended by a stranger.
fn intercepted(place: &Place, chain: &[CertificateDer<'_>]) -> Failure {
    Failure::new(
        Stage::Intercepted,
        format!(
            "TLS to {place} is intercepted: the certificate is by `{}`, which is not the console's CA.",
            issuer(chain)
        ),
        INTERCEPTED,
    )
}

fn validity(chain: &[CertificateDer<'_>]) -> Option<String> {
    let (from, to) = lifetime(chain.first()?)?;
    Some(format!("from {from} to {to}"))
}

/// From when to when a certificate is valid.
pub(crate) fn lifetime(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let time = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
    Some((time(certificate.validity().not_before)?, time(certificate.validity().not_after)?))
}

/// The public key of a certificate, as its algorithm encodes it.
pub(crate) fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}
