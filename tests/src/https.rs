//! Requests over HTTPS as a program makes them: one connection each, with what the test wants to be odd about it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, HeaderMap};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

/// For a whole exchange.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Whom to ask, and as whom.
#[derive(Clone)]
pub struct Client {
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    headers: Vec<(String, String)>,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Client {
    /// Asks the server at `address` as `https://HOST[:PORT]`, trusting the CA in `ca` (PEM) alone.
    ///
    /// # Errors
    /// When that is no CA.
    pub fn new(address: SocketAddr, host: &str, ca: &str) -> Result<Client> {
        Client::make(address, host, ca, None)
    }

    /// The same with a client certificate: its chain and its key, PEM.
    ///
    /// # Errors
    /// When one of them is not what it should be.
    pub fn with_certificate(
        address: SocketAddr,
        host: &str,
        ca: &str,
        chain: &str,
        key: &str,
    ) -> Result<Client> {
        Client::make(address, host, ca, Some((chain, key)))
    }

    fn make(address: SocketAddr, host: &str, ca: &str, certificate: Option<(&str, &str)>) -> Result<Client> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let tls = match certificate {
            Some((chain, key)) => {
                let chain =
                    CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes())?)?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Client { address, host: host.to_owned(), tls: Arc::new(tls), headers: Vec::new() })
    }

    /// The same with a header in every request.
    #[must_use]
    pub fn header(&self, name: &str, value: &str) -> Client {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// Asks without a body.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, None)
    }

    /// Asks with a body of JSON, unless that is null.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn json(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        if body.is_null() {
            return self.request(method, path, None);
        }
        self.request(method, path, Some(("application/json", body.to_string().into_bytes())))
    }

    /// Asks with a body of a kind.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn request(&self, method: &str, path: &str, body: Option<(&str, Vec<u8>)>) -> Result<Answer> {
        let mut request = Request::builder().method(Method::from_bytes(method.as_bytes())?).uri(path);
        let port = self.address.port();
        let host = if port == 443 { self.host.clone() } else { format!("{}:{port}", self.host) };
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header(HOST, host);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut bytes = Bytes::new();
        if let Some((kind, body)) = body {
            request = request.header(CONTENT_TYPE, kind);
            bytes = body.into();
        }
        let request = request.body(Full::new(bytes))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            tokio::time::timeout(PATIENCE, self.exchange(request))
                .await
                .with_context(|| format!("no answer to {method} {path} within {PATIENCE:?}"))?
                .with_context(|| format!("no answer to {method} {path}"))
        })
    }

    /// Asks for a stream, and says whether it is still open after a while.
    ///
    /// # Errors
    /// When it does not begin.
    pub fn stays_open(&self, path: &str, a_while: Duration) -> Result<bool> {
        let mut request = Request::builder().uri(path).header(HOST, &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::new()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let response = self.send(request).await?;
            if response.status() != StatusCode::OK {
                bail!("{} instead of a stream", response.status());
            }
            // What it sends does not matter; that it sends to its end does.
            Ok(tokio::time::timeout(a_while, response.into_body().collect()).await.is_err())
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer> {
        let (head, body) = self.send(request).await?.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(error) => bail!("the answer broke off: {error}"),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    /// The connection lives as long as the runtime.
    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(self.host.clone())?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender.send_request(request).await?)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("address", &self.address)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// The body as JSON of a kind.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("{}: {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// The same, unless the status is another one.
    ///
    /// # Errors
    /// With what came instead.
    pub fn expect(&self, status: u16) -> Result<Value> {
        if self.status.as_u16() != status {
            bail!("{} instead of {status}: {}", self.status, self.text());
        }
        if self.body.is_empty() { Ok(Value::Null) } else { self.read() }
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, if it is there.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}
