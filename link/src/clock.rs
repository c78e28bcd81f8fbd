//! The console's clock, as far as this machine knows it.
//!
//! A fresh virtual machine may be hours or years off, and must neither refuse its console's certificate for that nor sign
//! requests with a time that the console refuses. What the console says once it is known to be the console (in the grant,
//! in each message of the link) is kept as an offset; the machine's own clock is left to NTP.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// From how many seconds on a difference is worth a word. Console and machine measure across a network.
const WORTH_A_WORD: i64 = 30;

/// The console's clock. Milliseconds since 1970 throughout.
#[derive(Debug, Default)]
pub struct Clock {
    /// The console's minus ours.
    offset: AtomicI64,
    /// The latest time that the console has told: it is not earlier than that.
    told: AtomicI64,
}

/// What is kept of it across restarts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Kept {
    offset: i64,
    told: i64,
}

impl Clock {
    pub(crate) fn from_kept(kept: Kept) -> Clock {
        Clock { offset: kept.offset.into(), told: kept.told.into() }
    }

    pub(crate) fn to_kept(&self) -> Kept {
        Kept { offset: self.offset.load(Ordering::Relaxed), told: self.told.load(Ordering::Relaxed) }
    }

    /// Takes a time that the console has told, just now. Whether that is news enough to be kept: a second more or less,
    /// or another day.
    pub(crate) fn learn(&self, console: Timestamp) -> bool {
        const DAY: i64 = 86_400_000;
        let told = console.as_millisecond();
        let offset = told - Timestamp::now().as_millisecond();
        let before = self.told.swap(told, Ordering::Relaxed);
        (offset - self.offset.swap(offset, Ordering::Relaxed)).abs() > 1000 || told / DAY != before / DAY
    }

    /// What the console's clock shows now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let ours = Timestamp::now();
        let reckoned = ours.as_millisecond() + self.offset.load(Ordering::Relaxed);
        Timestamp::from_millisecond(reckoned.max(self.told.load(Ordering::Relaxed))).unwrap_or(ours)
    }

    /// The times at which a certificate may be valid: the console's, as reckoned, or that of this machine, whose clock may
    /// have been set right since.
    pub(crate) fn candidates(&self) -> [Timestamp; 2] {
        [self.now(), Timestamp::now()]
    }

    /// How far this machine's clock is off, in words; `None` where it is near enough.
    #[must_use]
    pub fn off(&self) -> Option<String> {
        in_words(self.offset.load(Ordering::Relaxed) / 1000)
    }
}

/// A difference (the console's clock minus ours, seconds) as a sentence; `None` where it is near enough.
pub(crate) fn in_words(offset: i64) -> Option<String> {
    const UNITS: [(i64, &str); 4] =
        [(365 * 86400, "years"), (86400, "days"), (60, "minutes"), (1, "seconds")];
    let away = offset.abs();
    if away <= WORTH_A_WORD {
        return None;
    }
    // The largest unit of which there are two.
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| away >= 2 * unit).unwrap_or(UNITS[3]);
    let direction = if offset > 0 { "behind" } else { "ahead of" };
    let count = (away + unit / 2) / unit;
    Some(format!("The clock of this machine is {count} {name} {direction} the console's."))
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan as _;

    use super::*;

    #[test]
    fn differences_in_words() {
        let table = [
            (0, None),
            (-30, None),
            (31, Some("31 seconds behind")),
            (-119, Some("119 seconds ahead of")),
            (120, Some("2 minutes behind")),
            (61 * 60 - 1, Some("61 minutes behind")),
            (-3 * 86400, Some("3 days ahead of")),
            (10 * 365 * 86400, Some("10 years behind")),
        ];
        for (offset, expected) in table {
            let words = in_words(offset);
            let expected =
                expected.map(|words| format!("The clock of this machine is {words} the console's."));
            assert_eq!(words, expected, "{offset}");
        }
    }

    #[test]
    fn the_console_time_is_learned_and_kept() {
        let clock = Clock::default();
        assert!(clock.off().is_none());
        let console = Timestamp::now() + 90.minutes();
        assert!(clock.learn(console));
        assert!(!clock.learn(Timestamp::now() + 90.minutes()), "nothing new");
        let again = Clock::from_kept(clock.to_kept());
        assert!((again.now().duration_since(console)).as_secs().abs() < 5);
        assert_eq!(again.off().unwrap(), "The clock of this machine is 90 minutes behind the console's.");
        // A clock without a battery is back in 1970 after each start: the console's is not earlier than it once was.
        let reset = Clock::from_kept(Kept { offset: -3_600_000_000, told: console.as_millisecond() });
        assert_eq!(reset.now().as_millisecond(), console.as_millisecond());
    }
}
