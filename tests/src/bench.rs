//! Boot to SSH of the shipped disk, as `make bench` and the disk tests measure it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::fabric::Fabric;
use crate::image::Image;
use crate::ovfenv::Environment;
use crate::qemu::{self, Boot, Cache, Machine};
use crate::run::{Kind, Run, slot};
use crate::ssh::{Key, Session};

/// How long an emulated machine may take to let us in, on a busy test machine.
pub const BOOT_TIMEOUT: Duration = Duration::from_secs(240);

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct BootToSsh {
    /// From power-on, through firmware and Secure Boot, to the administrator's login, in seconds.
    pub seconds: f64,
    /// Resident memory of the first-boot daemon, in KiB.
    pub daemon_rss_kib: u64,
    /// `kvm` or `tcg`.
    pub accelerator: &'static str,
}

/// Boots the shipped disk through firmware with Secure Boot, and logs in.
///
/// # Errors
/// When it does not come up.
pub fn boot_to_ssh(image: &Image) -> Result<BootToSsh> {
    let _slot = slot(Kind::Machine)?;
    let (disk, tree) = (image.disk()?, image.tree()?);
    let accelerator = qemu::choose_accelerator(&*Run::current()?, &tree.kernel()?)?;
    let network = Arc::new(Fabric::single()?);
    let key = Key::generate()?;
    let mut machine = Machine::new(disk.path(), &network, Boot::Firmware, Cache::Unsafe)?;
    machine.set_environment(Some(&Environment::new(&[("ssh-public-key", &key.public())]).xml()))?;
    machine.start()?;
    let address: Ipv4Addr = machine.wait_lease(BOOT_TIMEOUT)?;
    let session = machine.login(address, &key, BOOT_TIMEOUT)?;
    let seconds = machine.uptime().as_secs_f64();
    let daemon_rss_kib = daemon_rss_kib(&session)?;
    Ok(BootToSsh { seconds, daemon_rss_kib, accelerator: accelerator.name() })
}

/// Resident memory of the first-boot daemon.
///
/// # Errors
/// When it does not run.
pub fn daemon_rss_kib(session: &Session) -> Result<u64> {
    let shown = session.sh("grep VmRSS /proc/$(systemctl show -P MainPID gatewright-firstboot)/status")?;
    shown
        .split_whitespace()
        .nth(1)
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("unexpected memory of the daemon: {shown}"))
}
