//! Codes.

use std::time::Duration;

use protocol::code::Code;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;
use sqlx::AnyConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Gateway, existing, get};
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::machine;
use crate::settings;
use crate::state::App;
use crate::store::pairings::{self, Pairing, State};

/// Pairings that wait, at most: of 10^4 locators, and each is one more that a guess may hit.
const MOST: usize = 500;
/// Locators that are tried.
const TRIES: u32 = 8;
/// Wrong codes until a pairing is locked.
pub const ATTEMPTS: i64 = 5;
const SHORTEST: u32 = 15 * 60;
const LONGEST: u32 = 7 * 24 * 60 * 60;
const USUAL: u32 = 24 * 60 * 60;

/// What a new code is to be.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCode {
    /// Whether a person must approve the machine that knows it, comparing numbers; by default as of the code before, and
    /// of a gateway's first code as the settings say.
    pub require_approval: Option<bool>,
    /// After how many seconds it is worthless; a day by default.
    #[schema(minimum = 900, maximum = 604_800)]
    pub expires_in_seconds: Option<u32>,
}

/// The same, checked.
pub(super) struct Checked {
    require_approval: Option<bool>,
    expires_in: Duration,
}

impl NewCode {
    pub(super) fn checked(&self) -> Result<Checked> {
        let seconds = self.expires_in_seconds.unwrap_or(USUAL);
        if !(SHORTEST..=LONGEST).contains(&seconds) {
            return Err(Error::invalid_at(
                "/expires_in_seconds",
                "It must be from 15 minutes (900) to 7 days (604800).",
            ));
        }
        Ok(Checked {
            require_approval: self.require_approval,
            expires_in: Duration::from_secs(seconds.into()),
        })
    }
}

/// Makes a new code for a gateway; one that waits is worthless from then on. A paired gateway stays paired until another
/// machine uses the code.
///
/// # Errors
/// 404; 409 where too many codes wait.
pub async fn new_code(app: &App, by: &Principal, id: Uuid, code: &NewCode) -> Result<Gateway> {
    let mut code = code.checked()?;
    let mut db = app.store.write().await?;
    let gateway = existing(&mut db, id).await?;
    let before = pairings::newest(&mut db, id).await?.map(|before| before.approval);
    code.require_approval = code.require_approval.or(before);
    pairings::end(&mut db, id, State::Cancelled).await?;
    add(&mut db, app, by, id, &code).await?;
    by.audit(&mut db, app, "pairing.create", &gateway.name, "").await?;
    db.commit().await?;
    app.hub.changed(id);
    get(app, id, true).await
}

/// Makes a gateway's code worthless.
///
/// # Errors
/// 404, also where no code waits.
pub async fn cancel_code(app: &App, by: &Principal, id: Uuid) -> Result<()> {
    let mut db = app.store.write().await?;
    let gateway = existing(&mut db, id).await?;
    if pairings::end(&mut db, id, State::Cancelled).await? == 0 {
        return Err(Error::not_found("pairing"));
    }
    by.audit(&mut db, app, "pairing.cancel", &gateway.name, "").await?;
    db.commit().await?;
    app.hub.changed(id);
    Ok(())
}

/// Lets the machine that waits become the gateway, if it is the one whose number was compared.
///
/// # Errors
/// 404; 409 where none waits, or another one does.
pub async fn approve(app: &App, by: &Principal, id: Uuid, number: &str) -> Result<Gateway> {
    existing(&mut *app.store.read().await?, id).await?;
    machine::approve(app, id, number, by).await?;
    get(app, id, true).await
}

/// Sends the machine that waits away; its code is over.
///
/// # Errors
/// 404; 409 where none waits.
pub async fn refuse(app: &App, by: &Principal, id: Uuid) -> Result<Gateway> {
    existing(&mut *app.store.read().await?, id).await?;
    machine::refuse(app, id, by).await?;
    get(app, id, true).await
}

/// Adds a pairing with a code that nobody has.
pub(super) async fn add(
    db: &mut AnyConnection,
    app: &App,
    by: &Principal,
    gateway: Uuid,
    code: &Checked,
) -> Result<()> {
    let taken = pairings::locators(db).await?;
    if taken.len() >= MOST {
        return Err(Error::conflict(
            "too-many-codes",
            format!("{MOST} codes wait for their machines already."),
            "Cancel some, or wait until they expire.",
        ));
    }
    let approval = match code.require_approval {
        Some(approval) => approval,
        None => settings::get(db).await?.require_approval,
    };
    let now = app.now();
    // Others may be choosing at the same moment.
    for _ in 0..TRIES {
        let locator = loop {
            let locator = format!("{:04}", below(10_000));
            if !taken.contains(&locator) {
                break locator;
            }
        };
        let id = Uuid::now_v7();
        let secret = format!("{:07}", below(10_000_000));
        let pairing = Pairing {
            id,
            gateway,
            locator,
            secret: Some(app.store.secrets.seal("pairings.secret", &id.to_string(), &secret)),
            state: State::Pending,
            attempts_left: ATTEMPTS,
            approval,
            created_at: now,
            created_by: by.actor(),
            expires_at: now + code.expires_in,
            last_attempt_at: None,
            last_attempt_from: None,
        };
        if pairings::insert(db, &pairing).await? {
            return Ok(());
        }
    }
    Err(Error::conflict("code-made", "Somebody else made a code for it at the same moment.", "Look again."))
}

/// The code of a pairing that waits.
pub(super) fn code(app: &App, pairing: &Pairing) -> Result<Option<String>> {
    let Some(sealed) = &pairing.secret else { return Ok(None) };
    let secret = app.store.secrets.open("pairings.secret", &pairing.id.to_string(), sealed)?;
    Ok(Code::new(&pairing.locator, secret.expose()).map(|code| code.expose().expose().to_owned()))
}

/// A number below `limit`, each as likely as another.
fn below(limit: u32) -> u32 {
    let random = SystemRandom::new();
    loop {
        let mut bytes = [0; 4];
        random.fill(&mut bytes).expect("the kernel has random numbers");
        let number = u32::from_be_bytes(bytes);
        // The last, incomplete round would make small numbers likelier.
        if number < u32::MAX - u32::MAX % limit {
            return number % limit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            counts[below(10) as usize] += 1;
        }
        // 1000 each; five standard deviations are 150.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_code_lasts_from_minutes_to_days() {
        for (seconds, good) in [(None, true), (Some(899), false), (Some(900), true), (Some(604_801), false)] {
            assert_eq!(
                NewCode { require_approval: None, expires_in_seconds: seconds }.checked().is_ok(),
                good
            );
        }
    }
}
