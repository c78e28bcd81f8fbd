//! The console as a process: started as its administrator starts it, signed in to, ended, started again on the same data.
//!
//! ```text
//! Setup ── start ──> Console ── api() ──> Client with an administrator's token
//!                       │ ^
//!                  kill │ │ start_again
//!                       v │
//!                     (data)
//! ```

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::json;

use crate::fabric::Fabric;
use crate::figures;
use crate::https::{Answer, Client};
use crate::process::{self, wait_for};
use crate::run::Run;

/// The password that [`Setup::start`] gives the first account.
pub const PASSWORD: &str = "correct horse battery staple";
/// For the program to say where it is.
const START: Duration = Duration::from_secs(60);
/// For the program to end by itself.
const END: Duration = Duration::from_secs(20);

/// How a console is to be started.
#[derive(Debug)]
pub struct Setup {
    listen: SocketAddr,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    fabric: Option<Arc<Fabric>>,
    data: Option<PathBuf>,
    trust: Option<PathBuf>,
}

/// A console that runs, or could again.
#[derive(Debug)]
pub struct Console {
    setup: Setup,
    child: Option<Child>,
    said: Said,
    folder: PathBuf,
    token: String,
    _run: Arc<Run>,
}

/// What it says of itself when it starts.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// Where people find it.
    pub url: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its CA, to trust.
    pub ca_file: PathBuf,
    /// SHA-256 of its certificate.
    pub certificate_sha256: String,
    /// SHA-256 of that CA.
    pub ca_sha256: String,
    /// At its first start, the password of `admin`.
    pub initial_password: Option<String>,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            arguments: Vec::new(),
            environment: Vec::new(),
            fabric: None,
            data: None,
            trust: None,
        }
    }
}

impl Setup {
    /// Listens there; without this, at any port of 127.0.0.1.
    #[must_use]
    pub fn listen(self, listen: SocketAddr) -> Setup {
        Setup { listen, ..self }
    }

    /// Adds an argument of `serve`.
    #[must_use]
    pub fn argument(mut self, argument: impl Into<OsString>) -> Setup {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Setup {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Runs it in the network of a fabric, where all requests are then made from.
    #[must_use]
    pub fn inside(self, fabric: &Arc<Fabric>) -> Setup {
        Setup { fabric: Some(Arc::clone(fabric)), ..self }
    }

    /// Keeps its data there; without this, in a new folder.
    #[must_use]
    pub fn data(self, folder: &Path) -> Setup {
        Setup { data: Some(folder.to_owned()), ..self }
    }

    /// Trusts the certificates in a file instead of its CA: where it was given one.
    #[must_use]
    pub fn trusting(self, file: &Path) -> Setup {
        Setup { trust: Some(file.to_owned()), ..self }
    }

    /// Uses PostgreSQL, the key of its secrets in a file that several consoles share.
    #[must_use]
    pub fn database(self, url: &str, key_file: &Path) -> Setup {
        // A URL with a password is no argument.
        self.environment("GATEWRIGHT_CONSOLE_DATABASE", url).argument("--key-file").argument(key_file)
    }

    /// Starts it, gives `admin` the password [`PASSWORD`] if this is the first start, and makes a token.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn start(self) -> Result<Console> {
        let run = Run::current()?;
        let folder = match &self.data {
            Some(folder) => folder.clone(),
            None => run.folder(&run.name("console"))?,
        };
        let (child, said) = self.spawn(&folder)?;
        let mut console =
            Console { setup: self, child: Some(child), said, folder, token: String::new(), _run: run };
        if let Some(initial) = console.said.initial_password.clone() {
            let session = console.sign_in("admin", &initial)?;
            let change = json!({ "current": initial, "new": PASSWORD });
            console.enter(|| session.json("PUT", "/v1/session/password", &change))??.expect(200)?;
        }
        console.token = console.new_token("administrator")?;
        Ok(console)
    }

    fn spawn(&self, folder: &Path) -> Result<(Child, Said)> {
        let program = program()?;
        let mut command = match &self.fabric {
            Some(fabric) => {
                // The command is guarded as it is; the program becomes its argument.
                fabric.command(program.to_str().context("the target folder's name is no text")?)
            }
            None => process::guarded(program.to_str().context("the target folder's name is no text")?),
        };
        command
            .args(["serve", "--json", "--data"])
            .arg(folder)
            .arg("--listen")
            .arg(self.listen.to_string())
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log_file(folder))?);
        let mut child = process::spawn(command).context("cannot start the console")?;
        let stdout = child.stdout.take().context("it has no standard output")?;
        let (sender, line) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let read = BufReader::new(stdout).read_line(&mut text).map(|_| text);
            // Whoever waited may have given up.
            let _ = sender.send(read);
        });
        let line = line.recv_timeout(START).ok().and_then(Result::ok).unwrap_or_default();
        match serde_json::from_str(&line) {
            Ok(said) => Ok((child, said)),
            Err(_) => {
                process::kill_hard(child.id());
                let _ = child.wait();
                let log = fs::read_to_string(log_file(folder)).unwrap_or_default();
                bail!("the console did not start, and said `{}`:\n{log}", line.trim())
            }
        }
    }
}

impl Console {
    /// With usual settings, at any port of 127.0.0.1.
    ///
    /// # Errors
    /// When it does not build or start.
    pub fn start() -> Result<Console> {
        Setup::default().start()
    }

    /// What it said of itself.
    #[must_use]
    pub fn said(&self) -> &Said {
        &self.said
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(log_file(&self.folder)).unwrap_or_default()
    }

    /// An administrator's token.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Its process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Somebody who is not signed in.
    ///
    /// # Errors
    /// When its CA cannot be read.
    pub fn client(&self) -> Result<Client> {
        let ca = fs::read_to_string(self.setup.trust.as_ref().unwrap_or(&self.said.ca_file))?;
        let mut address = self.said.address;
        if address.ip().is_unspecified() {
            address.set_ip(IpAddr::from([127, 0, 0, 1]));
        }
        Client::new(address, "127.0.0.1", &ca)
    }

    /// An administrator's token's client.
    ///
    /// # Errors
    /// When its CA cannot be read.
    pub fn api(&self) -> Result<Client> {
        Ok(self.client()?.header("authorization", &format!("Bearer {}", self.token)))
    }

    /// A session's client, with cookie and CSRF token.
    ///
    /// # Errors
    /// When it is refused.
    pub fn sign_in(&self, name: &str, password: &str) -> Result<Client> {
        let client = self.client()?;
        let credentials = json!({ "name": name, "password": password });
        let answer = self.enter(|| client.json("POST", "/v1/session", &credentials))??;
        session(&client, &answer)
    }

    /// A new token of `admin`, with a role.
    ///
    /// # Errors
    /// When it is refused.
    pub fn new_token(&self, role: &str) -> Result<String> {
        let session = self.sign_in("admin", PASSWORD)?;
        let wanted = json!({ "name": format!("test {role}"), "role": role });
        let made = self.enter(|| session.json("POST", "/v1/tokens", &wanted))??.expect(201)?;
        Ok(made["secret"].as_str().context("there is no secret")?.to_owned())
    }

    /// Does something where the console can be reached: in its fabric, if it has one.
    ///
    /// # Errors
    /// When that cannot be entered.
    pub fn enter<T: Send>(&self, ask: impl FnOnce() -> T + Send) -> Result<T> {
        match &self.setup.fabric {
            Some(fabric) => fabric.enter(ask),
            None => Ok(ask()),
        }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            process::kill_hard(child.id());
            let _ = child.wait();
        }
    }

    /// SIGTERM; says whether it ended well.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<bool> {
        let Some(mut child) = self.child.take() else { bail!("it does not run") };
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGTERM)?;
        let status = wait_for("end of the console", END, || Ok(child.try_wait()?));
        if status.is_err() {
            process::kill_hard(child.id());
            let _ = child.wait();
        }
        Ok(status?.success())
    }

    /// Starts it again with the same data, at the same port.
    ///
    /// # Errors
    /// When it runs already or does not start.
    pub fn start_again(&mut self) -> Result<()> {
        if self.child.is_some() {
            bail!("it runs already");
        }
        self.setup.listen = self.said.address;
        let (child, said) = self.setup.spawn(&self.folder)?;
        (self.child, self.said) = (Some(child), said);
        Ok(())
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // The folder goes with the run, if not now.
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines.len().saturating_sub(40);
            figures::say(&format!("--- the console's log, its end\n{}\n---", lines[last..].join("\n")));
        }
        if self.setup.data.is_none() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// The client of a session that an answer began.
///
/// # Errors
/// When it began none.
pub fn session(client: &Client, answer: &Answer) -> Result<Client> {
    let body = answer.expect(200)?;
    let cookie = answer.header("set-cookie").context("there is no cookie")?;
    let cookie = cookie.split(';').next().unwrap_or_default();
    let csrf = body["csrf"].as_str().context("there is no CSRF token")?;
    Ok(client.header("cookie", cookie).header("x-csrf-token", csrf))
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("console.log")
}

/// The program, built with the profile of the tests unless `GATEWRIGHT_CONSOLE` names one.
///
/// # Errors
/// When it does not build.
pub fn program() -> Result<PathBuf> {
    static PROGRAM: Mutex<Option<PathBuf>> = Mutex::new(None);
    if let Some(program) = std::env::var_os("GATEWRIGHT_CONSOLE") {
        return Ok(program.into());
    }
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = &*program {
        return Ok(program.clone());
    }
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the tests are in a folder of the project")?;
    let said =
        process::output(
            Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
                .current_dir(root)
                .args(["build", "--quiet", "--locked", "-p", "gatewright-console", "--message-format=json"]),
        )?;
    let built = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "gatewright-console")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built no console")?;
    Ok(program.insert(built).clone())
}
