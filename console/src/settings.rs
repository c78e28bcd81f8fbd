//! What administrators set.

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use utoipa::ToSchema;

use crate::auth::Principal;
use crate::error::Error;
use crate::state::App;
use crate::store::{Result, settings};

const NAME: &str = "console";
const UNHEALTHY_AFTER: std::ops::RangeInclusive<u32> = 10..=86_400;

/// The settings.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Whether a person must approve machines that know a code, comparing numbers, unless it is said when the code is
    /// made.
    pub require_approval: bool,
    /// After how many seconds without a heartbeat a gateway is unhealthy; without, what `--unhealthy-after` says.
    #[schema(minimum = 10, maximum = 86_400)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_after_seconds: Option<u32>,
}

/// As they are.
///
/// # Errors
/// When the database fails.
pub async fn get(db: &mut AnyConnection) -> Result<Settings> {
    Ok(settings::get_json(db, NAME).await?.unwrap_or_default())
}

/// Changes them.
///
/// # Errors
/// 422 where one of them makes no sense.
pub async fn change(app: &App, by: &Principal, new: &Settings) -> crate::error::Result<()> {
    if new.unhealthy_after_seconds.is_some_and(|seconds| !UNHEALTHY_AFTER.contains(&seconds)) {
        let why = "It must be from 10 seconds to a day (86400).";
        return Err(Error::invalid_at("/unhealthy_after_seconds", why));
    }
    let mut db = app.store.write().await?;
    settings::set_json(&mut db, NAME, new).await?;
    let detail = serde_json::to_string(new).unwrap_or_default();
    by.audit(&mut db, app, "settings.change", "settings", &detail).await?;
    Ok(db.commit().await?)
}
