//! Files and programs of the machine, below a root that tests can move.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The longest that a program may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The machine.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    root: PathBuf,
    /// False in tests: files are written, programs are not run.
    live: bool,
}

impl Machine {
    /// The machine that this runs on.
    pub(crate) fn here() -> Machine {
        Machine { root: "/".into(), live: true }
    }

    /// A folder in place of a machine.
    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Machine {
        Machine { root: root.into(), live: false }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.live
    }

    /// Where an absolute path is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The content of a file; nothing where there is none.
    pub(crate) fn read(&self, path: &str) -> Result<Option<String>> {
        match fs::read(self.path(path)) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("Cannot read {path}")),
        }
    }

    /// Makes a file have this content, or be gone. Says whether it had to change.
    pub(crate) fn ensure(&self, path: &str, mode: u32, content: Option<&str>) -> Result<bool> {
        self.ensure_owned(path, mode, None, content)
    }

    /// [`Machine::ensure`], for a file of another user's (uid, gid).
    pub(crate) fn ensure_owned(
        &self,
        path: &str,
        mode: u32,
        owner: Option<(u32, u32)>,
        content: Option<&str>,
    ) -> Result<bool> {
        if self.read(path)?.as_deref() == content {
            return Ok(false);
        }
        let place = self.path(path);
        match content {
            Some(content) => write_atomic(&place, mode, owner, content.as_bytes()),
            None => fs::remove_file(&place).and_then(|()| sync_folder(&place)),
        }
        .with_context(|| format!("Cannot write {path}"))?;
        Ok(true)
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it fails, with the end of what it said; when it takes longer than a minute, after ending it.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        if self.live { run(program, arguments).map(|_| ()) } else { Ok(()) }
    }
}

/// Runs a program and gives its standard output; see [`Machine::run`].
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("Cannot run `{program}`"))?;
    // Read beside waiting, or a program with much to say would wait for us.
    let stdout = drain(child.stdout.take().expect("stdout is piped"));
    let stderr = drain(child.stderr.take().expect("stderr is piped"));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > TIMEOUT {
            child.kill()?;
            child.wait()?;
            bail!("`{program}` took longer than {} seconds", TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let join = |reader: std::thread::JoinHandle<Vec<u8>>| reader.join().unwrap_or_default();
    let (stdout, stderr) = (join(stdout), join(stderr));
    if !status.success() {
        let text = String::from_utf8_lossy(&stderr);
        let last =
            text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").trim();
        bail!("`{program}` ended with {status}: {last}");
    }
    Ok(stdout)
}

/// At most 2 MiB: more is nothing that we asked for.
fn drain(pipe: impl io::Read + Send + 'static) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read until it broke is what there is.
        let _ = pipe.take(2 << 20).read_to_end(&mut bytes);
        bytes
    })
}

/// Writes a file so that it is there whole or as it was, whenever the power goes.
pub(crate) fn write_atomic(
    path: &Path,
    mode: u32,
    owner: Option<(u32, u32)>,
    content: &[u8],
) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().prefix(".gatewright-").tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    if let Some((uid, gid)) = owner {
        fchown(file.as_file(), Some(uid), Some(gid))?;
    }
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(path)
}

/// Makes the entry of a file as lasting as its content.
fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
