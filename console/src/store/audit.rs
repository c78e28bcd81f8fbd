//! `audit`: who did what, from where.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Columns as _, Result, text};

/// The most that are kept.
const KEPT: i64 = 1_000_000;

/// An entry. It is never changed.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Entry {
    /// Its identity, which sorts by time.
    pub id: Uuid,
    /// When.
    pub time: Timestamp,
    /// Who: an account's name, `NAME, token TOKEN`, `gateway NAME`, `stranger` for who did not get in, or `console`.
    pub actor: String,
    /// From where; empty where it was on this machine.
    pub address: String,
    /// What, as in `gateway.create` or `login.failed`.
    pub action: String,
    /// To whom or what.
    pub subject: String,
    /// What else is worth knowing.
    pub detail: String,
}

impl FromRow<'_, AnyRow> for Entry {
    fn from_row(row: &AnyRow) -> Result<Entry> {
        Ok(Entry {
            id: row.id("id")?,
            time: row.time("time")?,
            actor: row.text("actor")?,
            address: row.text("address")?,
            action: row.text("action")?,
            subject: row.text("subject")?,
            detail: row.text("detail")?,
        })
    }
}

/// Adds an entry.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, entry: &Entry) -> Result<()> {
    sqlx::query(
        "INSERT INTO audit (id, time, actor, address, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(entry.id.to_string())
    .bind(text(entry.time))
    .bind(&entry.actor)
    .bind(&entry.address)
    .bind(&entry.action)
    .bind(&entry.subject)
    .bind(&entry.detail)
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets what came before a time, and the oldest of more than a million: strangers can make entries, too.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, before: Timestamp) -> Result<()> {
    sqlx::query(
        "DELETE FROM audit WHERE time < $1 OR id <= (SELECT id FROM audit ORDER BY id DESC LIMIT 1 OFFSET $2)",
    )
    .bind(text(before))
    .bind(KEPT)
    .execute(db)
    .await?;
    Ok(())
}

/// Entries, newest first, before one of them if it is named.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &mut AnyConnection, before: Option<Uuid>, limit: u32) -> Result<Vec<Entry>> {
    // Identifiers are UUIDs, so none sorts after this.
    let before = before.unwrap_or(Uuid::max()).to_string();
    sqlx::query_as("SELECT * FROM audit WHERE id < $1 ORDER BY id DESC LIMIT $2")
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(db)
        .await
}
