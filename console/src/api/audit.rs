//! `/v1/audit`.

use axum::Json as Answer;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::Query;
use super::gateways::limit;
use crate::auth::Administrator;
use crate::error::Result;
use crate::state::App;
use crate::store::audit::{self, Entry};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(list_audit))
}

/// Entries of the audit log.
#[derive(Debug, Serialize, ToSchema)]
struct Entries {
    /// Newest first.
    items: Vec<Entry>,
}

/// Which entries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// Only those before this one: the last of the page before.
    before: Option<Uuid>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Who did what, from where; newest first
#[utoipa::path(
    get, path = "/v1/audit", tag = "administration", extensions(("x-role" = json!("administrator"))),
    params(Page),
    responses((status = 200, body = Entries)),
)]
async fn list_audit(
    State(app): State<App>,
    _: Administrator,
    Query(page): Query<Page>,
) -> Result<Answer<Entries>> {
    let limit = limit(page.limit)?;
    let items = audit::list(&mut *app.store.read().await?, page.before, limit).await?;
    Ok(Answer(Entries { items }))
}
