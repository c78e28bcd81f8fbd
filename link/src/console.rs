//! The console of a paired machine: connections that are what the grant says, and requests that it knows the machine by.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Method, Request};
use jiff::Timestamp;
use protocol::device_key::DeviceKey;
use protocol::pairing::Grant;
use protocol::signature;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::sign::any_eddsa_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use uuid::Uuid;

use crate::chain;
use crate::dial::dial;
use crate::failure::{Failure, Stage};
use crate::http::{Answer, Channel, NoAnswer, Upgraded, request};
use crate::route::Route;
use crate::status::{Kind, Transport};
use crate::store::Store;
use crate::trust::{Trust, Voucher};

/// How long an answer may take.
pub(crate) const ANSWER: Duration = Duration::from_secs(20);
/// The most certificates in a chain or bundle.
const MAX_CERTIFICATES: usize = 32;

/// The console that a machine is paired with.
pub(crate) struct Console {
    pub(crate) route: Route,
    pub(crate) store: Store,
    credentials: Mutex<Arc<Credentials>>,
}

/// What the machine shows, and what it believes.
pub(crate) struct Credentials {
    pub(crate) key: DeviceKey,
    pub(crate) grant: Grant,
    /// Of the client certificate.
    pub(crate) lifetime: (Timestamp, Timestamp),
    identity: Arc<dyn ResolvesClientCert>,
    trust: Trust,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Console({})", self.route.origin())
    }
}

impl Credentials {
    /// What a grant is worth with a key.
    ///
    /// # Errors
    /// With what of it cannot be.
    pub(crate) fn new(key: DeviceKey, grant: Grant, route: &Route) -> Result<Credentials, &'static str> {
        let chain = certificates(&grant.certificate).ok_or("its client certificate cannot be read")?;
        let leaf = chain.first().ok_or("it has no client certificate")?;
        if chain::public_key(leaf).as_deref() != Some(&key.public()) {
            return Err("its client certificate is for another machine");
        }
        let lifetime = chain::lifetime(leaf).ok_or("its client certificate has no lifetime")?;
        let bundle = certificates(&grant.ca_bundle).ok_or("its CA bundle cannot be read")?;
        if bundle.is_empty() {
            return Err("its CA bundle is empty");
        }
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(key.to_pkcs8()))
            .map_err(|_| "its key is no Ed25519 key")?;
        let identity = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, signer)));
        let trust = Trust::pinned(bundle, &route.proxy_ca);
        Ok(Credentials { key, grant, lifetime, identity, trust })
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }
}

/// The certificates of some PEM text, at most as many as anybody needs.
fn certificates(pem: &str) -> Option<Vec<CertificateDer<'static>>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CERTIFICATES);
    all.collect::<Result<_, _>>().ok()
}

/// A connection to the console, known to be the console (or a proxy that is meant to be there).
pub(crate) struct Connection {
    channel: Channel,
    host: HeaderValue,
    credentials: Arc<Credentials>,
    /// Whether a CA of the grant vouches for it, and no proxy.
    pub(crate) vouched: bool,
    /// Whether the console cannot see the client certificate, so that requests are signed.
    signs: bool,
    /// Through which proxy.
    proxy: Option<String>,
}

impl Console {
    /// That of a store's grant.
    ///
    /// # Errors
    /// Where it has none.
    pub(crate) fn open(route: Route, store: Store) -> Result<Console, Failure> {
        let hint = "pair it with the console: make a pairing code there and enter it here";
        let none = || Failure::new(Stage::Code, "This machine is not paired.", hint);
        let paired = store.paired()?.ok_or_else(none)?;
        let key = paired.key().ok_or_else(none)?;
        let credentials = Credentials::new(key, paired.grant, &route).map_err(|why| {
            Failure::new(Stage::Code, format!("The grant of this machine is damaged: {why}."), hint)
        })?;
        Ok(Console { route, store, credentials: Mutex::new(Arc::new(credentials)) })
    }

    pub(crate) fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these.
    pub(crate) fn replace(&self, credentials: Credentials) -> Result<(), Failure> {
        if let Some(paired) = self.store.paired()? {
            self.store.save_paired(&paired.with(credentials.grant.clone()))?;
        }
        *self.credentials.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(credentials);
        Ok(())
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Result<Connection, Failure> {
        let credentials = self.credentials();
        let clock = self.store.clock();
        // Past its time it would only be refused; the key is still known.
        let holds = clock.now() < credentials.lifetime.1;
        let identity = holds.then(|| Arc::clone(&credentials.identity));
        let dialed = dial(&self.route, &credentials.trust, clock, identity, |_| ()).await?;
        let vouched = dialed.voucher == Voucher::Known;
        let signs = !holds || !vouched;
        let origin = self.route.origin();
        let channel = Channel::open(dialed.stream).await.map_err(|e| no_answer(&origin, &e.into()))?;
        Ok(Connection { channel, host: host(&self.route), credentials, vouched, signs, proxy: dialed.proxy })
    }

    /// What an answer that does not say yes means. Takes the console's time from it, if that is what is wrong: it comes
    /// from whom the grant or the administrator names.
    pub(crate) fn failure(&self, answer: &Answer) -> Failure {
        let failure = answer.failure(&self.route.origin());
        if failure.stage == Stage::Clock
            && let Some(date) = answer.date()
            && let Err(failure) = self.store.learn_time(date)
        {
            return failure;
        }
        failure
    }
}

impl Connection {
    /// A request that the console knows this machine by.
    fn request(&self, method: Method, path: &str, body: Vec<u8>, now: Timestamp) -> Request<Full<Bytes>> {
        let nonce = Uuid::new_v4().simple().to_string();
        let signed = self
            .signs
            .then(|| signature::sign(&self.credentials.key, method.as_str(), path, None, &body, now, &nonce));
        let mut request = request(method, &self.host, path, body.into());
        for (name, value) in signed.into_iter().flatten() {
            let value = HeaderValue::from_str(&value).expect("a signature is ASCII");
            request.headers_mut().insert(name, value);
        }
        request
    }

    pub(crate) fn transport(&self, kind: Kind) -> Transport {
        Transport { kind, proxy: self.proxy.clone(), signed: self.signs }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Asks with a JSON body.
    pub(crate) async fn post(
        &mut self,
        console: &Console,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<Answer, Failure> {
        let request = self.request(Method::POST, path, body, console.store.clock().now());
        self.channel.send(request, within).await.map_err(|why| no_answer(&console.route.origin(), &why))
    }

    /// Turns the connection into a WebSocket's; `prepare` adds its headers.
    pub(crate) async fn upgrade(
        self,
        console: &Console,
        path: &str,
        prepare: impl FnOnce(&mut Request<Full<Bytes>>),
    ) -> Result<Result<Upgraded, Answer>, Failure> {
        let mut request = self.request(Method::GET, path, Vec::new(), console.store.clock().now());
        prepare(&mut request);
        self.channel
            .upgrade(request, |status| status == hyper::StatusCode::SWITCHING_PROTOCOLS, ANSWER)
            .await
            .map_err(|why| no_answer(&console.route.origin(), &why))
    }
}

/// The value of `Host`.
pub(crate) fn host(route: &Route) -> HeaderValue {
    let origin = route.origin();
    let host = origin.trim_start_matches("https://");
    HeaderValue::from_str(host).expect("host and port of a URL are ASCII")
}

pub(crate) fn no_answer(origin: &str, why: &NoAnswer) -> Failure {
    Failure::new(
        Stage::Http,
        format!("{origin} gives no answer: {why}."),
        "the console may be starting anew, or something on the way cuts connections; it tries again by itself",
    )
}
