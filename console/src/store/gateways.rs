//! `gateways`: the machines, paired or awaited.

use jiff::Timestamp;
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow, Row as _};
use uuid::Uuid;

use super::{Columns as _, Result, text};
use crate::machine::health::Beat;
use crate::machine::spool::Mark;

/// Waits for a machine that knows its code.
pub const AWAITING_PAIRING: &str = "awaiting-pairing";
/// Its machine will be told to go, and then it is gone.
pub const DELETING: &str = "deleting";
/// It was removed; what remains is history.
pub const DELETED: &str = "deleted";

/// A gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its identity.
    pub id: Uuid,
    /// Its name, a DNS label.
    pub name: String,
    /// [`AWAITING_PAIRING`], then what its machine says: `pending`, `provisioning`, `running`, `deleting`; at last
    /// [`DELETED`].
    pub state: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When a machine paired as it, last.
    pub paired_at: Option<Timestamp>,
    /// When it was removed.
    pub deleted_at: Option<Timestamp>,
    /// Its machine's Ed25519 public key, base64.
    pub device_key: Option<String>,
    /// What its machine said of itself when it paired.
    pub facts: Value,
    /// Its configuration, sealed for `gateways.configuration` of its id.
    pub configuration: Option<String>,
    /// The newest heartbeat.
    pub heartbeat: Option<Beat>,
    /// When that came, by the console's clock.
    pub heartbeat_at: Option<Timestamp>,
    /// Its machine's spool, and up to where it is stored.
    pub spool: Option<Uuid>,
    /// See there.
    pub acknowledged: i64,
}

impl FromRow<'_, AnyRow> for Gateway {
    fn from_row(row: &AnyRow) -> Result<Gateway> {
        Ok(Gateway {
            id: row.id("id")?,
            name: row.text("name")?,
            state: row.text("state")?,
            created_at: row.time("created_at")?,
            created_by: row.text("created_by")?,
            paired_at: row.optional_time("paired_at")?,
            deleted_at: row.optional_time("deleted_at")?,
            device_key: row.optional_text("device_key")?,
            facts: row.optional_json("facts")?.unwrap_or_default(),
            configuration: row.optional_text("configuration")?,
            heartbeat: row.optional_json("heartbeat")?,
            heartbeat_at: row.optional_time("heartbeat_at")?,
            spool: row.optional_id("spool")?,
            acknowledged: row.number("acknowledged")?,
        })
    }
}

/// Adds one that awaits pairing.
///
/// # Errors
/// When the database fails, or the name [is taken](super::is_taken).
pub async fn insert(db: &mut AnyConnection, id: Uuid, name: &str, by: &str, now: Timestamp) -> Result<()> {
    sqlx::query("INSERT INTO gateways (id, name, state, created_at, created_by) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.to_string())
        .bind(name)
        .bind(AWAITING_PAIRING)
        .bind(text(now))
        .bind(by)
        .execute(db)
        .await?;
    Ok(())
}

/// One gateway, deleted or not.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection, id: Uuid) -> Result<Option<Gateway>> {
    sqlx::query_as("SELECT * FROM gateways WHERE id = $1").bind(id.to_string()).fetch_optional(db).await
}

/// Those that are not deleted, by name, after a name if one is given.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &mut AnyConnection, after: &str, limit: u32) -> Result<Vec<Gateway>> {
    sqlx::query_as("SELECT * FROM gateways WHERE deleted_at IS NULL AND name > $1 ORDER BY name LIMIT $2")
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(db)
        .await
}

/// How many there are that are not deleted.
///
/// # Errors
/// When the database fails.
pub async fn count(db: &mut AnyConnection) -> Result<i64> {
    sqlx::query("SELECT COUNT(*) FROM gateways WHERE deleted_at IS NULL").fetch_one(db).await?.try_get(0)
}

/// Its machine has paired: from now on this key is the gateway.
///
/// # Errors
/// When the database fails, or another gateway [has](super::is_taken) that key.
pub async fn paired(
    db: &mut AnyConnection,
    id: Uuid,
    device_key: &str,
    facts: &Value,
    now: Timestamp,
) -> Result<()> {
    sqlx::query(
        "UPDATE gateways SET state = 'pending', device_key = $2, facts = $3, paired_at = $4, \
         heartbeat = NULL, heartbeat_at = NULL, spool = NULL, acknowledged = 0 \
         WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(id.to_string())
    .bind(device_key)
    .bind(facts.to_string())
    .bind(text(now))
    .execute(db)
    .await?;
    Ok(())
}

/// Sets its configuration, sealed.
///
/// # Errors
/// When the database fails.
pub async fn set_configuration(db: &mut AnyConnection, id: Uuid, sealed: &str) -> Result<()> {
    sqlx::query("UPDATE gateways SET configuration = $2 WHERE id = $1 AND deleted_at IS NULL")
        .bind(id.to_string())
        .bind(sealed)
        .execute(db)
        .await?;
    Ok(())
}

/// Removes it: its machine's key counts no more, and its secrets are gone. Says whether it was there.
///
/// # Errors
/// When the database fails.
pub async fn delete(db: &mut AnyConnection, id: Uuid, now: Timestamp) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE gateways SET state = $2, deleted_at = $3, device_key = NULL, configuration = NULL \
         WHERE id = $1 AND deleted_at IS NULL",
    )
    .bind(id.to_string())
    .bind(DELETED)
    .bind(text(now))
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// How far the entries of a gateway are stored. Its row is locked until the transaction ends, so that of two messages
/// one comes after the other; `None`: it is deleted.
///
/// # Errors
/// When the database fails.
pub async fn lock_mark(db: &mut AnyConnection, id: Uuid) -> Result<Option<Mark>> {
    // Both databases lock what is updated; only one has SELECT … FOR UPDATE.
    let row = sqlx::query(
        "UPDATE gateways SET acknowledged = acknowledged WHERE id = $1 AND deleted_at IS NULL \
         RETURNING spool, acknowledged",
    )
    .bind(id.to_string())
    .fetch_optional(db)
    .await?;
    row.map(|row| {
        Ok(Mark {
            spool: row.optional_id("spool")?,
            acknowledged: row.number("acknowledged")?.unsigned_abs(),
        })
    })
    .transpose()
}

/// Notes how far the entries of a gateway are stored.
///
/// # Errors
/// When the database fails.
pub async fn set_mark(db: &mut AnyConnection, id: Uuid, mark: Mark) -> Result<()> {
    sqlx::query("UPDATE gateways SET spool = $2, acknowledged = $3 WHERE id = $1")
        .bind(id.to_string())
        .bind(mark.spool.map(|spool| spool.to_string()))
        .bind(i64::try_from(mark.acknowledged).unwrap_or(i64::MAX))
        .execute(db)
        .await?;
    Ok(())
}

/// The gateway that a device key is.
///
/// # Errors
/// When the database fails.
pub async fn by_device_key(db: &mut AnyConnection, device_key: &str) -> Result<Option<Gateway>> {
    sqlx::query_as("SELECT * FROM gateways WHERE device_key = $1").bind(device_key).fetch_optional(db).await
}

/// Heartbeats, unless a newer one is there: a console that could not write for a while has old ones, and of machines that
/// were replaced since.
///
/// # Errors
/// When the database fails.
pub async fn heard(db: &mut AnyConnection, beats: &[(Uuid, Beat, Timestamp)]) -> Result<()> {
    // One statement for many: a round trip each would be most of the work. It takes what both databases take.
    const ROWS: usize = 250;
    for beats in beats.chunks(ROWS) {
        let rows: Vec<_> = (0..beats.len())
            .map(|n| format!("(${}, ${}, ${}, ${})", 4 * n + 1, 4 * n + 2, 4 * n + 3, 4 * n + 4))
            .collect();
        // A machine says what it does, but not that it is no longer deleted, nor what we do not know.
        let statement = format!(
            "WITH heard (id, beat, at, state) AS (VALUES {}) \
             UPDATE gateways SET heartbeat = heard.beat, heartbeat_at = heard.at, state = CASE \
             WHEN heard.state NOT IN ('pending', 'provisioning', 'running', 'deleting') \
             OR gateways.state NOT IN ('pending', 'provisioning', 'running') THEN gateways.state ELSE heard.state END \
             FROM heard WHERE gateways.id = heard.id AND gateways.deleted_at IS NULL AND gateways.device_key IS NOT NULL \
             AND gateways.paired_at <= heard.at AND (gateways.heartbeat_at IS NULL OR gateways.heartbeat_at <= heard.at)",
            rows.join(", ")
        );
        let mut query = sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(beats.len() == ROWS);
        for (gateway, beat, at) in beats {
            let json = serde_json::to_string(beat).map_err(|error| sqlx::Error::Encode(error.into()))?;
            query = query.bind(gateway.to_string()).bind(json).bind(text(*at)).bind(&beat.heartbeat.state);
        }
        query.execute(&mut *db).await?;
    }
    Ok(())
}

/// Forgets those that were deleted before a time, and all that is known of them.
///
/// # Errors
/// When the database fails.
pub async fn sweep(db: &mut AnyConnection, before: Timestamp) -> Result<()> {
    // Those refer to it; what its pairings had open is long over.
    for table in ["events", "conditions", "commands", "pairings"] {
        let statement =
            format!("DELETE FROM {table} WHERE gateway IN (SELECT id FROM gateways WHERE deleted_at < $1)");
        sqlx::query(sqlx::AssertSqlSafe(statement)).bind(text(before)).execute(&mut *db).await?;
    }
    sqlx::query("DELETE FROM gateways WHERE deleted_at < $1").bind(text(before)).execute(db).await?;
    Ok(())
}
