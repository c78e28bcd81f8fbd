//! First boot of a Gatewright machine: from the OVF properties to a configured host.
//!
//! ```text
//! guestinfo / CD-ROM -> settings.json -> Settings -> steps -> journal.json
//!        `set` ------------^                 |         |
//!                                        problems -> status.json -> screen, `status`
//! ```

mod cli;
mod control;
mod daemon;
mod files;
mod property;
mod run;
mod screen;
mod secret;
mod settings;
mod source;
mod status;
mod steps;
mod store;
mod system;

pub use cli::main;
pub use property::{PROPERTIES, Property};
