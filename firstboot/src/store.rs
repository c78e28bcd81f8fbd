//! What outlives a reboot: the values that were given, and the journal of steps.
//!
//! Both are below `/var/lib/gatewright/firstboot`, which only root may enter: they hold secrets. A file that a power
//! cut or a person has broken is put aside and begun again; every step can be done again.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::Timestamp;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::files::{Machine, write_atomic};
use crate::settings::{Raw, given};
use crate::steps::Name;

const FOLDER: &str = "/var/lib/gatewright/firstboot";

/// `settings.json`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Values {
    /// As the hypervisor last gave them.
    pub(crate) ovf: Raw,
    /// As `set` changed them; blank is cleared.
    pub(crate) set: Raw,
    /// Raised with every change, so that who made it can see when it is done.
    pub(crate) revision: u64,
}

impl Values {
    /// What counts: `set` before the hypervisor.
    pub(crate) fn effective(&self) -> Raw {
        let mut all = self.ovf.clone();
        all.extend(self.set.clone());
        all
    }

    /// Takes over what the hypervisor gives at this boot. A value that it changed since the last time is newer than
    /// what `set` made of it. Says whether anything changed.
    pub(crate) fn take_over(&mut self, ovf: Raw) -> bool {
        let value = |raw: &Raw, key: &str| raw.get(key).and_then(|value| given(value)).map(String::from);
        let keys: Vec<_> = ovf.keys().chain(self.ovf.keys()).cloned().collect();
        for key in keys {
            if value(&ovf, &key) != value(&self.ovf, &key) {
                self.set.remove(&key);
            }
        }
        let changed = self.ovf != ovf;
        if changed {
            self.ovf = ovf;
            self.revision += 1;
        }
        changed
    }
}

/// `journal.json`: what came of each step.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub(crate) struct Journal {
    pub(crate) steps: BTreeMap<Name, Entry>,
}

/// The last result of a step.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Entry {
    /// Of what it was done with.
    pub(crate) digest: String,
    pub(crate) at: Timestamp,
}

/// The folder of state, one writer at a time.
#[derive(Debug)]
pub(crate) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(crate) fn open(machine: &Machine) -> Result<Store> {
        use std::os::unix::fs::DirBuilderExt as _;
        let folder = machine.path(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("Cannot make {}", folder.display()))?;
        Ok(Store { folder })
    }

    /// Keeps others out until it is dropped.
    pub(crate) fn lock(&self) -> Result<Flock<File>> {
        let path = self.folder.join("lock");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("Cannot open {}", path.display()))?;
        Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, e)| e)
            .with_context(|| format!("Cannot lock {}", path.display()))
    }

    pub(crate) fn values(&self, notes: &mut Vec<String>) -> Result<Values> {
        self.load("settings.json", notes)
    }

    pub(crate) fn save_values(&self, values: &Values) -> Result<()> {
        self.save("settings.json", values)
    }

    pub(crate) fn journal(&self, notes: &mut Vec<String>) -> Result<Journal> {
        self.load("journal.json", notes)
    }

    pub(crate) fn save_journal(&self, journal: &Journal) -> Result<()> {
        self.save("journal.json", journal)
    }

    fn load<T: DeserializeOwned + Default>(&self, name: &str, notes: &mut Vec<String>) -> Result<T> {
        let path = self.folder.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(T::default()),
            Err(e) => return Err(e).with_context(|| format!("Cannot read {}", path.display())),
        };
        serde_json::from_slice(&bytes).or_else(|e| {
            let aside = self.folder.join(format!("{name}.corrupt"));
            fs::rename(&path, &aside).with_context(|| format!("Cannot put {} aside", path.display()))?;
            notes.push(format!(
                "{name} could not be read ({e}); it was put aside as {} and begun again.",
                aside.display()
            ));
            Ok(T::default())
        })
    }

    fn save(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let path = self.folder.join(name);
        let text = serde_json::to_vec_pretty(value)?;
        write_atomic(&path, 0o600, None, &text).with_context(|| format!("Cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(pairs: &[(&str, &str)]) -> Raw {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn the_newest_word_counts() {
        let mut values = Values::default();
        assert!(values.take_over(raw(&[("gateway-name", "a"), ("ip-address", "x")])));
        values.set = raw(&[("ip-address", "192.0.2.1")]);
        assert_eq!(values.effective()["ip-address"], "192.0.2.1");
        // The same document again, on the next boot: what was set stays.
        assert!(!values.take_over(raw(&[("gateway-name", "a"), ("ip-address", "x")])));
        assert_eq!(values.effective()["ip-address"], "192.0.2.1");
        // Corrected in vSphere after all.
        assert!(values.take_over(raw(&[("gateway-name", "a"), ("ip-address", "192.0.2.2")])));
        assert_eq!(values.effective(), raw(&[("gateway-name", "a"), ("ip-address", "192.0.2.2")]));
        // Another spelling of nothing is no change of the administrator's.
        values.set = raw(&[("gateway-name", "b")]);
        values.take_over(raw(&[("gateway-name", "a"), ("ip-address", "192.0.2.2"), ("no-proxy", "null")]));
        assert_eq!(values.effective()["gateway-name"], "b");
    }

    #[test]
    fn broken_files_are_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&Machine::at(dir.path())).unwrap();
        let values = Values { revision: 7, ..Values::default() };
        store.save_values(&values).unwrap();
        let mut notes = Vec::new();
        assert_eq!(store.values(&mut notes).unwrap(), values);
        for broken in ["", "{\"revision\": 7", "\0\0\0"] {
            fs::write(store.folder.join("settings.json"), broken).unwrap();
            notes.clear();
            assert_eq!(store.values(&mut notes).unwrap(), Values::default());
            assert!(notes[0].contains("settings.json.corrupt"), "{notes:?}");
        }
    }
}
