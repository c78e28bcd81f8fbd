//! `/v1/gateways/{id}/events`: a list, or for who accepts it a stream.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json as Answer;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::gateways::limit;
use super::{Id, Query};
use crate::auth::{Principal, Viewer};
use crate::error::Result;
use crate::gateways::{self, Event};
use crate::machine::Change;
use crate::state::App;

/// How often a stream looks whether whoever it is for may still see it.
const STILL_ALLOWED: Duration = Duration::from_secs(15);
/// Events that a stream sends at once.
const BATCH: u32 = 100;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::default().routes(routes!(list_events))
}

/// Events.
#[derive(Debug, Serialize, ToSchema)]
struct Events {
    /// Newest first.
    items: Vec<Event>,
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Page {
    /// Only those before this one: the last of the page before.
    before: Option<Uuid>,
    /// At most so many; 100 by default.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u32>,
}

/// What a gateway had to say, newest first
///
/// With `Accept: text/event-stream` a stream of what it says from now on, or since the event in `Last-Event-ID`: each has
/// an event as JSON.
#[utoipa::path(
    get, path = "/v1/gateways/{id}/events", tag = "gateways", extensions(("x-role" = json!("viewer"))),
    params(("id" = Uuid, Path), Page),
    responses((
        status = 200,
        description = "A list, or a stream of events as JSON",
        content((Events = "application/json"), (String = "text/event-stream")),
    )),
)]
async fn list_events(
    State(app): State<App>,
    Viewer(by): Viewer,
    Id(id): Id,
    Query(page): Query<Page>,
    headers: HeaderMap,
) -> Result<Response> {
    let limit = limit(page.limit)?;
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !accept.contains("text/event-stream") {
        let items = gateways::events(&app, id, page.before, limit).await?;
        return Ok(Answer(Events { items }).into_response());
    }
    // Listening first: what happens in between is then seen, if twice looked for.
    let changes = app.hub.changes();
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.parse().ok());
    let last = match last {
        Some(last) => last,
        None => gateways::events(&app, id, None, 1).await?.first().map_or(Uuid::nil(), |event| event.id),
    };
    let check_at = Instant::now() + STILL_ALLOWED;
    let live = Live { app, by, check_at, gateway: id, changes, last, waiting: Vec::new().into_iter() };
    let stream = stream::unfold(live, |mut live| async move { live.next().await.map(|event| (event, live)) });
    Ok(Sse::new(stream).keep_alive(KeepAlive::default()).into_response())
}

/// A stream's place.
struct Live {
    app: App,
    by: Principal,
    /// When it is looked whether they still may.
    check_at: Instant,
    gateway: Uuid,
    changes: Receiver<Change>,
    last: Uuid,
    waiting: std::vec::IntoIter<Event>,
}

impl Live {
    /// The next event; none when the stream is over.
    async fn next(&mut self) -> Option<std::result::Result<sse::Event, Infallible>> {
        loop {
            if let Some(event) = self.waiting.next() {
                self.last = event.id;
                let text = serde_json::to_string(&event).ok()?;
                return Some(Ok(sse::Event::default().id(event.id.to_string()).data(text)));
            }
            if self.check_at <= Instant::now() {
                if !self.by.holds(&self.app).await.unwrap_or(false) {
                    return None;
                }
                self.check_at = Instant::now() + STILL_ALLOWED;
            }
            let events = gateways::events_after(&self.app, self.gateway, self.last, BATCH).await.ok()?;
            if events.is_empty() {
                self.change().await?;
            }
            self.waiting = events.into_iter();
        }
    }

    /// Waits until something may have happened; none when it is over.
    async fn change(&mut self) -> Option<()> {
        loop {
            tokio::select! {
                () = self.app.stopping.cancelled() => return None,
                // Of a time, not a duration: other gateways' changes would put it off for ever.
                () = tokio::time::sleep_until(self.check_at) => return Some(()),
                change = self.changes.recv() => match change {
                    Ok(change) if change.gateway == self.gateway => return Some(()),
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return Some(()),
                    Err(RecvError::Closed) => return None,
                }
            }
        }
    }
}
