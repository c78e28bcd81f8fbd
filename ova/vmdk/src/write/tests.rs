//! What is written is read back by two readers that are not ours: qemu-img and libvmdk's vmdkinfo.

use proptest::prelude::*;

use super::*;
use crate::source::Raw;
use crate::testing::{MIB, disk, hex, noise, options, run, same};
use crate::{ReadError, Vmdk, walk};

fn write(disk: &Raw) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let written = write_stream_optimized(disk, &options(), &mut out, &mut |_| {}).unwrap();
    assert_eq!(written.size, out.len() as u64);
    assert_eq!(written.sha256[..], Sha256::digest(&out)[..]);
    (out, written)
}

/// Writes, and has all readers agree: qemu-img, libvmdk, ours at any place and from front to back.
fn check(capacity: u64, pieces: &[(u64, Vec<u8>)]) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let vmdk = dir.path().join("a-disk1.vmdk");
    let source = disk(&raw, capacity, pieces);
    let (bytes, written) = write(&source);
    std::fs::write(&vmdk, &bytes).unwrap();
    let read = Vmdk::open(&vmdk).unwrap();
    assert!(read.facts().footer && read.facts().extent_sectors * SECTOR == capacity);
    same(&source, &read);
    walked(&source, &bytes, &written);
    let (raw, vmdk) = (raw.to_str().unwrap(), vmdk.to_str().unwrap());
    run("qemu-img", "qemu-utils", &["compare", "-f", "raw", "-F", "vmdk", raw, vmdk]);
    if let Some(info) = run("vmdkinfo", "libvmdk-utils", &[vmdk]) {
        assert!(info.contains("Stream optimized") && info.contains(&format!("({capacity} bytes)")), "{info}");
    }
    // The end, which streaming importers stop at.
    assert!(bytes[bytes.len() - 512..].iter().all(|byte| *byte == 0));
    assert_eq!(&bytes[bytes.len() - 1024..bytes.len() - 1020], b"KDMV");
    written
}

fn walked(disk: &dyn Source, bytes: &[u8], written: &Written) {
    let mut expected = Vec::new();
    let walk = walk(&mut &bytes[..], &mut |offset, grain| {
        expected.resize(grain.len(), 0);
        disk.read_exact_at(&mut expected, offset).unwrap();
        assert!(expected == grain, "the grain at {offset}");
    })
    .unwrap();
    assert!(walk.ascending && walk.zlib && walk.footer && walk.facts.footer);
    assert_eq!(walk.end_of_stream, Some(written.size - SECTOR));
    assert_eq!((walk.populated, walk.trailing, walk.length), (written.populated, 0, written.size));
}

#[test]
fn disks_of_every_shape() {
    let table = GT_ENTRIES * GRAIN;
    assert_eq!(check(MIB, &[]).populated, 0);
    assert_eq!(check(512, &[(0, b"x".to_vec())]).populated, 512);
    for capacity in [GRAIN - 512, GRAIN, GRAIN + 512, table - 512, table, table + 512] {
        check(capacity, &[(0, b"first".to_vec()), (capacity - 512, noise(512))]);
    }
    // More grains than a table holds, a hole wider than a table, and data that does not compress, in the last grain too.
    check(3 * table, &[(0, noise(GRAIN as usize * 3)), (3 * table - GRAIN, noise(GRAIN as usize))]);
    assert_eq!(check(2 * table, &[(5, vec![1; (table + 9) as usize])]).populated, table + GRAIN);
    // Zeros that are allocated.
    assert_eq!(check(MIB, &[(0, vec![0; MIB as usize])]).populated, 0);
}

#[test]
fn holes_are_not_read() {
    const TIB: u64 = 1 << 40;
    let dir = tempfile::tempdir().unwrap();
    let file = disk(&dir.path().join("disk"), TIB, &[(0, b"first".to_vec()), (TIB - 4, b"last".to_vec())]);
    let (mut out, mut read) = (Vec::new(), 0);
    let written = write_stream_optimized(&file, &options(), &mut out, &mut |bytes| read = bytes).unwrap();
    assert_eq!((written.populated, read), (2 * GRAIN, 2 * GRAIN));
    // The directory is 128 KiB.
    assert!(written.size < 256 << 10, "{written:?}");
}

#[test]
fn threads_do_not_change_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let file = disk(&dir.path().join("disk"), 40 * MIB, &[(3, noise(9 << 20)), (30 << 20, vec![7; 5 << 20])]);
    let with = |threads| {
        let mut out = Vec::new();
        write_with(threads, &file, &options(), &mut out, &mut |_| {}).unwrap();
        out
    };
    assert!(with(1) == with(5));
}

#[test]
fn bytes_of_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = write(&disk(&dir.path().join("disk"), MIB, &[(GRAIN, b"data".to_vec())]));
    // Header, descriptor, the one grain at sector 128, its table, the directory, footer, end.
    assert_eq!(&bytes[..12], b"KDMV\x03\0\0\0\x01\0\x03\0");
    assert_eq!(&bytes[56..64], &[0xff; 8], "the directory is at the footer's word");
    let text = std::str::from_utf8(&bytes[512..1024]).unwrap().trim_end_matches('\0');
    assert!(
        text.starts_with("# Disk DescriptorFile\nversion=1\n")
            && text.ends_with("virtualHWVersion = \"4\"\n"),
        "{text}"
    );
    assert!(text.contains("CID=63646566\n") && text.contains("RW 2048 SPARSE \"a-disk1.vmdk\"\n"), "{text}");
    let sector = |n: usize| &bytes[n * 512..(n + 1) * 512];
    assert_eq!(&sector(128)[..8], &128_u64.to_le_bytes(), "the grain's first sector on the disk");
    assert_eq!(sector(128)[12], 0x78, "zlib");
    assert_eq!(
        sector(129)[..16],
        [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        "a table of four sectors"
    );
    assert_eq!(sector(130)[4..8], 128_u32.to_le_bytes(), "its second entry");
    assert_eq!(
        sector(134)[..16],
        [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0],
        "a directory of one sector"
    );
    assert_eq!(sector(135)[..4], 130_u32.to_le_bytes());
    assert_eq!(sector(136)[12], 3, "footer");
    assert_eq!(sector(137)[56..64], 135_u64.to_le_bytes());
    assert_eq!(bytes.len(), 139 * 512);
    // Changes with the compressor, too: then caches and published files are others.
    assert_eq!(
        hex(&Sha256::digest(&bytes)),
        "bd03cca048606851e09dfdb3d5f9b6cfcd61d823fd6c3a2803c9a37a96033cc7"
    );
}

#[test]
fn what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let write = |capacity, name: &str| {
        let disk = disk(&dir.path().join("disk"), capacity, &[]);
        let options = Options { extent_name: name.into(), ..options() };
        write_stream_optimized(&disk, &options, &mut Vec::new(), &mut |_| {}).unwrap_err().to_string()
    };
    assert!(write(0, "a").contains("0 bytes"));
    assert!(write(MIB + 1, "a").contains("1048577 bytes"));
    for name in ["", "a\"b", "a\nb", &"x".repeat(81)] {
        assert!(write(MIB, name).contains("cannot name an extent"));
    }
}

/// A source that fails, and one that is larger than any file.
struct Broken(u64);

impl Source for Broken {
    fn capacity(&self) -> u64 {
        self.0
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        buffer.fill(1);
        if offset < 40 * MIB { Ok(()) } else { Err(std::io::Error::other("a bad sector")) }
    }

    fn next_data(&self, offset: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
        Ok(Some(offset..self.0))
    }
}

#[test]
fn a_failure_ends_all_threads() {
    let write = |disk, out: &mut dyn Write| {
        write_with(3, &disk, &options(), out, &mut |_| {}).unwrap_err().to_string()
    };
    assert!(write(Broken(100 * MIB), &mut std::io::sink()).contains("a bad sector"));
    assert!(write(Broken(MAX_CAPACITY + SECTOR), &mut std::io::sink()).contains("this format ends at"));
    // A full disk.
    assert!(write(Broken(100 * MIB), &mut &mut [0; 70_000][..]).contains("whole buffer"));
}

/// Panics at its second MiB.
struct Panicking;

impl Source for Panicking {
    fn capacity(&self) -> u64 {
        1 << 30
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        assert!(offset != MIB, "on purpose");
        buffer.fill(1);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> std::io::Result<Option<std::ops::Range<u64>>> {
        Ok(Some(offset..self.capacity()))
    }
}

#[test]
#[should_panic(expected = "scoped thread panicked")]
fn a_panic_ends_all_threads() {
    let _ = write_with(2, &Panicking, &options(), &mut std::io::sink(), &mut |_| {});
}

#[test]
fn every_cut_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let pieces = [(0, noise(3000)), (40 * MIB, noise(200_000))];
    let (bytes, _) = write(&disk(&dir.path().join("disk"), 41 * MIB, &pieces));
    let path = dir.path().join("cut.vmdk");
    for length in (0..bytes.len()).step_by(509).chain([bytes.len() - 1, bytes.len() - 512]) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(Vmdk::open(&path), Err(ReadError::Malformed { .. })), "{length}");
        // From front to back, a file may end between two grains, but then without an end.
        match walk(&mut &bytes[..length], &mut |_, _| {}) {
            Ok(walk) => assert_eq!((walk.end_of_stream, length % 512), (None, 0)),
            Err(error) => assert!(matches!(error, ReadError::Malformed { .. }), "{error}"),
        }
    }
    std::fs::write(&path, [&bytes[..], b"x"].concat()).unwrap();
    assert!(Vmdk::open(&path).unwrap_err().to_string().contains("no footer's marker"));
    assert_eq!(walk(&mut &[&bytes[..], b"x"].concat()[..], &mut |_, _| {}).unwrap().trailing, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_disk_is_read_back(
        sectors in 1_u64..200_000,
        pieces in prop::collection::vec((0.0..1.0, 1_usize..200_000, any::<bool>()), 0..6),
    ) {
        let capacity = sectors * SECTOR;
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|(place, length, noisy)| {
                let offset = (capacity as f64 * place) as u64;
                let length = length.min((capacity - offset) as usize);
                (offset, if noisy { noise(length) } else { vec![0x5a; length] })
            })
            .collect();
        check(capacity, &pieces);
    }
}
