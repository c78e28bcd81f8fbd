//! The files of a pack in memory, as far as rules look at them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;

use crate::document::{MAX_SIZE, Place};

/// The most entries a pack may have; of more, the rest is not looked at.
pub const MAX_ENTRIES: usize = 20_000;
/// The most bytes that are looked at in one pack; of each file no more than [`MAX_SIZE`].
pub const MAX_LOOKED_AT: u64 = 256 << 20;
/// How many links are followed to one file, as Linux does.
const MAX_LINKS: usize = 40;

/// One thing in a pack.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Entry {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// In bytes.
        size: u64,
        /// What is looked at: all of it, or as much as the limits allow.
        head: Vec<u8>,
    },
    /// A symbolic link with its target; what is not UTF-8 in it is replaced.
    Link(String),
    /// A device, socket or pipe.
    Special,
}

/// All files of a pack by path in it, separated by `/`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files {
    entries: BTreeMap<String, Entry>,
    /// What the folder is called, if it is known.
    pub(super) folder: Option<String>,
    /// Names that are not UTF-8, with what is not replaced.
    pub(super) not_utf8: Vec<String>,
    pub(super) has_more: bool,
}

impl Files {
    /// Reads a folder. Links are not followed.
    ///
    /// # Errors
    /// When something in it cannot be read.
    pub fn read(dir: &Path) -> io::Result<Files> {
        let folder = dir.canonicalize()?.file_name().map(|name| name.to_string_lossy().into_owned());
        let mut files = Files { folder, ..Files::default() };
        let mut left = MAX_LOOKED_AT;
        for entry in walkdir::WalkDir::new(dir).min_depth(1).sort_by_file_name() {
            let entry = entry?;
            if files.entries.len() == MAX_ENTRIES {
                files.has_more = true;
                break;
            }
            let path = entry.path().strip_prefix(dir).expect("walkdir stays below its root");
            let name = path.to_string_lossy().into_owned();
            if path.to_str().is_none() {
                files.not_utf8.push(name.clone());
            }
            let kind = entry.file_type();
            let content = if kind.is_dir() {
                Entry::Folder
            } else if kind.is_symlink() {
                Entry::Link(fs::read_link(entry.path())?.to_string_lossy().into_owned())
            } else if kind.is_file() {
                let file = File::open(entry.path())?;
                let size = file.metadata()?.len();
                let mut head = Vec::new();
                file.take(left.min(MAX_SIZE as u64)).read_to_end(&mut head)?;
                left -= head.len() as u64;
                Entry::File { size, head }
            } else {
                Entry::Special
            };
            files.entries.insert(name, content);
        }
        Ok(files)
    }

    /// Adds a file, and the folders it is in.
    pub fn insert(&mut self, name: &str, entry: Entry) {
        for (end, _) in name.match_indices('/') {
            self.entries.entry(name[..end].into()).or_insert(Entry::Folder);
        }
        self.entries.insert(name.into(), entry);
    }

    /// The entries, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// What is at a path, links inside the pack followed.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Entry> {
        let mut path = path.trim_end_matches('/').to_string();
        for _ in 0..MAX_LINKS {
            // The first part of the path that is a link, with what is left after it.
            let mut ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
            let link = ends.find_map(|end| match self.entries.get(&path[..end]) {
                Some(Entry::Link(target)) => Some((end, target)),
                _ => None,
            });
            let Some((end, target)) = link else { return self.entries.get(&path) };
            path = resolve(&path[..end], &format!("{target}{}", &path[end..]))?;
        }
        None
    }

    pub(super) fn is_file(&self, path: &str) -> bool {
        matches!(self.get(path), Some(Entry::File { .. }))
    }
}

impl<N: AsRef<str>, C: Into<Vec<u8>>> FromIterator<(N, C)> for Files {
    fn from_iter<I: IntoIterator<Item = (N, C)>>(files: I) -> Files {
        let mut all = Files::default();
        for (name, content) in files {
            let head = content.into();
            all.insert(name.as_ref(), Entry::File { size: head.len() as u64, head });
        }
        all
    }
}

/// Where a link in the pack leads, as a path in it; none if that is outside.
pub(super) fn resolve(link: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The place of a byte.
pub(super) fn place(bytes: &[u8], offset: usize) -> Place {
    let before = &bytes[..offset];
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Place {
        line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
        column: String::from_utf8_lossy(&before[start..]).chars().count() + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_only() {
        let mut files: Files = [("a/b/c", "x")].into_iter().collect();
        for (name, target) in [
            ("d", "a/./b"),
            ("a/up", "../a/b/c"),
            ("out", "../a"),
            ("root", "/a"),
            ("loop", "loop"),
            ("a/e", "../d"),
        ] {
            files.insert(name, Entry::Link(target.into()));
        }
        for (path, is_file) in [
            ("a/b/c", true),
            ("d/c", true),
            ("a/up", true),
            ("a/e/c", true),
            ("out/b/c", false),
            ("root/b/c", false),
            ("loop/c", false),
            ("a", false),
        ] {
            assert_eq!(files.is_file(path), is_file, "{path}");
        }
    }
}
