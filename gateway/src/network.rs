//! Addresses of a gateway: pods, services, pools, and where its API server answers.

use std::net::IpAddr;

use ip_pools::text::{address, is_host, network, quoted};
use ip_pools::{Arithmetic, Finding, Pool, Read, Surroundings, needed_by_gateway, read_all};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::check::Findings;
use crate::configuration::{Configuration, Endpoint, EndpointKind, IpAllocation};
use crate::normalise::{host, lines};
use crate::vcenter;

/// What pools come to, for a form that is being filled in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PoolReport {
    /// The pools in numbers, in their order; null for one that is wrong by itself.
    pub pools: Vec<Option<Arithmetic>>,
    /// Which of them the gateway takes its own addresses from.
    pub own: Option<usize>,
    /// All that is wrong with addresses, as [`Configuration::check`] finds it.
    pub findings: Vec<Finding>,
}

impl Configuration {
    /// The pools in numbers, and what is wrong with addresses. Only the fields that have to do with addresses matter.
    #[must_use]
    pub fn pool_report(&self) -> PoolReport {
        let mut findings = Findings::default();
        self.check_network(&mut findings);
        PoolReport {
            pools: self.read_pools().pools.iter().map(|pool| pool.as_ref().map(Pool::arithmetic)).collect(),
            own: self.own_pool().map(|(_, n)| n),
            findings: findings.0,
        }
    }

    /// The pool that the gateway takes its own addresses from, and its place in the list: with static addresses the
    /// first that is large enough for the gateway, and whose network a VIP that somebody chose is in.
    #[must_use]
    pub fn own_pool(&self) -> Option<(Pool, usize)> {
        if self.ip_allocation != IpAllocation::Static {
            return None;
        }
        let vip = self.vip();
        let fits = |pool: &Pool| {
            pool.usable_count() >= u128::from(self.needed())
                && vip.is_none_or(|vip| pool.network().contains(&vip))
        };
        let mut pools = self.read_pools().pools.into_iter().enumerate();
        pools.find_map(|(n, pool)| pool.filter(fits).map(|pool| (pool, n)))
    }

    /// The addresses that the gateway takes from its pool: nodes, one for a node that takes another's place, and a VIP
    /// unless that is given.
    #[must_use]
    pub fn needed(&self) -> u64 {
        needed_by_gateway(self.size.into()).saturating_sub(self.given_addresses())
    }

    /// Of the addresses that a gateway needs, those that it does not take from its pool.
    pub(crate) fn given_addresses(&self) -> u64 {
        let from_pool =
            |endpoint: &Endpoint| endpoint.kind == EndpointKind::Vip && host(&endpoint.host).is_empty();
        u64::from(!self.control_plane_endpoint.as_ref().is_none_or(from_pool))
    }

    /// A VIP that somebody chose.
    #[must_use]
    pub fn vip(&self) -> Option<IpAddr> {
        let endpoint =
            self.control_plane_endpoint.as_ref().filter(|endpoint| endpoint.kind == EndpointKind::Vip)?;
        address(&host(&endpoint.host)).ok()
    }

    /// The pools, among what is around them; pointers are into the list.
    fn read_pools(&self) -> Read {
        let subnets = [("the pods' subnet", &self.pod_cidr), ("the services' subnet", &self.service_cidr)];
        let reserved = subnets.into_iter().filter_map(|(what, text)| {
            let (net, _) = network(text.trim()).ok()?;
            Some((what.to_string(), net))
        });
        read_all(&self.ip_pools, &Surroundings { reserved: reserved.collect(), vip: self.vip() })
    }

    pub(crate) fn check_network(&self, findings: &mut Findings) {
        let pods = subnet(&self.pod_cidr, &PODS, findings);
        let services = subnet(&self.service_cidr, &SERVICES, findings);
        if let (Some(pods), Some(services)) = (pods, services) {
            let hint = "As in 192.168.0.0/16 for pods and 10.96.0.0/12 for services.";
            if is_v4(pods) != is_v4(services) {
                let message = format!(
                    "The pods' subnet {pods} and the services', {services}, are of different families."
                );
                findings.add("/service_cidr", message, hint);
            } else if pods.contains(&services) || services.contains(&pods) {
                let message = format!("The services' subnet {services} overlaps the pods', {pods}.");
                findings.add("/service_cidr", message, hint);
            }
        }
        let read = self.read_pools();
        findings.0.extend(read.findings.into_iter().map(|finding| finding.below("/ip_pools")));
        let pools: Vec<&Pool> = read.pools.iter().flatten().collect();
        self.check_hosts(
            [("the pods' subnet", pods), ("the services' subnet", services)],
            &read.pools,
            findings,
        );
        self.check_endpoint(&pools, findings);
        if self.ip_allocation == IpAllocation::Static {
            self.check_own_pool(&read.pools, pods, findings);
        }
    }

    /// What nodes talk to must not have an address of pods or services, or it could not be reached; nor one that a pool
    /// gives out.
    fn check_hosts(&self, nets: [(&str, Option<IpNet>); 2], pools: &[Option<Pool>], findings: &mut Findings) {
        for (at, host, address) in self.hosts() {
            for (what, net) in nets {
                if let Some(net) = net.filter(|net| net.contains(&address)) {
                    findings.add(
                        &at,
                        format!("{host} {address} is in {what}, {net}, so no node could reach it."),
                        format!("Choose another subnet in place of {net}."),
                    );
                }
            }
            for (n, pool) in pools.iter().enumerate() {
                if let Some(pool) = pool.as_ref().filter(|pool| pool.can_give(address)) {
                    findings.add(
                        format!("/ip_pools/{n}/exclude"),
                        format!("The pool {} would give out {address}. {host} has it.", quoted(pool.name())),
                        format!("Exclude {address}."),
                    );
                }
            }
        }
    }

    /// Hosts that are given by their address: pointer, what they are, address.
    fn hosts(&self) -> Vec<(String, &'static str, IpAddr)> {
        let mut hosts = Vec::new();
        let server = vcenter::server(&self.vcenter.server).ok();
        let server = server.and_then(|(server, _)| Url::parse(&format!("https://{server}")).ok());
        match server.as_ref().and_then(Url::host) {
            Some(Host::Ipv4(address)) => {
                hosts.push(("/vcenter/server".into(), "The vCenter", address.into()))
            }
            Some(Host::Ipv6(address)) => {
                hosts.push(("/vcenter/server".into(), "The vCenter", address.into()))
            }
            Some(Host::Domain(_)) | None => {}
        }
        if let Some(endpoint) = &self.control_plane_endpoint
            && let Ok(address) = host(&endpoint.host).parse()
        {
            hosts.push(("/control_plane_endpoint/host".into(), "The control plane endpoint", address));
        }
        for (n, host) in lines(&self.ntp_servers) {
            if let Ok(address) = host.parse() {
                hosts.push((format!("/ntp_servers/{n}"), "The NTP server", address));
            }
        }
        hosts
    }

    fn check_endpoint(&self, pools: &[&Pool], findings: &mut Findings) {
        const TYPE: &str = "/control_plane_endpoint/type";
        const HOST: &str = "/control_plane_endpoint/host";
        let Some(endpoint) = &self.control_plane_endpoint else { return };
        let (host, domain) = (&host(&endpoint.host), &host(&endpoint.ddns_search_domain));
        match (endpoint.kind, self.ip_allocation) {
            (EndpointKind::Vip, IpAllocation::Dhcp) => findings.add(
                TYPE,
                "A VIP needs static addresses: a DHCP server could give it to another machine.",
                "Leave the endpoint to the HAProxy VM, or choose External or DDNS.",
            ),
            (EndpointKind::Ddns, IpAllocation::Static) => findings.add(
                TYPE,
                "DDNS needs DHCP: nobody keeps the names of nodes with static addresses.",
                "Choose VIP or External, or take addresses from DHCP.",
            ),
            (EndpointKind::Vip, IpAllocation::Static) => {
                if host.is_empty() {
                    return;
                }
                match address(host) {
                    Err((fault, hint)) => {
                        findings.add(HOST, format!("The VIP {} {fault}.", quoted(host)), hint)
                    }
                    Ok(vip) => {
                        check_vip(vip, pools, HOST, findings);
                        let others =
                            self.hosts().into_iter().filter(|(at, _, host)| at != HOST && *host == vip);
                        for (_, what, _) in others {
                            findings.add(HOST, format!("{what} has the address of the VIP, {vip}."), NOBODYS);
                        }
                    }
                }
            }
            (EndpointKind::External, _) => {
                let hint = "Type the name or address of your load balancer, as in api.edge.example.com.";
                if host.is_empty() {
                    findings.add(HOST, "The load balancer's host is missing.", hint);
                } else if host.parse::<IpAddr>().is_err() && !is_host(host) {
                    findings.add(
                        HOST,
                        format!("The load balancer {} is no host name or address.", quoted(host)),
                        hint,
                    );
                }
            }
            (EndpointKind::Ddns, IpAllocation::Dhcp) => {
                if !host.is_empty() && !is_host(host) {
                    let hint =
                        "Type a DNS name, or leave it blank for the gateway's name in the search domain.";
                    findings.add(HOST, format!("The endpoint {} is no host name.", quoted(host)), hint);
                }
                let at = "/control_plane_endpoint/ddns_search_domain";
                let hint =
                    "Type the domain that your DHCP server registers names in, as in edge.example.com.";
                if domain.is_empty() {
                    findings.add(at, "The search domain is missing.", hint);
                } else if !is_host(domain) {
                    findings.add(at, format!("The search domain {} is no domain.", quoted(domain)), hint);
                }
            }
        }
    }

    /// With static addresses the gateway needs a pool that is large enough, of the family of pods.
    fn check_own_pool(&self, pools: &[Option<Pool>], pods: Option<IpNet>, findings: &mut Findings) {
        if pools.is_empty() {
            findings.add(
                "/ip_pools",
                "Static addresses need a pool, and there is none.",
                format!("Add a pool of at least {} addresses, or take addresses from DHCP.", self.needed()),
            );
            return;
        }
        // One that is wrong may be the one that is meant.
        if pools.iter().any(Option::is_none) {
            return;
        }
        let Some((own, n)) = self.own_pool() else {
            let largest = pools.iter().flatten().map(Pool::usable_count).max().unwrap_or_default();
            let needed = self.needed();
            if largest < needed.into() {
                let nodes =
                    if self.size == 1 { "1 node".to_string() } else { format!("{} nodes", self.size) };
                findings.add(
                    "/ip_pools",
                    format!(
                        "A gateway of {nodes} takes {needed} addresses, and the largest pool has {largest}."
                    ),
                    "Enlarge a pool, or exclude less.",
                );
            } else if let Some(vip) = self.vip()
                && pools.iter().flatten().any(|pool| pool.network().contains(&vip))
            {
                findings.add(
                    "/ip_pools",
                    format!(
                        "No pool of the VIP's network has the {needed} addresses that the gateway takes."
                    ),
                    format!("Enlarge the pool whose network {vip} is in."),
                );
            }
            return;
        };
        if pods.is_some_and(|pods| is_v4(pods) != is_v4(own.network())) {
            findings.add(
                format!("/ip_pools/{n}"),
                format!("The gateway's pool {} is not of the family of the pods' subnet.", quoted(own.name())),
                "Nodes, pods and services are IPv4 or IPv6 together; correct the pods' and services' subnets, or the pool.",
            );
        }
    }
}

const NOBODYS: &str = "Type an address that nobody has, or leave it blank for one from the pool.";

/// A VIP that somebody chose must be in the network of a pool, and nobody else's.
fn check_vip(vip: IpAddr, pools: &[&Pool], at: &str, findings: &mut Findings) {
    if !pools.is_empty() && !pools.iter().any(|pool| pool.network().contains(&vip)) {
        findings.add(
            at,
            format!("The VIP {vip} is in the network of no pool, so the nodes could not hold it."),
            "Type an address of the nodes' network, or leave it blank for one from the pool.",
        );
    }
    // Also of a pool whose network is another: its name servers can be anywhere.
    for pool in pools {
        if let Some(what) = pool.why_reserved(vip) {
            findings.add(
                at,
                format!("The VIP {vip} is {what} of the pool {}.", quoted(pool.name())),
                NOBODYS,
            );
        }
    }
}

/// A subnet of Kubernetes', with the limits of kubeadm's validation (`apis/kubeadm/validation`): longest and shortest
/// prefix for IPv4 and IPv6.
struct Kind {
    at: &'static str,
    what: &'static str,
    v4: (u8, u8),
    v6: (u8, u8),
}

/// Every node has a /24 (or /64) of it; and here also one that takes another's place, so four of them. At most 2^16.
const PODS: Kind = Kind { at: "/pod_cidr", what: "pods", v4: (22, 8), v6: (62, 48) };
/// At least ten addresses, as DNS is the tenth; at most 20 bits.
const SERVICES: Kind = Kind { at: "/service_cidr", what: "services", v4: (28, 12), v6: (124, 108) };

fn subnet(text: &str, kind: &Kind, findings: &mut Findings) -> Option<IpNet> {
    let Kind { at, what, .. } = *kind;
    let text = text.trim();
    if text.is_empty() {
        let hint = "As in 192.168.0.0/16 for pods and 10.96.0.0/12 for services.";
        findings.add(at, format!("The {what}' subnet is missing."), hint);
        return None;
    }
    let net = match network(text) {
        Ok((net, _)) => net,
        Err((fault, hint)) => {
            findings.add(at, format!("The {what}' subnet {} {fault}.", quoted(text)), hint);
            return None;
        }
    };
    let (longest, shortest) = if is_v4(net) { kind.v4 } else { kind.v6 };
    if !(shortest..=longest).contains(&net.prefix_len()) {
        let size = if net.prefix_len() > longest { "small" } else { "large" };
        findings.add(
            at,
            format!("The {what}' subnet {net} is too {size} for Kubernetes."),
            format!("Type a subnet with a prefix from {shortest} to {longest}."),
        );
        return None;
    }
    Some(net)
}

fn is_v4(net: IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}
