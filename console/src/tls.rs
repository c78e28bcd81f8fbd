//! The console's certificate: given in files, or signed by its own CA and renewed by itself; and what machines trust
//! because of it.

use std::fmt;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::ca::{Authority, SERVER_LIFE};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("cannot use {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A host of the console's addresses.
    #[error("cannot make a certificate for {hosts}: {source}")]
    Hosts {
        /// All of them.
        hosts: String,
        /// Why.
        source: rcgen::Error,
    },
    /// rustls.
    #[error("cannot set up TLS")]
    Rustls(#[from] rustls::Error),
}

/// Where the certificate comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Two PEM files: the certificate with its chain, and its key.
    Given {
        /// The first.
        certificate: PathBuf,
        /// The second.
        key: PathBuf,
    },
    /// The console's own CA.
    Own {
        /// Names and addresses.
        hosts: Vec<String>,
        /// Where it is kept from one start to the next, so that nobody has to trust a new one each time.
        file: PathBuf,
    },
}

/// The console's certificate, which changes while it runs.
pub struct Certificates {
    source: Source,
    provider: Arc<CryptoProvider>,
    current: RwLock<Arc<Current>>,
    server_ca: CertificateDer<'static>,
    server_ca_pem: String,
}

struct Current {
    key: Arc<CertifiedKey>,
    /// PEM.
    bundle: String,
    renew_at: Option<Timestamp>,
    /// The leaf before it: somebody may just have been shown it.
    before: Option<CertificateDer<'static>>,
}

impl Certificates {
    /// The certificate of a source.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn new(source: Source, ca: &Authority, now: Timestamp) -> Result<Certificates, Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let current = load(&source, &provider, ca, now)?;
        Ok(Certificates {
            source,
            provider,
            current: RwLock::new(Arc::new(current)),
            server_ca: ca.server_ca().clone(),
            server_ca_pem: ca.server_ca_pem().to_owned(),
        })
    }

    /// Reads the files again, or renews what the console's own CA signed if it is time.
    ///
    /// # Errors
    /// When they cannot be read; then nothing has changed.
    pub fn refresh(&self, ca: &Authority, now: Timestamp) -> Result<(), Error> {
        if matches!(self.source, Source::Own { .. }) && self.get().renew_at.is_some_and(|time| now < time) {
            return Ok(());
        }
        let mut new = load(&self.source, &self.provider, ca, now)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if new.key.cert != current.key.cert {
            new.before = current.key.cert.first().cloned();
        }
        *current = Arc::new(new);
        Ok(())
    }

    /// SHA-256 of the certificate, hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.get().key.cert.first().map(|leaf| fingerprint(leaf)).unwrap_or_default()
    }

    /// The CAs that the certificate comes from, PEM, and the console's own: what machines trust from their pairing on.
    #[must_use]
    pub fn bundle(&self) -> String {
        format!("{}{}", self.get().bundle, self.server_ca_pem)
    }

    /// Whether a certificate that somebody was shown is the console's: the one in use, the one before it, or one that its
    /// own CA signed, as another instance's is.
    #[must_use]
    pub fn is_ours(&self, leaf: &[u8], now: Timestamp) -> bool {
        let current = self.get();
        if current.key.cert.first().into_iter().chain(&current.before).any(|own| own.as_ref() == leaf) {
            return true;
        }
        let leaf = CertificateDer::from(leaf);
        let since_epoch = Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH)).unwrap_or_default();
        let (Ok(anchor), Ok(leaf)) =
            (anchor_from_trusted_cert(&self.server_ca), EndEntityCert::try_from(&leaf))
        else {
            return false;
        };
        leaf.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &[anchor],
            &[],
            UnixTime::since_unix_epoch(since_epoch),
            KeyUsage::server_auth(),
            None,
            None,
        )
        .is_ok()
    }

    /// TLS 1.2 and 1.3 with this certificate, and client certificates of the device CA where they are shown.
    ///
    /// # Errors
    /// Never with a device CA of ours.
    pub fn config(self: &Arc<Certificates>, ca: &Authority) -> Result<ServerConfig, Error> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.device_ca().clone())?;
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .allow_unauthenticated()
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Thousands of long connections: nothing is kept for resuming them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn get(&self) -> Arc<Current> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificates").field("source", &self.source).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().key))
    }
}

/// SHA-256 of a certificate, hexadecimal.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn load(
    source: &Source,
    provider: &CryptoProvider,
    ca: &Authority,
    now: Timestamp,
) -> Result<Current, Error> {
    match source {
        Source::Given { certificate, key } => {
            let chain = read_chain(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, error))?;
            let bundle = pem_of(&anchors(&chain));
            let key = Arc::new(CertifiedKey::from_der(chain, key, provider)?);
            Ok(Current { key, bundle, renew_at: None, before: None })
        }
        Source::Own { hosts, file } => {
            if let Some((chain, key)) = kept(file, hosts, ca, now) {
                let renew_at = renewal(&chain);
                if renew_at.is_some_and(|time| now < time) {
                    let key = Arc::new(CertifiedKey::from_der(chain, key, provider)?);
                    return Ok(Current { key, bundle: String::new(), renew_at, before: None });
                }
            }
            let (leaf, key) = ca
                .certify_server(hosts, now)
                .map_err(|source| Error::Hosts { hosts: hosts.join(", "), source })?;
            let chain = vec![leaf];
            keep(file, &chain, &key.serialize_pem()).map_err(|error| file_error(file, error))?;
            let renew_at = renewal(&chain);
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            let key = Arc::new(CertifiedKey::from_der(chain, key, provider)?);
            Ok(Current { key, bundle: String::new(), renew_at, before: None })
        }
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(path, error))?;
    if chain.is_empty() {
        return Err(file_error(path, "there is no certificate in it"));
    }
    Ok(chain)
}

fn file_error(path: &Path, reason: impl fmt::Display) -> Error {
    Error::File { path: path.to_owned(), reason: reason.to_string() }
}

/// What to trust so that a chain is: the CAs it names; else the root among the system's that signed its end; else the
/// certificate itself, which then signed itself.
fn anchors(chain: &[CertificateDer<'static>]) -> Vec<CertificateDer<'static>> {
    let mut anchors = chain[1..].to_vec();
    let last = chain.last().and_then(|last| x509_parser::parse_x509_certificate(last).ok());
    if let Some((_, last)) = last
        && last.issuer() != last.subject()
    {
        anchors.extend(rustls_native_certs::load_native_certs().certs.into_iter().filter(|root| {
            x509_parser::parse_x509_certificate(root).is_ok_and(|(_, root)| root.subject() == last.issuer())
        }));
    }
    if anchors.is_empty() {
        anchors.extend(chain.first().cloned());
    }
    anchors
}

fn pem_of(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|certificate| {
            pem_rfc7468::encode_string("CERTIFICATE", pem_rfc7468::LineEnding::LF, certificate)
                .unwrap_or_default()
        })
        .collect()
}

/// The certificate of an earlier start, if it is this CA's and for these hosts.
fn kept(
    file: &Path,
    hosts: &[String],
    ca: &Authority,
    now: Timestamp,
) -> Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let chain = read_chain(file).ok()?;
    let key = PrivateKeyDer::from_pem_file(file).ok()?;
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let (_, issuer) = x509_parser::parse_x509_certificate(ca.server_ca()).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    let same_hosts =
        names.value.general_names.iter().map(host_of).eq(hosts.iter().map(|host| Some(host.clone())));
    let signed = leaf.issuer() == issuer.subject();
    let begun = leaf.validity().not_before.timestamp() <= now.as_second();
    (same_hosts && signed && begun).then_some((chain, key))
}

fn host_of(name: &x509_parser::extensions::GeneralName<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName::{DNSName, IPAddress};
    match name {
        DNSName(name) => Some((*name).to_owned()),
        IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|bytes| IpAddr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// After two thirds of its life.
fn renewal(chain: &[CertificateDer<'_>]) -> Option<Timestamp> {
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let end = Timestamp::from_second(leaf.validity().not_after.timestamp()).ok()?;
    Some(end - SERVER_LIFE / 3)
}

/// Key first: what reads certificates only does not mind.
fn keep(file: &Path, chain: &[CertificateDer<'_>], key: &str) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile_in(folder)?;
    new.write_all(key.as_bytes())?;
    new.write_all(pem_of(chain).as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(file).map_err(|error| error.error)?;
    fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_key::Secrets;
    use crate::store::Store;

    #[tokio::test]
    async fn a_certificate_is_kept_until_it_is_time() {
        let folder = tempfile::tempdir().unwrap();
        let url = Store::sqlite(&folder.path().join("db")).unwrap();
        let store = Store::open(&url, Secrets::new(&[7; 32]).unwrap()).await.unwrap();
        let now: Timestamp = "2027-01-15T12:00:00Z".parse().unwrap();
        let ca = Authority::load(&store, now).await.unwrap();
        let file = folder.path().join("server.pem");
        let source = |hosts: &[&str]| Source::Own {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            file: file.clone(),
        };
        let days = |days: u64| now + Duration::from_secs(days * 86_400);
        let first = Certificates::new(source(&["localhost"]), &ca, now).unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let print = first.fingerprint();
        let again = Certificates::new(source(&["localhost"]), &ca, days(1)).unwrap();
        assert_eq!(again.fingerprint(), print, "the next start has the same");
        again.refresh(&ca, days(59)).unwrap();
        assert_eq!(again.fingerprint(), print);
        let leaf = again.get().key.cert[0].clone();
        again.refresh(&ca, days(61)).unwrap();
        assert_ne!(again.fingerprint(), print, "renewed while it runs");
        let other = Certificates::new(source(&["localhost", "127.0.0.1"]), &ca, days(61)).unwrap();
        assert_ne!(other.fingerprint(), again.fingerprint(), "another host, another certificate");

        // Ours is what our CA signed and still holds, and nothing else.
        assert!(other.is_ours(&leaf, days(61)));
        assert!(!other.is_ours(&leaf, days(91)));
        assert!(!other.is_ours(ca.device_ca(), now));
        assert!(!other.is_ours(b"rubbish", now));
        let strange = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        assert!(!other.is_ours(strange.cert.der(), now));
        assert_eq!(other.bundle(), ca.server_ca_pem());
    }
}
