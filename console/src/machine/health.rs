//! Whether a gateway is well, and why not: one pure function over what is stored, so that every console on one database
//! says the same.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use protocol::link::{Condition, ConditionStatus, Heartbeat, Metrics};
use serde::{Deserialize, Serialize};

/// Below this share of its size a disk is short (of what is free for use).
const DISK_SHARE: f64 = 0.10;
/// Below this share of its size memory is short.
const MEMORY_SHARE: f64 = 0.05;
/// For how long a metric must be past its threshold: a build or an upgrade may take much for a while.
const METRIC_TIME: SignedDuration = SignedDuration::from_mins(5);
/// How far a machine's clock may be from ours: certificates and signed requests allow for as much.
const CLOCK: SignedDuration = SignedDuration::from_mins(5);

/// How a gateway is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It speaks, and says nothing bad.
    Healthy,
    /// Something is wrong; the reasons say what.
    Unhealthy,
    /// It never spoke: it is not paired, or only just.
    Unknown,
}

/// How a gateway is, with what people read about it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Health {
    /// In one word.
    pub status: Status,
    /// A sentence each; empty where it is healthy.
    pub reasons: Vec<String>,
}

/// Since when metrics are past their thresholds, by the console's clock. Kept with the heartbeat, because "for a time"
/// must outlast a restart of the console.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Short {
    /// Free disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_short_since: Option<Timestamp>,
    /// Free memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_short_since: Option<Timestamp>,
    /// By how many seconds the machine's clock was ahead of ours when the heartbeat came.
    #[serde(default)]
    pub clock_ahead_seconds: i64,
}

/// The newest heartbeat as it is stored.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Beat {
    /// What the machine said.
    #[serde(flatten)]
    pub heartbeat: Heartbeat,
    /// What the console adds.
    #[serde(flatten)]
    pub short: Short,
}

impl Beat {
    /// Takes a heartbeat in that came at `now`; `before` is what was known after the one before it.
    #[must_use]
    pub fn new(heartbeat: Heartbeat, before: Short, now: Timestamp) -> Beat {
        let Metrics { memory_total, memory_available, disk_total, disk_available, .. } = heartbeat.metrics;
        let since = |short: bool, before: Option<Timestamp>| short.then(|| before.unwrap_or(now));
        let short = Short {
            disk_short_since: since(below(disk_available, disk_total, DISK_SHARE), before.disk_short_since),
            memory_short_since: since(
                below(memory_available, memory_total, MEMORY_SHARE),
                before.memory_short_since,
            ),
            clock_ahead_seconds: heartbeat.time.duration_since(now).as_secs(),
        };
        Beat { heartbeat, short }
    }
}

/// What health is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Of the gateway, as in the table.
    pub state: &'a str,
    /// Since when it is paired; `None` before.
    pub paired_at: Option<Timestamp>,
    /// The newest heartbeat and when it came.
    pub beat: Option<(&'a Beat, Timestamp)>,
    /// Of the gateway.
    pub conditions: &'a [Condition],
    /// The console's clock.
    pub now: Timestamp,
    /// After so long without a heartbeat it is unhealthy.
    pub unhealthy_after: Duration,
}

/// Judges a gateway.
#[must_use]
pub fn assess(facts: &Facts<'_>) -> Health {
    let Some(paired_at) = facts.paired_at else {
        return Health { status: Status::Unknown, reasons: vec!["It is not paired yet.".into()] };
    };
    let silence = facts.now.duration_since(facts.beat.map_or(paired_at, |(_, at)| at));
    let is_silent = silence.is_positive() && silence.unsigned_abs() >= facts.unhealthy_after;
    let mut reasons = Vec::new();
    match facts.beat {
        Some(_) if is_silent => reasons.push(format!("No heartbeat for {}.", span(silence))),
        None if is_silent => {
            reasons.push(format!("It was paired {} ago and never sent a heartbeat.", span(silence)));
        }
        None => {
            return Health {
                status: Status::Unknown,
                reasons: vec!["It has not sent a heartbeat yet.".into()],
            };
        }
        Some(_) => {}
    }
    reasons.extend(conditions(facts));
    // Numbers of a machine that is silent are history.
    if let Some((beat, _)) = facts.beat.filter(|_| !is_silent) {
        reasons.extend(metrics(beat, facts.now));
    }
    Health { status: if reasons.is_empty() { Status::Healthy } else { Status::Unhealthy }, reasons }
}

/// Conditions are positive: `False` is bad on a gateway that runs. While one is being made, they become true one after
/// another, and only what lasts is an error.
fn conditions<'a>(facts: &'a Facts<'_>) -> impl Iterator<Item = String> + 'a {
    facts
        .conditions
        .iter()
        .filter(|condition| {
            condition.status == ConditionStatus::False && !matches!(facts.state, "deleting" | "deleted")
        })
        .filter(|condition| {
            let lasts = facts.now.duration_since(condition.last_transition_time);
            facts.state == "running" || (lasts.is_positive() && lasts.unsigned_abs() >= facts.unhealthy_after)
        })
        .map(|condition| {
            let since = span(facts.now.duration_since(condition.last_transition_time));
            let message = condition.message.trim_end_matches('.');
            let why = if message.is_empty() { &condition.reason } else { message };
            format!("{} does not hold since {since}: {why}.", condition.kind)
        })
}

fn metrics(beat: &Beat, now: Timestamp) -> impl Iterator<Item = String> {
    let Metrics { memory_total, memory_available, disk_total, disk_available, .. } = beat.heartbeat.metrics;
    let lasts = |since: Option<Timestamp>| {
        since.map(|since| now.duration_since(since)).filter(|lasts| *lasts >= METRIC_TIME)
    };
    let disk = lasts(beat.short.disk_short_since).map(|lasts| {
        format!("Only {} of its disk is free, since {}.", share(disk_available, disk_total), span(lasts))
    });
    let memory = lasts(beat.short.memory_short_since).map(|lasts| {
        format!(
            "Only {} of its memory is free, since {}.",
            share(memory_available, memory_total),
            span(lasts)
        )
    });
    let ahead = SignedDuration::from_secs(beat.short.clock_ahead_seconds);
    let clock = (ahead.abs() > CLOCK).then(|| {
        let way = if ahead.is_positive() { "ahead of" } else { "behind" };
        format!("Its clock is {} {way} the console's.", span(ahead.abs()))
    });
    disk.into_iter().chain(memory).chain(clock)
}

fn below(available: u64, total: u64, limit: f64) -> bool {
    total > 0 && (available as f64) < total as f64 * limit
}

fn share(available: u64, total: u64) -> String {
    format!("{:.0} %", available as f64 / total.max(1) as f64 * 100.0)
}

/// As people say it: the two largest units.
fn span(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (length, name) in units {
        let count = rest / length;
        rest %= length;
        if count > 0 {
            let mut part = format!("{count} {name}");
            if count > 1 {
                let _ = write!(part, "s");
            }
            parts.push(part);
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 seconds".into() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn heartbeat(time: Timestamp, disk: u64, memory: u64) -> Heartbeat {
        let metrics = Metrics {
            load: 0.1,
            processors: 2,
            memory_total: 100 * GIB,
            memory_available: memory * GIB,
            disk_total: 100 * GIB,
            disk_available: disk * GIB,
        };
        Heartbeat {
            time,
            state: "running".into(),
            software: "0.1.0".into(),
            uptime_seconds: 5,
            addresses: vec![],
            metrics,
        }
    }

    fn condition(status: ConditionStatus, since: &str, message: &str) -> Condition {
        Condition {
            kind: "BootstrapReady".into(),
            status,
            reason: "KubeadmFailed".into(),
            message: message.into(),
            last_transition_time: at(since),
        }
    }

    fn judge(state: &str, beat: Option<(&Beat, Timestamp)>, conditions: &[Condition], now: &str) -> Health {
        assess(&Facts {
            state,
            paired_at: Some(at("2026-01-01T00:00:00Z")),
            beat,
            conditions,
            now: at(now),
            unhealthy_after: Duration::from_secs(600),
        })
    }

    #[test]
    fn silence_counts_from_the_last_heartbeat() {
        let heard = at("2026-01-01T01:00:00Z");
        let beat = Beat::new(heartbeat(heard, 50, 50), Short::default(), heard);
        let heard = Some((&beat, heard));
        assert_eq!(judge("running", heard, &[], "2026-01-01T01:09:59Z").status, Status::Healthy);
        let health = judge("running", heard, &[], "2026-01-01T01:10:00Z");
        assert_eq!(
            (health.status, health.reasons),
            (Status::Unhealthy, vec!["No heartbeat for 10 minutes.".into()])
        );
        // Another instance's clock may be a little behind the one that heard it.
        assert_eq!(judge("running", heard, &[], "2026-01-01T00:30:00Z").status, Status::Healthy);
    }

    #[test]
    fn who_never_spoke_is_unknown_and_then_unhealthy() {
        let unpaired = Facts {
            state: "awaiting-pairing",
            paired_at: None,
            beat: None,
            conditions: &[],
            now: at("2026-01-01T00:00:00Z"),
            unhealthy_after: Duration::from_secs(600),
        };
        assert_eq!(assess(&unpaired).status, Status::Unknown);
        assert_eq!(judge("pending", None, &[], "2026-01-01T00:01:00Z").status, Status::Unknown);
        let health = judge("pending", None, &[], "2026-01-02T01:00:05Z");
        assert_eq!(health.status, Status::Unhealthy);
        assert_eq!(health.reasons, ["It was paired 1 day 1 hour ago and never sent a heartbeat."]);
    }

    #[test]
    fn a_metric_is_bad_only_when_it_lasts() {
        let start = at("2026-01-01T00:00:00Z");
        let mut short = Short::default();
        let mut said = Vec::new();
        for minute in 0..=6 {
            let now = start + SignedDuration::from_mins(minute);
            // One breath of air at the third minute begins the time anew for memory.
            let beat = Beat::new(heartbeat(now, 9, if minute == 3 { 20 } else { 4 }), short, now);
            short = beat.short;
            let health = judge("running", Some((&beat, now)), &[], &now.to_string());
            said.push(health.reasons);
        }
        assert!(said[..5].iter().all(Vec::is_empty), "{said:?}");
        assert_eq!(said[6], ["Only 9 % of its disk is free, since 6 minutes."]);
        assert_eq!(short.memory_short_since, Some(at("2026-01-01T00:04:00Z")));
    }

    #[test]
    fn a_machine_without_numbers_is_not_short_of_anything() {
        let now = at("2026-01-01T00:00:00Z");
        let mut silent = heartbeat(now, 0, 0);
        silent.metrics = Metrics::default();
        let beat = Beat::new(silent, Short::default(), now);
        assert_eq!(beat.short, Short::default());
    }

    #[test]
    fn a_wrong_clock_is_named() {
        let now = at("2026-01-01T01:00:00Z");
        let beat = Beat::new(heartbeat(at("2026-01-01T00:00:00Z"), 50, 50), Short::default(), now);
        let health = judge("running", Some((&beat, now)), &[], "2026-01-01T01:00:01Z");
        assert_eq!(health.reasons, ["Its clock is 1 hour behind the console's."]);
    }

    #[test]
    fn conditions_are_judged_by_state() {
        let heard = at("2026-01-01T01:00:00Z");
        let beat = Beat::new(heartbeat(heard, 50, 50), Short::default(), heard);
        let heard = Some((&beat, heard));
        let bad = [condition(ConditionStatus::False, "2026-01-01T00:59:00Z", "kubeadm init ended with 1.")];
        let now = "2026-01-01T01:00:00Z";
        assert_eq!(judge("provisioning", heard, &bad, now).status, Status::Healthy);
        assert_eq!(judge("deleting", heard, &bad, now).status, Status::Healthy);
        let health = judge("running", heard, &bad, now);
        assert_eq!(
            health.reasons,
            ["BootstrapReady does not hold since 1 minute: kubeadm init ended with 1."]
        );
        let lasting = [condition(ConditionStatus::False, "2026-01-01T00:50:00Z", "")];
        let health = judge("provisioning", heard, &lasting, now);
        assert_eq!(health.reasons, ["BootstrapReady does not hold since 10 minutes: KubeadmFailed."]);
        let unknown = [condition(ConditionStatus::Unknown, "2026-01-01T00:00:00Z", "")];
        assert_eq!(judge("running", heard, &unknown, now).status, Status::Healthy);
    }

    #[test]
    fn a_beat_is_a_heartbeat_to_who_reads_only_that() {
        let now = at("2026-01-01T00:00:00Z");
        let beat = Beat::new(heartbeat(now, 5, 50), Short::default(), now);
        let text = serde_json::to_string(&beat).unwrap();
        assert_eq!(serde_json::from_str::<Beat>(&text).unwrap(), beat);
        assert_eq!(serde_json::from_str::<Heartbeat>(&text).unwrap(), beat.heartbeat);
    }
}
