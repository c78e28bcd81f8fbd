//! What a refusal left unread of a request is read all the same: who is still sending would find the connection closed,
//! and never see the answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Frame, SizeHint};
use tokio::sync::oneshot;

/// Bytes that are read for nothing, at most: somewhat more than any route takes.
const MOST: usize = 1024 * 1024;
/// And for how long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads what the handler left.
pub(super) async fn drained(request: Request, next: Next) -> Response {
    if request.headers().contains_key(EXPECT) {
        // Who asks before sending has not sent.
        return next.run(request).await;
    }
    let (left, mut rest) = oneshot::channel();
    let request = request.map(|body| Body::new(Watched { body, left: Some(left) }));
    let response = next.run(request).await;
    if let Ok(rest) = rest.try_recv() {
        // In time or not, the answer goes out.
        let _ = tokio::time::timeout(PATIENCE, discard(rest)).await;
    }
    response
}

async fn discard(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MOST {
            return;
        }
    }
}

/// A body that comes back when its reader has enough.
struct Watched {
    body: Body,
    left: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(left) = self.left.take()
            && !self.body.is_end_stream()
        {
            // The request may be over already.
            let _ = left.send(std::mem::take(&mut self.body));
        }
    }
}
