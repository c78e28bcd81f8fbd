//! Proxies of Debian, each in a network namespace of its own, and a line that can be made bad.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

use crate::fabric::{Fabric, Namespace, Network, Port};
use crate::process::{self, wait_for};
use crate::run::Run;

/// The programs, each with its Debian package.
pub const PROGRAMS: &[(&str, &str)] =
    &[("squid", "squid-openssl"), ("tinyproxy", "tinyproxy-bin"), ("openssl", "openssl")];

/// Whom a proxy with logins lets pass.
pub const LOGIN: (&str, &str) = ("machine", "p:ss@wörd");
/// The name of the CA by which [`Kind::Intercepting`] ends TLS.
pub const INSPECTION: &str = "Corporate Inspection CA";

const START: Duration = Duration::from_secs(30);
const PORT: u16 = 3128;
const TLS_PORT: u16 = 3129;

/// What a proxy is like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// squid that lets everybody pass, spoken to by HTTP or, at another port, by TLS.
    Open,
    /// squid that wants [`LOGIN`].
    WithLogin,
    /// squid that lets nobody pass to the console's port.
    Forbidding,
    /// squid that ends TLS (`ssl_bump`) by a CA of its own. It carries no WebSocket.
    Intercepting,
    /// tinyproxy.
    Tiny,
}

/// A proxy that runs.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    _cable: Port,
    address: Ipv4Addr,
    folder: PathBuf,
    /// squid's name for itself, which its shared memory has too: several are to run at once.
    service: String,
    _namespace: Namespace,
    // After what is the run's: its end looks whether all of that is gone.
    _run: Arc<Run>,
}

impl Proxy {
    /// Starts one at address `host` of a network. It reaches all that the fabric does.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(network: &Network, host: u8, kind: Kind) -> Result<Proxy> {
        let fabric = network.fabric();
        let run: &Arc<Run> = fabric.run();
        let namespace = Namespace::new(run, "p")?;
        let cable = network.plug(&namespace, "ens192", &format!("00:50:56:04:00:{host:02x}"))?;
        let address = network.address(host);
        namespace.ip(&format!(
            "addr add {address}/24 dev ens192\nlink set ens192 up\nroute add default via {}\n",
            network.address(1)
        ))?;
        let name = run.name("proxy");
        let folder = run.folder(&name)?;
        // Letters and digits are what it takes.
        let service = name.replace('-', "");
        let mut command = process::guarded_group("nsenter");
        command.arg(format!("--net={}", namespace.path().display())).arg("--");
        let configuration = folder.join("configuration");
        if kind == Kind::Tiny {
            fs::write(
                &configuration,
                "Port 3128\nTimeout 600\nMaxClients 100\nAllow 0.0.0.0/0\nConnectPort 8443\n",
            )?;
            command.args(["tinyproxy", "-d", "-c"]).arg(&configuration);
        } else {
            fs::write(&configuration, squid(kind, network, address, &folder)?)?;
            // It gives up its rights, and then wants to write there.
            process::output(Command::new("chown").args(["-R", "proxy:proxy"]).arg(&folder))?;
            command.args(["squid", "-N", "-n", &service, "-f"]).arg(&configuration);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = process::spawn(command).context("cannot start the proxy")?;
        let proxy = Proxy {
            child,
            _cable: cable,
            address,
            folder,
            service,
            _namespace: namespace,
            _run: Arc::clone(run),
        };
        let answers =
            || fabric.enter(|| TcpStream::connect_timeout(&proxy.place(), Duration::from_secs(1)).is_ok());
        wait_for("proxy", START, || Ok(answers()?.then_some(()))).with_context(|| proxy.log())?;
        Ok(proxy)
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> SocketAddr {
        (self.address, PORT).into()
    }

    /// Its URL, without login.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.place())
    }

    /// Its URL for those who speak TLS with it ([`Kind::Open`] only).
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("https://{}:{TLS_PORT}", self.address)
    }

    /// Its URL with a login.
    #[must_use]
    pub fn url_with(&self, user: &str, password: &str) -> String {
        let encoded = password.bytes().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "%{byte:02X}");
            text
        });
        format!("http://{user}:{encoded}@{}", self.place())
    }

    /// The CA by which it ends TLS, or by which its own certificate is, PEM.
    ///
    /// # Errors
    /// When it has none.
    pub fn ca(&self) -> Result<String> {
        Ok(fs::read_to_string(self.folder.join("ca.pem"))?)
    }

    /// What it has written of requests and of itself.
    #[must_use]
    pub fn log(&self) -> String {
        ["access.log", "cache.log"]
            .map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default())
            .concat()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        process::stop_group(&mut self.child);
        // It was killed, and could not remove it itself.
        for entry in fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().contains(&format!("{}-", self.service)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn squid(kind: Kind, network: &Network, address: Ipv4Addr, folder: &Path) -> Result<String> {
    let at = folder.display();
    let port = match kind {
        Kind::Intercepting => {
            issue(folder, INSPECTION, None)?;
            let certificates = folder.join("certificates");
            process::output(
                Command::new("/usr/lib/squid/security_file_certgen")
                    .args(["-c", "-s"])
                    .arg(&certificates)
                    .args(["-M", "4MB"]),
            )?;
            format!(
                "http_port {PORT} ssl-bump tls-cert={at}/both.pem generate-host-certificates=on dynamic_cert_mem_cache_size=1MB\n\
                 sslcrtd_program /usr/lib/squid/security_file_certgen -s {at}/certificates -M 4MB\n\
                 sslcrtd_children 1\n\
                 acl hello at_step SslBump1\nssl_bump stare hello\nssl_bump bump all\n\
                 sslproxy_cert_error allow all\ntls_outgoing_options flags=DONT_VERIFY_PEER\n"
            )
        }
        Kind::Open => {
            issue(folder, "Proxy CA", Some(address))?;
            format!("http_port {PORT}\nhttps_port {TLS_PORT} tls-cert={at}/both.pem\n")
        }
        _ => format!("http_port {PORT}\n"),
    };
    let access = match kind {
        Kind::WithLogin => {
            let (user, password) = LOGIN;
            let hashed = process::output(Command::new("openssl").args(["passwd", "-apr1", password]))?;
            fs::write(folder.join("passwords"), format!("{user}:{hashed}"))?;
            format!(
                "auth_param basic program /usr/lib/squid/basic_ncsa_auth {at}/passwords\n\
                 auth_param basic children 1\nauth_param basic utf8 off\n\
                 acl known proxy_auth REQUIRED\nhttp_access allow known\nhttp_access deny all\n"
            )
        }
        Kind::Forbidding => "acl console port 8443\nhttp_access deny console\nhttp_access allow all\n".into(),
        _ => "http_access allow all\n".into(),
    };
    Ok(format!(
        "{port}{access}visible_hostname proxy.test\npid_filename none\ncache deny all\ncache_mem 4 MB\n\
         access_log stdio:{at}/access.log\ncache_log {at}/cache.log\nnetdb_filename none\ncoredump_dir none\n\
         dns_nameservers {}\nshutdown_lifetime 0 seconds\nmax_filedescriptors 1024\npinger_enable off\n",
        network.address(1)
    ))
}

/// A CA in `ca.pem`; in `both.pem` its key too, or, for an address, a certificate by it and that one's key.
fn issue(folder: &Path, name: &str, address: Option<Ipv4Addr>) -> Result<()> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?;
    fs::write(folder.join("ca.pem"), ca.pem())?;
    let both = match address {
        None => format!("{}{}", ca.pem(), key.serialize_pem()),
        Some(address) => {
            let mut own = CertificateParams::default();
            own.distinguished_name.push(DnType::CommonName, "proxy");
            own.subject_alt_names.push(SanType::IpAddress(address.into()));
            let own_key = KeyPair::generate()?;
            let own = own.signed_by(&own_key, &Issuer::new(params, &key))?;
            format!("{}{}", own.pem(), own_key.serialize_pem())
        }
    };
    Ok(fs::write(folder.join("both.pem"), both)?)
}

/// How a [`Line`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quality {
    /// All passes.
    Good,
    /// Each connection ends after so many bytes, both ways together.
    CutAfter(u64),
    /// All passes, each piece so much later.
    Slow(Duration),
    /// Connections are taken, and nothing passes.
    Dead,
}

/// A TCP relay in the fabric that can be made bad while connections go over it.
#[derive(Debug)]
pub struct Line {
    fabric: Arc<Fabric>,
    taker: Option<thread::JoinHandle<()>>,
    place: SocketAddr,
    quality: Arc<Mutex<Quality>>,
    ended: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    /// One from some port of the fabric's address in a network to `target`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn new(fabric: &Arc<Fabric>, network: &Network, target: SocketAddr) -> Result<Line> {
        let own = (network.address(1), 0);
        let listener = fabric.enter(|| TcpListener::bind(own))??;
        let mut line = Line {
            fabric: Arc::clone(fabric),
            taker: None,
            place: listener.local_addr()?,
            quality: Arc::new(Mutex::new(Quality::Good)),
            ended: Arc::default(),
            connections: Arc::default(),
        };
        let (quality, ended) = (Arc::clone(&line.quality), Arc::clone(&line.ended));
        let (connections, inside) = (Arc::clone(&line.connections), Arc::clone(fabric));
        line.taker = Some(thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let connect = || TcpStream::connect_timeout(&target, START);
                let Ok(Ok(server)) = inside.enter(connect) else { continue };
                relay(&client, &server, &quality, &connections);
            }
        }));
        Ok(line)
    }

    /// Where it begins.
    #[must_use]
    pub fn place(&self) -> SocketAddr {
        self.place
    }

    /// From now on it is so; connections that are there end.
    pub fn set(&self, quality: Quality) {
        *self.quality.lock().unwrap_or_else(PoisonError::into_inner) = quality;
        self.cut();
    }

    fn cut(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may have ended already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The thread waits for a connection, and holds the fabric meanwhile.
        let woken = self.fabric.enter(|| TcpStream::connect_timeout(&self.place, START).is_ok());
        if let (Ok(true), Some(taker)) = (woken, self.taker.take()) {
            let _ = taker.join();
        }
        self.cut();
    }
}

fn relay(
    client: &TcpStream,
    server: &TcpStream,
    quality: &Arc<Mutex<Quality>>,
    connections: &Mutex<Vec<TcpStream>>,
) {
    let quality = *quality.lock().unwrap_or_else(PoisonError::into_inner);
    let passed = Arc::new(AtomicU64::new(0));
    for (from, to) in [(client, server), (server, client)] {
        let (Ok(mut from), Ok(mut to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone())
        else {
            return;
        };
        connections.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        let passed = Arc::clone(&passed);
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let so_far = passed.fetch_add(count as u64, Ordering::Relaxed) + count as u64;
                match quality {
                    Quality::Dead => continue,
                    Quality::CutAfter(most) if so_far > most => break,
                    Quality::Slow(delay) => thread::sleep(delay),
                    _ => {}
                }
                if to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
}
