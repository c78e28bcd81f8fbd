//! SSH as an administrator's client does it, from inside a fabric.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use russh::client::{self, Handle};
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{ChannelMsg, Disconnect};
use tokio::sync::{mpsc, oneshot};

use crate::container::Output;
use crate::fabric::{Fabric, enter_thread};

/// The login of the image.
const USER: &str = "ubuntu";

/// A key of the test's own.
#[derive(Clone)]
pub struct Key(Arc<PrivateKey>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.public())
    }
}

impl Key {
    /// A new Ed25519 key.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Key> {
        let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519)
            .context("cannot make an SSH key")?;
        Ok(Key(Arc::new(key)))
    }

    /// The line for `authorized_keys`.
    #[must_use]
    pub fn public(&self) -> String {
        // An Ed25519 key has no part that could not be written.
        let line = self.0.public_key().to_openssh().unwrap_or_default();
        format!("{line} tests@gatewright")
    }
}

/// Takes any host key: it is made at first boot, and nobody could know it.
struct AnyHost;

impl client::Handler for AnyHost {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _key: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        Ok(true)
    }
}

type Request = (String, oneshot::Sender<Result<Output>>);

/// A login. Ends when dropped.
#[derive(Debug)]
pub struct Session {
    requests: Option<mpsc::UnboundedSender<Request>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Session {
    /// Logs in as the image's user, trying again until `timeout`.
    ///
    /// # Errors
    /// After `timeout`, with the last refusal.
    pub fn login(fabric: &Fabric, host: IpAddr, key: &Key, timeout: Duration) -> Result<Session> {
        let deadline = Instant::now() + timeout;
        let namespace = fabric.namespace().path();
        let key = Arc::clone(&key.0);
        let (requests, queue) = mpsc::unbounded_channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        // A thread of its own in the fabric, for as long as the login lasts.
        let thread = thread::spawn(move || {
            let runtime = enter_thread(&namespace)
                .and_then(|()| Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?));
            match runtime {
                Err(error) => drop(ready.send(Err(error))),
                Ok(runtime) => runtime.block_on(async {
                    match log_in(host, &key, deadline).await {
                        Err(error) => drop(ready.send(Err(error))),
                        Ok(handle) => {
                            let _ = ready.send(Ok(()));
                            serve(handle, queue).await;
                        }
                    }
                }),
            }
        });
        let session = Session { requests: Some(requests), thread: Some(thread) };
        is_ready.recv().context("the SSH thread ended")??;
        Ok(session)
    }

    /// Runs a command as the user.
    ///
    /// # Errors
    /// When the connection breaks. That the command fails is in the [`Output`].
    pub fn exec(&self, command: &str) -> Result<Output> {
        let (reply, answer) = oneshot::channel();
        self.requests
            .as_ref()
            .and_then(|requests| requests.send((command.to_owned(), reply)).ok())
            .context("the SSH connection is gone")?;
        answer.blocking_recv().context("the SSH connection is gone")?
    }

    /// Runs a command as the user and returns what it printed, trimmed.
    ///
    /// # Errors
    /// When the connection breaks or the command fails.
    pub fn sh(&self, command: &str) -> Result<String> {
        let output = self.exec(command)?;
        if output.code != 0 {
            bail!(
                "`{command}` exited with {}: {} {}",
                output.code,
                output.stdout.trim(),
                output.stderr.trim()
            );
        }
        Ok(output.stdout.trim().to_owned())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn log_in(host: IpAddr, key: &Arc<PrivateKey>, deadline: Instant) -> Result<Handle<AnyHost>> {
    let config = Arc::new(client::Config { nodelay: true, ..Default::default() });
    loop {
        // An emulated machine takes seconds for a handshake; one that lost its power never answers.
        let mut refused = false;
        let attempt = tokio::time::timeout(Duration::from_secs(15), async {
            let mut handle = client::connect(Arc::clone(&config), (host, 22), AnyHost).await?;
            let key = PrivateKeyWithHashAlg::new(Arc::clone(key), None);
            if handle.authenticate_publickey(USER, key).await?.success() {
                Ok(handle)
            } else {
                refused = true;
                bail!("{USER}@{host} refused the key")
            }
        });
        let error = match attempt.await {
            Ok(Ok(handle)) => return Ok(handle),
            Ok(Err(error)) => error,
            Err(_) => anyhow!("{host} did not answer"),
        };
        if Instant::now() >= deadline {
            return Err(error.context(format!("no SSH login at {host}")));
        }
        // sshd locks out for a while who is refused too often (PerSourcePenalties).
        tokio::time::sleep(Duration::from_millis(if refused { 5000 } else { 100 })).await;
    }
}

async fn serve(handle: Handle<AnyHost>, mut queue: mpsc::UnboundedReceiver<Request>) {
    while let Some((command, reply)) = queue.recv().await {
        let _ = reply.send(exec(&handle, &command).await);
    }
    let _ = handle.disconnect(Disconnect::ByApplication, "", "en").await;
}

async fn exec(handle: &Handle<AnyHost>, command: &str) -> Result<Output> {
    let mut channel = handle.channel_open_session().await?;
    channel.exec(true, command).await?;
    let (mut code, mut stdout, mut stderr) = (None, Vec::new(), Vec::new());
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => stdout.extend_from_slice(&data),
            ChannelMsg::ExtendedData { data, .. } => stderr.extend_from_slice(&data),
            ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
            ChannelMsg::ExitSignal { .. } => code = None,
            _ => {}
        }
    }
    Ok(Output {
        code: code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    })
}

/// Whether an SSH server answers there, whoever it lets in: `SSH-2.0-...`, within `timeout`.
///
/// # Errors
/// After `timeout`, with the last refusal.
pub fn banner(fabric: &Fabric, host: IpAddr, timeout: Duration) -> Result<String> {
    fabric.enter(|| {
        let deadline = Instant::now() + timeout;
        loop {
            let error = match read_banner(SocketAddr::new(host, 22)) {
                Ok(banner) if banner.starts_with("SSH-2.0") => return Ok(banner),
                Ok(other) => anyhow!("{host} says {other:?}"),
                Err(error) => error.into(),
            };
            if Instant::now() >= deadline {
                return Err(error.context(format!("no SSH server answers at {host}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
    })?
}

fn read_banner(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 64];
    let count = stream.read(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..count]).trim().to_owned())
}
