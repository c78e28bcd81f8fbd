//! `gatewright disk convert`: one disk format to another.
//!
//! ```text
//! raw, VMDK of any kind -> vmdk::Source -> raw | streamOptimized VMDK | VHD
//!                                       -> qemu-img -> qcow2
//! ```

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use vmdk::{Raw, Source, Vmdk};

use crate::build::check_interrupted;
use crate::digest;
use crate::error::Failure;
use crate::progress::{Printer, State};
use crate::signals::Interruptible;

/// A format to write.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Plain content, with holes
    Raw,
    /// streamOptimized, as in OVAs
    Vmdk,
    /// Dynamic VHD, for Hyper-V
    Vhd,
    /// Fixed VHD of whole MiB, for Azure
    VhdFixed,
    /// Compressed qcow2, for QEMU; needs `qemu-img`
    Qcow2,
}

impl Format {
    /// What names of files end in.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Format::Raw => ".raw",
            Format::Vmdk => ".vmdk",
            Format::Vhd => ".vhd",
            Format::VhdFixed => "-fixed.vhd",
            Format::Qcow2 => ".qcow2",
        }
    }

    /// By the output's name.
    fn of(path: &Path) -> Option<Format> {
        Some(match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "raw" | "img" => Format::Raw,
            "vmdk" => Format::Vmdk,
            "vhd" => Format::Vhd,
            "qcow2" => Format::Qcow2,
            _ => return None,
        })
    }
}

/// What was written; printed by `--json`.
#[derive(Debug, Serialize)]
pub(crate) struct Converted {
    pub(crate) path: std::path::PathBuf,
    pub(crate) format: Format,
    /// Of the disk, in bytes.
    pub(crate) capacity: u64,
    /// Of the file, in bytes.
    pub(crate) size: u64,
}

/// Converts `input` to `output`, which appears when it is whole.
pub(crate) fn convert(
    input: &Path,
    output: &Path,
    to: Option<Format>,
    force: bool,
    printer: &Printer,
) -> Result<Converted> {
    let format = to.or_else(|| Format::of(output)).ok_or_else(|| {
        Failure::user(
            format!("{} does not tell the format to write", output.display()),
            "name it with `--to`, or call the output `*.vmdk`, `*.vhd`, `*.qcow2` or `*.raw`",
        )
    })?;
    let disk = open(input)?;
    let file = new_file(output, force)?;
    let step = printer.step("convert", "Disk");
    let total = disk.capacity();
    write(format, input, &*disk, &content_id(&*disk)?, &file, &mut |done| step.progress(done, total))?;
    let size = file.as_file().metadata()?.len();
    file.as_file().sync_all()?;
    file.persist(output).with_context(|| format!("Cannot write {}", output.display()))?;
    step.finish(State::Done, &format!("{:.1} MB", size as f64 / 1e6));
    Ok(Converted { path: output.to_path_buf(), format, capacity: disk.capacity(), size })
}

/// Writes `disk`, which is the file `input`, to `out`. `content_id` is what identifiers are made of.
pub(crate) fn write(
    format: Format,
    input: &Path,
    disk: &dyn Source,
    content_id: &[u8; 16],
    out: &NamedTempFile,
    progress: &mut dyn FnMut(u64),
) -> Result<()> {
    let (file, content_id) = (out.as_file(), *content_id);
    match format {
        Format::Raw => vmdk::write_raw(disk, file, progress)?,
        Format::Vmdk => {
            // Not the output's name: the same content gives the same bytes, whatever the file is called.
            let options = vmdk::Options { extent_name: "disk.vmdk".into(), content_id };
            let mut buffered = Interruptible(io::BufWriter::with_capacity(1 << 20, file));
            vmdk::write_stream_optimized(disk, &options, &mut buffered, progress)?;
            buffered.flush()?;
        }
        Format::Vhd | Format::VhdFixed => {
            let write = if format == Format::Vhd { vmdk::vhd::write_dynamic } else { vmdk::vhd::write_fixed };
            write(disk, &vmdk::vhd::Options { content_id }, file, progress)?;
        }
        Format::Qcow2 => qemu_img(input, out.path())?,
    }
    check_interrupted()
}

/// Tells formats by their first bytes.
fn open(path: &Path) -> Result<Box<dyn Source>> {
    let mut start = [0; 21];
    let opened = File::open(path).and_then(|mut file| file.read(&mut start));
    let length = opened.map_err(|e| {
        Failure::user(format!("Cannot read {}: {e}", path.display()), "name a raw disk or a VMDK")
    })?;
    let start = &start[..length];
    let foreign = [(&b"QFI\xfb"[..], "qcow2"), (b"conectix", "VHD"), (b"vhdxfile", "VHDX")];
    if let Some((_, name)) = foreign.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Err(Failure::user(
            format!("{} is a {name}; only raw disks and VMDKs are read", path.display()),
            format!("`qemu-img convert -O raw {} disk.raw`, then convert that", path.display()),
        ));
    }
    if start.starts_with(b"KDMV") || start.starts_with(b"# Disk DescriptorFile") {
        let disk = Vmdk::open(path).map_err(|e| {
            let why = anyhow::Error::new(e);
            Failure::user(
                format!("{} cannot be read: {why:#}", path.display()),
                "is it whole, with all its extents?",
            )
        })?;
        return Ok(Box::new(disk));
    }
    Ok(Box::new(Raw::open(path).with_context(|| format!("Cannot read {}", path.display()))?))
}

/// Of the disk's content: its places and bytes, without holes and zeros.
fn content_id(disk: &dyn Source) -> Result<[u8; 16]> {
    const BLOCK: u64 = 1 << 16;
    let mut hasher = Sha256::new();
    hasher.update(disk.capacity().to_le_bytes());
    let mut buffer = vec![0; BLOCK as usize];
    let mut next = 0;
    while let Some(range) = disk.next_data(next)? {
        // Whole blocks, so that it does not matter where a source says that data begins.
        let mut at = (range.start / BLOCK * BLOCK).max(next);
        while at < range.end {
            let part = &mut buffer[..BLOCK.min(disk.capacity() - at) as usize];
            disk.read_exact_at(part, at)?;
            if part.iter().any(|byte| *byte != 0) {
                hasher.update(at.to_le_bytes());
                hasher.update(&*part);
            }
            at += BLOCK;
        }
        next = at;
        if next >= disk.capacity() {
            break;
        }
    }
    Ok(digest::id(&digest::hex(&hasher.finalize()), "disk"))
}

/// A file that becomes `path` when it is whole.
pub(crate) fn new_file(path: &Path, force: bool) -> Result<NamedTempFile> {
    if !force && path.symlink_metadata().is_ok() {
        return Err(Failure::user(
            format!("{} is there already", path.display()),
            "remove it, name another file, or give `--force`",
        ));
    }
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    tempfile::Builder::new()
        .prefix(".gatewright-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir)
        .with_context(|| format!("Cannot write to {}", dir.display()))
}

/// qemu-img knows qcow2 best.
fn qemu_img(input: &Path, output: &Path) -> Result<()> {
    let result = Command::new("qemu-img")
        .args(["convert", "-c", "-O", "qcow2"])
        .args([input, output])
        .stdin(Stdio::null())
        .output();
    match result {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            anyhow::bail!(
                "qemu-img ended with {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr).trim()
            )
        }
        Err(e) => Err(Failure::user(
            format!("`qemu-img` does not run: {e}"),
            "`sudo apt-get install qemu-utils`, or write another format",
        )),
    }
}
