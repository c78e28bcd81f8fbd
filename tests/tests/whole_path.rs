//! From the console's page to a machine that is paired and configured: a person's path, with the disk that ships, through a
//! proxy with a login.
//!
//! ```text
//! Chromium ── console ── fabric ── squid ── QEMU: the OVA's disk, with code and proxy in its OVF environment
//! ```

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use gatewright_tests::bench::BOOT_TIMEOUT;
use gatewright_tests::browser::{self, Browser, View};
use gatewright_tests::console::{Console, PASSWORD, Setup};
use gatewright_tests::fabric::{Fabric, Network};
use gatewright_tests::figures::{Timed, record, say};
use gatewright_tests::image::Image;
use gatewright_tests::ovfenv::Environment;
use gatewright_tests::prerequisites::{self, Host};
use gatewright_tests::process::wait_for;
use gatewright_tests::proxy::{Kind as ProxyKind, LOGIN, PROGRAMS, Proxy};
use gatewright_tests::qemu::{Boot, Cache, Machine, choose_accelerator};
use gatewright_tests::run::{Kind, Run, slot};
use gatewright_tests::ssh::Key;
use gatewright_tests::status::Status;
use serde_json::json;

const DESK: View = View { width: 1280, dark: false };
/// What pairing may take, in seconds, on any machine. From power-on to there, which is the machine's own speed, `make bench`
/// looks at.
const PAIRING: f64 = 3.0;

#[test]
fn from_the_page_to_a_configured_machine() {
    let test = "whole_path";
    let Some(image) = prerequisites::image(test, Host::Machine) else { return };
    let needed = browser::check().and_then(|()| prerequisites::programs(PROGRAMS));
    let Some(()) = prerequisites::needed(test, needed) else { return };
    let _timed = Timed::new(test);
    let _slot = slot(Kind::Machine).unwrap();
    let fabric = Fabric::new().unwrap();
    let network = Arc::new(fabric.network(0).unwrap());
    let setup = Setup::default().listen(SocketAddr::from(([0, 0, 0, 0], 8443))).inside(&fabric);
    let urls = [format!("https://{}:8443", network.address(1)), "https://127.0.0.1:8443".into()];
    let setup = urls.into_iter().fold(setup, |setup, url| setup.argument("--url").argument(url));
    let console = setup.start().unwrap();
    // The browser's network is the fabric's, and so all that is said to it.
    console.enter(|| walk(&image, &network, &console)).unwrap().unwrap();
}

fn walk(image: &Image, network: &Arc<Network>, console: &Console) -> Result<()> {
    let browser = Browser::start(&console.said().url, &console.folder().join("server.pem"))?;
    let result = path(image, network, console, &browser);
    if result.is_err() {
        let _ = browser.picture(DESK, &screenshots().join("whole-path-failed.png"));
    }
    result
}

fn path(image: &Image, network: &Arc<Network>, console: &Console, browser: &Browser) -> Result<()> {
    browser.open("/login")?;
    browser.fill("[name=name]", "admin")?;
    browser.fill("[name=password]", PASSWORD)?;
    browser.click("main form .primary")?;
    browser.wait("location.pathname === '/'")?;
    browser.click("a[href='/gateways/new'].primary")?;
    browser.fill("[name='/name']", "edge-01")?;
    browser.click("main form .primary")?;
    browser.wait("document.querySelector('#code')")?;
    let code = browser.text("#code")?;
    let page = browser.path()?;
    browser.picture(DESK, &screenshots().join("whole-path-code.png"))?;

    let accelerator = choose_accelerator(&*Run::current()?, &image.tree()?.kernel()?)?;
    let key = Key::generate()?;
    let proxy = Proxy::start(network, 9, ProxyKind::WithLogin)?;
    let way = proxy.url_with(LOGIN.0, LOGIN.1);
    let mut machine = Machine::new(image.disk()?.path(), network, Boot::Firmware, Cache::Unsafe)?;
    let environment = Environment::new(&[
        ("gateway-name", "edge-01"),
        ("console-endpoint", &console.said().url),
        ("pairing-code", &code),
        ("ssh-public-key", &key.public()),
        ("http-proxy", &way),
        ("https-proxy", &way),
        ("no-proxy", "none.example.com"),
    ]);
    machine.set_environment(Some(&environment.xml()))?;
    machine.start()?;
    // The page says by itself that the machine is there.
    wait_for("machine on the page", BOOT_TIMEOUT, || Ok(browser.has("#h-facts")?.then_some(())))
        .with_context(|| machine.evidence())?;
    let seconds = machine.uptime().as_secs_f64();
    let address = machine.wait_lease(BOOT_TIMEOUT)?;
    browser.wait(&format!("document.querySelector('main').innerText.includes('{address}')"))?;
    browser.picture(DESK, &screenshots().join("whole-path-paired.png"))?;

    let session = machine.login(address, &key, BOOT_TIMEOUT)?;
    let status = || -> Result<Status> {
        let said = session.sh("gatewright-firstboot status --json")?;
        serde_json::from_str(&said).with_context(|| format!("`status --json` said {said}"))
    };
    let paired = status()?;
    ensure!(paired.state == "paired", "{paired:?}");
    ensure!(proxy.log().contains("CONNECT"), "nothing went through the proxy: {}", proxy.log());
    let id = page.trim_start_matches("/gateways/");
    let events = console.api()?.get(&format!("/v1/gateways/{id}/events"))?.expect(200)?;
    let events = events["items"].as_array().context("there are no events")?;
    let pairing = events
        .iter()
        .find(|event| event["reason"] == "Paired" && event["source"] == "firstboot")
        .context("no event tells of pairing")?;
    let pairing = pairing["message"].as_str().unwrap_or_default();
    let pairing: f64 = pairing.split_whitespace().rev().nth(1).unwrap_or_default().parse()?;
    let accelerator = accelerator.name();
    say(&format!(
        "  power-on to paired, on the page: {seconds:.1} s ({accelerator}), of it pairing {pairing} s"
    ));
    record(&json!({ "power_on_to_paired_seconds": seconds, "pairing_seconds": pairing }));
    ensure!(pairing <= PAIRING, "pairing took {pairing} s, and {PAIRING} s are promised");

    browser.open(&format!("{page}/configuration"))?;
    for (field, value) in [
        ("/vcenter/server", "vcenter.example.com"),
        ("/vcenter/username", "gateway@vsphere.local"),
        ("/vcenter/password", "Secret-1"),
        ("/placement/datacenter", "DC1"),
        ("/placement/folder", "gateways"),
        ("/placement/cluster", "Cluster1"),
        ("/placement/resource_pool", "gateways"),
        ("/placement/datastore", "vsan"),
        ("/placement/network", "VM Network"),
    ] {
        browser.fill(&format!("[name='{field}']"), value)?;
    }
    browser.picture(DESK, &screenshots().join("whole-path-configuration.png"))?;
    browser.click("main form .primary")?;
    browser.wait(&format!("location.pathname === '{page}'"))?;
    wait_for("configuration on the machine", BOOT_TIMEOUT, || {
        Ok(status()?.step("gateway").is_some_and(|step| step.state == "done").then_some(()))
    })?;
    browser.picture(DESK, &screenshots().join("whole-path-configured.png"))
}

fn screenshots() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("."));
    target.join("screenshots")
}
