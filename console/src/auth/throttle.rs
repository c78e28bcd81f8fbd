//! How often somebody may guess a password: so many failures per address, and more per account, refilled with time.
//!
//! An account's limit is the higher one, so that nobody locks others out from one address; from many, it still leaves
//! far too few guesses for any password that is taken. It does not count for addresses from which the account was signed
//! in to lately: strangers cannot lock out who is at their usual place. Each console counts for itself.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// Failures at once, and how long each takes to be forgotten.
#[derive(Clone, Copy, Debug)]
struct Limit {
    burst: u32,
    refill: Duration,
}

const PER_ADDRESS: Limit = Limit { burst: 10, refill: Duration::from_secs(6) };
const PER_ACCOUNT: Limit = Limit { burst: 30, refill: Duration::from_secs(2) };
/// How long an address stays known for an account.
const KNOWN: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// Keys in memory; more are those of an attack from very many addresses, and then the oldest are forgotten.
const MAX_KEYS: usize = 20_000;

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Key {
    Address(IpAddr),
    Account(String),
}

/// Counts failures.
#[derive(Debug, Default)]
pub struct Throttle {
    /// When all failures of a key will be forgotten.
    until: Mutex<HashMap<Key, Timestamp>>,
    /// Until when an address is known for an account.
    known: Mutex<HashMap<(String, IpAddr), Timestamp>>,
}

/// An attempt that was let through; it counts as failed until it is said that it was not.
#[derive(Debug)]
#[must_use]
pub struct Attempt<'a> {
    throttle: &'a Throttle,
    account: String,
    network: IpAddr,
    keys: Vec<(Key, Limit)>,
    now: Timestamp,
}

impl Throttle {
    /// Lets an attempt through.
    ///
    /// # Errors
    /// With how long to wait.
    pub fn attempt(&self, account: &str, address: IpAddr, now: Timestamp) -> Result<Attempt<'_>, Duration> {
        let (account, network) = (account.to_lowercase(), network(address));
        let mut keys = vec![(Key::Address(network), PER_ADDRESS)];
        let place = (account, network);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied();
        if known.is_none_or(|until| until <= now) {
            keys.push((Key::Account(place.0.clone()), PER_ACCOUNT));
        }
        let (account, network) = place;
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, limit) in &keys {
            let full = now + limit.refill * (limit.burst - 1);
            if let Some(time) = until.get(key).filter(|time| **time > full) {
                return Err(Duration::try_from(time.duration_since(full)).unwrap_or_default());
            }
        }
        // All or nothing: who is refused for one reason does not count for the other.
        for (key, limit) in &keys {
            let time = until.entry(key.clone()).or_insert(now);
            *time = (*time).max(now) + limit.refill;
        }
        if until.len() > MAX_KEYS {
            forget(&mut until, now);
        }
        drop(until);
        Ok(Attempt { throttle: self, account, network, keys, now })
    }
}

impl Attempt<'_> {
    /// It was the right password: it does not count.
    pub fn succeeded(self) {
        let mut until = self.throttle.until.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, limit) in &self.keys {
            if let Some(time) = until.get_mut(key) {
                *time -= limit.refill;
            }
        }
        drop(until);
        let mut known = self.throttle.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((self.account, self.network), self.now + KNOWN);
        if known.len() > MAX_KEYS {
            forget(&mut known, self.now);
        }
    }
}

fn forget<K: Eq + Hash>(until: &mut HashMap<K, Timestamp>, now: Timestamp) {
    until.retain(|_, time| *time > now);
    if until.len() > MAX_KEYS {
        let mut times: Vec<Timestamp> = until.values().copied().collect();
        times.sort_unstable();
        let middle = times[times.len() / 2];
        until.retain(|_, time| *time > middle);
    }
}

/// What one customer has: an IPv4 address, or a /64.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_has_ten_failures_and_then_ten_a_minute() {
        let throttle = Throttle::default();
        for number in 0..10 {
            // Whatever the account.
            let _ = throttle.attempt(&format!("account{number}"), address(1), NOW).unwrap();
        }
        assert_eq!(throttle.attempt("other", address(1), NOW).unwrap_err(), Duration::from_secs(6));
        let _ = throttle.attempt("other", address(2), NOW).unwrap();
        let later = NOW + Duration::from_secs(6);
        let _ = throttle.attempt("other", address(1), later).unwrap();
        assert!(throttle.attempt("other", address(1), later).is_err());
    }

    #[test]
    fn an_account_has_thirty_from_anywhere() {
        let throttle = Throttle::default();
        for number in 0..30 {
            let _ = throttle.attempt("admin", address(number), NOW).unwrap();
        }
        assert!(throttle.attempt("Admin", address(99), NOW).is_err());
        let _ = throttle.attempt("other", address(99), NOW).unwrap();
    }

    #[test]
    fn strangers_do_not_lock_out_who_is_known() {
        let throttle = Throttle::default();
        throttle.attempt("admin", address(1), NOW).unwrap().succeeded();
        for number in 10..40 {
            let _ = throttle.attempt("admin", address(number), NOW).unwrap();
        }
        assert!(throttle.attempt("admin", address(2), NOW).is_err());
        assert!(throttle.attempt("admin", address(1), NOW).is_ok());
        // It guesses no more than others from there.
        let refused = (0..20).filter(|_| throttle.attempt("admin", address(1), NOW).is_err()).count();
        assert_eq!(refused, 11);
    }

    #[test]
    fn success_does_not_count() {
        let throttle = Throttle::default();
        for _ in 0..1000 {
            throttle.attempt("admin", address(1), NOW).unwrap().succeeded();
        }
        assert!(throttle.attempt("admin", address(1), NOW).is_ok());
    }

    #[test]
    fn memory_is_bounded() {
        let throttle = Throttle::default();
        for number in 0..(MAX_KEYS as u32 + 10) {
            let _ = throttle.attempt(&number.to_string(), IpAddr::from(number.to_be_bytes()), NOW).unwrap();
        }
        assert!(throttle.until.lock().unwrap().len() <= MAX_KEYS);
    }

    #[test]
    fn a_network_of_one_customer_counts_as_one() {
        let throttle = Throttle::default();
        let mut refused = 0;
        for number in 0..20u128 {
            let address = IpAddr::from((0x2001_0db8_u128 << 96 | number).to_be_bytes());
            refused += u32::from(throttle.attempt(&number.to_string(), address, NOW).is_err());
        }
        assert_eq!(refused, 10);
    }
}
