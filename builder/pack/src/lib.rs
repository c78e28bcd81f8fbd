//! Packs as users write them: versioned folders that each add one layer to an image or a cluster.
//!
//! ```text
//! folder or .tgz -> documents with places -> pack -> profile: packs in layer order, values merged, macros resolved
//!                            └-> lint: findings with rule, file, line, hint
//! ```

pub mod archive;
mod constraints;
pub mod definition;
pub mod document;
mod error;
mod fields;
pub mod lint;
mod macros;
mod merge;
mod new;
mod pack;
pub mod presets;
pub mod profile;
pub mod schema;
mod template;
#[cfg(test)]
mod testing;
mod version;

pub use definition::Definition;
pub use error::Error;
pub use merge::Origin;
pub use new::new;
pub use pack::{Content, Pack};
pub use presets::Preset;
pub use profile::{Facts, Profile, ProfilePack, Resources, Selection};
pub use schema::Schema;
