//! Files that qemu-img makes, in every form; and what does not belong into a file.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::layout::{GRAIN, Header};
use crate::testing::{MIB, disk, noise, options, run, same};
use crate::{Raw, write_raw, write_stream_optimized};

const FORMS: [&str; 5] =
    ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"];

/// A disk of two extents where they are split, with data on both sides of where that happens.
fn example(path: &Path) -> Raw {
    const SPLIT: u64 = 2 << 30;
    let pieces = [(0, noise(70_000)), (33 * MIB, vec![9; 3 << 20]), (SPLIT - 5000, noise(10_000))];
    disk(path, SPLIT + 5 * MIB + 512, &pieces)
}

#[test]
fn files_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let source = example(&raw);
    for form in FORMS {
        let path = dir.path().join(format!("{form}.vmdk"));
        let subformat = format!("subformat={form}");
        let (raw, vmdk) = (raw.to_str().unwrap(), path.to_str().unwrap());
        if run("qemu-img", "qemu-utils", &["convert", "-O", "vmdk", "-o", &subformat, raw, vmdk]).is_none() {
            return;
        }
        let read = Vmdk::open(&path).unwrap();
        assert_eq!(read.facts().create_type, form);
        assert_eq!(read.facts().extents.len(), if form.starts_with("two") { 2 } else { 1 });
        assert_eq!(read.facts().compressed, form == "streamOptimized");
        same(&source, &read);
        let again = tempfile::tempfile().unwrap();
        write_raw(&read, &again, &mut |_| {}).unwrap();
        same(&source, &Raw::new(again).unwrap());
    }
}

/// Small disks: qemu-img does not always write an end of stream.
#[test]
fn streams_of_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let vmdk = dir.path().join("disk.vmdk");
    for pieces in [vec![], vec![(0, vec![1; 10_000])], vec![(MIB - GRAIN, noise(GRAIN as usize))]] {
        let source = disk(&raw, MIB, &pieces);
        let (raw, path) = (raw.to_str().unwrap(), vmdk.to_str().unwrap());
        let arguments = ["convert", "-O", "vmdk", "-o", "subformat=streamOptimized", raw, path];
        if run("qemu-img", "qemu-utils", &arguments).is_none() {
            return;
        }
        same(&source, &Vmdk::open(&vmdk).unwrap());
        let walk = crate::walk(&mut File::open(&vmdk).unwrap(), &mut |_, _| {}).unwrap();
        assert_eq!(walk.grains, pieces.len() as u64);
        assert!(!walk.footer && !walk.facts.footer && walk.facts.cid.is_some());
    }
}

#[test]
fn a_section_of_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let source = disk(&dir.path().join("disk"), MIB, &[(GRAIN, noise(1000))]);
    let mut bytes = vec![7; 1234];
    let written = write_stream_optimized(&source, &options(), &mut bytes, &mut |_| {}).unwrap();
    bytes.extend([7; 99]);
    let path = dir.path().join("archive");
    std::fs::write(&path, &bytes).unwrap();
    let open = |offset, length| Vmdk::from_section(File::open(&path).unwrap(), offset, length);
    same(&source, &open(1234, written.size).unwrap());
    assert!(open(1234, written.size + 100).unwrap_err().to_string().contains("the file ends"));
    assert!(open(u64::MAX, 2).unwrap_err().to_string().contains("the file ends"));
    assert!(open(0, 2000).unwrap_err().to_string().contains("neither the header"));
}

/// A descriptor of one extent, beside a file with a MiB.
fn described(line: &str) -> Result<Vmdk, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("folder")).unwrap();
    let inside = |name: &str| -> PathBuf { dir.path().join("folder").join(name) };
    std::fs::write(dir.path().join("outside"), vec![1; MIB as usize]).unwrap();
    std::fs::write(inside("flat"), vec![1; MIB as usize]).unwrap();
    symlink("flat", inside("link")).unwrap();
    nix::unistd::mkfifo(&inside("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let path = inside("disk.vmdk");
    std::fs::write(&path, format!("# Disk DescriptorFile\nversion=1\n{line}\n")).unwrap();
    Vmdk::open(path)
}

#[test]
fn extents_of_zeros_and_parts_of_files() {
    let read = described("RW 8 ZERO\nRW 2 FLAT \"flat\" 2046").unwrap();
    assert_eq!((read.capacity(), read.next_data(0).unwrap()), (5120, Some(4096..5120)));
    let mut bytes = [7; 600];
    read.read_exact_at(&mut bytes, 3996).unwrap();
    assert!(bytes[..100] == [0; 100] && bytes[100..] == [1; 500]);
    assert!(read.read_exact_at(&mut bytes, 5000).is_err());
}

#[test]
fn what_is_wrong_with_a_descriptor_is_named() {
    for (line, expected) in [
        ("", "no extents"),
        ("RW 1", "does not describe an extent"),
        ("RW 1 FLAT \"../outside\"", "not the bare name"),
        ("RW 1 FLAT \"/etc/passwd\"", "not the bare name"),
        ("RW 1 FLAT \"..\"", "not the bare name"),
        ("RW 1 FLAT \"link\"", "not an ordinary file"),
        ("RW 1 FLAT \"pipe\"", "not an ordinary file"),
        ("RW 1 FLAT \"missing\"", "No such file"),
        ("RW 2049 FLAT \"flat\"", "2049 sectors are described, the extent has 2048"),
        ("RW 1 FLAT \"flat\" 2048", "1 sectors are described, the extent has 0"),
        ("RW 1 FLAT \"flat\" 18446744073709551615", "the extent has 0"),
        ("RW 1 SPARSE \"flat\"", "neither the header"),
        ("RW 1 VMFSSPARSE \"flat\"", "`VMFSSPARSE` cannot be read"),
        ("NOACCESS 1 FLAT \"flat\"", "`NOACCESS` cannot be read"),
        ("RW 999999999999999999 ZERO", "64 TiB"),
        ("RW 1 ZERO\nparentCID=12345678", "parentCID=12345678"),
    ] {
        let error = described(line).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error}: {cause}").contains(expected), "{line}: {error}: {cause}");
    }
}

/// A stream with one byte changed, or eight.
fn broken(at: usize, value: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let source = disk(&dir.path().join("disk"), 40 * MIB, &[(GRAIN, noise(10)), (2 * GRAIN, noise(10))]);
    let mut bytes = Vec::new();
    write_stream_optimized(&source, &options(), &mut bytes, &mut |_| {}).unwrap();
    // Places from the end are negative there: usize::MAX is the last byte.
    let at = if at > bytes.len() { bytes.len() - (usize::MAX - at) - 1 } else { at };
    bytes[at..at + value.len()].copy_from_slice(value);
    let path = dir.path().join("a.vmdk");
    std::fs::write(&path, &bytes).unwrap();
    let read = || -> io::Result<()> {
        let read = Vmdk::open(&path)?;
        let mut content = vec![0; read.capacity() as usize];
        read.read_exact_at(&mut content, 0)
    };
    read().unwrap_err().to_string()
}

#[test]
fn what_is_wrong_with_a_stream_is_named() {
    const END: usize = usize::MAX;
    // The grains are at sectors 128 and 129, their table behind its marker at 131, the directory at 136.
    for (at, value, expected) in [
        (0, &b"COWD"[..], "Byte 0: an extent of an ESX server"),
        (4, &[9], "Byte 4: header version 9"),
        (8, &[1, 0, 1], "Byte 77: compression algorithm 1"),
        (12, &[0xff; 8], "Byte 12: a capacity of"),
        (20, &[129], "Byte 20: grains of 129"),
        (28, &[0xff; 8], "Byte 28: the descriptor"),
        (36, &[0, 0, 1], "Byte 512: a descriptor of 33554432 bytes"),
        (44, &[1], "Byte 44: grain tables of 513"),
        (74, b"\n", "Byte 73: the header's line ends"),
        (128 * 512, &[1], "Byte 65536: a grain for sector 1 where"),
        (128 * 512 + 8, &[0xff; 4], "Byte 65544: 4294967295 bytes"),
        (128 * 512 + 12, &[0], "Byte 65548: compressed data without"),
        (128 * 512 + 20, &[0x55; 20], "Byte 65548: compressed data that is damaged"),
        (131 * 512 + 4, &[0xff; 4], "Byte 67076: the grain is said to be at sector 4294967295"),
        (136 * 512, &[0xff; 4], "Byte 69632: the grain table is said to be"),
        (END - 511, &[1], "no end-of-stream marker"),
        (END - 1023 + 56, &[0xff; 4], "the grain directory is said to be at sector 4294967295"),
        (END - 1023 + 12, &[7], "the footer's capacity is not"),
        (END - 1535, &[2], "no footer's marker"),
    ] {
        let error = broken(at, value);
        assert!(error.contains(expected), "{at}: {error}");
    }
}

#[test]
fn a_directory_that_the_file_has_no_room_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; 1 << 20];
    let header = Header { directory: 1, ..Header::stream_optimized(MAX_CAPACITY / SECTOR, 0) };
    bytes[..512].copy_from_slice(&header.to_bytes());
    let path = dir.path().join("a.vmdk");
    std::fs::write(&path, &bytes).unwrap();
    assert!(Vmdk::open(&path).unwrap_err().to_string().contains("grain directory's end"));
}
