//! Artefacts: files with titles under one name, as the `oras` program pushes and pulls them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};

use crate::blob;
use crate::manifest::{OCI_MANIFEST, Raw, TITLE};
use crate::{Descriptor, Digest, Error, Manifest, Reference, Registry};

/// The longest configuration, in bytes: it is held in memory.
const LONGEST_CONFIG: u64 = 4 << 20;
/// The longest file name of Linux's file systems, in bytes.
const LONGEST_NAME: usize = 255;

/// What is pushed under one name. The same artefact is the same manifest, and has the same digest, everywhere.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What kind it is, a media type.
    pub artifact_type: Option<String>,
    /// What belongs to it besides its files.
    pub config: Config,
    /// Its files.
    pub layers: Vec<Layer>,
    /// What else is said of it.
    pub annotations: BTreeMap<String, String>,
}

impl Artifact {
    /// The manifest it is pushed with. Files are read for it.
    ///
    /// # Errors
    /// When a file cannot be read, or a title is no bare file name.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let config = (Digest::of(&self.config.content), self.config.content.len() as u64);
        let mut layers = Vec::new();
        for layer in &self.layers {
            let title = file_name(&layer.title, "The artefact")?.to_owned();
            let title = BTreeMap::from([(TITLE.to_owned(), title)]);
            layers.push(descriptor(&layer.media_type, layer.content.digest()?, title));
        }
        Ok(Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.into()),
            artifact_type: self.artifact_type.clone(),
            config: descriptor(&self.config.media_type, config, BTreeMap::new()),
            layers,
            annotations: self.annotations.clone(),
        })
    }
}

/// A small document beside the files, at most 4 MiB long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub content: Vec<u8>,
}

impl Config {
    /// Nothing, as an artefact says it that has an [`Artifact::artifact_type`].
    #[must_use]
    pub fn empty() -> Config {
        Config { media_type: "application/vnd.oci.empty.v1+json".into(), content: b"{}".into() }
    }
}

/// A file of an [`Artifact`].
#[derive(Clone, Debug)]
pub struct Layer {
    /// What it is.
    pub media_type: String,
    /// The bare file name it has when pulled.
    pub title: String,
    /// Its bytes.
    pub content: Content,
}

/// Bytes that are pushed.
#[derive(Clone, Debug)]
pub enum Content {
    /// Of a file, of any length.
    Path(PathBuf),
    /// In memory.
    Bytes(Vec<u8>),
}

impl Content {
    fn digest(&self) -> Result<(Digest, u64), Error> {
        match self {
            Content::Path(path) => File::open(path).and_then(blob::digest).map_err(Error::file(path)),
            Content::Bytes(bytes) => Ok((Digest::of(bytes), bytes.len() as u64)),
        }
    }
}

/// How much may be pulled.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Of all files together, in bytes.
    pub size: u64,
    /// How many.
    pub files: usize,
}

/// An artefact that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// Of its manifest.
    pub digest: Digest,
    /// What the registry says of it.
    pub manifest: Manifest,
    /// The bytes of [`Manifest::config`].
    pub config: Vec<u8>,
    /// Those of its layers that have a title.
    pub files: Vec<PulledFile>,
}

/// A file of a [`Pulled`] artefact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PulledFile {
    /// Its name, a bare one.
    pub title: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its media type, digest and size.
    pub layer: Descriptor,
}

impl Registry {
    /// Pushes an artefact, files first, so that its name never stands for half of it. What the registry has is not sent
    /// again. Mirrors are passed by.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub fn push_artifact(&self, at: &Reference, artifact: &Artifact) -> Result<Digest, Error> {
        if at.tag.is_none() {
            return Err(Error::invalid(at, "it has no tag", "what is pushed needs one, as in `:1.2.3`"));
        }
        let at = Reference { digest: None, ..at.clone() };
        let manifest = artifact.manifest()?;
        let bytes = serde_json::to_vec(&manifest).expect("keys are strings, and nothing else can fail");
        let raw = Raw { digest: Digest::of(&bytes), bytes };
        self.run(&at, async |connection| {
            for (layer, blob) in artifact.layers.iter().zip(&manifest.layers) {
                match &layer.content {
                    Content::Path(path) => {
                        connection.push_blob(blob, File::open(path).map_err(Error::file(path))?).await?;
                    }
                    Content::Bytes(bytes) => connection.push_blob(blob, Cursor::new(bytes.clone())).await?,
                }
            }
            connection.push_blob(&manifest.config, Cursor::new(artifact.config.content.clone())).await?;
            connection.push_manifest(&raw).await
        })?;
        Ok(raw.digest)
    }

    /// Pulls an artefact's files into `dir`, which is made. All of them get their names when the last one has come and is
    /// right; before, nothing is there. Files of these names are replaced.
    ///
    /// # Errors
    /// As [`Error`] lists them: what is too much, has a wrong digest, or a name that is no bare file name, is
    /// [`Error::Invalid`].
    pub fn pull_artifact(&self, at: &Reference, dir: &Path, limits: Limits) -> Result<Pulled, Error> {
        let at = self.reading(at)?;
        fs::create_dir_all(dir).map_err(Error::file(dir))?;
        self.run(&at, async |connection| {
            let raw = connection.manifest().await?;
            let manifest: Manifest = raw.parse(&at)?;
            let titled = titled(&manifest, limits, &at)?;
            if manifest.config.size > LONGEST_CONFIG {
                return Err(Error::broken(
                    &at,
                    format!("its configuration is longer than {LONGEST_CONFIG} bytes"),
                ));
            }
            let mut config = Vec::new();
            connection.pull_blob(&manifest.config, &mut config, dir).await?;
            let mut come = Vec::new();
            for (_, layer) in &titled {
                come.push(connection.pull_blob_file(layer, dir).await?);
            }
            let mut files = Vec::new();
            for ((title, layer), file) in titled.into_iter().zip(come) {
                let path = dir.join(title);
                file.persist(&path).map_err(|e| Error::file(&path)(e.error))?;
                files.push(PulledFile { title: title.into(), path, layer: layer.clone() });
            }
            Ok(Pulled { digest: raw.digest, config, files, manifest: manifest.clone() })
        })
    }
}

pub(crate) fn descriptor(
    media_type: &str,
    (digest, size): (Digest, u64),
    annotations: BTreeMap<String, String>,
) -> Descriptor {
    Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations }
}

/// The layers that are files, if they are what one can pull.
fn titled<'a>(
    manifest: &'a Manifest,
    limits: Limits,
    at: &Reference,
) -> Result<Vec<(&'a str, &'a Descriptor)>, Error> {
    let mut seen = BTreeSet::new();
    let mut left = limits.size;
    let mut titled = Vec::new();
    for layer in &manifest.layers {
        let Some(title) = layer.title() else { continue };
        if !seen.insert(file_name(title, at)?) {
            return Err(Error::broken(at, format!("two of its files are called `{title}`")));
        }
        left = left.checked_sub(layer.size).ok_or_else(|| {
            Error::broken(at, format!("it is longer than the {} bytes that are allowed", limits.size))
        })?;
        titled.push((title, layer));
    }
    match titled.len() {
        0 => Err(Error::broken(at, "it has no files, so it is no artefact of ours")),
        count if count > limits.files => Err(Error::broken(
            at,
            format!("it has {count} files, more than the {} that are allowed", limits.files),
        )),
        _ => Ok(titled),
    }
}

/// A name that stays in its folder, is not hidden, and can be shown.
fn file_name(title: &str, of: impl ToString) -> Result<&str, Error> {
    let bare = !title.is_empty()
        && title.len() <= LONGEST_NAME
        && !title.starts_with('.')
        && !title.contains(|c: char| c == '/' || c == '\\' || c.is_control());
    if !bare {
        let shown: String = title.escape_debug().take(80).collect();
        return Err(Error::broken(of, format!("`{shown}` is not a bare file name")));
    }
    Ok(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(titles: &[&str]) -> Manifest {
        let blob = |title: &str| {
            let annotations = BTreeMap::from([(TITLE.to_owned(), title.to_owned())]);
            descriptor("text/plain", (Digest::of(title.as_bytes()), 10), annotations)
        };
        Manifest {
            schema_version: 2,
            media_type: None,
            artifact_type: None,
            config: blob("config"),
            layers: titles.iter().map(|title| blob(title)).collect(),
            annotations: BTreeMap::new(),
        }
    }

    #[test]
    fn only_bare_names_within_limits() {
        let at: Reference = "a.io/x:1".parse().unwrap();
        let limits = Limits { size: 20, files: 2 };
        let take = |titles: &[&str]| {
            titled(&manifest(titles), limits, &at).map(|files| files.len()).map_err(|e| e.to_string())
        };
        assert_eq!(take(&["a", "b.tar.gz"]), Ok(2));
        let long = "x".repeat(256);
        for name in ["", ".", "..", "../x", "/x", "a/b", "a\\b", ".hidden", "a\0", "a\n", &long] {
            assert!(take(&[name]).unwrap_err().contains("not a bare file name"), "{name:?}");
        }
        assert!(take(&["a", "a"]).unwrap_err().contains("two of its files"));
        assert!(take(&["a", "b", "c"]).unwrap_err().contains("longer than the 20 bytes"));
        assert!(take(&[]).unwrap_err().contains("no files"));
        let few = Limits { size: 100, files: 1 };
        assert!(titled(&manifest(&["a", "b"]), few, &at).unwrap_err().to_string().contains("2 files"));
    }

    #[test]
    fn sizes_do_not_overflow() {
        let at: Reference = "a.io/x:1".parse().unwrap();
        let mut manifest = manifest(&["a", "b"]);
        manifest.layers.iter_mut().for_each(|layer| layer.size = u64::MAX);
        assert!(titled(&manifest, Limits { size: u64::MAX, files: 9 }, &at).is_err());
    }
}
