//! The disk that ships, in QEMU: what a container cannot show.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::bench::{BOOT_TIMEOUT, daemon_rss_kib};
use gatewright_tests::fabric::{Fabric, Network};
use gatewright_tests::figures::{Timed, record, say};
use gatewright_tests::image::Image;
use gatewright_tests::ovfenv::Environment;
use gatewright_tests::prerequisites::{self, Host};
use gatewright_tests::process::wait_for;
use gatewright_tests::qemu::{Accelerator, Boot, Cache, Machine, choose_accelerator};
use gatewright_tests::run::{Kind, Run, Slot, slot};
use gatewright_tests::seed::Random;
use gatewright_tests::ssh::{Key, Session};
use gatewright_tests::status::Status;
use serde_json::json;

/// What every test here has.
struct Bench {
    image: Image,
    network: Arc<Network>,
    key: Key,
    accelerator: Accelerator,
    _slot: Slot,
}

impl Bench {
    fn new(image: Image) -> Result<Bench> {
        let slot = slot(Kind::Machine)?;
        let accelerator = choose_accelerator(&*Run::current()?, &image.tree()?.kernel()?)?;
        Ok(Bench {
            image,
            network: Arc::new(Fabric::single()?),
            key: Key::generate()?,
            accelerator,
            _slot: slot,
        })
    }

    /// Something for every step, at a static address.
    fn environment(&self) -> String {
        Environment::new(&[
            ("gateway-name", "edge-01"),
            ("console-endpoint", "https://console.example.com"),
            ("pairing-code", "4821 7739 0515"),
            ("ssh-public-key", &self.key.public()),
            ("ip-address", "10.77.0.20"),
            ("ip-prefix", "24"),
            ("ip-gateway", "10.77.0.1"),
            ("dns-servers", "10.77.0.1"),
            ("search-domains", "corp.example.com"),
            ("http-proxy", "http://robot:s3cr3t@10.77.0.1:3128"),
            ("https-proxy", "http://robot:s3cr3t@10.77.0.1:3128"),
            ("no-proxy", "vcenter.example.com"),
            ("ntp-servers", "10.77.0.1"),
        ])
        .xml()
    }

    fn kernel(&self) -> Result<Boot> {
        let tree = self.image.tree()?;
        Ok(Boot::Kernel { kernel: tree.kernel()?, initrd: tree.initrd()? })
    }
}

/// Firmware, Secure Boot, boot loader, partitions, settings from the CD-ROM; then the same without it.
#[test]
fn shipped_disk_boots_securely_and_keeps_its_settings() {
    let test = "installer_disk::firmware";
    let Some(image) = prerequisites::image(test, Host::Machine) else { return };
    let bench = Bench::new(image).unwrap();
    let _timed = Timed::new(test);
    firmware(bench).unwrap();
}

fn firmware(bench: Bench) -> Result<()> {
    let mut machine =
        Machine::new(bench.image.disk()?.path(), &bench.network, Boot::Firmware, Cache::Unsafe)?;
    machine.set_environment(Some(&bench.environment()))?;
    machine.start()?;
    let session = machine.login(bench.network.address(20), &bench.key, BOOT_TIMEOUT)?;
    let seconds = machine.uptime().as_secs_f64();
    let rss = daemon_rss_kib(&session)?;
    let accelerator = bench.accelerator.name();
    say(&format!("  boot to SSH: {seconds:.1} s ({accelerator}), the daemon has {rss} KiB of memory"));
    record(&json!({ "boot_to_ssh_seconds": seconds, "daemon_rss_kib": rss, "accelerator": accelerator }));
    ensure!(rss <= 20 * 1024, "the daemon has {rss} KiB of memory, more than 20 MiB");

    let status = is_configured(&session)?;
    ensure!(status.source == "cdrom", "source: {}", status.source);
    is_right(&session)?;
    has(&session, "mokutil --sb-state", &["SecureBoot enabled"])?;
    // What lies under the kernel that was let in.
    has(&session, "cat /sys/kernel/security/lockdown", &["[integrity]"])?;
    has(&session, "cat /etc/gatewright-release", &[bench.image.signature()])?;
    has(&session, "sudo dmesg | grep -c 'ahci.*SATA mode'", &["1"])?;
    // The root has taken what the disk has.
    let disk: u64 = session.sh("lsblk -bdno SIZE /dev/sda")?.parse()?;
    let root: u64 = session.sh("df -B1 --output=size / | tail -n 1")?.parse()?;
    ensure!(disk > 10 << 30, "the disk has only {disk} bytes");
    ensure!(root > disk / 100 * 90, "the root has {root} bytes of a disk of {disk}");
    // Nothing that identifies a machine was shipped.
    let identity = "cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; sudo journalctl --list-boots --no-pager | grep -c ^[[:space:]]*-*[0-9]";
    let identity = session.sh(identity)?;
    ensure!(identity.lines().next().is_some_and(|id| id.len() == 32), "no machine-id: {identity}");
    ensure!(identity.lines().last() == Some("1"), "boots before the first one: {identity}");

    // An orderly restart, on another day, without the CD.
    session.exec("sudo systemctl poweroff")?;
    drop(session);
    machine.wait_off(BOOT_TIMEOUT)?;
    machine.set_environment(None)?;
    machine.start()?;
    let session = machine.login(bench.network.address(20), &bench.key, BOOT_TIMEOUT)?;
    say(&format!("  second boot to SSH: {:.1} s", machine.uptime().as_secs_f64()));
    let status = is_configured(&session)?;
    ensure!(status.source == "kept", "source: {}", status.source);
    is_right(&session)?;
    let later = session.sh("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub")?;
    ensure!(identity.starts_with(&later), "another identity than before: {identity} and {later}");
    Ok(())
}

/// The controller and the card that the OVF declares, with DHCP.
#[test]
fn kernel_finds_pvscsi_and_vmxnet3() {
    let test = "installer_disk::pvscsi";
    let Some(image) = prerequisites::image(test, Host::Machine) else { return };
    let bench = Bench::new(image).unwrap();
    let _timed = Timed::new(test);
    pvscsi(bench).unwrap();
}

fn pvscsi(bench: Bench) -> Result<()> {
    let mut machine =
        Machine::new(bench.image.disk()?.path(), &bench.network, bench.kernel()?, Cache::Unsafe)?;
    let given = [("gateway-name", "Edge-02"), ("ssh-public-key", &bench.key.public())];
    machine.set_environment(Some(&Environment::new(&given).xml()))?;
    machine.start()?;
    let address = machine.wait_lease(BOOT_TIMEOUT)?;
    let session = machine.login(address, &bench.key, BOOT_TIMEOUT)?;
    say(&format!("  direct kernel boot to SSH: {:.1} s", machine.uptime().as_secs_f64()));
    let status = is_configured(&session)?;
    ensure!(status.setting("pod-cidr") == "192.168.0.0/16", "the default is lost: {:?}", status.settings);
    has(&session, "hostname", &["edge-02"])?;
    has(
        &session,
        "ls -l /sys/class/scsi_host/*/device/.. | cat; cat /sys/class/scsi_host/*/proc_name",
        &["vmw_pvscsi"],
    )?;
    has(&session, "findmnt -no SOURCE /", &["/dev/sd"])?;
    has(&session, "basename $(readlink /sys/class/net/e*/device/driver)", &["vmxnet3"])?;
    // With no time servers given, the distribution's.
    has(&session, "cat /etc/chrony/sources.d/*.sources", &["pool "])?;
    // The serial console shows the daemon's screen, not a login prompt.
    wait_for("the screen on the serial console", Duration::from_secs(30), || {
        let serial = machine.serial();
        Ok((serial.contains("edge-02") && serial.contains(&address.to_string())).then_some(()))
    })
    .with_context(|| machine.evidence())?;
    ensure!(!machine.serial().contains("login:"), "a login prompt is on the serial console");
    Ok(())
}

/// The power goes in the middle of first boot, twice. What the guest had not written is lost.
#[test]
fn power_cut_of_the_disk_in_first_boot() {
    let test = "installer_disk::power_cut";
    let Some(image) = prerequisites::image(test, Host::Machine) else { return };
    let bench = Bench::new(image).unwrap();
    let _timed = Timed::new(test);
    power_cut(test, bench).unwrap();
}

fn power_cut(test: &str, bench: Bench) -> Result<()> {
    let (mut random, seed) = Random::from_environment();
    let mut machine =
        Machine::new(bench.image.disk()?.path(), &bench.network, bench.kernel()?, Cache::WriteBack)?;
    machine.set_environment(Some(&bench.environment()))?;
    for _ in 0..2 {
        machine.start()?;
        // The daemon's first sign: from then on there is something to lose.
        wait_for("the daemon's screen", BOOT_TIMEOUT, || {
            Ok(machine.serial().contains("Gatewright gateway installer").then_some(()))
        })
        .with_context(|| machine.evidence())?;
        let moment = random.between(Duration::ZERO, Duration::from_secs(4));
        std::thread::sleep(moment);
        machine.power_cut();
        say(&format!(
            "  {test}: cut {:.3} s after the daemon's start, GATEWRIGHT_SEED={seed}",
            moment.as_secs_f64()
        ));
    }
    machine.start()?;
    let session = machine.login(bench.network.address(20), &bench.key, BOOT_TIMEOUT)?;
    is_configured(&session)?;
    is_right(&session)
}

/// Waits for the daemon to be done, and looks for failures.
fn is_configured(session: &Session) -> Result<Status> {
    let mut said = String::new();
    let status = wait_for("state configured", BOOT_TIMEOUT, || {
        // sshd may be quicker than the daemon: then there is no status of this boot yet.
        let output = session.exec("gatewright-firstboot status --json")?;
        said = output.stdout + &output.stderr;
        if output.code != 0 {
            return Ok(None);
        }
        let status: Status =
            serde_json::from_str(&said).with_context(|| format!("`status --json` said {said}"))?;
        Ok(status.is_configured().then_some(status))
    })
    .with_context(|| said.clone())?;
    // Units that are still starting may yet fail.
    let running = session.exec("systemctl is-system-running --wait")?;
    ensure!(
        running.stdout.trim() == "running",
        "the system is {}: {}",
        running.stdout.trim(),
        session.sh("systemctl --failed")?
    );
    let restarts = session.sh("systemctl show --value -p NRestarts gatewright-firstboot")?;
    ensure!(restarts == "0", "the daemon was started again {restarts} times");
    Ok(status)
}

/// The effect of every value of [`Bench::environment`].
fn is_right(session: &Session) -> Result<()> {
    has(session, "hostname; cat /etc/hostname", &["edge-01\nedge-01"])?;
    has(session, "ip -4 -o addr show scope global", &["10.77.0.20/24"])?;
    has(session, "ip -4 route show default", &["via 10.77.0.1"])?;
    has(session, "resolvectl dns; resolvectl domain", &["10.77.0.1", "corp.example.com"])?;
    has(session, "getent hosts fabric.test", &["10.77.0.1"])?;
    let proxy = "http://robot:s3cr3t@10.77.0.1:3128";
    has(session, "env", &[&format!("https_proxy={proxy}"), "169.254.169.254", "10.77.0.0/24"])?;
    has(session, "apt-config dump", &[&format!("Acquire::http::Proxy \"{proxy}\"")])?;
    has(session, "sudo cat /etc/systemd/system/containerd.service.d/http-proxy.conf", &[proxy])?;
    has(session, "sudo systemd-run --quiet --wait --pipe env", &[&format!("HTTP_PROXY={proxy}")])?;
    let sources = wait_for("chrony", Duration::from_secs(60), || {
        let output = session.exec("chronyc -n sources")?;
        Ok((output.code == 0 && output.stdout.contains("10.77.0.1")).then_some(output.stdout))
    })?;
    ensure!(sources.matches("\n^").count() == 1, "chrony has other sources, too: {sources}");
    let public = session.sh("gatewright-firstboot status; gatewright-firstboot status --json")?;
    ensure!(
        !public.contains("s3cr3t") && !public.contains("482177390515"),
        "the status shows a secret: {public}"
    );
    Ok(())
}

/// Fails where the output of a command lacks one of the parts.
fn has(session: &Session, command: &str, parts: &[&str]) -> Result<()> {
    let said = session.sh(command)?;
    for part in parts {
        ensure!(said.contains(part), "`{command}` said {said:?}, which has no {part:?}");
    }
    Ok(())
}
