//! Heartbeats, kept in memory until they are written, many at once: ten thousand machines beat some three hundred times a
//! second, and a transaction for each would be all that the console does.
//!
//! What is lost when the console is killed is two seconds of them, and the next come by themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use protocol::link::Heartbeat;
use uuid::Uuid;

use super::health::{Beat, Short};
use crate::store::{self, Store, gateways};

/// How long heartbeats are kept before they are written. Health is read from the database, so that all consoles on it say
/// the same; it is older by this at most.
pub(super) const WRITTEN_EVERY: Duration = Duration::from_secs(2);

/// Those that are not written yet; one for each gateway, the newest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heartbeats(Arc<Mutex<HashMap<Uuid, (Beat, Timestamp)>>>);

impl Heartbeats {
    /// Takes one in that came at `now`; `before` is what the one before it left. Gives what this one leaves.
    pub(super) fn hear(&self, gateway: Uuid, heartbeat: Heartbeat, before: Short, now: Timestamp) -> Short {
        let beat = Beat::new(heartbeat, before, now);
        let short = beat.short;
        self.pending().insert(gateway, (beat, now));
        short
    }

    /// What the newest one left, if it is not written yet.
    pub(super) fn short(&self, gateway: Uuid) -> Option<Short> {
        self.pending().get(&gateway).map(|(beat, _)| beat.short)
    }

    /// Writes all in one transaction, and says whose they were. What could not be written is kept for the next time.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn write(&self, store: &Store) -> store::Result<Vec<Uuid>> {
        let mut beats: Vec<_> =
            std::mem::take(&mut *self.pending()).into_iter().map(|(id, (beat, at))| (id, beat, at)).collect();
        if beats.is_empty() {
            return Ok(Vec::new());
        }
        // Consoles that write at the same time lock rows in the same order.
        beats.sort_unstable_by_key(|(gateway, ..)| *gateway);
        let written = async {
            let mut db = store.write().await?;
            gateways::heard(&mut db, &beats).await?;
            db.commit().await
        };
        if let Err(error) = written.await {
            let mut pending = self.pending();
            for (gateway, beat, at) in beats {
                pending.entry(gateway).or_insert((beat, at));
            }
            return Err(error);
        }
        Ok(beats.into_iter().map(|(gateway, ..)| gateway).collect())
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<Uuid, (Beat, Timestamp)>> {
        // The map is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
