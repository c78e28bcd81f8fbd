//! The link as a WebSocket (RFC 6455).

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use protocol::link::{Downstream, Heartbeat, MAX_MESSAGE, SUBPROTOCOL};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::console::Connection;
use crate::failure::{Failure, Stage, clean};
use crate::http::{Answer, Stream};
use crate::link::Hearing;
use crate::status::Kind;

/// After so long without a word from the console it is asked for one: proxies cut what is silent for a minute.
const QUIET: Duration = Duration::from_secs(20);
/// After so long it is dead; also how long an acknowledgement may take.
const DEAD: Duration = Duration::from_secs(60);
/// How long a message may take to leave.
const SEND: Duration = Duration::from_secs(30);
/// With which the console closes the stream of a gateway that it has removed.
const REVOKED: u16 = 4001;
/// Messages are small.
const BUFFER: usize = 8 * 1024;

/// Speaks until it breaks, and says how it broke.
pub(crate) async fn run(hearing: &mut Hearing<'_, impl Fn() -> Heartbeat>) -> Result<(), Failure> {
    let link = hearing.link;
    let origin = link.console.route.origin();
    let connection = link.console.connect().await?;
    let mut socket = open(hearing, connection).await?;
    let broke = |why: String| {
        Failure::new(
            Stage::Http,
            format!("The stream from {origin} broke: {why}."),
            "the console may be starting anew, or something on the way cuts streams; it connects again by itself",
        )
    };
    let spool = link.console.store.spool();
    let mut heartbeat_at = Instant::now();
    let mut heard = Instant::now();
    let mut pinged = heard;
    // Of the entries that were sent, the last, and when; and from which spool.
    let mut sent: Option<(u64, Instant)> = None;
    let mut from = spool.position().0;
    loop {
        let due = Instant::now() >= heartbeat_at;
        if due {
            heartbeat_at = Instant::now() + hearing.every();
        }
        // One message with entries at a time: so it is clear what a number means that the console acknowledges.
        let entries = sent.is_none() && spool.waiting() > 0;
        if due || entries {
            let message = hearing.message(due, entries)?;
            if let Some(last) = message.last {
                sent = Some((last, Instant::now()));
                from = message.spool;
            }
            send(&mut socket, Message::text(message.json)).await.map_err(broke)?;
        }
        let patience = sent.map_or(heard, |(_, at)| at) + DEAD;
        tokio::select! {
            message = socket.next() => {
                heard = Instant::now();
                let text = match message {
                    Some(Ok(Message::Text(text))) => text,
                    Some(Ok(Message::Close(frame))) => return Err(closed(frame, broke)),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => return Err(broke(error.to_string())),
                    None => return Err(broke("it ended".into())),
                };
                let downstream: Downstream = serde_json::from_str(&text)
                    .map_err(|_| broke("the console said something that makes no sense".into()))?;
                if sent.is_some_and(|(last, _)| downstream.acknowledged >= last) {
                    sent = None;
                }
                hearing.hear(from, downstream);
            }
            () = sleep_until(heartbeat_at) => {}
            () = spool.pushed(), if sent.is_none() => {}
            () = sleep_until(pinged.max(heard) + QUIET) => {
                pinged = Instant::now();
                send(&mut socket, Message::Ping(Bytes::new())).await.map_err(broke)?;
            }
            () = sleep_until(patience.min(heard + DEAD)) => {
                return Err(broke(format!("the console was silent for {} seconds", DEAD.as_secs())));
            }
        }
    }
}

async fn send(socket: &mut WebSocketStream<Stream>, message: Message) -> Result<(), String> {
    match timeout(SEND, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("nothing could be sent for {} seconds", SEND.as_secs())),
    }
}

fn closed(frame: Option<CloseFrame>, broke: impl Fn(String) -> Failure) -> Failure {
    let Some(frame) = frame else { return broke("the console closed it".into()) };
    if u16::from(frame.code) == REVOKED {
        return Failure::new(
            Stage::Revoked,
            "The console has removed this gateway.",
            "make a new gateway in the console and enter its pairing code here",
        );
    }
    let reason = clean(&frame.reason, 100);
    broke(format!("the console closed it ({} {reason})", u16::from(frame.code)))
}

/// The handshake of RFC 6455, section 4.1.
async fn open(
    hearing: &Hearing<'_, impl Fn() -> Heartbeat>,
    connection: Connection,
) -> Result<WebSocketStream<Stream>, Failure> {
    let link = hearing.link;
    let refused = |why: &str| {
        Failure::new(
            Stage::Upgrade,
            format!("No stream: {why}. Requests are used instead."),
            "have the proxy let WebSocket pass, if commands are to arrive without delay",
        )
    };
    let key = generate_key();
    let transport = connection.transport(Kind::Stream);
    let upgraded = connection
        .upgrade(&link.console, "/v1/link", |request| {
            let headers = request.headers_mut();
            let key = HeaderValue::from_str(&key).expect("base64 is ASCII");
            headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
            headers.insert(header::SEC_WEBSOCKET_KEY, key);
        })
        .await?;
    let upgraded = match upgraded {
        Ok(upgraded) => upgraded,
        Err(answer) => {
            return Err(match is_about_websocket(&answer) {
                true => refused(&format!("the answer is {}", answer.status)),
                false => link.console.failure(&answer),
            });
        }
    };
    let accept = upgraded.headers.get(header::SEC_WEBSOCKET_ACCEPT);
    if accept.is_none_or(|accept| accept != derive_accept_key(key.as_bytes()).as_str()) {
        return Err(refused("the answer is not the console's"));
    }
    link.connected(transport);
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let read = upgraded.read.to_vec();
    Ok(WebSocketStream::from_partially_read(upgraded.stream, read, Role::Client, Some(config)).await)
}

/// Whether a refusal is one of WebSocket, and not of this machine or moment: proxies take the headers away, answer in the
/// console's place, or pass on what the console makes of the rest. That the console is away, as a balancer before it says with
/// 502, 503 or 504, is of the moment.
fn is_about_websocket(answer: &Answer) -> bool {
    match answer.problem() {
        Some(problem) => problem.kind == "websocket",
        None => !matches!(
            answer.status,
            StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT
        ),
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;

    #[test]
    fn a_console_that_is_away_does_not_refuse_websocket() {
        let table = [
            (400, "", true),
            (403, "<html>Forbidden</html>", true),
            (426, "", true),
            (429, "", false),
            (500, "", true),
            (501, "", true),
            (502, "<html>Bad Gateway</html>", false),
            (503, "", false),
            (504, "", false),
            (400, r#"{"type":"websocket","title":"","status":400}"#, true),
            (401, r#"{"type":"revoked","title":"","status":401}"#, false),
            (503, r#"{"type":"database-busy","title":"","status":503}"#, false),
        ];
        for (status, body, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            let answer = Answer { status, headers: HeaderMap::new(), body: body.into() };
            assert_eq!(is_about_websocket(&answer), expected, "{status} {body}");
        }
    }
}
