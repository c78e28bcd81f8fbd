//! A pool that is sound.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::span::Span;

/// A pool that has been read from a [`PoolSpec`](crate::PoolSpec): its addresses are in its network, its gateway too,
/// and at least one address can be given out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pool {
    pub(crate) name: String,
    pub(crate) network: IpNet,
    pub(crate) span: Span,
    pub(crate) gateway: IpAddr,
    pub(crate) name_servers: Vec<IpAddr>,
    pub(crate) search: Vec<String>,
    pub(crate) single_cluster: bool,
    /// What of the network is not for hosts, or has another already, inside the pool or not.
    pub(crate) reserved: Vec<(IpAddr, &'static str)>,
    /// A VIP that somebody chose, where it is one of the pool's addresses.
    pub(crate) vip: Option<IpAddr>,
    pub(crate) left_out: Vec<(Span, String)>,
    pub(crate) usable: Vec<Span>,
}

impl Pool {
    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The network that its addresses are in.
    #[must_use]
    pub fn network(&self) -> IpNet {
        self.network
    }

    /// From its first to its last address.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// The network's router.
    #[must_use]
    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The name servers, none twice.
    #[must_use]
    pub fn name_servers(&self) -> &[IpAddr] {
        &self.name_servers
    }

    /// Domains that short names are completed with.
    #[must_use]
    pub fn search(&self) -> &[String] {
        &self.search
    }

    /// Whether one cluster has it for itself.
    #[must_use]
    pub fn is_for_single_cluster(&self) -> bool {
        self.single_cluster
    }

    /// The addresses that can be given out, in order.
    #[must_use]
    pub fn usable(&self) -> &[Span] {
        &self.usable
    }

    /// How many can be given out.
    #[must_use]
    pub fn usable_count(&self) -> u128 {
        self.usable.iter().fold(0, |sum, span| sum.saturating_add(span.count()))
    }

    /// Whether an address can be given out.
    #[must_use]
    pub fn can_give(&self, address: IpAddr) -> bool {
        self.usable.iter().any(|span| span.contains(address))
    }

    /// Whether whoever asks for this very address can have it: one that can be given out, or the VIP that somebody chose.
    #[must_use]
    pub fn can_be_claimed(&self, address: IpAddr) -> bool {
        self.can_give(address) || self.vip == Some(address)
    }

    /// Why an address is not given out, as in `the gateway`; nothing if it can be.
    #[must_use]
    pub fn why_not(&self, address: IpAddr) -> Option<&str> {
        if self.can_give(address) {
            return None;
        }
        let reason = self.left_out.iter().find(|(span, _)| span.contains(address));
        Some(reason.map_or("not in the pool", |(_, why)| why))
    }

    /// Whose an address of the network is by itself, as in `the gateway`; nothing if it is only excluded or can be given.
    #[must_use]
    pub fn why_reserved(&self, address: IpAddr) -> Option<&str> {
        let mut reasons = self.reserved.iter().filter(|(of, _)| *of == address);
        reasons.next().map(|(_, why)| *why)
    }

    /// Keeps a VIP that somebody chose for who claims it, if it is an address of the pool that it could give out.
    pub(crate) fn keep_vip(&mut self, vip: IpAddr) {
        if self.can_give(vip) {
            self.vip = Some(vip);
            self.leave_out(Span::one(vip), "the VIP");
        }
    }

    /// Leaves out some more addresses; `why` as in `the VIP`.
    pub(crate) fn leave_out(&mut self, span: Span, why: &str) {
        if let Some(common) = self.span.common(&span) {
            self.left_out.push((common, why.into()));
            self.left_out.sort();
            let spans: Vec<Span> = self.left_out.iter().map(|(span, _)| *span).collect();
            self.usable = self.span.without(&spans);
        }
    }
}
