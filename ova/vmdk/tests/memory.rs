//! A process of its own, so that its peak is that of what it did.

use std::io;
use std::ops::Range;

use vmdk::{Options, Source};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// 100 GiB, with 48 MiB that do not compress, and a grain in every 64 MiB.
struct Large;

impl Source for Large {
    fn capacity(&self) -> u64 {
        100 * GIB
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = offset | 1;
        for word in buffer.chunks_exact_mut(8) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            word.copy_from_slice(&state.to_le_bytes());
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset < 48 * MIB {
            return Ok(Some(offset..48 * MIB));
        }
        let start = offset.next_multiple_of(64 * MIB);
        Ok((start < self.capacity()).then_some(start..start + 65536))
    }
}

/// The most memory this process has had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    let kib: u64 = line.trim_end_matches("kB").trim().parse().expect("a number of KiB");
    kib / 1024
}

#[test]
fn memory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.vmdk");
    let options = Options { extent_name: "a.vmdk".into(), content_id: [1; 16] };
    let mut file = std::fs::File::create(&path).unwrap();
    let written = vmdk::write_stream_optimized(&Large, &options, &mut file, &mut |_| {}).unwrap();
    assert!(written.populated > 140 * MIB);
    assert!(peak() <= 64, "{} MiB after writing", peak());

    let walk = vmdk::walk(&mut std::fs::File::open(&path).unwrap(), &mut |_, _| {}).unwrap();
    assert_eq!(walk.populated, written.populated);
    let disk = vmdk::Vmdk::open(&path).unwrap();
    let again = vmdk::write_stream_optimized(&disk, &options, &mut io::sink(), &mut |_| {}).unwrap();
    assert_eq!(again, written, "read and written again, it is the same file");
    assert!(peak() <= 64, "{} MiB after reading", peak());
}
