//! The build under test, named by `GATEWRIGHT_BUILD_JSON`: the file with what `gatewright build --json` printed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;
use crate::run::base;

#[derive(Debug, Deserialize)]
struct BuildResult {
    signature: String,
    outputs: Vec<BuildOutput>,
    layers: Layers,
}

#[derive(Debug, Deserialize)]
struct BuildOutput {
    kind: String,
    path: PathBuf,
    sha256: String,
}

#[derive(Debug, Deserialize)]
struct Layers {
    roles: Layer,
}

#[derive(Debug, Deserialize)]
struct Layer {
    key: String,
    path: PathBuf,
}

/// A build: its OVA, and the tree that its disk was made from.
#[derive(Debug)]
pub struct Image {
    build: BuildResult,
}

/// The finished tree, unpacked. Shared by all hosts of all runs, and never written.
#[derive(Debug)]
pub struct Tree {
    path: PathBuf,
    /// Shared for as long as the tree is in use, so that nobody tidies it away.
    _lock: File,
}

impl Image {
    /// The build that `GATEWRIGHT_BUILD_JSON` names: the installer.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn from_environment() -> Result<Image> {
        Image::named_by("GATEWRIGHT_BUILD_JSON")
    }

    /// The build that `GATEWRIGHT_NODE_JSON` names: the Kubernetes node.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn node() -> Result<Image> {
        Image::named_by("GATEWRIGHT_NODE_JSON")
    }

    fn named_by(variable: &str) -> Result<Image> {
        let Some(path) = std::env::var_os(variable).map(PathBuf::from) else {
            bail!("{variable} does not name a build result (`make test` sets it)");
        };
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let build = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a result of `gatewright build --json`", path.display()))?;
        Ok(Image { build })
    }

    /// The signature that the image must carry, 64 hexadecimal digits.
    #[must_use]
    pub fn signature(&self) -> &str {
        &self.build.signature
    }

    /// The finished tree as the builder keeps it: a tar archive in its cache.
    #[must_use]
    pub fn tree_archive(&self) -> &Path {
        &self.build.layers.roles.path
    }

    /// The tree, unpacked by the first who asks.
    ///
    /// # Errors
    /// When it cannot be unpacked.
    pub fn tree(&self) -> Result<Arc<Tree>> {
        let Layer { key, path: archive } = &self.build.layers.roles;
        let (path, lock) = cached("trees", key, |folder| {
            // tar keeps what the tar crate does not: extended attributes, and owners by number.
            process::output(
                Command::new("tar")
                    .args([
                        "--extract",
                        "--numeric-owner",
                        "--same-permissions",
                        "--xattrs",
                        "--xattrs-include=*",
                    ])
                    .arg("--file")
                    .arg(archive)
                    .arg("--directory")
                    .arg(folder),
            )?;
            Ok(())
        })?;
        Ok(Arc::new(Tree { path, _lock: lock }))
    }

    /// The OVA.
    ///
    /// # Errors
    /// When the build made none.
    pub fn ova(&self) -> Result<&Path> {
        Ok(&self.ova_output()?.path)
    }

    fn ova_output(&self) -> Result<&BuildOutput> {
        self.build.outputs.iter().find(|output| output.kind == "ova").context("the build made no OVA")
    }

    /// The disk out of the OVA, in a form that is quick to boot from.
    ///
    /// # Errors
    /// When the OVA has no VMDK, or QEMU does not accept it.
    pub fn disk(&self) -> Result<Disk> {
        let output = self.ova_output()?;
        let (folder, lock) = cached("disks", &output.sha256, |folder| {
            let shipped = folder.join("shipped.vmdk");
            extract_vmdk(&output.path, &shipped)?;
            let quick = folder.join("disk.qcow2");
            let qemu_img = |arguments: &[&str]| {
                process::output(Command::new("qemu-img").args(arguments).arg(&shipped).arg(&quick)).map(drop)
            };
            // QEMU inflates a grain of a stream-optimised VMDK at every read of it. It is unpacked once instead, and
            // compared: what boots is what ships.
            qemu_img(&["convert", "-f", "vmdk", "-O", "qcow2"])?;
            qemu_img(&["compare", "-q", "-f", "vmdk", "-F", "qcow2"])?;
            Ok(())
        })?;
        Ok(Disk { path: folder.join("disk.qcow2"), _lock: lock })
    }
}

/// The shipped disk's content, never written.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
    _lock: File,
}

impl Disk {
    /// The qcow2 file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Tree {
    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub fn kernel(&self) -> Result<PathBuf> {
        self.boot_file("vmlinuz-")
    }

    /// The initial RAM disk.
    ///
    /// # Errors
    /// When there is not exactly one.
    pub fn initrd(&self) -> Result<PathBuf> {
        self.boot_file("initrd.img-")
    }

    fn boot_file(&self, prefix: &str) -> Result<PathBuf> {
        let folder = self.path.join("boot");
        let mut found: Vec<PathBuf> = fs::read_dir(&folder)
            .with_context(|| format!("cannot list {}", folder.display()))?
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect();
        match (found.pop(), found.is_empty()) {
            (Some(file), true) => Ok(file),
            (None, _) => bail!("there is no {prefix}* in {}", folder.display()),
            _ => bail!("there is more than one {prefix}* in {}", folder.display()),
        }
    }
}

/// A folder that is made once per content and then shared. Returns it with a lock that keeps it.
/// Folders of other content, which nobody holds, make room.
fn cached(kind: &str, key: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<(PathBuf, File)> {
    let parent = base().join(kind);
    fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let gate = File::create(parent.join("gate"))?;
    gate.lock()?;
    let folder = parent.join(key);
    for other in fs::read_dir(&parent)?.flatten().map(|entry| entry.path()) {
        let lock = parent.join(format!("{}.lock", other.file_name().unwrap_or_default().to_string_lossy()));
        if other.is_dir() && other != folder && File::create(&lock)?.try_lock().is_ok() {
            fs::remove_dir_all(&other)?;
            fs::remove_file(&lock)?;
        }
    }
    let lock = File::create(parent.join(format!("{key}.lock")))?;
    lock.lock_shared()?;
    if !folder.is_dir() {
        let partial = parent.join(format!("{key}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        fs::create_dir(&partial)?;
        fill(&partial)?;
        fs::rename(&partial, &folder)?;
    }
    Ok((folder, lock))
}

fn extract_vmdk(ova: &Path, target: &Path) -> Result<()> {
    let file = File::open(ova).with_context(|| format!("cannot open {}", ova.display()))?;
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries()? {
        let mut entry = entry.with_context(|| format!("cannot read {}", ova.display()))?;
        if entry.path()?.extension().is_some_and(|extension| extension == "vmdk") {
            std::io::copy(&mut entry, &mut File::create(target)?)?;
            return Ok(());
        }
    }
    bail!("{} has no VMDK in it", ova.display())
}
