//! Which of the entries that a machine sends are new.
//!
//! A machine numbers its entries within a spool and sends the oldest that are not acknowledged, again and again, over
//! connections that break. So the same may come twice, and after a broken connection from further back; each counts once.

use protocol::link::{Body, Entry};
use uuid::Uuid;

/// How far a gateway's entries are stored.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Mark {
    /// Of which spool; `None` before the first.
    pub spool: Option<Uuid>,
    /// Up to which sequence.
    pub acknowledged: u64,
}

/// What to store.
#[derive(Debug, PartialEq)]
pub struct New {
    /// Where the mark is once it is stored.
    pub mark: Mark,
    /// Oldest first.
    pub entries: Vec<Entry>,
    /// So many sequences before them never came, and the machine has not said that it dropped them: one of the two
    /// sides was set back to an older state.
    pub missing: u64,
}

/// Picks what is new of `entries`, which came from `spool`. A spool that is not the mark's is a machine with an empty
/// disk: it counts from 1 again.
#[must_use]
pub fn merge(mark: Mark, spool: Uuid, mut entries: Vec<Entry>) -> New {
    let mut mark =
        if mark.spool == Some(spool) { mark } else { Mark { spool: Some(spool), acknowledged: 0 } };
    // Stable: of two with one number the first counts.
    entries.sort_by_key(|entry| entry.sequence);
    let mut missing = 0;
    entries.retain(|entry| {
        // The database's numbers are signed; nobody has as many entries.
        if entry.sequence <= mark.acknowledged || entry.sequence > i64::MAX as u64 {
            return false;
        }
        if !matches!(entry.body, Body::Dropped { .. }) {
            missing += entry.sequence - mark.acknowledged - 1;
        }
        mark.acknowledged = entry.sequence;
        true
    });
    New { mark, entries, missing }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use protocol::link::{Event, Severity};

    fn entry(sequence: u64) -> Entry {
        let message = sequence.to_string();
        let event = Event { severity: Severity::Info, reason: "Test".into(), message, source: "test".into() };
        Entry { sequence, time: jiff::Timestamp::UNIX_EPOCH, body: Body::Event(event) }
    }

    fn numbers(new: &New) -> Vec<u64> {
        new.entries.iter().map(|entry| entry.sequence).collect()
    }

    #[test]
    fn what_is_known_is_not_new() {
        let spool = Uuid::now_v7();
        let mark = Mark { spool: Some(spool), acknowledged: 5 };
        let new = merge(mark, spool, [4, 7, 5, 6, 6].map(entry).into());
        assert_eq!((numbers(&new), new.mark.acknowledged, new.missing), (vec![6, 7], 7, 0));
        let new = merge(mark, spool, vec![]);
        assert_eq!((new.mark, new.entries.len()), (mark, 0));
    }

    #[test]
    fn another_spool_begins_anew() {
        let other = Uuid::now_v7();
        let mark = Mark { spool: Some(Uuid::now_v7()), acknowledged: 500 };
        let new = merge(mark, other, [1, 2].map(entry).into());
        assert_eq!(new.mark, Mark { spool: Some(other), acknowledged: 2 });
        assert_eq!(numbers(&new), [1, 2]);
        assert_eq!(merge(mark, other, vec![]).mark, Mark { spool: Some(other), acknowledged: 0 });
    }

    #[test]
    fn gaps_are_counted_unless_the_machine_names_them() {
        let spool = Uuid::now_v7();
        let mark = Mark { spool: Some(spool), acknowledged: 10 };
        let new = merge(mark, spool, [14, 15].map(entry).into());
        assert_eq!((new.missing, new.mark.acknowledged), (3, 15));
        let dropped =
            Entry { sequence: 14, time: jiff::Timestamp::UNIX_EPOCH, body: Body::Dropped { count: 3 } };
        let new = merge(mark, spool, vec![dropped, entry(15)]);
        assert_eq!((new.missing, new.mark.acknowledged), (0, 15));
    }

    #[test]
    fn numbers_that_no_machine_has_are_not_taken() {
        let new =
            merge(Mark::default(), Uuid::now_v7(), [1, u64::MAX, i64::MAX as u64 + 1].map(entry).into());
        assert_eq!((numbers(&new), new.mark.acknowledged, new.missing), (vec![1], 1, 0));
    }

    proptest! {
        /// Whatever is repeated and wherever a connection breaks, each entry is stored once and in order.
        #[test]
        fn each_entry_counts_once(
            count in 1u64..60,
            sends in prop::collection::vec((0u64..60, 1u64..40, any::<bool>()), 1..40),
        ) {
            let spool = Uuid::now_v7();
            let mut mark = Mark::default();
            let mut known = 0u64; // what the machine knows to be acknowledged
            let mut stored = Vec::new();
            for (back, length, heard) in sends {
                // It sends from its oldest unacknowledged entry, or again from one before.
                let from = (known + 1).saturating_sub(back % 5).max(1);
                let batch = (from..from + length).filter(|n| *n <= count).map(entry).collect();
                let new = merge(mark, spool, batch);
                prop_assert_eq!(new.missing, 0);
                stored.extend(numbers(&new));
                mark = new.mark;
                if heard {
                    known = mark.acknowledged;
                }
            }
            prop_assert_eq!(stored, (1..=mark.acknowledged).collect::<Vec<_>>());
        }
    }
}
