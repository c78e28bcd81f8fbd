//! A page of somebody else's cannot act for whoever is signed in: every request of a session that changes something
//! carries the session's token, which no other origin can read; and browsers say where a request came from.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;

use super::{Principal, Via, hash};
use crate::error::{Error, Result};
use crate::state::App;

/// The header that scripts send the token in; forms have a field.
pub const HEADER: &str = "x-csrf-token";

/// Refuses a request of a session that changes something, unless its token is in [`HEADER`] and it came from a page of
/// ours. Requests with a bearer token are let through: browsers do not send those by themselves.
///
/// # Errors
/// 403.
pub fn check(app: &App, principal: &Principal, parts: &Parts) -> Result<()> {
    if parts.method.is_safe() || matches!(principal.via, Via::Token { .. }) {
        return Ok(());
    }
    check_source(app, parts)?;
    let sent = parts.headers.get(HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    check_token(principal, sent)
}

/// Refuses a token that is not the session's; for forms, which have it in a field.
///
/// # Errors
/// 403.
pub fn check_token(principal: &Principal, sent: &str) -> Result<()> {
    match &principal.via {
        // Hashes, so that the time it takes to compare says nothing.
        Via::Session { csrf, .. } if hash(csrf) == hash(sent) => Ok(()),
        Via::Token { .. } => Ok(()),
        Via::Session { .. } => Err(Error::forbidden(
            "csrf",
            "The CSRF token is missing or wrong.",
            "Send `X-CSRF-Token` with the value that `GET /v1/session` gives; in a browser, load the page again.",
        )),
    }
}

/// Refuses a request that a browser says came from somebody else's page; for logging in too, where there is no session
/// yet.
///
/// # Errors
/// 403.
pub fn check_source(app: &App, parts: &Parts) -> Result<()> {
    let headers = &parts.headers;
    let site = headers.get("sec-fetch-site").map(|value| value.to_str().unwrap_or("?"));
    // `none`: the user typed the address.
    let site_is_ours = site.is_none_or(|site| matches!(site, "same-origin" | "none"));
    let origin = headers.get(ORIGIN).map(|value| value.to_str().unwrap_or("?"));
    let origin_is_ours = origin.is_none_or(|origin| is_ours(app, headers, parts, origin));
    if site_is_ours && origin_is_ours {
        return Ok(());
    }
    Err(Error::forbidden(
        "cross-site",
        "This request came from another site's page.",
        "Open the console by one of its own addresses (`--url`).",
    ))
}

/// A known origin, or the one the request itself is for: a browser does not let a page choose either.
fn is_ours(app: &App, headers: &HeaderMap, parts: &Parts, origin: &str) -> bool {
    if app.origins.iter().any(|own| own == origin) {
        return true;
    }
    // HTTP/2 has the host in `:authority`, which is the URI's.
    let host = parts
        .uri
        .authority()
        .map(axum::http::uri::Authority::as_str)
        .or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()));
    host.is_some_and(|host| origin.strip_prefix("https://").is_some_and(|own| own.eq_ignore_ascii_case(host)))
}
