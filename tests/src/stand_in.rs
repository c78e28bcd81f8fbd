//! Machines in a network of the tests, played by the program `stand-in`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::fabric::{Namespace, Network, Port};
use crate::process;

/// A place for a machine: a network namespace with one card and a folder.
#[derive(Debug)]
pub struct Station {
    namespace: Namespace,
    cable: Port,
    folder: PathBuf,
    resolver: PathBuf,
    address: Ipv4Addr,
}

impl Station {
    /// One with address `host` of a network, whose DNS server it asks. Only where it is `routed` does it reach what lies
    /// beyond.
    ///
    /// # Errors
    /// When the namespace or folder cannot be made.
    pub fn new(network: &Network, host: u8, routed: bool) -> Result<Station> {
        let run = Arc::clone(network.fabric().run());
        let namespace = Namespace::new(&run, "m")?;
        let cable = network.plug(&namespace, "ens192", &format!("00:50:56:03:00:{host:02x}"))?;
        let address = network.address(host);
        namespace.ip(&format!("addr add {address}/24 dev ens192\nlink set ens192 up\n"))?;
        if routed {
            namespace.ip(&format!("route add default via {}\n", network.address(1)))?;
        }
        let folder = run.folder(&run.name("machine"))?;
        let resolver = folder.join("resolv.conf");
        std::fs::write(
            &resolver,
            format!("nameserver {}\noptions timeout:1 attempts:1\n", network.address(1)),
        )?;
        Ok(Station { namespace, cable, folder, resolver, address })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The cable of its card.
    #[must_use]
    pub fn cable(&self) -> &Port {
        &self.cable
    }

    /// Where the machine keeps what it keeps.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Starts the program there, as `setup` says; its clock is `clock` off, as faketime(1) has it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&self, program: &Path, clock: Option<&str>, mut setup: Value) -> Result<StandIn> {
        setup["folder"] = json!(self.folder());
        let mut command = process::guarded("nsenter");
        command.arg(format!("--net={}", self.namespace.path().display()));
        command.args(["--", "unshare", "--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"").arg(&self.resolver);
        if let Some(clock) = clock {
            // Timers go by the monotonic clock, which nobody sets.
            command.args(["faketime", "--exclude-monotonic", "-f", clock]);
        }
        command.arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = process::spawn(command).context("cannot start the machine's stand-in")?;
        let mut stdin = child.stdin.take().context("it has no standard input")?;
        let stdout = child.stdout.take().context("it has no standard output")?;
        writeln!(stdin, "{setup}")?;
        let said = Arc::new(Said::default());
        let noted = Arc::clone(&said);
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                noted.note(Some(value));
            }
            noted.note(None);
        });
        Ok(StandIn { child, stdin: Some(stdin), said, read: 0 })
    }

    /// Runs it to its end; all that it said.
    ///
    /// # Errors
    /// When it does not start or end.
    pub fn run(&self, program: &Path, clock: Option<&str>, setup: Value) -> Result<Vec<Value>> {
        let mut machine = self.start(program, clock, setup)?;
        machine.wait_for_end()
    }
}

#[derive(Debug, Default)]
struct Said {
    lines: Mutex<(Vec<Value>, bool)>,
    more: Condvar,
}

impl Said {
    /// `None`: that was all.
    fn note(&self, line: Option<Value>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        match line {
            Some(line) => lines.0.push(line),
            None => lines.1 = true,
        }
        self.more.notify_all();
    }
}

/// The program as it runs.
#[derive(Debug)]
pub struct StandIn {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Said>,
    /// How much of what it said was looked at.
    read: usize,
}

impl StandIn {
    /// For anything that it does over the network.
    const PATIENCE: Duration = Duration::from_secs(90);

    /// Waits until it says what `wanted` takes, and passes over what it says before.
    ///
    /// # Errors
    /// When it does not, with all that it said.
    pub fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Value) -> Option<T>) -> Result<T> {
        let until = Instant::now() + StandIn::PATIENCE;
        let mut lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            while self.read < lines.0.len() {
                self.read += 1;
                if let Some(found) = wanted(&lines.0[self.read - 1]) {
                    return Ok(found);
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.1 || left.is_zero() {
                let all: Vec<_> = lines.0.iter().map(Value::to_string).collect();
                bail!("the machine did not say {what}, but\n{}", all.join("\n"));
            }
            lines = self.said.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a status in which `wanted` holds.
    ///
    /// # Errors
    /// When none comes.
    pub fn wait_for_status(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait(what, |line| line.get("status").filter(|status| wanted(status)).cloned())
    }

    /// Waits until it is connected by `kind`.
    ///
    /// # Errors
    /// When it does not get there.
    pub fn wait_connected(&mut self, kind: &str) -> Result<Value> {
        self.wait_for_status(&format!("that it is connected by {kind}"), |status| {
            status["state"]["is"] == "connected"
                && status["transport"]["kind"] == kind
                && !status["heard"].is_null()
        })
    }

    /// Has it note an event, and waits until that is on disk.
    ///
    /// # Errors
    /// When it is not.
    pub fn push(&mut self, text: &str) -> Result<()> {
        self.tell(&json!({ "push": text }))?;
        let kept = self.wait("that it was kept", |line| line.get("pushed").cloned())?;
        if kept["Ok"].is_null() && kept.get("Ok").is_some() { Ok(()) } else { bail!("not kept: {kept}") }
    }

    /// Has it try again now.
    ///
    /// # Errors
    /// When it is gone.
    pub fn retry(&mut self) -> Result<()> {
        self.tell(&json!("retry"))
    }

    fn tell(&mut self, wish: &Value) -> Result<()> {
        let stdin = self.stdin.as_mut().context("its input was closed")?;
        writeln!(stdin, "{wish}").context("it is gone")
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        process::kill_hard(self.child.id());
        let _ = self.child.wait();
    }

    /// Waits until it ends by itself; all that it said.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_for_end(&mut self) -> Result<Vec<Value>> {
        let until = Instant::now() + StandIn::PATIENCE;
        let mut lines = self.said.lines.lock().unwrap_or_else(PoisonError::into_inner);
        while !lines.1 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let all: Vec<_> = lines.0.iter().map(Value::to_string).collect();
                bail!("the machine does not end; it said\n{}", all.join("\n"));
            }
            lines = self.said.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(lines.0.clone())
    }

    /// What it takes of memory, in KiB: its resident set.
    ///
    /// # Errors
    /// When it is gone.
    pub fn memory(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it has no memory")?;
        line.trim().trim_end_matches("kB").trim().parse().context("that is no number")
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        // It ends when its input does. faketime waits for it and would, killed, leave its shared memory behind.
        self.stdin = None;
        let end = || Ok(self.child.try_wait()?);
        if process::wait_for("end of the machine's stand-in", Duration::from_secs(2), end).is_err() {
            self.kill();
        }
    }
}
