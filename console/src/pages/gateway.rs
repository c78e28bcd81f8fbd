//! `/gateways/{id}`: one gateway, from its pairing code to what it does now.

use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::response::Response;
use gateway::{Action, State};
use jiff::Timestamp;
use protocol::link::Metrics;
use serde::Serialize;
use uuid::Uuid;

use super::form::Form;
use super::frame::{Noted, Page, Section};
use super::looks::{self, Look};
use super::visit::{Id, Query, Result, Visitor};
use super::{actions, deploy, gateways as list, notes, time};
use crate::auth::Role;
use crate::gateways::{self as rules, CommandView as Command, Gateway, Pairing};
use crate::machine::health::Status;
use crate::machine::{self, Waiting};
use crate::state::App;
use crate::store::gateways::AWAITING_PAIRING;
use crate::store::pairings::State as PairingState;
use crate::store::{conditions, events};

/// Events and commands on the page; the API has all.
const EVENTS: u32 = 100;
const COMMANDS: u32 = 20;

/// What every part of the page says of the gateway.
#[derive(Debug, Serialize)]
struct View {
    id: Uuid,
    name: String,
    state: Look,
    health: Look,
    reasons: Vec<String>,
    heard_at: Option<Timestamp>,
}

/// A line of a list of facts.
#[derive(Debug, Serialize)]
pub(super) struct Fact {
    pub(super) label: &'static str,
    pub(super) text: String,
    /// Instead of the text.
    pub(super) time: Option<Timestamp>,
    /// For eyes that compare letters.
    pub(super) mono: bool,
}

impl Fact {
    pub(super) fn new(label: &'static str, text: impl Into<String>) -> Fact {
        Fact { label, text: text.into(), time: None, mono: false }
    }

    pub(super) fn mono(label: &'static str, text: impl Into<String>) -> Fact {
        Fact { mono: true, ..Fact::new(label, text) }
    }

    fn at(label: &'static str, time: Timestamp) -> Fact {
        Fact { time: Some(time), ..Fact::new(label, "") }
    }
}

/// What the page says of a pairing.
#[derive(Debug, Serialize)]
struct PairingView {
    state: PairingState,
    /// Groups of four, for those who may see it.
    code: Vec<String>,
    approval: bool,
    expires_at: Timestamp,
    attempts: i64,
    attempts_left: i64,
    /// When and from where, in words.
    last_attempt: Option<String>,
    number: String,
    claim: Vec<Fact>,
    over: Over,
}

/// Why a code is over.
#[derive(Debug, Serialize)]
struct Over {
    title: &'static str,
    text: String,
}

#[derive(Debug, Serialize)]
struct Metric {
    label: &'static str,
    text: String,
    /// Of the whole, 0 to 1.
    share: f64,
}

#[derive(Debug, Serialize)]
struct EventView {
    look: Look,
    message: String,
    reason: String,
    source: String,
    time: Timestamp,
}

#[derive(Debug, Serialize)]
struct ConditionView {
    look: Look,
    label: String,
    message: String,
    reason: String,
    at: Timestamp,
}

#[derive(Debug, Serialize)]
struct CommandView {
    label: String,
    look: Look,
    message: String,
    actor: String,
    time: Timestamp,
}

#[derive(Debug, Serialize)]
struct Context {
    gateway: View,
    /// What the page is about: a page of another shape takes the place of this one.
    shape: &'static str,
    /// Whether its machine has no configuration and none is on its way,
    waits: bool,
    /// though one is stored.
    configured: bool,
    /// What was repaired of the one that was just saved.
    repaired: Vec<String>,
    pairing: Option<PairingView>,
    origin: String,
    installer: Option<deploy::Installer>,
    metrics: Vec<Metric>,
    events: Vec<EventView>,
    commands: Vec<CommandView>,
    conditions: Vec<ConditionView>,
    facts: Vec<Fact>,
    actions: Vec<actions::Offer>,
}

pub(super) async fn show(
    Extract(app): Extract<App>,
    Visitor(who): Visitor,
    Id(id): Id,
    Query(noted): Query<Noted>,
    headers: HeaderMap,
) -> Result<Response> {
    let mut gateway = rules::get(&app, id, who.role >= Role::Operator).await?;
    let awaiting = gateway.state == AWAITING_PAIRING;
    let commands = rules::commands(&app, id, None, COMMANDS).await?;
    let mut db = app.store.read().await?;
    let waiting = machine::waiting(&mut db, id).await?;
    let events = events::list(&mut db, id, None, EVENTS).await?;
    let conditions = conditions::list(&mut db, id).await?;
    drop(db);
    // A code for another machine that was not used is no matter of a gateway that runs.
    let matters = |pairing: &Pairing| {
        awaiting || matches!(pairing.state, PairingState::Pending | PairingState::Claimed)
    };
    let pairing = gateway.pairing.take().filter(matters).map(|pairing| view(&app, pairing, waiting));

    let unhealthy = gateway.health.status == Status::Unhealthy;
    let context = Context {
        shape: match &pairing {
            Some(pairing) if awaiting => pairing.state.word(),
            _ if awaiting => "no-pairing",
            _ => "paired",
        },
        waits: waits(&gateway.state, gateway.paired_at, &commands),
        configured: gateway.configured,
        repaired: notes::kept(&headers),
        pairing,
        origin: app.origins[0].clone(),
        installer: deploy::Installer::of(&app),
        metrics: gateway.heartbeat.as_ref().map(|beat| metrics(beat.metrics)).unwrap_or_default(),
        events: events
            .into_iter()
            .map(|event| EventView {
                look: looks::severity(event.severity),
                message: event.message,
                reason: event.reason,
                source: event.source,
                time: event.time,
            })
            .collect(),
        commands: commands
            .into_iter()
            .map(|command| CommandView {
                label: actions::label(&command.kind),
                look: looks::outcome(command.outcome.as_deref(), command.delivered_at.is_some()),
                message: command.message,
                actor: command.actor,
                time: command.time,
            })
            .collect(),
        conditions: conditions
            .into_iter()
            .map(|condition| ConditionView {
                look: looks::condition(condition.status),
                label: looks::words(&condition.kind),
                message: condition.message,
                reason: condition.reason,
                at: condition.last_transition_time,
            })
            .collect(),
        facts: facts(&gateway),
        actions: actions::offers(&gateway.state),
        gateway: View {
            id,
            state: looks::state(&gateway.state),
            health: looks::health(gateway.health.status),
            reasons: if unhealthy { gateway.health.reasons } else { Vec::new() },
            heard_at: gateway.heartbeat_at,
            name: gateway.name,
        },
    };
    let shows_notes = !context.repaired.is_empty();
    let title = context.gateway.name.clone();
    let page = Page {
        app: &app,
        who: &who,
        section: Some(Section::Gateways),
        title: &title,
        note: noted.note.as_deref(),
        form: Form::default(),
    };
    let mut answer = page.show("gateway.html", context)?;
    if shows_notes {
        notes::forget(&mut answer);
    }
    Ok(answer)
}

/// Whether a machine waits for a configuration: it is pending, and since it paired, or was reset, it has taken none and
/// none is on its way. What is stored says nothing of that: it outlives a reset, and the machine before.
fn waits(state: &str, paired_at: Option<Timestamp>, commands: &[Command]) -> bool {
    // Newest first; of what is over, what this machine has done.
    let counts = |command: &&Command| match command.outcome.as_deref() {
        None => true,
        Some("done") => command.finished_at >= paired_at,
        Some(_) => false,
    };
    let last = commands.iter().filter(counts).find(|command| {
        [Action::Configure.as_str(), Action::Reset.as_str()].contains(&command.kind.as_str())
    });
    state == State::Pending.as_str()
        && last.is_none_or(|last| last.kind == Action::Reset.as_str() && last.outcome.is_some())
}

fn view(app: &App, pairing: Pairing, waiting: Option<Waiting>) -> PairingView {
    let from = pairing.last_attempt_from.as_deref().unwrap_or("an address that is not known");
    let ago = pairing.last_attempt_at.map(|at| time::ago(at, app.now()));
    let over = match pairing.state {
        PairingState::Locked => Over {
            title: "The code is locked",
            text: format!(
                "{} times a machine did not know the whole code, the last time from {from}. If those were slips of \
                 yours, make a new code. If not, somebody is guessing; the code was of no use to them.",
                rules::ATTEMPTS
            ),
        },
        PairingState::Cancelled => {
            Over { title: "The pairing was cancelled", text: "Its code does not work any more.".into() }
        }
        _ => Over {
            title: "The code has expired",
            text: format!("It was for use until {}.", time::exact(pairing.expires_at)),
        },
    };
    let claim = waiting.into_iter().flat_map(|waiting| {
        let uuid = waiting.vm_uuid.map(|uuid| Fact::mono("VM UUID", uuid));
        let facts = [
            Fact::mono("Host name", waiting.hostname),
            Fact::mono("Its addresses", waiting.addresses.join(", ")),
            Fact::mono("Came from", waiting.address),
        ];
        facts.into_iter().chain(uuid)
    });
    PairingView {
        state: pairing.state,
        code: pairing.code.iter().flat_map(|code| code.split(' ')).map(str::to_owned).collect(),
        approval: pairing.approval,
        expires_at: pairing.expires_at,
        attempts: rules::ATTEMPTS,
        attempts_left: pairing.attempts_left,
        last_attempt: ago.map(|ago| format!("{ago}, from {from}")),
        number: pairing.number.unwrap_or_default(),
        claim: claim.collect(),
        over,
    }
}

fn metrics(metrics: Metrics) -> Vec<Metric> {
    let used = |label, total: u64, available: u64| {
        (total > 0).then(|| {
            let used = total.saturating_sub(available);
            Metric { label, text: of(used, total), share: used as f64 / total as f64 }
        })
    };
    let load = (metrics.processors > 0).then(|| Metric {
        label: "Load",
        text: format!("{:.2} of {}", metrics.load, metrics.processors),
        share: (metrics.load / f64::from(metrics.processors)).clamp(0.0, 1.0),
    });
    let memory = used("Memory", metrics.memory_total, metrics.memory_available);
    let disk = used("Disk", metrics.disk_total, metrics.disk_available);
    load.into_iter().chain(memory).chain(disk).collect()
}

/// A part of a whole in the whole's unit, as in `3.1 of 4.0 GiB`.
fn of(part: u64, whole: u64) -> String {
    let (unit, name) = unit(whole);
    format!("{} of {} {name}", number(part, unit), number(whole, unit))
}

/// Bytes as people say them, in powers of 1024.
pub(super) fn size(bytes: u64) -> String {
    let (unit, name) = unit(bytes);
    format!("{} {name}", number(bytes, unit))
}

/// The unit in which so many bytes have at most three digits before the point.
fn unit(bytes: u64) -> (u64, &'static str) {
    let units = [(1, "B"), (1 << 10, "KiB"), (1 << 20, "MiB"), (1 << 30, "GiB")];
    units.into_iter().find(|(unit, _)| bytes / unit < 1000).unwrap_or((1 << 40, "TiB"))
}

fn number(bytes: u64, unit: u64) -> String {
    let value = bytes as f64 / unit as f64;
    let digits = usize::from(value < 10.0 && unit > 1);
    format!("{value:.digits$}")
}

fn facts(gateway: &Gateway) -> Vec<Fact> {
    let said = |name: &str| gateway.facts[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut facts = Vec::new();
    facts.extend(said("hostname").map(|text| Fact::mono("Host name", text)));
    let addresses = list::addresses(gateway);
    if !addresses.is_empty() {
        facts.push(Fact::mono("Addresses", addresses.join(", ")));
    }
    facts.extend(said("address").map(|text| Fact::mono("Paired from", text)));
    facts.extend(said("vm_uuid").map(|text| Fact::mono("VM UUID", text)));
    facts.extend(list::software(gateway).map(|text| Fact::new("Version", text)));
    facts.extend(gateway.heartbeat.as_ref().map(|beat| Fact::new("Up for", time::long(beat.uptime_seconds))));
    facts.extend(gateway.paired_at.map(|at| Fact::at("Paired", at)));
    facts.push(Fact::at("Created", gateway.created_at));
    facts.push(Fact::new("Created by", &gateway.created_by));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_people_say_them() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1024, "1.0 KiB"),
            (3 << 30, "3.0 GiB"),
            (60 << 30, "60 GiB"),
            (2 << 40, "2.0 TiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(of(224 << 20, 4 << 30), "0.2 of 4.0 GiB");
    }

    #[test]
    fn metrics_that_were_not_said_are_not_shown() {
        assert!(metrics(Metrics::default()).is_empty());
        let shown = metrics(Metrics { load: 9.0, processors: 2, ..Metrics::default() });
        assert_eq!((shown.len(), shown[0].share), (1, 1.0));
    }

    #[test]
    fn a_machine_waits_until_it_has_a_configuration() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let command = |kind: &str, outcome: Option<&str>, second| Command {
            id: Uuid::nil(),
            time: at(second),
            actor: String::new(),
            kind: kind.into(),
            delivered_at: None,
            outcome: outcome.map(str::to_owned),
            message: String::new(),
            finished_at: outcome.map(|_| at(second)),
        };
        let paired_at = Some(at(10));
        let told = |commands: &[Command]| waits("pending", paired_at, commands);
        let reset = command("reset", Some("done"), 30);
        let done = command("configure", Some("done"), 20);
        assert!(told(&[]));
        assert!(told(&[command("configure", Some("failed"), 20), command("collect-bundle", None, 15)]));
        assert!(told(&[command("configure", Some("done"), 5)]), "another machine did that");
        assert!(told(&[reset.clone(), done.clone()]));
        assert!(!told(&[command("reset", None, 30), done.clone()]), "it is still to be reset");
        assert!(!told(&[command("collect-bundle", None, 40), done.clone()]));
        assert!(!told(&[command("configure", None, 40), reset, done]));
        assert!(!told(&[command("configure", None, 5)]), "it is sent to whoever is there now");
        assert!(!waits("running", paired_at, &[]));
    }
}
