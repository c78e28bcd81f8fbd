//! Reads VMDKs at any place.

mod section;
mod sparse;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::descriptor::{self, Access, Descriptor, ExtentLine};
use crate::error::{Problem, ReadError};
use crate::layout::{Header, MAX_CAPACITY, SECTOR};
use crate::source::{Source, data_in};

use self::section::Section;
use self::sparse::Sparse;

/// What a file says of itself: facts, no judgement.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Facts {
    /// Such as `streamOptimized`; empty where the descriptor does not say.
    pub create_type: String,
    /// Of the header; a descriptor file has none.
    pub header_version: Option<u32>,
    /// Of the header; a descriptor file has none.
    pub flags: Option<u32>,
    /// Of a grain, by the header.
    pub grain_sectors: Option<u64>,
    /// In bytes: of the header, or of the extents of a descriptor file.
    pub capacity: u64,
    /// What the descriptor's extents add up to.
    pub extent_sectors: u64,
    /// The descriptor's extents.
    pub extents: Vec<ExtentLine>,
    /// `ddb.adapterType`.
    pub adapter_type: Option<String>,
    /// `ddb.virtualHWVersion`.
    pub hardware_version: Option<String>,
    /// Identifies the content.
    pub cid: Option<u32>,
    /// `ddb.longContentID`.
    pub long_content_id: Option<String>,
    /// Whether the grain directory is said to be at the file's end.
    pub footer: bool,
    /// Whether grains are compressed.
    pub compressed: bool,
    /// Whether there was a descriptor at all.
    pub descriptor: bool,
}

impl Facts {
    pub(crate) fn new(header: Option<&Header>, descriptor: Option<&Descriptor>) -> Result<Facts, ReadError> {
        let value = |key| descriptor.and_then(|d| d.value(key)).map(str::to_string);
        let extent_sectors = descriptor.map_or(Ok(0), Descriptor::sectors)?;
        Ok(Facts {
            create_type: value("createtype").unwrap_or_default(),
            header_version: header.map(|h| h.version),
            flags: header.map(|h| h.flags),
            grain_sectors: header.map(|h| h.grain),
            // Both are within limits.
            capacity: header.map_or(extent_sectors, |h| h.capacity) * SECTOR,
            extent_sectors,
            extents: descriptor.map(|d| d.extents.clone()).unwrap_or_default(),
            adapter_type: value("ddb.adaptertype"),
            hardware_version: value("ddb.virtualhwversion"),
            cid: value("cid").and_then(|cid| u32::from_str_radix(&cid, 16).ok()),
            long_content_id: value("ddb.longcontentid"),
            footer: header.is_some_and(|h| h.directory == Header::AT_FOOTER),
            compressed: header.is_some_and(Header::compressed),
            descriptor: descriptor.is_some(),
        })
    }
}

/// A VMDK, read at any place: streamOptimized with a footer or without, monolithicSparse, monolithicFlat, and those that
/// are split into several files.
///
/// Whatever the file says, no more memory is taken than two grains for each thread that reads, and no file is opened
/// outside the descriptor's folder.
pub struct Vmdk {
    facts: Facts,
    /// One after the other, without gaps.
    extents: Vec<Extent>,
}

struct Extent {
    /// Of the disk, in bytes.
    range: Range<u64>,
    content: Content,
}

enum Content {
    Sparse(Box<Sparse>),
    /// The file, and where the extent begins in it, in bytes.
    Flat(File, u64),
    Zero,
}

impl Vmdk {
    /// Opens a VMDK, and the extents that its descriptor names.
    ///
    /// # Errors
    /// See [`ReadError`]; what grains hold is looked at when they are read.
    pub fn open(path: impl AsRef<Path>) -> Result<Vmdk, ReadError> {
        let path = path.as_ref();
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let section = Section::new(file, 0, length);
        let mut first = [0; descriptor::FIRST_LINE.len()];
        let known = (length.min(first.len() as u64)) as usize;
        section.read(&mut first[..known], 0)?;
        if !first.eq_ignore_ascii_case(descriptor::FIRST_LINE.as_bytes()) {
            return Vmdk::sparse(section);
        }
        let text = section.read_text(0, length)?;
        // Without a folder in its name, it is beside us.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Vmdk::described(&Descriptor::parse(&text)?, folder)
    }

    /// Opens a streamOptimized or monolithicSparse VMDK that is a part of another file, such as a member of an OVA:
    /// `length` bytes from byte `offset`. Errors count from there.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn from_section(file: File, offset: u64, length: u64) -> Result<Vmdk, ReadError> {
        let end = file.metadata()?.len();
        match offset.checked_add(length) {
            Some(wanted) if wanted <= end => Vmdk::sparse(Section::new(file, offset, length)),
            _ => {
                Err(ReadError::at(0, Problem::Truncated { needed: length, end: end.saturating_sub(offset) }))
            }
        }
    }

    /// What the file says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A file that is a whole disk.
    fn sparse(section: Section) -> Result<Vmdk, ReadError> {
        let header = section.header(0)?;
        if header.descriptor == 0 {
            return Err(ReadError::at(28, Problem::NoDescriptor));
        }
        let text = section.embedded_text(&header)?;
        let descriptor = Descriptor::parse(&text)?;
        let facts = Facts::new(Some(&header), Some(&descriptor))?;
        refuse_parent(&descriptor)?;
        let sparse = Sparse::open(section)?;
        let range = 0..facts.capacity;
        Ok(Vmdk { facts, extents: vec![Extent { range, content: Content::Sparse(Box::new(sparse)) }] })
    }

    /// A descriptor with its extents beside it.
    fn described(descriptor: &Descriptor, folder: &Path) -> Result<Vmdk, ReadError> {
        let facts = Facts::new(None, Some(descriptor))?;
        refuse_parent(descriptor)?;
        if facts.capacity == 0 {
            return Err(ReadError::Descriptor { line: 1, problem: Problem::NoExtents });
        }
        let mut extents = Vec::new();
        let mut start = 0;
        for line in &descriptor.extents {
            let range = start..start + line.sectors * SECTOR;
            start = range.end;
            extents.push(Extent { range, content: open_extent(line, folder)? });
        }
        Ok(Vmdk { facts, extents })
    }

    /// The extents that have something of a range, with their parts of it.
    fn parts(&self, range: Range<u64>) -> impl Iterator<Item = (&Extent, Range<u64>)> {
        let first = self.extents.partition_point(|extent| extent.range.end <= range.start);
        self.extents[first..]
            .iter()
            .take_while(move |extent| extent.range.start < range.end)
            .map(move |extent| (extent, range.start.max(extent.range.start)..range.end.min(extent.range.end)))
    }
}

impl Source for Vmdk {
    fn capacity(&self) -> u64 {
        self.facts.capacity
    }

    fn read_exact_at(&self, mut buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.saturating_add(buffer.len() as u64);
        if end > self.facts.capacity {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for (extent, part) in self.parts(offset..end) {
            let (piece, rest) = buffer.split_at_mut((part.end - part.start) as usize);
            extent.read(piece, part.start - extent.range.start)?;
            buffer = rest;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        for (extent, part) in self.parts(offset..self.facts.capacity) {
            let start = extent.range.start;
            if let Some(data) = extent.next_data(part.start - start..part.end - start)? {
                return Ok(Some(data.start + start..data.end + start));
            }
        }
        Ok(None)
    }
}

impl fmt::Debug for Vmdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vmdk").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Extent {
    fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        use std::os::unix::fs::FileExt as _;
        match &self.content {
            Content::Sparse(sparse) => Ok(sparse.read(buffer, offset)?),
            Content::Flat(file, start) => file.read_exact_at(buffer, start + offset),
            Content::Zero => {
                buffer.fill(0);
                Ok(())
            }
        }
    }

    /// Of a range of the extent.
    fn next_data(&self, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
        match &self.content {
            Content::Sparse(sparse) => Ok(sparse.next_data(range)?),
            Content::Flat(file, start) => {
                let data = data_in(file, range.start + start..range.end + start)?;
                Ok(data.map(|data| data.start - start..data.end - start))
            }
            Content::Zero => Ok(None),
        }
    }
}

/// A difference to another disk would read as holes what its parent has.
fn refuse_parent(descriptor: &Descriptor) -> Result<(), ReadError> {
    match descriptor.value("parentcid") {
        Some(parent) if !parent.eq_ignore_ascii_case("ffffffff") => {
            let problem = Problem::Parent(parent.chars().take(40).collect());
            Err(ReadError::Descriptor { line: 1, problem })
        }
        _ => Ok(()),
    }
}

/// Opens what a line describes.
fn open_extent(line: &ExtentLine, folder: &Path) -> Result<Content, ReadError> {
    let error = |problem| ReadError::Descriptor { line: line.line, problem };
    if line.access == Access::None {
        return Err(error(Problem::ExtentKind("NOACCESS".into())));
    }
    let flat = match (line.kind.as_str(), &line.name) {
        ("ZERO", _) => return Ok(Content::Zero),
        ("FLAT" | "VMFS", Some(_)) => true,
        ("SPARSE", Some(_)) => false,
        (kind, _) => return Err(error(Problem::ExtentKind(kind.chars().take(40).collect()))),
    };
    let name = line.name.clone().unwrap_or_default();
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(error(Problem::ExtentName(name.chars().take(200).collect())));
    }
    let open = || {
        let file = open_beside(folder, &name)?;
        let length = file.metadata()?.len();
        if flat {
            let start = line.offset.saturating_mul(SECTOR);
            let found = length.saturating_sub(start) / SECTOR;
            enough(line.sectors, found, start)?;
            return Ok(Content::Flat(file, start));
        }
        let sparse = Sparse::open(Section::new(file, 0, length))?;
        enough(line.sectors, sparse.capacity() / SECTOR, 12)?;
        Ok(Content::Sparse(Box::new(sparse)))
    };
    open().map_err(|error: ReadError| ReadError::Extent { name: name.clone(), source: Box::new(error) })
}

fn enough(wanted: u64, found: u64, at: u64) -> Result<(), ReadError> {
    debug_assert!(wanted <= MAX_CAPACITY / SECTOR);
    if found < wanted { Err(ReadError::at(at, Problem::ExtentSize { wanted, found })) } else { Ok(()) }
}

/// Opens an ordinary file of a folder: not through a link, which could lead anywhere, and without waiting for the other
/// end of a pipe.
fn open_beside(folder: &Path, name: &str) -> Result<File, ReadError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags.bits()).open(folder.join(name));
    match file {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(ReadError::at(0, Problem::NotFile)),
        Err(e) if e.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => {
            Err(ReadError::at(0, Problem::NotFile))
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests;
