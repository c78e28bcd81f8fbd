//! What people and programs see of the work: bars on a terminal, lines elsewhere, JSON lines when asked.
//!
//! All of it goes to stderr; stdout is for results.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

/// The version of the JSON events; raised when a reader would have to change.
const PROTOCOL: u32 = 1;
/// Events about one step come no more often than this.
const EVENT_INTERVAL: Duration = Duration::from_millis(200);

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();

/// The form of progress.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// Bars on a terminal, plain lines elsewhere
    Auto,
    /// Bars with rates and times
    Bar,
    /// A line when a step begins and ends
    Plain,
    /// JSON lines
    Json,
    /// Nothing
    None,
}

/// Where everything but results goes.
#[derive(Debug)]
pub(crate) struct Printer {
    mode: Mode,
    verbose: bool,
    quiet: bool,
}

/// An event of `--progress json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Event<'a> {
    Start { version: u32, image: &'a str },
    Step { step: &'a str, description: &'a str, state: State, seconds: f64 },
    Progress { step: &'a str, bytes: u64, total: u64 },
    Message { step: &'a str, text: &'a str },
    Note { text: &'a str },
}

/// How far a step is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Started,
    Cached,
    Done,
    Failed,
}

impl Printer {
    pub(crate) fn new(mode: Mode, quiet: bool, verbose: bool) -> Printer {
        let mode = match mode {
            Mode::Auto if quiet => Mode::None,
            // Bars and log lines would write over each other.
            Mode::Auto if std::io::stderr().is_terminal() && !verbose => Mode::Bar,
            Mode::Auto => Mode::Plain,
            mode => mode,
        };
        Printer { mode, verbose, quiet }
    }

    pub(crate) fn start(&self, image: &str) {
        match self.mode {
            Mode::Json => self.event(&Event::Start { version: PROTOCOL, image }),
            Mode::Bar | Mode::Plain => self.line(&format!("{BOLD}Building {image}{BOLD:#}")),
            _ => {}
        }
    }

    /// Something worth knowing that is no error.
    pub(crate) fn note(&self, text: &str) {
        match self.mode {
            Mode::Json => self.event(&Event::Note { text }),
            _ if self.quiet => {}
            _ => self.line(&format!("{CYAN}note{CYAN:#}: {text}")),
        }
    }

    /// The error that ended the command, with its hint.
    pub(crate) fn error(&self, message: &str, hint: Option<&str>) {
        self.line(&format!("{RED}error{RED:#}: {message}"));
        if let Some(hint) = hint {
            self.line(&format!("\n{CYAN}hint{CYAN:#}: {hint}"));
        }
    }

    /// Begins a step; it ends with [`Running::finish`], or as failed when dropped.
    pub(crate) fn step<'a>(&'a self, step: &'a str, description: &'a str) -> Running<'a> {
        let running = Running {
            printer: self,
            step,
            description,
            started: Instant::now(),
            bar: self.bar(description),
            last: Mutex::default(),
            finished: false,
        };
        running.event(State::Started);
        if self.mode == Mode::Plain {
            self.line(&format!("{description} …"));
        }
        running
    }

    fn bar(&self, description: &str) -> ProgressBar {
        if self.mode != Mode::Bar {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(style("{spinner:.cyan} {prefix:<28} {elapsed:>4}  {wide_msg:.dim}"));
        bar.set_prefix(description.to_string());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn event(&self, event: &Event<'_>) {
        self.line(&serde_json::to_string(event).expect("events have string keys only"));
    }

    /// A terminal or pipe that is gone must not stop the work.
    fn line(&self, text: &str) {
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

/// Templates are ours and checked by a test.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed")
}

/// A step under way.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    printer: &'a Printer,
    step: &'a str,
    description: &'a str,
    started: Instant,
    bar: ProgressBar,
    last: Mutex<Option<Instant>>,
    finished: bool,
}

impl Running<'_> {
    /// What the step does now, as its log says.
    pub(crate) fn message(&self, text: &str) {
        match self.printer.mode {
            Mode::Bar => self.bar.set_message(text.to_string()),
            Mode::Json if self.due() => self.printer.event(&Event::Message { step: self.step, text }),
            Mode::Plain if self.printer.verbose => self.printer.line(&format!("{DIM}  {text}{DIM:#}")),
            _ => {}
        }
    }

    /// `bytes` of `total` are done.
    pub(crate) fn progress(&self, bytes: u64, total: u64) {
        match self.printer.mode {
            Mode::Bar => {
                if self.bar.length().is_none() {
                    self.bar.set_style(style(
                        "{spinner:.cyan} {prefix:<28} {elapsed:>4}  {wide_bar:.cyan} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                    ));
                }
                self.bar.set_length(total);
                self.bar.set_position(bytes);
            }
            Mode::Json if self.due() => {
                self.printer.event(&Event::Progress { step: self.step, bytes, total })
            }
            _ => {}
        }
    }

    /// Ends the step; `detail` says in a few words what came of it.
    pub(crate) fn finish(mut self, state: State, detail: &str) {
        self.end(state, detail);
    }

    fn end(&mut self, state: State, detail: &str) {
        self.finished = true;
        self.bar.finish_and_clear();
        self.event(state);
        if !matches!(self.printer.mode, Mode::Bar | Mode::Plain) {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let (mark, style) = match state {
            State::Failed => ("✗", RED),
            State::Cached => ("=", DIM),
            _ => ("✓", GREEN),
        };
        self.printer.line(&format!(
            "{style}{mark}{style:#} {:<28} {seconds:>5.1}s  {DIM}{detail}{DIM:#}",
            self.description
        ));
    }

    fn event(&self, state: State) {
        if self.printer.mode == Mode::Json {
            let seconds = (self.started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0;
            self.printer.event(&Event::Step {
                step: self.step,
                description: self.description,
                state,
                seconds,
            });
        }
    }

    fn due(&self) -> bool {
        let mut last = self.last.lock().expect("no thread panics while it holds this");
        let due = last.is_none_or(|last| last.elapsed() >= EVENT_INTERVAL);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.end(State::Failed, "");
        }
    }
}
