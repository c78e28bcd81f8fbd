//! Reads archives without trusting them.
//!
//! ```text
//! path -> Archive::open -> Entry, Entry, ...   (facts; numbers checked against the file)
//!                       -> Archive::reader     (Read + Seek over one member)
//! ```
//!
//! Any tar is read that people call an OVA: ustar, GNU's long names and sizes, PAX, version 7. Whether importers take it
//! is for others to judge. An error are only what readers disagree on and what does not fit the file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::header::{BLOCK, Defect, Format, Header, Kind, SizeEncoding};

/// An OVA has a handful of members.
const MAX_MEMBERS: usize = 10_000;
/// Of long names and PAX records, all of an archive's together, in bytes.
const MAX_EXTENSIONS: u64 = 1 << 20;
/// Of zeros after the end, in bytes; tar's largest record is this long.
const MAX_PADDING: u64 = 1 << 20;

/// The members of an archive.
#[derive(Debug)]
pub struct Archive {
    file: File,
    length: u64,
    members: Vec<Entry>,
    extensions: Vec<Extension>,
    end: End,
}

/// A member, as the archive has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The name, with what is no UTF-8 replaced.
    pub name: String,
    /// The name.
    pub raw_name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The byte that says what it is.
    pub type_flag: u8,
    /// The dialect of its header.
    pub format: Format,
    /// Of the content, in bytes; all of it lies in the file.
    pub size: u64,
    /// How the size is written.
    pub size_encoding: SizeEncoding,
    /// Where its header is, in bytes from the start of the archive.
    pub header_offset: u64,
    /// Where its content is, in bytes from the start of the archive.
    pub offset: u64,
    /// Permissions; none where the header has no number there. So for the three below.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u64>,
    /// Group.
    pub gid: Option<u64>,
    /// Last change, in seconds since 1970. PAX records with fractions of one are not looked at.
    pub mtime: Option<i64>,
    /// Name of the owner.
    pub user: Vec<u8>,
    /// Name of the group.
    pub group: Vec<u8>,
    /// Where a link points.
    pub link: Vec<u8>,
}

/// A header that is no member but says something of the next one, or of all that follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Extension {
    /// Which.
    pub kind: ExtensionKind,
    /// Where its header is, in bytes from the start of the archive.
    pub header_offset: u64,
    /// Index of the member that follows; that of none after the last.
    pub member: usize,
    /// Keys of its PAX records, in their order.
    pub keys: Vec<String>,
}

/// What an [`Extension`] is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExtensionKind {
    /// PAX records for the next member: `x`, or Sun's `X`.
    Pax,
    /// PAX records for all members that follow: `g`.
    PaxGlobal,
    /// GNU's long name: `L`.
    GnuLongName,
    /// GNU's long link target: `K`.
    GnuLongLink,
}

impl ExtensionKind {
    fn of(type_flag: u8) -> Option<Self> {
        match type_flag {
            b'x' | b'X' => Some(Self::Pax),
            b'g' => Some(Self::PaxGlobal),
            b'L' => Some(Self::GnuLongName),
            b'K' => Some(Self::GnuLongLink),
            _ => None,
        }
    }

    /// Whether it is one of the two of POSIX, which importers fail on.
    pub fn is_pax(self) -> bool {
        matches!(self, Self::Pax | Self::PaxGlobal)
    }
}

/// How an archive ends.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct End {
    /// Where it does: after the last member's padding, in bytes.
    pub offset: u64,
    /// Bytes that the last member's content lacks to a whole block. Some readers want them.
    pub missing_padding: u64,
    /// Blocks of zeros that mark the end: 2, or fewer where they are missing.
    pub blocks: u64,
    /// Further zeros, in bytes: tar fills its last record with them.
    pub padding: u64,
    /// What comes after that, in bytes: no part of the archive.
    pub trailing: u64,
}

/// Why an archive could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file could not be read.
    #[error("Cannot read the archive")]
    Io(#[from] io::Error),
    /// A pipe or a device has no length to check sizes against.
    #[error("The archive is not a regular file")]
    NotAFile,
    /// The archive contradicts itself, its file or what every reader expects.
    #[error("{problem}, at byte {offset} of the archive")]
    Malformed {
        /// In bytes from the start of the archive: the header it is about.
        offset: u64,
        /// What it is.
        problem: Problem,
    },
}

/// What is wrong with an archive.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Nothing in it at all.
    #[error("The file is empty")]
    Empty,
    /// Another kind of file, or a damaged archive.
    #[error("There is no tar header: its checksum does not hold")]
    Checksum,
    /// A size that is no number, or a negative one.
    #[error("The size of a member is not a number")]
    Size,
    /// The file ends within a header.
    #[error("The file ends within a header")]
    HeaderCut,
    /// The file ends within a member.
    #[error("`{name}` would be {size} bytes long, but only {there} are there")]
    ContentCut {
        /// The member.
        name: String,
        /// As announced, in bytes.
        size: u64,
        /// In the file, in bytes.
        there: u64,
    },
    /// Some readers skip this many bytes, others none.
    #[error("`{name}` is not a file but says it has {size} bytes of content")]
    ContentOfNoFile {
        /// The member.
        name: String,
        /// As announced, in bytes.
        size: u64,
    },
    /// Content that only GNU tar can put together.
    #[error("`{0}` is stored as a sparse file")]
    Sparse(String),
    /// Part of an archive on several volumes.
    #[error("`{0}` is continued from another volume")]
    Continued(String),
    /// A PAX record that is not `length key=value`.
    #[error("A PAX record is malformed")]
    Record,
    /// The name or the size is given by two extensions, or for all members at once.
    #[error("The {0} of a member is given more than once")]
    Ambiguous(&'static str),
    /// An extension that belongs to nothing.
    #[error("An extended header is followed by no member")]
    Dangling,
    /// Not what anyone needs for an OVA.
    #[error("There are more than 10000 members")]
    TooMany,
    /// Not what anyone needs for an OVA.
    #[error("There are more than 1 MiB or 10000 of long names and PAX headers")]
    Extensions,
    /// More than the caller wants to hold.
    #[error("`{name}` is {size} bytes long, which is more than {limit}")]
    TooLarge {
        /// The member.
        name: String,
        /// In bytes.
        size: u64,
        /// In bytes.
        limit: u64,
    },
}

impl Problem {
    fn at(self, offset: u64) -> ReadError {
        ReadError::Malformed { offset, problem: self }
    }
}

/// A name from outside, fit for a terminal: GNU tar's may be a megabyte long.
pub(crate) fn printable(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    let mut shown: String = name.chars().take(100).flat_map(char::escape_debug).collect();
    if name.chars().nth(100).is_some() {
        shown.push('…');
    }
    shown
}

/// What extensions said of the next member.
#[derive(Debug, Default)]
struct Pending {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
    first_header: Option<u64>,
}

impl Pending {
    fn set<T>(field: &mut Option<T>, value: T, what: &'static str) -> Result<(), Problem> {
        match field.replace(value) {
            None => Ok(()),
            Some(_) => Err(Problem::Ambiguous(what)),
        }
    }

    /// Takes a PAX record in.
    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), Problem> {
        match key {
            b"path" => Self::set(&mut self.name, value.to_vec(), "name"),
            b"linkpath" => Self::set(&mut self.link, value.to_vec(), "link"),
            b"size" => Self::set(&mut self.size, decimal(value).ok_or(Problem::Record)?, "size"),
            _ => {
                self.sparse |= key.starts_with(b"GNU.sparse");
                Ok(())
            }
        }
    }
}

impl Archive {
    /// Reads the headers of the archive at `path`. The file must not change until this value is gone.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        // Opening a pipe would wait for a writer.
        if !std::fs::metadata(path)?.is_file() {
            return Err(ReadError::NotAFile);
        }
        Self::from_file(File::open(path)?)
    }

    /// Reads the headers of an archive, from the start of `file`.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn from_file(file: File) -> Result<Self, ReadError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(ReadError::NotAFile);
        }
        let length = metadata.len();
        let mut archive =
            Self { file, length, members: Vec::new(), extensions: Vec::new(), end: End::default() };
        archive.walk()?;
        Ok(archive)
    }

    /// The members, in their order. Two may have one name.
    pub fn members(&self) -> &[Entry] {
        &self.members
    }

    /// Headers that are no members, in their order.
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// How the archive ends.
    pub fn end(&self) -> End {
        self.end
    }

    /// Of the whole file, in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The file, for [`Entry::offset`].
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The first member of this name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.members.iter().find(|entry| entry.name == name)
    }

    /// The content of a member of this archive.
    pub fn reader(&self, entry: &Entry) -> Reader<'_> {
        Reader { file: &self.file, start: entry.offset, size: entry.size, position: 0 }
    }

    /// The whole content of a member that should be small.
    ///
    /// # Errors
    /// It is longer than `limit` bytes, or cannot be read.
    pub fn read(&self, entry: &Entry, limit: u64) -> Result<Vec<u8>, ReadError> {
        if entry.size > limit {
            let (name, size) = (printable(&entry.raw_name), entry.size);
            return Err(Problem::TooLarge { name, size, limit }.at(entry.header_offset));
        }
        self.bytes(entry.offset, entry.size)
    }

    fn bytes(&self, offset: u64, size: u64) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; size as usize];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn walk(&mut self) -> Result<(), ReadError> {
        if self.length == 0 {
            return Err(Problem::Empty.at(0));
        }
        let mut extensions_left = MAX_EXTENSIONS;
        let mut pending = Pending::default();
        let mut offset = 0;
        while offset < self.length {
            let mut block = [0; BLOCK as usize];
            let there = (self.length - offset).min(BLOCK);
            self.file.read_exact_at(&mut block[..there as usize], offset)?;
            if block.iter().all(|byte| *byte == 0) {
                break;
            }
            if there < BLOCK {
                return Err(Problem::HeaderCut.at(offset));
            }
            let header = Header::parse(&block).map_err(|defect| match defect {
                Defect::Checksum => Problem::Checksum.at(offset),
                Defect::Size => Problem::Size.at(offset),
            })?;
            offset = if let Some(kind) = ExtensionKind::of(header.type_flag) {
                let next = self.after(offset, &header.name, header.size)?;
                extensions_left =
                    extensions_left.checked_sub(header.size).ok_or(Problem::Extensions.at(offset))?;
                if self.extensions.len() == MAX_MEMBERS {
                    return Err(Problem::Extensions.at(offset));
                }
                self.extend(kind, &header, offset, &mut pending)?;
                next
            } else {
                self.add(header, offset, std::mem::take(&mut pending))?
            };
        }
        if let Some(offset) = pending.first_header {
            return Err(Problem::Dangling.at(offset));
        }
        self.end = self.find_end(offset.min(self.length))?;
        self.end.missing_padding = offset.saturating_sub(self.length);
        Ok(())
    }

    /// Where the padded content of a header ends; its padding may be missing at the end of the file, its content not.
    fn after(&self, header_offset: u64, name: &[u8], size: u64) -> Result<u64, ReadError> {
        // The header was read, so this is within the file.
        let start = header_offset + BLOCK;
        let there = self.length - start;
        if size > there {
            return Err(Problem::ContentCut { name: printable(name), size, there }.at(header_offset));
        }
        // No file is so long that rounding up its length overflows: lengths are signed.
        Ok((start + size).next_multiple_of(BLOCK))
    }

    /// Takes in an extended header.
    fn extend(
        &mut self,
        kind: ExtensionKind,
        header: &Header,
        offset: u64,
        pending: &mut Pending,
    ) -> Result<(), ReadError> {
        let content = self.bytes(offset + BLOCK, header.size)?;
        let at = |problem: Problem| problem.at(offset);
        let mut keys = Vec::new();
        match kind {
            ExtensionKind::GnuLongName => {
                Pending::set(&mut pending.name, until_zero(&content).to_vec(), "name").map_err(at)?;
            }
            ExtensionKind::GnuLongLink => {
                Pending::set(&mut pending.link, until_zero(&content).to_vec(), "link").map_err(at)?;
            }
            ExtensionKind::Pax | ExtensionKind::PaxGlobal => {
                let mut rest = &*content;
                while !rest.is_empty() {
                    let (key, value, after) = record(rest).ok_or(at(Problem::Record))?;
                    if kind == ExtensionKind::Pax {
                        pending.record(key, value).map_err(at)?;
                    } else if matches!(key, b"path" | b"linkpath" | b"size") {
                        return Err(at(Problem::Ambiguous("name or size")));
                    }
                    keys.push(String::from_utf8_lossy(key).into_owned());
                    rest = after;
                }
            }
        }
        if kind != ExtensionKind::PaxGlobal {
            pending.first_header.get_or_insert(offset);
        }
        let member = self.members.len();
        self.extensions.push(Extension { kind, header_offset: offset, member, keys });
        Ok(())
    }

    /// Takes in a member; answers with where the next header is.
    fn add(&mut self, header: Header, offset: u64, pending: Pending) -> Result<u64, ReadError> {
        let raw_name = pending.name.unwrap_or_else(|| header.name.clone());
        let kind = header.kind(&raw_name);
        let (size, size_encoding) = match pending.size {
            Some(size) => (size, SizeEncoding::Pax),
            None => (header.size, header.size_encoding),
        };
        let name = || printable(&raw_name);
        if self.members.len() == MAX_MEMBERS {
            return Err(Problem::TooMany.at(offset));
        }
        if header.type_flag == b'S' || pending.sparse {
            return Err(Problem::Sparse(name()).at(offset));
        }
        if header.type_flag == b'M' {
            return Err(Problem::Continued(name()).at(offset));
        }
        if !kind.has_content() && size != 0 {
            return Err(Problem::ContentOfNoFile { name: name(), size }.at(offset));
        }
        let next = self.after(offset, &raw_name, size)?;
        self.members.push(Entry {
            name: String::from_utf8_lossy(&raw_name).into_owned(),
            raw_name,
            kind,
            type_flag: header.type_flag,
            format: header.format,
            size,
            size_encoding,
            header_offset: offset,
            offset: offset + BLOCK,
            mode: header.mode,
            uid: header.uid,
            gid: header.gid,
            mtime: header.mtime,
            user: header.user,
            group: header.group,
            link: pending.link.unwrap_or(header.link),
        });
        Ok(next)
    }

    /// What there is from `offset` on, where no member begins.
    fn find_end(&self, offset: u64) -> io::Result<End> {
        let looked = (self.length - offset).min(2 * BLOCK + MAX_PADDING);
        let mut zeros = 0;
        let mut buffer = [0; 1 << 14];
        while zeros < looked {
            let chunk = &mut buffer[..(looked - zeros).min(1 << 14) as usize];
            self.file.read_exact_at(chunk, offset + zeros)?;
            match chunk.iter().position(|byte| *byte != 0) {
                Some(n) => {
                    zeros += n as u64;
                    break;
                }
                None => zeros += chunk.len() as u64,
            }
        }
        let blocks = (zeros / BLOCK).min(2);
        let padding = zeros - blocks * BLOCK;
        Ok(End { offset, missing_padding: 0, blocks, padding, trailing: self.length - offset - zeros })
    }
}

/// The content of one member.
#[derive(Debug)]
pub struct Reader<'a> {
    file: &'a File,
    start: u64,
    size: u64,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.size.saturating_sub(self.position);
        let wanted = left.min(buffer.len() as u64) as usize;
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.file.read_at(&mut buffer[..wanted], self.start + self.position)?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "The archive became shorter"));
        }
        self.position += n as u64;
        Ok(n)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "A position before the member's start");
        self.position = position.ok_or_else(invalid)?;
        Ok(self.position)
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn decimal(digits: &[u8]) -> Option<u64> {
    // `parse` alone would take a plus sign.
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}

/// Splits off the first PAX record, `"%d %s=%s\n"`, whose number is its own length: key, value, rest.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().take(20).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&records[..space])?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let body = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=').filter(|at| *at > 0)?;
    Some((&body[..equals], &body[equals + 1..], rest))
}

#[cfg(test)]
mod tests;
