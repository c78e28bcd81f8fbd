//! `status`, `set` and `retry`: how people talk to the daemon.
//!
//! Through files and a signal: `set` works without a daemon too, and a daemon that is busy misses nothing.

use std::fs;
use std::io::{self, Read as _, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use link::Outcome;
use nix::unistd::Uid;

use crate::files::{Machine, run};
use crate::properties;
use crate::screen;
use crate::session;
use crate::settings::{self, Raw};
use crate::status::{Overall, State, Status};
use crate::store::Store;

const UNIT: &str = "gatewright-firstboot.service";
/// How long `set` and `retry` wait for the steps.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long `status` waits for a daemon that has not begun.
const STARTING: Duration = Duration::from_secs(20);

/// A mistake of who typed the command, with the way out.
#[derive(Debug)]
pub(crate) struct Mistake {
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Mistake {}

fn mistake(message: impl Into<String>, hint: impl Into<String>) -> anyhow::Error {
    Mistake { message: message.into(), hint: hint.into() }.into()
}

/// Prints the status.
pub(crate) fn status(machine: &Machine, json: bool, out: &mut dyn Write) -> Result<()> {
    let begun = Instant::now();
    let mut status = Status::read(machine)?;
    // Whoever logs in as soon as they can may be here before the daemon.
    while status.is_none() && begun.elapsed() < STARTING {
        std::thread::sleep(Duration::from_millis(200));
        status = Status::read(machine)?;
    }
    let status = status.ok_or_else(|| {
        mistake(
            "First boot has not begun since this machine was started",
            format!("look at `systemctl status {UNIT}`"),
        )
    })?;
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&status)?)?;
    } else {
        write!(out, "{}", screen::render(&status, usize::MAX))?;
        for note in &status.notes {
            writeln!(out, "  note: {note}")?;
        }
    }
    Ok(())
}

/// Changes values. Says whether the machine is configured with them, or would be.
pub(crate) fn set(machine: &Machine, pairs: &[String], wait: bool, out: &mut dyn Write) -> Result<bool> {
    let changes = read_pairs(pairs)?;
    need_root("set")?;
    let store = Store::open(machine)?;
    let revision = {
        let _lock = store.lock()?;
        let mut notes = Vec::new();
        let mut values = store.values(&mut notes)?;
        values.set.extend(changes.clone());
        check(&values.effective(), &changes)?;
        values.revision += 1;
        store.save_values(&values)?;
        values.revision
    };
    writeln!(out, "Kept: {}", changes.keys().cloned().collect::<Vec<_>>().join(", "))?;
    if !tell("HUP") {
        writeln!(out, "The daemon is not running; it takes the values when it starts.")?;
        return Ok(true);
    }
    if wait { follow(machine, |status| status.revision >= revision, out) } else { Ok(true) }
}

/// Looks at the way to the console with the values of now, as a machine that is not paired. Says whether all is well.
pub(crate) fn preflight(machine: &Machine, json: bool, out: &mut dyn Write) -> Result<bool> {
    need_root("preflight")?;
    let values = {
        let store = Store::open(machine)?;
        let _lock = store.lock()?;
        store.values(&mut Vec::new())?
    };
    let route = session::route(&settings::parse(&values.effective())).ok_or_else(|| {
        mistake(
            "The address of the console is not known",
            "sudo gatewright-firstboot set console-endpoint=https://...",
        )
    })?;
    // The daemon has the machine's own store.
    let folder = tempfile::tempdir()?;
    let store = link::Store::open(folder.path(), link::Bounds::default())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let checks = runtime.block_on(link::preflight(&route, &store));
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&checks)?)?;
    } else {
        for check in &checks {
            let word = match check.outcome {
                Outcome::Ok => "ok",
                Outcome::Warning => "warning",
                Outcome::Failed => "FAILED",
                Outcome::Skipped => "skipped",
            };
            let took = check.took.as_millis();
            writeln!(out, "{word:<9}{:<17}{:>5} ms  {}", check.name, took, check.message)?;
            if !check.hint.is_empty() {
                writeln!(out, "{:<36}hint: {}", "", check.hint)?;
            }
        }
    }
    Ok(checks.iter().all(|check| check.outcome != Outcome::Failed))
}

/// Has failed steps tried again at once. Says whether the machine is configured then.
pub(crate) fn retry(machine: &Machine, wait: bool, out: &mut dyn Write) -> Result<bool> {
    need_root("retry")?;
    if !tell("USR1") {
        return Err(mistake("The daemon is not running", format!("`sudo systemctl start {UNIT}`")));
    }
    // It needs a moment to see the signal; until then the old result stands.
    std::thread::sleep(Duration::from_millis(300));
    if wait { follow(machine, |_| true, out) } else { Ok(true) }
}

/// `KEY=VALUE`, with `KEY=@FILE` and `KEY=-` for values that must not be in the list of processes.
fn read_pairs(pairs: &[String]) -> Result<Raw> {
    let mut changes = Raw::new();
    for pair in pairs {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            mistake(
                format!("`{pair}` is not KEY=VALUE"),
                format!("as in: gatewright-firstboot set {}=...", properties::nearest(pair)),
            )
        })?;
        if properties::find(key).is_none() {
            return Err(mistake(
                format!("There is no property `{key}`"),
                format!(
                    "did you mean `{}`? `gatewright-firstboot set --help` lists all",
                    properties::nearest(key)
                ),
            ));
        }
        let value = match value {
            "-" => {
                let mut text = String::new();
                io::stdin().take(1 << 20).read_to_string(&mut text).context("Cannot read standard input")?;
                text
            }
            value => match value.strip_prefix('@') {
                Some(file) => fs::read_to_string(file).map_err(|e| {
                    mistake(format!("Cannot read `{file}` for {key}: {e}"), "give a file of text after `@`")
                })?,
                None => value.to_string(),
            },
        };
        changes.insert(key.into(), value.trim().into());
    }
    Ok(changes)
}

/// Refuses changes that are wrong; what was wrong before may stay so. A step's values are looked at together, so a
/// proxy or an address is not half set.
fn check(values: &Raw, changes: &Raw) -> Result<()> {
    let problems = settings::parse(values).problems;
    let wrong: Vec<_> = problems.iter().filter(|problem| changes.contains_key(&problem.property)).collect();
    // What was not touched but became wrong or incomplete by the change.
    let groups: &[&[&str]] =
        &[&["ip-address", "ip-prefix", "ip-gateway"], &["http-proxy", "https-proxy", "no-proxy"]];
    let left: Vec<_> = problems
        .iter()
        .filter(|problem| {
            problem.given.is_none()
                && groups.iter().any(|group| {
                    group.contains(&problem.property.as_str())
                        && group.iter().any(|key| changes.contains_key(*key))
                })
                && values.get(&problem.property).is_none_or(|value| settings::given(value).is_none())
        })
        .collect();
    let Some(first) = wrong.first().or(left.first()) else { return Ok(()) };
    let all: Vec<_> = wrong
        .iter()
        .chain(left.iter().filter(|p| !wrong.contains(p)))
        .map(|problem| problem.message.as_str())
        .collect();
    Err(mistake(
        format!("Nothing was changed.\n  {}", all.join("\n  ")),
        format!("{} (several KEY=VALUE at once are taken together)", first.hint),
    ))
}

fn need_root(command: &str) -> Result<()> {
    if Uid::effective().is_root() {
        return Ok(());
    }
    Err(mistake(format!("Only root may `{command}`"), format!("sudo gatewright-firstboot {command} ...")))
}

/// Signals the daemon; says whether there is one.
fn tell(signal: &str) -> bool {
    run("systemctl", &["is-active", "--quiet", UNIT]).is_ok()
        && run("systemctl", &["kill", "--kill-whom=main", &format!("--signal={signal}"), UNIT]).is_ok()
}

/// Prints what comes of each step, until there is a result.
fn follow(machine: &Machine, is_mine: impl Fn(&Status) -> bool, out: &mut dyn Write) -> Result<bool> {
    let begun = Instant::now();
    let mut told = Vec::new();
    loop {
        let status = Status::read(machine)?.filter(&is_mine);
        if let Some(status) = &status {
            for step in &status.steps {
                let line = format!("  {:<10}{}", step.name, step.message.as_deref().unwrap_or_default());
                if matches!(step.state, State::Done) && !told.contains(&line) {
                    writeln!(out, "{}", line.trim_end())?;
                    told.push(line);
                }
            }
            if status.settled {
                match status.state {
                    Overall::Configured => writeln!(out, "This machine is configured.")?,
                    Overall::Paired => writeln!(out, "This machine is paired with its console.")?,
                    _ => write!(out, "\n{}", screen::render(status, usize::MAX))?,
                }
                return Ok(matches!(status.state, Overall::Configured | Overall::Paired));
            }
        }
        if begun.elapsed() > PATIENCE {
            writeln!(out, "Still under way; see `gatewright-firstboot status`.")?;
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[&str]) -> Result<Raw> {
        read_pairs(&list.iter().map(|pair| (*pair).to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn pairs_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        fs::write(&file, "ssh-ed25519 AAAA\n").unwrap();
        let changes =
            pairs(&["gateway-name=a=b", &format!("ssh-public-key=@{}", file.display()), "no-proxy="])
                .unwrap();
        assert_eq!(changes["gateway-name"], "a=b");
        assert_eq!(changes["ssh-public-key"], "ssh-ed25519 AAAA");
        assert_eq!(changes["no-proxy"], "");
        assert!(pairs(&["gateway-name"]).unwrap_err().to_string().contains("not KEY=VALUE"));
        let unknown = pairs(&["gateway_name=x"]).unwrap_err().downcast::<Mistake>().unwrap();
        assert!(unknown.hint.contains("did you mean `gateway-name`"));
        assert!(pairs(&["proxy-ca=@/does/not/exist"]).unwrap_err().to_string().contains("Cannot read"));
    }

    #[test]
    fn groups_are_not_half_set() {
        let try_set = |before: &[(&str, &str)], changes: &[&str]| {
            let changes = pairs(changes).unwrap();
            let mut values: Raw = before.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            values.extend(changes.clone());
            check(&values, &changes).map_err(|e| e.to_string())
        };
        assert!(try_set(&[], &["ip-address=192.0.2.1"]).unwrap_err().contains("ip-prefix"));
        let all = ["ip-address=192.0.2.10", "ip-prefix=24", "ip-gateway=192.0.2.1", "dns-servers=192.0.2.53"];
        assert_eq!(try_set(&[], &all), Ok(()));
        assert!(try_set(&[], &["http-proxy=http://h:1"]).unwrap_err().contains("no-proxy"));
        // Something else is wrong: that is no reason not to mend this.
        assert_eq!(try_set(&[("ntp-servers", "?")], &["gateway-name=edge"]), Ok(()));
        assert!(try_set(&[], &["gateway-name=Not OK"]).unwrap_err().contains("gateway-name"));
        // One of two wrong values.
        assert_eq!(try_set(&[("pairing-code", "x"), ("gateway-name", "?")], &["gateway-name=edge"]), Ok(()));
    }
}
