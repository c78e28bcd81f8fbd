//! Pools of IP addresses that a gateway may use: their rules, their arithmetic, and who has which address.
//!
//! ```text
//! PoolSpec (as typed) ──read──> Pool (sound) ──> Arithmetic (for people)
//!                      └──────> Finding*    └──> Ledger (who has which address; outlives crashes)
//! ```
//!
//! Documented in `docs/ip-pools.md`.

mod arithmetic;
mod around;
mod book;
mod finding;
mod ledger;
mod pool;
mod read;
mod span;
mod spec;
pub mod text;

pub use arithmetic::{Arithmetic, LeftOut, MANY, needed, needed_by_gateway};
pub use around::{POOLS, Read, Surroundings, read_all};
pub use book::{Allotment, Book, MOST, Refusal, Usage};
pub use finding::Finding;
pub use ledger::{Ledger, LedgerError};
pub use pool::Pool;
pub use span::Span;
pub use spec::PoolSpec;
