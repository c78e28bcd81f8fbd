//! Gateways as people see them.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use protocol::link::{Condition, Heartbeat};
use serde::Serialize;
use serde_json::Value;
use sqlx::AnyConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::pairing::code;
use super::{existing, table};
use crate::error::Result;
use crate::machine::health::{self, Facts, Health};
use crate::settings;
use crate::state::App;
use crate::store::pairings::{self, State};
use crate::store::{commands, conditions};

/// A gateway.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Gateway {
    /// Its identity.
    pub id: Uuid,
    /// Its name, a DNS label.
    pub name: String,
    /// `awaiting-pairing`, `pending`, `provisioning`, `running`, `deleting`; a newer machine may say more.
    pub state: String,
    /// How it is.
    pub health: Health,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When a machine paired as it, last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paired_at: Option<Timestamp>,
    /// What its machine said of itself when it paired: `vm_uuid`, `hostname`, `addresses`, `software`, `address`.
    #[schema(value_type = Object)]
    pub facts: Value,
    /// Whether it has a configuration.
    pub configured: bool,
    /// The newest heartbeat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Heartbeat>,
    /// When that came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heartbeat_at: Option<Timestamp>,
    /// Its newest code; in a list only while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pairing: Option<Pairing>,
}

/// A code.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Pairing {
    /// Where it is.
    pub state: State,
    /// The code itself, while it waits; for operators, and not in a list.
    #[schema(example = "4821 7739 0515")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Wrong codes until it is locked.
    pub attempts_left: i64,
    /// Whether a person must approve.
    pub approval: bool,
    /// What the screen of the machine that waits for approval must show.
    #[schema(example = "042117")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When somebody tried last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt_at: Option<Timestamp>,
    /// From which address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt_from: Option<String>,
}

/// A command that was given.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct CommandView {
    /// Its identity.
    pub id: Uuid,
    /// When it was given.
    pub time: Timestamp,
    /// By whom.
    pub actor: String,
    /// What to do.
    pub kind: String,
    /// When it was first sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_at: Option<Timestamp>,
    /// `done`, `failed`, `unsupported`, `cancelled`; none while it is still to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// What the machine said of it.
    pub message: String,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
}

impl From<commands::Command> for CommandView {
    fn from(command: commands::Command) -> CommandView {
        let commands::Command { id, time, actor, kind, delivered_at, outcome, message, finished_at, .. } =
            command;
        CommandView { id, time, actor, kind, delivered_at, outcome, message, finished_at }
    }
}

/// One gateway; its code for those who may see it.
///
/// # Errors
/// 404.
pub async fn get(app: &App, id: Uuid, with_code: bool) -> Result<Gateway> {
    let mut db = app.store.read().await?;
    let gateway = existing(&mut db, id).await?;
    let conditions = conditions::list(&mut db, id).await?;
    let pairing = match pairings::newest(&mut db, id).await? {
        Some(pairing) => {
            let code = if with_code && is_waiting(&pairing, app.now()) { code(app, &pairing)? } else { None };
            let number = number_of(&mut db, id).await?;
            Some(Pairing { code, number, ..shown(pairing, app.now()) })
        }
        None => None,
    };
    let unhealthy_after = unhealthy_after(app, &mut db).await?;
    Ok(view(app.now(), gateway, &conditions, pairing, unhealthy_after))
}

/// What the screen of a machine that waits for approval must show, if one waits.
///
/// # Errors
/// When the database fails.
pub async fn number_of(db: &mut AnyConnection, id: Uuid) -> Result<Option<String>> {
    Ok(pairings::number(db, id).await?)
}

/// Gateways by name, after a name, at most so many.
///
/// # Errors
/// When the database fails.
pub async fn list(app: &App, after: &str, limit: u32) -> Result<Vec<Gateway>> {
    let mut db = app.store.read().await?;
    let gateways = table::list(&mut db, after, limit).await?;
    let (Some(first), Some(last)) = (gateways.first(), gateways.last()) else { return Ok(Vec::new()) };
    let mut conditions: HashMap<Uuid, Vec<Condition>> = HashMap::new();
    for (gateway, condition) in conditions::between(&mut db, &first.name, &last.name).await? {
        conditions.entry(gateway).or_default().push(condition);
    }
    let mut pairings: HashMap<Uuid, pairings::Pairing> = pairings::between(&mut db, &first.name, &last.name)
        .await?
        .into_iter()
        .map(|pairing| (pairing.gateway, pairing))
        .collect();
    let unhealthy_after = unhealthy_after(app, &mut db).await?;
    let now = app.now();
    Ok(gateways
        .into_iter()
        .map(|gateway| {
            let conditions = conditions.remove(&gateway.id).unwrap_or_default();
            let pairing = pairings.remove(&gateway.id).map(|pairing| shown(pairing, now));
            view(now, gateway, &conditions, pairing, unhealthy_after)
        })
        .collect())
}

async fn unhealthy_after(app: &App, db: &mut AnyConnection) -> Result<Duration> {
    let set = settings::get(db).await?.unhealthy_after_seconds;
    Ok(set.map_or(app.unhealthy_after, |seconds| Duration::from_secs(seconds.into())))
}

fn is_waiting(pairing: &pairings::Pairing, now: Timestamp) -> bool {
    matches!(pairing.state, State::Pending | State::Claimed) && pairing.expires_at > now
}

fn shown(pairing: pairings::Pairing, now: Timestamp) -> Pairing {
    let late = matches!(pairing.state, State::Pending | State::Claimed) && pairing.expires_at <= now;
    Pairing {
        // It will be noted within a minute; it counts from now.
        state: if late { State::Expired } else { pairing.state },
        code: None,
        attempts_left: pairing.attempts_left,
        approval: pairing.approval,
        number: None,
        created_at: pairing.created_at,
        created_by: pairing.created_by,
        expires_at: pairing.expires_at,
        last_attempt_at: pairing.last_attempt_at,
        last_attempt_from: pairing.last_attempt_from,
    }
}

fn view(
    now: Timestamp,
    gateway: table::Gateway,
    conditions: &[Condition],
    pairing: Option<Pairing>,
    unhealthy_after: Duration,
) -> Gateway {
    let health = health::assess(&Facts {
        state: &gateway.state,
        paired_at: gateway.paired_at,
        beat: gateway.heartbeat.as_ref().zip(gateway.heartbeat_at),
        conditions,
        now,
        unhealthy_after,
    });
    Gateway {
        id: gateway.id,
        name: gateway.name,
        state: gateway.state,
        health,
        created_at: gateway.created_at,
        created_by: gateway.created_by,
        paired_at: gateway.paired_at,
        facts: gateway.facts,
        configured: gateway.configuration.is_some(),
        heartbeat: gateway.heartbeat.map(|beat| beat.heartbeat),
        heartbeat_at: gateway.heartbeat_at,
        pairing,
    }
}
