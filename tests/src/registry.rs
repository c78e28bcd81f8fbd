//! A container registry to push to, and two clients that are not ours to read it with: `skopeo`, and the oras project's
//! Python package in a virtual environment. The registry is Debian's `docker-registry`, on a loopback address.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{self, kill_hard, wait_for};
use crate::run::Run;
use crate::{prerequisites, vcenter};

/// How long a registry may take to listen.
const START: Duration = Duration::from_secs(20);
/// Of a registry that has users.
pub const USER: &str = "tester";
/// The user's.
pub const PASSWORD: &str = "not-a-secret";
/// The same as the registry's file has it (bcrypt, the only form it takes).
const HTPASSWD: &str = "tester:$2y$05$GtBI5zlTAK.pKl4yVDtdG.OQBTyHDFOehW4nTpHMog6cnai6Ew8OS\n";

/// Who may come in, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone, over HTTP.
    Open,
    /// [`USER`] only, over TLS.
    Password,
}

/// A running registry without content. It ends with this value, or with the test program.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: String,
    folder: PathBuf,
    run: Arc<Run>,
}

/// Fails where a program is missing.
///
/// # Errors
/// It says which, and its package.
pub fn check() -> Result<()> {
    prerequisites::programs(&[
        ("docker-registry", "docker-registry"),
        ("skopeo", "skopeo"),
        ("openssl", "openssl"),
        ("setpriv", "util-linux"),
    ])?;
    vcenter::check_python()
}

impl Server {
    /// Starts one.
    ///
    /// # Errors
    /// When it does not start; the error carries what it said.
    pub fn start(access: Access) -> Result<Server> {
        let run = Run::current()?;
        let folder = run.folder(&run.name("registry"))?;
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {0}/storage}}, delete: {{enabled: true}}}}\nhttp:\n  addr: 127.0.0.1:0\n",
            folder.display()
        );
        if access == Access::Password {
            certify(&folder)?;
            fs::write(folder.join("htpasswd"), HTPASSWD)?;
            config += &format!(
                "  tls: {{certificate: {0}/certificate.pem, key: {0}/key.pem}}\nauth: {{htpasswd: {{realm: tests, path: {0}/htpasswd}}}}\n",
                folder.display()
            );
        }
        fs::write(folder.join("config.yml"), config)?;
        let log = folder.join("log");
        let mut command = process::guarded("docker-registry");
        command
            .arg("serve")
            .arg(folder.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?);
        let child = process::spawn(command).context("cannot start docker-registry")?;
        let mut server = Server { child, address: String::new(), folder, run };
        // It was given port 0, and says which it has.
        server.address = wait_for("registry that listens", START, || {
            let said = fs::read_to_string(&log)?;
            if let Some(status) = server.child.try_wait()? {
                bail!("docker-registry ended with {status}: {said}");
            }
            let address = said.split("listening on ").nth(1).and_then(|rest| rest.split(['"', ',']).next());
            Ok(address.map(str::to_owned))
        })?;
        Ok(server)
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// A new folder of its run, for files of the test.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn scratch(&self) -> Result<PathBuf> {
        self.run.folder(&self.run.name("files"))
    }

    /// Its certificate, where it speaks TLS: PEM, signed by itself.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    /// What it said of its requests.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn log(&self) -> Result<String> {
        let log = self.folder.join("log");
        fs::read_to_string(&log).with_context(|| format!("cannot read {}", log.display()))
    }

    /// Ends it; its files stay as long as this value.
    pub fn stop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            kill_hard(self.child.id());
            let _ = self.child.wait();
        }
    }

    /// The file in which it keeps a blob.
    #[must_use]
    pub fn blob(&self, hex: &str) -> PathBuf {
        self.folder.join("storage/docker/registry/v2/blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A certificate for 127.0.0.1 that vouches for itself, in `certificate.pem`, and its key in `key.pem`.
///
/// # Errors
/// When `openssl` fails.
pub fn certify(folder: &Path) -> Result<()> {
    process::output(
        Command::new("openssl")
            .current_dir(folder)
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=registry"])
            // A certificate of a CA is no server's to rustls.
            .args([
                "-addext",
                "basicConstraints=critical,CA:FALSE",
                "-addext",
                "subjectAltName=IP:127.0.0.1",
            ]),
    )?;
    Ok(())
}

/// `skopeo`, for a registry that speaks plain HTTP. Its answer.
///
/// # Errors
/// When it fails; the error carries what it said.
pub fn skopeo(arguments: &[&str]) -> Result<String> {
    process::output(Command::new("skopeo").arg("--insecure-policy").args(arguments))
}

/// The oras project's Python client (`tests/registry/client.py`), run in `folder`. Its answer.
///
/// # Errors
/// When it cannot be installed, or fails; the error carries what it said.
pub fn oras(folder: &Path, arguments: &[&str]) -> Result<String> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("registry");
    let python = vcenter::python("oras", &ours.join("requirements.txt"))?;
    process::output(Command::new(python).current_dir(folder).arg(ours.join("client.py")).args(arguments))
}
