//! What a pool comes to, for people, and how many addresses it takes to build something.

use serde::{Deserialize, Serialize};

use crate::pool::Pool;
use crate::span::Span;

/// The largest count that is told: 2^53 - 1, what every reader of JSON can hold (RFC 7493, section 2.2). More count as
/// so many; a /64 has more than anyone can use.
pub const MANY: u64 = (1 << 53) - 1;

/// The addresses that a workload cluster of so many nodes needs: nodes, the VM that bootstraps it, its VIP, and one for
/// a node that takes another's place.
#[must_use]
pub const fn needed(nodes: u64) -> u64 {
    nodes.saturating_add(3)
}

/// The addresses that a gateway of so many nodes needs: nodes, its VIP, and one for a node that takes another's place.
/// Nothing else bootstraps it.
#[must_use]
pub const fn needed_by_gateway(nodes: u64) -> u64 {
    nodes.saturating_add(2)
}

/// A pool in numbers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Arithmetic {
    /// The network that its addresses are in, as in `192.0.2.0/24`.
    pub network: String,
    /// The first address.
    pub first: String,
    /// The last address.
    pub last: String,
    /// Addresses from first to last; at most [`MANY`], as every count here.
    pub total: u64,
    /// How many of them are not given out.
    pub excluded: u64,
    /// How many can be given out.
    pub usable: u64,
    /// What is not given out, and why, in order.
    pub left_out: Vec<LeftOut>,
    /// The largest gateway that it carries: 3, 1 or no nodes.
    pub gateway_nodes: u64,
    /// The most nodes that one workload cluster could have.
    pub cluster_nodes: u64,
    /// How many of the smallest workload clusters (one node) it carries; of a pool for a single cluster one at most.
    pub clusters: u64,
    /// The whole in a few words.
    pub summary: String,
}

/// Addresses that are not given out.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftOut {
    /// The first.
    pub first: String,
    /// The last; the same as the first for one address.
    pub last: String,
    /// Why, as in `the gateway`.
    pub why: String,
}

impl Pool {
    /// The pool in numbers.
    #[must_use]
    pub fn arithmetic(&self) -> Arithmetic {
        let told = |count: u128| u64::try_from(count).unwrap_or(MANY).min(MANY);
        let span = self.span();
        let usable = told(self.usable_count());
        let clusters = usable / needed(1);
        let arithmetic = Arithmetic {
            network: self.network().to_string(),
            first: span.first().to_string(),
            last: span.last().to_string(),
            total: told(span.count()),
            excluded: told(span.count() - self.usable_count()),
            usable,
            left_out: self.left_out.iter().map(|(span, why)| LeftOut::new(*span, why)).collect(),
            gateway_nodes: [3, 1].into_iter().find(|nodes| usable >= needed_by_gateway(*nodes)).unwrap_or(0),
            cluster_nodes: usable.saturating_sub(needed(0)),
            clusters: if self.is_for_single_cluster() { clusters.min(1) } else { clusters },
            summary: String::new(),
        };
        Arithmetic { summary: summary(&arithmetic, self.is_for_single_cluster()), ..arithmetic }
    }
}

impl LeftOut {
    fn new(span: Span, why: &str) -> LeftOut {
        LeftOut { first: span.first().to_string(), last: span.last().to_string(), why: why.into() }
    }
}

fn summary(numbers: &Arithmetic, single_cluster: bool) -> String {
    let Arithmetic { network, first, last, usable, .. } = numbers;
    let range = if first == last { first.clone() } else { format!("{first} to {last}") };
    if *usable == MANY {
        return format!("{range} in {network}: more addresses than can be used up.");
    }
    let nodes = |count: u64| if count == 1 { "1 node".into() } else { format!("{count} nodes") };
    let mut carries = Vec::new();
    if numbers.gateway_nodes > 0 {
        carries.push(format!("a gateway of {}", nodes(numbers.gateway_nodes)));
    }
    if numbers.clusters > 1 {
        carries.push(format!("{} workload clusters of 1 node", numbers.clusters));
    }
    if numbers.cluster_nodes > 0 {
        let only = if single_cluster { "its one" } else { "a" };
        carries.push(format!("{only} workload cluster of {}", nodes(numbers.cluster_nodes)));
    }
    let carries = if carries.is_empty() { "no gateway and no cluster".into() } else { carries.join(", or ") };
    format!(
        "{range} in {network}: {} in all, {} left out, {usable} usable. Enough for {carries}.",
        numbers.total, numbers.excluded
    )
}
