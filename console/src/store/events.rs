//! `events`: what machines had to say.

use jiff::Timestamp;
use protocol::link::Severity;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Columns as _, Result, first_id, text};

/// An event.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Event {
    /// Its identity, which sorts by the time it was received.
    pub id: Uuid,
    /// Whose.
    pub gateway: Uuid,
    /// When it happened, by the machine's clock.
    pub time: Timestamp,
    /// When the console heard of it.
    pub received_at: Timestamp,
    /// How bad.
    pub severity: Severity,
    /// A CamelCase word, stable.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Who says it.
    pub source: String,
}

impl FromRow<'_, AnyRow> for Event {
    fn from_row(row: &AnyRow) -> Result<Event> {
        Ok(Event {
            id: row.id("id")?,
            gateway: row.id("gateway")?,
            time: row.time("time")?,
            received_at: row.time("received_at")?,
            severity: row.word("severity")?,
            reason: row.text("reason")?,
            message: row.text("message")?,
            source: row.text("source")?,
        })
    }
}

/// Those of a gateway, newest first, before one of them if it is named.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &mut AnyConnection,
    gateway: Uuid,
    before: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Event>> {
    sqlx::query_as("SELECT * FROM events WHERE gateway = $1 AND id < $2 ORDER BY id DESC LIMIT $3")
        .bind(gateway.to_string())
        .bind(before.unwrap_or(Uuid::max()).to_string())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await
}

/// Those of a gateway that came after one of them, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn after(db: &mut AnyConnection, gateway: Uuid, after: Uuid, limit: u32) -> Result<Vec<Event>> {
    sqlx::query_as("SELECT * FROM events WHERE gateway = $1 AND id > $2 ORDER BY id LIMIT $3")
        .bind(gateway.to_string())
        .bind(after.to_string())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await
}

/// The most that are kept of one gateway.
const KEPT: i64 = 10_000;

/// Adds one.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, event: &Event) -> Result<()> {
    let severity = match event.severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    sqlx::query(
        "INSERT INTO events (id, gateway, time, received_at, severity, reason, message, source) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(event.id.to_string())
    .bind(event.gateway.to_string())
    .bind(text(event.time))
    .bind(text(event.received_at))
    .bind(severity)
    .bind(&event.reason)
    .bind(&event.message)
    .bind(&event.source)
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets the oldest of a gateway's that are more than ten thousand.
///
/// # Errors
/// When the database fails.
pub async fn trim(db: &mut AnyConnection, gateway: Uuid) -> Result<()> {
    sqlx::query(
        "DELETE FROM events WHERE gateway = $1 AND id <= \
         (SELECT id FROM events WHERE gateway = $1 ORDER BY id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(gateway.to_string())
    .bind(KEPT)
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets some of what came before a time; says how many. To be repeated until there are none: one statement for all
/// would keep others from writing for too long.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, before: Timestamp) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE id < $1 ORDER BY id LIMIT 1000)",
    )
    .bind(first_id(before).to_string())
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}
