//! Writes archives.
//!
//! ```text
//! base.ovf | base.mf | base.cert | contents ... | two zero blocks, zeros to 10240
//! '------- the head -----------'
//! ```
//!
//! The head holds digests of what comes after it. [`write_seekable`] therefore leaves it out at first: the lengths of
//! manifest and certificate are known beforehand, the descriptor gets a reserve and is filled up to it with spaces.
//!
//! A digest of the whole archive comes with none of these: it begins with the head, so that it can only be made once
//! the head is known, of the finished file ([`crate::manifest::Algorithm::digest`]; it is still in the page cache).
//! With [`pack`] and [`write_stream`] the writer may make it on the way.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use crate::certificate::{Signer, SignerError};
use crate::header::BLOCK;
use crate::manifest;

/// Archives are padded to this, in bytes: tar's default record, which some readers insist on.
const RECORD: u64 = 20 * BLOCK;
/// Longest reserve for a descriptor, in bytes: it is held in memory.
const MAX_RESERVE: usize = 16 << 20;
/// First time that ustar's octal digits do not hold, in seconds since 1970: the year 2242.
const END_OF_TIME: u64 = 1 << 33;

/// The OVF descriptor.
#[derive(Debug)]
pub struct Descriptor {
    /// Bare file name, ending in `.ovf`; manifest and certificate are called after it.
    pub name: String,
    /// The document.
    pub xml: Vec<u8>,
}

/// A file that the descriptor refers to.
pub struct Member {
    /// Bare file name: the `ovf:href`.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of the content.
    pub sha256: [u8; 32],
    /// Read to its end, which must come after `size` bytes.
    pub content: Box<dyn Read>,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).field("size", &self.size).finish_non_exhaustive()
    }
}

/// What a descriptor and a manifest say of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberFacts {
    /// Bare file name.
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// Of the content.
    pub sha256: [u8; 32],
}

/// Writes a content in a single pass.
type WriteContent<'a, E> = Box<dyn FnOnce(&mut dyn Write) -> Result<(), E> + 'a>;

/// A file that the descriptor refers to, whose size shows only when it is written.
pub struct Content<'a, E> {
    name: String,
    write: WriteContent<'a, E>,
}

impl<'a, E> Content<'a, E> {
    /// A file of this bare name, which `write` writes.
    pub fn new(name: impl Into<String>, write: impl FnOnce(&mut dyn Write) -> Result<(), E> + 'a) -> Self {
        Self { name: name.into(), write: Box::new(write) }
    }
}

impl<E> std::fmt::Debug for Content<'_, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Content").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What an archive has beside its files.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Time of every member, in seconds since 1970.
    pub mtime: u64,
    /// Signs the manifest.
    pub signer: Option<&'a Signer>,
}

/// What was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Written {
    /// Of the archive, in bytes.
    pub size: u64,
    /// The files that the descriptor refers to, in their order.
    pub members: Vec<MemberFacts>,
}

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that some importer does not find: with a folder, empty, longer than ustar holds, or with a character
    /// that an `ovf:href` would have to encode or that ends a name in a manifest.
    #[error("`{0}` is not a bare file name of at most 100 ASCII letters, digits and any of `-._~+`")]
    Name(String),
    /// Two members of one name.
    #[error("Two members of the archive are called `{0}`")]
    Duplicate(String),
    /// A member's content is not what its size and digest say; the archive is broken.
    #[error("The content of `{name}` is not the {size} bytes that were announced")]
    Content {
        /// The member.
        name: String,
        /// In bytes, as announced.
        size: u64,
    },
    /// The descriptor is not called `*.ovf`.
    #[error("The descriptor's name `{0}` does not end in `.ovf`")]
    Descriptor(String),
    /// The descriptor does not fit between what was written before it.
    #[error("The descriptor is {size} bytes long, but {reserved} were reserved for it")]
    Reserve {
        /// In bytes.
        size: usize,
        /// In bytes; never more than 16 MiB.
        reserved: usize,
    },
    /// The head is filled in last, and nothing of the caller's is overwritten.
    #[error("An archive can only be made in an empty regular file")]
    NotEmpty,
    /// Members cannot have this time.
    #[error("The time {0} is beyond the year 2242, where ustar ends")]
    Time(u64),
    /// The manifest could not be signed.
    #[error("Cannot sign the manifest")]
    Sign(#[from] SignerError),
    /// A member could not be read.
    #[error("Cannot read the content of `{name}`")]
    Read {
        /// The member.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Writing the archive failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes an archive: descriptor, manifest, certificate if there is a signer, then `members` in their order, which is
/// that of the descriptor's References.
///
/// # Errors
/// See [`Error`]; what was written until then is of no use.
pub fn pack(
    out: &mut dyn Write,
    descriptor: &Descriptor,
    members: &mut [Member],
    options: &Options<'_>,
) -> Result<(), Error> {
    let Some(base) = descriptor.name.strip_suffix(".ovf") else {
        return Err(Error::Descriptor(descriptor.name.clone()));
    };
    // Before anything is written: members may be many gigabytes.
    check(base, &members.iter().map(|member| &*member.name).collect::<Vec<_>>(), options)?;
    let facts: Vec<_> = members
        .iter()
        .map(|Member { name, size, sha256, .. }| MemberFacts {
            name: name.clone(),
            size: *size,
            sha256: *sha256,
        })
        .collect();
    let head = head(base, &descriptor.xml, &facts, options)?;
    out.write_all(&head)?;
    let mut written = head.len() as u64;
    for member in members {
        out.write_all(header(&member.name, member.size, options.mtime)?.as_bytes())?;
        if copy(out, member)? != (member.size, member.sha256) {
            return Err(Error::Content { name: member.name.clone(), size: member.size });
        }
        written += BLOCK + pad(out, member.size)?;
    }
    finish(out, written)?;
    Ok(())
}

/// Writes an archive into `out`, an empty regular file, in one pass over the data: each content is written once, where
/// it stays, and hashed on the way. Then `descriptor` makes the document of what was written; it may be up to `reserve`
/// bytes long and is filled up to that with white space after its end, which XML allows. (All digits of a size written
/// as nines make a good estimate.)
///
/// The same contents give the same bytes. Memory is bounded by the reserve. Nothing is synchronised to the disk.
///
/// # Errors
/// Those of `contents` and of `descriptor`, and see [`Error`]; what is in the file then is of no use.
pub fn write_seekable<E: From<Error>>(
    out: &mut File,
    base: &str,
    contents: Vec<Content<'_, E>>,
    descriptor: impl FnOnce(&[MemberFacts]) -> Result<Vec<u8>, E>,
    reserve: usize,
    options: &Options<'_>,
) -> Result<Written, E> {
    let names: Vec<_> = contents.iter().map(|content| &*content.name).collect();
    check(base, &names, options)?;
    if reserve > MAX_RESERVE {
        return Err(Error::Reserve { size: reserve, reserved: MAX_RESERVE }.into());
    }
    let start = head_len(base, reserve, &names, options);
    let mut written = start;
    let mut members = Vec::new();
    let file = &*out;
    let mut out = begin(file, start).map_err(E::from)?;
    for content in contents {
        let at = written;
        out.write_all(&[0; BLOCK as usize]).map_err(Error::Io)?;
        let facts = write_content(&mut out, content)?;
        written += BLOCK + pad(&mut out, facts.size).map_err(Error::Io)?;
        // Only what was written through the buffer may be written over.
        out.flush().map_err(Error::Io)?;
        let header = header(&facts.name, facts.size, options.mtime)?;
        file.write_all_at(header.as_bytes(), at).map_err(Error::Io)?;
        members.push(facts);
    }
    let size = finish(&mut out, written).map_err(Error::Io)?;
    drop(out);
    let xml = fill_up(descriptor(&members)?, reserve)?;
    let head = head(base, &xml, &members, options)?;
    debug_assert_eq!(head.len() as u64, start, "the head is as long as what was reserved for it");
    file.write_all_at(&head, 0).map_err(Error::Io)?;
    Ok(Written { size, members })
}

/// Writes the archive that [`write_seekable`] would, without its white space, to anything. `contents` are first written
/// to a file without a name in `spool`, a folder with room for all of them.
///
/// # Errors
/// Those of `contents` and of `descriptor`, and see [`Error`]; what was written until then is of no use.
pub fn write_stream<E: From<Error>>(
    out: &mut dyn Write,
    base: &str,
    contents: Vec<Content<'_, E>>,
    descriptor: impl FnOnce(&[MemberFacts]) -> Result<Vec<u8>, E>,
    spool: &Path,
    options: &Options<'_>,
) -> Result<Written, E> {
    check(base, &contents.iter().map(|content| &*content.name).collect::<Vec<_>>(), options)?;
    let mut spool = tempfile::tempfile_in(spool).map_err(Error::Io)?;
    let mut buffered = BufWriter::with_capacity(1 << 20, &spool);
    let mut facts = Vec::new();
    for content in contents {
        facts.push(write_content(&mut buffered, content)?);
    }
    buffered.flush().map_err(Error::Io)?;
    drop(buffered);
    let descriptor = Descriptor { name: format!("{base}.ovf"), xml: descriptor(&facts)? };
    spool.rewind().map_err(Error::Io)?;
    let mut members = facts
        .iter()
        .map(|MemberFacts { name, size, sha256 }| {
            // Clones share one position, so that each member goes on where the one before it ended.
            let content = Box::new(spool.try_clone()?.take(*size));
            Ok(Member { name: name.clone(), size: *size, sha256: *sha256, content })
        })
        .collect::<io::Result<Vec<_>>>()
        .map_err(Error::Io)?;
    let mut out = Counted { out, written: 0 };
    pack(&mut out, &descriptor, &mut members, options)?;
    out.flush().map_err(Error::Io)?;
    Ok(Written { size: out.written, members: facts })
}

/// A writer behind the head.
fn begin(file: &File, start: u64) -> Result<BufWriter<&File>, Error> {
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() != 0 {
        return Err(Error::NotEmpty);
    }
    let mut position = file;
    position.seek(SeekFrom::Start(start))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

fn write_content<E: From<Error>>(out: &mut dyn Write, content: Content<'_, E>) -> Result<MemberFacts, E> {
    let mut out = Hashed { out, hasher: Sha256::new(), written: 0 };
    (content.write)(&mut out)?;
    Ok(MemberFacts { name: content.name, size: out.written, sha256: out.hasher.finalize().into() })
}

/// Checks what can be before anything is written.
fn check(base: &str, members: &[&str], options: &Options<'_>) -> Result<(), Error> {
    if options.mtime >= END_OF_TIME {
        return Err(Error::Time(options.mtime));
    }
    let own = ["ovf", "mf", "cert"].map(|suffix| format!("{base}.{suffix}"));
    // Without a signer as well: another one may add the certificate.
    let mut names = BTreeSet::new();
    for name in own.iter().map(|name| &**name).chain(members.iter().copied()) {
        check_name(name)?;
        if !names.insert(name) {
            return Err(Error::Duplicate(name.into()));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Error> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~+".contains(&b);
    // A dot in front hides a file, or is a folder; a dash is taken for an option.
    if (1..=100).contains(&name.len()) && name.bytes().all(is_plain) && !name.starts_with(['.', '-']) {
        Ok(())
    } else {
        Err(Error::Name(name.into()))
    }
}

/// Descriptor, manifest and certificate, as they stand in the archive.
fn head(base: &str, xml: &[u8], members: &[MemberFacts], options: &Options<'_>) -> Result<Vec<u8>, Error> {
    let descriptor = format!("{base}.ovf");
    let name = format!("{base}.mf");
    // The descriptor first, the manifest itself not.
    let own = (&*descriptor, Sha256::digest(xml).into());
    let manifest = manifest::write([own].into_iter().chain(members.iter().map(|m| (&*m.name, m.sha256))));
    let mut head = Vec::new();
    let mut put = |name: &str, content: &[u8]| -> Result<(), Error> {
        head.extend_from_slice(header(name, content.len() as u64, options.mtime)?.as_bytes());
        head.extend_from_slice(content);
        head.resize(head.len().next_multiple_of(BLOCK as usize), 0);
        Ok(())
    };
    put(&descriptor, xml)?;
    put(&name, manifest.as_bytes())?;
    if let Some(signer) = options.signer {
        put(&format!("{base}.cert"), &signer.sign(&name, manifest.as_bytes())?)?;
    }
    Ok(head)
}

/// How long [`head`] will be, in bytes.
fn head_len(base: &str, reserve: usize, members: &[&str], options: &Options<'_>) -> u64 {
    let descriptor = format!("{base}.ovf");
    let lines = [&*descriptor].into_iter().chain(members.iter().copied()).map(|name| (name, [0; 32]));
    let manifest = manifest::write(lines).len();
    let certificate = options.signer.map(|signer| signer.certificate_len(&format!("{base}.mf")));
    [reserve, manifest]
        .into_iter()
        .chain(certificate)
        .map(|size| BLOCK + (size as u64).next_multiple_of(BLOCK))
        .sum()
}

/// A document of exactly `size` bytes.
fn fill_up(mut xml: Vec<u8>, size: usize) -> Result<Vec<u8>, Error> {
    if xml.len() > size {
        return Err(Error::Reserve { size: xml.len(), reserved: size });
    }
    if xml.len() < size {
        xml.resize(size - 1, b' ');
        xml.push(b'\n');
    }
    Ok(xml)
}

/// A member's header. `tar` switches to GNU's base-256 size where octal digits do not hold it.
fn header(name: &str, size: u64, mtime: u64) -> Result<Header, Error> {
    let mut header = Header::new_ustar();
    header.set_path(name)?;
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime);
    header.set_entry_type(EntryType::Regular);
    header.set_cksum();
    Ok(header)
}

/// Copies a member's content, of which no more is read than its size and a little; answers with size and digest of what
/// was.
fn copy(out: &mut dyn Write, member: &mut Member) -> Result<(u64, [u8; 32]), Error> {
    let mut out = Hashed { out, hasher: Sha256::new(), written: 0 };
    let mut buffer = vec![0; 1 << 18];
    loop {
        let n = match member.content.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::Read { name: member.name.clone(), source }),
        };
        out.write_all(&buffer[..n])?;
        if out.written > member.size {
            break;
        }
    }
    Ok((out.written, out.hasher.finalize().into()))
}

/// Writes the zeros after a content of `size` bytes; answers with its size including them.
fn pad(out: &mut dyn Write, size: u64) -> io::Result<u64> {
    let padded = size.next_multiple_of(BLOCK);
    out.write_all(&[0; BLOCK as usize][..(padded - size) as usize])?;
    Ok(padded)
}

/// Ends an archive of which `written` bytes are there; answers with its size.
fn finish(out: &mut dyn Write, written: u64) -> io::Result<u64> {
    let end = (written + 2 * BLOCK).next_multiple_of(RECORD);
    out.write_all(&vec![0; (end - written) as usize])?;
    out.flush()?;
    Ok(end)
}

struct Hashed<'a> {
    out: &'a mut dyn Write,
    hasher: Sha256,
    written: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buffer)?;
        self.hasher.update(&buffer[..n]);
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct Counted<'a> {
    out: &'a mut dyn Write,
    written: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let n = self.out.write(buffer)?;
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests;
