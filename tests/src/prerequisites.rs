//! What tests need of the machine they run on. A test whose needs are not met says so on standard error, past the test
//! program's capture, and does not count as tried: `CANNOT RUN: <test>: <why>`. With `GATEWRIGHT_REQUIRE_ALL=1`, as in
//! `make test` by root, it fails.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::figures;
use crate::image::Image;

/// The programs of network namespaces, DHCP and DNS, each with its Debian package.
const FABRIC: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("setpriv", "util-linux"),
    ("dnsmasq", "dnsmasq-base"),
];
const CONTAINER: &[(&str, &str)] = &[("systemd-nspawn", "systemd-container"), ("tar", "tar")];
const MACHINE: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("qemu-img", "qemu-utils"),
    ("xorriso", "xorriso"),
    ("tar", "tar"),
];

/// The kind of host a test boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// No host, only networks.
    Fabric,
    /// The tree as a system container.
    Container,
    /// The disk, or the tree's kernel, in QEMU.
    Machine,
}

/// Checks that `test` can run networks of its own. `false`: said so, and the test returns.
///
/// # Panics
/// With `GATEWRIGHT_REQUIRE_ALL=1`, when it cannot run.
#[must_use]
pub fn fabric(test: &str) -> bool {
    match check(Host::Fabric) {
        Ok(()) => true,
        Err(why) => {
            cannot_run(test, &why);
            false
        }
    }
}

/// The image under test, if `test` can boot it. `None`: said so, and the test returns.
///
/// # Panics
/// With `GATEWRIGHT_REQUIRE_ALL=1`, when it cannot run.
#[must_use]
pub fn image(test: &str, host: Host) -> Option<Image> {
    needed(test, check(host).map_err(anyhow::Error::msg).and_then(|()| Image::from_environment()))
}

/// Fails where programs are missing, each given with its Debian package.
///
/// # Errors
/// It says which.
pub fn programs(wanted: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing = missing(wanted.iter());
    anyhow::ensure!(missing.is_empty(), "programs are missing: {}", missing.join(", "));
    Ok(())
}

/// The Kubernetes node, if `test` can boot it. `None`: said so, and the test returns.
///
/// # Panics
/// With `GATEWRIGHT_REQUIRE_ALL=1`, when it cannot run.
#[must_use]
pub fn node(test: &str, host: Host) -> Option<Image> {
    needed(test, check(host).map_err(anyhow::Error::msg).and_then(|()| Image::node()))
}

/// What `test` cannot do without, if it is there. `None`: said so, and the test returns.
///
/// # Panics
/// With `GATEWRIGHT_REQUIRE_ALL=1`, when it is not there.
#[must_use]
pub fn needed<T>(test: &str, found: anyhow::Result<T>) -> Option<T> {
    match found {
        Ok(thing) => Some(thing),
        Err(why) => {
            cannot_run(test, &format!("{why:#}"));
            None
        }
    }
}

fn check(host: Host) -> Result<(), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("it needs root, for network namespaces".into());
    }
    let programs = match host {
        Host::Fabric => &[][..],
        Host::Container => CONTAINER,
        Host::Machine => MACHINE,
    };
    let missing = missing(FABRIC.iter().chain(programs));
    if !missing.is_empty() {
        return Err(format!("programs are missing: {}", missing.join(", ")));
    }
    if host == Host::Machine {
        for file in [crate::qemu::FIRMWARE_CODE, crate::qemu::FIRMWARE_VARIABLES] {
            if !Path::new(file).exists() {
                return Err(format!("{file} is missing (package ovmf)"));
            }
        }
        crate::qemu::check_version().map_err(|error| format!("{error:#}"))?;
    }
    Ok(())
}

fn missing<'a>(wanted: impl Iterator<Item = &'a (&'a str, &'a str)>) -> Vec<String> {
    wanted
        .filter(|(program, _)| find(program).is_none())
        .map(|(program, package)| format!("{program} (package {package})"))
        .collect()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn cannot_run(test: &str, why: &str) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    figures::say(&format!("CANNOT RUN: {test}: {why} ({count} so far)"));
    figures::record(&json!({ "test": test, "cannot_run": why }));
    assert!(
        std::env::var_os("GATEWRIGHT_REQUIRE_ALL").is_none_or(|value| value != "1"),
        "{test} cannot run, and GATEWRIGHT_REQUIRE_ALL asks for it: {why}"
    );
}
