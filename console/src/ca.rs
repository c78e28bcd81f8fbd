//! The console's two CAs: one signs machines' client certificates, one the console's own. ECDSA P-256, made at the
//! first start, kept sealed in the database so that several consoles have the same.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use protocol::secret::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SerialNumber,
    date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::data_key::{self, OtherKey};
use crate::store::{Store, settings};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A machine's certificate holds so long; it renews it after a third of that.
pub const CLIENT_LIFE: Duration = DAY.saturating_mul(30);
/// The console's own, if its own CA signs it.
pub const SERVER_LIFE: Duration = DAY.saturating_mul(90);
const CA_LIFE: Duration = DAY.saturating_mul(3650);
/// Certificates hold from a day before they are made: clocks differ, and it is the console's that counts.
const EARLIER: Duration = DAY;

const SETTING: &str = "authorities";

/// Why there are no CAs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error("cannot read the CAs from the database")]
    Database(#[from] sqlx::Error),
    /// The data key.
    #[error(transparent)]
    OtherKey(#[from] OtherKey),
    /// What is stored makes no sense.
    #[error("the CAs in the database make no sense: {0}")]
    Content(String),
}

/// Why a certificate request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotSigned {
    /// It is none, or its signature is wrong.
    #[error("This is no certificate request that its own key signed.")]
    Request,
    /// It is of another key.
    #[error("The certificate request is not for the device key.")]
    Key,
}

/// A client certificate.
#[derive(Clone, Debug)]
pub struct Certified {
    /// It and its chain, PEM.
    pub pem: String,
    /// Hexadecimal.
    pub serial: String,
    /// Until when it holds.
    pub not_after: Timestamp,
}

/// The CAs.
pub struct Authority {
    device: Ca,
    server: Ca,
}

struct Ca {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// As it is sealed.
#[derive(Deserialize, Serialize)]
struct Stored {
    device: StoredCa,
    server: StoredCa,
}

/// PEM.
#[derive(Deserialize, Serialize)]
struct StoredCa {
    certificate: String,
    key: String,
}

impl Authority {
    /// The CAs in the database; made where there are none.
    ///
    /// # Errors
    /// When the database fails, or the data key is another one than the CAs were sealed with.
    pub async fn load(store: &Store, now: Timestamp) -> Result<Authority, Error> {
        let mut db = store.write().await?;
        let sealed = match settings::get(&mut db, SETTING).await? {
            Some(sealed) => sealed,
            None => {
                let stored = Stored {
                    device: make("Gatewright devices", now)?,
                    server: make("Gatewright console", now)?,
                };
                let json = Secret::new(serde_json::to_string(&stored).map_err(content)?);
                let sealed = store.secrets.seal("settings.value", SETTING, json.expose());
                if settings::set_first(&mut db, SETTING, &sealed).await? {
                    sealed
                } else {
                    // Another console was quicker.
                    settings::get(&mut db, SETTING).await?.unwrap_or_default()
                }
            }
        };
        db.commit().await?;
        let json = store.secrets.open("settings.value", SETTING, &sealed)?;
        let stored: Stored = serde_json::from_str(json.expose()).map_err(content)?;
        Ok(Authority { device: Ca::new(stored.device)?, server: Ca::new(stored.server)? })
    }

    /// A client certificate for a machine's key, from its certificate request. Of the request only the key counts: what
    /// else it asks for, as names or rights, is not granted.
    ///
    /// # Errors
    /// When the request is not that key's.
    pub fn certify_device(
        &self,
        gateway: Uuid,
        device_key: &[u8],
        request: &[u8],
        now: Timestamp,
    ) -> Result<Certified, NotSigned> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|_| NotSigned::Request)?;
        let key = request.public_key;
        if *key.algorithm() != rcgen::PKCS_ED25519 || key.der_bytes() != device_key {
            return Err(NotSigned::Key);
        }
        let (mut params, serial) = leaf(&gateway.to_string(), Vec::new(), now, CLIENT_LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.device.issuer).map_err(|_| NotSigned::Request)?;
        Ok(Certified { pem: certificate.pem() + &self.device.pem, serial, not_after: now + CLIENT_LIFE })
    }

    /// A certificate for the console's own hosts: names or addresses.
    ///
    /// # Errors
    /// When a host is no name that a certificate can have.
    pub(crate) fn certify_server(
        &self,
        hosts: &[String],
        now: Timestamp,
    ) -> Result<(CertificateDer<'static>, KeyPair), rcgen::Error> {
        let key = KeyPair::generate()?;
        let (mut params, _) =
            leaf("Gatewright console", CertificateParams::new(hosts)?.subject_alt_names, now, SERVER_LIFE);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.server.issuer)?;
        Ok((certificate.der().clone(), key))
    }

    /// The CA of the machines' certificates.
    #[must_use]
    pub fn device_ca(&self) -> &CertificateDer<'static> {
        &self.device.certificate
    }

    /// The CA of the console's own certificate.
    #[must_use]
    pub fn server_ca(&self) -> &CertificateDer<'static> {
        &self.server.certificate
    }

    /// The same, PEM.
    #[must_use]
    pub fn server_ca_pem(&self) -> &str {
        &self.server.pem
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Ca {
    fn new(stored: StoredCa) -> Result<Ca, Error> {
        let key = KeyPair::from_pem(Secret::new(stored.key).expose()).map_err(content)?;
        let certificate = CertificateDer::from_pem_slice(stored.certificate.as_bytes()).map_err(content)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(content)?;
        Ok(Ca { certificate, pem: stored.certificate, issuer })
    }
}

fn content(error: impl fmt::Display) -> Error {
    Error::Content(error.to_string())
}

fn make(name: &str, now: Timestamp) -> Result<StoredCa, Error> {
    let key = KeyPair::generate().map_err(content)?;
    // Browsers refuse two CAs of one name: each console's has another.
    let unique = u32::from_be_bytes(data_key::random());
    let (mut params, _) = leaf(&format!("{name} {unique:08x}"), Vec::new(), now, CA_LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(content)?;
    Ok(StoredCa { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// What all have in common, and the serial number (hexadecimal).
fn leaf(
    name: &str,
    hosts: Vec<rcgen::SanType>,
    now: Timestamp,
    life: Duration,
) -> (CertificateParams, String) {
    let mut serial: [u8; 16] = data_key::random();
    // RFC 5280, section 4.1.2.2: positive.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = hosts;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    let since_epoch = Duration::try_from(now.duration_since(Timestamp::UNIX_EPOCH))
        .unwrap_or_default()
        .saturating_sub(EARLIER);
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch.as_secs());
    params.not_after = params.not_before + EARLIER + life;
    (params, serial.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ED25519};
    use x509_parser::parse_x509_certificate;

    use super::*;
    use crate::data_key::Secrets;

    async fn authority(folder: &tempfile::TempDir) -> Authority {
        let url = Store::sqlite(&folder.path().join("db")).unwrap();
        let store = Store::open(&url, Secrets::new(&[7; 32]).unwrap()).await.unwrap();
        Authority::load(&store, now()).await.unwrap()
    }

    fn now() -> Timestamp {
        "2027-01-15T12:00:00Z".parse().unwrap()
    }

    /// What a machine asks for counts for nothing; whose key it is counts.
    #[tokio::test]
    async fn a_machine_gets_a_certificate_of_ours_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let ca = authority(&folder).await;
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let mut wanted = CertificateParams::new(vec!["console.example.com".to_owned()]).unwrap();
        wanted.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        wanted.distinguished_name.push(DnType::CommonName, "somebody else");
        let request = wanted.serialize_request(&key).unwrap();
        let gateway = Uuid::from_u128(7);

        let made = ca.certify_device(gateway, key.public_key_raw(), request.der(), now()).unwrap();
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(made.pem.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(chain[1], *ca.device_ca());
        let (_, leaf) = parse_x509_certificate(&chain[0]).unwrap();
        assert_eq!(leaf.subject().to_string(), format!("CN={gateway}"));
        assert!(!leaf.is_ca());
        assert!(leaf.subject_alternative_name().unwrap().is_none());
        let usage = leaf.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth);
        assert_eq!(leaf.validity().not_after.timestamp(), (now() + CLIENT_LIFE).as_second());
        assert_eq!(made.not_after, now() + CLIENT_LIFE);
        assert_eq!(leaf.tbs_certificate.raw_serial_as_string().replace(':', ""), made.serial);

        let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let refused =
            |key: &[u8], request: &[u8]| ca.certify_device(gateway, key, request, now()).unwrap_err();
        assert_eq!(refused(other.public_key_raw(), request.der()), NotSigned::Key);
        let ecdsa = KeyPair::generate().unwrap();
        let strange = CertificateParams::default().serialize_request(&ecdsa).unwrap();
        assert_eq!(refused(ecdsa.public_key_raw(), strange.der()), NotSigned::Key);
        let mut forged = request.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(refused(key.public_key_raw(), &forged), NotSigned::Request);
        assert_eq!(refused(key.public_key_raw(), b"rubbish"), NotSigned::Request);
    }

    #[tokio::test]
    async fn the_consoles_own_certificate_is_for_its_hosts() {
        let folder = tempfile::tempdir().unwrap();
        let ca = authority(&folder).await;
        let hosts = ["console.example.com".to_owned(), "192.0.2.1".to_owned(), "2001:db8::1".to_owned()];
        let (leaf, _) = ca.certify_server(&hosts, now()).unwrap();
        let (_, leaf) = parse_x509_certificate(&leaf).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value.general_names.len();
        assert_eq!(names, 3);
        assert!(!leaf.is_ca());
        assert!(ca.certify_server(&["no host".into(), "é".into()], now()).is_err());
    }
}
