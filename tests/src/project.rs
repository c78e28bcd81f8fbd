//! A copy of the project, for tests that build.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::prerequisites::{self, Host};
use crate::process;
use crate::run::Run;

/// A copy of the project, to change; with the layers that were built.
#[derive(Debug)]
pub struct Project {
    /// With `packs/`, `images/` and the lock.
    pub dir: PathBuf,
    /// `gatewright`.
    pub program: PathBuf,
    /// The cache that `make test` fills.
    pub cache: PathBuf,
    _run: Arc<Run>,
    /// A build has the cache for itself, and two cores.
    _turn: MutexGuard<'static, ()>,
}

impl Project {
    /// A copy for `test`, if it can run. It waits for other tests with a project: a build has two cores for itself.
    ///
    /// # Panics
    /// When files cannot be copied.
    #[must_use]
    pub fn new(test: &'static str) -> Option<Project> {
        static TURN: Mutex<()> = Mutex::new(());
        let image = prerequisites::image(test, Host::Fabric)?;
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let run = Run::current().unwrap();
        let dir = run.folder(test).unwrap();
        let root =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a folder of the project");
        for folder in ["packs", "images"] {
            process::output(Command::new("cp").arg("-r").arg(root.join(folder)).arg(&dir)).unwrap();
        }
        let daemon = "target/x86_64-unknown-linux-musl/release/gatewright-firstboot";
        fs::create_dir_all(dir.join(daemon).parent().unwrap()).unwrap();
        fs::copy(root.join(daemon), dir.join(daemon)).unwrap();
        let tree = image.tree_archive();
        let cache = tree.parent().unwrap().parent().unwrap().to_path_buf();
        Some(Project { dir, program: root.join("target/release/gatewright"), cache, _run: run, _turn: turn })
    }

    /// A build of the installer into `out`, with a store of its own.
    #[must_use]
    pub fn command(&self) -> Command {
        self.build_into("out")
    }

    /// The same into another folder.
    #[must_use]
    pub fn build_into(&self, folder: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.dir)
            .args(["build", "images/installer.yaml", "--json", "--progress", "plain", "--out-dir", folder])
            // Roles are changed here, and locks with them; a store of its own keeps the shared one as it is.
            .args(["--locked=false", "--store", "store", "--cache-dir"])
            .arg(&self.cache)
            .stdin(Stdio::null());
        command
    }

    /// Replaces the roles by one with these tasks.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn set_tasks(&self, tasks: &str) {
        fs::write(self.dir.join("packs/debian-13.0.0/machine/tasks/main.yml"), "[]").unwrap();
        fs::write(self.dir.join("packs/firstboot-0.1.0/firstboot/tasks/main.yml"), tasks).unwrap();
    }

    /// Asserts that a build which failed left nothing.
    ///
    /// # Panics
    /// When something is there.
    pub fn assert_clean(&self) {
        assert_eq!(names(&self.cache.join("tmp")), Vec::<String>::new(), "temporary folders");
        assert_eq!(names(&self.dir.join("out")), Vec::<String>::new(), "outputs");
        assert_eq!(running("sandbox-"), Vec::<u32>::new(), "processes");
    }
}

/// What a folder has; nothing where there is none.
///
/// # Panics
/// When it cannot be listed.
#[must_use]
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

/// Processes with `part` in their command line.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn running(part: &str) -> Vec<u32> {
    let own = std::process::id();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(part))
        })
        .collect()
}

/// What a program said on its standard error.
#[must_use]
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a program printed as JSON.
///
/// # Panics
/// When it failed.
#[must_use]
pub fn result(output: &Output) -> Value {
    assert!(output.status.success(), "{}", stderr(output));
    serde_json::from_slice(&output.stdout).unwrap()
}
