//! Which hosts are reached without the proxy.
//!
//! The rules are those of Go's `httpproxy` package, which kubeadm, containerd and the kubelet of the same machine follow,
//! so that one list means one thing. `testdata/no_proxy.tsv` is what that package answers.
//!
//! | rule | matches |
//! |---|---|
//! | `*` | everything |
//! | `example.com` | the host and all below it (as curl does, too) |
//! | `.example.com`, `*.example.com` | all below it, not the host itself |
//! | `192.0.2.7`, `2001:db8::7` | the address |
//! | `192.0.2.0/24`, `2001:db8::/32` | origins given as an address in it; names are not resolved for this |
//! | `example.com:8443`, `192.0.2.7:8443`, `[2001:db8::7]:8443` | the same, on that port only |
//!
//! Loopback addresses and `localhost` never go through a proxy.

use std::net::IpAddr;

use ipnet::IpNet;
use url::Host;

/// The first rule by which a host is reached directly; `None`: through the proxy.
pub(crate) fn bypass<'a>(rules: &'a [String], host: &Host<&str>, port: u16) -> Option<&'a str> {
    let (name, address) = match host {
        Host::Domain(name) => (*name, None),
        Host::Ipv4(address) => ("", Some(IpAddr::V4(*address))),
        Host::Ipv6(address) => ("", Some(IpAddr::V6(*address).to_canonical())),
    };
    if name == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return Some("localhost");
    }
    rules.iter().map(|rule| rule.trim()).find(|rule| matches(rule, name, address, port))
}

fn matches(rule: &str, name: &str, address: Option<IpAddr>, port: u16) -> bool {
    if rule == "*" {
        return true;
    }
    if let Ok(net) = rule.parse::<IpNet>() {
        return address.is_some_and(|address| net.contains(&address));
    }
    let (host, only_port) = split_port(rule);
    if host.is_empty() || only_port.is_some_and(|only| only != port.to_string()) {
        return false;
    }
    if let Ok(wanted) = host.parse::<IpAddr>() {
        return address == Some(wanted.to_canonical());
    }
    address.is_none() && matches_domain(host, name)
}

/// `host:port`; a rule with several colons and no brackets is an IPv6 address. An empty port is none.
fn split_port(rule: &str) -> (&str, Option<&str>) {
    let (host, port) = match rule.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') => (host, port),
        Some((host, port)) => match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(host) => (host, port),
            None => (rule, ""),
        },
        None => (rule, ""),
    };
    (host, Some(port).filter(|port| !port.is_empty()))
}

fn matches_domain(rule: &str, name: &str) -> bool {
    let rule = rule.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(rule);
    let (domain, itself) = match rule.strip_prefix('.') {
        Some(domain) => (domain, false),
        None => (rule, true),
    };
    // Origins are in ASCII; a rule need not be.
    let domain = match Host::parse(domain) {
        Ok(Host::Domain(ascii)) => ascii,
        _ => domain.to_ascii_lowercase(),
    };
    match name.strip_suffix(domain.as_str()) {
        Some("") => itself,
        Some(before) => before.ends_with('.'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::Url;

    use super::*;

    #[test]
    fn as_go_does() {
        let table = include_str!("../testdata/no_proxy.tsv");
        let mut wrong = Vec::new();
        for line in table.lines() {
            let [rules, origin, way] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let rules: Vec<String> = rules.split(',').map(String::from).collect();
            let url = Url::parse(origin).unwrap();
            let found = bypass(&rules, &url.host().unwrap(), url.port_or_known_default().unwrap());
            if found.is_some() != (way == "direct") {
                wrong.push(format!("{line}: {found:?}"));
            }
        }
        assert!(table.lines().count() > 800);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn the_rule_is_named() {
        let rules = ["10.0.0.0/8".to_string(), ".example.com".to_string()];
        assert_eq!(bypass(&rules, &Host::Domain("console.example.com"), 443), Some(".example.com"));
        assert_eq!(bypass(&rules, &Host::Domain("example.com"), 443), None);
    }

    proptest! {
        #[test]
        fn no_rule_panics(rule in "\\PC{0,40}", host in "[a-z0-9.-]{1,30}") {
            bypass(&[rule], &Host::Domain(&host), 443);
        }

        #[test]
        fn a_net_matches_what_is_in_it(address: u32, bits in 0u8..=32, other: u32) {
            let net = ipnet::Ipv4Net::new(address.into(), bits).unwrap();
            let found = bypass(&[net.to_string()], &Host::Ipv4(other.into()), 443).is_some();
            let loopback = other >> 24 == 127;
            prop_assert_eq!(found, loopback || net.contains(&std::net::Ipv4Addr::from(other)));
        }
    }
}
