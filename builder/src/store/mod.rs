//! The store: finished images by signature.
//!
//! ```text
//! STORE/                     images-v1/ of the cache, or `--store`
//! ├── SIGNATURE/             64 hexadecimal digits
//! │   ├── image.json         what it is, what it was made of; written last
//! │   └── NAME-….ova, …      outputs
//! ├── locks/SIGNATURE        flock: the same image is built once, whoever asks
//! └── set-aside/SIGNATURE-N/ what was found broken
//! ```
//!
//! What leaves the store is verified against the digests of `image.json`.

pub(crate) mod commands;
mod gc;
pub(crate) mod remote;

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::cache::write_atomic;
use crate::digest::{self, Digest};
use crate::error::Failure;
use crate::image::OutputKind;
use crate::progress::Printer;
use crate::signals;

const RECORD: &str = "image.json";

/// A store in a folder.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// `image.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    pub(crate) name: String,
    pub(crate) signature: Digest,
    /// When it was built; for people, and for `image gc`.
    pub(crate) built: jiff::Timestamp,
    /// Keys of the layers in the cache of whoever built it.
    pub(crate) layers: Vec<Digest>,
    pub(crate) outputs: Vec<Stored>,
    /// What the signature is over.
    pub(crate) inputs: Value,
}

/// A file of an image.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    pub(crate) kind: OutputKind,
    /// Its name, no path.
    pub(crate) file: String,
    /// In bytes.
    pub(crate) size: u64,
    pub(crate) sha256: Digest,
    /// By whom it is signed: the digest of a signature that only this signer makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) signed_by: Option<Digest>,
}

impl Stored {
    pub(crate) fn summary(&self) -> String {
        let signed = if self.signed_by.is_some() { " signed" } else { "" };
        format!("{}{signed}, {:.1} MB", self.kind.name(), self.size as f64 / 1e6)
    }
}

impl Record {
    pub(crate) fn new(name: &str, signature: &str, inputs: Value) -> Record {
        Record {
            version: 1,
            name: name.into(),
            signature: signature.into(),
            built: jiff::Timestamp::now(),
            layers: Vec::new(),
            outputs: Vec::new(),
            inputs,
        }
    }

    /// The output of a kind and signer, if it is there.
    pub(crate) fn output(&self, kind: OutputKind, signed_by: Option<&str>) -> Option<&Stored> {
        self.outputs.iter().find(|output| output.kind == kind && output.signed_by.as_deref() == signed_by)
    }

    /// Of all outputs, in bytes.
    fn size(&self) -> u64 {
        self.outputs.iter().map(|output| output.size).sum()
    }

    /// What a record from elsewhere must be to be believed: its names are names and its inputs have its signature.
    fn check(&self, signature: &str) -> Result<()> {
        anyhow::ensure!(self.version == 1, "its record has version {}", self.version);
        anyhow::ensure!(
            self.signature == signature && crate::signature::of(&self.inputs)? == signature,
            "its record is of another signature"
        );
        for output in &self.outputs {
            let mut parts = Path::new(&output.file).components();
            let is_name =
                matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None));
            anyhow::ensure!(is_name && output.file != RECORD, "`{}` is no name of an output", output.file);
        }
        Ok(())
    }
}

impl Store {
    /// A store in `root`, which need not be there yet.
    pub(crate) fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// The folder of an image.
    pub(crate) fn dir(&self, signature: &str) -> PathBuf {
        self.root.join(signature)
    }

    /// Whether there is an image: one that is being built, or whose build was killed, is none.
    pub(crate) fn has(&self, signature: &str) -> bool {
        self.dir(signature).join(RECORD).exists()
    }

    /// An image's record, if it is there and whole.
    pub(crate) fn get(&self, signature: &str) -> Option<Record> {
        let text = fs::read(self.dir(signature).join(RECORD)).ok()?;
        let record: Record = serde_json::from_slice(&text).ok()?;
        record.check(signature).is_ok().then_some(record)
    }

    /// All images, the newest first.
    pub(crate) fn list(&self) -> Result<Vec<Record>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e).with_context(|| format!("Cannot list {}", self.root.display())),
        };
        let mut records: Vec<Record> = entries
            .flatten()
            .filter(|entry| entry.file_name().len() == 64)
            .filter_map(|entry| self.get(&entry.file_name().to_string_lossy()))
            .collect();
        records.sort_by(|a, b| (b.built, &b.signature).cmp(&(a.built, &a.signature)));
        Ok(records)
    }

    /// The image whose signature begins with `prefix`.
    pub(crate) fn find(&self, prefix: &str) -> Result<Record> {
        let mut found: Vec<Record> =
            self.list()?.into_iter().filter(|record| record.signature.starts_with(prefix)).collect();
        match (found.pop(), found.len()) {
            (Some(record), 0) => Ok(record),
            (None, _) => Err(Failure::user(
                format!("The store has no image `{prefix}`: {}", self.root.display()),
                "`gatewright image list` shows what it has",
            )),
            (_, more) => Err(Failure::user(
                format!("{} images begin with `{prefix}`", more + 1),
                "give more of the signature",
            )),
        }
    }

    /// Holds an image for whoever builds it; waits while another does.
    pub(crate) fn hold(&self, signature: &str, printer: &Printer) -> Result<Flock<File>> {
        let path = self.root.join("locks").join(signature);
        fs::create_dir_all(self.root.join("locks")).map_err(|e| {
            Failure::user(
                format!("Cannot make the store {}: {e}", self.root.display()),
                "name a folder you can write to with `--store`",
            )
        })?;
        let mut told = false;
        let mut file = File::create(&path).with_context(|| format!("Cannot open {}", path.display()))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((back, nix::Error::EWOULDBLOCK)) => file = back,
                Err((_, e)) => return Err(e).with_context(|| format!("Cannot lock {}", path.display())),
            }
            if !told {
                printer.note("Waiting for another gatewright that builds the same image");
                told = true;
            }
            if let Some(signal) = signals::received() {
                return Err(Failure::Interrupted { signal }.into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Writes an image's record, after its outputs.
    pub(crate) fn put(&self, record: &Record) -> Result<()> {
        write_atomic(&self.dir(&record.signature).join(RECORD), &serde_json::to_vec_pretty(record)?)
    }

    /// Copies an output to `to` and verifies it on the way. `false`: what the store has is not what it should be.
    pub(crate) fn copy_out(&self, record: &Record, output: &Stored, to: &Path) -> Result<bool> {
        let from = self.dir(&record.signature).join(&output.file);
        let Ok(mut from) = File::open(&from) else { return Ok(false) };
        let mut file = crate::convert::new_file(to, true)?;
        let out = file.as_file_mut();
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        let mut size = 0;
        loop {
            let n = from.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            hasher.update(&buffer[..n]);
            size += n as u64;
            // Zeros stay holes: a raw disk is mostly these.
            if buffer[..n].iter().all(|byte| *byte == 0) {
                out.seek(SeekFrom::Start(size))?;
            } else {
                out.write_all(&buffer[..n])?;
            }
            crate::build::check_interrupted()?;
        }
        if size != output.size || digest::hex(&hasher.finalize()) != output.sha256 {
            return Ok(false);
        }
        out.set_len(size)?;
        out.sync_all()?;
        file.persist(to).with_context(|| format!("Cannot write {}", to.display()))?;
        Ok(true)
    }

    /// Takes a broken image out of the way, for whoever wants to know what happened to it. Returns where it is.
    pub(crate) fn set_aside(&self, signature: &str) -> Result<PathBuf> {
        let aside = self.root.join("set-aside");
        fs::create_dir_all(&aside)?;
        let mut n = 1;
        let place = loop {
            let place = aside.join(format!("{signature}-{n}"));
            if !place.exists() {
                break place;
            }
            n += 1;
        };
        match fs::rename(self.dir(signature), &place) {
            // Somebody else saw it, too.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(place),
            Err(e) => Err(e).with_context(|| format!("Cannot move {} aside", self.dir(signature).display())),
            Ok(()) => Ok(place),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn store_with_an_image() -> (tempfile::TempDir, Store, Record) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("store"));
        let inputs = json!({"a": 1});
        let mut record = Record::new("x", &crate::signature::of(&inputs).unwrap(), inputs);
        let content = [vec![0; 3 << 20], vec![7; 10]].concat();
        fs::create_dir_all(store.dir(&record.signature)).unwrap();
        fs::write(store.dir(&record.signature).join("x.raw"), &content).unwrap();
        record.outputs.push(Stored {
            kind: OutputKind::Raw,
            file: "x.raw".into(),
            size: content.len() as u64,
            sha256: digest::hex(&Sha256::digest(&content)),
            signed_by: None,
        });
        store.put(&record).unwrap();
        (dir, store, record)
    }

    #[test]
    fn what_is_put_is_found() {
        let (dir, store, record) = store_with_an_image();
        assert_eq!(store.get(&record.signature).unwrap().outputs.len(), 1);
        assert_eq!(store.find(&record.signature[..6]).unwrap().name, "x");
        assert!(store.find("zz").unwrap_err().to_string().contains("has no image `zz`"));
        assert!(record.output(OutputKind::Ova, None).is_none());
        assert!(record.output(OutputKind::Raw, Some("signer")).is_none());
        let to = dir.path().join("out.raw");
        assert!(store.copy_out(&record, record.output(OutputKind::Raw, None).unwrap(), &to).unwrap());
        assert_eq!(digest::of_file(&to).unwrap(), (record.outputs[0].sha256.clone(), (3 << 20) + 10));
        use std::os::unix::fs::MetadataExt as _;
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "zeros are holes");
    }

    #[test]
    fn what_is_broken_is_noticed() {
        let (dir, store, record) = store_with_an_image();
        let to = dir.path().join("out.raw");
        let file = store.dir(&record.signature).join("x.raw");
        let mut content = fs::read(&file).unwrap();
        content[9] ^= 1;
        fs::write(&file, content).unwrap();
        assert!(!store.copy_out(&record, &record.outputs[0], &to).unwrap());
        assert!(!to.exists());
        let first = store.set_aside(&record.signature).unwrap();
        assert!(first.join("x.raw").exists() && store.get(&record.signature).is_none());

        // A record that was changed, or names a file elsewhere, is none.
        let (_dir, store, record) = store_with_an_image();
        let mut other = record.clone();
        other.inputs = json!({"a": 2});
        store.put(&other).unwrap();
        assert!(store.get(&record.signature).is_none());
        let mut other = record.clone();
        other.outputs[0].file = "../x.raw".into();
        store.put(&other).unwrap();
        assert!(store.get(&record.signature).is_none());
    }
}
