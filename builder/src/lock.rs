//! `gatewright.lock`: what image definitions came to when they were resolved. A build from a lock fetches exactly that.
//!
//! It stands beside the image definitions, one file for all in a folder, and is YAML of version 1:
//!
//! ```yaml
//! version: 1
//! images:
//!   NAME:
//!     request: …    # what was asked for; a lock whose request is another than the image's is stale
//!     epoch: …      # SOURCE_DATE_EPOCH of everything in the image
//!     tools: […]    # packages of the tools tree, then of the image: name, version, architecture, suite, path, size, sha256
//!     packages: […]
//!     base: SHA-256                # of the base image, where a pack has one
//!     artifacts: {NAME: SHA-256}
//!     containerImages: {REFERENCE: DIGEST, or null where it could not be reached and is not preloaded}
//! ```
//!
//! Suite and path of a package are the archive's own; no mirror is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cache::write_atomic;
use crate::digest::Digest;
use crate::error::Failure;

/// The name of the file.
pub(crate) const FILE: &str = "gatewright.lock";
const VERSION: u32 = 1;
const HEAD: &str = "# Made by `gatewright lock`, not by hand. Keep it with the image definitions.\n";

/// The file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lock {
    version: u32,
    /// By the name of the image.
    #[serde(default)]
    pub(crate) images: BTreeMap<String, ImageLock>,
}

/// What one image came to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ImageLock {
    pub(crate) request: Request,
    /// In seconds since 1970.
    pub(crate) epoch: u64,
    /// Sorted by name.
    pub(crate) tools: Vec<Package>,
    /// Sorted by name.
    pub(crate) packages: Vec<Package>,
    /// SHA-256 of the base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<Digest>,
    /// SHA-256 by name.
    #[serde(default)]
    pub(crate) artifacts: BTreeMap<String, Digest>,
    /// Manifest digests by reference; none where the registry did not answer.
    #[serde(default)]
    pub(crate) container_images: BTreeMap<String, Option<String>>,
}

/// What an image asks for; made from its packs and its definition alone.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Request {
    pub(crate) system: SystemRequest,
    /// `imageId` of a pack: the URL or the path of a base image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base: Option<String>,
    #[serde(default)]
    pub(crate) artifacts: BTreeMap<String, Artifact>,
    #[serde(default)]
    pub(crate) container_images: BTreeSet<String>,
    /// By NAME-VERSION.
    pub(crate) packs: BTreeMap<String, PackRequest>,
}

/// What decides packages.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemRequest {
    pub(crate) suite: String,
    pub(crate) components: Vec<String>,
    pub(crate) architecture: String,
    /// SHA-256 of the archive's keyring.
    pub(crate) keyring: Digest,
    pub(crate) tools: BTreeSet<String>,
    pub(crate) packages: BTreeSet<String>,
}

/// A file that a pack wants from a named source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Artifact {
    /// Where it is: a name for which `sources` has a URL or a folder.
    pub(crate) source: String,
    /// Appended to the source.
    pub(crate) path: String,
    /// Where the pack names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sha256: Option<Digest>,
}

/// What of a pack is not in the rest of the request.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PackRequest {
    /// Where it was pulled from, with its digest; none for a folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Digests of role trees.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) roles: BTreeMap<String, Digest>,
}

/// A Debian package.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) architecture: String,
    /// Where it was found, as in `trixie-security`.
    pub(crate) suite: String,
    /// Below the archive's root, as in `pool/main/a/apt/apt_3.0.3_amd64.deb`.
    pub(crate) path: String,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
}

impl Package {
    /// apt's name for the file in its cache: the epoch's colon is escaped.
    pub(crate) fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.name, self.version.replace(':', "%3a"), self.architecture)
    }
}

impl Lock {
    /// The lock for image definitions in `dir`.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Reads the lock of a folder; an empty one where there is none.
    pub(crate) fn read(dir: &Path) -> Result<Lock> {
        Lock::read_file(&Lock::path(dir))
    }

    /// Reads a lock; an empty one where there is no such file.
    pub(crate) fn read_file(path: &Path) -> Result<Lock> {
        let wrong = |message: String| {
            Failure::user(
                message,
                "`gatewright lock` writes it; remove the file to begin anew with the newest packages",
            )
        };
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Ok(Lock { version: VERSION, images: BTreeMap::new() });
            }
            Err(e) => return Err(wrong(format!("Cannot read {}: {e}", path.display()))),
        };
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let version: Version = serde_norway::from_str(&text)
            .map_err(|e| wrong(format!("{} is no lock: {e}", path.display())))?;
        if version.version != VERSION {
            return Err(wrong(format!(
                "{} has version {}; this gatewright reads version {VERSION}",
                path.display(),
                version.version
            )));
        }
        let lock: Lock = serde_norway::from_str(&text)
            .map_err(|e| wrong(format!("{} is no lock: {e}", path.display())))?;
        lock.images
            .values()
            .try_for_each(ImageLock::check)
            .map_err(|e| wrong(format!("{}: {e}", path.display())))?;
        Ok(lock)
    }

    /// Writes the lock of a folder, if it is another than what is there.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = Lock::path(dir);
        let text = format!("{HEAD}{}", serde_norway::to_string(self)?);
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        write_atomic(&path, text.as_bytes())
    }
}

impl ImageLock {
    /// What the types cannot say: names of packages become names of files and arguments of programs.
    fn check(&self) -> std::result::Result<(), String> {
        // Debian policy, sections 5.6.1, 5.6.8 and 5.6.12; nothing of these means anything to a shell.
        let word = |text: &str, more: &[u8]| {
            text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        let sha256 =
            |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        for package in self.tools.iter().chain(&self.packages) {
            let path = Path::new(&package.path);
            let is_inside = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            let names = word(&package.name, b"+.-") && word(&package.architecture, b"-");
            if !names || !word(&package.version, b".+~:-") {
                return Err(format!(
                    "`{}` {} is no name and version of a package",
                    package.name, package.version
                ));
            }
            if package.path.is_empty() || !is_inside || package.path.contains(char::is_whitespace) {
                return Err(format!("`{}` is no path in an archive", package.path));
            }
            if !sha256(&package.sha256) {
                return Err(format!("`{}` is no SHA-256", package.sha256));
            }
        }
        match self.artifacts.values().chain(&self.base).find(|digest| !sha256(digest)) {
            Some(digest) => Err(format!("`{digest}` is no SHA-256")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn package(name: &str, version: &str) -> Package {
        Package {
            name: name.into(),
            version: version.into(),
            architecture: "amd64".into(),
            suite: "trixie".into(),
            path: format!("pool/main/{name}_{version}_amd64.deb"),
            size: 1,
            sha256: "0".repeat(64),
        }
    }

    fn lock() -> Lock {
        let image = ImageLock {
            request: Request {
                system: SystemRequest {
                    suite: "trixie".into(),
                    components: vec!["main".into()],
                    architecture: "amd64".into(),
                    keyring: "1".repeat(64),
                    tools: BTreeSet::new(),
                    packages: ["apt".to_string()].into(),
                },
                base: None,
                artifacts: BTreeMap::new(),
                container_images: BTreeSet::new(),
                packs: BTreeMap::new(),
            },
            epoch: 7,
            tools: vec![],
            packages: vec![package("apt", "1:3.0")],
            base: None,
            artifacts: BTreeMap::new(),
            container_images: [("registry.example/pause:3".to_string(), None)].into(),
        };
        Lock { version: VERSION, images: [("a".to_string(), image)].into() }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Lock::read(dir.path()).unwrap().images.is_empty(), "there need not be one");
        lock().write(dir.path()).unwrap();
        assert_eq!(Lock::read(dir.path()).unwrap().images, lock().images);
        assert!(fs::read_to_string(Lock::path(dir.path())).unwrap().starts_with("# Made by"));
        assert_eq!(package("apt", "1:3.0").file_name(), "apt_1%3a3.0_amd64.deb");
    }

    #[test]
    fn a_broken_lock_is_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        lock().write(dir.path()).unwrap();
        let good = fs::read_to_string(Lock::path(dir.path())).unwrap();
        let cases = [
            ("version: 1\n", "version: 2\n", "has version 2; this gatewright reads version 1"),
            ("epoch: 7", "epoch: soon", "is no lock"),
            ("name: apt", "name: --force", "no name and version"),
            ("name: apt", "name: a b", "no name and version"),
            ("name: apt", "name: a;b", "no name and version"),
            ("version: 1:3.0", "version: 1$(x)", "no name and version"),
            ("path: pool/", "path: ../", "no path in an archive"),
            (&"0".repeat(64), "00", "no SHA-256"),
            ("size: 1", "size: 1\n      extra: 2", "unknown field"),
        ];
        for (from, to, expected) in cases {
            assert!(good.contains(from), "{from}");
            fs::write(Lock::path(dir.path()), good.replace(from, to)).unwrap();
            let error = Lock::read(dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }
}
