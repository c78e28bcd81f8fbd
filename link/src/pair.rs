//! Pairing, from a code to a grant.
//!
//! Over whatever connection there is: who listens on it is told nothing that helps, and nothing from it is believed before
//! the console has proven that it knows the code. It can be cut off anywhere and begun again: the exchange is on disk
//! before the message that may cost the code, and that message is the same each time.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use jiff::{SignedDuration, Timestamp};
use protocol::bytes::Bytes;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::link::About;
use protocol::pairing::{Claim, Confirmed, Grant, PairingError, Started, Verdict};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::Serialize;
use tokio::time::sleep;

use crate::chain;
use crate::clock::{Clock, in_words};
use crate::console::{ANSWER, Credentials, host, no_answer};
use crate::dial::dial;
use crate::failure::{Failure, Stage, clean};
use crate::http::{Answer, Channel, NoAnswer, request};
use crate::route::Route;
use crate::store::{Exchange, Pending, Store};
use crate::trust::{Trust, Voucher};

/// How many handshakes with one code may fail: an impostor has one guess in each.
const MAX_FAILURES: u32 = 5;
/// How often a request is sent whose connection broke. Both messages may be repeated.
const TRIES: u32 = 3;
/// Bytes of the certificate that is told. An honest one is far shorter; of whoever is in between it must not make message 3
/// longer than the console takes.
const MAX_LEAF: usize = 16 * 1024;
/// The longest that is waited, where the console asks for it, before the caller is told.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// How old a grant may be that is given again: so long the console keeps its answer.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What the machine says of itself, once the console is known to be the console.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The virtual machine's BIOS UUID, where it has one.
    pub vm_uuid: Option<String>,
    /// Host name.
    pub hostname: String,
    /// Addresses, as text.
    pub addresses: Vec<String>,
    /// Version of its software.
    pub software: String,
}

/// How far pairing is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Progress {
    /// The clocks differ; a sentence. Pairing goes on.
    Clock(String),
    /// Six digits to show; the console shows the same.
    Number(String),
    /// Somebody is to approve in the console, comparing the number.
    Waiting,
    /// The console asked to wait so long.
    Busy(Duration),
}

/// Pairs. Gives the grant, which is then in the store.
///
/// # Errors
/// With the stage that failed. It can be called again, with the same code or another.
pub async fn pair(
    route: &Route,
    store: &Store,
    code: &Code,
    facts: &Facts,
    mut on: impl FnMut(Progress),
) -> Result<Grant, Failure> {
    let origin = route.origin();
    let mut pending = store.pending(code, &origin)?;
    let mut talk = Talk::new(route, store);
    look(&mut talk, &mut on).await?;
    loop {
        let resumed = pending.exchange.is_some();
        if !resumed {
            if pending.failures >= MAX_FAILURES {
                return Err(too_many(&origin));
            }
            let exchange = handshake(&mut talk, &pending, code, facts, &mut on).await?;
            // Counted before the answer: one that does not come is one that failed.
            pending.failures += 1;
            pending.proven = false;
            pending.exchange = Some(exchange);
            store.save_pending(&pending)?;
        }
        match confirm(&mut talk, &mut pending, &mut on).await {
            Ok(grant) => return accept(&talk, &pending, grant, resumed),
            // Its session was over before we came back; the code may still be good.
            Err(failure) if failure.stage == Stage::Code && resumed => {}
            Err(failure) => return Err(failure),
        }
    }
}

/// Whether what answers is a console, of a version that fits; and what time it has.
async fn look(talk: &mut Talk<'_>, on: &mut impl FnMut(Progress)) -> Result<(), Failure> {
    let answer = talk.ask(Method::GET, "/v1/version", Vec::new(), on).await?;
    let about: About = answer.value(&talk.origin)?;
    check_version(&about)?;
    let offset = about.time.as_second() - Timestamp::now().as_second();
    if let Some(words) = in_words(offset) {
        on(Progress::Clock(words));
    }
    Ok(())
}

/// Whether both speak one version of the protocol.
pub(crate) fn check_version(about: &About) -> Result<(), Failure> {
    let ours = protocol::VERSION;
    if about.protocols.contains(&ours) {
        return Ok(());
    }
    let newest = about.protocols.iter().max().copied().unwrap_or_default();
    let (who, hint) = match newest < ours {
        true => ("The console is too old for this machine", "upgrade the console"),
        false => ("This machine is too old for the console", "deploy a newer installer"),
    };
    let software = clean(&about.software, 40);
    let theirs = about.protocols.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
    Err(Failure::new(
        Stage::Version,
        format!(
            "{who}: it speaks version {theirs} of the protocol (software {software}), the machine {ours}."
        ),
        hint,
    ))
}

/// Messages 1 and 2, and the making of 3.
async fn handshake(
    talk: &mut Talk<'_>,
    pending: &Pending,
    code: &Code,
    facts: &Facts,
    on: &mut impl FnMut(Progress),
) -> Result<Exchange, Failure> {
    let key = pending.key().ok_or_else(damaged)?;
    let start = talk.store.begin(code, &talk.origin, &key);
    let path = format!("/v1/pairings/{}/start", code.locator());
    let answer = talk.ask(Method::POST, &path, json(&start), on).await?;
    let started: Started = answer.value(&talk.origin)?;
    let machine = talk.store.begun().ok_or_else(damaged)?;
    let claimant = machine.started(&started).map_err(|error| talk.refused(error))?;
    on(Progress::Number(claimant.number()));
    let confirm = claimant.confirm(&claim(talk, &key, facts)?);
    Ok(Exchange { claimant, confirm })
}

/// What message 3 says.
fn claim(talk: &Talk<'_>, key: &DeviceKey, facts: &Facts) -> Result<Claim, Failure> {
    Ok(Claim {
        certificate_request: Bytes(certificate_request(key).ok_or_else(damaged)?),
        vm_uuid: facts.vm_uuid.clone(),
        hostname: facts.hostname.clone(),
        addresses: facts.addresses.clone(),
        software: facts.software.clone(),
        clock: Timestamp::now(),
        // The first certificate names who is there.
        chain: talk
            .chain
            .first()
            .map(|leaf| Bytes(leaf[..leaf.len().min(MAX_LEAF)].to_vec()))
            .into_iter()
            .collect(),
        by_proxy_ca: talk.voucher == Voucher::ProxyCa,
    })
}

/// Messages 3 and 4, until the console has made up its mind.
async fn confirm(
    talk: &mut Talk<'_>,
    pending: &mut Pending,
    on: &mut impl FnMut(Progress),
) -> Result<Grant, Failure> {
    let Exchange { claimant, confirm } = pending.exchange.clone().ok_or_else(damaged)?;
    let path = format!("/v1/pairings/{}/confirm", claimant.session());
    let message = json(&confirm);
    loop {
        let answer = talk.ask(Method::POST, &path, message.clone(), on).await?;
        let verdict = match answer.value::<Confirmed>(&talk.origin) {
            Ok(confirmed) => claimant.confirmed(&confirmed).map_err(|error| talk.refused(error)),
            Err(failure) => Err(failure),
        };
        let over = match &verdict {
            Ok(Verdict::Granted(_) | Verdict::Waiting { .. }) => false,
            Ok(_) => true,
            // Anything else may be better next time, with the same message.
            Err(failure) => matches!(failure.stage, Stage::Code | Stage::Intercepted | Stage::Version),
        };
        if verdict.is_ok() && !pending.proven {
            pending.proven = true;
            pending.failures = pending.failures.saturating_sub(1);
        }
        if over {
            pending.exchange = None;
        }
        talk.store.save_pending(pending)?;
        match verdict? {
            Verdict::Granted(grant) => return Ok(*grant),
            Verdict::Waiting { poll_seconds } => {
                on(Progress::Waiting);
                sleep(Duration::from_secs(poll_seconds.clamp(1, 60).into())).await;
            }
            Verdict::Intercepted { issuer } => return Err(talk.intercepted(&issuer)),
            Verdict::Refused { reason } => {
                return Err(Failure::new(
                    Stage::Refused,
                    format!("The console refused this machine: {}", clean(&reason, 300)),
                    "ask the one who made the pairing code; then make a new one and enter it here",
                ));
            }
            Verdict::Unknown => {
                return Err(Failure::new(
                    Stage::Version,
                    "The console's answer is of a newer version than this machine knows.",
                    "deploy a newer installer",
                ));
            }
        }
    }
}

/// Looks a grant over, keeps it, and forgets what led to it.
fn accept(talk: &Talk<'_>, pending: &Pending, grant: Grant, resumed: bool) -> Result<Grant, Failure> {
    // One that has waited for us in the console tells the time of then: worse than our own, unless that cannot be right.
    let age = talk.store.clock().now().duration_since(grant.time);
    if !resumed || age > MAX_AGE || age < SignedDuration::ZERO {
        talk.store.learn_time(grant.time)?;
    }
    let strange = |why: &str| {
        Failure::new(
            Stage::Http,
            format!("The console's grant cannot be used: {why}."),
            "look at the console's log",
        )
    };
    if grant.origin != talk.origin {
        return Err(strange("it is for another URL"));
    }
    let key = pending.key().ok_or_else(damaged)?;
    let credentials = Credentials::new(key, grant, talk.route).map_err(strange)?;
    // The console has compared the chain that the claim named; this is the one that its answer came over.
    let console = talk.route.way()?.console;
    if let Some(name) = console.server_name() {
        let clock = talk.store.clock();
        let judged = credentials.trust().judge(&talk.chain, &name, clock);
        judged.map_err(|error| chain::refused(&console, &talk.chain, &error, clock))?;
    }
    // Before it is paired: what a console, or this one of another gateway, is told begins with 1.
    let spool = talk.store.spool();
    spool.begin_anew().map_err(|e| Failure::disk("Cannot write what waits for the console", &e))?;
    talk.store.save_paired(&pending.granted(credentials.grant.clone()))?;
    talk.store.end_pending()?;
    Ok(credentials.grant)
}

/// PKCS #10 with nothing in it but the key: names are the console's to give.
pub(crate) fn certificate_request(key: &DeviceKey) -> Option<Vec<u8>> {
    let key = KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.to_pkcs8())).ok()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "gateway");
    Some(params.serialize_request(&key).ok()?.der().to_vec())
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("messages are structs with text keys, and nothing in them fails")
}

fn too_many(origin: &str) -> Failure {
    Failure::new(
        Stage::Code,
        format!(
            "{MAX_FAILURES} handshakes with {origin} failed with this pairing code; it is not used again."
        ),
        "check the console's URL, then make a new code in the console and enter it here",
    )
}

fn damaged() -> Failure {
    Failure::new(Stage::Disk, "The pairing under way is damaged on disk.", "enter a new pairing code")
}

/// A conversation over connections that may break.
struct Talk<'a> {
    route: &'a Route,
    store: &'a Store,
    origin: String,
    trust: Trust,
    clock: Arc<Clock>,
    channel: Option<Channel>,
    /// What the newest connection was shown.
    chain: Vec<CertificateDer<'static>>,
    voucher: Voucher,
}

impl<'a> Talk<'a> {
    fn new(route: &'a Route, store: &'a Store) -> Talk<'a> {
        Talk {
            route,
            store,
            origin: route.origin(),
            trust: Trust::anybody(&route.proxy_ca),
            clock: Arc::clone(store.clock()),
            channel: None,
            chain: Vec::new(),
            voucher: Voucher::Nobody,
        }
    }

    /// Asks, again where the connection broke or the console asked to wait.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        on: &mut impl FnMut(Progress),
    ) -> Result<Answer, Failure> {
        let mut tries = 0;
        loop {
            tries += 1;
            let mut channel = match self.channel.take().filter(|channel| !channel.is_closed()) {
                Some(channel) => channel,
                None => self.connect().await?,
            };
            let request = request(method.clone(), &host(self.route), path, body.clone().into());
            match channel.send(request, ANSWER).await {
                Ok(answer) => {
                    self.channel = Some(channel);
                    let failure = (!answer.status.is_success()).then(|| answer.failure(&self.origin));
                    match failure
                        .filter(|failure| failure.stage == Stage::Busy)
                        .and_then(|busy| busy.retry_after)
                    {
                        Some(wait) if tries < TRIES && wait <= MAX_WAIT => {
                            on(Progress::Busy(wait));
                            sleep(wait).await;
                        }
                        _ => return Ok(answer),
                    }
                }
                Err(NoAnswer::Broken(_)) if tries < TRIES => {}
                Err(why) => return Err(no_answer(&self.origin, &why)),
            }
        }
    }

    async fn connect(&mut self) -> Result<Channel, Failure> {
        let dialed = dial(self.route, &self.trust, &self.clock, None, |_| ()).await?;
        (self.chain, self.voucher) = (dialed.chain, dialed.voucher);
        Channel::open(dialed.stream).await.map_err(|e| no_answer(&self.origin, &e.into()))
    }

    /// An answer that no console gives that knows the code.
    fn refused(&self, error: PairingError) -> Failure {
        match error {
            PairingError::Version(theirs) => Failure::new(
                Stage::Version,
                format!(
                    "The console answers in version {theirs} of the protocol, this machine speaks {}.",
                    protocol::VERSION
                ),
                "bring machine and console to releases of the same year",
            ),
            error => Failure::new(
                Stage::Intercepted,
                format!(
                    "What answers at {} does not know the pairing code ({error}); its certificate is by `{}`.",
                    self.origin,
                    chain::issuer(&self.chain)
                ),
                "check the console's URL; if it is right, somebody stands between this machine and the console",
            ),
        }
    }

    fn intercepted(&self, issuer: &str) -> Failure {
        let issuer = clean(issuer, 100);
        Failure::new(
            Stage::Intercepted,
            format!(
                "TLS to {} is intercepted: the certificate that this machine was shown is by `{issuer}`.",
                self.origin
            ),
            chain::INTERCEPTED,
        )
    }
}
