//! A hosted sparse extent: its directory points at tables, which point at grains.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::{Problem, ReadError};
use crate::layout::{
    GRAIN_MARKER, GT_BYTES, GT_ENTRIES, Header, MarkerType, SECTOR, SECTOR_USIZE, le32, le64,
};
use crate::walk::inflate::{Inflater, max_length};

use super::section::Section;

/// 512 entries of a directory or a table.
type Entries = [u32; GT_ENTRIES as usize];

pub(crate) struct Sparse {
    section: Section,
    header: Header,
    /// Of the grain directory, in bytes.
    directory: u64,
    /// Parts of the directory and of tables are read when they are needed; the last of each is kept.
    directory_page: Mutex<Option<(u64, Entries)>>,
    table_page: Mutex<Option<(u64, Entries)>>,
    /// Those that are not in use. No more than threads that read.
    inflaters: Mutex<Vec<Inflater>>,
    /// The last grain of which only a part was wanted: its number and content.
    last: Mutex<Option<(u64, Box<[u8]>)>>,
}

impl Sparse {
    /// Looks at the header, the footer if there is one, and the directory's place.
    pub(crate) fn open(section: Section) -> Result<Sparse, ReadError> {
        let mut header = section.header(0)?;
        let mut from = 56;
        if header.directory == Header::AT_FOOTER {
            let at = footer(&section)?;
            let footer = section.header(at)?;
            if footer.capacity != header.capacity {
                return Err(ReadError::at(at + 12, Problem::FooterDiffers("capacity")));
            }
            if (footer.grain, footer.flags) != (header.grain, header.flags) {
                return Err(ReadError::at(at + 8, Problem::FooterDiffers("form")));
            }
            header.directory = footer.directory;
            from = at + 56;
        }
        let directory = section.place("grain directory", from, header.directory)?;
        if header.tables() * 4 > section.length() - directory {
            let (what, sector) = ("grain directory's end", header.directory);
            return Err(ReadError::at(from, Problem::Place { what, sector }));
        }
        Ok(Sparse {
            section,
            header,
            directory,
            directory_page: Mutex::default(),
            table_page: Mutex::default(),
            inflaters: Mutex::default(),
            last: Mutex::default(),
        })
    }

    /// In bytes.
    pub(crate) fn capacity(&self) -> u64 {
        self.header.capacity * SECTOR
    }

    /// Fills `buffer` with what begins at `offset`; all of it is within the capacity.
    pub(crate) fn read(&self, mut buffer: &mut [u8], mut offset: u64) -> Result<(), ReadError> {
        let size = self.header.grain_bytes();
        while !buffer.is_empty() {
            let (grain, within) = (offset / size, offset % size);
            let length = (size - within).min(buffer.len() as u64) as usize;
            let (piece, rest) = buffer.split_at_mut(length);
            match self.grain(grain)? {
                None => piece.fill(0),
                Some(at) if self.header.compressed() => self.read_compressed(piece, grain, within, at)?,
                Some(at) => self.section.read(piece, at + within)?,
            }
            buffer = rest;
            offset += length as u64;
        }
        Ok(())
    }

    /// The first grains in `range`, bytes, that are in the file.
    pub(crate) fn next_data(&self, range: Range<u64>) -> Result<Option<Range<u64>>, ReadError> {
        let size = self.header.grain_bytes();
        let mut grain = range.start / size;
        while grain * size < range.end {
            let table = grain / GT_ENTRIES;
            if let Some((_, entries)) = self.table(table)? {
                let is_data = |n: &u64| self.is_data(entries[(n % GT_ENTRIES) as usize]);
                let end = (table + 1) * GT_ENTRIES;
                if let Some(first) = (grain..end).find(is_data).filter(|first| first * size < range.end) {
                    let after = (first..end).find(|n| !is_data(n)).unwrap_or(end);
                    return Ok(Some((first * size).max(range.start)..(after * size).min(range.end)));
                }
            }
            grain = (table + 1) * GT_ENTRIES;
        }
        Ok(None)
    }

    fn is_data(&self, entry: u32) -> bool {
        entry != 0 && !(entry == 1 && self.header.zeroed_grains())
    }

    /// Where a grain is in the file, in bytes; nowhere if it is zeros.
    fn grain(&self, grain: u64) -> Result<Option<u64>, ReadError> {
        let Some((at, entries)) = self.table(grain / GT_ENTRIES)? else { return Ok(None) };
        let index = grain % GT_ENTRIES;
        let entry = entries[index as usize];
        if !self.is_data(entry) {
            return Ok(None);
        }
        self.section.place("grain", at + index * 4, entry.into()).map(Some)
    }

    /// A grain table and where it is, in bytes; none where it has no grains.
    fn table(&self, number: u64) -> Result<Option<(u64, Entries)>, ReadError> {
        let page = number / GT_ENTRIES * GT_ENTRIES;
        let count = (self.header.tables() - page).min(GT_ENTRIES);
        let entries = self.entries(&self.directory_page, self.directory + page * 4, count)?;
        let entry = entries[(number % GT_ENTRIES) as usize];
        if !self.is_data(entry) {
            return Ok(None);
        }
        let at = self.section.place("grain table", self.directory + number * 4, entry.into())?;
        Ok(Some((at, self.entries(&self.table_page, at, GT_ENTRIES)?)))
    }

    /// `count` entries at a byte of the file.
    fn entries(
        &self,
        page: &Mutex<Option<(u64, Entries)>>,
        at: u64,
        count: u64,
    ) -> Result<Entries, ReadError> {
        let mut page = lock(page);
        if let Some((_, entries)) = page.as_ref().filter(|(kept, _)| *kept == at) {
            return Ok(*entries);
        }
        let mut bytes = [0; GT_BYTES];
        self.section.read(&mut bytes[..count as usize * 4], at)?;
        let entries = std::array::from_fn(|n| le32(&bytes, n * 4));
        *page = Some((at, entries));
        Ok(entries)
    }

    fn read_compressed(&self, piece: &mut [u8], grain: u64, within: u64, at: u64) -> Result<(), ReadError> {
        let size = self.header.grain_bytes() as usize;
        if piece.len() == size {
            return self.inflate(piece, grain, at);
        }
        let within = within as usize;
        if let Some((_, content)) = lock(&self.last).as_ref().filter(|(kept, _)| *kept == grain) {
            piece.copy_from_slice(&content[within..within + piece.len()]);
            return Ok(());
        }
        let mut content = vec![0; size].into_boxed_slice();
        self.inflate(&mut content, grain, at)?;
        piece.copy_from_slice(&content[within..within + piece.len()]);
        *lock(&self.last) = Some((grain, content));
        Ok(())
    }

    /// Reads a whole grain, whose marker is at byte `at`.
    fn inflate(&self, content: &mut [u8], grain: u64, at: u64) -> Result<(), ReadError> {
        let mut marker = [0; GRAIN_MARKER];
        self.section.read(&mut marker, at)?;
        let (found, length) = (le64(&marker, 0), le32(&marker, 8));
        let expected = grain * self.header.grain;
        if found != expected {
            return Err(ReadError::at(at, Problem::WrongGrain { expected, found }));
        }
        if length == 0 || length > max_length(self.header.grain_bytes()) {
            return Err(ReadError::at(at + 8, Problem::GrainLength(length)));
        }
        let mut inflater = lock(&self.inflaters).pop().unwrap_or_default();
        let data = at + GRAIN_MARKER as u64;
        let result = self
            .section
            .read(inflater.input(length as usize), data)
            .and_then(|()| inflater.inflate_zlib(content).map_err(|problem| ReadError::at(data, problem)));
        lock(&self.inflaters).push(inflater);
        result
    }
}

/// Where the footer is: the end of the file is its marker, the footer and the end of stream, and nothing more.
fn footer(section: &Section) -> Result<u64, ReadError> {
    const MARKERS: [(u64, MarkerType, u64, &str); 2] = [
        (3, MarkerType::Footer, 1, "footer's marker"),
        (1, MarkerType::EndOfStream, 0, "end-of-stream marker"),
    ];
    let sectors = section.length() / SECTOR;
    for (back, kind, follow, what) in MARKERS {
        let at = sectors.saturating_sub(back) * SECTOR;
        let mut bytes = [0; SECTOR_USIZE];
        section.read(&mut bytes, at)?;
        let marker = (le64(&bytes, 0), le32(&bytes, 8), le32(&bytes, 12));
        if marker != (follow, 0, kind as u32) || !section.length().is_multiple_of(SECTOR) {
            return Err(ReadError::at(at, Problem::Footer(what)));
        }
    }
    Ok((sectors - 2) * SECTOR)
}

/// What the locks guard is whole whatever happened to who held them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
