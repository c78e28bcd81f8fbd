//! The cache, which one build at a time uses.
//!
//! ```text
//! ~/.cache/gatewright/            or --cache-dir, GATEWRIGHT_CACHE_DIR, $XDG_CACHE_HOME/gatewright
//! ├── CACHEDIR.TAG                backup programs leave it out
//! ├── lock                        flock: one build at a time
//! ├── indexes-v1/KEY/             package indexes of an archive, as of the day they were fetched
//! │   ├── lists/                  apt's own files
//! │   └── sources.list
//! ├── files-v1/SHA-256            packages and artifacts; with a lock all that is needed to build without a network
//! ├── blobs-v1/                   of container images, by digest
//! ├── packs-v1/DIGEST/            packs out of archives and registries
//! ├── trees-v1/KEY.tar, .json     finished layers, with their SHA-256
//! ├── images-v1/                  the store of finished images, unless it is elsewhere (store/mod.rs)
//! ├── logs/IMAGE/STEP.log         of the last run of each step
//! └── tmp/                        work under way; what a killed build left is removed by the next
//! ```
//!
//! Trees are archives, not folders: every file in the cache belongs to its user, who can copy or remove it all.
//! Names carry a version, raised when the format of what is in them changes.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Failure;
use crate::progress::Printer;
use crate::sandbox::{self, Sandbox};
use crate::signals;

/// An open cache; the lock is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Cache {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Cache {
    /// Where the cache is unless the user says otherwise.
    pub(crate) fn default_dir() -> Result<PathBuf> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map(|dir| dir.join("gatewright"))
            .ok_or_else(|| {
                Failure::user("There is no home folder to keep the cache in", "name one with `--cache-dir`")
            })
    }

    /// Opens or makes the cache; waits while another build uses it.
    pub(crate) fn open(root: &Path, printer: &Printer) -> Result<Cache> {
        for dir in ["indexes-v1", "files-v1", "trees-v1", "logs", "tmp"] {
            fs::create_dir_all(root.join(dir)).map_err(|e| {
                Failure::user(
                    format!("Cannot make the cache {}: {e}", root.display()),
                    "name a folder you can write to with `--cache-dir`",
                )
            })?;
        }
        let root = root.canonicalize()?;
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            write_atomic(&tag, b"Signature: 8a477f597d28d172789f06886806bc55\n# Made by gatewright.\n")?;
        }
        let path = root.join("lock");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("Cannot open {}", path.display()))?;
        let mut told = false;
        let lock = loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => break lock,
                Err((back, nix::Error::EWOULDBLOCK)) => file = back,
                Err((_, e)) => return Err(e).with_context(|| format!("Cannot lock {}", path.display())),
            }
            if !told {
                printer.note(&format!("Waiting for another gatewright that uses {}", root.display()));
                told = true;
            }
            if let Some(signal) = signals::received() {
                return Err(Failure::Interrupted { signal }.into());
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        Ok(Cache { root, _lock: lock })
    }

    /// A folder of the cache, or a file in it.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// The log of a step of an image, emptied.
    pub(crate) fn log(&self, image: &str, step: &str) -> Result<PathBuf> {
        let dir = self.path("logs").join(image);
        fs::create_dir_all(&dir)?;
        let log = dir.join(format!("{step}.log"));
        File::create(&log).with_context(|| format!("Cannot write {}", log.display()))?;
        Ok(log)
    }

    /// Removes what builds left that were killed before they could clean up.
    pub(crate) fn sweep(&self, sandbox: &Sandbox) -> Result<()> {
        let left: Vec<_> =
            fs::read_dir(self.path("tmp"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        if left.is_empty() { Ok(()) } else { sandbox::remove(sandbox, left, &self.log("cache", "sweep")?) }
    }

    /// A value kept as JSON, if it is there and still readable.
    pub(crate) fn load<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path(name)).ok()?).ok()
    }

    pub(crate) fn store(&self, name: &str, value: &impl Serialize) -> Result<()> {
        write_atomic(&self.path(name), &serde_json::to_vec_pretty(value)?)
    }
}

/// Writes a file so that it is there whole or not at all. Not synced: this is for the cache, which can be made again.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> Result<()> {
    let dir = path.parent().expect("a file has a parent folder");
    let write = || -> std::io::Result<()> {
        // As any file that is made: who may read it, the umask says.
        let mode = fs::Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(mode).tempfile_in(dir)?;
        file.write_all(content)?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("Cannot write {}", path.display()))
}
