//! From what was typed to a pool that is sound, or to all that is wrong with it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::finding::Finding;
use crate::pool::Pool;
use crate::span::Span;
use crate::spec::PoolSpec;
use crate::text::{address, is_host, name_fault, network, quoted, special};

/// The longest name, in characters.
const NAME: usize = 63;
/// C libraries ask three name servers and no more (resolv.conf(5), MAXNS), and the kubelet warns of a fourth.
const NAME_SERVERS: usize = 3;
/// What Kubernetes takes: domains of a pod's resolv.conf, and characters of all of them.
const SEARCH: (usize, usize) = (32, 2048);
/// Exclusions of one pool.
const EXCLUDE: usize = 256;

impl PoolSpec {
    /// All that is wrong with the pool, taken by itself; nothing if [`PoolSpec::read`] gives a pool.
    #[must_use]
    pub fn check(&self) -> Vec<Finding> {
        self.read().err().unwrap_or_default()
    }

    /// The pool, taken by itself; see [`read_all`](crate::read_all) for what is around it.
    ///
    /// # Errors
    /// All that is wrong with it, with pointers into the pool as in `/end`.
    pub fn read(&self) -> Result<Pool, Vec<Finding>> {
        let mut reader = Reader { spec: self, findings: Vec::new() };
        let pool = reader.pool();
        match pool {
            Some(pool) if reader.findings.is_empty() => Ok(pool),
            _ => Err(reader.findings),
        }
    }

    /// Where the pool's addresses stand, for findings about all of them.
    pub(crate) fn place(&self) -> &'static str {
        if self.subnet.trim().is_empty() { "/start" } else { "/subnet" }
    }
}

struct Reader<'a> {
    spec: &'a PoolSpec,
    findings: Vec<Finding>,
}

impl Reader<'_> {
    fn wrong(&mut self, at: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        self.findings.push(Finding::new(at, message, hint));
    }

    /// `None` only after a finding.
    fn pool(&mut self) -> Option<Pool> {
        let name = self.name();
        let addresses = self.addresses();
        let gateway = self.gateway(addresses.map(|(_, network)| network));
        let name_servers = self.name_servers(addresses.map(|(_, network)| network));
        let search = self.search();
        let exclude = self.exclude(addresses.map(|(span, _)| span));

        let (span, network) = addresses?;
        let gateway = gateway?;
        let mut reserved = unusable(network);
        reserved.push((gateway, "the gateway"));
        reserved.extend(name_servers.iter().map(|server| (*server, "a name server")));
        let mut pool = Pool {
            name,
            network,
            span,
            gateway,
            name_servers,
            search,
            single_cluster: self.spec.restrict_to_single_cluster,
            reserved,
            vip: None,
            left_out: Vec::new(),
            usable: vec![span],
        };
        for (address, why) in pool.reserved.clone() {
            pool.leave_out(Span::one(address), why);
        }
        for span in exclude {
            pool.leave_out(span, "excluded");
        }
        if pool.usable.is_empty() {
            self.wrong(
                self.spec.place(),
                format!("No address of the pool can be given out: all of {span} are left out."),
                "Make the pool larger, or exclude less.",
            );
        }
        Some(pool)
    }

    fn name(&mut self) -> String {
        let name = self.spec.name.trim();
        if name.is_empty() {
            self.wrong("/name", "The pool has no name.", "Give it one, as in `edge-1`.");
        } else if let Some(fault) = name_fault(name, NAME) {
            self.wrong(
                "/name",
                format!("The pool's name {} {fault}.", quoted(name)),
                format!("Type up to {NAME} letters, digits and other characters that can be seen."),
            );
        }
        name.into()
    }

    /// An address at a pointer; `what` as in "The first address".
    fn address(&mut self, at: &str, what: &str, text: &str) -> Option<IpAddr> {
        match address(text.trim()) {
            Ok(address) => Some(address),
            Err((fault, hint)) => {
                self.wrong(at, format!("{what} {} {fault}.", quoted(text.trim())), hint);
                None
            }
        }
    }

    /// First to last address, and the network they are in.
    fn addresses(&mut self) -> Option<(Span, IpNet)> {
        let spec = self.spec;
        let [start, end, subnet] = [&spec.start, &spec.end, &spec.subnet].map(|text| text.trim());
        match (start.is_empty() && end.is_empty(), subnet.is_empty()) {
            (true, true) => {
                self.wrong(
                    "/start",
                    "The pool has no addresses.",
                    "Type the first and the last address of a range, or a subnet.",
                );
                None
            }
            (false, false) => {
                self.wrong(
                    "/subnet",
                    "The pool is given as a range and as a subnet.",
                    "Leave one of the two blank.",
                );
                None
            }
            (false, true) => self.range(start, end),
            (true, false) => self.subnet(subnet),
        }
        .filter(|(span, _)| self.are_for_hosts(*span))
    }

    fn are_for_hosts(&mut self, span: Span) -> bool {
        let Some(what) = special(span) else { return true };
        self.wrong(
            self.spec.place(),
            format!("Among {span} is {what}, which no host can have."),
            "Type addresses of your network.",
        );
        false
    }

    fn range(&mut self, start: &str, end: &str) -> Option<(Span, IpNet)> {
        let mut given = |at: &str, what: &str, text: &str| {
            if text.is_empty() {
                self.wrong(at, format!("{what} is missing."), "A range has a first and a last address.");
                return None;
            }
            self.address(at, what, text)
        };
        let first = given("/start", "The first address", start);
        let last = given("/end", "The last address", end);
        let prefix = match (self.spec.prefix, first.or(last)) {
            (None, _) => {
                let hint = "Type the bits of the network, as in 24 for 255.255.255.0.";
                self.wrong("/prefix", "The prefix is missing.", hint);
                None
            }
            (Some(prefix), Some(address)) => self.prefix(prefix, address),
            (Some(_), None) => None,
        };
        let (first, last) = (first?, last?);
        let Some(span) = Span::new(first, last) else {
            if first.is_ipv4() == last.is_ipv4() {
                let message = format!("The last address {last} is before the first, {first}.");
                self.wrong("/end", message, "Swap the two.");
            } else {
                let message = format!("{first} and {last} are of different families.");
                self.wrong("/end", message, "A pool is IPv4 or IPv6; make one for each.");
            }
            return None;
        };
        let network = IpNet::new(first, prefix?).ok()?.trunc();
        if !network.contains(&last) {
            self.wrong(
                "/end",
                format!("The last address {last} is outside the network of the first, {network}."),
                format!("Type an address up to {}, or a shorter prefix.", network.broadcast()),
            );
            return None;
        }
        Some((span, network))
    }

    fn subnet(&mut self, text: &str) -> Option<(Span, IpNet)> {
        let (subnet, loose) = match network(text) {
            Ok(read) => read,
            Err((fault, hint)) => {
                self.wrong("/subnet", format!("The subnet {} {fault}.", quoted(text)), hint);
                return None;
            }
        };
        if loose {
            self.wrong(
                "/subnet",
                format!("The subnet {} has address bits beyond its prefix.", quoted(text)),
                format!("Type {subnet}, or the range that you mean."),
            );
            return None;
        }
        let prefix = match self.spec.prefix {
            None => subnet.prefix_len(),
            Some(prefix) => self.prefix(prefix, subnet.network())?,
        };
        if prefix > subnet.prefix_len() {
            self.wrong(
                "/prefix",
                format!("The subnet {subnet} does not fit into one network of prefix {prefix}."),
                format!("Leave the prefix blank, or type at most {}.", subnet.prefix_len()),
            );
            return None;
        }
        Some((Span::of(subnet), IpNet::new(subnet.network(), prefix).ok()?.trunc()))
    }

    fn prefix(&mut self, prefix: u32, address: IpAddr) -> Option<u8> {
        let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
        let read = u8::try_from(prefix).ok().filter(|prefix| (1..=longest).contains(prefix));
        if read.is_none() {
            self.wrong(
                "/prefix",
                format!("{prefix} is no prefix of a network of {address}."),
                format!("Type a number from 1 to {longest}."),
            );
        }
        read
    }

    fn gateway(&mut self, network: Option<IpNet>) -> Option<IpAddr> {
        let text = self.spec.gateway.trim();
        if text.is_empty() {
            self.wrong("/gateway", "The gateway is missing.", "Type the address of the network's router.");
            return None;
        }
        // IPv6 routers are known by their link-local address (RFC 4861, section 6.1.2).
        let link_local = text.parse::<IpAddr>().ok().filter(is_link_local_v6);
        let gateway = match link_local {
            Some(gateway) => gateway,
            None => self.address("/gateway", "The gateway", text)?,
        };
        let network = network?;
        let hint = format!("Type the address of the router in {network}.");
        if gateway.is_ipv4() != network.network().is_ipv4() {
            let message = format!("The gateway {gateway} is not of the pool's family.");
            self.wrong("/gateway", message, hint);
            return None;
        }
        if link_local.is_none() && !network.contains(&gateway) {
            self.wrong("/gateway", format!("The gateway {gateway} is outside the network {network}."), hint);
            return None;
        }
        // The first address of an IPv6 network is its routers' (RFC 4291, section 2.6.1).
        if gateway.is_ipv4() && is_unusable(network, gateway) {
            let message = format!("The gateway {gateway} is an address of {network} that no host can have.");
            self.wrong("/gateway", message, hint);
            return None;
        }
        Some(gateway)
    }

    fn name_servers(&mut self, network: Option<IpNet>) -> Vec<IpAddr> {
        let hint = "Type the addresses of one to three name servers.";
        let given: Vec<_> = given(&self.spec.name_servers).collect();
        if given.is_empty() {
            self.wrong("/name_servers", "The name servers are missing.", hint);
        }
        if given.len() > NAME_SERVERS {
            let message = format!("There are more than {NAME_SERVERS} name servers; no more are asked.");
            self.wrong("/name_servers", message, hint);
        }
        let mut servers = Vec::new();
        for (n, text) in given.into_iter().take(NAME_SERVERS) {
            let at = format!("/name_servers/{n}");
            let Some(server) = self.address(&at, "The name server", text) else { continue };
            match network {
                Some(network) if network.network().is_ipv4() != server.is_ipv4() => self.wrong(
                    at,
                    format!(
                        "The name server {server} is not of the pool's family, so no node could reach it."
                    ),
                    "Type one with an address of the pool's family.",
                ),
                Some(network) if network.contains(&server) && is_unusable(network, server) => self.wrong(
                    at,
                    format!("The name server {server} is an address of {network} that no host can have."),
                    "Type the name server's address.",
                ),
                _ if servers.contains(&server) => {}
                _ => servers.push(server),
            }
        }
        servers
    }

    fn search(&mut self) -> Vec<String> {
        let (most, longest) = SEARCH;
        let given: Vec<_> = given(&self.spec.search).collect();
        let hint = format!("At most {most} domains, {longest} characters in all.");
        // Kubernetes counts them as one text, a space between each two.
        let length = given.iter().map(|(_, text)| text.len() + 1).sum::<usize>().saturating_sub(1);
        if given.len() > most || length > longest {
            self.wrong("/search", "There are more search domains than resolvers take.", hint);
        }
        let mut domains = Vec::new();
        for (n, text) in given.into_iter().take(most) {
            let domain = text.trim_end_matches('.');
            if is_host(domain) {
                domains.push(domain.to_lowercase());
            } else {
                let message = format!("The search domain {} is no domain.", quoted(domain));
                self.wrong(format!("/search/{n}"), message, "Type a domain as in example.com.");
            }
        }
        domains
    }

    fn exclude(&mut self, span: Option<Span>) -> Vec<Span> {
        let given: Vec<_> = given(&self.spec.exclude).collect();
        if given.len() > EXCLUDE {
            let message = format!("There are more than {EXCLUDE} exclusions.");
            self.wrong("/exclude", message, "Name ranges or subnets instead of single addresses.");
        }
        let mut spans = Vec::new();
        for (n, text) in given.into_iter().take(EXCLUDE) {
            let at = format!("/exclude/{n}");
            match (exclusion(text), span) {
                (None, _) => self.wrong(
                    at,
                    format!("The exclusion {} is no address, range or subnet.", quoted(text)),
                    "As in 192.0.2.5, 192.0.2.5-192.0.2.9 or 192.0.2.16/28.",
                ),
                // Most likely a slip, after which the address that was meant would be given out.
                (Some(excluded), Some(span)) if !excluded.overlaps(&span) => self.wrong(
                    at,
                    format!("The exclusion {excluded} is not in the pool, {span}."),
                    "Correct it, or take it away.",
                ),
                (Some(excluded), _) => spans.push(excluded),
            }
        }
        spans
    }
}

/// The entries of a list that are not blank, each with its place.
fn given(list: &[String]) -> impl Iterator<Item = (usize, &str)> {
    list.iter().map(|text| text.trim()).enumerate().filter(|(_, text)| !text.is_empty())
}

/// An address, a range or a subnet.
fn exclusion(text: &str) -> Option<Span> {
    if let Some((first, last)) = text.split_once('-') {
        return Span::new(first.trim().parse().ok()?, last.trim().parse().ok()?);
    }
    match text.parse::<IpNet>() {
        Ok(net) => Some(Span::of(net)),
        Err(_) => text.parse().ok().map(Span::one),
    }
}

/// What no host of a network can have. Networks of one or two addresses have nothing of the kind (RFC 3021, RFC 6164),
/// and IPv6 has no broadcast.
fn unusable(network: IpNet) -> Vec<(IpAddr, &'static str)> {
    if network.max_prefix_len() - network.prefix_len() < 2 {
        return Vec::new();
    }
    let first = (network.network(), "the network's own address");
    match network {
        IpNet::V4(_) => vec![first, (network.broadcast(), "the broadcast address")],
        IpNet::V6(_) => vec![first],
    }
}

fn is_unusable(network: IpNet, address: IpAddr) -> bool {
    unusable(network).iter().any(|(unusable, _)| *unusable == address)
}

fn is_link_local_v6(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}
