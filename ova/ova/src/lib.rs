//! OVA archives: a tar file with an OVF descriptor, its manifest, perhaps a certificate, and the files it refers to
//! (DSP0243, section 5.3).
//!
//! ```text
//! descriptor, members with sizes  -> pack             any writer; members are read once
//! contents, descriptor afterwards -> write_seekable   a file: the head is filled in last, one pass over the data
//!                                 -> write_stream     a pipe: contents are spooled first
//! archive -> Archive::open -> members as facts -> reader, unpack
//! ```
//!
//! Written so that every importer takes it: plain ustar headers with bare names (GNU's binary size only from 8 GiB on,
//! never PAX), descriptor first, no owners, one time. The same input gives the same bytes. Read without trust, whoever
//! wrote it.

mod archive;
pub mod certificate;
mod header;
pub mod manifest;
mod unpack;
mod write;

pub use archive::{Archive, End, Entry, Extension, ExtensionKind, Problem, ReadError, Reader};
pub use certificate::{Signer, SignerError};
pub use header::{Format, Kind, SizeEncoding};
pub use unpack::{Limits, UnpackError, unpack};
pub use write::{
    Content, Descriptor, Error, Member, MemberFacts, Options, Written, pack, write_seekable, write_stream,
};
