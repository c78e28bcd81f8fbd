//! Pools as people type them: what is wrong with them, and what they come to.
#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::net::{IpAddr, Ipv4Addr};

use ip_pools::{Book, MANY, PoolSpec, Refusal, Surroundings, needed, needed_by_gateway, read_all};
use proptest::prelude::*;

/// 192.0.2.10 to .50 of a /24.
fn good() -> PoolSpec {
    PoolSpec {
        name: "edge".into(),
        start: "192.0.2.10".into(),
        end: "192.0.2.50".into(),
        prefix: Some(24),
        gateway: "192.0.2.1".into(),
        name_servers: vec!["192.0.2.2".into()],
        search: vec!["example.com".into()],
        ..PoolSpec::default()
    }
}

fn good_subnet() -> PoolSpec {
    PoolSpec {
        subnet: "192.0.2.0/26".into(),
        start: String::new(),
        end: String::new(),
        prefix: None,
        ..good()
    }
}

fn six() -> PoolSpec {
    PoolSpec {
        name: "six".into(),
        subnet: "2001:db8::/64".into(),
        gateway: "fe80::1".into(),
        name_servers: vec!["2001:db8::53".into()],
        ..PoolSpec::default()
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(String::from).into()
}

/// Everything that can be wrong, as it is said.
#[test]
fn findings() {
    type Change = Box<dyn Fn(&mut PoolSpec)>;
    let range: Vec<(&str, Change)> = vec![
        ("nothing", Box::new(|p| *p = PoolSpec::default())),
        ("blanks", Box::new(|p| (p.name, p.start, p.end) = (" ".into(), " ".into(), "\t".into()))),
        ("name", Box::new(|p| p.name = "a".repeat(64))),
        ("name", Box::new(|p| p.name = "edge\u{202e}1".into())),
        ("no start", Box::new(|p| p.start = String::new())),
        ("no end", Box::new(|p| p.end = String::new())),
        ("no address", Box::new(|p| p.start = "192.0.2".into())),
        ("number too large", Box::new(|p| p.end = "192.0.2.300".into())),
        ("octal", Box::new(|p| p.start = "192.0.2.010".into())),
        ("with prefix", Box::new(|p| p.start = "192.0.2.10/24".into())),
        ("special", Box::new(|p| (p.start, p.end) = ("127.0.0.5".into(), "127.0.0.9".into()))),
        (
            "special among them",
            Box::new(|p| {
                (p.start, p.end) = ("126.0.0.1".into(), "127.255.255.255".into());
                (p.prefix, p.gateway) = (Some(7), "126.0.0.1".into());
            }),
        ),
        ("order", Box::new(|p| p.end = "192.0.2.5".into())),
        ("family", Box::new(|p| p.end = "2001:db8::5".into())),
        ("outside", Box::new(|p| p.prefix = Some(27))),
        ("no prefix", Box::new(|p| p.prefix = None)),
        ("prefix 0", Box::new(|p| p.prefix = Some(0))),
        ("prefix 33", Box::new(|p| p.prefix = Some(33))),
        ("prefix huge", Box::new(|p| p.prefix = Some(u32::MAX))),
        ("no gateway", Box::new(|p| p.gateway = String::new())),
        ("gateway is a name", Box::new(|p| p.gateway = "router.example.com".into())),
        ("gateway outside", Box::new(|p| p.gateway = "192.0.3.1".into())),
        ("gateway is the network", Box::new(|p| p.gateway = "192.0.2.0".into())),
        ("gateway is broadcast", Box::new(|p| p.gateway = "192.0.2.255".into())),
        ("gateway's family", Box::new(|p| p.gateway = "2001:db8::1".into())),
        ("gateway's family", Box::new(|p| p.gateway = "fe80::1".into())),
        ("no name servers", Box::new(|p| p.name_servers = texts(["", " "]))),
        (
            "four name servers",
            Box::new(|p| p.name_servers = texts(["192.0.2.2", "192.0.2.3", "192.0.2.4", "192.0.2.5"])),
        ),
        ("name server", Box::new(|p| p.name_servers = texts(["192.0.2.2", "dns.example.com"]))),
        ("name server's family", Box::new(|p| p.name_servers = texts(["2001:db8::53"]))),
        ("name server is broadcast", Box::new(|p| p.name_servers = texts(["192.0.2.255"]))),
        ("search", Box::new(|p| p.search = texts(["example.com", "exa mple", "192.0.2.1"]))),
        ("too many search domains", Box::new(|p| p.search = vec!["a.example".into(); 33])),
        (
            "exclusion",
            Box::new(|p| p.exclude = texts(["192.0.2.20", "x", "192.0.2.9-192.0.2.5", "192.0.2.8/33"])),
        ),
        (
            "exclusion outside",
            Box::new(|p| p.exclude = texts(["192.0.3.20", "192.0.2.51-192.0.2.60", "2001:db8::/64"])),
        ),
        ("all excluded", Box::new(|p| p.exclude = texts(["192.0.2.0/24"]))),
        ("too many exclusions", Box::new(|p| p.exclude = vec!["192.0.2.20".into(); 257])),
        ("both", Box::new(|p| p.subnet = "192.0.2.0/26".into())),
        (
            "several",
            Box::new(|p| {
                (p.name, p.end, p.gateway) = (String::new(), "192.0.2".into(), "::1".into());
                p.name_servers.clear();
            }),
        ),
        ("a page", Box::new(|p| p.gateway = "<script>alert(1)</script>\n".repeat(1000))),
    ];
    let subnet: Vec<(&str, Change)> = vec![
        ("no prefix", Box::new(|p| p.subnet = "192.0.2.0".into())),
        ("no subnet", Box::new(|p| p.subnet = "192.0.2.0/255.255.255.0".into())),
        ("loose", Box::new(|p| p.subnet = "192.0.2.10/26".into())),
        ("internet", Box::new(|p| p.subnet = "0.0.0.0/0".into())),
        ("special", Box::new(|p| p.subnet = "224.0.0.0/24".into())),
        ("special", Box::new(|p| p.subnet = "fe80::/64".into())),
        ("prefix", Box::new(|p| p.prefix = Some(27))),
        ("one address", Box::new(|p| (p.subnet, p.gateway) = ("192.0.2.1/32".into(), "192.0.2.1".into()))),
    ];
    let mut said = String::new();
    for (from, what, change) in range
        .iter()
        .map(|(what, change)| (good(), what, change))
        .chain(subnet.iter().map(|(what, change)| (good_subnet(), what, change)))
    {
        let mut spec = from;
        change(&mut spec);
        let findings = spec.check();
        assert!(!findings.is_empty(), "{what}");
        said += &format!("{what}\n");
        for finding in &findings {
            said += &format!("    {}: {}\n        {}\n", finding.at, finding.message, finding.hint);
            assert!(
                finding.message.ends_with('.') && finding.hint.ends_with('.') && finding.message.len() < 250
            );
            let json = serde_json::to_value(&spec).unwrap();
            assert!(json.pointer(&finding.at).is_some(), "{} points at nothing", finding.at);
        }
    }
    insta::assert_snapshot!(said);
}

/// Pools that are right, and what they come to.
#[test]
fn arithmetic() {
    let mut said = String::new();
    let with = |change: &dyn Fn(&mut PoolSpec), mut spec: PoolSpec| {
        change(&mut spec);
        spec
    };
    for (what, spec) in [
        ("a range", good()),
        ("a subnet", good_subnet()),
        ("a part of a larger network", with(&|p| p.prefix = Some(24), good_subnet())),
        ("for a single cluster", with(&|p| p.restrict_to_single_cluster = true, good())),
        (
            "gateway and name servers among them",
            with(
                &|p| {
                    (p.gateway, p.name_servers) =
                        ("192.0.2.12".into(), texts(["192.0.2.11", "192.0.2.11", "203.0.113.53"]));
                },
                good(),
            ),
        ),
        (
            "exclusions that overlap",
            with(
                &|p| {
                    p.exclude = texts([
                        "192.0.2.10",
                        "192.0.2.0/28",
                        " 192.0.2.14 - 192.0.2.20 ",
                        "",
                        "192.0.2.40-192.0.2.99",
                    ]);
                },
                good(),
            ),
        ),
        ("one address", with(&|p| p.end = "192.0.2.10".into(), good())),
        ("enough for one node", with(&|p| p.end = "192.0.2.12".into(), good())),
        ("enough for a cluster", with(&|p| p.end = "192.0.2.13".into(), good())),
        ("enough for three nodes", with(&|p| p.end = "192.0.2.14".into(), good())),
        ("a network of two (RFC 3021)", with(&|p| p.subnet = "192.0.2.0/31".into(), good_subnet())),
        (
            "with blanks around",
            with(&|p| (p.start, p.gateway) = (" 192.0.2.10 ".into(), " 192.0.2.1".into()), good()),
        ),
        ("IPv6", six()),
        (
            "a range of IPv6",
            with(
                &|p| {
                    p.subnet.clear();
                    (p.start, p.end, p.prefix) = ("2001:DB8:0::".into(), "2001:db8::f".into(), Some(64));
                    p.gateway = "2001:db8::1".into();
                },
                six(),
            ),
        ),
        (
            "all of IPv6's global addresses",
            with(&|p| (p.subnet, p.name_servers) = ("2000::/3".into(), texts(["2000::1"])), six()),
        ),
    ] {
        assert_eq!(spec.check(), [], "{what}");
        let sums = spec.read().unwrap().arithmetic();
        assert!(sums.usable == MANY || sums.usable + sums.excluded == sums.total, "{sums:?}");
        assert_eq!(sums.gateway_nodes == 3, sums.usable >= needed_by_gateway(3));
        assert_eq!(sums.cluster_nodes > 0, sums.usable >= needed(1));
        said += &format!("{what}\n    {}\n", sums.summary);
        for left in &sums.left_out {
            said += &format!("    {}-{}: {}\n", left.first, left.last, left.why);
        }
    }
    insta::assert_snapshot!(said);
}

#[test]
fn size_rules() {
    assert_eq!([1, 3].map(needed_by_gateway), [3, 5]);
    assert_eq!(needed(1 + 3), 7);
    assert_eq!(needed(u64::MAX), u64::MAX);
}

/// Pools beside each other, and beside what else has addresses.
#[test]
fn surroundings() {
    let reserved = |net: &str| (String::from("the pods' subnet"), net.parse().unwrap());
    let vip = |vip: &str| vip.parse().ok();
    let second = |change: &dyn Fn(&mut PoolSpec)| {
        let mut spec = PoolSpec {
            name: "second".into(),
            start: "192.0.2.60".into(),
            end: "192.0.2.70".into(),
            ..good()
        };
        change(&mut spec);
        vec![good(), spec]
    };
    let mut said = String::new();
    for (what, specs, around) in [
        ("the same name", second(&|p| p.name = " edge".into()), Surroundings::default()),
        ("overlap", second(&|p| p.start = "192.0.2.49".into()), Surroundings::default()),
        (
            "a subnet around",
            second(&|p| {
                (p.start, p.end, p.prefix, p.subnet) =
                    (String::new(), String::new(), None, "192.0.0.0/16".into());
            }),
            Surroundings::default(),
        ),
        (
            "another network, inside",
            second(&|p| {
                (p.start, p.end) = ("192.0.2.72".into(), "192.0.2.78".into());
                (p.prefix, p.gateway) = (Some(28), "192.0.2.65".into());
            }),
            Surroundings::default(),
        ),
        (
            "another network, around",
            second(&|p| {
                (p.start, p.end, p.prefix) = ("192.0.3.200".into(), "192.0.4.20".into(), Some(16));
            }),
            Surroundings::default(),
        ),
        ("the other's gateway", second(&|p| p.gateway = "192.0.2.20".into()), Surroundings::default()),
        (
            "the other's name server",
            {
                let mut specs = second(&|_| {});
                specs[0].name_servers.push("192.0.2.66".into());
                specs
            },
            Surroundings::default(),
        ),
        ("pods", vec![good()], Surroundings { reserved: vec![reserved("192.0.0.0/16")], vip: None }),
        (
            "pods in the network, not in the pool",
            vec![good()],
            Surroundings { reserved: vec![reserved("192.0.2.128/25")], vip: None },
        ),
        (
            "a name server among pods",
            {
                let mut specs = vec![good_subnet()];
                specs[0].name_servers = texts(["192.0.2.53", " 10.1.2.3"]);
                specs
            },
            Surroundings { reserved: vec![reserved("10.1.0.0/16")], vip: None },
        ),
        (
            "too many",
            (0..33)
                .map(|n| PoolSpec {
                    name: n.to_string(),
                    start: format!("192.0.2.{}", 10 + n),
                    end: format!("192.0.2.{}", 10 + n),
                    ..good()
                })
                .collect(),
            Surroundings::default(),
        ),
    ] {
        let read = read_all(&specs, &around);
        assert!(!read.findings.is_empty(), "{what}");
        said += &format!("{what}\n");
        for finding in &read.findings {
            said += &format!("    {}: {}\n        {}\n", finding.at, finding.message, finding.hint);
            assert!(serde_json::to_value(&specs).unwrap().pointer(&finding.at).is_some(), "{}", finding.at);
        }
    }
    insta::assert_snapshot!(said);

    for (specs, around) in [
        (
            second(&|_| {}),
            Surroundings {
                reserved: vec![reserved("10.0.0.0/8"), reserved("fd00::/48")],
                vip: vip("192.0.2.99"),
            },
        ),
        (
            vec![good(), six()],
            Surroundings { reserved: vec![reserved("192.0.3.0/24")], vip: vip("2001:db8::9") },
        ),
        (vec![], Surroundings::default()),
    ] {
        assert_eq!(read_all(&specs, &around).findings, []);
    }
}

#[test]
fn the_vip_is_left_out() {
    let around = Surroundings { reserved: Vec::new(), vip: "192.0.2.50".parse().ok() };
    let pool = read_all(&[good()], &around).pools.remove(0).unwrap();
    assert_eq!(pool.why_not("192.0.2.50".parse().unwrap()), Some("the VIP"));
    assert_eq!(pool.arithmetic().usable, good().read().unwrap().arithmetic().usable - 1);
}

#[test]
fn what_is_blank_does_not_count() {
    let blanks =
        |text: &str, count| texts(["", " "]).into_iter().cycle().take(count).chain([text.into()]).collect();
    let domain = |length: usize| {
        let label = "a".repeat(63);
        format!("{label}.{label}.{label}.{}", "b".repeat(length - 3 * 64))
    };
    // Ten of 203 characters and ten spaces are 2040, and there is room for one more of eight.
    let long = |last: &str| (0..10).map(|_| domain(203)).chain([last.into()]).collect::<Vec<_>>();
    for (what, spec, right) in [
        ("exclusions", PoolSpec { exclude: blanks("192.0.2.20", 300), ..good() }, true),
        ("domains", PoolSpec { search: blanks("example.com", 40), ..good() }, true),
        (
            "around domains",
            PoolSpec { search: long(&format!("  abcdefgh{}", " ".repeat(50))), ..good() },
            true,
        ),
        ("between domains", PoolSpec { search: long("abcdefghi"), ..good() }, false),
        ("servers", PoolSpec { name_servers: blanks("192.0.2.2", 9), ..good() }, true),
    ] {
        assert_eq!(spec.check().is_empty(), right, "{what}: {:?}", spec.check());
        let mut normal = spec.clone();
        normal.normalise();
        assert_eq!(normal.check().is_empty(), right, "{what}, normalised: {:?}", normal.check());
    }
    // A name is no address, whatever it looks like.
    let mut specs = [good(), six()];
    (specs[0].name, specs[1].name) = ("2001:DB8::1".into(), "2001:db8::1 ".into());
    specs.iter_mut().for_each(PoolSpec::normalise);
    assert_eq!([&specs[0].name, &specs[1].name], ["2001:DB8::1", "2001:db8::1"]);
    assert_eq!(read_all(&specs, &Surroundings::default()).findings, []);
}

/// Texts that look like parts of pools, and some that do not.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0u8..60).prop_map(|n| format!("192.0.2.{n}")),
        2 => ((0u8..60), 24u8..33).prop_map(|(n, prefix)| format!("192.0.2.{}/{prefix}", n & 0xf0)),
        2 => ((0u8..60), 0u8..20).prop_map(|(n, more)| format!("192.0.2.{n}-192.0.2.{}", n + more)),
        1 => any::<u16>().prop_map(|n| format!("2001:db8::{n:x}")),
        1 => Just(String::new()),
        1 => any::<(u32, u8)>().prop_map(|(a, p)| format!("{}/{p}", Ipv4Addr::from_bits(a))),
        1 => "[0-9a-f:./ -]{0,20}",
        1 => any::<String>(),
    ]
}

fn any_spec() -> impl Strategy<Value = PoolSpec> {
    let list = || prop::collection::vec(text(), 0..4);
    (
        (text(), text(), text(), text(), text()),
        (list(), list(), list()),
        prop::option::of(0u32..140),
        any::<bool>(),
    )
        .prop_map(
            |((name, start, end, subnet, gateway), (name_servers, search, exclude), prefix, single)| {
                PoolSpec {
                    name,
                    start,
                    end,
                    subnet,
                    gateway,
                    name_servers,
                    search,
                    exclude,
                    prefix,
                    restrict_to_single_cluster: single,
                }
            },
        )
}

/// Mostly right.
fn near_spec() -> impl Strategy<Value = PoolSpec> {
    let exclusion = prop_oneof![
        (0u8..64).prop_map(|n| format!("192.0.2.{n}")),
        (0u8..60, 0u8..9).prop_map(|(n, more)| format!("192.0.2.{n}-192.0.2.{}", n + more)),
        (0u8..16).prop_map(|n| format!("192.0.2.{}/30", n * 4)),
    ];
    (
        0u8..64,
        0u8..64,
        0u8..64,
        prop::collection::vec(0u8..64, 1..4),
        prop::collection::vec(exclusion, 0..5),
        24u32..28,
    )
        .prop_map(|(start, size, gateway, servers, exclude, prefix)| PoolSpec {
            start: format!("192.0.2.{start}"),
            end: format!("192.0.2.{}", start + size),
            prefix: Some(prefix),
            gateway: format!("192.0.2.{gateway}"),
            name_servers: servers.into_iter().map(|n| format!("192.0.2.{n}")).collect(),
            exclude,
            ..good()
        })
}

/// What a pool near [`good`] gives out, found by looking at every address.
fn enumerated(spec: &PoolSpec) -> Vec<IpAddr> {
    let n = |text: &str| text.rsplit('.').next().unwrap().parse::<u16>().unwrap();
    let size = 1u16 << (32 - spec.prefix.unwrap());
    let excluded = |address: u16| {
        spec.exclude.iter().any(|text| match (text.split_once('-'), text.split_once('/')) {
            (Some((first, last)), _) => n(first) <= address && address <= n(last),
            (_, Some((net, _))) => address & !3 == n(net),
            _ => n(text) == address,
        })
    };
    (n(&spec.start)..=n(&spec.end))
        .filter(|a| a % size != 0 && a % size != size - 1)
        .filter(|a| *a != n(&spec.gateway) && !spec.name_servers.iter().any(|server| n(server) == *a))
        .filter(|a| !excluded(*a))
        .map(|a| IpAddr::from([192, 0, 2, a as u8]))
        .collect()
}

/// A pool that is right gives out as many addresses as it says, all of them its own.
fn assert_gives_what_it_says(spec: &PoolSpec) {
    let pool = spec.read().unwrap();
    let sums = pool.arithmetic();
    assert!(sums.usable > 0 && sums.usable <= sums.total);
    assert!(sums.total == MANY || sums.usable + sums.excluded == sums.total, "{sums:?}");
    let mut book = Book::new();
    book.set_pools(std::slice::from_ref(spec), None).unwrap();
    let mut given = Vec::new();
    for n in 0..sums.usable.min(300) {
        given.push(book.allocate(pool.name(), "cluster", &n.to_string()).unwrap());
    }
    assert!(given.iter().all(|address| pool.span().contains(*address) && pool.network().contains(address)));
    assert!(given.is_sorted_by(|a, b| a < b), "one is given twice");
    if sums.usable <= 300 {
        let full = book.allocate(pool.name(), "cluster", "one more");
        assert!(matches!(full, Err(Refusal::Full { .. })), "{full:?}");
    }
}

proptest! {
    #[test]
    fn whatever_is_typed_is_judged(specs in prop::collection::vec(any_spec(), 0..4), vip in 0u8..60) {
        let around = Surroundings { reserved: vec![("pods".into(), "10.0.0.0/8".parse().unwrap())], vip: Some(IpAddr::from([192, 0, 2, vip])) };
        let read = read_all(&specs, &around);
        prop_assert_eq!(read.pools.len(), specs.len());
        for (spec, pool) in specs.iter().zip(&read.pools) {
            prop_assert_eq!(spec.check().is_empty(), pool.is_some());
        }
        let json = serde_json::to_value(&specs).unwrap();
        for finding in &read.findings {
            prop_assert!(json.pointer(&finding.at).is_some(), "{} points at nothing", finding.at);
        }
        let mut normal = specs.clone();
        normal.iter_mut().for_each(PoolSpec::normalise);
        prop_assert_eq!(read_all(&normal, &around).findings.is_empty(), read.findings.is_empty());
    }

    #[test]
    fn what_is_right_gives_what_it_says(spec in near_spec()) {
        if spec.check().is_empty() {
            let usable: Vec<IpAddr> = spec.read().unwrap().usable().iter().flat_map(|span| {
                let (IpAddr::V4(first), IpAddr::V4(last)) = (span.first(), span.last()) else { panic!() };
                (first.to_bits()..=last.to_bits()).map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)))
            }).collect();
            prop_assert_eq!(usable, enumerated(&spec));
            assert_gives_what_it_says(&spec);
        }
    }
}

#[test]
fn large_pools_give_what_they_say() {
    assert_gives_what_it_says(&six());
    assert_gives_what_it_says(&PoolSpec {
        subnet: "10.0.0.0/8".into(),
        gateway: "10.0.0.1".into(),
        ..good_subnet()
    });
}
