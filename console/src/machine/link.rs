//! The link: what a paired machine sends is taken in, and commands go out to it until they are done.
//!
//! ```text
//! heartbeat ─> memory ─> database, many at once      command ─> database ─> hub wakes the link ─> machine
//! entries ─> database ─> acknowledged                       again with each new link, until its result is stored
//! ```

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use jiff::SignedDuration;
use protocol::link::{
    Command, Downstream, Heartbeat, MAX_ENTRIES, MAX_MESSAGE, POLL_SECONDS, Renewal, Renewed, SUBPROTOCOL,
    Upstream,
};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::HEARTBEAT_SECONDS;
use super::entries::{self, cut};
use super::health::Short;
use super::hub::News;
use super::identity::{identify, revoked};
use super::spool::Mark;
use crate::auth::audit;
use crate::error::{Error, Result};
use crate::gateways::command;
use crate::state::{App, Peer};
use crate::store::commands;
use crate::store::gateways::{self, Gateway};

/// A link that is silent for so long is given up: three heartbeats are lost.
const SILENCE: Duration = Duration::from_secs(3 * HEARTBEAT_SECONDS as u64);
/// How long a message may take to leave.
const SEND: Duration = Duration::from_secs(30);
/// Polling machines get a command again after this, if its result has not come: an answer may be lost on the way.
const AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// Commands in one message: the largest, a configuration, may have a good part of [`MAX_MESSAGE`].
const COMMANDS_BYTES: usize = MAX_MESSAGE / 2;
/// A machine sends little, rarely; ten thousand of them wait here.
const READ_BUFFER: usize = 2048;

/// Codes with which the console closes a stream (RFC 6455, section 7.4).
mod close {
    /// The console ends; another may be there.
    pub(super) const GOING_AWAY: u16 = 1001;
    /// The machine sent what it must not.
    pub(super) const UNREADABLE: u16 = 1008;
    /// The console could not store it; it is to be sent again.
    pub(super) const TRY_AGAIN: u16 = 1013;
    /// The machine has made a newer link.
    pub(super) const REPLACED: u16 = 4000;
    /// The machine is no gateway any more.
    pub(super) const REVOKED: u16 = 4001;
}

/// The stream.
#[utoipa::path(
    get,
    path = "/v1/link",
    tag = "machine",
    responses(
        (status = 101, description = "WebSocket, subprotocol `gatewright.link.v1`: `Upstream` up, `Downstream` down, a \
            JSON text message each. Close codes: 4000 replaced by a newer link, 4001 revoked, 1008 unreadable, 1013 to \
            be sent again"),
        (status = 400, description = "No WebSocket"),
        (status = 401, description = "No gateway"),
    ),
)]
pub(crate) async fn stream(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    parts: Parts,
    upgrade: std::result::Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response> {
    let gateway = identify(&app, &parts, &peer, b"").await?;
    let upgrade = upgrade.map_err(|rejection| {
        let hint = "Where a proxy takes the upgrade away, use `POST /v1/link/poll`.";
        Error::refused(StatusCode::BAD_REQUEST, "websocket", format!("{rejection}."), hint)
    })?;
    let tasks = app.tasks.clone();
    let link = Link::new(app, &gateway);
    Ok(upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| tasks.track_future(link.run(socket))))
}

/// A request after another, for proxies that carry no WebSocket.
#[utoipa::path(
    post,
    path = "/v1/link/poll",
    tag = "machine",
    request_body = Upstream,
    responses(
        (status = 200, description = "At once if there were entries or there are commands, else after 25 seconds",
            body = Downstream),
        (status = 400, description = "Unreadable"),
        (status = 401, description = "No gateway"),
    ),
)]
pub(crate) async fn poll(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    parts: Parts,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Json<Downstream>> {
    let body = body.map_err(too_long)?;
    let gateway = identify(&app, &parts, &peer, &body).await?;
    let upstream: Upstream = read(&body)?;
    let mut link = Link::new(app, &gateway);
    let member = link.app.hub.join(link.gateway);
    let acknowledge = !upstream.entries.is_empty();
    // What was deleted before we joined told nobody here.
    link.still_gateway().await?;
    link.hear(upstream).await?;
    let until = Instant::now() + Duration::from_secs(POLL_SECONDS);
    loop {
        let commands = link.commands(Some(AGAIN)).await?;
        if acknowledge || !commands.is_empty() {
            return Ok(Json(link.downstream(commands)));
        }
        let stopping = link.app.stopping.clone();
        let news = tokio::select! {
            news = timeout_at(until, member.news()) => news,
            () = stopping.cancelled() => return Ok(Json(link.downstream(Vec::new()))),
        };
        match news {
            Ok(News::Look) => link.still_gateway().await?,
            Ok(News::Replaced) | Err(_) => return Ok(Json(link.downstream(Vec::new()))),
        }
    }
}

/// A new certificate for the same key.
#[utoipa::path(
    post,
    path = "/v1/link/certificate",
    tag = "machine",
    request_body = Renewal,
    responses(
        (status = 200, description = "It replaces the one before, which stays good until it expires", body = Renewed),
        (status = 400, description = "Unreadable"),
        (status = 401, description = "No gateway"),
    ),
)]
pub(crate) async fn renew(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    parts: Parts,
    body: std::result::Result<Bytes, BytesRejection>,
) -> Result<Json<Renewed>> {
    let body = body.map_err(too_long)?;
    let gateway = identify(&app, &parts, &peer, &body).await?;
    let renewal: Renewal = read(&body)?;
    let key = gateway.device_key.as_deref().and_then(super::key).ok_or_else(revoked)?;
    let now = app.now();
    let certificate = app
        .ca
        .certify_device(gateway.id, &key, &renewal.certificate_request.0, now)
        .map_err(|reason| Error::refused(StatusCode::BAD_REQUEST, "malformed", reason.to_string(), ""))?;
    let address = peer.address.ip().to_canonical().to_string();
    let mut db = app.store.write().await?;
    let actor = format!("gateway {}", gateway.name);
    audit(&mut db, &app, &actor, &address, "gateway.renew", &gateway.name, &certificate.serial).await?;
    db.commit().await?;
    Ok(Json(Renewed { certificate: certificate.pem, ca_bundle: app.certificates.bundle() }))
}

fn too_long(rejection: BytesRejection) -> Error {
    Error::refused(rejection.status(), "malformed", "The message is too long, or broke off.", "")
}

/// Reads a message. Text that cannot be stored is no reason to refuse it: it would be sent again for ever.
fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        let title = format!("The message makes no sense: {error}.");
        Error::refused(StatusCode::BAD_REQUEST, "malformed", title, "")
    })
}

/// What is known of a machine while it is connected. Small: there are ten thousand.
struct Link {
    app: App,
    gateway: Uuid,
    /// Its device key, base64.
    key: Box<str>,
    /// What its last heartbeat left.
    short: Short,
    /// How far its spool is stored.
    mark: Mark,
    /// Its spool, once it has named it: before that nothing can be acknowledged.
    spool: Option<Uuid>,
    /// Commands that this link has carried and that are still open.
    sent: Vec<Uuid>,
}

impl Link {
    fn new(app: App, gateway: &Gateway) -> Link {
        let stored = gateway.heartbeat.as_ref().map(|beat| beat.short).unwrap_or_default();
        Link {
            short: app.hub.heartbeats.short(gateway.id).unwrap_or(stored),
            mark: Mark { spool: gateway.spool, acknowledged: gateway.acknowledged.unsigned_abs() },
            gateway: gateway.id,
            key: gateway.device_key.as_deref().unwrap_or_default().into(),
            spool: None,
            sent: Vec::new(),
            app,
        }
    }

    async fn run(mut self, mut socket: WebSocket) {
        let why = match self.serve(&mut socket).await {
            Ok(()) => return,
            Err(why) => why,
        };
        let frame = CloseFrame { code: why.0, reason: why.1.into() };
        // Who is gone needs no farewell.
        let _ = timeout(SEND, socket.send(Message::Close(Some(frame)))).await;
    }

    /// Serves a stream until the machine ends it; `Err` says with what the console ends it.
    async fn serve(&mut self, socket: &mut WebSocket) -> std::result::Result<(), (u16, &'static str)> {
        let member = self.app.hub.join(self.gateway);
        if !self.push(socket).await? {
            return Ok(());
        }
        let stopping = self.app.stopping.clone();
        let mut silent = Instant::now() + SILENCE;
        loop {
            let message = tokio::select! {
                biased;
                news = member.news() => match news {
                    News::Replaced => return Err((close::REPLACED, "replaced by a newer link")),
                    News::Look => {
                        if !self.push(socket).await? {
                            return Ok(());
                        }
                        continue;
                    }
                },
                () = stopping.cancelled() => return Err((close::GOING_AWAY, "the console ends")),
                message = timeout_at(silent, socket.recv()) => message,
            };
            let text = match message {
                Ok(Some(Ok(Message::Text(text)))) => text,
                Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
                Ok(Some(Ok(Message::Binary(_)))) => return Err((close::UNREADABLE, "text is expected")),
                // It is gone, or silent.
                Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return Ok(()),
            };
            silent = Instant::now() + SILENCE;
            let upstream: Upstream =
                serde_json::from_str(&text).map_err(|_| (close::UNREADABLE, "the message makes no sense"))?;
            drop(text);
            self.hear(upstream).await.map_err(failed)?;
            let answer = self.downstream(Vec::new());
            if !send(socket, &answer).await {
                return Ok(());
            }
        }
    }

    /// Sends the commands that this link has not carried yet, if the machine still is a gateway. `false`: it is gone.
    async fn push(&mut self, socket: &mut WebSocket) -> std::result::Result<bool, (u16, &'static str)> {
        Box::pin(self.still_gateway()).await.map_err(failed)?;
        loop {
            let commands = Box::pin(self.commands(None)).await.map_err(failed)?;
            if commands.is_empty() {
                return Ok(true);
            }
            if !send(socket, &self.downstream(commands)).await {
                return Ok(false);
            }
        }
    }

    /// Refuses a machine that was deleted, or replaced by another, since it came.
    async fn still_gateway(&self) -> Result<()> {
        let gateway = gateways::get(&mut *self.app.store.read().await?, self.gateway).await?;
        let key = gateway.and_then(|gateway| gateway.device_key);
        if key.as_deref() == Some(&*self.key) { Ok(()) } else { Err(revoked()) }
    }

    /// Takes in what a machine says.
    async fn hear(&mut self, upstream: Upstream) -> Result<()> {
        if upstream.entries.len() > MAX_ENTRIES {
            let title = format!("At most {MAX_ENTRIES} entries go into a message.");
            return Err(Error::refused(StatusCode::BAD_REQUEST, "malformed", title, ""));
        }
        let now = self.app.now();
        if let Some(heartbeat) = upstream.heartbeat {
            self.short = self.app.hub.heartbeats.hear(self.gateway, bounded(heartbeat), self.short, now);
        }
        self.spool = Some(upstream.spool);
        if upstream.entries.is_empty() {
            return Ok(());
        }
        // Boxed, as all that is rare: each link would hold room for it.
        Box::pin(async {
            let mut db = self.app.store.write().await?;
            let stored = entries::store(&mut db, self.gateway, upstream.spool, upstream.entries, now).await?;
            let stored = stored.ok_or_else(revoked)?;
            for kind in &stored.done {
                let gateway = gateways::get(&mut db, self.gateway).await?.ok_or_else(revoked)?;
                command::done(&mut db, &self.app, &gateway, kind).await?;
            }
            db.commit().await?;
            self.mark = Mark { spool: self.spool, acknowledged: stored.acknowledged };
            if stored.results {
                // There may be more commands than are sent at once, or no gateway any more.
                self.app.hub.wake(self.gateway);
            } else if stored.news {
                self.app.hub.changed(self.gateway);
            }
            Ok(())
        })
        .await
    }

    /// Open commands that are to be sent now, oldest first, noted as sent: each once in a link, or, where a link is many
    /// requests, `again` after a while.
    async fn commands(&mut self, again: Option<SignedDuration>) -> Result<Vec<Command>> {
        const AT_ONCE: u32 = 64;
        let now = self.app.now();
        let open = commands::open(&mut *self.app.store.read().await?, self.gateway, AT_ONCE).await?;
        self.sent.retain(|sent| open.iter().any(|command| command.id == *sent));
        let due = |command: &commands::Command| match again {
            None => !self.sent.contains(&command.id),
            Some(again) => command.delivered_at.is_none_or(|at| now.duration_since(at) >= again),
        };
        let mut bytes = 0;
        let mut due: Vec<_> = open.iter().filter(|command| due(command)).collect();
        due.truncate(
            due.iter()
                .take_while(|command| {
                    let first = bytes == 0;
                    bytes += command.arguments.len();
                    first || bytes <= COMMANDS_BYTES
                })
                .count(),
        );
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let mut db = self.app.store.write().await?;
        let mut commands = Vec::with_capacity(due.len());
        for command in due {
            let id = command.id.to_string();
            let arguments = self.app.store.secrets.open("commands.arguments", &id, &command.arguments)?;
            let arguments = super::pairing::read(arguments.expose())?;
            commands::delivered(&mut db, command.id, now).await?;
            commands.push(Command {
                id: command.id,
                time: command.time,
                kind: command.kind.clone(),
                arguments,
            });
        }
        db.commit().await?;
        self.sent.extend(commands.iter().map(|command| command.id));
        self.app.hub.changed(self.gateway);
        Ok(commands)
    }

    fn downstream(&self, commands: Vec<Command>) -> Downstream {
        // A machine that has not named its spool may have another than the one we know.
        let known = self.spool.is_some() && self.spool == self.mark.spool;
        Downstream {
            time: self.app.now(),
            acknowledged: if known { self.mark.acknowledged } else { 0 },
            commands,
            heartbeat_seconds: HEARTBEAT_SECONDS,
        }
    }
}

/// Sends a message; `false`: the machine is gone.
async fn send(socket: &mut WebSocket, message: &Downstream) -> bool {
    let Ok(text) = serde_json::to_string(message) else {
        tracing::error!("a message to a machine is no JSON");
        return false;
    };
    matches!(timeout(SEND, socket.send(Message::Text(text.into()))).await, Ok(Ok(())))
}

/// How an error ends a stream.
fn failed(error: Error) -> (u16, &'static str) {
    match error {
        Error::Refused(problem) if problem.status == 401 => (close::REVOKED, "revoked"),
        Error::Refused(_) | Error::TooMany(..) => (close::UNREADABLE, "the message makes no sense"),
        error => {
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::error!(%error, source, "what a machine sent could not be stored");
            (close::TRY_AGAIN, "the console could not store it")
        }
    }
}

/// Cuts what would be kept for every machine.
fn bounded(mut heartbeat: Heartbeat) -> Heartbeat {
    heartbeat.addresses.truncate(32);
    heartbeat.addresses.iter_mut().for_each(|address| *address = cut(std::mem::take(address), 64));
    heartbeat.state = cut(heartbeat.state, 32);
    heartbeat.software = cut(heartbeat.software, 64);
    heartbeat
}
