//! Child processes that never outlive the tests.

use std::io;
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Job = (Command, mpsc::Sender<io::Result<Child>>);

/// A command whose process the kernel kills when the test program ends, however it ends.
///
/// To be started with [`spawn`] if it lives longer than the calling thread.
#[must_use]
pub fn guarded(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// As [`guarded`], for programs that change their own rights, at which the kernel forgets what to do when the parent ends.
/// A shell waits for them instead, as PID 1 of a PID namespace: its end is theirs.
#[must_use]
pub fn guarded_group(program: &str) -> Command {
    let mut command = guarded("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--", "sh", "-c", "\"$@\" & wait", "sh", program]);
    command
}

/// Starts a command from a thread that lives as long as the process: the kernel delivers "parent died" when the *thread*
/// that forked ends, and test threads come and go.
///
/// # Errors
/// As [`Command::spawn`].
pub fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Job>> = OnceLock::new();
    let jobs = SPAWNER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, reply) in jobs {
                // The asker waits for the reply, so it is there to take it.
                let _ = reply.send(command.spawn());
            }
        });
        sender
    });
    let (reply, answer) = mpsc::channel();
    jobs.send((command, reply)).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

/// Runs a command to its end and returns its standard output.
///
/// # Errors
/// When it cannot be started or fails; the error carries its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = format!("{command:?}");
    let result = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {shown}"))?;
    if !result.status.success() {
        bail!(
            "{shown} ended with {}: {}{}",
            result.status,
            String::from_utf8_lossy(&result.stdout).trim(),
            String::from_utf8_lossy(&result.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&result.stdout).into_owned())
}

/// Asks again and again, every 20 ms, until there is an answer.
///
/// # Errors
/// The question's own error at once; after `timeout` an error that says what was waited for.
pub fn wait_for<T>(what: &str, timeout: Duration, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > timeout {
            bail!("no {what} within {timeout:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// The children of a process, as the kernel lists them.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

/// `kill -9` of the namespace around which the child (`unshare --fork`) waits: with its PID 1 ends all in it. When this
/// returns, it has ended.
pub fn stop_group(unshare: &mut Child) {
    let inner = children(unshare.id());
    inner.iter().copied().for_each(kill_hard);
    if inner.is_empty() {
        // It had not come to that.
        kill_hard(unshare.id());
    }
    let _ = unshare.wait();
}

/// `kill -9` of one process. That it has ended already is not an error.
pub fn kill_hard(pid: u32) {
    if let Ok(pid) = i32::try_from(pid) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}
