//! What kept the machine from its console: at which stage, in a sentence, and what to do about it.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far it came.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The name of the console, or of the proxy, was not found.
    Dns,
    /// No connection: no route, refused, no answer.
    Connect,
    /// The proxy did not let it pass.
    Proxy,
    /// No TLS, or a certificate that cannot be right.
    Tls,
    /// TLS is ended by somebody who is neither the console nor a proxy whose CA was given.
    Intercepted,
    /// No answer, or none that a console gives.
    Http,
    /// The proxy or the console does not carry WebSocket; requests may still pass.
    Upgrade,
    /// The clocks are too far apart for a signature.
    Clock,
    /// One of the two is too old for the other.
    Version,
    /// The console does not know itself by this URL.
    Origin,
    /// The pairing code is wrong, expired, used or locked; the console does not say which.
    Code,
    /// Somebody said no.
    Refused,
    /// Too often; later again.
    Busy,
    /// The console has removed this gateway.
    Revoked,
    /// This machine cannot keep what it must.
    Disk,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Dns => "DNS",
            Stage::Connect => "route",
            Stage::Proxy => "proxy",
            Stage::Tls | Stage::Intercepted => "TLS",
            Stage::Http | Stage::Busy => "console",
            Stage::Upgrade => "stream",
            Stage::Clock => "clock",
            Stage::Version => "console version",
            Stage::Origin => "console URL",
            Stage::Code => "pairing code",
            Stage::Refused => "approval",
            Stage::Revoked => "gateway",
            Stage::Disk => "disk",
        })
    }
}

/// What went wrong.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// At which stage.
    pub stage: Stage,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Not before this much time, where the console said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(stage: Stage, message: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { stage, message: message.into(), hint: hint.into(), retry_after: None }
    }

    /// Whether trying again is of no use before somebody has changed something on this machine. What is mended elsewhere, as by
    /// a console that is started with another `--url`, is no such thing; nor is what anybody on the way may have written.
    #[must_use]
    pub fn needs_somebody(&self) -> bool {
        matches!(self.stage, Stage::Code | Stage::Refused | Stage::Revoked)
    }

    pub(crate) fn disk(what: &str, error: &std::io::Error) -> Failure {
        Failure::new(
            Stage::Disk,
            format!("{what}: {error}."),
            "look whether the disk is full or was mounted read-only",
        )
    }
}

/// What somebody else has written, fit for a line of a screen: no control characters, at most `most` characters.
pub(crate) fn clean(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}
