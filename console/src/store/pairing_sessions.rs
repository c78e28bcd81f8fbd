//! `pairing_sessions`: exchanges of messages about a code, and the decoys that strangers get.

use jiff::Timestamp;
use serde::Deserialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Columns as _, Result, text};

/// Where an exchange is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Message 2 went out.
    Started,
    /// The machine knows the code; a person is asked.
    Waiting,
    /// Paired.
    Granted,
    /// Over without pairing.
    Refused,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Started => "started",
            State::Waiting => "waiting",
            State::Granted => "granted",
            State::Refused => "refused",
        }
    }
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its identity, which message 3 names.
    pub id: Uuid,
    /// About which pairing; none where the locator is nobody's.
    pub pairing: Option<Uuid>,
    /// Message 2, JSON.
    pub started: String,
    /// Sealed for `pairing_sessions.keys` of its id; gone when it is over.
    pub keys: Option<String>,
    /// SHA-256 of message 3, hexadecimal.
    pub confirm: Option<String>,
    /// What message 3 claimed, JSON, while a person is asked.
    pub claim: Option<String>,
    /// Message 4, sealed for `pairing_sessions.confirmed` of its id.
    pub confirmed: Option<String>,
    /// For people to compare.
    pub number: Option<String>,
    /// Where it is.
    pub state: State,
    /// Where the machine spoke from.
    pub address: String,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl FromRow<'_, AnyRow> for Session {
    fn from_row(row: &AnyRow) -> Result<Session> {
        Ok(Session {
            id: row.id("id")?,
            pairing: row.optional_id("pairing")?,
            started: row.text("started")?,
            keys: row.optional_text("keys")?,
            confirm: row.optional_text("confirm")?,
            claim: row.optional_text("claim")?,
            confirmed: row.optional_text("confirmed")?,
            number: row.optional_text("number")?,
            state: row.word("state")?,
            address: row.text("address")?,
            expires_at: row.time("expires_at")?,
        })
    }
}

/// What becomes of a session with message 3.
#[derive(Clone, Debug)]
pub struct Settled {
    /// Where it is from now on.
    pub state: State,
    /// As in [`Session`], and the same for all that follow.
    pub confirm: String,
    /// The keys, where they are still needed.
    pub keys: Option<String>,
    #[expect(missing_docs, reason = "as in Session")]
    pub claim: Option<String>,
    #[expect(missing_docs, reason = "as in Session")]
    pub confirmed: Option<String>,
    #[expect(missing_docs, reason = "as in Session")]
    pub number: Option<String>,
    #[expect(missing_docs, reason = "as in Session")]
    pub expires_at: Timestamp,
}

/// Adds one that `start`, the SHA-256 of locator and message 1, began. Says whether it is new: of two with the same
/// message 1, the first counts.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, session: &Session, start: &str, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO pairing_sessions (id, pairing, start, started, keys, state, address, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (start) DO NOTHING",
    )
    .bind(session.id.to_string())
    .bind(session.pairing.map(|id| id.to_string()))
    .bind(start)
    .bind(&session.started)
    .bind(&session.keys)
    .bind(session.state.word())
    .bind(&session.address)
    .bind(text(now))
    .bind(text(session.expires_at))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Removes the one that `start` began if it is too late for it, so that the same message 1 can begin another.
///
/// # Errors
/// When the database fails.
pub async fn forget_late(db: &mut AnyConnection, start: &str, now: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM pairing_sessions WHERE start = $1 AND expires_at <= $2")
        .bind(start)
        .bind(text(now))
        .execute(db)
        .await?;
    Ok(())
}

/// By its identity.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, id: Uuid) -> Result<Option<Session>> {
    sqlx::query_as("SELECT * FROM pairing_sessions WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await
}

/// By the SHA-256 of locator and message 1.
///
/// # Errors
/// When the database fails.
pub async fn by_start(db: &mut AnyConnection, start: &str) -> Result<Option<Session>> {
    sqlx::query_as("SELECT * FROM pairing_sessions WHERE start = $1").bind(start).fetch_optional(db).await
}

/// The one of a gateway about which a person is asked.
///
/// # Errors
/// When the database fails.
pub async fn waiting(db: &mut AnyConnection, gateway: Uuid) -> Result<Option<Session>> {
    sqlx::query_as(
        "SELECT s.* FROM pairing_sessions s JOIN pairings p ON p.id = s.pairing \
         WHERE p.gateway = $1 AND p.state = 'claimed' AND s.state = 'waiting'",
    )
    .bind(gateway.to_string())
    .fetch_optional(db)
    .await
}

/// Locks a session's row until the transaction ends; says whether it is in that state.
///
/// # Errors
/// When the database fails.
pub async fn lock(db: &mut AnyConnection, id: Uuid, state: State) -> Result<bool> {
    // Both databases lock what is updated.
    let done = sqlx::query("UPDATE pairing_sessions SET state = state WHERE id = $1 AND state = $2")
        .bind(id.to_string())
        .bind(state.word())
        .execute(db)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Takes a session from one state to the next; says whether it was in that state still. Two requests may try, one does.
///
/// # Errors
/// When the database fails.
pub async fn settle(db: &mut AnyConnection, id: Uuid, from: State, to: &Settled) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE pairing_sessions SET state = $3, confirm = $4, keys = $5, claim = $6, confirmed = $7, number = $8, \
         expires_at = $9 WHERE id = $1 AND state = $2",
    )
    .bind(id.to_string())
    .bind(from.word())
    .bind(to.state.word())
    .bind(&to.confirm)
    .bind(&to.keys)
    .bind(&to.claim)
    .bind(&to.confirmed)
    .bind(&to.number)
    .bind(text(to.expires_at))
    .execute(db)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends all others of a pairing: one machine has shown that it knows the code.
///
/// # Errors
/// When the database fails.
pub async fn end_others(db: &mut AnyConnection, pairing: Uuid, except: Uuid) -> Result<()> {
    sqlx::query(
        "UPDATE pairing_sessions SET state = 'refused', keys = NULL \
         WHERE pairing = $1 AND id <> $2 AND state IN ('started', 'waiting')",
    )
    .bind(pairing.to_string())
    .bind(except.to_string())
    .execute(db)
    .await?;
    Ok(())
}

/// Removes those for which it is too late, and those of pairings that are over without a machine.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM pairing_sessions WHERE expires_at <= $1 OR (state IN ('started', 'waiting') AND pairing IN \
         (SELECT id FROM pairings WHERE state IN ('expired', 'locked', 'cancelled')))",
    )
    .bind(text(now))
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
