//! What may be done to a gateway in which state.
//!
//! ```text
//! awaiting-pairing ──pairing──> pending ──configure──> provisioning ──> running ──delete──> deleting ──> deleted
//!                                  ^───────────reset──────────┴─────────────┘
//! ```

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a gateway is in its life.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The console knows of it, and no machine has proved to be it.
    AwaitingPairing,
    /// Its installer is paired and waits for a configuration.
    Pending,
    /// Its nodes are being built.
    Provisioning,
    /// All nodes are ready.
    Running,
    /// Its nodes are being removed.
    Deleting,
    /// It is no more.
    Deleted,
}

/// What can be asked of a gateway.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Take a configuration: build what it says, or change what can be changed of what runs.
    Configure,
    /// Remove what was built, and wait for another configuration. Of one that runs, the clusters run on and are managed no
    /// more.
    Reset,
    /// Grow from one node to three.
    Resize,
    /// Go over to the version that was announced.
    Upgrade,
    /// Remove everything.
    Delete,
    /// Collect a support bundle.
    CollectBundle,
}

/// Why something may not be done now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// One sentence.
    pub message: &'static str,
    /// What to do instead.
    pub hint: &'static str,
}

impl State {
    /// All of them, in the order of a life.
    pub const ALL: [State; 6] = [
        State::AwaitingPairing,
        State::Pending,
        State::Provisioning,
        State::Running,
        State::Deleting,
        State::Deleted,
    ];

    /// As in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            State::AwaitingPairing => "awaiting-pairing",
            State::Pending => "pending",
            State::Provisioning => "provisioning",
            State::Running => "running",
            State::Deleting => "deleting",
            State::Deleted => "deleted",
        }
    }
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 6] = [
        Action::Configure,
        Action::Reset,
        Action::Resize,
        Action::Upgrade,
        Action::Delete,
        Action::CollectBundle,
    ];

    /// As in JSON: the `kind` of a command of the link.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Configure => "configure",
            Action::Reset => "reset",
            Action::Resize => "resize",
            Action::Upgrade => "upgrade",
            Action::Delete => "delete",
            Action::CollectBundle => "collect-bundle",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text names no state or action; a newer machine may know more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("There is nothing of that name")]
pub struct Unknown;

impl FromStr for State {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<State, Unknown> {
        State::ALL.into_iter().find(|state| state.as_str() == text).ok_or(Unknown)
    }
}

impl FromStr for Action {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Action, Unknown> {
        Action::ALL.into_iter().find(|action| action.as_str() == text).ok_or(Unknown)
    }
}

/// Whether an action may be taken in a state.
///
/// # Errors
/// If it may not, with what to do instead.
pub const fn allowed(state: State, action: Action) -> Result<(), Refusal> {
    use Action::{CollectBundle, Configure, Delete, Reset, Resize, Upgrade};
    use State::{AwaitingPairing, Deleted, Deleting, Pending, Provisioning, Running};

    let (message, hint) = match (state, action) {
        (AwaitingPairing, Delete)
        | (Pending, Configure | Delete | CollectBundle)
        | (Provisioning, Reset | Delete | CollectBundle)
        | (Running, Configure | Reset | Resize | Upgrade | Delete | CollectBundle)
        | (Deleting, CollectBundle) => return Ok(()),
        (AwaitingPairing, _) => (
            "The gateway is not paired yet.",
            "Deploy the installer with the pairing code, and wait until it is here.",
        ),
        (Pending, Reset) => ("There is nothing to reset: nothing was built yet.", "Configure the gateway."),
        (Pending, Resize) => ("Nothing was built yet.", "Choose the size in the configuration."),
        (Pending, Upgrade) => {
            ("Nothing was built yet.", "Configure the gateway; it is built in the newest version.")
        }
        (Provisioning, Configure) => {
            ("The gateway is being built from another configuration.", "Wait until it runs, or reset it.")
        }
        (Provisioning, Resize | Upgrade) => ("The gateway is being built.", "Wait until it runs."),
        (Deleting, _) => ("The gateway is being deleted.", "Wait until it is gone, then create another."),
        (Deleted, _) => ("The gateway was deleted.", "Create another."),
    };
    Err(Refusal { message, hint })
}

/// Whether a gateway of so many nodes may be made one of so many others: from 1 to 3 and no other way, for etcd takes no
/// way back.
///
/// # Errors
/// If it may not, with what to do instead.
pub(crate) const fn resize(from: u32, to: u32) -> Result<(), Refusal> {
    let (message, hint) = match (from, to) {
        (1, 3) => return Ok(()),
        (_, 1) | (3, 3) => (
            "A gateway grows from 1 node to 3, and does not shrink.",
            "To have a smaller one, delete it and create another.",
        ),
        _ => ("A gateway has 1 node or 3.", "Choose 3."),
    };
    Err(Refusal { message, hint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        let mut table = String::new();
        for state in State::ALL {
            table += &format!("{state}\n");
            for action in Action::ALL {
                match allowed(state, action) {
                    Ok(()) => table += &format!("    {action:15}yes\n"),
                    Err(refusal) => table += &format!("    {action:15}{refusal} {}\n", refusal.hint),
                }
            }
        }
        insta::assert_snapshot!(table);
    }

    #[test]
    fn names_are_those_of_json() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
            assert_eq!(state.as_str().parse(), Ok(state));
        }
        for action in Action::ALL {
            assert_eq!(serde_json::to_value(action).unwrap(), action.as_str());
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        assert_eq!("levitating".parse::<State>(), Err(Unknown));
    }

    #[test]
    fn only_from_one_to_three() {
        for from in 0..6 {
            for to in 0..6 {
                assert_eq!(resize(from, to).is_ok(), (from, to) == (1, 3), "{from} to {to}");
            }
        }
    }
}
