//! Input, strictly: what is wrong with it is said by a problem, where it is wrong by JSON pointer.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;
use uuid::Uuid;

use super::strict::Strict;
use crate::error::{Error, Result};

/// A body of JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Json<T>> {
        if !is_json(request.headers()) {
            return Err(Error::refused(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "not-json",
                "The body must be JSON.",
                "Send `Content-Type: application/json`.",
            ));
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|error| match error.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Error::refused(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too large.", "")
            }
            _ => Error::refused(
                StatusCode::REQUEST_TIMEOUT,
                "too-slow",
                "The body did not arrive as a whole.",
                "Send it at once.",
            ),
        })?;
        parse(&bytes).map(Json)
    }
}

/// JSON from bytes.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        Error::refused(StatusCode::BAD_REQUEST, "malformed", format!("The body is no JSON: {error}."), "")
    })?;
    if let Some(at) = nul(&value) {
        // PostgreSQL stores none, and nobody types one.
        return Err(Error::invalid_at(&at, "It has a NUL character."));
    }
    serde_path_to_error::deserialize(Strict(value)).map_err(|error| {
        let at = pointer(error.path());
        let why = error.into_inner().to_string();
        Error::invalid_at(&at, format!("{}.", capitalised(&why)))
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// The JSON pointer (RFC 6901) of a string or name with a NUL character.
fn nul(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| nul(item).map(|rest| format!("/{index}{rest}")))
        }
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            if name.contains('\0') {
                return Some(String::new());
            }
            nul(member).map(|rest| format!("/{}{rest}", escaped(name)))
        }),
        _ => None,
    }
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", escaped(key))),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Parameters of the query.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>> {
        let wrong = |why: String| Error::refused(StatusCode::BAD_REQUEST, "bad-query", why, "");
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(wrong("The query has a NUL character.".into()));
        }
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|query| Query(query.0))
            .map_err(|error| wrong(format!("The query is wrong: {}.", error.body_text())))
    }
}

/// The identifier in the path.
#[derive(Clone, Copy, Debug)]
pub struct Id(pub Uuid);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id> {
        // What is no identifier is nobody's.
        let path = Path::<Uuid>::from_request_parts(parts, state).await;
        path.map(|Path(id)| Id(id)).map_err(|_| Error::not_found("thing"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Input {
        name: String,
        pools: Vec<Pool>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Pool {
        prefix: u8,
    }

    #[test]
    fn what_is_wrong_is_said_where() {
        let told = |text: &str| {
            let problem = parse::<Input>(text.as_bytes()).unwrap_err().problem();
            let fields: Vec<_> =
                problem.fields.iter().map(|field| format!("{} {}", field.at, field.message)).collect();
            format!("{} {} {}", problem.status, problem.title, fields.join(" | "))
        };
        insta::assert_snapshot!(
            [
                r#"{"name": "a", "pools": [{"prefix": 24}, {"prefix": 2400}]}"#,
                r#"{"name": "a", "pools": [], "more": 1}"#,
                r#"{"name": "a\u0000", "pools": []}"#,
                r#"{"pools": []}"#,
                r#"{"name": 1}"#,
                r#"{"name": "#,
                "",
                r#"["a", []]"#,
                r#"{"name": "a", "pools": [[24]]}"#,
                r#"{"name": "a", "pools": [{"prefix": 24.0}]}"#,
                r#"{"name": "a", "pools": [{"prefix": 24.5}]}"#,
                r#"{"name": "a", "pools": [], "name": "b"}"#,
            ]
            .map(|text| format!("{text}\n    {}", told_or_taken(text, told)))
            .join("\n")
        );
    }

    fn told_or_taken(text: &str, told: impl Fn(&str) -> String) -> String {
        if parse::<Input>(text.as_bytes()).is_ok() { "taken".into() } else { told(text) }
    }
}
