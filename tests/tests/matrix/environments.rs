//! OVF environments in every form, and none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::cases;
use gatewright_tests::figures::Timed;
use gatewright_tests::host::{Given, Host, SOON};
use gatewright_tests::ovfenv::Style;
use gatewright_tests::prerequisites;
use gatewright_tests::status::Status;

use crate::right::has_dns;
use crate::values::given;

struct Case {
    name: &'static str,
    /// `None`: no document at all.
    document: fn(&Host) -> Option<String>,
    check: fn(&mut Host) -> Result<()>,
}

#[test]
fn environments_in_every_form() {
    let test = "matrix::environments";
    let Some(image) = prerequisites::image(test, prerequisites::Host::Container) else { return };
    let _timed = Timed::new(test);
    let tree = image.tree().unwrap();
    let cases = vec![
        Case { name: "none: DHCP", document: |_| None, check: is_default },
        Case { name: "without properties", document: |_| Some(bare()), check: is_default },
        Case { name: "all null", document: |host| Some(all(host, "null")), check: is_default },
        Case { name: "all blank", document: |host| Some(all(host, " ")), check: is_default },
        Case { name: "all empty", document: |host| Some(all(host, "")), check: is_default },
        Case { name: "vCenter's", document: |host| Some(named(host, Style::VCenter)), check: is_named },
        Case {
            name: "vCloud Director's",
            document: |host| Some(named(host, Style::CloudDirector)),
            check: is_named,
        },
        Case { name: "with odd prefixes", document: |host| Some(named(host, Style::Odd)), check: is_named },
        Case {
            name: "with a neighbour's values",
            document: |host| Some(named(host, Style::VApp)),
            check: is_named,
        },
        Case {
            name: "with values of somebody else's",
            document: |host| {
                let strange =
                    given(&[("gateway-name", "edge-01"), ("acme.debug", "True"), ("acme.level", "null")]);
                Some(host.environment(&strange).xml())
            },
            check: is_named,
        },
        Case { name: "cut off", document: |host| Some(cut(host)), check: is_unreadable },
        Case { name: "no XML", document: |_| Some("gateway-name=edge-01\n".into()), check: is_unreadable },
    ];
    cases::for_each(
        test,
        cases,
        |case| case.name.to_owned(),
        |case| {
            let mut host = Host::new(&tree)?;
            host.container.set_environment((case.document)(&host).as_deref())?;
            host.container.start()?;
            host.examine(|host| {
                (case.check)(host)?;
                host.is_calm()
            })
        },
    );
}

fn bare() -> String {
    "<?xml version=\"1.0\"?><Environment xmlns=\"http://schemas.dmtf.org/ovf/environment/1\"><PlatformSection/></Environment>".into()
}

/// Every property, also the administrator's key, with the same value.
fn all(host: &Host, value: &str) -> String {
    let keys = crate::documented_keys();
    keys.iter().fold(host.environment(&[]), |environment, key| environment.with(key, value)).xml()
}

fn named(host: &Host, style: Style) -> String {
    host.environment(&given(&[("gateway-name", "edge-01")])).style(style).xml()
}

fn cut(host: &Host) -> String {
    let xml = named(host, Style::VCenter);
    xml[..xml.len() * 2 / 3].to_owned()
}

fn is_default(host: &mut Host) -> Result<()> {
    let status = host.configured()?;
    for key in ["gateway-name", "console-endpoint", "pairing-code"] {
        ensure!(
            status.missing.iter().any(|missing| missing == key),
            "{key} is not missing: {:?}",
            status.missing
        );
    }
    host.container.wait_screen("says what is missing", SOON, |screen| screen.contains("pairing-code"))?;
    for key in ["ip-address", "http-proxy", "ntp-servers", "ssh-public-key"] {
        ensure!(status.setting(key).is_empty(), "{key} is {:?}", status.setting(key));
    }
    let address = host.container.wait_address(SOON)?;
    ensure!(address.octets()[3] >= 100, "{address} is not of the DHCP server's");
    ensure!(host.network.lease(host.container.mac()) == Some(address), "{address} is not what DHCP gave");
    has_dns(host, "10.77.0.1")?;
    host.expect("test -e /etc/chrony/sources.d/default.sources; echo $?", "0")?;
    host.banner()?;
    // What the file says, the command says, to everybody.
    let file: serde_json::Value =
        serde_json::from_str(&host.container.read(gatewright_tests::status::PATH)?)?;
    let said =
        host.container.sh("setpriv --reuid=ubuntu --clear-groups gatewright-firstboot status --json")?;
    let said: serde_json::Value =
        serde_json::from_str(&said).with_context(|| format!("`status --json` said {said}"))?;
    ensure!(file == said, "`status --json` said {said}, the file {file}");
    host.expect_parts("gatewright-firstboot status", &["configured", "gateway-name"])
}

fn is_named(host: &mut Host) -> Result<()> {
    let status = host.configured()?;
    ensure!(status.setting("gateway-name") == "edge-01", "the name is {:?}", status.setting("gateway-name"));
    host.expect("hostname", "edge-01")?;
    host.login()?.sh("sudo -n true")?;
    Ok(())
}

/// It cannot be read: said so, reached by DHCP, set by hand.
fn is_unreadable(host: &mut Host) -> Result<()> {
    let settled = |status: &Status| ["needs-input", "retrying"].contains(&status.state.as_str());
    host.container.wait_status("an unreadable environment told", SOON, settled)?;
    host.container.wait_screen("says what is wrong", SOON, |screen| screen.contains("OVF environment"))?;
    host.banner()?;
    std::thread::sleep(Duration::from_secs(1));
    host.is_calm()?;
    let key: Given = ("ssh-public-key", host.key.public());
    host.container.exec("true")?;
    let output = host.try_set(&[("gateway-name", "edge-01".into()), key])?;
    ensure!(output.code != 2, "`set` failed: {output:?}");
    host.container
        .wait_status("the name set by hand", SOON, |status| status.setting("gateway-name") == "edge-01")?;
    host.login()?.sh("sudo -n true")?;
    host.expect("hostname", "edge-01")
}
