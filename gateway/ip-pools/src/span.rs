//! Addresses from one to another.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Addresses of one family, from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span {
    first: IpAddr,
    last: IpAddr,
}

impl Span {
    /// `None` unless both are of one family and in order.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Span> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Span { first, last })
    }

    /// One address.
    #[must_use]
    pub fn one(address: IpAddr) -> Span {
        Span { first: address, last: address }
    }

    /// All of a network.
    #[must_use]
    pub fn of(net: IpNet) -> Span {
        Span { first: net.network(), last: net.broadcast() }
    }

    /// The first address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        self.last
    }

    /// Whether an address is among them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        // Every IPv4 address sorts before every IPv6 address, so those of the other family are outside.
        self.first <= address && address <= self.last
    }

    /// Whether some address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Span) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The addresses that are in both.
    #[must_use]
    pub fn common(&self, other: &Span) -> Option<Span> {
        self.overlaps(other)
            .then(|| Span { first: self.first.max(other.first), last: self.last.min(other.last) })
    }

    /// How many there are. All of IPv6 is one more than this can say.
    #[must_use]
    pub fn count(&self) -> u128 {
        (number(self.last) - number(self.first)).saturating_add(1)
    }

    /// What is left of it without `others`, in order.
    #[must_use]
    pub fn without(&self, others: &[Span]) -> Vec<Span> {
        let mut others: Vec<Span> = others.iter().filter_map(|other| other.common(self)).collect();
        others.sort();
        let mut left = Vec::new();
        let mut from = Some(self.first);
        for other in others {
            let Some(first) = from else { break };
            if let Some(before) = previous(other.first).filter(|before| *before >= first) {
                left.push(Span { first, last: before });
            }
            // What begins earlier may end later.
            from = if other.last >= first { next(other.last) } else { from };
        }
        // The successor of the family's last address is none; of the span's last it is outside.
        left.extend(from.filter(|first| self.contains(*first)).map(|first| Span { first, last: self.last }));
        left
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address after this one.
pub(crate) fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

fn previous(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_sub(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_sub(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(first: &str, last: &str) -> Span {
        Span::new(first.parse().unwrap(), last.parse().unwrap()).unwrap()
    }

    #[test]
    fn families_and_ends() {
        assert_eq!(Span::new("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap()), None);
        assert_eq!(Span::new("192.0.2.2".parse().unwrap(), "2001:db8::".parse().unwrap()), None);
        let all4 = Span::of("0.0.0.0/0".parse().unwrap());
        let all6 = Span::of("::/0".parse().unwrap());
        assert_eq!(all4.count(), 1 << 32);
        assert_eq!(all6.count(), u128::MAX);
        assert!(!all4.overlaps(&all6));
        assert!(!all6.contains("192.0.2.1".parse().unwrap()));
        assert_eq!(all4.without(&[span("255.255.255.255", "255.255.255.255")]).len(), 1);
        assert_eq!(all6.without(&[span("::", "::"), span("ffff::", "ffff::1")]).len(), 2);
        assert_eq!(all6.without(&[all6]), []);
        assert_eq!(all6.without(&[all4]), [all6]);
    }

    proptest! {
        #[test]
        fn without_leaves_exactly_the_others(
            first: u8, size in 0u8..40, others in proptest::collection::vec((any::<u8>(), 0u8..10), 0..8)
        ) {
            let address = |n: u8| IpAddr::from([192, 0, 2, n]);
            let make = |first: u8, size: u8| Span::new(address(first), address(first.saturating_add(size))).unwrap();
            let whole = make(first, size);
            let others: Vec<Span> = others.into_iter().map(|(first, size)| make(first, size)).collect();
            let left = whole.without(&others);
            for n in 0..=255 {
                let expected = whole.contains(address(n)) && !others.iter().any(|other| other.contains(address(n)));
                prop_assert_eq!(left.iter().filter(|span| span.contains(address(n))).count(), usize::from(expected));
            }
            prop_assert!(left.is_sorted());
        }
    }
}
