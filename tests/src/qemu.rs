//! A disk booted in QEMU with VMware's devices: firmware, Secure Boot, kernel, partitions.
//!
//! The machine runs inside a fabric, its VMXNET3 card on a tap device of a [`Network`], so that static addresses and DHCP
//! are real. Under emulation it takes about twenty times as long as a container.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::fabric::{Network, Port};
use crate::process::{self, wait_for};
use crate::run::Run;
use crate::{figures, ssh};

/// Firmware with Secure Boot and System Management Mode, of Debian's and Ubuntu's package `ovmf`.
pub const FIRMWARE_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd";
/// Its variables, with Microsoft's keys enrolled and Secure Boot enforced.
pub const FIRMWARE_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// How the machine comes to its kernel.
#[derive(Debug, Clone)]
pub enum Boot {
    /// Through the firmware with Secure Boot enforced, from the disk on an AHCI controller (Debian's OVMF cannot read
    /// from PVSCSI).
    Firmware,
    /// The kernel is handed over; the disk is on the PVSCSI controller that the OVF declares.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// The initial RAM disk.
        initrd: PathBuf,
    },
}

/// What the disk's writes do in this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Flushes are ignored: quickest, and nothing is lost unless the test machine itself fails.
    Unsafe,
    /// As a host with a write-back cache: what the guest had not handed over is lost with a power cut.
    WriteBack,
}

/// A virtual machine. Off when made; ends and leaves nothing when dropped.
#[derive(Debug)]
pub struct Machine {
    run: Arc<Run>,
    network: Arc<Network>,
    name: String,
    folder: PathBuf,
    mac: String,
    boot: Boot,
    cache: Cache,
    cd: bool,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    port: Port,
    started: Instant,
}

impl Machine {
    /// A machine whose disk starts with the content of `disk` (qcow2, not written), attached to `network`.
    ///
    /// # Errors
    /// When its own disk cannot be made.
    pub fn new(disk: &Path, network: &Arc<Network>, boot: Boot, cache: Cache) -> Result<Machine> {
        let run = Arc::clone(network.fabric().run());
        let name = run.name("m");
        let folder = run.folder(&name)?;
        process::output(
            Command::new("qemu-img")
                .args(["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b"])
                .arg(disk)
                .arg(folder.join("disk.qcow2")),
        )?;
        fs::copy(FIRMWARE_VARIABLES, folder.join("variables.fd"))
            .with_context(|| format!("cannot copy {FIRMWARE_VARIABLES}"))?;
        let number: u8 = name.rsplit("-m").next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let mac = format!("00:50:56:01:00:{number:02x}");
        Ok(Machine {
            run,
            network: Arc::clone(network),
            name,
            folder,
            mac,
            boot,
            cache,
            cd: false,
            running: None,
        })
    }

    /// The OVF environment on the CD-ROM of the next boot; `None`: the drive is empty.
    ///
    /// # Errors
    /// When the CD-ROM cannot be made.
    pub fn set_environment(&mut self, document: Option<&str>) -> Result<()> {
        self.cd = document.is_some();
        if let Some(document) = document {
            let content = self.folder.join("cd");
            fs::create_dir_all(&content)?;
            fs::write(content.join("ovf-env.xml"), document)?;
            process::output(
                Command::new("xorriso")
                    .args(["-as", "mkisofs", "-quiet", "-r", "-J", "-V", "OVF ENV", "-o"])
                    .arg(self.folder.join("cd.iso"))
                    .arg(&content),
            )?;
        }
        Ok(())
    }

    /// Power on. Returns at once.
    ///
    /// # Errors
    /// When it runs already or cannot be started.
    pub fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("{} is running already", self.name);
        }
        let port = self.network.tap()?;
        let file = |name: &str| self.folder.join(name).display().to_string();
        let accelerator = accelerator(&self.run, &self.boot)?;
        let mut command = self.network.fabric().command("qemu-system-x86_64");
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-vga", "std", "-monitor", "none"])
            .args(["-name", &self.name, "-smp", "2", "-m", "4096"])
            .args(accelerator.arguments())
            .args(["-serial", &format!("file:{}", file("serial.log"))])
            .args(["-netdev", &format!("tap,id=net,ifname={},script=no,downscript=no", port.name())])
            // Without a ROM: the firmware would wait for a boot server.
            .args(["-device", &format!("vmxnet3,netdev=net,mac={},romfile=", self.mac)]);
        let cache = if self.cache == Cache::Unsafe { "unsafe" } else { "writeback" };
        let disk =
            format!("if=none,id=disk,format=qcow2,cache={cache},discard=unmap,file={}", file("disk.qcow2"));
        command.args(["-drive", &disk]);
        match &self.boot {
            Boot::Firmware => {
                command
                    .args(["-machine", "q35,vmport=off,smm=on"])
                    .args(["-global", "driver=cfi.pflash01,property=secure,value=on"])
                    .args([
                        "-drive",
                        &format!("if=pflash,unit=0,format=raw,readonly=on,file={FIRMWARE_CODE}"),
                    ])
                    .args(["-drive", &format!("if=pflash,unit=1,format=raw,file={}", file("variables.fd"))])
                    .args(["-device", "ide-hd,drive=disk,bus=ide.0,bootindex=0"]);
            }
            Boot::Kernel { kernel, initrd } => {
                command
                    .args(["-machine", "q35,vmport=off"])
                    .args(["-device", "pvscsi,id=scsi", "-device", "scsi-hd,drive=disk,bus=scsi.0"])
                    .arg("-kernel")
                    .arg(kernel)
                    .arg("-initrd")
                    .arg(initrd)
                    .args(["-append", "root=LABEL=gatewright-root ro quiet console=tty0 console=ttyS0"]);
            }
        }
        if self.cd {
            command
                .args([
                    "-drive",
                    &format!("if=none,id=cd,media=cdrom,readonly=on,format=raw,file={}", file("cd.iso")),
                ])
                .args(["-device", "ide-cd,drive=cd,bus=ide.1"]);
        }
        let log = File::options().create(true).append(true).open(self.folder.join("qemu.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = process::spawn(command).context("cannot start QEMU")?;
        self.running = Some(Running { process, port, started: Instant::now() });
        Ok(())
    }

    /// How long ago it was switched on.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |running| running.started.elapsed())
    }

    /// The address that DHCP gave it.
    ///
    /// # Errors
    /// When it has none within `timeout`, or has ended.
    pub fn wait_lease(&mut self, timeout: Duration) -> Result<Ipv4Addr> {
        let (network, mac) = (Arc::clone(&self.network), self.mac.clone());
        wait_for("DHCP lease", timeout, || {
            self.check_running()?;
            Ok(network.lease(&mac))
        })
        .with_context(|| self.evidence())
    }

    /// Logs in as the image's user.
    ///
    /// # Errors
    /// When nothing lets us in within `timeout`, with what the serial console said.
    pub fn login(&mut self, address: Ipv4Addr, key: &ssh::Key, timeout: Duration) -> Result<ssh::Session> {
        self.check_running()?;
        ssh::Session::login(self.network.fabric(), IpAddr::V4(address), key, timeout)
            .with_context(|| self.evidence())
    }

    /// Everything the serial console said in this boot.
    #[must_use]
    pub fn serial(&self) -> String {
        fs::read(self.folder.join("serial.log"))
            .map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The network card's cable.
    #[must_use]
    pub fn port(&self) -> Option<&Port> {
        self.running.as_ref().map(|running| &running.port)
    }

    /// Waits for the machine to end by itself, as after `poweroff` in it.
    ///
    /// # Errors
    /// When it does not within `timeout`.
    pub fn wait_off(&mut self, timeout: Duration) -> Result<()> {
        if let Some(running) = &mut self.running {
            wait_for("end of the machine", timeout, || Ok(running.process.try_wait()?))?;
        }
        self.running = None;
        Ok(())
    }

    /// Power cut: `kill -9` of QEMU.
    pub fn power_cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = running.process.kill();
            let _ = running.process.wait();
        }
    }

    fn check_running(&mut self) -> Result<()> {
        if let Some(running) = &mut self.running
            && let Some(status) = running.process.try_wait()?
        {
            let said = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
            bail!("QEMU ended with {status}: {}", said.trim());
        }
        Ok(())
    }

    /// What a person would want to see when a test fails here.
    #[must_use]
    pub fn evidence(&self) -> String {
        let serial = self.serial();
        let from = serial.char_indices().rev().nth(3000).map_or(0, |(index, _)| index);
        let qemu = fs::read_to_string(self.folder.join("qemu.log")).unwrap_or_default();
        format!("--- serial console\n{}\n--- QEMU\n{qemu}---", &serial[from..])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.power_cut();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What executes the machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor, through KVM.
    Kvm,
    /// QEMU itself.
    Tcg,
}

impl Accelerator {
    /// As QEMU calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg => "tcg",
        }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }
}

static ACCELERATOR: OnceLock<Accelerator> = OnceLock::new();

/// The accelerator of machines in this process: KVM where a kernel has been seen to run on it, else emulation. Said once.
fn accelerator(run: &Run, boot: &Boot) -> Result<Accelerator> {
    if let Some(known) = ACCELERATOR.get() {
        return Ok(*known);
    }
    let (accelerator, why) = match boot {
        _ if File::options().read(true).write(true).open("/dev/kvm").is_err() => {
            (Accelerator::Tcg, "/dev/kvm cannot be opened".to_owned())
        }
        Boot::Kernel { kernel, .. } => match try_kvm(run, kernel) {
            Ok(()) => (Accelerator::Kvm, "a kernel was seen to run on it".to_owned()),
            Err(error) => (Accelerator::Tcg, format!("/dev/kvm exists, but {error:#}")),
        },
        // Decided where there is a kernel to try it with.
        Boot::Firmware => return Ok(Accelerator::Tcg),
    };
    let accelerator = *ACCELERATOR.get_or_init(|| {
        figures::say(&format!("QEMU runs machines with {}: {why}", accelerator.name()));
        accelerator
    });
    Ok(accelerator)
}

/// Finds out, once, what machines of this process will run on; `kernel` is what KVM is tried with.
///
/// # Errors
/// When the run's folder cannot be used.
pub fn choose_accelerator(run: &Run, kernel: &Path) -> Result<Accelerator> {
    accelerator(run, &Boot::Kernel { kernel: kernel.to_owned(), initrd: PathBuf::new() })
}

/// `/dev/kvm` may exist and not work (nested, restricted): only a kernel that runs to its end proves it.
fn try_kvm(run: &Run, kernel: &Path) -> Result<()> {
    let folder = run.folder(&run.name("kvm"))?;
    let serial = folder.join("serial.log");
    let mut command = process::guarded("qemu-system-x86_64");
    command
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-m", "512"])
        .args(["-machine", "q35,vmport=off", "-append", "console=ttyS0 panic=-1"])
        .args(Accelerator::Kvm.arguments())
        .arg("-serial")
        .arg(format!("file:{}", serial.display()))
        .arg("-kernel")
        .arg(kernel)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut process = process::spawn(command).context("QEMU does not start")?;
    let ended =
        wait_for("end of a kernel without a root", Duration::from_secs(10), || Ok(process.try_wait()?));
    let _ = process.kill();
    let _ = process.wait();
    let said = fs::read(&serial).unwrap_or_default();
    let _ = fs::remove_dir_all(&folder);
    let status = ended?;
    if !String::from_utf8_lossy(&said).contains("Unable to mount root") {
        bail!("a kernel did not get to its root on it (QEMU: {status})");
    }
    Ok(())
}

/// Refuses a QEMU that crashes current kernels.
///
/// # Errors
/// When QEMU is older than version 8, or cannot be asked.
pub fn check_version() -> Result<()> {
    let said = process::output(Command::new("qemu-system-x86_64").arg("--version"))?;
    let version = said.split_whitespace().skip_while(|word| *word != "version").nth(1).unwrap_or_default();
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < 8 {
        bail!(
            "QEMU {version} crashes current kernels under emulation; Debian 12 has version 10 in bookworm-backports"
        );
    }
    Ok(())
}
