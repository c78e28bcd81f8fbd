//! What this machine has with its console: preflight, pairing, the link. On a thread of its own, because all of it waits
//! for others.
//!
//! ```text
//! want ──> preflight ──> pair ──> link: heartbeats and entries up, commands down
//!              └───────────┴───────┴──> view, and the daemon is woken
//! ```

use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use link::{Applied, Bounds, Check, End, Facts, Failure, Kind, Link, Outcome, Route, Stage, State, Store};
use protocol::code::Code;
use protocol::link::{Body, Event, Heartbeat, Severity};
use protocol::pairing::Grant;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::files::Machine;
use crate::gateway::Gateway;
use crate::metrics;
use crate::properties;
use crate::settings::{Parsed, Problem};
use crate::steps::{Progress, addresses, no_proxy};

const FOLDER: &str = "/var/lib/gatewright/link";
/// Of the virtual machine, as its firmware has it (SMBIOS, type 1).
const UUID: &str = "/sys/class/dmi/id/product_uuid";
const SOFTWARE: &str = concat!("gatewright-firstboot ", env!("CARGO_PKG_VERSION"));
/// The longest time between two tries to pair.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);

/// What is to be paired with, and how it is reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    route: Route,
    /// A machine that is paired needs none: it is dead.
    code: Option<Code>,
}

impl Wanted {
    /// Nothing where a value is missing or wrong without which nothing can be done.
    pub(crate) fn of(parsed: &Parsed) -> Option<Wanted> {
        let settings = &parsed.settings;
        settings.gateway_name.as_ref()?;
        Some(Wanted { route: route(parsed)?, code: settings.pairing_code.clone() })
    }
}

/// The way to the console; nothing where its address is missing or wrong.
pub(crate) fn route(parsed: &Parsed) -> Option<Route> {
    let settings = &parsed.settings;
    let proxy = settings
        .proxy
        .as_ref()
        .map(|proxy| link::Proxy { url: proxy.https.clone(), no_proxy: no_proxy(proxy, settings) });
    Some(Route {
        origin: settings.console_endpoint.as_deref()?.parse().ok()?,
        proxy,
        proxy_ca: settings.proxy_ca.iter().map(|der| der.clone().into()).collect(),
    })
}

/// How far it is, for the steps that show it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(crate) preflight: Progress,
    pub(crate) pair: Progress,
    pub(crate) gateway: Progress,
    /// Tries with what is wanted now.
    pub(crate) attempts: u32,
    /// How often it was paired: each time the console forgets the conditions of before.
    pub(crate) pairings: u32,
    /// Of which wish it is.
    turn: u64,
}

impl View {
    fn idle() -> View {
        let idle = || Progress::Idle(String::new());
        View { preflight: idle(), pair: idle(), gateway: idle(), attempts: 0, pairings: 0, turn: 0 }
    }

    /// As it is when a wish has come that nothing was done about yet.
    fn begun(self, wish: &Wish) -> View {
        let mut begun =
            View { gateway: self.gateway, pairings: self.pairings, turn: wish.turn, ..View::idle() };
        if wish.wanted.is_some() {
            begun.pair = Progress::Waiting("begins".into());
        }
        begun
    }
}

/// What is wanted, and how often something else was wanted before.
#[derive(Clone, Debug, Default)]
struct Wish {
    turn: u64,
    wanted: Option<Wanted>,
}

/// The daemon's end.
#[derive(Debug)]
pub(crate) struct Session {
    wish: watch::Sender<Wish>,
    shared: Arc<Shared>,
}

struct Shared {
    view: Mutex<View>,
    store: Store,
    retry: Notify,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("view", &self.view).finish_non_exhaustive()
    }
}

impl Session {
    /// Begins it; `wake` is called whenever the view has changed.
    pub(crate) fn begin(machine: &Machine, wake: impl Fn() + Send + Sync + 'static) -> Result<Session> {
        let store = Store::open(&machine.path(FOLDER), Bounds::default())?;
        let gateway = Gateway::open(machine)?;
        let shared = Arc::new(Shared {
            view: Mutex::new(View::idle()),
            store,
            retry: Notify::new(),
            wake: Box::new(wake),
        });
        let (wish, wishes) = watch::channel(Wish::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let worker = Worker { shared: Arc::clone(&shared), gateway, machine: machine.clone() };
        std::thread::Builder::new()
            .name("session".into())
            .spawn(move || runtime.block_on(worker.run(wishes)))
            .context("Cannot start the session's thread")?;
        Ok(Session { wish, shared })
    }

    /// What is wanted from now on; saying it again changes nothing.
    pub(crate) fn want(&self, wanted: Option<Wanted>) {
        self.wish.send_if_modified(|now| {
            let changed = now.wanted != wanted;
            if changed {
                *now = Wish { turn: now.turn + 1, wanted };
            }
            changed
        });
    }

    /// Ends a wait for the next try.
    pub(crate) fn retry(&self) {
        self.shared.retry.notify_one();
    }

    pub(crate) fn view(&self) -> View {
        let view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let wish = self.wish.borrow();
        // What came of an earlier wish is no answer to this one: `set` would tell it as one.
        if view.turn == wish.turn { view } else { view.begun(&wish) }
    }

    /// Has the console told, as soon as there is one. Gives back what the disk does not take.
    pub(crate) fn tell(&self, entries: Vec<Body>) -> Vec<Body> {
        let mut entries = entries.into_iter();
        while let Some(entry) = entries.next() {
            if self.shared.store.spool().push(entry.clone()).is_err() {
                return [entry].into_iter().chain(entries).collect();
            }
        }
        Vec::new()
    }
}

struct Worker {
    shared: Arc<Shared>,
    gateway: Gateway,
    machine: Machine,
}

impl Worker {
    async fn run(self, mut wishes: watch::Receiver<Wish>) {
        loop {
            let wish = wishes.borrow_and_update().clone();
            tokio::select! {
                changed = wishes.changed() => if changed.is_err() { return },
                () = self.serve(wish) => {}
            }
        }
    }

    /// Until something else is wanted.
    async fn serve(&self, wish: Wish) {
        let gateway = self.gateway.progress();
        self.show(|view| *view = View { gateway, ..view.clone() }.begun(&wish));
        let Some(wanted) = wish.wanted else { return pending().await };
        loop {
            self.show(|view| view.attempts += 1);
            let Err(failure) = self.try_once(&wanted).await;
            let progress = refused(&failure);
            self.show(|view| view.pair = progress);
            let attempts = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner).attempts;
            let wait = match failure.stage {
                // Nothing of the network's that passes: somebody mends it elsewhere.
                Stage::Intercepted | Stage::Origin | Stage::Version => MAX_BACK_OFF,
                _ => Duration::from_secs(1 << attempts.min(6)).min(MAX_BACK_OFF),
            };
            let wait = wait.max(failure.retry_after.unwrap_or_default());
            tokio::select! {
                () = sleep(wait), if !failure.needs_somebody() => {}
                () = self.shared.retry.notified() => {}
            }
        }
    }

    /// Preflight, pairing and link, to the first failure.
    async fn try_once(&self, wanted: &Wanted) -> Result<std::convert::Infallible, Failure> {
        let store = &self.shared.store;
        let origin = wanted.route.origin();
        let granted = store.grant()?.is_some_and(|grant| grant.origin == origin);
        if wanted.code.is_none() && !granted {
            self.show(|view| view.pair = Progress::Idle(String::new()));
            return pending().await;
        }
        let begun =
            |view: &mut View| view.preflight = Progress::Waiting(format!("looks at the way to {origin}"));
        self.show(begun);
        let checks = link::preflight(&wanted.route, store).await;
        let failed = checks.iter().find(|check| check.outcome == Outcome::Failed).map(sentence);
        let preflight =
            failed.clone().map_or_else(|| Progress::Done(Some(summary(&checks))), Progress::Failed);
        self.show(|view| view.preflight = preflight);
        let refusal = match &wanted.code {
            Some(code) if !store.is_paired_by(code, &origin)? => self.pair(wanted, code).await.err(),
            _ => None,
        };
        match refusal {
            // A code that is no good is no reason to leave the console that this machine is paired with.
            Some(failure) if !granted || !failure.needs_somebody() => Err(failure),
            refusal => self.link(wanted, refusal).await,
        }
    }

    async fn pair(&self, wanted: &Wanted, code: &Code) -> Result<(), Failure> {
        self.show(|view| view.pair = Progress::Waiting("pairs with the console".into()));
        let facts = Facts {
            vm_uuid: self.machine.read(UUID).ok().flatten().map(|uuid| uuid.trim().into()),
            hostname: nix::unistd::gethostname()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            addresses: own_addresses(),
            software: SOFTWARE.into(),
        };
        let begun = Instant::now();
        let mut number = String::new();
        link::pair(&wanted.route, &self.shared.store, code, &facts, |progress| match progress {
            link::Progress::Number(digits) => number = digits,
            link::Progress::Waiting => {
                let message =
                    format!("Approve this machine in the console, which must show the number {number}.");
                self.show(|view| view.pair = Progress::Idle(message));
            }
            link::Progress::Busy(wait) => {
                let message = format!("The console asks to wait for {} s.", wait.as_secs());
                self.show(|view| view.pair = Progress::Idle(message));
            }
            // Told by the preflight, and later by the link.
            link::Progress::Clock(_) => {}
        })
        .await?;
        let message =
            format!("Paired with {} in {:.2} s.", wanted.route.origin(), begun.elapsed().as_secs_f64());
        let event =
            Event { severity: Severity::Info, reason: "Paired".into(), message, source: "firstboot".into() };
        // Where the disk does not take it: the console has noted the same.
        let _ = self.shared.store.spool().push(Body::Event(event));
        self.show(|view| view.pairings += 1);
        Ok(())
    }

    /// Holds the link. `refusal`: why another code was not taken.
    async fn link(
        &self,
        wanted: &Wanted,
        refusal: Option<Failure>,
    ) -> Result<std::convert::Infallible, Failure> {
        let link = Link::new(wanted.route.clone(), self.shared.store.clone())?;
        let Grant { name, gateway: id, .. } = link.grant();
        self.gateway.keep_only(Some(id)).map_err(disk)?;
        let progress = self.gateway.progress();
        self.show(|view| view.gateway = progress);
        let refusal = refusal.map(|failure| format!("Another pairing code was not taken: {failure}"));
        let origin = wanted.route.origin();
        let mut status = link.status();
        let watching = async {
            loop {
                let notes = [self.shared.store.clock().off(), refusal.clone()];
                let progress = linked(&status.borrow_and_update(), &origin, &name, notes);
                self.show(|view| {
                    // The way is good, whatever an earlier look said.
                    if matches!((&progress, &view.preflight), (Progress::Done(_), Progress::Failed(_))) {
                        view.preflight = Progress::Done(None);
                    }
                    view.pair = progress;
                });
                if status.changed().await.is_err() {
                    return pending::<()>().await;
                }
            }
        };
        let handler = async |order: link::Order| {
            let (outcome, message) = self.gateway.apply(id, &order.command);
            let progress = self.gateway.progress();
            self.show(|view| view.gateway = progress);
            Applied { outcome, message }
        };
        let retrying = async {
            loop {
                self.shared.retry.notified().await;
                link.retry_now();
            }
        };
        let end = tokio::select! {
            end = link.run(heartbeat, handler, CancellationToken::new()) => end,
            () = watching => End::Cancelled,
            () = retrying => End::Cancelled,
        };
        match end {
            End::Revoked(failure) => {
                // First what is secret: as long as that cannot be, the rest is tried again.
                self.gateway.keep_only(None).map_err(disk)?;
                let progress = self.gateway.progress();
                self.show(|view| view.gateway = progress);
                self.shared.store.forget()?;
                Err(failure)
            }
            End::Disk(failure) => Err(failure),
            End::Cancelled => pending().await,
        }
    }

    fn show(&self, change: impl FnOnce(&mut View)) {
        let changed = {
            let mut view = self.shared.view.lock().unwrap_or_else(PoisonError::into_inner);
            let before = view.clone();
            change(&mut view);
            *view != before
        };
        if changed {
            (self.shared.wake)();
        }
    }
}

/// What the pair step says of a failure: a wrong value where that is what it is.
fn refused(failure: &Failure) -> Progress {
    let wrong = |key: &str, expected: &str| {
        let example = properties::find(key).map_or("", |property| property.example);
        Progress::Wrong(Problem {
            property: key.into(),
            given: None,
            expected: expected.into(),
            message: format!("{} {}.", failure.message, capital(&failure.hint)),
            hint: format!("sudo gatewright-firstboot set {key}='{example}'"),
        })
    };
    match failure.stage {
        Stage::Code | Stage::Refused | Stage::Revoked => wrong("pairing-code", "a new code of the console's"),
        Stage::Origin => wrong("console-endpoint", "an address that the console knows itself by"),
        Stage::Intercepted => wrong("proxy-ca", "the CA of the proxy that ends TLS, if it is meant to"),
        _ => Progress::Failed(format!("{} {}.", failure.message, capital(&failure.hint))),
    }
}

fn disk(error: anyhow::Error) -> Failure {
    let (message, hint) =
        (format!("{error:#}."), "look whether the disk is full or was mounted read-only".into());
    Failure { stage: Stage::Disk, message, hint, retry_after: None }
}

/// What the pair step says of a link; `notes` are sentences.
fn linked(
    status: &link::Status,
    origin: &str,
    name: &str,
    notes: impl IntoIterator<Item = Option<String>>,
) -> Progress {
    match (&status.state, &status.trouble) {
        (State::Connected, _) => {}
        // That it tries again does not mend it. A stream that is refused is no loss: requests take its place.
        (_, Some((_, failure))) if failure.stage != Stage::Upgrade => {
            return Progress::Failed(format!(
                "Paired, but there is no connection to {origin}: {} {}.",
                failure.message,
                capital(&failure.hint)
            ));
        }
        _ if status.transport.is_none() => return Progress::Waiting(format!("connects to {origin}")),
        _ => {}
    }
    let way = status.transport.as_ref().map_or_else(String::new, |transport| {
        let kind = match transport.kind {
            Kind::Stream => "",
            Kind::Polling => ", polling",
        };
        let proxy = transport.proxy.as_ref().map(|proxy| format!(", by {proxy}")).unwrap_or_default();
        format!("{kind}{proxy}")
    });
    let renewal = status.renewal.as_ref();
    let renewal = renewal.map(|failure| format!("The certificate cannot be renewed: {failure}"));
    let notes = notes.into_iter().chain([renewal]).flatten();
    Progress::Done(Some(
        notes.fold(format!("as {name}{way}"), |text, note| {
            format!("{}. {}", text, note.trim_end_matches('.'))
        }),
    ))
}

fn sentence(check: &Check) -> String {
    format!("{}: {} {}.", check.name, check.message, capital(&check.hint))
}

/// Of checks that are well.
fn summary(checks: &[Check]) -> String {
    let warning = checks.iter().find(|check| check.outcome == Outcome::Warning);
    match warning {
        Some(check) => check.message.clone(),
        None => {
            let passed: Vec<_> = checks
                .iter()
                .filter(|check| check.outcome == Outcome::Ok)
                .map(|check| check.name.as_str())
                .collect();
            passed.join(", ")
        }
    }
}

/// A hint as a sentence.
fn capital(hint: &str) -> String {
    let mut chars = hint.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

fn own_addresses() -> Vec<String> {
    addresses().unwrap_or_default().iter().map(|address| address.address.to_string()).collect()
}

fn heartbeat() -> Heartbeat {
    Heartbeat {
        time: Timestamp::now(),
        state: "pending".into(),
        software: SOFTWARE.into(),
        uptime_seconds: metrics::uptime_seconds(),
        addresses: own_addresses(),
        metrics: metrics::read(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse;

    #[test]
    fn what_is_said_of_a_link() {
        let trouble = |stage: Stage| {
            let (message, hint) = ("It is away.".into(), "wait".into());
            Some((Timestamp::now(), Failure { stage, message, hint, retry_after: None }))
        };
        let transport = Some(link::Transport { kind: Kind::Polling, proxy: None, signed: false });
        let waiting = State::Waiting { until: Timestamp::now() };
        let table = [
            (State::Idle, None, None, "waiting"),
            (State::Connecting, None, None, "waiting"),
            (State::Connecting, None, trouble(Stage::Connect), "failed"),
            (waiting, None, trouble(Stage::Connect), "failed"),
            (State::Connected, transport.clone(), trouble(Stage::Connect), "done"),
            (State::Connecting, transport.clone(), trouble(Stage::Connect), "failed"),
            (waiting, transport.clone(), trouble(Stage::Upgrade), "done"),
            (State::Connecting, transport.clone(), None, "done"),
        ];
        for (state, transport, trouble, expected) in table {
            let status = link::Status { state, transport, trouble, ..link::Status::default() };
            let said = match linked(&status, "https://c.test", "edge", []) {
                Progress::Waiting(_) => "waiting",
                Progress::Failed(message) if message.contains("It is away. Wait.") => "failed",
                Progress::Done(Some(message)) if message == "as edge, polling" => "done",
                other => panic!("{status:?}: {other:?}"),
            };
            assert_eq!(said, expected, "{status:?}");
        }
        let status = link::Status {
            state: State::Connected,
            renewal: trouble(Stage::Http).map(|(_, failure)| failure),
            ..link::Status::default()
        };
        let said = linked(&status, "https://c.test", "edge", [Some("The clock is slow.".into()), None]);
        let expected = "as edge. The clock is slow. The certificate cannot be renewed: It is away";
        assert_eq!(said, Progress::Done(Some(expected.into())));
    }

    /// `set` tells what comes of its values: of those before something may have been wrong.
    #[test]
    fn what_came_of_an_earlier_wish_is_no_answer() {
        let raw = [("console-endpoint", "https://192.0.2.9"), ("gateway-name", "edge")];
        let parsed = parse(&raw.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect());
        let wanted = Wanted::of(&parsed);
        assert!(wanted.is_some());
        let before = View { pair: Progress::Failed("It is away.".into()), attempts: 3, ..View::idle() };
        let view = before.clone().begun(&Wish { turn: 1, wanted });
        assert_eq!((&view.pair, view.attempts), (&Progress::Waiting("begins".into()), 0));
        assert_eq!(before.begun(&Wish { turn: 2, wanted: None }).pair, Progress::Idle(String::new()));
    }

    #[test]
    fn the_link_goes_by_the_proxy_rules_of_the_whole_machine() {
        let raw = [
            ("console-endpoint", "https://192.0.2.9"),
            ("gateway-name", "edge"),
            ("http-proxy", "http://192.0.2.8:3128"),
            ("https-proxy", "http://192.0.2.8:3128"),
            ("no-proxy", ".example.com"),
            ("ip-address", "192.0.2.10/24"),
            ("ip-gateway", "192.0.2.1"),
            ("dns-servers", "192.0.2.53"),
        ];
        let parsed = parse(&raw.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect());
        assert_eq!(parsed.problems, []);
        let rules = route(&parsed).unwrap().proxy.unwrap().no_proxy;
        for rule in [".example.com", "192.0.2.0/24", "169.254.169.254", "192.168.0.0/16", ".svc"] {
            assert!(rules.iter().any(|one| one == rule), "{rule} is not in {rules:?}");
        }
        // Without a code: a machine that is paired needs none.
        assert_eq!(Wanted::of(&parsed).unwrap().code, None);
    }
}
