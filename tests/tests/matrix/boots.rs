//! Second boots, changed minds, and what breaks on the way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::cases;
use gatewright_tests::figures::Timed;
use gatewright_tests::host::{Host, SOON};
use gatewright_tests::prerequisites;

use crate::right::is_static;
use crate::values::{CODE, given, proxy_with, static_with};

/// Where the daemon keeps what it read and did.
const STATE: &str = "var/lib/gatewright/firstboot";

struct Case {
    name: &'static str,
    run: fn(&mut Host) -> Result<()>,
}

#[test]
fn boots_and_breakages() {
    let test = "matrix::boots";
    let Some(image) = prerequisites::image(test, prerequisites::Host::Container) else { return };
    let _timed = Timed::new(test);
    let tree = image.tree().unwrap();
    let cases = vec![
        Case { name: "a second boot without an environment keeps everything", run: second_boot },
        Case {
            name: "an environment that changed wins, one that did not leaves `set` alone",
            run: changed_environment,
        },
        Case { name: "values are cleared, and their files go", run: cleared },
        Case { name: "a step that fails is told and tried again", run: retry },
        Case { name: "a cable that is out is told, and used when it is in", run: cable },
        Case { name: "no DHCP server: told, and a static address helps", run: no_dhcp },
        Case { name: "a damaged settings.json with the environment there", run: damaged_settings },
        Case { name: "a damaged settings.json without one", run: damaged_settings_alone },
        Case { name: "a damaged journal.json", run: damaged_journal },
        Case { name: "the daemon is killed and comes back", run: killed },
    ];
    cases::for_each(test, cases, |case| case.name.to_owned(), |case| Host::new(&tree)?.examine(case.run));
}

/// Values for most steps.
fn full(host: &Host) -> String {
    let values = [
        static_with(&[("search-domains", "corp.example.com")]),
        proxy_with(&[]),
        given(&[("gateway-name", "edge-01"), ("pairing-code", CODE), ("ntp-servers", "10.77.0.1")]),
    ];
    host.environment(&values.concat()).xml()
}

fn first_boot(host: &mut Host) -> Result<()> {
    host.container.set_environment(Some(&full(host)))?;
    host.container.start()?;
    host.configured().map(drop)
}

fn second_boot(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.container.power_off(SOON)?;
    host.container.set_environment(None)?;
    host.container.start()?;
    let status = host.configured()?;
    ensure!(status.source == "kept", "source: {}", status.source);
    ensure!(status.setting("pairing-code") == "(set)", "the pairing code is gone");
    is_static(host, &status)?;
    host.expect("hostname", "edge-01")?;
    let session = host.login()?.sh("env")?;
    ensure!(session.contains("http_proxy=http://10.77.0.1:3128"), "the session has no proxy: {session}");
    host.expect_parts("cat /etc/chrony/sources.d/gatewright.sources", &["10.77.0.1"])?;
    host.is_calm()
}

fn changed_environment(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.set(&given(&[("gateway-name", "by-hand"), ("ntp-servers", "10.77.0.9")]))?;
    host.configured()?;
    host.expect("hostname", "by-hand")?;
    host.container.power_off(SOON)?;

    // Power-on builds the same document again: nobody changed a mind.
    host.container.start()?;
    let status = host.configured()?;
    ensure!(
        status.setting("gateway-name") == "by-hand",
        "the name set by hand is gone: {:?}",
        status.settings
    );
    host.container.power_off(SOON)?;

    // Somebody edits the properties in vSphere.
    host.container.set_environment(Some(&full(host).replace("edge-01", "edge-02")))?;
    host.container.start()?;
    let status = host.configured()?;
    ensure!(
        status.setting("gateway-name") == "edge-02",
        "the changed name did not win: {:?}",
        status.settings
    );
    ensure!(
        status.setting("ntp-servers") == "10.77.0.9",
        "what did not change was lost: {:?}",
        status.settings
    );
    host.expect("hostname", "edge-02")?;
    host.is_calm()
}

fn cleared(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.set(&given(&[
        ("ip-address", ""),
        ("ip-prefix", ""),
        ("ip-gateway", ""),
        ("dns-servers", ""),
        ("search-domains", ""),
        ("http-proxy", ""),
        ("https-proxy", ""),
        ("no-proxy", ""),
        ("ntp-servers", ""),
    ]))?;
    host.configured()?;
    let address = gatewright_tests::process::wait_for("address from DHCP", SOON, || {
        Ok(host.network.lease(host.container.mac()))
    })?;
    ensure!(host.container.wait_address(SOON)? == address, "the static address is still there");
    for file in [
        "/etc/systemd/network/10-gatewright.network",
        "/etc/apt/apt.conf.d/90gatewright-proxy",
        "/etc/systemd/system.conf.d/10-gatewright-proxy.conf",
        "/etc/systemd/system/containerd.service.d/http-proxy.conf",
        "/etc/chrony/sources.d/gatewright.sources",
    ] {
        host.expect(&format!("test ! -e {file}; echo $?"), "0")
            .with_context(|| format!("{file} is still there"))?;
    }
    host.expect("grep -ci proxy /etc/environment; true", "0")?;
    host.expect("test -e /etc/chrony/sources.d/default.sources; echo $?", "0")?;
    host.is_calm()
}

fn retry(host: &mut Host) -> Result<()> {
    host.container.put(
        "usr/sbin/update-ca-certificates",
        "#!/bin/sh\n[ -e /root/mended ] && exit 0\necho 'no space left on device' >&2\nexit 28\n",
        0o755,
    )?;
    let values = given(&[("proxy-ca", crate::values::CA), ("gateway-name", "edge-01")]);
    host.container.set_environment(Some(&host.environment(&values).xml()))?;
    host.container.start()?;
    let status = host.container.wait_state("retrying", SOON)?;
    let step = status.step("ca").context("there is no step `ca`")?;
    ensure!(step.state == "failed", "{step:?}");
    let told = format!("{:?}", step.message) + &format!("{:?}", step.problems);
    ensure!(told.contains("no space left"), "what the command said is not told: {told}");
    // The other steps are not held up.
    host.container.wait_status("the other steps done", SOON, |status| {
        status.machine_steps().all(|step| step.name == "ca" || step.state == "done")
    })?;
    let screen = host.container.screen()?;
    ensure!(screen.contains("retry"), "the screen does not say what to do:\n{screen}");
    host.login()?;
    // It tries again by itself, and not at once.
    let first = step.attempts;
    std::thread::sleep(Duration::from_secs(1));
    let attempts = host.container.status()?.and_then(|status| Some(status.step("ca")?.attempts)).unwrap_or(0);
    ensure!(attempts <= first + 3, "tried {attempts} times");

    host.container.sh("touch /root/mended; gatewright-firstboot retry")?;
    host.configured()?;
    host.is_calm()
}

fn cable(host: &mut Host) -> Result<()> {
    host.container.set_environment(Some(&host.environment(&given(&[("gateway-name", "edge-01")])).xml()))?;
    host.container.start()?;
    host.container.port().context("it is off")?.set_plugged(false)?;
    let status = host.container.wait_status("network not done, all else done", SOON, |status| {
        status.machine_steps().all(|step| (step.name == "network") != (step.state == "done"))
    })?;
    ensure!(status.state != "configured", "configured without a cable");
    let screen = host.container.screen()?;
    ensure!(screen.contains("network"), "the screen does not say what is wrong:\n{screen}");
    host.container.port().context("it is off")?.set_plugged(true)?;
    host.configured()?;
    host.login()?;
    host.is_calm()
}

fn no_dhcp(host: &mut Host) -> Result<()> {
    host.network.set_dhcp(false)?;
    host.container.set_environment(Some(&host.environment(&[]).xml()))?;
    host.container.start()?;
    host.container.wait_status("network not done, all else done", SOON, |status| {
        status.machine_steps().all(|step| (step.name == "network") != (step.state == "done"))
    })?;
    let screen = host.container.screen()?;
    ensure!(
        screen.contains("DHCP") && screen.contains("static address"),
        "the screen does not say what to do:\n{screen}"
    );
    host.set(&static_with(&[]))?;
    let status = host.configured()?;
    host.network.set_dhcp(true)?;
    is_static(host, &status)?;
    host.is_calm()
}

fn damaged_settings(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.container.power_cut();
    host.container.put(&format!("{STATE}/settings.json"), "{\"half", 0o600)?;
    host.container.start()?;
    let status = host.configured()?;
    is_static(host, &status)?;
    host.is_calm()
}

fn damaged_settings_alone(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.container.power_cut();
    host.container.put(&format!("{STATE}/settings.json"), "", 0o600)?;
    host.container.set_environment(None)?;
    host.container.start()?;
    // What it knew is lost; it says so or asks for it, and can be told again.
    host.container.wait_status("a settled state", SOON, |status| status.state != "configuring")?;
    host.banner()?;
    let key = ("ssh-public-key", host.key.public());
    host.set(&[vec![key], given(&[("gateway-name", "again")]), static_with(&[])].concat())?;
    let status = host.configured()?;
    is_static(host, &status)?;
    host.expect("hostname", "again")?;
    host.is_calm()
}

fn damaged_journal(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.container.power_cut();
    host.container.put(&format!("{STATE}/journal.json"), "\0\0\0\0", 0o600)?;
    host.container.start()?;
    let status = host.configured()?;
    is_static(host, &status)?;
    host.is_calm()
}

fn killed(host: &mut Host) -> Result<()> {
    first_boot(host)?;
    host.container.sh("systemctl kill --signal=KILL gatewright-firstboot")?;
    gatewright_tests::process::wait_for("the daemon again", SOON, || {
        let shown = host
            .container
            .sh("systemctl show --value -p NRestarts -p SubState gatewright-firstboot | xargs")?;
        Ok((shown == "1 running").then_some(()))
    })?;
    let status = host.configured()?;
    is_static(host, &status)
}
