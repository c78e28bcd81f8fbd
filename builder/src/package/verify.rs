//! `gatewright ova verify`: everything that is known to make an import fail, as named checks.
//!
//! A check that cannot look does not pass: what it needs and cannot read is its finding.

use std::io::{self, Write};

use serde::Serialize;

use super::Package;
use super::checks::CHECKS;
use crate::error::Failure;

/// One known cause of failed imports.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    /// What holds where it passes.
    pub(crate) title: &'static str,
    /// What an administrator sees where it does not.
    pub(crate) symptom: &'static str,
    /// How to mend it.
    pub(crate) hint: &'static str,
    /// What is wrong: nothing where it passes. `Err` says why it does not apply.
    pub(crate) run: fn(&Package) -> Result<Vec<String>, &'static str>,
}

/// What came of a check.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) check: &'static str,
    pub(crate) result: CheckResult,
    /// What is wrong; or, where it does not apply, why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) findings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) symptom: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<&'static str>,
}

impl Outcome {
    pub(crate) fn failed(&self) -> bool {
        self.result == CheckResult::Fail
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CheckResult {
    Pass,
    Fail,
    NotApplicable,
    Skipped,
}

/// Names that no check has.
pub(crate) fn refuse_unknown(names: &[String]) -> anyhow::Result<()> {
    match names.iter().find(|name| CHECKS.iter().all(|check| check.name != name.as_str())) {
        Some(name) => Err(Failure::user(
            format!("There is no check `{name}`"),
            "`gatewright ova verify --list` names them",
        )),
        None => Ok(()),
    }
}

/// Runs every check but those in `skip`.
pub(crate) fn verify(package: &Package, skip: &[String]) -> Vec<Outcome> {
    let outcome = |check: &Check| {
        let (result, findings) = if skip.iter().any(|name| name == check.name) {
            (CheckResult::Skipped, Vec::new())
        } else {
            match (check.run)(package) {
                Ok(findings) if findings.is_empty() => (CheckResult::Pass, findings),
                Ok(findings) => (CheckResult::Fail, findings),
                Err(why) => (CheckResult::NotApplicable, vec![why.into()]),
            }
        };
        let failed = result == CheckResult::Fail;
        Outcome {
            check: check.name,
            result,
            findings,
            symptom: failed.then_some(check.symptom),
            hint: failed.then_some(check.hint),
        }
    };
    CHECKS.iter().map(outcome).collect()
}

/// Prints outcomes for people.
pub(crate) fn print(outcomes: &[Outcome], out: &mut dyn Write) -> io::Result<()> {
    for outcome in outcomes {
        let (word, style) = match outcome.result {
            CheckResult::Pass => ("pass", anstyle::AnsiColor::Green.on_default()),
            CheckResult::Fail => ("FAIL", anstyle::AnsiColor::Red.on_default().bold()),
            CheckResult::NotApplicable => ("n/a ", anstyle::Style::new().dimmed()),
            CheckResult::Skipped => ("skip", anstyle::AnsiColor::Yellow.on_default()),
        };
        let title = CHECKS.iter().find(|check| check.name == outcome.check).map_or("", |check| check.title);
        writeln!(out, "{style}{word}{style:#}  {:<22} {title}", outcome.check)?;
        for finding in &outcome.findings {
            writeln!(out, "      {finding}")?;
        }
        if let (Some(symptom), Some(hint)) = (outcome.symptom, outcome.hint) {
            writeln!(out, "      leads to: {symptom}\n      hint: {hint}")?;
        }
    }
    let count = |result| outcomes.iter().filter(|outcome| outcome.result == result).count();
    let rest = [(CheckResult::NotApplicable, "do not apply"), (CheckResult::Skipped, "skipped")]
        .into_iter()
        .filter(|(result, _)| count(*result) > 0)
        .map(|(result, words)| format!(", {} {words}", count(result)));
    writeln!(
        out,
        "{} passed, {} failed{}",
        count(CheckResult::Pass),
        count(CheckResult::Fail),
        rest.collect::<String>()
    )
}

/// The checks, as `--list --json` prints them.
pub(crate) fn described() -> serde_json::Value {
    let check = |check: &Check| serde_json::json!({"check": check.name, "title": check.title, "symptom": check.symptom, "hint": check.hint});
    CHECKS.iter().map(check).collect()
}

/// Prints the names of all checks.
pub(crate) fn list(out: &mut dyn Write) -> io::Result<()> {
    for check in CHECKS {
        writeln!(out, "{:<22} {}", check.name, check.title)?;
    }
    Ok(())
}
