//! `accounts`: who may sign in.

use jiff::Timestamp;
use serde::Serialize;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Columns as _, Result, text};
use crate::auth::Role;

/// An account; its password is read by [`password`] alone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Account {
    /// Its identity.
    pub id: Uuid,
    /// What its owner signs in with.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Whether the password must be changed before anything else.
    pub must_change: bool,
    /// Whether it may sign in at all.
    pub disabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
}

impl FromRow<'_, AnyRow> for Account {
    fn from_row(row: &AnyRow) -> Result<Account> {
        Ok(Account {
            id: row.id("id")?,
            name: row.text("name")?,
            role: row.word("role")?,
            must_change: row.flag("must_change")?,
            disabled: row.flag("disabled")?,
            created_at: row.time("created_at")?,
        })
    }
}

/// Adds an account, with its password's hash (PHC string).
///
/// # Errors
/// When the database fails, or the name [is taken](super::is_taken).
pub async fn insert(db: &mut AnyConnection, account: &Account, password: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO accounts (id, name, password, role, must_change, disabled, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(account.id.to_string())
    .bind(&account.name)
    .bind(password)
    .bind(account.role.word())
    .bind(i64::from(account.must_change))
    .bind(i64::from(account.disabled))
    .bind(text(account.created_at))
    .execute(db)
    .await?;
    Ok(())
}

/// One account.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, id: Uuid) -> Result<Option<Account>> {
    sqlx::query_as("SELECT * FROM accounts WHERE id = $1").bind(id.to_string()).fetch_optional(db).await
}

/// The account that signs in with a name.
///
/// # Errors
/// When the database fails.
pub async fn by_name(db: &mut AnyConnection, name: &str) -> Result<Option<Account>> {
    sqlx::query_as("SELECT * FROM accounts WHERE name = $1").bind(name).fetch_optional(db).await
}

/// All accounts, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &mut AnyConnection) -> Result<Vec<Account>> {
    sqlx::query_as("SELECT * FROM accounts ORDER BY name").fetch_all(db).await
}

/// How many there are.
///
/// # Errors
/// When the database fails.
pub async fn count(db: &mut AnyConnection) -> Result<i64> {
    sqlx::query("SELECT COUNT(*) FROM accounts").fetch_one(db).await?.try_get(0)
}

/// How many enabled administrators there are besides one.
///
/// # Errors
/// When the database fails.
pub async fn other_administrators(db: &mut AnyConnection, id: Uuid) -> Result<i64> {
    // Two that demote each other at once must come one after the other: both databases lock what is updated.
    sqlx::query("UPDATE accounts SET disabled = 0 WHERE role = 'administrator' AND disabled = 0")
        .execute(&mut *db)
        .await?;
    sqlx::query("SELECT COUNT(*) FROM accounts WHERE role = 'administrator' AND disabled = 0 AND id <> $1")
        .bind(id.to_string())
        .fetch_one(db)
        .await?
        .try_get(0)
}

/// The hash of an account's password.
///
/// # Errors
/// When the database fails.
pub async fn password(db: &mut AnyConnection, id: Uuid) -> Result<Option<String>> {
    let row = sqlx::query("SELECT password FROM accounts WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(db)
        .await?;
    row.map(|row| row.text("password")).transpose()
}

/// Gives an account another password, by its hash.
///
/// # Errors
/// When the database fails.
pub async fn set_password(db: &mut AnyConnection, id: Uuid, hash: &str, must_change: bool) -> Result<()> {
    sqlx::query("UPDATE accounts SET password = $2, must_change = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(hash)
        .bind(i64::from(must_change))
        .execute(db)
        .await?;
    Ok(())
}

/// Changes what an account may do.
///
/// # Errors
/// When the database fails.
pub async fn update(db: &mut AnyConnection, id: Uuid, role: Role, disabled: bool) -> Result<()> {
    sqlx::query("UPDATE accounts SET role = $2, disabled = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(role.word())
        .bind(i64::from(disabled))
        .execute(db)
        .await?;
    Ok(())
}

/// Removes an account, and with it its sessions and tokens.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &mut AnyConnection, id: Uuid) -> Result<()> {
    sqlx::query("DELETE FROM accounts WHERE id = $1").bind(id.to_string()).execute(db).await?;
    Ok(())
}
