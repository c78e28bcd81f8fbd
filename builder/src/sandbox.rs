//! Runs build steps in namespaces of their own, without root.
//!
//! ```text
//! gatewright ── spawns ──> monitor ── spawns ──> step (PID 1 of its namespace) ──> mmdebstrap, mke2fs, …
//!   maps user ids            new user, mount,       mounts /proc, runs one [`Step`],
//!   kills, waits             PID, … namespaces      answers with one line of JSON
//! ```
//!
//! The program re-executes itself twice: the user namespace must be entered by a process with one thread, and the PID
//! namespace only holds for children. The step is PID 1, so nothing that it started outlives it; it dies with the
//! monitor and the monitor with us, so nothing outlives a `kill -9` either.
//!
//! An ordinary user becomes root of a user namespace, with the ranges of `/etc/subuid` and `/etc/subgid` for the other
//! users of a tree. Root needs no user namespace; the steps see the same, so the results are the same.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, hint_from_log};
use crate::signals;
use crate::steps::{Outcome, Step};

/// The hidden first arguments of the two re-executions.
pub(crate) const MONITOR: &str = "sandbox-monitor";
pub(crate) const INIT: &str = "sandbox-init";

/// How many of a failed step's last log lines are shown.
const TAIL_LINES: usize = 12;
/// How much of the log's end is looked at for them, in bytes.
const TAIL_BYTES: u64 = 16 << 10;

/// What a user and group id mean inside.
#[derive(Debug)]
pub(crate) enum Sandbox {
    /// We are root: ids are what they are.
    Root,
    /// Root inside is this user, the ids from 1 are its subordinate ranges.
    User { uid: Range, gid: Range },
}

/// `outside` is mapped to 0, and `count` ids from `first` to those from 1.
#[derive(Debug)]
pub(crate) struct Range {
    outside: u32,
    first: u32,
    count: u32,
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {}", self.first, self.first.saturating_add(self.count - 1))
    }
}

impl Range {
    /// Finds a range in the text of `/etc/subuid` or `/etc/subgid` (subuid(5)): `NAME-OR-ID:FIRST:COUNT` lines.
    fn find(text: &str, user: &str, id: u32, outside: u32) -> Option<Range> {
        text.lines().find_map(|line| {
            let mut parts = line.split(':');
            let name = parts.next()?;
            let first = parts.next()?.parse().ok()?;
            let count = parts.next()?.trim().parse().ok()?;
            // Debian's trees use ids up to 65534.
            (name == user || name == id.to_string())
                .then_some(Range { outside, first, count })
                .filter(|r| r.count >= 65535)
        })
    }

    /// The arguments of newuidmap(1) after the process id.
    fn arguments(&self) -> Vec<String> {
        [0, self.outside, 1, 1, self.first, self.count].iter().map(u32::to_string).collect()
    }
}

impl Sandbox {
    /// What this user can do here.
    ///
    /// # Errors
    /// [`Failure::User`] when an ordinary user has no subordinate ids.
    pub(crate) fn detect() -> Result<Sandbox> {
        let (uid, gid) = (Uid::effective(), Gid::effective());
        if uid.is_root() {
            return Ok(Sandbox::Root);
        }
        let user = User::from_uid(uid)?.map(|user| user.name).unwrap_or_else(|| uid.to_string());
        let range = |file: &str, outside| {
            let text = fs::read_to_string(file).unwrap_or_default();
            Range::find(&text, &user, uid.as_raw(), outside).ok_or_else(|| {
                Failure::user(
                    format!("The user `{user}` has no range of 65536 subordinate ids in {file}"),
                    format!("`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}`, or run as root"),
                )
            })
        };
        Ok(Sandbox::User {
            uid: range("/etc/subuid", uid.as_raw())?,
            gid: range("/etc/subgid", gid.as_raw())?,
        })
    }

    /// Runs one step to its end. Its commands write to `log`, which is appended to; `watch` is shown every line
    /// of it.
    ///
    /// # Errors
    /// [`Failure::Step`] with the end of the log, or [`Failure::Interrupted`] after a signal; then nothing of the step is
    /// running any more.
    pub(crate) fn run(&self, step: &Step, log: &Path, mut watch: impl FnMut(&str)) -> Result<Outcome> {
        let log_file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("Cannot open {}", log.display()))?;
        let mut process = Command::new("/proc/self/exe");
        process
            .arg(MONITOR)
            .arg(if matches!(self, Sandbox::Root) { "root" } else { "user" })
            .arg(if step.needs_network() { "online" } else { "offline" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log_file)
            // Ctrl-C is for us; we end the step.
            .process_group(0);
        let mut monitor = process.spawn().context("Cannot start a build step")?;
        let stdin = monitor.stdin.take().expect("stdin is piped");
        let lines = lines_of(&mut monitor);
        let result = self.converse(step, &monitor, stdin, &lines, log, &mut watch);
        if result.is_err() {
            // The step itself was killed by its process id where one was known; this ends the monitor, and with it the
            // step (parent-death signal) where none was.
            let _already_gone = monitor.kill();
        }
        monitor.wait().context("Cannot wait for a build step")?;
        let answer = match result? {
            Answer::Done(outcome) => return Ok(outcome),
            other => other,
        };
        let (text, tail) = tail_of(log);
        Err(match answer {
            Answer::Failed { message } => Failure::Step {
                step: step.name().into(),
                hint: hint_from_log(&format!("{message}\n{text}")),
                message,
                log: log.to_path_buf(),
                tail,
            },
            Answer::Refused { message } => Failure::User {
                message: format!("Cannot make the namespaces that building needs: {message}"),
                hint: Some("`gatewright doctor` looks for the reason and names the remedy".into()),
            },
            _ => Failure::Step {
                step: step.name().into(),
                message: "it ended without a result".into(),
                log: log.to_path_buf(),
                tail,
                hint: None,
            },
        }
        .into())
    }

    fn converse(
        &self,
        step: &Step,
        monitor: &Child,
        mut stdin: ChildStdin,
        lines: &Receiver<String>,
        log: &Path,
        watch: &mut impl FnMut(&str),
    ) -> Result<Answer> {
        let mut pid = None;
        let mut log_watch = LogWatch::new(log)?;
        let mut answer = Answer::Ended;
        loop {
            if let Some(signal) = signals::received() {
                if let Some(pid) = pid {
                    // PID 1 of the namespace: the kernel kills the rest, and the monitor is told when all are gone.
                    let _already_gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    while lines.recv().is_ok() {}
                }
                return Err(Failure::Interrupted { signal }.into());
            }
            let line = match lines.recv_timeout(Duration::from_millis(100)) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    log_watch.new_lines(&mut *watch);
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(answer),
            };
            match serde_json::from_str(&line).with_context(|| format!("A build step said `{line}`"))? {
                Answer::Unmapped => {
                    if let Sandbox::User { uid, gid } = self {
                        map_ids("newuidmap", monitor.id(), uid)?;
                        map_ids("newgidmap", monitor.id(), gid)?;
                    }
                    stdin.write_all(b"\n")?;
                }
                Answer::Started { pid: started } => {
                    pid = Some(started);
                    writeln!(stdin, "{}", serde_json::to_string(step)?)?;
                }
                last => answer = last,
            }
        }
    }
}

/// What a sandbox tells us, a line each.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// In its user namespace, waiting for the mapping of ids.
    Unmapped,
    /// The step's process id, as seen from outside; it waits for the step.
    Started {
        pid: i32,
    },
    /// The namespaces could not be made.
    Refused {
        message: String,
    },
    Done(Outcome),
    Failed {
        message: String,
    },
    /// Never sent: the sandbox went away.
    #[serde(skip)]
    Ended,
}

fn say(answer: &Answer) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{}", serde_json::to_string(answer)?)?;
    stdout.flush()?;
    Ok(())
}

fn lines_of(monitor: &mut Child) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    let stdout = monitor.stdout.take().expect("stdout is piped");
    // Ends with the pipe, which ends with the sandbox.
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    receiver
}

fn map_ids(program: &str, pid: u32, range: &Range) -> Result<()> {
    let output =
        Command::new(program).arg(pid.to_string()).args(range.arguments()).output().map_err(|e| {
            Failure::user(
                format!("Cannot run `{program}`: {e}"),
                "`sudo apt-get install uidmap`; `gatewright doctor` lists all that is needed",
            )
        })?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::user(
            format!("`{program}` refused to map {range:?}: {}", message.trim()),
            "check the user's lines in /etc/subuid and /etc/subgid",
        ));
    }
    Ok(())
}

/// `gatewright sandbox-monitor root|user online|offline`: makes the namespaces, then waits for the step.
pub(crate) fn monitor(arguments: &[String]) -> ExitCode {
    match make_namespaces(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Nobody listens if this fails as well.
            let _ = say(&Answer::Refused { message: format!("{error:#}") });
            ExitCode::FAILURE
        }
    }
}

fn make_namespaces(arguments: &[String]) -> Result<ExitCode> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if arguments.first().is_some_and(|who| who == "user") {
        unshare(CloneFlags::CLONE_NEWUSER).context("no user namespace")?;
        say(&Answer::Unmapped)?;
        // By bytes: what follows on stdin is the step's.
        let mut byte = [0];
        io::stdin().read_exact(&mut byte)?;
        nix::unistd::setgroups(&[])?;
    }
    let mut flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    if arguments.get(1).is_some_and(|network| network == "offline") {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).context("no mount, PID, IPC, UTS or network namespace")?;
    let mut step =
        Command::new("/proc/self/exe").arg(INIT).spawn().context("no process in the new namespace")?;
    say(&Answer::Started { pid: step.id().try_into().context("a process id beyond i32")? })?;
    step.wait()?;
    Ok(ExitCode::SUCCESS)
}

/// `gatewright sandbox-init`: runs the step that stdin names, as PID 1.
pub(crate) fn init() -> ExitCode {
    let result = enter().and_then(|step| step.run());
    let answer = match result {
        Ok(outcome) => Answer::Done(outcome),
        Err(error) => Answer::Failed { message: format!("{error:#}") },
    };
    match say(&answer) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn enter() -> Result<Step> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // What we mount must not reach the host, even where / is shared.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("Cannot make mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
        .context("Cannot mount /proc (in a container, it must not be masked)")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    if line.is_empty() {
        bail!("no step was given");
    }
    serde_json::from_str(&line).map_err(|e| anyhow!("not a step: {e}"))
}

/// Reads what is new in a log.
struct LogWatch {
    file: File,
    buffer: Vec<u8>,
}

impl LogWatch {
    fn new(path: &Path) -> Result<LogWatch> {
        let mut file = File::open(path).with_context(|| format!("Cannot open {}", path.display()))?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        Ok(LogWatch { file, buffer: Vec::new() })
    }

    /// Shows the lines that have come since the last call. Only for show, so a log that cannot be read has none.
    fn new_lines(&mut self, mut show: impl FnMut(&str)) {
        self.buffer.clear();
        let _shown_next_time = (&self.file).take(1 << 20).read_to_end(&mut self.buffer);
        String::from_utf8_lossy(&self.buffer)
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .for_each(&mut show);
    }
}

/// The end of a log: as one text, and its last lines.
fn tail_of(log: &Path) -> (String, Vec<String>) {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        io::Seek::seek(&mut file, io::SeekFrom::Start(size.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_else(|e| format!("(the log cannot be read: {e})"));
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).map(String::from).collect();
    let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec();
    (text, tail)
}

/// Removes trees that hold other users' files, as only their root can. Does nothing where `paths` are not there.
pub(crate) fn remove(sandbox: &Sandbox, paths: Vec<PathBuf>, log: &Path) -> Result<()> {
    // A second Ctrl-C must not keep us from cleaning up.
    let _shield = signals::ignore();
    sandbox.run(&Step::Remove { paths }, log, |_| {}).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let text = "root:100000:65536\n1001:300000:65536\nann:200000:65536\nbob:1:10\nbroken\nann:5";
        let first = |user, id| Range::find(text, user, id, id).map(|r| r.first);
        assert_eq!(first("ann", 1000), Some(200000));
        assert_eq!(first("by-id", 1001), Some(300000));
        assert_eq!(first("bob", 1002), None, "too few");
        assert_eq!(first("broken", 1003), None);
        let range = Range::find(text, "ann", 1000, 1000).unwrap();
        assert_eq!(range.arguments(), ["0", "1000", "1", "1", "200000", "65536"]);
    }
}
