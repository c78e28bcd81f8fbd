//! `/v1/pools/check`: what pools come to, as they are typed.

use axum::Json as Answer;
use gateway::{Configuration, PoolReport};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Json;
use crate::auth::Viewer;
use crate::state::App;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(check_pools))
}

/// What the pools of a configuration come to, and what is wrong with its addresses
///
/// Only the fields that have to do with addresses matter.
#[utoipa::path(
    post, path = "/v1/pools/check", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    request_body = Configuration,
    responses((status = 200, body = PoolReport)),
)]
async fn check_pools(_: Viewer, Json(configuration): Json<Configuration>) -> Answer<PoolReport> {
    Answer(configuration.pool_report())
}
