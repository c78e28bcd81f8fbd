//! `/v1/accounts`.

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Id, Json, created};
use crate::accounts;
use crate::auth::{Administrator, Role};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::accounts::{self as table, Account};

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default()
        .routes(routes!(list_accounts, create_account))
        .routes(routes!(get_account, update_account, delete_account))
        .routes(routes!(reset_password))
}

/// All accounts.
#[derive(Debug, Serialize, ToSchema)]
struct Accounts {
    /// By name.
    items: Vec<Account>,
}

/// An account to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    /// What its owner signs in with; unique.
    #[schema(min_length = 1, max_length = 64, pattern = "^[a-z0-9._@-]+$")]
    name: String,
    /// What it may do.
    role: Role,
}

/// What can be changed of an account.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Change {
    /// What it may do.
    role: Role,
    /// Whether it may not sign in.
    disabled: bool,
}

/// An account that was made.
#[derive(Debug, Serialize, ToSchema)]
struct CreatedAccount {
    /// It.
    #[serde(flatten)]
    account: Account,
    /// Shown this once; its owner must change it.
    initial_password: String,
}

/// A password to begin with.
#[derive(Debug, Serialize, ToSchema)]
struct InitialPassword {
    /// Shown this once; its owner must change it.
    initial_password: String,
}

/// All accounts
#[utoipa::path(
    get, path = "/v1/accounts", tag = "administration", extensions(("x-role" = json!("administrator"))),
    responses((status = 200, body = Accounts)),
)]
async fn list_accounts(State(app): State<App>, _: Administrator) -> Result<Answer<Accounts>> {
    Ok(Answer(Accounts { items: table::list(&mut *app.store.read().await?).await? }))
}

/// Make an account, with a password to begin with
#[utoipa::path(
    post, path = "/v1/accounts", tag = "administration", extensions(("x-role" = json!("administrator"))),
    request_body = NewAccount,
    responses(
        (status = 201, body = CreatedAccount, headers(("location" = String, description = "The account"))),
        (status = 409, description = "The name is taken, or there are too many accounts."),
    ),
)]
async fn create_account(
    State(app): State<App>,
    Administrator(by): Administrator,
    Json(new): Json<NewAccount>,
) -> Result<Response> {
    let (account, password) = accounts::create(&app, &by, &new.name, new.role).await?;
    let location = format!("/v1/accounts/{}", account.id);
    Ok(created(location, CreatedAccount { account, initial_password: password.expose().to_owned() }))
}

/// One account
#[utoipa::path(
    get, path = "/v1/accounts/{id}", tag = "administration", extensions(("x-role" = json!("administrator"))),
    params(("id" = uuid::Uuid, Path)),
    responses((status = 200, body = Account)),
)]
async fn get_account(State(app): State<App>, _: Administrator, Id(id): Id) -> Result<Answer<Account>> {
    let account = table::get(&mut *app.store.read().await?, id).await?;
    account.map(Answer).ok_or_else(|| Error::not_found("account"))
}

/// Change an account's role, disable or enable it
#[utoipa::path(
    put, path = "/v1/accounts/{id}", tag = "administration", extensions(("x-role" = json!("administrator"))),
    params(("id" = uuid::Uuid, Path)),
    request_body = Change,
    responses(
        (status = 200, body = Account),
        (status = 409, description = "It is one's own, or nobody would be left to administrate."),
    ),
)]
async fn update_account(
    State(app): State<App>,
    Administrator(by): Administrator,
    Id(id): Id,
    Json(change): Json<Change>,
) -> Result<Answer<Account>> {
    accounts::update(&app, &by, id, change.role, change.disabled).await.map(Answer)
}

/// Remove an account, with its sessions and tokens
#[utoipa::path(
    delete, path = "/v1/accounts/{id}", tag = "administration", extensions(("x-role" = json!("administrator"))),
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "It is one's own, or nobody would be left to administrate."),
    ),
)]
async fn delete_account(
    State(app): State<App>,
    Administrator(by): Administrator,
    Id(id): Id,
) -> Result<StatusCode> {
    accounts::delete(&app, &by, id).await.map(|()| StatusCode::NO_CONTENT)
}

/// Give an account a password to begin with again, and sign it out everywhere
#[utoipa::path(
    post, path = "/v1/accounts/{id}/password", tag = "administration",
    extensions(("x-role" = json!("administrator"))),
    params(("id" = uuid::Uuid, Path)),
    responses(
        (status = 200, body = InitialPassword),
        (status = 409, description = "It is one's own."),
    ),
)]
async fn reset_password(
    State(app): State<App>,
    Administrator(by): Administrator,
    Id(id): Id,
) -> Result<Answer<InitialPassword>> {
    let password = accounts::reset_password(&app, &by, id).await?;
    Ok(Answer(InitialPassword { initial_password: password.expose().to_owned() }))
}
