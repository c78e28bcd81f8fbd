//! `/login`, `/logout`, `/password`.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Redirect, Response};
use protocol::secret::Secret;
use serde::{Deserialize, Serialize};

use super::form::{Finding, Form, Posted, Refusal};
use super::frame::{self, Bare, Page};
use super::templates;
use super::visit::{Newcomer, Query, Result, Sent, Stranger, own_path};
use crate::auth::{Principal, session, sign_in};
use crate::error::Error;
use crate::state::App;
use crate::store::accounts;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    next: String,
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct Refused {
    title: String,
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct LogIn {
    title: &'static str,
    #[serde(flatten)]
    frame: Bare,
    form: Form,
    refused: Option<Refused>,
    next: String,
    /// Whether nobody has ever been in: then there is only the first account, and how to know its password.
    first: bool,
}

pub(super) async fn ask(State(app): State<App>, Query(asked): Query<Asked>) -> Result<Response> {
    let note = frame::note(asked.note.as_deref());
    Ok(page(&app, note, own_path(&asked.next), Form::default(), None).await?.into_response())
}

pub(super) async fn log_in(
    State(app): State<App>,
    Stranger { address, posted }: Stranger,
) -> Result<Response> {
    let next = own_path(posted.text("next")).to_owned();
    let password = Secret::new(posted.exact("password").to_owned());
    match sign_in::sign_in(&app, posted.text("name"), password, address).await {
        Ok((account, begun)) => {
            let goes = if account.must_change { "/password".to_owned() } else { next };
            with_cookie(Redirect::to(&goes).into_response(), &begun.cookie)
        }
        // What the API answers, on the page that was asked.
        Err(error @ (Error::Refused(_) | Error::TooMany(..))) => {
            let problem = error.problem();
            let refused = Refused { title: problem.title, hint: problem.hint };
            let form = Form::refused(posted, Vec::new(), &[]);
            let html = page(&app, None, &next, form, Some(refused)).await?;
            let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::FORBIDDEN);
            Ok((status, html).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

async fn page(
    app: &App,
    note: Option<&'static str>,
    next: &str,
    form: Form,
    refused: Option<Refused>,
) -> Result<Html<String>> {
    let mut db = app.store.read().await?;
    // Strangers ask for this page: all accounts are not read for a hint.
    let first = accounts::count(&mut db).await? == 1
        && accounts::list(&mut db).await?.iter().all(|only| only.must_change);
    drop(db);
    let context =
        LogIn { title: "Log in", frame: Bare::new(note), form, refused, next: next.to_owned(), first };
    Ok(Html(templates::render("login.html", context)?))
}

pub(super) async fn log_out(State(app): State<App>, Sent { who, .. }: Sent) -> Result<Response> {
    sign_in::sign_out(&app, &who).await?;
    with_cookie(Redirect::to("/login?note=bye").into_response(), &session::ended())
}

pub(super) async fn password(State(app): State<App>, Newcomer(who): Newcomer) -> Result<Response> {
    show(&app, &who, Form::default())
}

pub(super) async fn change_password(State(app): State<App>, Sent { who, posted }: Sent) -> Result<Response> {
    let secret = |name| Secret::new(posted.exact(name).to_owned());
    if posted.exact("new") != posted.exact("again") {
        let finding = Finding::new("/again", "This is not the same.", "Type the new password twice.");
        return show(&app, &who, refused(posted, finding.into()));
    }
    match sign_in::change_password(&app, &who, secret("current"), secret("new")).await {
        Ok(begun) => with_cookie(Redirect::to("/?note=password").into_response(), &begun.cookie),
        Err(error) if error.problem().kind == "wrong-password" => {
            let finding = Finding::new("/current", "This is not the current password.", "");
            show(&app, &who, refused(posted, finding.into()))
        }
        Err(error) => show(&app, &who, refused(posted, Refusal::of(error)?)),
    }
}

/// Its fields are named as password managers know them, not by pointers.
fn refused(posted: Posted, mut refusal: Refusal) -> Form {
    for finding in &mut refusal.findings {
        finding.at = finding.at.trim_start_matches('/').to_owned();
    }
    Form::refused(posted, refusal, &["current", "new", "again"].map(str::to_owned))
}

fn show(app: &App, who: &Principal, form: Form) -> Result<Response> {
    #[derive(Serialize)]
    struct Context {
        must: bool,
        rule: String,
    }
    let rule = format!("At least {} characters. A sentence does well.", crate::auth::password::MIN);
    let title = if who.must_change { "Choose your password" } else { "Change the password" };
    let page = Page { app, who, section: None, title, note: None, form };
    page.show("password.html", Context { must: who.must_change, rule })
}

fn with_cookie(mut response: Response, cookie: &str) -> Result<Response> {
    let value = HeaderValue::from_str(cookie).map_err(|error| Error::Internal(error.to_string()))?;
    response.headers_mut().append(header::SET_COOKIE, value);
    Ok(response)
}
