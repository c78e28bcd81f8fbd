//! A process of its own, so that its peak is that of what it did.

use std::io;
use std::ops::Range;

use vmdk::{Options, Source};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

/// 100 GiB, with 128 MiB that do not compress, and a grain in every 32 MiB.
struct Large;

impl Source for Large {
    fn capacity(&self) -> u64 {
        100 * GIB
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let mut state = offset | 1;
        for byte in buffer {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (state >> 56) as u8;
        }
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<Range<u64>>> {
        if offset < 128 * MIB {
            return Ok(Some(offset..128 * MIB));
        }
        let start = offset.next_multiple_of(32 * MIB);
        Ok((start < self.capacity()).then_some(start..start + 65536))
    }
}

/// The most memory this process has had, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn memory_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.vmdk");
    let options = Options { extent_name: "a.vmdk".into(), content_id: [1; 16] };
    let mut file = std::fs::File::create(&path).unwrap();
    let written = vmdk::write_stream_optimized(&Large, &options, &mut file, &mut |_| {}).unwrap();
    assert!(written.populated > 300 * MIB);
    assert!(peak() <= 64, "{} MiB after writing", peak());

    let walk = vmdk::walk(&mut std::fs::File::open(&path).unwrap(), &mut |_, _| {}).unwrap();
    assert_eq!(walk.populated, written.populated);
    let disk = vmdk::Vmdk::open(&path).unwrap();
    let again = vmdk::write_stream_optimized(&disk, &options, &mut io::sink(), &mut |_| {}).unwrap();
    assert_eq!(again, written, "read and written again, it is the same file");
    assert!(peak() <= 64, "{} MiB after reading", peak());
}
