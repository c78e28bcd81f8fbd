//! What people do with API tokens; API and pages call the same functions.

use std::time::Duration;

use protocol::secret::Secret;
use uuid::Uuid;

use crate::auth::{Principal, Role, Via, token};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::tokens::{self as table, Token};

/// The most tokens that an account has.
const MOST: usize = 100;
/// The longest name, in characters.
pub const NAME_MAX: usize = 100;
/// The longest life, in days.
pub const MAX_DAYS: u32 = 3650;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Makes a token for oneself. Its secret is shown this once. One that is made with a token ends with that at the latest: a
/// stolen token makes none that outlives it.
///
/// # Errors
/// 403 for a role above one's own, 422 for a name that is none, 409 where there are too many.
pub async fn create(
    app: &App,
    by: &Principal,
    name: &str,
    role: Role,
    days: Option<u32>,
) -> Result<(Token, Secret)> {
    // A token names its maker nowhere else than in the audit log, where it must not pass for somebody else.
    if name.trim().is_empty() || name.chars().count() > NAME_MAX || name.chars().any(char::is_control) {
        let why = format!(
            "It must have from 1 to {NAME_MAX} characters, not all blank, none of them control characters."
        );
        return Err(Error::invalid_at("/name", why));
    }
    if days.is_some_and(|days| !(1..=MAX_DAYS).contains(&days)) {
        return Err(Error::invalid_at("/expires_in_days", format!("It must be from 1 to {MAX_DAYS}.")));
    }
    by.require(role)?;
    let now = app.now();
    let mut db = app.store.write().await?;
    if table::list(&mut db, Some(by.account)).await?.len() >= MOST {
        return Err(Error::conflict(
            "too-many-tokens",
            format!("The account has {MOST} tokens already."),
            "Delete some that are not used.",
        ));
    }
    let mut end = days.map(|days| now + DAY * days);
    let mut parent = None;
    if let Via::Token { id, .. } = by.via {
        let made_with = table::get(&mut db, id).await?.ok_or_else(Error::unauthorized)?;
        end = [end, made_with.expires_at].into_iter().flatten().min();
        parent = Some(id);
    }
    let (token, secret) = token::create(&mut db, by.account, name, role, end, parent, now).await?;
    by.audit(&mut db, app, "token.create", name, role.word()).await?;
    db.commit().await?;
    Ok((token, secret))
}

/// One's own tokens, newest first; everybody's for administrators.
///
/// # Errors
/// When the database fails.
pub async fn list(app: &App, by: &Principal) -> Result<Vec<Token>> {
    let mut db = app.store.read().await?;
    Ok(table::list(&mut db, (by.role < Role::Administrator).then_some(by.account)).await?)
}

/// Ends a token of one's own; anybody's for administrators.
///
/// # Errors
/// 404, also for others' tokens.
pub async fn delete(app: &App, by: &Principal, id: Uuid) -> Result<()> {
    let mut db = app.store.write().await?;
    let token = table::get(&mut db, id)
        .await?
        .filter(|token| token.account == by.account || by.role == Role::Administrator)
        .ok_or_else(|| Error::not_found("token"))?;
    table::delete(&mut db, id).await?;
    by.audit(&mut db, app, "token.delete", &token.name, "").await?;
    Ok(db.commit().await?)
}
