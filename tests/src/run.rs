//! One run of a test program: its names, its scratch folder, its share of the machine.
//!
//! Everything a run makes outside its folder carries the run's prefix, `gw`, its process number and a letter. A run that is killed
//! cannot tidy up; the next one does: a run's folder whose lock can be taken belongs to nobody.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use crate::{container, figures, process};

/// The folder of all runs: `GATEWRIGHT_SCRATCH`, or one in the system's temporary folder.
#[must_use]
pub fn base() -> PathBuf {
    std::env::var_os("GATEWRIGHT_SCRATCH")
        .map_or_else(|| std::env::temp_dir().join("gatewright-tests"), PathBuf::from)
}

/// This process's run. Lives as long as anything that was made in it.
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    prefix: String,
    counter: AtomicU32,
    _lock: File,
}

impl Run {
    /// The run of this process, made at the first call. Sweeps what dead runs left.
    ///
    /// # Errors
    /// When the scratch folder cannot be made.
    pub fn current() -> Result<Arc<Run>> {
        static CURRENT: Mutex<Weak<Run>> = Mutex::new(Weak::new());
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = current.upgrade() {
            return Ok(run);
        }
        let run = Arc::new(Run::new()?);
        *current = Arc::downgrade(&run);
        Ok(run)
    }

    fn new() -> Result<Run> {
        let base = base();
        let runs = base.join("runs");
        fs::create_dir_all(&runs).with_context(|| format!("cannot make {}", runs.display()))?;
        // One at a time: a folder must not be swept between its making and its locking.
        let gate = File::create(base.join("gate"))?;
        gate.lock()?;
        sweep(&runs)?;

        // Not the name of the run before: that may still be removing its folder, in a thread whose test has ended.
        static GENERATION: AtomicU32 = AtomicU32::new(0);
        let letter = b'a' + (GENERATION.fetch_add(1, Ordering::Relaxed) % 26) as u8;
        let prefix = format!("gw{}{}", std::process::id(), char::from(letter));
        let folder = runs.join(&prefix);
        fs::create_dir_all(&folder)?;
        if statfs(&folder)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
            // In a container image's own file system: an overlay is no upper layer for another overlay.
            mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
                .with_context(|| format!("cannot mount a tmpfs at {}", folder.display()))?;
        }
        let lock = File::create(runs.join(format!("{prefix}.lock")))?;
        lock.lock()?;
        Ok(Run { folder, prefix, counter: AtomicU32::new(0), _lock: lock })
    }

    /// A name that no other thing of any run has, as in `gw4711a-disk3`.
    #[must_use]
    pub fn name(&self, kind: &str) -> String {
        format!("{}-{kind}{}", self.prefix, self.counter.fetch_add(1, Ordering::Relaxed))
    }

    /// A new empty folder in the run's scratch folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remove(&self.folder.with_extension("lock"));
    }
}

/// Removes what runs left whose process is no more.
fn sweep(runs: &Path) -> Result<()> {
    for entry in fs::read_dir(runs)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        // The lock went with its process. Containers and virtual machines die with it too; this is the rest.
        if File::open(&path)?.try_lock().is_err() {
            continue;
        }
        remove(&path);
    }
    Ok(())
}

/// Removes all of the run whose lock this is, and the lock once nothing is left: without it nobody would look again.
fn remove(lock: &Path) {
    let folder = lock.with_extension("");
    let Some(prefix) = folder.file_name().and_then(|name| name.to_str()) else { return };
    let own = format!("{prefix}-");
    for name in namespaces(&own) {
        let _ = process::output(Command::new("ip").args(["netns", "del", &name]));
    }
    container::remove_cgroups(|name| name.starts_with(&own));
    // Where it is no mount, there is nothing to do.
    let _ = umount2(&folder, MntFlags::MNT_DETACH);
    let _ = fs::remove_dir_all(&folder);
    let left = namespaces(&own);
    if left.is_empty() && !folder.exists() {
        let _ = fs::remove_file(lock);
    } else {
        figures::say(&format!("LEFT BEHIND, until the next run: {} {}", folder.display(), left.join(" ")));
    }
}

/// The network namespaces whose names begin so.
fn namespaces(prefix: &str) -> Vec<String> {
    let names = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with(prefix)).collect()
}

/// The right to run one host. Hosts share few cores: more at once would only make each time-out a matter of luck.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held for its lock")] File);

/// Kinds of hosts that are counted.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// System containers: one more than there are cores, since they also wait.
    Container,
    /// Virtual machines: one, it uses all cores.
    Machine,
}

/// Waits until one more host may run, on this machine and not only in this process.
///
/// # Errors
/// When the lock files cannot be made.
pub fn slot(kind: Kind) -> Result<Slot> {
    let (name, count) = match kind {
        Kind::Container => ("container", thread::available_parallelism()?.get() + 1),
        Kind::Machine => ("machine", 1),
    };
    let folder = base().join("slots");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let files = (0..count)
        .map(|number| File::create(folder.join(format!("{name}-{number}"))))
        .collect::<std::io::Result<Vec<_>>>()?;
    loop {
        for file in &files {
            if file.try_lock().is_ok() {
                return Ok(Slot(file.try_clone()?));
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prerequisites;

    #[test]
    fn what_cannot_be_removed_is_looked_at_again() -> Result<()> {
        if !prerequisites::fabric("run::sweep") {
            return Ok(());
        }
        let run = Run::current()?;
        let runs = run.folder("runs")?;
        let (folder, lock) = (runs.join("gwgone"), runs.join("gwgone.lock"));
        let busy = folder.join("busy");
        fs::create_dir_all(&busy)?;
        File::create(&lock)?;
        mount(Some("tmpfs"), &busy, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        sweep(&runs)?;
        assert!(folder.exists() && lock.exists());
        umount2(&busy, MntFlags::empty())?;
        sweep(&runs)?;
        assert!(!folder.exists() && !lock.exists());
        Ok(())
    }
}
