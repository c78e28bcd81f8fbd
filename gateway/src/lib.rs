//! What a gateway should be: its configuration and the rules it must meet, its sizes, and what may be done to it in which
//! state. Console and agent share it. Nothing here touches a network or a file.
//!
//! ```text
//! JSON ──serde──> Configuration ──normalise──> Note*    (what was repaired)
//!                               └─check──────> Finding* (what must be corrected)
//! ```

mod change;
mod check;
mod configuration;
mod lifecycle;
mod network;
mod normalise;
mod sizing;
mod vcenter;

pub use configuration::{
    Account, Configuration, Endpoint, EndpointKind, IpAllocation, NodeSize, Note, Placement,
};
pub use ip_pools::{Arithmetic, Finding, POOLS, PoolSpec};
pub use lifecycle::{Action, Refusal, State, allowed};
pub use network::PoolReport;
pub use sizing::{Hardware, deployments};
