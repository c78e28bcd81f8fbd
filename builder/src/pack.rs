//! Packs: versioned folders that each add one layer. The format is Palette's (`pack.json`, `values.yaml`, Ansible
//! roles); the keys below `pack` that say what the tree is made from are ours.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::digest::{self, Digest};
use crate::error::Failure;

/// One pack, read and checked.
#[derive(Debug)]
pub(crate) struct Pack {
    /// The folder.
    pub(crate) dir: PathBuf,
    pub(crate) definition: Definition,
    pub(crate) values: Values,
    /// Over every file that can change an image: path, kind, executable bit, content. README and logo are left out.
    pub(crate) digest: Digest,
}

/// `pack.json`. Unknown keys pass, as the format says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Definition {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) layer: Layer,
    #[serde(default)]
    pub(crate) ansible_roles: Vec<String>,
    #[serde(default)]
    constraints: Constraints,
}

#[derive(Debug, Default, Deserialize)]
struct Constraints {
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    pack_name: String,
    r#type: Option<DependencyType>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum DependencyType {
    Required,
    Optional,
    NotSupported,
    Upgrade,
}

/// The layer a pack adds; layers are applied in this order.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layer {
    Kernel,
    Os,
    K8s,
    Cni,
    Csi,
    Addon,
}

/// `values.yaml`, as far as building reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Values {
    #[serde(default)]
    pub(crate) pack: PackValues,
    /// Variables by role.
    #[serde(default)]
    pub(crate) ansible_roles: BTreeMap<String, serde_json::Value>,
}

/// `pack` in `values.yaml`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PackValues {
    /// Where packages come from; of the OS pack.
    pub(crate) archive: Option<Archive>,
    /// A folder of the pack that is laid over the tree before packages are configured.
    pub(crate) base_files: Option<String>,
    /// Packages this pack adds.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
    /// Shell patterns of packaged files to leave out, and of those to keep all the same (dpkg's `path-exclude` and
    /// `path-include`).
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    #[serde(default)]
    pub(crate) include: Vec<String>,
    pub(crate) boot_loader: Option<BootLoader>,
}

/// A package archive, without a host: that is the tools' default or the user's setting.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    pub(crate) suite: String,
    pub(crate) components: Vec<String>,
    /// Debian's name of it, as in `amd64`.
    pub(crate) architecture: String,
    /// The OpenPGP keyring of the archive, a file of the pack.
    pub(crate) keyring: String,
}

/// The signed chain, as absolute paths in the tree.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BootLoader {
    pub(crate) shim: String,
    pub(crate) loader: String,
    /// The folder below `\EFI` where the loader looks for `grub.cfg`.
    pub(crate) directory: String,
}

impl Pack {
    /// Reads the pack in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Pack> {
        let file = dir.join("pack.json");
        let text = fs::read_to_string(&file).map_err(|e| {
            Failure::user(
                format!("Cannot read {}: {e}", file.display()),
                "`packs` of the image definition names folders with a `pack.json`",
            )
        })?;
        let definition: Definition = serde_json::from_str(&text).map_err(|e| {
            Failure::user(
                format!("{} is not a pack: {e}", file.display()),
                "see docs/packs.md for the keys of a pack",
            )
        })?;

        let file = dir.join("values.yaml");
        let text = fs::read_to_string(&file).map_err(|e| {
            Failure::user(
                format!("Cannot read {}: {e}", file.display()),
                "a pack needs a `values.yaml`; it may be empty",
            )
        })?;
        let values = if text.trim().is_empty() {
            Values::default()
        } else {
            serde_norway::from_str(&text).map_err(|e| {
                Failure::user(
                    format!("{}: {e}", file.display()),
                    "see docs/packs.md for the values that building reads",
                )
            })?
        };

        let pack = Pack { dir: dir.to_path_buf(), definition, values, digest: digest_of(dir)? };
        for role in &pack.definition.ansible_roles {
            let tasks = pack.inside(role)?.join("tasks/main.yml");
            if !tasks.is_file() {
                return Err(Failure::user(
                    format!(
                        "Pack `{}` names the role `{role}`, which has no {}",
                        pack.definition.name,
                        tasks.display()
                    ),
                    "a role is a folder of the pack with `tasks/main.yml`",
                ));
            }
        }
        Ok(pack)
    }

    /// The path of a file that the pack names; never outside the pack.
    pub(crate) fn inside(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(name);
        if name.is_empty() || !path.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Failure::user(
                format!(
                    "Pack `{}` names `{name}`, which is not a path inside the pack",
                    self.definition.name
                ),
                "name files relative to the pack's folder, without `..`",
            ));
        }
        Ok(self.dir.join(path))
    }

    /// Copies what the [digest](Pack::digest) covers, and nothing else, to the new folder `to`.
    pub(crate) fn copy(&self, to: &Path) -> Result<()> {
        let copy = |name: &Path, content: &Content| -> std::io::Result<()> {
            let place = to.join(name);
            match content {
                Content::Folder => fs::create_dir(&place)?,
                Content::Link(target) => return symlink(target, &place),
                Content::File { .. } => drop(fs::copy(self.dir.join(name), &place)?),
            }
            let mode = if matches!(content, Content::File { executable: false }) { 0o644 } else { 0o755 };
            fs::set_permissions(&place, fs::Permissions::from_mode(mode))
        };
        fs::create_dir_all(to).with_context(|| format!("Cannot make {}", to.display()))?;
        for (name, content) in contents(&self.dir)? {
            copy(&name, &content)
                .with_context(|| format!("Cannot copy {} to {}", name.display(), to.display()))?;
        }
        Ok(())
    }

    /// `NAME-VERSION`, as the folder is called.
    pub(crate) fn id(&self) -> String {
        format!("{}-{}", self.definition.name, self.definition.version)
    }
}

/// Checks packs against each other: one OS pack, and what each depends on. Sorts them by layer.
pub(crate) fn profile(mut packs: Vec<Pack>) -> Result<Vec<Pack>> {
    packs.sort_by_key(|pack| pack.definition.layer);
    let systems: Vec<_> = packs.iter().filter(|p| p.values.pack.archive.is_some()).map(Pack::id).collect();
    if systems.len() != 1 {
        return Err(Failure::user(
            format!(
                "An image needs exactly one pack with `pack.archive`, this one has {}: {}",
                systems.len(),
                systems.join(", ")
            ),
            "name one OS pack in `packs` of the image definition",
        ));
    }
    for (n, pack) in packs.iter().enumerate() {
        if packs[..n].iter().any(|other| other.definition.name == pack.definition.name) {
            return Err(Failure::user(
                format!("Pack `{}` is there twice", pack.definition.name),
                "name each pack once in `packs` of the image definition",
            ));
        }
        for dependency in &pack.definition.constraints.dependencies {
            let present = packs.iter().any(|p| p.definition.name == dependency.pack_name);
            let wrong = match dependency.r#type {
                Some(DependencyType::Required) => !present,
                Some(DependencyType::NotSupported) => present,
                _ => false,
            };
            if wrong {
                let (verb, hint) = if present {
                    ("does not go with", "leave one of them out")
                } else {
                    ("needs", "add it to `packs`")
                };
                return Err(Failure::user(
                    format!("Pack `{}` {verb} pack `{}`", pack.id(), dependency.pack_name),
                    hint,
                ));
            }
        }
    }
    Ok(packs)
}

/// One thing in a pack's folder, as far as it can reach the image: of permissions only whether a file can be run, as git
/// keeps them, so that the umask of a checkout decides nothing.
#[derive(Debug, Serialize)]
enum Content {
    Folder,
    File { executable: bool },
    Link(PathBuf),
}

/// All of a pack's folder but its documentation, by path in it, sorted.
fn contents(dir: &Path) -> Result<Vec<(PathBuf, Content)>> {
    let mut all = Vec::new();
    for entry in walkdir::WalkDir::new(dir).sort_by_file_name().min_depth(1) {
        let entry = entry.with_context(|| format!("Cannot read pack {}", dir.display()))?;
        let name = entry.path().strip_prefix(dir).expect("walkdir stays below its root");
        if matches!(name.to_str(), Some("README.md" | "logo.png" | "logo.webp")) {
            continue;
        }
        let kind = entry.file_type();
        let content = if kind.is_symlink() {
            Content::Link(fs::read_link(entry.path())?)
        } else if kind.is_dir() {
            Content::Folder
        } else if kind.is_file() {
            Content::File { executable: entry.metadata()?.permissions().mode() & 0o111 != 0 }
        } else {
            return Err(Failure::user(
                format!("{} is no file, folder or link", entry.path().display()),
                "remove it from the pack",
            ));
        };
        all.push((name.to_path_buf(), content));
    }
    Ok(all)
}

/// See [`Pack::digest`].
fn digest_of(dir: &Path) -> Result<Digest> {
    let mut all = Vec::new();
    for (name, content) in contents(dir)? {
        let digest = match content {
            Content::File { .. } => Some(digest::of_file(&dir.join(&name))?.0),
            _ => None,
        };
        all.push((name, content, digest));
    }
    digest::of_json(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(json: &str, values: &str) -> Result<Pack> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pack.json"), json).unwrap();
        fs::write(dir.path().join("values.yaml"), values).unwrap();
        Pack::read(dir.path())
    }

    #[test]
    fn shipped_packs_are_a_profile() {
        let packs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packs");
        let read = ["firstboot-0.1.0", "debian-13.0.0"].map(|name| Pack::read(&packs.join(name)).unwrap());
        let profile = profile(read.into()).unwrap();
        assert_eq!(profile[0].definition.layer, Layer::Os);
        assert!(profile.iter().all(|p| p.dir.ends_with(p.id())), "folders are called NAME-VERSION");
    }

    #[test]
    fn of_permissions_only_the_executable_bit_counts() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str| dir.path().join("a").join(name);
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        fs::create_dir(file("")).unwrap();
        fs::write(file("pack.json"), r#"{"name":"a","version":"1.0.0","layer":"os"}"#).unwrap();
        fs::write(file("values.yaml"), "").unwrap();
        fs::write(file("program"), "").unwrap();
        symlink("/dev/null", file("link")).unwrap();
        mode(&file("program"), 0o755);
        let digest = Pack::read(&file("")).unwrap().digest;
        mode(&file(""), 0o700);
        mode(&file("values.yaml"), 0o600);
        mode(&file("program"), 0o700);
        let pack = Pack::read(&file("")).unwrap();
        assert_eq!(pack.digest, digest);

        let copy = dir.path().join("copy");
        pack.copy(&copy).unwrap();
        assert_eq!(Pack::read(&copy).unwrap().digest, digest);
        let is = |name: &str| copy.join(name).symlink_metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((is("values.yaml"), is("program")), (0o644, 0o755));
        assert!(copy.join("link").is_symlink());

        mode(&file("program"), 0o644);
        assert_ne!(Pack::read(&file("")).unwrap().digest, digest);
    }

    #[test]
    fn wrong_packs_are_refused_with_the_place() {
        let cases = [
            ("{", "", "pack.json is not a pack: EOF"),
            (r#"{"name":"a","version":"1.0.0"}"#, "", "missing field `layer`"),
            (r#"{"name":"a","version":"1.0.0","layer":"moon"}"#, "", "unknown variant `moon`"),
            (r#"{"name":"a","version":"1.0.0","layer":"os"}"#, "pack: [", "values.yaml"),
            (
                r#"{"name":"a","version":"1.0.0","layer":"os","ansibleRoles":["x"]}"#,
                "",
                "names the role `x`, which has no",
            ),
            (
                r#"{"name":"a","version":"1.0.0","layer":"os","ansibleRoles":["../x"]}"#,
                "",
                "not a path inside the pack",
            ),
        ];
        for (json, values, expected) in cases {
            let error = pack(json, values).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} should contain {expected:?}");
        }
    }

    #[test]
    fn a_profile_has_one_system_and_what_its_packs_need() {
        let archive = "pack: {archive: {suite: s, components: [main], architecture: amd64, keyring: k}}";
        let os = || pack(r#"{"name":"os","version":"1.0.0","layer":"os"}"#, archive).unwrap();
        let addon = |dependency: &str| {
            let json = format!(
                r#"{{"name":"a","version":"1.0.0","layer":"addon","constraints":{{"dependencies":[{dependency}]}}}}"#
            );
            pack(&json, "").unwrap()
        };
        let twice = || addon(r#"{"packName":"os","layer":"os","type":"required"}"#);
        assert!(
            profile(vec![os(), twice(), twice()]).unwrap_err().to_string().contains("`a` is there twice")
        );
        let free = || addon(r#"{"packName":"zz","layer":"os","type":"optional"}"#);
        assert!(profile(vec![free(), os()]).is_ok());
        assert!(profile(vec![free()]).unwrap_err().to_string().contains("exactly one"));
        assert!(profile(vec![os(), os()]).unwrap_err().to_string().contains("exactly one"));
        let needs = addon(r#"{"packName":"zz","layer":"os","type":"required"}"#);
        assert!(profile(vec![needs, os()]).unwrap_err().to_string().contains("needs pack `zz`"));
        let hates = addon(r#"{"packName":"os","layer":"os","type":"notSupported"}"#);
        assert!(profile(vec![hates, os()]).unwrap_err().to_string().contains("does not go with"));
    }
}
