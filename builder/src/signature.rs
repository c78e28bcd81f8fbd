//! The signature: SHA-256 over everything that decides an image's content. docs/signature.md describes it for those who
//! compute it with other means; `signature/vectors.json` has examples.
//!
//! The *inputs* are one JSON value; the signature is the digest of its canonical form (RFC 8785). They are kept with
//! every image, so that what has changed can be told.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::digest::{self, Digest};
use crate::image::Image;
use crate::lock::{ImageLock, Package};

/// Of the form of the inputs.
const FORMAT: u32 = 1;
/// Raised when the same inputs give another image by a change of ours.
pub(crate) const CONTENT_VERSION: u32 = 3;

/// The digest of canonical JSON.
pub(crate) fn of(inputs: &Value) -> Result<Digest> {
    let canonical = serde_json_canonicalizer::to_vec(inputs).context("Cannot make canonical JSON")?;
    Ok(digest::hex(&Sha256::digest(canonical)))
}

/// Everything that decides the content of an image.
pub(crate) fn inputs(image: &Image, lock: &ImageLock) -> Result<Value> {
    let packs = image
        .packs
        .iter()
        .map(|pack| {
            Ok(json!({
                "name": pack.id(),
                "layer": pack.definition.layer,
                "roles": pack.definition.ansible_roles,
                "files": pack.files()?,
                "pack": pack.own_values,
            }))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut artifacts = image.artifact_digests.clone();
    artifacts.extend(lock.artifacts.clone());
    Ok(json!({
        "format": FORMAT,
        "builder": { "version": env!("CARGO_PKG_VERSION"), "content": CONTENT_VERSION },
        "image": {
            "name": image.definition.name,
            "disk": image.definition.disk,
            "hardware": image.definition.hardware,
            "ova": image.definition.ova,
        },
        "packs": packs,
        "values": image.values,
        "base": lock.base,
        "epoch": lock.epoch,
        "tools": packages(&lock.tools),
        "packages": packages(&lock.packages),
        "artifacts": artifacts,
        "containerImages": lock.container_images,
    }))
}

/// Packages by content: where they were found does not count.
fn packages(packages: &[Package]) -> Vec<Value> {
    packages
        .iter()
        .map(|p| json!({"name": p.name, "version": p.version, "architecture": p.architecture, "sha256": p.sha256}))
        .collect()
}

/// One difference between two inputs.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Change {
    /// As in `packages.openssl.version`.
    pub(crate) path: String,
    /// Absent where it was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// Absent where it was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
}

impl Change {
    /// Whether it says something that a person reads: not digests, sizes and paths that follow from a version.
    pub(crate) fn is_for_people(&self) -> bool {
        let last = self.path.rsplit('.').next().unwrap_or_default();
        !["sha256", "size", "path", "name", "architecture", "suite"].contains(&last)
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{}: {} -> {}", self.path, short(from), short(to)),
            (None, Some(to)) if to.is_empty() => write!(f, "{}: added", self.path),
            (None, Some(to)) => write!(f, "{}: added, {}", self.path, short(to)),
            (Some(from), None) if from.is_empty() => write!(f, "{}: removed", self.path),
            (Some(from), None) => write!(f, "{}: removed, was {}", self.path, short(from)),
            (None, None) => f.write_str(&self.path),
        }
    }
}

/// Digests and long texts by their beginning.
fn short(text: &str) -> String {
    let is_digest = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let most = if is_digest { 12 } else { 60 };
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

/// What differs between two values, sorted by path. Items of lists are compared by their `name`, texts by themselves:
/// what comes first shifts the rest, which nobody wants to read.
pub(crate) fn changes(old: &Value, new: &Value) -> Vec<Change> {
    let (old, new) = (leaves(old), leaves(new));
    let paths: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    paths
        .into_iter()
        .filter(|path| old.get(*path) != new.get(*path))
        .map(|path| Change { path: path.clone(), from: old.get(path).cloned(), to: new.get(path).cloned() })
        .collect()
}

fn leaves(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, leaves: &mut BTreeMap<String, String>) {
        let below = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| walk(&below(key), value, leaves));
            }
            Value::Array(items) if !items.is_empty() => {
                for (n, item) in items.iter().enumerate() {
                    match (item.as_str(), item.get("name").and_then(Value::as_str)) {
                        (Some(text), _) => drop(leaves.insert(below(text), String::new())),
                        (None, Some(name)) => walk(&below(name), item, leaves),
                        (None, None) => walk(&below(&n.to_string()), item, leaves),
                    }
                }
            }
            Value::String(text) => drop(leaves.insert(path.to_string(), text.clone())),
            other => drop(leaves.insert(path.to_string(), other.to_string())),
        }
    }
    let mut found = BTreeMap::new();
    walk("", value, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("signature/vectors.json")).unwrap();
        assert!(vectors.len() >= 4);
        for vector in vectors {
            let canonical = serde_json_canonicalizer::to_string(&vector["inputs"]).unwrap();
            assert_eq!(canonical, vector["canonical"].as_str().unwrap());
            assert_eq!(of(&vector["inputs"]).unwrap(), vector["signature"].as_str().unwrap());
        }
    }

    #[test]
    fn changes_are_named() {
        let old = json!({"packages": [{"name": "a", "version": "1"}, {"name": "b", "version": "1"}], "x": [1, 2], "y": {}, "z": ["p", "q"]});
        let new = json!({"packages": [{"name": "b", "version": "2"}, {"name": "c", "version": "1"}], "x": [1], "y": {}, "z": ["q", "r"]});
        let text: Vec<_> = changes(&old, &new).iter().map(ToString::to_string).collect();
        assert_eq!(
            text,
            [
                "packages.a.name: removed, was a",
                "packages.a.version: removed, was 1",
                "packages.b.version: 1 -> 2",
                "packages.c.name: added, c",
                "packages.c.version: added, 1",
                "x.1: removed, was 2",
                "z.p: removed",
                "z.r: added",
            ]
        );
        assert_eq!(changes(&old, &old), []);
    }

    #[test]
    fn long_texts_are_cut() {
        assert_eq!(short(&"ab".repeat(32)), "abababababab…");
        assert_eq!(short("ä"), "ä");
        assert_eq!(short(&"ä".repeat(61)), format!("{}…", "ä".repeat(60)));
    }

    const IMAGE: &str = "name: a\npacks: [os-1.0.0]\ndisk: {size: 4 GiB}\nhardware: {cpus: 2, memory: 4 GiB, version: vmx-15, guestOs: other, firmware: efi}\noutputs: [raw]\n";
    const FILES: [(&str, &str); 9] = [
        (
            "packs/os-1.0.0/pack.json",
            r#"{"name": "os", "version": "1.0.0", "layer": "os", "ansibleRoles": ["r"], "displayName": "OS"}"#,
        ),
        (
            "packs/os-1.0.0/values.yaml",
            "pack:\n  archive: {suite: s, components: [main], architecture: amd64, keyring: keys.gpg}\n  packages: [a]\n  exclude: [/x]\nansibleRoles:\n  r: {login: ann}\n",
        ),
        ("packs/os-1.0.0/keys.gpg", "keys"),
        ("packs/os-1.0.0/README.md", "for people"),
        ("packs/os-1.0.0/r/tasks/main.yml", "[]"),
        ("packs/os-1.0.0/r/files/program", "#!/bin/sh"),
        ("images/x.yaml", IMAGE),
        ("images/other.yaml", IMAGE),
        ("artifact", "bytes"),
    ];

    /// A project in a new folder, after `change`.
    fn signature_of(change: impl Fn(&std::path::Path)) -> Digest {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in FILES {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, text).unwrap();
        }
        change(dir.path());
        let settings = crate::workshop::Settings {
            cache_dir: dir.path().join("cache"),
            mirrors: Vec::new(),
            sources: crate::sources::Sources::default(),
            offline: true,
            variables: BTreeMap::new(),
        };
        let image = Image::read(&dir.path().join("images/x.yaml"), &settings, crate::locking::Policy::Update)
            .unwrap();
        let package = Package {
            name: "a".into(),
            version: "1".into(),
            architecture: "all".into(),
            suite: "s".into(),
            path: "pool/a.deb".into(),
            size: 1,
            sha256: "0".repeat(64),
        };
        let lock = ImageLock {
            request: image.request().unwrap(),
            epoch: 7,
            tools: Vec::new(),
            packages: vec![package],
            base: None,
            artifacts: BTreeMap::new(),
            container_images: BTreeMap::new(),
        };
        of(&inputs(&image, &lock).unwrap()).unwrap()
    }

    fn edit(dir: &std::path::Path, name: &str, from: &str, to: &str) {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(text.contains(from), "{name}: {from}");
        std::fs::write(dir.join(name), text.replace(from, to)).unwrap();
    }

    #[test]
    fn what_cannot_reach_the_image_does_not_count() {
        use std::os::unix::fs::PermissionsExt as _;
        let plain = signature_of(|_| {});
        // The folder is another one each time.
        assert_eq!(signature_of(|_| {}), plain);
        let mode = |path: std::path::PathBuf, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let pack = "packs/os-1.0.0";
        type Change<'a> = (&'a str, &'a dyn Fn(&std::path::Path));
        let changes: [Change<'_>; 7] = [
            ("umask", &|dir| mode(dir.join(pack).join("r/files/program"), 0o600)),
            ("umask of a folder", &|dir| mode(dir.join(pack).join("r"), 0o700)),
            ("times", &|dir| {
                let file = std::fs::File::options()
                    .write(true)
                    .open(dir.join(pack).join("r/files/program"))
                    .unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }),
            ("texts for people", &|dir| edit(dir, "packs/os-1.0.0/README.md", "for", "about")),
            ("the name for people", &|dir| edit(dir, "packs/os-1.0.0/pack.json", "OS", "Another OS")),
            ("comments", &|dir| edit(dir, "packs/os-1.0.0/values.yaml", "pack:", "# why\npack: # what")),
            ("the order of keys", &|dir| {
                edit(
                    dir,
                    "packs/os-1.0.0/values.yaml",
                    "suite: s, components: [main]",
                    "components: [main], suite: s",
                );
                edit(dir, "images/x.yaml", "cpus: 2, memory: 4 GiB", "memory: 4096 MiB, cpus: 2");
            }),
        ];
        for (what, change) in changes {
            assert_eq!(signature_of(change), plain, "{what}");
        }
    }

    #[test]
    fn what_can_reach_the_image_counts() {
        use std::os::unix::fs::PermissionsExt as _;
        let pack = |name: &str| format!("packs/os-1.0.0/{name}");
        let mut seen = std::collections::BTreeSet::from([signature_of(|_| {})]);
        let mut differs = |what: &str, change: &dyn Fn(&std::path::Path)| {
            assert!(seen.insert(signature_of(change)), "{what}");
        };
        for (name, from, to) in [
            ("values.yaml", "login: ann", "login: bob"),
            ("values.yaml", "[/x]", "[/y]"),
            ("values.yaml", "suite: s", "suite: t"),
            ("pack.json", "\"layer\": \"os\"", "\"layer\": \"kernel\""),
            ("pack.json", "[\"r\"]", "[]"),
            ("r/tasks/main.yml", "[]", "[] "),
            ("keys.gpg", "keys", "kexs"),
        ] {
            differs(&format!("{name}: {to}"), &|dir| edit(dir, &pack(name), from, to));
        }
        for (from, to) in [
            ("name: a", "name: b"),
            ("4 GiB}\nhardware", "5 GiB}\nhardware"),
            ("cpus: 2", "cpus: 3"),
            ("outputs: [raw]", "artifacts: {x: ../artifact}\noutputs: [raw]"),
        ] {
            differs(to, &|dir| edit(dir, "images/x.yaml", from, to));
        }
        differs("an artifact's content", &|dir| {
            edit(dir, "images/x.yaml", "outputs:", "artifacts: {x: ../artifact}\noutputs:");
            edit(dir, "artifact", "bytes", "bites");
        });
        differs("an executable bit", &|dir| {
            let file = dir.join(pack("r/files/program"));
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o700)).unwrap();
        });
        differs("a new file", &|dir| std::fs::write(dir.join(pack("r/files/new")), "").unwrap());
        differs("a new folder", &|dir| std::fs::create_dir(dir.join(pack("r/files/folder"))).unwrap());
        differs("a link", &|dir| {
            std::os::unix::fs::symlink("program", dir.join(pack("r/files/link"))).unwrap()
        });
        differs("where a link leads", &|dir| {
            std::os::unix::fs::symlink("new", dir.join(pack("r/files/link"))).unwrap()
        });
    }
}
