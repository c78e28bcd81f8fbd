//! Wrong values: a readable screen, a machine that can be reached, no loop, and `set` repairs it without a reboot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::cases;
use gatewright_tests::figures::Timed;
use gatewright_tests::host::{Given, Host, SOON};
use gatewright_tests::prerequisites;
use gatewright_tests::status::Status;

use crate::values::{CA, CODE, base64, given, proxy_with, static_with};

pub(crate) struct Case {
    /// The property that must be blamed.
    pub(crate) property: &'static str,
    given: Vec<Given>,
    /// What puts it right.
    repair: Vec<Given>,
    /// What nobody may read, although it is wrong.
    secrets: &'static [&'static str],
}

fn case(property: &'static str, given: Vec<Given>, right: &str) -> Case {
    Case { property, given, repair: vec![(property, right.to_owned())], secrets: &[] }
}

/// Of a property that stands alone.
fn alone(property: &'static str, wrong: &str, right: &str) -> Case {
    case(property, given(&[(property, wrong)]), right)
}

/// Of a static address.
fn network(property: &'static str, changes: &[(&'static str, &str)], right: &str) -> Case {
    case(property, static_with(changes), right)
}

/// Of a proxy.
fn proxy(property: &'static str, wrong: &str) -> Case {
    let right = if property == "no-proxy" { "vcenter.example.com" } else { "http://10.77.0.1:3128" };
    case(property, proxy_with(&[(property, wrong)]), right)
}

fn secret(secrets: &'static [&'static str], case: Case) -> Case {
    Case { secrets, ..case }
}

pub(crate) fn cases() -> Vec<Case> {
    let endpoint = "https://console.example.com";
    let long = "x".repeat(64);
    let cut_ca = &CA[..CA.len() / 2];
    vec![
        // Gateway
        alone("gateway-name", "edge_01!", "edge-01"),
        alone("gateway-name", "edge-01.example.com", "edge-01"),
        alone("gateway-name", "-edge", "edge-01"),
        alone("gateway-name", &long, "edge-01"),
        alone("console-endpoint", "http://console.example.com", endpoint),
        alone("console-endpoint", "https://console.example.com/api/v1", endpoint),
        alone("console-endpoint", "https://console.example.com?tenant=1", endpoint),
        alone("console-endpoint", "https://https://console.example.com", endpoint),
        secret(&["hunter2"], alone("console-endpoint", "https://me:hunter2@console.example.com", endpoint)),
        secret(&["7739 051O"], alone("pairing-code", "4821 7739 051O", CODE)),
        secret(&["48217739051"], alone("pairing-code", "48217739051", CODE)),
        secret(&["482177390516"], alone("pairing-code", "482177390516", CODE)),
        alone("ssh-public-key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5", "(the administrator's)"),
        secret(
            &["b3BlbnNzaC1rZXktdjEAAAAABG5vbmU"],
            alone(
                "ssh-public-key",
                "-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNzaC1rZXktdjEAAAAABG5vbmU= -----END OPENSSH PRIVATE KEY-----",
                "(the administrator's)",
            ),
        ),
        // Network
        network("ip-address", &[("ip-address", "10.77.0.300")], "10.77.0.20"),
        network("ip-address", &[("ip-address", "10.77.0.255")], "10.77.0.20"),
        network("ip-address", &[("ip-address", "")], "10.77.0.20"),
        network("ip-prefix", &[("ip-prefix", "33")], "24"),
        network("ip-prefix", &[("ip-prefix", "0")], "24"),
        network("ip-prefix", &[("ip-prefix", "")], "24"),
        network("ip-gateway", &[("ip-gateway", "10.78.0.1")], "10.77.0.1"),
        network("ip-gateway", &[("ip-gateway", "10.77.0.20")], "10.77.0.1"),
        network("ip-gateway", &[("ip-gateway", "10.77.0.0")], "10.77.0.1"),
        network("ip-gateway", &[("ip-gateway", "null")], "10.77.0.1"),
        network("dns-servers", &[("dns-servers", "")], "10.77.0.1"),
        network("dns-servers", &[("dns-servers", "10.77.0.1, dns.example.com")], "10.77.0.1"),
        alone("dns-servers", "10.77.0.1.1", "10.77.0.1"),
        alone("search-domains", "corp.example.com, lab_example!", "corp.example.com"),
        // Proxy
        proxy("http-proxy", ""),
        proxy("http-proxy", "socks5://10.77.0.1:1080"),
        proxy("http-proxy", "http://10.77.0.1:99999"),
        secret(&["hunter2"], proxy("http-proxy", "http://me:hunter2@:3128")),
        proxy("https-proxy", " "),
        proxy("https-proxy", "http://10.77.0.1:3128/path"),
        secret(&["hunter2"], proxy("https-proxy", "ftp://me:hunter2@10.77.0.1:3128")),
        proxy("no-proxy", "null"),
        proxy("no-proxy", "http://vcenter.example.com"),
        proxy("no-proxy", "10.0.0.0/40"),
        // One of three: the two others are asked for.
        Case {
            property: "https-proxy",
            given: given(&[("http-proxy", "http://10.77.0.1:3128")]),
            repair: given(&[("https-proxy", "http://10.77.0.1:3128"), ("no-proxy", "localhost")]),
            secrets: &[],
        },
        // ... or it is given up.
        Case {
            property: "http-proxy",
            given: given(&[("no-proxy", "vcenter.example.com")]),
            repair: given(&[("no-proxy", "")]),
            secrets: &[],
        },
        alone("proxy-ca", "the CA of our proxy", CA),
        alone("proxy-ca", cut_ca, CA),
        alone("proxy-ca", &base64("hello"), &base64(CA)),
        // Time
        alone("ntp-servers", "ntp.example.com, -x-", "10.77.0.1"),
        alone("ntp-servers", "http://ntp.example.com", "10.77.0.1"),
        // Kubernetes
        alone("pod-cidr", "192.168.0.0/33", "192.168.0.0/16"),
        network("pod-cidr", &[("pod-cidr", "10.77.0.0/16")], "192.168.0.0/16"),
        alone("service-cidr", "10.96.0.0", "10.96.0.0/12"),
        alone("service-cidr", "192.168.128.0/17", "10.96.0.0/12"),
    ]
}

#[test]
fn wrong_values_are_told_and_repaired() {
    let test = "matrix::wrong";
    let Some(image) = prerequisites::image(test, prerequisites::Host::Container) else { return };
    let _timed = Timed::new(test);
    let tree = image.tree().unwrap();
    cases::for_each(test, cases(), name, |case| {
        Host::boot(&tree, &case.given)?.examine(|host| try_one(host, case))
    });
}

fn name(case: &Case) -> String {
    let given: Vec<String> = case
        .given
        .iter()
        .map(|(key, value)| {
            format!("{key}={}", value.chars().take(40).collect::<String>().replace('\n', " "))
        })
        .collect();
    format!("{} of {}", case.property, given.join(" "))
}

fn try_one(host: &mut Host, mut case: Case) -> Result<()> {
    for (key, value) in &mut case.repair {
        if *key == "ssh-public-key" {
            *value = host.key.public();
        }
    }
    let settled = |status: &Status| {
        status.state == "needs-input"
            && status.machine_steps().all(|step| step.state == "done" || step.state == "invalid")
    };
    let status = host.container.wait_status("state needs-input and all steps settled", SOON, settled)?;

    // The status blames the property, and says what was given and what is expected.
    let problem = status.problems().find(|problem| problem.property == case.property);
    let problem = problem.with_context(|| {
        format!("{} is not blamed: {:?}", case.property, status.problems().collect::<Vec<_>>())
    })?;
    let given = case.given.iter().find(|(key, value)| *key == case.property && !is_blank(value));
    // Nothing of a secret is told; long values are cut, and of files nobody wants more than the size.
    let quoted =
        !["pairing-code", "http-proxy", "https-proxy", "proxy-ca", "ssh-public-key"].contains(&case.property);
    match (&problem.given, given) {
        (shown, Some((_, value))) if quoted && case.secrets.is_empty() => {
            let begins: String = value.chars().take(40).collect();
            let told = shown.as_ref().is_some_and(|shown| shown.starts_with(begins.trim()));
            ensure!(told, "it does not say what was given: {shown:?}, it was {value:?}");
        }
        (shown, None) => ensure!(shown.is_none(), "nothing was given, it says {shown:?}"),
        _ => {}
    }
    ensure!(!problem.expected.is_empty() && !problem.message.is_empty(), "{problem:?}");
    ensure!(
        problem.hint.contains("gatewright-firstboot set "),
        "the hint does not say what to do: {}",
        problem.hint
    );
    is_readable(&host.container.screen()?, case.property)?;

    // It can be reached, by the administrator where the key is right.
    host.banner()?;
    if case.property != "ssh-public-key" {
        let session = host.login()?;
        let shown = session.sh("gatewright-firstboot status")?;
        ensure!(shown.contains(case.property), "`status` does not show {}: {shown}", case.property);
    }
    host.keeps_secret(case.secrets)?;

    // The same wrong value is not taken a second time.
    if let Some((key, value)) = given {
        let before = host.container.status()?.map(|status| status.settings);
        let output = host.try_set(&[(key, value.clone())])?;
        ensure!(
            output.code == 1,
            "`set` of the wrong value exited with {}: {}{}",
            output.code,
            output.stdout,
            output.stderr
        );
        ensure!(output.stderr.contains("hint:"), "`set` gives no hint: {}", output.stderr);
        ensure!(
            !case.secrets.iter().any(|secret| output.stderr.contains(secret)),
            "`set` shows the secret: {}",
            output.stderr
        );
        ensure!(
            host.container.status()?.map(|status| status.settings) == before,
            "`set` of a wrong value changed settings"
        );
    }

    // It waits, and does not try again and again.
    std::thread::sleep(Duration::from_secs(1));
    let later = host.container.status()?.context("the status is gone")?;
    for (step, then) in status.steps.iter().zip(&later.steps) {
        ensure!(
            then.attempts == step.attempts,
            "{} was tried again: {} and {}",
            step.name,
            step.attempts,
            then.attempts
        );
    }
    host.is_calm()?;

    // What was wrong is put right in place.
    host.set(&case.repair)?;
    let status = host.configured()?;
    ensure!(status.problems().count() == 0, "{:?}", status.problems().collect::<Vec<_>>());
    ensure!(
        !host.container.screen()?.contains("wrong"),
        "the screen still complains:\n{}",
        host.container.screen()?
    );
    host.login()?;
    host.keeps_secret(case.secrets)?;
    host.is_calm()
}

fn is_blank(value: &str) -> bool {
    value.trim().is_empty() || value == "null"
}

/// A text that fits a terminal, names the property and says what to type.
fn is_readable(screen: &str, property: &str) -> Result<()> {
    ensure!(screen.contains(property), "the screen does not name {property}:\n{screen}");
    ensure!(screen.contains("gatewright-firstboot set "), "the screen does not say what to do:\n{screen}");
    ensure!(screen.lines().count() <= 25, "the screen has more than 25 lines:\n{screen}");
    for line in screen.lines() {
        ensure!(line.chars().count() <= 80, "a line of the screen is longer than 80 characters:\n{line}");
        ensure!(
            !line.chars().any(char::is_control),
            "a line of the screen has control characters:\n{line:?}"
        );
    }
    Ok(())
}
