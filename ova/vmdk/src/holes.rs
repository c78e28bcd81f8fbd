//! Walks over the allocated parts of a sparse file.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::layout::GRAIN;

/// The numbers of the grains that a file has data in, ascending, each once.
pub(crate) struct Ranges<'a> {
    file: &'a File,
    capacity: u64,
    /// The next grain to look at.
    next: u64,
    /// The end of the data that `next` may be in, in bytes.
    data_end: u64,
}

impl<'a> Ranges<'a> {
    pub(crate) fn new(file: &'a File, capacity: u64) -> Ranges<'a> {
        Ranges { file, capacity, next: 0, data_end: 0 }
    }

    fn next_grain(&mut self) -> io::Result<Option<u64>> {
        let start = self.next * GRAIN;
        if start >= self.capacity {
            return Ok(None);
        }
        if start >= self.data_end {
            let Some(data) = seek(self.file, start, Whence::SeekData)? else { return Ok(None) };
            self.data_end = seek(self.file, data, Whence::SeekHole)?.unwrap_or(self.capacity);
            // The data may begin in the middle of a grain.
            self.next = data / GRAIN;
            if self.next * GRAIN >= self.capacity {
                return Ok(None);
            }
        }
        self.next += 1;
        Ok(Some(self.next - 1))
    }
}

impl Iterator for Ranges<'_> {
    type Item = io::Result<u64>;

    fn next(&mut self) -> Option<io::Result<u64>> {
        self.next_grain().transpose()
    }
}

/// lseek(2) for data or a hole; nothing where there is no more data.
fn seek(file: &File, offset: u64, whence: Whence) -> io::Result<Option<u64>> {
    let offset = offset.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    match lseek(file, offset, whence) {
        Ok(at) => Ok(Some(at.cast_unsigned())),
        Err(Errno::ENXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
