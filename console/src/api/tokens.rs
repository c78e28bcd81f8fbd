//! `/v1/tokens`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Id, Json, created};
use crate::auth::{Role, Viewer};
use crate::error::Result;
use crate::state::App;
use crate::store::tokens::Token;
use crate::tokens;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(list_tokens, create_token)).routes(routes!(delete_token))
}

/// Tokens.
#[derive(Debug, Serialize, ToSchema)]
struct Tokens {
    /// Newest first.
    items: Vec<Token>,
}

/// A token to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewToken {
    /// What it is for: not blank, no control characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    name: String,
    /// What it may do: at most what its maker may.
    role: Role,
    /// After how many days it ends; never, by default.
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<u32>,
}

/// A token that was made.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedToken {
    /// It.
    #[serde(flatten)]
    token: Token,
    /// What to send as `Authorization: Bearer`; shown this once.
    secret: String,
}

/// One's own tokens; everybody's for administrators
#[utoipa::path(
    get, path = "/v1/tokens", tag = "administration", extensions(("x-role" = json!("viewer"))),
    responses((status = 200, body = Tokens)),
)]
async fn list_tokens(State(app): State<App>, Viewer(by): Viewer) -> Result<Answer<Tokens>> {
    Ok(Answer(Tokens { items: tokens::list(&app, &by).await? }))
}

/// Make a token for oneself
///
/// One that is made with a token ends with that at the latest, also when that is deleted.
#[utoipa::path(
    post, path = "/v1/tokens", tag = "administration", extensions(("x-role" = json!("viewer"))),
    request_body = NewToken,
    responses(
        (status = 201, body = CreatedToken, headers(("location" = String, description = "The token"))),
        (status = 409, description = "There are too many."),
    ),
)]
async fn create_token(
    State(app): State<App>,
    Viewer(by): Viewer,
    Json(new): Json<NewToken>,
) -> Result<Response> {
    let (token, secret) = tokens::create(&app, &by, &new.name, new.role, new.expires_in_days).await?;
    let location = format!("/v1/tokens/{}", token.id);
    Ok(created(location, CreatedToken { token, secret: secret.expose().to_owned() }))
}

/// End a token of one's own; anybody's for administrators
#[utoipa::path(
    delete, path = "/v1/tokens/{id}", tag = "administration", extensions(("x-role" = json!("viewer"))),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 204, description = "Ended")),
)]
async fn delete_token(State(app): State<App>, Viewer(by): Viewer, Id(id): Id) -> Result<StatusCode> {
    tokens::delete(&app, &by, id).await.map(|()| StatusCode::NO_CONTENT)
}
