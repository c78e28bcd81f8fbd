//! One pack, read from its folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use crate::definition::Definition;
use crate::document::{self, Data, Node, SyntaxError};
use crate::error::Error;
use crate::presets::{self, Preset};
use crate::schema::Schema;

/// A pack and what it says about itself.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Its folder.
    pub dir: PathBuf,
    /// `pack.json`.
    pub definition: Definition,
    /// `values.yaml` as it is written: a map or null.
    pub values: Node,
    /// The presets that the first line of `values.yaml` says are enabled, as `GROUP:NAME` or `NAME`.
    pub enabled_presets: Vec<String>,
    /// `presets.yaml`.
    pub presets: Vec<Preset>,
    /// `schema.yaml`.
    pub schema: Schema,
}

/// One thing in a pack's folder, as far as it can reach an image: of permissions only whether a file can be run, as git
/// keeps them, so that the umask of a checkout decides nothing.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub enum Content {
    /// A folder.
    Folder,
    /// A file.
    File {
        /// Whether anybody may run it.
        executable: bool,
    },
    /// A symbolic link with its target as it is written.
    Link(String),
}

impl Pack {
    /// Reads the pack in the folder `dir`.
    ///
    /// # Errors
    /// When a file of the format is missing or wrong, or a role has no `tasks/main.yml`; the first of them.
    pub fn read(dir: &Path) -> Result<Pack, Error> {
        let file = dir.join("pack.json");
        let text = text_of(&file)?.ok_or_else(|| missing(&file, "a pack is a folder with a `pack.json`"))?;
        let definition = Definition::read(&file, &parsed(&file, document::parse_json(&text))?)?;

        let file = dir.join("values.yaml");
        let text =
            text_of(&file)?.ok_or_else(|| missing(&file, "a pack needs a `values.yaml`; it may be empty"))?;
        let values = parsed(&file, document::parse_yaml(&text))?;
        if !matches!(values.data, Data::Null | Data::Map(_)) {
            let error = Error::new("the values are no map", "write `KEY: VALUE` lines, or nothing");
            return Err(error.at(&file, values.place));
        }

        let optional = |name: &str| {
            let file = dir.join(name);
            text_of(&file)?
                .map(|text| Ok((file.clone(), parsed(&file, document::parse_yaml(&text))?)))
                .transpose()
        };
        let pack = Pack {
            dir: dir.to_path_buf(),
            definition,
            values,
            enabled_presets: presets::enabled(&text),
            presets: match optional("presets.yaml")? {
                Some((file, node)) => presets::read(&file, &node)?,
                None => Vec::new(),
            },
            schema: match optional("schema.yaml")? {
                Some((file, node)) => Schema::read(&file, &node)?,
                None => Schema::default(),
            },
        };
        for role in &pack.definition.ansible_roles {
            let tasks = pack.inside(role)?.join("tasks/main.yml");
            if !tasks.is_file() {
                let message = format!("the role `{role}` has no `{role}/tasks/main.yml`");
                let hint = "a role is a folder of the pack with `tasks/main.yml`";
                return Err(Error { file: Some(dir.join("pack.json")), ..Error::new(message, hint) });
            }
        }
        Ok(pack)
    }

    /// `NAME-VERSION`, as the folder is called.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}-{}", self.definition.name, self.definition.version)
    }

    /// The path of a file that the pack names; it need not exist.
    ///
    /// # Errors
    /// When it is outside of the pack, by its name or by a link.
    pub fn inside(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.dir.join(name);
        let plain =
            !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        // What does not exist has no links to follow.
        let real = || Some(path.canonicalize().ok()?.starts_with(self.dir.canonicalize().ok()?));
        if !plain || real() == Some(false) {
            let message = format!("`{name}` is not a path inside the pack");
            let hint = "name files relative to the pack's folder, without `..` and links to elsewhere";
            return Err(Error { file: Some(self.dir.clone()), ..Error::new(message, hint) });
        }
        Ok(path)
    }

    /// Everything in the folder, by its path with `/` between the parts, sorted.
    ///
    /// # Errors
    /// When something cannot be read, is neither file, folder nor link, or has a name that is not UTF-8.
    pub fn contents(&self) -> Result<BTreeMap<String, Content>, Error> {
        let mut all = BTreeMap::new();
        for entry in walkdir::WalkDir::new(&self.dir).min_depth(1) {
            let entry = entry.map_err(|e| Error {
                file: Some(self.dir.clone()),
                place: None,
                message: e.to_string(),
                hint: None,
            })?;
            let path = entry.path();
            let wrong =
                |message: &str, hint| Error { file: Some(path.to_path_buf()), ..Error::new(message, hint) };
            let utf8 = |path: &Path| {
                path.to_str().map(str::to_string).ok_or_else(|| wrong("the name is not UTF-8", "rename it"))
            };
            let kind = entry.file_type();
            let content = if kind.is_symlink() {
                Content::Link(utf8(&fs::read_link(path).map_err(|e| Error::io(path, &e))?)?)
            } else if kind.is_dir() {
                Content::Folder
            } else if kind.is_file() {
                let mode = entry.metadata().map_err(|e| Error::io(path, &e.into()))?.permissions().mode();
                Content::File { executable: mode & 0o111 != 0 }
            } else {
                return Err(wrong("this is neither file, folder nor link", "remove it from the pack"));
            };
            all.insert(utf8(path.strip_prefix(&self.dir).expect("walkdir stays below its root"))?, content);
        }
        Ok(all)
    }
}

/// The text of a file, if there is one.
fn text_of(file: &Path) -> Result<Option<String>, Error> {
    let mut text = String::new();
    let opened = match File::open(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened,
    };
    // One byte more than a document may have, so that a longer one is refused and not cut.
    opened
        .and_then(|opened| opened.take(document::MAX_SIZE as u64 + 1).read_to_string(&mut text))
        .map_err(|e| Error::io(file, &e))?;
    Ok(Some(text))
}

fn missing(file: &Path, hint: &str) -> Error {
    Error { file: Some(file.to_path_buf()), ..Error::new("there is no such file", hint) }
}

fn parsed(file: &Path, result: Result<Node, SyntaxError>) -> Result<Node, Error> {
    result.map_err(|e| Error::syntax(file, e))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::testing::{folder, read};

    #[test]
    fn files_of_the_format_are_read() {
        let files = [
            ("values.yaml", "# spectrocloud.com/enabled-presets: Kube Scheduler:loopback, plain\na: 1\n"),
            ("presets.yaml", "presets: [{name: loopback, group: Kube Scheduler}]"),
            ("schema.yaml", "a: {schema: '{{ required }}'}"),
        ];
        let pack = read(&files).unwrap();
        assert_eq!(pack.id(), "a-1.0.0");
        assert_eq!(pack.enabled_presets, ["Kube Scheduler:loopback", "plain"]);
        assert_eq!((pack.presets.len(), pack.schema.rules.len()), (1, 1));
    }

    #[test]
    fn wrong_files_are_told() {
        let cases = [
            (
                "values.yaml",
                "- 1",
                "values.yaml:1:1: the values are no map (write `KEY: VALUE` lines, or nothing)",
            ),
            (
                "values.yaml",
                "a: 1\nb: {{ .spectro.var.x }}\n",
                "values.yaml:2:5: a key must be a text (a value that begins with `{{` needs quotes: \"{{ ... }}\")",
            ),
            ("values.yaml", "a: 1\na: 2\n", "values.yaml:2:1: the key is there twice: `a`"),
        ];
        for (name, text, expected) in cases {
            assert_eq!(read(&[(name, text)]).unwrap_err(), expected);
        }
        let dir = folder(&[]);
        fs::remove_file(dir.path().join("values.yaml")).unwrap();
        let error = Pack::read(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("values.yaml: there is no such file"), "{error}");
        fs::write(dir.path().join("values.yaml"), [0xff]).unwrap();
        let error = Pack::read(dir.path()).unwrap_err();
        assert!(error.to_string().ends_with("stream did not contain valid UTF-8"), "{error}");
    }

    #[test]
    fn named_files_are_inside() {
        let dir = folder(&[("files/a", "")]);
        let outside = tempfile::tempdir().unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("files", dir.path().join("in")).unwrap();
        let pack = Pack::read(dir.path()).unwrap();
        for name in ["files/a", "in/a", "absent/file"] {
            assert_eq!(pack.inside(name).unwrap(), dir.path().join(name));
        }
        for name in ["", "..", "files/../../x", "/etc/passwd", "./files", "out"] {
            assert!(pack.inside(name).is_err(), "{name}");
        }
    }

    #[test]
    fn contents_are_all_of_the_folder() {
        let dir = folder(&[("README.md", ""), ("files/run", "")]);
        fs::set_permissions(dir.path().join("files/run"), fs::Permissions::from_mode(0o711)).unwrap();
        symlink("/dev/null", dir.path().join("files/link")).unwrap();
        let file = |executable| Content::File { executable };
        let expected = [
            ("README.md", file(false)),
            ("files", Content::Folder),
            ("files/link", Content::Link("/dev/null".into())),
            ("files/run", file(true)),
            ("pack.json", file(false)),
            ("values.yaml", file(false)),
        ];
        let contents = Pack::read(dir.path()).unwrap().contents().unwrap();
        assert_eq!(contents, expected.map(|(name, content)| (name.to_string(), content)).into());

        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        let error = Pack::read(dir.path()).unwrap().contents().unwrap_err();
        assert!(error.to_string().ends_with("/pipe: this is neither file, folder nor link"), "{error}");
    }
}
