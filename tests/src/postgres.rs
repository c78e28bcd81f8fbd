//! A PostgreSQL server of a test's own, which it can end and start again.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};

use crate::process::{self, output, wait_for};
use crate::run::{Run, base};

/// The account that Debian's package makes; the server refuses to be root.
const USER: &str = "postgres";

/// The server. It ends with this.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    child: Option<Child>,
    _run: Arc<Run>,
}

impl Postgres {
    /// One for all who need no more than a database of their own. It ends with the last of them: what is in a `static` is
    /// never dropped, and a server that is killed leaves its shared memory behind.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn shared() -> Result<Arc<Postgres>> {
        static SHARED: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Ok(server);
        }
        let server = Arc::new(Postgres::start()?);
        *shared = Arc::downgrade(&server);
        Ok(server)
    }

    /// A new one, with an empty database.
    ///
    /// # Errors
    /// When there is none on this machine (package postgresql), or it does not start.
    pub fn start() -> Result<Postgres> {
        let programs = programs()?;
        let run = Run::current()?;
        let folder = run.folder(&run.name("postgres"))?;
        let user = User::from_name(USER)?.context("there is no account `postgres` (package postgresql)")?;
        let data = folder.join("data");
        fs::create_dir(&data)?;
        for path in [&folder, &data] {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        let mut server = Postgres { programs, folder, port: free_port()?, child: None, _run: run };
        server.open_path()?;
        output(
            server
                .command("initdb")
                .args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "-U", USER, "-D"])
                .arg(&data),
        )?;
        server.run()?;
        output(server.command("createdb").args([
            "-h",
            "127.0.0.1",
            "-p",
            &server.port.to_string(),
            "console",
        ]))?;
        Ok(server)
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its database by URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/console", self.port)
    }

    /// Another database, empty: its URL. The password in it is for who looks whether it is told; the server asks for none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn database(&self, name: &str, password: &str) -> Result<String> {
        self.sql(&format!("CREATE DATABASE {name}"))?;
        Ok(format!("postgres://{USER}:{password}@127.0.0.1:{}/{name}", self.port))
    }

    /// Runs statements, and gives what they say.
    ///
    /// # Errors
    /// When they fail.
    pub fn sql(&self, statements: &str) -> Result<String> {
        output(self.command("psql").args(["-qAt", "-v", "ON_ERROR_STOP=1", "-c", statements, &self.url()]))
    }

    /// Ends it as an administrator does who does not wait for its clients.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let ended = kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)
            .map_err(Into::into)
            .and_then(|()| wait_for("end of PostgreSQL", Duration::from_secs(30), || Ok(child.try_wait()?)));
        if ended.is_err() {
            process::kill_hard(child.id());
            let _ = child.wait();
        }
        ended.map(drop)
    }

    /// Starts it again with the same data.
    ///
    /// # Errors
    /// When it does not start.
    pub fn run(&mut self) -> Result<()> {
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.folder.join("data"))
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::options().create(true).append(true).open(self.folder.join("log"))?);
        self.child = Some(process::spawn(command).context("cannot start PostgreSQL")?);
        let ready = self.programs.join("pg_isready");
        wait_for("PostgreSQL", Duration::from_secs(60), || {
            let asked = Command::new(&ready)
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()?;
            Ok(asked.success().then_some(()))
        })
    }

    fn command(&self, program: &str) -> Command {
        // The kernel forgets what is to happen at the parent's end when a process changes its user, so that comes first.
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid", USER, "--regid", USER, "--clear-groups"])
            .args(["setpriv", "--pdeathsig", "KILL", "--"])
            .arg(self.programs.join(program))
            .current_dir(&self.folder);
        command
    }

    /// Lets the account pass through the folders that are the tests' own. Those above are somebody else's.
    fn open_path(&self) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let base = base();
        for folder in self.folder.ancestors().skip(1) {
            let Ok(kept) = fs::metadata(folder) else { continue };
            let mode = kept.permissions().mode();
            if mode & 0o001 != 0 {
                continue;
            }
            if folder == base || !folder.starts_with(&base) {
                bail!(
                    "the account `{USER}` may not pass through {}: set GATEWRIGHT_SCRATCH to a folder that all may \
                     pass through, as one in /tmp",
                    folder.display()
                );
            }
            fs::set_permissions(folder, fs::Permissions::from_mode(mode | 0o001))?;
        }
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // Its children go with it.
        let _ = self.stop();
    }
}

/// Debian keeps them where several versions have room.
fn programs() -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").is_file())
        .collect();
    found.sort_by_key(|bin| version(bin));
    found.pop().context("programs are missing: postgres (package postgresql)")
}

fn version(bin: &Path) -> Option<u32> {
    bin.parent()?.file_name()?.to_str()?.parse().ok()
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
