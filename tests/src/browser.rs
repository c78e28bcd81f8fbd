//! A real browser: headless Chromium, driven by WebDriver (W3C) through Debian's chromedriver.
//!
//! ```text
//! test ── WebDriver ──> chromedriver ──> chromium ── TLS ──> console
//! ```
//!
//! It trusts one key, the console's own, and no certificate besides. Both programs stand in a PID namespace and end with
//! it.

use std::fs;
use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Runtime;
use x509_parser::pem::Pem;

use crate::process::{self, wait_for};
use crate::run::Run;

/// For the driver to answer; on a machine with much else to do it takes its time.
const START: Duration = Duration::from_secs(60);
/// For a page to become what is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks that there is a browser.
///
/// # Errors
/// It says what is missing.
pub fn check() -> Result<()> {
    crate::prerequisites::programs(&[("chromium", "chromium"), ("chromedriver", "chromium-driver")])
}

/// How a page is looked at.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// In pixels.
    pub width: u32,
    /// `prefers-color-scheme`.
    pub dark: bool,
}

/// A browser with one window and a profile of its own.
#[derive(Debug)]
pub struct Browser {
    runtime: Runtime,
    client: Client,
    driver: Child,
    origin: String,
    folder: PathBuf,
    _run: Arc<Run>,
}

impl Browser {
    /// Starts one for the site at `origin`, whose certificate is in `certificate` (PEM). It is in the network that the
    /// calling thread is in.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(origin: &str, certificate: &Path) -> Result<Browser> {
        let run = Run::current()?;
        let folder = run.folder(&run.name("browser"))?;
        let key = key_hash(&fs::read(certificate)?)?;
        // Bound and let go: the driver takes a port only by number.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = process::guarded_group("nsenter");
        command
            // Another thread starts it.
            .arg(format!("--net=/proc/{}/task/{}/ns/net", std::process::id(), nix::unistd::gettid()))
            .args(["--", "chromedriver"])
            .arg(format!("--port={port}"))
            .env("HOME", &folder)
            .env("TMPDIR", &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let driver = process::spawn(command).context("cannot start chromedriver")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let capabilities = json!({
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": [
                "--headless=new",
                // Chromium's sandbox does not run as root; what it opens is ours.
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--no-first-run",
                format!("--user-data-dir={}", folder.join("profile").display()),
                format!("--ignore-certificate-errors-spki-list={key}"),
            ]},
        });
        let Value::Object(capabilities) = capabilities else { bail!("these are no capabilities") };
        let started = wait_for("chromedriver", START, || {
            let mut builder = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder.capabilities(capabilities.clone());
            let driver = format!("http://127.0.0.1:{port}");
            let connect = async { tokio::time::timeout(START, builder.connect(&driver)).await };
            // It may not listen yet.
            Ok(runtime.block_on(connect)?.ok())
        });
        match started {
            Ok(client) => {
                Ok(Browser { runtime, client, driver, origin: origin.to_owned(), folder, _run: run })
            }
            Err(error) => {
                let mut driver = driver;
                process::stop_group(&mut driver);
                Err(error)
            }
        }
    }

    fn run<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        work: impl Future<Output = std::result::Result<T, E>>,
    ) -> Result<T> {
        self.runtime
            .block_on(async { tokio::time::timeout(START, work).await })
            .context("the browser does not answer")?
            .map_err(Into::into)
    }

    /// Opens a path of the site.
    ///
    /// # Errors
    /// As all here: when the browser fails.
    pub fn open(&self, path: &str) -> Result<()> {
        self.run(self.client.goto(&format!("{}{path}", self.origin)))
    }

    /// The path, query and fragment that it is at.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn path(&self) -> Result<String> {
        let url = self.run(self.client.current_url())?.to_string();
        Ok(url.strip_prefix(&self.origin).unwrap_or(&url).to_owned())
    }

    /// What is in the page.
    ///
    /// # Errors
    /// When there is no such element, see also [`Browser::open`].
    pub fn find(&self, css: &str) -> Result<Element> {
        self.run(self.client.find(Locator::Css(css)))
            .with_context(|| format!("no {css} at {:?}", self.path()))
    }

    /// Whether there is such an element.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn has(&self, css: &str) -> Result<bool> {
        Ok(!self.run(self.client.find_all(Locator::Css(css)))?.is_empty())
    }

    /// The text of an element as it is seen.
    ///
    /// # Errors
    /// See [`Browser::find`].
    pub fn text(&self, css: &str) -> Result<String> {
        let element = self.find(css)?;
        self.run(element.text())
    }

    /// A property of an element, as text; without a script of the page's.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn property(&self, element: &Element, name: &str) -> Result<String> {
        Ok(self.run(element.prop(name))?.unwrap_or_default())
    }

    /// Clicks.
    ///
    /// # Errors
    /// See [`Browser::find`].
    pub fn click(&self, css: &str) -> Result<()> {
        let element = self.find(css)?;
        // To the middle of the window, where nothing that sticks to its edges covers it; also without scripts.
        let document = self.devtools("DOM.getDocument", json!({}))?["root"]["nodeId"].clone();
        let node = self.devtools("DOM.querySelector", json!({ "nodeId": document, "selector": css }))?;
        self.devtools("DOM.scrollIntoViewIfNeeded", json!({ "nodeId": node["nodeId"] }))?;
        self.run(element.click()).with_context(|| format!("cannot click {css}"))
    }

    /// Types into a field, in place of what is there.
    ///
    /// # Errors
    /// See [`Browser::find`].
    pub fn fill(&self, css: &str, text: &str) -> Result<()> {
        let element = self.find(css)?;
        self.run(element.clear())?;
        self.run(element.send_keys(text)).with_context(|| format!("cannot type into {css}"))
    }

    /// Types at whatever has the focus.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn press(&self, keys: &str) -> Result<()> {
        let element = self.run(self.client.active_element())?;
        self.run(element.send_keys(keys))
    }

    /// What a script returns.
    ///
    /// # Errors
    /// When it throws, see also [`Browser::open`].
    pub fn script(&self, script: &str) -> Result<Value> {
        self.run(self.client.execute(script, Vec::new()))
    }

    /// What a script returns that ends with its last argument being called.
    ///
    /// # Errors
    /// See [`Browser::script`].
    pub fn slow_script(&self, script: &str) -> Result<Value> {
        self.run(self.client.execute_async(script, Vec::new()))
    }

    /// Waits until a script's expression is true.
    ///
    /// # Errors
    /// When it does not become so.
    pub fn wait(&self, expression: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            // Between two pages there is no document; then it is not true yet.
            let now = self.script(&format!("return Boolean({expression})"));
            if matches!(now, Ok(Value::Bool(true))) {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let page = self.script("return document.body.innerText").unwrap_or_default();
                bail!("at {:?} it never holds that {expression}; {now:?}\n{page}", self.path());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A command of the Chrome DevTools Protocol, for what WebDriver has not.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn devtools(&self, command: &str, parameters: Value) -> Result<Value> {
        let body = json!({ "cmd": command, "params": parameters });
        self.run(self.client.issue_cmd(Extension { path: "goog/cdp/execute", body }))
    }

    /// What the browser has complained of since it was asked last: violations of the content security policy, errors
    /// of scripts, requests that failed.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn complaints(&self) -> Result<Vec<String>> {
        let said = self
            .run(self.client.issue_cmd(Extension { path: "se/log", body: json!({ "type": "browser" }) }))?;
        let entries = said.as_array().context("this is no log")?;
        Ok(entries.iter().map(|entry| format!("{} {}", entry["level"], entry["message"])).collect())
    }

    /// Looks at pages in another way from now on.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn look(&self, view: View) -> Result<()> {
        let scheme = if view.dark { "dark" } else { "light" };
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            // Or a picture shows the middle of the way from one scheme's colours to the other's.
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.devtools("Emulation.setEmulatedMedia", json!({ "features": features }))?;
        let metrics =
            json!({ "width": view.width, "height": 800, "deviceScaleFactor": 1, "mobile": view.width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)?;
        Ok(())
    }

    /// A picture of the whole page, as PNG, in a file. Fails where the page is wider than the window.
    ///
    /// # Errors
    /// See [`Browser::open`].
    pub fn picture(&self, view: View, file: &Path) -> Result<()> {
        self.look(view)?;
        let size = self.script(
            "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight, innerWidth]",
        )?;
        let number = |n: usize| size[n].as_u64().context("this is no size");
        let (wide, high, window) = (number(0)?, number(1)?, number(2)?);
        ensure!(wide <= window, "the page at {} is {wide} pixels wide in a window of {window}", self.path()?);
        // As high as the page, so that what sticks to the window's edge is at the page's.
        let metrics = json!({ "width": view.width, "height": high.max(800), "deviceScaleFactor": 1, "mobile": view.width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)?;
        let taken = self.devtools("Page.captureScreenshot", json!({ "format": "png" }))?;
        let data = taken["data"].as_str().context("there is no picture")?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, STANDARD.decode(data)?)?;
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        process::stop_group(&mut self.driver);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A command that chromedriver knows beyond WebDriver.
#[derive(Debug)]
struct Extension {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Extension {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> std::result::Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/{}", session.unwrap_or_default(), self.path))
    }

    fn method_and_body(&self, _: &url::Url) -> (hyper::Method, Option<String>) {
        (hyper::Method::POST, Some(self.body.to_string()))
    }
}

/// What Chromium calls a key by: base64 of the SHA-256 of the certificate's SubjectPublicKeyInfo.
fn key_hash(pem: &[u8]) -> Result<String> {
    let certificate = Pem::iter_from_buffer(pem)
        .filter_map(std::result::Result::ok)
        .find(|block| block.label == "CERTIFICATE")
        .context("there is no certificate")?;
    let parsed = certificate.parse_x509()?;
    Ok(STANDARD.encode(Sha256::digest(parsed.tbs_certificate.subject_pki.raw)))
}

/// The accessibility checker axe-core (MPL-2.0; it judges our pages and is no part of what ships), fetched once.
///
/// # Errors
/// When npm cannot fetch it.
pub fn axe() -> Result<String> {
    const VERSION: &str = "4.14.1";
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = crate::run::base().join(format!("axe-{VERSION}"));
    let file = folder.join("node_modules/axe-core/axe.min.js");
    if !file.exists() {
        fs::create_dir_all(&folder)?;
        let mut npm = std::process::Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--prefix"]);
        process::output(npm.arg(&folder).arg(format!("axe-core@{VERSION}")))?;
    }
    Ok(fs::read_to_string(file)?)
}
