//! `/tokens`.

use std::collections::HashMap;

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::accounts::role;
use super::actions::{Confirmation, Crumb};
use super::form::{Finding, Form, Posted, Refusal};
use super::frame::{Noted, Page, Section};
use super::looks::ROLES;
use super::visit::{Id, Query, Result, Sent, Visitor};
use crate::auth::{Principal, Role};
use crate::error::Error;
use crate::state::App;
use crate::store::accounts;
use crate::tokens as rules;

const NAME: &str = "/name";
const ROLE: &str = "/role";
const DAYS: &str = "/expires_in_days";

/// How long a token holds, in days, and as people say it.
const LIVES: &[(&str, &str)] =
    &[("7", "a week"), ("30", "30 days"), ("90", "90 days"), ("365", "a year"), ("", "until it is revoked")];
const LIFE: &str = "90";

#[derive(Debug, Serialize)]
struct View {
    id: Uuid,
    name: String,
    account: String,
    role: &'static str,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    expired: bool,
    used_at: Option<Timestamp>,
}

/// A token that was just made, for this once.
#[derive(Debug, Serialize)]
struct Fresh {
    name: String,
    token: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Visitor(who): Visitor,
    Query(noted): Query<Noted>,
) -> Result<Response> {
    show(&app, &who, noted.note.as_deref(), None, empty()).await
}

pub(super) async fn create(State(app): State<App>, sent: Sent) -> Result<Response> {
    let (who, posted) = sent.by(Role::Viewer)?;
    let made = match (role(&posted), days(&posted)) {
        (Ok(role), Ok(days)) => {
            rules::create(&app, &who, posted.text(NAME), role, days).await.map_err(Refusal::of)
        }
        (role, days) => Err(Ok([role.err(), days.err()].into_iter().flatten().collect::<Vec<_>>().into())),
    };
    match made {
        Ok((token, secret)) => {
            let fresh = Fresh { name: token.name, token: secret.expose().to_owned() };
            show(&app, &who, None, Some(fresh), empty()).await
        }
        Err(refusal) => {
            let form = Form::refused(posted, refusal?, &[NAME, ROLE, DAYS].map(str::to_owned));
            show(&app, &who, None, None, form).await
        }
    }
}

pub(super) async fn ask(State(app): State<App>, Visitor(who): Visitor, Id(id): Id) -> Result<Response> {
    let tokens = rules::list(&app, &who).await?;
    let token = tokens.into_iter().find(|token| token.id == id).ok_or_else(|| Error::not_found("token"))?;
    let crumbs = vec![Crumb::new("/tokens", "API tokens"), Crumb::new("/tokens", &token.name)];
    let confirmation = Confirmation {
        question: "Revoke this token?",
        lines: &["Whatever uses it is refused at once. This cannot be undone."],
        button: "Revoke the token",
        danger: true,
        ..Confirmation::new(crumbs, format!("/tokens/{id}/revoke"), "/tokens".into())
    };
    let page = Page {
        app: &app,
        who: &who,
        section: Some(Section::Tokens),
        title: "Revoke",
        note: None,
        form: Form::default(),
    };
    page.show("confirm.html", confirmation)
}

pub(super) async fn revoke(State(app): State<App>, Id(id): Id, sent: Sent) -> Result<Response> {
    let (who, _) = sent.by(Role::Viewer)?;
    rules::delete(&app, &who, id).await?;
    Ok(Redirect::to("/tokens?note=revoked").into_response())
}

fn days(posted: &Posted) -> std::result::Result<Option<u32>, Finding> {
    match posted.text(DAYS) {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| Finding::new(DAYS, "This is no number of days.", "Choose one.")),
    }
}

fn empty() -> Form {
    let values = [(ROLE, Role::Viewer.word()), (DAYS, LIFE)];
    Form::filled(values.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

async fn show(
    app: &App,
    who: &Principal,
    note: Option<&str>,
    fresh: Option<Fresh>,
    form: Form,
) -> Result<Response> {
    #[derive(Serialize)]
    struct Context {
        fresh: Option<Fresh>,
        tokens: Vec<View>,
        roles: Vec<(&'static str, &'static str)>,
        expiries: &'static [(&'static str, &'static str)],
    }
    let tokens = rules::list(app, who).await?;
    let accounts = accounts::list(&mut *app.store.read().await?).await?;
    let names: HashMap<Uuid, String> =
        accounts.into_iter().map(|account| (account.id, account.name)).collect();
    let tokens = tokens.into_iter().map(|token| View {
        id: token.id,
        name: token.name,
        account: names.get(&token.account).cloned().unwrap_or_default(),
        role: token.role.word(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        expired: token.expires_at.is_some_and(|end| end <= app.now()),
        used_at: token.used_at,
    });
    // No more than one's own role.
    let own = ROLES.iter().position(|(word, _)| *word == who.role.word()).unwrap_or_default();
    let context = Context { fresh, tokens: tokens.collect(), roles: ROLES[..=own].to_vec(), expiries: LIVES };
    let page = Page { app, who, section: Some(Section::Tokens), title: "API tokens", note, form };
    page.show("tokens.html", context)
}
