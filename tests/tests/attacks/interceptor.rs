//! A proxy that ends TLS by a CA of its own and reads along, as companies run them, and thieves; or that does not.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, crypto};

use crate::{HOST, console, line};

/// The name of its CA.
pub(crate) const CA: &str = "Corporate Inspection CA";
const MAX_HEAD: usize = 8 * 1024;

pub(crate) struct Interceptor {
    pub(crate) address: SocketAddr,
    /// What passed, both ways, without TLS.
    read: Arc<Mutex<Vec<u8>>>,
    _runtime: Runtime,
}

impl Interceptor {
    /// One that ends TLS, or one that lets it pass.
    pub(crate) fn start(ends_tls: bool) -> Result<Interceptor> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let tls = if ends_tls { Some(TlsAcceptor::from(forged()?)) } else { None };
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
        let address = listener.local_addr()?;
        let read: Arc<Mutex<Vec<u8>>> = Arc::default();
        let ears = Arc::clone(&read);
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // One that breaks says so to its machine.
                tokio::spawn(relay(stream, tls.clone(), Arc::clone(&ears)));
            }
        });
        Ok(Interceptor { address, read, _runtime: runtime })
    }

    pub(crate) fn has_read(&self) -> String {
        String::from_utf8_lossy(&self.read.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

async fn relay(mut machine: TcpStream, tls: Option<TlsAcceptor>, ears: Arc<Mutex<Vec<u8>>>) -> Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        ensure!(head.len() < MAX_HEAD, "the head does not end");
        head.push(machine.read_u8().await?);
    }
    ensure!(head.starts_with(format!("CONNECT {HOST}:").as_bytes()), "no CONNECT to the console");
    machine.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let Some(tls) = tls else {
        let mut console = TcpStream::connect(console().said().address).await?;
        tokio::io::copy_bidirectional(&mut machine, &mut console).await?;
        return Ok(());
    };
    let machine = tls.accept(machine).await?;
    let console = line::connect(line::address(), line::tls(None)?).await?;
    let (from_machine, to_machine) = tokio::io::split(machine);
    let (from_console, to_console) = tokio::io::split(console);
    tokio::try_join!(pass(from_machine, to_console, &ears), pass(from_console, to_machine, &ears))?;
    Ok(())
}

async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    ears: &Mutex<Vec<u8>>,
) -> Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        ears.lock().unwrap_or_else(PoisonError::into_inner).extend(&buffer[..length]);
        to.write_all(&buffer[..length]).await?;
        to.flush().await?;
        if length == 0 {
            return Ok(to.shutdown().await?);
        }
    }
}

/// TLS as the console, and as 127.0.0.1, by [`CA`].
pub(crate) fn forged() -> Result<Arc<ServerConfig>> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, CA);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let ca = params.self_signed(&key)?.der().clone();
    let leaf = CertificateParams::new(vec![HOST.to_owned(), "127.0.0.1".to_owned()])?;
    let leaf_key = KeyPair::generate()?;
    let leaf = leaf.signed_by(&leaf_key, &Issuer::new(params, &key))?;
    let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone(), ca];
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
    Ok(Arc::new(
        ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?,
    ))
}
