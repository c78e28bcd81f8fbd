//! A connection to the console that does nothing by itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use gatewright_tests::https::Answer;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{self, CONTENT_TYPE};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, client, crypto, sign};

use crate::{HOST, console};

/// For an answer; a poll may be held for most of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// An address of this machine that nobody has used: each has limits of its own.
pub(crate) fn address() -> IpAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [a, b] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 77, a, b).into()
}

/// TLS that believes the console's CA and shows an identity, if there is one.
pub(crate) fn tls(identity: Option<Arc<CertifiedKey>>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&console().said().ca_file)? {
        roots.add(certificate?)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(Arc::new(match identity {
        Some(identity) => {
            let identity: Arc<dyn client::ResolvesClientCert> =
                Arc::new(sign::SingleCertAndKey::from(identity));
            builder.with_client_cert_resolver(identity)
        }
        None => builder.with_no_client_auth(),
    }))
}

/// TLS with the console.
pub(crate) async fn connect(from: IpAddr, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    let stream = socket.connect(console().said().address).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(tls).connect(ServerName::try_from(HOST)?, stream).await.context("no TLS")
}

/// HTTP/1.1 over one connection.
pub(crate) struct Line {
    runtime: Runtime,
    sender: SendRequest<Full<Bytes>>,
    /// The certificate that the console showed.
    pub(crate) chain: Vec<CertificateDer<'static>>,
}

impl Line {
    /// From an address of its own.
    pub(crate) fn open(identity: Option<Arc<CertifiedKey>>) -> Result<Line> {
        Line::open_from(address(), identity)
    }

    pub(crate) fn open_from(address: IpAddr, identity: Option<Arc<CertifiedKey>>) -> Result<Line> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let tls = tls(identity)?;
        let (sender, chain) = runtime.block_on(async {
            let stream = connect(address, tls).await?;
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
            let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            anyhow::Ok((sender, chain))
        })?;
        Ok(Line { runtime, sender, chain })
    }

    /// One request, with its headers, and the answer.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Vec<u8>,
    ) -> Result<Answer> {
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes())?)
            .uri(path)
            .header(header::HOST, HOST);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        self.runtime.block_on(async {
            let exchange = async {
                self.sender.ready().await?;
                let (head, body) = self.sender.send_request(request).await?.into_parts();
                let body = body.collect().await?.to_bytes().to_vec();
                anyhow::Ok(Answer { status: head.status, headers: head.headers, body })
            };
            tokio::time::timeout(PATIENCE, exchange)
                .await
                .with_context(|| format!("no answer to {method} {path}"))?
        })
    }

    /// The same with JSON, and how long the answer took.
    pub(crate) fn post(&mut self, path: &str, body: &impl serde::Serialize) -> Result<(Answer, Duration)> {
        let body = serde_json::to_vec(body)?;
        let begun = Instant::now();
        let answer = self.ask("POST", path, &[], body)?;
        Ok((answer, begun.elapsed()))
    }
}
