//! The JSON API, and how all routes become one service.

mod accounts;
mod audit;
mod document;
mod drain;
mod events;
mod extract;
mod gateways;
mod layers;
mod pools;
mod session;
mod settings;
mod strict;
mod tokens;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Result;
use crate::state::App;
use crate::{machine, pages};

pub use extract::{Id, Json, Query};

/// The API of people and programs, each route with its document.
fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(health))
        .merge(session::router())
        .merge(gateways::router())
        .merge(events::router())
        .merge(pools::router())
        .merge(accounts::router())
        .merge(tokens::router())
        .merge(audit::router())
        .merge(settings::router())
}

/// Everything that the console answers.
pub fn service(app: App) -> Router {
    let (api, document) = router().merge(machine::router()).split_for_parts();
    let document = document::finished(document).to_string();
    let openapi = move || async move { ([("content-type", "application/json")], document) };
    let router = api
        .route("/openapi.json", axum::routing::get(openapi))
        .merge(pages::router())
        .fallback(pages::nothing);
    layers::around(router).with_state(app)
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> Value {
    document::finished(router().merge(machine::router()).into_openapi())
}

/// That the console works.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// `ok`.
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the console works: it answers, and its database does
#[utoipa::path(get, path = "/healthz", tag = "console", security(()), responses((status = 200, body = Alive)))]
async fn health(State(app): State<App>) -> Result<axum::Json<Alive>> {
    sqlx::query("SELECT 1").execute(&mut *app.store.read().await?).await?;
    Ok(axum::Json(Alive { status: "ok" }))
}

/// Made, and here it is.
fn created(location: String, body: impl Serialize) -> Response {
    (axum::http::StatusCode::CREATED, [("location", location)], axum::Json(body)).into_response()
}
