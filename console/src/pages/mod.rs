//! What browsers show: pages made here, forms that are posted here, and no more script than what is live.
//!
//! ```text
//! GET ──> Visitor ──> what is asked of the store ──> template
//! POST ─> Sent (session, CSRF token, fields) ──> the same functions as the API ──> redirect, or the form with findings
//! ```
//!
//! | module | is |
//! |---|---|
//! | `visit` | who asks, and the way to log in |
//! | `frame` | what all pages have |
//! | `form`, `configuration_form` | forms, and what is wrong with them at its field |
//! | `looks` | states in words, colours and icons |
//! | `notes` | what the next page says once |
//! | `templates`, `assets`, `time` | how it is written |
//! | the others | the pages |

mod accounts;
mod actions;
mod assets;
mod audit;
mod configuration;
mod configuration_form;
mod deploy;
mod form;
mod frame;
mod gateway;
mod gateways;
mod live;
mod looks;
mod new;
mod notes;
mod session;
mod settings;
mod templates;
mod time;
mod tokens;
mod visit;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};

use crate::error::Error;
use crate::state::App;

use visit::Stop;

/// Nothing but what is ours. No page has styles or scripts in itself, so no text that got into one could be either.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The largest form, in bytes: a configuration with many pools and keys.
const MAX_FORM: usize = 256 * 1024;

/// What browsers show.
pub fn router() -> Router<App> {
    Router::new()
        .route("/", get(gateways::list))
        .route("/live", get(live::stream))
        .route("/login", get(session::ask).post(session::log_in))
        .route("/logout", post(session::log_out))
        .route("/password", get(session::password).post(session::change_password))
        .route("/gateways/new", get(new::ask).post(new::create))
        .route("/gateways/{id}", get(gateway::show))
        .route("/gateways/{id}/import.json", get(deploy::options))
        .route("/gateways/{id}/configuration", get(configuration::show).post(configuration::save))
        .route("/gateways/{id}/{action}", get(actions::ask).post(actions::act))
        .route("/download/installer.ova", get(deploy::installer))
        .route("/accounts", get(accounts::list).post(accounts::create))
        .route("/accounts/{id}", get(accounts::show).post(accounts::change))
        .route("/accounts/{id}/{action}", get(accounts::ask).post(accounts::act))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{id}/revoke", get(tokens::ask).post(tokens::revoke))
        .route("/audit", get(audit::list))
        .route("/settings", get(settings::show).post(settings::save))
        .route("/assets/{hash}/{name}", get(assets::get))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(middleware::from_fn(headers))
}

/// What is answered where nothing is: a page to who asks for one.
pub async fn nothing(headers: HeaderMap) -> Response {
    let error = Error::not_found("page");
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accepts.contains("text/html") {
        dressed(Stop::Error(error).into_response())
    } else {
        error.into_response()
    }
}

async fn headers(request: Request, next: Next) -> Response {
    dressed(next.run(request).await)
}

/// With what every answer to a browser says of itself.
fn dressed(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not less, or browsers would send `Origin: null` with our own forms.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Pages have pairing codes, and what one user sees is not for the next one at the same browser.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
