//! `replays`: nonces of signed requests, so that none counts twice.

use jiff::Timestamp;
use sqlx::AnyConnection;

use super::{Result, text};

/// Notes a nonce, which starts with whose it is. Says whether it is new.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, nonce: &str, expires_at: Timestamp) -> Result<bool> {
    let done =
        sqlx::query("INSERT INTO replays (nonce, expires_at) VALUES ($1, $2) ON CONFLICT (nonce) DO NOTHING")
            .bind(nonce)
            .bind(text(expires_at))
            .execute(db)
            .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets nonces of requests that would be too old anyway.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, now: Timestamp) -> Result<u64> {
    let done = sqlx::query("DELETE FROM replays WHERE expires_at <= $1").bind(text(now)).execute(db).await?;
    Ok(done.rows_affected())
}
