//! Tokens: `gwt_` and 32 random bytes, of which the table has the hash.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use protocol::secret::Secret;
use sqlx::AnyConnection;
use uuid::Uuid;

use super::{Principal, Role, Via, hash, random_text};
use crate::error::Result;
use crate::state::App;
use crate::store::tokens::Token;
use crate::store::{self, Store, accounts, tokens};

/// What each begins with, so that scanners for leaked secrets know it.
const PREFIX: &str = "gwt_";
/// A token's last use is noted to this.
const NOTED: Duration = Duration::from_secs(60);

/// Makes a token, which is shown this once.
///
/// # Errors
/// When the database fails.
pub async fn create(
    db: &mut AnyConnection,
    account: Uuid,
    name: &str,
    role: Role,
    expires_at: Option<Timestamp>,
    parent: Option<Uuid>,
    now: Timestamp,
) -> store::Result<(Token, Secret)> {
    let secret = Secret::new(format!("{PREFIX}{}", random_text()));
    let token = Token {
        id: Uuid::now_v7(),
        name: name.to_owned(),
        account,
        role,
        created_at: now,
        expires_at,
        used_at: None,
    };
    tokens::insert(db, &token, &hash(secret.expose()), parent).await?;
    Ok((token, secret))
}

pub(super) async fn recognise(app: &App, secret: &str, address: IpAddr) -> Result<Option<Principal>> {
    if !secret.starts_with(PREFIX) {
        return Ok(None);
    }
    let mut db = app.store.read().await?;
    let token = tokens::by_hash(&mut db, &hash(secret)).await?;
    let used_at = token.as_ref().and_then(|token| token.used_at);
    let Some(principal) = principal(&mut db, app, token, address).await? else { return Ok(None) };
    drop(db);
    let now = app.now();
    if let Via::Token { id, .. } = &principal.via
        && used_at.is_none_or(|used| used + NOTED <= now)
    {
        let (store, id) = (app.store.clone(), *id);
        // Beside: who only reads waits for no writer, and is not kept from reading by a full disk.
        app.tasks.spawn(async move {
            if let Err(error) = note(&store, id, now).await {
                tracing::warn!(%error, "cannot note that a token was used");
            }
        });
    }
    Ok(Some(principal))
}

async fn note(store: &Store, id: Uuid, now: Timestamp) -> store::Result<()> {
    let mut db = store.write().await?;
    tokens::used(&mut db, id, now).await?;
    db.commit().await
}

/// Whose token it is, unless it has ended.
pub(super) async fn by_id(app: &App, id: Uuid, address: IpAddr) -> Result<Option<Principal>> {
    let mut db = app.store.read().await?;
    let token = tokens::get(&mut db, id).await?;
    principal(&mut db, app, token, address).await
}

async fn principal(
    db: &mut AnyConnection,
    app: &App,
    token: Option<Token>,
    address: IpAddr,
) -> Result<Option<Principal>> {
    let holds = |token: &Token| token.expires_at.is_none_or(|end| end > app.now());
    let Some(token) = token.filter(holds) else { return Ok(None) };
    let account = accounts::get(db, token.account).await?.filter(|account| !account.disabled);
    Ok(account.map(|account| Principal {
        account: account.id,
        name: account.name,
        role: account.role.min(token.role),
        via: Via::Token { id: token.id, name: token.name },
        must_change: account.must_change,
        address,
    }))
}
