//! The installer and its console: the tree that ships, as system containers, in a network with the real console.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::cases;
use gatewright_tests::console::{Console, Setup};
use gatewright_tests::container::Container;
use gatewright_tests::fabric::{FABRIC_NAME, Fabric, Network};
use gatewright_tests::figures::Timed;
use gatewright_tests::host::{Host, SOON};
use gatewright_tests::https::Client;
use gatewright_tests::image::Tree;
use gatewright_tests::prerequisites;
use gatewright_tests::process::wait_for;
use gatewright_tests::proxy::{Kind, LOGIN, PROGRAMS, Proxy};
use gatewright_tests::status::Status;
use serde_json::{Value, json};

/// A console that installers can reach, and the network between.
struct World {
    console: Console,
    api: Client,
    network: Arc<Network>,
    tree: Arc<Tree>,
}

/// A gateway of the console's that has a code.
struct Gateway {
    id: String,
    code: String,
}

struct Case {
    name: &'static str,
    run: fn(&World, &mut Host) -> Result<()>,
}

#[test]
fn installers_pair_with_their_console() {
    let test = "pairing::installer";
    let Some(image) = prerequisites::image(test, prerequisites::Host::Container) else { return };
    let Some(()) = prerequisites::needed(test, prerequisites::programs(PROGRAMS)) else { return };
    let _timed = Timed::new(test);
    let fabric = Fabric::new().unwrap();
    let network = Arc::new(fabric.network(0).unwrap());
    let setup = Setup::default().listen(SocketAddr::from(([0, 0, 0, 0], 8443))).inside(&fabric);
    let urls = [endpoint(), "https://127.0.0.1:8443".into()];
    let setup = urls.into_iter().fold(setup, |setup, url| setup.argument("--url").argument(url));
    let console = setup.start().unwrap();
    let world = World { api: console.api().unwrap(), console, network, tree: image.tree().unwrap() };
    let cases = vec![
        Case { name: "paired, configured, and again after a reboot", run: whole },
        Case { name: "a wrong code is told, and another one set in place", run: wrong_code },
        Case { name: "a code and an endpoint with slips, before anything is sent", run: slips },
        Case { name: "deleted in the console, and paired anew", run: deleted },
        Case { name: "approved by a person who compares numbers", run: approved },
        Case { name: "through a proxy with a login, and what a wrong one says", run: proxied },
        Case { name: "a console that comes later", run: late },
        Case { name: "the daemon is killed while it is paired", run: killed },
    ];
    cases::for_each(
        test,
        cases,
        |case| case.name.to_owned(),
        |case| Host::on(&world.tree, &world.network)?.examine(|host| (case.run)(&world, host)),
    );
}

fn endpoint() -> String {
    format!("https://{FABRIC_NAME}:8443")
}

impl World {
    fn create(&self, name: &str, approval: bool) -> Result<Gateway> {
        let made =
            self.ask("POST", "/v1/gateways", &json!({ "name": name, "require_approval": approval }))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| made.to_string());
        Ok(Gateway { id: text(&made["id"])?, code: text(&made["pairing"]["code"])? })
    }

    fn new_code(&self, gateway: &Gateway) -> Result<String> {
        let made = self.ask("POST", &format!("/v1/gateways/{}/pairing", gateway.id), &json!({}))?;
        let code = made["code"].as_str().or(made["pairing"]["code"].as_str());
        code.map(str::to_owned).with_context(|| made.to_string())
    }

    fn look(&self, gateway: &Gateway) -> Result<Value> {
        self.ask("GET", &format!("/v1/gateways/{}", gateway.id), &Value::Null)
    }

    /// Waits until the console says so of a gateway.
    fn wait(&self, gateway: &Gateway, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        wait_for(&format!("gateway {what}"), SOON, || {
            last = self.look(gateway)?;
            Ok(wanted(&last).then(|| last.clone()))
        })
        .with_context(|| format!("the console says {last}"))
    }

    /// Gives it a configuration, and waits until it has that.
    fn configure(&self, gateway: &Gateway, host: &mut Host) -> Result<Status> {
        self.ask("PUT", &format!("/v1/gateways/{}/configuration", gateway.id), &configuration())?;
        host.container.wait_status("a configuration", SOON, |status| step(status, "gateway").state == "done")
    }

    /// That the console knows how the machine is, and misses nothing of what it has said.
    fn is_told(&self, gateway: &Gateway) -> Result<()> {
        let path = format!("/v1/gateways/{}/conditions", gateway.id);
        wait_for("both conditions", SOON, || {
            let conditions = self.ask("GET", &path, &Value::Null)?.to_string();
            let both =
                ["HostConfigured", "ConfigurationReceived"].iter().all(|kind| conditions.contains(kind));
            Ok(both.then_some(()))
        })?;
        let events =
            self.ask("GET", &format!("/v1/gateways/{}/events?limit=500", gateway.id), &Value::Null)?;
        ensure!(!events.to_string().contains("EntriesMissing"), "{events}");
        Ok(())
    }

    fn command(&self, gateway: &Gateway, kind: &str) -> Result<Value> {
        let path = format!("/v1/gateways/{}/commands", gateway.id);
        let made = self.ask("POST", &path, &json!({ "kind": kind }))?;
        wait_for(&format!("outcome of {kind}"), SOON, || {
            let all = self.ask("GET", &path, &Value::Null)?;
            let all = all["items"].as_array().with_context(|| all.to_string())?;
            let one = all.iter().find(|one| one["id"] == made["id"]).cloned();
            Ok(one.filter(|one| one["outcome"].is_string()))
        })
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let answer = self.console.enter(|| self.api.json(method, path, body))??;
        ensure!(answer.status.is_success(), "{method} {path}: {} {}", answer.status, answer.text());
        Ok(serde_json::from_slice(&answer.body).unwrap_or(Value::Null))
    }
}

fn boot(host: &mut Host, gateway: &str, code: &str, more: &[(&'static str, String)]) -> Result<()> {
    let mut given = vec![
        ("gateway-name", gateway.to_owned()),
        ("console-endpoint", endpoint()),
        ("pairing-code", code.to_owned()),
    ];
    given.extend_from_slice(more);
    host.container.set_environment(Some(&host.environment(&given).xml()))?;
    host.container.start()
}

fn step<'a>(status: &'a Status, name: &str) -> &'a gatewright_tests::status::Step {
    status.step(name).unwrap_or_else(|| panic!("there is no step {name}: {status:?}"))
}

/// A configuration that is right.
fn configuration() -> Value {
    json!({
        "vcenter": { "server": "vcenter.example.com", "username": "gatewright@vsphere.local", "password": "Secret-1" },
        "placement": {
            "datacenter": "dc1", "folder": "gateways", "image_template_folder": "templates", "cluster": "c1",
            "resource_pool": "rp", "datastore": "ds1", "network": "VM Network"
        },
        "ip_allocation": "static",
        "ip_pools": [{
            "name": "pool-1", "start": "192.0.2.10", "end": "192.0.2.20", "prefix": 24, "gateway": "192.0.2.1",
            "name_servers": ["192.0.2.53"]
        }],
        "size": 1, "node_size": "S"
    })
}

fn whole(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("whole", false)?;
    boot(host, "whole", &gateway.code, &[])?;
    let status = host.container.wait_state("paired", SOON)?;
    ensure!(step(&status, "preflight").state == "done", "{status:?}");
    host.container.wait_screen("says so", SOON, |screen| screen.contains("paired with the console"))?;
    let seen = world.wait(&gateway, "with a heartbeat", |it| it["heartbeat"].is_object())?;
    let address = host.container.wait_address(SOON)?.to_string();
    ensure!(seen["state"] == "pending", "{seen}");
    ensure!(seen["heartbeat"]["addresses"][0] == address.as_str(), "{seen}");
    ensure!(seen["heartbeat"]["metrics"]["memory_total"].as_u64() > Some(0), "{seen}");
    let path = format!("/v1/gateways/{}/conditions", gateway.id);
    wait_for("condition HostConfigured", SOON, || {
        let conditions = world.ask("GET", &path, &Value::Null)?.to_string();
        Ok((conditions.contains("HostConfigured") && conditions.contains("AllStepsDone")).then_some(()))
    })?;

    let kept = world.configure(&gateway, host)?;
    ensure!(kept.state == "paired", "{kept:?}");
    let file = "/var/lib/gatewright/gateway/configuration.json";
    host.expect(&format!("stat -c %a:%U {file}"), "600:root")?;
    let file: Value = serde_json::from_str(&host.container.read(file)?)?;
    ensure!(file["configuration"]["vcenter"]["password"] == "Secret-1", "the password did not arrive");

    // Without its environment, as vSphere gives it after a power-off of its own.
    host.container.power_off(SOON)?;
    host.container.set_environment(None)?;
    host.container.start()?;
    host.container.wait_state("paired", SOON)?;
    let odd = world.command(&gateway, "collect-bundle")?;
    ensure!(odd["outcome"] == "unsupported", "{odd}");
    // Nothing of the secrets is where others can read.
    let journal = host.container.sh("journalctl -b --no-pager -o cat; cat /run/gatewright/status.json")?;
    for secret in ["Secret-1", &gateway.code, &gateway.code.replace(' ', "")] {
        ensure!(!journal.contains(secret), "a secret is in the journal or the status");
    }
    host.is_calm()
}

/// Another code of the same locator whose check digit is right too.
fn mistaken(code: &str) -> String {
    (0..10)
        .flat_map(|first| (0..10).map(move |check| (first, check)))
        .map(|(first, check)| format!("{}{first}{}{check}", &code[..5], &code[6..13]))
        .find(|other| other[..13] != code[..13] && protocol::code::Code::parse(other).is_ok())
        .expect("nine of ten first digits are others, and each has its check digit")
}

fn wrong_code(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("wrong-code", false)?;
    boot(host, "wrong-code", &mistaken(&gateway.code), &[])?;
    let status = host.container.wait_state("needs-input", SOON)?;
    let problem = step(&status, "pair").problems.first().context("no problem is told")?;
    ensure!(problem.property == "pairing-code" && problem.hint.contains("set pairing-code="), "{problem:?}");
    host.container.wait_screen("says what to type", SOON, |screen| screen.contains("set pairing-code="))?;
    let seen = world.look(&gateway)?;
    ensure!(seen["pairing"]["attempts_left"] == 4, "{seen}");
    host.set(&[("pairing-code", gateway.code.clone())])?;
    host.container.wait_state("paired", SOON)?;
    world.wait(&gateway, "paired", |it| it["state"] == "pending")?;
    host.is_calm()
}

fn slips(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("slips", false)?;
    let code = gateway.code.clone();
    let last = if code.ends_with('0') { '1' } else { '0' };
    let slip = format!("{}{last}", &code[..code.len() - 1]);
    boot(host, "slips", &slip, &[("console-endpoint", format!("{}/", endpoint()))])?;
    let status = host.container.wait_state("needs-input", SOON)?;
    let problem = step(&status, "settings").problems.first().context("no problem is told")?;
    ensure!(problem.property == "pairing-code" && problem.message.contains("mistyped"), "{problem:?}");
    ensure!(status.notes.iter().any(|note| note.contains("trailing slash")), "{:?}", status.notes);
    ensure!(world.look(&gateway)?["pairing"]["attempts_left"] == 5, "an attempt was taken off");
    host.set(&[("pairing-code", code)])?;
    host.container.wait_state("paired", SOON).map(drop)
}

fn deleted(world: &World, host: &mut Host) -> Result<()> {
    const KEPT: &str = "ls /var/lib/gatewright/gateway | xargs";
    let gateway = world.create("deleted", false)?;
    boot(host, "deleted", &gateway.code, &[])?;
    host.container.wait_state("paired", SOON)?;
    world.configure(&gateway, host)?;
    host.expect(KEPT, "configuration.json")?;
    world.ask("DELETE", &format!("/v1/gateways/{}", gateway.id), &Value::Null)?;
    let status = host.container.wait_state("needs-input", SOON)?;
    ensure!(step(&status, "pair").problems[0].property == "pairing-code", "{status:?}");
    // It holds the password of a vCenter account, and is nobody's now.
    host.expect(KEPT, "")?;
    let another = world.create("deleted", false)?;
    ensure!(another.id != gateway.id, "it is the same gateway");
    host.set(&[("pairing-code", another.code.clone())])?;
    host.container.wait_state("paired", SOON)?;
    world.wait(&another, "paired", |it| it["state"] == "pending")?;
    world.is_told(&another)?;
    world.configure(&another, host)?;
    // A new code for a machine that is well takes it over in place.
    let code = world.new_code(&another)?;
    host.set(&[("pairing-code", code)])?;
    host.container.wait_state("paired", SOON)?;
    world.wait(&another, "paired again", |it| {
        it["state"] == "pending" && it["pairing"]["state"] != "pending"
    })?;
    world.is_told(&another)?;
    host.expect(KEPT, "configuration.json")?;
    // A code that is none changes nothing but what is said, and none at all is enough.
    host.set(&[("pairing-code", mistaken(&another.code))])?;
    host.container.wait_status("that the code was not taken", SOON, |status| {
        let step = step(status, "pair");
        step.state == "done" && step.message.as_ref().is_some_and(|text| text.contains("was not taken"))
    })?;
    host.set(&[("pairing-code", String::new())])?;
    host.container.wait_status("nothing of a code", SOON, |status| {
        let step = step(status, "pair");
        step.state == "done" && step.message.as_ref().is_some_and(|text| !text.contains("was not taken"))
    })?;
    Ok(())
}

fn approved(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("approved", true)?;
    boot(host, "approved", &gateway.code, &[])?;
    let status = host.container.wait_status("a number to compare", SOON, |status| {
        let step = step(status, "pair");
        step.state == "waiting" && step.message.as_ref().is_some_and(|text| text.contains("number"))
    })?;
    let seen = world.wait(&gateway, "claimed", |it| it["pairing"]["state"] == "claimed")?;
    let number = seen["pairing"]["number"].as_str().with_context(|| seen.to_string())?;
    let told = step(&status, "pair").message.clone().unwrap_or_default();
    ensure!(told.contains(number), "the console shows {number}, the machine: {told}");
    host.container.wait_screen("shows the number", SOON, |screen| screen.contains(number))?;
    world.ask(
        "POST",
        &format!("/v1/gateways/{}/pairing/approve", gateway.id),
        &json!({ "number": number }),
    )?;
    host.container.wait_state("paired", SOON).map(drop)
}

fn proxied(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("proxied", false)?;
    let proxy = Proxy::start(&world.network, 9, Kind::WithLogin)?;
    let values = |url: String| {
        let no_proxy = "none.example.com".to_owned();
        vec![("http-proxy", url.clone()), ("https-proxy", url), ("no-proxy", no_proxy)]
    };
    boot(host, "proxied", &gateway.code, &values(proxy.url_with(LOGIN.0, "wrong")))?;
    let status = host.container.wait_status("a refusal of the proxy", SOON, |status| {
        step(status, "preflight").message.as_ref().is_some_and(|text| text.contains("407"))
    })?;
    ensure!(status.state != "paired", "{status:?}");
    host.set(&values(proxy.url_with(LOGIN.0, LOGIN.1)))?;
    host.container.wait_state("paired", SOON)?;
    ensure!(proxy.log().contains("CONNECT"), "nothing went through the proxy: {}", proxy.log());
    world.wait(&gateway, "paired", |it| it["state"] == "pending").map(drop)
}

fn late(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("late", false)?;
    // The name of another port, at which nobody is yet.
    let later = format!("https://{FABRIC_NAME}:8444");
    boot(host, "late", &gateway.code, &[("console-endpoint", later)])?;
    let status = host.container.wait_state("retrying", SOON)?;
    let message = step(&status, "preflight").message.clone().unwrap_or_default();
    ensure!(message.contains("8444"), "it does not say whom it could not reach: {message}");
    ensure!(world.look(&gateway)?["pairing"]["attempts_left"] == 5, "an attempt was taken off");
    let output = host.container.exec("gatewright-firstboot preflight")?;
    ensure!(output.code == 1 && output.stdout.contains("FAILED"), "{output:?}");
    host.set(&[("console-endpoint", endpoint())])?;
    host.container.wait_state("paired", SOON)?;
    let output = host.container.exec("gatewright-firstboot preflight")?;
    ensure!(output.code == 0 && output.stdout.matches("\nok").count() >= 3, "{output:?}");
    Ok(())
}

fn killed(world: &World, host: &mut Host) -> Result<()> {
    let gateway = world.create("killed", false)?;
    boot(host, "killed", &gateway.code, &[])?;
    host.container.wait_state("paired", SOON)?;
    let before = world.wait(&gateway, "with a heartbeat", |it| it["heartbeat"].is_object())?;
    restart(&mut host.container)?;
    world.wait(&gateway, "with a newer heartbeat", |it| {
        it["heartbeat"]["time"].as_str() > before["heartbeat"]["time"].as_str()
    })?;
    host.container.wait_state("paired", SOON).map(drop)
}

fn restart(container: &mut Container) -> Result<()> {
    container.sh("systemctl kill --signal=KILL gatewright-firstboot")?;
    wait_for("the daemon again", Duration::from_secs(60), || {
        let shown =
            container.sh("systemctl show --value -p NRestarts -p SubState gatewright-firstboot | xargs")?;
        Ok((shown == "1 running").then_some(()))
    })
}
