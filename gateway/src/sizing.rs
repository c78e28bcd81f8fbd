//! How large gateways are, and what they carry.

use std::ops::RangeInclusive;

use crate::configuration::NodeSize;

/// What a node of a gateway has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hardware {
    /// Virtual processors.
    pub processors: u32,
    /// Memory in GiB.
    pub memory_gib: u32,
    /// Disk in GiB.
    pub disk_gib: u32,
}

impl NodeSize {
    /// What a node of this size has.
    #[must_use]
    pub const fn hardware(self) -> Hardware {
        let (processors, memory_gib, disk_gib) = match self {
            NodeSize::S => (4, 4, 60),
            NodeSize::M => (8, 8, 100),
            NodeSize::L => (16, 16, 120),
        };
        Hardware { processors, memory_gib, disk_gib }
    }
}

/// How many clusters a gateway can build at a time; nothing for a number of nodes that there is no gateway of.
#[must_use]
pub const fn deployments(nodes: u32, size: NodeSize) -> Option<RangeInclusive<u32>> {
    match (nodes, size) {
        (1, NodeSize::S) => Some(1..=3),
        (1, NodeSize::M) | (3, NodeSize::S) => Some(4..=6),
        (1, NodeSize::L) | (3, NodeSize::M) => Some(7..=10),
        (3, NodeSize::L) => Some(10..=15),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn larger_carries_more() {
        let sizes = [NodeSize::S, NodeSize::M, NodeSize::L];
        for nodes in [1, 3] {
            let all = sizes.map(|size| *deployments(nodes, size).unwrap().end());
            assert!(all.is_sorted_by(|a, b| a < b));
        }
        for size in sizes {
            assert!(deployments(1, size).unwrap().end() < deployments(3, size).unwrap().end());
            assert_eq!(deployments(2, size), None);
        }
    }
}
