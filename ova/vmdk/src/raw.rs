//! Raw disks, written sparse.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::error::Error;
use crate::layout::{GRAIN, GRAIN_USIZE};
use crate::source::{Grains, Source};

/// Writes a disk as a raw file with holes where it has zeros; what was in the file is gone. `progress` is told the bytes
/// that were read so far.
///
/// # Errors
/// Reading or writing failed.
pub fn write_raw(disk: &dyn Source, out: &File, progress: &mut dyn FnMut(u64)) -> Result<(), Error> {
    out.set_len(0)?;
    out.set_len(disk.capacity())?;
    each_piece(disk, progress, |offset, piece| out.write_all_at(piece, offset))
}

/// Gives everything that is not zero to `take`, in order, with its offset in bytes. Pieces are at most 64 KiB and never
/// pass a multiple of that.
pub(crate) fn each_piece(
    disk: &dyn Source,
    progress: &mut dyn FnMut(u64),
    mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
) -> Result<(), Error> {
    const ZEROS: &[u8] = &[0; GRAIN_USIZE];
    let mut buffer = vec![0; GRAIN_USIZE];
    let mut read = 0;
    for grain in Grains::new(disk) {
        let start = grain? * GRAIN;
        let length = GRAIN.min(disk.capacity() - start);
        let piece = &mut buffer[..length as usize];
        disk.read_exact_at(piece, start)?;
        if *piece != ZEROS[..piece.len()] {
            take(start, piece)?;
        }
        read += length;
        progress(read);
    }
    Ok(())
}
