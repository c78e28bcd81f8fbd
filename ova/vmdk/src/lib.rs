//! Virtual disks, written and read.
//!
//! | | |
//! |---|---|
//! | [`write_stream_optimized`] | the VMDK of an OVA: one forward pass, compressed on all cores, hashed meanwhile |
//! | [`write_raw`], [`vhd`] | a sparse raw file; fixed and dynamic VHDs as Azure takes them |
//! | [`Vmdk`] | reads any hosted VMDK at any place |
//! | [`walk`] | reads a streamOptimized VMDK from front to back, as importers do |
//!
//! What is read comes from a [`Source`]: a [`Raw`] file, a [`Vmdk`], or anything else with a capacity.
//!
//! Identifiers come from the content and no clock is read, so that the same disk makes the same file.
//!
//! Source: VMware, "Virtual Disk Format 5.0", sections "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse
//! Extents"; where that note says RFC 1951, every writer and reader means zlib (RFC 1950). Microsoft, "Virtual Hard Disk
//! Image Format Specification".

mod compress;
mod descriptor;
mod error;
mod layout;
mod raw;
mod read;
mod source;
#[cfg(test)]
mod testing;
pub mod vhd;
mod walk;
mod write;

pub use crate::compress::LEVEL;
pub use crate::descriptor::{Access, ExtentLine};
pub use crate::error::{Error, Problem, ReadError};
pub use crate::raw::write_raw;
pub use crate::read::{Facts, Vmdk};
pub use crate::source::{Raw, Source};
pub use crate::walk::{Walk, walk};
pub use crate::write::{Options, Written, write_stream_optimized};
