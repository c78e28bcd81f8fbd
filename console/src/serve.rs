//! From the command's options to a console that answers.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use protocol::secret::Secret;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;
use uuid::Uuid;

use crate::auth::password::{self, Hasher};
use crate::auth::throttle::Throttle;
use crate::auth::{self, Role, session};
use crate::ca::Authority;
use crate::data_key::Secrets;
use crate::machine::{self, Hub, Rates};
use crate::state::{App, Console};
use crate::store::accounts::Account;
use crate::store::{self, Store, accounts, sessions};
use crate::tls::{Certificates, Source, fingerprint};
use crate::{api, listen};

/// The account of the first start.
pub const FIRST_ACCOUNT: &str = "admin";
/// Requests that are under way at the end have so long.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// Expired things are looked for this often.
const TIDYING: Duration = Duration::from_secs(60);
/// File descriptors for everything but connections.
const OTHER_FILES: u64 = 128;

/// How a console is to be.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its folder: data key, CA, certificate, and the database unless that is elsewhere.
    pub data: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The URLs under which it is reached; none: what this machine is known as.
    pub urls: Vec<Url>,
    /// A database by URL; none: SQLite in the folder.
    pub database: Option<Secret>,
    /// The data key; none: in the folder.
    pub key_file: Option<PathBuf>,
    /// Certificate and key; none: by its own CA.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// After how long without a heartbeat a gateway is unhealthy.
    pub unhealthy_after: Duration,
    /// How many pairings may be started.
    pub starts: Rates,
    /// The installer's OVA, to download.
    pub installer: Option<PathBuf>,
}

/// Why a console does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder.
    #[error("cannot use the folder {path}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another console has it.
    #[error("another console is running in {0}")]
    Running(PathBuf),
    /// The address.
    #[error("cannot listen at {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A URL that is no origin.
    #[error(
        "{0} is no address of a console: it must be https:// with a host, an optional port, and nothing else"
    )]
    Url(Url),
    /// The data key.
    #[error(transparent)]
    DataKey(#[from] crate::data_key::Error),
    /// The database.
    #[error("cannot use the database")]
    Database(#[from] sqlx::Error),
    /// The CAs.
    #[error(transparent)]
    Authority(#[from] crate::ca::Error),
    /// The certificate.
    #[error(transparent)]
    Tls(#[from] crate::tls::Error),
    /// The first account.
    #[error("cannot make the first account: {0}")]
    FirstAccount(String),
    /// This system.
    #[error("cannot catch signals")]
    Signals(io::Error),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Error::Folder { .. } => Some("name a folder that you may write to with `--data`"),
            Error::Running(_) => Some(
                "stop it first, or name another folder with `--data`; for several consoles see `--database`",
            ),
            Error::Listen { .. } => Some("name another address or port with `--listen`"),
            Error::Url(_) => Some("as in `--url https://console.example.com:8443`"),
            Error::DataKey(crate::data_key::Error::Rights(_)) => Some("`chmod 600` it"),
            Error::DataKey(_) => Some("restore it from a backup: without it the database's secrets are lost"),
            Error::Authority(crate::ca::Error::OtherKey(_)) => {
                Some("name the key that this database was made with by `--key-file`")
            }
            Error::Database(_) => Some("check `--database`, and that the server or the disk can be used"),
            Error::Tls(_) => Some("check `--tls-cert`, `--tls-key` and `--url`"),
            _ => None,
        }
    }
}

/// A console that answers.
#[derive(Debug)]
pub struct Running {
    /// What it works with.
    pub app: App,
    /// Where it listens.
    pub address: SocketAddr,
    /// The CA of its own certificate, to trust.
    pub ca_file: PathBuf,
    /// The password of [`FIRST_ACCOUNT`], at the first start.
    pub initial_password: Option<Secret>,
    /// Held while it runs.
    _lock: std::fs::File,
}

/// Opens the store of a console, running or not; its folder is made where there is none.
///
/// # Errors
/// When folder, data key or database cannot be used.
pub async fn open(config: &Config) -> Result<Store, Error> {
    let folder = |source| Error::Folder { path: config.data.clone(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.data).map_err(folder)?;
    let key_file = config.key_file.clone().unwrap_or_else(|| config.data.join("data-key"));
    let secrets = Secrets::from_file(&key_file)?;
    let url = match &config.database {
        Some(url) => url.clone(),
        None => Secret::new(Store::sqlite(&config.data.join("console.db")).map_err(folder)?),
    };
    Ok(Store::open(url.expose(), secrets).await?)
}

/// Starts a console. It runs until [`Running::stop`].
///
/// # Errors
/// With what to mend.
pub async fn serve(config: Config) -> Result<Running, Error> {
    let store = open(&config).await?;
    let folder = |source| Error::Folder { path: config.data.clone(), source };
    let lock = std::fs::File::create(config.data.join("lock")).map_err(folder)?;
    lock.try_lock().map_err(|_| Error::Running(config.data.clone()))?;

    let clock: fn() -> Timestamp = Timestamp::now;
    let ca = Authority::load(&store, clock()).await?;
    let ca_file = config.data.join("ca.pem");
    replace(&ca_file, ca.server_ca_pem()).map_err(folder)?;

    let listener = listen_at(config.listen)?;
    let address = listener.local_addr().unwrap_or(config.listen);
    let origins = origins(&config.urls, address)?;
    let source = match config.tls {
        Some((certificate, key)) => Source::Given { certificate, key },
        None => Source::Own { hosts: hosts(&origins), file: config.data.join("server.pem") },
    };
    let certificates = Arc::new(Certificates::new(source, &ca, clock())?);
    let tls = TlsAcceptor::from(Arc::new(certificates.config(&ca)?));

    let app = App::new(Console {
        store,
        ca,
        certificates,
        origins,
        hub: Hub::new(config.starts),
        clock,
        unhealthy_after: config.unhealthy_after,
        installer: config.installer,
        hasher: Hasher::new(),
        throttle: Throttle::default(),
        stopping: CancellationToken::new(),
        tasks: TaskTracker::new(),
    });
    let initial_password = first_account(&app).await?;
    let accept = listen::accept(
        listener,
        tls,
        api::service(app.clone()),
        connections(),
        app.stopping.clone(),
        app.tasks.clone(),
    );
    app.tasks.spawn(accept);
    app.tasks.spawn(tidy(app.clone()));
    machine::start(&app);
    let reload = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    app.tasks.spawn(renew(app.clone(), reload));
    Ok(Running { app, address, ca_file, initial_password, _lock: lock })
}

impl Running {
    /// The URL that people are shown.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.app.origins[0]
    }

    /// SHA-256 of its certificate, hexadecimal.
    #[must_use]
    pub fn certificate_sha256(&self) -> String {
        self.app.certificates.fingerprint()
    }

    /// SHA-256 of the CA in [`Running::ca_file`], hexadecimal.
    #[must_use]
    pub fn ca_sha256(&self) -> String {
        fingerprint(self.app.ca.server_ca())
    }

    /// Ends it: nobody is let in any more, requests have ten seconds, the database is closed.
    pub async fn stop(self) {
        self.app.stopping.cancel();
        self.app.tasks.close();
        if tokio::time::timeout(LAST_REQUESTS, self.app.tasks.wait()).await.is_err() {
            tracing::warn!("requests were cut off");
        }
        self.app.store.close().await;
    }
}

/// At the first start, an account for whoever started it.
async fn first_account(app: &App) -> Result<Option<Secret>, Error> {
    if accounts::count(&mut *app.store.read().await?).await? > 0 {
        return Ok(None);
    }
    let password = password::initial();
    let hash = password::hash(&password).map_err(|error| Error::FirstAccount(error.to_string()))?;
    let account = Account {
        id: Uuid::now_v7(),
        name: FIRST_ACCOUNT.into(),
        role: Role::Administrator,
        must_change: true,
        disabled: false,
        created_at: app.now(),
    };
    let mut db = app.store.write().await?;
    match accounts::insert(&mut db, &account, &hash).await {
        Ok(()) => {}
        // Another console with the same database was quicker, and told its starter.
        Err(error) if store::is_taken(&error) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    auth::audit(&mut db, app, "console", "", "account.create", FIRST_ACCOUNT, "first start").await?;
    db.commit().await?;
    Ok(Some(password))
}

fn listen_at(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address, source };
    let socket =
        if address.is_ipv4() { tokio::net::TcpSocket::new_v4() } else { tokio::net::TcpSocket::new_v6() }
            .map_err(failed)?;
    // Listen again right after an end.
    socket.set_reuseaddr(true).map_err(failed)?;
    socket.bind(address).map_err(failed)?;
    // Thousands of machines come back at once after a restart.
    socket.listen(4096).map_err(failed)
}

/// The origins of the URLs that were given, or of all names and addresses of this machine.
fn origins(urls: &[Url], address: SocketAddr) -> Result<Vec<String>, Error> {
    let mut origins: Vec<String> = Vec::new();
    for url in urls {
        let bare = url.scheme() == "https"
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if !bare {
            return Err(Error::Url(url.clone()));
        }
        origins.push(url.origin().ascii_serialization());
    }
    if origins.is_empty() {
        for host in own_hosts(address.ip()) {
            // What this machine calls itself may be no host name; then nobody reaches it by that.
            if let Ok(url) = Url::parse(&format!("https://{host}:{}", address.port())) {
                origins.push(url.origin().ascii_serialization());
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    origins.retain(|origin| seen.insert(origin.clone()));
    Ok(origins)
}

fn own_hosts(listen: IpAddr) -> Vec<String> {
    let written = |address: IpAddr| match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let mut hosts = Vec::new();
    if listen.is_unspecified() {
        hosts.extend(nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()));
        hosts
            .extend(own_addresses().into_iter().filter(|own| listen.is_ipv6() || own.is_ipv4()).map(written));
    } else if !listen.is_loopback() {
        hosts.push(written(listen));
    }
    hosts.extend([written(listen)].into_iter().filter(|_| listen.is_loopback()));
    hosts.extend(["localhost".to_owned(), "127.0.0.1".to_owned()]);
    hosts
}

/// The addresses of this machine's cards, without those that need a card's name beside them.
fn own_addresses() -> Vec<IpAddr> {
    let Ok(cards) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    cards
        .filter_map(|card| {
            let address = card.address?;
            if let Some(address) = address.as_sockaddr_in() {
                return Some(IpAddr::from(address.ip()));
            }
            address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip()))
        })
        .filter(|address| !address.is_loopback())
        .filter(|address| !matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()))
        .collect()
}

/// What the certificate must be for.
fn hosts(origins: &[String]) -> Vec<String> {
    let mut hosts: Vec<String> = origins
        .iter()
        .filter_map(|origin| Url::parse(origin).ok())
        .filter_map(|url| match url.host()? {
            url::Host::Domain(name) => Some(name.to_owned()),
            url::Host::Ipv4(address) => Some(address.to_string()),
            url::Host::Ipv6(address) => Some(address.to_string()),
        })
        .collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// As many connections as this process may have files, which is raised to what it can be.
fn connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 512 };
    let wanted = hard.min(65_536).max(soft);
    let limit = if setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    usize::try_from(limit.saturating_sub(OTHER_FILES)).unwrap_or(512).max(16)
}

/// Ends sessions that are over.
async fn tidy(app: App) {
    let mut every = tokio::time::interval(TIDYING);
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = every.tick() => {}
        }
        let now = app.now();
        let tidied = async {
            let mut db = app.store.write().await?;
            sessions::delete_expired(&mut db, now, now - session::IDLE).await?;
            db.commit().await
        };
        if let Err(error) = tidied.await {
            tracing::warn!(%error, "cannot tidy up");
        }
    }
}

/// Renews the console's own certificate, and reads a given one again at SIGHUP.
async fn renew(app: App, mut reload: tokio::signal::unix::Signal) {
    let mut every = tokio::time::interval(Duration::from_secs(60 * 60));
    every.tick().await;
    loop {
        tokio::select! {
            () = app.stopping.cancelled() => return,
            _ = every.tick() => {}
            _ = reload.recv() => {}
        }
        match app.certificates.refresh(&app.ca, app.now()) {
            Ok(()) => tracing::debug!(sha256 = app.certificates.fingerprint(), "certificate looked at"),
            Err(error) => tracing::error!(%error, "the certificate stays as it is"),
        }
    }
}

/// Writes a file that everybody may read, at once or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut new =
        tempfile::Builder::new().permissions(std::fs::Permissions::from_mode(0o644)).tempfile_in(folder)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}
