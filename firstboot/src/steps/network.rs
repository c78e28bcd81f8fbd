//! The address: static where it was given, else whatever DHCP says. `80-dhcp.network` of the image is the default;
//! our file comes before it where there is something to say.

use super::{Context, File, Kind, LIMIT, Step, Trigger, Trouble, failed};
use crate::settings::Network;
use crate::status::Problem;
use crate::system::Link;

pub(super) const STEP: Step = Step {
    name: "network",
    properties: &["ip-address", "ip-prefix", "ip-gateway", "dns-servers", "search-domains"],
    is_unset: |settings| settings.network == Network::default(),
    files,
    activate,
};

const PATH: &str = "/etc/systemd/network/10-gatewright.network";

/// The card to configure.
fn link(context: &Context<'_>) -> Result<Link, Trouble> {
    context.system.links().into_iter().next().ok_or_else(|| Trouble {
        problem: Problem {
            expected: "a network card".into(),
            ..Problem::new(
                "ip-address",
                "There is no network card.",
                "Add a VMXNET3 network adapter to the virtual machine; it is used as soon as it is there.",
            )
        },
        kind: Kind::NotYet,
    })
}

fn files(context: &Context<'_>) -> Result<Vec<File>, Trouble> {
    let network = &context.settings.network;
    if *network == Network::default() {
        return Ok(vec![File::new(PATH, None)]);
    }
    let mut text = format!(
        "# Written by gatewright-firstboot; change it with `gatewright-firstboot set`.\n\
         [Match]\nType=ether\nName={}\n\n[Network]\n",
        link(context)?.name
    );
    match &network.address {
        Some(it) => text.push_str(&format!("DHCP=no\nAddress={}\nGateway={}\n", it.address, it.gateway)),
        None => text.push_str("DHCP=yes\n"),
    }
    for server in &network.dns {
        text.push_str(&format!("DNS={server}\n"));
    }
    if !network.search.is_empty() {
        text.push_str(&format!("Domains={}\n", network.search.join(" ")));
    }
    if network.address.is_none() {
        text.push_str("\n[DHCPv4]\nClientIdentifier=mac\n");
        if !network.dns.is_empty() {
            // Given servers replace those of DHCP, which may know other names.
            text.push_str("UseDNS=no\n\n[DHCPv6]\nUseDNS=no\n\n[IPv6AcceptRA]\nUseDNS=no\n");
        }
    }
    Ok(vec![File::new(PATH, Some(text))])
}

fn activate(context: &Context<'_>, trigger: Trigger) -> Result<String, Trouble> {
    let link = link(context)?;
    let run = |argv: &[&str]| context.system.run(argv, LIMIT).map_err(|e| failed("ip-address", e));
    if trigger != Trigger::Look {
        run(&["networkctl", "reload"])?;
    }
    if trigger == Trigger::Retry {
        run(&["networkctl", "reconfigure", &link.name])?;
    }
    let wanted = context.settings.network.address.map(|it| it.address);
    let has = match wanted {
        Some(address) => link.addresses.contains(&address),
        // The static address that was there a moment ago is no lease.
        None => !link.addresses.is_empty() && has_lease(context, &link),
    };
    let list: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
    if has {
        let how = if wanted.is_some() { "" } else { " from DHCP" };
        return Ok(format!("{} has {}{how}.", link.name, list.join(", ")));
    }
    let now = if list.is_empty() { "none".into() } else { list.join(", ") };
    let message = match wanted {
        Some(address) => format!("{} should have {address} and has {now}.", link.name),
        None => format!("{} has no address from DHCP.", link.name),
    };
    let hint = if !link.running {
        "Its cable is out: tick Connected at the network adapter in vSphere."
    } else if wanted.is_some() {
        "Wait, or look at `networkctl status` and `journalctl -u systemd-networkd`."
    } else {
        "Look at the DHCP server of this port group, or give an address: sudo gatewright-firstboot set \
         ip-address=10.0.0.5/24 ip-gateway=10.0.0.1 dns-servers=10.0.0.1"
    };
    let mut problem = Problem::new("ip-address", message, hint);
    problem.given = wanted.map(|address| address.addr().to_string());
    if wanted.is_none() {
        problem.expected = "an answer from a DHCP server".into();
    }
    Err(Trouble { problem, kind: Kind::Waiting })
}

/// Whether networkd holds a lease for the card. Where networkd keeps no leases at all, every address counts.
fn has_lease(context: &Context<'_>, link: &Link) -> bool {
    let folder = context.paths.of("/run/systemd/netif/leases");
    !folder.is_dir() || folder.join(link.index.to_string()).exists()
}
