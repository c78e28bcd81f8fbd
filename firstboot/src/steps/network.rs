//! systemd-networkd's configuration of the first network card, and with it resolved's.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Progress;
use crate::files::Machine;
use crate::settings::Settings;

/// Comes before the image's `80-dhcp.network`, which holds where this is not there.
const FILE: &str = "/etc/systemd/network/10-gatewright.network";

/// An IPv4 address that the machine has.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct InterfaceAddress {
    pub(crate) interface: String,
    pub(crate) address: Ipv4Addr,
}

pub(super) fn apply(machine: &Machine, settings: &Settings, again: bool) -> Result<Progress> {
    let Some((index, card)) = first_card(machine) else {
        return Ok(Progress::Waiting(
            "There is no network card yet. Add one to the virtual machine in vSphere.".into(),
        ));
    };
    let changed = machine.ensure(FILE, 0o644, configuration(&card, settings).as_deref())?;
    if changed || again {
        machine.run("networkctl", &["reload"])?;
        machine.run("networkctl", &["reconfigure", &card])?;
    }
    let actual: Vec<_> =
        addresses()?.into_iter().filter(|a| a.interface == card).map(|a| a.address).collect();
    let shown = actual.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let has = if shown.is_empty() { format!("{card} has no address") } else { format!("{card} has {shown}") };
    Ok(match &settings.address {
        _ if !machine.is_live() => Progress::Done(None),
        Some(wanted) if actual.contains(&wanted.address.addr()) => {
            Progress::Done(Some(format!("{} (static)", wanted.address)))
        }
        Some(wanted) => Progress::Waiting(format!("{} was asked for, {has}.", wanted.address)),
        // An address that is left over from before is no lease.
        None if !leased(machine, index)?.is_some_and(|address| actual.contains(&address)) => {
            Progress::Waiting(format!(
                "{card} has no address from DHCP yet. Is it in the right port group, and is there a DHCP server? Otherwise set a static address."
            ))
        }
        None => Progress::Done(Some(format!("{shown} (DHCP)"))),
    })
}

/// What networkd is told; nothing where the image's default does.
fn configuration(card: &str, settings: &Settings) -> Option<String> {
    if settings.address.is_none() && settings.dns.is_empty() && settings.search.is_empty() {
        return None;
    }
    let mut text = format!(
        "# Written by gatewright-firstboot; change it with `gatewright-firstboot set`.\n[Match]\nName={card}\n\n[Network]\n"
    );
    let mut line = |key: &str, value: &dyn std::fmt::Display| {
        writeln!(text, "{key}={value}").expect("writing to a String cannot fail")
    };
    match &settings.address {
        Some(wanted) => {
            line("Address", &wanted.address);
            line("Gateway", &wanted.gateway);
        }
        None => line("DHCP", &"yes"),
    }
    for server in &settings.dns {
        line("DNS", server);
    }
    if !settings.search.is_empty() {
        line("Domains", &settings.search.join(" "));
    }
    line("LinkLocalAddressing", &"ipv6");
    if settings.address.is_none() {
        text.push_str("\n[DHCPv4]\nClientIdentifier=mac\n");
        if !settings.dns.is_empty() {
            text.push_str("UseDNS=no\n");
        }
    } else if let Some(wanted) =
        settings.address.as_ref().filter(|wanted| !wanted.address.contains(&wanted.gateway))
    {
        // A /32, as clouds have it: the gateway is beyond the subnet.
        text = text.replace(&format!("Gateway={}\n", wanted.gateway), "");
        writeln!(text, "\n[Route]\nGateway={}\nGatewayOnLink=yes", wanted.gateway)
            .expect("writing to a String cannot fail");
    }
    Some(text)
}

/// The address that DHCP gave a card, by networkd's own word.
fn leased(machine: &Machine, index: usize) -> Result<Option<Ipv4Addr>> {
    let lease = machine.read(&format!("/run/systemd/netif/leases/{index}"))?.unwrap_or_default();
    Ok(lease.lines().find_map(|line| line.strip_prefix("ADDRESS=")?.parse().ok()))
}

/// The Ethernet card that was there first: its index and name.
fn first_card(machine: &Machine) -> Option<(usize, String)> {
    if !machine.is_live() {
        return Some((2, "ens192".into()));
    }
    // ARPHRD_ETHER; what other programs add later (bridges, pod networks) has a higher index. By netlink: in a
    // container, /sys may show the host's.
    let mut cards: Vec<_> = nix::ifaddrs::getifaddrs()
        .ok()?
        .filter_map(|entry| {
            let link = *entry.address?.as_link_addr()?;
            (link.hatype() == 1).then_some((link.ifindex(), entry.interface_name))
        })
        .filter(|(_, name)| !["docker", "cni", "veth", "br-"].iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    cards.sort();
    cards.into_iter().next()
}

/// Every IPv4 address that others can reach us by.
pub(crate) fn addresses() -> Result<Vec<InterfaceAddress>> {
    Ok(nix::ifaddrs::getifaddrs()?
        .filter_map(|entry| {
            let address = entry.address?.as_sockaddr_in()?.ip();
            Some(InterfaceAddress { interface: entry.interface_name, address })
        })
        .filter(|a| !a.address.is_loopback() && !a.address.is_link_local())
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::parse;

    fn configured(pairs: &[(&str, &str)]) -> Option<String> {
        let parsed = parse(&pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect());
        assert_eq!(parsed.problems, []);
        configuration("ens192", &parsed.settings)
    }

    #[test]
    fn files_for_networkd() {
        assert_eq!(configured(&[]), None, "the image's default is DHCP");
        insta::assert_snapshot!(
            configured(&[
                ("ip-address", "192.0.2.10"),
                ("ip-prefix", "24"),
                ("ip-gateway", "192.0.2.1"),
                ("dns-servers", "192.0.2.53;2001:db8::53"),
                ("search-domains", "a.example, b.example."),
            ])
            .unwrap()
        );
        insta::assert_snapshot!(configured(&[("dns-servers", "192.0.2.53")]).unwrap());
        insta::assert_snapshot!(
            configured(&[
                ("ip-address", "192.0.2.10/32"),
                ("ip-gateway", "198.51.100.1"),
                ("dns-servers", "192.0.2.53")
            ])
            .unwrap()
        );
    }
}
