//! Outputs: what leaves the builder. disk -> VMDK, with descriptor and manifest -> OVA.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ovf_parser::descriptor as ovf;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::build::check_interrupted;
use crate::digest::{self, Digest};
use crate::image::{Firmware, Image, OutputKind, Ova, Property, Size};
use crate::progress::Running;

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
        let OutputKind::Ova = self.kind;
        format!("OVA, {:.1} MB", self.size as f64 / 1e6)
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
}

/// Makes every output of an image into `dir`.
pub(crate) fn write(source: &Source<'_>, dir: &Path, step: &Running<'_>) -> Result<Vec<Output>> {
    fs::create_dir_all(dir).with_context(|| format!("Cannot make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let definition = &source.image.definition;
    let make = |kind: &OutputKind| match (kind, &definition.ova) {
        (OutputKind::Ova, Some(ova)) => write_ova(source, ova, &dir, step),
        (OutputKind::Ova, None) => {
            bail!("`ova` is missing in the image definition, which was checked for it")
        }
    };
    definition.outputs.iter().map(make).collect()
}

fn write_ova(source: &Source<'_>, ova: &Ova, dir: &Path, step: &Running<'_>) -> Result<Output> {
    let name = &source.image.definition.name;
    let disk_name = format!("{name}-disk1.vmdk");
    let vmdk_path = source.disk.with_file_name(&disk_name);
    let vmdk = write_vmdk(source, &disk_name, &vmdk_path, step)?;
    let descriptor = ova::Descriptor {
        name: format!("{name}.ovf"),
        xml: descriptor(source, ova, &disk_name, &vmdk).to_xml()?.into_bytes(),
    };

    let file_name = format!("{name}-{}-{}.ova", env!("CARGO_PKG_VERSION"), &source.signature[..12]);
    let path = dir.join(&file_name);
    // In the folder of the result, so that it appears there whole and at once.
    let file = tempfile::Builder::new()
        .prefix(".gatewright-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .with_context(|| format!("Cannot write to {}", dir.display()))?;
    let (sha256, size) = {
        let mut out =
            Hashing { out: io::BufWriter::with_capacity(1 << 20, &file), hasher: Sha256::new(), written: 0 };
        let disk = ova::Member {
            name: disk_name,
            size: vmdk.size,
            sha256: vmdk.sha256,
            content: Box::new(File::open(&vmdk_path)?),
        };
        ova::pack(&mut out, &descriptor, &mut [disk], source.epoch)
            .and_then(|()| Ok(out.flush()?))
            .with_context(|| format!("Cannot write {}", path.display()))?;
        (digest::hex(&out.hasher.finalize()), out.written)
    };
    file.as_file().sync_all()?;
    check_interrupted()?;
    file.persist(&path).with_context(|| format!("Cannot write {}", path.display()))?;
    link(dir, &format!("{name}.ova"), &file_name)?;
    Ok(Output { kind: OutputKind::Ova, path, size, sha256 })
}

fn write_vmdk(source: &Source<'_>, name: &str, path: &Path, step: &Running<'_>) -> Result<vmdk::Written> {
    let context = || format!("Cannot write {}", path.display());
    let disk = File::open(source.disk).with_context(|| format!("Cannot open {}", source.disk.display()))?;
    let allocated = disk.metadata()?.blocks() * 512;
    let disk = vmdk::Raw::new(disk)?;
    let capacity = source.image.definition.disk.size.0;
    ensure!(
        vmdk::Source::capacity(&disk) == capacity,
        "{} is not of {capacity} bytes",
        source.disk.display()
    );
    let out = File::create(path).with_context(context)?;
    let mut out = Interruptible(io::BufWriter::with_capacity(1 << 20, out));
    let options = vmdk::Options { extent_name: name.into(), content_id: digest::id(source.content, "vmdk") };
    vmdk::write_stream_optimized(&disk, &options, &mut out, &mut |read| step.progress(read, allocated))
        .map_err(|error| match check_interrupted() {
            Err(interrupted) => interrupted,
            Ok(()) => anyhow::Error::new(error).context(context()),
        })
}

/// The descriptor of an image's virtual machine.
fn descriptor(source: &Source<'_>, ova: &Ova, disk_name: &str, vmdk: &vmdk::Written) -> ovf::Descriptor {
    let image = &source.image.definition;
    let Firmware::Efi = image.hardware.firmware;
    let disk = "vmdisk1".to_string();
    let network = "VM Network".to_string();
    ovf::Descriptor {
        files: vec![ovf::FileReference { id: "file1".into(), href: disk_name.into(), size: vmdk.size }],
        disks: vec![ovf::VirtualDisk {
            id: disk.clone(),
            file: Some("file1".into()),
            capacity: image.disk.size.0,
            populated: vmdk.populated,
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

/// Counts and hashes what goes through.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
    written: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buf)?;
        self.hasher.update(&buf[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Fails once a signal has asked us to stop.
struct Interruptible<W>(W);

impl<W: Write> Write for Interruptible<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        check_interrupted().map_err(|_| io::Error::from(io::ErrorKind::ConnectionAborted))?;
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
