//! A machine with facts of a test's choice, which tells its console what happens: a [`Machine`] and what it keeps.

use anyhow::{Result, bail, ensure};
use protocol::code::Code;
use protocol::link::{Body, Command, Entry, Heartbeat, Upstream};
use protocol::pairing::machine::Claimant;
use protocol::pairing::{Claim, Confirm, Confirmed, Verdict};
use uuid::Uuid;

use crate::console::Console;
use crate::https::Client;
use crate::machine::{Machine, Paired};

/// A machine that has sent its claim.
#[derive(Debug)]
pub struct Device {
    machine: Machine,
    client: Client,
    claimant: Claimant,
    confirm: Confirm,
    paired: Option<Paired>,
    spool: Uuid,
    sequence: u64,
}

/// What a machine says of itself.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Its host name.
    pub hostname: String,
    /// Its BIOS UUID.
    pub vm_uuid: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Of its software.
    pub software: String,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            hostname: "edge-01".into(),
            vm_uuid: "4221aa3c-6d1e-1c9e-b3f8-cb1ee5a9c2d5".into(),
            addresses: vec!["192.0.2.14".into(), "2001:db8::14".into()],
            software: "0.1.0".into(),
        }
    }
}

impl Device {
    /// Has the code and these facts; the console is asked with [`Device::verdict`].
    ///
    /// # Errors
    /// When no answer comes.
    pub fn claim(console: &Console, code: &str, facts: Facts) -> Result<Device> {
        let machine = Machine::new(console)?;
        let claimant = machine.start(&Code::parse(code)?)?;
        let claim = Claim {
            vm_uuid: Some(facts.vm_uuid),
            hostname: facts.hostname,
            addresses: facts.addresses,
            software: facts.software,
            ..machine.claim()?
        };
        let confirm = claimant.confirm(&claim);
        let client = console.client()?;
        Ok(Device { machine, client, claimant, confirm, paired: None, spool: Uuid::new_v4(), sequence: 0 })
    }

    /// What its screen shows, to compare.
    #[must_use]
    pub fn number(&self) -> String {
        self.claimant.number()
    }

    /// What the console says to the claim now.
    ///
    /// # Errors
    /// When it says nothing that could be trusted, as for a wrong code.
    pub fn verdict(&self) -> Result<Verdict> {
        let path = format!("/v1/pairings/{}/confirm", self.claimant.session());
        let answer = self.client.json("POST", &path, &serde_json::to_value(&self.confirm)?)?.expect(200)?;
        Ok(self.claimant.confirmed(&serde_json::from_value::<Confirmed>(answer)?)?)
    }

    /// Pairs.
    ///
    /// # Errors
    /// When it is not let in at once.
    pub fn pair(console: &Console, code: &str, facts: Facts) -> Result<Device> {
        let mut device = Device::claim(console, code, facts)?;
        match device.verdict()? {
            Verdict::Granted(grant) => device.paired = Some(device.machine.paired(console, *grant)?),
            other => bail!("it was not let in: {other:?}"),
        }
        Ok(device)
    }

    /// Tells the console what has happened, and how it is; says what is to be done. Something must have happened, or the
    /// console holds the answer back.
    ///
    /// # Errors
    /// When it is not paired, or the console does not take it.
    pub fn tell(&mut self, heartbeat: Option<Heartbeat>, happened: Vec<Body>) -> Result<Vec<Command>> {
        ensure!(!happened.is_empty(), "nothing has happened");
        let Some(paired) = &self.paired else { bail!("it is not paired") };
        let time = jiff::Timestamp::now();
        let entries = happened.into_iter().zip(self.sequence + 1..);
        let entries: Vec<Entry> = entries.map(|(body, sequence)| Entry { sequence, time, body }).collect();
        self.sequence += entries.len() as u64;
        Ok(paired.say(&Upstream { spool: self.spool, heartbeat, entries })?.commands)
    }
}
