//! A tree booted as a system container: real systemd as PID 1, in about a second.
//!
//! `systemd-nspawn` on an overlay: the tree below is shared and never written, what the host changes is in an upper layer
//! of its own. Killing it is a power cut, starting it again on the same upper layer a reboot.
//!
//! What is not the image's own, all of it in the upper layer: a stand-in for VMware's `vmware-rpctool`, `chronyd` without
//! the right to set the clock (it is the test machine's), an empty `fstab` (there is no disk), and a file for the screen
//! (there are no terminals).

use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use crate::fabric::{Namespace, Network, Port};
use crate::image::Tree;
use crate::process::{self, wait_for};
use crate::run::Run;
use crate::ssh;
use crate::status::{self, Status};

/// The name of every container's network card, as the first VMXNET3 card is called in vSphere.
pub const INTERFACE: &str = "ens192";
/// Where the screen is, in the container.
const SCREEN: &str = "/run/gatewright/screen";
/// Where the stand-in for `vmware-rpctool` finds and leaves values, one file per key.
const GUESTINFO: &str = "var/lib/harness/guestinfo";

const RPCTOOL: &str = r#"#!/bin/sh
# Stands in for VMware's program of this name: there is no hypervisor to ask.
folder=/var/lib/harness/guestinfo
case "$1" in
"info-get guestinfo."*)
    file=$folder/${1#info-get guestinfo.}
    [ -f "$file" ] && exec cat "$file"
    echo "No value found" >&2
    exit 1 ;;
"info-set guestinfo."*)
    rest=${1#info-set guestinfo.}
    mkdir -p "$folder" && printf %s "${rest#* }" > "$folder/${rest%% *}" ;;
*)
    echo "Unknown command" >&2
    exit 1 ;;
esac
"#;

const CHRONY: &str =
    "[Unit]\nConditionCapability=\n[Service]\nExecStart=\nExecStart=!/usr/sbin/chronyd -x $DAEMON_OPTS\n";

/// A host. Off when made; ends and leaves nothing when dropped.
#[derive(Debug)]
pub struct Container {
    run: Arc<Run>,
    tree: Arc<Tree>,
    network: Arc<Network>,
    name: String,
    mac: String,
    folder: PathBuf,
    running: Option<Running>,
}

/// What exists only while it runs. The order of the fields is that of their end.
#[derive(Debug)]
struct Running {
    /// `unshare`, which waits for `nspawn`, PID 1 of a PID namespace around the container's own.
    process: Child,
    /// The container's PID 1, once known.
    leader: Option<u32>,
    port: Port,
    _namespace: Namespace,
    started: Instant,
}

/// What a command in the container said.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Container {
    /// A host of that tree, attached to that network, never booted before.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(tree: &Arc<Tree>, network: &Arc<Network>) -> Result<Container> {
        let run = Arc::clone(network.fabric().run());
        let name = run.name("c");
        let folder = run.folder(&name)?;
        for part in ["upper", "work", "root"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let number: u32 = name.rsplit("-c").next().and_then(|number| number.parse().ok()).unwrap_or(0);
        let [_, _, high, low] = number.to_be_bytes();
        let container = Container {
            run,
            tree: Arc::clone(tree),
            network: Arc::clone(network),
            name,
            mac: format!("00:50:56:00:{high:02x}:{low:02x}"),
            folder,
            running: None,
        };
        container.put("usr/bin/vmware-rpctool", RPCTOOL, 0o755)?;
        container.put("etc/fstab", "", 0o644)?;
        container.put("etc/systemd/system/chrony.service.d/harness.conf", CHRONY, 0o644)?;
        container.put(
            "etc/systemd/system/gatewright-firstboot.service.d/harness.conf",
            &format!("[Service]\nEnvironment=GATEWRIGHT_SCREEN={SCREEN}\n"),
            0o644,
        )?;
        Ok(container)
    }

    /// The OVF environment that the next boot finds; `None`: there is none, as after a power-off.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn set_environment(&self, document: Option<&str>) -> Result<()> {
        let path = format!("{GUESTINFO}/ovfEnv");
        match document {
            Some(document) => self.put(&path, document, 0o600),
            None => match fs::remove_file(self.folder.join("upper").join(&path)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
                _ => Ok(()),
            },
        }
    }

    /// Writes a file, path relative to the root, while the host is off.
    ///
    /// # Errors
    /// When it runs (its upper layer must not change below it) or the file cannot be written.
    pub fn put(&self, path: &str, content: &str, mode: u32) -> Result<()> {
        if self.running.is_some() {
            bail!("{} is running: {path} can be put only while it is off", self.name);
        }
        let upper = self.folder.join("upper");
        let mut folder = upper.clone();
        // Folders of the tree keep the rights they have there.
        for part in Path::new(path).parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if !folder.exists() {
                fs::create_dir(&folder)?;
                let below = self.tree.path().join(folder.strip_prefix(&upper)?);
                if let Ok(metadata) = below.metadata() {
                    fs::set_permissions(&folder, metadata.permissions())?;
                    std::os::unix::fs::chown(&folder, Some(metadata.uid()), Some(metadata.gid()))?;
                }
            }
        }
        let file = upper.join(path);
        let mut opened = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        opened.write_all(content.as_bytes())?;
        Ok(())
    }

    /// Power on. Returns at once; see [`Container::wait_status`] and [`Container::wait_address`].
    ///
    /// # Errors
    /// When it runs already, or its network or process cannot be made.
    pub fn start(&mut self) -> Result<()> {
        if self.running.is_some() {
            bail!("{} is running already", self.name);
        }
        // A network namespace per boot: addresses of the last boot would stay in it.
        let namespace = Namespace::new(&self.run, "n")?;
        let port = self.network.plug(&namespace, INTERFACE, &self.mac)?;
        let cgroups = make_cgroups(&self.name)?;

        let folder = self.folder.display();
        let mut script = String::from("set -e\n");
        for cgroup in &cgroups {
            script.push_str(&format!("echo $$ > {}/cgroup.procs\n", cgroup.display()));
        }
        script.push_str(&format!(
            "mount -t overlay overlay -o lowerdir={},upperdir={folder}/upper,workdir={folder}/work {folder}/root\n\
             exec \"$@\"\n",
            self.tree.path().display()
        ));
        // All of it in a PID namespace and a mount namespace of its own: its end is the end of everything in it, and
        // the test machine's mounts stay as they are.
        let mut command = process::guarded("unshare");
        command
            .args(["--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["sh", "-c", &script, "sh"])
            .args([
                "systemd-nspawn",
                "--quiet",
                "--boot",
                "--register=no",
                "--keep-unit",
                "--link-journal=no",
            ])
            .args(["--console=pipe", "--resolv-conf=off", "--timezone=off", "--capability=CAP_NET_ADMIN"])
            .arg(format!("--network-namespace-path={}", namespace.path().display()))
            .arg(format!("--machine={}", self.name))
            .args(["--directory", &format!("{folder}/root")]);
        if !unified_cgroups() {
            command.args(["systemd.unified_cgroup_hierarchy=0", "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"]);
        }
        let console = File::options().create(true).append(true).open(self.folder.join("console"))?;
        command.stdin(Stdio::null()).stderr(console.try_clone()?).stdout(console);
        let process = process::spawn(command).context("cannot start the container")?;
        self.running =
            Some(Running { process, leader: None, port, _namespace: namespace, started: Instant::now() });
        Ok(())
    }

    /// How long ago it was switched on.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.running.as_ref().map_or(Duration::ZERO, |running| running.started.elapsed())
    }

    /// The container's PID 1 as this machine sees it.
    ///
    /// # Errors
    /// When it is off, has ended, or does not come within 20 s.
    pub fn leader(&mut self) -> Result<u32> {
        let console = self.folder.join("console");
        let name = self.name.clone();
        let running = self.running.as_mut().with_context(|| format!("{name} is off"))?;
        if let Some(leader) = running.leader {
            return Ok(leader);
        }
        let Running { process, leader, .. } = running;
        let pid = wait_for("PID 1 of the container", Duration::from_secs(20), || {
            if let Some(status) = process.try_wait()? {
                let said = fs::read_to_string(&console).unwrap_or_default();
                bail!("{name} ended with {status}: {}", said.trim());
            }
            // unshare, nspawn, PID 1; while nspawn sets up there are others, in no further PID namespace.
            Ok(process::children(process.id())
                .into_iter()
                .flat_map(process::children)
                .find(|pid| is_pid_1(*pid) && is_systemd(*pid)))
        })?;
        *leader = Some(pid);
        Ok(pid)
    }

    /// Runs a shell script in the container, as root.
    ///
    /// # Errors
    /// When it cannot be entered. That the script fails is in the [`Output`].
    pub fn exec(&mut self, script: &str) -> Result<Output> {
        let leader = self.leader()?;
        let result = Command::new("nsenter")
            .arg(format!("--target={leader}"))
            .args(["--mount", "--uts", "--ipc", "--net", "--pid"])
            .args([&format!("--root=/proc/{leader}/root"), &format!("--wd=/proc/{leader}/root")])
            .args(["env", "-i", "HOME=/root", "container=systemd-nspawn"])
            .arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .args(["sh", "-c", script])
            .stdin(Stdio::null())
            .output()
            .context("cannot start nsenter")?;
        Ok(Output {
            code: result.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&result.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&result.stderr).into_owned(),
        })
    }

    /// Runs a shell script in the container, as root, and returns what it printed, trimmed.
    ///
    /// # Errors
    /// When it cannot be run or fails.
    pub fn sh(&mut self, script: &str) -> Result<String> {
        let output = self.exec(script)?;
        if output.code != 0 {
            bail!(
                "`{script}` exited with {}: {} {}",
                output.code,
                output.stdout.trim(),
                output.stderr.trim()
            );
        }
        Ok(output.stdout.trim().to_owned())
    }

    /// Reads a file, path relative to the root; also when the host is off.
    ///
    /// # Errors
    /// When it is not there.
    pub fn read(&mut self, path: &str) -> Result<String> {
        let path = path.trim_start_matches('/');
        let candidates = if self.running.is_some() {
            vec![PathBuf::from(format!("/proc/{}/root", self.leader()?)).join(path)]
        } else {
            vec![self.folder.join("upper").join(path), self.tree.path().join(path)]
        };
        let file = candidates.iter().find(|file| file.exists()).unwrap_or(&candidates[0]);
        fs::read_to_string(file).with_context(|| format!("cannot read /{path} of {}", self.name))
    }

    /// What the VM's screen would show.
    ///
    /// # Errors
    /// When there is none (yet).
    pub fn screen(&mut self) -> Result<String> {
        self.read(SCREEN)
    }

    /// Waits until the screen is as wanted: it is drawn a moment after the status is written.
    ///
    /// # Errors
    /// After `timeout`, with what it showed last.
    pub fn wait_screen(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut last = String::new();
        wait_for(&format!("screen that {what}"), timeout, || {
            last = self.screen().unwrap_or_default();
            Ok(wanted(&last).then(|| last.clone()))
        })
        .with_context(|| format!("it showed\n{last}"))
    }

    /// The daemon's status now; `None` if it has not published one in this boot yet.
    ///
    /// # Errors
    /// When it cannot be understood.
    pub fn status(&mut self) -> Result<Option<Status>> {
        let Ok(text) = self.read(status::PATH) else { return Ok(None) };
        serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is not as documented: {text}", status::PATH))
    }

    /// Waits until the status is as wanted.
    ///
    /// # Errors
    /// After `timeout`, with what it was last.
    pub fn wait_status(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        let mut last = None;
        wait_for(&format!("status with {what}"), timeout, || {
            last = self.status()?;
            Ok(last.clone().filter(&wanted))
        })
        .with_context(|| format!("the last status was {last:?}"))
    }

    /// Waits for a state, as in `configured`.
    ///
    /// # Errors
    /// As [`Container::wait_status`].
    pub fn wait_state(&mut self, state: &str, timeout: Duration) -> Result<Status> {
        self.wait_status(&format!("state {state}"), timeout, |status| status.state == state)
    }

    /// Waits until the host has an IPv4 address, static or by DHCP.
    ///
    /// # Errors
    /// After `timeout`.
    pub fn wait_address(&mut self, timeout: Duration) -> Result<Ipv4Addr> {
        wait_for("address", timeout, || {
            let shown = self.sh(&format!("ip -4 -o addr show dev {INTERFACE} scope global"))?;
            // "2: ens192    inet 10.77.0.20/24 brd ..."
            let address = shown.split_whitespace().skip_while(|word| *word != "inet").nth(1);
            Ok(address.and_then(|address| address.split('/').next()?.parse().ok()))
        })
    }

    /// Waits for a login as `ubuntu`.
    ///
    /// # Errors
    /// After `timeout`, with the last refusal.
    pub fn login(&mut self, key: &ssh::Key, timeout: Duration) -> Result<ssh::Session> {
        let address = self.wait_address(timeout)?;
        ssh::Session::login(self.network.fabric(), IpAddr::V4(address), key, timeout)
    }

    /// Its name on this machine.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The card's cable.
    #[must_use]
    pub fn port(&self) -> Option<&Port> {
        self.running.as_ref().map(|running| &running.port)
    }

    /// The card's hardware address.
    #[must_use]
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// The network it is attached to.
    #[must_use]
    pub fn network(&self) -> &Arc<Network> {
        &self.network
    }

    /// Power cut: `kill -9` of everything at once. What was written stays.
    pub fn power_cut(&mut self) {
        if let Some(mut running) = self.running.take() {
            process::stop_group(&mut running.process);
        }
        remove_cgroups(|name| name == self.name);
    }

    /// Orderly power-off.
    ///
    /// # Errors
    /// When it does not end within `timeout`.
    pub fn power_off(&mut self, timeout: Duration) -> Result<()> {
        let output = self.exec("systemctl poweroff")?;
        if let Some(running) = &mut self.running {
            wait_for("end of the container", timeout, || Ok(running.process.try_wait()?))
                .with_context(|| format!("poweroff said {output:?}"))?;
        }
        self.power_cut();
        Ok(())
    }

    /// What a person would want to see when a test fails here.
    pub fn evidence(&mut self) -> String {
        let screen = self.screen().unwrap_or_else(|error| format!("{error:#}"));
        let status = self.read(status::PATH).unwrap_or_else(|error| format!("{error:#}"));
        let journal = self
            .exec("journalctl -b --no-pager -o short-precise -u gatewright-firstboot | tail -40; systemctl --failed --no-legend --no-pager; ip neigh")
            .map_or_else(|error| format!("{error:#}"), |output| output.stdout + &output.stderr);
        format!("--- screen\n{screen}\n--- status\n{status}\n--- journal\n{journal}\n---")
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.power_cut();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// PID 1 of a namespace two below ours: that around the container, and its own.
fn is_pid_1(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    let own = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let depth = own
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .map_or(1, |own| own.split_whitespace().count());
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() == depth + 2 && numbers.last() == Some(&"1")
}

/// Whether `nspawn` is done with it: executing systemd is its last step, after joining the network namespace.
fn is_systemd(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|program| program.ends_with("systemd"))
}

/// Whether this machine has the one hierarchy of version 2. On version 1 systemd has to be told to make do.
fn unified_cgroups() -> bool {
    statfs("/sys/fs/cgroup").is_ok_and(|statfs| statfs.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// The mount points of all cgroup hierarchies.
fn hierarchies() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    if unified_cgroups() {
        return vec![root];
    }
    fs::read_dir(&root)
        .into_iter()
        .flatten()
        .flatten()
        // "cpu,cpuacct" is a hierarchy, "cpu" then a link to it.
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect()
}

/// A cgroup of that name in every hierarchy.
fn make_cgroups(name: &str) -> Result<Vec<PathBuf>> {
    hierarchies()
        .into_iter()
        .map(|hierarchy| {
            let cgroup = hierarchy.join(name);
            fs::create_dir_all(&cgroup).with_context(|| format!("cannot make {}", cgroup.display()))?;
            // A new cpuset is empty, and refuses processes.
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if hierarchy.ends_with("cpuset") {
                    fs::write(cgroup.join(file), fs::read(hierarchy.join(file))?)?;
                }
            }
            Ok(cgroup)
        })
        .collect()
}

/// Removes the cgroups whose name fits, in every hierarchy. Nothing runs in them any more.
pub(crate) fn remove_cgroups(fits: impl Fn(&str) -> bool) {
    fn remove(folder: &Path) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        let _ = fs::remove_dir(folder);
    }
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(&fits) {
                remove(&entry.path());
            }
        }
    }
}
