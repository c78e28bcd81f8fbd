//! The steps that make the machine what the settings say. Each tells the files that should be there, and makes the
//! running system follow them; both can be done again at any time.
//!
//! ```text
//! settings -> files() -> written where they differ -> activate() -> recorded as done
//! ```

mod ca;
mod hostname;
mod network;
mod ntp;
mod proxy;
mod ssh_key;

use std::fmt::Debug;
use std::time::Duration;

use crate::files::Owner;
use crate::settings::Settings;
use crate::status::Problem;
use crate::store::Paths;
use crate::system::System;

/// How long a program of the system may take.
const LIMIT: Duration = Duration::from_secs(60);

/// What a step works on.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) system: &'a dyn System,
    pub(crate) settings: &'a Settings,
}

/// A file as it should be.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    /// Nothing where it should not be.
    pub(crate) content: Option<String>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<Owner>,
}

impl File {
    fn new(path: &str, content: Option<String>) -> File {
        File { path: path.into(), content, mode: 0o644, owner: None }
    }
}

/// Why a step is not done.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) problem: Problem,
    pub(crate) kind: Kind,
}

/// What helps against a trouble.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Doing it again.
    Failed,
    /// Time: everything was done.
    Waiting,
    /// Time, and then doing it.
    NotYet,
}

/// Why [`Step::activate`] is called.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trigger {
    /// Only to look: nothing changed since it was last done.
    Look,
    /// The files changed, or it is not known that the system follows them.
    Changed,
    /// It did not help the last time.
    Retry,
}

/// One step.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    /// The properties that it cannot do without. The first stands for the step in its problems.
    pub(crate) properties: &'static [&'static str],
    /// Whether nothing was given: then there is nothing to activate on a machine that never had it.
    pub(crate) is_unset: fn(&Settings) -> bool,
    /// What should be there.
    pub(crate) files: fn(&Context<'_>) -> Result<Vec<File>, Trouble>,
    /// Makes the system follow the files, and says in a sentence what is now.
    pub(crate) activate: fn(&Context<'_>, Trigger) -> Result<String, Trouble>,
}

/// All steps but the first, `settings`, which is reading them.
pub(crate) const STEPS: &[Step] =
    &[hostname::STEP, network::STEP, ca::STEP, proxy::STEP, ntp::STEP, ssh_key::STEP];

/// A trouble that goes away by itself or not; nothing was typed wrong.
pub(crate) fn failed(key: &str, message: impl ToString) -> Trouble {
    let hint = "It is tried again by itself; `sudo gatewright-firstboot retry` does it at once.";
    Trouble {
        problem: Problem { expected: String::new(), ..Problem::new(key, message.to_string(), hint) },
        kind: Kind::Failed,
    }
}

/// The text of a file that we share with others; empty where there is none.
fn shared(context: &Context<'_>, key: &str, path: &str) -> Result<String, Trouble> {
    let content =
        crate::files::read(&context.paths.of(path)).map_err(|e| failed(key, crate::daemon::chain(&e)))?;
    Ok(String::from_utf8_lossy(&content.unwrap_or_default()).into_owned())
}
