//! `/settings`.

use axum::extract::State;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Serialize;

use super::form::{Finding, Form, Refusal};
use super::frame::{Noted, Page, Section};
use super::gateway::Fact;
use super::visit::{Query, Result, Sent, Visitor};
use crate::auth::{Principal, Role};
use crate::settings::{self, Settings};
use crate::state::App;
use crate::tls::fingerprint;

const APPROVAL: &str = "/require_approval";
const UNHEALTHY: &str = "/unhealthy_after_seconds";

#[derive(Debug, Serialize)]
struct Context {
    /// What holds where nothing is set.
    usual: u64,
    about: Vec<Fact>,
}

pub(super) async fn show(
    State(app): State<App>,
    Visitor(who): Visitor,
    Query(noted): Query<Noted>,
) -> Result<Response> {
    who.require(Role::Administrator)?;
    let settings = settings::get(&mut *app.store.read().await?).await?;
    let mut values = std::collections::BTreeMap::new();
    if settings.require_approval {
        values.insert(APPROVAL.to_owned(), "true".to_owned());
    }
    values
        .extend(settings.unhealthy_after_seconds.map(|seconds| (UNHEALTHY.to_owned(), seconds.to_string())));
    page(&app, &who, Form::filled(values), noted.note.as_deref())
}

pub(super) async fn save(State(app): State<App>, sent: Sent) -> Result<Response> {
    let (who, posted) = sent.by(Role::Administrator)?;
    let seconds = match posted.text(UNHEALTHY) {
        "" => Ok(None),
        text => text.parse().map(Some),
    };
    let done = match seconds {
        Ok(seconds) => {
            let new =
                Settings { require_approval: posted.checked(APPROVAL), unhealthy_after_seconds: seconds };
            settings::change(&app, &who, &new).await.map_err(Refusal::of)
        }
        Err(_) => Err(Ok(Finding::new(UNHEALTHY, "This is no number of seconds.", "As in 90.").into())),
    };
    match done {
        Ok(()) => Ok(Redirect::to("/settings?note=saved").into_response()),
        Err(refusal) => {
            let form = Form::refused(posted, refusal?, &[APPROVAL, UNHEALTHY].map(str::to_owned));
            page(&app, &who, form, None)
        }
    }
}

fn page(app: &App, who: &Principal, form: Form, note: Option<&str>) -> Result<Response> {
    let mut about = vec![Fact::mono("Addresses", app.origins.join(", "))];
    about.push(Fact::mono("Certificate, SHA-256", app.certificates.fingerprint()));
    about.push(Fact::mono("CA, SHA-256", fingerprint(app.ca.server_ca())));
    let page = Page { app, who, section: Some(Section::Settings), title: "Settings", note, form };
    page.show("settings.html", Context { usual: app.unhealthy_after.as_secs(), about })
}
