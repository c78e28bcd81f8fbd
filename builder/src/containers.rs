//! Container images that packs want preloaded: resolved when locking, pulled when building, given to roles as archives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use registry::{Error, Options, Reference, Registry};

use crate::error::Failure;
use crate::lock::ImageLock;
use crate::progress::State;
use crate::signals;
use crate::sources::Sources;
use crate::workshop::Workshop;

/// The registries, with the places that `sources` names in their stead; `offline`, only what is in the cache.
pub(crate) fn registry(sources: &Sources, offline: bool) -> Result<Registry> {
    let options = Options {
        mirrors: sources.registries(),
        offline,
        ca: std::env::var_os("GATEWRIGHT_REGISTRY_CA").map(PathBuf::from),
        cancelled: Some(|| signals::received().is_some()),
        ..Options::default()
    };
    Registry::new(options).map_err(failure)
}

/// What a registry says, as the end of a command.
pub(crate) fn failure(error: Error) -> anyhow::Error {
    match (error, signals::received()) {
        (Error::Cancelled, Some(signal)) => Failure::Interrupted { signal }.into(),
        (error, _) => Failure::User { message: error.to_string(), hint: error.hint() }.into(),
    }
}

/// The digest of an image. `None`, and said so: its registry cannot be reached, and the image will not be preloaded.
pub(crate) fn resolve(workshop: &Workshop<'_>, image: &str) -> Result<Option<String>> {
    let settings = workshop.settings;
    let why = match registry(&settings.sources, settings.offline)?.resolve(&parse(image)?) {
        Ok(digest) => return Ok(Some(digest.to_string())),
        Err(Error::Unreachable { why, .. }) => why,
        Err(error) => return Err(failure(error)),
    };
    workshop.printer.note(&format!("{image} will not be preloaded: {why}"));
    Ok(None)
}

/// The archives of the images that a lock preloads, by the names that roles know them under.
pub(crate) fn archives(workshop: &Workshop<'_>, lock: &ImageLock) -> Result<BTreeMap<String, PathBuf>> {
    let mut archives = BTreeMap::new();
    let registry = registry(&workshop.settings.sources, workshop.settings.offline)?;
    for (image, digest) in &lock.container_images {
        let Some(digest) = digest else { continue };
        let step = workshop.printer.step("images", "Container images");
        let name = format!("images/{}.tar", image.replace(['/', ':', '@'], "_"));
        let out = workshop.path(name.replace('/', "-"));
        let at = parse(&format!("{}@{digest}", image.split('@').next().unwrap_or(image)))?;
        // Where all is in the cache no registry is asked, so that this works without a network.
        registry
            .image_archive(&at, &lock.request.system.architecture, &workshop.cache.path("blobs-v1"), &out)
            .map_err(failure)?;
        step.finish(State::Done, image);
        archives.insert(name, out);
    }
    Ok(archives)
}

fn parse(image: &str) -> Result<Reference> {
    image.parse().map_err(failure)
}
