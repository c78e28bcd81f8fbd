//! What `gatewright-firstboot status --json` prints and `/run/gatewright/status.json` holds, as a reader outside sees it.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Where the daemon publishes it.
pub const PATH: &str = "/run/gatewright/status.json";

/// The whole document.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Of the document's form; 1.
    pub version: u32,
    /// `configuring`, `needs-input`, `retrying`, `configured` or `paired`.
    pub state: String,
    /// In the order they run.
    pub steps: Vec<Step>,
    /// Keys that will be needed and have no value yet.
    pub missing: Vec<String>,
    /// What was corrected silently and is told nevertheless.
    pub notes: Vec<String>,
    /// By key; secrets read `(set)`.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// Of this machine.
    pub addresses: Vec<Address>,
    /// Where the settings came from: `guestinfo`, `cdrom`, `kept` or `none`.
    pub source: String,
}

/// One step.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// `settings`, `hostname`, `network`, `ca`, `proxy`, `ntp`, `ssh-key`, `preflight`, `pair` or `gateway`.
    pub name: String,
    /// `pending`, `running`, `waiting`, `done`, `invalid` or `failed`.
    pub state: String,
    /// How often it ran.
    pub attempts: u32,
    /// For people.
    pub message: Option<String>,
    /// What is wrong with its input.
    pub problems: Vec<Problem>,
}

/// One wrong value.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    /// The property's key.
    pub property: String,
    /// What was given; nothing where it is a secret or nothing was given.
    pub given: Option<String>,
    /// What is expected.
    pub expected: String,
    /// For people.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// One address of the machine.
#[derive(Debug, Clone, Deserialize)]
pub struct Address {
    /// The name of the network interface.
    pub interface: String,
    /// With or without prefix length.
    pub address: String,
}

impl Status {
    /// The step of that name.
    #[must_use]
    pub fn step(&self, name: &str) -> Option<&Step> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The steps that make the machine; what is left needs a console.
    pub fn machine_steps(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !["preflight", "pair", "gateway"].contains(&step.name.as_str()))
    }

    /// Whether the machine is as it should be, whatever its console is like.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.machine_steps().all(|step| step.state == "done")
    }

    /// All problems of all steps.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.steps.iter().flat_map(|step| &step.problems)
    }

    /// A setting as text; empty if it is not set.
    #[must_use]
    pub fn setting(&self, key: &str) -> String {
        match self.settings.get(key) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}
