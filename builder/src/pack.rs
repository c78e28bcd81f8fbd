//! What building reads of a pack: its values below `pack`, and its files.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use ::pack::{Content, ProfilePack};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::{self, Digest};
use crate::error::Failure;
use crate::lock::Artifact;

/// One pack of an image.
#[derive(Debug)]
pub(crate) struct Pack {
    pub(crate) definition: ::pack::definition::Definition,
    /// `pack` of its merged values.
    pub(crate) values: PackValues,
    /// The same as it was written.
    pub(crate) own_values: Value,
    /// Where it was pulled from, with its digest.
    pub(crate) from: Option<String>,
    pack: ::pack::Pack,
}

/// `pack` in `values.yaml`, as far as building reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct PackValues {
    /// Where packages come from; of the OS pack.
    pub(crate) archive: Option<Archive>,
    /// A folder of the pack that is laid over the tree before packages are configured.
    pub(crate) base_files: Option<String>,
    /// Packages this pack adds.
    pub(crate) packages: Vec<String>,
    /// Shell patterns of packaged files to leave out, and of those to keep all the same (dpkg's `path-exclude` and
    /// `path-include`).
    pub(crate) exclude: Vec<String>,
    pub(crate) include: Vec<String>,
    pub(crate) boot_loader: Option<BootLoader>,
    /// Files from named sources, given to roles.
    pub(crate) artifacts: BTreeMap<String, Artifact>,
    pub(crate) content: PackContent,
}

/// `pack.content`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PackContent {
    /// Container images, given to roles as archives.
    pub(crate) images: Vec<ContainerImage>,
}

/// One of `pack.content.images`.
#[derive(Debug, Deserialize)]
pub(crate) struct ContainerImage {
    pub(crate) image: String,
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
    /// Takes what building needs of a pack of a profile.
    pub(crate) fn new(merged: &ProfilePack, from: Option<String>) -> Result<Pack> {
        let pack = merged.pack.clone();
        let own_values = merged.values["pack"].clone();
        let values = if own_values.is_null() {
            PackValues::default()
        } else {
            PackValues::deserialize(&own_values).map_err(|e| {
                Failure::user(
                    format!("`pack` in the values of pack `{}`: {e}", pack.id()),
                    "see docs/packs.md for the values that building reads; `gatewright pack lint` names the line",
                )
            })?
        };
        let pack = Pack { definition: pack.definition.clone(), values, own_values, from, pack };
        for role in &pack.definition.ansible_roles {
            let tasks = pack.inside(role)?.join("tasks/main.yml");
            if !tasks.is_file() {
                return Err(Failure::user(
                    format!("Pack `{}` names the role `{role}`, which has no {}", pack.id(), tasks.display()),
                    "a role is a folder of the pack with `tasks/main.yml`",
                ));
            }
        }
        if let Some(name) = &pack.values.base_files
            && !pack.inside(name)?.is_dir()
        {
            return Err(Failure::user(
                format!("`pack.baseFiles` of `{}` is no folder: {name}", pack.id()),
                "name a folder of the pack, or leave the key out",
            ));
        }
        Ok(pack)
    }

    /// `NAME-VERSION`, as the folder is called.
    pub(crate) fn id(&self) -> String {
        self.pack.id()
    }

    /// The path of a file that the pack names; never outside the pack.
    pub(crate) fn inside(&self, name: &str) -> Result<PathBuf> {
        self.pack.inside(name).map_err(failure)
    }

    /// What is in it that can reach an image: all but what is for people, and what building has read already.
    fn contents(&self) -> Result<impl Iterator<Item = (String, Content)>> {
        let contents = self.pack.contents().map_err(failure)?;
        Ok(contents.into_iter().filter(|(name, _)| {
            let is_text = name.starts_with("README") || name.starts_with("logo.");
            !is_text && !["pack.json", "values.yaml", "presets.yaml", "schema.yaml"].contains(&name.as_str())
        }))
    }

    /// What every file is, by its path: for the signature. Of permissions only the executable bit counts.
    pub(crate) fn files(&self) -> Result<BTreeMap<String, String>> {
        self.contents()?
            .map(|(name, content)| {
                let what = match content {
                    Content::Folder => "folder".to_string(),
                    Content::Link(target) => format!("link {target}"),
                    Content::File { executable } => {
                        let sha256 = digest::of_file(&self.pack.dir.join(&name))?.0;
                        if executable { format!("executable {sha256}") } else { sha256 }
                    }
                };
                Ok((name, what))
            })
            .collect()
    }

    /// The digest of what is below a folder of the pack.
    pub(crate) fn digest_of(&self, folder: &str) -> Result<Digest> {
        let mut files = self.files()?;
        files.retain(|name, _| Path::new(name).starts_with(folder));
        digest::of_json(&files)
    }

    /// The digest of the files that are laid over the tree, if there are any.
    pub(crate) fn base_files_digests(&self) -> Result<Option<Digest>> {
        self.values.base_files.as_ref().map(|folder| self.digest_of(folder)).transpose()
    }

    /// Copies what [`files`](Pack::files) covers, and nothing else, to the new folder `to`.
    pub(crate) fn copy(&self, to: &Path) -> Result<()> {
        let copy = |name: &Path, content: &Content| -> std::io::Result<()> {
            let place = to.join(name);
            match content {
                Content::Folder => fs::create_dir(&place)?,
                Content::Link(target) => return symlink(target, &place),
                Content::File { .. } => drop(fs::copy(self.pack.dir.join(name), &place)?),
            }
            let mode = if matches!(content, Content::File { executable: false }) { 0o644 } else { 0o755 };
            fs::set_permissions(&place, fs::Permissions::from_mode(mode))
        };
        fs::create_dir_all(to).with_context(|| format!("Cannot make {}", to.display()))?;
        for (name, content) in self.contents()? {
            copy(Path::new(&name), &content)
                .with_context(|| format!("Cannot copy {name} to {}", to.display()))?;
        }
        Ok(())
    }
}

/// What is wrong with a pack, as the end of a command.
pub(crate) fn failure(error: ::pack::Error) -> anyhow::Error {
    Failure::User { message: error.to_string(), hint: error.hint }.into()
}
