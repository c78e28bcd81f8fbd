//! What the console is told: conditions and events, made from how the status changes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::link::{Body, Condition, ConditionStatus, Event, Severity};

use crate::status::{State, Status, StepStatus};
use crate::steps::Name;

/// What the console was told, so that it is told what is new. An outage can last for weeks, in which a step is tried again every
/// minute: that must not fill the queue in which all else waits for the console.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// What last came of each step: how it ended, and for a wrong value which.
    results: BTreeMap<Name, (State, Option<String>)>,
    conditions: Vec<Condition>,
}

impl Report {
    /// What to tell of a status. After the machine was `paired` anew the console knows no conditions of before.
    pub(crate) fn entries(&mut self, status: &Status, paired: bool) -> Vec<Body> {
        if paired {
            self.conditions.clear();
        }
        let mut entries: Vec<_> =
            status.steps.iter().filter_map(|step| self.event(step)).map(Body::Event).collect();
        let conditions = conditions(status);
        let is_known = |condition: &Condition| {
            self.conditions.iter().any(|known| {
                (&known.kind, known.status, &known.reason, &known.message)
                    == (&condition.kind, condition.status, &condition.reason, &condition.message)
            })
        };
        let new = conditions.iter().filter(|condition| !is_known(condition));
        entries.extend(new.cloned().map(Body::Condition));
        self.conditions = conditions;
        entries
    }

    /// A step that went wrong, and one that is right again.
    fn event(&mut self, step: &StepStatus) -> Option<Event> {
        let problem = step.problems.first();
        let property = match step.state {
            State::Done | State::Failed => None,
            State::Invalid => problem.map(|problem| problem.property.clone()),
            // Tried again, or waiting for something else: what came of it before still holds.
            State::Pending | State::Running | State::Waiting => return None,
        };
        let result = (step.state, property);
        let before = self.results.insert(step.name, result.clone());
        if before.as_ref() == Some(&result) {
            return None;
        }
        let was_bad = before.is_some_and(|(state, _)| state != State::Done);
        let message = step.message.clone();
        let (severity, reason, message) = match step.state {
            State::Failed => (Severity::Warning, "StepFailed", message.unwrap_or_default()),
            State::Invalid => {
                (Severity::Error, "ValueWrong", problem.map(|it| it.message.clone()).unwrap_or_default())
            }
            _ if was_bad => (Severity::Info, "StepDone", message.unwrap_or_else(|| "It is done now.".into())),
            _ => return None,
        };
        let message = format!("{}: {message}", step.name);
        Some(Event { severity, reason: reason.into(), message, source: "firstboot".into() })
    }
}

/// How the whole is. Host and gateway; that it is paired the console knows best.
fn conditions(status: &Status) -> Vec<Condition> {
    let (host, console): (Vec<_>, Vec<_>) = status
        .steps
        .iter()
        .partition(|step| !matches!(step.name, Name::Preflight | Name::Pair | Name::Gateway));
    let bad = host.iter().find(|step| matches!(step.state, State::Failed | State::Invalid));
    let since =
        |steps: &[&StepStatus]| steps.iter().map(|step| step.since).max().unwrap_or_else(Timestamp::now);
    let host = match bad {
        Some(step) => {
            let problem = step.problems.first().map(|problem| &problem.message);
            let why = problem.or(step.message.as_ref()).map_or("", String::as_str);
            condition(
                "HostConfigured",
                ConditionStatus::False,
                "StepFailed",
                &format!("{}: {why}", step.name),
                step.since,
            )
        }
        None if host.iter().all(|step| step.state == State::Done) => condition(
            "HostConfigured",
            ConditionStatus::True,
            "AllStepsDone",
            "This machine is configured.",
            since(&host),
        ),
        None => condition(
            "HostConfigured",
            ConditionStatus::Unknown,
            "UnderWay",
            "Steps are under way.",
            since(&host),
        ),
    };
    let gateway = console.iter().find(|step| step.name == Name::Gateway).map(|step| {
        let message = step.message.as_deref().unwrap_or_default();
        let (status, reason) = match step.state {
            State::Done => (ConditionStatus::True, "Kept"),
            State::Failed | State::Invalid => (ConditionStatus::False, "Refused"),
            // Nothing is wrong yet.
            _ => (ConditionStatus::Unknown, "Awaited"),
        };
        condition("ConfigurationReceived", status, reason, message, step.since)
    });
    [Some(host), gateway].into_iter().flatten().collect()
}

fn condition(
    kind: &str,
    status: ConditionStatus,
    reason: &str,
    message: &str,
    since: Timestamp,
) -> Condition {
    Condition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Problem;
    use crate::status::{Overall, VERSION};
    use crate::steps::STEPS;

    /// A machine whose steps are all done, but for these.
    fn status(others: &[(Name, State, &str)]) -> Status {
        let step = |name| {
            let other = others.iter().find(|(other, ..)| *other == name);
            let (state, message) = other.map_or((State::Done, ""), |(_, state, message)| (*state, *message));
            let problem = Problem {
                property: message.into(),
                given: None,
                expected: String::new(),
                message: message.into(),
                hint: String::new(),
            };
            let problems = if state == State::Invalid { vec![problem] } else { Vec::new() };
            let message = Some(message.into());
            StepStatus { name, state, since: Timestamp::now(), attempts: 1, message, problems }
        };
        Status {
            version: VERSION,
            state: Overall::Configuring,
            steps: STEPS.iter().map(|known| step(known.name)).collect(),
            missing: Vec::new(),
            notes: Vec::new(),
            settings: BTreeMap::new(),
            addresses: Vec::new(),
            source: "none".into(),
            revision: 0,
            settled: false,
        }
    }

    fn words(entries: &[Body]) -> Vec<String> {
        let words = |entry: &Body| match entry {
            Body::Event(event) => format!("{} {}", event.reason, event.message),
            Body::Condition(condition) => format!("{} {:?}", condition.kind, condition.status),
            other => format!("{other:?}"),
        };
        entries.iter().map(words).collect()
    }

    #[test]
    fn an_outage_is_told_once() {
        let mut report = Report::default();
        assert_eq!(
            words(&report.entries(&status(&[]), false)),
            ["HostConfigured True", "ConfigurationReceived True"]
        );
        let mut told = Vec::new();
        // A day of it: link or pairing is tried again every minute, and says something else each time.
        for minute in 0..24 * 60 {
            let message = format!("It is {minute} past, and nobody answers.");
            for state in [State::Waiting, State::Running, State::Failed] {
                let steps = [(Name::Preflight, state, &*message), (Name::Pair, state, &*message)];
                told.extend(report.entries(&status(&steps), false));
            }
        }
        told.extend(report.entries(&status(&[]), false));
        let expected = [
            "StepFailed preflight: It is 0 past, and nobody answers.",
            "StepFailed pair: It is 0 past, and nobody answers.",
            "StepDone preflight: ",
            "StepDone pair: ",
        ];
        assert_eq!(words(&told), expected);
    }

    #[test]
    fn another_wrong_value_is_told_and_conditions_again_to_another_console() {
        let mut report = Report::default();
        report.entries(&status(&[]), false);
        for (value, expected) in [("pairing-code", 1), ("pairing-code", 0), ("proxy-ca", 1)] {
            let told = report.entries(&status(&[(Name::Pair, State::Invalid, value)]), false);
            assert_eq!(told.len(), expected, "{value}: {told:?}");
        }
        assert_eq!(words(&report.entries(&status(&[]), false)), ["StepDone pair: "]);
        assert_eq!(report.entries(&status(&[]), false), []);
        let told = report.entries(&status(&[]), true);
        assert_eq!(words(&told), ["HostConfigured True", "ConfigurationReceived True"]);
    }
}
