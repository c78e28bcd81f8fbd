//! The link: what a paired machine and its console tell each other from then on.
//!
//! One stream (WebSocket at `GET /v1/link`, subprotocol [`SUBPROTOCOL`], one JSON text message per value), or one
//! request after another where a proxy cannot carry it (`POST /v1/link/poll`, answered at once if it brought entries or there are
//! commands, and else after [`POLL_SECONDS`]). Both carry [`Upstream`] up and [`Downstream`] down.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::bytes::Bytes;

/// Of the WebSocket (RFC 6455, section 1.9).
pub const SUBPROTOCOL: &str = "gatewright.link.v1";
/// How long a poll is held open.
pub const POLL_SECONDS: u64 = 25;
/// The largest message, in bytes of JSON, either way.
pub const MAX_MESSAGE: usize = 256 * 1024;
/// The most entries in one message.
pub const MAX_ENTRIES: usize = 256;
/// The longest text in an entry, in bytes; longer ones are cut by whoever makes them.
pub const MAX_TEXT: usize = 4096;

/// From machine to console.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upstream {
    /// Names the machine's spool; sequences count within it.
    pub spool: Uuid,
    /// How it is, now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// What has happened, oldest first; sent until acknowledged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<Entry>,
}

/// From console to machine.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Downstream {
    /// The console's clock.
    pub time: Timestamp,
    /// Entries up to this sequence are stored and can be forgotten.
    pub acknowledged: u64,
    /// To be done, oldest first; sent until a [`Body::Result`] with their id is stored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<Command>,
    /// How often the console wants to hear from the machine.
    pub heartbeat_seconds: u32,
}

/// How a machine is. The newest counts; it is not kept while the console is away.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Heartbeat {
    /// Its clock.
    pub time: Timestamp,
    /// `pending`, `provisioning`, `running`, `deleting`; a newer machine may know more.
    pub state: String,
    /// Of its software.
    pub software: String,
    /// Since it was switched on.
    pub uptime_seconds: u64,
    /// Its addresses.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Numbers.
    #[serde(default)]
    pub metrics: Metrics,
}

/// Numbers of a machine, bytes where they are amounts.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Metrics {
    /// Load average of one minute.
    #[serde(default)]
    pub load: f64,
    /// Processors.
    #[serde(default)]
    pub processors: u32,
    /// Memory in all.
    #[serde(default)]
    pub memory_total: u64,
    /// Memory that programs could still have.
    #[serde(default)]
    pub memory_available: u64,
    /// The root file system in all.
    #[serde(default)]
    pub disk_total: u64,
    /// What is free of it.
    #[serde(default)]
    pub disk_available: u64,
}

/// Something that happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Entry {
    /// Counts up by one within a spool, from 1.
    pub sequence: u64,
    /// When, by the machine's clock.
    pub time: Timestamp,
    /// What.
    #[serde(flatten)]
    pub body: Body,
}

/// What happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Body {
    /// Something that people want to read.
    Event(Event),
    /// A condition has changed.
    Condition(Condition),
    /// What came of a command.
    Result(CommandResult),
    /// The spool was full: so many entries before this one are lost.
    Dropped {
        /// How many.
        count: u64,
    },
    /// Of a newer machine.
    #[serde(other)]
    Unknown,
}

/// For people (after Kubernetes' events).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// How bad.
    pub severity: Severity,
    /// A CamelCase word, stable.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Who says it, as in `firstboot`.
    pub source: String,
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// All is well.
    Info,
    /// It may mend itself.
    Warning,
    /// Somebody must act.
    Error,
}

/// A condition (after Kubernetes' conditions).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Condition {
    /// Which, as in `HostConfigured`, `Paired`, `CloudInfrastructureReady`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// A CamelCase word, stable.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Since when.
    pub last_transition_time: Timestamp,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum ConditionStatus {
    /// It does.
    True,
    /// It does not.
    False,
    /// Nobody knows (yet).
    Unknown,
}

/// Something to be done. Applied once however often it comes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Command {
    /// Its identity.
    pub id: Uuid,
    /// When it was given.
    pub time: Timestamp,
    /// What to do: `configure`, `reset`, `resize`, `upgrade`, `delete`, `collect-bundle`. A machine that does not know it
    /// says so in the result.
    pub kind: String,
    /// What it takes; for `configure` the gateway's configuration.
    #[serde(default)]
    pub arguments: Value,
}

/// What came of a command.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CommandResult {
    /// Of the command.
    pub command: Uuid,
    /// Whether it was done.
    pub outcome: Outcome,
    /// A sentence.
    #[serde(default)]
    pub message: String,
}

/// Whether a command was done.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It was.
    Done,
    /// It was not, and will not be.
    Failed,
    /// This machine does not know such a command.
    Unsupported,
}

/// `POST /v1/link/certificate`: a new certificate for the same key, while the old one still holds or, signed, after.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renewal {
    /// PKCS #10, DER, signed with the device key.
    pub certificate_request: Bytes,
}

/// The answer to a [`Renewal`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Renewed {
    /// Client certificate and its chain, PEM.
    pub certificate: String,
    /// CAs to trust from now on, PEM.
    pub ca_bundle: String,
}

/// `GET /v1/version`: for everybody.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct About {
    /// `gatewright-console`.
    pub product: String,
    /// Of the software.
    pub software: String,
    /// Versions of the protocol that it speaks.
    pub protocols: Vec<u32>,
    /// Its clock.
    pub time: Timestamp,
}
