//! The link as one request after another, for proxies that carry no WebSocket. The console holds each until it has a
//! command, or for [`POLL_SECONDS`].

use std::time::{Duration, Instant};

use protocol::link::{Downstream, Heartbeat, POLL_SECONDS};
use tokio::time::sleep;

use crate::console::ANSWER;
use crate::failure::Failure;
use crate::link::Hearing;
use crate::spool::Spool;
use crate::status::Kind;

const WITHIN: Duration = Duration::from_secs(POLL_SECONDS + ANSWER.as_secs());
/// What happens while a request is held is collected for so long before it is given up for another one.
const COLLECT: Duration = Duration::from_millis(500);

/// Speaks until it breaks, which is an error, or until it is time for a stream again.
pub(crate) async fn run(
    hearing: &mut Hearing<'_, impl Fn() -> Heartbeat>,
    until: Option<Instant>,
) -> Result<(), Failure> {
    let link = hearing.link;
    let console = &link.console;
    let spool = console.store.spool();
    loop {
        let mut connection = console.connect().await?;
        link.connected(connection.transport(Kind::Polling));
        loop {
            if until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            let message = hearing.message(true, true)?;
            let answer = tokio::select! {
                answer = connection.post(console, "/v1/link/poll", message.json.into_bytes(), WITHIN) => answer?,
                // It is held, or about to be; what is new goes on a new connection.
                () = pushed(spool), if message.last.is_none() => break,
            };
            if !answer.status.is_success() {
                return Err(console.failure(&answer));
            }
            let downstream: Downstream = answer.value(&console.route.origin())?;
            hearing.hear(message.spool, downstream);
            if connection.is_closed() {
                break;
            }
        }
    }
}

/// Returns when there is something to send.
async fn pushed(spool: &Spool) {
    loop {
        spool.pushed().await;
        sleep(COLLECT).await;
        // What is told of here may have gone with the last request: that of which the word came while it was collected.
        if spool.waiting() > 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::link::{Body, Event, Severity};
    use tokio::time::timeout;

    use super::*;
    use crate::spool::Bounds;
    use crate::store::Store;

    #[tokio::test]
    async fn what_is_on_its_way_ends_no_request() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Bounds::default()).unwrap();
        let spool = store.spool();
        let push = || {
            let (reason, message, source) = ("Test".into(), String::new(), "test".into());
            spool.push(Body::Event(Event { severity: Severity::Info, reason, message, source })).unwrap();
        };
        // Pushed, sent by the next request, and stored: nothing is left to be sent.
        push();
        let (id, last) = spool.position();
        spool.acknowledge(id, last).unwrap();
        assert!(timeout(2 * COLLECT, pushed(spool)).await.is_err());
        push();
        timeout(2 * COLLECT, pushed(spool)).await.unwrap();
    }
}
