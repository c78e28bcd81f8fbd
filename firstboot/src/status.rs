//! What everybody may know of first boot: `/run/gatewright/status.json`, written by the daemon, read by `status`, by
//! `set` and by tests. It holds no secrets.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files::{Machine, write_atomic};
use crate::settings::Problem;
use crate::steps::{InterfaceAddress, Name};

const FILE: &str = "/run/gatewright/status.json";
/// Raised when a reader would have to change.
pub(crate) const VERSION: u32 = 1;

/// The whole.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Status {
    pub(crate) version: u32,
    pub(crate) state: Overall,
    pub(crate) steps: Vec<StepStatus>,
    /// Keys without a value that pairing will need.
    pub(crate) missing: Vec<String>,
    /// What was repaired or left aside.
    pub(crate) notes: Vec<String>,
    /// Effective values; a secret only says that it is set.
    pub(crate) settings: BTreeMap<String, String>,
    /// Addresses that the machine has.
    pub(crate) addresses: Vec<InterfaceAddress>,
    /// `guestinfo`, `cdrom`, `kept` (of an earlier boot) or `none`.
    pub(crate) source: String,
    /// Of the values; see [`crate::store::Values::revision`].
    pub(crate) revision: u64,
    /// Whether every step has come to a result with these values.
    pub(crate) settled: bool,
}

/// All steps in one word.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Overall {
    /// Steps are under way.
    Configuring,
    /// A value is wrong and waits for `set`.
    NeedsInput,
    /// A step failed and is tried again by itself.
    Retrying,
    /// All that can be done without pairing.
    Configured,
    /// Paired with the console.
    Paired,
}

/// One step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct StepStatus {
    pub(crate) name: Name,
    pub(crate) state: State,
    /// When it came into this state.
    pub(crate) since: Timestamp,
    /// How often it was tried with these values.
    pub(crate) attempts: u32,
    pub(crate) message: Option<String>,
    pub(crate) problems: Vec<Problem>,
}

/// Where a step is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Not begun.
    Pending,
    /// Under way, or waiting for the machine.
    Running,
    /// It waits for a person elsewhere, or for a step before it.
    Waiting,
    /// Done.
    Done,
    /// A value is wrong.
    Invalid,
    /// It failed; it is tried again.
    Failed,
}

impl Status {
    pub(crate) fn write(&self, machine: &Machine) -> Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        write_atomic(&machine.path(FILE), 0o644, None, &text).with_context(|| format!("Cannot write {FILE}"))
    }

    /// What the daemon last wrote; nothing where it has not run since boot.
    pub(crate) fn read(machine: &Machine) -> Result<Option<Status>> {
        machine
            .read(FILE)?
            .map(|text| serde_json::from_str(&text).with_context(|| format!("{FILE} is no status")))
            .transpose()
    }
}

/// All steps in one word; what a person must do comes first.
pub(crate) fn overall(steps: &[StepStatus]) -> Overall {
    let any = |state| steps.iter().any(|step| step.state == state);
    if any(State::Pending) || any(State::Running) {
        Overall::Configuring
    } else if any(State::Invalid) {
        Overall::NeedsInput
    } else if any(State::Failed) {
        Overall::Retrying
    } else if steps.iter().any(|step| step.name == Name::Pair && step.state == State::Done) {
        Overall::Paired
    } else {
        Overall::Configured
    }
}
