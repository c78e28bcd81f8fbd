//! Rules for the folder: what must be there, what must not.

use std::path::{Component, Path};

use super::files::resolve;
use super::{DEFINITION, Entry, Found, Subject, VALUES, sentence};
use crate::document::{Node, Place};

pub(super) fn missing_document(pack: &Subject<'_>, found: &mut Found) {
    for file in [DEFINITION, VALUES] {
        if !pack.files.is_file(file) {
            found.of(file, format!("`{file}` is missing"));
        }
    }
}

pub(super) fn syntax(pack: &Subject<'_>, found: &mut Found) {
    for document in pack.documents() {
        if let Some(error) = document.error.as_ref().filter(|error| !is_twice(&error.message)) {
            found.at(document.file, error.place, format!("Cannot be read: {}", error.message));
        }
    }
}

pub(super) fn duplicate_key(pack: &Subject<'_>, found: &mut Found) {
    for document in pack.documents() {
        if let Some(error) = document.error.as_ref().filter(|error| is_twice(&error.message)) {
            found.at(document.file, error.place, format!("Cannot be read: {}", error.message));
        }
    }
}

fn is_twice(message: &str) -> bool {
    message.starts_with("the key is there twice")
}

/// A file that a document names.
struct Named<'a> {
    file: &'static str,
    place: Place,
    what: &'static str,
    path: &'a str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    File,
    Folder,
    Role,
}

fn named<'a>(pack: &'a Subject<'_>) -> Vec<Named<'a>> {
    let mut all = Vec::new();
    for (key, what, kind) in [
        ("ansibleRoles", "role", Kind::Role),
        ("charts", "chart", Kind::File),
        ("kubeManifests", "manifest", Kind::File),
    ] {
        let of = |(path, place)| Named { file: DEFINITION, place, what, path, kind };
        all.extend(pack.texts(key).map(of));
    }
    let values = &pack.values.root;
    let files = values.at(&["kubeadmconfig", "files"]).map_or(&[][..], Node::items);
    let paths = files.iter().filter_map(|file| file.get("path")).map(|node| (node, "file", Kind::File));
    let keyring = values.at(&["pack", "archive", "keyring"]).map(|node| (node, "keyring", Kind::File));
    let base = values.at(&["pack", "baseFiles"]).map(|node| (node, "folder", Kind::Folder));
    for (node, what, kind) in paths.chain(keyring).chain(base) {
        if let Some(path) = node.as_str().filter(|path| !super::is_macro(path)) {
            all.push(Named { file: VALUES, place: node.place, what, path, kind });
        }
    }
    all
}

/// Whether a path is one inside the pack, as the reader has it.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

pub(super) fn outside_path(pack: &Subject<'_>, found: &mut Found) {
    for named in named(pack).iter().filter(|named| !is_inside(named.path)) {
        found.at(
            named.file,
            named.place,
            format!("The {} `{}` is not a path inside the pack", named.what, named.path),
        );
    }
}

pub(super) fn missing_file(pack: &Subject<'_>, found: &mut Found) {
    for named in named(pack).iter().filter(|named| named.kind != Kind::Role && is_inside(named.path)) {
        let path = normal(named.path);
        let there = match named.kind {
            Kind::Folder => pack.files.get(&path) == Some(&Entry::Folder),
            _ => pack.files.is_file(&path),
        };
        if !there && !pack.files.has_more {
            found.at(
                named.file,
                named.place,
                format!("The {} `{}` is not in the pack", named.what, named.path),
            );
        }
    }
}

pub(super) fn missing_role(pack: &Subject<'_>, found: &mut Found) {
    for named in named(pack).iter().filter(|named| named.kind == Kind::Role && is_inside(named.path)) {
        let path = normal(named.path);
        if pack.files.is_file(&format!("{path}/tasks/main.yml")) || pack.files.has_more {
            continue;
        }
        let missing = if pack.files.get(&path).is_some() { "`tasks/main.yml`" } else { "folder" };
        found.at(named.file, named.place, format!("The role `{}` has no {missing}", named.path));
    }
}

/// Without `.` and doubled slashes.
fn normal(path: &str) -> String {
    resolve("", path).unwrap_or_default()
}

pub(super) fn link_outside(pack: &Subject<'_>, found: &mut Found) {
    for (name, entry) in pack.files.iter() {
        if let Entry::Link(target) = entry
            && let Err(e) = crate::archive::link_inside(name, target)
        {
            found.of(name, sentence(&e.message));
        }
    }
}

pub(super) fn file_name(pack: &Subject<'_>, found: &mut Found) {
    for name in &pack.files.not_utf8 {
        found.of(name, "The name is not UTF-8");
    }
    for (name, _) in pack.files.iter() {
        if let Some(wrong) = name.chars().find(|c| c.is_control() || *c == '\\') {
            found.of(name, format!("The name has {wrong:?}"));
        }
    }
}

pub(super) fn special_file(pack: &Subject<'_>, found: &mut Found) {
    for (name, entry) in pack.files.iter() {
        if *entry == Entry::Special {
            found.of(name, "This is no file, folder or link");
        }
    }
}

pub(super) fn huge_file(pack: &Subject<'_>, found: &mut Found) {
    for (name, entry) in pack.files.iter() {
        if let Entry::File { size, head } = entry
            && *size > head.len() as u64
        {
            let message = format!(
                "The file has {} MiB; only the first {} KiB are looked at",
                size >> 20,
                head.len() >> 10
            );
            found.of(name, message);
        }
    }
    if pack.files.has_more {
        let count = super::MAX_ENTRIES;
        found.of("", format!("The pack has more than {count} files; the rest is not looked at"));
    }
}

pub(super) fn documentation(pack: &Subject<'_>, found: &mut Found) {
    if !pack.files.is_file("README.md") {
        found.of("", "`README.md` is missing");
    }
    if !["logo.png", "logo.webp"].iter().any(|logo| pack.files.is_file(logo)) {
        found.of("", "`logo.png` is missing");
    }
}

pub(super) fn folder_name(pack: &Subject<'_>, found: &mut Found) {
    let (name, version) = (pack.text("name"), pack.text("version"));
    if let Some(folder) = &pack.files.folder
        && !name.is_empty()
        && !version.is_empty()
        && *folder != format!("{name}-{version}")
    {
        found.of("", format!("The folder is called `{folder}`, the pack `{name}-{version}`"));
    }
}
