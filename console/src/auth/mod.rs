//! Who asks, and what they may.
//!
//! ```text
//! Authorization: Bearer  ──> token   ──┐
//! __Host-session cookie  ──> session ──┴──> account ──> Principal ──> Viewer | Operator | Administrator
//! ```

pub mod csrf;
pub mod password;
pub mod session;
pub mod sign_in;
pub mod throttle;
pub mod token;

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::AnyConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::data_key;
use crate::error::{Error, Result};
use crate::state::{App, Peer};
use crate::store::{self, audit};

/// What an account may do; each may do what those before it may.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// See gateways, but no pairing codes.
    Viewer,
    /// Make, configure and delete gateways.
    Operator,
    /// Accounts, settings, the audit log.
    Administrator,
}

impl Role {
    /// As it is stored and written.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }
}

/// How somebody was recognised.
#[derive(Clone, Debug)]
pub enum Via {
    /// By a browser's session.
    Session {
        /// SHA-256 of the cookie, hexadecimal.
        id: String,
        /// What forms and scripts must send along.
        csrf: String,
    },
    /// By a token.
    Token {
        /// Which.
        id: Uuid,
        /// What it is for.
        name: String,
    },
}

/// Who asks. As an extractor, it refuses those who are not signed in, unsafe requests of a session without its CSRF
/// token in `X-CSRF-Token`, and those who must change their password first.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The account.
    pub account: Uuid,
    /// Its name.
    pub name: String,
    /// What it may do: the account's role, or the token's where that is less.
    pub role: Role,
    /// How it was recognised.
    pub via: Via,
    /// Whether the password must be changed before anything else.
    pub must_change: bool,
    /// From where it asks.
    pub address: IpAddr,
}

impl Principal {
    /// Refuses those who may not.
    ///
    /// # Errors
    /// 403 where the role is less.
    pub fn require(&self, role: Role) -> Result<()> {
        if self.role >= role {
            return Ok(());
        }
        Err(Error::forbidden(
            "role",
            format!("This takes the role {}; yours is {}.", role.word(), self.role.word()),
            "Ask an administrator.",
        ))
    }

    /// Refuses those who must change their password first.
    ///
    /// # Errors
    /// 403 where it must be.
    pub fn require_own_password(&self) -> Result<()> {
        if self.must_change {
            return Err(Error::forbidden(
                "password-change-required",
                "The password must be changed first.",
                "Change it at `PUT /v1/session/password`, or sign in with a browser.",
            ));
        }
        Ok(())
    }

    /// Whether they are still signed in, and may still what they might when they were recognised; for streams, which
    /// outlive the request that began them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn holds(&self, app: &App) -> Result<bool> {
        let now = match &self.via {
            Via::Session { id, .. } => session::by_id(app, id, self.address).await?.map(|(now, _)| now),
            Via::Token { id, .. } => token::by_id(app, *id, self.address).await?,
        };
        Ok(now.is_some_and(|now| now.role >= self.role && !now.must_change))
    }

    /// How the audit log names them.
    #[must_use]
    pub fn actor(&self) -> String {
        match &self.via {
            Via::Session { .. } => self.name.clone(),
            Via::Token { name, .. } => format!("{}, token {name}", self.name),
        }
    }

    /// An entry in the audit log, in the transaction of what it tells of.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(
        &self,
        db: &mut AnyConnection,
        app: &App,
        action: &str,
        subject: &str,
        detail: &str,
    ) -> store::Result<()> {
        audit(db, app, &self.actor(), &self.address.to_string(), action, subject, detail).await
    }
}

/// An entry in the audit log by somebody who is not signed in.
///
/// # Errors
/// When the database fails.
pub async fn audit(
    db: &mut AnyConnection,
    app: &App,
    actor: &str,
    address: &str,
    action: &str,
    subject: &str,
    detail: &str,
) -> store::Result<()> {
    let entry = audit::Entry {
        id: Uuid::now_v7(),
        time: app.now(),
        actor: actor.to_owned(),
        address: address.to_owned(),
        action: action.to_owned(),
        subject: subject.to_owned(),
        detail: detail.to_owned(),
    };
    audit::insert(db, &entry).await
}

/// Who asks, if anybody is signed in; for pages, which have their own ways with the rest: see [`csrf`] and
/// [`Principal::require_own_password`].
///
/// # Errors
/// When the database fails.
pub async fn recognise(app: &App, parts: &Parts) -> Result<Option<Principal>> {
    let address = address(parts)?;
    if let Some(value) = parts.headers.get(AUTHORIZATION) {
        let token = value.to_str().ok().and_then(bearer);
        return match token {
            Some(token) => token::recognise(app, token, address).await,
            None => Ok(None),
        };
    }
    session::recognise(app, &parts.headers, address).await
}

/// The address a request came from.
///
/// # Errors
/// Never on a connection that the console accepted.
pub fn address(parts: &Parts) -> Result<IpAddr> {
    parts
        .extensions
        .get::<Peer>()
        // A v4 address must not count twice because the socket is a v6 one.
        .map(|peer| peer.address.ip().to_canonical())
        .ok_or_else(|| Error::Internal("a request has no peer".into()))
}

/// RFC 6750, section 2.1; the scheme in any case (RFC 9110, section 11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<App> for Principal {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Principal> {
        let principal = anybody(parts, app).await?;
        principal.require_own_password()?;
        Ok(principal)
    }
}

/// A [`Principal`] who may have to change their password: for that, and for signing out.
#[derive(Clone, Debug)]
pub struct Anybody(pub Principal);

impl FromRequestParts<App> for Anybody {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Anybody> {
        anybody(parts, app).await.map(Anybody)
    }
}

async fn anybody(parts: &Parts, app: &App) -> Result<Principal> {
    let principal = recognise(app, parts).await?.ok_or_else(Error::unauthorized)?;
    csrf::check(app, &principal, parts)?;
    Ok(principal)
}

macro_rules! roles {
    ($($(#[$doc:meta])* $name:ident => $role:expr,)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name(pub Principal);

        impl FromRequestParts<App> for $name {
            type Rejection = Error;

            async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<$name> {
                let principal = Principal::from_request_parts(parts, app).await?;
                principal.require($role)?;
                Ok($name(principal))
            }
        }
    )*};
}

// The role is part of a handler's signature, so that it is checked before the handler looks at anything else.
roles! {
    /// A [`Principal`] who may see gateways.
    Viewer => Role::Viewer,
    /// A [`Principal`] who may change gateways.
    Operator => Role::Operator,
    /// A [`Principal`] who may do everything.
    Administrator => Role::Administrator,
}

/// 32 random bytes as text for cookies and headers.
#[must_use]
fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(data_key::random::<32>())
}

/// What is stored of such a text: SHA-256, hexadecimal. It is random, so a fast hash does.
#[must_use]
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}
