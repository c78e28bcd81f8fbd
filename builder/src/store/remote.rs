//! A store in an OCI registry: an artefact for each image, tagged with its signature.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result};
use registry::{Artifact, Config, Content, Error, Layer, Limits, Reference, Registry};

use super::{Record, Store};
use crate::containers::failure;
use crate::error::Failure;
use crate::progress::{Printer, State};
use crate::sources::Sources;

/// `artifactType` of an image.
const ARTIFACT_TYPE: &str = "application/vnd.gatewright.image.v1";
/// Of its record, which is the artefact's config.
const CONFIG_TYPE: &str = "application/vnd.gatewright.image.config.v1+json";
/// Of its outputs.
const LAYER_TYPE: &str = "application/octet-stream";
/// An image is not larger: a raw disk of 64 GiB among its outputs.
const LIMITS: Limits = Limits { size: 64 << 30, files: 32 };

/// A repository that holds images.
#[derive(Debug)]
pub(crate) struct Remote {
    registry: Registry,
    repository: Reference,
}

/// The registry, where the user named one.
pub(crate) fn required(remote: Option<&Remote>) -> Result<&Remote> {
    remote.ok_or_else(|| {
        Failure::user(
            "No registry is named",
            "`--store oci://REGISTRY/REPOSITORY`, or `store:` in ~/.config/gatewright/config.yaml",
        )
    })
}

impl Remote {
    /// The repository that `place` names, `oci://HOST/REPOSITORY`.
    pub(crate) fn new(place: &str, sources: &Sources) -> Result<Remote> {
        let repository: Reference = place.parse().map_err(failure)?;
        if repository.tag().is_some() || repository.digest().is_some() {
            return Err(Failure::user(
                format!("`{place}` names one image, not a store"),
                "leave the tag out: images are tagged with their signatures",
            ));
        }
        Ok(Remote { registry: crate::containers::registry(sources, false)?, repository })
    }

    /// Pulls an image into `store`.
    pub(crate) fn pull(&self, store: &Store, signature: &str, printer: &Printer) -> Result<Record> {
        if signature.len() != 64 || !signature.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Failure::user(
                format!("`{signature}` is no signature"),
                "a registry is asked with all 64 digits; `gatewright signature` prints them",
            ));
        }
        self.fetch(store, signature, printer)?.ok_or_else(|| {
            Failure::user(
                format!("{} has no image {signature}", self.repository),
                "`gatewright image push` gives it one",
            )
        })
    }

    /// Pulls an image into `store` if the registry has it. A registry that cannot be reached is no reason not to build.
    pub(crate) fn pull_if_there(&self, store: &Store, signature: &str, printer: &Printer) -> Result<bool> {
        match self.fetch(store, signature, printer) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if crate::signals::received().is_some() => Err(error),
            Err(error) => {
                printer.note(&format!("The store is not asked: {error:#}"));
                Ok(false)
            }
        }
    }

    fn fetch(&self, store: &Store, signature: &str, printer: &Printer) -> Result<Option<Record>> {
        let at = self.repository.with_tag(signature).map_err(failure)?;
        let step = printer.step("pull", "Image");
        // In the store, so that it can be moved to its place; gone with its value where something is wrong with it.
        fs::create_dir_all(&store.root).with_context(|| format!("Cannot make {}", store.root.display()))?;
        let mode = fs::Permissions::from_mode(0o777);
        let dir = tempfile::Builder::new().prefix("pull-").permissions(mode).tempdir_in(&store.root)?;
        let pulled = match self.registry.pull_artifact(&at, dir.path(), LIMITS) {
            Ok(pulled) => pulled,
            Err(Error::NotFound { .. }) => {
                step.finish(State::Done, "not in the registry");
                return Ok(None);
            }
            Err(error) => return Err(failure(error)),
        };
        let record: Record = serde_json::from_slice(&pulled.config)
            .with_context(|| format!("{at} is no image of ours: its record cannot be read"))?;
        // The registry says who it is; only the digests say what.
        record.check(signature).with_context(|| format!("{at} is not what it says"))?;
        for output in &record.outputs {
            let is_there = pulled.files.iter().any(|file| {
                file.title == output.file
                    && file.layer.digest.hex() == output.sha256
                    && file.layer.size == output.size
            });
            anyhow::ensure!(is_there, "{at} lacks its output `{}`", output.file);
        }
        let place = store.dir(signature);
        if store.has(signature) {
            store.set_aside(signature)?;
        } else if place.exists() {
            fs::remove_dir_all(&place)?; // of a build that was killed
        }
        fs::rename(dir.keep(), &place)
            .with_context(|| format!("Cannot move an image to {}", place.display()))?;
        store.put(&record)?;
        step.finish(State::Done, &format!("{:.1} MB", record.size() as f64 / 1e6));
        Ok(Some(record))
    }

    /// Gives an image of `store` to the registry.
    pub(crate) fn push(&self, store: &Store, record: &Record, printer: &Printer) -> Result<()> {
        let at = self.repository.with_tag(&record.signature).map_err(failure)?;
        let step = printer.step("push", "Image");
        let dir = store.dir(&record.signature);
        let layers = record.outputs.iter().map(|output| Layer {
            media_type: LAYER_TYPE.into(),
            title: output.file.clone(),
            content: Content::Path(dir.join(&output.file)),
        });
        let artifact = Artifact {
            artifact_type: Some(ARTIFACT_TYPE.into()),
            config: Config { media_type: CONFIG_TYPE.into(), content: serde_json::to_vec(record)? },
            layers: layers.collect(),
            annotations: [("org.opencontainers.image.title".to_string(), record.name.clone())].into(),
        };
        for output in &record.outputs {
            let (sha256, _) = crate::digest::of_file(&dir.join(&output.file))?;
            if sha256 != output.sha256 {
                let aside = store.set_aside(&record.signature)?;
                return Err(Failure::user(
                    format!("The store's image has changed on the disk; it is in {} now", aside.display()),
                    "build it again",
                ));
            }
        }
        self.registry.push_artifact(&at, &artifact).map_err(failure)?;
        step.finish(State::Done, &at.to_string());
        Ok(())
    }
}
