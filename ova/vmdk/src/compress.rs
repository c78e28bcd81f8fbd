//! Grains, compressed by many threads and handed over in order.
//!
//! ```text
//! groups of grains -> threads: read, leave zeros out, compress, lay out -> caller, in order -> buffers go back
//! ```

use std::collections::BTreeMap;
use std::io;
use std::iter::Enumerate;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, PoisonError};
use std::thread;

use libdeflater::{CompressionLvl, Compressor};

use crate::layout::{self, GRAIN, GRAIN_SECTORS, GRAIN_USIZE, SECTOR_USIZE};
use crate::source::{Group, Groups, Source};

/// libdeflate's level. Of an installer's disk with 256 MB of data, which qemu-img (zlib's level 6) makes 125.8 MB of in 7.8 s
/// of processor time, level 1 makes 128.6 MB in 2.1 s, 2 makes 124.8 in 2.6 s, 3 124.2 in 2.5 s, 4 124.0 in 2.7 s, 5 122.4
/// in 3.0 s, 6 122.1 in 3.5 s.
pub const LEVEL: i32 = 3;
/// More threads wait for the one that hashes and writes. Together with their buffers they stay below 64 MiB.
const MAX_THREADS: usize = 32;
/// Laid out, an incompressible grain takes its marker, five bytes for each stored block, and zlib's six more.
const PACKED_GRAIN: usize = GRAIN_USIZE + SECTOR_USIZE;

/// A group as the file has it: grains with their markers, each padded to whole sectors.
pub(crate) struct Packed {
    pub(crate) group: Group,
    /// Sectors of each grain of the group; none where it holds only zeros.
    pub(crate) sectors: [u16; Group::SIZE as usize],
    buffer: Box<[u8]>,
    length: usize,
}

impl Packed {
    fn new() -> Packed {
        Packed {
            group: Group { first: 0, grains: 0 },
            sectors: [0; Group::SIZE as usize],
            buffer: vec![0; PACKED_GRAIN * Group::SIZE as usize].into(),
            length: 0,
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }
}

/// As many threads as this machine runs at a time.
pub(crate) fn threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS)
}

/// Gives every group of the disk to `take`, on this thread and in order, while `threads` others compress what follows.
pub(crate) fn in_order<E: From<io::Error>>(
    disk: &dyn Source,
    threads: usize,
    mut take: impl FnMut(&Packed) -> Result<(), E>,
) -> Result<(), E> {
    let (give_back, buffers) = mpsc::channel();
    // Two for each thread, so that none waits for one that is being written, and two for that.
    for _ in 0..2 * threads + 2 {
        give_back.send(Packed::new()).expect("the receiver lives");
    }
    let work = Mutex::new(Work { buffers, groups: Groups::new(disk).enumerate() });
    let (done, packed) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let (work, done) = (&work, Done(done.clone()));
            scope.spawn(move || {
                let mut packer = Packer::new();
                while let Some((number, mut buffer, group)) = Work::next(work) {
                    let result = group.and_then(|group| packer.pack(disk, group, &mut buffer));
                    // Nobody listens after a failure.
                    if done.0.send((number, result.map(|()| buffer))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        // Owned here, so that an error ends the threads: their channels are closed before they are waited for.
        let (packed, give_back) = (packed, give_back);
        let mut waiting = BTreeMap::new();
        let mut next = 0;
        for (number, result) in packed {
            waiting.insert(number, result?);
            while let Some(buffer) = waiting.remove(&next) {
                take(&buffer)?;
                next += 1;
                // Refused once all groups are given out.
                let _ = give_back.send(buffer);
            }
        }
        Ok(())
    })
}

/// Where a thread sends its groups. A source that panics is a failure like others, or its group would be waited for.
struct Done(Sender<(usize, io::Result<Packed>)>);

impl Drop for Done {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.send((0, Err(io::Error::other("reading the disk panicked"))));
        }
    }
}

/// What the threads share.
struct Work<'a> {
    buffers: Receiver<Packed>,
    groups: Enumerate<Groups<'a>>,
}

impl Work<'_> {
    /// A group to pack, its number and a buffer for it.
    ///
    /// The buffer comes first: the group that is to be written next always has one, so nothing waits for ever.
    fn next(work: &Mutex<Self>) -> Option<(usize, Packed, io::Result<Group>)> {
        let mut work = work.lock().unwrap_or_else(PoisonError::into_inner);
        let buffer = work.buffers.recv().ok()?;
        let (number, group) = work.groups.next()?;
        Some((number, buffer, group))
    }
}

/// A thread's compressor and the grain it works on, which stays in the processor's cache.
struct Packer {
    compressor: Compressor,
    grain: Box<[u8]>,
}

impl Packer {
    fn new() -> Packer {
        let level = CompressionLvl::new(LEVEL).expect("libdeflate's levels are 0 to 12");
        Packer { compressor: Compressor::new(level), grain: vec![0; GRAIN_USIZE].into() }
    }

    fn pack(&mut self, disk: &dyn Source, group: Group, packed: &mut Packed) -> io::Result<()> {
        const ZEROS: &[u8] = &[0; GRAIN_USIZE];
        packed.group = group;
        packed.sectors.fill(0);
        packed.length = 0;
        for number in group.numbers() {
            let start = number * GRAIN;
            // The disk's last grain is filled up with zeros.
            let (inside, beyond) = self.grain.split_at_mut(GRAIN.min(disk.capacity() - start) as usize);
            disk.read_exact_at(inside, start)?;
            beyond.fill(0);
            if *self.grain == *ZEROS {
                continue;
            }
            let place = &mut packed.buffer[packed.length..];
            let (marker, data) = place.split_at_mut(layout::GRAIN_MARKER);
            let length = self.compressor.zlib_compress(&self.grain, data).map_err(io::Error::other)?;
            marker.copy_from_slice(&layout::grain_marker(number * GRAIN_SECTORS, length as u32));
            let padded = (marker.len() + length).next_multiple_of(SECTOR_USIZE);
            place[layout::GRAIN_MARKER + length..padded].fill(0);
            packed.sectors[(number - group.first) as usize] = (padded / SECTOR_USIZE) as u16;
            packed.length += padded;
        }
        Ok(())
    }
}
