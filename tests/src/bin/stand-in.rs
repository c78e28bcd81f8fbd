//! A machine's stand-in: what firstboot does with its console, and nothing else. Looks at the way, pairs, and holds the
//! link, as one line of JSON on standard input says; tells what happens as lines of JSON on standard output.
//!
//! ```text
//! {"folder":"/tmp/machine","origin":"https://192.0.2.9:8443","code":"4821 7739 0515","steps":["preflight","pair","link"]}
//! {"push":"an event"}
//! "retry"
//! ```

#![allow(clippy::print_stdout, reason = "it speaks to the one who started it")]

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use jiff::Timestamp;
use link::{Applied, Bounds, End, Facts, Failure, Link, Proxy, Route, Store, pair, preflight};
use protocol::code::Code;
use protocol::link::{Body, Event, Heartbeat, Metrics, Outcome, Severity};
use protocol::secret::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// What is to be done.
#[derive(Deserialize)]
struct Setup {
    folder: PathBuf,
    origin: String,
    #[serde(default)]
    proxy: Option<String>,
    #[serde(default)]
    no_proxy: Vec<String>,
    /// PEM.
    #[serde(default)]
    proxy_ca: String,
    #[serde(default)]
    code: String,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Step {
    Preflight,
    Pair,
    /// Again and again, as firstboot does.
    KeepPairing,
    Link,
}

/// What is asked of it while it holds the link.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wish {
    Push(String),
    Retry,
}

fn say(line: &Value) {
    // Nobody is left to tell where this fails.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn main() -> Result<()> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text)?;
    let setup: Setup = serde_json::from_str(&text)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Err(failure) = run(setup).await? {
            say(&json!({ "failure": failure }));
        }
        Ok(())
    })
}

async fn run(setup: Setup) -> Result<Result<(), Failure>> {
    let proxy_ca: Vec<_> =
        CertificateDer::pem_slice_iter(setup.proxy_ca.as_bytes()).collect::<Result<_, _>>()?;
    let proxy = setup.proxy.map(|url| Proxy { url: Secret::new(url), no_proxy: setup.no_proxy });
    let route = Route { origin: setup.origin.parse()?, proxy, proxy_ca };
    let store = match Store::open(&setup.folder, Bounds::default()) {
        Ok(store) => store,
        Err(failure) => return Ok(Err(failure)),
    };
    for step in setup.steps {
        let result = match step {
            Step::Preflight => {
                say(&json!({ "preflight": preflight(&route, &store).await }));
                Ok(())
            }
            Step::Pair => pair_once(&route, &store, &code(&setup.code)?).await,
            Step::KeepPairing => {
                let code = code(&setup.code)?;
                loop {
                    match pair_once(&route, &store, &code).await {
                        Err(failure) if !failure.needs_somebody() => say(&json!({ "tried": failure })),
                        result => break result,
                    }
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
            Step::Link => hold(route.clone(), store.clone()).await,
        };
        if result.is_err() {
            return Ok(result);
        }
    }
    Ok(Ok(()))
}

fn code(text: &str) -> Result<Code> {
    Code::parse(text).context("the code is none")
}

async fn pair_once(route: &Route, store: &Store, code: &Code) -> Result<(), Failure> {
    let facts = Facts {
        vm_uuid: None,
        hostname: "stand-in".into(),
        addresses: Vec::new(),
        software: env!("CARGO_PKG_VERSION").into(),
    };
    let began = std::time::Instant::now();
    let on = |progress| say(&json!({ "progress": format!("{progress:?}") }));
    let grant = pair(route, store, code, &facts, on).await?;
    say(&json!({ "paired": grant.gateway, "seconds": began.elapsed().as_secs_f64() }));
    Ok(())
}

/// Holds the link until standard input ends.
async fn hold(route: Route, store: Store) -> Result<(), Failure> {
    let spool = store.spool().clone();
    let link = std::sync::Arc::new(Link::new(route, store)?);
    let cancel = CancellationToken::new();
    let (ended, wisher) = (cancel.clone(), std::sync::Arc::clone(&link));
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            match serde_json::from_str(&line) {
                Ok(Wish::Push(message)) => {
                    let event = Event {
                        severity: Severity::Info,
                        reason: "Test".into(),
                        message,
                        source: "test".into(),
                    };
                    let kept = spool.push(Body::Event(event)).map_err(|error| error.to_string());
                    say(&json!({ "pushed": kept }));
                }
                Ok(Wish::Retry) => wisher.retry_now(),
                Err(error) => say(&json!({ "misunderstood": error.to_string() })),
            }
        }
        ended.cancel();
    });
    let mut status = link.status();
    tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let now = status.borrow_and_update().clone();
            say(&json!({ "status": now }));
        }
    });
    let heartbeat = || Heartbeat {
        time: Timestamp::now(),
        state: "pending".into(),
        software: env!("CARGO_PKG_VERSION").into(),
        uptime_seconds: 1,
        addresses: Vec::new(),
        metrics: Metrics::default(),
    };
    let end = link
        .run(
            heartbeat,
            async |order| {
                say(&json!({ "command": order.command, "resumed": order.resumed }));
                // As long as something real: others must not wait for it.
                tokio::time::sleep(Duration::from_millis(200)).await;
                Applied { outcome: Outcome::Done, message: "As told.".into() }
            },
            cancel,
        )
        .await;
    match end {
        End::Cancelled => Ok(()),
        End::Revoked(failure) | End::Disk(failure) => Err(failure),
    }
}
