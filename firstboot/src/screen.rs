//! The screen: what step, since when, what is wrong, what to do.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;

use crate::files::write_atomic;
use crate::status::{Overall, State, Status};

/// What every terminal has.
const COLUMNS: usize = 80;
const LINES: usize = 24;
/// Where the line of a step has its detail.
const DETAIL: usize = 40;
/// Kernel messages may have been drawn over it.
const REDRAW: Duration = Duration::from_secs(30);

/// The terminals that show it.
#[derive(Debug)]
pub(crate) struct Screen {
    places: Vec<PathBuf>,
    shown: String,
    drawn: Option<Instant>,
}

impl Screen {
    pub(crate) fn new(places: Vec<PathBuf>) -> Screen {
        Screen { places, shown: String::new(), drawn: None }
    }

    /// Draws where something has changed, and now and then where not.
    pub(crate) fn show(&mut self, status: &Status) {
        let text = render(status, LINES);
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() > REDRAW);
        if text == self.shown && !due {
            return;
        }
        for place in &self.places {
            // A terminal that is not there or does not take anything must not keep the machine from being configured.
            let _ = draw(place, &text);
        }
        self.shown = text;
        self.drawn = Some(Instant::now());
    }
}

fn draw(place: &Path, text: &str) -> std::io::Result<()> {
    let is_terminal = place.metadata().is_ok_and(|meta| meta.file_type().is_char_device());
    if !is_terminal {
        return write_atomic(place, 0o644, None, text.as_bytes());
    }
    // Not blocking: a serial line with nobody behind it may never take a byte. Not ours: it must not send us signals.
    let flags = (OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let mut terminal = OpenOptions::new().write(true).custom_flags(flags).open(place)?;
    // Home, each line cleared to its end, then all below: no flicker.
    let lines = text.replace('\n', "\x1b[K\r\n");
    terminal.write_all(format!("\x1b[H{lines}\x1b[J").as_bytes())
}

/// The screen as text: at most `limit` lines of 80 columns. The same status gives the same text.
pub(crate) fn render(status: &Status, limit: usize) -> String {
    let name = status.settings.get("gateway-name").map_or("(no name)", String::as_str);
    let mut head = vec![format!("Gatewright gateway installer {}", env!("CARGO_PKG_VERSION")), String::new()];
    head.push(format!("  Gateway   {name}"));
    let addresses: Vec<_> =
        status.addresses.iter().map(|a| format!("{} on {}", a.address, a.interface)).collect();
    head.push(format!(
        "  Address   {}",
        if addresses.is_empty() { "none".into() } else { addresses.join(", ") }
    ));
    head.push(format!(
        "  State     {}",
        match status.state {
            Overall::Configuring => "configuring this machine",
            Overall::NeedsInput => "waiting for you: a value is wrong",
            Overall::Retrying => "a step failed and is tried again",
            Overall::Configured => "this machine is configured",
            Overall::Paired => "paired with the console",
        }
    ));
    head.push(String::new());

    let mut body = Vec::new();
    for step in &status.steps {
        let (mark, word) = match step.state {
            State::Pending => (" ", "waits"),
            State::Running => (">", "under way"),
            State::Waiting => (".", "waits"),
            State::Done => ("+", "done"),
            State::Invalid => ("!", "wrong value"),
            State::Failed => ("!", "failed"),
        };
        let since = step.since.strftime("%H:%M:%S UTC");
        let detail = step.message.as_deref().filter(|_| step.state == State::Done).unwrap_or_default();
        body.push(format!("  {mark} {:<10}{word:<12}{since}  {detail}", step.name));
    }
    body.push(String::new());

    let mut advice = Vec::new();
    for step in &status.steps {
        if let (State::Failed | State::Running | State::Waiting, Some(message)) = (step.state, &step.message)
        {
            advice.extend(wrap(&format!("{}: {message}", step.name)));
        }
        // What does not fit into its line.
        if let (State::Done, Some(message)) = (step.state, &step.message)
            && message.chars().count() > COLUMNS - DETAIL
        {
            advice.extend(wrap(&format!("{}: {message}", step.name)));
        }
        if step.state == State::Failed {
            advice
                .push("  It is tried again by itself; at once with: sudo gatewright-firstboot retry".into());
        }
        for problem in &step.problems {
            advice.extend(wrap(&problem.message));
            advice.push(format!("    {}", problem.hint));
        }
    }
    if status.state == Overall::Configured {
        if status.missing.is_empty() {
            advice.push("  Everything that pairing needs is set.".into());
        } else {
            advice.extend(wrap(&format!(
                "Not set yet, and needed for pairing: {}. Set a value with:",
                status.missing.join(", ")
            )));
            advice.push("    sudo gatewright-firstboot set KEY=VALUE".into());
        }
    }
    let room = limit.saturating_sub(head.len() + body.len());
    if advice.len() > room {
        advice.truncate(room.saturating_sub(1));
        advice.push("  ... and more: gatewright-firstboot status".into());
    }
    let lines = head.into_iter().chain(body).chain(advice);
    lines.map(|line| fit(&line) + "\n").collect()
}

/// Cuts a line to the width of the screen, and what is no printable character out of it: values come from outside.
fn fit(line: &str) -> String {
    let clean: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let clean = clean.trim_end();
    if clean.chars().count() <= COLUMNS {
        clean.into()
    } else {
        clean.chars().take(COLUMNS - 3).collect::<String>() + "..."
    }
}

/// Breaks a sentence at spaces; two columns of indentation.
fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::from(" ")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always one");
        if line.chars().count() + 1 + word.chars().count() > COLUMNS && line.len() > 2 {
            lines.push(format!("  {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings;
    use crate::status::{StepStatus, VERSION, overall};
    use crate::steps::{Apply, InterfaceAddress, STEPS};

    fn status(raw: &[(&str, &str)], change: impl Fn(&mut StepStatus)) -> Status {
        let raw = raw.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let parsed = settings::parse(&raw);
        let steps: Vec<_> = STEPS
            .iter()
            .map(|step| {
                let problems: Vec<_> = parsed
                    .problems
                    .iter()
                    .filter(|p| step.owns.contains(&p.property.as_str()))
                    .cloned()
                    .collect();
                let mut status = StepStatus {
                    name: step.name,
                    state: match step.apply {
                        _ if !problems.is_empty() => State::Invalid,
                        Apply::Machine(_) => State::Done,
                        Apply::Console(_) => State::Waiting,
                    },
                    since: "2026-01-02T03:04:05Z".parse().unwrap(),
                    attempts: 1,
                    message: None,
                    problems,
                };
                change(&mut status);
                status
            })
            .collect();
        Status {
            version: VERSION,
            state: overall(&steps),
            steps,
            missing: parsed.missing.iter().map(|key| (*key).into()).collect(),
            settings: settings::shown(&raw, &parsed),
            notes: parsed.notes,
            addresses: vec![InterfaceAddress {
                interface: "ens192".into(),
                address: "192.0.2.10".parse().unwrap(),
            }],
            source: "guestinfo".into(),
            revision: 1,
            settled: true,
        }
    }

    #[test]
    fn screens() {
        insta::assert_snapshot!("configured", render(&status(&[("gateway-name", "edge-01")], |_| {}), LINES));
        insta::assert_snapshot!(
            "needs_input",
            render(
                &status(
                    &[
                        ("gateway-name", "Edge 01"),
                        ("ip-address", "192.0.2.10"),
                        ("http-proxy", "http://u:secret@h")
                    ],
                    |_| {}
                ),
                LINES
            )
        );
        insta::assert_snapshot!(
            "retrying",
            render(
                &status(&[], |step| {
                    if step.name == crate::steps::Name::Network {
                        step.state = State::Failed;
                        step.message = Some("192.0.2.10/24 was asked for, ens192 has no address.".into());
                    }
                }),
                LINES
            )
        );
    }

    #[test]
    fn whatever_comes_fits_the_screen() {
        let long = "x y ".repeat(2000) + "\x1b[2J\n\n";
        let keys = crate::properties::PROPERTIES.iter().map(|p| (p.key, long.as_str())).collect::<Vec<_>>();
        let text = render(&status(&keys, |step| step.message = Some(long.clone())), LINES);
        assert!(text.lines().count() <= LINES, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
        assert!(!text.contains('\x1b') && text.contains("and more"));
    }
}
