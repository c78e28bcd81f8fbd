//! What has changed lately in any table, for consoles that share a database.

use std::collections::HashSet;

use jiff::Timestamp;
use sqlx::AnyConnection;
use sqlx::Row as _;
use uuid::Uuid;

use super::{Columns as _, Result, first_id, text};

/// A gateway and when something of it changed, as it is stored.
pub type Stamp = (Uuid, String);

/// Gateways whose machine is another since a time, or none any more, and those that have commands not sent yet: their
/// links must look.
///
/// # Errors
/// When the database fails.
pub async fn for_links(db: &mut AnyConnection, since: Timestamp) -> Result<HashSet<Stamp>> {
    let rows = sqlx::query(
        "SELECT id AS gateway, deleted_at AS stamp FROM gateways WHERE deleted_at >= $1 \
         UNION ALL SELECT id, paired_at FROM gateways WHERE paired_at >= $1 \
         UNION ALL SELECT gateway, id FROM commands WHERE outcome IS NULL AND delivered_at IS NULL",
    )
    .bind(text(since))
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.id("gateway")?, row.try_get("stamp")?))).collect()
}

/// Gateways of which something changed since a time that pages show.
///
/// # Errors
/// When the database fails.
pub async fn for_pages(db: &mut AnyConnection, since: Timestamp) -> Result<HashSet<Stamp>> {
    let rows = sqlx::query(
        "SELECT id AS gateway, heartbeat_at AS stamp FROM gateways WHERE heartbeat_at >= $1 \
         UNION ALL SELECT id, created_at FROM gateways WHERE created_at >= $1 \
         UNION ALL SELECT gateway, id FROM events WHERE id >= $2 \
         UNION ALL SELECT gateway, time FROM commands WHERE time >= $1 \
         UNION ALL SELECT gateway, delivered_at FROM commands WHERE delivered_at >= $1 \
         UNION ALL SELECT gateway, finished_at FROM commands WHERE finished_at >= $1 \
         UNION ALL SELECT gateway, created_at FROM pairings WHERE created_at >= $1 \
         UNION ALL SELECT gateway, last_attempt_at FROM pairings WHERE last_attempt_at >= $1",
    )
    .bind(text(since))
    .bind(first_id(since).to_string())
    .fetch_all(db)
    .await?;
    rows.iter().map(|row| Ok((row.id("gateway")?, row.try_get("stamp")?))).collect()
}
