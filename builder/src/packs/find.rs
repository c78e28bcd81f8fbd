//! Where a pack is that an image names: a folder beside the image definitions, an archive, a registry.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ::pack::archive::{self, Limits};
use anyhow::{Context, Result};
use registry::{Reference, Registry};

use crate::containers;
use crate::digest;
use crate::error::Failure;
use crate::lock::Lock;
use crate::locking::Policy;
use crate::pack;
use crate::workshop::Settings;

/// A pack that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) pack: ::pack::Pack,
    /// Where it was pulled from, as `REFERENCE@DIGEST`.
    pub(crate) from: Option<String>,
}

/// Finds the packs of one image.
#[derive(Debug)]
pub(crate) struct Finder<'a> {
    /// The folder of the image definition.
    dir: PathBuf,
    settings: &'a Settings,
    /// What the lock says packs were pulled from.
    pinned: Vec<String>,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(dir: &Path, image: &str, settings: &'a Settings, policy: Policy) -> Result<Finder<'a>> {
        let lock = match policy {
            Policy::Upgrade => None,
            Policy::Locked | Policy::Update => Lock::read(dir)?.images.remove(image),
        };
        let packs = lock.into_iter().flat_map(|lock| lock.request.packs.into_values());
        Ok(Finder { dir: dir.to_path_buf(), settings, pinned: packs.filter_map(|pack| pack.from).collect() })
    }

    /// The pack that an image calls `name`.
    pub(crate) fn find(&self, name: &str) -> Result<Found> {
        if name.starts_with("oci://") {
            return self.pulled(name);
        }
        let path = if is_archive(name) { self.dir.join(name) } else { self.folder(name)? };
        Ok(Found { pack: at(&path, self.settings)?, from: None })
    }

    /// A folder in `packs/`; `NAME-1.33.x` is the newest of them that is 1.33.
    fn folder(&self, name: &str) -> Result<PathBuf> {
        let packs = self.dir.parent().unwrap_or(&self.dir).join("packs");
        let Some(line) = name.strip_suffix(".x") else { return Ok(packs.join(name)) };
        let versions = |name: &str| -> Option<Vec<u64>> {
            let rest = name.strip_prefix(line)?.strip_prefix('.')?;
            rest.split('.').map(|number| number.parse().ok()).collect()
        };
        let names = fs::read_dir(&packs).into_iter().flatten().flatten();
        let newest = names
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter_map(|name| Some((versions(&name)?, name)))
            .max();
        newest.map(|(_, name)| packs.join(name)).ok_or_else(|| {
            Failure::user(
                format!("{} has no pack that is `{name}`", packs.display()),
                "`x` stands for the newest version of those that are there",
            )
        })
    }

    /// A pack in a registry: what the lock names, or what the tag stands for now.
    fn pulled(&self, name: &str) -> Result<Found> {
        let place = name.trim_start_matches("oci://");
        let pinned =
            self.pinned.iter().find(|from| from.rsplit_once('@').is_some_and(|(tag, _)| tag == place));
        let registry = || containers::registry(&self.settings.sources, self.settings.offline);
        let from = match pinned {
            Some(from) => from.clone(),
            None if self.settings.offline => {
                return Err(Failure::user(
                    format!("The lock has no {place}, and `--offline` allows nothing to be asked"),
                    "lock once with a network",
                ));
            }
            None => {
                let at: Reference = place.parse().map_err(containers::failure)?;
                let digest = registry()?.resolve(&at).map_err(containers::failure)?;
                format!("{place}@{digest}")
            }
        };
        let key = from.rsplit_once("@sha256:").map_or("", |(_, hex)| hex);
        anyhow::ensure!(
            key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "`{from}` has no digest"
        );
        let dir = if self.settings.cache_dir.join("packs-v1").join(key).is_dir() {
            unpacked(Path::new(""), key, self.settings)?
        } else if self.settings.offline {
            return Err(Failure::user(
                format!("The cache lacks the pack {from}, and `--offline` allows nothing to be fetched"),
                "build once with a network",
            ));
        } else {
            self.pull(&registry()?, &from, key)?
        };
        Ok(Found { pack: ::pack::Pack::read(&dir).map_err(pack::failure)?, from: Some(from) })
    }

    fn pull(&self, registry: &Registry, from: &str, key: &str) -> Result<PathBuf> {
        let work = tempfile::tempdir()?;
        let at: Reference = from.parse().map_err(containers::failure)?;
        let limits = registry::Limits { size: Limits::default().bytes, files: 1 };
        let pulled = registry.pull_artifact(&at, work.path(), limits).map_err(containers::failure)?;
        let [archive] = pulled.files.as_slice() else {
            return Err(Failure::user(
                format!("{from} is no pack"),
                "a pack is an artefact with one archive",
            ));
        };
        unpacked(&archive.path, key, self.settings)
    }
}

fn is_archive(name: &str) -> bool {
    name.ends_with(".tgz") || name.ends_with(".tar.gz")
}

/// The pack in a folder or an archive.
pub(crate) fn at(path: &Path, settings: &Settings) -> Result<::pack::Pack> {
    if !is_archive(&path.to_string_lossy()) {
        return ::pack::Pack::read(path).map_err(pack::failure);
    }
    let key = digest::of_file(path)
        .map_err(|e| {
            Failure::user(format!("{e:#}"), "archives of packs are named relative to the image definition")
        })?
        .0;
    ::pack::Pack::read(&unpacked(path, &key, settings)?).map_err(pack::failure)
}

/// The folder of an archive, unpacked once.
fn unpacked(archive: &Path, key: &str, settings: &Settings) -> Result<PathBuf> {
    let cache = settings.cache_dir.join("packs-v1");
    let place = cache.join(key);
    if !place.is_dir() {
        fs::create_dir_all(&cache).with_context(|| format!("Cannot make {}", cache.display()))?;
        let work = tempfile::tempdir_in(&cache)?;
        let file = File::open(archive).with_context(|| format!("Cannot open {}", archive.display()))?;
        archive::unpack(file, work.path(), Limits::default()).map_err(pack::failure)?;
        // Somebody else may have been faster: the same archive gives the same folder.
        if let Err(error) = fs::rename(work.path(), &place)
            && !place.is_dir()
        {
            return Err(error).with_context(|| format!("Cannot keep {}", place.display()));
        }
    }
    // The pack is the one folder in it, or its top.
    if place.join("pack.json").is_file() {
        return Ok(place);
    }
    let folders = fs::read_dir(&place)?.flatten().map(|entry| entry.path());
    let mut packs = folders.filter(|path| path.join("pack.json").is_file());
    packs.next().with_context(|| format!("{} has no pack", place.display()))
}
