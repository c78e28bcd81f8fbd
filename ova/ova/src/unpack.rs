//! Unpacks archives of strangers.
//!
//! Everything is checked before anything is written; then each member is written to a file without its name yet, and
//! only when all of them are there they get their names. What fails on the way leaves nothing behind.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use tempfile::TempPath;

use crate::archive::{Archive, Entry, printable};
use crate::header::Kind;

/// How much may be unpacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Of all members together, in bytes.
    pub total: u64,
    /// What must be left free on the file system, in bytes.
    pub keep_free: u64,
}

impl Default for Limits {
    /// What there is room for, less 256 MiB.
    fn default() -> Self {
        Self { total: u64::MAX, keep_free: 256 << 20 }
    }
}

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// A link, a device, a folder, ...
    #[error("`{name}` is not a file but a {kind}; only files are unpacked")]
    Kind {
        /// The member.
        name: String,
        /// What it is.
        kind: Kind,
    },
    /// A name that leads elsewhere, is hidden, or is none.
    #[error("`{0}` is not a bare file name and is not unpacked")]
    Name(String),
    /// Which of them was meant is anyone's guess.
    #[error("Two members are called `{0}`")]
    Duplicate(String),
    /// Nothing is overwritten.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// More than was allowed.
    #[error("The members are {size} bytes long together, more than the {limit} allowed")]
    Total {
        /// In bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
    /// Too little room.
    #[error("The members need {size} bytes, but {} has {available} to spare", .dir.display())]
    Space {
        /// In bytes.
        size: u64,
        /// In bytes, less what must stay free.
        available: u64,
        /// On whose file system.
        dir: PathBuf,
    },
    /// Reading or writing failed.
    #[error("Cannot unpack to {}", .path.display())]
    Io {
        /// What was written, or the folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Writes the members of an archive into `dir`, which is made if need be. Answers with the files, in their order.
///
/// Only regular files with bare names (a `./` before them is dropped), each new and with mode 0644, whatever the archive
/// says; all of them or none.
///
/// # Errors
/// See [`UnpackError`]. Nothing is left of what was written.
pub fn unpack(archive: &Archive, dir: &Path, limits: &Limits) -> Result<Vec<PathBuf>, UnpackError> {
    let members = plan(archive)?;
    let size: u64 = members.iter().map(|(_, entry)| entry.size).sum();
    if size > limits.total {
        return Err(UnpackError::Total { size, limit: limits.total });
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| UnpackError::Io { path, source }
    };
    let made = match fs::create_dir(dir) {
        Ok(()) => true,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => false,
        Err(e) => return Err(failed(dir)(e)),
    };
    let result = (|| {
        let space = statvfs(dir).map_err(|e| failed(dir)(e.into()))?;
        let available = (space.blocks_available() as u64)
            .saturating_mul(space.fragment_size() as u64)
            .saturating_sub(limits.keep_free);
        if size > available {
            return Err(UnpackError::Space { size, available, dir: dir.to_owned() });
        }
        let members: Vec<_> = members.iter().map(|(name, entry)| (dir.join(name), *entry)).collect();
        // Renaming looks again, but that is after gigabytes.
        if let Some((path, _)) = members.iter().find(|(path, _)| path.symlink_metadata().is_ok()) {
            return Err(UnpackError::Exists(path.clone()));
        }
        let mut written = Vec::new();
        for (path, entry) in &members {
            written.push(write(archive, entry, dir).map_err(failed(path))?);
        }
        name(written, members.into_iter().map(|(path, _)| path))
    })();
    if made && result.is_err() {
        // Empty again; where it is not, somebody else uses it.
        let _ = fs::remove_dir(dir);
    }
    let paths = result?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))?;
    Ok(paths)
}

/// What to write under which name.
fn plan(archive: &Archive) -> Result<Vec<(&str, &Entry)>, UnpackError> {
    let mut names = BTreeSet::new();
    let mut members = Vec::new();
    for entry in archive.members() {
        let shown = || printable(&entry.raw_name);
        // What `tar -cf x.ova .` begins with.
        if entry.kind == Kind::Directory && matches!(&*entry.raw_name, b"." | b"./") {
            continue;
        }
        if entry.kind != Kind::Regular {
            return Err(UnpackError::Kind { name: shown(), kind: entry.kind });
        }
        let name = bare_name(&entry.raw_name).ok_or_else(|| UnpackError::Name(shown()))?;
        if !names.insert(name) {
            return Err(UnpackError::Duplicate(shown()));
        }
        members.push((name, entry));
    }
    Ok(members)
}

/// A name without any folder. Hidden files are none of an OVA's, but many a program's configuration.
fn bare_name(raw: &[u8]) -> Option<&str> {
    let name = std::str::from_utf8(raw).ok()?;
    let name = name.strip_prefix("./").unwrap_or(name);
    let bare = (1..=255).contains(&name.len())
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.contains(char::is_control);
    bare.then_some(name)
}

/// A member's content in a file that goes away unless it gets a name.
fn write(archive: &Archive, entry: &Entry, dir: &Path) -> io::Result<TempPath> {
    let mut file = tempfile::Builder::new().prefix(".unpacked-").tempfile_in(dir)?;
    io::copy(&mut io::BufReader::with_capacity(1 << 18, archive.reader(entry)), &mut file)?;
    // Not when it is made, where the umask has a say.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    // Closed: there may be more members than a process may have files open.
    Ok(file.into_temp_path())
}

fn name(written: Vec<TempPath>, paths: impl Iterator<Item = PathBuf>) -> Result<Vec<PathBuf>, UnpackError> {
    let mut named = Vec::new();
    for (temporary, path) in written.into_iter().zip(paths) {
        if let Err(e) = temporary.persist_noclobber(&path) {
            for path in &named {
                // The first error is the one to tell.
                let _ = fs::remove_file(path);
            }
            return Err(match e.error.kind() {
                io::ErrorKind::AlreadyExists => UnpackError::Exists(path),
                _ => UnpackError::Io { path, source: e.error },
            });
        }
        named.push(path);
    }
    Ok(named)
}

#[cfg(test)]
mod tests;
