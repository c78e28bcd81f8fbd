//! Where the OVF environment comes from: guestinfo, then a CD-ROM.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use ovf_parser::Environment;

use crate::status::{Problem, Source};
use crate::store::Paths;
use crate::system::System;

/// How the file on the CD-ROM is spelled, depending on who made it and on its file system.
const SPELLINGS: [&str; 4] = ["ovf-env.xml", "ovf_env.xml", "OVF-ENV.XML", "OVF_ENV.XML"];

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) document: Option<(Source, Environment)>,
    /// Documents that are there and cannot be read.
    pub(crate) broken: Vec<Problem>,
}

/// Reads guestinfo, and the CD-ROMs where that has nothing.
pub(crate) fn read(paths: &Paths, system: &dyn System) -> Found {
    let mut found = Found::default();
    // It fails where there is no such key and where there is no VMware: both mean that nobody says anything.
    if let Ok(bytes) = system.run(&["vmware-rpctool", "info-get guestinfo.ovfEnv"], Duration::from_secs(10))
        && !bytes.trim_ascii().is_empty()
    {
        found.take(Source::Guestinfo, "guestinfo.ovfEnv", &bytes);
    }
    if found.document.is_none() {
        let more = read_cdroms(paths);
        found.document = more.document;
        found.broken.extend(more.broken);
    }
    found
}

/// Reads the CD-ROMs only.
pub(crate) fn read_cdroms(paths: &Paths) -> Found {
    let mut found = Found::default();
    for device in cdroms(paths) {
        let folder = paths.of("/run/gatewright/cdrom");
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // An empty drive, or a disc that is not for us.
        let mounted = fs::create_dir_all(&folder).is_ok()
            && mount(Some(&device), &folder, Some("iso9660"), flags, None::<&str>).is_ok();
        if mounted {
            found.take_folder(&folder);
            let _ = umount2(&folder, MntFlags::MNT_DETACH); // gone with our mount namespace at the latest
        }
        if found.document.is_some() {
            break;
        }
    }
    found
}

/// The drives there are.
pub(crate) fn cdroms(paths: &Paths) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(paths.of("/dev")) else { return Vec::new() };
    let is_drive = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.strip_prefix("sr")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
    };
    let mut drives: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(is_drive).collect();
    drives.sort();
    drives
}

impl Found {
    fn take(&mut self, source: Source, name: &str, bytes: &[u8]) {
        match Environment::parse(bytes) {
            Ok(environment) => self.document = Some((source, environment)),
            Err(error) => self.broken.push(broken(name, &error.to_string())),
        }
    }

    fn take_folder(&mut self, folder: &Path) {
        let there: Vec<String> = fs::read_dir(folder)
            .map(|entries| {
                entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
            })
            .unwrap_or_default();
        let names: Vec<&str> =
            SPELLINGS.into_iter().filter(|name| there.iter().any(|it| it == name)).collect();
        match names[..] {
            [] => {}
            [name] => {
                let mut bytes = Vec::new();
                // A byte more than any document may have, so that its reader sees that it is too long.
                let read = fs::File::open(folder.join(name))
                    .and_then(|file| file.take((1 << 20) + 1).read_to_end(&mut bytes));
                match read {
                    Ok(_) => self.take(Source::Cdrom, name, &bytes),
                    Err(error) => self.broken.push(broken(name, &error.to_string())),
                }
            }
            _ => self.broken.push(broken(&names.join(" and "), "There is more than one document")),
        }
    }
}

fn broken(name: &str, reason: &str) -> Problem {
    Problem {
        expected: "one well-formed OVF environment".into(),
        ..Problem::new(
            "ovf-environment",
            format!("The OVF environment `{name}` cannot be read. {reason}."),
            "A tool put in a value with &, < or \" as it is. Give the values here with `sudo gatewright-firstboot set \
             KEY=VALUE...`, or correct the tool and power the machine off and on.",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = r#"<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1"><PropertySection><Property key="a" value="b"/></PropertySection></Environment>"#;

    fn folder(names: &[&str], content: &str) -> Found {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(folder.path().join(name), content).unwrap();
        }
        let mut found = Found::default();
        found.take_folder(folder.path());
        found
    }

    #[test]
    fn exactly_one_document_counts() {
        for name in SPELLINGS {
            let found = folder(&[name, "readme.txt"], DOCUMENT);
            assert_eq!(found.document.unwrap().1.properties["a"], "b");
        }
        assert!(folder(&[], "").document.is_none());
        assert!(
            folder(&["ovf-env.xml", "OVF_ENV.XML"], DOCUMENT).broken[0].message.contains("more than one")
        );
        assert!(folder(&["ovf-env.xml"], "<a b=\"&").broken[0].message.contains("ovf-env.xml"));
        assert!(folder(&["ovf-env.xml"], &" ".repeat(2 << 20)).broken[0].message.contains("1 MiB"));
    }
}
