//! OVF documents: [descriptors](descriptor) as they go into an OVA, and the [environment] that a
//! hypervisor hands to the virtual machine.
//!
//! Formats only: what a property means is for those who use it.

pub mod descriptor;
pub mod environment;

pub use descriptor::Descriptor;
pub use environment::Environment;
