//! Manifests: what a name stands for.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::connection::Connection;
use crate::{Digest, Error, Reference, Registry};

/// The annotation that names a layer's file.
pub const TITLE: &str = "org.opencontainers.image.title";

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// In bytes; what registries take, too.
const LONGEST: usize = 4 << 20;
/// A repository with more tags is not listed whole.
const MOST_TAGS: usize = 100_000;
const TAGS_A_PAGE: usize = 1000;

/// A blob or a manifest, as another manifest speaks of it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Which machines it is for, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The file name it claims, which may be anything.
    #[must_use]
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

/// An artefact's or a container image's manifest (OCI image specification 1.1).
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) media_type: Option<String>,
    /// What kind of artefact it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What belongs to it besides its files.
    pub config: Descriptor,
    /// Its files.
    pub layers: Vec<Descriptor>,
    /// What else is said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "or_default")]
    pub annotations: BTreeMap<String, String>,
}

/// Manifests for several machines.
#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    pub(crate) manifests: Vec<Descriptor>,
}

/// Some writers say `null` for nothing.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A manifest's bytes, whose digest is right.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Raw {
    /// Of any kind; the bytes say which.
    pub(crate) fn media_type(&self) -> Option<String> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let kind: Kind = serde_json::from_slice(&self.bytes).ok()?;
        // OCI's may leave it out.
        Some(
            kind.media_type.unwrap_or_else(|| {
                if kind.manifests.is_some() { OCI_INDEX.into() } else { OCI_MANIFEST.into() }
            }),
        )
    }

    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self, what: &Reference) -> Result<T, Error> {
        serde_json::from_slice(&self.bytes)
            .map_err(|e| Error::broken(what, format!("its manifest cannot be understood: {e}")))
    }
}

impl Registry {
    /// The digest that a name stands for now. With this digest, the same is pulled for ever.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn resolve(&self, at: &Reference) -> Result<Digest, Error> {
        let at = named(&self.reading(at)?)?;
        self.run(&at, async |connection| {
            let wire = connection.wire();
            let request = connection.client().fetch_manifest_digest(&wire, connection.auth());
            connection.ask(&at.to_string(), 0, request).await?.parse()
        })
    }

    /// The manifest of an artefact, without its files.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn manifest(&self, at: &Reference) -> Result<(Manifest, Digest), Error> {
        let at = self.reading(at)?;
        self.run(&at, async |connection| {
            let raw = connection.manifest().await?;
            Ok((raw.parse(&at)?, raw.digest))
        })
    }

    /// The tags of a repository, sorted by their bytes.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn tags(&self, repository: &Reference) -> Result<Vec<String>, Error> {
        let at = self.reading(&Reference { tag: None, digest: None, ..repository.clone() })?;
        let mut tags = self.run(&at, async |connection| {
            let mut tags = BTreeSet::new();
            loop {
                // Pages end where nothing new comes: some servers give shorter ones than asked for, some all at once.
                let (client, wire) = (connection.client(), connection.wire());
                let last = tags.last().map(String::as_str);
                let page = client.list_tags(&wire, connection.auth(), Some(TAGS_A_PAGE), last);
                let page = connection.ask(&at.to_string(), 0, page).await?;
                let before = tags.len();
                tags.extend(page.tags);
                if tags.len() == before {
                    return Ok(tags);
                }
                if tags.len() > MOST_TAGS {
                    return Err(Error::broken(&at, format!("it has more than {MOST_TAGS} tags")));
                }
            }
        })?;
        // What could not be asked for by this name is none.
        tags.retain(|tag| at.with_tag(tag).is_ok());
        Ok(tags.into_iter().collect())
    }

    /// Gives what `at` stands for another tag.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn tag(&self, at: &Reference, tag: &str) -> Result<(), Error> {
        let target = at.with_tag(tag)?;
        let raw = self.run(at, async |connection| connection.manifest().await)?;
        self.run(&target, async |connection| connection.push_manifest(&raw).await)
    }
}

/// A reference that names something, not only a repository.
fn named(at: &Reference) -> Result<Reference, Error> {
    if at.tag.is_none() && at.digest.is_none() {
        return Err(Error::invalid(at, "it has no tag", format!("say which, as in `{at}:1.2.3`")));
    }
    Ok(at.clone())
}

impl Connection {
    /// The manifest that `at` names.
    pub(crate) async fn manifest(&self) -> Result<Raw, Error> {
        let at = named(&self.at)?;
        let wire = self.wire();
        let accept = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX];
        let request = self.client().pull_manifest_raw(&wire, self.auth(), &accept);
        let (bytes, _) = self.ask(&at.to_string(), LONGEST as u64, request).await?;
        // The protocol's crate has read it whole by then; until then the time for so many bytes is the bound.
        if bytes.len() > LONGEST {
            return Err(Error::broken(at, format!("its manifest is longer than {LONGEST} bytes")));
        }
        let raw = Raw { digest: Digest::of(&bytes), bytes: bytes.to_vec() };
        match &at.digest {
            Some(digest) if *digest != raw.digest => {
                Err(Error::broken(&at, format!("its manifest has the digest {}", raw.digest)))
            }
            _ => Ok(raw),
        }
    }

    /// Stores a manifest under the tag of `at`.
    pub(crate) async fn push_manifest(&self, raw: &Raw) -> Result<(), Error> {
        let what = self.at.to_string();
        let kind = raw.media_type().and_then(|kind| kind.parse().ok());
        let kind = kind.ok_or_else(|| Error::broken(&what, "its manifest says no media type"))?;
        let wire = self.wire();
        let request = self.client().push_manifest_raw(&wire, raw.bytes.clone(), kind);
        self.ask(&what, LONGEST as u64, request).await?;
        Ok(())
    }
}
