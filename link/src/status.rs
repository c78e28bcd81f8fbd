//! How the link is, for the screen.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;

/// A picture of now. Times are by this machine's clock.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// What it does.
    pub state: State,
    /// Since when it does that.
    pub since: Option<Timestamp>,
    /// How it speaks to the console, or did last.
    pub transport: Option<Transport>,
    /// What went wrong last, and when; `None` once a connection has lasted for a while.
    pub trouble: Option<(Timestamp, Failure)>,
    /// When the last message of the console came.
    pub heard: Option<Timestamp>,
    /// What keeps the certificate from being renewed, where it should have been.
    pub renewal: Option<Failure>,
}

/// What a link does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum State {
    /// Not begun.
    #[default]
    Idle,
    /// It tries.
    Connecting,
    /// It speaks with the console.
    Connected,
    /// It waits before it tries again.
    Waiting {
        /// Until then.
        until: Timestamp,
    },
    /// The console has removed this gateway.
    Revoked,
}

/// How it speaks to the console.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Transport {
    /// By what.
    pub kind: Kind,
    /// Through which proxy, `host:port`.
    pub proxy: Option<String>,
    /// Whether requests are signed, because a proxy ends TLS or the certificate is past.
    pub signed: bool,
}

/// What carries messages.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// WebSocket.
    Stream,
    /// One request after another.
    Polling,
}
