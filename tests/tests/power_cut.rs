//! Power cuts at random moments of first boot: each machine goes on where it was, and gets all of it right.
//!
//! `GATEWRIGHT_POWER_CUTS` says how many (50), `GATEWRIGHT_SEED` repeats those of an earlier run.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::cases;
use gatewright_tests::container::INTERFACE;
use gatewright_tests::figures::{Timed, say};
use gatewright_tests::host::{Given, Host};
use gatewright_tests::prerequisites;
use gatewright_tests::seed::Random;

const CA: &str = include_str!("../fixtures/proxy-ca.pem");

#[test]
fn power_cuts_at_random_moments() {
    let test = "power_cut::container";
    let Some(image) = prerequisites::image(test, prerequisites::Host::Container) else { return };
    let _timed = Timed::new(test);
    let tree = image.tree().unwrap();
    let count: usize =
        std::env::var("GATEWRIGHT_POWER_CUTS").ok().and_then(|count| count.parse().ok()).unwrap_or(50);

    // How long first boot takes here says where its moments are. Several run at once below, so it will take longer.
    let whole = Host::boot(&tree, &values())
        .unwrap()
        .examine(|host| {
            host.configured()?;
            let whole = host.container.uptime();
            is_right(host)?;
            Ok(whole)
        })
        .unwrap();
    let (mut random, seed) = Random::from_environment();
    let latest = whole * 2;
    say(&format!(
        "  {test}: first boot takes {:.1} s, cuts come up to {:.1} s, GATEWRIGHT_SEED={seed}",
        whole.as_secs_f64(),
        latest.as_secs_f64()
    ));
    let moments = (0..count).map(|_| random.between(Duration::from_millis(50), latest)).collect();
    cases::for_each(
        test,
        moments,
        |moment: &Duration| format!("cut after {:.3} s", moment.as_secs_f64()),
        |moment| {
            Host::boot(&tree, &values())?.examine(|host| {
                std::thread::sleep(moment.saturating_sub(host.container.uptime()));
                host.container.power_cut();
                host.container.start()?;
                host.configured()?;
                is_right(host)
            })
        },
    );
}

/// Something for every step.
fn values() -> Vec<Given> {
    [
        ("gateway-name", "edge-01"),
        ("console-endpoint", "https://console.example.com"),
        ("pairing-code", "4821 7739 0515"),
        ("ip-address", "10.77.0.20"),
        ("ip-prefix", "24"),
        ("ip-gateway", "10.77.0.1"),
        ("dns-servers", "10.77.0.1"),
        ("search-domains", "corp.example.com"),
        ("http-proxy", "http://10.77.0.1:3128"),
        ("https-proxy", "http://10.77.0.1:3128"),
        ("no-proxy", "vcenter.example.com"),
        ("proxy-ca", CA),
        ("ntp-servers", "10.77.0.1"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into()
}

/// All that first boot writes, whole, and nothing half-written beside it.
fn is_right(host: &mut Host) -> Result<()> {
    let status = host.container.status()?.context("there is no status")?;
    ensure!(status.missing.is_empty(), "missing: {:?}", status.missing);
    host.expect("hostname; cat /etc/hostname", "edge-01\nedge-01")?;
    host.expect(&format!("ip -4 -o addr show dev {INTERFACE} | awk '{{print $4}}'"), "10.77.0.20/24")?;
    host.expect_parts("cat /etc/hosts", &["127.0.1.1", "edge-01"])?;
    host.expect_parts("cat /etc/apt/apt.conf.d/90gatewright-proxy", &["http://10.77.0.1:3128"])?;
    host.expect("grep -c '^http_proxy=' /etc/environment", "1")?;
    host.expect("cat /etc/chrony/sources.d/*.sources | grep -v '^#' | awk '{print $2}'", "10.77.0.1")?;
    host.expect(
        "openssl verify -CApath /etc/ssl/certs /usr/local/share/ca-certificates/gatewright-proxy*.crt | sed 's/.*: //'",
        "OK",
    )?;
    host.expect(
        "openssl crl2pkcs7 -nocrl -certfile /etc/ssl/certs/ca-certificates.crt >/dev/null; echo $?",
        "0",
    )?;
    let leftovers = "find /etc /var/lib/gatewright /home/ubuntu /usr/local/share -xdev \
                     \\( -name '.tmp*' -o -name '*.tmp' -o -name '*.new' -o -name '.*.gatewright*' \\) -newer /etc/os-release";
    host.expect(leftovers, "")?;
    // Keys that sshd takes, and the administrator's way in.
    host.expect(
        "for key in /etc/ssh/ssh_host_*_key; do ssh-keygen -y -P '' -f $key >/dev/null || echo $key; done",
        "",
    )?;
    host.expect("sshd -t 2>&1", "")?;
    host.login()?.sh("sudo -n true")?;
    host.is_calm()
}
