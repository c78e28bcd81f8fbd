//! What holds for every request: limits, and headers that keep browsers strict.

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::drain::drained;
use crate::error::Error;
use crate::state::App;

/// Of a body, in bytes, unless a route takes less.
const MAX_BODY: usize = 256 * 1024;
/// A body may pause so long.
const BODY_PAUSE: Duration = Duration::from_secs(15);
/// For an answer to begin; a poll is held for less.
const ANSWER: Duration = Duration::from_secs(60);

/// What a browser may do with an answer that is no page; pages say more.
const POLICY: &str = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// Puts them round all routes.
pub(super) fn around(router: Router<App>) -> Router<App> {
    // No Strict-Transport-Security: it would hold for every port of the host, and the console is rarely alone on it.
    let headers = [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    let limited = router
        .method_not_allowed_fallback(|| async {
            let title = "This method is not for this address.";
            Error::refused(StatusCode::METHOD_NOT_ALLOWED, "method", title, "`Allow` names those that are.")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(drained))
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE))
        .layer(from_fn(in_time))
        .layer(CatchPanicLayer::custom(panicked));
    headers.into_iter().fold(limited, |router, (name, value)| {
        router.layer(SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value)))
    })
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(ANSWER, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let title = "The console could not answer in time.";
            Error::refused(StatusCode::SERVICE_UNAVAILABLE, "too-busy", title, "Try again in a moment.")
                .into_response()
        }
    }
}

fn panicked(_: Box<dyn Any + Send>) -> Response {
    // The panic itself is on standard error already.
    Error::Internal("a handler panicked".into()).into_response()
}
