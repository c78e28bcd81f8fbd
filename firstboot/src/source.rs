//! Where the OVF environment comes from: guestinfo, then a CD-ROM.
//!
//! The hypervisor forgets it at power-off, so nothing there is normal on a later boot.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use ovf_parser::Environment;

use crate::files::run;
use crate::settings::Raw;

/// Where values came from, as status says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Source {
    GuestInfo,
    CdRom,
}

impl Source {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Source::GuestInfo => "guestinfo",
            Source::CdRom => "cdrom",
        }
    }
}

/// The document of this boot: where from, and its properties.
///
/// # Errors
/// A source is there and what it has cannot be read.
pub(crate) fn read() -> Result<Option<(Source, Raw)>> {
    // Where there are devices, a drive may still be on its way.
    let has_devices = Path::new("/run/udev/control").exists();
    for look in 0..LOOKS {
        if let Some(found) = read_now()? {
            return Ok(Some(found));
        }
        if !has_devices || (look > 0 && !drives().is_empty()) {
            break;
        }
        if look == 0 {
            // Where this fails, the drive is looked for all the same.
            let _ = run("udevadm", &["settle", "--timeout=5"]);
        } else {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    Ok(None)
}

fn read_now() -> Result<Option<(Source, Raw)>> {
    for (source, bytes) in [(Source::GuestInfo, guest_info()?), (Source::CdRom, cd_rom()?)] {
        if let Some(bytes) = bytes {
            let environment = Environment::parse(&bytes)
                .with_context(|| format!("The OVF environment ({}) cannot be read", source.name()))?;
            return Ok(Some((source, environment.properties)));
        }
    }
    Ok(None)
}

/// Through VMware Tools. Not on VMware, or without the key, the program fails: then there is none here.
fn guest_info() -> Result<Option<Vec<u8>>> {
    match run("vmware-rpctool", &["info-get guestinfo.ovfEnv"]) {
        Ok(bytes) if bytes.iter().all(|byte| byte.is_ascii_whitespace() || *byte == 0) => Ok(None),
        Ok(bytes) => Ok(Some(bytes)),
        Err(_) => Ok(None),
    }
}

/// The spellings of the document's name, among them what ISO 9660 makes of it.
const NAMES: [&str; 3] = ["ovf-env.xml", "ovf_env.xml", "ovfenv.xml"];
/// The longest document that is read; one more byte shows that it is longer.
const MAX_LENGTH: u64 = (1 << 20) + 1;

/// How often a machine that shows no drive is asked for one: at once, with its devices there, then a second apart.
const LOOKS: usize = 5;

fn cd_rom() -> Result<Option<Vec<u8>>> {
    for drive in drives() {
        if let Some(bytes) =
            read_disc(&drive).with_context(|| format!("Cannot read the disc in {}", drive.display()))?
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

/// CD-ROM drives, by their device files.
fn drives() -> Vec<PathBuf> {
    let mut drives: Vec<PathBuf> = fs::read_dir("/sys/class/block")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("sr"))
        .map(|name| Path::new("/dev").join(name))
        .collect();
    drives.sort();
    drives
}

fn read_disc(drive: &Path) -> Result<Option<Vec<u8>>> {
    if let Err(e) = File::open(drive) {
        // An empty drive, or none behind the name.
        let absent = [Errno::ENOMEDIUM, Errno::ENXIO, Errno::ENOENT].map(|errno| Some(errno as i32));
        return if absent.contains(&e.raw_os_error()) { Ok(None) } else { Err(e.into()) };
    }
    let place = tempfile::Builder::new().prefix("gatewright-cdrom-").tempdir()?;
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID;
    if mount(Some(drive), place.path(), Some("iso9660"), flags, None::<&str>).is_err() {
        // Some other disc.
        return Ok(None);
    }
    let result = document_in(place.path());
    umount2(place.path(), MntFlags::MNT_DETACH)
        .map_err(|e| anyhow!("Cannot unmount {}: {e}", place.path().display()))?;
    result
}

/// The one document in a disc's root folder.
fn document_in(root: &Path) -> Result<Option<Vec<u8>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        // Plain ISO 9660 puts a version behind names.
        let name = name.split(';').next().unwrap_or_default().trim_end_matches('.');
        if NAMES.contains(&name) {
            found.push(entry.path());
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [path] => {
            let mut bytes = Vec::new();
            File::open(path)?.take(MAX_LENGTH).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        _ => bail!("it has {} OVF environments; which one counts cannot be known", found.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn discs_of_every_spelling() {
        for name in ["ovf-env.xml", "OVF-ENV.XML", "ovf_env.xml", "OVF_ENV.XML;1"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("other.txt"), "x").unwrap();
            assert_eq!(document_in(dir.path()).unwrap(), None);
            fs::write(dir.path().join(name), "y").unwrap();
            assert_eq!(document_in(dir.path()).unwrap().unwrap(), b"y");
            fs::write(dir.path().join("Ovf-Env.xml"), "z").unwrap();
            assert!(document_in(dir.path()).unwrap_err().to_string().contains("2 OVF environments"));
        }
    }
}
