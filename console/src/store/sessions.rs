//! `sessions`: who is signed in.

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Columns as _, Result, text};

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// SHA-256 of the cookie, hexadecimal.
    pub id: String,
    /// Whose.
    pub account: Uuid,
    /// What forms and scripts must send along.
    pub csrf: String,
    /// Where it began.
    pub address: String,
    /// When.
    pub created_at: Timestamp,
    /// Of the newest request, to the minute.
    pub seen_at: Timestamp,
    /// When it ends in any case.
    pub expires_at: Timestamp,
}

impl FromRow<'_, AnyRow> for Session {
    fn from_row(row: &AnyRow) -> Result<Session> {
        Ok(Session {
            id: row.text("id")?,
            account: row.id("account")?,
            csrf: row.text("csrf")?,
            address: row.text("address")?,
            created_at: row.time("created_at")?,
            seen_at: row.time("seen_at")?,
            expires_at: row.time("expires_at")?,
        })
    }
}

/// Adds a session.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, session: &Session) -> Result<()> {
    sqlx::query(
        "INSERT INTO sessions (id, account, csrf, address, created_at, seen_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(&session.id)
    .bind(session.account.to_string())
    .bind(&session.csrf)
    .bind(&session.address)
    .bind(text(session.created_at))
    .bind(text(session.seen_at))
    .bind(text(session.expires_at))
    .execute(db)
    .await?;
    Ok(())
}

/// A session, over or not.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, id: &str) -> Result<Option<Session>> {
    sqlx::query_as("SELECT * FROM sessions WHERE id = $1").bind(id).fetch_optional(db).await
}

/// Notes a request.
///
/// # Errors
/// When the database fails.
pub async fn seen(db: &mut AnyConnection, id: &str, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE sessions SET seen_at = $2 WHERE id = $1")
        .bind(id)
        .bind(text(now))
        .execute(db)
        .await?;
    Ok(())
}

/// Ends a session.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &mut AnyConnection, id: &str) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE id = $1").bind(id).execute(db).await?;
    Ok(())
}

/// Ends all sessions of an account.
///
/// # Errors
/// When the database fails.
pub async fn delete_of(db: &mut AnyConnection, account: Uuid) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE account = $1").bind(account.to_string()).execute(db).await?;
    Ok(())
}

/// Forgets the sessions that are over.
///
/// # Errors
/// When the database fails.
pub async fn delete_expired(db: &mut AnyConnection, now: Timestamp, idle_since: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM sessions WHERE expires_at <= $1 OR seen_at <= $2")
        .bind(text(now))
        .bind(text(idle_since))
        .execute(db)
        .await?;
    Ok(())
}
