//! OVF documents.
//!
//! ```text
//! bytes -> Document -> Envelope: what a descriptor says   -> to_xml: the same bytes
//!             `------> validate: what is wrong with it
//! Descriptor -> to_xml: what this workspace puts into an OVA, importable by construction
//! bytes -> Environment: what a hypervisor hands to the virtual machine
//! ```
//!
//! Formats only: what a property means is for those who use it.

pub mod descriptor;
mod document;
pub mod envelope;
pub mod environment;
pub mod hardware;
mod lexical;
pub mod product;
mod reader;
pub mod tree;
pub mod units;
pub mod validate;
mod value;

pub use descriptor::Descriptor;
pub use document::Document;
pub use envelope::Envelope;
pub use environment::Environment;
pub use reader::ParseError;
pub use validate::Problem;
pub use value::{Position, Value};
