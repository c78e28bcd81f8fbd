//! What a machine keeps of its console, in one folder that only its owner can read:
//!
//! | file | holds |
//! |---|---|
//! | `pairing.json` | a pairing under way: device key, exchange, handshakes that failed; gone once paired |
//! | `paired.json` | device key and grant |
//! | `clock.json` | the console's clock against ours |
//! | `commands.json` | commands that were begun or done, see [`crate::commands`] |
//! | `spool` | what the console does not know yet, see [`crate::spool`] |
//!
//! Each is written so that it is there whole or as it was before.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::code::Code;
use protocol::device_key::DeviceKey;
use protocol::pairing::machine::{Claimant, Machine};
use protocol::pairing::{Confirm, Grant, Start};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::failure::{Failure, Stage};
use crate::files::{sync_folder, write_atomic};
use crate::spool::{Bounds, Spool};

const PAIRING: &str = "pairing.json";
const PAIRED: &str = "paired.json";
const CLOCK: &str = "clock.json";

/// The folder. Only one process at a time has it open; within it, clones share everything.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
    spool: Spool,
    clock: Arc<Clock>,
    /// Message 1 that was made and has no answer yet. It holds the secret, so it is not on disk.
    begun: Arc<Mutex<Option<(Machine, Start)>>>,
    _lock: Arc<File>,
}

/// A device key, PKCS #8; base64 in the file. It is never shown, and does not stay in memory.
#[derive(Clone)]
struct PrivateKey(Zeroizing<Vec<u8>>);

impl PrivateKey {
    fn of(key: &DeviceKey) -> PrivateKey {
        PrivateKey(Zeroizing::new(key.to_pkcs8().to_vec()))
    }

    /// `None` where the file was tampered with.
    fn pair(&self) -> Option<DeviceKey> {
        DeviceKey::from_pkcs8(&self.0).ok()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Serialize for PrivateKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(&*self.0)))
    }
}

impl<'de> Deserialize<'de> for PrivateKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<PrivateKey, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD.decode(&*text).map_err(|_| de::Error::custom("this is no base64"))?;
        Ok(PrivateKey(Zeroizing::new(bytes)))
    }
}

/// Who a machine is and what it was granted.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Paired {
    key: PrivateKey,
    /// Of the code that it was paired by, as in [`Pending`].
    code: String,
    pub(crate) grant: Grant,
}

impl Paired {
    /// The same machine, granted something newer.
    pub(crate) fn with(self, grant: Grant) -> Paired {
        Paired { grant, ..self }
    }

    pub(crate) fn key(&self) -> Option<DeviceKey> {
        self.key.pair()
    }
}

/// A pairing under way.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Pending {
    key: PrivateKey,
    /// Of the code, keyed with the device key: whether it is still the same code, and nothing else.
    code: String,
    origin: String,
    /// Handshakes with this code whose message 4 failed, or has not come yet.
    pub(crate) failures: u32,
    /// Whether the newest of them has turned out well.
    #[serde(default)]
    pub(crate) proven: bool,
    /// From before message 3 is sent until message 4 is handled.
    pub(crate) exchange: Option<Exchange>,
}

/// After message 2: who proves what to whom, and message 3.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Exchange {
    pub(crate) claimant: Claimant,
    pub(crate) confirm: Confirm,
}

impl Pending {
    pub(crate) fn begin(code: &Code, origin: &str) -> Pending {
        let key = DeviceKey::generate();
        let code = digest(key.to_pkcs8(), code);
        let key = PrivateKey::of(&key);
        Pending { key, code, origin: origin.into(), failures: 0, proven: false, exchange: None }
    }

    pub(crate) fn key(&self) -> Option<DeviceKey> {
        self.key.pair()
    }

    /// What is kept once it is paired.
    pub(crate) fn granted(&self, grant: Grant) -> Paired {
        Paired { key: self.key.clone(), code: self.code.clone(), grant }
    }

    fn is_of(&self, code: &Code, origin: &str) -> bool {
        self.code == digest(&self.key.0, code) && self.origin == origin
    }
}

fn digest(key: &[u8], code: &Code) -> String {
    let code = Sha256::new().chain_update(key).chain_update(code.locator()).chain_update(code.secret());
    code.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Store {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// Where another process has it open, or the disk does not let it be read or written.
    pub fn open(folder: &Path, bounds: Bounds) -> Result<Store, Failure> {
        let disk = |e| Failure::disk(&format!("Cannot open {}", folder.display()), &e);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(disk)?;
        let lock = File::options().create(true).append(true).open(folder.join("lock")).map_err(disk)?;
        lock.try_lock().map_err(|e| {
            let hint = "end that process first";
            Failure::new(Stage::Disk, format!("Another process has {} open ({e}).", folder.display()), hint)
        })?;
        let spool = Spool::open(&folder.join("spool"), bounds).map_err(disk)?;
        let clock = load(&folder.join(CLOCK))?.map_or_else(Clock::default, Clock::from_kept);
        let (clock, begun) = (Arc::new(clock), Arc::default());
        Ok(Store { folder: folder.into(), spool, clock, begun, _lock: Arc::new(lock) })
    }

    /// What waits for the console; there before pairing, too.
    #[must_use]
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The console's clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// What the console has granted, if this machine is paired.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn grant(&self) -> Result<Option<Grant>, Failure> {
        Ok(self.paired()?.map(|paired| paired.grant))
    }

    /// Whether this machine is paired, and by this code with the console of that origin.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn is_paired_by(&self, code: &Code, origin: &str) -> Result<bool, Failure> {
        let paired = self.paired()?;
        Ok(paired.is_some_and(|it| it.code == digest(&it.key.0, code) && it.grant.origin == origin))
    }

    /// Forgets the pairing, done or under way; what waits for a console stays.
    ///
    /// # Errors
    /// Where the disk does not let it.
    pub fn forget(&self) -> Result<(), Failure> {
        self.remove(PAIRED)?;
        self.remove(PAIRING)
    }

    pub(crate) fn paired(&self) -> Result<Option<Paired>, Failure> {
        load(&self.folder.join(PAIRED))
    }

    pub(crate) fn save_paired(&self, paired: &Paired) -> Result<(), Failure> {
        self.save(PAIRED, paired)
    }

    /// The pairing with this code that was begun before, or a new one; on disk, so that its key stays the same.
    pub(crate) fn pending(&self, code: &Code, origin: &str) -> Result<Pending, Failure> {
        let kept: Option<Pending> = load(&self.folder.join(PAIRING))?;
        if let Some(kept) = kept.filter(|pending| pending.is_of(code, origin) && pending.key().is_some()) {
            return Ok(kept);
        }
        let new = Pending::begin(code, origin);
        self.save_pending(&new)?;
        Ok(new)
    }

    /// Message 1: the one that has no answer yet, because the same again costs no second attempt, or a new one. A key is made
    /// for one code and origin, so it tells which message is theirs.
    pub(crate) fn begin(&self, code: &Code, origin: &str, key: &DeviceKey) -> Start {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = match begun.take().filter(|(_, start)| start.device_key.0 == key.public()) {
            Some(before) => begun.insert(before),
            None => begun.insert(Machine::start(code, origin, key.public())),
        };
        begun.1.clone()
    }

    /// Who takes the answer to the message of [`Store::begin`].
    pub(crate) fn begun(&self) -> Option<Machine> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).take().map(|(machine, _)| machine)
    }

    pub(crate) fn save_pending(&self, pending: &Pending) -> Result<(), Failure> {
        self.save(PAIRING, pending)
    }

    pub(crate) fn end_pending(&self) -> Result<(), Failure> {
        self.remove(PAIRING)
    }

    /// Takes the console's time.
    pub(crate) fn learn_time(&self, console: jiff::Timestamp) -> Result<(), Failure> {
        if self.clock.learn(console) { self.save(CLOCK, &self.clock.to_kept()) } else { Ok(()) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn save(&self, name: &str, value: &impl Serialize) -> Result<(), Failure> {
        let path = self.folder.join(name);
        let json = Zeroizing::new(
            serde_json::to_vec(value)
                .expect("the keys of these types are strings, and nothing in them fails"),
        );
        write_atomic(&path, &json).map_err(|e| Failure::disk(&format!("Cannot write {}", path.display()), &e))
    }

    fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
            result => result.and_then(|()| sync_folder(&path)),
        }
        .map_err(|e| Failure::disk(&format!("Cannot remove {}", path.display()), &e))
    }
}

/// What a file holds; nothing where there is none. One that cannot be understood is put aside: it was written whole, so
/// the disk has damaged it, and pairing anew mends that.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    let bytes = match fs::read(path) {
        Ok(bytes) => Zeroizing::new(bytes),
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Failure::disk(&format!("Cannot read {}", path.display()), &e)),
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Ok(Some(value)),
        Err(_) => fs::rename(path, path.with_extension("corrupt"))
            .map(|()| None)
            .map_err(|e| Failure::disk(&format!("Cannot put {} aside", path.display()), &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_whole_and_not_shown() {
        let code = Code::new("4821", "7739051").unwrap();
        let pending = Pending::begin(&code, "https://console.test");
        let kept = serde_json::to_string(&pending).unwrap();
        let base64 = STANDARD.encode(pending.key().unwrap().to_pkcs8());
        assert!(kept.contains(&base64));
        let read: Pending = serde_json::from_str(&kept).unwrap();
        assert_eq!(read.key().unwrap().public(), pending.key().unwrap().public());
        let shown = format!("{read:?}");
        assert!(!shown.contains(&base64) && shown.contains("key: (secret)"), "{shown}");
    }
}
