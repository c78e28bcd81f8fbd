//! Writes streamOptimized VMDKs.
//!
//! ```text
//! header | descriptor | zeros to sector 128 | per grain table: its grains, marker, table | directory | footer | end
//! ```
//!
//! This is the layout with a footer, which VMware's own tools write.

use std::io::Write;

use sha2::{Digest as _, Sha256};

use crate::compress;
use crate::descriptor;
use crate::error::Error;
use crate::layout::{self, GRAIN, GT_ENTRIES, Header, MAX_CAPACITY, MarkerType, SECTOR};
use crate::source::Source;

/// What the file says of itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file's own name, for its descriptor: at most 80 printable ASCII characters, no quotes.
    pub extent_name: String,
    /// Identifies the content: the same for the same disk, another for another. The CID is made of it.
    pub content_id: [u8; 16],
}

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Of the file, in bytes.
    pub size: u64,
    /// Of the file.
    pub sha256: [u8; 32],
    /// Bytes of grains that are not all zero: the OVF's `populatedSize`.
    pub populated: u64,
}

/// Writes a disk as a streamOptimized VMDK.
///
/// Holes of the disk are not read and zeros are not written. Output is the same for any number of threads. `progress`
/// is told the bytes that were read so far, of those that are allocated. A disk of any size takes less than 64 MiB of
/// memory.
///
/// # Errors
/// See [`Error`]; what was written until then is of no use.
pub fn write_stream_optimized(
    disk: &dyn Source,
    options: &Options,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Error> {
    write_with(compress::threads(), disk, options, out, progress)
}

pub(crate) fn write_with(
    threads: usize,
    disk: &dyn Source,
    options: &Options,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Error> {
    let capacity = disk.capacity();
    if capacity == 0 || !capacity.is_multiple_of(SECTOR) {
        return Err(Error::Capacity(capacity));
    }
    if capacity > MAX_CAPACITY {
        return Err(Error::Limit { capacity, limit: MAX_CAPACITY });
    }
    let descriptor = descriptor::stream_optimized(capacity / SECTOR, options)?;
    let mut out = Sectors { out, hasher: Sha256::new(), written: 0 };
    out.put(&Header::stream_optimized(capacity / SECTOR, Header::AT_FOOTER).to_bytes())?;
    out.put(&descriptor)?;
    out.put(&vec![0; (layout::OVERHEAD * SECTOR - out.written) as usize])?;

    let mut tables = Tables {
        directory: vec![0; capacity.div_ceil(GRAIN).div_ceil(GT_ENTRIES) as usize],
        entries: [0; GT_ENTRIES as usize],
        open: None,
    };
    let mut populated = 0;
    let mut read = 0;
    compress::in_order(disk, threads, |packed| {
        let mut at = out.written / SECTOR;
        for number in packed.group.numbers() {
            let start = number * GRAIN;
            let sectors = packed.sectors[(number - packed.group.first) as usize];
            read += GRAIN.min(capacity - start);
            if sectors == 0 {
                continue;
            }
            if tables.open != Some(number / GT_ENTRIES) {
                // A group never spans two tables: this is before anything of it is written.
                tables.finish(&mut out)?;
                tables.open = Some(number / GT_ENTRIES);
                at = out.written / SECTOR;
            }
            tables.entries[(number % GT_ENTRIES) as usize] = entry(at)?;
            at += u64::from(sectors);
            populated += GRAIN.min(capacity - start);
        }
        out.put(packed.bytes())?;
        progress(read);
        Ok::<(), Error>(())
    })?;
    tables.finish(&mut out)?;

    let directory = le_bytes(&tables.directory);
    out.put(&layout::marker(MarkerType::GrainDirectory, directory.len() as u64))?;
    let at = entry(out.written / SECTOR)?;
    out.put(&directory)?;
    out.pad()?;
    out.put(&layout::marker(MarkerType::Footer, SECTOR))?;
    out.put(&Header::stream_optimized(capacity / SECTOR, at.into()).to_bytes())?;
    out.put(&layout::marker(MarkerType::EndOfStream, 0))?;
    out.out.flush()?;
    Ok(Written { size: out.written, sha256: out.hasher.finalize().into(), populated })
}

/// Where grains are. Only one table is kept; the directory has four bytes for each 32 MiB of the disk.
struct Tables {
    directory: Vec<u32>,
    /// Of the open table.
    entries: [u32; GT_ENTRIES as usize],
    open: Option<u64>,
}

impl Tables {
    /// Writes the open table, if there is one, and notes it in the directory.
    fn finish(&mut self, out: &mut Sectors<'_>) -> Result<(), Error> {
        let Some(number) = self.open.take() else { return Ok(()) };
        let bytes = le_bytes(&self.entries);
        out.put(&layout::marker(MarkerType::GrainTable, bytes.len() as u64))?;
        self.directory[number as usize] = entry(out.written / SECTOR)?;
        self.entries.fill(0);
        out.put(&bytes)
    }
}

/// The number of a sector, as tables hold it.
fn entry(sector: u64) -> Result<u32, Error> {
    sector.try_into().map_err(|_| Error::TooLarge)
}

fn le_bytes(entries: &[u32]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_le_bytes()).collect()
}

/// The output: counted and hashed.
struct Sectors<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
    /// Bytes written so far.
    written: u64,
}

impl Sectors<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Fills the last sector up.
    fn pad(&mut self) -> Result<(), Error> {
        let padding = self.written.next_multiple_of(SECTOR) - self.written;
        self.put(&[0; SECTOR as usize][..padding as usize])
    }
}

#[cfg(test)]
mod tests;
