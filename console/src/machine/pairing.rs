//! The console's half of pairing: attempts are counted before they are answered, and whoever does not know the code
//! cannot tell whether there is one.
//!
//! ```text
//! start    same message 1 as before? ── the same answer
//!          live locator? ── real keys, an attempt taken off ─┐
//!          else          ── decoy keys, nothing to take off ─┴─ session stored ── message 2
//! confirm  same message 3 as before? ── the same answer, or a newer verdict
//!          MAC wrong ── session over; none left: locked ── `rejected`
//!          MAC right ── attempt given back, other sessions over ── verdict ── message 4
//! ```

use std::net::IpAddr;

use axum::Json as Answer;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use protocol::link::Severity;
use protocol::pairing::console::{self, Keys};
use protocol::pairing::{Claim, Confirm, Confirmed, PairingError, Start, Started, Verdict};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::entries::note;
use super::grant;
use crate::api::{Id, Json};
use crate::auth::audit;
use crate::error::{Error, Result};
use crate::state::{App, Peer};
use crate::store::pairing_sessions::{self as sessions, Session, Settled};
use crate::store::pairings::{self, Pairing};

/// How long a machine may take from message 2 to message 3.
const SESSION: SignedDuration = SignedDuration::from_mins(10);
/// How long message 4 is kept for a machine that did not get it: somebody may switch it off over the weekend.
const ANSWER: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How often a machine asks whether a person has approved.
const POLL_SECONDS: u32 = 3;

/// Message 1.
#[utoipa::path(
    post,
    path = "/v1/pairings/{locator}/start",
    tag = "machine",
    params(("locator" = String, Path, description = "The first four digits of the code", pattern = "^[0-9]{4}$")),
    request_body = Start,
    responses(
        (status = 200, description = "Message 2, whether or not there is such a code", body = Started),
        (status = 400, description = "No machine sends such a message"),
        (status = 421, description = "Another console is meant"),
        (status = 429, description = "Too many starts"),
    ),
    security(()),
)]
pub(crate) async fn start(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Path(locator): Path<String>,
    Json(message): Json<Start>,
) -> Result<Answer<Started>> {
    let address = peer.address.ip().to_canonical();
    app.hub.starts.check(address).map_err(|after| {
        Error::too_many(
            "too-many-starts",
            "Too many pairings were started, from this address or in all.",
            after,
        )
    })?;
    if locator.len() != protocol::code::LOCATOR || !locator.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(malformed("A code begins with four digits."));
    }
    let digest = digest(&(&locator, &message))?;
    let now = app.now();
    let (known, pairing) = {
        let mut db = app.store.read().await?;
        (sessions::by_start(&mut db, &digest).await?, pairings::by_locator(&mut db, &locator).await?)
    };
    if let Some(known) = known.filter(|session| session.expires_at > now) {
        return answered(&known);
    }
    let pairing = pairing.filter(|pairing| is_live(pairing, now));
    let (started, keys) = match &pairing {
        Some(pairing) => {
            let sealed = pairing.secret.as_deref().unwrap_or_default();
            let secret = app.store.secrets.open("pairings.secret", &pairing.id.to_string(), sealed)?;
            console::start(&locator, secret.expose(), &app.origins, &message)
        }
        None => console::decoy(&locator, &app.origins, &message),
    }
    .map_err(refusal)?;
    let id = pairing.as_ref().map(|pairing| pairing.id);
    let opened = Opened { digest: &digest, started, keys, address, now };
    if let Some(session) = opened.store(&app, id).await? {
        if let Some(pairing) = pairing {
            app.hub.changed(pairing.gateway);
        } else {
            watch(&app, &locator, address, now).await?;
        }
        return answered(&session);
    }
    // Others took the last attempt between our look and our step.
    let (started, keys) = console::decoy(&locator, &app.origins, &message).map_err(refusal)?;
    let opened = Opened { digest: &digest, started, keys, address, now };
    match opened.store(&app, None).await? {
        Some(session) => answered(&session),
        None => Err(Error::Internal("a decoy needs no attempt".into())),
    }
}

/// A session about to be stored.
struct Opened<'a> {
    digest: &'a str,
    started: Started,
    keys: Keys,
    address: IpAddr,
    now: Timestamp,
}

impl Opened<'_> {
    /// Takes an attempt off and stores the session, both or neither. A decoy makes the same statements. `None`: no
    /// attempt is left. Of two with the same message 1, both get the first's session, for one attempt.
    async fn store(&self, app: &App, pairing: Option<Uuid>) -> Result<Option<Session>> {
        let id = self.started.session;
        let session = Session {
            id,
            pairing,
            started: json(&self.started)?,
            keys: Some(app.store.secrets.seal("pairing_sessions.keys", &id.to_string(), &json(&self.keys)?)),
            confirm: None,
            claim: None,
            confirmed: None,
            number: None,
            state: sessions::State::Started,
            address: self.address.to_string(),
            expires_at: self.now + SESSION,
        };
        let mut db = app.store.write().await?;
        let taken =
            pairings::attempt(&mut db, pairing.unwrap_or_default(), &self.address.to_string(), self.now)
                .await?;
        if pairing.is_some() && !taken {
            return Ok(None);
        }
        sessions::forget_late(&mut db, self.digest, self.now).await?;
        if sessions::insert(&mut db, &session, self.digest, self.now).await? {
            db.commit().await?;
            return Ok(Some(session));
        }
        let first = sessions::by_start(&mut db, self.digest).await?;
        drop(db);
        first.map(Some).ok_or_else(|| Error::Internal("a session that was there is gone".into()))
    }
}

/// Tells when somebody walks the locators.
async fn watch(app: &App, locator: &str, address: IpAddr, now: Timestamp) -> Result<()> {
    let Some(walk) = app.hub.watch.unknown(locator, address, now) else { return Ok(()) };
    let addresses: Vec<_> = walk.addresses.iter().map(ToString::to_string).collect();
    let detail = format!(
        "{} codes that nobody was given were tried within ten minutes, most from {}",
        walk.locators,
        addresses.join(", ")
    );
    tracing::warn!(detail, "pairing locators are being walked");
    let mut db = app.store.write().await?;
    audit(&mut db, app, "console", &address.to_string(), "pairing.walked", "", &detail).await?;
    Ok(db.commit().await?)
}

/// Message 3.
#[utoipa::path(
    post,
    path = "/v1/pairings/{session}/confirm",
    tag = "machine",
    params(("session" = Uuid, Path, description = "From message 2")),
    request_body = Confirm,
    responses(
        (status = 200, description = "Message 4", body = Confirmed),
        (status = 400, description = "No machine sends such a message"),
        (status = 403, description = "The code is wrong, expired, locked or unknown"),
    ),
    security(()),
)]
pub(crate) async fn confirm(
    State(app): State<App>,
    Extension(peer): Extension<Peer>,
    Id(id): Id,
    Json(message): Json<Confirm>,
) -> Result<Answer<Confirmed>> {
    if message.sealed.0.len() > protocol::pairing::MAX_MESSAGE {
        return Err(malformed("Message 3 is too long."));
    }
    let digest = digest(&message)?;
    // Another request with this session may have gone ahead of us: then its answer counts.
    for _ in 0..3 {
        let session = sessions::get(&mut *app.store.read().await?, id).await?;
        let session = session.filter(|session| session.expires_at > app.now()).ok_or_else(rejected)?;
        if session.state != sessions::State::Started {
            return again(&app, &session, &digest);
        }
        let keys = keys(&app, &session)?;
        let verdict = match keys.open(&message) {
            Ok((claim, number)) => {
                let claimed = Claimed { session: &session, keys: &keys, claim, number, digest: &digest };
                claimed.decide(&app, &peer).await?
            }
            Err(PairingError::Malformed(_)) => {
                // It knows the code, and says what we cannot read.
                let reason = "The console could not read what the machine says of itself.".to_owned();
                let claimed = Refused { session: &session, keys: &keys, digest: &digest };
                claimed.store(&app, &Verdict::Refused { reason }, "PairingRefused").await?
            }
            Err(_) => fail(&app, &session, &digest).await?,
        };
        match verdict {
            Outcome::Answer(answer) => return Ok(Answer(answer)),
            Outcome::Rejected => return Err(rejected()),
            Outcome::Raced => {}
        }
    }
    Err(rejected())
}

/// What came of message 3.
enum Outcome {
    Answer(Confirmed),
    Rejected,
    /// Another request settled the session first.
    Raced,
}

/// A machine that has shown that it knows the code.
struct Claimed<'a> {
    session: &'a Session,
    keys: &'a Keys,
    claim: Claim,
    /// For people to compare.
    number: String,
    digest: &'a str,
}

impl Claimed<'_> {
    async fn decide(&self, app: &App, peer: &Peer) -> Result<Outcome> {
        let Some(pairing) = self.session.pairing else { return Ok(Outcome::Rejected) };
        let refused = Refused { session: self.session, keys: self.keys, digest: self.digest };
        if !self.claim.by_proxy_ca
            && let Err(issuer) = super::interception::judge(&self.claim.chain, |leaf| {
                app.certificates.is_ours(leaf, app.now())
            })
        {
            return refused.store(app, &Verdict::Intercepted { issuer }, "TlsIntercepted").await;
        }
        let (gateway, approval) = {
            let mut db = app.store.read().await?;
            let Some(pairing) = pairings::get(&mut db, pairing).await? else { return Ok(Outcome::Rejected) };
            if let Some(other) = grant::holder(&mut db, &self.keys.device_key()).await?
                && other.id != pairing.gateway
            {
                let reason = format!("This machine is the gateway `{}` already.", other.name);
                drop(db);
                return refused.store(app, &Verdict::Refused { reason }, "PairingRefused").await;
            }
            (pairing.gateway, pairing.approval)
        };
        if approval {
            self.ask(app, pairing, gateway).await
        } else {
            self.grant(app, peer, pairing, gateway).await
        }
    }

    /// A person decides, about what could be granted.
    async fn ask(&self, app: &App, pairing: Uuid, gateway: Uuid) -> Result<Outcome> {
        let now = app.now();
        if let Err(reason) =
            app.ca.certify_device(gateway, &self.keys.device_key(), &self.claim.certificate_request.0, now)
        {
            let refused = Refused { session: self.session, keys: self.keys, digest: self.digest };
            return refused
                .store(app, &Verdict::Refused { reason: reason.to_string() }, "PairingRefused")
                .await;
        }
        let mut db = app.store.write().await?;
        let Some(until) = pairings::get(&mut db, pairing).await?.map(|pairing| pairing.expires_at) else {
            return Ok(Outcome::Rejected);
        };
        let settled = Settled {
            state: sessions::State::Waiting,
            confirm: self.digest.to_owned(),
            keys: self.session.keys.clone(),
            claim: Some(json(&self.claim)?),
            confirmed: None,
            number: Some(self.number.clone()),
            expires_at: until,
        };
        if !sessions::settle(&mut db, self.session.id, sessions::State::Started, &settled).await? {
            return Ok(Outcome::Raced);
        }
        if !pairings::proven(&mut db, pairing, pairings::State::Claimed, now).await? {
            return Ok(Outcome::Rejected);
        }
        sessions::end_others(&mut db, pairing, self.session.id).await?;
        let message =
            format!("{} at {} knows the code and waits for approval.", self.named(), self.session.address);
        note(&mut db, gateway, Severity::Info, "PairingWaits", message, now).await?;
        db.commit().await?;
        app.hub.wake(gateway);
        Ok(Outcome::Answer(self.keys.confirmed(&WAITING)))
    }

    async fn grant(&self, app: &App, peer: &Peer, pairing: Uuid, gateway: Uuid) -> Result<Outcome> {
        let now = app.now();
        let mut db = app.store.write().await?;
        let address = peer.address.ip().to_canonical().to_string();
        if !sessions::lock(&mut db, self.session.id, sessions::State::Started).await? {
            return Ok(Outcome::Raced);
        }
        if !pairings::proven(&mut db, pairing, pairings::State::Paired, now).await? {
            return Ok(Outcome::Rejected);
        }
        let granted = match grant::grant(&mut db, app, gateway, self.keys, &self.claim, &address).await? {
            Ok(granted) => granted,
            Err(reason) => {
                drop(db);
                let refused = Refused { session: self.session, keys: self.keys, digest: self.digest };
                return refused.store(app, &Verdict::Refused { reason }, "PairingRefused").await;
            }
        };
        let answer = self.keys.confirmed(&Verdict::Granted(Box::new(granted)));
        let settled = over(app, self.session.id, self.digest, sessions::State::Granted, &answer, now)?;
        sessions::settle(&mut db, self.session.id, sessions::State::Started, &settled).await?;
        sessions::end_others(&mut db, pairing, self.session.id).await?;
        db.commit().await?;
        // The machine that was this gateway before is not any more.
        app.hub.wake(gateway);
        Ok(Outcome::Answer(answer))
    }

    fn named(&self) -> String {
        super::entries::cut(self.claim.hostname.clone(), 253)
    }
}

const WAITING: Verdict = Verdict::Waiting { poll_seconds: POLL_SECONDS };

/// A machine that knows the code and is not paired all the same. The code stays good: what is wrong can be mended.
struct Refused<'a> {
    session: &'a Session,
    keys: &'a Keys,
    digest: &'a str,
}

impl Refused<'_> {
    async fn store(&self, app: &App, verdict: &Verdict, reason: &str) -> Result<Outcome> {
        let Some(pairing) = self.session.pairing else { return Ok(Outcome::Rejected) };
        let message = match verdict {
            Verdict::Intercepted { issuer } => format!(
                "A machine at {} was not paired: TLS was ended on the way, by a certificate of {issuer}. If that is a \
                 proxy of yours, give the machine its CA.",
                self.session.address
            ),
            Verdict::Refused { reason } => {
                format!("A machine at {} was not paired: {reason}", self.session.address)
            }
            _ => return Err(Error::Internal("this verdict refuses nothing".into())),
        };
        let now = app.now();
        let answer = self.keys.confirmed(verdict);
        let settled = over(app, self.session.id, self.digest, sessions::State::Refused, &answer, now)?;
        let mut db = app.store.write().await?;
        if !sessions::settle(&mut db, self.session.id, sessions::State::Started, &settled).await? {
            return Ok(Outcome::Raced);
        }
        if !pairings::proven(&mut db, pairing, pairings::State::Pending, now).await? {
            return Ok(Outcome::Rejected);
        }
        sessions::end_others(&mut db, pairing, self.session.id).await?;
        if let Some(pairing) = pairings::get(&mut db, pairing).await? {
            note(&mut db, pairing.gateway, Severity::Error, reason, message, now).await?;
            db.commit().await?;
            app.hub.changed(pairing.gateway);
            return Ok(Outcome::Answer(answer));
        }
        Ok(Outcome::Rejected)
    }
}

/// A wrong MAC: the session is over, and so is the pairing if this was the last attempt. A decoy makes the same
/// statements.
async fn fail(app: &App, session: &Session, digest: &str) -> Result<Outcome> {
    let now = app.now();
    let settled = Settled {
        state: sessions::State::Refused,
        confirm: digest.to_owned(),
        keys: None,
        claim: None,
        confirmed: None,
        number: None,
        expires_at: session.expires_at,
    };
    let id = session.pairing.unwrap_or_default();
    let mut db = app.store.write().await?;
    if !sessions::settle(&mut db, session.id, sessions::State::Started, &settled).await? {
        return Ok(Outcome::Raced);
    }
    let locked = pairings::lock(&mut db, Some(id), now).await?;
    let pairing = pairings::get(&mut db, id).await?;
    if let Some(Pairing { gateway, attempts_left, .. }) = pairing {
        let message =
            format!("A wrong code was tried from {}; {attempts_left} attempts are left.", session.address);
        note(&mut db, gateway, Severity::Warning, "PairingRejected", message, now).await?;
    }
    for locked in &locked {
        burnt(&mut db, locked, now).await?;
    }
    db.commit().await?;
    if let Some(pairing) = pairing {
        app.hub.changed(pairing.gateway);
    }
    Ok(Outcome::Rejected)
}

/// Says in the console that a code is burnt.
pub(super) async fn burnt(
    db: &mut sqlx::AnyConnection,
    locked: &pairings::Locked,
    now: Timestamp,
) -> crate::store::Result<()> {
    let from = locked.from.as_deref().unwrap_or("an unknown address");
    let message =
        format!("The code is locked after too many attempts, the last from {from}. Make a new code.");
    note(db, locked.gateway, Severity::Error, "PairingLocked", message, now).await
}

/// The answer to a message 3 whose session was settled: the same as before for the same message, and no other.
fn again(app: &App, session: &Session, digest: &str) -> Result<Answer<Confirmed>> {
    if session.confirm.as_deref() != Some(digest) {
        return Err(rejected());
    }
    if let Some(sealed) = &session.confirmed {
        let text = app.store.secrets.open("pairing_sessions.confirmed", &session.id.to_string(), sealed)?;
        return Ok(Answer(read(text.expose())?));
    }
    if session.state == sessions::State::Waiting {
        return Ok(Answer(keys(app, session)?.confirmed(&WAITING)));
    }
    Err(rejected())
}

/// The end of a session with an answer, which is kept.
pub(super) fn over(
    app: &App,
    id: Uuid,
    digest: &str,
    state: sessions::State,
    answer: &Confirmed,
    now: Timestamp,
) -> Result<Settled> {
    Ok(Settled {
        state,
        confirm: digest.to_owned(),
        keys: None,
        claim: None,
        confirmed: Some(app.store.secrets.seal(
            "pairing_sessions.confirmed",
            &id.to_string(),
            &json(answer)?,
        )),
        number: None,
        expires_at: now + ANSWER,
    })
}

pub(super) fn keys(app: &App, session: &Session) -> Result<Keys> {
    let sealed = session.keys.as_deref().ok_or_else(rejected)?;
    let text = app.store.secrets.open("pairing_sessions.keys", &session.id.to_string(), sealed)?;
    read(text.expose())
}

fn is_live(pairing: &Pairing, now: Timestamp) -> bool {
    pairing.state == pairings::State::Pending && pairing.attempts_left > 0 && pairing.expires_at > now
}

fn answered(session: &Session) -> Result<Answer<Started>> {
    read(&session.started).map(Answer)
}

/// Of messages, as serde writes them: fields that we do not know are left out, order and spaces do not matter.
fn digest<T: Serialize>(message: &T) -> Result<String> {
    let hash = Sha256::digest(json(message)?);
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(format!("a value is no JSON: {error}")))
}

pub(super) fn read<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text)
        .map_err(|error| Error::Internal(format!("what was stored makes no sense: {error}")))
}

fn refusal(error: PairingError) -> Error {
    match error {
        PairingError::Origin => Error::refused(
            StatusCode::MISDIRECTED_REQUEST,
            "unknown-origin",
            "The machine means a console with another address than this one has.",
            "If the address is right, start the console with `--url` and that address.",
        ),
        PairingError::Version(_) => Error::refused(
            StatusCode::BAD_REQUEST,
            "version",
            format!("{error}."),
            "Update the older of the two.",
        ),
        PairingError::Malformed(_) | PairingError::Unproven => malformed(&format!("{error}.")),
    }
}

fn malformed(title: &str) -> Error {
    Error::refused(StatusCode::BAD_REQUEST, "malformed", title, "")
}

/// One text for wrong, expired, locked and unknown.
fn rejected() -> Error {
    Error::forbidden(
        "rejected",
        "The pairing code is wrong, expired, locked or used.",
        "Compare it with the console, or make a new one there.",
    )
}
