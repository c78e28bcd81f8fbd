//! VHDs, fixed and dynamic, as Azure takes them.
//!
//! ```text
//! fixed:   disk | footer
//! dynamic: footer | header | table of blocks | blocks, each a sector of bits and 2 MiB | footer
//! ```
//!
//! A disk is filled up to a whole MiB, which Azure demands, and its current size is that of the data. Identifiers come from
//! the content and the time is always 2000-01-01, so that the same disk makes the same file.
//!
//! Source: Microsoft, "Virtual Hard Disk Image Format Specification" 1.0. All numbers are big-endian.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::error::Error;
use crate::layout::{SECTOR, SECTOR_USIZE};
use crate::raw::each_piece;
use crate::source::Source;

/// What Azure wants sizes to be multiples of.
const MIB: u64 = 1 << 20;
/// In bytes. Hyper-V's limit, and what the entries of a table of blocks can address.
const MAX_CAPACITY: u64 = 2040 << 30;
/// Of a dynamic disk, in bytes: what everybody uses.
const BLOCK: u64 = 2 << 20;
/// A block's bits, one for each of its sectors, in bytes.
const BITS: u64 = BLOCK / SECTOR / 8;
/// Where a dynamic disk has its header and its table.
const HEADER_AT: u64 = SECTOR;
const TABLE_AT: u64 = HEADER_AT + 1024;
/// A block that is not in the file.
const NO_BLOCK: u32 = u32::MAX;
/// 1.0, of all structures.
const VERSION: u32 = 0x1_0000;

/// What the file says of itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// Identifies the content: the same for the same disk, another for another.
    pub content_id: [u8; 16],
}

/// Writes a fixed VHD, sparse as far as the file system goes; what was in the file is gone. `progress` is told the bytes
/// that were read so far. Gives the file's length in bytes.
///
/// # Errors
/// [`Error::Capacity`] for an empty disk, [`Error::Limit`] above 2040 GiB, [`Error::Io`].
pub fn write_fixed(
    disk: &dyn Source,
    options: &Options,
    out: &File,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, Error> {
    let capacity = capacity(disk)?;
    out.set_len(0)?;
    each_piece(disk, progress, |offset, piece| out.write_all_at(piece, offset))?;
    out.write_all_at(&footer(capacity, Kind::Fixed, options), capacity)?;
    Ok(capacity + SECTOR)
}

/// Writes a dynamic VHD, which has only the blocks that are not all zeros; what was in the file is gone. `progress` is
/// told the bytes that were read so far. Gives the file's length in bytes.
///
/// # Errors
/// Those of [`write_fixed`].
pub fn write_dynamic(
    disk: &dyn Source,
    options: &Options,
    out: &File,
    progress: &mut dyn FnMut(u64),
) -> Result<u64, Error> {
    let capacity = capacity(disk)?;
    out.set_len(0)?;
    // At most a million entries, by the limit of the capacity.
    let mut table = vec![NO_BLOCK; capacity.div_ceil(BLOCK) as usize];
    let mut end = TABLE_AT + (table.len() as u64 * 4).next_multiple_of(SECTOR);
    each_piece(disk, progress, |offset, piece| {
        let entry = &mut table[(offset / BLOCK) as usize];
        if *entry == NO_BLOCK {
            // Fits: 2040 GiB and the bits of their blocks are less than 2^32 sectors.
            *entry = (end / SECTOR) as u32;
            out.write_all_at(&[0xff; BITS as usize], end)?;
            end += BITS + BLOCK;
        }
        out.write_all_at(piece, u64::from(*entry) * SECTOR + BITS + offset % BLOCK)
    })?;
    let footer = footer(capacity, Kind::Dynamic, options);
    out.write_all_at(&footer, 0)?;
    out.write_all_at(&header(table.len() as u32), HEADER_AT)?;
    write_table(&table, out)?;
    out.write_all_at(&footer, end)?;
    Ok(end + SECTOR)
}

/// What the file says it is: the disk's, filled up.
fn capacity(disk: &dyn Source) -> Result<u64, Error> {
    match disk.capacity() {
        0 => Err(Error::Capacity(0)),
        capacity if capacity > MAX_CAPACITY => Err(Error::Limit { capacity, limit: MAX_CAPACITY }),
        capacity => Ok(capacity.next_multiple_of(MIB)),
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Fixed = 2,
    Dynamic = 3,
}

fn footer(capacity: u64, kind: Kind, options: &Options) -> [u8; SECTOR_USIZE] {
    let mut bytes = [0; SECTOR_USIZE];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"conectix");
    put(8, &2_u32.to_be_bytes()); // features: none; this bit is always set
    put(12, &VERSION.to_be_bytes());
    let data = match kind {
        Kind::Fixed => u64::MAX,
        Kind::Dynamic => HEADER_AT,
    };
    put(16, &data.to_be_bytes());
    // 24: seconds since 2000-01-01: 0
    // Hyper-V's name and version. Of others, readers take the size from the geometry, which is rounded.
    put(28, b"win ");
    put(32, &0xa_0000_u32.to_be_bytes());
    put(36, b"Wi2k");
    put(40, &capacity.to_be_bytes()); // once
    put(48, &capacity.to_be_bytes()); // now
    put(56, &geometry(capacity / SECTOR));
    put(60, &(kind as u32).to_be_bytes());
    put(68, &uuid(options.content_id));
    put_checksum(&mut bytes, 64);
    bytes
}

/// A dynamic disk's.
fn header(blocks: u32) -> [u8; 1024] {
    let mut bytes = [0; 1024];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"cxsparse");
    put(8, &u64::MAX.to_be_bytes());
    put(16, &TABLE_AT.to_be_bytes());
    put(24, &VERSION.to_be_bytes());
    put(28, &blocks.to_be_bytes());
    put(32, &(BLOCK as u32).to_be_bytes());
    put_checksum(&mut bytes, 36);
    bytes
}

/// Filled up to whole sectors with entries of no block.
fn write_table(table: &[u32], out: &File) -> io::Result<()> {
    let mut bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(SECTOR_USIZE), 0xff);
    out.write_all_at(&bytes, TABLE_AT)
}

/// The complement of the sum of all bytes, those of the checksum itself being zero.
fn put_checksum(bytes: &mut [u8], at: usize) {
    let sum = bytes.iter().fold(0_u32, |sum, byte| sum.wrapping_add(u32::from(*byte)));
    bytes[at..at + 4].copy_from_slice(&(!sum).to_be_bytes());
}

/// A UUID of version 8: made as its maker likes.
fn uuid(mut id: [u8; 16]) -> [u8; 16] {
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

/// Cylinders, heads and sectors per track, by the specification's appendix "CHS Calculation".
fn geometry(sectors: u64) -> [u8; 4] {
    let sectors = sectors.min(65535 * 16 * 255);
    let (mut per_track, mut heads);
    if sectors >= 65535 * 16 * 63 {
        (per_track, heads) = (255, 16);
    } else {
        (per_track, heads) = (17, (sectors / 17).div_ceil(1024).max(4));
        if sectors / 17 >= heads * 1024 || heads > 16 {
            (per_track, heads) = (31, 16);
        }
        if sectors / per_track >= heads * 1024 {
            (per_track, heads) = (63, 16);
        }
    }
    let [high, low] = ((sectors / per_track / heads) as u16).to_be_bytes();
    [high, low, heads as u8, per_track as u8]
}

#[cfg(test)]
mod tests;
