//! The way to the console, looked at stage by stage: one line per check, up to the first that fails.

use std::time::{Duration, Instant};

use hyper::Method;
use hyper::body::Bytes;
use jiff::Timestamp;
use protocol::link::About;
use serde::{Deserialize, Serialize};

use crate::clock::in_words;
use crate::console::{ANSWER, Credentials, host, no_answer};
use crate::dial::{Passed, dial};
use crate::failure::{Failure, Stage, clean};
use crate::http::{Channel, request};
use crate::pair::check_version;
use crate::route::Route;
use crate::store::Store;
use crate::trust::Trust;

/// A check and what came of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Check {
    /// Its name, as in `DNS`.
    pub name: String,
    /// How it is.
    pub outcome: Outcome,
    /// One sentence.
    pub message: String,
    /// What to do about it; empty where nothing is to be done.
    pub hint: String,
    /// How long it took.
    pub took: Duration,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All is well.
    Ok,
    /// Not well, but it will do.
    Warning,
    /// It will not do.
    Failed,
    /// Not needed, or a check before it failed.
    Skipped,
}

/// In this order.
const STAGES: [Stage; 6] =
    [Stage::Dns, Stage::Connect, Stage::Proxy, Stage::Tls, Stage::Clock, Stage::Version];

/// Looks at the whole way, with the eyes of a machine that is paired if there is a grant in the store. Nothing is changed
/// on either side.
pub async fn preflight(route: &Route, store: &Store) -> Vec<Check> {
    let mut checks = Vec::new();
    let began = Instant::now();
    let failed = look(route, store, &mut checks).await.err();
    if let Some(failure) = failed {
        // What fails within a stage is under that stage's name, whatever its own.
        let name = STAGES.get(checks.len()).copied().unwrap_or(failure.stage).to_string();
        let passed: Duration = checks.iter().map(|check| check.took).sum();
        checks.push(Check {
            name,
            outcome: Outcome::Failed,
            message: failure.message,
            hint: failure.hint,
            took: began.elapsed().saturating_sub(passed),
        });
    }
    for stage in STAGES.iter().skip(checks.len()) {
        let message = "Not looked at: a check before it failed.".into();
        let name = stage.to_string();
        checks.push(Check {
            name,
            outcome: Outcome::Skipped,
            message,
            hint: String::new(),
            took: Duration::ZERO,
        });
    }
    checks
}

async fn look(route: &Route, store: &Store, checks: &mut Vec<Check>) -> Result<(), Failure> {
    let paired = store.paired()?.and_then(|paired| {
        let key = paired.key()?;
        Credentials::new(key, paired.grant, route).ok()
    });
    let trust = match &paired {
        Some(credentials) => credentials.trust().clone(),
        None => Trust::anybody(&route.proxy_ca),
    };
    let dialed = dial(route, &trust, store.clock(), None, |passed| checks.push(of_stage(passed))).await?;

    let origin = route.origin();
    let began = Instant::now();
    let asked = Timestamp::now();
    let mut channel = Channel::open(dialed.stream).await.map_err(|e| no_answer(&origin, &e.into()))?;
    let answer = channel
        .send(request(Method::GET, &host(route), "/v1/version", Bytes::new()), ANSWER)
        .await
        .map_err(|why| no_answer(&origin, &why))?;
    let about: About = answer.value(&origin)?;
    // Its clock was read somewhere between question and answer.
    let between = began.elapsed() / 2;
    let offset = about.time.as_millisecond() - asked.as_millisecond() - between.as_millis() as i64;
    let (outcome, message, hint) = match in_words(offset / 1000) {
        None => (Outcome::Ok, "The clocks of machine and console agree.".into(), ""),
        Some(words) => (
            Outcome::Warning,
            words,
            "set the machine's clock, or name NTP servers that it reaches; it works meanwhile",
        ),
    };
    let took = began.elapsed();
    checks.push(Check { name: Stage::Clock.to_string(), outcome, message, hint: hint.into(), took });
    check_version(&about)?;
    let software = clean(&about.software, 40);
    checks.push(Check {
        name: Stage::Version.to_string(),
        outcome: Outcome::Ok,
        message: format!("The console has software {software} and speaks version {}.", protocol::VERSION),
        hint: String::new(),
        took: Duration::ZERO,
    });
    Ok(())
}

fn of_stage(passed: Passed) -> Check {
    let (outcome, message) = match passed.message {
        Ok(message) => (Outcome::Ok, message),
        Err(message) => (Outcome::Skipped, message),
    };
    let name = passed.stage.to_string();
    Check { name, outcome, message, hint: String::new(), took: passed.took }
}
