//! A part of a file that is read as if it were one.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use crate::descriptor::MAX_LENGTH;
use crate::error::{Problem, ReadError};
use crate::layout::{Header, SECTOR, SECTOR_USIZE};

#[derive(Debug)]
pub(crate) struct Section {
    file: File,
    /// In the file, in bytes.
    start: u64,
    length: u64,
}

impl Section {
    /// The file has all of it, or had when that was looked at.
    pub(crate) fn new(file: File, start: u64, length: u64) -> Section {
        Section { file, start, length }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn read(&self, buffer: &mut [u8], at: u64) -> Result<(), ReadError> {
        let needed = buffer.len() as u64;
        if at.checked_add(needed).is_none_or(|end| end > self.length) {
            return Err(ReadError::at(at, Problem::Truncated { needed, end: self.length }));
        }
        Ok(self.file.read_exact_at(buffer, self.start + at)?)
    }

    pub(crate) fn header(&self, at: u64) -> Result<Header, ReadError> {
        let mut bytes = [0; SECTOR_USIZE];
        self.read(&mut bytes, at)?;
        Header::parse(&bytes, at)
    }

    /// A descriptor.
    pub(crate) fn read_text(&self, at: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        if length > MAX_LENGTH {
            return Err(ReadError::at(at, Problem::DescriptorSize(length)));
        }
        let mut text = vec![0; length as usize];
        self.read(&mut text, at)?;
        Ok(text)
    }

    /// The descriptor that a header points at.
    pub(crate) fn embedded_text(&self, header: &Header) -> Result<Vec<u8>, ReadError> {
        let at = self.place("descriptor", 28, header.descriptor)?;
        self.read_text(at, header.descriptor_size.saturating_mul(SECTOR))
    }

    /// The byte of a sector that byte `from` of the file points at.
    pub(crate) fn place(&self, what: &'static str, from: u64, sector: u64) -> Result<u64, ReadError> {
        match sector.checked_mul(SECTOR) {
            Some(at) if at < self.length => Ok(at),
            _ => Err(ReadError::at(from, Problem::Place { what, sector })),
        }
    }
}
