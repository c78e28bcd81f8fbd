//! What has happened and the console does not know yet: a bounded queue on disk.
//!
//! ```text
//! header    {"spool":"0198…","before":41}             numbers of this file begin after 41
//! entry     {"sequence":42,"time":…,"kind":"event",…}
//! stored    {"acknowledged":42}                       the console has it
//! entry     {"sequence":43,"kind":"dropped","count":7}  no longer the next number, but one that is there: it stands for
//!                                                     all up to it, which were dropped to make room
//! ```
//!
//! Each line begins with a digest of its rest. An entry is on disk before [`Spool::push`] returns, and is sent only then.
//! So a last line without an end was never sent, and its number is free; whatever else cannot be read raises doubt about
//! what was sent, and the rest goes on in a new spool: some entries may then come twice, and no number means two things.
//! The file is written anew when most of it is past.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use protocol::link::{Body, Entry, MAX_ENTRIES, MAX_TEXT};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::files::write_atomic;

/// How much a spool holds.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of entries as they are kept.
    pub bytes: u64,
    /// Entries.
    pub entries: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { bytes: 4 << 20, entries: 10_000 }
    }
}

/// A spool that threads share. Only one process may have it open; see [`crate::Store::open`].
#[derive(Clone, Debug)]
pub struct Spool {
    inner: Arc<Mutex<Inner>>,
    pushed: Arc<Notify>,
}

/// What is to be sent next.
#[derive(Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) spool: Uuid,
    pub(crate) entries: Vec<Entry>,
}

/// Bytes of entries in one message; the rest of [`protocol::link::MAX_MESSAGE`] is for the heartbeat.
const MAX_BATCH: u64 = 192 * 1024;
/// Past lines that are not worth writing the file anew.
const SLACK: u64 = 64 * 1024;
/// Digits of a line's digest: 64 bits find what a disk does.
const DIGEST: usize = 16;

impl Spool {
    /// Opens or begins the spool in a file.
    ///
    /// # Errors
    /// Where the file cannot be read, or not be put aside when its content is damaged.
    pub(crate) fn open(path: &Path, bounds: Bounds) -> io::Result<Spool> {
        let inner = Inner::open(path, bounds)?;
        Ok(Spool { inner: Arc::new(Mutex::new(inner)), pushed: Arc::default() })
    }

    /// Adds an entry with the time of now. When this returns it is on disk, and stays there until the console has it, or
    /// newer ones need the room. Texts longer than the protocol takes are cut.
    ///
    /// # Errors
    /// Where it cannot be written; the spool is as it was.
    pub fn push(&self, mut body: Body) -> io::Result<()> {
        cut(&mut body);
        self.lock().push(body)?;
        self.pushed.notify_one();
        Ok(())
    }

    /// How many entries wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.lock().slots.len()
    }

    /// Returns when something was pushed since it last returned.
    pub(crate) async fn pushed(&self) {
        self.pushed.notified().await;
    }

    /// Its id, and the number of the last entry.
    pub(crate) fn position(&self) -> (Uuid, u64) {
        let inner = self.lock();
        (inner.id, inner.last)
    }

    /// Whether the entry that was the last at some [`Spool::position`] is still to be sent.
    pub(crate) fn waits(&self, (id, sequence): (Uuid, u64)) -> bool {
        let inner = self.lock();
        inner.id == id && sequence >= inner.first()
    }

    /// The oldest entries, as many as a message takes.
    pub(crate) fn batch(&self) -> io::Result<Batch> {
        self.lock().batch()
    }

    /// Forgets what the console has stored of the spool `id`.
    pub(crate) fn acknowledge(&self, id: Uuid, sequence: u64) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.id != id { Ok(()) } else { inner.acknowledge(sequence) }
    }

    /// Begins a new one with what waits, numbered from 1: for a console that knows nothing of the old one's numbers.
    pub(crate) fn begin_anew(&self) -> io::Result<()> {
        self.lock().rewrite(Uuid::now_v7(), 0)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    bounds: Bounds,
    file: File,
    /// Of the file, in bytes.
    length: u64,
    id: Uuid,
    /// Of the newest entry, sent or not, there or not.
    last: u64,
    /// What waits, oldest first; its numbers are consecutive and end with `last`.
    slots: VecDeque<Slot>,
    /// Of all slots, in bytes.
    live: u64,
    /// How many the oldest slot stands for, where that is a `Dropped`.
    dropped: u64,
}

/// Where an entry's line is: they stay on disk, a full spool would take too much memory.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    length: u32,
}

#[derive(Debug, Deserialize, Serialize)]
struct Header {
    spool: Uuid,
    before: u64,
}

#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    acknowledged: u64,
}

impl Inner {
    fn open(path: &Path, bounds: Bounds) -> io::Result<Inner> {
        let mut bytes = Vec::new();
        match File::open(path) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| ())?,
            Err(e) if e.kind() == ErrorKind::NotFound => return Inner::begin(path, bounds),
            Err(e) => return Err(e),
        }
        // A line whose end is missing was being written when the power went.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let file = writable(path)?;
        let mut inner = Inner::empty(path, bounds, file);
        // Whole but for its end: that is damage, it may have been sent.
        let doubtful = is_line(&bytes[whole..]);
        if !doubtful && inner.replay(&bytes[..whole]).is_some() {
            if whole < bytes.len() {
                inner.file.set_len(inner.length)?;
                inner.file.sync_data()?;
            }
            return Ok(inner);
        }
        fs::rename(path, path.with_extension("corrupt"))?;
        let mut inner = Inner::begin(path, bounds)?;
        inner.salvage(&bytes)?;
        Ok(inner)
    }

    fn empty(path: &Path, bounds: Bounds, file: File) -> Inner {
        let slots = VecDeque::new();
        let path = path.to_owned();
        Inner { path, bounds, file, length: 0, id: Uuid::nil(), last: 0, slots, live: 0, dropped: 0 }
    }

    fn begin(path: &Path, bounds: Bounds) -> io::Result<Inner> {
        let header = line(&Header { spool: Uuid::now_v7(), before: 0 });
        write_atomic(path, header.as_bytes())?;
        let mut inner = Inner::empty(path, bounds, writable(path)?);
        inner.replay(header.as_bytes()).expect("a header was just written");
        Ok(inner)
    }

    /// Takes the lines of a file; `None` where they are not as this module writes them.
    fn replay(&mut self, bytes: &[u8]) -> Option<()> {
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            let json = content(text)?;
            let slot = Slot { offset: self.length, length: u32::try_from(text.len()).ok()? };
            if self.length == 0 {
                let header: Header = serde_json::from_slice(json).ok()?;
                (self.id, self.last) = (header.spool, header.before);
            } else if let Ok(stored) = serde_json::from_slice::<Stored>(json) {
                self.forget(stored.acknowledged);
            } else {
                let entry: Entry = serde_json::from_slice(json).ok()?;
                let dropped = if let Body::Dropped { count } = entry.body { count } else { 0 };
                match entry.sequence {
                    next if next == self.last + 1 => self.take(slot, dropped),
                    known if known <= self.last && dropped > 0 => self.replace(known, slot, dropped)?,
                    _ => return None,
                }
            }
            self.length += u64::from(slot.length);
        }
        (self.length > 0).then_some(())
    }

    /// Takes along what can still be read of a damaged file.
    fn salvage(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stored = 0;
        let mut entries: VecDeque<Entry> = VecDeque::new();
        let mut unreadable = 0;
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            let Some(json) = content(text) else {
                unreadable += 1;
                continue;
            };
            if let Ok(line) = serde_json::from_slice::<Stored>(json) {
                stored = stored.max(line.acknowledged);
            } else if let Ok(entry) = serde_json::from_slice::<Entry>(json) {
                if matches!(entry.body, Body::Dropped { .. }) {
                    entries.retain(|known| known.sequence > entry.sequence);
                }
                entries.push_back(entry);
            }
        }
        entries.retain(|entry| entry.sequence > stored);
        let mut text = String::new();
        if unreadable > 0 {
            let body = Body::Dropped { count: unreadable };
            entries.push_front(Entry { sequence: 0, time: Timestamp::now(), body });
        }
        let mut slots = Vec::new();
        for (entry, sequence) in entries.iter_mut().zip(self.last + 1..) {
            entry.sequence = sequence;
            let line = line(entry);
            let dropped = if let Body::Dropped { count } = entry.body { count } else { 0 };
            slots.push((text.len() as u64, line.len(), dropped));
            text.push_str(&line);
        }
        let begin = self.append(&text)?;
        for (offset, length, dropped) in slots {
            self.take(Slot { offset: begin + offset, length: length as u32 }, dropped);
        }
        Ok(())
    }

    fn push(&mut self, body: Body) -> io::Result<()> {
        let time = Timestamp::now();
        let entry = line(&Entry { sequence: self.last + 1, time, body });
        let mut text = String::new();
        let excess = self.excess(entry.len() as u64);
        let mut note = None;
        if excess > 0 {
            // The note takes the place of the newest one that it stands for. Those that an older note stands for are in it.
            let older = if self.dropped > 0 { self.dropped + excess as u64 - 1 } else { excess as u64 };
            let sequence = self.first() + excess as u64 - 1;
            let body = Body::Dropped { count: older };
            text = line(&Entry { sequence, time, body });
            note = Some((sequence, older, text.len()));
        }
        let note_length = text.len() as u64;
        text.push_str(&entry);
        let begin = self.append(&text)?;
        if let Some((sequence, count, length)) = note {
            let slot = Slot { offset: begin, length: length as u32 };
            self.replace(sequence, slot, count).expect("it is one of those that wait");
        }
        self.take(Slot { offset: begin + note_length, length: entry.len() as u32 }, 0);
        self.compact()
    }

    /// How many of the oldest go to make room for a line of `length` bytes and for the note that takes their place.
    fn excess(&self, length: u64) -> usize {
        const NOTE: u64 = 160;
        let fits =
            |count: usize, bytes: u64| count < self.bounds.entries && bytes + length <= self.bounds.bytes;
        if fits(self.slots.len(), self.live) {
            return 0;
        }
        let (mut count, mut bytes) = (self.slots.len(), self.live);
        let mut gone = 0;
        for slot in &self.slots {
            gone += 1;
            count -= 1;
            bytes -= u64::from(slot.length);
            if fits(count + 1, bytes + NOTE) {
                break;
            }
        }
        gone
    }

    fn first(&self) -> u64 {
        self.last + 1 - self.slots.len() as u64
    }

    fn take(&mut self, slot: Slot, dropped: u64) {
        self.last += 1;
        if self.slots.is_empty() {
            self.dropped = dropped;
        }
        self.live += u64::from(slot.length);
        self.slots.push_back(slot);
    }

    /// Puts a note in the place of the waiting entry `sequence` and of all before it.
    fn replace(&mut self, sequence: u64, note: Slot, count: u64) -> Option<()> {
        if sequence < self.first() || sequence > self.last {
            return None;
        }
        self.forget(sequence);
        self.live += u64::from(note.length);
        self.slots.push_front(note);
        self.dropped = count;
        Some(())
    }

    fn forget(&mut self, sequence: u64) {
        while !self.slots.is_empty() && self.first() <= sequence {
            let slot = self.slots.pop_front().expect("it is not empty");
            self.live -= u64::from(slot.length);
            self.dropped = 0;
        }
    }

    fn acknowledge(&mut self, sequence: u64) -> io::Result<()> {
        if sequence > self.last {
            // The console has numbers that this disk has lost: what they stand for is not what would get them next.
            return self.rewrite(Uuid::now_v7(), 0);
        }
        if sequence < self.first() {
            return Ok(());
        }
        // Not synced: whoever loses it sends these entries again, and the console knows them.
        let written = self.write(&line(&Stored { acknowledged: sequence }));
        self.forget(sequence);
        written.and_then(|()| self.compact())
    }

    fn batch(&self) -> io::Result<Batch> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        for slot in self.slots.iter().take(MAX_ENTRIES) {
            bytes += u64::from(slot.length);
            if bytes > MAX_BATCH && !entries.is_empty() {
                break;
            }
            entries.push(self.read(*slot)?);
        }
        Ok(Batch { spool: self.id, entries })
    }

    fn read(&self, slot: Slot) -> io::Result<Entry> {
        let mut text = vec![0; slot.length as usize];
        self.file.read_exact_at(&mut text, slot.offset)?;
        content(&text)
            .and_then(|json| serde_json::from_slice(json).ok())
            .ok_or_else(|| io::Error::other("the disk does not give back what was written"))
    }

    /// Writes lines at the end and sees them to the disk; where they begin.
    fn append(&mut self, text: &str) -> io::Result<u64> {
        let begin = self.length;
        self.write(text)?;
        if let Err(e) = self.file.sync_data() {
            self.shorten(begin);
            return Err(e);
        }
        Ok(begin)
    }

    fn write(&mut self, text: &str) -> io::Result<()> {
        let begin = self.length;
        if let Err(e) = (&self.file).write_all(text.as_bytes()) {
            self.shorten(begin);
            return Err(e);
        }
        self.length += text.len() as u64;
        Ok(())
    }

    /// After a failure: half a line must not stand before the next. If even that fails, the next open finds it.
    fn shorten(&mut self, length: u64) {
        let _ = self.file.set_len(length);
        self.length = length;
    }

    fn compact(&mut self) -> io::Result<()> {
        if self.length > 2 * self.live + SLACK { self.rewrite(self.id, self.first() - 1) } else { Ok(()) }
    }

    /// Writes what waits into a new file that takes the place of the old one, numbered after `before`.
    fn rewrite(&mut self, id: Uuid, before: u64) -> io::Result<()> {
        let mut text = line(&Header { spool: id, before });
        let mut slots = VecDeque::with_capacity(self.slots.len());
        for (slot, sequence) in self.slots.iter().zip(before + 1..) {
            let offset = text.len() as u64;
            text.push_str(&line(&Entry { sequence, ..self.read(*slot)? }));
            slots.push_back(Slot { offset, length: (text.len() as u64 - offset) as u32 });
        }
        write_atomic(&self.path, text.as_bytes())?;
        self.file = writable(&self.path)?;
        self.length = text.len() as u64;
        self.id = id;
        self.last = before + slots.len() as u64;
        self.live = slots.iter().map(|slot| u64::from(slot.length)).sum();
        self.slots = slots;
        Ok(())
    }
}

fn writable(path: &Path) -> io::Result<File> {
    File::options().read(true).append(true).mode(0o600).open(path)
}

fn line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("the keys of these types are strings");
    format!("{} {json}\n", digest(json.as_bytes()))
}

/// The JSON of a line that is whole.
fn content(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_suffix(b"\n")?;
    is_line(line).then(|| &line[DIGEST + 1..])
}

fn is_line(text: &[u8]) -> bool {
    let parts = text.get(..DIGEST).zip(text.get(DIGEST + 1..));
    parts.is_some_and(|(digits, json)| digits == digest(json).as_bytes())
}

fn digest(json: &[u8]) -> String {
    Sha256::digest(json).iter().take(DIGEST / 2).map(|byte| format!("{byte:02x}")).collect()
}

/// Texts as long as the protocol takes them.
fn cut(body: &mut Body) {
    let cut = |text: &mut String| {
        if text.len() > MAX_TEXT {
            let end = (0..=MAX_TEXT - 3).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
    };
    match body {
        Body::Event(event) => {
            [&mut event.reason, &mut event.message, &mut event.source].into_iter().for_each(cut)
        }
        Body::Condition(condition) => {
            [&mut condition.kind, &mut condition.reason, &mut condition.message].into_iter().for_each(cut);
        }
        Body::Result(result) => cut(&mut result.message),
        Body::Dropped { .. } | Body::Unknown => {}
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
