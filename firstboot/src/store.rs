//! What outlives a boot: the values as they were given, and the journal of steps.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::files::{self, FileError};
use crate::property::PROPERTIES;
use crate::status::Source;

/// Where things are. All are below one root, which tests choose.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub(crate) root: PathBuf,
}

impl Paths {
    pub(crate) fn of(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn settings(&self) -> PathBuf {
        self.of("/var/lib/gatewright/firstboot/settings.json")
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.of("/var/lib/gatewright/firstboot/journal.json")
    }

    pub(crate) fn status(&self) -> PathBuf {
        self.of("/run/gatewright/status.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.of("/run/gatewright/firstboot.sock")
    }

    /// Makes the folder of the kept values, and keeps every other process out of them until the lock is dropped.
    pub(crate) fn lock(&self) -> Result<File, FileError> {
        let folder = self.of("/var/lib/gatewright/firstboot");
        files::create_folder(&folder, 0o700, None)?;
        let open = || {
            let file = File::options().create(true).append(true).open(folder.join("lock"))?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|source| FileError::new("lock", &folder, source))
    }
}

/// Values by key, as they were typed. Prints its keys only.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(crate) struct Values(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// `settings.json`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Kept {
    /// What the hypervisor said last.
    pub(crate) ovf: Values,
    /// What `set` said since; a blank clears.
    pub(crate) overrides: Values,
    /// Where `ovf` came from.
    pub(crate) source: Option<Source>,
}

impl Kept {
    /// The values in force.
    pub(crate) fn values(&self) -> Values {
        let mut values = self.ovf.clone();
        values.0.extend(self.overrides.0.clone());
        values
    }

    /// Takes what a document says. A value that is not the one it said before wins over `set`: somebody changed it
    /// since. Gives the keys that are no properties of ours.
    pub(crate) fn take(&mut self, source: Source, properties: BTreeMap<String, String>) -> Vec<String> {
        self.source = Some(source);
        let mut unknown = Vec::new();
        for (key, value) in properties {
            if !PROPERTIES.iter().any(|property| property.key == key) {
                unknown.push(key);
            } else if self.ovf.0.get(&key) != Some(&value) {
                self.overrides.0.remove(&key);
                self.ovf.0.insert(key, value);
            }
        }
        unknown
    }
}

/// `journal.json`: the steps that are done, by name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Journal(pub(crate) BTreeMap<String, Record>);

/// A step that was finished.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Record {
    /// Digest of what it made.
    pub(crate) digest: String,
    /// When, RFC 3339.
    pub(crate) since: String,
}

/// Reads a JSON file of ours; the default where there is none. One that cannot be read (a power cut on a disk that
/// lies about syncing) is put aside with a note: everything is made again from the start.
pub(crate) fn load<T: DeserializeOwned + Default>(
    path: &Path,
    notes: &mut Vec<String>,
) -> Result<T, FileError> {
    let Some(content) = files::read(path)? else { return Ok(T::default()) };
    match serde_json::from_slice(&content) {
        Ok(value) => Ok(value),
        Err(_) => {
            let aside = files::move_aside(path)?;
            notes.push(format!("`{}` was damaged and is now `{}`.", path.display(), aside.display()));
            Ok(T::default())
        }
    }
}

/// Writes a JSON file of ours.
pub(crate) fn save<T: Serialize>(path: &Path, value: &T, mode: u32) -> Result<bool, FileError> {
    let mut text = serde_json::to_vec_pretty(value).expect("maps with text keys are always JSON");
    text.push(b'\n');
    files::write(path, &text, mode, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(list: &[(&str, &str)]) -> BTreeMap<String, String> {
        list.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn a_changed_document_wins_over_set_and_an_unchanged_one_does_not() {
        let mut kept = Kept::default();
        let unknown =
            kept.take(Source::Guestinfo, map(&[("gateway-name", "a"), ("ip-prefix", "24"), ("x", "y")]));
        assert_eq!(unknown, ["x"]);
        kept.overrides = Values(map(&[("gateway-name", "b"), ("ip-prefix", "")]));
        assert_eq!(kept.values().0, map(&[("gateway-name", "b"), ("ip-prefix", "")]));
        kept.take(Source::Cdrom, map(&[("gateway-name", "a"), ("ip-prefix", "25")]));
        assert_eq!(kept.values().0, map(&[("gateway-name", "b"), ("ip-prefix", "25")]));
        // Nothing said, nothing changed.
        kept.take(Source::Cdrom, BTreeMap::new());
        assert_eq!(kept.values().0, map(&[("gateway-name", "b"), ("ip-prefix", "25")]));
    }

    #[test]
    fn damaged_files_are_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.json");
        let mut notes = Vec::new();
        for damage in ["", "{\"a\": {\"dig", "\0\0\0\0", "[]"] {
            std::fs::write(&path, damage).unwrap();
            assert_eq!(load::<Journal>(&path, &mut notes).unwrap(), Journal::default());
            assert_eq!(std::fs::read_to_string(folder.path().join("journal.json.corrupt")).unwrap(), damage);
        }
        assert_eq!(notes.len(), 4);
        let journal = Journal([("a".to_string(), Record { digest: "b".into(), since: "c".into() })].into());
        save(&path, &journal, 0o600).unwrap();
        assert_eq!(load::<Journal>(&path, &mut notes).unwrap(), journal);
    }

    #[test]
    fn values_are_not_printed() {
        let kept = Kept { ovf: Values(map(&[("pairing-code", "482177390515")])), ..Kept::default() };
        assert!(!format!("{kept:?}").contains("4821"));
    }
}
