//! Sessions: a cookie with 32 random bytes, of which the table has the hash.

use std::net::IpAddr;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::COOKIE;
use cookie::{Cookie, SameSite};
use jiff::Timestamp;
use protocol::secret::Secret;
use sqlx::AnyConnection;

use super::{Principal, Via, hash, random_text};
use crate::error::Result;
use crate::state::App;
use crate::store::accounts::Account;
use crate::store::sessions::Session;
use crate::store::{self, Store, accounts, sessions};

/// `__Host-`: browsers take it from this host alone, over TLS alone, for all paths.
pub const COOKIE_NAME: &str = "__Host-session";
/// A session ends when nothing was asked for so long,
pub const IDLE: Duration = Duration::from_secs(2 * 60 * 60);
/// and in any case after so long.
pub const LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// On requests that a page makes by itself: nobody is there for them, so they do not keep a session.
const REFRESH: &str = "x-refresh";
/// A session's last request is noted to this.
const NOTED: Duration = Duration::from_secs(60);

/// A session that has begun: its cookie, and what must be sent along with changes.
#[derive(Debug)]
pub struct Begun {
    /// For `Set-Cookie`.
    pub cookie: String,
    /// For [`super::csrf::HEADER`].
    pub csrf: String,
}

/// Begins a session, under a name that nobody knew before.
///
/// # Errors
/// When the database fails.
pub async fn begin(
    db: &mut AnyConnection,
    app: &App,
    account: &Account,
    address: IpAddr,
) -> store::Result<Begun> {
    let now = app.now();
    let secret = Secret::new(random_text());
    let session = Session {
        id: hash(secret.expose()),
        account: account.id,
        csrf: random_text(),
        address: address.to_string(),
        created_at: now,
        seen_at: now,
        expires_at: now + LIFE,
    };
    sessions::insert(db, &session).await?;
    Ok(Begun { cookie: cookie(secret.expose()).to_string(), csrf: session.csrf })
}

/// The `Set-Cookie` that takes a session's cookie away.
#[must_use]
pub fn ended() -> String {
    let mut cookie = cookie("");
    cookie.make_removal();
    cookie.to_string()
}

fn cookie(value: &str) -> Cookie<'_> {
    // Lax: a link to the console finds its user signed in; what changes something is never a link.
    Cookie::build((COOKIE_NAME, value))
        .path("/")
        .secure(true)
        .http_only(true)
        .same_site(SameSite::Lax)
        .build()
}

pub(super) async fn recognise(app: &App, headers: &HeaderMap, address: IpAddr) -> Result<Option<Principal>> {
    let Some(secret) = sent(headers) else { return Ok(None) };
    let id = hash(secret.expose());
    let Some((principal, seen_at)) = by_id(app, &id, address).await? else { return Ok(None) };
    let now = app.now();
    if seen_at + NOTED <= now && !headers.contains_key(REFRESH) {
        let store = app.store.clone();
        // Beside: who only reads waits for no writer, and is not kept from reading by a full disk.
        app.tasks.spawn(async move {
            if let Err(error) = note(&store, &id, now).await {
                tracing::warn!(%error, "cannot note that a session was used");
            }
        });
    }
    Ok(Some(principal))
}

async fn note(store: &Store, id: &str, now: Timestamp) -> store::Result<()> {
    let mut db = store.write().await?;
    sessions::seen(&mut db, id, now).await?;
    db.commit().await
}

/// Whose session it is, unless it has ended, and when it was last used.
pub(super) async fn by_id(app: &App, id: &str, address: IpAddr) -> Result<Option<(Principal, Timestamp)>> {
    let now = app.now();
    let mut db = app.store.read().await?;
    let Some(session) = sessions::get(&mut db, id).await? else { return Ok(None) };
    if session.expires_at <= now || session.seen_at + IDLE <= now {
        return Ok(None);
    }
    let account = accounts::get(&mut db, session.account).await?.filter(|account| !account.disabled);
    let principal = account.map(|account| Principal {
        account: account.id,
        name: account.name,
        role: account.role,
        via: Via::Session { id: session.id, csrf: session.csrf },
        must_change: account.must_change,
        address,
    });
    Ok(principal.map(|principal| (principal, session.seen_at)))
}

/// The cookie's value, if one was sent.
fn sent(headers: &HeaderMap) -> Option<Secret> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .filter_map(std::result::Result::ok)
        .find(|cookie| cookie.name() == COOKIE_NAME)
        .map(|cookie| Secret::new(cookie.value().to_owned()))
}
