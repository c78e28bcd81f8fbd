//! The ledger: a [`Book`] on disk, for any number of programs at once.
//!
//! ```text
//! lock LEDGER.lock ──> read LEDGER ──> change ──> LEDGER.new, fsync ──> rename over LEDGER ──> fsync folder ──> answer
//! ```
//!
//! Whatever is answered outlives a crash and a power cut; a change that is cut off has happened wholly or not at all, and
//! asking again by the same owner gives the same address.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::book::{Book, Refusal};
use crate::spec::PoolSpec;

/// The largest file that is read; the largest that is written is far below.
const LARGEST: u64 = 128 << 20;
/// How long another program may keep the ledger to itself. What it does there takes milliseconds, so one that takes longer
/// was stopped, or its disk hangs.
const PATIENCE: Duration = Duration::from_secs(10);

/// A ledger. Holds nothing open: every call looks at the file.
#[derive(Clone, Debug)]
pub struct Ledger {
    path: PathBuf,
}

/// Why a ledger did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// There is no file.
    #[error("There is no ledger of addresses at {}", .0.display())]
    Missing(PathBuf),
    /// There is one already.
    #[error("There is a ledger of addresses already at {}", .0.display())]
    Exists(PathBuf),
    /// It does not hold what it must.
    #[error("The ledger of addresses {} cannot be trusted: {why}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another program does not let go of it.
    #[error("Another program has kept the lock of the ledger of addresses {} for {PATIENCE:?}", .0.display())]
    Busy(PathBuf),
    /// The disk or its rights.
    #[error("Cannot {what} {}", .path.display())]
    Io {
        /// As in `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The ledger works, and says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl LedgerError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            LedgerError::Missing(_) => {
                "If addresses were ever given out from it, bring it back from where it went; a new one would give them \
                 out again. Else make one."
            }
            LedgerError::Exists(_) => "Open it.",
            LedgerError::Corrupt { .. } => {
                "No address is given out until it is mended, for one could be given twice. Keep a copy; then correct the \
                 file so that it says which addresses the VMs have, or bring it back from a backup if nothing was built or \
                 deleted since."
            }
            LedgerError::Busy(_) => {
                "`fuser` names the program that has this file open. Have it go on, or end it; then try again."
            }
            LedgerError::Io { .. } => {
                "Check the disk's free space and the rights of the folder, then try again."
            }
            LedgerError::Refused(refusal) => refusal.hint(),
        }
    }
}

impl Ledger {
    /// Makes a ledger without pools, in a folder that exists.
    ///
    /// # Errors
    /// If there is one, or if it cannot be written.
    pub fn create(path: impl Into<PathBuf>) -> Result<Ledger, LedgerError> {
        let ledger = Ledger { path: path.into() };
        let _lock = ledger.lock(PATIENCE)?;
        if ledger.path.symlink_metadata().is_ok() {
            return Err(LedgerError::Exists(ledger.path));
        }
        ledger.write(&Book::new())?;
        ledger.sync_folder()?;
        Ok(ledger)
    }

    /// Opens a ledger that there is. Never makes one: addresses that an old one gave out would be given again.
    ///
    /// # Errors
    /// If there is none, or if it cannot be trusted.
    pub fn open(path: impl Into<PathBuf>) -> Result<Ledger, LedgerError> {
        let ledger = Ledger { path: path.into() };
        ledger.read()?;
        Ok(ledger)
    }

    /// What it says now.
    ///
    /// # Errors
    /// If it cannot be read or trusted.
    pub fn read(&self) -> Result<Book, LedgerError> {
        // A file is replaced whole, so what is read is whole without a lock.
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(LedgerError::Missing(self.path.clone()));
            }
            Err(e) => return Err(self.failed("open", &self.path, e)),
        };
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| self.failed("read", &self.path, e))?;
        let book = if bytes.len() as u64 > LARGEST {
            Err(format!("it is larger than {} MiB", LARGEST >> 20))
        } else {
            Book::from_json(&bytes)
        };
        book.map_err(|why| LedgerError::Corrupt { path: self.path.clone(), why })
    }

    /// Makes these the pools; see [`Book::set_pools`].
    ///
    /// # Errors
    /// As there; and if the file cannot be read or written, as everywhere here.
    pub fn set_pools(&self, specs: &[PoolSpec], vip: Option<IpAddr>) -> Result<(), LedgerError> {
        self.change(|book| book.set_pools(specs, vip))
    }

    /// Reserves a pool for a single cluster; see [`Book::reserve`].
    ///
    /// # Errors
    /// As there.
    pub fn reserve(&self, pool: &str, cluster: &str) -> Result<(), LedgerError> {
        self.change(|book| book.reserve(pool, cluster))
    }

    /// Gives an owner an address, the same one whenever it asks again; see [`Book::allocate`].
    ///
    /// # Errors
    /// As there.
    pub fn allocate(&self, pool: &str, cluster: &str, owner: &str) -> Result<IpAddr, LedgerError> {
        self.change(|book| book.allocate(pool, cluster, owner))
    }

    /// Gives an owner a certain address; see [`Book::claim`].
    ///
    /// # Errors
    /// As there.
    pub fn claim(&self, pool: &str, cluster: &str, owner: &str, address: IpAddr) -> Result<(), LedgerError> {
        self.change(|book| book.claim(pool, cluster, owner, address))
    }

    /// Takes an owner's address back; nothing if it has none.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn release(&self, owner: &str) -> Result<Option<IpAddr>, LedgerError> {
        self.change(|book| Ok(book.release(owner)))
    }

    /// Takes back all addresses of a cluster, and what is reserved for it.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn release_cluster(&self, cluster: &str) -> Result<Vec<IpAddr>, LedgerError> {
        self.change(|book| Ok(book.release_cluster(cluster)))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Book) -> Result<T, Refusal>) -> Result<T, LedgerError> {
        let _lock = self.lock(PATIENCE)?;
        let before = self.read()?;
        let mut book = before.clone();
        let answer = change(&mut book)?;
        if book != before {
            self.write(&book)?;
        }
        // Also where nothing changed: whoever wrote what we answer from may have been killed before this.
        self.sync_folder()?;
        Ok(answer)
    }

    /// Keeps other writers out until it is dropped; the kernel drops it for one that is killed.
    fn lock(&self, patience: Duration) -> Result<Flock<File>, LedgerError> {
        let path = self.beside("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let mut file = file.map_err(|e| self.failed("open", &path, e))?;
        let until = Instant::now() + patience;
        loop {
            file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= until => {
                    return Err(LedgerError::Busy(path));
                }
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
                Err((_, e)) => return Err(self.failed("lock", &path, e.into())),
            };
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Under the lock, so that one name is enough for the new file, and a killed writer's is written over.
    fn write(&self, book: &Book) -> Result<(), LedgerError> {
        let new = self.beside("new");
        let write = || {
            let mut file =
                OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(&book.to_json())?;
            file.sync_all()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|e| self.failed("write", &self.path, e))
    }

    /// Makes the name of the file as lasting as its content.
    fn sync_folder(&self) -> Result<(), LedgerError> {
        let folder =
            self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| self.failed("write", folder, e))
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(ending);
        name.into()
    }

    fn failed(&self, what: &'static str, path: &Path, source: io::Error) -> LedgerError {
        LedgerError::Io { what, path: path.into(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_the_lock_is_not_waited_for_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::create(dir.path().join("ledger.json")).unwrap();
        let short = Duration::from_millis(50);
        let kept = ledger.lock(short).unwrap();
        let error = ledger.lock(short).unwrap_err();
        assert!(matches!(error, LedgerError::Busy(_)), "{error}");
        assert!(error.to_string().contains("ledger.json.lock for 10s"), "{error}");
        // One that is let go while another waits is that one's.
        let other = ledger.clone();
        let waits = thread::spawn(move || other.lock(PATIENCE).map(drop));
        thread::sleep(short);
        drop(kept);
        waits.join().unwrap().unwrap();
    }
}
