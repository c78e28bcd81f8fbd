//! `settings`: values by name.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::AnyConnection;
use sqlx::Row as _;

use super::Result;

/// A value's JSON, or what is sealed.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, name: &str) -> Result<Option<String>> {
    let row = sqlx::query("SELECT value FROM settings WHERE name = $1").bind(name).fetch_optional(db).await?;
    row.map(|row| row.try_get(0)).transpose()
}

/// A value that is no secret.
///
/// # Errors
/// When the database fails, or holds something else.
pub async fn get_json<T: DeserializeOwned>(db: &mut AnyConnection, name: &str) -> Result<Option<T>> {
    let value = get(db, name).await?;
    value
        .map(|text| serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into())))
        .transpose()
}

/// Sets a value.
///
/// # Errors
/// When the database fails.
pub async fn set(db: &mut AnyConnection, name: &str, value: &str) -> Result<()> {
    sqlx::query(
        "INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(name)
    .bind(value)
    .execute(db)
    .await?;
    Ok(())
}

/// Sets a value that is no secret.
///
/// # Errors
/// When the database fails.
pub async fn set_json<T: Serialize>(db: &mut AnyConnection, name: &str, value: &T) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))?;
    set(db, name, &text).await
}

/// Sets a value unless there is one; of two consoles that start at once, the first decides.
///
/// # Errors
/// When the database fails.
pub async fn set_first(db: &mut AnyConnection, name: &str, value: &str) -> Result<bool> {
    let done =
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(value)
            .execute(db)
            .await?;
    Ok(done.rows_affected() == 1)
}
