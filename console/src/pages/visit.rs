//! Who asks for a page, and what a page does for those who may not: send them to log in, or say so.

use axum::extract::{FromRequest, FromRequestParts, Path, RawForm, Request};
use axum::http::request::Parts;
use axum::http::{StatusCode, Uri};
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::form::Posted;
use super::{frame, templates};
use crate::api;
use crate::auth::{self, Principal, Role, csrf};
use crate::error::Error;
use crate::state::App;

/// Why there is no page.
#[derive(Debug)]
pub(super) enum Stop {
    /// Nobody is logged in; afterwards they come back to this path.
    LogIn(String),
    /// The password must be changed first.
    ChangePassword,
    /// Anything else.
    Error(Error),
}

/// What handlers of pages end with.
pub(super) type Result<T = Response> = std::result::Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Error(error)
    }
}

impl From<sqlx::Error> for Stop {
    fn from(error: sqlx::Error) -> Stop {
        Stop::Error(error.into())
    }
}

impl From<minijinja::Error> for Stop {
    fn from(error: minijinja::Error) -> Stop {
        Stop::Error(Error::Internal(format!("a page cannot be made: {error}")))
    }
}

impl IntoResponse for Stop {
    fn into_response(self) -> Response {
        match self {
            Stop::LogIn(next) => {
                let query: String = url::form_urlencoded::Serializer::new(String::new())
                    .extend_pairs((next != "/").then_some(("next", next)))
                    .finish();
                let mark = if query.is_empty() { "" } else { "?" };
                Redirect::to(&format!("/login{mark}{query}")).into_response()
            }
            Stop::ChangePassword => Redirect::to("/password").into_response(),
            Stop::Error(error) => refuse(error),
        }
    }
}

/// The refusal as a page. It keeps the API's status and headers.
fn refuse(error: Error) -> Response {
    #[derive(Serialize)]
    struct Context {
        title: String,
        hint: Option<String>,
        #[serde(flatten)]
        frame: frame::Bare,
    }
    let problem = error.problem();
    let mut response = error.into_response();
    let context = Context { title: problem.title, hint: problem.hint, frame: frame::Bare::new(None) };
    if let Ok(page) = templates::render("error.html", &context) {
        let (parts, body) = Html(page).into_response().into_parts();
        *response.body_mut() = body;
        response.headers_mut().extend(parts.headers);
        response.headers_mut().remove(axum::http::header::CONTENT_LENGTH);
    }
    response
}

/// Somebody who is logged in and looks at a page.
#[derive(Debug)]
pub(super) struct Visitor(pub(super) Principal);

impl FromRequestParts<App> for Visitor {
    type Rejection = Stop;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Visitor> {
        let who = recognise(parts, app).await?;
        if who.must_change {
            return Err(Stop::ChangePassword);
        }
        Ok(Visitor(who))
    }
}

/// The same, but the password may still have to be changed.
#[derive(Debug)]
pub(super) struct Newcomer(pub(super) Principal);

impl FromRequestParts<App> for Newcomer {
    type Rejection = Stop;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Newcomer> {
        recognise(parts, app).await.map(Newcomer)
    }
}

async fn recognise(parts: &Parts, app: &App) -> Result<Principal> {
    auth::recognise(app, parts).await?.ok_or_else(|| {
        // What was posted is gone; the page it came from is there again.
        let path =
            if parts.method.is_safe() { parts.uri.path_and_query().map(ToString::to_string) } else { None };
        Stop::LogIn(path.unwrap_or_else(|| parts.uri.path().to_owned()))
    })
}

/// A form that somebody who is logged in has posted, from a page of ours.
#[derive(Debug)]
pub(super) struct Sent {
    /// Who.
    pub(super) who: Principal,
    /// What.
    pub(super) posted: Posted,
}

impl Sent {
    /// Who, if they may.
    pub(super) fn by(self, role: Role) -> Result<(Principal, Posted)> {
        self.who.require(role)?;
        if self.who.must_change {
            return Err(Stop::ChangePassword);
        }
        Ok((self.who, self.posted))
    }
}

impl FromRequest<App> for Sent {
    type Rejection = Stop;

    async fn from_request(request: Request, app: &App) -> Result<Sent> {
        let (parts, body) = request.into_parts();
        let who = recognise(&parts, app).await?;
        csrf::check_source(app, &parts)?;
        let posted = read(Request::from_parts(parts, body), app).await?;
        csrf::check_token(&who, posted.exact("csrf"))?;
        Ok(Sent { who, posted })
    }
}

/// The form of somebody who is not logged in yet, from a page of ours.
#[derive(Debug)]
pub(super) struct Stranger {
    /// From where.
    pub(super) address: std::net::IpAddr,
    /// What.
    pub(super) posted: Posted,
}

impl FromRequest<App> for Stranger {
    type Rejection = Stop;

    async fn from_request(request: Request, app: &App) -> Result<Stranger> {
        let (parts, body) = request.into_parts();
        csrf::check_source(app, &parts)?;
        let address = auth::address(&parts)?;
        let posted = read(Request::from_parts(parts, body), app).await?;
        Ok(Stranger { address, posted })
    }
}

async fn read(request: Request, app: &App) -> crate::error::Result<Posted> {
    let RawForm(bytes) = RawForm::from_request(request, app).await.map_err(|rejection| {
        let rejection = rejection.into_response().status();
        Error::refused(
            rejection,
            "form",
            "This form cannot be read.",
            "It is too large, or was not sent by a form.",
        )
    })?;
    let fields: Vec<(String, String)> = url::form_urlencoded::parse(&bytes).into_owned().collect();
    if fields.iter().any(|(name, value)| name.contains('\0') || value.contains('\0')) {
        // As the API: PostgreSQL stores none, and nobody types one.
        return Err(Error::refused(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
            "The form has a NUL character.",
            "",
        ));
    }
    Ok(Posted::new(fields))
}

/// The query, read as the API reads it; what is wrong with it is said on a page.
#[derive(Debug)]
pub(super) struct Query<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequestParts<App> for Query<T> {
    type Rejection = Stop;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Query<T>> {
        let api::Query(query) = api::Query::from_request_parts(parts, app).await?;
        Ok(Query(query))
    }
}

/// An identifier in a path. What is none names nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id(pub(super) Uuid);

impl FromRequestParts<App> for Id {
    type Rejection = Stop;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Id> {
        #[derive(serde::Deserialize)]
        struct Place {
            id: Uuid,
        }
        let Path(Place { id }) = Path::from_request_parts(parts, app)
            .await
            .map_err(|_| Error::refused(StatusCode::NOT_FOUND, "not-found", "There is no such page.", ""))?;
        Ok(Id(id))
    }
}

/// A path of ours to go on to, whatever was asked for: `//host` and `/\host` would be somebody else's.
pub(super) fn own_path(next: &str) -> &str {
    let ours = next.starts_with('/')
        && !next.starts_with("//")
        && next.parse::<Uri>().is_ok()
        && !next.chars().any(|c| c == '\\' || c.is_control());
    if ours { next } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_in_leads_to_our_own_pages_only() {
        for (next, goes) in [
            ("/gateways/new?x=1", "/gateways/new?x=1"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example", "/"),
            ("/\t/evil.example", "/"),
            ("javascript:alert(1)", "/"),
            ("", "/"),
        ] {
            assert_eq!(own_path(next), goes, "{next}");
        }
    }
}
