//! Who is connected to this instance, and how they and the live pages are told that something is new.
//!
//! Nothing in here needs to survive: a link that comes looks into the database, and here only that it must look again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use super::heartbeats::Heartbeats;
use super::limits::{Rates, Starts, Watch};

/// How many changes a page may fall behind before it is told to look at everything.
const BACKLOG: usize = 1024;

/// Something about a gateway has changed: its state, its heartbeat, an event, a condition, a command, its pairing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Change {
    /// Which.
    pub gateway: Uuid,
}

/// The links of this instance, and what else it keeps in memory about machines. Clones are the same.
#[derive(Clone, Debug)]
pub struct Hub {
    links: Arc<Mutex<HashMap<Uuid, Arc<Signal>>>>,
    changes: broadcast::Sender<Change>,
    pub(super) heartbeats: Heartbeats,
    pub(super) starts: Arc<Starts>,
    pub(super) watch: Arc<Watch>,
}

#[derive(Debug, Default)]
struct Signal {
    news: Notify,
    replaced: AtomicBool,
}

/// What a link is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum News {
    /// To look into the database: there may be commands, or its gateway may be gone.
    Look,
    /// The machine has made another link.
    Replaced,
}

impl Default for Hub {
    fn default() -> Hub {
        Hub::new(Rates::default())
    }
}

impl Hub {
    /// Nobody is connected.
    #[must_use]
    pub fn new(rates: Rates) -> Hub {
        Hub {
            links: Arc::default(),
            changes: broadcast::channel(BACKLOG).0,
            heartbeats: Heartbeats::default(),
            starts: Arc::new(Starts::new(rates)),
            watch: Arc::default(),
        }
    }

    /// Takes a link in. A machine has one: an earlier one is [`News::Replaced`]. Whether the gateway still is one must be
    /// looked up after this, or a deletion in between is missed.
    #[must_use]
    pub(super) fn join(&self, gateway: Uuid) -> Member {
        let signal = Arc::new(Signal::default());
        if let Some(before) = self.links().insert(gateway, Arc::clone(&signal)) {
            before.replaced.store(true, Ordering::Release);
            before.news.notify_one();
        }
        Member { hub: self.clone(), gateway, signal }
    }

    /// Something was done to a gateway: it has a command, it was deleted, another machine has paired as it. Its link looks
    /// at once, and so do the pages.
    pub fn wake(&self, gateway: Uuid) {
        if let Some(signal) = self.links().get(&gateway) {
            signal.news.notify_one();
        }
        self.changed(gateway);
    }

    /// A gateway has said something, which pages show.
    pub fn changed(&self, gateway: Uuid) {
        // No page is open: nobody to tell.
        let _ = self.changes.send(Change { gateway });
    }

    /// Changes from now on. `Lagged` means that some were missed: look at everything.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    /// Whether anybody wants to know of changes.
    pub(super) fn is_watched(&self) -> bool {
        self.changes.receiver_count() > 0
    }

    /// Whether a gateway's link is here.
    #[must_use]
    pub fn has(&self, gateway: Uuid) -> bool {
        self.links().contains_key(&gateway)
    }

    /// How many links are here.
    #[must_use]
    pub fn count(&self) -> usize {
        self.links().len()
    }

    fn links(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Signal>>> {
        // The map is whole between any two statements.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A link that is here until this is dropped.
#[derive(Debug)]
pub(super) struct Member {
    hub: Hub,
    gateway: Uuid,
    signal: Arc<Signal>,
}

impl Member {
    /// Waits until there is something. What came while nobody waited is not lost, but told once.
    pub(super) async fn news(&self) -> News {
        self.signal.news.notified().await;
        if self.signal.replaced.load(Ordering::Acquire) { News::Replaced } else { News::Look }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut links = self.hub.links();
        if links.get(&self.gateway).is_some_and(|there| Arc::ptr_eq(there, &self.signal)) {
            links.remove(&self.gateway);
            if links.capacity() > 4 * links.len() + 64 {
                links.shrink_to_fit();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_wait_for_who_is_busy() {
        let hub = Hub::default();
        let gateway = Uuid::now_v7();
        let member = hub.join(gateway);
        hub.wake(gateway);
        hub.wake(gateway);
        hub.wake(Uuid::now_v7());
        assert_eq!(member.news().await, News::Look);
        hub.changed(gateway);
        assert!(
            futures_util::FutureExt::now_or_never(member.news()).is_none(),
            "told once, and not of itself"
        );
    }

    #[tokio::test]
    async fn the_newer_link_stays() {
        let hub = Hub::default();
        let gateway = Uuid::now_v7();
        let (older, newer) = (hub.join(gateway), hub.join(gateway));
        assert_eq!(older.news().await, News::Replaced);
        drop(older);
        assert!(hub.has(gateway));
        hub.wake(gateway);
        assert_eq!(newer.news().await, News::Look);
        drop(newer);
        assert_eq!(hub.count(), 0);
    }

    #[tokio::test]
    async fn pages_are_told() {
        let hub = Hub::default();
        hub.wake(Uuid::now_v7());
        assert!(!hub.is_watched());
        let mut changes = hub.changes();
        let gateway = Uuid::now_v7();
        hub.wake(gateway);
        hub.changed(gateway);
        assert_eq!(changes.recv().await.unwrap(), Change { gateway });
        assert_eq!(changes.recv().await.unwrap(), Change { gateway });
        assert!(hub.is_watched());
    }
}
