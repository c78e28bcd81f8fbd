//! How many pairings may be started, per address and in all; and the alarm when somebody walks the locators.
//!
//! Counted in memory, so per instance of the console: with three of them an address may start three times as often.
//! What guards the secrets is not here: attempts per pairing are counted in the database.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use jiff::{SignedDuration, Timestamp};

/// Starts of pairings in a minute.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// By one address.
    pub per_address: NonZeroU32,
    /// In all.
    pub in_all: NonZeroU32,
}

impl Default for Rates {
    fn default() -> Rates {
        const TEN: NonZeroU32 = NonZeroU32::new(10).expect("is not 0");
        const THOUSAND: NonZeroU32 = NonZeroU32::new(1000).expect("is not 0");
        Rates { per_address: TEN, in_all: THOUSAND }
    }
}

/// Who may start a pairing now.
#[derive(Debug)]
pub(super) struct Starts {
    by_address: DefaultKeyedRateLimiter<IpAddr>,
    in_all: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Starts {
    /// Nobody has started anything.
    #[must_use]
    pub(super) fn new(rates: Rates) -> Starts {
        Starts {
            by_address: RateLimiter::keyed(Quota::per_minute(rates.per_address)),
            in_all: RateLimiter::direct(Quota::per_minute(rates.in_all)),
            clock: DefaultClock::default(),
        }
    }

    /// Counts a start. An address that is past its own limit does not use up everybody's.
    ///
    /// # Errors
    /// With the time after which it may be tried again.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Duration> {
        let now = self.clock.now();
        self.by_address.check_key(&source(address)).map_err(|until| until.wait_time_from(now))?;
        self.in_all.check().map_err(|until| until.wait_time_from(now))
    }

    /// Forgets addresses that are free to start as often as any other.
    pub(super) fn sweep(&self) {
        self.by_address.retain_recent();
        self.by_address.shrink_to_fit();
    }
}

/// Whose limit counts: who has one IPv6 address has the other 2^64 of its network too.
fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// So many locators of nobody within [`WINDOW`] are no typing slip: a slip is caught by the check digit.
const WALK: usize = 20;
const WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// Notices when locators are walked: a stranger who tries many can lock codes, though not learn any.
#[derive(Debug, Default)]
pub(super) struct Watch(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    since: Timestamp,
    locators: HashSet<String>,
    addresses: HashMap<IpAddr, u32>,
    told: bool,
}

/// What is told once in ten minutes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Walk {
    /// Locators of nobody that were tried.
    pub(super) locators: usize,
    /// The addresses they were tried from, the busiest first, ten at most.
    pub(super) addresses: Vec<IpAddr>,
}

impl Watch {
    /// Notes that `locator`, which is nobody's, was tried from `address`.
    #[must_use]
    pub(super) fn unknown(&self, locator: &str, address: IpAddr, now: Timestamp) -> Option<Walk> {
        // Everything in here is whole between any two statements.
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(seen.since) >= WINDOW {
            *seen = Seen { since: now, ..Seen::default() };
        }
        // There are 10^4 locators; addresses are kept as few.
        seen.locators.insert(locator.to_owned());
        if seen.addresses.len() < 10_000 {
            *seen.addresses.entry(source(address)).or_default() += 1;
        }
        if seen.told || seen.locators.len() < WALK {
            return None;
        }
        seen.told = true;
        let mut addresses: Vec<_> =
            seen.addresses.iter().map(|(address, count)| (*count, *address)).collect();
        addresses.sort_unstable_by(|a, b| b.cmp(a));
        let addresses = addresses.into_iter().take(10).map(|(_, address)| address).collect();
        Some(Walk { locators: seen.locators.len(), addresses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(per_address: u32, in_all: u32) -> Rates {
        Rates { per_address: NonZeroU32::new(per_address).unwrap(), in_all: NonZeroU32::new(in_all).unwrap() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_own_limit_and_all_have_one() {
        let starts = Starts::new(rates(2, 3));
        let (a, b) = (address("192.0.2.1"), address("192.0.2.2"));
        assert!(starts.check(a).is_ok());
        assert!(starts.check(a).is_ok());
        let wait = starts.check(a).unwrap_err();
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
        // The refused one took nothing of the whole.
        assert!(starts.check(b).is_ok());
        assert!(starts.check(b).is_err());
    }

    #[test]
    fn a_network_of_ipv6_is_one_source() {
        let starts = Starts::new(rates(1, 100));
        assert!(starts.check(address("2001:db8::1")).is_ok());
        assert!(starts.check(address("2001:db8::ffff:1")).is_err());
        assert!(starts.check(address("2001:db8:0:1::1")).is_ok());
        // The same machine whether it comes by IPv4 or mapped.
        assert!(starts.check(address("192.0.2.1")).is_ok());
        assert!(starts.check(address("::ffff:192.0.2.1")).is_err());
    }

    #[test]
    fn walking_is_told_once_in_a_window() {
        let watch = Watch::default();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let here = address("192.0.2.1");
        // One machine with a dead code tries it again and again.
        for _ in 0..100 {
            assert_eq!(watch.unknown("0000", here, start), None);
        }
        let told: Vec<_> =
            (0..100).filter_map(|locator| watch.unknown(&format!("{locator:04}"), here, start)).collect();
        assert_eq!(told, [Walk { locators: WALK, addresses: vec![here] }]);
        let later = start + WINDOW;
        assert_eq!(watch.unknown("0000", here, later), None);
        let told: Vec<_> =
            (0..100).filter_map(|locator| watch.unknown(&format!("{locator:04}"), here, later)).collect();
        assert_eq!(told.len(), 1);
    }
}
