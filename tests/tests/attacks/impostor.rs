//! Somebody who plays the console without knowing the secret, and has a guess in each handshake.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use protocol::link::About;
use protocol::pairing::console::{self, Keys};
use protocol::pairing::{Claim, Confirm, Grant, PairingError, Start, Verdict};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::interceptor;

pub(crate) struct Impostor {
    pub(crate) origin: String,
    told: Arc<Mutex<Told>>,
    _runtime: Runtime,
}

/// What machines told it.
#[derive(Default)]
pub(crate) struct Told {
    /// How many messages 1 came.
    pub(crate) starts: u32,
    /// Everything, as it came.
    pub(crate) words: String,
    /// What came of opening messages 3 with its guesses.
    pub(crate) claims: Vec<std::result::Result<Claim, PairingError>>,
    keys: Vec<(Uuid, Keys)>,
}

impl Impostor {
    /// One that guesses these seven digits first, and then those after them.
    pub(crate) fn start(guess: u32) -> Result<Impostor> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let origin = format!("https://{}", listener.local_addr()?);
        let tls = TlsAcceptor::from(interceptor::forged()?);
        let told: Arc<Mutex<Told>> = Arc::default();
        let (ears, own) = (Arc::clone(&told), origin.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, ears, own) = (tls.clone(), Arc::clone(&ears), own.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = service_fn(|request| answer(request, Arc::clone(&ears), &own, guess));
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service);
                    // The machine hangs up when it has heard enough.
                    let _ = connection.await;
                });
            }
        });
        Ok(Impostor { origin, told, _runtime: runtime })
    }

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(
    request: Request<Incoming>,
    ears: Arc<Mutex<Told>>,
    origin: &str,
    guess: u32,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let mut told = ears.lock().unwrap_or_else(PoisonError::into_inner);
    told.words.push_str(&format!("{path}\n{}\n", String::from_utf8_lossy(&body)));
    let answer = reply(&path, &body, &mut told, origin, guess);
    let status = if answer.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    let mut response = Response::new(Full::from(answer.unwrap_or_default()));
    *response.status_mut() = status;
    Ok(response)
}

fn reply(path: &str, body: &[u8], told: &mut Told, origin: &str, guess: u32) -> Option<String> {
    if path == "/v1/version" {
        let (product, software) = ("gatewright-console".into(), "0.1.0".into());
        let about = About { product, software, protocols: vec![protocol::VERSION], time: Timestamp::now() };
        return serde_json::to_string(&about).ok();
    }
    let path = path.strip_prefix("/v1/pairings/")?;
    if let Some(locator) = path.strip_suffix("/start") {
        let message: Start = serde_json::from_slice(body).ok()?;
        let secret = format!("{:07}", (guess + told.starts) % 10_000_000);
        told.starts += 1;
        let (started, keys) = console::start(locator, &secret, &[origin], &message).ok()?;
        told.keys.push((started.session, keys));
        return serde_json::to_string(&started).ok();
    }
    let session: Uuid = path.strip_suffix("/confirm")?.parse().ok()?;
    let message: Confirm = serde_json::from_slice(body).ok()?;
    let keys = told.keys.iter().find(|(known, _)| *known == session).map(|(_, keys)| keys.clone())?;
    told.claims.push(keys.open(&message).map(|(claim, _)| claim));
    let grant = Grant {
        gateway: Uuid::now_v7(),
        name: "mine".into(),
        certificate: String::new(),
        ca_bundle: String::new(),
        origin: origin.to_owned(),
        time: Timestamp::now(),
        heartbeat_seconds: 30,
    };
    serde_json::to_string(&keys.confirmed(&Verdict::Granted(Box::new(grant)))).ok()
}
