//! A machine as the console sees one, message by message: what `link` does in one go, a test does step by step, stops in
//! the middle of, or does wrong.

use std::collections::BTreeMap;
use std::fs;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use protocol::bytes::Bytes;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::link::{Downstream, Heartbeat, Metrics, Upstream};
use protocol::pairing::machine::{Claimant, Machine as Side};
use protocol::pairing::{Claim, Confirm, Confirmed, Grant, Start, Started, Verdict};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::console::Console;
use crate::https::{Answer, Client};

/// A machine that is not paired.
pub struct Machine {
    key: DeviceKey,
    client: Client,
    origin: String,
    chain: Vec<Bytes>,
    /// Message 3 of each session: sent again, it is the same.
    said: Mutex<BTreeMap<Uuid, Confirm>>,
}

/// A machine that is.
#[derive(Debug)]
pub struct Paired {
    /// What it got.
    pub grant: Grant,
    /// Asks the console with its certificate.
    pub client: Client,
}

impl Machine {
    /// A new one that can reach a console.
    ///
    /// # Errors
    /// When the console's certificates cannot be read.
    pub fn new(console: &Console) -> Result<Machine> {
        let address = console.said().address;
        Ok(Machine {
            key: DeviceKey::generate(),
            client: console.client()?,
            origin: format!("https://127.0.0.1:{}", address.port()),
            chain: chain(console)?,
            said: Mutex::default(),
        })
    }

    /// Message 1 and the state that takes its answer.
    #[must_use]
    pub fn begin(&self, code: &Code) -> (Side, Start) {
        Side::start(code, &self.origin, self.key.public())
    }

    /// Sends message 1.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn send_start(&self, code: &Code, start: &Start) -> Result<Answer> {
        self.client.json(
            "POST",
            &format!("/v1/pairings/{}/start", code.locator()),
            &serde_json::to_value(start)?,
        )
    }

    /// Messages 1 and 2.
    ///
    /// # Errors
    /// When the console refuses.
    pub fn start(&self, code: &Code) -> Result<Claimant> {
        let (side, start) = self.begin(code);
        let started: Started = serde_json::from_value(self.send_start(code, &start)?.expect(200)?)?;
        Ok(side.started(&started)?)
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// Never with a key of its own.
    pub fn claim(&self) -> Result<Claim> {
        claim(&self.key, &self.chain)
    }

    /// Sends message 3.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn send_confirm(&self, claimant: &Claimant) -> Result<Answer> {
        let claim = self.claim()?;
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let confirm = said.entry(claimant.session()).or_insert_with(|| claimant.confirm(&claim)).clone();
        drop(said);
        let path = format!("/v1/pairings/{}/confirm", claimant.session());
        self.client.json("POST", &path, &serde_json::to_value(confirm)?)
    }

    /// Messages 3 and 4.
    ///
    /// # Errors
    /// When the console refuses, or does not know the code.
    pub fn confirm(&self, claimant: &Claimant) -> Result<Verdict> {
        let confirmed: Confirmed = serde_json::from_value(self.send_confirm(claimant)?.expect(200)?)?;
        Ok(claimant.confirmed(&confirmed)?)
    }

    /// All four.
    ///
    /// # Errors
    /// When it is not granted.
    pub fn pair(&self, console: &Console, code: &Code) -> Result<Paired> {
        let claimant = self.start(code)?;
        match self.confirm(&claimant)? {
            Verdict::Granted(grant) => self.paired(console, *grant),
            other => bail!("not paired: {other:?}"),
        }
    }

    /// Takes a grant.
    ///
    /// # Errors
    /// When there is no certificate in it.
    pub fn paired(&self, console: &Console, grant: Grant) -> Result<Paired> {
        let key = pair(&self.key)?.serialize_pem();
        let address = console.said().address;
        let client =
            Client::with_certificate(address, "127.0.0.1", &grant.ca_bundle, &grant.certificate, &key)?;
        Ok(Paired { grant, client })
    }
}

impl Paired {
    /// Tells the console something and returns its answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn send(&self, upstream: &Upstream) -> Result<Answer> {
        self.client.json("POST", "/v1/link/poll", &serde_json::to_value(upstream)?)
    }

    /// The same, read.
    ///
    /// # Errors
    /// When it is refused.
    pub fn say(&self, upstream: &Upstream) -> Result<Downstream> {
        Ok(serde_json::from_value(self.send(upstream)?.expect(200)?)?)
    }
}

/// The console's certificates as TLS shows them.
///
/// # Errors
/// When they cannot be read.
pub fn chain(console: &Console) -> Result<Vec<Bytes>> {
    let pem = fs::read(console.folder().join("server.pem"))?;
    Ok(CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()?
        .into_iter()
        .map(|certificate| Bytes(certificate.to_vec()))
        .collect())
}

/// What a machine with a key says of itself.
///
/// # Errors
/// Never with a device key.
pub fn claim(key: &DeviceKey, chain: &[Bytes]) -> Result<Claim> {
    let request = CertificateParams::default().serialize_request(&pair(key)?)?;
    Ok(Claim {
        certificate_request: Bytes(request.der().to_vec()),
        vm_uuid: None,
        hostname: "simulated".into(),
        addresses: vec!["127.0.0.1".into()],
        software: "0.1.0".into(),
        clock: jiff::Timestamp::now(),
        chain: chain.to_vec(),
        by_proxy_ca: false,
    })
}

/// A device key as rcgen wants it.
///
/// # Errors
/// Never with a device key.
pub fn pair(key: &DeviceKey) -> Result<KeyPair> {
    Ok(KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(key.to_pkcs8()), &PKCS_ED25519)?)
}

/// A heartbeat of a machine that is well.
#[must_use]
pub fn heartbeat() -> Heartbeat {
    let metrics = Metrics {
        load: 0.25,
        processors: 4,
        memory_total: 8 << 30,
        memory_available: 5 << 30,
        disk_total: 60 << 30,
        disk_available: 40 << 30,
    };
    Heartbeat {
        time: jiff::Timestamp::now(),
        state: "running".into(),
        software: "0.1.0".into(),
        uptime_seconds: 86_400,
        addresses: vec!["192.0.2.10".into(), "2001:db8::10".into()],
        metrics,
    }
}

/// Makes a gateway in a console, and gives its id and code.
///
/// # Errors
/// When it is refused.
pub fn gateway(console: &Console, name: &str, more: &Value) -> Result<(String, Code)> {
    let mut wanted = json!({ "name": name });
    if let (Some(wanted), Some(more)) = (wanted.as_object_mut(), more.as_object()) {
        wanted.extend(more.clone());
    }
    let made = console.api()?.json("POST", "/v1/gateways", &wanted)?.expect(201)?;
    let id = made["id"].as_str().context("there is no id")?.to_owned();
    let code = made["pairing"]["code"].as_str().context("there is no code")?;
    Ok((id, Code::parse(code)?))
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("origin", &self.origin).finish_non_exhaustive()
    }
}
