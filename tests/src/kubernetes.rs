//! The Kubernetes node: a container of its image, and what its pack promises.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};

use crate::container::{Container, INTERFACE};
use crate::fabric::Fabric;
use crate::image::Tree;

/// The pack's folder in this checkout.
const PACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packs/kubernetes-1.36.3");

/// The pack's version, as in `v1.36.3`.
#[must_use]
pub fn version() -> String {
    let (_, version) = PACK.rsplit_once('-').unwrap_or_default();
    format!("v{version}")
}

/// The names of the container images that the pack takes along, sorted.
///
/// # Errors
/// When its `values.yaml` cannot be read or has none.
pub fn images() -> Result<Vec<String>> {
    let file = Path::new(PACK).join("values.yaml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let values: serde_norway::Value = serde_norway::from_str(&text)?;
    let listed = values["pack"]["content"]["images"].as_sequence().context("no pack.content.images")?;
    let mut images = listed
        .iter()
        .map(|entry| entry["image"].as_str().map(str::to_owned).context("an entry without `image`"))
        .collect::<Result<Vec<_>>>()?;
    images.sort();
    Ok(images)
}

/// A node that has not been switched on, and is told its name, its network and commands as Cluster API tells a clone.
///
/// What is not the image's own: containerd's folder is a file system of its own, for its snapshots are overlays and the
/// container's root is one already; and cloud-init, which takes a container for no VMware machine, is given what
/// `vmware-rpctool` would say in its environment.
///
/// # Errors
/// When it or its network cannot be made.
pub fn node(tree: &Arc<Tree>, name: &str, user_data: &str) -> Result<Container> {
    let network = Arc::new(Fabric::single()?);
    let container = Container::new(tree, &network)?;
    // By name: cloud-init looks for hardware addresses only on cards that have hardware.
    let metadata = format!(
        "instance-id: {name}\nlocal-hostname: {name}\n\
         network: {{version: 2, ethernets: {{{INTERFACE}: {{dhcp4: true}}}}}}\n"
    );
    container.put("etc/fstab", "tmpfs /var/lib/containerd tmpfs mode=0711 0 0\n", 0o644)?;
    container.put("var/lib/harness/metadata", &metadata, 0o600)?;
    container.put("var/lib/harness/userdata", user_data, 0o600)?;
    container.put("etc/systemd/system/cloud-init-main.service.d/harness.conf", CLOUD_INIT, 0o644)?;
    container.put("var/lib/harness/cloud-init", CLOUD_INIT_MAIN, 0o755)?;
    Ok(container)
}

const CLOUD_INIT: &str = "[Service]\nExecStart=\nExecStart=/var/lib/harness/cloud-init\n";
const CLOUD_INIT_MAIN: &str = r#"#!/bin/sh
cd /var/lib/harness
export VMX_GUESTINFO=1 VMX_GUESTINFO_METADATA="$(cat metadata)" VMX_GUESTINFO_USERDATA="$(cat userdata)"
exec /usr/bin/cloud-init --all-stages
"#;
