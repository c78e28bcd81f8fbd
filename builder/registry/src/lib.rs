//! OCI registries: what we push there and pull from there.
//!
//! ```text
//! artefact: files with titles  <-> Registry::{push_artifact, pull_artifact}   packs, finished images
//! container image              ->  Registry::image_archive                    an archive that `ctr` and `skopeo` read
//! names                        ->  Registry::{resolve, manifest, tags}, and set by Registry::tag
//! ```
//!
//! The protocol is `oci-client`'s; here is what makes it safe to use unattended. What is pulled has the length and the digest
//! that its manifest says, or is not kept; a stranger's file name is a bare one, or refused; no request takes longer than
//! [`Options`] explains; messages carry no secret. Calls block, and are not for use inside an async runtime.

mod artifact;
mod blob;
mod connection;
mod credentials;
mod error;
mod image;
mod manifest;
mod reference;

pub use artifact::{Artifact, Config, Content, Layer, Limits, Pulled, PulledFile};
pub use connection::{Options, PlainHttp, Registry};
pub use error::Error;
pub use manifest::{Descriptor, Manifest, TITLE};
pub use reference::{Digest, Reference};
