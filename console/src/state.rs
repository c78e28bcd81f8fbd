//! What every request has at hand.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::password::Hasher;
use crate::auth::throttle::Throttle;
use crate::ca::Authority;
use crate::machine::Hub;
use crate::store::Store;
use crate::tls::Certificates;

/// The console. Clones are the same.
#[derive(Clone)]
pub struct App(Arc<Console>);

/// See [`App`], which dereferences to it.
pub struct Console {
    /// The tables, and what seals secrets in them.
    pub store: Store,
    /// The CAs.
    pub ca: Authority,
    /// The console's own certificate.
    pub certificates: Arc<Certificates>,
    /// The origins under which it is reached, as in `https://console.example.com`; never empty, the first is the one
    /// that people are shown.
    pub origins: Vec<String>,
    /// The machines that are connected.
    pub hub: Hub,
    /// The time.
    pub clock: fn() -> Timestamp,
    /// After how long without a heartbeat a gateway is unhealthy, unless the settings say otherwise.
    pub unhealthy_after: Duration,
    /// The installer's OVA, to download.
    pub installer: Option<PathBuf>,
    /// Hashes passwords.
    pub hasher: Hasher,
    /// Counts failed log-ins.
    pub throttle: Throttle,
    /// Cancelled when the console is about to end: streams and polls answer and close.
    pub stopping: CancellationToken,
    /// What must end before the console does.
    pub tasks: TaskTracker,
}

impl App {
    /// One app.
    #[must_use]
    pub fn new(console: Console) -> App {
        App(Arc::new(console))
    }

    /// The time, to the millisecond: as it is stored.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        let now = (self.clock)();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

impl Deref for App {
    type Target = Console;

    fn deref(&self) -> &Console {
        &self.0
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("App").field(&*self.0).finish()
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("origins", &self.origins).finish_non_exhaustive()
    }
}

/// Who is at the other end of a connection; an extension of every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address that it came from: a proxy's, where there is one.
    pub address: SocketAddr,
    /// The certificate it showed; TLS has checked that the device CA signed it, that it still holds, and that the
    /// other end has its key. Whether its gateway is still one is not checked.
    pub certificate: Option<Arc<CertificateDer<'static>>>,
}
