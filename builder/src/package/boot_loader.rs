//! Looks for the boot loader that firmware starts without a boot entry: `\EFI\BOOT\BOOTX64.EFI` on the EFI system
//! partition (UEFI specification, section 3.5.1.1).

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use fatfs::{FileSystem, FsOptions};
use gpt::GptConfig;
use gpt::partition_types::EFI;
use vmdk::Source;

/// More reads than any EFI system partition needs to find one file: a broken one may lead in circles.
const MAX_READS: u32 = 100_000;

/// What keeps firmware from starting the disk; nothing where it can.
pub(crate) fn missing(disk: &dyn Source) -> Option<String> {
    // Both libraries are made for disks that one trusts.
    catch_unwind(AssertUnwindSafe(|| look(disk)))
        .unwrap_or_else(|_| Err("the partition table or EFI system partition is broken".into()))
        .err()
}

fn look(disk: &dyn Source) -> Result<(), String> {
    let whole = Window { disk, start: 0, length: disk.capacity(), at: 0, reads: 0 };
    let table = GptConfig::new()
        .writable(false)
        .open_from_device(whole)
        .map_err(|e| format!("the disk has no GUID partition table ({e})"))?;
    let partition = table
        .partitions()
        .values()
        .find(|partition| partition.part_type_guid == EFI)
        .ok_or("the disk has no EFI system partition")?;
    let start = partition.first_lba.checked_mul(512);
    let length = partition
        .last_lba
        .checked_add(1)
        .and_then(|end| end.checked_sub(partition.first_lba)?.checked_mul(512));
    let (Some(start), Some(length)) = (start, length) else {
        return Err("the EFI system partition is not on the disk".into());
    };
    let window = Window { disk, start, length, at: 0, reads: 0 };
    let files = FileSystem::new(window, FsOptions::new())
        .map_err(|e| format!("the EFI system partition has no FAT file system ({e})"))?;
    match files.root_dir().open_file("EFI/BOOT/BOOTX64.EFI") {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(r"the EFI system partition has no \EFI\BOOT\BOOTX64.EFI".into())
        }
        Err(e) => Err(format!("the EFI system partition cannot be read ({e})")),
    }
}

/// A part of a disk as the libraries want it: a file, of which nothing can be written.
struct Window<'a> {
    disk: &'a dyn Source,
    start: u64,
    length: u64,
    at: u64,
    reads: u32,
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Window")
            .field("start", &self.start)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reads += 1;
        if self.reads > MAX_READS {
            return Err(io::Error::other("it leads in circles"));
        }
        let left = self.length.saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let place = self.start.checked_add(self.at).ok_or(io::ErrorKind::UnexpectedEof)?;
        self.disk.read_exact_at(&mut buffer[..count], place)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.at, by),
            SeekFrom::End(by) => (self.length, by),
        };
        self.at = from.checked_add_signed(by).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
