//! Right values, each with its effect on the machine.

use anyhow::{Result, ensure};
use gatewright_tests::cases;
use gatewright_tests::container::INTERFACE;
use gatewright_tests::figures::Timed;
use gatewright_tests::host::{Given, Host, SOON};
use gatewright_tests::prerequisites;
use gatewright_tests::process::wait_for;
use gatewright_tests::ssh::{Key, Session};
use gatewright_tests::status::Status;

use crate::values::{CA, CODE, INSPECTED, base64, given, proxy_with, static_with};

type Check = fn(&mut Host, &Status) -> Result<()>;

pub(crate) struct Case {
    pub(crate) property: &'static str,
    name: &'static str,
    given: Vec<Given>,
    /// What nobody may read.
    secrets: &'static [&'static str],
    check: Check,
}

fn case(property: &'static str, name: &'static str, given: Vec<Given>, check: Check) -> Case {
    Case { property, name, given, secrets: &[], check }
}

fn secret(secrets: &'static [&'static str], case: Case) -> Case {
    Case { secrets, ..case }
}

pub(crate) fn cases() -> Vec<Case> {
    let spaced_ca = CA.replace('\n', " ");
    vec![
        // Gateway
        case("gateway-name", "plain", given(&[("gateway-name", "edge-01")]), |host, _| {
            is_named(host, "edge-01")
        }),
        case("gateway-name", "upper case", given(&[("gateway-name", " Edge-01 ")]), |host, status| {
            is_named(host, "edge-01")?;
            is_noted(status, "edge-01")
        }),
        case(
            "console-endpoint",
            "plain",
            given(&[("console-endpoint", "https://console.example.com")]),
            |_, status| is_set(status, "console-endpoint", "https://console.example.com"),
        ),
        case(
            "console-endpoint",
            "port and trailing slash",
            given(&[("console-endpoint", "https://console.example.com:8443/")]),
            |_, status| {
                is_set(status, "console-endpoint", "https://console.example.com:8443")?;
                is_noted(status, "trailing slash")
            },
        ),
        secret(
            &[CODE, "4821 7739", "4821-7739"],
            case("pairing-code", "with spaces", given(&[("pairing-code", "4821 7739 0515")]), |_, status| {
                is_set(status, "pairing-code", "(set)")
            }),
        ),
        secret(
            &[CODE, "4821 7739", "4821-7739"],
            case("pairing-code", "with dashes", given(&[("pairing-code", "4821-7739-0515")]), |_, status| {
                is_set(status, "pairing-code", "(set)")
            }),
        ),
        case("ssh-public-key", "one", vec![], |host, _| {
            host.login()?.sh("sudo -n true")?;
            // Nobody else's key.
            host.key = Key::generate()?;
            let address = host.container.wait_address(SOON)?;
            let refused =
                Session::login(host.network.fabric(), address.into(), &host.key, std::time::Duration::ZERO);
            ensure!(refused.is_err(), "a strange key was let in");
            Ok(())
        }),
        // Network
        case(
            "ip-address",
            "with its prefix",
            static_with(&[("ip-address", "10.77.0.20/24"), ("ip-prefix", "")]),
            is_static,
        ),
        case("ip-prefix", "on its own", static_with(&[]), is_static),
        case("ip-gateway", "a neighbour", static_with(&[("ip-gateway", "10.77.0.99")]), |host, _| {
            host.expect(
                &format!("ip -4 route show default dev {INTERFACE} | awk '{{print $3}}'"),
                "10.77.0.99",
            )
        }),
        case(
            "dns-servers",
            "with a static address",
            static_with(&[("dns-servers", "10.77.0.1; 10.77.0.53,10.77.0.54")]),
            |host, _| has_dns(host, "10.77.0.1 10.77.0.53 10.77.0.54"),
        ),
        case(
            "dns-servers",
            "instead of those of DHCP",
            given(&[("dns-servers", "10.77.0.53 10.77.0.54")]),
            |host, _| has_dns(host, "10.77.0.53 10.77.0.54"),
        ),
        case(
            "search-domains",
            "with a static address",
            static_with(&[("search-domains", "corp.example.com lab.example.com")]),
            |host, _| searches(host, "corp.example.com lab.example.com"),
        ),
        case(
            "search-domains",
            "with DHCP",
            given(&[("search-domains", "corp.example.com,lab.example.com")]),
            |host, _| {
                host.expect_parts(
                    &format!("resolvectl domain {INTERFACE}"),
                    &["corp.example.com", "lab.example.com"],
                )?;
                has_dns(host, "10.77.0.1")
            },
        ),
        // Proxy
        case("http-proxy", "plain", proxy_with(&[]), |host, _| {
            has_proxy(host, "http://10.77.0.1:3128", "http://10.77.0.1:3129", &["vcenter.example.com"])
        }),
        secret(
            &["s3cr3t"],
            case(
                "http-proxy",
                "with user and password",
                proxy_with(&[("http-proxy", "http://robot:s3cr3t%21@10.77.0.1:3128")]),
                |host, _| {
                    let http = "http://robot:s3cr3t%21@10.77.0.1:3128";
                    has_proxy(host, http, "http://10.77.0.1:3129", &["vcenter.example.com"])
                },
            ),
        ),
        secret(
            &["s3cr3t"],
            case(
                "https-proxy",
                "with user and password, a name",
                proxy_with(&[("https-proxy", "http://robot:s3cr3t@proxy.example.com:8080/")]),
                |host, _| {
                    let https = "http://robot:s3cr3t@proxy.example.com:8080";
                    has_proxy(host, "http://10.77.0.1:3128", https, &["vcenter.example.com"])
                },
            ),
        ),
        case(
            "no-proxy",
            "commas and spaces, hosts, domains, subnets",
            proxy_with(&[("no-proxy", "vcenter.example.com, .corp.example.com 10.0.0.0/8;10.77.0.9")]),
            |host, _| {
                let direct = ["vcenter.example.com", ".corp.example.com", "10.0.0.0/8", "10.77.0.9"];
                has_proxy(host, "http://10.77.0.1:3128", "http://10.77.0.1:3129", &direct)
            },
        ),
        case(
            "no-proxy",
            "knows the static subnet and the cluster's",
            [
                static_with(&[("pod-cidr", "10.200.0.0/16"), ("service-cidr", "10.201.0.0/16")]),
                proxy_with(&[]),
            ]
            .concat(),
            |host, _| {
                let direct = ["10.77.0.0/24", "10.200.0.0/16", "10.201.0.0/16"];
                has_proxy(host, "http://10.77.0.1:3128", "http://10.77.0.1:3129", &direct)
            },
        ),
        case("proxy-ca", "PEM", given(&[("proxy-ca", CA)]), trusts_ca),
        case("proxy-ca", "PEM whose newlines became spaces", given(&[("proxy-ca", &spaced_ca)]), trusts_ca),
        case("proxy-ca", "base64", given(&[("proxy-ca", &base64(CA))]), trusts_ca),
        case(
            "proxy-ca",
            "base64 of two",
            given(&[("proxy-ca", &base64(&format!("{CA}{INSPECTED}")))]),
            |host, status| {
                trusts_ca(host, status)?;
                host.expect("ls /usr/local/share/ca-certificates/gatewright-proxy*.crt | wc -l", "2")
            },
        ),
        // Time
        case(
            "ntp-servers",
            "names and addresses",
            given(&[("ntp-servers", "fabric.test, 10.77.0.7")]),
            |host, _| {
                host.expect("test ! -e /etc/chrony/sources.d/default.sources; echo $?", "0")?;
                wait_for("the given time servers", SOON, || {
                    let sources = host.container.exec("chronyc -n -a sources")?.stdout;
                    Ok(["10.77.0.1 ", "10.77.0.7 "]
                        .iter()
                        .all(|server| sources.contains(server))
                        .then_some(()))
                })?;
                let sources = host.container.sh("chronyc -n sources | grep -c '^^'")?;
                ensure!(sources == "2", "chrony has {sources} sources");
                Ok(())
            },
        ),
        // Kubernetes
        case("pod-cidr", "another", given(&[("pod-cidr", "10.200.0.0/16")]), |_, status| {
            is_set(status, "pod-cidr", "10.200.0.0/16")?;
            is_set(status, "service-cidr", "10.96.0.0/12")
        }),
        case("service-cidr", "another", given(&[("service-cidr", "10.201.0.0/16")]), |_, status| {
            is_set(status, "service-cidr", "10.201.0.0/16")?;
            is_set(status, "pod-cidr", "192.168.0.0/16")
        }),
    ]
}

#[test]
fn right_values_take_effect() {
    let test = "matrix::right";
    let Some(image) = prerequisites::image(test, prerequisites::Host::Container) else { return };
    let _timed = Timed::new(test);
    let tree = image.tree().unwrap();
    cases::for_each(
        test,
        cases(),
        |case| format!("{}, {}", case.property, case.name),
        |case| {
            Host::boot(&tree, &case.given)?.examine(|host| {
                let status = host.configured()?;
                ensure!(status.source == "guestinfo", "source: {}", status.source);
                ensure!(status.problems().count() == 0, "{:?}", status.problems().collect::<Vec<_>>());
                for (key, value) in &case.given {
                    let shown = !status.setting(key).is_empty() || value.is_empty();
                    ensure!(shown, "the status does not show {key}");
                }
                (case.check)(host, &status)?;
                host.keeps_secret(case.secrets)?;
                host.is_calm()
            })
        },
    );
}

fn is_named(host: &mut Host, name: &str) -> Result<()> {
    host.expect("hostname; cat /etc/hostname; hostnamectl --static", &format!("{name}\n{name}\n{name}"))?;
    host.expect_parts("grep ^127.0.1.1 /etc/hosts", &[name])?;
    host.expect_parts(&format!("getent ahostsv4 {name}"), &["127.0.1.1"])
}

fn is_set(status: &Status, key: &str, expected: &str) -> Result<()> {
    let found = status.setting(key);
    ensure!(found == expected, "{key} is {found:?}, expected {expected:?}");
    Ok(())
}

fn is_noted(status: &Status, part: &str) -> Result<()> {
    ensure!(status.notes.iter().any(|note| note.contains(part)), "no note has {part:?}: {:?}", status.notes);
    Ok(())
}

pub(crate) fn is_static(host: &mut Host, status: &Status) -> Result<()> {
    host.expect(&format!("ip -4 -o addr show dev {INTERFACE} | awk '{{print $4}}'"), "10.77.0.20/24")?;
    host.expect(
        &format!("ip -4 route show default dev {INTERFACE} | awk '{{print $3, $5}}'"),
        "10.77.0.1 static",
    )?;
    // Online at once; networkd calls it configured when IPv6 has settled, too.
    wait_for("networkd to be content", SOON, || {
        let shown = host.container.sh(&format!("networkctl status {INTERFACE} --no-pager"))?;
        let parts = ["/etc/systemd/network/10-gatewright.network", "routable (configured)"];
        Ok(parts.iter().all(|part| shown.contains(part)).then_some(()))
    })?;
    has_dns(host, "10.77.0.1")?;
    host.expect("getent hosts fabric.test | awk '{print $1}'", "10.77.0.1")?;
    ensure!(
        status.addresses.iter().any(|it| it.interface == INTERFACE && it.address.starts_with("10.77.0.20")),
        "the status knows {:?}",
        status.addresses
    );
    // From outside, too.
    host.login()?.sh("true")?;
    Ok(())
}

pub(crate) fn has_dns(host: &mut Host, servers: &str) -> Result<()> {
    host.expect(&format!("resolvectl dns {INTERFACE} | sed 's/.*: //'"), servers)
}

fn searches(host: &mut Host, domains: &str) -> Result<()> {
    host.expect(&format!("resolvectl domain {INTERFACE} | sed 's/.*: //'"), domains)?;
    host.expect("sed -n 's/^search //p' /etc/resolv.conf", domains)
}

/// In what the administrator's session, units, apt and containerd see.
fn has_proxy(host: &mut Host, http: &str, https: &str, direct: &[&str]) -> Result<()> {
    let session = host.login()?.sh("env")?;
    let unit = host.container.sh("systemd-run --quiet --wait --pipe env")?;
    let containerd = host.container.read("/etc/systemd/system/containerd.service.d/http-proxy.conf")?;
    let containerd = containerd.replace("%%", "%");
    for (place, text) in [("session", &session), ("unit", &unit), ("drop-in of containerd", &containerd)] {
        for expected in [
            format!("http_proxy={http}"),
            format!("HTTP_PROXY={http}"),
            format!("https_proxy={https}"),
            format!("HTTPS_PROXY={https}"),
        ] {
            ensure!(text.contains(&expected), "the {place} has no {expected}: {text}");
        }
        for name in ["no_proxy=", "NO_PROXY="] {
            let (_, list) =
                text.split_once(name).ok_or_else(|| anyhow::anyhow!("the {place} has no {name}: {text}"))?;
            let list: Vec<&str> = list.split(['\n', '"']).next().unwrap_or_default().split(',').collect();
            let always = ["localhost", "127.0.0.1", "169.254.169.254", ".svc", ".cluster.local"];
            for entry in direct.iter().chain(&always) {
                ensure!(list.contains(entry), "{name} of the {place} lacks {entry}: {list:?}");
            }
        }
    }
    host.expect("apt-config shell it Acquire::http::Proxy", &format!("it='{http}'"))?;
    host.expect("apt-config shell it Acquire::https::Proxy", &format!("it='{https}'"))
}

fn trusts_ca(host: &mut Host, _: &Status) -> Result<()> {
    let script = format!(
        "cat > /tmp/inspected.pem <<'END'\n{INSPECTED}END\nopenssl verify -CApath /etc/ssl/certs /tmp/inspected.pem"
    );
    host.expect(&script, "/tmp/inspected.pem: OK")?;
    // In the bundle as well, which Go and Python read.
    host.expect(
        "openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt /tmp/inspected.pem",
        "/tmp/inspected.pem: OK",
    )
}
