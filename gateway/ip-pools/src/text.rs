//! Texts that people type: addresses, domains, names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::span::Span;

/// A text as findings quote it: short, and all of it seen.
#[must_use]
pub fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let seen = |c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c };
    let line: String = text.chars().take(LONGEST).map(seen).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "..." } else { "" };
    format!("`{line}{more}`")
}

/// Why some text is no name that can be shown in lists; at most `longest` characters.
#[must_use]
pub fn name_fault(text: &str, longest: usize) -> Option<String> {
    if text.chars().count() > longest {
        Some(format!("is longer than {longest} characters"))
    } else if text.chars().any(is_invisible) {
        Some("has a character that cannot be seen".into())
    } else {
        None
    }
}

/// Control characters, and what changes the direction of the text around it (Unicode's `Bidi_Control`) or takes no
/// room: one name could look like another.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Whether a text is a host name or domain (RFC 1123, section 2.1); it may end with a dot.
#[must_use]
pub fn is_host(text: &str) -> bool {
    let label = |text: &str| {
        (1..=63).contains(&text.len())
            && !text.starts_with('-')
            && !text.ends_with('-')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let text = text.strip_suffix('.').unwrap_or(text);
    // Resolvers take four numbers, and what looks like them, for an address.
    let numeric = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    text.len() <= 253 && !numeric && text.split('.').all(label)
}

/// Reads an address that a host can have.
///
/// # Errors
/// With what is wrong with it, as in "is no IP address", and what would be right.
pub fn address(text: &str) -> Result<IpAddr, (String, String)> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return match special(Span::one(address)) {
            Some(what) => {
                Err((format!("is {what}, which no host can have"), "Type an address of your network.".into()))
            }
            None => Ok(address),
        };
    }
    let before = |end| text.split_once(end).is_some_and(|(before, _)| before.parse::<IpAddr>().is_ok());
    let (fault, hint) = if before('/') {
        ("has a prefix", "Type the address alone; the prefix has a field of its own.")
    } else if before('%') {
        ("has a zone", "Type the address without `%` and what follows; link-local addresses are no use here.")
    } else if looks_like_v4(text) && text.split('.').any(|part| part.len() > 1 && part.starts_with('0')) {
        ("has a number that begins with 0", "Leave out the zeros: some programs read such numbers as octal.")
    } else if looks_like_v4(text) {
        ("is no IP address", "An IPv4 address is four numbers from 0 to 255, as in 192.0.2.10.")
    } else {
        ("is no IP address", "Type an address as in 192.0.2.10 or 2001:db8::10.")
    };
    Err((fault.into(), hint.into()))
}

/// Reads a network, and says whether it had bits beyond its prefix.
///
/// # Errors
/// With what is wrong with it, and what would be right.
pub fn network(text: &str) -> Result<(IpNet, bool), (String, String)> {
    let example = "Type a subnet as in 192.0.2.0/24 or 2001:db8::/64.".to_string();
    match text.parse::<IpNet>() {
        Ok(net) if net.prefix_len() == 0 => Err(("is the whole internet".into(), example)),
        Ok(net) => match special(Span::of(net)) {
            Some(what) => Err((format!("has {what}, which no host can have"), example)),
            None => Ok((net.trunc(), net != net.trunc())),
        },
        Err(_) if !text.contains('/') => Err(("has no prefix".into(), example)),
        Err(_) => Err(("is no subnet".into(), example)),
    }
}

fn looks_like_v4(text: &str) -> bool {
    text.contains('.') && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Networks that are for something else than hosts of a network (RFC 6890 and its updates), with what their addresses
/// are.
const SPECIAL: [(IpNet, &str); 11] = [
    (v4(0, 8), "an address of no network"),
    (v4(127, 8), "a loopback address"),
    (IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 0, 0), 16)), "a link-local address"),
    (v4(224, 4), "a multicast address"),
    (v4(240, 4), "a reserved address"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)), "an address of no network"),
    (IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)), "a loopback address"),
    (v6([0, 0, 0, 0, 0, 0xffff], 96), "an IPv4 address in the guise of IPv6"),
    (v6([0x64, 0xff9b, 0, 0, 0, 0], 96), "an IPv4 address in the guise of IPv6"),
    (v6([0xfe80, 0, 0, 0, 0, 0], 10), "a link-local address"),
    (v6([0xff00, 0, 0, 0, 0, 0], 8), "a multicast address"),
];

const fn v4(first: u8, prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(first, 0, 0, 0), prefix))
}

const fn v6(head: [u16; 6], prefix: u8) -> IpNet {
    let [a, b, c, d, e, f] = head;
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, 0, 0), prefix))
}

/// What is among some addresses that no host can have, as in "a multicast address".
pub(crate) fn special(span: Span) -> Option<&'static str> {
    SPECIAL.iter().find(|(net, _)| Span::of(*net).overlaps(&span)).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        for host in [
            "a",
            "dc-1.example.com",
            "DC1.example.com.",
            "0.pool.ntp.org",
            "1and1.de",
            "xn--bcher-kva.example",
        ] {
            assert!(is_host(host), "{host}");
        }
        let long = "a".repeat(64);
        for other in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "a b",
            "bücher.example",
            "192.0.2.1",
            "1",
            "10.0.0",
            long.as_str(),
        ] {
            assert!(!is_host(other), "{other}");
        }
    }

    #[test]
    fn addresses() {
        for good in ["10.0.0.1", "192.0.2.255", "2001:DB8::1", "fd00::1"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for (text, fault) in [
            ("", "no IP address"),
            ("192.0.2", "no IP address"),
            ("192.0.2.256", "no IP address"),
            ("192.0.2.010", "begins with 0"),
            ("192.0.2.1/24", "has a prefix"),
            ("fe80::1%ens192", "has a zone"),
            ("fe80::1", "link-local"),
            ("169.254.169.254", "link-local"),
            ("127.0.0.1", "loopback"),
            ("::1", "loopback"),
            ("::", "no network"),
            ("0.1.2.3", "no network"),
            ("224.0.0.1", "multicast"),
            ("ff02::1", "multicast"),
            ("255.255.255.255", "reserved"),
            ("::ffff:192.0.2.1", "guise"),
            ("vcenter.example.com", "no IP address"),
        ] {
            let (found, hint) = address(text).unwrap_err();
            assert!(found.contains(fault) && hint.ends_with('.'), "{text}: {found}");
        }
    }

    #[test]
    fn names_and_quotes() {
        assert_eq!(name_fault("Büro Süd", 63), None);
        for bad in ["a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{0}", &"a".repeat(64)] {
            assert!(name_fault(bad, 63).is_some(), "{bad:?}");
        }
        assert_eq!(quoted("a\nb\u{202e}c"), "`a\u{fffd}b\u{fffd}c`");
        assert_eq!(quoted(&"ü".repeat(61)), format!("`{}...`", "ü".repeat(60)));
    }
}
