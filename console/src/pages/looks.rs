//! States in words, with a colour and an icon each; the icon and the word say it without the colour.

use protocol::link::{ConditionStatus, Severity};
use serde::Serialize;

use crate::machine::health::Status;
use crate::store::accounts::Account;
use crate::store::gateways;

/// How a state looks.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Look {
    /// `good`, `warn`, `bad`, `info`, or nothing.
    pub(super) tone: &'static str,
    /// By name.
    pub(super) icon: &'static str,
    /// In words.
    pub(super) label: String,
}

fn look(tone: &'static str, icon: &'static str, label: impl Into<String>) -> Look {
    Look { tone, icon, label: label.into() }
}

/// States that the list filters by.
pub(super) const STATES: &[(&str, &str)] = &[
    (gateways::AWAITING_PAIRING, "Awaiting pairing"),
    ("pending", "Pending"),
    ("provisioning", "Provisioning"),
    ("running", "Running"),
    (gateways::DELETING, "Deleting"),
];

/// Healths that the list filters by.
pub(super) const HEALTHS: &[(&str, &str)] =
    &[("healthy", "Healthy"), ("unhealthy", "Unhealthy"), ("unknown", "Unknown")];

/// Roles, each with more rights than the one before.
pub(super) const ROLES: &[(&str, &str)] =
    &[("viewer", "Viewer"), ("operator", "Operator"), ("administrator", "Administrator")];

/// Of a gateway; a newer machine may have more states.
pub(super) fn state(state: &str) -> Look {
    let label = STATES.iter().find(|(known, _)| *known == state).map_or(state, |(_, label)| label);
    match state {
        "running" => look("good", "good", label),
        gateways::AWAITING_PAIRING | "pending" | "provisioning" => look("info", "wait", label),
        gateways::DELETING => look("warn", "warn", label),
        _ => look("", "none", label),
    }
}

pub(super) fn health(status: Status) -> Look {
    match status {
        Status::Healthy => look("good", "good", "Healthy"),
        Status::Unhealthy => look("bad", "bad", "Unhealthy"),
        Status::Unknown => look("", "none", "Unknown"),
    }
}

pub(super) fn severity(severity: Severity) -> Look {
    match severity {
        Severity::Info => look("", "info", "Info"),
        Severity::Warning => look("warn", "warn", "Warning"),
        Severity::Error => look("bad", "bad", "Error"),
    }
}

pub(super) fn condition(status: ConditionStatus) -> Look {
    match status {
        ConditionStatus::True => look("good", "good", "True"),
        ConditionStatus::False => look("bad", "bad", "False"),
        ConditionStatus::Unknown => look("", "none", "Unknown"),
    }
}

/// Of a command, by its outcome and whether the machine was sent it.
pub(super) fn outcome(outcome: Option<&str>, delivered: bool) -> Look {
    match outcome {
        Some("done") => look("good", "good", "Done"),
        Some("failed") => look("bad", "bad", "Failed"),
        Some("unsupported") => look("warn", "warn", "Not known there"),
        Some("cancelled") => look("", "close", "Cancelled"),
        Some(other) => look("", "none", other),
        None if delivered => look("info", "wait", "Under way"),
        None => look("info", "wait", "Waits to be sent"),
    }
}

pub(super) fn account(account: &Account) -> Look {
    if account.disabled {
        look("bad", "lock", "Disabled")
    } else if account.must_change {
        look("info", "wait", "Must change password")
    } else {
        look("good", "good", "Active")
    }
}

/// `CloudInfrastructureReady` as people write it: `Cloud infrastructure ready`.
pub(super) fn words(camel: &str) -> String {
    let mut text = String::with_capacity(camel.len() + 8);
    for (place, letter) in camel.char_indices() {
        if place > 0 && letter.is_ascii_uppercase() {
            text.push(' ');
            text.push(letter.to_ascii_lowercase());
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_as_people_write_them() {
        assert_eq!(words("CloudInfrastructureReady"), "Cloud infrastructure ready");
        assert_eq!(words("Paired"), "Paired");
        assert_eq!(words(""), "");
        assert_eq!(words("<Ä"), "<Ä");
    }

    #[test]
    fn what_a_newer_machine_says_is_shown_as_it_is() {
        assert_eq!(state("migrating").label, "migrating");
        assert_eq!(outcome(Some("deferred"), true).label, "deferred");
    }
}
