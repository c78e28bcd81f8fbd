//! Makes the corpora to start from, `corpus/configuration` and `corpus/ledger`.

use std::fs;
use std::io;

use ip_pools::Book;
use serde_json::json;

fn main() -> io::Result<()> {
    for target in ["configuration", "ledger"] {
        fs::create_dir_all(format!("corpus/{target}"))?;
    }
    let pools = json!([
        {
            "name": "edge", "start": "192.0.2.10", "end": "192.0.2.30", "prefix": 24, "gateway": "192.0.2.1",
            "name_servers": ["192.0.2.2"], "search": ["example.com"], "exclude": ["192.0.2.15-192.0.2.16", "192.0.2.24/30"]
        },
        {
            "name": "six", "subnet": "2001:db8::/64", "gateway": "fe80::1", "name_servers": ["2001:db8::53"],
            "restrict_to_single_cluster": true
        }
    ]);
    let base = json!({
        "vcenter": {"server": "https://vcenter.example.com/", "username": "gateway@vsphere.local", "password": "correct horse"},
        "placement": {
            "datacenter": "DC1", "folder": "/DC1/vm/gateways", "cluster": "Cluster1", "resource_pool": "gateways",
            "datastore": "vsan", "storage_policy": "gold", "network": "VM Network"
        },
        "ssh_keys": ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINlZXUGlyfkkvGOWPq7XKGmu2n62wXZWPcWDpzUq6kbm admin@example"],
        "ntp_servers": ["ntp.example.com", "203.0.113.123"]
    });
    let more = [
        json!({}),
        json!({"ip_allocation": "static", "ip_pools": pools}),
        json!({"ip_allocation": "static", "ip_pools": pools, "size": 3, "node_size": "L",
            "control_plane_endpoint": {"type": "VIP", "host": "192.0.2.20"}}),
        json!({"control_plane_endpoint": {"type": "DDNS", "ddns_search_domain": "edge.example.com"}}),
        json!({"control_plane_endpoint": {"type": "External", "host": "192.0.2.9"}, "pod_cidr": "fd00:1::/56",
            "service_cidr": "fd00:2::/112"}),
    ];
    for (n, more) in more.into_iter().enumerate() {
        let mut configuration = base.clone();
        for (name, value) in more.as_object().into_iter().flatten() {
            configuration[name] = value.clone();
        }
        fs::write(format!("corpus/configuration/{n}"), configuration.to_string())?;
    }

    let mut book = Book::new();
    fs::write("corpus/ledger/empty", book.to_json())?;
    let specs: Vec<ip_pools::PoolSpec> = serde_json::from_value(pools)?;
    book.set_pools(&specs, "192.0.2.20".parse().ok()).map_err(io::Error::other)?;
    for n in 0..4 {
        for pool in ["edge", "six"] {
            book.allocate(pool, "cluster", &format!("{pool}-{n}")).map_err(io::Error::other)?;
        }
        fs::write(format!("corpus/ledger/{n}"), book.to_json())?;
    }
    Ok(())
}
