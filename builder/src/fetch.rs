//! Gets what a lock names into the cache: files by their SHA-256, from the archive's mirrors and the sources of packs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::digest::{self, Digest};
use crate::error::Failure;
use crate::index;
use crate::lock::{Artifact, Package};
use crate::pack::Archive;
use crate::progress::State;
use crate::sources::Location;
use crate::steps::{Download, Step, escape, source_lines, versions};
use crate::workshop::Workshop;

/// The archive that packages come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    pub(crate) archive: &'a Archive,
    pub(crate) keyring: &'a Path,
}

/// A file of the cache.
fn place(workshop: &Workshop<'_>, sha256: &str) -> PathBuf {
    workshop.cache.path("files-v1").join(sha256)
}

/// Whether the cache has a file. One that has changed there is removed.
fn is_there(workshop: &Workshop<'_>, sha256: &str) -> Result<bool> {
    let path = place(workshop, sha256);
    if !path.is_file() {
        return Ok(false);
    }
    let is_whole = digest::of_file(&path)?.0 == sha256;
    if !is_whole {
        workshop.printer.note(&format!("{} has changed on the disk; it is fetched again", path.display()));
        fs::remove_file(&path).with_context(|| format!("Cannot remove {}", path.display()))?;
    }
    Ok(is_whole)
}

/// Makes the folder `to` of packages under apt's names, fetching what the cache lacks.
pub(crate) fn packages(
    workshop: &Workshop<'_>,
    origin: Origin<'_>,
    packages: &[Package],
    to: &Path,
) -> Result<()> {
    let mut missing = Vec::new();
    for package in packages {
        if !is_there(workshop, &package.sha256)? {
            missing.push(package);
        }
    }
    if !missing.is_empty() {
        download_packages(workshop, origin, &missing)?;
    }
    fs::create_dir(to).with_context(|| format!("Cannot make {}", to.display()))?;
    for package in packages {
        let (from, to) = (place(workshop, &package.sha256), to.join(package.file_name()));
        fs::hard_link(&from, &to)
            .or_else(|_| fs::copy(&from, &to).map(drop))
            .with_context(|| format!("Cannot link {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}

fn download_packages(workshop: &Workshop<'_>, origin: Origin<'_>, missing: &[&Package]) -> Result<()> {
    if workshop.settings.offline {
        let names: Vec<_> = missing.iter().map(|package| package.file_name()).collect();
        return Err(Failure::user(
            format!("The cache lacks {}, and `--offline` allows nothing to be fetched", some(&names)),
            "build once with a network, or copy the folder `files-v1` of another machine's cache",
        ));
    }
    let sources = index::sources(workshop, origin.archive, origin.keyring)?;
    let mirrors = source_lines(&sources);
    let uris = |package: &Package| {
        // Its own suite's mirror first; another may have it all the same.
        let (own, others): (Vec<_>, Vec<_>) = mirrors.iter().partition(|line| line.suite == package.suite);
        let mut uris: Vec<String> = Vec::new();
        for line in own.into_iter().chain(others) {
            let uri = format!("{}/{}", line.uri.trim_end_matches('/'), escape(Path::new(&package.path)));
            if !uris.contains(&uri) {
                uris.push(uri);
            }
        }
        uris
    };
    let step = workshop.printer.step("fetch", "Packages");
    let files = missing.iter().map(|package| (uris(package), Some(package.sha256.clone()))).collect();
    let lost = download(workshop, files, &step)?.1;
    if !lost.is_empty() {
        let lost = lost.iter().map(|(n, reason)| (missing[*n], reason.as_str())).collect::<Vec<_>>();
        return Err(moved(workshop, origin, &lost));
    }
    let size: u64 = missing.iter().map(|package| package.size).sum();
    step.finish(State::Done, &format!("{} packages, {:.1} MB", missing.len(), size as f64 / 1e6));
    Ok(())
}

/// Says what has become of packages that the archive did not give.
fn moved(workshop: &Workshop<'_>, origin: Origin<'_>, lost: &[(&Package, &str)]) -> anyhow::Error {
    let is_gone = |reason: &str| {
        reason.contains("404") || reason.contains("Hash Sum") || reason.contains("unexpected size")
    };
    if let Some((package, reason)) = lost.iter().find(|(_, reason)| !is_gone(reason)) {
        return anyhow::anyhow!("Cannot fetch {} {}: {reason}", package.name, package.version);
    }
    // Only to look: what the next lock is made from stays what it is.
    let now = index::fetch(workshop, origin.archive, origin.keyring);
    let lines: Vec<String> = lost
        .iter()
        .map(|(package, reason)| {
            let found =
                now.as_ref().ok().and_then(|now| versions(origin.archive, &now.path, &package.name).ok());
            let has = match found {
                None => reason.to_string(),
                Some(found) if found.is_empty() => "the archive has no version of it now".into(),
                Some(found) => {
                    let versions: Vec<_> =
                        found.iter().map(|(suite, version)| format!("{version} in {suite}")).collect();
                    format!("the archive has {}", versions.join(", "))
                }
            };
            format!("{} {} of {}: {has}", package.name, package.version, package.suite)
        })
        .collect();
    Failure::user(
        format!("The archive no longer has what the lock names:\n  {}", lines.join("\n  ")),
        "`gatewright lock --upgrade` takes what there is now; a snapshot of the archive (`--mirror`) keeps old packages",
    )
}

/// Gets an artifact into the cache and returns its SHA-256, which is `expected` where that is known.
pub(crate) fn artifact(
    workshop: &Workshop<'_>,
    name: &str,
    artifact: &Artifact,
    expected: Option<&str>,
) -> Result<Digest> {
    if let Some(sha256) = expected
        && is_there(workshop, sha256)?
    {
        return Ok(sha256.to_string());
    }
    let source = &artifact.source;
    file(
        workshop,
        &format!("`{name}` of the source `{source}`"),
        workshop.settings.sources.locate(source, &artifact.path)?,
        expected,
        &format!("name another place with `--source {source}=URL-OR-FOLDER`"),
    )
}

/// Gets a base image into the cache: a URL, or a path relative to `dir`. Returns its SHA-256.
pub(crate) fn base(workshop: &Workshop<'_>, id: &str, dir: &Path) -> Result<Digest> {
    let location = if id.contains("://") { Location::Url(id.into()) } else { Location::File(dir.join(id)) };
    let hint = "`imageId` is a URL or a file; what is in a vCenter has no content that could be locked";
    file(workshop, "the base image", location, None, hint)
}

/// Gets a file into the cache. `what` it is, and `hint` at where it might be, are for errors.
fn file(
    workshop: &Workshop<'_>,
    what: &str,
    location: Location,
    expected: Option<&str>,
    hint: &str,
) -> Result<Digest> {
    let step = workshop.printer.step("fetch", "Artifacts");
    let (got, from) = match location {
        Location::File(path) => {
            let copy = workshop.path("artifact");
            fs::copy(&path, &copy)
                .map_err(|e| Failure::user(format!("Cannot read {what}: {}: {e}", path.display()), hint))?;
            (copy, path.display().to_string())
        }
        Location::Url(url) if workshop.settings.offline => {
            return Err(Failure::user(
                format!("The cache lacks {what}, {url}, and `--offline` allows nothing to be fetched"),
                "build once with a network, or name a folder with `--source`",
            ));
        }
        Location::Url(url) => {
            let (got, lost) =
                download(workshop, vec![(vec![url.clone()], expected.map(String::from))], &step)?;
            if let Some(reason) = lost.get(&0) {
                return Err(Failure::user(format!("Cannot fetch {what}: {url}: {reason}"), hint));
            }
            (got[0].clone(), url)
        }
    };
    let (sha256, size) = digest::of_file(&got)?;
    if let Some(expected) = expected
        && expected != sha256
    {
        return Err(Failure::user(
            format!("{from} has the SHA-256 {sha256}; {what} must have {expected}"),
            "the source has another version of the file, or somebody changed it",
        ));
    }
    let to = place(workshop, &sha256);
    fs::rename(&got, &to).with_context(|| format!("Cannot move {} to {}", got.display(), to.display()))?;
    step.finish(State::Done, &format!("{what}, {:.1} MB", size as f64 / 1e6));
    Ok(sha256)
}

/// The file of an artifact that was fetched.
pub(crate) fn artifact_path(workshop: &Workshop<'_>, sha256: &str) -> PathBuf {
    place(workshop, sha256)
}

/// Fetches files by URI, with their SHA-256 where it is known. Returns where they are, those with a digest in the cache,
/// and why some did not come, by their place in the list.
fn download(
    workshop: &Workshop<'_>,
    files: Vec<(Vec<String>, Option<String>)>,
    step: &crate::progress::Running<'_>,
) -> Result<(Vec<PathBuf>, BTreeMap<usize, String>)> {
    // A folder for each time: what apt leaves in it is for the sandbox to remove.
    let work = workshop.new_folder("fetch")?;
    let downloads: Vec<_> = files
        .into_iter()
        .enumerate()
        .map(|(n, (uris, sha256))| Download { uris, sha256, out: work.join(n.to_string()) })
        .collect();
    let lost =
        workshop.step(&Step::Fetch { files: downloads.clone(), work: work.join("apt") }, step)?.missing;
    let mut got = Vec::new();
    for (n, file) in downloads.into_iter().enumerate() {
        let path = match &file.sha256 {
            Some(sha256) => place(workshop, sha256),
            None => workshop.path("artifact"),
        };
        if !lost.contains_key(&n) {
            fs::rename(&file.out, &path).with_context(|| format!("Cannot keep {}", path.display()))?;
        }
        got.push(path);
    }
    Ok((got, lost))
}

/// A few of many.
fn some(names: &[String]) -> String {
    match names {
        [first, second, third, _, ..] => format!("{first}, {second}, {third} and {} more", names.len() - 3),
        _ => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_of_many() {
        let names: Vec<String> = "a b c d e".split(' ').map(String::from).collect();
        assert_eq!(some(&names), "a, b, c and 2 more");
        assert_eq!(some(&names[..3]), "a, b, c");
    }
}
