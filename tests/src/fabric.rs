//! Networks of the tests' own. A [`Fabric`] is a network namespace; its [`Network`]s are bridges in it, each with the
//! fabric as router, DHCP and DNS server; hosts are attached by [`Port`]s, which can be unplugged. The machine that runs
//! the tests gets no address: clients enter the fabric with [`Fabric::enter`].

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

use crate::process;
use crate::run::Run;

/// A network namespace of a run, deleted when dropped.
#[derive(Debug)]
pub struct Namespace(String);

impl Namespace {
    /// Makes it, with its loopback up.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn new(run: &Run, kind: &str) -> Result<Namespace> {
        // The first `ip netns add` of a machine mounts /run/netns; two at once would do so twice.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let name = run.name(kind);
        {
            let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
            process::output(Command::new("ip").args(["netns", "add", &name]))?;
        }
        let namespace = Namespace(name);
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, for `ip netns`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The file that holds it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.0)
    }

    /// Runs something in it, in a thread of its own.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub fn enter<T: Send>(&self, client: impl FnOnce() -> T + Send) -> Result<T> {
        let path = self.path();
        thread::scope(|scope| {
            scope
                .spawn(move || {
                    enter_thread(&path)?;
                    Ok(client())
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs lines of `ip` in it.
    ///
    /// # Errors
    /// With the first line that fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.0, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start ip")?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(lines.as_bytes())?;
        }
        let result = child.wait_with_output()?;
        if !result.status.success() {
            bail!("ip in {}: {lines}: {}", self.0, String::from_utf8_lossy(&result.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = process::output(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

/// The namespace in which the networks lie and the clients stand.
#[derive(Debug)]
pub struct Fabric {
    namespace: Namespace,
    // After what is the run's: its end looks whether all of that is gone.
    run: Arc<Run>,
    ports: AtomicU32,
}

impl Fabric {
    /// An empty fabric that routes between its networks.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new() -> Result<Arc<Fabric>> {
        let run = Run::current()?;
        let namespace = Namespace::new(&run, "f")?;
        let fabric = Arc::new(Fabric { namespace, run, ports: AtomicU32::new(0) });
        // The kernel shows each thread the settings of its own network namespace here.
        fabric
            .enter(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))?
            .context("cannot make the fabric a router")?;
        Ok(fabric)
    }

    /// A fabric with one network, for tests that need no more.
    ///
    /// # Errors
    /// As [`Fabric::new`] and [`Fabric::network`].
    pub fn single() -> Result<Network> {
        Fabric::new()?.network(0)
    }

    /// One more network, `10.77.number.0/24`. The fabric is `.1` in it, and DHCP gives from `.100`.
    ///
    /// # Errors
    /// When the bridge cannot be made or the DHCP and DNS server not be started.
    pub fn network(self: &Arc<Fabric>, number: u8) -> Result<Network> {
        Network::new(Arc::clone(self), number)
    }

    /// The name of its namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// The run it belongs to.
    #[must_use]
    pub fn run(&self) -> &Arc<Run> {
        &self.run
    }

    /// Runs `client` in the fabric, in a thread of its own.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T: Send>(&self, client: impl FnOnce() -> T + Send) -> Result<T> {
        self.namespace.enter(client)
    }

    /// A command that will run in the fabric, and die with the tests.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = process::guarded("nsenter");
        command.arg(format!("--net={}", self.namespace.path().display())).args(["--", program]);
        command
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

/// Moves the calling thread, and what it starts, into a network namespace.
pub(crate) fn enter_thread(namespace: &Path) -> Result<()> {
    let file = File::open(namespace).with_context(|| format!("cannot open {}", namespace.display()))?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {}", namespace.display()))
}

/// A bridge with DHCP and DNS.
#[derive(Debug)]
pub struct Network {
    fabric: Arc<Fabric>,
    number: u8,
    folder: PathBuf,
    dnsmasq: Mutex<Child>,
}

/// The name under which a network's DNS knows the fabric itself, as a time server or a console.
pub const FABRIC_NAME: &str = "fabric.test";

impl Network {
    fn new(fabric: Arc<Fabric>, number: u8) -> Result<Network> {
        // Its own hardware address: else it has that of some port, and another one when that port goes, which the others notice
        // after half a minute.
        fabric.namespace.ip(&format!(
            "link add br{number} address 00:50:56:3f:ff:{number:02x} type bridge\naddr add 10.77.{number}.1/24 dev br{number}\nlink set br{number} up\n"
        ))?;
        let folder = fabric.run.folder(&format!("{}-net{number}", fabric.namespace.name()))?;
        let dnsmasq = Mutex::new(start_dnsmasq(&fabric, number, &folder, true)?);
        Ok(Network { fabric, number, folder, dnsmasq })
    }

    /// Takes the DHCP server away, or gives it back; DNS stays.
    ///
    /// # Errors
    /// When the server cannot be started again.
    pub fn set_dhcp(&self, on: bool) -> Result<()> {
        let mut dnsmasq = self.dnsmasq.lock().unwrap_or_else(PoisonError::into_inner);
        process::stop_group(&mut dnsmasq);
        *dnsmasq = start_dnsmasq(&self.fabric, self.number, &self.folder, on)?;
        Ok(())
    }

    /// The fabric it lies in.
    #[must_use]
    pub fn fabric(&self) -> &Arc<Fabric> {
        &self.fabric
    }

    /// An address in it.
    #[must_use]
    pub fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, host)
    }

    /// The address that DHCP gave to a card, if it has given one.
    #[must_use]
    pub fn lease(&self, mac: &str) -> Option<Ipv4Addr> {
        // Lines of: expiry, MAC, address, name, client id.
        let leases = fs::read_to_string(self.folder.join("leases")).ok()?;
        leases.lines().find_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            (words.next()? == mac).then(|| words.next()?.parse().ok())?
        })
    }

    /// A card `interface` in `namespace`, plugged into this network.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn plug(&self, namespace: &Namespace, interface: &str, mac: &str) -> Result<Port> {
        let name = self.port_name();
        let target = namespace.name();
        self.fabric.namespace.ip(&format!(
            "link add {name} type veth peer name {interface} address {mac} netns {target}\n\
             link set {name} master br{} up\n",
            self.number
        ))?;
        Ok(Port { fabric: Arc::clone(&self.fabric), name })
    }

    /// A tap device for a virtual machine that runs in the fabric, plugged into this network.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn tap(&self) -> Result<Port> {
        let name = self.port_name();
        self.fabric
            .namespace
            .ip(&format!("tuntap add {name} mode tap\nlink set {name} master br{} up\n", self.number))?;
        Ok(Port { fabric: Arc::clone(&self.fabric), name })
    }

    fn port_name(&self) -> String {
        format!("port{}", self.fabric.ports.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        process::stop_group(self.dnsmasq.get_mut().unwrap_or_else(PoisonError::into_inner));
        let _ = self.fabric.namespace.ip(&format!("link del br{}\n", self.number));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn start_dnsmasq(fabric: &Fabric, number: u8, folder: &Path, dhcp: bool) -> Result<Child> {
    let mut command = process::guarded_group("nsenter");
    command
        .arg(format!("--net={}", fabric.namespace.path().display()))
        .args(["--", "dnsmasq"])
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--bind-interfaces", "--except-interface=lo"])
        .args(["--no-hosts", "--no-resolv", "--pid-file=", "--user=root"])
        .arg(format!("--interface=br{number}"))
        .arg(format!("--domain=net{number}.test"))
        .arg(format!("--address=/{FABRIC_NAME}/10.77.{number}.1"))
        .arg(format!("--log-facility={}", folder.join("dnsmasq.log").display()))
        .stdin(Stdio::null())
        // It has its log; unshare complains that it cannot die of SIGKILL once more, as its child did.
        .stderr(Stdio::null());
    if dhcp {
        command
            .args(["--no-ping", "--dhcp-authoritative"])
            .arg(format!("--dhcp-range=10.77.{number}.100,10.77.{number}.199,255.255.255.0,1h"))
            .arg(format!("--dhcp-leasefile={}", folder.join("leases").display()));
    }
    process::spawn(command).context("cannot start dnsmasq")
}

/// The network's end of a host's cable.
#[derive(Debug)]
pub struct Port {
    fabric: Arc<Fabric>,
    name: String,
}

impl Port {
    /// The device's name in the fabric.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Pulls the cable, or plugs it in again. The host sees its carrier go and come.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn set_plugged(&self, plugged: bool) -> Result<()> {
        let state = if plugged { "up" } else { "down" };
        self.fabric.namespace.ip(&format!("link set {} {state}\n", self.name))
    }

    /// Makes the cable bad: packets are late by `delay`, and `loss` in a hundred are lost.
    ///
    /// # Errors
    /// When `tc` fails.
    pub fn set_quality(&self, delay: Duration, loss: u8) -> Result<()> {
        process::output(
            Command::new("tc").args(["-n", self.fabric.namespace.name(), "qdisc", "replace", "dev"]).args([
                &self.name,
                "root",
                "netem",
                "delay",
                &format!("{}ms", delay.as_millis()),
                "loss",
                &format!("{loss}%"),
            ]),
        )?;
        Ok(())
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // Before its namespace: a namespace frees its devices some time after it is deleted, and a quick restart with
        // the same card would find it still there.
        let _ = self.fabric.namespace.ip(&format!("link del {}\n", self.name));
    }
}
