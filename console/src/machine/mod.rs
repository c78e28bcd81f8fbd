//! The machines' side: how they pair, and the link that they hold from then on.
//!
//! ```text
//! start, confirm ──> pairing ──> grant ──────────────> store
//! link, poll ──> identity ──> link ──> heartbeats ───> store, in batches
//!                              │ ^└──> entries ──────> store, before they are acknowledged
//!                              v └──── commands <───── store
//!                             hub <─── who changes anything, here (`Hub::wake`) or elsewhere (`background`)
//! ```

mod background;
mod entries;
pub mod grant;
pub mod health;
mod heartbeats;
pub mod hub;
mod identity;
mod interception;
mod limits;
mod link;
mod pairing;
pub mod spool;
#[cfg(test)]
mod tests;

pub use background::start;
pub use grant::{Waiting, approve, refuse, waiting};
pub use hub::{Change, Hub};
pub use limits::Rates;

use axum::Json;
use axum::extract::{DefaultBodyLimit, State};
use protocol::link::About;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::App;

/// How often machines are to be heard of.
pub const HEARTBEAT_SECONDS: u32 = 30;

/// What machines call.
#[must_use]
pub fn router() -> OpenApiRouter<App> {
    let pairing = OpenApiRouter::new()
        .routes(routes!(about))
        .routes(routes!(pairing::start))
        .routes(routes!(pairing::confirm))
        .layer(DefaultBodyLimit::max(2 * protocol::pairing::MAX_MESSAGE));
    let link = OpenApiRouter::new()
        .routes(routes!(link::stream))
        .routes(routes!(link::poll))
        .routes(routes!(link::renew))
        .layer(DefaultBodyLimit::max(protocol::link::MAX_MESSAGE));
    pairing.merge(link)
}

/// What this is, and its clock.
#[utoipa::path(get, path = "/v1/version", tag = "machine", responses((status = 200, body = About)), security(()))]
async fn about(State(app): State<App>) -> Json<About> {
    Json(About {
        product: "gatewright-console".into(),
        software: env!("CARGO_PKG_VERSION").into(),
        protocols: vec![protocol::VERSION],
        time: app.now(),
    })
}

/// A device key as it is stored.
fn key(text: &str) -> Option<[u8; 32]> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).ok()?.try_into().ok()
}
