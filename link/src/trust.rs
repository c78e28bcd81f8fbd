//! Whose certificates are believed.
//!
//! While pairing every chain is taken and only noted down: nothing is believed then but the protocol's own proof. From
//! then on a chain must come from the CAs of the [grant](protocol::pairing::Grant), or from a proxy CA that the machine
//! was given; in the second case TLS ends at the proxy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::chain::lifetime;
use crate::clock::Clock;

/// Who stands behind a chain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Voucher {
    /// A CA of the grant (or, of an HTTPS proxy: a CA that this machine knows).
    Known,
    /// A proxy CA that the machine was given.
    ProxyCa,
    /// Nobody that this machine knows. Only taken while pairing.
    Nobody,
}

/// What is believed on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Trust {
    /// The CAs to believe.
    pub(crate) known: Arc<[CertificateDer<'static>]>,
    /// The proxy's.
    pub(crate) proxy_ca: Arc<[CertificateDer<'static>]>,
    /// Whether every chain is taken.
    pub(crate) anybody: bool,
}

impl Trust {
    /// While pairing.
    pub(crate) fn anybody(proxy_ca: &[CertificateDer<'static>]) -> Trust {
        Trust { known: [].into(), proxy_ca: proxy_ca.into(), anybody: true }
    }

    /// Afterwards.
    pub(crate) fn pinned(
        bundle: Vec<CertificateDer<'static>>,
        proxy_ca: &[CertificateDer<'static>],
    ) -> Trust {
        Trust { known: bundle.into(), proxy_ca: proxy_ca.into(), anybody: false }
    }

    /// Who stands behind a chain that was shown for `name`.
    ///
    /// # Errors
    /// Why none of the known CAs does.
    pub(crate) fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        clock: &Clock,
    ) -> Result<Voucher, Error> {
        let mut times = clock.candidates().to_vec();
        if self.anybody {
            // Nobody has told the time yet: any at which the certificate was good. The grant tells it, and then it counts.
            times.extend(chain.first().and_then(|leaf| lifetime(leaf)).map(|(from, _)| from));
        }
        let refused = match stands_behind(&self.known, chain, name, &times) {
            Ok(()) => return Ok(Voucher::Known),
            Err(refused) => refused,
        };
        match stands_behind(&self.proxy_ca, chain, name, &times) {
            Ok(()) => Ok(Voucher::ProxyCa),
            Err(_) if self.anybody => Ok(Voucher::Nobody),
            // Of two refusals the one that says more: an expired certificate of the proxy's is no stranger's.
            Err(other) if refused == UNKNOWN => Err(other),
            Err(_) => Err(refused),
        }
    }

    /// A client's side of TLS that judges so. What it is shown is in the [`Seen`] after the handshake, failed or not.
    pub(crate) fn client(
        &self,
        clock: &Arc<Clock>,
        identity: Option<Arc<dyn ResolvesClientCert>>,
    ) -> (Arc<ClientConfig>, Seen) {
        let seen = Seen::default();
        let verifier = Verifier { trust: self.clone(), clock: Arc::clone(clock), seen: seen.clone() };
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some(identity) => builder.with_client_cert_resolver(identity),
            None => builder.with_no_client_auth(),
        };
        // One connection at a time, none of them short: tickets would only be kept.
        config.resumption = Resumption::disabled();
        // WebSocket begins as HTTP/1.1, and one request at a time needs no more.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        (Arc::new(config), seen)
    }
}

/// The chain that a connection was shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Option<Vec<CertificateDer<'static>>>>>);

impl Seen {
    /// Leaf first; empty where it did not come to that.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone().unwrap_or_default()
    }
}

/// rustls' answer where no CA is known.
const UNKNOWN: Error = Error::InvalidCertificate(CertificateError::UnknownIssuer);

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Whether one of `anchors` signed the chain, for this name, at one of these times. The reason why not is that of the first.
fn stands_behind(
    anchors: &[CertificateDer<'static>],
    chain: &[CertificateDer<'_>],
    name: &ServerName<'_>,
    times: &[Timestamp],
) -> Result<(), Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(UNKNOWN)?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(anchors.iter().cloned());
    let Ok(verifier) = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build()
    else {
        return Err(UNKNOWN); // no anchors
    };
    let mut refused = None;
    for time in times {
        let since = Duration::from_millis(u64::try_from(time.as_millisecond()).unwrap_or(0));
        let now = UnixTime::since_unix_epoch(since);
        match verifier.verify_server_cert(leaf, intermediates, name, &[], now) {
            Ok(_) => return Ok(()),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or(UNKNOWN))
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    clock: Arc<Clock>,
    seen: Seen,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<_> = std::iter::once(leaf)
            .chain(intermediates)
            .map(|certificate| certificate.clone().into_owned())
            .collect();
        *self.seen.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(chain.clone());
        self.trust.judge(&chain, name, &self.clock).map(|_| ServerCertVerified::assertion())
    }

    // Whoever shows a certificate must hold its key, believed or not.
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
