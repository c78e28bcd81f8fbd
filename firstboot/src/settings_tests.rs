use proptest::prelude::*;

use super::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIzQ0zq0nZSUub9uqodbv1JGp6+VqsKivMgz7xKxjJax test";
const CA: &str = include_str!("../testdata/ca.pem");

fn raw(pairs: &[(&str, &str)]) -> Raw {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

/// The settings of values that are all right.
fn right(pairs: &[(&str, &str)]) -> Settings {
    let parsed = parse(&raw(pairs));
    assert_eq!(parsed.problems, [], "{pairs:?}");
    parsed.settings
}

/// Key and value.
type Pair = (&'static str, &'static str);

const STATIC: [Pair; 4] = [
    ("ip-address", "192.0.2.10"),
    ("ip-prefix", "24"),
    ("ip-gateway", "192.0.2.1"),
    ("dns-servers", "192.0.2.53"),
];
const PROXY: [Pair; 3] = [
    ("http-proxy", "http://192.0.2.8:3128"),
    ("https-proxy", "http://192.0.2.8:3128"),
    ("no-proxy", "a.example"),
];

/// Groups of values in which one is wrong: the group, the wrong value, the property that is blamed, a word of why.
const WRONG: &[(&[Pair], Pair, &str, &str)] = &[
    (&[], ("gateway-name", "edge 01"), "gateway-name", "other characters"),
    (&[], ("gateway-name", "-edge"), "gateway-name", "dash"),
    (&[], ("gateway-name", "edge.example.com"), "gateway-name", "other characters"),
    (
        &[],
        ("gateway-name", "x234567890123456789012345678901234567890123456789012345678901234"),
        "gateway-name",
        "too long",
    ),
    (&[], ("console-endpoint", "http://console.example.com"), "console-endpoint", "https://"),
    (&[], ("console-endpoint", "https://https://console.example.com"), "console-endpoint", "two schemes"),
    (&[], ("console-endpoint", "https://console.example.com/api"), "console-endpoint", "after the host"),
    (&[], ("console-endpoint", "https://console.example.com?x=1"), "console-endpoint", "after the host"),
    (&[], ("console-endpoint", "https://me:pw@console.example.com"), "console-endpoint", "login"),
    (&[], ("console-endpoint", "https://"), "console-endpoint", "no URL"),
    (&[], ("console-endpoint", "https://con_sole"), "console-endpoint", "host"),
    (&[], ("pairing-code", "4821 7739 051O"), "pairing-code", "letter"),
    (&[], ("pairing-code", "4821/7739/0515"), "pairing-code", "no digit"),
    (&[], ("pairing-code", "4821 7739 051"), "pairing-code", "twelve"),
    (&[], ("pairing-code", "4821 7739 0551"), "pairing-code", "mistyped"),
    (&[], ("ssh-public-key", "ssh-ed25519 AAAA"), "ssh-public-key", "cannot be read"),
    (&[], ("ssh-public-key", "hello"), "ssh-public-key", "cannot be read"),
    (&[], ("ssh-public-key", "-----BEGIN OPENSSH PRIVATE KEY----- abc"), "ssh-public-key", "PRIVATE"),
    (&STATIC, ("ip-address", "192.0.2"), "ip-address", "something else"),
    (&STATIC, ("ip-address", "2001:db8::1"), "ip-address", "something else"),
    (&STATIC, ("ip-address", "192.0.2.0"), "ip-address", "no host"),
    (&STATIC, ("ip-address", "192.0.2.255"), "ip-address", "no host"),
    (&STATIC, ("ip-address", "192.0.2.10/25"), "ip-prefix", "another prefix"),
    (&STATIC, ("ip-address", ""), "ip-address", "set together"),
    (&STATIC, ("ip-prefix", "0"), "ip-prefix", "something else"),
    (&STATIC, ("ip-prefix", "33"), "ip-prefix", "something else"),
    (&STATIC, ("ip-prefix", "255.255.255.0"), "ip-prefix", "something else"),
    (&STATIC, ("ip-prefix", "null"), "ip-prefix", "set together"),
    (&STATIC, ("ip-gateway", "198.51.100.1"), "ip-gateway", "outside the subnet"),
    (&STATIC, ("ip-gateway", "192.0.2.10"), "ip-gateway", "this machine"),
    (&STATIC, ("ip-gateway", "192.0.2.255"), "ip-gateway", "no host"),
    (&STATIC, ("ip-gateway", "router"), "ip-gateway", "something else"),
    (&STATIC, ("ip-gateway", " "), "ip-gateway", "set together"),
    (&STATIC, ("dns-servers", ""), "dns-servers", "static address needs"),
    (&[], ("dns-servers", "192.0.2.53 dns.example.com"), "dns-servers", "dns.example.com"),
    (&[], ("search-domains", "a.example, b_c.example"), "search-domains", "b_c.example"),
    (&PROXY, ("http-proxy", ""), "http-proxy", "set together"),
    (&PROXY, ("https-proxy", "null"), "https-proxy", "set together"),
    (&PROXY, ("no-proxy", ""), "no-proxy", "set together"),
    (&PROXY, ("http-proxy", "192.0.2.8:3128"), "http-proxy", "URL"),
    (&PROXY, ("http-proxy", "http:/192.0.2.8:3128"), "http-proxy", "no URL"),
    (&PROXY, ("https-proxy", "socks5://192.0.2.8:3128"), "https-proxy", "http://"),
    (&PROXY, ("http-proxy", "http://192.0.2.8:3128/path"), "http-proxy", "after the port"),
    (&PROXY, ("no-proxy", "http://a.example"), "no-proxy", "http://a.example"),
    (&PROXY, ("no-proxy", "[192.0.2.7]:8443"), "no-proxy", "[192.0.2.7]:8443"),
    (&[], ("proxy-ca", "hello, world"), "proxy-ca", "neither"),
    (&[], ("proxy-ca", "aGVsbG8="), "proxy-ca", "no certificate"),
    (&[], ("proxy-ca", "-----BEGIN CERTIFICATE----- AAAA -----END CERTIFICATE-----"), "proxy-ca", "no X.509"),
    (&[], ("proxy-ca", "-----BEGIN CERTIFICATE----- AAAA"), "proxy-ca", "missing"),
    (&[], ("proxy-ca", "-----BEGIN PRIVATE KEY----- AAAA"), "proxy-ca", "PRIVATE"),
    (&[], ("ntp-servers", "ntp.example.com, _x"), "ntp-servers", "`_x`"),
    (&[], ("pod-cidr", "192.168.0.0"), "pod-cidr", "no IPv4 subnet"),
    (&[], ("pod-cidr", "10.0.0.0/8"), "service-cidr", "overlaps 10.0.0.0/8"),
    (&[], ("service-cidr", "10.96.0.0/33"), "service-cidr", "no IPv4 subnet"),
    (&STATIC, ("service-cidr", "192.0.0.0/16"), "service-cidr", "overlaps 192.0.2.0/24"),
];

#[test]
fn wrong_values_are_blamed_one_by_one() {
    for (group, (key, value), blamed, why) in WRONG {
        let mut values = raw(group);
        values.insert((*key).into(), (*value).into());
        let problems = parse(&values).problems;
        assert_eq!(problems.len(), 1, "{key}={value}: {problems:?}");
        let problem = &problems[0];
        assert_eq!(problem.property, *blamed, "{key}={value}: {problem:?}");
        assert!(problem.message.contains(why), "{key}={value}: {problem:?}");
        assert!(
            problem.message.contains(blamed) && problem.message.contains(&problem.expected),
            "{problem:?}"
        );
        assert!(
            problem.hint.starts_with(&format!("sudo gatewright-firstboot set {blamed}='")),
            "{problem:?}"
        );
    }
}

#[test]
fn every_property_is_wrong_once() {
    for property in PROPERTIES {
        assert!(WRONG.iter().any(|(_, _, blamed, _)| *blamed == property.key), "{}", property.key);
    }
}

#[test]
fn examples_are_right() {
    let mut values = Raw::new();
    for property in PROPERTIES {
        assert!(
            property.key.len() + property.example.len() <= 43,
            "the hint fits a line of the screen: {}",
            property.key
        );
        // Two are files.
        if !property.example.starts_with('@') {
            values.insert(property.key.into(), property.example.into());
        }
    }
    assert_eq!(parse(&values).problems, []);
}

#[test]
fn blanks_are_nothing() {
    for blank in ["", " ", "null", "NULL", "\t\n"] {
        let values = PROPERTIES.iter().map(|p| (p.key.to_string(), blank.to_string())).collect();
        let parsed = parse(&values);
        assert_eq!(parsed.problems, []);
        assert_eq!(parsed.missing, ["gateway-name", "console-endpoint", "pairing-code"]);
        assert_eq!(parsed.settings.pods, Some("192.168.0.0/16".parse().unwrap()), "defaults hold");
    }
}

#[test]
fn right_values_in_every_form() {
    assert_eq!(right(&[("gateway-name", " Edge-01 ")]).gateway_name.unwrap(), "edge-01");
    for text in [
        "https://console.example.com",
        "https://console.example.com/",
        "console.example.com",
        "HTTPS://CONSOLE.example.com:443",
    ] {
        assert_eq!(
            right(&[("console-endpoint", text)]).console_endpoint.unwrap(),
            "https://console.example.com",
            "{text}"
        );
    }
    assert_eq!(
        right(&[("console-endpoint", "https://192.0.2.7:8443")]).console_endpoint.unwrap(),
        "https://192.0.2.7:8443"
    );
    for text in
        ["482177390515", "4821 7739 0515", "4821-7739-0515", "4821\n7739\t0515", "4821\u{a0}7739\u{a0}0515"]
    {
        let code = right(&[("pairing-code", text)]).pairing_code.unwrap().expose();
        assert_eq!(code.expose(), "4821 7739 0515");
    }
    let two = format!("{KEY} with spaces {KEY}");
    assert_eq!(
        right(&[("ssh-public-key", &two)]).ssh_keys,
        [format!("{KEY} with spaces"), KEY.to_string()],
        "newlines became spaces"
    );
    for kind in ["ecdsa", "rsa", "ed25519"] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-t", kind, "-f"])
            .arg(&file)
            .status();
        assert!(made.expect("`ssh-keygen` is needed here: `apt-get install openssh-client`").success());
        let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
        assert_eq!(right(&[("ssh-public-key", &public)]).ssh_keys, [public.trim()], "{kind}");
    }
    let net = right(&STATIC).address.unwrap();
    assert_eq!(
        (net.address.to_string().as_str(), net.gateway.to_string().as_str()),
        ("192.0.2.10/24", "192.0.2.1")
    );
    let short = [("ip-address", "192.0.2.10/24"), ("ip-gateway", "192.0.2.1"), ("dns-servers", "192.0.2.53")];
    assert_eq!(right(&short).address.unwrap(), net);
    for list in ["192.0.2.53,192.0.2.54", "192.0.2.53; 192.0.2.54", "192.0.2.53  192.0.2.54\n"] {
        assert_eq!(right(&[("dns-servers", list)]).dns.len(), 2, "{list}");
    }
    assert_eq!(right(&[("search-domains", "a.example. B.example")]).search, ["a.example", "B.example"]);
    let proxy = right(&[
        ("http-proxy", "http://u:p%40ss@h.example:1/"),
        ("https-proxy", "https://h.example"),
        ("no-proxy", "*,*.a.example .b 10.0.0.0/8,h:99 [2001:db8::7]:8443"),
    ]);
    let proxy = proxy.proxy.unwrap();
    assert_eq!(
        (proxy.http.expose(), proxy.https.expose()),
        ("http://u:p%40ss@h.example:1", "https://h.example")
    );
    assert_eq!(proxy.no_proxy, ["*", "*.a.example", ".b", "10.0.0.0/8", "h:99", "[2001:db8::7]:8443"]);
    let der = right(&[("proxy-ca", CA)]).proxy_ca;
    for text in [
        CA.replace('\n', " "),
        STANDARD.encode(CA),
        STANDARD.encode(CA).replace('M', "M\n"),
        format!("junk\n{CA}"),
    ] {
        assert_eq!(right(&[("proxy-ca", &text)]).proxy_ca, der);
    }
    assert_eq!(right(&[("proxy-ca", &CA.repeat(3))]).proxy_ca.len(), 3);
    assert_eq!(
        right(&[("ntp-servers", "ntp.example.com, 2001:db8::7")]).ntp,
        ["ntp.example.com", "2001:db8::7"]
    );
    assert_eq!(right(&[("pod-cidr", "172.16.5.1/16")]).pods.unwrap().to_string(), "172.16.0.0/16");
}

#[test]
fn repairs_are_told() {
    let notes = |key, value| parse(&raw(&[(key, value)])).notes.join(" ");
    assert!(notes("console-endpoint", "https://c.example/").contains("trailing slash"));
    assert!(notes("console-endpoint", "c.example").contains("https://"));
    assert!(notes("gateway-name", "Edge").contains("lower-case: edge"));
    assert!(notes("pod-cidr", "172.16.5.1/16").contains("172.16.0.0/16"));
    assert!(notes("gateway_name", "x").contains("`gateway_name` is unknown"));
}

#[test]
fn secrets_are_not_shown() {
    let values = raw(&[
        ("pairing-code", "12"),
        ("http-proxy", "ftp://u:hidden@h"),
        ("https-proxy", "http://u:hidden@h"),
        ("no-proxy", "a"),
    ]);
    let parsed = parse(&values);
    let text = format!("{parsed:?} {:?}", shown(&values, &parsed));
    assert!(!text.contains("hidden") && !text.contains("\"12\""), "{text}");
    for (key, value) in [
        ("ssh-public-key", "-----BEGIN OPENSSH PRIVATE KEY----- hidden"),
        ("console-endpoint", "https://me:hidden@c"),
    ] {
        let values = raw(&[(key, value)]);
        let parsed = parse(&values);
        let text = format!("{parsed:?} {:?}", shown(&values, &parsed));
        assert!(!text.contains("hidden"), "{text}");
    }
    let values = raw(&[("gateway-name", "Edge"), ("console-endpoint", "c.example/")]);
    let shown = shown(&values, &parse(&values));
    assert_eq!(
        (shown["gateway-name"].as_str(), shown["console-endpoint"].as_str()),
        ("edge", "https://c.example"),
        "as it counts"
    );
}

proptest! {
    #[test]
    fn any_values_are_judged(key in 0..PROPERTIES.len(), value in "\\PC{0,80}", other in "[0-9a-z./:, -]{0,30}") {
        let values = raw(&[(PROPERTIES[key].key, &value), ("ip-address", &other), ("ip-prefix", "24")]);
        let parsed = parse(&values);
        let _ = format!("{parsed:?}");
    }
}
