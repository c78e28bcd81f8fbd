//! `tokens`: what programs sign in with.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Columns as _, Result, text, text_of};
use crate::auth::Role;

/// A token, without what is secret of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Token {
    /// Its identity.
    pub id: Uuid,
    /// What it is for.
    pub name: String,
    /// Whose it is: with the account it ends.
    pub account: Uuid,
    /// What it may do, if its account may.
    pub role: Role,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to the minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

impl FromRow<'_, AnyRow> for Token {
    fn from_row(row: &AnyRow) -> Result<Token> {
        Ok(Token {
            id: row.id("id")?,
            name: row.text("name")?,
            account: row.id("account")?,
            role: row.word("role")?,
            created_at: row.time("created_at")?,
            expires_at: row.optional_time("expires_at")?,
            used_at: row.optional_time("used_at")?,
        })
    }
}

/// Adds a token, with the SHA-256 of it (hexadecimal), and the one that it was made with: it ends with that.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, token: &Token, hash: &str, parent: Option<Uuid>) -> Result<()> {
    sqlx::query(
        "INSERT INTO tokens (id, hash, name, account, role, created_at, expires_at, parent) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(token.id.to_string())
    .bind(hash)
    .bind(&token.name)
    .bind(token.account.to_string())
    .bind(token.role.word())
    .bind(text(token.created_at))
    .bind(text_of(token.expires_at))
    .bind(parent.map(|parent| parent.to_string()))
    .execute(db)
    .await?;
    Ok(())
}

/// The token with a hash, expired or not.
///
/// # Errors
/// When the database fails.
pub async fn by_hash(db: &mut AnyConnection, hash: &str) -> Result<Option<Token>> {
    sqlx::query_as("SELECT * FROM tokens WHERE hash = $1").bind(hash).fetch_optional(db).await
}

/// One token.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, id: Uuid) -> Result<Option<Token>> {
    sqlx::query_as("SELECT * FROM tokens WHERE id = $1").bind(id.to_string()).fetch_optional(db).await
}

/// All tokens, newest first; of one account, or of all.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &mut AnyConnection, account: Option<Uuid>) -> Result<Vec<Token>> {
    match account {
        Some(account) => {
            sqlx::query_as("SELECT * FROM tokens WHERE account = $1 ORDER BY id DESC")
                .bind(account.to_string())
                .fetch_all(db)
                .await
        }
        None => sqlx::query_as("SELECT * FROM tokens ORDER BY id DESC").fetch_all(db).await,
    }
}

/// Notes a use.
///
/// # Errors
/// When the database fails.
pub async fn used(db: &mut AnyConnection, id: Uuid, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE tokens SET used_at = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(text(now))
        .execute(db)
        .await?;
    Ok(())
}

/// Ends a token; says whether there was one.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &mut AnyConnection, id: Uuid) -> Result<bool> {
    let done = sqlx::query("DELETE FROM tokens WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(done.rows_affected() > 0)
}
