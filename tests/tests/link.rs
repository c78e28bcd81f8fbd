//! How machines reach their console: through real proxies, bad lines and wrong clocks. The console stands behind a router
//! that only some machines are given; the others have nothing but a proxy.
//!
//! ```text
//! machine ─ net1 ─┬─ proxy (squid, tinyproxy) ─ net1 ─┐
//!                 └─ router ──────────────────────────┴─ fabric: console at 10.77.2.1, `fabric.test` in DNS
//! ```

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use gatewright_tests::console::{Console, Setup};
use gatewright_tests::fabric::{Fabric, Network};
use gatewright_tests::figures::{self, Timed};
use gatewright_tests::https::Client;
use gatewright_tests::prerequisites;
use gatewright_tests::process::wait_for;
use gatewright_tests::proxy::{INSPECTION, Kind, LOGIN, Line, PROGRAMS, Proxy, Quality};
use gatewright_tests::stand_in::{StandIn, Station};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);
const ORIGIN: &str = "https://10.77.2.1:8443";
const NAMED: &str = "https://fabric.test:8443";

/// A console, and networks around it.
struct World {
    console: Console,
    api: Client,
    network: Network,
    _beyond: Network,
    fabric: Arc<Fabric>,
    hosts: AtomicU8,
}

/// A gateway that waits for its machine.
struct Gateway {
    id: String,
    code: String,
}

impl World {
    /// `None`: this machine cannot run it, and that was said.
    fn new(test: &str, programs: &[(&str, &str)]) -> Option<World> {
        if !prerequisites::fabric(test) {
            return None;
        }
        prerequisites::needed(test, prerequisites::programs(programs))?;
        let fabric = Fabric::new().unwrap();
        let (network, beyond) = (fabric.network(1).unwrap(), fabric.network(2).unwrap());
        let mut setup = Setup::default().listen(SocketAddr::from(([0, 0, 0, 0], 8443))).inside(&fabric);
        for url in [ORIGIN, NAMED, "https://10.77.1.1:8443", "https://127.0.0.1:8443"] {
            setup = setup.argument("--url").argument(url);
        }
        let console = setup.start().unwrap();
        let api = console.api().unwrap();
        Some(World { console, api, network, _beyond: beyond, fabric, hosts: AtomicU8::new(20) })
    }

    /// A place for a machine; where it is not `routed`, it reaches the proxies alone.
    fn station(&self, routed: bool) -> Station {
        Station::new(&self.network, self.hosts.fetch_add(1, Ordering::Relaxed), routed).unwrap()
    }

    fn proxy(&self, kind: Kind) -> Proxy {
        Proxy::start(&self.network, self.hosts.fetch_add(1, Ordering::Relaxed), kind).unwrap()
    }

    fn gateway(&self, name: &str) -> Gateway {
        let made = self.ask("POST", "/v1/gateways", &json!({ "name": name }), 201);
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        Gateway { id: text(&made["id"]), code: text(&made["pairing"]["code"]) }
    }

    fn look(&self, gateway: &Gateway) -> Value {
        self.ask("GET", &format!("/v1/gateways/{}", gateway.id), &Value::Null, 200)
    }

    fn is_paired(&self, gateway: &Gateway) -> bool {
        self.look(gateway).get("paired_at").is_some()
    }

    /// The test's own events, in the order in which they came.
    fn events(&self, gateway: &Gateway) -> Vec<String> {
        let path = format!("/v1/gateways/{}/events?limit=500", gateway.id);
        let answer = self.ask("GET", &path, &Value::Null, 200);
        let newest_first = answer["items"].as_array().unwrap_or_else(|| panic!("{answer}"));
        newest_first
            .iter()
            .rev()
            .filter(|event| event["source"] == "test")
            .map(|event| event["message"].as_str().unwrap().to_owned())
            .collect()
    }

    fn wait_for_events(&self, gateway: &Gateway, expected: &[String]) {
        let what = format!("events {expected:?}");
        wait_for(&what, SOON, || Ok((self.events(gateway) == expected).then_some(())))
            .unwrap_or_else(|error| panic!("{error}, but {:?}", self.events(gateway)));
    }

    fn command(&self, gateway: &Gateway) -> String {
        let path = format!("/v1/gateways/{}/commands", gateway.id);
        let made = self.ask("POST", &path, &json!({ "kind": "collect-bundle" }), 201);
        made["id"].as_str().unwrap().to_owned()
    }

    fn wait_done(&self, gateway: &Gateway, command: &str) {
        let path = format!("/v1/gateways/{}/commands", gateway.id);
        wait_for("result of the command", SOON, || {
            let all = self.ask("GET", &path, &Value::Null, 200);
            let one = all["items"].as_array().unwrap().iter().find(|one| one["id"] == command).cloned();
            Ok(one.filter(|one| one["outcome"] == "done" && one["message"] == "As told."))
        })
        .unwrap();
    }

    fn ask(&self, method: &str, path: &str, body: &Value, status: u16) -> Value {
        let api = &self.api;
        self.console.enter(|| api.json(method, path, body)).unwrap().unwrap().expect(status).unwrap()
    }
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_stand-in"))
}

fn setup(origin: &str, gateway: &Gateway, steps: &[&str]) -> Value {
    json!({ "origin": origin, "code": gateway.code, "steps": steps })
}

fn through(mut setup: Value, url: &str, no_proxy: &[&str]) -> Value {
    setup["proxy"] = json!(url);
    setup["no_proxy"] = json!(no_proxy);
    setup
}

/// What failed: stage, and message with hint.
fn failure(said: &[Value]) -> (String, String) {
    let Some(failure) = said.iter().find_map(|line| line.get("failure")) else {
        panic!("nothing failed: {said:?}")
    };
    let text = |name: &str| failure[name].as_str().unwrap().to_owned();
    assert!(!text("hint").is_empty(), "{failure}");
    (text("stage"), text("message"))
}

fn paired(said: &[Value]) -> String {
    let id = said.iter().find_map(|line| line.get("paired"));
    id.and_then(Value::as_str).unwrap_or_else(|| panic!("not paired: {said:?}")).to_owned()
}

/// One line per check: name, outcome, message.
fn checks(said: &[Value]) -> Vec<[String; 3]> {
    let all = said.iter().find_map(|line| line.get("preflight")).unwrap_or_else(|| panic!("{said:?}"));
    let text = |check: &Value, name: &str| check[name].as_str().unwrap().to_owned();
    all.as_array()
        .unwrap()
        .iter()
        .map(|check| [text(check, "name"), text(check, "outcome"), text(check, "message")])
        .collect()
}

fn outcomes(said: &[Value]) -> Vec<String> {
    checks(said).into_iter().map(|[_, outcome, _]| outcome).collect()
}

fn start_link(station: &Station, setup: Value, kind: &str) -> StandIn {
    let mut machine = station.start(program(), None, setup).unwrap();
    machine.wait_connected(kind).unwrap();
    machine
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("event {number}")).collect()
}

/// By name, without a proxy: the checks, pairing and its time, events, commands, memory; what a wrong code and a wrong URL
/// are called; and the end when the gateway is deleted.
#[test]
fn direct() {
    let Some(world) = World::new("link::direct", &[]) else { return };
    let _timed = Timed::new("link::direct");
    let gateway = world.gateway("direct");

    let station = world.station(true);
    let wrong = json!({ "origin": NAMED, "code": "0000 0000 0000", "steps": ["pair"] });
    assert_eq!(failure(&station.run(program(), None, wrong).unwrap()).0, "code");

    let nowhere = setup("https://nowhere.test:8443", &gateway, &["preflight"]);
    let said = station.run(program(), None, nowhere).unwrap();
    assert_eq!(
        outcomes(&said),
        ["failed", "skipped", "skipped", "skipped", "skipped", "skipped"],
        "{said:?}"
    );
    assert!(checks(&said)[0][2].contains("nowhere.test"));
    let closed = setup("https://fabric.test:8444", &gateway, &["preflight"]);
    let said = station.run(program(), None, closed).unwrap();
    assert_eq!(checks(&said)[1][1..], ["failed", "fabric.test:8444 refuses connections."]);
    let plain = setup("https://fabric.test:53", &gateway, &["preflight"]);
    let said = station.run(program(), None, plain).unwrap();
    assert_eq!(checks(&said)[3][1], "failed", "{said:?}");

    let said =
        station.run(program(), None, setup(NAMED, &gateway, &["preflight", "pair", "preflight"])).unwrap();
    assert_eq!(paired(&said), gateway.id);
    let before = checks(&said);
    assert_eq!(outcomes(&said), ["ok", "ok", "skipped", "ok", "ok", "ok"], "{before:?}");
    assert_eq!(before[0][2], "fabric.test is 10.77.1.1.");
    assert!(before[3][2].contains("pairing will tell"), "{before:?}");
    let after = checks(&said[said.len() - 1..]);
    assert!(after[3][2].contains("as agreed in pairing"), "{after:?}");
    let seconds = said.iter().find_map(|line| line["seconds"].as_f64()).unwrap();
    figures::say(&format!("  pairing took {seconds:.2} s"));
    figures::record(&json!({ "figure": "pairing", "seconds": seconds }));
    assert!(seconds < 3.0, "pairing took {seconds} s");

    let mut machine = start_link(&station, setup(NAMED, &gateway, &["link"]), "stream");
    machine.push("event 0").unwrap();
    let command = world.command(&gateway);
    world.wait_done(&gateway, &command);
    world.wait_for_events(&gateway, &numbered(0, 1));
    let memory = machine.memory().unwrap();
    figures::say(&format!("  a machine that holds a link takes {} KiB of memory", memory));
    figures::record(&json!({ "figure": "memory of a link", "kib": memory }));

    world.ask("DELETE", &format!("/v1/gateways/{}", gateway.id), &Value::Null, 204);
    let said = machine.wait_for_end().unwrap();
    assert_eq!(failure(&said).0, "revoked");
    // And also whoever comes back.
    let said = station.run(program(), None, setup(NAMED, &gateway, &["link"])).unwrap();
    assert_eq!(failure(&said).0, "revoked");
}

/// Each kind of proxy, right and wrong logins, and what is reached without.
#[test]
fn proxies() {
    let Some(world) = World::new("link::proxies", PROGRAMS) else { return };
    let _timed = Timed::new("link::proxies");
    let gateway = world.gateway("proxies");
    let (open, login, forbidding, tiny) = (
        world.proxy(Kind::Open),
        world.proxy(Kind::WithLogin),
        world.proxy(Kind::Forbidding),
        world.proxy(Kind::Tiny),
    );
    let alone = world.station(false);
    let look = |url: &str| {
        alone.run(program(), None, through(setup(ORIGIN, &gateway, &["preflight"]), url, &[])).unwrap()
    };

    let (user, password) = LOGIN;
    let dead = format!("http://{}:3128", world.network.address(250));
    let refused = [
        (login.url(), "wants a login (407)"),
        (login.url_with(user, "hunter2"), "refuses the login that it was given (407)"),
        (forbidding.url(), "does not allow CONNECT to 10.77.2.1:8443 (403)"),
        (open.url().replace("http:", "https:"), "TLS with the proxy failed"),
    ];
    for (url, expected) in &refused {
        let said = look(url);
        let checks = checks(&said);
        assert_eq!(
            outcomes(&said),
            ["skipped", "ok", "failed", "skipped", "skipped", "skipped"],
            "{checks:?}"
        );
        assert!(checks[2][2].contains(expected), "{checks:?}");
        let shown = format!("{said:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("%68%75"), "a password was shown: {said:?}");
    }
    assert_eq!(outcomes(&look(&dead))[..2], ["skipped", "failed"]);
    // Its certificate is by a CA that nobody gave.
    let said = look(&open.tls_url());
    assert!(checks(&said)[2][2].contains("by `Proxy CA`, which is unknown here"), "{said:?}");

    let said = look(&tiny.url());
    assert_eq!(outcomes(&said), ["skipped", "ok", "ok", "ok", "ok", "ok"], "{said:?}");
    let said = alone.run(program(), None, through(setup(ORIGIN, &gateway, &["pair"]), &dead, &[])).unwrap();
    assert_eq!(failure(&said).0, "connect");

    // Pairs and works through each. The link is the same machine's: it only goes another way.
    let url = login.url_with(user, password);
    let said = alone.run(program(), None, through(setup(ORIGIN, &gateway, &["pair"]), &url, &[])).unwrap();
    assert_eq!(paired(&said), gateway.id);
    let mut with_ca = through(setup(ORIGIN, &gateway, &["link"]), &open.tls_url(), &[]);
    with_ca["proxy_ca"] = json!(open.ca().unwrap());
    let ways = [
        through(setup(ORIGIN, &gateway, &["link"]), &url, &[]),
        through(setup(ORIGIN, &gateway, &["link"]), &tiny.url(), &[]),
        through(setup(ORIGIN, &gateway, &["link"]), &open.url(), &["10.77.1.0/24", ".fabric.test"]),
        with_ca,
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let mut machine = start_link(&alone, way, "stream");
        machine.push(&format!("event {number}")).unwrap();
        world.wait_for_events(&gateway, &numbered(0, number + 1));
        let command = world.command(&gateway);
        world.wait_done(&gateway, &command);
    }

    // A proxy that is dead does no harm to what goes past it: by subnet, by name, by suffix.
    let routed = world.station(true);
    let bypasses = [
        ("https://10.77.2.1:8443", vec!["192.0.2.0/24", "10.77.2.0/24"]),
        (NAMED, vec!["fabric.test"]),
        (NAMED, vec![".test"]),
    ];
    for (origin, no_proxy) in bypasses {
        let wanted = through(setup(origin, &gateway, &["preflight"]), &dead, &no_proxy);
        let said = routed.run(program(), None, wanted).unwrap();
        let all = checks(&said);
        assert_eq!([&all[2][1], &all[5][1]], ["skipped", "ok"], "{no_proxy:?}: {all:?}");
        assert!(all[2][2].contains(no_proxy.last().unwrap()), "{all:?}");
    }
}

/// squid ends TLS: named, and nothing is paired; unless its CA was given, and then requests are signed.
#[test]
fn interception() {
    let Some(world) = World::new("link::interception", PROGRAMS) else { return };
    let _timed = Timed::new("link::interception");
    let gateway = world.gateway("interception");
    let proxy = world.proxy(Kind::Intercepting);
    let station = world.station(false);

    let plain = through(setup(ORIGIN, &gateway, &["preflight", "pair"]), &proxy.url(), &[]);
    let said = station.run(program(), None, plain).unwrap();
    assert!(checks(&said)[3][2].contains(INSPECTION), "{:?}\n{}", checks(&said), proxy.log());
    let (stage, message) = failure(&said);
    assert_eq!(stage, "intercepted", "{message}");
    assert!(message.contains(INSPECTION), "{message}");
    assert!(!world.is_paired(&gateway));

    let mut given = through(setup(ORIGIN, &gateway, &["preflight", "pair", "link"]), &proxy.url(), &[]);
    given["proxy_ca"] = json!(proxy.ca().unwrap());
    let mut machine = station.start(program(), None, given.clone()).unwrap();
    // It takes the headers of WebSocket away.
    let status = machine.wait_connected("polling").unwrap();
    assert_eq!(status["transport"]["signed"], true, "{status}");
    assert!(world.is_paired(&gateway));
    machine.push("event 0").unwrap();
    let command = world.command(&gateway);
    world.wait_done(&gateway, &command);
    world.wait_for_events(&gateway, &numbered(0, 1));
    drop(machine);

    // Without the CA the link does not believe it either.
    let said = through(setup(ORIGIN, &gateway, &["link"]), &proxy.url(), &[]);
    let mut machine = station.start(program(), None, said).unwrap();
    let status = machine.wait_for_status("trouble", |status| !status["trouble"].is_null()).unwrap();
    assert_eq!(status["trouble"][1]["stage"], "intercepted", "{status}");
}

/// Lines that cut, stall and come back; a console that is away; a machine that is killed: each event arrives once.
#[test]
fn faults() {
    let Some(mut world) = World::new("link::faults", PROGRAMS) else { return };
    let _timed = Timed::new("link::faults");
    let gateway = world.gateway("faults");
    let proxy = world.proxy(Kind::Tiny);
    let line = Line::new(&world.fabric, &world.network, proxy.place()).unwrap();
    let station = world.station(false);
    let url = format!("http://{}", line.place());

    // Cut off anywhere in pairing, within its messages and between them, and tried again: it goes on where it was, and costs no
    // attempt.
    let steps = through(setup(ORIGIN, &gateway, &["keep-pairing", "link"]), &url, &[]);
    line.set(Quality::CutAfter(60));
    let mut machine = station.start(program(), None, steps).unwrap();
    let mut tried = 0;
    for bytes in [60, 1000, 2000, 3000, 3500, 4000, 4500, 5000, 6000, 7000, 8000, 9000] {
        line.set(Quality::CutAfter(bytes));
        let ended = |line: &Value| line.get("tried").or(line.get("paired")).map(|_| line.clone());
        let ended = machine.wait("how a try ended", ended).unwrap();
        if ended.get("paired").is_some() {
            break;
        }
        let stage = ended["tried"]["stage"].as_str().unwrap();
        assert!(["proxy", "tls", "http"].contains(&stage), "{ended}");
        tried += 1;
    }
    line.set(Quality::Good);
    machine.wait_connected("stream").unwrap();
    assert!(tried >= 4, "only {tried} tries were cut off");
    assert_eq!(world.look(&gateway)["pairing"]["attempts_left"], 5, "after {tried} tries that were cut off");
    let link = through(setup(ORIGIN, &gateway, &["link"]), &url, &[]);

    // The line is cut in the middle of messages, again and again.
    for number in 0..6 {
        line.set(Quality::CutAfter(6000 + 700 * number));
        machine.push(&format!("event {number}")).unwrap();
        machine.retry().unwrap();
    }
    line.set(Quality::Good);
    machine.retry().unwrap();
    world.wait_for_events(&gateway, &numbered(0, 6));

    // Very slow.
    line.set(Quality::Slow(Duration::from_millis(400)));
    machine.push("event 6").unwrap();
    machine.retry().unwrap();
    world.wait_for_events(&gateway, &numbered(0, 7));
    line.set(Quality::Good);

    // The console is away; the machine is killed meanwhile, with all that it has to say.
    world.console.kill();
    machine.wait_for_status("that it waits", |status| status["state"]["is"] == "waiting").unwrap();
    for number in 7..40 {
        machine.push(&format!("event {number}")).unwrap();
    }
    machine.kill();
    let mut machine = station.start(program(), None, link.clone()).unwrap();
    let status = machine.wait_for_status("trouble", |status| !status["trouble"].is_null()).unwrap();
    assert_eq!(status["trouble"][1]["stage"], "proxy", "{status}");
    machine.push("event 40").unwrap();
    world.console.start_again().unwrap();
    machine.retry().unwrap();
    machine.wait_connected("stream").unwrap();
    world.wait_for_events(&gateway, &numbered(0, 41));

    // The cable is out, and in again.
    station.cable().set_plugged(false).unwrap();
    line.set(Quality::Dead);
    machine.push("event 41").unwrap();
    machine.wait_for_status("trouble", |status| status["state"]["is"] == "waiting").unwrap();
    station.cable().set_plugged(true).unwrap();
    line.set(Quality::Good);
    machine.retry().unwrap();
    world.wait_for_events(&gateway, &numbered(0, 42));
    let command = world.command(&gateway);
    world.wait_done(&gateway, &command);
}

/// A clock an hour off, and one ten years off, is named; pairing and link work all the same, also where requests are
/// signed.
#[test]
fn clocks() {
    let programs: Vec<_> = PROGRAMS.iter().copied().chain([("faketime", "faketime")]).collect();
    let Some(world) = World::new("link::clocks", &programs) else { return };
    let _timed = Timed::new("link::clocks");
    let proxy = world.proxy(Kind::Intercepting);
    let cases = [
        ("behind", "-61m", "61 minutes behind", false),
        ("ahead", "+10y", "10 years ahead of", false),
        ("signed", "-10y", "10 years behind", true),
    ];
    for (name, clock, words, signed) in cases {
        let gateway = world.gateway(&format!("clock-{name}"));
        let station = world.station(!signed);
        let mut wanted = setup(ORIGIN, &gateway, &["preflight", "pair", "link"]);
        if signed {
            wanted = through(wanted, &proxy.url(), &[]);
            wanted["proxy_ca"] = json!(proxy.ca().unwrap());
        }
        let mut machine = station.start(program(), Some(clock), wanted).unwrap();
        let told = machine.wait("its checks", |line| line.get("preflight").map(|_| line.clone())).unwrap();
        let checks = checks(&[told]);
        assert_eq!(
            checks[4][1..],
            ["warning".to_string(), format!("The clock of this machine is {words} the console's.")]
        );
        let progress =
            |line: &Value| line["progress"].as_str().filter(|text| text.contains(words)).map(str::to_owned);
        machine.wait("that its clock is wrong", progress).unwrap();
        machine.wait("that it is paired", |line| line.get("paired").cloned()).unwrap();
        machine.wait_connected(if signed { "polling" } else { "stream" }).unwrap();
        let command = world.command(&gateway);
        world.wait_done(&gateway, &command);
    }
}
