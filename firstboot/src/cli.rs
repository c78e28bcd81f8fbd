//! The command line.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use crate::control;
use crate::daemon::chain;
use crate::files;
use crate::property::{PROPERTIES, Property};
use crate::run;
use crate::screen;
use crate::settings;
use crate::status::{Problem, State, Status};
use crate::store::{self, Kept, Paths};

/// Configures a Gatewright machine at its first boot
#[derive(Debug, Parser)]
#[command(name = "gatewright-firstboot", version, disable_help_subcommand = true, color = clap::ColorChoice::Never,
    after_help = "Exit codes: 0 done; 1 something typed is wrong; 2 something else failed.")]
struct Arguments {
    /// Works on a machine below this folder, for tests
    #[arg(long, value_name = "DIR", default_value = "/", hide = true, global = true)]
    root: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Runs the daemon; its systemd unit does this
    Run {
        /// A terminal or file to show the screen on; instead of /dev/tty1 and /dev/ttyS0
        #[arg(long, value_name = "PATH", env = "GATEWRIGHT_SCREEN", value_delimiter = ':')]
        screen: Vec<PathBuf>,
    },
    /// Shows each step, what is wrong and what to do
    Status {
        /// Prints the status document as it is
        #[arg(long)]
        json: bool,
    },
    /// Sets properties, applies them and waits for the result
    #[command(after_long_help = set_help())]
    Set {
        /// A property and its value; `KEY=` clears it, `KEY=@FILE` reads a file, `KEY=-` standard input
        #[arg(required = true, value_name = "KEY=VALUE")]
        assignments: Vec<String>,
        /// Ends as soon as the values are kept
        #[arg(long)]
        no_wait: bool,
    },
    /// Tries again at once what failed
    Retry {
        /// Ends at once
        #[arg(long)]
        no_wait: bool,
    },
}

/// What `set --help` says of properties.
fn set_help() -> String {
    let mut text = String::from("Properties:\n");
    let mut category = "";
    for property in PROPERTIES {
        if property.category != category {
            category = property.category;
            text.push_str(&format!("  {category}\n"));
        }
        let default =
            if property.default.is_empty() { String::new() } else { format!(" [default: {}]", property.default) };
        let secret = if property.secret { " (secret)" } else { "" };
        text.push_str(&format!("    {:<17} {}{secret}{default}\n", property.key, property.expected));
    }
    text + "\nAll assignments count as one: what belongs together is given together.\n\
            Arguments can be seen by every process: give secrets by `KEY=-` or `KEY=@FILE`.\n\n\
            Examples:\n  \
            gatewright-firstboot set ip-address=10.0.0.5 ip-prefix=24 ip-gateway=10.0.0.1 dns-servers=10.0.0.2\n  \
            gatewright-firstboot set pairing-code=-\n  \
            gatewright-firstboot set proxy-ca=@/tmp/ca.pem\n  \
            gatewright-firstboot set http-proxy= https-proxy= no-proxy=\n\n\
            Exit codes: 0 all is configured; 1 a value is wrong (then nothing is changed), or something\n\
            is still wrong after it was applied; 2 something else failed."
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// Exit code 1.
    Input { message: String, hint: String },
    /// Exit code 2.
    Ours { message: String, hint: Option<String> },
    /// Exit code 1, and everything was said.
    StillWrong,
    /// Nobody reads our output any more.
    Output(std::io::Error),
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Output(error)
    }
}

fn ours(message: impl Into<String>) -> Failure {
    Failure::Ours { message: message.into(), hint: None }
}

/// A file of the daemon's that could not be used.
fn file(error: files::FileError) -> Failure {
    let hint = (error.source.kind() == std::io::ErrorKind::PermissionDenied)
        .then(|| "This command is for root: put `sudo` in front of it.".into());
    Failure::Ours { message: format!("{}.", chain(&error)), hint }
}

/// The program: reads `arguments`, writes data to `out` and everything else to `err`.
pub fn main(arguments: impl Iterator<Item = OsString>, out: &mut dyn Write, err: &mut dyn Write) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let target: &mut dyn Write = if error.use_stderr() { err } else { out };
            let _ = write!(target, "{error}"); // nobody is left to tell
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let paths = Paths { root: arguments.root };
    let result = match arguments.command {
        Action::Run { screen } => {
            let screens = if screen.is_empty() {
                let default = ["/dev/tty1", "/dev/ttyS0"].map(|path| paths.of(path));
                default.into_iter().filter(|path| path.exists()).collect()
            } else {
                screen
            };
            run::run(&paths, &screens, err).map_err(ours)
        }
        Action::Status { json } => status(&paths, json, out, err),
        Action::Set { assignments, no_wait } => set(&paths, &assignments, no_wait, out),
        Action::Retry { no_wait } => retry(&paths, no_wait, out),
    };
    let (code, message, hint) = match result {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::StillWrong) => return ExitCode::from(1),
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
        Err(Failure::Output(error)) => (2, format!("Cannot write the output: {error}"), None),
        Err(Failure::Input { message, hint }) => (1, message, Some(hint)),
        Err(Failure::Ours { message, hint }) => (2, message, hint),
    };
    let hint = hint.map(|hint| format!("\nhint: {hint}\n")).unwrap_or_default();
    let _ = write!(err, "error: {message}\n{hint}"); // nobody is left to tell
    ExitCode::from(code)
}

fn read_status(paths: &Paths) -> Result<Status, Failure> {
    let not_there = || Failure::Ours {
        message: "There is no status: the daemon has not run since the machine started.".into(),
        hint: Some("Start it: `sudo systemctl start gatewright-firstboot`".into()),
    };
    let content = files::read(&paths.status()).map_err(file)?.ok_or_else(not_there)?;
    serde_json::from_slice(&content)
        .map_err(|error| ours(format!("Cannot understand `{}`: {error}.", paths.status().display())))
}

fn status(paths: &Paths, json: bool, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Failure> {
    let status = read_status(paths)?;
    // Only root may talk to the daemon, but everybody may see that nobody listens.
    if std::os::unix::net::UnixStream::connect(paths.socket())
        .is_err_and(|error| error.kind() != std::io::ErrorKind::PermissionDenied)
    {
        writeln!(err, "warning: The daemon is not running; this is what it said last.")?;
    }
    if json {
        serde_json::to_writer_pretty(&mut *out, &status).map_err(|error| Failure::Output(error.into()))?;
        writeln!(out)?;
        return Ok(());
    }
    // What the screen has no room for comes after it.
    out.write_all(screen::render(&status, jiff::Timestamp::now()).as_bytes())?;
    for problem in status.steps.iter().flat_map(|step| &step.problems) {
        writeln!(out, "\n{}", describe(problem))?;
    }
    if !status.notes.is_empty() {
        writeln!(out, "\nNotes:")?;
        for note in &status.notes {
            writeln!(out, "  {note}")?;
        }
    }
    Ok(())
}

fn describe(problem: &Problem) -> String {
    let mut text = problem.message.clone();
    if let Some(given) = &problem.given {
        text.push_str(&format!("\n  given:    {given}"));
    }
    if !problem.expected.is_empty() {
        text.push_str(&format!("\n  expected: {}", problem.expected));
    }
    text + &format!("\n  do:       {}", problem.hint)
}

fn set(paths: &Paths, assignments: &[String], no_wait: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let assigned = read_assignments(assignments)?;
    let lock = paths.lock().map_err(file)?;
    let mut notes = Vec::new();
    let mut kept: Kept = store::load(&paths.settings(), &mut notes).map_err(file)?;
    let before = settings::parse(&kept.values());
    kept.overrides.0.extend(assigned.iter().map(|(key, value)| ((*key).to_string(), value.clone())));
    let after = settings::parse(&kept.values());
    // What was wrong before and is not touched may stay wrong: one thing after another can be put right.
    let refused: Vec<&Problem> = after
        .problems
        .iter()
        .filter(|it| assigned.contains_key(it.property.as_str()) || !before.is_wrong(&it.property))
        .collect();
    if !refused.is_empty() {
        let described: Vec<String> = refused
            .iter()
            .map(|problem| describe(&Problem { hint: String::new(), ..(*problem).clone() }))
            .map(|text| text.trim_end().trim_end_matches("do:").trim_end().to_string())
            .collect();
        let hints: Vec<&str> = refused.iter().map(|problem| problem.hint.as_str()).collect();
        return Err(Failure::Input {
            message: format!("{}\n\nNothing was changed.", described.join("\n")),
            hint: hints.join("\nhint: "),
        });
    }
    store::save(&paths.settings(), &kept, 0o600).map_err(file)?;
    drop(lock);
    notes.extend(after.notes.iter().filter(|note| !before.notes.contains(note)).cloned());
    for note in notes {
        writeln!(out, "{note}")?;
    }
    tell(paths, "reload", no_wait, out)
}

/// The values by key.
fn read_assignments(assignments: &[String]) -> Result<BTreeMap<&'static str, String>, Failure> {
    let mut assigned = BTreeMap::new();
    for assignment in assignments {
        let Some((key, value)) = assignment.split_once('=') else {
            // It may be a secret without its key.
            let message = match Property::find(assignment) {
                Some(property) => format!("`{}` has no value.", property.key),
                None => "An argument is not of the form KEY=VALUE.".into(),
            };
            return Err(Failure::Input { message, hint: "As in: gatewright-firstboot set gateway-name=edge-1".into() });
        };
        let Some(property) = Property::find(key) else {
            let hint = match Property::nearest(key) {
                Some(nearest) => format!("Did you mean `{nearest}`?"),
                None => "`gatewright-firstboot set --help` lists the properties.".into(),
            };
            return Err(Failure::Input { message: format!("There is no property `{key}`."), hint });
        };
        let unread = |error: std::io::Error| Failure::Input {
            message: format!("Cannot read the value of {}: {error}.", property.key),
            hint: "`KEY=@FILE` takes the content of a text file, `KEY=-` standard input.".into(),
        };
        let value = match (value, value.strip_prefix('@')) {
            ("-", _) => {
                let mut text = String::new();
                std::io::stdin().take(1 << 20).read_to_string(&mut text).map_err(unread)?;
                text
            }
            (_, Some(path)) => std::fs::read_to_string(Path::new(path)).map_err(unread)?,
            _ => value.to_string(),
        };
        let value = settings::unless_blank(&value).unwrap_or_default().to_string();
        if assigned.insert(property.key, value).is_some() {
            let message = format!("{} is given twice.", property.key);
            return Err(Failure::Input { message, hint: "Give each property once.".into() });
        }
    }
    Ok(assigned)
}

fn retry(paths: &Paths, no_wait: bool, out: &mut dyn Write) -> Result<(), Failure> {
    drop(paths.lock().map_err(file)?); // says that this is for root
    tell(paths, "retry", no_wait, out)
}

/// Sends a command to the daemon and shows what becomes of it.
fn tell(paths: &Paths, word: &str, no_wait: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let sent = control::send(&paths.socket(), word)
        .map_err(|error| ours(format!("The daemon does not answer on `{}`: {error}.", paths.socket().display())))?;
    if !sent {
        writeln!(out, "The daemon is not running. The values are kept and applied when it starts:")?;
        writeln!(out, "  sudo systemctl start gatewright-firstboot")?;
        return Ok(());
    }
    if no_wait {
        return Ok(());
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut told: Vec<String> = Vec::new();
    loop {
        let status = read_status(paths)?;
        for step in status.steps.iter().filter(|step| step.state.is_settled()) {
            if !told.contains(&step.name) {
                writeln!(out, "{:<10}{:<9}{}", step.name, step.state, step.message.as_deref().unwrap_or(""))?;
                told.push(step.name.clone());
            }
        }
        let is_over = status.state != State::Configuring;
        if is_over || Instant::now() > deadline {
            for problem in status.steps.iter().flat_map(|step| &step.problems) {
                writeln!(out, "\n{}", describe(problem))?;
            }
            if !is_over {
                writeln!(out, "\nNot finished after 60 s; it goes on. Look again with `gatewright-firstboot status`.")?;
            }
            return if status.state == State::Configured { Ok(()) } else { Err(Failure::StillWrong) };
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
