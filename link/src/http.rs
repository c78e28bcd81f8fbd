//! HTTP/1.1 over a connection that was made before: one request after another, or an upgrade.

use std::fmt;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use protocol::problem::Problem;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use crate::failure::{Failure, Stage, clean};

/// A connection, whatever it goes through.
pub(crate) type Stream = Box<dyn Io>;

/// What a connection can do.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// hyper's least; a head larger than this comes from nobody that we talk to.
const MAX_HEAD: usize = 32 * 1024;
/// The longest sentence of a console's, in characters.
const SENTENCE: usize = 300;
/// The largest body.
const MAX_BODY: usize = protocol::link::MAX_MESSAGE;

/// A connection that requests go over.
pub(crate) struct Channel {
    sender: http1::SendRequest<Full<Bytes>>,
    _driver: AbortOnDropHandle<()>,
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    #[error("the connection broke ({})", cause(.0))]
    Broken(#[from] hyper::Error),
    #[error("the answer is larger than it may be")]
    TooLarge,
    #[error("there was no answer within {} seconds", .0.as_secs())]
    Silence(Duration),
}

/// The innermost cause: hyper says "connection error", TLS says which.
fn cause(error: &hyper::Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl Channel {
    pub(crate) async fn open(stream: Stream) -> Result<Channel, hyper::Error> {
        let (sender, connection) =
            http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
        // What ends the connection is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Channel { sender, _driver: AbortOnDropHandle::new(driver) })
    }

    /// Whether the other side has hung up since.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request and takes the whole answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<Answer, NoAnswer> {
        timeout(within, async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            whole(answer).await
        })
        .await
        .unwrap_or(Err(NoAnswer::Silence(within)))
    }

    /// Sends a request that turns the connection into something else: `wanted` is the status of success. Another answer is
    /// given back whole.
    pub(crate) async fn upgrade(
        mut self,
        request: Request<Full<Bytes>>,
        wanted: impl Fn(StatusCode) -> bool,
        within: Duration,
    ) -> Result<Result<Upgraded, Answer>, NoAnswer> {
        timeout(within, async {
            self.sender.ready().await?;
            let answer = self.sender.send_request(request).await?;
            if !wanted(answer.status()) {
                return whole(answer).await.map(Err);
            }
            let headers = answer.headers().clone();
            let upgraded = hyper::upgrade::on(answer).await?;
            let parts = upgraded
                .downcast::<TokioIo<Stream>>()
                .expect("the connection is of the type that `open` gave it");
            Ok(Ok(Upgraded { headers, stream: parts.io.into_inner(), read: parts.read_buf }))
        })
        .await
        .unwrap_or(Err(NoAnswer::Silence(within)))
    }
}

/// A connection that speaks something else from now on.
pub(crate) struct Upgraded {
    pub(crate) headers: HeaderMap,
    pub(crate) stream: Stream,
    /// What has come of that already.
    pub(crate) read: Bytes,
}

async fn whole(answer: Response<Incoming>) -> Result<Answer, NoAnswer> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| {
        match error.downcast::<hyper::Error>() {
            Ok(broken) => NoAnswer::Broken(*broken),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                NoAnswer::TooLarge
            }
        }
    })?;
    Ok(Answer { status: head.status, headers: head.headers, body: body.to_bytes() })
}

/// A request to the console.
pub(crate) fn request(method: Method, host: &HeaderValue, path: &str, body: Bytes) -> Request<Full<Bytes>> {
    let json = !body.is_empty();
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("paths are ours: ASCII without spaces");
    let headers = request.headers_mut();
    headers.insert(header::HOST, host.clone());
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if json {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request
}

pub(crate) const USER_AGENT: &str = concat!("gatewright-link/", env!("CARGO_PKG_VERSION"));

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The time that the answer carries: whole seconds (RFC 9110, section 6.6.1).
    pub(crate) fn date(&self) -> Option<Timestamp> {
        let date = self.header(header::DATE)?;
        // Of the three forms only IMF-fixdate is sent; jiff reads it as an RFC 2822 date.
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).ok()
    }

    /// What a console says is wrong, where it is one that says it.
    pub(crate) fn problem(&self) -> Option<Problem> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The value of an answer that says yes.
    ///
    /// # Errors
    /// With what the console says is wrong; or that this is no console's answer.
    pub(crate) fn value<T: DeserializeOwned>(&self, origin: &str) -> Result<T, Failure> {
        if !self.status.is_success() {
            return Err(self.failure(origin));
        }
        serde_json::from_slice(&self.body).map_err(|_| self.not_a_console(origin))
    }

    /// What an answer that does not say yes means.
    pub(crate) fn failure(&self, origin: &str) -> Failure {
        let Some(problem) = self.problem() else { return self.not_a_console(origin) };
        let (stage, hint) = match (problem.kind.as_str(), problem.status) {
            ("rejected", _) => (
                Stage::Code,
                "ask for a new pairing code in the console (they expire, and lock after five wrong tries) and enter it here",
            ),
            ("unknown-origin", _) => (
                Stage::Origin,
                "use the URL that the console shows as its own, or start it with `--url` and this one",
            ),
            ("version", _) => (Stage::Version, "bring machine and console to releases of the same year"),
            ("revoked", _) => {
                (Stage::Revoked, "make a new gateway in the console and enter its pairing code here")
            }
            ("clock", _) => (Stage::Clock, "set the machine's clock, or name NTP servers that it reaches"),
            (_, 429) => (Stage::Busy, "it tries again by itself"),
            _ => (Stage::Http, "look at the console's log"),
        };
        // While pairing anybody may have written it.
        let title = clean(&problem.title, SENTENCE);
        let said = problem.hint.filter(|hint| !hint.is_empty()).map(|hint| clean(&hint, SENTENCE));
        let mut failure = Failure::new(stage, title, said.unwrap_or_else(|| hint.into()));
        failure.retry_after = self.retry_after();
        failure
    }

    fn not_a_console(&self, origin: &str) -> Failure {
        if self.status == StatusCode::TOO_MANY_REQUESTS || self.status.is_server_error() {
            let mut failure = Failure::new(
                Stage::Http,
                format!("{origin} answers with {}.", self.status),
                "the console or a balancer before it is not ready; it tries again by itself",
            );
            failure.retry_after = self.retry_after();
            return failure;
        }
        Failure::new(
            Stage::Http,
            format!("What answers at {origin} is no console ({}).", self.status),
            "check the console's URL; something else may listen there, or a proxy answers in its place",
        )
    }

    /// Seconds, as our console gives them; a date is not worth reading.
    fn retry_after(&self) -> Option<Duration> {
        let seconds: u64 = self.header(header::RETRY_AFTER)?.trim().parse().ok()?;
        Some(Duration::from_secs(seconds.min(3600)))
    }
}
