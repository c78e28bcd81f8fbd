//! Reads streamOptimized VMDKs from front to back, as importers do.

pub(crate) mod inflate;

use std::io::{self, Read};

use crate::descriptor::{Descriptor, MAX_LENGTH};
use crate::error::{Problem, ReadError};
use crate::layout::{GRAIN_MARKER, GT_BYTES, Header, SECTOR, SECTOR_USIZE, le32, le64};
use crate::read::Facts;

use self::inflate::{Inflater, max_length};

/// What was seen: facts, no judgement.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Walk {
    /// What the file says of itself.
    pub facts: Facts,
    /// Grains in the file.
    pub grains: u64,
    /// What they are of the disk, in bytes.
    pub populated: u64,
    /// Whether each grain was for a later place than the one before.
    pub ascending: bool,
    /// Whether all grains are zlib's (RFC 1950), as they should be, and none raw deflate.
    pub zlib: bool,
    /// Whether a footer was found.
    pub footer: bool,
    /// Where the end-of-stream marker is, in bytes. Nothing where the file ends without.
    pub end_of_stream: Option<u64>,
    /// Bytes after that marker.
    pub trailing: u64,
    /// Of the file, in bytes.
    pub length: u64,
}

/// Reads a streamOptimized VMDK from front to back and gives its grains to `visit`: the first byte on the disk, and the
/// content, which ends where the disk does.
///
/// What comes after the end-of-stream marker is counted, not looked at. Takes the memory of two grains, whatever the file
/// says.
///
/// # Errors
/// See [`ReadError`]. Grains that repeat or go back are no error, they are said in [`Walk::ascending`].
pub fn walk(stream: &mut dyn Read, visit: &mut dyn FnMut(u64, &[u8])) -> Result<Walk, ReadError> {
    let mut stream = Counted { stream, at: 0 };
    let mut sector = [0; SECTOR_USIZE];
    stream.read(&mut sector)?;
    let header = Header::parse(&sector, 0)?;
    if !header.compressed() || !header.markers() {
        return Err(ReadError::at(8, Problem::NotStream(header.flags)));
    }
    let descriptor = head(&mut stream, &header)?;
    let mut walk = Walk {
        facts: Facts::new(Some(&header), descriptor.as_ref())?,
        grains: 0,
        populated: 0,
        ascending: true,
        zlib: true,
        footer: false,
        end_of_stream: None,
        trailing: 0,
        length: 0,
    };
    let mut grain = vec![0; header.grain_bytes() as usize];
    let mut inflater = Inflater::default();
    let mut last = None;
    loop {
        let at = stream.at;
        if !stream.read_or_end(&mut sector)? {
            break;
        }
        let (value, length) = (le64(&sector, 0), le32(&sector, 8));
        if length > 0 {
            if value >= header.capacity || value % header.grain != 0 {
                return Err(ReadError::at(at, Problem::GrainPlace(value)));
            }
            stream.read_grain(&sector, length, &header, &mut inflater)?;
            let zlib = inflater.inflate(&mut grain);
            walk.zlib &= zlib.map_err(|problem| ReadError::at(at + GRAIN_MARKER as u64, problem))?;
            walk.ascending &= last.is_none_or(|last| last < value);
            last = Some(value);
            let inside = header.grain.min(header.capacity - value) * SECTOR;
            walk.grains += 1;
            walk.populated += inside;
            visit(value * SECTOR, &grain[..inside as usize]);
            continue;
        }
        let expect = |what, sectors: u64| match value == sectors {
            true => Ok(()),
            false => Err(ReadError::at(at, Problem::MarkerLength { what, sectors: value })),
        };
        match le32(&sector, 12) {
            0 => {
                expect("end of stream", 0)?;
                walk.end_of_stream = Some(at);
                walk.trailing = stream.drain()?;
                break;
            }
            1 => {
                expect("grain table", GT_BYTES as u64 / SECTOR)?;
                stream.skip(GT_BYTES as u64)?;
            }
            2 => {
                let sectors = (header.tables() * 4).div_ceil(SECTOR);
                expect("grain directory", sectors)?;
                stream.skip(sectors * SECTOR)?;
            }
            3 => {
                expect("footer", 1)?;
                let at = stream.at;
                stream.read(&mut sector)?;
                if Header::parse(&sector, at)?.capacity != header.capacity {
                    return Err(ReadError::at(at + 12, Problem::FooterDiffers("capacity")));
                }
                walk.footer = true;
            }
            // Progress: for who watches, nothing to read.
            4 => stream.skip(value.saturating_mul(SECTOR))?,
            unknown => return Err(ReadError::at(at + 12, Problem::MarkerType(unknown))),
        }
    }
    walk.length = stream.at;
    Ok(walk)
}

/// Reads up to the first sector of data; the descriptor is on the way, and so may be tables.
fn head(stream: &mut Counted<'_>, header: &Header) -> Result<Option<Descriptor>, ReadError> {
    let place = |what, field, sector: u64| {
        let at = sector.checked_mul(SECTOR).filter(|at| *at >= SECTOR);
        at.ok_or(ReadError::at(field, Problem::Place { what, sector }))
    };
    let data = place("first grain", 64, header.overhead)?;
    let mut descriptor = None;
    if header.descriptor != 0 {
        let start = place("descriptor", 28, header.descriptor)?;
        let length = header.descriptor_size.saturating_mul(SECTOR);
        if length > MAX_LENGTH {
            return Err(ReadError::at(36, Problem::DescriptorSize(length)));
        }
        if start.checked_add(length).is_none_or(|end| end > data) {
            let (what, sector) = ("descriptor", header.descriptor);
            return Err(ReadError::at(28, Problem::Place { what, sector }));
        }
        stream.skip(start - stream.at)?;
        let mut text = vec![0; length as usize];
        stream.read(&mut text)?;
        descriptor = Some(Descriptor::parse(&text)?);
    }
    stream.skip(data - stream.at)?;
    Ok(descriptor)
}

/// A stream that knows where it is.
struct Counted<'a> {
    stream: &'a mut dyn Read,
    /// Bytes read so far.
    at: u64,
}

impl Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), ReadError> {
        match self.read_or_end(buffer)? || buffer.is_empty() {
            true => Ok(()),
            false => Err(self.truncated(buffer.len() as u64, self.at)),
        }
    }

    /// False where the stream ends before the first byte.
    fn read_or_end(&mut self, buffer: &mut [u8]) -> Result<bool, ReadError> {
        let (start, mut filled) = (self.at, 0);
        while filled < buffer.len() {
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(self.truncated(buffer.len() as u64, start)),
                Ok(n) => {
                    filled += n;
                    self.at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(filled > 0)
    }

    /// Reads the rest of a grain, whose first sector is there, to the end of its last sector.
    fn read_grain(
        &mut self,
        first: &[u8; SECTOR_USIZE],
        length: u32,
        header: &Header,
        inflater: &mut Inflater,
    ) -> Result<(), ReadError> {
        if length > max_length(header.grain_bytes()) {
            let at = self.at - SECTOR + 8;
            return Err(ReadError::at(at, Problem::GrainLength(length)));
        }
        let length = length as usize;
        let input = inflater.input(length);
        let here = length.min(SECTOR_USIZE - GRAIN_MARKER);
        let (begin, rest) = input.split_at_mut(here);
        begin.copy_from_slice(&first[GRAIN_MARKER..GRAIN_MARKER + here]);
        let padding = (GRAIN_MARKER + length).next_multiple_of(SECTOR_USIZE) - GRAIN_MARKER - length;
        self.read(rest)?;
        if !rest.is_empty() {
            self.read(&mut [0; SECTOR_USIZE][..padding])?;
        }
        Ok(())
    }

    fn skip(&mut self, length: u64) -> Result<(), ReadError> {
        let start = self.at;
        let skipped = io::copy(&mut (&mut *self.stream).take(length), &mut io::sink())?;
        self.at += skipped;
        if skipped < length { Err(self.truncated(length, start)) } else { Ok(()) }
    }

    /// Counts what is left.
    fn drain(&mut self) -> Result<u64, ReadError> {
        let left = io::copy(&mut *self.stream, &mut io::sink())?;
        self.at += left;
        Ok(left)
    }

    fn truncated(&self, needed: u64, at: u64) -> ReadError {
        ReadError::at(at, Problem::Truncated { needed, end: self.at })
    }
}

#[cfg(test)]
mod tests;
