//! The machine below us: its programs, network cards and name. Tests put another one in its place.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipnet::Ipv4Net;
use nix::net::if_::InterfaceFlags;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What the steps need of the machine.
pub(crate) trait System: fmt::Debug {
    /// Runs a program found on PATH to its end and gives its standard output. It may not take longer than `limit`.
    fn run(&self, argv: &[&str], limit: Duration) -> Result<Vec<u8>, CommandError>;
    /// The Ethernet cards, the one to configure first.
    fn links(&self) -> Vec<Link>;
    /// The name that the kernel has.
    fn host_name(&self) -> String;
    /// Gives the kernel another name until the next boot.
    fn set_host_name(&self, name: &str) -> std::io::Result<()>;
}

/// An Ethernet card.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) index: usize,
    pub(crate) name: String,
    /// Whether the cable is in, as the card sees it.
    pub(crate) running: bool,
    /// IPv4 addresses other than link-local ones.
    pub(crate) addresses: Vec<Ipv4Net>,
}

/// A program that did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct CommandError {
    pub(crate) command: String,
    pub(crate) reason: String,
    /// It is not installed.
    pub(crate) missing: bool,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.command, self.reason)
    }
}

/// The machine we run on.
#[derive(Debug, Default)]
pub(crate) struct Linux {
    /// Set to end whatever child runs: we were told to stop.
    pub(crate) stop: std::sync::Arc<AtomicBool>,
}

impl System for Linux {
    fn run(&self, argv: &[&str], limit: Duration) -> Result<Vec<u8>, CommandError> {
        let error = |reason: String, missing| CommandError { command: argv.join(" "), reason, missing };
        let failed = |e: std::io::Error| error(format!("could not be run: {e}"), e.kind() == std::io::ErrorKind::NotFound);
        // Memory files, not pipes: nothing has to be read meanwhile, and a grandchild that keeps one open cannot make
        // us wait.
        let output = || memfd_create("output", MFdFlags::MFD_CLOEXEC).map(File::from).map_err(|e| failed(e.into()));
        let (mut stdout, mut stderr) = (output()?, output()?);
        let mut child = Command::new(argv[0])
            .args(&argv[1..])
            .stdin(Stdio::null())
            .stdout(stdout.try_clone().map_err(failed)?)
            .stderr(stderr.try_clone().map_err(failed)?)
            .env("LC_ALL", "C.UTF-8")
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            let stopped = self.stop.load(Ordering::Relaxed);
            if stopped || started.elapsed() > limit {
                // Its whole group, so that a script's own children end too. Errors mean that they are gone already.
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                let _ = child.wait();
                let reason = if stopped { "was stopped with us".into() } else { format!("did not end within {} s", limit.as_secs()) };
                return Err(error(reason, false));
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        if !status.success() {
            let lines = text(&mut stderr).map_err(failed)?;
            let lines = String::from_utf8_lossy(&lines);
            let mut last: Vec<&str> = lines.lines().filter(|line| !line.trim().is_empty()).rev().take(3).collect();
            last.reverse();
            let said = if last.is_empty() { String::new() } else { format!(": {}", last.join(" / ")) };
            return Err(error(format!("failed ({status}){said}"), false));
        }
        text(&mut stdout).map_err(failed)
    }

    fn links(&self) -> Vec<Link> {
        let mut links: BTreeMap<String, Link> = BTreeMap::new();
        let Ok(entries) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
        for entry in entries {
            let Some(address) = &entry.address else { continue };
            if let Some(hardware) = address.as_link_addr() {
                let folder = Path::new("/sys/class/net").join(&entry.interface_name);
                let ethernet = hardware.hatype() == nix::libc::ARPHRD_ETHER
                    && !entry.flags.contains(InterfaceFlags::IFF_LOOPBACK)
                    && !folder.join("bridge").exists()
                    && !folder.join("bonding").exists();
                if ethernet {
                    let link = links.entry(entry.interface_name.clone()).or_default();
                    link.name.clone_from(&entry.interface_name);
                    // Hardware before software; among equals the one that was there first.
                    link.index = hardware.ifindex() + if folder.join("device").exists() { 0 } else { 1 << 32 };
                    link.running = entry.flags.contains(InterfaceFlags::IFF_RUNNING);
                }
            } else if let (Some(ip), Some(mask)) =
                (address.as_sockaddr_in(), entry.netmask.as_ref().and_then(|mask| mask.as_sockaddr_in()))
                && !ip.ip().is_link_local()
                && let Ok(net) = Ipv4Net::with_netmask(ip.ip(), mask.ip())
            {
                links.entry(entry.interface_name).or_default().addresses.push(net);
            }
        }
        let mut links: Vec<Link> = links.into_values().filter(|link| !link.name.is_empty()).collect();
        links.sort_by_key(|link| link.index);
        for link in &mut links {
            link.index &= (1 << 32) - 1;
        }
        links
    }

    fn host_name(&self) -> String {
        nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    fn set_host_name(&self, name: &str) -> std::io::Result<()> {
        Ok(nix::unistd::sethostname(name)?)
    }
}

fn text(file: &mut File) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.rewind()?;
    // A byte more than any document may have, so that its reader sees that it is too long.
    file.take((1 << 20) + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// Whether an address is of use to reach others.
pub(crate) fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast()
        || address.is_link_local()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_end_one_way_or_another() {
        let run = |argv: &[&str], limit| Linux::default().run(argv, Duration::from_millis(limit));
        assert_eq!(run(&["echo", "a b"], 5000).unwrap(), b"a b\n");
        let error = run(&["sh", "-c", "echo 1; for i in 1 2 3 4; do echo line $i >&2; done; exit 3"], 5000).unwrap_err();
        assert!(error.reason.ends_with("(exit status: 3): line 2 / line 3 / line 4"), "{error}");
        assert!(run(&["no-such-program"], 5000).unwrap_err().missing);
        // The grandchild dies too, and nobody waits for it.
        let started = Instant::now();
        let error = run(&["sh", "-c", "sleep 60 & sleep 60"], 100).unwrap_err();
        assert!(error.reason.contains("did not end"), "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
        let stopped = Linux { stop: std::sync::Arc::new(AtomicBool::new(true)) };
        assert!(stopped.run(&["sleep", "60"], Duration::from_secs(60)).unwrap_err().reason.contains("stopped"));
    }
}
