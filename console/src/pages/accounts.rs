//! `/accounts`.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::actions::{Confirmation, Crumb};
use super::form::{Finding, Form, Posted, Refusal};
use super::frame::{Noted, Page, Section};
use super::looks::{self, Look, ROLES};
use super::visit::{Id, Query, Result, Sent, Visitor};
use crate::accounts as rules;
use crate::auth::{Principal, Role};
use crate::error::Error;
use crate::state::App;
use crate::store::accounts::{self, Account};

const NAME: &str = "/name";
const ROLE: &str = "/role";
const DISABLED: &str = "/disabled";

#[derive(Debug, Serialize)]
struct View {
    id: Uuid,
    name: String,
    role: &'static str,
    look: Look,
    created_at: Timestamp,
}

impl From<&Account> for View {
    fn from(account: &Account) -> View {
        View {
            id: account.id,
            name: account.name.clone(),
            role: account.role.word(),
            look: looks::account(account),
            created_at: account.created_at,
        }
    }
}

/// A password that was just made, for this once.
#[derive(Debug, Serialize)]
struct Fresh {
    name: String,
    password: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Visitor(who): Visitor,
    Query(noted): Query<Noted>,
) -> Result<Response> {
    who.require(Role::Administrator)?;
    show_list(&app, &who, noted.note.as_deref(), None, empty()).await
}

pub(super) async fn create(State(app): State<App>, sent: Sent) -> Result<Response> {
    let (who, posted) = sent.by(Role::Administrator)?;
    let made = match role(&posted) {
        Ok(role) => rules::create(&app, &who, posted.text(NAME), role).await.map_err(Refusal::of),
        Err(finding) => Err(Ok(finding.into())),
    };
    match made {
        Ok((account, password)) => {
            let fresh = Fresh { name: account.name, password: password.expose().to_owned() };
            show_list(&app, &who, None, Some(fresh), empty()).await
        }
        Err(refusal) => show_list(&app, &who, None, None, refused(posted, refusal?)).await,
    }
}

pub(super) async fn show(
    State(app): State<App>,
    Visitor(who): Visitor,
    Id(id): Id,
    Query(noted): Query<Noted>,
) -> Result<Response> {
    who.require(Role::Administrator)?;
    let account = existing(&app, id).await?;
    let mut values = std::collections::BTreeMap::from([(ROLE.to_owned(), account.role.word().to_owned())]);
    if account.disabled {
        values.insert(DISABLED.to_owned(), "true".to_owned());
    }
    show_one(&app, &who, &account, Form::filled(values), noted.note.as_deref())
}

pub(super) async fn change(State(app): State<App>, Id(id): Id, sent: Sent) -> Result<Response> {
    let (who, posted) = sent.by(Role::Administrator)?;
    let account = existing(&app, id).await?;
    let done = match role(&posted) {
        Ok(role) => rules::update(&app, &who, id, role, posted.checked(DISABLED)).await.map_err(Refusal::of),
        Err(finding) => Err(Ok(finding.into())),
    };
    match done {
        Ok(_) => Ok(Redirect::to(&format!("/accounts/{id}?note=saved")).into_response()),
        Err(refusal) => show_one(&app, &who, &account, refused(posted, refusal?), None),
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Named {
    action: String,
}

pub(super) async fn ask(
    State(app): State<App>,
    Visitor(who): Visitor,
    Id(id): Id,
    Path(Named { action }): Path<Named>,
) -> Result<Response> {
    who.require(Role::Administrator)?;
    let account = existing(&app, id).await?;
    confirm(&app, &who, &account, &action, Form::default())
}

pub(super) async fn act(
    State(app): State<App>,
    Id(id): Id,
    Path(Named { action }): Path<Named>,
    sent: Sent,
) -> Result<Response> {
    let (who, posted) = sent.by(Role::Administrator)?;
    let account = existing(&app, id).await?;
    let done = match action.as_str() {
        "password" => rules::reset_password(&app, &who, id).await.map(Some),
        "delete" => rules::delete(&app, &who, id).await.map(|()| None),
        _ => return Err(no_page()),
    };
    match done {
        Ok(Some(password)) => {
            let fresh = Fresh { name: account.name, password: password.expose().to_owned() };
            // Never one's own account, which is refused: whoever asked is still logged in, and sees it.
            show_list(&app, &who, None, Some(fresh), empty()).await
        }
        Ok(None) => Ok(Redirect::to("/accounts?note=deleted").into_response()),
        Err(error) => confirm(&app, &who, &account, &action, refused(posted, Refusal::of(error)?)),
    }
}

async fn existing(app: &App, id: Uuid) -> Result<Account> {
    let account = accounts::get(&mut *app.store.read().await?, id).await?;
    Ok(account.ok_or_else(|| Error::not_found("account"))?)
}

fn no_page() -> super::visit::Stop {
    Error::refused(StatusCode::NOT_FOUND, "not-found", "There is no such page.", "").into()
}

/// The role of a form.
pub(super) fn role(posted: &Posted) -> std::result::Result<Role, Finding> {
    match posted.text(ROLE) {
        "viewer" => Ok(Role::Viewer),
        "operator" => Ok(Role::Operator),
        "administrator" => Ok(Role::Administrator),
        _ => Err(Finding::new(ROLE, "There is no such role.", "Choose one of the list.")),
    }
}

fn empty() -> Form {
    Form::filled([(ROLE.to_owned(), Role::Viewer.word().to_owned())].into())
}

fn refused(posted: Posted, refusal: Refusal) -> Form {
    Form::refused(posted, refusal, &[NAME, ROLE, DISABLED].map(str::to_owned))
}

async fn show_list(
    app: &App,
    who: &Principal,
    note: Option<&str>,
    fresh: Option<Fresh>,
    form: Form,
) -> Result<Response> {
    #[derive(Serialize)]
    struct Context {
        fresh: Option<Fresh>,
        accounts: Vec<View>,
        roles: &'static [(&'static str, &'static str)],
    }
    let accounts = accounts::list(&mut *app.store.read().await?).await?;
    let accounts = accounts.iter().map(View::from).collect();
    let page = Page { app, who, section: Some(Section::Accounts), title: "Accounts", note, form };
    page.show("accounts.html", Context { fresh, accounts, roles: ROLES })
}

fn show_one(
    app: &App,
    who: &Principal,
    account: &Account,
    form: Form,
    note: Option<&str>,
) -> Result<Response> {
    #[derive(Serialize)]
    struct Context {
        account: View,
        roles: &'static [(&'static str, &'static str)],
    }
    let page = Page { app, who, section: Some(Section::Accounts), title: &account.name, note, form };
    page.show("account.html", Context { account: account.into(), roles: ROLES })
}

fn confirm(app: &App, who: &Principal, account: &Account, action: &str, form: Form) -> Result<Response> {
    let address = format!("/accounts/{}", account.id);
    let crumbs = vec![Crumb::new("/accounts", "Accounts"), Crumb::new(&address, &account.name)];
    let (title, confirmation) = match action {
        "password" => (
            "New password",
            Confirmation {
                question: "Give this account a new password?",
                lines: &["The password before stops working, and the account is logged out everywhere."],
                button: "Make a new password",
                danger: false,
                ..Confirmation::new(crumbs, format!("{address}/password"), address)
            },
        ),
        "delete" => (
            "Delete",
            Confirmation {
                question: "Delete this account?",
                lines: &[
                    "It is logged out, and its tokens end, at once. This cannot be undone; to lock it for a while, \
                     disable it.",
                ],
                button: "Delete the account",
                danger: true,
                ..Confirmation::new(crumbs, format!("{address}/delete"), address)
            },
        ),
        _ => return Err(no_page()),
    };
    let page = Page { app, who, section: Some(Section::Accounts), title, note: None, form };
    page.show("confirm.html", confirmation)
}
