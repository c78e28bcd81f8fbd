//! Random moments that can be had again.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A small generator (SplitMix64, Steele et al. 2014): the same seed gives the same moments.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Seeded by `GATEWRIGHT_SEED`, else by the clock. Returns the seed too, to be printed.
    #[must_use]
    pub fn from_environment() -> (Random, u64) {
        let seed =
            std::env::var("GATEWRIGHT_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .map_or(1, |since| u64::from(since.subsec_nanos()))
            });
        (Random(seed), seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A duration from `from` to `to`, to the microsecond.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = u64::try_from(to.saturating_sub(from).as_micros()).unwrap_or(u64::MAX).max(1);
        from + Duration::from_micros(self.next() % span)
    }
}
