//! The package index: what the archive has, as its signed release files say. In the cache, by archive and mirrors.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::digest;
use crate::error::Failure;
use crate::pack::Archive;
use crate::progress::State;
use crate::steps::Step;
use crate::workshop::Workshop;

/// An index in the cache.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) path: PathBuf,
    /// The newest date of its release files, in seconds.
    pub(crate) date: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Record {
    date: u64,
}

/// The index that is in the cache, or else what the archive gives; that in any case where a `new` one is asked for.
pub(crate) fn get(workshop: &Workshop<'_>, archive: &Archive, keyring: &Path, new: bool) -> Result<Index> {
    let mirrors = &workshop.settings.mirrors;
    let key = digest::of_json(&json!(["index", archive, digest::of_file(keyring)?.0, mirrors]))?;
    let name = format!("indexes-v1/{key}");
    let path = workshop.cache.path(&name);
    if !new && let Some(Record { date }) = workshop.cache.load(&format!("{name}/record.json")) {
        return Ok(Index { path, date });
    }
    if workshop.settings.offline {
        return Err(Failure::user(
            format!(
                "There is no package index of `{}` in the cache, and `--offline` allows none to be fetched",
                archive.suite
            ),
            "lock once with a network; building from a lock needs no index",
        ));
    }
    let new = fetch(workshop, archive, keyring)?;
    fs::write(new.path.join("record.json"), serde_json::to_vec(&Record { date: new.date })?)?;
    // Another folder of the same name is an older index.
    if path.exists() {
        fs::rename(&path, workshop.path("old-index"))?;
    }
    fs::rename(&new.path, &path)?;
    Ok(Index { path, date: new.date })
}

/// What the archive has now, in the folder of this work.
pub(crate) fn fetch(workshop: &Workshop<'_>, archive: &Archive, keyring: &Path) -> Result<Index> {
    let step = workshop.printer.step("index", "Package index");
    let path = workshop.new_folder("index")?;
    let fetch = Step::Index {
        archive: archive.clone(),
        keyring: keyring.to_path_buf(),
        mirrors: workshop.settings.mirrors.clone(),
        fetch: true,
        out: path.clone(),
    };
    workshop.step(&fetch, &step)?;
    let date = newest(&path.join("lists"))?;
    step.finish(State::Done, &format!("of {}", jiff::Timestamp::from_second(date.try_into()?)?));
    Ok(Index { path, date })
}

/// `sources.list` as mmdebstrap writes it for the user's mirrors; needs no network.
pub(crate) fn sources(workshop: &Workshop<'_>, archive: &Archive, keyring: &Path) -> Result<String> {
    let step = workshop.printer.step("sources", "Mirrors");
    let out = workshop.folder("sources")?;
    let write = Step::Index {
        archive: archive.clone(),
        keyring: keyring.to_path_buf(),
        mirrors: workshop.settings.mirrors.clone(),
        fetch: false,
        out: out.clone(),
    };
    workshop.step(&write, &step)?;
    let text = fs::read_to_string(out.join("sources.list"))?;
    fs::remove_dir_all(&out)?;
    step.finish(State::Done, "");
    Ok(text)
}

/// The newest date of the release files in `lists`.
fn newest(lists: &Path) -> Result<u64> {
    let mut newest = None;
    for entry in fs::read_dir(lists)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().ends_with("InRelease")) {
            let text =
                fs::read_to_string(&path).with_context(|| format!("Cannot read {}", path.display()))?;
            let date = release_date(&text).with_context(|| format!("{} has no date", path.display()))?;
            newest = newest.max(Some(date));
        }
    }
    newest.context("The archive gave no signed release file")
}

/// The `Date` of a release file, which is RFC 2822 but for its zone (repository format, "Date, Valid-Until").
fn release_date(text: &str) -> Result<u64> {
    let value =
        text.lines().find_map(|line| line.strip_prefix("Date:")).context("There is no `Date:` line")?;
    let value = value.trim().replace("UTC", "+0000");
    let time = jiff::fmt::rfc2822::parse(&value).with_context(|| format!("`{value}` is not a date"))?;
    Ok(time.timestamp().as_second().try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_release_files() {
        let cases = [
            ("Date: Sat, 15 Nov 2025 10:05:40 UTC", Some(1_763_201_140)),
            ("Origin: x\nDate: Thu, 1 Jan 1970 00:00:09 +0000\n", Some(9)),
            ("Date: yesterday", None),
            ("Valid-Until: Sat, 15 Nov 2025 10:05:40 UTC", None),
        ];
        for (text, expected) in cases {
            assert_eq!(release_date(text).ok(), expected, "{text}");
        }
    }
}
