//! A vCenter to import into, and the clients that import: `govc`, and pyVmomi in a virtual environment.
//!
//! The vCenter is a Go program of ours (`tests/vcenter`) round govmomi's simulator, as strict as the real one where an
//! OVA meets it. It listens on loopback addresses. What it saw it tells at its control endpoint:
//!
//! ```text
//! test ── govc, pyVmomi ── TLS ──> vcenter  (127.0.0.1)
//!   │                 └─── TLS ──> its host (127.0.0.2): uploads
//!   └──────────────────── HTTP ──> control: machines, calls, complaints, uploads
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::process::{self, kill_hard, wait_for};
use crate::run::Run;

/// The first version of Go 1 that fetches the version a module asks for.
const GO_MINOR: u32 = 21;
/// How long the program may take to tidy up.
const END: Duration = Duration::from_secs(20);
/// The port group that every vCenter of ours has beside `VM Network`.
pub const PORT_GROUP: &str = "DC0_DVPG0";

/// A running vCenter with an empty inventory. It ends with this value, or with the test program.
#[derive(Debug)]
pub struct Vcenter {
    child: Child,
    access: Access,
    folder: PathBuf,
    _run: Arc<Run>,
}

#[derive(Debug, Deserialize)]
struct Access {
    url: String,
    user: String,
    password: String,
    certificate: PathBuf,
    control: String,
}

/// A virtual machine of the inventory.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The version of its hardware, as in `vmx-15`.
    pub hardware: String,
    /// The identifier of its operating system.
    pub guest: String,
    /// Virtual CPUs.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// `bios` or `efi`.
    pub firmware: String,
    /// Whether EFI starts signed programs only.
    pub secure_boot: bool,
    /// The notes.
    pub annotation: String,
    /// How the OVF environment reaches the guest.
    pub transports: Vec<String>,
    /// Keys and values that configure the machine beyond what the API names.
    pub extra_config: BTreeMap<String, String>,
    /// The products.
    pub products: Vec<Product>,
    /// The properties in the descriptor's order.
    pub properties: Vec<Property>,
    /// The network cards.
    pub networks: Vec<Card>,
    /// The disks.
    pub disks: Vec<Disk>,
}

/// A product of a [`Machine`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Product {
    /// Its name.
    pub name: String,
    /// Who makes it.
    pub vendor: String,
    /// Its version.
    pub version: String,
    /// Its version in full.
    pub full_version: String,
}

/// A property of a [`Machine`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Property {
    /// The name under which the guest finds it.
    pub key: String,
    /// The heading over it.
    pub category: String,
    /// Its name for people.
    pub label: String,
    /// vSphere's type, as in `string` or `password`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value where none is given.
    pub default: String,
    /// The value given.
    pub value: String,
}

/// A network card of a [`Machine`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Card {
    /// Its class, as in `VirtualVmxnet3`.
    pub adapter: String,
    /// The network it is in.
    pub network: String,
    /// Its PCI slot, 0 if none was asked for.
    pub slot: u32,
}

/// A disk of a [`Machine`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Disk {
    /// Bytes.
    pub capacity: u64,
    /// The class of its controller, as in `ParaVirtualSCSIController`.
    pub controller: String,
    /// Its place at the controller.
    pub unit: u32,
    /// Whether it takes space as it is written.
    pub thin: bool,
    /// The PCI slot of the controller, 0 if none was asked for.
    pub slot: u32,
}

/// A request that brought a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Upload {
    /// The machine it is for.
    pub vm: String,
    /// The name of the file on the datastore.
    pub target: String,
    /// The HTTP method.
    pub method: String,
    /// What the client says the length is, in bytes.
    pub content_length: i64,
    /// The bytes that came.
    pub received: u64,
    /// SHA-256 of what came, 64 hexadecimal digits.
    pub sha256: String,
    /// Where it is, as long as the vCenter runs.
    pub path: PathBuf,
    /// The HTTP status of the answer.
    pub status: u16,
}

impl Vcenter {
    /// Starts one, of the program that [`go_program`] builds.
    ///
    /// # Errors
    /// When the program does not build or start.
    pub fn start() -> Result<Vcenter> {
        let program = go_program("vcenter")?;
        let run = Run::current()?;
        let folder = run.folder(&run.name("vcenter"))?;
        let mut command = process::guarded(program.to_str().context("the path of the project is not UTF-8")?);
        command
            .env("TMPDIR", &folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("log"))?);
        let mut child = process::spawn(command).context("cannot start the vCenter")?;
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().context("its standard output is a pipe")?)
            .read_line(&mut line);
        match read.map_err(anyhow::Error::from).and_then(|_| Ok(serde_json::from_str(&line)?)) {
            Ok(access) => Ok(Vcenter { child, access, folder, _run: run }),
            Err(error) => {
                kill_hard(child.id());
                child.wait()?;
                let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
                Err(error.context(format!("the vCenter did not start: {log}")))
            }
        }
    }

    /// Ends it.
    ///
    /// # Errors
    /// When it had ended before, does not end, or leaves anything behind.
    pub fn stop(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        let status = wait_for("end of the vCenter", END, || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "the vCenter ended with {status}: {}", self.log());
        let left: Vec<_> = fs::read_dir(&self.folder)?.flatten().map(|entry| entry.file_name()).collect();
        ensure!(left == ["log"], "the vCenter left {left:?}");
        Ok(())
    }

    /// What it said, for a failure.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Its scratch folder, for files of the test.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The machines by name.
    ///
    /// # Errors
    /// When the control endpoint does not answer.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        self.ask("machines")
    }

    /// How often each method was called.
    ///
    /// # Errors
    /// When the control endpoint does not answer.
    pub fn calls(&self) -> Result<BTreeMap<String, u32>> {
        self.ask("calls")
    }

    /// What a real vCenter would have refused, or dropped without a word.
    ///
    /// # Errors
    /// When the control endpoint does not answer.
    pub fn complaints(&self) -> Result<Vec<String>> {
        self.ask("complaints")
    }

    /// The uploads, in the order of their ends.
    ///
    /// # Errors
    /// When the control endpoint does not answer.
    pub fn uploads(&self) -> Result<Vec<Upload>> {
        self.ask("uploads")
    }

    fn ask<T: DeserializeOwned>(&self, what: &str) -> Result<T> {
        let address = self.access.control.strip_prefix("http://").context("the control endpoint is HTTP")?;
        let answer =
            get(address, what).with_context(|| format!("the vCenter tells no {what}: {}", self.log()))?;
        serde_json::from_str(&answer).with_context(|| format!("{what}: {answer}"))
    }

    /// `govc`, logged in here.
    ///
    /// # Errors
    /// When it does not build.
    pub fn govc(&self) -> Result<Command> {
        let mut command = Command::new(go_program("govc")?);
        command
            .env("GOVC_URL", &self.access.url)
            .env("GOVC_USERNAME", &self.access.user)
            .env("GOVC_PASSWORD", &self.access.password)
            .env("GOVC_TLS_CA_CERTS", &self.access.certificate)
            .env("GOVC_PERSIST_SESSION", "false");
        Ok(command)
    }

    /// Imports `ova` with pyVmomi, as a thin-provisioned machine called `name`.
    ///
    /// # Errors
    /// When it does not end well; the error carries what it said.
    pub fn import_with_pyvmomi(
        &self,
        ova: &Path,
        name: &str,
        networks: &BTreeMap<String, String>,
        properties: &BTreeMap<String, String>,
    ) -> Result<()> {
        let order = json!({
            "url": self.access.url, "user": self.access.user, "password": self.access.password,
            "certificate": self.access.certificate, "ova": ova, "name": name, "provisioning": "thin",
            "networks": networks, "properties": properties,
        });
        let mut child = Command::new(python("pyvmomi", &pyvmomi_folder().join("requirements.txt"))?)
            .arg(pyvmomi_folder().join("import_ova.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child
            .stdin
            .take()
            .context("its standard input is a pipe")?
            .write_all(order.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "pyVmomi: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Vcenter {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        drop(self.child.stdin.take());
        if wait_for("end", END, || Ok(self.child.try_wait()?)).is_err() {
            kill_hard(self.child.id());
            let _ = self.child.wait();
        }
    }
}

/// The body of the answer to an HTTP GET. HTTP/1.0: it ends with the connection, whatever its length.
fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(END))?;
    write!(stream, "GET /{path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => bail!("{answer:?}"),
    }
}

/// Fails where there is no Go, or one that cannot build our programs.
///
/// # Errors
/// It says what to install.
pub fn check_go() -> Result<()> {
    let said =
        process::output(Command::new("go").arg("version")).context("there is no Go (package golang-go)")?;
    let minor = said
        .split_once(" go1.")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
    ensure!(
        minor.is_some_and(|minor: u32| minor >= GO_MINOR),
        "Go 1.{GO_MINOR} or later is needed (package golang-go), here is {said}"
    );
    Ok(())
}

/// Fails where Python cannot make virtual environments.
///
/// # Errors
/// It says what to install.
pub fn check_python() -> Result<()> {
    process::output(Command::new("python3").args(["-c", "import venv, ensurepip"]))
        .context("there is no Python with venv (package python3-venv)")?;
    Ok(())
}

/// `go`, in the folder of a module of ours, as in `tests/govc`. Without C, so that it needs no C compiler.
#[must_use]
pub fn go(module: &str) -> Command {
    let mut command = Command::new("go");
    // Some distributions forbid it to fetch the version that the module asks for.
    command.current_dir(folder_of(module)).env("CGO_ENABLED", "0").env("GOTOOLCHAIN", "auto");
    command
}

fn folder_of(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(module)
}

/// The program of a Go module of ours, built where its sources are newer.
///
/// # Errors
/// When it does not build.
pub fn go_program(name: &str) -> Result<PathBuf> {
    let module = folder_of(name);
    let (program, _lock) = locked("go", name)?;
    let mut changed = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(&module).with_context(|| format!("cannot list {}", module.display()))? {
        changed = changed.max(entry?.metadata()?.modified()?);
    }
    if fs::metadata(&program).and_then(|built| built.modified()).is_ok_and(|built| built > changed) {
        return Ok(program);
    }
    // Go's own cache makes this quick where little has changed.
    process::output(go(name).args(["build", "-trimpath", "-o"]).arg(&program).arg("."))?;
    // Go leaves a program alone that would be the same.
    File::options().append(true).open(&program)?.set_modified(SystemTime::now())?;
    Ok(program)
}

fn pyvmomi_folder() -> PathBuf {
    folder_of("vcenter").join("pyvmomi")
}

/// Python in a virtual environment called `name`, with what `requirements` pins, and nothing else.
///
/// # Errors
/// When it cannot be made.
pub fn python(name: &str, requirements: &Path) -> Result<PathBuf> {
    let (folder, _lock) = locked("python", name)?;
    let python = folder.join("bin/python");
    let wanted = fs::read(requirements)?;
    let stamp = folder.join("requirements.txt");
    if fs::read(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(python);
    }
    process::output(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    process::output(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--require-hashes", "--only-binary", ":all:", "-r"])
            .arg(requirements),
    )?;
    fs::write(stamp, wanted)?;
    Ok(python)
}

/// A place in `target` for what is made once, with a lock for the making.
fn locked(kind: &str, name: &str) -> Result<(PathBuf, File)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(kind);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let folder = folder.canonicalize()?;
    let lock = File::create(folder.join(format!("{name}.lock")))?;
    lock.lock()?;
    Ok((folder.join(name), lock))
}
