//! `conditions`: what holds of machines.

use protocol::link::{Condition, ConditionStatus};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, FromRow};
use uuid::Uuid;

use super::{Columns as _, Result, text};

/// A row's condition.
struct Row(Condition);

impl FromRow<'_, AnyRow> for Row {
    fn from_row(row: &AnyRow) -> Result<Row> {
        Ok(Row(Condition {
            kind: row.text("kind")?,
            status: row.word("status")?,
            reason: row.text("reason")?,
            message: row.text("message")?,
            last_transition_time: row.time("transition_at")?,
        }))
    }
}

/// Those of a gateway, in the order in which they changed.
///
/// # Errors
/// When the database fails.
pub async fn list(db: &mut AnyConnection, gateway: Uuid) -> Result<Vec<Condition>> {
    let rows: Vec<Row> =
        sqlx::query_as("SELECT * FROM conditions WHERE gateway = $1 ORDER BY transition_at, kind")
            .bind(gateway.to_string())
            .fetch_all(db)
            .await?;
    Ok(rows.into_iter().map(|Row(condition)| condition).collect())
}

/// Those of all gateways with names in a range, ends included.
///
/// # Errors
/// When the database fails.
pub async fn between(db: &mut AnyConnection, first: &str, last: &str) -> Result<Vec<(Uuid, Condition)>> {
    let rows = sqlx::query(
        "SELECT conditions.* FROM conditions JOIN gateways ON gateways.id = conditions.gateway \
         WHERE gateways.deleted_at IS NULL AND gateways.name >= $1 AND gateways.name <= $2",
    )
    .bind(first)
    .bind(last)
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.id("gateway")?, Row::from_row(row)?.0))).collect()
}

/// Sets one of a gateway, unless that has very many already.
///
/// # Errors
/// When the database fails.
pub async fn set(db: &mut AnyConnection, gateway: Uuid, condition: &Condition) -> Result<()> {
    let status = match condition.status {
        ConditionStatus::True => "True",
        ConditionStatus::False => "False",
        ConditionStatus::Unknown => "Unknown",
    };
    sqlx::query(
        "INSERT INTO conditions (gateway, kind, status, reason, message, transition_at) \
         SELECT $1, $2, $3, $4, $5, $6 \
         WHERE (SELECT COUNT(*) FROM conditions WHERE gateway = $1 AND kind <> $2) < 100 \
         ON CONFLICT (gateway, kind) DO UPDATE SET status = excluded.status, reason = excluded.reason, \
         message = excluded.message, transition_at = excluded.transition_at",
    )
    .bind(gateway.to_string())
    .bind(&condition.kind)
    .bind(status)
    .bind(&condition.reason)
    .bind(&condition.message)
    .bind(text(condition.last_transition_time))
    .execute(db)
    .await?;
    Ok(())
}

/// Forgets those of a gateway: another machine has become it.
///
/// # Errors
/// When the database fails.
pub async fn clear(db: &mut AnyConnection, gateway: Uuid) -> Result<()> {
    sqlx::query("DELETE FROM conditions WHERE gateway = $1").bind(gateway.to_string()).execute(db).await?;
    Ok(())
}
