//! Names of things in registries, and digests.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// As the distribution specification bounds them.
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;
const TAG_RULE: &str =
    "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with neither of the last two";

/// `sha256:` and 64 lower-case hexadecimal digits. Others are not read: no registry of note has them.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Digest {
        Digest::finish(Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn finish(hasher: Sha256) -> Digest {
        let hex: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Digest(format!("sha256:{hex}"))
    }

    /// With its `sha256:`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 digits, which are a file name.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Digest, Error> {
        let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(is_digit) => Ok(Digest(text)),
            _ => Err(Error::invalid(
                format!("`{}`", text.escape_debug()),
                "it is no digest",
                "a digest is `sha256:` and 64 lower-case hexadecimal digits",
            )),
        }
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Digest, Error> {
        text.to_owned().try_into()
    }
}

/// What something in a registry is called: `[oci://]HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`.
///
/// The host is always there: a name without one means another registry to every program. What `docker.io` calls by one
/// word is in its `library`, as for all clients. There is no default tag.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reference {
    pub(crate) host: String,
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

impl Reference {
    /// Host, with its port if it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The name at the host, without tag and digest.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, which decides where both are given.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same repository with a tag, and no digest.
    ///
    /// # Errors
    /// When it cannot be a tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, Error> {
        if !is_tag(tag) {
            return Err(Error::invalid(format!("`{}`", tag.escape_debug()), "it cannot be a tag", TAG_RULE));
        }
        Ok(Reference { tag: Some(tag.into()), digest: None, ..self.clone() })
    }

    /// The same repository with a digest, and no tag.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Reference {
        Reference { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Reference, Error> {
        let wrong = |why: &str, hint: String| Error::invalid(format!("`{}`", text.escape_debug()), why, hint);
        let form = || "write it as in `registry.example.com/folder/name:1.2.3`".to_owned();
        let name = text.strip_prefix("oci://").unwrap_or(text);
        if name.contains("://") {
            return Err(wrong(
                "a reference has no scheme but `oci://`",
                "leave `https://` out; a registry that speaks plain HTTP is an option of its own".into(),
            ));
        }
        let (name, digest) = match name.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse()?)),
            None => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((host, path)) if host == "localhost" || host.contains(['.', ':']) => (host, path),
            _ if name.is_empty() => return Err(wrong("it names nothing", form())),
            _ => {
                return Err(wrong(
                    "it names no registry",
                    format!("if it is Docker Hub's, write `docker.io/{name}`"),
                ));
            }
        };
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        if !is_host(host) {
            return Err(wrong("its host is no host name or IPv4 address, perhaps with a port", form()));
        }
        let repository = match host {
            "docker.io" if !repository.contains('/') => format!("library/{repository}"),
            _ => repository.to_owned(),
        };
        if repository.len() > MAX_REPOSITORY || !repository.split('/').all(is_component) {
            return Err(wrong(
                "its repository is none",
                "repositories are lower-case letters and digits, between them `.`, `_`, `__`, `-`, `/`"
                    .into(),
            ));
        }
        if !tag.is_none_or(is_tag) {
            return Err(wrong("its tag cannot be one", TAG_RULE.into()));
        }
        Ok(Reference { host: host.into(), repository, tag: tag.map(Into::into), digest })
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.split('.').all(is_label)
        && port.is_none_or(|port| {
            port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0)
        })
}

/// Words of letters and digits, joined by `.`, `_`, `__`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let ends = |at: Option<&u8>| at.is_some_and(|&b| is_word(b));
    ends(component.as_bytes().first())
        && ends(component.as_bytes().last())
        && component
            .split(|c: char| c.is_ascii() && is_word(c as u8))
            .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    (1..=MAX_TAG).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0";

    #[test]
    fn references_are_read() {
        let table = [
            ("registry.k8s.io/pause:3.10", ("registry.k8s.io", "pause", Some("3.10"))),
            ("oci://127.0.0.1:5000/a/b__c-d/e.f:1.x", ("127.0.0.1:5000", "a/b__c-d/e.f", Some("1.x"))),
            ("localhost/a--b", ("localhost", "a--b", None)),
            ("localhost:5000/base", ("localhost:5000", "base", None)),
            ("docker.io/nginx:1", ("docker.io", "library/nginx", Some("1"))),
            ("docker.io/calico/cni:v3", ("docker.io", "calico/cni", Some("v3"))),
        ];
        for (text, (host, repository, tag)) in table {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(
                (reference.host(), reference.repository(), reference.tag()),
                (host, repository, tag),
                "{text}"
            );
        }
        let both: Reference = format!("ghcr.io/a:1@sha256:{HEX}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().unwrap().hex()), (Some("1"), HEX));
    }

    #[test]
    fn mistakes_are_explained() {
        let long = format!("a.io/{}", "a".repeat(256));
        let said: Vec<String> = [
            "",
            "pause:3.10",
            "calico/cni:v3",
            "https://registry.k8s.io/pause",
            "registry.k8s.io/Pause",
            "registry.k8s.io/../pause",
            "registry.k8s.io/a___b",
            "registry.k8s.io/pause:",
            "registry.k8s.io/pause:.1",
            "registry.k8s.io/pause@sha256:12",
            "-a.io/x",
            "a.io:0/x",
            "a.io:99999/x",
            "a.io:/x",
            "user:secret@a.io/x",
            "a.io/x\u{7}",
            &long,
        ]
        .into_iter()
        .map(|text| {
            let error = text.parse::<Reference>().unwrap_err();
            format!("{:.120}\n  hint: {}", error.to_string(), error.hint().unwrap())
        })
        .collect();
        insta::assert_snapshot!(said.join("\n"));
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in r"[a-z0-9.:/@_-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                let written = reference.to_string();
                prop_assert_eq!(&written.parse::<Reference>().unwrap(), &reference);
                // The protocol's crate must understand the same by it.
                let other: oci_client::Reference = written.parse().unwrap();
                prop_assert_eq!((other.registry(), other.repository()), (reference.host(), reference.repository()));
            }
        }

        #[test]
        fn any_text_is_survived(text in ".{0,60}") {
            let _ = text.parse::<Reference>();
            let _ = text.parse::<Digest>();
        }
    }
}
