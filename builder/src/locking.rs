//! Whether a lock is what its image asks for, and what to do where it is not.

use anyhow::Result;

use crate::error::Failure;
use crate::fetch::Origin;
use crate::image::Image;
use crate::lock::{ImageLock, Lock, Request};
use crate::progress::Printer;
use crate::resolve;
use crate::signature::{self, Change};
use crate::workshop::{Settings, Workshop};

/// What may be done with a lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Policy {
    /// It must be what the image asks for.
    Locked,
    /// What the image asks for anew is resolved; the rest stays.
    Update,
    /// The newest of everything.
    Upgrade,
}

/// An image with its lock, which is what it asks for.
#[derive(Debug)]
pub(crate) struct Locked {
    pub(crate) lock: ImageLock,
    /// What is other than in the lock before; all of it where there was none.
    pub(crate) changes: Vec<Change>,
    /// There was none before.
    pub(crate) is_new: bool,
}

/// The lock of an image, made or made anew where the policy allows it.
pub(crate) fn image(image: &Image, policy: Policy, settings: &Settings, printer: &Printer) -> Result<Locked> {
    let request = image.request()?;
    let found = Lock::read(&image.dir)?;
    let name = &image.definition.name;
    match found.images.get(name) {
        Some(lock) if policy != Policy::Upgrade && lock.request == request => {
            return Ok(Locked { lock: lock.clone(), changes: Vec::new(), is_new: false });
        }
        old if policy == Policy::Locked => return Err(stale(image, old, &request)?),
        _ => {}
    }
    Workshop::open(settings, printer, name)?.run(|workshop| {
        // Another gatewright may have written it while we waited for the cache.
        let mut file = Lock::read(&image.dir)?;
        let old = file.images.remove(name);
        let origin = Origin { archive: image.archive(), keyring: &image.keyring()? };
        let lock =
            resolve::image(workshop, request, origin, &image.dir, old.as_ref(), policy == Policy::Upgrade)?;
        file.images.insert(name.clone(), lock.clone());
        file.write(&image.dir)?;
        let changes = match &old {
            Some(old) => signature::changes(&serde_json::to_value(old)?, &serde_json::to_value(&lock)?),
            None => Vec::new(),
        };
        Ok(Locked { lock, changes, is_new: old.is_none() })
    })
}

fn stale(image: &Image, old: Option<&ImageLock>, request: &Request) -> Result<anyhow::Error> {
    let path = Lock::path(&image.dir);
    let Some(old) = old else {
        return Ok(Failure::user(
            format!("{} has no lock of `{}`", path.display(), image.definition.name),
            "`gatewright lock` makes it; `--locked=false` lets a build make it (in CI, `--locked` is the default)",
        ));
    };
    let changes = signature::changes(&serde_json::to_value(&old.request)?, &serde_json::to_value(request)?);
    let mut lines: Vec<String> = changes.iter().take(8).map(ToString::to_string).collect();
    if changes.len() > lines.len() {
        lines.push(format!("and {} more", changes.len() - lines.len()));
    }
    Ok(Failure::user(
        format!(
            "The lock {} is stale, `{}` asks for something else:\n  {}",
            path.display(),
            image.definition.name,
            lines.join("\n  ")
        ),
        "`gatewright lock` brings it up to date; `--locked=false` lets a build do that (in CI, `--locked` is the default)",
    ))
}
