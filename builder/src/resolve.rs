//! What an image asks for -> what it comes to: a lock. What is asked for as before keeps what it came to before.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;

use crate::error::Failure;
use crate::fetch::{self, Origin};
use crate::index;
use crate::lock::{ImageLock, Package, Request};
use crate::progress::State;
use crate::steps::Step;
use crate::workshop::Workshop;

/// Locks an image. `old` is what it came to the last time; its versions stay as far as the archive has them, unless
/// `upgrade` asks for the newest of everything. Paths are relative to `dir`.
pub(crate) fn image(
    workshop: &Workshop<'_>,
    request: Request,
    origin: Origin<'_>,
    dir: &Path,
    old: Option<&ImageLock>,
    upgrade: bool,
) -> Result<ImageLock> {
    let kept = old.filter(|old| !upgrade && old.request.system == request.system);
    let (epoch, tools, packages) = match kept {
        Some(old) => (old.epoch, old.tools.clone(), old.packages.clone()),
        None => system(workshop, &request, origin, old.filter(|_| !upgrade), upgrade)?,
    };
    let base = match &request.base {
        None => None,
        Some(id) => match old.filter(|old| !upgrade && old.request.base.as_ref() == Some(id)) {
            Some(old) => old.base.clone(),
            None => Some(fetch::base(workshop, id, dir)?),
        },
    };
    let mut artifacts = BTreeMap::new();
    for (name, artifact) in &request.artifacts {
        let before = old
            .filter(|old| !upgrade && old.request.artifacts.get(name) == Some(artifact))
            .and_then(|old| old.artifacts.get(name));
        let sha256 = match artifact.sha256.as_ref().or(before) {
            Some(sha256) => sha256.clone(),
            None => fetch::artifact(workshop, name, artifact, None)?,
        };
        artifacts.insert(name.clone(), sha256);
    }
    let mut container_images = BTreeMap::new();
    for reference in &request.container_images {
        let before =
            old.filter(|_| !upgrade).and_then(|old| old.container_images.get(reference).cloned().flatten());
        let digest = match before {
            Some(digest) => Some(digest),
            None => crate::containers::resolve(workshop, reference)?,
        };
        container_images.insert(reference.clone(), digest);
    }
    Ok(ImageLock { request, epoch, tools, packages, base, artifacts, container_images })
}

fn system(
    workshop: &Workshop<'_>,
    request: &Request,
    origin: Origin<'_>,
    old: Option<&ImageLock>,
    upgrade: bool,
) -> Result<(u64, Vec<Package>, Vec<Package>)> {
    let index = index::get(workshop, origin.archive, origin.keyring, upgrade)?;
    let step = workshop.printer.step("resolve", "Packages resolved");
    // An image's own versions first, should the tools have others.
    let mut pins: BTreeMap<&str, &Package> = BTreeMap::new();
    for package in old.into_iter().flat_map(|old| old.packages.iter().chain(&old.tools)) {
        pins.entry(&package.name).or_insert(package);
    }
    let words = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
    let outcome = workshop.step(
        &Step::Resolve {
            archive: origin.archive.clone(),
            index: index.path,
            wanted: vec![words(&request.system.tools), words(&request.system.packages)],
            pins: pins.into_values().cloned().collect(),
            work: workshop.new_folder("resolve")?,
        },
        &step,
    )?;
    let [tools, packages] = <[_; 2]>::try_from(outcome.resolved)
        .map_err(|lists| anyhow::anyhow!("the step answered with {} lists for two", lists.len()))?;
    step.finish(State::Done, &format!("{} packages, {} of tools", packages.len(), tools.len()));
    let epoch = match old {
        Some(old) => old.epoch,
        None => epoch(index.date)?,
    };
    Ok((epoch, tools, packages))
}

/// The time that everything in the image gets at most.
fn epoch(date: u64) -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Err(_) => Ok(date),
        Ok(text) => text.trim().parse().map_err(|_| {
            Failure::user(
                format!("SOURCE_DATE_EPOCH is `{text}`"),
                "give the seconds since 1970, or unset it to take the package index's date",
            )
        }),
    }
}
