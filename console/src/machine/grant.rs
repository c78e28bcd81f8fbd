//! What a machine gets that knows the code: at once, or when a person has compared the numbers.

use jiff::Timestamp;
use protocol::link::Severity;
use protocol::pairing::console::Keys;
use protocol::pairing::{Claim, Grant, Verdict};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::HEARTBEAT_SECONDS;
use super::entries::{cut, note};
use super::pairing::{keys, over, read};
use crate::auth::{Principal, audit};
use crate::error::{Error, Result};
use crate::gateways::command;
use crate::state::App;
use crate::store::gateways::{self, Gateway};
use crate::store::pairing_sessions::{self as sessions, Session};
use crate::store::{self, commands, conditions, pairings};

/// A machine that knows the code and waits for a person.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Waiting {
    /// Six digits that its screen shows too.
    pub number: String,
    /// What it calls itself.
    pub hostname: String,
    /// Where it speaks from.
    pub address: String,
    /// Its own addresses.
    pub addresses: Vec<String>,
    /// The virtual machine's BIOS UUID, where it has one.
    pub vm_uuid: Option<String>,
}

/// The gateway that a device key is, if it is one.
pub(super) async fn holder(db: &mut AnyConnection, key: &[u8; 32]) -> store::Result<Option<Gateway>> {
    gateways::by_device_key(db, &text(key)).await
}

fn text(key: &[u8; 32]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(key)
}

/// Makes a machine the gateway. `Err` within: why it cannot be.
pub(super) async fn grant(
    db: &mut AnyConnection,
    app: &App,
    gateway: Uuid,
    keys: &Keys,
    claim: &Claim,
    address: &str,
) -> Result<std::result::Result<Grant, String>> {
    let now = app.now();
    let Some(row) = gateways::get(db, gateway).await?.filter(|gateway| gateway.deleted_at.is_none()) else {
        return Ok(Err("The gateway was deleted.".into()));
    };
    let key = keys.device_key();
    if let Some(other) = holder(db, &key).await?.filter(|other| other.id != gateway) {
        return Ok(Err(format!("This machine is the gateway `{}` already.", other.name)));
    }
    let certificate = match app.ca.certify_device(gateway, &key, &claim.certificate_request.0, now) {
        Ok(certificate) => certificate,
        Err(reason) => return Ok(Err(reason.to_string())),
    };
    gateways::paired(db, gateway, &text(&key), &facts(claim, address), now).await?;
    conditions::clear(db, gateway).await?;
    // What the machine before was told is not for this one. The configuration is the gateway's.
    commands::cancel(db, gateway, None, "It was paired anew.", now).await?;
    let actor = format!("gateway {}", row.name);
    command::configure_again(db, app, &actor, &row).await?;
    let machine = cut(claim.hostname.clone(), 253);
    note(db, gateway, Severity::Info, "Paired", format!("Paired with {machine} at {address}."), now).await?;
    audit(db, app, &actor, address, "gateway.paired", &row.name, &machine).await?;
    Ok(Ok(Grant {
        gateway,
        name: row.name,
        certificate: certificate.pem,
        ca_bundle: app.certificates.bundle(),
        origin: keys.origin().to_owned(),
        time: now,
        heartbeat_seconds: HEARTBEAT_SECONDS,
    }))
}

/// What is kept of a claim, bounded.
fn facts(claim: &Claim, address: &str) -> Value {
    let short = |text: &str| cut(text.to_owned(), 253);
    json!({
        "vm_uuid": claim.vm_uuid.as_deref().map(short),
        "hostname": short(&claim.hostname),
        "addresses": claim.addresses.iter().take(32).map(|address| short(address)).collect::<Vec<_>>(),
        "software": short(&claim.software),
        "address": address,
    })
}

/// Who waits for approval to become a gateway.
///
/// # Errors
/// When the database fails.
pub async fn waiting(db: &mut AnyConnection, gateway: Uuid) -> Result<Option<Waiting>> {
    let Some(session) = sessions::waiting(db, gateway).await? else { return Ok(None) };
    let claim = claim(&session)?;
    let facts = facts(&claim, &session.address);
    let strings = |value: &Value| {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    Ok(Some(Waiting {
        number: session.number.unwrap_or_default(),
        hostname: facts["hostname"].as_str().unwrap_or_default().to_owned(),
        addresses: strings(&facts["addresses"]),
        vm_uuid: facts["vm_uuid"].as_str().map(str::to_owned),
        address: session.address,
    }))
}

/// Lets the machine that waits become the gateway, if its number is the one that was compared; it learns of it when it asks
/// next.
///
/// # Errors
/// 409 `nobody-waits`, `other-number`, or `pairing` with the reason why it cannot be.
pub async fn approve(app: &App, gateway: Uuid, number: &str, by: &Principal) -> Result<()> {
    let mut db = app.store.write().await?;
    let session = asked(&mut db, gateway).await?;
    if session.number.as_deref() != Some(number) {
        return Err(Error::conflict(
            "other-number",
            "The machine that waits has another number.",
            "Compare the number with the one on its screen again.",
        ));
    }
    let keys = keys(app, &session)?;
    let claim = claim(&session)?;
    let granted = grant(&mut db, app, gateway, &keys, &claim, &session.address)
        .await?
        .map_err(|reason| Error::conflict("pairing", reason, "Make a new code for another machine."))?;
    let name = granted.name.clone();
    let verdict = Verdict::Granted(Box::new(granted));
    close(&mut db, app, &session, &keys, &verdict, pairings::State::Paired).await?;
    by.audit(&mut db, app, "gateway.approve", &name, &session.address).await?;
    db.commit().await?;
    app.hub.wake(gateway);
    Ok(())
}

/// Sends the machine that waits away; its code is over.
///
/// # Errors
/// 409 `nobody-waits`.
pub async fn refuse(app: &App, gateway: Uuid, by: &Principal) -> Result<()> {
    let mut db = app.store.write().await?;
    let session = asked(&mut db, gateway).await?;
    let keys = keys(app, &session)?;
    let reason = format!("{} refused it in the console.", by.name);
    close(&mut db, app, &session, &keys, &Verdict::Refused { reason }, pairings::State::Cancelled).await?;
    let name = gateways::get(&mut db, gateway).await?.map(|gateway| gateway.name).unwrap_or_default();
    by.audit(&mut db, app, "gateway.refuse", &name, &session.address).await?;
    db.commit().await?;
    app.hub.changed(gateway);
    Ok(())
}

/// The session that a person decides about, locked.
async fn asked(db: &mut AnyConnection, gateway: Uuid) -> Result<Session> {
    let nobody = || {
        Error::conflict(
            "nobody-waits",
            "No machine waits for approval.",
            "It may have been decided, or have expired.",
        )
    };
    let session = sessions::waiting(db, gateway).await?.ok_or_else(nobody)?;
    if !sessions::lock(db, session.id, sessions::State::Waiting).await? {
        return Err(nobody());
    }
    Ok(session)
}

async fn close(
    db: &mut AnyConnection,
    app: &App,
    session: &Session,
    keys: &Keys,
    verdict: &Verdict,
    state: pairings::State,
) -> Result<()> {
    let now: Timestamp = app.now();
    let end = if matches!(verdict, Verdict::Granted(_)) {
        sessions::State::Granted
    } else {
        sessions::State::Refused
    };
    let digest = session.confirm.as_deref().unwrap_or_default();
    let settled = over(app, session.id, digest, end, &keys.confirmed(verdict), now)?;
    sessions::settle(db, session.id, sessions::State::Waiting, &settled).await?;
    pairings::decided(db, session.pairing.unwrap_or_default(), state).await?;
    Ok(())
}

fn claim(session: &Session) -> Result<Claim> {
    read(session.claim.as_deref().unwrap_or_default())
}
