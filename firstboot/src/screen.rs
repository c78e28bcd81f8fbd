//! The virtual machine's screen: what is done, since when, what is wrong and what to type.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::files;
use crate::status::{State, Status, StepState};

/// The size of every console there is.
const COLUMNS: usize = 80;
const ROWS: usize = 24;

/// What is shown at `now`: at most 24 lines of at most 79 columns, so that no terminal wraps. ASCII, for the same
/// reason.
pub(crate) fn render(status: &Status, now: Timestamp) -> String {
    let state = match status.state {
        State::Configuring => "configuring",
        State::NeedsInput => "NEEDS INPUT",
        State::Retrying => "RETRYING",
        State::Configured => "configured",
    };
    let setting = |key: &str| status.settings.get(key).map(String::as_str);
    let mut lines = vec![
        format!("{:<60}{state:>18}", "Gatewright gateway installer"),
        "-".repeat(78),
        format!("Gateway    {}", setting("gateway-name").unwrap_or("(no name yet)")),
        format!("Address    {}", addresses(status)),
        format!("Console    {}", setting("console-endpoint").unwrap_or("(not given yet)")),
        String::new(),
    ];
    for step in &status.steps {
        let mark = match step.state {
            StepState::Done => "[ ok ]",
            StepState::Running => "[ .. ]",
            StepState::Pending => "[    ]",
            StepState::Invalid => "[WRONG]",
            StepState::Failed => "[RETRY]",
        };
        let message = match step.state {
            StepState::Invalid => "see below",
            _ => step.message.as_deref().unwrap_or(""),
        };
        let since = since(&step.since, step.state, now);
        lines.push(format!("{mark:<8}{:<10}{since:<16}{message}", step.name));
    }
    lines.push(String::new());

    let mut foot = Vec::new();
    if !status.missing.is_empty() {
        foot.push(format!("Missing for pairing: {}", status.missing.join(", ")));
    }
    foot.push(login(status));

    let mut problems: Vec<Vec<String>> = Vec::new();
    for problem in status.steps.iter().flat_map(|step| &step.problems) {
        let mut text = wrap(&format!("! {}", problem.message), 2);
        if let Some(given) = problem.given.as_ref().filter(|given| !problem.message.contains(given.as_str()))
        {
            text.extend(wrap(&format!("  Given:    {given}"), 12));
        }
        if !problem.expected.is_empty() {
            text.extend(wrap(&format!("  Expected: {}", problem.expected), 12));
        }
        text.extend(wrap(&format!("  Do:       {}", problem.hint), 12));
        problems.push(text);
    }
    // Whole problems, as many as fit; the rest is counted.
    let room = ROWS.saturating_sub(lines.len() + foot.len() + 1);
    let total = problems.len();
    for (i, problem) in problems.into_iter().enumerate() {
        let rest = usize::from(i + 1 < total);
        let used = lines.len() - 6 - status.steps.len() - 1;
        if used + problem.len() + rest > room {
            let what = if i == 0 { "What is wrong" } else { "More is wrong" };
            lines.push(format!("! {what} ({}): gatewright-firstboot status", total - i));
            break;
        }
        lines.extend(problem);
    }
    if total > 0 {
        lines.push(String::new());
    }
    lines.extend(foot);
    lines.truncate(ROWS);
    lines.iter().map(|line| cut(line) + "\n").collect()
}

/// The addresses that are there, beside the one that was asked for.
fn addresses(status: &Status) -> String {
    let actual: Vec<String> =
        status.addresses.iter().map(|it| format!("{} {}", it.interface, it.address)).collect();
    let actual = if actual.is_empty() { "none".to_string() } else { actual.join(", ") };
    let setting = |key: &str| status.settings.get(key).filter(|value| value.as_str() != "(set)");
    match setting("ip-address") {
        Some(address) => {
            let prefix = setting("ip-prefix").map(|prefix| format!("/{prefix}")).unwrap_or_default();
            let asked = format!("{address}{prefix}");
            if status.addresses.iter().any(|it| it.address == asked) {
                actual
            } else {
                format!("{actual} (asked for: {asked})")
            }
        }
        None => actual,
    }
}

/// How to come in to type what is asked for.
fn login(status: &Status) -> String {
    if !status.settings.get("ssh-public-key").is_some_and(|key| key.contains("AAAA")) {
        "Nobody can log in: give ssh-public-key in vSphere (vApp options), power off and on".into()
    } else if let Some(address) = status.addresses.first() {
        let ip = address.address.split('/').next().unwrap_or_default();
        format!("Log in: ssh ubuntu@{ip}")
    } else {
        "Log in: as soon as there is an address".into()
    }
}

/// `08:31:02 UTC`; while it lasts, how long already.
fn since(since: &str, state: StepState, now: Timestamp) -> String {
    let Ok(then) = since.parse::<Timestamp>() else { return String::new() };
    let clock = since.get(11..19).unwrap_or_default();
    if matches!(state, StepState::Done | StepState::Pending) {
        return clock.into();
    }
    let seconds = (now.as_second() - then.as_second()).max(0);
    match seconds {
        0..60 => format!("{clock} {seconds}s"),
        60..3600 => format!("{clock} {}m", seconds / 60),
        _ => format!("{clock} {}h", seconds / 3600),
    }
}

/// Breaks a line between words; the rest is indented. Words longer than a line are cut by [`cut`].
fn wrap(text: &str, indent: usize) -> Vec<String> {
    let lead = text.len() - text.trim_start().len();
    let mut lines = vec![" ".repeat(lead)];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is a first line");
        let is_new = last.trim().is_empty();
        if !is_new && last.chars().count() + 1 + word.chars().count() > COLUMNS - 1 {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            if !is_new {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    // The label's own column, which collapsing blanks has moved.
    for label in ["Given:", "Expected:", "Do:"] {
        if lines[0].trim_start().starts_with(label) {
            let rest = lines[0].trim_start().trim_start_matches(label).trim_start().to_string();
            lines[0] = format!("  {label:<9} {rest}");
        }
    }
    lines
}

/// One line that fits and that moves no cursor.
fn cut(line: &str) -> String {
    let clean = line.chars().map(|c| {
        if c.is_control() {
            ' '
        } else if c.is_ascii() {
            c
        } else {
            '?'
        }
    });
    let text: String = clean.take(COLUMNS).collect();
    if text.len() < COLUMNS { text.trim_end().into() } else { format!("{}...", &text[..COLUMNS - 4]) }
}

/// Where the screen is shown. Each has a thread of its own: a terminal may block, and nobody waits for it.
#[derive(Debug)]
pub(crate) struct Screen {
    shared: Arc<(Mutex<Option<String>>, Condvar)>,
}

impl Screen {
    /// A terminal, or a file that always holds the current screen.
    pub(crate) fn open(path: PathBuf) -> std::io::Result<Screen> {
        let shared = Arc::new((Mutex::new(None), Condvar::new()));
        let theirs = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("screen".into())
            .stack_size(128 << 10)
            .spawn(move || show(&path, &theirs))?;
        Ok(Screen { shared })
    }

    /// Shows this next; a screen that is slow skips what came between.
    pub(crate) fn show(&self, text: &str) {
        let (next, arrived) = &*self.shared;
        *next.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.into());
        arrived.notify_one();
    }
}

fn show(path: &Path, (next, arrived): &(Mutex<Option<String>>, Condvar)) {
    let (mut shown, mut drawn) = (String::new(), None::<Instant>);
    loop {
        let guard = next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut guard =
            arrived.wait_while(guard, |next| next.is_none()).unwrap_or_else(PoisonError::into_inner);
        let Some(text) = guard.take() else { continue };
        drop(guard);
        let is_terminal = path.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device());
        // Kernel and boot messages write over terminals: now and then all is drawn again.
        let is_fresh = drawn.is_some_and(|drawn| is_terminal && drawn.elapsed() < Duration::from_secs(60));
        if text == shown && (is_fresh || !is_terminal) {
            continue;
        }
        let result = if is_terminal {
            draw(path, &text)
        } else {
            files::write(path, text.as_bytes(), 0o644, None).map(|_| ()).map_err(|error| error.source)
        };
        // A terminal that is not there may come; it is tried with every new screen.
        if result.is_ok() {
            shown = text;
            drawn = Some(Instant::now());
        }
    }
}

/// Draws on a terminal. One that takes nothing for two seconds gets the next screen instead.
fn draw(path: &Path, text: &str) -> std::io::Result<()> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let mut terminal: File = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    // Cursor off, clear, home. Lines end with both: nobody has set the line up for us.
    let text = format!("\x1b[?25l\x1b[2J\x1b[H{}", text.replace('\n', "\r\n"));
    let mut rest = text.as_bytes();
    let deadline = Instant::now() + Duration::from_secs(2);
    while !rest.is_empty() {
        match terminal.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(e)
                if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
                    && Instant::now() < deadline =>
            {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
