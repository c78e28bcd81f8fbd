//! What the daemon tells the world: `/run/gatewright/status.json`, which `status`, `set` and the screen show.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::property::Property;

/// The whole document. Holds no secrets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Of this format: 1.
    pub(crate) version: u32,
    pub(crate) state: State,
    /// In the order in which they are done.
    pub(crate) steps: Vec<StepStatus>,
    /// Keys that are needed later and not given yet.
    pub(crate) missing: Vec<String>,
    /// Sentences about what was taken differently from how it was typed.
    pub(crate) notes: Vec<String>,
    /// What is in force; `(set)` for secrets.
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) source: Source,
}

/// The machine as a whole.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// Some step has not ended yet.
    Configuring,
    /// Some value is wrong; people must act.
    NeedsInput,
    /// Some step failed; it is tried again.
    Retrying,
    /// All is done.
    Configured,
}

/// One step.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct StepStatus {
    pub(crate) name: String,
    pub(crate) state: StepState,
    /// When it came into this state, RFC 3339.
    pub(crate) since: String,
    /// Since its input changed last.
    pub(crate) attempts: u32,
    /// One sentence: the result, or what it waits for.
    pub(crate) message: Option<String>,
    pub(crate) problems: Vec<Problem>,
}

/// How far a step is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StepState {
    Pending,
    Running,
    Done,
    /// Its input is wrong: waits for `set`.
    Invalid,
    /// Tried again with back-off.
    Failed,
}

impl StepState {
    /// Whether it waits for nobody but people or time.
    pub(crate) fn is_settled(self) -> bool {
        !matches!(self, StepState::Pending | StepState::Running)
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            StepState::Pending => "pending",
            StepState::Running => "running",
            StepState::Done => "done",
            StepState::Invalid => "invalid",
            StepState::Failed => "failed",
        })
    }
}

/// An address that the machine has.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Address {
    pub(crate) interface: String,
    /// With its prefix length, as in `10.0.0.5/24`.
    pub(crate) address: String,
}

/// Where the values come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Source {
    Guestinfo,
    Cdrom,
    /// From an earlier boot.
    Kept,
    #[default]
    None,
}

/// Something that is wrong, and how to put it right.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Problem {
    /// The key of the property to change.
    pub(crate) property: String,
    /// What it is now; `(set)` for secrets.
    pub(crate) given: Option<String>,
    pub(crate) expected: String,
    /// What is wrong, in a sentence.
    pub(crate) message: String,
    /// What to do, in a sentence.
    pub(crate) hint: String,
}

impl Problem {
    /// Of the property with this key, expecting what is expected of it in general.
    pub(crate) fn new(key: &str, message: impl Into<String>, hint: impl Into<String>) -> Problem {
        Problem {
            property: key.into(),
            given: None,
            expected: Property::find(key).map_or("", |property| property.expected).into(),
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// The command that people are told to type.
pub(crate) fn set_command(assignments: &str) -> String {
    format!("sudo gatewright-firstboot set {assignments}")
}
