//! A pool as a person describes it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A pool as it was typed; [`PoolSpec::check`] says what is wrong with it. Blank is as not given.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, expecting = "an object")]
pub struct PoolSpec {
    /// What people call it; unique among a gateway's pools, at most 63 characters.
    pub name: String,
    /// The first address of a range. A pool is a range or a subnet.
    pub start: String,
    /// The last address of a range.
    pub end: String,
    /// A subnet as in `192.0.2.0/26`.
    pub subnet: String,
    /// Bits of the network that the addresses are in: 1 to 32, or 128 for IPv6. A range needs it; a subnet may be part of
    /// a larger network, and else is the network.
    pub prefix: Option<u32>,
    /// The network's router.
    pub gateway: String,
    /// Addresses of one to three name servers.
    pub name_servers: Vec<String>,
    /// Domains that short names are completed with.
    pub search: Vec<String>,
    /// The first cluster that takes an address from it has it for itself.
    pub restrict_to_single_cluster: bool,
    /// What must not be given out: addresses, ranges as in `192.0.2.5-192.0.2.9`, subnets. Network, broadcast, router and
    /// name servers need not be named.
    pub exclude: Vec<String>,
}

impl PoolSpec {
    /// Takes away blanks, and writes addresses in the one way that they are compared in (RFC 5952).
    pub fn normalise(&mut self) {
        let PoolSpec { name, start, end, subnet, gateway, name_servers, search, exclude, .. } = self;
        // Some names look like addresses, and stay as they are.
        *name = name.trim().into();
        for text in [start, end, subnet, gateway] {
            *text = normal(text);
        }
        for list in [name_servers, search, exclude] {
            *list = list.iter().map(|text| normal(text)).filter(|text| !text.is_empty()).collect();
        }
    }
}

fn normal(text: &str) -> String {
    let text = text.trim();
    text.parse::<IpAddr>().map_or_else(|_| text.into(), |address| address.to_string())
}
