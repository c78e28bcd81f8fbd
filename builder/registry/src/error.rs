//! What goes wrong with a registry, told so that a person can act on it.

use std::error::Error as StdError;
use std::io;
use std::path::{Path, PathBuf};

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};

/// What a registry says of itself is cut here, in characters.
const LONGEST_QUOTE: usize = 200;

/// Why it did not work. Messages carry neither credentials nor signed URLs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry has no such thing.
    #[error("{what} is not there")]
    NotFound {
        /// Its reference.
        what: String,
    },
    /// No answer, or one that says to come back later.
    #[error("{host} cannot be reached: {why}")]
    Unreachable {
        /// Host, with its port.
        host: String,
        /// The innermost cause.
        why: String,
    },
    /// Not for us.
    #[error("{host} denies access to {what}{}", if *known { "" } else { ", and there are no credentials for it" })]
    Denied {
        /// Host, with its port.
        host: String,
        /// The reference.
        what: String,
        /// Whether credentials were sent.
        known: bool,
    },
    /// What came, or what was asked for, is not right.
    #[error("{what}: {why}")]
    Invalid {
        /// What it is about.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do, where there is something.
        hint: Option<String>,
    },
    /// A file of this machine cannot be read or written.
    #[error("{}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        why: io::Error,
    },
    /// [`crate::Options::cancelled`] said so.
    #[error("Cancelled")]
    Cancelled,
}

impl Error {
    /// What the user can do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::NotFound { .. } => Some("check the name and the tag".into()),
            Error::Unreachable { host, .. } => Some(format!(
                "check that {host} is right, and the network, `https_proxy`, `no_proxy`; try again later, or name a mirror"
            )),
            Error::Denied { host, known: false, .. } => {
                Some(format!("log in, as with `skopeo login {host}` or `docker login {host}`"))
            }
            Error::Denied { host, .. } => Some(format!(
                "the credentials for {host} may have expired, or lack the right to do this: log in again"
            )),
            Error::Invalid { hint, .. } => hint.clone(),
            Error::File { .. } | Error::Cancelled => None,
        }
    }

    pub(crate) fn invalid(what: impl ToString, why: impl Into<String>, hint: impl Into<String>) -> Error {
        Error::Invalid { what: what.to_string(), why: why.into(), hint: Some(hint.into()) }
    }

    /// What a registry did that no hint of ours can mend.
    pub(crate) fn broken(what: impl ToString, why: impl Into<String>) -> Error {
        Error::Invalid { what: what.to_string(), why: why.into(), hint: None }
    }

    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |why| Error::File { path: path.into(), why }
    }

    /// Sorts what the protocol's crate says. `known`: whether credentials were sent.
    pub(crate) fn from_client(error: OciDistributionError, host: &str, what: &str, known: bool) -> Error {
        use OciDistributionError as Oci;
        let unreachable = |why: String| Error::Unreachable { host: host.into(), why };
        let status = |code: u16, why: String| match code {
            401 | 403 => Error::Denied { host: host.into(), what: what.into(), known },
            404 => Error::NotFound { what: what.into() },
            429 | 500.. => Error::Unreachable { host: host.into(), why: format!("it answers {code}{why}") },
            _ => Error::broken(what, format!("{host} answers {code}{why}")),
        };
        match error {
            Oci::UnauthorizedError { .. } | Oci::AuthenticationFailure(_) => status(401, String::new()),
            Oci::ServerError { code, message, .. } => status(code, quote(&message)),
            Oci::RegistryError { envelope, .. } => {
                let message: Vec<_> = envelope.errors.iter().map(|error| error.message.as_str()).collect();
                let code = match envelope.errors.first().map(|error| &error.code) {
                    Some(OciErrorCode::Unauthorized | OciErrorCode::Denied) => 403,
                    Some(
                        OciErrorCode::BlobUnknown
                        | OciErrorCode::ManifestUnknown
                        | OciErrorCode::NameUnknown
                        | OciErrorCode::NotFound,
                    ) => 404,
                    Some(OciErrorCode::Toomanyrequests) => 429,
                    _ => 400,
                };
                status(code, quote(&message.join("; ")))
            }
            Oci::RequestError(error) => match error.status() {
                Some(code) => status(code.as_u16(), String::new()),
                None if error.is_decode() || error.is_builder() => Error::broken(what, innermost(&error)),
                None => unreachable(innermost(&error)),
            },
            Oci::IoError(error) => match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(error @ DigestError::VerificationError { .. }) => Error::broken(what, digests(error)),
                _ => unreachable(innermost(&error)),
            },
            Oci::DigestError(error) => Error::broken(what, digests(&error)),
            other => Error::broken(
                what,
                format!("{host} gives an answer that is none:{}", quote(&other.to_string())),
            ),
        }
    }
}

fn digests(error: &DigestError) -> String {
    match error {
        DigestError::VerificationError { expected, actual } => {
            format!("its digest is {actual}, not {expected}: it was changed, or damaged")
        }
        other => other.to_string(),
    }
}

/// The cause of causes: those before it only say that a request failed, and where it went, signature and all.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// What the registry says, as the end of a sentence; control characters do not reach the terminal.
fn quote(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    let text: String = line.chars().filter(|c| !c.is_control()).take(LONGEST_QUOTE).collect();
    if text.is_empty() { text } else { format!(" ({text})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted() {
        let answer = |code, message: &str| OciDistributionError::ServerError {
            code,
            url: "https://a.io/v2/x/blobs/uploads/1?_state=secret".into(),
            message: message.into(),
        };
        let envelope = |text: &str| OciDistributionError::RegistryError {
            envelope: serde_json::from_str(text).unwrap(),
            url: "https://a.io/v2/".into(),
        };
        let said: Vec<String> = [
            (answer(401, ""), true),
            (answer(403, "no"), false),
            (answer(404, ""), false),
            (answer(429, "slow down"), false),
            (answer(503, "\u{1b}[2Jbusy\nsecond line"), false),
            (answer(418, &"x".repeat(1000)), false),
            (envelope(r#"{"errors":[{"code":"DENIED","message":"no"}]}"#), true),
            (envelope(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#), true),
            (envelope(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"limit"}]}"#), true),
            (envelope(r#"{"errors":[{"code":"MANIFEST_INVALID","message":"bad"}]}"#), true),
            (envelope(r#"{"errors":[]}"#), true),
            (OciDistributionError::RegistryNoLocationError, true),
        ]
        .into_iter()
        .map(|(error, known)| {
            let error = Error::from_client(error, "a.io", "a.io/x:1", known);
            format!("{error}\n  hint: {}", error.hint().unwrap_or_default())
        })
        .collect();
        insta::assert_snapshot!(said.join("\n"));
    }
}
