//! What can go wrong, and where.

use std::io;

/// Why a file could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a whole number of sectors, or nothing.
    #[error("A capacity of {0} bytes is not a whole number of 512-byte sectors")]
    Capacity(u64),
    /// The format has no room for it.
    #[error("The disk has {capacity} bytes, this format ends at {limit}")]
    Limit {
        /// Of the disk, in bytes.
        capacity: u64,
        /// In bytes.
        limit: u64,
    },
    /// The name does not fit a descriptor.
    #[error("`{0}` cannot name an extent: at most 80 printable ASCII characters, no quotes")]
    Name(String),
    /// Offsets are 32 bits of sectors, so a file ends at 2 TiB.
    #[error("The compressed disk passes 2 TiB, which its tables cannot address")]
    TooLarge,
    /// Reading the disk or writing the file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is not as its format wants it.
    #[error("Byte {offset}: {problem}")]
    Malformed {
        /// Of the file, in bytes; of the member where the disk is one of an archive.
        offset: u64,
        /// What is wrong there.
        problem: Problem,
    },
    /// The descriptor's text is not as it should be.
    #[error("Line {line} of the descriptor: {problem}")]
    Descriptor {
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        problem: Problem,
    },
    /// A file that the descriptor names is not as it should be.
    #[error("Extent `{name}` cannot be read")]
    Extent {
        /// As the descriptor has it.
        name: String,
        /// What is wrong with it.
        source: Box<ReadError>,
    },
    /// The system could not read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ReadError {
    pub(crate) fn at(offset: u64, problem: Problem) -> ReadError {
        ReadError::Malformed { offset, problem }
    }
}

/// [`Source`](crate::Source) speaks of I/O errors.
impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> io::Error {
        match error {
            ReadError::Io(error) => error,
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

/// What is wrong with a file. Sectors have 512 bytes.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The file is shorter than what it says.
    #[error("{needed} bytes are needed here, but the file ends at byte {end}")]
    Truncated {
        /// In bytes.
        needed: u64,
        /// The file's length in bytes.
        end: u64,
    },
    /// Another format.
    #[error("neither the header of a VMDK nor a descriptor")]
    Magic,
    /// An ESX server's sparse extent.
    #[error("an extent of an ESX server (COWD), which cannot be read")]
    Cowd,
    /// Not one of 1, 2 and 3.
    #[error("header version {0}; 1 to 3 can be read")]
    Version(u32),
    /// Line ends were translated on the way.
    #[error("the header's line ends are damaged: the file was transferred as text")]
    LineEnds,
    /// Nothing, or more than 64 TiB.
    #[error("a capacity of {0} sectors; 1 sector to 64 TiB can be read")]
    Capacity(u64),
    /// Of a grain.
    #[error("grains of {0} sectors; a power of two from 8 to 2048 can be read")]
    GrainSize(u64),
    /// Of a grain table.
    #[error("grain tables of {0} entries; only 512 can be read")]
    TableSize(u32),
    /// Neither none nor deflate, or compressed without the markers that say how long a grain is.
    #[error("compression algorithm {algorithm} with flags {flags:#x}, which cannot be read")]
    Compression {
        /// As the header has it.
        algorithm: u16,
        /// As the header has them.
        flags: u32,
    },
    /// Only streamOptimized files can be read from front to back.
    #[error("flags {0:#x}: not a compressed stream with markers")]
    NotStream(u32),
    /// Larger than a megabyte.
    #[error("a descriptor of {0} bytes; at most 1 MiB can be read")]
    DescriptorSize(u64),
    /// An extent without a descriptor of its own.
    #[error("the file has no descriptor: it is an extent of another one")]
    NoDescriptor,
    /// A sector's number that points out of the file.
    #[error("the {what} is said to be at sector {sector}, which is outside the file")]
    Place {
        /// What should be there.
        what: &'static str,
        /// As the file has it.
        sector: u64,
    },
    /// The header says that there is a footer, but the file does not end with one.
    #[error("no {0} where the file should end with a footer")]
    Footer(&'static str),
    /// The header and the footer contradict each other.
    #[error("the footer's {0} is not the header's")]
    FooterDiffers(&'static str),
    /// A grain's marker is for another place of the disk than the table says.
    #[error("a grain for sector {found} where the table has the one for sector {expected}")]
    WrongGrain {
        /// By its table.
        expected: u64,
        /// By its marker.
        found: u64,
    },
    /// Beyond the disk's end or in the middle of a grain.
    #[error("a grain for sector {0}, which is beyond the disk's end or not a grain's first")]
    GrainPlace(u64),
    /// More than compression can make of a grain.
    #[error("{0} bytes for a compressed grain, which is more than it can take")]
    GrainLength(u32),
    /// Damaged, or more than a grain.
    #[error("compressed data that is damaged or more than a grain")]
    Inflate,
    /// Data that should be zlib's.
    #[error("compressed data without zlib's header (RFC 1950)")]
    NotZlib,
    /// None of those that the format has.
    #[error("a marker of type {0}, which does not exist")]
    MarkerType(u32),
    /// A marker announces more or less than it should.
    #[error("a {what} of {sectors} sectors")]
    MarkerLength {
        /// What is announced.
        what: &'static str,
        /// As the marker has it.
        sectors: u64,
    },
    /// Not of the form `RW 2048 SPARSE "name.vmdk" 0`.
    #[error("`{0}` does not describe an extent")]
    ExtentLine(String),
    /// Of a kind, or with an access, that cannot be read.
    #[error("extents `{0}` cannot be read")]
    ExtentKind(String),
    /// Only files beside the descriptor are opened.
    #[error("extent `{0}` is not the bare name of a file")]
    ExtentName(String),
    /// A link, a folder, a device.
    #[error("not an ordinary file")]
    NotFile,
    /// The line says more than the file has.
    #[error("{wanted} sectors are described, the extent has {found}")]
    ExtentSize {
        /// By the descriptor.
        wanted: u64,
        /// By the file.
        found: u64,
    },
    /// A snapshot's disk.
    #[error("the disk is a difference to a parent (parentCID={0}), which is not read")]
    Parent(String),
    /// A descriptor that makes no disk.
    #[error("no extents are described")]
    NoExtents,
}
