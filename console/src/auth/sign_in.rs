//! Signing in and out, and changing one's password; API and pages call the same functions.

use std::net::IpAddr;

use protocol::secret::Secret;

use super::session::{self, Begun};
use super::{Principal, Via, audit, password};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::accounts::{self, Account};
use crate::store::sessions;

/// The longest name an account has, in characters.
pub const NAME_MAX: usize = 64;

/// Begins a session for whoever knows the password. A session that the browser had before, whoever may have given it
/// that, is none of this one.
///
/// # Errors
/// 401 `wrong-password` for all reasons alike, 429 after too many failures.
pub async fn sign_in(app: &App, name: &str, password: Secret, address: IpAddr) -> Result<(Account, Begun)> {
    if name.chars().count() > NAME_MAX || password.expose().len() > password::MAX {
        return Err(wrong());
    }
    let attempt = app.throttle.attempt(name, address, app.now()).map_err(|after| {
        Error::too_many(
            "too-many-sign-ins",
            "Too many wrong passwords, from this address or for this account.",
            after,
        )
    })?;
    let (account, hash) = {
        let mut db = app.store.read().await?;
        match accounts::by_name(&mut db, name).await?.filter(|account| !account.disabled) {
            Some(account) => {
                let hash = accounts::password(&mut db, account.id).await?;
                (Some(account), hash)
            }
            None => (None, None),
        }
    };
    let known = account.is_some();
    let right = app.hasher.verify(password, hash.clone()).await?;
    let mut db = app.store.write().await?;
    let (Some(account), true) = (account, right) else {
        // What is no account's name may be a password that went into the wrong field.
        let subject = if known { name } else { "(unknown account)" };
        audit(&mut db, app, "stranger", &address.to_string(), "login.failed", subject, "").await?;
        db.commit().await?;
        return Err(wrong());
    };
    // While it was hashed, the account may have been disabled or have got another password.
    let still = accounts::get(&mut db, account.id).await?.filter(|account| !account.disabled);
    if still.is_none() || accounts::password(&mut db, account.id).await? != hash {
        return Err(wrong());
    }
    let begun = session::begin(&mut db, app, &account, address).await?;
    audit(&mut db, app, &account.name, &address.to_string(), "login", &account.name, "").await?;
    db.commit().await?;
    attempt.succeeded();
    Ok((account, begun))
}

fn wrong() -> Error {
    Error::refused(
        axum::http::StatusCode::UNAUTHORIZED,
        "wrong-password",
        "Name or password is wrong.",
        "Whoever can run `gatewright-console reset-password` on the console's machine can set a new one.",
    )
}

/// Ends the session.
///
/// # Errors
/// 409 where it is a token that asks.
pub async fn sign_out(app: &App, by: &Principal) -> Result<()> {
    let Via::Session { id, .. } = &by.via else { return Err(no_session()) };
    let mut db = app.store.write().await?;
    sessions::delete(&mut db, id).await?;
    by.audit(&mut db, app, "logout", &by.name, "").await?;
    Ok(db.commit().await?)
}

/// Gives whoever is signed in another password, and another session; all their sessions end.
///
/// # Errors
/// 401 or 429 as for signing in; 409 where it is a token that asks; 422 for a password that is not taken.
pub async fn change_password(app: &App, by: &Principal, current: Secret, new: Secret) -> Result<Begun> {
    if !matches!(by.via, Via::Session { .. }) {
        return Err(no_session());
    }
    if let Some(why) = password::objection(&new, &by.name) {
        return Err(Error::invalid_at("/new", why));
    }
    if current == new {
        return Err(Error::invalid_at("/new", "It is the one there is already."));
    }
    let attempt = app.throttle.attempt(&by.name, by.address, app.now()).map_err(|after| {
        Error::too_many(
            "too-many-sign-ins",
            "Too many wrong passwords, from this address or for this account.",
            after,
        )
    })?;
    let old = accounts::password(&mut *app.store.read().await?, by.account).await?;
    if !app.hasher.verify(current, old.clone()).await? {
        return Err(wrong());
    }
    attempt.succeeded();
    let hash = app.hasher.hash(new).await?;
    let mut db = app.store.write().await?;
    // While it was hashed, somebody may have disabled the account or given it another password: that one holds.
    let account = accounts::get(&mut db, by.account).await?.filter(|account| !account.disabled);
    let account = account.ok_or_else(Error::unauthorized)?;
    if accounts::password(&mut db, account.id).await? != old {
        return Err(Error::unauthorized());
    }
    accounts::set_password(&mut db, account.id, &hash, false).await?;
    sessions::delete_of(&mut db, account.id).await?;
    let begun = session::begin(&mut db, app, &account, by.address).await?;
    by.audit(&mut db, app, "account.password", &account.name, "").await?;
    db.commit().await?;
    Ok(begun)
}

fn no_session() -> Error {
    Error::conflict("no-session", "A token has no session.", "Do this in a session: `POST /v1/session`.")
}
