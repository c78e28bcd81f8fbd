//! What can end a command, and how a person is told.

use std::fmt;
use std::path::PathBuf;

/// Exit codes, as `gatewright --help` lists them.
pub(crate) mod exit {
    /// The input is wrong, or the host lacks something; the user can mend it.
    pub(crate) const USER: u8 = 1;
    /// A step failed: the archive, a role, the disk, or a defect of ours.
    pub(crate) const FAILURE: u8 = 2;
    /// Ctrl-C (128 + SIGINT) and `kill` (128 + SIGTERM), as shells report them.
    pub(crate) const SIGNAL_BASE: u8 = 128;
}

/// The end of a command that did not succeed. Everything else is an [`anyhow::Error`] and exits with
/// [`exit::FAILURE`].
#[derive(Debug)]
pub(crate) enum Failure {
    /// The user can mend it; `hint` says how.
    User { message: String, hint: Option<String> },
    /// A build step failed; its log has the whole story and `tail` the end of it.
    Step { step: String, message: String, log: PathBuf, tail: Vec<String>, hint: Option<String> },
    /// A signal asked us to stop. Everything was cleaned up.
    Interrupted { signal: i32 },
}

impl Failure {
    /// A mistake of the user's, with the way out.
    pub(crate) fn user(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
        Failure::User { message: message.into(), hint: Some(hint.into()) }.into()
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::User { .. } => exit::USER,
            Failure::Step { .. } => exit::FAILURE,
            // Only SIGINT (2) and SIGTERM (15) are caught, so this fits.
            Failure::Interrupted { signal } => exit::SIGNAL_BASE + *signal as u8,
        }
    }

    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Failure::User { hint, .. } | Failure::Step { hint, .. } => hint.as_deref(),
            Failure::Interrupted { .. } => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::User { message, .. } => f.write_str(message),
            Failure::Step { step, message, log, tail, .. } => {
                write!(f, "Step `{step}` failed: {message}\n  log: {}", log.display())?;
                for line in tail {
                    write!(f, "\n  | {line}")?;
                }
                Ok(())
            }
            Failure::Interrupted { .. } => f.write_str("Interrupted; nothing was left behind"),
        }
    }
}

impl std::error::Error for Failure {}

/// The hint for what a step's log or an error says went wrong: the failures that have a remedy outside of us.
pub(crate) fn hint_from_log(text: &str) -> Option<String> {
    const SIGNS: &[(&[&str], &str)] = &[
        (
            &["No space left on device"],
            "free some space, or name another folder with `--cache-dir` and `--out-dir`",
        ),
        (
            &[
                "Could not connect",
                "Failed to fetch",
                "Could not resolve",
                "Temporary failure resolving",
                "Connection timed out",
                "Connection refused",
            ],
            "the package archive did not answer: check the network, `http_proxy`, or name another with `--mirror`",
        ),
        (
            &["Unable to locate package", "has no installation candidate"],
            "the archive has no such package: check `pack.packages` of the packs, or `--refresh` an old package index",
        ),
        (
            &["Hash Sum mismatch", "File has unexpected size"],
            "the archive has changed since it was indexed: build again with `--refresh`",
        ),
        (
            &["404  Not Found"],
            "the archive no longer has a package of the cached index: build again with `--refresh`",
        ),
        (
            &["NO_PUBKEY", "is not signed", "Missing key"],
            "the archive's signature is not by the pack's keyring: check `pack.archive.keyring`",
        ),
    ];
    SIGNS
        .iter()
        .find(|(signs, _)| signs.iter().any(|sign| text.contains(sign)))
        .map(|(_, hint)| (*hint).to_string())
}
