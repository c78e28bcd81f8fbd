//! How registries are reached: protocol, certificates, proxies, mirrors, credentials, time limits.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::fs;
use std::future::{Future, pending};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use oci_client::Client;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::runtime::{Builder, Runtime};

use crate::{Error, Reference, credentials};

/// To connect.
const CONNECT: Duration = Duration::from_secs(20);
/// For any request, and more by its size.
const ANSWER: Duration = Duration::from_secs(60);
/// A transfer may be as slow as this on average, in bytes a second.
const SLOWEST: u64 = 50_000;
/// How often we look whether we are to stop.
const LOOK: Duration = Duration::from_millis(100);

/// Where plain HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PlainHttp {
    /// To `localhost` and 127.0.0.0/8, unless certificates are given: nobody can listen in there.
    #[default]
    Auto,
    /// To every registry.
    Always,
}

/// How registries are reached. Besides, proxies are those of `https_proxy`, `http_proxy`, `all_proxy` and `no_proxy`, and
/// loopback addresses have none. A request ends after a minute, and a second more for every 50 kB it carries.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where plain HTTP is spoken; TLS elsewhere.
    pub plain_http: PlainHttp,
    /// Where to read instead, by host: `HOST[:PORT][/PREFIX]`. Nothing is pushed there.
    pub mirrors: BTreeMap<String, String>,
    /// PEM file of certificates to trust besides the system's.
    pub ca: Option<PathBuf>,
    /// Credentials, in Docker's form. Otherwise those of `REGISTRY_AUTH_FILE`, or of `docker login` (`DOCKER_CONFIG`,
    /// `~/.docker`) and `podman login`.
    pub auth_file: Option<PathBuf>,
    /// Nothing is asked: what no cache has ends with [`Error::Unreachable`].
    pub offline: bool,
    /// Asked ten times a second; `true` ends what is under way with [`Error::Cancelled`].
    pub cancelled: Option<fn() -> bool>,
}

/// Registries, with the connections that were made to them.
#[derive(Debug)]
pub struct Registry {
    options: Options,
    certificates: Vec<Vec<u8>>,
    runtime: Runtime,
    sessions: Mutex<HashMap<String, Arc<Session>>>,
}

/// A client of one host.
struct Session {
    client: Client,
    auth: RegistryAuth,
    offline: bool,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("auth", &self.auth).finish_non_exhaustive()
    }
}

impl Registry {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// When [`Options::ca`] or a mirror makes no sense.
    pub fn new(options: Options) -> Result<Registry, Error> {
        // Another user of TLS in this process may have chosen one before; either will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut certificates = Vec::new();
        if let Some(path) = &options.ca {
            let pem = fs::read(path).map_err(Error::file(path))?;
            certificates = CertificateDer::pem_slice_iter(&pem)
                .map(|certificate| certificate.map(|der| der.to_vec()))
                .collect::<Result<_, _>>()
                .unwrap_or_default();
            if certificates.is_empty() {
                return Err(Error::invalid(path.display(), "it has no certificates", "give a PEM file"));
            }
        }
        for (host, mirror) in &options.mirrors {
            mirrored(host, "x", mirror)?;
        }
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::broken("The network", e.to_string()))?;
        Ok(Registry { options, certificates, runtime, sessions: Mutex::default() })
    }

    /// Where something is read: at its mirror, if its host has one.
    pub(crate) fn reading(&self, at: &Reference) -> Result<Reference, Error> {
        match self.options.mirrors.get(&at.host) {
            Some(mirror) => {
                let place = mirrored(&at.host, &at.repository, mirror)?;
                Ok(Reference { tag: at.tag.clone(), digest: at.digest.clone(), ..place })
            }
            None => Ok(at.clone()),
        }
    }

    /// Works at a registry: as a stranger first, so that public things need no password, and one that has expired does no
    /// harm; then, if that does not do, with the host's credentials. Some hide what a stranger may not see.
    pub(crate) fn run<T>(
        &self,
        at: &Reference,
        work: impl AsyncFn(&Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let known = self.sessions().get(&at.host).cloned();
        let session = match known {
            Some(session) => session,
            None => {
                let session = self.open(&at.host, RegistryAuth::Anonymous)?;
                self.sessions().insert(at.host.clone(), session.clone());
                session
            }
        };
        let stranger = session.auth == RegistryAuth::Anonymous;
        let result = self.block_on(work(&Connection { session, at: at.clone() }));
        if !stranger || !matches!(result, Err(Error::Denied { .. } | Error::NotFound { .. })) {
            return result;
        }
        let Some(auth) = credentials::of(&at.host, self.options.auth_file.as_deref())? else { return result };
        let session = self.open(&at.host, auth)?;
        let known = self.block_on(work(&Connection { session: session.clone(), at: at.clone() }));
        if matches!((&result, &known), (Err(Error::NotFound { .. }), Err(Error::Denied { .. }))) {
            return result;
        }
        self.sessions().insert(at.host.clone(), session);
        known
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, host: &str, auth: RegistryAuth) -> Result<Arc<Session>, Error> {
        let plain = match self.options.plain_http {
            PlainHttp::Always => true,
            PlainHttp::Auto => is_loopback(host) && self.certificates.is_empty(),
        };
        // Proxies know nothing of this machine's loopback, whatever `no_proxy` says.
        let no_proxy = variable(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let config = ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            // Chunks are where registries differ most; one PUT is understood by all.
            use_monolithic_push: true,
            extra_root_certificates: self
                .certificates
                .iter()
                .map(|der| Certificate { encoding: CertificateEncoding::Der, data: der.clone() })
                .collect(),
            connect_timeout: Some(CONNECT),
            user_agent: concat!("gatewright/", env!("CARGO_PKG_VERSION")),
            https_proxy: variable(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http_proxy: variable(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: Some(format!("{no_proxy},localhost,127.0.0.0/8")),
            ..ClientConfig::default()
        };
        let client =
            Client::try_from(config).map_err(|error| Error::from_client(error, host, host, false))?;
        self.runtime.block_on(client.store_auth_if_needed(resolved(host), &auth));
        Ok(Arc::new(Session { client, auth, offline: self.options.offline }))
    }

    fn block_on<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        self.runtime.block_on(async {
            tokio::select! {
                result = work => result,
                () = self.cancelled() => Err(Error::Cancelled),
            }
        })
    }

    async fn cancelled(&self) {
        let Some(cancelled) = self.options.cancelled else { return pending().await };
        while !cancelled() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// A repository at a host, during one piece of work.
pub(crate) struct Connection {
    session: Arc<Session>,
    pub(crate) at: Reference,
}

impl Connection {
    pub(crate) fn client(&self) -> &Client {
        &self.session.client
    }

    /// The same with another name.
    pub(crate) fn at(&self, at: Reference) -> Connection {
        Connection { session: self.session.clone(), at }
    }

    pub(crate) fn auth(&self) -> &RegistryAuth {
        &self.session.auth
    }

    /// A request about `what` that carries `size` bytes, to its end or that of our patience.
    pub(crate) async fn ask<T>(
        &self,
        what: &str,
        size: u64,
        request: impl Future<Output = Result<T, OciDistributionError>>,
    ) -> Result<T, Error> {
        if self.session.offline {
            return Err(Error::Unreachable {
                host: self.at.host.clone(),
                why: "nothing may be asked".into(),
            });
        }
        let known = self.session.auth != RegistryAuth::Anonymous;
        let limit = ANSWER + Duration::from_secs(size / SLOWEST);
        match tokio::time::timeout(limit, request).await {
            Ok(result) => result.map_err(|error| Error::from_client(error, &self.at.host, what, known)),
            Err(_) => Err(Error::Unreachable {
                host: self.at.host.clone(),
                why: format!("no end of the answer after {} s", limit.as_secs()),
            }),
        }
    }

    /// The name of `at` in the protocol's crate. Without tag and digest it names the repository alone.
    pub(crate) fn wire(&self) -> oci_client::Reference {
        let Reference { host, repository, tag, digest } = self.at.clone();
        match digest {
            Some(digest) => oci_client::Reference::with_digest(host, repository, digest.into()),
            None => oci_client::Reference::with_tag(host, repository, tag.unwrap_or_else(|| "latest".into())),
        }
    }
}

/// The name under which the protocol's crate looks for credentials.
fn resolved(host: &str) -> &str {
    if host == "docker.io" { "index.docker.io" } else { host }
}

fn mirrored(host: &str, repository: &str, mirror: &str) -> Result<Reference, Error> {
    let mirror = mirror.trim_end_matches('/');
    match format!("{mirror}/{repository}").parse::<Reference>() {
        Ok(place) if place.tag.is_none() && place.digest.is_none() => Ok(place),
        _ => Err(Error::invalid(
            format!("The mirror `{}` of {host}", mirror.escape_debug()),
            "it is none",
            "write it as `HOST[:PORT][/PREFIX]`",
        )),
    }
}

fn is_loopback(host: &str) -> bool {
    let name = host.split(':').next().unwrap_or(host);
    name == "localhost" || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

fn variable(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| env::var(name).ok().filter(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_read_and_keep_the_name() {
        let table = [
            ("127.0.0.1:5000", "127.0.0.1:5000/a/b:1"),
            ("oci://mirror.example.com/k8s/", "mirror.example.com/k8s/a/b:1"),
        ];
        let at: Reference = "registry.k8s.io/a/b:1".parse().unwrap();
        for (mirror, place) in table {
            let mirrors = BTreeMap::from([("registry.k8s.io".to_owned(), mirror.to_owned())]);
            let registry = Registry::new(Options { mirrors, ..Options::default() }).unwrap();
            assert_eq!(registry.reading(&at).unwrap().to_string(), place);
        }
        for wrong in ["", "mirror", "https://a.io", "a.io/x:1", "a.io/../b"] {
            let mirrors = BTreeMap::from([("registry.k8s.io".to_owned(), wrong.to_owned())]);
            assert!(Registry::new(Options { mirrors, ..Options::default() }).is_err(), "{wrong}");
        }
    }

    #[test]
    fn offline_nothing_is_asked() {
        // Somebody would answer.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let at: Reference = format!("{}/a:1", listener.local_addr().unwrap()).parse().unwrap();
        let registry = Registry::new(Options { offline: true, ..Options::default() }).unwrap();
        assert!(matches!(registry.resolve(&at), Err(Error::Unreachable { .. })));
        assert!(listener.accept().is_err(), "nobody came");
    }

    #[test]
    fn only_loopback_is_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("127.9.9.9", true),
            ("127.0.0.1.example.com", false),
            ("localhost.example.com", false),
            ("10.0.0.1:5000", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
