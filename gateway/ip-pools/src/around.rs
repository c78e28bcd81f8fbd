//! Pools side by side, and what else has addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::finding::Finding;
use crate::pool::Pool;
use crate::span::Span;
use crate::spec::PoolSpec;
use crate::text::quoted;

/// The most pools of a gateway.
pub const POOLS: usize = 32;

/// What is around a gateway's pools.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Subnets that no node may be in, each with its name as in `the pods' subnet`.
    pub reserved: Vec<(String, IpNet)>,
    /// The gateway's VIP, if somebody has chosen it. It is left out of the pool that it is in, but for who claims it.
    pub vip: Option<IpAddr>,
}

/// What came of [`read_all`].
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The pools, each as far as it could be read by itself, in their order.
    pub pools: Vec<Option<Pool>>,
    /// All that is wrong, with pointers into the list as in `/0/end`.
    pub findings: Vec<Finding>,
}

/// Reads all pools of a gateway. Without findings, no address is in two of them.
#[must_use]
pub fn read_all(specs: &[PoolSpec], around: &Surroundings) -> Read {
    let mut read = Read::default();
    if specs.len() > POOLS {
        read.findings.push(Finding::new(
            "",
            format!("There are more than {POOLS} pools."),
            "Make fewer and larger ones.",
        ));
    }
    for (n, spec) in specs.iter().take(POOLS).enumerate() {
        let at = format!("/{n}");
        let pool = spec.read().map_err(|findings| {
            read.findings.extend(findings.into_iter().map(|finding| finding.below(&at)));
        });
        read.pools.push(pool.ok());
        if let (Some(pool), Some(vip)) = (read.pools[n].as_mut(), around.vip) {
            pool.keep_vip(vip);
        }
        let mut findings = Vec::new();
        if let Some(pool) = &read.pools[n] {
            for (m, other) in read.pools[..n].iter().enumerate() {
                let Some(other) = other else { continue };
                beside(pool, n, spec, other, m, &mut findings);
            }
            among(pool, n, spec, around, &mut findings);
        }
        read.findings.extend(findings);
    }
    read
}

/// A pool beside an earlier one.
fn beside(pool: &Pool, n: usize, spec: &PoolSpec, other: &Pool, m: usize, findings: &mut Vec<Finding>) {
    if pool.name() == other.name() {
        findings.push(Finding::new(
            format!("/{n}/name"),
            format!("Two pools are called {}.", quoted(pool.name())),
            "Give each a name of its own.",
        ));
    }
    if let Some(common) = pool.span().common(&other.span()) {
        findings.push(Finding::new(
            format!("/{n}{}", spec.place()),
            format!("The pool {} overlaps the pool {}: {common}.", quoted(pool.name()), quoted(other.name())),
            "An address belongs to one pool; make one of them smaller.",
        ));
    }
    // What is on the network of the one and only inside the other's, the nodes of one take for near and the others not.
    if pool.network() != other.network() && Span::of(pool.network()).overlaps(&Span::of(other.network())) {
        findings.push(Finding::new(
            format!("/{n}{}", spec.place()),
            format!(
                "The pools {} and {} are of different networks that overlap, {} and {}.",
                quoted(other.name()),
                quoted(pool.name()),
                other.network(),
                pool.network()
            ),
            "Give both the prefix of the one network that they are in, or correct their addresses.",
        ));
    }
    // Each leaves out its own gateway and name servers, not the other's.
    for (of, from, at) in [(other, pool, n), (pool, other, m)] {
        let servers = of.name_servers().iter().map(|server| (*server, "name server"));
        for (address, what) in servers.chain([(of.gateway(), "gateway")]) {
            if from.can_give(address) {
                findings.push(Finding::new(
                    format!("/{at}/exclude"),
                    format!(
                        "The pool {} would give out {address}, a {what} of the pool {}.",
                        quoted(from.name()),
                        quoted(of.name())
                    ),
                    format!("Exclude {address}."),
                ));
            }
        }
    }
}

/// A pool among what is reserved.
fn among(pool: &Pool, n: usize, spec: &PoolSpec, around: &Surroundings, findings: &mut Vec<Finding>) {
    for (what, reserved) in &around.reserved {
        let network = pool.network();
        if Span::of(network).overlaps(&Span::of(*reserved)) {
            findings.push(Finding::new(
                format!("/{n}{}", spec.place()),
                format!(
                    "The network {network} of the pool {} overlaps {what}, {reserved}.",
                    quoted(pool.name())
                ),
                "Nodes could not reach what is in both; choose another subnet for one of them.",
            ));
            continue;
        }
        for (m, text) in spec.name_servers.iter().enumerate() {
            let server = text.trim().parse::<IpAddr>().ok().filter(|server| reserved.contains(server));
            let Some(server) = server else { continue };
            findings.push(Finding::new(
                format!("/{n}/name_servers/{m}"),
                format!("The name server {server} is in {what}, {reserved}."),
                "Nodes could not reach it; choose another subnet for these.",
            ));
        }
    }
}
