//! Container images, made without a container: layouts as the OCI image specification has them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::path::Path;

use ::registry::Digest;
use serde_json::{Value, json};

use crate::registry::{Server, skopeo};

/// What a manifest is.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image layout, as other builders write it, into a folder. `manifests` are written as they are.
///
/// # Panics
/// When it cannot be written.
pub fn layout(dir: &Path, blobs: &[&[u8]], manifests: Value) {
    fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
    for blob in blobs {
        fs::write(dir.join("blobs/sha256").join(Digest::of(blob).hex()), blob).unwrap();
    }
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(dir.join("index.json"), index.to_string()).unwrap();
}

/// What a manifest says of a blob.
#[must_use]
pub fn describe(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(blob), "size": blob.len() })
}

/// An image of one file for an architecture: its manifest, configuration and layer.
///
/// # Panics
/// Never: it is made in memory.
#[must_use]
pub fn image(architecture: &str) -> [Vec<u8>; 3] {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(architecture.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "machine", architecture.as_bytes()).unwrap();
    let layer = tar.into_inner().unwrap();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer)] },
    })
    .to_string()
    .into_bytes();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    [manifest.to_string().into_bytes(), config, layer]
}

/// Gives a registry an image of one file, through `skopeo`.
///
/// # Panics
/// When it does not take it.
pub fn push_image(server: &Server, name: &str) {
    let [manifest, config, layer] = image("amd64");
    let dir = server.scratch().unwrap().join("layout");
    layout(&dir, &[&manifest, &config, &layer], json!([describe(MANIFEST, &manifest)]));
    let from = format!("oci:{}", dir.display());
    skopeo(&["copy", "--dest-tls-verify=false", &from, &format!("docker://{}/{name}", server.address())])
        .unwrap();
}
