//! Events.

use uuid::Uuid;

use super::existing;
use crate::error::Result;
use crate::state::App;
use crate::store::events as table;

pub use crate::store::events::Event;

/// Events of a gateway, newest first, before one of them if it is named.
///
/// # Errors
/// 404.
pub async fn events(app: &App, id: Uuid, before: Option<Uuid>, limit: u32) -> Result<Vec<Event>> {
    let mut db = app.store.read().await?;
    existing(&mut db, id).await?;
    Ok(table::list(&mut db, id, before, limit).await?)
}

/// Events of a gateway that came after one of them, oldest first.
///
/// # Errors
/// 404.
pub async fn events_after(app: &App, id: Uuid, after: Uuid, limit: u32) -> Result<Vec<Event>> {
    let mut db = app.store.read().await?;
    existing(&mut db, id).await?;
    Ok(table::after(&mut db, id, after, limit).await?)
}
