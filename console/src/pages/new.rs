//! `/gateways/new`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Serialize;

use super::form::{Finding, Form, Posted, Refusal};
use super::frame::{Page, Section};
use super::visit::{Result, Sent, Visitor};
use crate::auth::{Principal, Role};
use crate::gateways::{self as rules, NewCode};
use crate::settings;
use crate::state::App;

/// How long a code may hold, in seconds, and as people say it.
const EXPIRIES: &[(&str, &str)] = &[
    ("900", "15 minutes"),
    ("3600", "an hour"),
    ("14400", "4 hours"),
    ("86400", "a day"),
    ("604800", "a week"),
];
const EXPIRY: &str = "86400";

const NAME: &str = "/name";
const EXPIRES: &str = "/expires_in_seconds";
const APPROVAL: &str = "/require_approval";

#[derive(Debug, Serialize)]
struct Context {
    expiries: &'static [(&'static str, &'static str)],
}

pub(super) async fn ask(State(app): State<App>, Visitor(who): Visitor) -> Result<Response> {
    who.require(Role::Operator)?;
    let approval = settings::get(&mut *app.store.read().await?).await?.require_approval;
    let mut values: std::collections::BTreeMap<String, String> =
        [(EXPIRES.to_owned(), EXPIRY.to_owned())].into();
    if approval {
        values.insert(APPROVAL.into(), "true".into());
    }
    show(&app, &who, Form::filled(values))
}

pub(super) async fn create(State(app): State<App>, sent: Sent) -> Result<Response> {
    let (who, posted) = sent.by(Role::Operator)?;
    let made = match code(&posted) {
        Ok(code) => rules::create(&app, &who, posted.text(NAME), &code).await,
        Err(finding) => return show(&app, &who, refused(posted, finding)),
    };
    match made {
        Ok(made) => Ok(Redirect::to(&format!("/gateways/{}", made.id)).into_response()),
        Err(error) => show(&app, &who, refused(posted, Refusal::of(error)?)),
    }
}

fn code(posted: &Posted) -> std::result::Result<NewCode, Finding> {
    let expires = posted
        .text(EXPIRES)
        .parse()
        .map_err(|_| Finding::new(EXPIRES, "Nothing is chosen.", "Choose one of the list."))?;
    Ok(NewCode { require_approval: Some(posted.checked(APPROVAL)), expires_in_seconds: Some(expires) })
}

fn refused(posted: Posted, refusal: impl Into<Refusal>) -> Form {
    Form::refused(posted, refusal, &[NAME, EXPIRES, APPROVAL].map(str::to_owned))
}

fn show(app: &App, who: &Principal, form: Form) -> Result<Response> {
    let section = Some(Section::Gateways);
    let page = Page { app, who, section, title: "Create a gateway", note: None, form };
    page.show("new.html", Context { expiries: EXPIRIES })
}
