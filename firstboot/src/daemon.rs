//! The state machine: which step is due, what became of it, and what people are told.
//!
//! It has no threads and no clock of its own, so that tests can drive it: [`Daemon::tick`] does what is due and says
//! when it wants to be called again.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::files::{self, FileError};
use crate::settings::{self, Parsed};
use crate::source;
use crate::status::{Address, Problem, Source, State, Status, StepState, StepStatus};
use crate::steps::{Context, File, Kind, STEPS, Step, Trigger, Trouble, failed};
use crate::store::{self, Journal, Kept, Paths, Record};
use crate::system::System;

/// How long a step may wait for the world before that is a failure.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the first boot waits for a CD-ROM drive to appear, where drives can appear.
const DRIVES: Duration = Duration::from_secs(5);
/// How long a drive that appears late is still read.
const LATE_DRIVES: Duration = Duration::from_secs(60);
/// What pairing needs.
const REQUIRED_LATER: [&str; 3] = ["gateway-name", "console-endpoint", "pairing-code"];
/// Problems with these are the settings step's own: no step of this machine needs them yet.
const OWN: [&str; 5] = ["console-endpoint", "pairing-code", "pod-cidr", "service-cidr", "ovf-environment"];

/// The whole state.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    paths: &'a Paths,
    system: &'a dyn System,
    started: Instant,
    kept: Kept,
    journal: Journal,
    parsed: Parsed,
    source: Source,
    /// From reading files and documents; the parser has its own.
    notes: Vec<String>,
    broken: Vec<Problem>,
    /// Why the values could not be kept, and when that is tried again.
    unsaved: Option<(Problem, Instant)>,
    settings: StepStatus,
    progress: Vec<Progress>,
    drives: usize,
    published: Option<Status>,
}

/// How far a step is.
#[derive(Debug)]
struct Progress {
    step: &'static Step,
    status: StepStatus,
    /// When it is looked at again; nothing where it needs nothing.
    due: Option<Instant>,
    /// When it is done again, not only looked at.
    attempt: Instant,
    /// Since when it waits for the world.
    waiting: Option<Instant>,
    /// What the system follows already, as far as this process knows.
    activated: Option<String>,
    /// People asked for it to be done again.
    forced: bool,
}

impl<'a> Daemon<'a> {
    /// Reads what is kept and what the hypervisor says.
    pub(crate) fn start(
        paths: &'a Paths,
        system: &'a dyn System,
        now: Instant,
    ) -> Result<Daemon<'a>, FileError> {
        let mut notes = Vec::new();
        let lock = paths.lock()?;
        let journal = store::load(&paths.journal(), &mut notes)?;
        let kept = store::load(&paths.settings(), &mut notes)?;
        drop(lock);
        let progress = STEPS
            .iter()
            .map(|step| Progress {
                step,
                status: pending(step.name),
                due: Some(now),
                attempt: now,
                waiting: None,
                activated: None,
                forced: false,
            })
            .collect();
        let drives = source::cdroms(paths).len();
        let mut daemon = Daemon {
            paths,
            system,
            started: now,
            kept,
            journal,
            parsed: Parsed::default(),
            source: Source::None,
            notes,
            broken: Vec::new(),
            unsaved: None,
            settings: pending("settings"),
            progress,
            drives,
            published: None,
        };
        daemon.take(source::read(paths, system), now);
        daemon.reparse(now);
        Ok(daemon)
    }

    /// Takes what a document says.
    fn take(&mut self, found: source::Found, now: Instant) {
        self.broken = found.broken;
        let Some((source, environment)) = found.document else {
            self.source = if self.kept.source.is_some() { Source::Kept } else { Source::None };
            return;
        };
        self.source = source;
        // Under the lock, or what `set` writes at this moment is lost.
        let lock = self.paths.lock();
        if let Ok(kept) = store::load(&self.paths.settings(), &mut self.notes) {
            self.kept = kept;
        }
        let unknown = self.kept.take(source, environment.properties);
        if !unknown.is_empty() {
            self.notes.push(format!("Ignored unknown OVF properties: {}.", unknown.join(", ")));
        }
        self.keep(lock.map(|_| ()), now);
    }

    /// Writes the values down. Where that fails (a full disk), they are used all the same, and it is tried again.
    fn keep(&mut self, ready: Result<(), FileError>, now: Instant) {
        let saved = ready.and_then(|()| store::save(&self.paths.settings(), &self.kept, 0o600));
        self.unsaved = saved.err().map(|error| {
            let message = format!("The values are not kept yet. {}.", chain(&error));
            (failed("ovf-environment", message).problem, now + Duration::from_secs(10))
        });
    }

    /// The values changed: reads them, and does what depends on them.
    pub(crate) fn reload(&mut self, now: Instant) -> Result<(), FileError> {
        let lock = self.paths.lock()?;
        self.kept = store::load(&self.paths.settings(), &mut self.notes)?;
        drop(lock);
        self.reparse(now);
        Ok(())
    }

    /// Does all again that has not succeeded, without waiting for its time.
    pub(crate) fn retry(&mut self, now: Instant) {
        for progress in &mut self.progress {
            if !matches!(progress.status.state, StepState::Done | StepState::Invalid) {
                progress.restart(now);
                progress.forced = true;
            }
        }
    }

    fn reparse(&mut self, now: Instant) {
        self.parsed = settings::parse(&self.kept.values());
        self.settings.attempts += 1;
        self.judge(now);
        for progress in &mut self.progress {
            progress.restart(now);
        }
    }

    /// What became of the settings step.
    fn judge(&mut self, now: Instant) {
        // Values that people gave here stand in for a document that cannot be read.
        let is_helpless = self.kept.overrides.0.is_empty() && self.source == Source::None;
        let mut problems = if is_helpless { self.broken.clone() } else { Vec::new() };
        problems
            .extend(self.parsed.problems.iter().filter(|it| OWN.contains(&it.property.as_str())).cloned());
        let message = match self.source {
            Source::Guestinfo => "The values come from guestinfo.",
            Source::Cdrom => "The values come from the CD-ROM.",
            Source::Kept => "The values are those of an earlier boot.",
            Source::None if self.kept.overrides.0.is_empty() => {
                "Nobody gave any values: these are the defaults."
            }
            Source::None => "The values were given here.",
        };
        let state = if !problems.is_empty() {
            StepState::Invalid
        } else if let Some((problem, _)) = &self.unsaved {
            problems.push(problem.clone());
            StepState::Failed
        } else if self.awaits_drives(now) {
            StepState::Running
        } else {
            StepState::Done
        };
        self.settings.message = Some(match state {
            StepState::Running => "Waiting for a CD-ROM with the OVF environment.".into(),
            StepState::Failed => problems[0].message.clone(),
            _ => message.into(),
        });
        self.settings.problems = problems;
        self.settings.enter(state);
    }

    /// Whether a drive with the values may still appear: only where udev runs, and where nobody gave values before.
    fn awaits_drives(&self, now: Instant) -> bool {
        self.source == Source::None
            && self.kept.overrides.0.is_empty()
            && self.broken.is_empty()
            && now.saturating_duration_since(self.started) < DRIVES
            && self.paths.of("/run/udev/control").exists()
    }

    /// Looks for drives that appeared after the start.
    fn watch_drives(&mut self, now: Instant) {
        let drives = source::cdroms(self.paths).len();
        if drives > self.drives {
            let found = source::read_cdroms(self.paths);
            if found.document.is_some() || !found.broken.is_empty() {
                self.take(found, now);
                self.reparse(now);
            }
        }
        self.drives = drives;
    }

    /// Does what is due, tells `publish` of every change, and says when it wants to be called again.
    pub(crate) fn tick(&mut self, now: Instant, publish: &mut dyn FnMut(&Status)) -> Option<Instant> {
        let is_young = now.saturating_duration_since(self.started) < LATE_DRIVES;
        let watches = is_young && matches!(self.source, Source::None | Source::Kept);
        if watches {
            self.watch_drives(now);
        }
        if self.unsaved.as_ref().is_some_and(|(_, due)| *due <= now) {
            self.settings.attempts += 1;
            let lock = self.paths.lock();
            self.keep(lock.map(|_| ()), now);
            self.judge(now);
        }
        if self.settings.state == StepState::Running {
            if self.awaits_drives(now) {
                self.publish(publish);
                return Some(now + Duration::from_millis(100));
            }
            self.reparse(now);
        }
        self.publish(publish);
        for i in 0..self.progress.len() {
            if self.progress[i].due.is_some_and(|due| due <= now) {
                self.run(i, now, publish);
                self.publish(publish);
            }
        }
        let watch = watches.then(|| now + Duration::from_secs(1));
        let keep = self.unsaved.as_ref().map(|(_, due)| *due);
        self.progress.iter().filter_map(|progress| progress.due).chain(watch).chain(keep).min()
    }

    fn run(&mut self, i: usize, now: Instant, publish: &mut dyn FnMut(&Status)) {
        let step = self.progress[i].step;
        let problems: Vec<Problem> = self
            .parsed
            .problems
            .iter()
            .filter(|problem| step.properties.contains(&problem.property.as_str()))
            .cloned()
            .collect();
        let progress = &mut self.progress[i];
        if !problems.is_empty() {
            progress.due = None;
            progress.status.message = None;
            progress.status.problems = problems;
            progress.status.enter(StepState::Invalid);
            return;
        }
        let is_attempt = progress.waiting.is_none() || progress.attempt <= now;
        if is_attempt {
            progress.status.attempts += 1;
        }
        if progress.status.state == StepState::Pending {
            progress.status.enter(StepState::Running);
            self.publish(publish);
        }
        let context = Context { paths: self.paths, system: self.system, settings: &self.parsed.settings };
        let record = self.journal.0.get(step.name);
        let result = self.progress[i].perform(&context, record, is_attempt);
        let result = result.and_then(|(message, digest)| {
            let record = record.filter(|record| record.digest == digest).cloned();
            let is_recorded = record.is_some();
            let record = record.unwrap_or_else(|| Record { digest, since: timestamp() });
            let since = record.since.clone();
            if !is_recorded {
                self.journal.0.insert(step.name.into(), record);
                store::save(&self.paths.journal(), &self.journal, 0o600)
                    .map_err(|e| failed(step.properties[0], chain(&e)))?;
            }
            Ok((message, since))
        });
        let progress = &mut self.progress[i];
        match result {
            Ok((message, since)) => {
                progress.due = None;
                progress.waiting = None;
                progress.status.message = Some(message);
                progress.status.problems.clear();
                progress.status.state = StepState::Done;
                progress.status.since = since;
            }
            Err(trouble) => progress.blame(trouble, is_attempt, now),
        }
    }

    fn publish(&mut self, publish: &mut dyn FnMut(&Status)) {
        let status = self.status();
        if self.published.as_ref() != Some(&status) {
            publish(&status);
            self.published = Some(status);
        }
    }

    /// What is now.
    pub(crate) fn status(&self) -> Status {
        let steps: Vec<StepStatus> = [&self.settings]
            .into_iter()
            .chain(self.progress.iter().map(|progress| &progress.status))
            .cloned()
            .collect();
        let any = |state| steps.iter().any(|step| step.state == state);
        let state = if steps.iter().any(|step| !step.state.is_settled()) {
            State::Configuring
        } else if any(StepState::Invalid) {
            State::NeedsInput
        } else if any(StepState::Failed) {
            State::Retrying
        } else {
            State::Configured
        };
        let is_missing = |key: &&str| !self.parsed.shown.contains_key(*key);
        let mut notes = self.notes.clone();
        if self.settings.problems.is_empty() {
            notes.extend(self.broken.iter().map(|problem| problem.message.clone()));
        }
        notes.extend(self.parsed.notes.iter().cloned());
        let links = self.system.links().into_iter();
        Status {
            version: 1,
            state,
            steps,
            missing: REQUIRED_LATER.iter().filter(is_missing).map(ToString::to_string).collect(),
            notes,
            settings: self.parsed.shown.clone(),
            addresses: links
                .flat_map(|link| {
                    let address = move |it: &ipnet::Ipv4Net| Address {
                        interface: link.name.clone(),
                        address: it.to_string(),
                    };
                    link.addresses.iter().map(address).collect::<Vec<_>>()
                })
                .collect(),
            source: self.source,
        }
    }
}

impl Progress {
    /// Begins again, as after a change of the input.
    fn restart(&mut self, now: Instant) {
        self.due = Some(now);
        self.attempt = now;
        self.waiting = None;
        self.status.attempts = 0;
        self.status.message = None;
        self.status.problems.clear();
        self.status.enter(StepState::Pending);
    }

    /// Writes the files and makes the system follow them; gives the sentence of success and the digest to record.
    fn perform(
        &mut self,
        context: &Context<'_>,
        record: Option<&Record>,
        is_attempt: bool,
    ) -> Result<(String, String), Trouble> {
        let files = (self.step.files)(context)?;
        let digest = digest(&files);
        let mut changed = false;
        for file in files {
            let path = context.paths.of(&file.path);
            let result = match file.content {
                Some(content) => files::write(&path, content.as_bytes(), file.mode, file.owner),
                None => files::remove(&path),
            };
            changed |= result.map_err(|e| failed(self.step.properties[0], chain(&e)))?;
        }
        let was_unset = record.is_none() && (self.step.is_unset)(context.settings);
        let is_followed =
            self.activated.as_ref() == Some(&digest) || record.is_some_and(|it| it.digest == digest);
        let trigger = if self.forced || (is_attempt && self.status.attempts > 1) {
            Trigger::Retry
        } else if changed || !(is_followed || was_unset) {
            Trigger::Changed
        } else {
            Trigger::Look
        };
        self.forced = false;
        let result = (self.step.activate)(context, trigger);
        if result.as_ref().map_or_else(|trouble| trouble.kind == Kind::Waiting, |_| true) {
            self.activated = Some(digest.clone());
        } else if trigger != Trigger::Look {
            self.activated = None;
        }
        Ok((result?, digest))
    }

    fn blame(&mut self, trouble: Trouble, is_attempt: bool, now: Instant) {
        let back_off =
            Duration::from_secs(1 << self.status.attempts.clamp(1, 6)).min(Duration::from_secs(60));
        let was_failed = self.status.state == StepState::Failed;
        let is_failed = if trouble.kind == Kind::Failed {
            self.waiting = None;
            true
        } else {
            let since = *self.waiting.get_or_insert(now);
            was_failed || now.saturating_duration_since(since) >= PATIENCE
        };
        if is_failed && (is_attempt || !was_failed) {
            self.attempt = now + back_off;
        }
        // While it waits, looking is cheap; after a failure only now and then.
        let look = now + Duration::from_millis(if is_failed { 1000 } else { 200 });
        self.due = Some(match trouble.kind {
            Kind::Failed => self.attempt,
            Kind::Waiting | Kind::NotYet => look,
        });
        if !is_failed {
            self.attempt = now + PATIENCE + back_off;
        }
        self.status.message = Some(trouble.problem.message.clone());
        self.status.problems = if is_failed { vec![trouble.problem] } else { Vec::new() };
        if is_failed {
            self.status.enter(StepState::Failed);
        }
    }
}

impl StepStatus {
    fn enter(&mut self, state: StepState) {
        if self.state != state {
            self.state = state;
            self.since = timestamp();
        }
    }
}

fn pending(name: &str) -> StepStatus {
    StepStatus {
        name: name.into(),
        state: StepState::Pending,
        since: timestamp(),
        attempts: 0,
        message: None,
        problems: Vec::new(),
    }
}

/// Of everything that makes files the same.
fn digest(files: &[File]) -> String {
    let mut sha = Sha256::new();
    for file in files {
        sha.update(format!("{:?}\n", (&file.path, &file.content, file.mode, file.owner)));
    }
    sha.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The present second, RFC 3339.
fn timestamp() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// A log of the steps: one line for each change, for the journal of the system.
#[derive(Debug, Default)]
pub(crate) struct Log(BTreeMap<String, (StepState, Option<String>)>);

impl Log {
    pub(crate) fn write(&mut self, status: &Status, out: &mut dyn Write) {
        for step in &status.steps {
            let now = (step.state, step.message.clone());
            if step.state.is_settled() && self.0.get(&step.name) != Some(&now) {
                let messages: Vec<&str> = if step.state == StepState::Invalid {
                    step.problems.iter().map(|problem| problem.message.as_str()).collect()
                } else {
                    step.message.iter().map(String::as_str).collect()
                };
                // Nobody is left to tell where the log itself cannot be written.
                let _ = writeln!(out, "{}: {}: {}", step.name, step.state, messages.join(" "));
            }
            self.0.insert(step.name.clone(), now);
        }
    }
}
