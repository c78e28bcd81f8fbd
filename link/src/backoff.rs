//! How long to wait before the next try: exponential with full jitter, so that ten thousand machines whose console was
//! away do not come back in one second.

use std::time::Duration;

use uuid::Uuid;

/// The longest wait.
const MOST: Duration = Duration::from_secs(60);
/// A connection that lived so long was a good one.
const GOOD: Duration = Duration::from_secs(60);

/// Counts what failed.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// How long to wait after a connection, or a try to make one, that lasted `lived`.
    pub(crate) fn after(&mut self, lived: Duration) -> Duration {
        if lived >= GOOD {
            self.failures = 0;
        }
        let wait = between(Duration::ZERO, ceiling(self.failures));
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// From here on as if nothing had failed.
    pub(crate) fn forget(&mut self) {
        self.failures = 0;
    }
}

fn ceiling(failures: u32) -> Duration {
    MOST.min(Duration::from_secs(1 << failures.min(6)))
}

/// Some time between two.
pub(crate) fn between(least: Duration, most: Duration) -> Duration {
    // 62 random bits of a UUID of version 4 (RFC 9562, section 5.4), of which 53 fit a float.
    let random = (Uuid::new_v4().as_u64_pair().1 << 2 >> 11) as f64 / (1_u64 << 53) as f64;
    least + most.saturating_sub(least).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute() {
        let ceilings: Vec<u64> = (0..9).map(|failures| ceiling(failures).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(ceiling(u32::MAX), MOST);
    }

    #[test]
    fn waits_are_spread_over_the_whole() {
        let most = Duration::from_secs(60);
        let all: Vec<_> = (0..4000).map(|_| between(Duration::ZERO, most)).collect();
        assert!(all.iter().all(|wait| *wait < most));
        for quarter in 0..4 {
            let part = all.iter().filter(|wait| wait.as_secs() / 15 == quarter).count();
            assert!((800..1200).contains(&part), "{part} of 4000 in quarter {quarter}");
        }
    }

    #[test]
    fn a_good_connection_begins_anew() {
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            backoff.after(Duration::from_secs(1));
        }
        assert_eq!(backoff.failures, 10);
        assert!(backoff.after(GOOD) <= Duration::from_secs(1));
    }
}
