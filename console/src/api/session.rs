//! `/v1/session`: who is signed in.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use axum::{Json as Answer, extract::FromRequestParts};
use protocol::secret::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Json;
use crate::auth::session::{self, Begun};
use crate::auth::{Anybody, Principal, Role, Via, address, csrf, sign_in};
use crate::error::{Error, Result};
use crate::state::App;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(get_session, begin_session, end_session))
        .routes(routes!(change_password))
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    /// The account's name.
    name: String,
    /// What it may do.
    role: Role,
    /// Whether the password must be changed before anything else.
    must_change: bool,
    /// What must be sent as `X-CSRF-Token` with requests that change something; none with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    csrf: Option<String>,
}

/// Name and password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Credentials {
    /// The account's name.
    #[schema(max_length = 64)]
    name: String,
    /// Its password.
    #[schema(value_type = String, format = Password, max_length = 256)]
    #[serde(deserialize_with = "secret")]
    password: Secret,
}

/// One's old and new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPassword {
    /// The one there is.
    #[schema(value_type = String, format = Password, max_length = 256)]
    #[serde(deserialize_with = "secret")]
    current: Secret,
    /// The one to be: at least 12 characters, five of them different, without the account's name.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 256)]
    #[serde(deserialize_with = "secret")]
    new: Secret,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// Refuses what a browser says came from another site's page.
struct OwnSite(std::net::IpAddr);

impl FromRequestParts<App> for OwnSite {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<OwnSite> {
        csrf::check_source(app, parts)?;
        address(parts).map(OwnSite)
    }
}

/// Who is signed in
#[utoipa::path(
    get, path = "/v1/session", tag = "session", extensions(("x-role" = json!("viewer"))),
    responses((status = 200, body = Session)),
)]
async fn get_session(Anybody(by): Anybody) -> Answer<Session> {
    Answer(described(&by))
}

/// Sign in
#[utoipa::path(
    post, path = "/v1/session", tag = "session", security(()), request_body = Credentials,
    responses(
        (status = 200, body = Session, headers(("set-cookie" = String, description = "The session"))),
        (status = 401, description = "Name or password is wrong."),
        (status = 403, description = "The request came from another site's page."),
        (status = 429, description = "Too many wrong passwords, from this address or for this account."),
    ),
)]
async fn begin_session(
    State(app): State<App>,
    OwnSite(address): OwnSite,
    Json(credentials): Json<Credentials>,
) -> Result<Response> {
    let (account, begun) = sign_in::sign_in(&app, &credentials.name, credentials.password, address).await?;
    let session = Session {
        name: account.name,
        role: account.role,
        must_change: account.must_change,
        csrf: Some(begun.csrf),
    };
    Ok(([(SET_COOKIE, begun.cookie)], Answer(session)).into_response())
}

/// Sign out
#[utoipa::path(
    delete, path = "/v1/session", tag = "session", extensions(("x-role" = json!("viewer"))),
    responses(
        (status = 204, description = "Signed out"),
        (status = 409, description = "A token has no session."),
    ),
)]
async fn end_session(State(app): State<App>, Anybody(by): Anybody) -> Result<Response> {
    sign_in::sign_out(&app, &by).await?;
    Ok((StatusCode::NO_CONTENT, [(SET_COOKIE, session::ended())]).into_response())
}

/// Change one's password
///
/// All sessions of the account end; the answer begins a new one.
#[utoipa::path(
    put, path = "/v1/session/password", tag = "session", extensions(("x-role" = json!("viewer"))),
    request_body = NewPassword,
    responses(
        (status = 200, body = Session, headers(("set-cookie" = String, description = "The new session"))),
        (status = 401, description = "Nobody is signed in, or the current password is wrong."),
        (status = 409, description = "A token has no session."),
        (status = 429, description = "Too many wrong passwords, from this address or for this account."),
    ),
)]
async fn change_password(
    State(app): State<App>,
    Anybody(by): Anybody,
    Json(passwords): Json<NewPassword>,
) -> Result<Response> {
    let Begun { cookie, csrf } =
        sign_in::change_password(&app, &by, passwords.current, passwords.new).await?;
    let session = Session { csrf: Some(csrf), must_change: false, ..described(&by) };
    Ok(([(SET_COOKIE, cookie)], Answer(session)).into_response())
}

fn described(by: &Principal) -> Session {
    let csrf = match &by.via {
        Via::Session { csrf, .. } => Some(csrf.clone()),
        Via::Token { .. } => None,
    };
    Session { name: by.name.clone(), role: by.role, must_change: by.must_change, csrf }
}
