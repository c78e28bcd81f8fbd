//! The console: gives out pairing codes, pairs with machines, shows gateways and takes their configuration.
//!
//! ```text
//! browser ──> pages ──┐
//! CI ───────> api ────┴──> gateways ──> store (SQLite, PostgreSQL)
//! machine ──> machine ───────────────────^
//! ```

pub mod accounts;
pub mod api;
pub mod auth;
pub mod ca;
pub mod cli;
pub mod data_key;
pub mod error;
pub mod gateways;
mod listen;
pub mod machine;
pub mod pages;
pub mod serve;
pub mod settings;
pub mod state;
pub mod store;
pub mod tls;
pub mod tokens;
