//! `commands`: what machines were told to do.

use jiff::Timestamp;
use protocol::link::{CommandResult, Outcome};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Columns as _, Result, text};

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    /// Its identity, which sorts by time.
    pub id: Uuid,
    /// For whom.
    pub gateway: Uuid,
    /// When it was given.
    pub time: Timestamp,
    /// By whom.
    pub actor: String,
    /// What to do.
    pub kind: String,
    /// What it takes: JSON, sealed for `commands.arguments` of its id; it may have passwords, and is empty when it is over.
    pub arguments: String,
    /// When it was first sent.
    pub delivered_at: Option<Timestamp>,
    /// `done`, `failed`, `unsupported`, `cancelled`; none while it is still to be done.
    pub outcome: Option<String>,
    /// What the machine said of it.
    pub message: String,
    /// When that was.
    pub finished_at: Option<Timestamp>,
}

impl FromRow<'_, AnyRow> for Command {
    fn from_row(row: &AnyRow) -> Result<Command> {
        Ok(Command {
            id: row.id("id")?,
            gateway: row.id("gateway")?,
            time: row.time("time")?,
            actor: row.text("actor")?,
            kind: row.text("kind")?,
            arguments: row.text("arguments")?,
            delivered_at: row.optional_time("delivered_at")?,
            outcome: row.optional_text("outcome")?,
            message: row.text("message")?,
            finished_at: row.optional_time("finished_at")?,
        })
    }
}

/// Adds a command.
///
/// # Errors
/// When the database fails.
pub async fn insert(db: &mut AnyConnection, command: &Command) -> Result<()> {
    sqlx::query(
        "INSERT INTO commands (id, gateway, time, actor, kind, arguments) VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(command.id.to_string())
    .bind(command.gateway.to_string())
    .bind(text(command.time))
    .bind(&command.actor)
    .bind(&command.kind)
    .bind(&command.arguments)
    .execute(db)
    .await?;
    Ok(())
}

/// What is still to be done, oldest first.
///
/// # Errors
/// When the database fails.
pub async fn open(db: &mut AnyConnection, gateway: Uuid, limit: u32) -> Result<Vec<Command>> {
    sqlx::query_as("SELECT * FROM commands WHERE gateway = $1 AND outcome IS NULL ORDER BY id LIMIT $2")
        .bind(gateway.to_string())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await
}

/// Commands of a gateway, newest first, before one of them if it is named.
///
/// # Errors
/// When the database fails.
pub async fn list(
    db: &mut AnyConnection,
    gateway: Uuid,
    before: Option<Uuid>,
    limit: u32,
) -> Result<Vec<Command>> {
    sqlx::query_as("SELECT * FROM commands WHERE gateway = $1 AND id < $2 ORDER BY id DESC LIMIT $3")
        .bind(gateway.to_string())
        .bind(before.unwrap_or(Uuid::max()).to_string())
        .bind(i64::from(limit))
        .fetch_all(db)
        .await
}

/// Calls off what is still to be done, of one kind or of all.
///
/// # Errors
/// When the database fails.
pub async fn cancel(
    db: &mut AnyConnection,
    gateway: Uuid,
    kind: Option<&str>,
    message: &str,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "UPDATE commands SET outcome = 'cancelled', arguments = '', message = $3, finished_at = $4 \
         WHERE gateway = $1 AND outcome IS NULL AND ($2 = '' OR kind = $2)",
    )
    .bind(gateway.to_string())
    .bind(kind.unwrap_or_default())
    .bind(message)
    .bind(text(now))
    .execute(db)
    .await?;
    Ok(())
}

/// Notes that a command is being sent.
///
/// # Errors
/// When the database fails.
pub async fn delivered(db: &mut AnyConnection, id: Uuid, now: Timestamp) -> Result<()> {
    sqlx::query("UPDATE commands SET delivered_at = $2 WHERE id = $1")
        .bind(id.to_string())
        .bind(text(now))
        .execute(db)
        .await?;
    Ok(())
}

/// Ends a command with what came of it, and forgets what it took. Says its kind if it was open: a result counts once.
///
/// # Errors
/// When the database fails.
pub async fn finish(
    db: &mut AnyConnection,
    gateway: Uuid,
    result: &CommandResult,
    now: Timestamp,
) -> Result<Option<String>> {
    let outcome = match result.outcome {
        Outcome::Done => "done",
        Outcome::Failed => "failed",
        Outcome::Unsupported => "unsupported",
    };
    let done = sqlx::query(
        "UPDATE commands SET outcome = $3, arguments = '', message = $4, finished_at = $5 \
         WHERE id = $1 AND gateway = $2 AND outcome IS NULL RETURNING kind",
    )
    .bind(result.command.to_string())
    .bind(gateway.to_string())
    .bind(outcome)
    .bind(&result.message)
    .bind(text(now))
    .fetch_optional(db)
    .await?;
    done.map(|row| row.text("kind")).transpose()
}

/// Forgets those that were over before a time.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, before: Timestamp) -> Result<()> {
    sqlx::query("DELETE FROM commands WHERE time < $1 AND finished_at < $1")
        .bind(text(before))
        .execute(db)
        .await?;
    Ok(())
}
