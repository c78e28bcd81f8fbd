//! `GET /live`: says when a page should look again (server-sent events, WHATWG HTML, section 9.2). What has changed it
//! does not say: the page is asked for again, by whoever may see it then.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, Sse};
use serde::Deserialize;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::visit::{Query, Result, Visitor};
use crate::machine::Change;
use crate::state::App;

/// A page looks again no more often than this,
const PAUSE: Duration = Duration::from_secs(1);
/// the list, which any gateway changes, than this,
const LONG_PAUSE: Duration = Duration::from_secs(3);
/// and all of them after this, because another console on the same database may have heard what this one did not. It
/// also keeps proxies from closing the stream; and 15 s after somebody was locked out, their stream has ended.
const ANYWAY: Duration = Duration::from_secs(12);

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    gateway: Option<Uuid>,
}

pub(super) async fn stream(
    State(app): State<App>,
    Visitor(who): Visitor,
    Query(wanted): Query<Wanted>,
) -> Result {
    let changes = app.hub.changes();
    let events = futures_util::stream::unfold(
        (app, who, changes, wanted.gateway),
        |(app, who, mut changes, gateway)| async move {
            let stopping = app.stopping.clone();
            tokio::select! {
                () = stopping.cancelled() => return None,
                _ = tokio::time::timeout(ANYWAY, of(&mut changes, gateway)) => {}
            }
            // Whatever comes meanwhile is told with this one.
            tokio::time::sleep(if gateway.is_some() { PAUSE } else { LONG_PAUSE }).await;
            changes = changes.resubscribe();
            // The stream outlives the request that was allowed. The browser asks for another, and is sent to log in.
            if !who.holds(&app).await.unwrap_or(false) {
                return None;
            }
            let event = Event::default().event("change").data("look again");
            Some((Ok::<_, Infallible>(event), (app, who, changes, gateway)))
        },
    );
    Ok(Sse::new(events).into_response())
}

/// Waits for a change of a gateway, or of any.
async fn of(changes: &mut broadcast::Receiver<Change>, gateway: Option<Uuid>) {
    loop {
        match changes.recv().await {
            Ok(change) if gateway.is_none_or(|wanted| wanted == change.gateway) => return,
            Ok(_) => {}
            // Some were missed; this gateway's may be among them.
            Err(_) => return,
        }
    }
}
