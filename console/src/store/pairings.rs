//! `pairings`: codes that were given out.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow, Row as _};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Columns as _, Result, text};

/// Where a pairing is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// The code waits for its machine.
    Pending,
    /// A machine knows the code; a person must approve.
    Claimed,
    /// Done.
    Paired,
    /// Too late.
    Expired,
    /// Too many wrong codes.
    Locked,
    /// By a person, or by a newer code.
    Cancelled,
}

impl State {
    /// As it is stored.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Claimed => "claimed",
            State::Paired => "paired",
            State::Expired => "expired",
            State::Locked => "locked",
            State::Cancelled => "cancelled",
        }
    }
}

/// A code that was given out.
#[derive(Clone, Debug)]
pub struct Pairing {
    /// Its identity.
    pub id: Uuid,
    /// Of the gateway to be.
    pub gateway: Uuid,
    /// The code's public part.
    pub locator: String,
    /// Its secret part, sealed for `pairings.secret` of its id; gone when the pairing is over.
    pub secret: Option<String>,
    /// Where it is.
    pub state: State,
    /// Wrong codes until it is locked.
    pub attempts_left: i64,
    /// Whether a person must approve.
    pub approval: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
    /// When somebody tried last.
    pub last_attempt_at: Option<Timestamp>,
    /// From which address.
    pub last_attempt_from: Option<String>,
}

impl FromRow<'_, AnyRow> for Pairing {
    fn from_row(row: &AnyRow) -> Result<Pairing> {
        Ok(Pairing {
            id: row.id("id")?,
            gateway: row.id("gateway")?,
            locator: row.text("locator")?,
            secret: row.optional_text("secret")?,
            state: row.word("state")?,
            attempts_left: row.number("attempts_left")?,
            approval: row.flag("approval")?,
            created_at: row.time("created_at")?,
            created_by: row.text("created_by")?,
            expires_at: row.time("expires_at")?,
            last_attempt_at: row.optional_time("last_attempt_at")?,
            last_attempt_from: row.optional_text("last_attempt_from")?,
        })
    }
}

/// Adds a pairing, unless its locator is another's or its gateway has one that waits, also by who came a moment before.
/// Says whether it was added.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, pairing: &Pairing) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO pairings (id, gateway, locator, secret, state, attempts_left, approval, created_at, created_by, \
         expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
    )
    .bind(pairing.id.to_string())
    .bind(pairing.gateway.to_string())
    .bind(&pairing.locator)
    .bind(&pairing.secret)
    .bind(pairing.state.word())
    .bind(pairing.attempts_left)
    .bind(i64::from(pairing.approval))
    .bind(text(pairing.created_at))
    .bind(&pairing.created_by)
    .bind(text(pairing.expires_at))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// The newest of a gateway.
///
/// # Errors
/// When the database fails.
pub async fn newest(db: &mut AnyConnection, gateway: Uuid) -> Result<Option<Pairing>> {
    sqlx::query_as("SELECT * FROM pairings WHERE gateway = $1 ORDER BY id DESC LIMIT 1")
        .bind(gateway.to_string())
        .fetch_optional(db)
        .await
}

/// The one that waits under a locator; it may be too late for it.
///
/// # Errors
/// When the database fails.
pub async fn by_locator(db: &mut AnyConnection, locator: &str) -> Result<Option<Pairing>> {
    sqlx::query_as("SELECT * FROM pairings WHERE locator = $1 AND state IN ('pending', 'claimed')")
        .bind(locator)
        .fetch_optional(db)
        .await
}

/// Those that wait, of all gateways with names in a range, ends included.
///
/// # Errors
/// When the database fails.
pub async fn between(db: &mut AnyConnection, first: &str, last: &str) -> Result<Vec<Pairing>> {
    sqlx::query_as(
        "SELECT pairings.* FROM pairings JOIN gateways ON gateways.id = pairings.gateway \
         WHERE pairings.state IN ('pending', 'claimed') AND gateways.deleted_at IS NULL \
         AND gateways.name >= $1 AND gateways.name <= $2",
    )
    .bind(first)
    .bind(last)
    .fetch_all(db)
    .await
}

/// What the screen of a machine that waits for approval must show, if one waits.
///
/// # Errors
/// When the database fails.
pub async fn number(db: &mut AnyConnection, gateway: Uuid) -> Result<Option<String>> {
    let row = sqlx::query(
        "SELECT pairing_sessions.number FROM pairing_sessions JOIN pairings ON pairings.id = pairing_sessions.pairing \
         WHERE pairings.gateway = $1 AND pairings.state = 'claimed' AND pairing_sessions.state = 'waiting'",
    )
    .bind(gateway.to_string())
    .fetch_optional(db)
    .await?;
    row.map_or(Ok(None), |row| row.try_get(0))
}

/// The locators of all that wait.
///
/// # Errors
/// When the database fails.
pub async fn locators(db: &mut AnyConnection) -> Result<Vec<String>> {
    let rows = sqlx::query("SELECT locator FROM pairings WHERE state IN ('pending', 'claimed')")
        .fetch_all(db)
        .await?;
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// Ends those of a gateway that wait, and forgets their secrets; says how many.
///
/// # Errors
/// When the database fails.
pub async fn end(db: &mut AnyConnection, gateway: Uuid, state: State) -> Result<u64> {
    let done = sqlx::query(
        "UPDATE pairings SET state = $2, secret = NULL WHERE gateway = $1 AND state IN ('pending', 'claimed')",
    )
    .bind(gateway.to_string())
    .bind(state.word())
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Ends those for which it is too late; says whose.
///
/// # Errors
/// When the database fails.
pub async fn expire(db: &mut AnyConnection, now: Timestamp) -> Result<Vec<Uuid>> {
    let rows = sqlx::query(
        "UPDATE pairings SET state = 'expired', secret = NULL \
         WHERE state IN ('pending', 'claimed') AND expires_at <= $1 RETURNING gateway",
    )
    .bind(text(now))
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| row.id("gateway")).collect()
}

/// By its identity.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, id: Uuid) -> Result<Option<Pairing>> {
    sqlx::query_as("SELECT * FROM pairings WHERE id = $1").bind(id.to_string()).fetch_optional(db).await
}

/// Takes an attempt off a pairing that waits for its machine; says whether there was one to take. Committed before the
/// answer goes out, so that however many try at once, and whatever breaks, each costs one.
///
/// # Errors
/// When the database fails.
pub async fn attempt(db: &mut AnyConnection, id: Uuid, address: &str, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE pairings SET attempts_left = attempts_left - 1, last_attempt_at = $2, last_attempt_from = $3 \
         WHERE id = $1 AND state = 'pending' AND attempts_left > 0 AND expires_at > $2",
    )
    .bind(id.to_string())
    .bind(text(now))
    .bind(address)
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A machine has shown that it knows the code: its attempt is given back, and the pairing goes on to `state`. Says whether
/// it still could.
///
/// # Errors
/// When the database fails.
pub async fn proven(db: &mut AnyConnection, id: Uuid, state: State, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE pairings SET attempts_left = attempts_left + 1, state = $2, \
         secret = CASE WHEN $2 = 'pending' THEN secret ELSE NULL END \
         WHERE id = $1 AND state = 'pending' AND expires_at > $3",
    )
    .bind(id.to_string())
    .bind(state.word())
    .bind(text(now))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A person has decided about a machine that knows the code. Says whether it was still to be decided.
///
/// # Errors
/// When the database fails.
pub async fn decided(db: &mut AnyConnection, id: Uuid, state: State) -> Result<bool> {
    let done = sqlx::query("UPDATE pairings SET state = $2 WHERE id = $1 AND state = 'claimed'")
        .bind(id.to_string())
        .bind(state.word())
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Locks those whose attempts are all taken and of which no exchange is open that could give one back; of one, or of all.
/// Says whose.
///
/// # Errors
/// When the database fails.
pub async fn lock(db: &mut AnyConnection, id: Option<Uuid>, now: Timestamp) -> Result<Vec<Locked>> {
    let rows = sqlx::query(
        "UPDATE pairings SET state = 'locked', secret = NULL \
         WHERE ($1 = '' OR id = $1) AND state = 'pending' AND attempts_left <= 0 AND NOT EXISTS \
         (SELECT 1 FROM pairing_sessions s WHERE s.pairing = pairings.id AND s.state = 'started' AND s.expires_at > $2) \
         RETURNING gateway, last_attempt_from",
    )
    .bind(id.map(|id| id.to_string()).unwrap_or_default())
    .bind(text(now))
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|row| Ok(Locked { gateway: row.id("gateway")?, from: row.optional_text("last_attempt_from")? }))
        .collect()
}

/// A pairing that was locked.
#[derive(Clone, Debug)]
pub struct Locked {
    /// Whose.
    pub gateway: Uuid,
    /// Where the last attempt came from.
    pub from: Option<String>,
}

/// Forgets those that were over before a time, but for the newest of each gateway, which pages show.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, before: Timestamp) -> Result<()> {
    sqlx::query(
        "DELETE FROM pairings WHERE state NOT IN ('pending', 'claimed') AND expires_at < $1 \
         AND EXISTS (SELECT 1 FROM pairings newer WHERE newer.gateway = pairings.gateway AND newer.id > pairings.id) \
         AND NOT EXISTS (SELECT 1 FROM pairing_sessions s WHERE s.pairing = pairings.id)",
    )
    .bind(text(before))
    .execute(db)
    .await?;
    Ok(())
}
