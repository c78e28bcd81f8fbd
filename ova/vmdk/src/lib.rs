//! streamOptimized VMDK files, the disks of OVAs.
//!
//! [`write_stream_optimized`] makes one in a single forward pass: what is allocated of a sparse raw disk is read, grains
//! are compressed on all cores and written in order.
//!
//! ```text
//! header | descriptor | zeros to sector 128 | per grain table: its grains, marker, table | directory | footer | end
//! ```
//!
//! This is the layout with a footer, which VMware's own tools write. Source: VMware, "Virtual Disk Format 5.0",
//! sections "Hosted Sparse Extents" and "Stream-Optimized Compressed Sparse Extents"; where that note says RFC 1951,
//! every writer and reader means zlib (RFC 1950).

mod holes;
mod layout;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;

use flate2::{Compress, Compression, FlushCompress, Status};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::holes::Ranges;
use crate::layout::{GRAIN, GRAIN_SECTORS, GT_ENTRIES, Header, MarkerType, SECTOR};

/// zlib's level. Of 430 MB of programs and libraries, level 5 makes 148.0 MB in 4.5 s of processor time, 6 makes 147.7
/// in 5.9 s, 7 146.6 in 9.3 s, 9 142.9 in 16 s; 4 is no faster than 5.
const LEVEL: u32 = 5;
/// Grains compressed at once; another such batch is written meanwhile. Each is at most 64 KiB and a little.
const BATCH: usize = 128;

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

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a whole number of sectors, or nothing.
    #[error("A capacity of {0} bytes is not a whole number of 512-byte sectors")]
    Capacity(u64),
    /// A shorter file was cut off, the end of a longer one would be.
    #[error("The disk is {length} bytes long where {capacity} were expected")]
    Length {
        /// Of the file, in bytes.
        length: u64,
        /// In bytes.
        capacity: u64,
    },
    /// The name does not fit a descriptor.
    #[error("`{0}` cannot name an extent: at most 80 printable ASCII characters, no quotes")]
    Name(String),
    /// Offsets are 32 bits of sectors, so a file ends at 2 TiB.
    #[error("The compressed disk passes 2 TiB, which a VMDK cannot address")]
    TooLarge,
    /// Reading the disk or writing the file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes `disk`, `capacity` bytes long, as a streamOptimized VMDK.
///
/// Holes of the file are not read and zeros are not written. Output is the same for any number of threads. `progress`
/// is told the bytes that were read so far, of those that are allocated.
///
/// # Errors
/// See [`Error`]; what was written until then is of no use.
pub fn write_stream_optimized(
    disk: &File,
    capacity: u64,
    options: &Options,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Error> {
    if capacity == 0 || !capacity.is_multiple_of(SECTOR) {
        return Err(Error::Capacity(capacity));
    }
    let length = disk.metadata()?.len();
    if length != capacity {
        return Err(Error::Length { length, capacity });
    }
    let descriptor = layout::descriptor(capacity / SECTOR, options)?;
    let mut out = Sectors { out, hasher: Sha256::new(), written: 0 };
    out.put(&Header { capacity: capacity / SECTOR, directory: Header::AT_FOOTER }.to_bytes())?;
    out.put(&descriptor)?;
    out.put(&vec![0; (layout::OVERHEAD * SECTOR - out.written) as usize])?;

    let grains = capacity.div_ceil(GRAIN);
    let mut directory = vec![0_u32; grains.div_ceil(GT_ENTRIES) as usize];
    let mut populated = 0;
    let mut read = 0;
    let mut table: Option<(u64, Vec<u32>)> = None;
    let mut ranges = Ranges::new(disk, capacity);
    let mut ready: Vec<Compressed> = Vec::new();
    loop {
        let batch = ranges.by_ref().take(BATCH).collect::<io::Result<Vec<u64>>>()?;
        let mut compressed = Ok(Vec::new());
        // While this batch is compressed by the pool, this thread writes the one before.
        rayon::in_place_scope(|scope| {
            scope.spawn(|_| compressed = compress(disk, capacity, &batch));
            for (grain, data) in ready.drain(..) {
                let number = grain / GT_ENTRIES;
                if table.as_ref().is_none_or(|(open, _)| *open != number) {
                    finish_table(&mut out, &mut table, &mut directory)?;
                }
                let (_, entries) = table.get_or_insert_with(|| (number, vec![0; GT_ENTRIES as usize]));
                entries[(grain % GT_ENTRIES) as usize] = out.position()?;
                out.put(&layout::grain_marker(grain * GRAIN_SECTORS, data.len() as u32))?;
                out.put(&data)?;
                out.pad()?;
                populated += GRAIN.min(capacity - grain * GRAIN);
            }
            Ok::<(), Error>(())
        })?;
        ready = compressed?;
        if batch.is_empty() {
            break;
        }
        read += batch.len() as u64 * GRAIN;
        progress(read);
    }
    finish_table(&mut out, &mut table, &mut directory)?;

    let bytes: Vec<u8> = directory.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    out.put(&layout::marker(MarkerType::GrainDirectory, bytes.len() as u64))?;
    let at = out.position()?;
    out.put(&bytes)?;
    out.pad()?;
    out.put(&layout::marker(MarkerType::Footer, SECTOR))?;
    out.put(&Header { capacity: capacity / SECTOR, directory: at.into() }.to_bytes())?;
    out.put(&layout::marker(MarkerType::EndOfStream, 0))?;
    out.out.flush()?;
    Ok(Written { size: out.written, sha256: out.hasher.finalize().into(), populated })
}

/// A grain's number and its compressed data.
type Compressed = (u64, Vec<u8>);

/// Reads and compresses grains on all cores; those of zeros are left out.
fn compress(disk: &File, capacity: u64, grains: &[u64]) -> io::Result<Vec<Compressed>> {
    let compress =
        |compressor: &mut Compressor, grain: &u64| compressor.grain(disk, capacity, *grain).transpose();
    grains.par_iter().with_min_len(8).map_init(Compressor::new, compress).flatten_iter().collect()
}

/// zlib's state and buffers, which are larger than what they are used on.
struct Compressor {
    zlib: Compress,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Compressor {
    fn new() -> Compressor {
        // Incompressible grains grow: five bytes for each stored block, six for zlib's own.
        let output = Vec::with_capacity(GRAIN as usize + 1024);
        Compressor {
            zlib: Compress::new(Compression::new(LEVEL), true),
            input: vec![0; GRAIN as usize],
            output,
        }
    }

    /// Nothing where the grain is all zeros. The disk's last one is filled up with zeros.
    fn grain(&mut self, disk: &File, capacity: u64, grain: u64) -> io::Result<Option<Compressed>> {
        const ZEROS: &[u8] = &[0; GRAIN as usize];
        let start = grain * GRAIN;
        let length = GRAIN.min(capacity - start) as usize;
        disk.read_exact_at(&mut self.input[..length], start)?;
        self.input[length..].fill(0);
        if self.input == ZEROS {
            return Ok(None);
        }
        self.zlib.reset();
        self.output.clear();
        let status = self.zlib.compress_vec(&self.input, &mut self.output, FlushCompress::Finish);
        if status.map_err(io::Error::other)? != Status::StreamEnd {
            return Err(io::Error::other("a compressed grain is larger than deflate can make it"));
        }
        Ok(Some((grain, self.output.clone())))
    }
}

/// Writes the open grain table, if there is one, and notes it in the directory.
fn finish_table(
    out: &mut Sectors<'_>,
    table: &mut Option<(u64, Vec<u32>)>,
    directory: &mut [u32],
) -> Result<(), Error> {
    let Some((number, entries)) = table.take() else { return Ok(()) };
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    out.put(&layout::marker(MarkerType::GrainTable, bytes.len() as u64))?;
    directory[number as usize] = out.position()?;
    out.put(&bytes)
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

    /// The number of the next sector, as tables hold it.
    fn position(&self) -> Result<u32, Error> {
        (self.written / SECTOR).try_into().map_err(|_| Error::TooLarge)
    }
}

#[cfg(test)]
mod tests;
