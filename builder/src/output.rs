//! Outputs: what leaves the builder. disk -> VMDK, with descriptor and manifest -> OVA.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ovf_parser::descriptor as ovf;
use serde::Serialize;

use crate::build::check_interrupted;
use crate::convert::{self, Format, new_file};
use crate::digest::{self, Digest};
use crate::error::Failure;
use crate::image::{Firmware, Image, OutputKind, Ova, Property, Size};
use crate::package;
use crate::progress::Running;
use crate::signals::Interruptible;
use crate::store::Stored;

/// A finished file in the user's folder.
#[derive(Debug, Serialize)]
pub(crate) struct Output {
    pub(crate) kind: OutputKind,
    /// Absolute.
    pub(crate) path: PathBuf,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
}

impl Output {
    /// Whether the file is there as it was made.
    pub(crate) fn is_there(&self) -> bool {
        let size_is_right = fs::metadata(&self.path).is_ok_and(|meta| meta.len() == self.size);
        size_is_right && digest::of_file(&self.path).is_ok_and(|(sha256, _)| sha256 == self.sha256)
    }

    pub(crate) fn summary(&self) -> String {
        format!("{}, {:.1} MB", self.kind.name(), self.size as f64 / 1e6)
    }
}

/// What every output of a build is made from.
#[derive(Debug)]
pub(crate) struct Source<'a> {
    pub(crate) image: &'a Image,
    pub(crate) signature: &'a str,
    /// The digest of the tree; identifiers are derived from it.
    pub(crate) content: &'a str,
    pub(crate) epoch: u64,
    /// A sparse file, in a folder that is removed with the build.
    pub(crate) disk: &'a Path,
    pub(crate) signer: Option<&'a ova::Signer>,
}

/// Makes an output into the folder of an image in the store.
pub(crate) fn write(
    source: &Source<'_>,
    kind: OutputKind,
    signed_by: Option<Digest>,
    dir: &Path,
    step: &Running<'_>,
) -> Result<Stored> {
    let mut file = file_name(&source.image.definition.name, source.signature, kind);
    if let Some(signer) = &signed_by {
        file = format!("{}-{file}", &signer[..12]);
    }
    let path = dir.join(&file);
    let (sha256, size) = match (kind.disk_format(), &source.image.definition.ova) {
        (Some(format), _) => write_disk(source, format, &path, step)?,
        (None, Some(ova)) => write_ova(source, ova, &path, step)?,
        (None, None) => bail!("`ova` is missing in the image definition, which was checked for it"),
    };
    Ok(Stored { kind, file, size, sha256, signed_by })
}

/// What an output is called: `NAME-VERSION-SIGNATURE` with the ending of its kind.
pub(crate) fn file_name(image: &str, signature: &str, kind: OutputKind) -> String {
    format!("{image}-{}-{}{}", env!("CARGO_PKG_VERSION"), &signature[..12], kind.ending())
}

fn write_disk(source: &Source<'_>, format: Format, path: &Path, step: &Running<'_>) -> Result<(Digest, u64)> {
    let (disk, allocated) = open_disk(source)?;
    let file = new_file(path, true)?;
    convert::write(format, source.disk, &disk, &digest::id(source.content, "disk"), &file, &mut |read| {
        step.progress(read, allocated);
    })
    .with_context(|| format!("Cannot write {}", path.display()))?;
    let written = digest::of_file(file.path())?;
    file.as_file().sync_all()?;
    file.persist(path).with_context(|| format!("Cannot write {}", path.display()))?;
    Ok(written)
}

/// The disk, and how much of it is allocated, in bytes.
fn open_disk(source: &Source<'_>) -> Result<(vmdk::Raw, u64)> {
    let disk =
        vmdk::Raw::open(source.disk).with_context(|| format!("Cannot open {}", source.disk.display()))?;
    Ok((disk, fs::metadata(source.disk)?.blocks() * 512))
}

/// One pass: the disk is compressed into the archive, whose head is filled in when its size and digest are known.
fn write_ova(source: &Source<'_>, ova: &Ova, path: &Path, step: &Running<'_>) -> Result<(Digest, u64)> {
    let name = &source.image.definition.name;
    let disk_name = format!("{name}-disk1.vmdk");
    let populated = Cell::new(0);
    let content = ova::Content::new(&disk_name, |out| {
        populated.set(write_vmdk(source, &disk_name, out, step)?.populated);
        Ok::<(), anyhow::Error>(())
    });
    let document =
        |size, populated| Ok(descriptor(source, ova, &disk_name, size, populated).to_xml()?.into_bytes());
    let mut file = new_file(path, true)?;
    let written = ova::write_seekable(
        file.as_file_mut(),
        name,
        vec![content],
        |members| document(members[0].size, populated.get()),
        document(u64::MAX, u64::MAX)?.len(),
        &ova::Options { mtime: source.epoch, signer: source.signer },
    )
    .map_err(|error| match check_interrupted() {
        Err(interrupted) => interrupted,
        Ok(()) => error.context(format!("Cannot write {}", path.display())),
    })?;
    let (sha256, size) = digest::of_file(file.path())?;
    verify(file.path(), step)?;
    file.as_file().sync_all()?;
    check_interrupted()?;
    file.persist(path).with_context(|| format!("Cannot write {}", path.display()))?;
    debug_assert_eq!(size, written.size, "the archive is as long as was written");
    Ok((sha256, size))
}

/// What we make must import the first time.
fn verify(path: &Path, step: &Running<'_>) -> Result<()> {
    let failed: Vec<String> = package::verify(path, step)?
        .into_iter()
        .filter(|outcome| outcome.failed())
        .map(|outcome| format!("{}: {}", outcome.check, outcome.findings.join("; ")))
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::user(
        format!("The OVA would not import everywhere:\n  {}", failed.join("\n  ")),
        "correct the image definition; `gatewright ova verify --list` explains the checks",
    ))
}

fn write_vmdk(
    source: &Source<'_>,
    name: &str,
    out: &mut dyn Write,
    step: &Running<'_>,
) -> Result<vmdk::Written> {
    let disk =
        vmdk::Raw::open(source.disk).with_context(|| format!("Cannot open {}", source.disk.display()))?;
    let allocated = fs::metadata(source.disk)?.blocks() * 512;
    let options = vmdk::Options { extent_name: name.into(), content_id: digest::id(source.content, "vmdk") };
    let mut out = Interruptible(out);
    Ok(vmdk::write_stream_optimized(&disk, &options, &mut out, &mut |read| step.progress(read, allocated))?)
}

/// The descriptor of an image's virtual machine.
fn descriptor(source: &Source<'_>, ova: &Ova, disk_name: &str, size: u64, populated: u64) -> ovf::Descriptor {
    let image = &source.image.definition;
    let Firmware::Efi = image.hardware.firmware;
    let disk = "vmdisk1".to_string();
    let network = "VM Network".to_string();
    ovf::Descriptor {
        files: vec![ovf::FileReference { id: "file1".into(), href: disk_name.into(), size }],
        disks: vec![ovf::VirtualDisk {
            id: disk.clone(),
            file: Some("file1".into()),
            capacity: image.disk.size.0,
            populated,
        }],
        networks: vec![ovf::Network {
            name: network.clone(),
            description: "Must reach vCenter and, directly or through a proxy, the management console."
                .into(),
        }],
        system: ovf::VirtualSystem {
            id: image.name.clone(),
            name: image.name.clone(),
            os: ovf::OperatingSystem {
                id: 96,
                vmw_type: image.hardware.guest_os.clone(),
                description: "Debian GNU/Linux (64-bit)".into(),
            },
            hardware: ovf::Hardware {
                version: image.hardware.version.clone(),
                transports: vec![ovf::Transport::GuestInfo, ovf::Transport::Iso],
                cpus: image.hardware.cpus,
                memory_mib: image.hardware.memory.0 / Size::MIB,
                controllers: vec![
                    ovf::Controller {
                        kind: ovf::ControllerKind::ParavirtualScsi { pci_slot: Some(160) },
                        devices: vec![ovf::Device::Disk(disk)],
                    },
                    ovf::Controller { kind: ovf::ControllerKind::Ide, devices: vec![ovf::Device::CdRom] },
                ],
                nics: vec![ovf::Nic { network, pci_slot: Some(192) }],
                firmware: ovf::Firmware::Efi { secure_boot: image.hardware.secure_boot },
                extra_config: Vec::new(),
            },
            products: vec![ovf::Product {
                class: None,
                product: ova.product.clone(),
                vendor: ova.vendor.clone(),
                version: env!("CARGO_PKG_VERSION").into(),
                full_version: Some(format!("{}+{}", env!("CARGO_PKG_VERSION"), source.signature)),
                properties: ova.properties.iter().map(property).collect(),
            }],
            eula: None,
            annotation: Some(ova.annotation.clone()),
        },
    }
}

/// All are strings: a number cannot be blank, and blank is what most are by default.
fn property(property: &Property) -> ovf::Property {
    ovf::Property {
        category: property.category.clone(),
        key: property.key.clone(),
        kind: ovf::PropertyKind::String,
        value: property.default.clone(),
        user_configurable: true,
        password: property.password,
        qualifiers: Vec::new(),
        label: property.label.clone(),
        description: property.description.clone(),
    }
}

/// A name without a version, for scripts and people. A file of that name that is no link is the user's, and stays.
pub(crate) fn link(dir: &Path, name: &str, target: &Path) -> Result<()> {
    let path = dir.join(name);
    let target = Path::new(target.file_name().context("an output has a name")?);
    match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_symlink() => return Ok(()),
        Ok(_) if fs::read_link(&path)? == target => return Ok(()),
        Ok(_) => fs::remove_file(&path)?,
        Err(_) => {}
    }
    symlink(target, &path).with_context(|| format!("Cannot link {}", path.display()))
}
