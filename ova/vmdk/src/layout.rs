//! The structures of the format, as bytes. All numbers are little-endian, all offsets and sizes in sectors.

use crate::error::{Problem, ReadError};

/// In bytes.
pub(crate) const SECTOR: u64 = 512;
pub(crate) const SECTOR_USIZE: usize = SECTOR as usize;
/// The unit of compression: 64 KiB, the only size that VMware's readers take in streams.
pub(crate) const GRAIN_SECTORS: u64 = 128;
pub(crate) const GRAIN: u64 = GRAIN_SECTORS * SECTOR;
pub(crate) const GRAIN_USIZE: usize = GRAIN as usize;
/// Grains in a grain table.
pub(crate) const GT_ENTRIES: u64 = 512;
/// A grain table, in bytes.
pub(crate) const GT_BYTES: usize = GT_ENTRIES as usize * 4;
/// The first sector of data.
pub(crate) const OVERHEAD: u64 = 128;
/// What is reserved for the descriptor.
const DESCRIPTOR_SECTORS: u64 = 20;
/// In bytes. VMware's disks end at 62 TiB; the directory of such a one takes 8 MiB.
pub(crate) const MAX_CAPACITY: u64 = 64 << 40;

/// Grains are compressed.
const FLAG_COMPRESSED: u32 = 1 << 16;
/// Markers precede grains and tables.
const FLAG_MARKERS: u32 = 1 << 17;
/// Entry 1 of a grain table means a grain of zeros.
const FLAG_ZEROED: u32 = 1 << 2;
/// The header has line ends to test.
const FLAG_LINE_ENDS: u32 = 1;

/// `SparseExtentHeader`: begins the file, and is there again as its footer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) flags: u32,
    /// Of the disk.
    pub(crate) capacity: u64,
    /// Of a grain.
    pub(crate) grain: u64,
    pub(crate) descriptor: u64,
    pub(crate) descriptor_size: u64,
    /// Where the grain directory is.
    pub(crate) directory: u64,
    /// The first sector of data.
    pub(crate) overhead: u64,
    pub(crate) compression: u16,
}

impl Header {
    pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
    /// The directory's place in the header of a file that has a footer.
    pub(crate) const AT_FOOTER: u64 = u64::MAX;

    pub(crate) fn stream_optimized(capacity: u64, directory: u64) -> Header {
        Header {
            version: 3, // for streams; importers refuse less
            // Not bit 1 (redundant directory), which streams must not have.
            flags: FLAG_LINE_ENDS | FLAG_COMPRESSED | FLAG_MARKERS,
            capacity,
            grain: GRAIN_SECTORS,
            descriptor: 1,
            descriptor_size: DESCRIPTOR_SECTORS,
            directory,
            overhead: OVERHEAD,
            compression: 1,
        }
    }

    pub(crate) fn to_bytes(self) -> [u8; SECTOR_USIZE] {
        let mut bytes = [0; SECTOR_USIZE];
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, Header::MAGIC);
        put(4, &self.version.to_le_bytes());
        put(8, &self.flags.to_le_bytes());
        put(12, &self.capacity.to_le_bytes());
        put(20, &self.grain.to_le_bytes());
        put(28, &self.descriptor.to_le_bytes());
        put(36, &self.descriptor_size.to_le_bytes());
        put(44, &(GT_ENTRIES as u32).to_le_bytes());
        put(56, &self.directory.to_le_bytes());
        put(64, &self.overhead.to_le_bytes());
        put(73, b"\n \r\n"); // broken by a transfer as text
        put(77, &self.compression.to_le_bytes());
        bytes
    }

    /// Reads one that is at byte `at` of its file. What it says is then within the limits of this library, apart from
    /// places: those are looked at where they are used.
    pub(crate) fn parse(bytes: &[u8; SECTOR_USIZE], at: u64) -> Result<Header, ReadError> {
        let header = Header {
            version: le32(bytes, 4),
            flags: le32(bytes, 8),
            capacity: le64(bytes, 12),
            grain: le64(bytes, 20),
            descriptor: le64(bytes, 28),
            descriptor_size: le64(bytes, 36),
            directory: le64(bytes, 56),
            overhead: le64(bytes, 64),
            compression: u16::from_le_bytes([bytes[77], bytes[78]]),
        };
        let entries = le32(bytes, 44);
        let error = |field, problem| Err(ReadError::at(at + field, problem));
        match &bytes[..4] {
            magic if magic == Header::MAGIC => {}
            b"COWD" => return error(0, Problem::Cowd),
            _ => return error(0, Problem::Magic),
        }
        if !(1..=3).contains(&header.version) {
            return error(4, Problem::Version(header.version));
        }
        if header.flags & FLAG_LINE_ENDS != 0 && &bytes[73..77] != b"\n \r\n" {
            return error(73, Problem::LineEnds);
        }
        if !(1..=MAX_CAPACITY / SECTOR).contains(&header.capacity) {
            return error(12, Problem::Capacity(header.capacity));
        }
        if !header.grain.is_power_of_two() || !(8..=2048).contains(&header.grain) {
            return error(20, Problem::GrainSize(header.grain));
        }
        if u64::from(entries) != GT_ENTRIES {
            return error(44, Problem::TableSize(entries));
        }
        let known = match header.compression {
            0 => !header.compressed(),
            1 => !header.compressed() || header.markers(),
            _ => false,
        };
        if !known {
            let (algorithm, flags) = (header.compression, header.flags);
            return error(77, Problem::Compression { algorithm, flags });
        }
        Ok(header)
    }

    pub(crate) fn compressed(&self) -> bool {
        self.flags & FLAG_COMPRESSED != 0
    }

    pub(crate) fn markers(&self) -> bool {
        self.flags & FLAG_MARKERS != 0
    }

    pub(crate) fn zeroed_grains(&self) -> bool {
        self.flags & FLAG_ZEROED != 0
    }

    /// Of a grain, in bytes.
    pub(crate) fn grain_bytes(&self) -> u64 {
        self.grain * SECTOR
    }

    /// Grain tables that the disk has.
    pub(crate) fn tables(&self) -> u64 {
        self.capacity.div_ceil(self.grain).div_ceil(GT_ENTRIES)
    }
}

/// What a metadata marker announces.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MarkerType {
    EndOfStream = 0,
    GrainTable = 1,
    GrainDirectory = 2,
    Footer = 3,
}

/// A metadata marker: a sector of its own; `length` bytes follow it.
pub(crate) fn marker(kind: MarkerType, length: u64) -> [u8; SECTOR_USIZE] {
    let mut bytes = [0; SECTOR_USIZE];
    bytes[..8].copy_from_slice(&length.div_ceil(SECTOR).to_le_bytes());
    bytes[12..16].copy_from_slice(&(kind as u32).to_le_bytes());
    bytes
}

/// A grain's marker in bytes; the data follows at once.
pub(crate) const GRAIN_MARKER: usize = 12;

/// A grain's marker: its first sector on the disk and its compressed length in bytes.
pub(crate) fn grain_marker(sector: u64, length: u32) -> [u8; GRAIN_MARKER] {
    let mut bytes = [0; GRAIN_MARKER];
    bytes[..8].copy_from_slice(&sector.to_le_bytes());
    bytes[8..].copy_from_slice(&length.to_le_bytes());
    bytes
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
