//! Which gateway a request comes from: by its client certificate, or by a signature where a proxy ends TLS.
//!
//! Both lead to the device key, and what counts is whether that key is a gateway's *now*: a certificate that has not
//! expired is worth nothing after its gateway was deleted or another machine has paired as it.

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use protocol::signature::{self, SignatureError, Signed};
use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_SIG_ED25519;
use x509_parser::prelude::FromDer as _;

use crate::error::{Error, Result};
use crate::state::{App, Peer};
use crate::store::gateways::Gateway;
use crate::store::{gateways, replays};

/// Finds the gateway that a request comes from.
///
/// # Errors
/// 401: `revoked` where the machine is no gateway (any more), `clock` where its clock is off, `signature` where it is
/// wrong, `replayed`, or `unauthenticated` where there is neither certificate nor signature.
pub(super) async fn identify(app: &App, parts: &Parts, peer: &Peer, body: &[u8]) -> Result<Gateway> {
    // Who signs could not show its certificate, or it has expired.
    if parts.headers.contains_key("signature") || parts.headers.contains_key("signature-input") {
        return by_signature(app, parts, body).await;
    }
    match &peer.certificate {
        Some(certificate) => by_certificate(app, certificate).await,
        None => Err(unauthenticated(
            "unauthenticated",
            "The machine showed no client certificate and did not sign its request.",
            "Where a proxy ends TLS, requests must be signed with the device key.",
        )),
    }
}

async fn by_certificate(app: &App, certificate: &CertificateDer<'_>) -> Result<Gateway> {
    // TLS has checked it; that it cannot be read is our own doing.
    let (id, key) = subject(certificate).ok_or_else(revoked)?;
    let gateway = gateways::get(&mut *app.store.read().await?, id).await?;
    gateway
        .filter(|gateway| gateway.deleted_at.is_none() && gateway.device_key.as_ref() == Some(&key))
        .ok_or_else(revoked)
}

/// The gateway that a certificate of ours names, and the device key in it, base64.
fn subject(certificate: &CertificateDer<'_>) -> Option<(Uuid, String)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    let key = certificate.public_key();
    if key.algorithm.algorithm != OID_SIG_ED25519 {
        return None;
    }
    Some((name.parse().ok()?, STANDARD.encode(&key.subject_public_key.data)))
}

async fn by_signature(app: &App, parts: &Parts, body: &[u8]) -> Result<Gateway> {
    let (method, uri) = (parts.method.as_str(), &parts.uri);
    let signed =
        signature::verify(|name| single(&parts.headers, name), method, uri.path(), uri.query(), body)
            .map_err(wrong)?;
    let key = STANDARD.encode(signed.key);
    let gateway = gateways::by_device_key(&mut *app.store.read().await?, &key).await?.ok_or_else(revoked)?;
    let now = app.now();
    if !signed.is_fresh(now) {
        let title = format!(
            "The machine's clock is wrong: it signed this at {}, and the console has {}.",
            signed.created,
            now.strftime("%Y-%m-%dT%H:%M:%SZ")
        );
        return Err(unauthenticated("clock", &title, "Set the machine's clock, best by NTP."));
    }
    unused(app, &key, &signed).await?;
    Ok(gateway)
}

/// Notes the nonce before anything is done, so that of two requests that are the same one counts.
async fn unused(app: &App, key: &str, signed: &Signed) -> Result<()> {
    let mut db = app.store.write().await?;
    // A minute more than it stays fresh: consoles on one database differ a little.
    let until = signed.created + signature::WINDOW + SignedDuration::from_mins(1);
    let new = replays::insert(&mut db, &format!("{key} {}", signed.nonce), until).await?;
    db.commit().await?;
    if new {
        return Ok(());
    }
    Err(unauthenticated(
        "replayed",
        "This request came before.",
        "Sign each request anew, with a nonce of its own.",
    ))
}

/// A header that came once.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn wrong(error: SignatureError) -> Error {
    unauthenticated("signature", &format!("{error}."), "See RFC 9421, and the profile in `docs/pairing.md`.")
}

pub(super) fn revoked() -> Error {
    unauthenticated(
        "revoked",
        "This machine is no gateway of this console any more.",
        "It was deleted, or another machine has paired as it. Pair again with a new code.",
    )
}

fn unauthenticated(kind: &str, title: &str, hint: &str) -> Error {
    Error::refused(StatusCode::UNAUTHORIZED, kind, title, hint)
}
