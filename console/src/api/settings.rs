//! `/v1/settings`.

use axum::Json as Answer;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Json;
use crate::auth::{Administrator, Viewer};
use crate::error::Result;
use crate::settings::{self, Settings};
use crate::state::App;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(get_settings, set_settings))
}

/// The settings
#[utoipa::path(
    get, path = "/v1/settings", tag = "administration", extensions(("x-role" = json!("viewer"))),
    responses((status = 200, body = Settings)),
)]
async fn get_settings(State(app): State<App>, _: Viewer) -> Result<Answer<Settings>> {
    Ok(Answer(settings::get(&mut *app.store.read().await?).await?))
}

/// Change the settings
#[utoipa::path(
    put, path = "/v1/settings", tag = "administration", extensions(("x-role" = json!("administrator"))),
    request_body = Settings,
    responses((status = 200, body = Settings)),
)]
async fn set_settings(
    State(app): State<App>,
    Administrator(by): Administrator,
    Json(new): Json<Settings>,
) -> Result<Answer<Settings>> {
    settings::change(&app, &by, &new).await?;
    Ok(Answer(new))
}
