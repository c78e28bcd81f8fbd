//! The link of a paired machine: connects, speaks, and connects again, for as long as it is run.
//!
//! ```text
//!           ┌─ talk ── stream, or polling where that fails ── back-off ─┐   heartbeats, spool ──> console
//! run ──────┤                                                          │
//!           ├─ work ── one command after another  <────────────────────┘   commands <── console
//!           └─ renew ─ the certificate, after a third of its life
//! ```

use std::fmt;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::link::{Downstream, Heartbeat, Upstream};
use protocol::pairing::Grant;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::backoff::Backoff;
use crate::commands::{Applied, Commands, Order};
use crate::console::Console;
use crate::failure::{Failure, Stage};
use crate::renewal::renew;
use crate::route::Route;
use crate::spool::Batch;
use crate::status::{Kind, State, Status, Transport};
use crate::store::Store;
use crate::{polling, stream};

/// Commands that wait for their turn; more come again.
const QUEUE: usize = 64;
/// A stream that breaks sooner than this has not served.
const SHORT: Duration = Duration::from_secs(30);
/// So many short streams in a row, and requests are tried instead.
const SHORT_STREAMS: u32 = 3;
/// After so long with requests the stream is tried again.
const POLLING: Duration = Duration::from_secs(10 * 60);
/// The console's wish, within reason; its own patience is three times thirty seconds.
const HEARTBEAT: std::ops::RangeInclusive<u64> = 5..=300;

/// The link. Everything that outlives a restart is in the [`Store`].
pub struct Link {
    pub(crate) console: Console,
    status: watch::Sender<Status>,
    at_once: Notify,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("console", &self.console).finish_non_exhaustive()
    }
}

/// Why [`Link::run`] came to an end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// It was asked to.
    Cancelled,
    /// The console has removed this gateway; pairing anew, with a new code, is the way back.
    Revoked(Failure),
    /// The disk does not keep what must be kept.
    Disk(Failure),
}

impl Link {
    /// The link of a store that has a grant.
    ///
    /// # Errors
    /// Where it has none, or it is damaged.
    pub fn new(route: Route, store: Store) -> Result<Link, Failure> {
        let console = Console::open(route, store)?;
        Ok(Link { console, status: watch::Sender::default(), at_once: Notify::new() })
    }

    /// How it is; the receiver also tells when that changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// What it goes by.
    #[must_use]
    pub fn grant(&self) -> Grant {
        self.console.credentials().grant.clone()
    }

    /// Ends a wait for the next try.
    pub fn retry_now(&self) {
        self.at_once.notify_one();
    }

    /// Speaks with the console until `cancel`, or until the console wants no more. `handler` is given each command once
    /// (again only if the machine went down in the midst of it), one at a time; `heartbeat` says how the machine is.
    pub async fn run(
        &self,
        heartbeat: impl Fn() -> Heartbeat,
        handler: impl AsyncFnMut(Order) -> Applied,
        cancel: CancellationToken,
    ) -> End {
        let (orders, queue) = mpsc::channel(QUEUE);
        let hearing = Hearing {
            link: self,
            heartbeat: &heartbeat,
            orders,
            seconds: self.console.credentials().grant.heartbeat_seconds,
        };
        tokio::select! {
            () = cancel.cancelled() => End::Cancelled,
            end = self.talk(hearing) => end,
            failure = self.work(queue, handler) => End::Disk(failure),
            failure = renew(self) => match failure {},
        }
    }

    /// One connection after another.
    async fn talk(&self, mut hearing: Hearing<'_, impl Fn() -> Heartbeat>) -> End {
        let mut backoff = Backoff::default();
        let mut mode = Mode::default();
        loop {
            self.set(State::Connecting);
            let began = Instant::now();
            let kind = mode.choose(began);
            let ended = match kind {
                Kind::Stream => stream::run(&mut hearing).await,
                Kind::Polling => polling::run(&mut hearing, mode.until()).await,
            };
            let lived = began.elapsed();
            let Err(failure) = ended else { continue };
            if failure.stage == Stage::Revoked {
                self.set(State::Revoked);
                return End::Revoked(failure);
            }
            let at_once = mode.ended(kind, lived, &failure);
            let wait = match at_once {
                true => Duration::ZERO,
                false => backoff.after(lived).max(failure.retry_after.unwrap_or_default()),
            };
            let now = Timestamp::now();
            let until = now + jiff::SignedDuration::from_secs(wait.as_secs() as i64);
            self.status.send_modify(|status| {
                status.trouble = Some((now, failure));
                (status.state, status.since) = (State::Waiting { until }, Some(now));
            });
            tokio::select! {
                () = sleep(wait) => {}
                () = self.at_once.notified() => backoff.forget(),
            }
        }
    }

    /// One command after another. Ends only where it cannot be kept that a command was begun.
    async fn work(
        &self,
        mut queue: mpsc::Receiver<protocol::link::Command>,
        mut handler: impl AsyncFnMut(Order) -> Applied,
    ) -> Failure {
        let work = async {
            let mut commands = Commands::open(&self.console.store)?;
            while let Some(command) = queue.recv().await {
                let id = command.id;
                if let Some(order) = commands.begin(command)? {
                    let applied = handler(order).await;
                    commands.finish(id, applied)?;
                }
            }
            Ok(())
        };
        match work.await {
            Err(failure) => failure,
            // The other end of the queue is in `talk`, which ends together with this.
            Ok(()) => std::future::pending().await,
        }
    }

    fn set(&self, state: State) {
        self.status.send_modify(|status| {
            if status.state != state {
                (status.state, status.since) = (state, Some(Timestamp::now()));
            }
        });
    }

    pub(crate) fn connected(&self, transport: Transport) {
        self.set(State::Connected);
        self.status.send_modify(|status| status.transport = Some(transport));
    }

    pub(crate) fn renewal(&self, failure: Option<Failure>) {
        self.status.send_modify(|status| status.renewal = failure);
    }
}

/// What both ways of speaking share: what to say, and what to make of what is heard.
pub(crate) struct Hearing<'a, H> {
    pub(crate) link: &'a Link,
    heartbeat: &'a H,
    orders: mpsc::Sender<protocol::link::Command>,
    /// From heartbeat to heartbeat.
    seconds: u32,
}

/// A message, from which spool its entries are, and up to where they go, if it has any.
pub(crate) struct Message {
    pub(crate) json: String,
    pub(crate) spool: Uuid,
    pub(crate) last: Option<u64>,
}

impl<H: Fn() -> Heartbeat> Hearing<'_, H> {
    pub(crate) fn every(&self) -> Duration {
        Duration::from_secs(u64::from(self.seconds).clamp(*HEARTBEAT.start(), *HEARTBEAT.end()))
    }

    /// A message with a heartbeat, with what waits, or with both.
    pub(crate) fn message(&self, heartbeat: bool, entries: bool) -> Result<Message, Failure> {
        let spool = self.link.console.store.spool();
        let Batch { spool, entries } = match entries {
            true => spool.batch().map_err(|e| Failure::disk("Cannot read what waits for the console", &e))?,
            false => Batch { spool: spool.position().0, entries: Vec::new() },
        };
        let last = entries.last().map(|entry| entry.sequence);
        let heartbeat = heartbeat.then(|| (self.heartbeat)());
        let json = serde_json::to_string(&Upstream { spool, heartbeat, entries })
            .expect("messages have text keys, and nothing in them fails");
        Ok(Message { json, spool, last })
    }

    /// Takes a message of the console's; `id` is the spool that entries were sent from.
    pub(crate) fn hear(&mut self, id: Uuid, downstream: Downstream) {
        let store = &self.link.console.store;
        self.seconds = downstream.heartbeat_seconds;
        for command in downstream.commands {
            // One that finds no room comes again.
            let _ = self.orders.try_send(command);
        }
        let kept = store.learn_time(downstream.time).and_then(|()| {
            let spool = store.spool();
            spool
                .acknowledge(id, downstream.acknowledged)
                .map_err(|e| Failure::disk("Cannot note what the console has", &e))
        });
        let now = Timestamp::now();
        self.link.status.send_modify(|status| {
            status.heard = Some(now);
            match kept {
                // Worth a word, but no reason to stop: what could not be noted is only sent again.
                Err(failure) => status.trouble = Some((now, failure)),
                Ok(()) if status.since.is_some_and(|since| now.duration_since(since).as_secs() > 60) => {
                    status.trouble = None;
                }
                Ok(()) => {}
            }
        });
    }
}

/// Which way to speak.
#[derive(Debug, Default)]
struct Mode {
    short_streams: u32,
    polling_until: Option<Instant>,
}

impl Mode {
    fn choose(&mut self, now: Instant) -> Kind {
        if self.polling_until.is_some_and(|until| now >= until) {
            *self = Mode { short_streams: SHORT_STREAMS - 1, polling_until: None };
        }
        if self.polling_until.is_some() { Kind::Polling } else { Kind::Stream }
    }

    fn until(&self) -> Option<Instant> {
        self.polling_until
    }

    /// Notes how a connection ended; whether the other way is to be tried at once.
    fn ended(&mut self, kind: Kind, lived: Duration, failure: &Failure) -> bool {
        if kind == Kind::Polling {
            return false;
        }
        let refused = failure.stage == Stage::Upgrade;
        // What failed before the stream began says nothing of streams.
        self.short_streams = match failure.stage {
            Stage::Http if lived < SHORT => self.short_streams + 1,
            Stage::Http => 0,
            _ => self.short_streams,
        };
        let change = refused || self.short_streams >= SHORT_STREAMS;
        if change {
            self.polling_until = Some(Instant::now() + POLLING);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(stage: Stage) -> Failure {
        Failure::new(stage, "", "")
    }

    #[test]
    fn streams_first_then_requests_then_streams_again() {
        let now = Instant::now();
        let mut mode = Mode::default();
        assert_eq!(mode.choose(now), Kind::Stream);
        // A console that is away is no reason to poll.
        for _ in 0..10 {
            assert!(!mode.ended(Kind::Stream, Duration::ZERO, &failure(Stage::Connect)));
        }
        assert_eq!(mode.choose(now), Kind::Stream);
        // An upgrade that is refused is one at once.
        assert!(mode.ended(Kind::Stream, Duration::ZERO, &failure(Stage::Upgrade)));
        assert_eq!(mode.choose(now), Kind::Polling);
        assert!(!mode.ended(Kind::Polling, Duration::ZERO, &failure(Stage::Http)));
        assert_eq!(mode.choose(now), Kind::Polling);
        assert_eq!(mode.choose(now + POLLING + Duration::from_secs(1)), Kind::Stream);
        // The one that was tried again breaks like those before.
        assert!(mode.ended(Kind::Stream, Duration::from_secs(2), &failure(Stage::Http)));
    }

    #[test]
    fn streams_that_keep_breaking_are_given_up() {
        let mut mode = Mode::default();
        for expected in [false, false, true] {
            assert_eq!(mode.ended(Kind::Stream, Duration::from_secs(5), &failure(Stage::Http)), expected);
        }
        let mut mode = Mode::default();
        for _ in 0..10 {
            assert!(!mode.ended(Kind::Stream, Duration::from_secs(5), &failure(Stage::Http)));
            assert!(!mode.ended(Kind::Stream, Duration::from_secs(500), &failure(Stage::Http)));
        }
    }
}
