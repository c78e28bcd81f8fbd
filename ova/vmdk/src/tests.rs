//! What is written is read back by two readers that are not ours: qemu-img and libvmdk's vmdkinfo.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;

const MIB: u64 = 1 << 20;

/// A sparse disk with `pieces` of data: offset and content.
fn disk(path: &Path, capacity: u64, pieces: &[(u64, Vec<u8>)]) -> File {
    let mut file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(capacity).unwrap();
    for (offset, content) in pieces {
        file.seek(SeekFrom::Start(*offset)).unwrap();
        file.write_all(content).unwrap();
    }
    file
}

fn options() -> Options {
    Options { extent_name: "a-disk1.vmdk".into(), content_id: *b"0123456789abcdef" }
}

fn write(disk: &File, capacity: u64) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let written = write_stream_optimized(disk, capacity, &options(), &mut out, &mut |_| {}).unwrap();
    assert_eq!(written.size, out.len() as u64);
    assert_eq!(written.sha256[..], Sha256::digest(&out)[..]);
    (out, written)
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    (0..length.div_ceil(32)).flat_map(|n| Sha256::digest(n.to_le_bytes())).take(length).collect()
}

/// What a program says; nothing where it is missing and the one who runs the tests accepts that.
fn run(program: &str, package: &str, arguments: &[&str]) -> Option<String> {
    let output = match Command::new(program).args(arguments).output() {
        Ok(output) => output,
        Err(_) if std::env::var_os("GATEWRIGHT_TEST_SKIP_MISSING").is_some_and(|skip| skip == "1") => {
            return None;
        }
        Err(e) => panic!("`{program}` is needed here ({e}): `apt-get install {package}`"),
    };
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    Some(text)
}

/// Writes, and has both readers agree.
fn check(capacity: u64, pieces: &[(u64, Vec<u8>)]) -> Written {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let vmdk = dir.path().join("a-disk1.vmdk");
    let (bytes, written) = write(&disk(&raw, capacity, pieces), capacity);
    std::fs::write(&vmdk, &bytes).unwrap();
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
    let written =
        write_stream_optimized(&file, TIB, &options(), &mut out, &mut |bytes| read = bytes).unwrap();
    assert_eq!((written.populated, read), (2 * GRAIN, 2 * GRAIN));
    // The directory is 128 KiB.
    assert!(written.size < 256 << 10, "{written:?}");
}

#[test]
fn threads_do_not_change_the_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let file = disk(&dir.path().join("disk"), 40 * MIB, &[(3, noise(9 << 20)), (30 << 20, vec![7; 5 << 20])]);
    let with = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| write(&file, 40 * MIB).0)
    };
    assert!(with(1) == with(5));
}

#[test]
fn bytes_of_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (bytes, _) = write(&disk(&dir.path().join("disk"), MIB, &[(GRAIN, b"data".to_vec())]), MIB);
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
}

#[test]
fn what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = disk(&dir.path().join("disk"), MIB, &[]);
    let write = |capacity, name: &str| {
        let options = Options { extent_name: name.into(), ..options() };
        write_stream_optimized(&file, capacity, &options, &mut Vec::new(), &mut |_| {})
            .unwrap_err()
            .to_string()
    };
    assert!(write(0, "a").contains("0 bytes"));
    assert!(write(MIB + 1, "a").contains("1048577 bytes"));
    assert!(write(2 * MIB, "a").contains("1048576 bytes long where 2097152"));
    assert!(write(MIB / 2, "a").contains("1048576 bytes long where 524288"));
    for name in ["", "a\"b", "a\nb", &"x".repeat(81)] {
        assert!(write(MIB, name).contains("cannot name an extent"));
    }
}

#[test]
fn a_content_id_never_means_none() {
    for last in [0xff, 0xfe] {
        let mut content_id = [0xff; 16];
        content_id[15] = last;
        let text = layout::descriptor(1, &Options { content_id, ..options() }).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("\nCID=00000000\n"));
    }
}

#[test]
fn the_longest_descriptor_fits_a_sector() {
    let options = Options { extent_name: "x".repeat(80), ..options() };
    let text = layout::descriptor(u64::MAX / SECTOR, &options).unwrap();
    assert!(text.len() <= SECTOR as usize, "{} bytes", text.len());
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
