//! The end of a request that was not granted: `application/problem+json` (RFC 9457), always with a hint where the user
//! can mend it.

use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use protocol::problem::{Field, Problem};

/// What a handler ends with.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was not granted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// For a reason that the one who asks is told.
    #[error("{}", .0.title)]
    Refused(Box<Problem>),
    /// Too often; it can be tried again after a while.
    #[error("{}", .0.title)]
    TooMany(Box<Problem>, Duration),
    /// The database.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// A secret in the database.
    #[error(transparent)]
    Sealed(#[from] crate::data_key::OtherKey),
    /// Something else that must not happen; it is logged, and not told.
    #[error("{0}")]
    Internal(String),
}

impl Error {
    /// A refusal with a status of its own.
    #[must_use]
    pub fn refused(status: StatusCode, kind: &str, title: impl Into<String>, hint: &str) -> Error {
        Error::Refused(Box::new(problem(status, kind, title.into(), hint)))
    }

    /// Nobody is signed in, or not any more.
    #[must_use]
    pub fn unauthorized() -> Error {
        Error::refused(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Nobody is signed in.",
            "Sign in at `POST /v1/session`, or send `Authorization: Bearer` with a token that still holds.",
        )
    }

    /// Somebody is, but may not.
    #[must_use]
    pub fn forbidden(kind: &str, title: impl Into<String>, hint: &str) -> Error {
        Error::refused(StatusCode::FORBIDDEN, kind, title, hint)
    }

    /// There is no such thing, as in `gateway`.
    #[must_use]
    pub fn not_found(thing: &str) -> Error {
        Error::refused(StatusCode::NOT_FOUND, "not-found", format!("There is no such {thing}."), "")
    }

    /// What is there already stands against it.
    #[must_use]
    pub fn conflict(kind: &str, title: impl Into<String>, hint: &str) -> Error {
        Error::refused(StatusCode::CONFLICT, kind, title, hint)
    }

    /// Parts of the input are wrong.
    #[must_use]
    pub fn invalid(fields: Vec<Field>) -> Error {
        let title = "Some of the input is wrong.".to_owned();
        let mut problem = problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid", title, "");
        problem.fields = fields;
        Error::Refused(Box::new(problem))
    }

    /// One part of the input is wrong: by JSON pointer, and why.
    #[must_use]
    pub fn invalid_at(at: &str, message: impl Into<String>) -> Error {
        Error::invalid(vec![Field { at: at.to_owned(), message: message.into() }])
    }

    /// Too often.
    #[must_use]
    pub fn too_many(kind: &str, title: impl Into<String>, after: Duration) -> Error {
        let hint = format!("Try again in {} s.", seconds(after));
        Error::TooMany(Box::new(problem(StatusCode::TOO_MANY_REQUESTS, kind, title.into(), &hint)), after)
    }

    /// What is told.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Error::Refused(problem) | Error::TooMany(problem, _) => Problem::clone(problem),
            Error::Database(error) if is_passing(error) => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "database-busy",
                "The database cannot take this now; nothing was done.".into(),
                "Try again in a moment. If it stays so, look at the console's log and the database's disk.",
            ),
            Error::Database(_) | Error::Sealed(_) | Error::Internal(_) => problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "The console failed; this is not your fault.".into(),
                "The console's log has the reason.",
            ),
        }
    }
}

/// Whether the database may work again by itself, or once its disk has room.
fn is_passing(error: &sqlx::Error) -> bool {
    use sqlx::Error::{Database, Io, PoolTimedOut};
    match error {
        PoolTimedOut | Io(_) => true,
        // SQLite: 5 busy, 6 locked, 10 an error of the disk, 13 full, with extended codes above the lowest byte.
        // PostgreSQL: classes 08 connection, 40 rollback, 53 out of something, 57 shutdown.
        Database(error) => error.code().is_some_and(|code| match code.parse::<u32>() {
            Ok(number) if code.len() != 5 => matches!(number & 0xff, 5 | 6 | 10 | 13),
            _ => ["08", "40", "53", "57"].iter().any(|class| code.starts_with(class)),
        }),
        _ => false,
    }
}

fn problem(status: StatusCode, kind: &str, title: String, hint: &str) -> Problem {
    Problem {
        kind: kind.to_owned(),
        title,
        status: status.as_u16(),
        hint: (!hint.is_empty()).then(|| hint.to_owned()),
        fields: Vec::new(),
    }
}

/// Whole seconds, rounded up.
fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if let Error::Database(_) | Error::Sealed(_) | Error::Internal(_) = &self {
            let source = std::error::Error::source(&self).map(ToString::to_string).unwrap_or_default();
            tracing::error!(error = %self, source, "a request failed");
        }
        let after = match &self {
            Error::TooMany(_, after) => Some(seconds(*after).max(1)),
            Error::Database(error) if is_passing(error) => Some(5),
            _ => None,
        };
        let mut response = respond(&self.problem());
        if let Some(after) = after {
            response.headers_mut().insert(RETRY_AFTER, after.into());
        }
        response
    }
}

/// A problem as the answer.
#[must_use]
pub fn respond(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        // RFC 9110, section 15.5.2, asks for one.
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
