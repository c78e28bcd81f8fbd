//! A gateway that waits for its machine, and a machine that is played by hand: each message can be looked at, changed, sent
//! again or held back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, ensure};
use gatewright_tests::https::Answer;
use gatewright_tests::machine;
use protocol::bytes::Bytes;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::machine::{Claimant, Machine};
use protocol::pairing::{Claim, Confirm, Confirmed, Grant, Start, Started, Verdict};
use rcgen::{CertificateParams, DnType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring::sign::any_eddsa_type;
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::console;
use crate::line::Line;

/// A gateway in the console.
pub(crate) struct Gateway {
    pub(crate) id: String,
    pub(crate) code: Code,
}

impl Gateway {
    pub(crate) fn new() -> Result<Gateway> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("gateway-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let (id, code) = machine::gateway(console(), &name, &json!({}))?;
        Ok(Gateway { id, code })
    }

    /// What the console shows of it.
    pub(crate) fn view(&self) -> Result<Value> {
        console().api()?.get(&format!("/v1/gateways/{}", self.id))?.expect(200)
    }

    pub(crate) fn pairing(&self, field: &str) -> Result<Value> {
        Ok(self.view()?["pairing"][field].clone())
    }

    pub(crate) fn is_paired(&self) -> Result<bool> {
        Ok(self.view()?["paired_at"].is_string())
    }

    /// Messages of its events with a reason.
    pub(crate) fn events(&self, reason: &str) -> Result<Vec<String>> {
        let path = format!("/v1/gateways/{}/events?limit=500", self.id);
        let events = console().api()?.get(&path)?.expect(200)?;
        let all = events["items"].as_array().context("there are no events")?.iter();
        let with_reason = all.filter(|event| event["reason"] == reason);
        Ok(with_reason.map(|event| event["message"].as_str().unwrap_or_default().to_owned()).collect())
    }

    pub(crate) fn delete(&self) -> Result<()> {
        console().api()?.json("DELETE", &format!("/v1/gateways/{}", self.id), &Value::Null)?.expect(204)?;
        Ok(())
    }

    /// A new code, for a machine that is to take its place.
    pub(crate) fn new_code(&mut self) -> Result<()> {
        let path = format!("/v1/gateways/{}/pairing", self.id);
        let made = console().api()?.json("POST", &path, &json!({}))?.expect(200)?;
        self.code = Code::parse(made["pairing"]["code"].as_str().context("there is no code")?)?;
        Ok(())
    }

    /// Codes with the right locator and a wrong secret, all different.
    pub(crate) fn wrong_codes(&self) -> impl Iterator<Item = Code> {
        let (locator, right) =
            (self.code.locator().to_owned(), self.code.secret().parse::<u32>().unwrap_or(0));
        (1..).map(move |n| {
            let secret = format!("{:07}", (right + n) % 10_000_000);
            Code::new(&locator, &secret).expect("it has the digits of a code")
        })
    }
}

/// A machine at an address of its own.
pub(crate) struct ByHand {
    pub(crate) key: DeviceKey,
    pub(crate) line: Line,
}

impl ByHand {
    pub(crate) fn new() -> Result<ByHand> {
        Ok(ByHand { key: DeviceKey::generate(), line: Line::open(None)? })
    }

    /// Makes message 1.
    pub(crate) fn begin(&self, code: &Code) -> (Machine, Start) {
        Machine::start(code, &console().said().url, self.key.public())
    }

    /// Sends message 1.
    pub(crate) fn start(&mut self, locator: &str, start: &Start) -> Result<Answer> {
        Ok(self.line.post(&format!("/v1/pairings/{locator}/start"), start)?.0)
    }

    /// Messages 1 and 2.
    pub(crate) fn shake(&mut self, code: &Code) -> Result<Claimant> {
        let (machine, start) = self.begin(code);
        let answer = self.start(code.locator(), &start)?;
        answer.expect(200)?;
        Ok(machine.started(&answer.read::<Started>()?)?)
    }

    /// Sends message 3.
    pub(crate) fn confirm(&mut self, session: uuid::Uuid, message: &Confirm) -> Result<Answer> {
        Ok(self.line.post(&format!("/v1/pairings/{session}/confirm"), message)?.0)
    }

    /// Messages 3 and 4. `None`: rejected.
    pub(crate) fn claimed(&mut self, claimant: &Claimant) -> Result<Option<Verdict>> {
        let message = claimant.confirm(&self.claim()?);
        let answer = self.confirm(claimant.session(), &message)?;
        if answer.status == 403 {
            ensure!(answer.read::<Value>()?["type"] == "rejected", "{}", answer.text());
            return Ok(None);
        }
        answer.expect(200)?;
        Ok(Some(claimant.confirmed(&answer.read::<Confirmed>()?)?))
    }

    /// All four. `None`: rejected.
    pub(crate) fn try_code(&mut self, code: &Code) -> Result<Option<Verdict>> {
        let claimant = self.shake(code)?;
        self.claimed(&claimant)
    }

    /// Pairs as an honest machine does.
    pub(crate) fn pair(&mut self, code: &Code) -> Result<Grant> {
        match self.try_code(code)? {
            Some(Verdict::Granted(grant)) => Ok(*grant),
            other => anyhow::bail!("it was not granted: {other:?}"),
        }
    }

    pub(crate) fn claim(&self) -> Result<Claim> {
        let chain: Vec<_> = self.line.chain.iter().map(|certificate| Bytes(certificate.to_vec())).collect();
        machine::claim(&self.key, &chain)
    }
}

/// PKCS #10 for a key, asking for a name.
pub(crate) fn certificate_request(key: &DeviceKey, name: &str) -> Result<Vec<u8>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    Ok(params.serialize_request(&machine::pair(key)?)?.der().to_vec())
}

/// What a paired machine shows in TLS.
pub(crate) fn identity(key: &DeviceKey, certificates: &str) -> Result<Arc<CertifiedKey>> {
    let chain = CertificateDer::pem_slice_iter(certificates.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.to_pkcs8()))?;
    Ok(Arc::new(CertifiedKey::new(chain, key)))
}
