//! The daemon: reads the values once, runs the steps, shows how it goes, waits for `set` and `retry`.
//!
//! It never ends by itself and never gives up: a step that fails is tried again, ever more seldom; a value that is
//! wrong waits for another.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::files::Machine;
use crate::screen::Screen;
use crate::settings::{self, Parsed, Problem};
use crate::source;
use crate::status::{Overall, State, Status, StepStatus, VERSION, overall};
use crate::steps::{Name, Progress, STEPS, Step, addresses};
use crate::store::{Entry, Journal, Store, Values};

/// How long a step may wait for the machine before it counts as failed; it is asked again all the same.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a waiting step is asked.
const POLL: Duration = Duration::from_millis(500);
/// The longest time between two tries of a step that fails.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// How often addresses and screen are looked after while nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// The property that stands for the OVF environment as a whole.
const DOCUMENT: &str = "ovf-environment";

/// Where a step is, in this boot and with the values of now.
#[derive(Debug)]
struct Run {
    digest: String,
    status: StepStatus,
    /// Of the try that is under way.
    begun: Option<Instant>,
    /// Not before.
    next: Instant,
}

/// Runs until it is told to end.
pub(crate) fn serve(machine: &Machine, screens: Vec<PathBuf>) -> Result<()> {
    let signals = listen()?;
    let mut daemon = Daemon::begin(machine, screens)?;
    loop {
        let wait = daemon.advance()?;
        match signals.recv_timeout(wait) {
            Ok(SIGHUP) => daemon.reload()?,
            Ok(SIGUSR1) => daemon.retry(),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

fn listen() -> Result<Receiver<i32>> {
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGINT, SIGTERM])?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(signal)));
    Ok(receiver)
}

struct Daemon<'a> {
    machine: &'a Machine,
    store: Store,
    journal: Journal,
    values: Values,
    parsed: Parsed,
    /// Of this start: what was put aside.
    notes: Vec<String>,
    /// Why the document of this boot could not be read.
    broken: Option<String>,
    source: &'static str,
    runs: BTreeMap<Name, Run>,
    screen: Screen,
    published: Option<Status>,
}

impl Daemon<'_> {
    fn begin(machine: &Machine, screens: Vec<PathBuf>) -> Result<Daemon<'_>> {
        let store = Store::open(machine)?;
        let mut notes = Vec::new();
        let journal = store.journal(&mut notes)?;
        let mut daemon = Daemon {
            machine,
            store,
            journal,
            values: Values::default(),
            parsed: Parsed::default(),
            notes,
            broken: None,
            source: "none",
            runs: BTreeMap::new(),
            screen: Screen::new(screens),
            published: None,
        };
        daemon.parse();
        daemon.publish(false)?;
        notify_ready();
        daemon.read_values()?;
        daemon.parse();
        Ok(daemon)
    }

    /// Once a boot: the document that the hypervisor gives, and what is kept.
    fn read_values(&mut self) -> Result<()> {
        let document = source::read();
        let _lock = self.store.lock()?;
        self.values = self.store.values(&mut self.notes)?;
        match document {
            Ok(Some((source, raw))) => {
                self.source = source.name();
                if self.values.take_over(raw) {
                    self.store.save_values(&self.values)?;
                }
            }
            Ok(None) if self.values.effective().is_empty() => {}
            Ok(None) => self.source = "kept",
            Err(error) => {
                self.source = if self.values.effective().is_empty() { "none" } else { "kept" };
                self.broken = Some(format!("{error:#}"));
            }
        }
        Ok(())
    }

    /// Values have changed: steps that they matter to begin anew.
    fn parse(&mut self) {
        let raw = self.values.effective();
        self.parsed = settings::parse(&raw);
        if let Some(why) = &self.broken {
            if raw.is_empty() {
                self.parsed.problems.push(Problem {
                    property: DOCUMENT.into(),
                    given: None,
                    expected: "an OVF environment as vSphere makes it".into(),
                    message: format!("{why}."),
                    hint: "sudo gatewright-firstboot set KEY=VALUE ...".into(),
                });
            } else {
                self.parsed.notes.push(format!("{why}; the values of before hold."));
            }
        }
        for step in STEPS {
            let digest = step.digest(&raw);
            let problems = self.problems_of(step);
            let run = self.runs.get(&step.name);
            if run.is_some_and(|run| run.digest == digest && run.status.problems == problems) {
                continue;
            }
            let state = if problems.is_empty() { State::Pending } else { State::Invalid };
            let status = StepStatus {
                name: step.name,
                state,
                since: Timestamp::now(),
                attempts: 0,
                message: None,
                problems,
            };
            self.runs.insert(step.name, Run { digest, status, begun: None, next: Instant::now() });
        }
    }

    fn problems_of(&self, step: &Step) -> Vec<Problem> {
        let owns = |key: &str| step.owns.contains(&key) || (step.name == Name::Settings && key == DOCUMENT);
        self.parsed.problems.iter().filter(|problem| owns(&problem.property)).cloned().collect()
    }

    /// Runs the steps that are due. Says how long there is nothing to do.
    fn advance(&mut self) -> Result<Duration> {
        for step in STEPS {
            let run = self.runs.get_mut(&step.name).expect("`parse` makes one for each step");
            if matches!(run.status.state, State::Done | State::Invalid) || run.next > Instant::now() {
                continue;
            }
            let begins = run.begun.is_none();
            if begins {
                run.begun = Some(Instant::now());
                run.status.attempts += 1;
            }
            // A step that failed stays so on the screen until it is known better.
            if run.status.state == State::Pending {
                set_state(&mut run.status, State::Running, None);
                self.publish(true)?;
            }
            self.run_step(step, begins)?;
            self.publish(true)?;
        }
        self.publish(true)?;
        let next = self
            .runs
            .values()
            .filter(|run| !matches!(run.status.state, State::Done | State::Invalid))
            .map(|run| run.next)
            .min();
        Ok(next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()).min(IDLE)))
    }

    fn run_step(&mut self, step: &Step, begins: bool) -> Result<()> {
        let run = self.runs.get_mut(&step.name).expect("`parse` makes one for each step");
        let finished_before =
            self.journal.steps.get(&step.name).is_some_and(|entry| entry.digest == run.digest);
        // Programs run once for each try, not each time that a waiting step is asked.
        match (step.apply)(self.machine, &self.parsed.settings, begins && !finished_before) {
            Ok(Progress::Done(message)) => {
                let entry = Entry { digest: run.digest.clone(), at: Timestamp::now() };
                set_state(&mut run.status, State::Done, message);
                if !finished_before {
                    self.journal.steps.insert(step.name, entry);
                    self.store.save_journal(&self.journal)?;
                }
            }
            Ok(Progress::Waiting(message)) => {
                let begun = run.begun.unwrap_or_else(Instant::now);
                if begun.elapsed() < PATIENCE {
                    run.status.message = Some(message);
                    run.next = Instant::now() + POLL;
                } else {
                    fail(run, message);
                }
            }
            Err(error) => fail(run, format!("{error:#}")),
        }
        Ok(())
    }

    /// `set` has written other values.
    fn reload(&mut self) -> Result<()> {
        {
            let _lock = self.store.lock()?;
            self.values = self.store.values(&mut self.notes)?;
        }
        if self.source == "none" {
            self.source = "kept";
        }
        self.parse();
        Ok(())
    }

    /// `retry`: steps that failed or wait are begun again at once.
    fn retry(&mut self) {
        for run in self.runs.values_mut() {
            if matches!(run.status.state, State::Failed | State::Running) {
                set_state(&mut run.status, State::Pending, None);
                run.status.attempts = 0;
                run.begun = None;
                run.next = Instant::now();
            }
        }
    }

    /// Tells everybody, if there is something to tell.
    fn publish(&mut self, with_addresses: bool) -> Result<()> {
        let steps: Vec<_> =
            STEPS.iter().filter_map(|step| self.runs.get(&step.name)).map(|run| run.status.clone()).collect();
        let state = overall(&steps);
        let status = Status {
            version: VERSION,
            state,
            steps,
            missing: self.parsed.missing.iter().map(|key| (*key).into()).collect(),
            notes: self.notes.iter().chain(&self.parsed.notes).cloned().collect(),
            settings: settings::shown(&self.values.effective(), &self.parsed),
            addresses: if with_addresses { addresses()? } else { Vec::new() },
            source: self.source.into(),
            revision: self.values.revision,
            settled: state != Overall::Configuring,
        };
        if self.published.as_ref() != Some(&status) {
            status.write(self.machine)?;
        }
        self.screen.show(&status);
        self.published = Some(status);
        Ok(())
    }
}

fn set_state(status: &mut StepStatus, state: State, message: Option<String>) {
    if status.state != state {
        status.since = Timestamp::now();
    }
    status.state = state;
    status.message = message;
}

fn fail(run: &mut Run, message: String) {
    let back_off = Duration::from_secs(1 << run.status.attempts.min(6)).min(MAX_BACK_OFF);
    set_state(&mut run.status, State::Failed, Some(message));
    run.begun = None;
    run.next = Instant::now() + back_off;
}

/// sd_notify(3): the first status is out.
fn notify_ready() {
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Ok(sender) = UnixDatagram::unbound()
    {
        // Without a listener nobody waits for it.
        let _ = sender.send_to(b"READY=1", Path::new(&socket));
    }
}
