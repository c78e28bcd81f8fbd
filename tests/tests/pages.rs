//! The console's pages: in a real browser, as people use them, and as those do who mean harm. Pictures of every page and
//! state are kept in `target/screenshots`.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it must be")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use gatewright_tests::browser::{self, Browser, View};
use gatewright_tests::console::{Console, PASSWORD, Setup};
use gatewright_tests::device::{Device, Facts};
use gatewright_tests::https::Client;
use gatewright_tests::prerequisites::needed;
use gatewright_tests::process::wait_for;
use protocol::link::{
    Body, CommandResult, Condition, ConditionStatus, Event, Heartbeat, Metrics, Outcome, Severity,
};
use protocol::pairing::Verdict;
use serde_json::{Value, json};

const VIEWS: [(&str, View); 4] = [
    ("light", View { width: 1280, dark: false }),
    ("dark", View { width: 1280, dark: true }),
    ("phone", View { width: 390, dark: false }),
    ("phone-dark", View { width: 390, dark: true }),
];
const SUBMIT: &str = "main form .primary";
const GIB: u64 = 1 << 30;
/// What the browser notes of the page of a form that was refused.
const REFUSED: &str = "status of 422";

/// A console, and a browser that looks at it.
struct Site {
    browser: Browser,
    console: Console,
}

impl Site {
    fn start(setup: Setup) -> Result<Site> {
        let console = setup.start()?;
        let browser = Browser::start(&console.said().url, &console.folder().join("server.pem"))?;
        Ok(Site { browser, console })
    }

    fn log_in(&self, name: &str, password: &str) -> Result<()> {
        self.browser.open("/login")?;
        self.browser.fill("[name=name]", name)?;
        self.browser.fill("[name=password]", password)?;
        self.browser.click(SUBMIT)?;
        self.browser.wait("location.pathname !== '/login' || document.querySelector('[role=alert]')")
    }

    /// Pictures of the page as it is now, in light and dark, on a desk and on a phone; and what the accessibility checker
    /// finds (WCAG 2.2 AA), of contrast too, is nothing.
    fn judge(&self, name: &str) -> Result<()> {
        let axe = browser::axe()?;
        for (kind, view) in VIEWS {
            self.browser.picture(view, &screenshots().join(format!("{name}-{kind}.png")))?;
            let found = self.browser.slow_script(&format!(
                "const done = arguments[arguments.length - 1]; {axe};
                 axe.run({{ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }})
                    .then((said) => done(said.violations.map((one) =>
                        [one.id, one.nodes.map((node) => [node.html, node.failureSummary])])),
                        (error) => done([String(error)]));"
            ))?;
            ensure!(found == json!([]), "{name}, {kind}: {found:#}");
        }
        self.browser.look(VIEWS[0].1)
    }

    /// That the browser had nothing to complain of: no violated policy, no error of a script, no request that failed,
    /// but for those that the test itself has made.
    fn is_quiet(&self, but: &[&str]) -> Result<()> {
        let complaints = self.browser.complaints()?;
        let other: Vec<_> =
            complaints.iter().filter(|said| !but.iter().any(|but| said.contains(but))).collect();
        ensure!(other.is_empty(), "the browser says {other:#?}");
        Ok(())
    }

    fn create(&self, name: &str, approval: bool) -> Result<String> {
        let wanted = json!({ "name": name, "require_approval": approval });
        let made = self.console.api()?.json("POST", "/v1/gateways", &wanted)?.expect(201)?;
        Ok(made["id"].as_str().context("it has no id")?.to_owned())
    }

    fn code(&self, id: &str) -> Result<String> {
        let gateway = self.console.api()?.get(&format!("/v1/gateways/{id}"))?.expect(200)?;
        Ok(gateway["pairing"]["code"].as_str().context("it has no code")?.to_owned())
    }
}

fn screenshots() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap_or(Path::new("."));
    target.join("screenshots")
}

/// Runs a test that needs a browser.
fn with_site(name: &str, setup: impl FnOnce() -> Setup, test: impl FnOnce(&Site) -> Result<()>) {
    if needed(name, browser::check()).is_none() {
        return;
    }
    let site = Site::start(setup()).unwrap();
    if let Err(error) = test(&site) {
        let _ = site.browser.picture(VIEWS[0].1, &screenshots().join("failed.png"));
        panic!("{error:#}\nconsole: {}", site.console.log());
    }
}

fn heartbeat(state: &str) -> Heartbeat {
    Heartbeat {
        time: jiff::Timestamp::now(),
        state: state.into(),
        software: "0.1.0".into(),
        uptime_seconds: 273_600,
        addresses: vec!["192.0.2.14".into(), "2001:db8::14".into()],
        metrics: Metrics {
            load: 0.42,
            processors: 2,
            memory_total: 4 * GIB,
            memory_available: GIB * 9 / 10,
            disk_total: 60 * GIB,
            disk_available: 4 * GIB,
        },
    }
}

fn event(severity: Severity, reason: &str, message: &str) -> Body {
    Body::Event(Event {
        severity,
        reason: reason.into(),
        message: message.into(),
        source: "firstboot".into(),
    })
}

fn condition(kind: &str, status: ConditionStatus, message: &str) -> Body {
    Body::Condition(Condition {
        kind: kind.into(),
        status,
        reason: "AsSaid".into(),
        message: message.into(),
        last_transition_time: jiff::Timestamp::now(),
    })
}

#[test]
fn a_gateway_from_its_code_to_its_configuration() {
    let installer = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(installer.path(), "an OVA, as far as downloading goes").unwrap();
    let setup = || Setup::default().argument("--installer").argument(installer.path());
    with_site("pages::journey", setup, |site| {
        first_log_in(site)?;
        let (id, mut machine) = create_and_pair(site)?;
        watch(site, &id, &mut machine)?;
        configure(site, &id, &mut machine)?;
        approve(site)?;
        lock(site)?;
        administrate(site)?;
        delete(site, &id)?;
        lose(site)
    });
}

fn first_log_in(site: &Site) -> Result<()> {
    let browser = &site.browser;
    browser.open("/")?;
    ensure!(browser.path()? == "/login", "a stranger sees {}", browser.path()?);
    site.judge("login")?;
    site.log_in("admin", "wrong")?;
    ensure!(browser.text("[role=alert]")?.contains("Name or password is wrong"));
    ensure!(browser.script("return document.querySelector('[name=name]').value")? == "admin");
    site.judge("login-wrong")?;
    // The password that an administrator has set must be changed first.
    let api = site.console.api()?;
    let made =
        api.json("POST", "/v1/accounts", &json!({ "name": "olga", "role": "administrator" }))?.expect(201)?;
    let initial = made["initial_password"].as_str().context("there is no password")?.to_owned();
    site.log_in("olga", &initial)?;
    browser.open("/settings")?;
    ensure!(browser.path()? == "/password", "who must change the password gets to {}", browser.path()?);
    browser.fill("[name=current]", &initial)?;
    browser.fill("[name=new]", "short")?;
    browser.fill("[name=again]", "short")?;
    browser.click(SUBMIT)?;
    browser.wait("document.querySelector('#fnew[aria-invalid=true]')")?;
    site.judge("password")?;
    browser.fill("[name=current]", &initial)?;
    browser.fill("[name=new]", "a sentence does well")?;
    browser.fill("[name=again]", "a sentence does well")?;
    browser.click(SUBMIT)?;
    browser.wait("location.pathname === '/'")?;
    site.judge("gateways-none")?;
    site.is_quiet(&["status of 401", REFUSED])
}

fn create_and_pair(site: &Site) -> Result<(String, Device)> {
    let browser = &site.browser;
    browser.click("a[href='/gateways/new'].primary")?;
    browser.fill("[name='/name']", "Edge 01")?;
    browser.click("[name='/require_approval']")?;
    browser.click(SUBMIT)?;
    // What is wrong is said at the field, and what was typed is there.
    browser.wait("document.querySelector('#f-name[aria-invalid=true]')")?;
    let said = browser.script(
        "const field = document.querySelector('#f-name');
         return [field.value, document.getElementById(field.getAttribute('aria-describedby').split(' ')[0]).innerText,
                 document.querySelector('#f-require_approval').checked]",
    )?;
    ensure!(said[0] == "Edge 01" && said[2] == true, "{said}");
    ensure!(said[1].as_str().is_some_and(|why| why.contains("lower-case")), "{said}");
    site.judge("gateway-new-wrong")?;
    browser.fill("[name='/name']", "edge-01")?;
    browser.click("[name='/require_approval']")?;
    browser.click(SUBMIT)?;
    browser.wait("document.querySelector('#code')")?;

    let code = browser.text("#code")?;
    let id = browser.path()?.trim_start_matches("/gateways/").to_owned();
    ensure!(
        code.split_whitespace().collect::<Vec<_>>().join(" ") == site.code(&id)?,
        "the page shows {code}"
    );
    // It counts down.
    let before = browser.text("time[data-left]")?;
    browser.wait(&format!("document.querySelector('time[data-left]').textContent !== {before:?}"))?;
    ensure!(before.starts_with("23 h 59 min"), "it holds for {before}");
    // The button copies what it says.
    let permissions = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    browser.devtools("Browser.grantPermissions", permissions)?;
    browser.click("[data-copy=code]")?;
    browser.wait("document.querySelector('[data-copy=code]').innerText.includes('Copied')")?;
    let copied = browser.slow_script("navigator.clipboard.readText().then(arguments[0])")?;
    ensure!(copied == json!(site.code(&id)?), "{copied} was copied");
    site.judge("gateway-code")?;
    downloads(site, &id)?;

    // Somebody who does not know all of it is shown; what has the focus keeps it.
    browser.script("document.querySelector('[data-copy=code]').focus()")?;
    let code = site.code(&id)?;
    ensure!(Device::claim(&site.console, &wrong(&code)?, Facts::default())?.verdict().is_err());
    browser.wait("document.querySelector('#pairing').innerText.includes('4 of 5 attempts')")?;
    ensure!(browser.script("return document.activeElement.id")? == "copy-code", "the focus is lost");
    site.judge("gateway-code-tried")?;
    // When the machine pairs, the page says so by itself.
    let machine = Device::pair(&site.console, &code, Facts::default())?;
    browser.wait("document.querySelector('#h-facts')")?;
    ensure!(!browser.has("#code")?, "the code is still there");
    ensure!(browser.text("#attention")?.contains("waits for its configuration"));
    site.judge("gateway-paired")?;
    site.is_quiet(&[REFUSED])?;
    Ok((id, machine))
}

/// The files of the page, taken with the browser's session.
fn downloads(site: &Site, id: &str) -> Result<()> {
    let get = |path: &str, range: &str| {
        site.browser.slow_script(&format!(
            "fetch({path:?}, {{ headers: {{ Range: {range:?} }} }}).then(async (answer) =>
                arguments[0]([answer.status, await answer.text()]))"
        ))
    };
    ensure!(get("/download/installer.ova", "bytes=3-5")? == json!([206, "OVA"]));
    let options = get(&format!("/gateways/{id}/import.json"), "")?;
    let options: Value = serde_json::from_str(options[1].as_str().context("no options")?)?;
    let value = |key: &str| {
        let properties = options["PropertyMapping"].as_array().into_iter().flatten();
        properties.filter(|one| one["Key"] == key).map(|one| one["Value"].clone()).next()
    };
    ensure!(value("pairing-code") == Some(json!(site.code(id)?)), "{options}");
    ensure!(value("console-endpoint") == Some(json!(site.console.said().url)), "{options}");
    ensure!(value("gateway-name") == Some(json!("edge-01")), "{options}");
    Ok(())
}

/// The code with another secret, and the check digit that goes with it.
fn wrong(code: &str) -> Result<String> {
    let digits: String = code.chars().filter(char::is_ascii_digit).collect();
    let other = if &digits[4..11] == "0000000" { "0000001" } else { "0000000" };
    let code = protocol::code::Code::new(&digits[..4], other).context("no code")?;
    Ok(code.expose().expose().to_owned())
}

fn watch(site: &Site, id: &str, machine: &mut Device) -> Result<()> {
    let browser = &site.browser;
    machine.tell(
        Some(heartbeat("pending")),
        vec![
            condition("HostConfigured", ConditionStatus::True, "The host has name, address and time."),
            condition("Paired", ConditionStatus::True, ""),
            condition(
                "CloudInfrastructureReady",
                ConditionStatus::Unknown,
                "It waits for its configuration.",
            ),
            event(Severity::Info, "Paired", "Paired with the console."),
            event(
                Severity::Warning,
                "NtpUnreachable",
                "NTP server ntp.example.com does not answer; the next one is asked.",
            ),
        ],
    )?;
    browser.wait("document.querySelector('#events').innerText.includes('NTP server')")?;
    browser.wait("document.querySelector('#conditions').innerText.includes('Cloud infrastructure ready')")?;
    browser.wait("document.querySelector('#metrics meter')")?;
    browser.wait("document.querySelector('.live').textContent === 'Live'")?;
    ensure!(browser.text("#standing")?.contains("Healthy"));
    ensure!(!browser.text("#standing")?.contains("heard"), "what is read aloud changes every second");
    ensure!(browser.text("#heard")?.contains("Last heard"));
    site.judge("gateway-live")?;
    // Who reads further down goes on reading.
    let steps = (1..=20).map(|n| event(Severity::Info, "Step", &format!("Step {n}.")));
    machine.tell(None, steps.collect())?;
    browser.wait("document.querySelector('#events').textContent.includes('Step 20.')")?;
    browser.script(
        "const events = document.querySelector('#events'); events.focus(); events.scrollTop = 150;",
    )?;
    machine.tell(None, vec![event(Severity::Info, "Step", "The last step.")])?;
    browser.wait("document.querySelector('#events').textContent.includes('The last step.')")?;
    let place = "return [document.activeElement.id, document.querySelector('#events').scrollTop]";
    ensure!(browser.script(place)? == json!(["events", 150]), "{}", browser.script(place)?);

    // An action is asked about in a dialog; what it needs, and that it was sent, is seen.
    browser.click("#do-bundle")?;
    browser.wait("document.querySelector('dialog[open] #confirm')")?;
    site.judge("gateway-confirm")?;
    browser.click("dialog .primary")?;
    browser.wait("document.querySelector('#commands').innerText.includes('Support bundle')")?;
    let commands =
        machine.tell(None, vec![event(Severity::Info, "Collecting", "Collecting a support bundle.")])?;
    let command = commands.first().context("the machine got no command")?;
    ensure!(command.kind == "collect-bundle", "{command:?}");
    let message = "It is in /var/lib/gatewright/bundles on the machine.".into();
    let result = CommandResult { command: command.id, outcome: Outcome::Done, message };
    machine.tell(None, vec![Body::Result(result)])?;
    browser.wait("document.querySelector('#commands').innerText.includes('Done')")?;

    // What there is nothing of yet cannot be reset, and is not offered.
    ensure!(!browser.has("#do-reset")?, "a gateway that was not built can be reset");
    machine
        .tell(Some(heartbeat("running")), vec![event(Severity::Info, "Running", "All nodes are ready.")])?;
    browser.wait("document.querySelector('#do-reset')")?;
    // What cannot be undone takes the name, also where the script shows the dialog.
    browser.click("#do-reset")?;
    browser.wait("document.querySelector('dialog[open] #fconfirm')")?;
    browser.fill("dialog #fconfirm", "edge")?;
    browser.click("dialog .primary")?;
    browser.wait("document.querySelector('#fconfirm[aria-invalid=true]')")?;
    site.judge("gateway-reset-wrong")?;
    let api = site.console.api()?;
    let commands = api.get(&format!("/v1/gateways/{id}/commands"))?.expect(200)?.to_string();
    ensure!(!commands.contains("reset"), "it was sent: {commands}");
    browser.fill("#fconfirm", "edge-01")?;
    browser.click(SUBMIT)?;
    browser.wait("document.querySelector('#commands')?.innerText.includes('Reset')")?;

    browser.open("/")?;
    browser.wait("document.querySelector('#list').innerText.includes('192.0.2.14')")?;
    site.is_quiet(&[REFUSED])
}

fn configure(site: &Site, id: &str, machine: &mut Device) -> Result<()> {
    let browser = &site.browser;
    let path = format!("/gateways/{id}/configuration");
    browser.open(&path)?;
    site.judge("configuration")?;
    browser.fill("[name='/vcenter/server']", "https://vcenter.example.com/sdk")?;
    browser.fill("[name='/vcenter/username']", "gateway@vsphere.local")?;
    browser.fill("[name='/vcenter/password']", "not sent back <\"'>")?;
    browser.click("[name='/ip_allocation'][value=static]")?;
    browser.click("#add-pool")?;
    browser.wait("document.querySelector('#pool-0')")?;
    // The page was made anew; nothing that was typed is lost.
    ensure!(
        browser.script("return document.querySelector('[name=\"/vcenter/server\"]').value")?
            == "https://vcenter.example.com/sdk"
    );
    ensure!(
        browser.text("#f-vcenter-password-help")?.contains("Type it again"),
        "it does not say that it lost the password"
    );
    browser.fill("[name='/vcenter/password']", "not sent back <\"'>")?;
    let pool = |name: &str, text: &str| browser.fill(&format!("[name='/ip_pools/0/{name}']"), text);
    pool("name", "nodes")?;
    pool("start", "192.0.2.20")?;
    pool("end", "192.0.2.39")?;
    pool("prefix", "24")?;
    pool("gateway", "192.0.2.1")?;
    pool("name_servers", "192.0.2.2")?;
    // As it is typed.
    browser.wait("document.querySelector('#pool-0 [data-sum]').textContent.includes('20 ')")?;
    let before = browser.text("#pool-0 [data-sum]")?;
    pool("exclude", "192.0.2.25 - 192.0.2.27")?;
    browser.wait(&format!("document.querySelector('#pool-0 [data-sum]').textContent !== {before:?}"))?;
    ensure!(browser.text("#pool-0 [data-sum]")?.contains("17"), "{}", browser.text("#pool-0 [data-sum]")?);
    pool("end", "192.0.2.10")?;
    browser.wait("document.querySelector('#pool-0 [data-sum]').textContent.includes('before the first')")?;
    // What it came to does not stay where nothing is typed.
    browser.click("[name='/ip_pools/0/kind'][value=subnet]")?;
    browser
        .wait("document.querySelector('#pool-0 [data-sum]').textContent.startsWith('What this comes to')")?;
    browser.click("[name='/ip_pools/0/kind'][value=range]")?;
    browser.wait("document.querySelector('#pool-0 [data-sum]').textContent.includes('before the first')")?;
    browser.fill("[name='/ssh_keys']", "ssh-ed25519 no key")?;
    browser.click("#save")?;
    // All that is wrong at once, each at its field.
    browser.wait("document.querySelector('[role=alert]')")?;
    let wrong = browser
        .script("return [...document.querySelectorAll('[aria-invalid=true]')].map((field) => field.name)")?;
    for field in ["/placement/datacenter", "/placement/cluster", "/ip_pools/0/end", "/ssh_keys"] {
        ensure!(
            wrong.as_array().is_some_and(|names| names.contains(&json!(field))),
            "{field} is not among {wrong}"
        );
    }
    ensure!(browser.script("return document.querySelector('[name=\"/vcenter/password\"]').value")? == "");
    ensure!(browser.text("[role=alert]")?.contains("passwords"));
    site.judge("configuration-wrong")?;
    together(site)?;

    browser.fill("[name='/vcenter/password']", "not sent back <\"'>")?;
    for (name, text) in [
        ("datacenter", "DC0"),
        ("cluster", "C0"),
        ("network", "VM Network"),
        ("datastore", "LocalDS_0"),
        ("folder", "gateways"),
    ] {
        browser.fill(&format!("[name='/placement/{name}']"), text)?;
    }
    pool("end", "192.0.2.39")?;
    browser.fill("[name='/ssh_keys']", "")?;
    browser.click("#save")?;
    browser.wait(&format!("location.pathname === '/gateways/{id}'"))?;
    let repaired = "return document.querySelector('main').innerText.includes('repaired')";
    ensure!(browser.text("main")?.contains("vcenter.example.com"), "{}", browser.text("main")?);
    ensure!(browser.script(repaired)? == true, "it does not say what was repaired");
    site.judge("gateway-configured")?;
    browser.open(&format!("/gateways/{id}"))?;
    ensure!(browser.script(repaired)? == false, "it says so again");
    let commands = machine.tell(None, vec![event(Severity::Info, "Configuring", "Configuring.")])?;
    let command =
        commands.iter().find(|command| command.kind == "configure").context("no configuration came")?;
    ensure!(command.arguments["vcenter"]["password"] == "not sent back <\"'>", "the password is another");
    ensure!(command.arguments["ip_pools"][0]["end"] == "192.0.2.39", "{}", command.arguments);
    // The stored password is not in the page, and stays without being typed again.
    browser.open(&path)?;
    ensure!(browser.script("return document.documentElement.outerHTML.includes('not sent back')")? == false);
    browser.click("[name='/ip_pools/0/kind'][value=subnet]")?;
    site.judge("configuration-stored")?;
    browser.click("[name='/ip_pools/0/kind'][value=range]")?;
    browser.click("[name='/size'][value='1']")?;
    browser.click("#save")?;
    browser.wait(&format!("location.pathname === '/gateways/{id}'"))?;
    let whole = machine.tell(None, vec![event(Severity::Info, "Configuring", "Configuring again.")])?;
    let command =
        whole.iter().find(|command| command.kind == "configure").context("no configuration came")?;
    ensure!(command.arguments["vcenter"]["password"] == "not sent back <\"'>", "the password was lost");

    // A machine in trouble.
    let trouble = "kubeadm init ended with 1: [ERROR FileContent--proc-sys-net-ipv4-ip_forward]: contents are not set to 1";
    machine.tell(
        Some(heartbeat("running")),
        vec![
            condition("BootstrapReady", ConditionStatus::False, "kubeadm init ended with 1."),
            event(Severity::Error, "KubeadmFailed", trouble),
        ],
    )?;
    browser.wait("document.querySelector('#standing').innerText.includes('Unhealthy')")?;
    browser.wait("document.querySelector('#attention').innerText.includes('BootstrapReady')")?;
    site.judge("gateway-unhealthy")?;
    site.is_quiet(&[REFUSED])
}

/// What is wrong with pools that are each right is said as they are typed, too.
fn together(site: &Site) -> Result<()> {
    let browser = &site.browser;
    let pool = |n: u32, name: &str, text: &str| browser.fill(&format!("[name='/ip_pools/{n}/{name}']"), text);
    let says = |css: &str, text: &str| {
        browser.wait(&format!("document.querySelector({css:?}).textContent.includes({text:?})"))
    };
    pool(0, "end", "192.0.2.39")?;
    browser.click("#add-pool")?;
    browser.wait("document.querySelector('#pool-1')")?;
    for (name, text) in [
        ("name", "more"),
        ("start", "192.0.2.30"),
        ("end", "192.0.2.49"),
        ("prefix", "24"),
        ("gateway", "192.0.2.1"),
        ("name_servers", "192.0.2.2"),
    ] {
        pool(1, name, text)?;
    }
    says("#pool-1 [data-sum]", "overlaps the pool")?;
    says("#pool-0 [data-sum]", "17")?;
    site.judge("configuration-pools")?;
    browser.click("#pool-1 .danger")?;
    browser.wait("!document.querySelector('#pool-1')")?;
    browser.click("[name='/size'][value='3']")?;
    pool(0, "exclude", "")?;
    pool(0, "end", "192.0.2.22")?;
    says("#pools-sum", "takes 5 addresses")?;
    browser.click("[name='/size'][value='1']")?;
    browser.wait("document.querySelector('#pools-sum').textContent === ''")
}

fn approve(site: &Site) -> Result<()> {
    let browser = &site.browser;
    let id = site.create("edge-02", true)?;
    browser.open(&format!("/gateways/{id}"))?;
    let facts = Facts { hostname: "edge-02".into(), ..Facts::default() };
    let machine = Device::claim(&site.console, &site.code(&id)?, facts)?;
    ensure!(matches!(machine.verdict()?, Verdict::Waiting { .. }));
    browser.wait("document.querySelector('#number')")?;
    ensure!(browser.text("#number")? == machine.number(), "the page shows {}", browser.text("#number")?);
    site.judge("gateway-approval")?;
    browser.click("#approve")?;
    browser.wait("document.querySelector('#h-facts')")?;
    ensure!(matches!(machine.verdict()?, Verdict::Granted(_)));
    site.is_quiet(&[])
}

fn lock(site: &Site) -> Result<()> {
    let browser = &site.browser;
    let id = site.create("edge-03", false)?;
    browser.open(&format!("/gateways/{id}"))?;
    browser.wait("document.querySelector('.live').textContent === 'Live'")?;
    let code = site.code(&id)?;
    for _ in 0..5 {
        ensure!(Device::claim(&site.console, &wrong(&code)?, Facts::default())?.verdict().is_err());
    }
    browser.wait("document.querySelector('#h-over')?.innerText.includes('locked')")?;
    ensure!(browser.text("#pairing")?.contains("127.0.0.1"), "it does not say from where");
    site.judge("gateway-locked")?;
    browser.click("#new-code")?;
    browser.wait("document.querySelector('#code')")?;
    ensure!(site.code(&id)? != code);
    browser.click("#do-cancel")?;
    browser.wait("document.querySelector('dialog[open]')")?;
    browser.click("dialog .primary")?;
    browser.wait("document.querySelector('#h-over')?.innerText.includes('cancelled')")?;
    site.judge("gateway-cancelled")?;
    site.is_quiet(&[])
}

fn administrate(site: &Site) -> Result<()> {
    let browser = &site.browser;
    browser.open("/")?;
    site.judge("gateways")?;
    browser.fill("#search", "edge-03")?;
    browser.wait("document.querySelectorAll('#list tbody tr').length === 1")?;
    ensure!(browser.path()? == "/?q=edge-03", "the address is {}", browser.path()?);
    browser.fill("#search", "nowhere")?;
    browser.wait("document.querySelector('#list').innerText.includes('No gateway matches')")?;
    site.judge("gateways-no-match")?;

    browser.open("/accounts")?;
    browser.fill("[name='/name']", "igor")?;
    browser.click(SUBMIT)?;
    browser.wait("document.querySelector('#secret')")?;
    site.judge("accounts")?;
    browser.open("/accounts")?;
    ensure!(!browser.has("#secret")?, "the password is shown again");
    browser.script("[...document.querySelectorAll('tbody tr')].find((row) => row.innerText.includes('igor')).querySelector('a').click()")?;
    browser.wait("document.querySelector('#f-disabled')")?;
    browser.click("#f-disabled")?;
    browser.click(SUBMIT)?;
    browser.wait("location.search === '?note=saved'")?;
    site.judge("account")?;

    browser.open("/tokens")?;
    site.judge("tokens-none")?;
    browser.fill("[name='/name']", "ci-pipeline")?;
    browser.click(SUBMIT)?;
    browser.wait("document.querySelector('#secret')")?;
    let token = browser.text("#secret")?;
    let client = site.console.client()?.header("authorization", &format!("Bearer {token}"));
    client.get("/v1/gateways")?.expect(200)?;
    site.judge("tokens")?;
    browser.script("[...document.querySelectorAll('tbody tr')].find((row) => row.innerText.includes('ci-pipeline')).querySelector('a').click()")?;
    browser.wait("document.querySelector('dialog[open]')")?;
    browser.click("dialog .primary")?;
    browser.wait("location.search === '?note=revoked'")?;
    ensure!(client.get("/v1/gateways")?.status == 401, "a revoked token is let in");

    browser.open("/audit")?;
    site.judge("audit")?;
    browser.fill("#search", "login.failed")?;
    browser.wait("[...document.querySelectorAll('#list tbody tr')].every((row) => row.innerText.includes('login.failed'))")?;

    browser.open("/settings")?;
    browser.fill("[name='/unhealthy_after_seconds']", "5")?;
    browser.click(SUBMIT)?;
    browser.wait("document.querySelector('[aria-invalid=true]')")?;
    site.judge("settings-wrong")?;
    browser.fill("[name='/unhealthy_after_seconds']", "60")?;
    browser.click(SUBMIT)?;
    browser.wait("location.search === '?note=saved'")?;
    site.judge("settings")?;
    browser.open("/gateways/00000000-0000-0000-0000-000000000000")?;
    site.judge("not-found")?;
    site.is_quiet(&["404", "favicon", REFUSED])
}

fn delete(site: &Site, id: &str) -> Result<()> {
    let browser = &site.browser;
    browser.open(&format!("/gateways/{id}/delete"))?;
    site.judge("gateway-delete")?;
    browser.fill("#fconfirm", "edge-01")?;
    browser.click(SUBMIT)?;
    browser.wait("location.pathname === '/' && location.search === '?note=deleted'")?;
    ensure!(!browser.text("#list")?.contains("edge-01"));
    // And out again: the way back does not show what was there.
    browser.click(".me button")?;
    browser.wait("location.pathname === '/login'")?;
    browser.open("/settings")?;
    ensure!(browser.path()?.starts_with("/login"), "{}", browser.path()?);
    site.is_quiet(&[])
}

/// What is deleted elsewhere is not shown as if it lived; nor is anything to whoever was locked out.
fn lose(site: &Site) -> Result<()> {
    let browser = &site.browser;
    let api = site.console.api()?;
    let id = site.create("edge-04", false)?;
    site.log_in("olga", "a sentence does well")?;
    browser.open(&format!("/gateways/{id}"))?;
    browser.wait("document.querySelector('.live').textContent === 'Live'")?;
    api.request("DELETE", &format!("/v1/gateways/{id}"), None)?.expect(204)?;
    browser.wait("document.body.innerText.includes('no such gateway')")?;

    browser.open("/")?;
    browser.wait("document.querySelector('.live').textContent === 'Live'")?;
    let accounts = api.get("/v1/accounts")?.expect(200)?;
    let olga = accounts["items"].as_array().into_iter().flatten().find(|one| one["name"] == "olga");
    let olga = olga.and_then(|olga| olga["id"].as_str()).context("there is no olga")?;
    let locked = json!({ "role": "administrator", "disabled": true });
    api.json("PUT", &format!("/v1/accounts/{olga}"), &locked)?.expect(200)?;
    site.create("edge-05", false)?;
    browser.wait("location.pathname === '/login'")?;
    // The stream is no stream any more.
    site.is_quiet(&["404", "text/event-stream"])
}

/// From the first page to the code with no mouse: what has the focus is seen, and all that is needed can have it.
#[test]
fn a_keyboard_is_enough() {
    with_site("pages::keyboard", Setup::default, |site| {
        let browser = &site.browser;
        let tab = || browser.press("\u{e004}");
        let go_to = |css: &str| -> Result<()> {
            for _ in 0..60 {
                if browser.script(&format!("return document.activeElement.matches({css:?})"))? == true {
                    let seen = "const style = getComputedStyle(document.activeElement);
                                return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2";
                    ensure!(browser.script(seen)? == true, "{css} does not show that it has the focus");
                    return Ok(());
                }
                tab()?;
            }
            anyhow::bail!("no number of tabs leads to {css} at {}", browser.path()?)
        };
        browser.open("/login")?;
        browser.wait("document.activeElement.name === 'name'")?;
        browser.press("admin")?;
        go_to("[name=password]")?;
        browser.press(PASSWORD)?;
        browser.press("\u{e007}")?;
        browser.wait("location.pathname === '/'")?;
        // The first is the way past the menu.
        tab()?;
        ensure!(browser.script("return document.activeElement.matches('.skip')")? == true);
        browser.press("\u{e007}")?;
        browser.wait("location.hash === '#main'")?;
        go_to("a[href='/gateways/new']")?;
        browser.press("\u{e007}")?;
        browser.wait("location.pathname === '/gateways/new' && document.activeElement.name === '/name'")?;
        browser.press("edge-01")?;
        go_to("[name='/expires_in_seconds']")?;
        browser.press("an hour")?;
        go_to("[name='/require_approval']")?;
        browser.press(" ")?;
        go_to(SUBMIT)?;
        browser.press("\u{e007}")?;
        browser.wait("document.querySelector('#code')")?;
        ensure!(
            browser.text("time[data-left]")?.starts_with("59 min"),
            "{}",
            browser.text("time[data-left]")?
        );
        go_to("[data-copy=code]")?;
        // A dialog takes the focus, keeps it, and gives it back.
        go_to("#do-cancel")?;
        browser.press("\u{e007}")?;
        browser.wait("document.querySelector('dialog[open]')?.contains(document.activeElement)")?;
        for _ in 0..5 {
            tab()?;
            let out =
                "const now = document.activeElement; return now !== document.body && !now.closest('dialog')";
            ensure!(browser.script(out)? == false, "the focus leaves the dialog");
        }
        browser.script("document.querySelector('dialog a.cancel').focus()")?;
        browser.press("\u{e00c}")?;
        browser.wait("!document.querySelector('dialog') && document.activeElement.id === 'do-cancel'")?;
        site.is_quiet(&[])
    });
}

/// Everything but what is live.
#[test]
fn no_script_is_needed() {
    with_site("pages::without_script", Setup::default, |site| {
        let browser = &site.browser;
        browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true }))?;
        let until =
            |css: &str| wait_for(css, Duration::from_secs(20), || Ok(browser.has(css)?.then_some(())));
        browser.open("/login")?;
        browser.fill("[name=name]", "admin")?;
        browser.fill("[name=password]", PASSWORD)?;
        browser.click(SUBMIT)?;
        until("a[href='/gateways/new']")?;
        browser.open("/gateways/new")?;
        browser.fill("[name='/name']", "edge-01")?;
        browser.click(SUBMIT)?;
        until("#code")?;
        let id = browser.path()?.trim_start_matches("/gateways/").to_owned();
        browser.open(&format!("/gateways/{id}/configuration"))?;
        browser.click("[name='/ip_allocation'][value=static]")?;
        browser.fill("[name='/placement/cluster']", "kept")?;
        browser.click("#add-pool")?;
        until("#pool-0")?;
        browser.fill("[name='/ip_pools/0/name']", "first")?;
        browser.click("#add-pool")?;
        until("#pool-1")?;
        browser.fill("[name='/ip_pools/1/name']", "second")?;
        browser.click("#pool-0 .danger")?;
        wait_for("one pool", Duration::from_secs(20), || Ok((!browser.has("#pool-1")?).then_some(())))?;
        let value = |css: &str| {
            let element = browser.find(css)?;
            browser.property(&element, "value")
        };
        ensure!(value("[name='/ip_pools/0/name']")? == "second");
        ensure!(value("[name='/placement/cluster']")? == "kept");
        browser.open(&format!("/gateways/{id}"))?;
        browser.click("#do-delete")?;
        until("#fconfirm")?;
        browser.fill("#fconfirm", "edge-01")?;
        browser.click(SUBMIT)?;
        until("a[href='/gateways/new']")
    });
}

/// Whatever comes from outside is text: nothing of it is run, whichever page shows it.
#[test]
fn what_comes_from_outside_is_only_text() {
    const BAD: &str = "\"'><img src=x onerror=\"window.bad=1\"><script>window.bad=1</script><svg/onload=window.bad=1>{{7*7}}";
    with_site("pages::stored_xss", Setup::default, |site| {
        let browser = &site.browser;
        site.log_in("admin", PASSWORD)?;
        // Names are refused before they are anywhere.
        let api = site.console.api()?;
        ensure!(api.json("POST", "/v1/gateways", &json!({ "name": BAD }))?.status == 422);
        ensure!(api.json("POST", "/v1/accounts", &json!({ "name": BAD, "role": "viewer" }))?.status == 422);
        let token = api.json("POST", "/v1/tokens", &json!({ "name": BAD, "role": "viewer" }))?;
        ensure!(token.status == 201, "{}", token.text());
        // A log-in that fails leaves a name of the stranger's choice in the audit log.
        site.console.client()?.json(
            "POST",
            "/v1/session",
            &json!({ "name": &BAD[..60], "password": BAD }),
        )?;

        let bad = || Facts {
            hostname: BAD.into(),
            vm_uuid: BAD.into(),
            addresses: vec![BAD.into()],
            software: BAD.into(),
        };
        let waiting = site.create("waits", true)?;
        ensure!(matches!(
            Device::claim(&site.console, &site.code(&waiting)?, bad())?.verdict()?,
            Verdict::Waiting { .. }
        ));
        let id = site.create("edge-01", false)?;
        let mut machine = Device::pair(&site.console, &site.code(&id)?, bad())?;
        let body = json!({ "kind": "collect-bundle" });
        api.json("POST", &format!("/v1/gateways/{id}/commands"), &body)?.expect(201)?;
        let beat = Heartbeat {
            state: BAD.into(),
            software: BAD.into(),
            addresses: vec![BAD.into()],
            ..heartbeat("running")
        };
        let commands = machine.tell(
            Some(beat),
            vec![
                condition(BAD, ConditionStatus::False, BAD),
                Body::Event(Event {
                    severity: Severity::Error,
                    reason: BAD.into(),
                    message: BAD.into(),
                    source: BAD.into(),
                }),
            ],
        )?;
        let command = commands.first().context("there is no command")?;
        let result = CommandResult { command: command.id, outcome: Outcome::Failed, message: BAD.into() };
        machine.tell(None, vec![Body::Result(result)])?;

        let configuration = format!("/gateways/{id}/configuration");
        for path in [
            "/",
            &format!("/?q={}", encoded(BAD)),
            "/audit",
            &format!("/audit?q={}", encoded(BAD)),
            "/tokens",
            "/accounts",
            &format!("/gateways/{id}"),
            &format!("/gateways/{waiting}"),
            &configuration,
            &format!("/login?next={}", encoded(BAD)),
            &format!("/?note={}", encoded(BAD)),
        ] {
            browser.open(path)?;
            browser.wait("document.readyState === 'complete'")?;
            is_harmless(browser, path)?;
        }
        // It is there, though, as what it is.
        browser.open(&format!("/gateways/{id}"))?;
        ensure!(browser.text("#events")?.contains(BAD), "{}", browser.text("#events")?);
        ensure!(browser.text("#conditions")?.contains("onerror"));
        ensure!(browser.text("#commands")?.contains(BAD));
        ensure!(browser.text("#facts")?.contains("onerror"));
        // What is live is put in by the script.
        machine.tell(None, vec![event(Severity::Info, "Later", &format!("Later: {BAD}"))])?;
        browser.wait("document.querySelector('#events').innerText.includes('Later: ')")?;
        is_harmless(browser, "live")?;
        // What was typed comes back as text too.
        browser.open(&configuration)?;
        browser.fill("[name='/vcenter/server']", BAD)?;
        browser.fill("[name='/ssh_keys']", &format!("</textarea>{BAD}"))?;
        browser.click("#save")?;
        browser.wait("document.querySelector('[role=alert]')")?;
        is_harmless(browser, "findings")?;
        ensure!(
            browser.script("return document.querySelector('[name=\"/ssh_keys\"]').value")?
                == format!("</textarea>{BAD}")
        );
        browser.open("/gateways/new")?;
        browser.fill("[name='/name']", &BAD[..60])?;
        browser.click(SUBMIT)?;
        browser.wait("document.querySelector('[role=alert]')")?;
        is_harmless(browser, "new")?;
        site.is_quiet(&[REFUSED])
    });
}

fn is_harmless(browser: &Browser, place: &str) -> Result<()> {
    let found = browser.script(
        "return [window.bad, document.images.length, [...document.scripts].map((script) => script.src || script.text),
            [...document.querySelectorAll('*')].flatMap((element) => [...element.attributes])
                .filter((attribute) => attribute.name.startsWith('on')).map((attribute) => attribute.name)]",
    )?;
    let scripts = found[2].as_array().context("no scripts")?;
    let ours = |script: &Value| {
        script.as_str().is_some_and(|src| src.contains("/assets/") && src.ends_with("/console.js"))
    };
    let quiet = found[0].is_null() && found[1] == 0 && scripts.iter().all(ours) && found[3] == json!([]);
    ensure!(quiet, "{place}: {found}");
    Ok(())
}

/// As in a query.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A browser without a window: the session's cookie, and forms.
struct Forms {
    client: Client,
}

impl Forms {
    /// Every form has the token of its session; this is it.
    fn csrf(&self) -> Result<String> {
        let page = self.client.get("/")?.text();
        let (_, rest) = page.split_once("name=\"csrf\" value=\"").context("no form on the page")?;
        let (token, _) = rest.split_once('"').context("no end of the token")?;
        Ok(token.replace("&#x2f;", "/"))
    }

    fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<u16> {
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value))).collect();
        let body = ("application/x-www-form-urlencoded", pairs.join("&").into_bytes());
        Ok(self.client.request("POST", path, Some(body))?.status.as_u16())
    }
}

/// Who may not do a thing sees no button for it and is refused when they try; and no form is taken without the token of
/// the session that it is sent with.
#[test]
fn forms_take_a_role_and_their_sessions_token() {
    let console = Console::start().unwrap();
    let api = console.api().unwrap();
    let made = api.json("POST", "/v1/gateways", &json!({ "name": "edge-01" })).unwrap().expect(201).unwrap();
    let id = made["id"].as_str().unwrap().to_owned();
    let code = made["pairing"]["code"].as_str().unwrap().to_owned();
    let admin_id = api.get("/v1/accounts").unwrap().text();
    let admin_id = serde_json::from_str::<Value>(&admin_id).unwrap();
    let admin_id = find_id(&admin_id).unwrap();
    let token = api.json("POST", "/v1/tokens", &json!({ "name": "other", "role": "viewer" })).unwrap();
    let token = token.expect(201).unwrap()["id"].as_str().unwrap().to_owned();

    let viewer = account(&console, "vera", "viewer");
    let operator = account(&console, "otto", "operator");
    let admin = Forms { client: cookie(&console.sign_in("admin", PASSWORD).unwrap()) };

    // What operators may, and what administrators may.
    let gateway = format!("/gateways/{id}");
    let for_operators = [
        "/gateways/new".to_owned(),
        format!("{gateway}/configuration"),
        format!("{gateway}/code"),
        format!("{gateway}/cancel"),
        format!("{gateway}/approve"),
        format!("{gateway}/refuse"),
        format!("{gateway}/reset"),
        format!("{gateway}/resize"),
        format!("{gateway}/upgrade"),
        format!("{gateway}/bundle"),
        format!("{gateway}/delete"),
    ];
    let for_administrators = [
        "/accounts".to_owned(),
        format!("/accounts/{admin_id}"),
        format!("/accounts/{admin_id}/password"),
        format!("/accounts/{admin_id}/delete"),
        "/settings".to_owned(),
    ];
    let for_all = [
        "/tokens".to_owned(),
        format!("/tokens/{token}/revoke"),
        "/password".to_owned(),
        "/logout".to_owned(),
    ];
    let state = || {
        (
            api.get(&gateway.replace("/gateways", "/v1/gateways")).unwrap().text(),
            api.get("/v1/settings").unwrap().text(),
            api.get("/v1/tokens").unwrap().text(),
            api.get("/v1/accounts").unwrap().text(),
        )
    };
    let fields = [
        ("/name", "intruder"),
        ("/expires_in_seconds", "900"),
        ("/role", "viewer"),
        ("/expires_in_days", "7"),
        ("confirm", "edge-01"),
        ("number", ""),
        ("/unhealthy_after_seconds", "77"),
    ];
    let before = state();
    let with = |token: &str| -> Vec<(&'static str, String)> {
        let own = fields.iter().map(|(name, value)| (*name, (*value).to_owned()));
        own.chain([("csrf", token.to_owned())]).collect()
    };
    let send = |forms: &Forms, path: &str, token: &str| {
        let fields = with(token);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        forms.post(path, &fields).unwrap()
    };

    for path in for_operators.iter().chain(&for_administrators) {
        assert_eq!(send(&viewer, path, &viewer.csrf().unwrap()), 403, "a viewer posts to {path}");
    }
    for path in &for_administrators {
        assert_eq!(send(&operator, path, &operator.csrf().unwrap()), 403, "an operator posts to {path}");
        assert_eq!(operator.client.get(path).unwrap().status, 403, "an operator looks at {path}");
    }
    let others = operator.csrf().unwrap();
    for path in for_operators.iter().chain(&for_administrators).chain(&for_all) {
        for token in ["", "x", &others] {
            assert_eq!(send(&admin, path, token), 403, "without its token, {path} takes `{token}`");
        }
        // With the token, from another site's page.
        for (header, value) in [("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")] {
            let elsewhere = Forms { client: admin.client.header(header, value) };
            assert_eq!(send(&elsewhere, path, &admin.csrf().unwrap()), 403, "{path} from elsewhere");
        }
    }
    let strangers = Forms { client: console.client().unwrap() };
    for path in for_operators.iter().chain(&for_administrators).chain(&for_all) {
        assert_eq!(send(&strangers, path, ""), 303, "a stranger posts to {path}");
    }
    let elsewhere = Forms { client: console.client().unwrap().header("origin", "https://evil.example") };
    let credentials = [("name", "admin"), ("password", PASSWORD)];
    assert_eq!(elsewhere.post("/login", &credentials).unwrap(), 403, "another site logs its visitor in");
    assert_eq!(state(), before, "something has changed");

    // Who only looks sees neither the code nor a button.
    let page = viewer.client.get(&gateway).unwrap().text();
    let list = viewer.client.get("/").unwrap().text();
    assert!(page.contains("edge-01") && !page.contains(&code[..4]), "{page}");
    for (what, page) in [("the gateway", &page), ("the list", &list)] {
        // The one form is for logging out.
        assert_eq!(page.matches("<form method=\"post\"").count(), 1, "{what}: {page}");
        assert!(!page.contains("/gateways/new") && !page.contains("data-dialog"), "{what}: {page}");
    }
    assert_eq!(viewer.client.get(&format!("{gateway}/import.json")).unwrap().status, 403);
    let form = viewer.client.get(&format!("{gateway}/configuration")).unwrap().text();
    assert!(form.contains("<fieldset class=\"all\" disabled>") && !form.contains("id=\"save\""), "{form}");

    // And the same forms do what they say with the right token.
    assert_eq!(send(&operator, "/gateways/new", &others), 303);
    assert!(api.get("/v1/gateways").unwrap().text().contains("intruder"));

    // One that is refused is answered as such: for its values, or for what is there already.
    assert_eq!(send(&operator, "/gateways/new", &others), 409, "its name is taken");
    assert_eq!(operator.post(&format!("{gateway}/reset"), &[("csrf", &others)]).unwrap(), 422);
    assert_eq!(operator.post(&format!("{gateway}/configuration"), &[("csrf", &others)]).unwrap(), 422);
    assert_eq!(operator.post("/password", &[("csrf", &others), ("new", "a"), ("again", "b")]).unwrap(), 422);
    let own = admin.csrf().unwrap();
    for path in ["/accounts", "/tokens"] {
        assert_eq!(admin.post(path, &[("csrf", &own)]).unwrap(), 422, "{path}");
    }
    let seconds = [("csrf", own.as_str()), ("/unhealthy_after_seconds", "soon")];
    assert_eq!(admin.post("/settings", &seconds).unwrap(), 422);
    // What no database takes is refused before it gets there.
    assert_eq!(strangers.post("/login", &[("name", "\0"), ("password", "x")]).unwrap(), 422);
    assert_eq!(operator.post("/gateways/new", &[("csrf", &others), ("\0", "")]).unwrap(), 422);
    assert_eq!(admin.client.get("/?after=%00").unwrap().status, 400);
    assert_eq!(admin.client.get("/audit?before=x").unwrap().status, 400);

    // Of one's own account there is nothing to change here.
    let page = admin.client.get(&format!("/accounts/{admin_id}")).unwrap().text();
    assert!(
        page.contains("class=\"button\" href=\"/password\"") && !page.contains("name=\"&#x2f;role\""),
        "{page}"
    );

    // Who had to be approved has to be again, unless that is taken back.
    let approved = [("csrf", others.as_str()), ("/require_approval", "true")];
    assert_eq!(operator.post(&format!("{gateway}/code"), &approved).unwrap(), 303);
    let box_is_ticked = || {
        let page = operator.client.get(&format!("{gateway}/code")).unwrap().text();
        let (_, rest) = page.split_once("type=\"checkbox\"").unwrap();
        rest.split_once('>').unwrap().0.contains("checked")
    };
    assert!(box_is_ticked());
    assert_eq!(operator.post(&format!("{gateway}/code"), &approved[..1]).unwrap(), 303);
    assert!(!box_is_ticked());
}

fn account(console: &Console, name: &str, role: &str) -> Forms {
    let api = console.api().unwrap();
    let made = api.json("POST", "/v1/accounts", &json!({ "name": name, "role": role })).unwrap();
    let initial = made.expect(201).unwrap()["initial_password"].as_str().unwrap().to_owned();
    let session = console.sign_in(name, &initial).unwrap();
    let change = json!({ "current": initial, "new": PASSWORD });
    session.json("PUT", "/v1/session/password", &change).unwrap().expect(200).unwrap();
    Forms { client: cookie(&console.sign_in(name, PASSWORD).unwrap()) }
}

/// As a browser has it: pages know their token by themselves.
fn cookie(session: &Client) -> Client {
    session.clone()
}

fn find_id(accounts: &Value) -> Option<String> {
    let list = accounts.as_array().or_else(|| accounts.as_object()?.values().find_map(Value::as_array))?;
    list.first()?["id"].as_str().map(str::to_owned)
}
