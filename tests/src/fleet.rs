//! Thousands of machines against one console: each pairs with a code of its own, then holds a stream over TLS with its
//! client certificate and sends a heartbeat every 30 seconds, with every tenth of which it has an event to tell. At last the
//! console is killed and started again, and all machines come back by themselves.
//!
//! What is measured is the console's: how long it takes to answer a heartbeat, and what processor time and memory it
//! takes meanwhile. The machines run in another process on the same processors, so they make it worse, not better.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{SysconfVar, sysconf};
use protocol::bytes::Bytes;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::link::{Body, Downstream, Entry, Event, MAX_MESSAGE, SUBPROTOCOL, Severity, Upstream};
use protocol::pairing::machine::Machine;
use protocol::pairing::{Confirmed, Grant, Started, Verdict};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::{Resumption, WantsClientCert};
use tokio_rustls::rustls::{ClientConfig, ConfigBuilder, RootCertStore, crypto};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use uuid::Uuid;

use crate::console::{Console, Setup};
use crate::{machine, process};

/// From one heartbeat of a machine to its next.
const BEAT: Duration = Duration::from_secs(30);
/// Machines that pair at the same time.
const AT_ONCE: usize = 24;
/// How long is measured: two heartbeats of each.
const MEASURED: Duration = Duration::from_secs(60);
/// One heartbeat in so many has an event with it.
const EVENT: u32 = 10;
/// The longest that all may take to come back.
const BACK: Duration = Duration::from_secs(900);

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Machines that were connected all the time.
    pub links: usize,
    /// Machines that paired in a second, each with a new gateway and code.
    pub pairings_per_second: f64,
    /// Heartbeats answered.
    pub heartbeats: usize,
    /// From heartbeat to answer, in milliseconds: half of them.
    pub p50_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// All.
    pub max_ms: f64,
    /// Processors that the console took.
    pub cores: f64,
    /// Processors that its PostgreSQL took, where there is one.
    pub database_cores: Option<f64>,
    /// Its resident memory at the end, in megabytes.
    pub rss_mb: f64,
    /// The most it ever had, in megabytes.
    pub peak_rss_mb: f64,
    /// From the start of a console that was killed until it had answered a heartbeat of every machine, in seconds.
    pub back_seconds: f64,
}

/// Lets so many machines pair with a new console, and measures them; `database` is the process of its PostgreSQL.
///
/// # Errors
/// When one of them does not pair, or loses its link, or is not healthy.
pub fn measure(setup: Setup, machines: usize, database: Option<u32>) -> Result<Figures> {
    files(machines as u64 + 1000)?;
    let many = u32::MAX.to_string();
    let mut console = setup
        .argument("--starts-per-address")
        .argument(&many)
        .argument("--starts")
        .argument(&many)
        .start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Fleet::new(&console)?.measure(&mut console, machines, database))
}

struct Fleet {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
    roots: RootCertStore,
    token: String,
    chain: Vec<Bytes>,
    measuring: AtomicBool,
    /// Links may end: the console is being killed.
    restarting: AtomicBool,
    /// Links on which the console has answered.
    answered: AtomicUsize,
    /// In microseconds.
    took: Mutex<Vec<u32>>,
    next: AtomicU64,
}

impl Fleet {
    fn new(console: &Console) -> Result<Arc<Fleet>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&console.said().ca_file)?)?;
        Ok(Arc::new(Fleet {
            address: console.said().address,
            tls: tls(&roots, |builder| Ok(builder.with_no_client_auth()))?,
            roots,
            token: console.token().to_owned(),
            chain: machine::chain(console)?,
            measuring: AtomicBool::new(false),
            restarting: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            took: Mutex::default(),
            next: AtomicU64::new(0),
        }))
    }

    async fn measure(
        self: Arc<Fleet>,
        console: &mut Console,
        machines: usize,
        database: Option<u32>,
    ) -> Result<Figures> {
        let process = console.id().context("the console does not run")?;
        let begun = Instant::now();
        let mut pairing = JoinSet::new();
        let (opened, mut streams) = mpsc::channel(AT_ONCE);
        for _ in 0..AT_ONCE.min(machines) {
            pairing.spawn(Arc::clone(&self).pair_many(machines as u64, opened.clone()));
        }
        drop(opened);
        let mut links = JoinSet::new();
        // Each beats from the moment it is open: the console gives up who is silent.
        while let Some((machine, stream)) = streams.recv().await {
            links.spawn(Arc::clone(&self).live(machine, stream));
        }
        while let Some(paired) = pairing.join_next().await {
            paired??;
        }
        let pairings_per_second = machines as f64 / begun.elapsed().as_secs_f64();
        // Until all have found their pace.
        self.undisturbed(&mut links, BEAT + Duration::from_secs(5)).await?;

        let before = (processor_time(process)?, database.map(family_time).transpose()?);
        let begun = Instant::now();
        self.measuring.store(true, Ordering::Relaxed);
        self.undisturbed(&mut links, MEASURED).await?;
        self.measuring.store(false, Ordering::Relaxed);
        let seconds = begun.elapsed().as_secs_f64();
        let cores = (processor_time(process)? - before.0) / seconds;
        let after = database.map(family_time).transpose()?;
        let database_cores = after.zip(before.1).map(|(after, before)| (after - before) / seconds);
        let (rss_mb, peak_rss_mb) = (memory(process, "VmRSS:")?, memory(process, "VmHWM:")?);

        self.all_healthy(machines).await?;
        let back_seconds = self.restart(console, machines).await?;
        self.undisturbed(&mut links, Duration::from_secs(5)).await?;
        self.all_healthy(machines).await?;

        let mut took = std::mem::take(&mut *self.took.lock().unwrap_or_else(PoisonError::into_inner));
        // Of a machine that falls behind there are fewer, not slower ones.
        let least = machines * 2 * 95 / 100;
        ensure!(took.len() >= least, "{} heartbeats were answered, and {least} are the least", took.len());
        took.sort_unstable();
        let at = |share: f64| {
            let index = ((took.len() as f64 * share) as usize).min(took.len().saturating_sub(1));
            f64::from(took.get(index).copied().unwrap_or(u32::MAX)) / 1000.0
        };
        Ok(Figures {
            links: links.len(),
            pairings_per_second,
            heartbeats: took.len(),
            p50_ms: at(0.5),
            p99_ms: at(0.99),
            max_ms: at(1.0),
            cores,
            database_cores,
            rss_mb,
            peak_rss_mb,
            back_seconds,
        })
    }

    /// Kills the console and starts it again; how long it then takes until it has answered every machine, in seconds.
    async fn restart(&self, console: &mut Console, machines: usize) -> Result<f64> {
        self.restarting.store(true, Ordering::Relaxed);
        console.kill();
        self.wait_answered(0).await?;
        let begun = Instant::now();
        console.start_again()?;
        self.wait_answered(machines).await?;
        self.restarting.store(false, Ordering::Relaxed);
        Ok(begun.elapsed().as_secs_f64())
    }

    /// Waits until the console has answered on so many links.
    async fn wait_answered(&self, links: usize) -> Result<()> {
        let until = Instant::now() + BACK;
        loop {
            let now = self.answered.load(Ordering::Relaxed);
            if now == links {
                return Ok(());
            }
            ensure!(Instant::now() < until, "{now} machines have a link, and not {links}, after {BACK:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits, unless a link ends.
    async fn undisturbed(&self, links: &mut JoinSet<Result<()>>, time: Duration) -> Result<()> {
        match timeout(time, links.join_next()).await {
            Err(_) => Ok(()),
            Ok(Some(ended)) => {
                ended??;
                bail!("a link ended")
            }
            Ok(None) => bail!("there is no link"),
        }
    }

    /// Pairs one machine after another, until there are enough of all.
    async fn pair_many(
        self: Arc<Fleet>,
        machines: u64,
        opened: mpsc::Sender<(Member, Stream)>,
    ) -> Result<()> {
        let mut api = self.http(0).await?;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= machines {
                return Ok(());
            }
            let name = format!("fleet-{number}");
            let made: Value = self
                .ask(&mut api, "/v1/gateways", &json!({ "name": name }), StatusCode::CREATED)
                .await
                .with_context(|| format!("cannot make the gateway {name}"))?;
            let code = Code::parse(made["pairing"]["code"].as_str().context("there is no code")?)?;
            let link = self.join(number, &code).await.with_context(|| format!("machine {number}"))?;
            opened.send(link).await.context("nobody takes the links")?;
        }
    }

    /// A machine pairs, and opens its stream.
    async fn join(&self, number: u64, code: &Code) -> Result<(Member, Stream)> {
        let key = DeviceKey::generate();
        let origin = format!("https://127.0.0.1:{}", self.address.port());
        let (side, start) = Machine::start(code, &origin, key.public());
        let mut http = self.http(number).await?;
        let path = format!("/v1/pairings/{}/start", code.locator());
        let started: Started = self.ask(&mut http, &path, &start, StatusCode::OK).await?;
        let claimant = side.started(&started)?;
        let confirm = claimant.confirm(&machine::claim(&key, &self.chain)?);
        let path = format!("/v1/pairings/{}/confirm", claimant.session());
        let confirmed: Confirmed = self.ask(&mut http, &path, &confirm, StatusCode::OK).await?;
        match claimant.confirmed(&confirmed)? {
            Verdict::Granted(grant) => {
                let member = Member::new(number, self.certified(&key, &grant)?);
                let stream = self.open(&member).await?;
                Ok((member, stream))
            }
            other => bail!("not paired: {other:?}"),
        }
    }

    fn certified(&self, key: &DeviceKey, grant: &Grant) -> Result<Arc<ClientConfig>> {
        let chain =
            CertificateDer::pem_slice_iter(grant.certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_pkcs8().to_vec()));
        tls(&self.roots, |builder| Ok(builder.with_client_auth_cert(chain, key)?))
    }

    async fn open(&self, member: &Member) -> Result<Stream> {
        let stream = self.connect(member.number, Arc::clone(&member.tls)).await?;
        let mut request = format!("wss://127.0.0.1:{}/v1/link", self.address.port()).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
        let small = WebSocketConfig::default()
            .read_buffer_size(2048)
            .write_buffer_size(0)
            .max_message_size(Some(MAX_MESSAGE));
        let (stream, _) = client_async_with_config(request, stream, Some(small)).await?;
        Ok(stream)
    }

    /// Holds a machine's link, and makes it anew where the console was killed. Ends with what ends the link at any other
    /// time.
    async fn live(self: Arc<Fleet>, mut member: Member, mut stream: Stream) -> Result<()> {
        // Each at its own time, as machines are that were switched on at theirs.
        let mut first = Instant::now() + BEAT.mul_f64(random());
        loop {
            let mut answered = false;
            let ended = self.beat(&mut member, &mut stream, first, &mut answered).await;
            if answered {
                self.answered.fetch_sub(1, Ordering::Relaxed);
            }
            if !self.restarting.load(Ordering::Relaxed) {
                return ended.with_context(|| format!("machine {}", member.number));
            }
            stream = self.open_again(&member).await;
            first = Instant::now();
        }
    }

    /// Tries until there is a link, with the waits of the crate `link` between.
    async fn open_again(&self, member: &Member) -> Stream {
        let mut longest: u32 = 1;
        loop {
            sleep(Duration::from_secs(longest.into()).mul_f64(random())).await;
            if let Ok(Ok(stream)) = timeout(BEAT, self.open(member)).await {
                return stream;
            }
            longest = (longest * 2).min(60);
        }
    }

    /// Sends heartbeats until the link ends.
    async fn beat(
        &self,
        member: &mut Member,
        stream: &mut Stream,
        mut next: Instant,
        answered: &mut bool,
    ) -> Result<()> {
        loop {
            // Until then the console has nothing to say.
            if let Ok(said) = timeout_at(next, stream.next()).await {
                bail!("the link ended: {said:?}");
            }
            next += BEAT;
            let upstream = member.upstream();
            let text = serde_json::to_string(&upstream)?;
            let sent = Instant::now();
            stream.send(Message::Text(text.into())).await?;
            let answer = timeout(BEAT, stream.next()).await.context("a heartbeat was not answered")?;
            let took = sent.elapsed();
            let answer = answer.context("the console closed the link")??;
            let answer: Downstream = serde_json::from_str(answer.to_text()?)?;
            if let Some(entry) = upstream.entries.last() {
                ensure!(answer.acknowledged == entry.sequence, "an event was not stored: {answer:?}");
                member.stored = entry.sequence;
            }
            if !*answered {
                *answered = true;
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
            if self.measuring.load(Ordering::Relaxed) {
                let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
                self.took.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
        }
    }

    /// Fails unless so many gateways are healthy, as the console says.
    async fn all_healthy(&self, machines: usize) -> Result<()> {
        let healthy = self.healthy().await?;
        ensure!(healthy == machines, "{healthy} of {machines} gateways are healthy");
        Ok(())
    }

    async fn healthy(&self) -> Result<usize> {
        let mut http = self.http(0).await?;
        // The newest heartbeats are written within seconds.
        sleep(Duration::from_secs(3)).await;
        let (mut healthy, mut after) = (0, String::new());
        loop {
            let page: Value = self.get(&mut http, &format!("/v1/gateways?limit=500&after={after}")).await?;
            let items = page["items"].as_array().context("there is no list")?;
            healthy += items.iter().filter(|gateway| gateway["health"]["status"] == "healthy").count();
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => return Ok(healthy),
            }
        }
    }

    async fn http(&self, number: u64) -> Result<SendRequest<Full<hyper::body::Bytes>>> {
        let stream = self.connect(number, Arc::clone(&self.tls)).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// From one of many addresses: each has ports for some twenty thousand connections, and closed ones stay taken for a
    /// minute.
    async fn connect(&self, number: u64, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>> {
        let socket = TcpSocket::new_v4()?;
        let host = u8::try_from(2 + number % 32).unwrap_or(2);
        socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 1, host)), 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(TlsConnector::from(tls).connect(ServerName::try_from("127.0.0.1")?, stream).await?)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        http: &mut SendRequest<Full<hyper::body::Bytes>>,
        path: &str,
        body: &impl Serialize,
        status: StatusCode,
    ) -> Result<T> {
        let body = serde_json::to_vec(body)?;
        let request = Request::post(path).header("content-type", "application/json");
        self.exchange(http, request.body(Full::new(body.into()))?, status).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        http: &mut SendRequest<Full<hyper::body::Bytes>>,
        path: &str,
    ) -> Result<T> {
        self.exchange(http, Request::get(path).body(Full::default())?, StatusCode::OK).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        http: &mut SendRequest<Full<hyper::body::Bytes>>,
        mut request: Request<Full<hyper::body::Bytes>>,
        status: StatusCode,
    ) -> Result<T> {
        let host = format!("127.0.0.1:{}", self.address.port());
        request.headers_mut().insert("host", HeaderValue::from_str(&host)?);
        let token = format!("Bearer {}", self.token);
        request.headers_mut().insert("authorization", HeaderValue::from_str(&token)?);
        http.ready().await?;
        let response = http.send_request(request).await?;
        let got = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(got == status, "{got} instead of {status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }
}

type Stream = WebSocketStream<TlsStream<TcpStream>>;

/// A machine that is paired.
struct Member {
    number: u64,
    tls: Arc<ClientConfig>,
    spool: Uuid,
    /// Heartbeats so far, and some to begin with: else all would have their events at once.
    beats: u32,
    /// Events that the console has.
    stored: u64,
}

impl Member {
    fn new(number: u64, tls: Arc<ClientConfig>) -> Member {
        let beats = (random() * f64::from(EVENT)) as u32;
        Member { number, tls, spool: Uuid::now_v7(), beats, stored: 0 }
    }

    fn upstream(&mut self) -> Upstream {
        self.beats += 1;
        let event = || Entry {
            sequence: self.stored + 1,
            time: jiff::Timestamp::now(),
            body: Body::Event(Event {
                severity: Severity::Info,
                reason: "Measured".into(),
                message: "Something happened that people want to read.".into(),
                source: "fleet".into(),
            }),
        };
        let entries = self.beats.is_multiple_of(EVENT).then(event).into_iter().collect();
        Upstream { spool: self.spool, heartbeat: Some(machine::heartbeat()), entries }
    }
}

/// What all connections have in common; as those of machines, without resumption.
fn tls(
    roots: &RootCertStore,
    certify: impl FnOnce(ConfigBuilder<ClientConfig, WantsClientCert>) -> Result<ClientConfig>,
) -> Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots.clone());
    let mut config = certify(builder)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A number from 0 to 1; a UUID of version 7 ends with random bits.
fn random() -> f64 {
    let [.., a, b, c, d] = *Uuid::now_v7().as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

/// Raises how many files this process may have.
fn files(wanted: u64) -> Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(hard >= wanted, "this process may have {hard} files, and needs {wanted} (`ulimit -Hn`)");
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.max(wanted), hard)?)
}

/// What a process has taken, in seconds: `proc_pid_stat(5)`, utime and stime.
fn processor_time(process: u32) -> Result<f64> {
    times(process, &[14, 15])
}

/// What a process and its children have taken, in seconds; also those that have ended: cutime and cstime.
fn family_time(process: u32) -> Result<f64> {
    // One that ends just now is in neither sum, and has taken next to nothing.
    let children = process::children(process).into_iter().filter_map(|child| processor_time(child).ok());
    Ok(times(process, &[14, 15, 16, 17])? + children.sum::<f64>())
}

fn times(process: u32, wanted: &[usize]) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name may have spaces; it ends with the last parenthesis.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks =
        |field: &usize| -> Result<f64> { Ok(fields.get(field - 3).context("too few fields")?.parse()?) };
    let second = sysconf(SysconfVar::CLK_TCK)?.context("the clock has no ticks")?;
    Ok(wanted.iter().map(ticks).sum::<Result<f64>>()? / second as f64)
}

/// A line of `proc_pid_status(5)`, in megabytes.
fn memory(process: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("there is no such line")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}
