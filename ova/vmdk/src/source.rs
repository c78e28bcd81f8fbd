//! What a disk is read from.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::iter::Peekable;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use crate::layout::GRAIN;

/// A disk that can be read at any place; holes are known where the source knows them.
pub trait Source: Sync {
    /// In bytes.
    fn capacity(&self) -> u64;

    /// Fills `buffer` with what begins at byte `offset`.
    ///
    /// # Errors
    /// What reading fails with; a place beyond the capacity is [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// The next bytes at or after `offset` that may be other than zero, never an empty range; nothing where only zeros
    /// follow.
    ///
    /// # Errors
    /// What reading fails with.
    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>>;
}

/// A raw disk: a file or a block device. Its holes are what the file system says.
#[derive(Debug)]
pub struct Raw {
    file: File,
    capacity: u64,
}

impl Raw {
    /// Opens it for reading.
    ///
    /// # Errors
    /// What opening fails with.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Raw> {
        Raw::new(File::open(path)?)
    }

    /// Takes an open one, as long as it is now.
    ///
    /// # Errors
    /// What looking for its end fails with.
    pub fn new(mut file: File) -> io::Result<Raw> {
        // Not the length of the metadata: block devices have none.
        let capacity = file.seek(SeekFrom::End(0))?;
        Ok(Raw { file, capacity })
    }
}

impl Source for Raw {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        data_in(&self.file, offset..self.capacity)
    }
}

/// The first allocated part of a file within `range`, bytes.
pub(crate) fn data_in(file: &File, range: Range<u64>) -> io::Result<Option<Range<u64>>> {
    let seek = |offset: u64, whence| {
        let offset = offset.try_into().map_err(|_| Errno::EINVAL)?;
        lseek(file, offset, whence).map(i64::cast_unsigned)
    };
    if range.is_empty() {
        return Ok(None);
    }
    let start = match seek(range.start, Whence::SeekData) {
        Ok(start) if start < range.end => start,
        Ok(_) | Err(Errno::ENXIO) => return Ok(None),
        // A block device, or a file system that does not know.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(range)),
        Err(e) => return Err(e.into()),
    };
    let end = match seek(start, Whence::SeekHole) {
        Ok(end) if end > start => end.min(range.end),
        // Somebody has cut the file or punched a hole since; reading will tell.
        Ok(_) | Err(Errno::ENXIO) => range.end,
        Err(e) => return Err(e.into()),
    };
    Ok(Some(start..end))
}

/// The numbers of the grains that may hold data, ascending, each once.
pub(crate) struct Grains<'a> {
    disk: &'a dyn Source,
    /// The first grain that was not looked at.
    next: u64,
    /// The end of the data that `next` may be in, in bytes.
    data_end: u64,
}

impl<'a> Grains<'a> {
    pub(crate) fn new(disk: &'a dyn Source) -> Grains<'a> {
        Grains { disk, next: 0, data_end: 0 }
    }

    fn next_grain(&mut self) -> io::Result<Option<u64>> {
        let start = self.next * GRAIN;
        if start >= self.data_end {
            if start >= self.disk.capacity() {
                return Ok(None);
            }
            let Some(data) = self.disk.next_data(start)? else { return Ok(None) };
            self.data_end = data.end.min(self.disk.capacity());
            // The data may begin in the middle of a grain.
            self.next = data.start / GRAIN;
        }
        self.next += 1;
        Ok(Some(self.next - 1))
    }
}

impl Iterator for Grains<'_> {
    type Item = io::Result<u64>;

    fn next(&mut self) -> Option<io::Result<u64>> {
        self.next_grain().transpose()
    }
}

/// As many neighbours, beginning at a multiple of their number, as one thread compresses at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// Of its first grain.
    pub(crate) first: u64,
    /// Which of its grains may hold data: bit `n` for grain `first + n`.
    pub(crate) grains: u8,
}

impl Group {
    /// Grains of a group.
    pub(crate) const SIZE: u64 = u8::BITS as u64;

    /// The numbers of its grains that may hold data.
    pub(crate) fn numbers(self) -> impl Iterator<Item = u64> {
        (0..Group::SIZE).filter(move |n| self.grains >> n & 1 == 1).map(move |n| self.first + n)
    }
}

/// The groups that have grains with data, ascending.
pub(crate) struct Groups<'a>(Peekable<Grains<'a>>);

impl<'a> Groups<'a> {
    pub(crate) fn new(disk: &'a dyn Source) -> Groups<'a> {
        Groups(Grains::new(disk).peekable())
    }
}

impl Iterator for Groups<'_> {
    type Item = io::Result<Group>;

    fn next(&mut self) -> Option<io::Result<Group>> {
        let grain = match self.0.next()? {
            Ok(grain) => grain,
            Err(e) => return Some(Err(e)),
        };
        let mut group = Group { first: grain - grain % Group::SIZE, grains: 1 << (grain % Group::SIZE) };
        let end = group.first + Group::SIZE;
        while let Some(Ok(grain)) = self.0.next_if(|next| next.as_ref().is_ok_and(|grain| *grain < end)) {
            group.grains |= 1 << (grain % Group::SIZE);
        }
        Some(Ok(group))
    }
}
