//! Takes out of a tree what belongs to one machine, to one build or to nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::unistd::{chdir, chroot, fchdir};

use crate::steps::remove;

/// Folders that are emptied, with what they held.
const EMPTIED: &[&str] = &[
    "/var/log",            // of the build
    "/var/cache/apt",      // package caches
    "/var/lib/apt/lists",  //
    "/var/cache/ldconfig", // speeds up the next ldconfig, and is not reproducible
    "/var/cache/debconf",  // made again from templates by the next configuration
    "/var/tmp",
    "/root",
    "/media",
    "/mnt",
];

/// Files and folders that are removed.
const REMOVED: &[&str] = &[
    "/etc/hostname", // firstboot's
    "/etc/.pwd.lock",
    "/etc/.resolv.conf.systemd-resolved.bak", // the builder's resolver
    "/etc/apt/sources.list",
    "/var/lib/systemd/random-seed", // the same seed on every machine is no seed
    "/var/lib/systemd/credential.secret",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/lock",
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/triggers/Lock",
    "/var/lib/apt/extended_states.lock",
    "/vmlinuz.old", // links to the one kernel that there is
    "/initrd.img.old",
];

/// The folders in which a program keeps its last version of a file: `passwd-`, `status-old`.
const BACKUPS: &[(&str, &str)] = &[("/etc", "-"), ("/var/lib/dpkg", "-old"), ("/var/lib/dpkg", "~")];

/// Seals `tree`.
///
/// # Errors
/// Also when a secret is found that would be the same on every machine made of the tree.
pub(crate) fn seal(tree: &Path) -> Result<()> {
    // Inside, so that a link in the tree cannot lead out of it; and out again through the old root, which stays open.
    let outside = File::open("/")?;
    chroot(tree).with_context(|| format!("Cannot enter {}", tree.display()))?;
    chdir("/")?;
    let sealed = seal_root();
    fchdir(&outside)?;
    chroot(".")?;
    sealed
}

/// Seals what is this process's root.
fn seal_root() -> Result<()> {
    for dir in EMPTIED {
        for entry in list(Path::new(dir))? {
            // The folders of logs are their services', which do not make them again.
            if *dir == "/var/log" && entry.is_dir() && !entry.is_symlink() {
                for old in list(&entry)? {
                    remove(&[old])?;
                }
            } else {
                remove(&[entry])?;
            }
        }
    }
    remove(&REMOVED.iter().map(PathBuf::from).collect::<Vec<_>>())?;
    for (dir, suffix) in BACKUPS {
        let old: Vec<_> = list(Path::new(dir))?
            .into_iter()
            .filter(|path| path.to_string_lossy().ends_with(suffix))
            .collect();
        remove(&old)?;
    }
    for path in list(Path::new("/etc/ssh"))? {
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")) {
            remove(&[path])?;
        }
    }
    // Empty, not absent: systemd makes one at boot and writes it here, without the presets of a "first boot".
    fs::write("/etc/machine-id", "").context("Cannot empty /etc/machine-id")?;

    // What packages set up is up to date: without these, systemd would do it all again at the first boot
    // (systemd-update-done.service(8)). The archive gives them the time of /usr.
    for stamp in ["/etc/.updated", "/var/.updated"] {
        fs::write(stamp, "").with_context(|| format!("Cannot write {stamp}"))?;
    }

    let shadow = fs::read_to_string("/etc/shadow").context("Cannot read /etc/shadow")?;
    if let Some(user) = user_with_password(&shadow) {
        bail!(
            "The user `{user}` has a password, which every machine of this image would share; a role must not set one"
        );
    }
    Ok(())
}

/// What is in a folder; nothing where there is none.
fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e).with_context(|| format!("Cannot list {}", dir.display())),
    }
}

/// The first user of shadow(5) text that a password lets in: its field is empty or a hash. `*` and `!` fit no password.
fn user_with_password(shadow: &str) -> Option<&str> {
    shadow.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (user, password) = (fields.next()?, fields.next()?);
        (!password.starts_with(['*', '!'])).then_some(user)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_found() {
        let locked = "root:*:1::::::\nubuntu:!:1::::::\nsshd:!*:1::::::\n";
        assert_eq!(user_with_password(locked), None);
        assert_eq!(user_with_password("root:*:1\nann:$y$j9T$x:1"), Some("ann"));
        assert_eq!(user_with_password("root::1"), Some("root"), "an empty field lets anybody in");
    }
}
