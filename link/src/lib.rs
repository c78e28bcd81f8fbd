//! How a machine talks to its console: outbound only, through whatever is in between.
//!
//! ```text
//! Route ──> dial: no-proxy rules, DNS, TCP, proxy, TLS ──> preflight   one line per stage
//!                                                     ├──> pair        code ──> grant, in the Store
//!                                                     └──> Link        heartbeats and spool up, commands down
//! ```
//!
//! Everything runs on tokio, also on a runtime of one thread. A machine without a connection to its console goes on: what
//! happens is kept in the [`Spool`], bounded, until the console has it.

mod backoff;
mod chain;
mod clock;
mod commands;
mod console;
mod dial;
mod failure;
mod files;
mod http;
mod link;
mod no_proxy;
mod pair;
mod polling;
mod preflight;
mod renewal;
mod route;
mod spool;
mod status;
mod store;
mod stream;
mod trust;

pub use clock::Clock;
pub use commands::{Applied, Order};
pub use failure::{Failure, Stage};
pub use link::{End, Link};
pub use pair::{Facts, Progress, pair};
pub use preflight::{Check, Outcome, preflight};
pub use route::{Proxy, Route};
pub use spool::{Bounds, Spool};
pub use status::{Kind, State, Status, Transport};
pub use store::Store;
