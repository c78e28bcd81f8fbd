//! Configurations as people give them.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use gateway::{Configuration, Endpoint, EndpointKind, Finding, IpAllocation, PoolSpec};
use proptest::prelude::*;
use protocol::secret::Secret;
use serde_json::{Value, json};

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINlZXUGlyfkkvGOWPq7XKGmu2n62wXZWPcWDpzUq6kbm admin@example";

fn dhcp() -> Value {
    json!({
        "vcenter": {"server": "vcenter.example.com", "username": "gateway@vsphere.local", "password": "correct horse"},
        "placement": {
            "datacenter": "DC1", "folder": "gateways", "cluster": "Cluster1", "resource_pool": "gateways",
            "datastore": "vsan", "network": "VM Network"
        },
        "ssh_keys": [KEY],
        "ntp_servers": ["ntp.example.com", "203.0.113.123"],
        "ip_allocation": "dhcp"
    })
}

fn fixed() -> Value {
    let mut json = dhcp();
    json["ip_allocation"] = "static".into();
    json["ip_pools"] = json!([{
        "name": "edge", "start": "192.0.2.10", "end": "192.0.2.30", "prefix": 24, "gateway": "192.0.2.1",
        "name_servers": ["192.0.2.2"], "search": ["example.com"]
    }]);
    json
}

fn read(json: &Value) -> Configuration {
    serde_json::from_value(json.clone()).unwrap()
}

/// The value at a pointer is set, or put there.
fn with(mut json: Value, at: &str, value: Value) -> Value {
    let (parent, name) = at.rsplit_once('/').unwrap();
    match json.pointer_mut(parent).unwrap() {
        Value::Array(list) => list.insert(name.parse().unwrap(), value),
        Value::Object(fields) => drop(fields.insert(name.into(), value)),
        other => panic!("{other} has no parts"),
    }
    json
}

fn said(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("    {}: {}\n        {}\n", f.at, f.message, f.hint)).collect()
}

/// Pointers point at something that is serialised, or at the password, which is not.
fn assert_pointers(configuration: &Configuration, findings: &[Finding]) {
    let mut json = configuration.expose();
    json["vcenter"]["password"] = "".into();
    if json["control_plane_endpoint"].is_null() {
        assert!(findings.iter().all(|finding| !finding.at.starts_with("/control_plane_endpoint")));
    }
    for finding in findings {
        assert!(json.pointer(&finding.at).is_some(), "{} points at nothing", finding.at);
        assert!(finding.message.ends_with('.') && finding.hint.ends_with('.'), "{finding:?}");
        assert!(finding.message.len() < 400, "{finding:?}");
    }
}

#[test]
fn right_ones() {
    let v6 = json!({
        "name": "six", "subnet": "2001:db8::/64", "gateway": "fe80::1", "name_servers": ["2001:db8::53"]
    });
    let endpoint = |kind: &str, host: &str, domain: &str| json!({"type": kind, "host": host, "ddns_search_domain": domain});
    for json in [
        dhcp(),
        fixed(),
        with(dhcp(), "/control_plane_endpoint", endpoint("External", "api.edge.example.com", "")),
        with(dhcp(), "/control_plane_endpoint", endpoint("DDNS", "", "edge.example.com")),
        with(fixed(), "/control_plane_endpoint", endpoint("VIP", "", "")),
        with(fixed(), "/control_plane_endpoint", endpoint("VIP", "192.0.2.30", "")),
        with(fixed(), "/control_plane_endpoint", endpoint("VIP", "192.0.2.99", "")),
        with(fixed(), "/control_plane_endpoint", endpoint("External", "192.0.2.99", "")),
        with(fixed(), "/size", 3.into()),
        with(
            with(with(fixed(), "/ip_pools", json!([v6])), "/pod_cidr", "fd00:1::/56".into()),
            "/service_cidr",
            "fd00:2::/112".into(),
        ),
        with(dhcp(), "/ssh_keys", json!([])),
        with(dhcp(), "/something_newer", json!({"a": [1]})),
        with(dhcp(), "/vcenter/server", "https://vcenter.example.com/".into()),
        with(dhcp(), "/placement/resource_pool", "".into()),
        with(dhcp(), "/placement/resource_pool", "/DC1/host/Cluster1/Resources".into()),
        with(dhcp(), "/ssh_keys", json!(vec![KEY; 65])),
        with(dhcp(), "/placement/folder", "/DC1/vm/gateways/edge/".into()),
        with(dhcp(), "/pod_cidr", " 172.20.1.1/16".into()),
        with(dhcp(), "/ssh_keys", json!([format!("{KEY}\n\n{KEY}\r\n"), ""])),
    ] {
        let mut configuration = read(&json);
        assert_eq!(said(&configuration.check()), "", "{json}");
        configuration.normalise();
        assert_eq!(said(&configuration.check()), "", "{json}");
        assert_eq!(configuration.normalise(), [], "twice is as once: {json}");
    }
}

#[test]
fn findings() {
    let vip = |host: &str| json!({"type": "VIP", "host": host});
    let small = |end: &str| with(fixed(), "/ip_pools/0/end", end.into());
    let mut text = String::new();
    for (what, json) in [
        ("nothing", json!({})),
        ("nothing, static", json!({"ip_allocation": "static"})),
        ("server with login", with(dhcp(), "/vcenter/server", "https://root:hunter2@vcenter".into())),
        ("server", with(dhcp(), "/vcenter/server", "vcenter,example.com".into())),
        ("user", with(dhcp(), "/vcenter/username", "a\nb".into())),
        ("password", with(dhcp(), "/vcenter/password", "hunter2\n".into())),
        ("password of spaces is one", with(dhcp(), "/vcenter/username", "".into())),
        ("folder", with(dhcp(), "/placement/folder", "a//b".into())),
        ("name", with(dhcp(), "/placement/datastore", "a".repeat(81).into())),
        ("policy", with(dhcp(), "/placement/storage_policy", "a\u{7}".into())),
        ("only what is before a folder", with(dhcp(), "/placement/folder", "/DC1/vm/".into())),
        ("slash alone", with(dhcp(), "/placement/network", "/".into())),
        ("SSH key", with(dhcp(), "/ssh_keys", json!([KEY, "ssh-ed25519 AAAA", "hello"]))),
        (
            "private key",
            with(dhcp(), "/ssh_keys", json!(["-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END"])),
        ),
        (
            "SSH keys",
            with(dhcp(), "/ssh_keys", json!((0..65).map(|n| format!("{KEY}{n}")).collect::<Vec<_>>())),
        ),
        ("NTP", with(dhcp(), "/ntp_servers", json!(["ntp.example.com", "", "ntp server", "https://ntp"]))),
        (
            "NTP servers",
            with(
                dhcp(),
                "/ntp_servers",
                json!((0..17).map(|n| format!("ntp{n}.example.com")).collect::<Vec<_>>()),
            ),
        ),
        ("size", with(dhcp(), "/size", 2.into())),
        ("size", with(dhcp(), "/size", u32::MAX.into())),
        ("subnets", with(with(dhcp(), "/pod_cidr", "".into()), "/service_cidr", "10.96.0.0".into())),
        ("subnets overlap", with(dhcp(), "/service_cidr", "192.168.128.0/20".into())),
        ("subnets' families", with(dhcp(), "/service_cidr", "fd00::/112".into())),
        (
            "small",
            with(with(dhcp(), "/pod_cidr", "172.20.0.0/23".into()), "/service_cidr", "10.96.0.0/29".into()),
        ),
        ("large", with(with(dhcp(), "/pod_cidr", "fd00::/40".into()), "/service_cidr", "fd01::/64".into())),
        ("special", with(dhcp(), "/pod_cidr", "127.0.0.0/16".into())),
        (
            "hosts among pods",
            with(
                with(dhcp(), "/vcenter/server", "192.168.1.5".into()),
                "/ntp_servers/0",
                "10.100.0.1".into(),
            ),
        ),
        (
            "hosts among services",
            with(with(dhcp(), "/service_cidr", "fd00::/112".into()), "/vcenter/server", "[fd00::5]".into()),
        ),
        (
            "hosts in a pool",
            with(
                with(fixed(), "/vcenter/server", "192.0.2.15".into()),
                "/ntp_servers/0",
                "192.0.2.16".into(),
            ),
        ),
        ("pods around the pool", with(fixed(), "/pod_cidr", "192.0.0.0/16".into())),
        ("pool", with(fixed(), "/ip_pools/0/gateway", "192.0.3.1".into())),
        (
            "pool in DHCP",
            with(with(fixed(), "/ip_allocation", "dhcp".into()), "/ip_pools/0/gateway", "192.0.3.1".into()),
        ),
        ("too small", small("192.0.2.11")),
        ("too small for three", with(small("192.0.2.13"), "/size", 3.into())),
        ("too small, VIP given", with(small("192.0.2.10"), "/control_plane_endpoint", vip("192.0.2.9"))),
        (
            "VIP's pool too small",
            with(
                with(small("192.0.2.10"), "/control_plane_endpoint", vip("192.0.2.9")),
                "/ip_pools/1",
                json!({
                    "name": "b", "subnet": "198.51.100.0/24", "gateway": "198.51.100.1", "name_servers": ["198.51.100.2"]
                }),
            ),
        ),
        ("VIP is no address", with(fixed(), "/control_plane_endpoint", vip("api.example.com"))),
        ("VIP is the gateway", with(fixed(), "/control_plane_endpoint", vip("192.0.2.1"))),
        ("VIP is a name server", with(fixed(), "/control_plane_endpoint", vip("192.0.2.2"))),
        ("VIP is broadcast", with(fixed(), "/control_plane_endpoint", vip("192.0.2.255"))),
        ("VIP elsewhere", with(fixed(), "/control_plane_endpoint", vip("198.51.100.9"))),
        ("VIP among pods", with(fixed(), "/control_plane_endpoint", vip("192.168.0.9"))),
        (
            "VIP is the NTP server",
            with(
                with(fixed(), "/ntp_servers/0", "192.0.2.50".into()),
                "/control_plane_endpoint",
                vip("192.0.2.50"),
            ),
        ),
        (
            "VIP is the vCenter",
            with(
                with(fixed(), "/vcenter/server", "192.0.2.20".into()),
                "/control_plane_endpoint",
                vip("192.0.2.20"),
            ),
        ),
        (
            "VIP is a name server of another network's pool",
            with(
                with(fixed(), "/control_plane_endpoint", vip("192.0.2.50")),
                "/ip_pools/1",
                json!({
                    "name": "b", "subnet": "198.51.100.0/24", "gateway": "198.51.100.1", "name_servers": ["192.0.2.50"]
                }),
            ),
        ),
        ("VIP with DHCP", with(dhcp(), "/control_plane_endpoint", vip(""))),
        ("DDNS with static", with(fixed(), "/control_plane_endpoint", json!({"type": "DDNS"}))),
        ("DDNS", with(dhcp(), "/control_plane_endpoint", json!({"type": "DDNS"}))),
        (
            "DDNS",
            with(
                dhcp(),
                "/control_plane_endpoint",
                json!({"type": "DDNS", "host": "192.0.2.1", "ddns_search_domain": "a b"}),
            ),
        ),
        ("External", with(dhcp(), "/control_plane_endpoint", json!({"type": "External"}))),
        (
            "External",
            with(dhcp(), "/control_plane_endpoint", json!({"type": "External", "host": "https://lb:6443"})),
        ),
        (
            "External in the pool",
            with(fixed(), "/control_plane_endpoint", json!({"type": "External", "host": "192.0.2.20"})),
        ),
        (
            "families",
            with(
                fixed(),
                "/ip_pools",
                json!([{
                    "name": "six", "subnet": "2001:db8::/64", "gateway": "fe80::1", "name_servers": ["2001:db8::53"]
                }]),
            ),
        ),
    ] {
        let configuration = read(&json);
        let findings = configuration.check();
        assert!(!findings.is_empty(), "{what}");
        assert_pointers(&configuration, &findings);
        text += &format!("{what}\n{}", said(&findings));
    }
    assert!(!text.contains("hunter2"));
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_repaired() {
    let mut json = with(fixed(), "/vcenter/server", " https://https://VCenter.example.com/ui/ ".into());
    json["vcenter"]["username"] = " gateway@vsphere.local".into();
    json["vcenter"]["insecure"] = true.into();
    json["placement"] = json!({
        "datacenter": "/DC1", "folder": "/DC1/vm/gateways", "cluster": "/DC1/host/Cluster1", "datastore": "vsan",
        "resource_pool": "/DC1/host/Cluster1/Resources/edge/gateways", "network": " /DC1/network/VM Network"
    });
    json["ssh_keys"] = json!([format!("{KEY}\n{KEY}"), " "]);
    json["ntp_servers"] = json!(["", "ntp.example.com ", "ntp.example.com"]);
    json["pod_cidr"] = "172.20.3.4/16".into();
    json["ip_pools"][0]["start"] = " 192.0.2.10".into();
    json["ip_pools"][0]["end"] = "192.0.2.12".into();
    json["ip_pools"][0]["name_servers"] = json!(["", "192.0.2.2"]);
    json["ip_pools"][0]["exclude"] = json!([""]);
    let mut configuration = read(&json);
    assert_eq!(said(&configuration.check()), "");
    let mut text = String::new();
    for note in configuration.normalise().iter().chain(&configuration.advice()) {
        text += &format!("{}: {note}\n", note.at);
        assert!(note.message.ends_with('.'));
    }
    text += &serde_json::to_string_pretty(&configuration).unwrap();
    insta::assert_snapshot!(text);
}

#[test]
fn the_password_is_shown_to_nobody() {
    let configuration = read(&dhcp());
    assert_eq!(configuration.vcenter.password.as_ref().map(Secret::expose), Some("correct horse"));
    let json = serde_json::to_string(&configuration).unwrap();
    for shown in [&json, &format!("{configuration:?}"), &format!("{configuration:#?}")] {
        assert!(!shown.contains("correct horse"), "{shown}");
    }
    assert_eq!(configuration.expose()["vcenter"]["password"], "correct horse");
    assert_eq!(read(&configuration.expose()), configuration);
    let without: Configuration = serde_json::from_str(&json).unwrap();
    assert_eq!(without.vcenter.password, None);
    assert!(!without.expose().to_string().contains("password"));
    assert_eq!(read(&with(dhcp(), "/vcenter/password", "".into())).vcenter.password, None);
    assert_eq!(read(&with(dhcp(), "/vcenter/password", Value::Null)).vcenter.password, None);
}

#[test]
fn a_stored_password_stays_with_its_account() {
    let stored = read(&dhcp());
    let kept = |at: &str, value: Value| {
        let json = with(with(dhcp(), "/vcenter/password", Value::Null), at, value);
        let mut new = read(&json);
        new.keep_password(&stored);
        new.vcenter.password.is_some()
    };
    assert!(kept("/size", 3.into()));
    assert!(kept("/vcenter/server", "HTTPS://vcenter.example.com/".into()));
    assert!(!kept("/vcenter/server", "vcenter.attacker.example".into()));
    assert!(!kept("/vcenter/server", "vcenter.example.com:4443".into()));
    assert!(!kept("/vcenter/username", "root@vsphere.local".into()));
    assert!(!kept("/vcenter/insecure", true.into()));
    let mut new = read(&with(dhcp(), "/vcenter/password", "another".into()));
    new.keep_password(&stored);
    assert_eq!(new.vcenter.password.unwrap().expose(), "another");
}

#[test]
fn the_pool_that_is_the_gateways() {
    let second = json!({
        "name": "b", "subnet": "198.51.100.0/24", "gateway": "198.51.100.1", "name_servers": ["198.51.100.2"]
    });
    let both = |end: &str, size: u32| {
        let json = with(with(fixed(), "/ip_pools/1", second.clone()), "/ip_pools/0/end", end.into());
        with(json, "/size", size.into())
    };
    let own = |json: &Value| read(json).pool_report().own;
    assert_eq!(own(&dhcp()), None);
    assert_eq!(own(&both("192.0.2.12", 1)), Some(0));
    assert_eq!(own(&both("192.0.2.12", 3)), Some(1));
    assert_eq!(own(&both("192.0.2.14", 3)), Some(0));
    let vip =
        |json: Value, host: &str| with(json, "/control_plane_endpoint", json!({"type": "VIP", "host": host}));
    assert_eq!(own(&vip(both("192.0.2.13", 3), "192.0.2.9")), Some(0), "it needs one less");
    assert_eq!(own(&vip(both("192.0.2.13", 3), "192.0.2.13")), None, "it is one of these");
    assert_eq!(own(&vip(both("192.0.2.30", 3), "198.51.100.9")), Some(1), "its VIP is there");

    let report = read(&with(both("192.0.2.12", 1), "/ip_pools/2", json!({}))).pool_report();
    assert_eq!(
        report.pools.iter().map(|pool| pool.as_ref().map(|p| p.usable)).collect::<Vec<_>>(),
        [Some(3), Some(252), None]
    );
    assert!(report.findings.iter().all(|finding| finding.at.starts_with("/ip_pools/2")));
}

#[test]
fn what_changes_while_it_runs() {
    let old = read(&fixed());
    let change = |at: &str, value: Value| {
        let findings = read(&with(fixed(), at, value)).check_change(&old);
        findings.into_iter().map(|finding| finding.at).collect::<Vec<_>>()
    };
    for (at, value) in [
        ("/vcenter/password", "new".into()),
        ("/vcenter/server", "vcenter2.example.com".into()),
        ("/placement/folder", "/DC1/vm/gateways/".into()),
        ("/ssh_keys", json!([])),
        ("/ntp_servers", json!([])),
        ("/ip_pools/0/end", "192.0.2.99".into()),
    ] {
        assert_eq!(change(at, value), [""; 0], "{at}");
    }
    for (at, value) in [
        ("/placement/folder", "elsewhere".into()),
        ("/ip_allocation", "dhcp".into()),
        ("/control_plane_endpoint", json!({"type": "VIP"})),
        ("/size", 3.into()),
        ("/node_size", "L".into()),
        ("/pod_cidr", "172.20.0.0/16".into()),
        ("/service_cidr", "172.21.0.0/16".into()),
    ] {
        let expected = if at.starts_with("/placement") { "/placement" } else { at };
        assert_eq!(change(at, value), [expected]);
    }
}

#[test]
fn the_pool_of_a_gateway_that_runs_stays_its_own() {
    let pool = |name: &str, third: u8| {
        json!({
            "name": name, "subnet": format!("198.51.{third}.0/24"), "gateway": format!("198.51.{third}.1"),
            "name_servers": ["192.0.2.2"]
        })
    };
    let old = read(&fixed());
    let change = |json: &Value| {
        let new = read(json);
        assert_eq!(said(&new.check()), "");
        said(&new.check_change(&old))
    };
    assert_eq!(change(&with(fixed(), "/ip_pools/1", pool("new", 100))), "");
    for other in
        [with(fixed(), "/ip_pools/0", pool("new", 100)), with(fixed(), "/ip_pools/0/name", "new".into())]
    {
        assert_eq!(
            change(&other),
            "    /ip_pools: The gateway's addresses are from the pool `edge`, and would have to be from `new`.\n        \
             Keep that pool and its name, and put new pools behind it.\n"
        );
    }
}

#[test]
fn growing() {
    let grown = |json: &Value, size| read(json).resized(size);
    for json in [dhcp(), fixed()] {
        let mut expected = read(&json);
        expected.size = 3;
        assert_eq!(grown(&json, 3), Ok(expected), "all else stays, the password too");
        let at =
            |from: u32, to| grown(&with(json.clone(), "/size", from.into()), to).unwrap_err().remove(0).at;
        assert_eq!([at(1, 1), at(3, 1), at(3, 3), at(1, 5)], [(); 4].map(|()| "/size"));
    }
    // Five addresses are enough, four with a VIP that was chosen. A larger pool behind it is no help to nodes that are here.
    let large = json!({
        "name": "b", "subnet": "198.51.100.0/24", "gateway": "198.51.100.1", "name_servers": ["198.51.100.2"]
    });
    let small = |end: &str| with(with(fixed(), "/ip_pools/1", large.clone()), "/ip_pools/0/end", end.into());
    let vip = json!({"type": "VIP", "host": "192.0.2.9"});
    assert!(grown(&small("192.0.2.14"), 3).is_ok());
    assert!(grown(&with(small("192.0.2.13"), "/control_plane_endpoint", vip), 3).is_ok());
    assert_eq!(
        said(&grown(&small("192.0.2.13"), 3).unwrap_err()),
        "    /ip_pools/0: A gateway of 3 nodes takes 5 addresses, and its pool `edge` has 4.\n        \
         Enlarge the pool, or exclude less; then resize the gateway.\n"
    );
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec![
            "", " ", "vcenter.example.com", "https://vc/", "192.0.2.5", "192.0.2.20", "10.96.0.0/12", "192.168.0.0/16", "fd00::/112",
            "2001:db8::1", "/DC1/vm/a", "a//b", KEY, "192.0.2.0/24",
        ]).prop_map(String::from),
        1 => "[a-z0-9:./@\\-%\\[\\] ]{0,30}",
        1 => any::<String>(),
    ]
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let list = || prop::collection::vec(text(), 0..3);
    let pool = (text(), text(), text(), text(), list(), list(), prop::option::of(0u32..40)).prop_map(
        |(start, end, subnet, gateway, name_servers, exclude, prefix)| PoolSpec {
            name: "p".into(),
            start,
            end,
            subnet,
            gateway,
            name_servers,
            exclude,
            prefix,
            ..PoolSpec::default()
        },
    );
    let good = Just(read(&fixed()).ip_pools.remove(0));
    let endpoint = (
        prop::sample::select(vec![EndpointKind::Vip, EndpointKind::External, EndpointKind::Ddns]),
        text(),
        text(),
    )
        .prop_map(|(kind, host, ddns_search_domain)| Endpoint { kind, host, ddns_search_domain });
    let base = prop::sample::select(vec![fixed(), dhcp(), json!({})]);
    let pools = prop::collection::vec(prop_oneof![good, pool], 0..3);
    (
        base,
        prop::collection::vec(text(), 16),
        list(),
        list(),
        pools,
        prop::option::of(endpoint),
        0u32..5,
        any::<u16>(),
    )
        .prop_map(|(base, texts, ssh_keys, ntp_servers, ip_pools, endpoint, size, mask)| {
            // Some of what is right is replaced by something else.
            let mut c = read(&base);
            let fields = [
                &mut c.vcenter.server,
                &mut c.vcenter.username,
                &mut c.placement.datacenter,
                &mut c.placement.folder,
                &mut c.placement.image_template_folder,
                &mut c.placement.cluster,
                &mut c.placement.resource_pool,
                &mut c.placement.datastore,
                &mut c.placement.storage_policy,
                &mut c.placement.network,
                &mut c.pod_cidr,
                &mut c.service_cidr,
            ];
            for (n, (field, text)) in fields.into_iter().zip(texts).enumerate() {
                if mask & (1 << n) != 0 && mask & 0x1000 != 0 {
                    *field = text;
                }
            }
            if mask & 0x2000 != 0 {
                (c.ssh_keys, c.ntp_servers) = (ssh_keys, ntp_servers);
            }
            if mask & 0x4000 != 0 {
                (c.ip_pools, c.size) = (ip_pools, size);
            }
            c.control_plane_endpoint = endpoint.filter(|_| mask & 0x8000 != 0);
            c
        })
}

/// What the checks promise to whoever builds from a configuration.
fn assert_judged(configuration: &Configuration) {
    let findings = configuration.check();
    assert_pointers(configuration, &findings);
    let mut normal = configuration.clone();
    normal.normalise();
    let again = normal.check();
    assert_eq!(findings.is_empty(), again.is_empty(), "{} or {}", said(&findings), said(&again));
    let mut twice = normal.clone();
    assert_eq!(twice.normalise(), []);
    assert_eq!(twice, normal);
    assert_eq!(read(&normal.expose()), normal);
    assert_eq!(normal.check_change(configuration), []);
    if findings.is_empty() {
        drop(normal.advice());
        let own = normal.own_pool();
        assert_eq!(own.is_some(), normal.ip_allocation == IpAllocation::Static);
        if let Some((pool, _)) = own {
            let mut book = ip_pools::Book::new();
            book.set_pools(&normal.ip_pools, normal.vip()).unwrap();
            for n in 0..normal.needed() {
                let address = book.allocate(pool.name(), "gateway", &format!("node-{n}")).unwrap();
                assert_ne!(Some(address), normal.vip());
            }
            if let Ok(grown) = normal.resized(3) {
                assert_eq!(said(&grown.check()), "");
                assert_eq!(grown.own_pool(), normal.own_pool());
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_typed_is_judged(configuration in configuration()) {
        assert_judged(&configuration);
    }
}
