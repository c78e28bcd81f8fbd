//! Outputs: what leaves the builder. disk -> VMDK, with descriptor and manifest -> OVA.

use std::cell::Cell;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ovf_parser::descriptor as ovf;
use serde::{Deserialize, Serialize};

use crate::build::check_interrupted;
use crate::convert::{self, Format, new_file};
use crate::digest::{self, Digest};
use crate::error::Failure;
use crate::image::{Firmware, Image, OutputKind, Ova, Property, Size};
use crate::package;
use crate::progress::Running;
use crate::signals::Interruptible;

/// A finished file.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Output {
    kind: OutputKind,
    /// Absolute in reports; a bare name in the cache's records.
    path: PathBuf,
    size: u64,
    sha256: Digest,
}

impl Output {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file is in `dir` as it was made.
    pub(crate) fn is_at(&self, dir: &Path) -> bool {
        let path = dir.join(self.name());
        let size_is_right = fs::metadata(&path).is_ok_and(|meta| meta.len() == self.size);
        size_is_right && digest::of_file(&path).is_ok_and(|(sha256, _)| sha256 == self.sha256)
    }

    pub(crate) fn in_dir(self, dir: &Path) -> Output {
        let path = dir.join(self.name());
        Output { path: path.canonicalize().unwrap_or(path), ..self }
    }

    fn name(&self) -> &Path {
        self.path.file_name().map_or(Path::new(""), Path::new)
    }

    pub(crate) fn summary(&self) -> String {
        let kind = match self.kind {
            OutputKind::Ova => "OVA",
            OutputKind::Raw => "raw",
            OutputKind::Vmdk => "VMDK",
            OutputKind::Vhd => "VHD",
            OutputKind::VhdFixed => "fixed VHD",
            OutputKind::Qcow2 => "qcow2",
        };
        format!("{kind}, {:.1} MB", self.size as f64 / 1e6)
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

/// Makes every output of an image into `dir`.
pub(crate) fn write(source: &Source<'_>, dir: &Path, step: &Running<'_>) -> Result<Vec<Output>> {
    fs::create_dir_all(dir).with_context(|| format!("Cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let definition = &source.image.definition;
    let make = |kind: &OutputKind| match (kind.disk_format(), &definition.ova) {
        (Some(format), _) => write_disk(source, *kind, format, &dir, step),
        (None, Some(ova)) => write_ova(source, ova, &dir, step),
        (None, None) => bail!("`ova` is missing in the image definition, which was checked for it"),
    };
    definition.outputs.iter().map(make).collect()
}

impl Source<'_> {
    /// `NAME-VERSION-SIGNATURE`, then `ending`.
    fn file_name(&self, ending: &str) -> String {
        let name = &self.image.definition.name;
        format!("{name}-{}-{}{ending}", env!("CARGO_PKG_VERSION"), &self.signature[..12])
    }
}

fn write_disk(
    source: &Source<'_>,
    kind: OutputKind,
    format: Format,
    dir: &Path,
    step: &Running<'_>,
) -> Result<Output> {
    let file_name = source.file_name(format.ending());
    let path = dir.join(&file_name);
    let (disk, allocated) = open_disk(source)?;
    let file = new_file(&path, true)?;
    convert::write(format, source.disk, &disk, &digest::id(source.content, "disk"), &file, &mut |read| {
        step.progress(read, allocated);
    })
    .with_context(|| format!("Cannot write {}", path.display()))?;
    let (sha256, size) = digest::of_file(file.path())?;
    file.as_file().sync_all()?;
    file.persist(&path).with_context(|| format!("Cannot write {}", path.display()))?;
    link(dir, &format!("{}{}", source.image.definition.name, format.ending()), &file_name)?;
    Ok(Output { kind, path, size, sha256 })
}

/// The disk, and how much of it is allocated, in bytes.
fn open_disk(source: &Source<'_>) -> Result<(vmdk::Raw, u64)> {
    let disk =
        vmdk::Raw::open(source.disk).with_context(|| format!("Cannot open {}", source.disk.display()))?;
    Ok((disk, fs::metadata(source.disk)?.blocks() * 512))
}

/// One pass: the disk is compressed into the archive, whose head is filled in when its size and digest are known.
fn write_ova(source: &Source<'_>, ova: &Ova, dir: &Path, step: &Running<'_>) -> Result<Output> {
    let name = &source.image.definition.name;
    let disk_name = format!("{name}-disk1.vmdk");
    let file_name = source.file_name(".ova");
    let path = dir.join(&file_name);
    let populated = Cell::new(0);
    let content = ova::Content::new(&disk_name, |out| {
        populated.set(write_vmdk(source, &disk_name, out, step)?.populated);
        Ok::<(), anyhow::Error>(())
    });
    let document =
        |size, populated| Ok(descriptor(source, ova, &disk_name, size, populated).to_xml()?.into_bytes());
    let mut file = new_file(&path, true)?;
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
    file.persist(&path).with_context(|| format!("Cannot write {}", path.display()))?;
    link(dir, &format!("{name}.ova"), &file_name)?;
    debug_assert_eq!(size, written.size, "the archive is as long as was written");
    Ok(Output { kind: OutputKind::Ova, path, size, sha256 })
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
fn link(dir: &Path, name: &str, target: &str) -> Result<()> {
    let path = dir.join(name);
    match fs::symlink_metadata(&path) {
        Ok(meta) if !meta.is_symlink() => return Ok(()),
        Ok(_) => fs::remove_file(&path)?,
        Err(_) => {}
    }
    symlink(target, &path).with_context(|| format!("Cannot link {}", path.display()))
}
