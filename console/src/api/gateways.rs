//! `/v1/gateways`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use gateway::Configuration;
use protocol::link::Condition;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::{Id, Json, Query, created};
use crate::auth::{Operator, Role, Viewer};
use crate::error::{Error, Result};
use crate::gateways::{self, Action, CommandView, ConfigurationView, Gateway, NewCode};
use crate::state::App;
use crate::store::conditions;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_gateways, create_gateway))
        .routes(routes!(get_gateway, delete_gateway))
        .routes(routes!(create_code, cancel_code))
        .routes(routes!(approve_machine))
        .routes(routes!(refuse_machine))
        .routes(routes!(get_configuration, configure))
        .routes(routes!(list_commands, create_command))
        .routes(routes!(list_conditions))
}

/// The largest page.
const MOST: u32 = 500;

/// How many of a list.
pub(super) fn limit(asked: Option<u32>) -> Result<u32> {
    match asked.unwrap_or(100) {
        limit @ 1..=MOST => Ok(limit),
        _ => {
            let title = format!("`limit` must be from 1 to {MOST}.");
            Err(Error::refused(StatusCode::BAD_REQUEST, "bad-query", title, ""))
        }
    }
}

/// Gateways.
#[derive(Debug, Serialize, ToSchema)]
struct Gateways {
    /// By name.
    items: Vec<Gateway>,
    /// What to give as `after` for the next page; none on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which gateways.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Names {
    /// Only those with names after this.
    #[param(max_length = 63)]
    after: Option<String>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// Which of what was newest first.
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

/// A gateway to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewGateway {
    /// Unique; a DNS label in lower case, because it becomes a host name.
    #[schema(min_length = 1, max_length = 63, pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$")]
    name: String,
    /// Whether a person must approve the machine that knows the code, comparing numbers; by default as the settings say.
    require_approval: Option<bool>,
    /// After how many seconds the code is worthless; a day by default.
    #[schema(minimum = 900, maximum = 604_800)]
    expires_in_seconds: Option<u32>,
}

/// That the numbers are the same.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Approval {
    /// The six digits on the machine's screen.
    #[schema(pattern = "^[0-9]{6}$", example = "042117")]
    number: String,
}

/// Commands.
#[derive(Debug, Serialize, ToSchema)]
struct Commands {
    /// Newest first.
    items: Vec<CommandView>,
}

/// Conditions.
#[derive(Debug, Serialize, ToSchema)]
struct Conditions {
    /// In the order in which they changed.
    items: Vec<Condition>,
}

/// Gateways by name
#[utoipa::path(
    get, path = "/v1/gateways", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    params(Names),
    responses((status = 200, body = Gateways)),
)]
async fn list_gateways(
    State(app): State<App>,
    _: Viewer,
    Query(names): Query<Names>,
) -> Result<Answer<Gateways>> {
    let limit = limit(names.limit)?;
    let after = names.after.unwrap_or_default();
    if after.len() > gateways::NAME_MAX {
        let title = format!("`after` must have at most {} characters.", gateways::NAME_MAX);
        return Err(Error::refused(StatusCode::BAD_REQUEST, "bad-query", title, ""));
    }
    let mut items = gateways::list(&app, &after, limit + 1).await?;
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|last| last.name.clone());
    Ok(Answer(Gateways { items, next }))
}

/// Make a gateway, with a code for its machine
#[utoipa::path(
    post, path = "/v1/gateways", tag = "gateways", extensions(("x-role" = json!("operator"))),
    request_body = NewGateway,
    responses(
        (status = 201, body = Gateway, headers(("location" = String, description = "The gateway"))),
        (status = 409, description = "The name is taken, or too many codes wait."),
    ),
)]
async fn create_gateway(
    State(app): State<App>,
    Operator(by): Operator,
    Json(new): Json<NewGateway>,
) -> Result<Response> {
    let code = NewCode { require_approval: new.require_approval, expires_in_seconds: new.expires_in_seconds };
    let gateway = gateways::create(&app, &by, &new.name, &code).await?;
    Ok(created(format!("/v1/gateways/{}", gateway.id), gateway))
}

/// One gateway; for operators with its code while that waits
#[utoipa::path(
    get, path = "/v1/gateways/{id}", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Gateway)),
)]
async fn get_gateway(State(app): State<App>, Viewer(by): Viewer, Id(id): Id) -> Result<Answer<Gateway>> {
    gateways::get(&app, id, by.role >= Role::Operator).await.map(Answer)
}

/// Remove a gateway: its machine is a stranger from now on
///
/// What the machine has built stays; the command `delete` is for that.
#[utoipa::path(
    delete, path = "/v1/gateways/{id}", tag = "gateways", extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    responses((status = 204, description = "Removed")),
)]
async fn delete_gateway(State(app): State<App>, Operator(by): Operator, Id(id): Id) -> Result<StatusCode> {
    gateways::delete(&app, &by, id).await.map(|()| StatusCode::NO_CONTENT)
}

/// Make a new code for a gateway
///
/// One that waits is worthless from then on. A paired gateway stays paired until another machine uses the code.
#[utoipa::path(
    post, path = "/v1/gateways/{id}/pairing", tag = "gateways", extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    request_body = NewCode,
    responses(
        (status = 200, body = Gateway),
        (status = 409, description = "Too many codes wait."),
    ),
)]
async fn create_code(
    State(app): State<App>,
    Operator(by): Operator,
    Id(id): Id,
    Json(new): Json<NewCode>,
) -> Result<Answer<Gateway>> {
    gateways::new_code(&app, &by, id, &new).await.map(Answer)
}

/// Make a gateway's code worthless
#[utoipa::path(
    delete, path = "/v1/gateways/{id}/pairing", tag = "gateways", extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    responses((status = 204, description = "No code waits any more")),
)]
async fn cancel_code(State(app): State<App>, Operator(by): Operator, Id(id): Id) -> Result<StatusCode> {
    gateways::cancel_code(&app, &by, id).await.map(|()| StatusCode::NO_CONTENT)
}

/// Let the machine that waits for approval become the gateway
#[utoipa::path(
    post, path = "/v1/gateways/{id}/pairing/approve", tag = "gateways",
    extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    request_body = Approval,
    responses(
        (status = 200, body = Gateway),
        (status = 409, description = "No machine waits, another one does, or it cannot become this gateway."),
    ),
)]
async fn approve_machine(
    State(app): State<App>,
    Operator(by): Operator,
    Id(id): Id,
    Json(approval): Json<Approval>,
) -> Result<Answer<Gateway>> {
    gateways::approve(&app, &by, id, &approval.number).await.map(Answer)
}

/// Send the machine that waits for approval away; its code is over
#[utoipa::path(
    post, path = "/v1/gateways/{id}/pairing/refuse", tag = "gateways",
    extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, body = Gateway),
        (status = 409, description = "No machine waits."),
    ),
)]
async fn refuse_machine(
    State(app): State<App>,
    Operator(by): Operator,
    Id(id): Id,
) -> Result<Answer<Gateway>> {
    gateways::refuse(&app, &by, id).await.map(Answer)
}

/// The configuration of a gateway, without its password
#[utoipa::path(
    get, path = "/v1/gateways/{id}/configuration", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = ConfigurationView)),
)]
async fn get_configuration(
    State(app): State<App>,
    _: Viewer,
    Id(id): Id,
) -> Result<Answer<ConfigurationView>> {
    gateways::configuration(&app, id).await.map(Answer)
}

/// Configure a gateway; it is told at once, or when it comes back
///
/// Without a password, the one that is stored stays, for the same account of the same vCenter.
#[utoipa::path(
    put, path = "/v1/gateways/{id}/configuration", tag = "gateways", extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    request_body = Configuration,
    responses(
        (status = 200, body = ConfigurationView),
        (status = 409, description = "It is not paired, or cannot be configured in its state."),
    ),
)]
async fn configure(
    State(app): State<App>,
    Operator(by): Operator,
    Id(id): Id,
    Json(configuration): Json<Configuration>,
) -> Result<Answer<ConfigurationView>> {
    gateways::configure(&app, &by, id, configuration).await.map(Answer)
}

/// What a gateway was told to do, newest first
#[utoipa::path(
    get, path = "/v1/gateways/{id}/commands", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    params(("id" = Uuid, Path), Page),
    responses((status = 200, body = Commands)),
)]
async fn list_commands(
    State(app): State<App>,
    _: Viewer,
    Id(id): Id,
    Query(page): Query<Page>,
) -> Result<Answer<Commands>> {
    let items = gateways::commands(&app, id, page.before, limit(page.limit)?).await?;
    Ok(Answer(Commands { items }))
}

/// Tell a paired gateway to do something
#[utoipa::path(
    post, path = "/v1/gateways/{id}/commands", tag = "gateways", extensions(("x-role" = json!("operator"))),
    params(("id" = Uuid, Path)),
    request_body = Action,
    responses(
        (status = 201, body = CommandView, headers(("location" = String, description = "All commands"))),
        (status = 409, description = "Its state stands against it, or it has too much to do already."),
    ),
)]
async fn create_command(
    State(app): State<App>,
    Operator(by): Operator,
    Id(id): Id,
    Json(action): Json<Action>,
) -> Result<Response> {
    let command = gateways::command(&app, &by, id, &action).await?;
    Ok(created(format!("/v1/gateways/{id}/commands"), command))
}

/// What holds of a gateway, in the order in which it changed
#[utoipa::path(
    get, path = "/v1/gateways/{id}/conditions", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Conditions)),
)]
async fn list_conditions(State(app): State<App>, _: Viewer, Id(id): Id) -> Result<Answer<Conditions>> {
    let mut db = app.store.read().await?;
    gateways::existing(&mut db, id).await?;
    Ok(Answer(Conditions { items: conditions::list(&mut db, id).await? }))
}
