//! The daemon: reads the values once, runs the steps, shows how it goes, waits for `set` and `retry`.
//!
//! The session with the console runs beside it, on a thread of its own; here its steps are only shown.
//!
//! It never ends by itself and never gives up: a step that fails is tried again, ever more seldom; a value that is
//! wrong waits for another.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;
use jiff::Timestamp;
use protocol::link::Body;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::files::Machine;
use crate::report::Report;
use crate::screen::Screen;
use crate::session::{Session, Wanted};
use crate::settings::{self, Parsed, Problem};
use crate::source;
use crate::status::{Overall, State, Status, StepStatus, VERSION, overall};
use crate::steps::{Apply, Name, Progress, STEPS, Step, addresses};
use crate::store::{Entry, Journal, Store, Values};

/// How long a step may wait for the machine before it counts as failed; it is asked again all the same.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often a waiting step is asked.
const POLL: Duration = Duration::from_millis(500);
/// The longest time between two tries of a step that fails.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// How often addresses and screen are looked after while nothing happens.
const IDLE: Duration = Duration::from_secs(10);
/// What is remembered for the console while the disk takes nothing; the newest.
const MAX_UNTOLD: usize = 100;
/// The property that stands for the OVF environment as a whole.
const DOCUMENT: &str = "ovf-environment";

type MachineStep = fn(&Machine, &settings::Settings, bool) -> Result<Progress>;

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
    let (sender, wakes) = mpsc::channel();
    listen(sender.clone())?;
    let session = Session::begin(machine, move || {
        // A daemon that has ended needs no waking.
        let _ = sender.send(Wake::Session);
    })?;
    let mut daemon = Daemon::begin(machine, session, screens)?;
    loop {
        let wait = daemon.advance()?;
        match wakes.recv_timeout(wait) {
            Ok(Wake::Signal(SIGHUP)) => daemon.reload()?,
            Ok(Wake::Signal(SIGUSR1)) => daemon.retry(),
            Ok(Wake::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Ok(Wake::Session) | Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Why the daemon looks up.
enum Wake {
    Signal(i32),
    /// The session is further than it was.
    Session,
}

fn listen(sender: Sender<Wake>) -> Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGUSR1, SIGINT, SIGTERM])?;
    std::thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(Wake::Signal(signal))));
    Ok(())
}

struct Daemon<'a> {
    machine: &'a Machine,
    session: Session,
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
    report: Report,
    /// What the disk did not take yet.
    untold: Vec<Body>,
    /// How often the machine was paired, as far as `report` knows.
    pairings: u32,
}

impl Daemon<'_> {
    fn begin(machine: &Machine, session: Session, screens: Vec<PathBuf>) -> Result<Daemon<'_>> {
        let store = Store::open(machine)?;
        let mut notes = Vec::new();
        let journal = store.journal(&mut notes)?;
        let mut daemon = Daemon {
            machine,
            session,
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
            report: Report::default(),
            untold: Vec::new(),
            pairings: 0,
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
            let is_sessions = matches!(step.apply, Apply::Console(_));
            if run.is_some_and(|run| is_sessions || run.digest == digest && run.status.problems == problems) {
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
            let Apply::Machine(apply) = step.apply else { continue };
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
            self.run_step(step, apply, begins)?;
            self.publish(true)?;
        }
        self.publish(true)?;
        let own = STEPS.iter().filter(|step| matches!(step.apply, Apply::Machine(_)));
        let next = own
            .filter_map(|step| self.runs.get(&step.name))
            .filter(|run| !matches!(run.status.state, State::Done | State::Invalid))
            .map(|run| run.next)
            .min();
        Ok(next.map_or(IDLE, |next| next.saturating_duration_since(Instant::now()).min(IDLE)))
    }

    fn run_step(&mut self, step: &Step, apply: MachineStep, begins: bool) -> Result<()> {
        let run = self.runs.get_mut(&step.name).expect("`parse` makes one for each step");
        let finished_before =
            self.journal.steps.get(&step.name).is_some_and(|entry| entry.digest == run.digest);
        // Programs run once for each try, not each time that a waiting step is asked.
        match apply(self.machine, &self.parsed.settings, begins && !finished_before) {
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
            Ok(Progress::Idle(message)) => set_state(&mut run.status, State::Waiting, Some(message)),
            Ok(Progress::Wrong(problem)) => {
                run.status.problems = vec![problem];
                set_state(&mut run.status, State::Invalid, None);
            }
            Ok(Progress::Failed(message)) => fail(run, message),
            Err(error) => fail(run, format!("{error:#}")),
        }
        Ok(())
    }

    /// Says to the session what is wanted of it, and takes over how far it is.
    fn look_at_session(&mut self) {
        let is_done = |name| self.runs.get(&name).is_some_and(|run| run.status.state == State::Done);
        // Without a network every check would only say so again.
        let is_ready = [Name::Network, Name::Proxy, Name::Ca].into_iter().all(is_done);
        self.session.want(Wanted::of(&self.parsed).filter(|_| is_ready));
        let view = self.session.view();
        for step in STEPS {
            let Apply::Console(progress) = step.apply else { continue };
            let status = &mut self.runs.get_mut(&step.name).expect("`parse` makes one for each step").status;
            let (state, message) = match progress(&view).clone() {
                Progress::Done(message) => (State::Done, message),
                Progress::Waiting(message) => (State::Running, Some(message)),
                Progress::Idle(message) => (State::Waiting, Some(message).filter(|text| !text.is_empty())),
                Progress::Failed(message) => (State::Failed, Some(message)),
                Progress::Wrong(problem) => {
                    status.problems = vec![problem];
                    (State::Invalid, None)
                }
            };
            if state != State::Invalid {
                status.problems.clear();
            }
            status.attempts = view.attempts;
            set_state(status, state, message);
        }
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
        self.session.retry();
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
        // First: what came of values of before is not to be told as what comes of these.
        self.look_at_session();
        let steps: Vec<_> =
            STEPS.iter().filter_map(|step| self.runs.get(&step.name)).map(|run| run.status.clone()).collect();
        let state = overall(&steps);
        let kept = match self.untold.len() {
            0 => None,
            count => Some(format!(
                "{count} of the things that the console is to be told are not on disk: it takes nothing. Look whether it is full."
            )),
        };
        let status = Status {
            version: VERSION,
            state,
            steps,
            missing: self.parsed.missing.iter().map(|key| (*key).into()).collect(),
            notes: self.notes.iter().chain(&self.parsed.notes).chain(&kept).cloned().collect(),
            settings: settings::shown(&self.values.effective(), &self.parsed),
            addresses: if with_addresses { addresses()? } else { Vec::new() },
            source: self.source.into(),
            revision: self.values.revision,
            settled: state != Overall::Configuring,
        };
        if self.published.as_ref() != Some(&status) {
            status.write(self.machine)?;
        }
        let pairings = self.session.view().pairings;
        let paired = std::mem::replace(&mut self.pairings, pairings) != pairings;
        self.untold.extend(self.report.entries(&status, paired));
        self.untold = self.session.tell(std::mem::take(&mut self.untold));
        let excess = self.untold.len().saturating_sub(MAX_UNTOLD);
        self.untold.drain(..excess);
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
