//! Connections: TLS, then HTTP/1.1 or HTTP/2 as the two sides agreed, each request with its [`Peer`].
//!
//! Nobody may hold a connection open by doing nothing: TLS, the first request, every head and, in HTTP/2, the time
//! without a request have a limit, and there are only so many connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use crate::state::Peer;

/// For TLS to be agreed on.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// For a head to arrive; between two requests of HTTP/1.1 too.
const HEAD: Duration = Duration::from_secs(30);
/// Of a head, in bytes, and so of what is read ahead of a slow handler.
const MAX_HEAD: usize = 16 * 1024;
/// Requests at once in one HTTP/2 connection.
const MAX_STREAMS: u32 = 64;

/// Takes connections until `stopping`; then lets requests end.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    limit: usize,
    stopping: CancellationToken,
    tasks: TaskTracker,
) {
    let places = Arc::new(Semaphore::new(limit));
    loop {
        // Without a place, newcomers wait in the kernel's queue.
        let connection = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (stream, address, place) = tokio::select! {
            () = stopping.cancelled() => return,
            (accepted, place) = connection => match (accepted, place) {
                (Ok((stream, address)), Ok(place)) => (stream, address, place),
                (Err(error), _) => {
                    // Out of file descriptors, or the peer went at once.
                    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    continue;
                }
                (_, Err(_)) => return,
            },
        };
        tasks.spawn(serve(stream, address, tls.clone(), router.clone(), stopping.clone(), place));
    }
}

async fn serve(
    stream: TcpStream,
    address: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // Small messages that are waited for.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%address, %error, "no TLS"),
        Err(_) => return tracing::debug!(%address, "TLS took too long"),
    };
    let (_, session) = stream.get_ref();
    let certificate =
        session.peer_certificates().and_then(|chain| chain.first()).map(|leaf| Arc::new(leaf.clone()));
    let http2 = session.alpn_protocol() == Some(b"h2");
    let peer = Peer { address, certificate };

    let begun = AtomicUsize::new(0);
    let open = Arc::new(());
    let service = service_fn(|request: Request<Incoming>| {
        begun.fetch_add(1, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(peer.clone());
        let response = router.clone().oneshot(request);
        // Until the last of its body is sent, or it is dropped.
        let guard = Arc::clone(&open);
        async move {
            let guarded = |body: Body| {
                Body::new(body.map_frame(move |frame| {
                    let _ = &guard;
                    frame
                }))
            };
            response.await.map(|response| response.map(guarded))
        }
    });
    // What was agreed on in TLS, not what the first bytes look like: those may never come.
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder = if http2 { builder.http2_only() } else { builder.http1_only() };
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(15))
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let mut look = tokio::time::interval_at(tokio::time::Instant::now() + HEAD, HEAD);
    let (mut before, mut told_to_stop) = (0, false);
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%address, error, "a connection ended");
                }
                return;
            }
            _ = look.tick() => {
                let now = begun.load(Ordering::Relaxed);
                if now == 0 {
                    return tracing::debug!(%address, "no request came");
                }
                // Of HTTP/1.1, hyper waits for each head so long. PINGs are no requests.
                if http2 && now == before && Arc::strong_count(&open) == 1 {
                    connection.as_mut().graceful_shutdown();
                }
                before = now;
            }
            () = stopping.cancelled(), if !told_to_stop => {
                told_to_stop = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}
