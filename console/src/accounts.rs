//! What administrators do with accounts; API and pages call the same functions.

use protocol::secret::Secret;
use sqlx::AnyConnection;
use uuid::Uuid;

use crate::auth::sign_in::NAME_MAX;
use crate::auth::{Principal, Role, password};
use crate::error::{Error, Result};
use crate::state::App;
use crate::store::accounts::{self as table, Account};
use crate::store::{self, sessions};

/// The most accounts that one console has.
const MOST: i64 = 1000;

/// Makes an account, with a password that its owner must change.
///
/// # Errors
/// 422 for a name that is none, 409 where it is taken.
pub async fn create(app: &App, by: &Principal, name: &str, role: Role) -> Result<(Account, Secret)> {
    if let Some(why) = objection(name) {
        return Err(Error::invalid_at("/name", why));
    }
    let password = password::initial();
    let hash = app.hasher.hash(password.clone()).await?;
    let account = Account {
        id: Uuid::now_v7(),
        name: name.to_owned(),
        role,
        must_change: true,
        disabled: false,
        created_at: app.now(),
    };
    let mut db = app.store.write().await?;
    if table::count(&mut db).await? >= MOST {
        return Err(Error::conflict("too-many-accounts", format!("There are {MOST} accounts already."), ""));
    }
    match table::insert(&mut db, &account, &hash).await {
        Ok(()) => {}
        Err(error) if store::is_taken(&error) => {
            return Err(Error::conflict(
                "name-taken",
                format!("There is an account `{name}` already."),
                "Choose another name.",
            ));
        }
        Err(error) => return Err(error.into()),
    }
    by.audit(&mut db, app, "account.create", name, role.word()).await?;
    db.commit().await?;
    Ok((account, password))
}

/// Changes what an account may do, from its next request on. A disabled one is signed out everywhere.
///
/// # Errors
/// 404; 409 for one's own account, and where nobody would be left to administrate.
pub async fn update(app: &App, by: &Principal, id: Uuid, role: Role, disabled: bool) -> Result<Account> {
    let mut db = app.store.write().await?;
    let account = existing(&mut db, id).await?;
    if role < Role::Administrator || disabled {
        not_oneself(by, id)?;
        keep_an_administrator(&mut db, id).await?;
    }
    table::update(&mut db, id, role, disabled).await?;
    if disabled {
        sessions::delete_of(&mut db, id).await?;
    }
    let detail = if disabled { format!("{}, disabled", role.word()) } else { role.word().to_owned() };
    by.audit(&mut db, app, "account.update", &account.name, &detail).await?;
    db.commit().await?;
    Ok(Account { role, disabled, ..account })
}

/// Gives an account a password that its owner must change, and signs it out everywhere. Its tokens do nothing until then, and
/// then go on.
///
/// # Errors
/// 404; 409 for one's own account.
pub async fn reset_password(app: &App, by: &Principal, id: Uuid) -> Result<Secret> {
    let password = password::initial();
    let hash = app.hasher.hash(password.clone()).await?;
    let mut db = app.store.write().await?;
    let account = existing(&mut db, id).await?;
    not_oneself(by, id)?;
    table::set_password(&mut db, id, &hash, true).await?;
    sessions::delete_of(&mut db, id).await?;
    by.audit(&mut db, app, "account.reset-password", &account.name, "").await?;
    db.commit().await?;
    Ok(password)
}

/// Removes an account, with its sessions and tokens.
///
/// # Errors
/// 404; 409 for one's own account, and where nobody would be left to administrate.
pub async fn delete(app: &App, by: &Principal, id: Uuid) -> Result<()> {
    let mut db = app.store.write().await?;
    let account = existing(&mut db, id).await?;
    not_oneself(by, id)?;
    keep_an_administrator(&mut db, id).await?;
    table::delete(&mut db, id).await?;
    by.audit(&mut db, app, "account.delete", &account.name, "").await?;
    Ok(db.commit().await?)
}

async fn existing(db: &mut AnyConnection, id: Uuid) -> Result<Account> {
    table::get(db, id).await?.ok_or_else(|| Error::not_found("account"))
}

/// Nobody locks themselves out by a slip.
fn not_oneself(by: &Principal, id: Uuid) -> Result<()> {
    if by.account != id {
        return Ok(());
    }
    Err(Error::conflict(
        "own-account",
        "This is your own account.",
        "Change your password under Password; let another administrator do the rest.",
    ))
}

async fn keep_an_administrator(db: &mut AnyConnection, id: Uuid) -> Result<()> {
    if table::other_administrators(db, id).await? > 0 {
        return Ok(());
    }
    Err(Error::conflict(
        "last-administrator",
        "Nobody else is an administrator.",
        "Make another account an administrator first.",
    ))
}

/// Why a name is not taken, if it is not; one sentence.
fn objection(name: &str) -> Option<String> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > NAME_MAX {
        Some(format!("It must have from 1 to {NAME_MAX} characters."))
    } else if !name.chars().all(good) {
        Some("It may have lower-case letters, digits and . _ - @ only.".into())
    } else if matches!(name, "console" | "stranger") {
        Some("The audit log calls others so.".into())
    } else {
        None
    }
}
