use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

use super::*;
use crate::testing::{MIB, disk, hex, noise, run};

const OPTIONS: Options = Options { content_id: *b"0123456789abcdef" };

/// Writes both kinds, and has qemu-img compare them. Gives the digests.
fn check(capacity: u64, pieces: &[(u64, Vec<u8>)]) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("disk.raw");
    let vhd = dir.path().join("disk.vhd");
    let source = disk(&raw, capacity, pieces);
    [write_fixed, write_dynamic].map(|write| {
        let out = File::create(&vhd).unwrap();
        out.set_len(7).unwrap();
        let length = write(&source, &OPTIONS, &out, &mut |_| {}).unwrap();
        assert_eq!(out.metadata().unwrap().len(), length);
        let (raw, vhd) = (raw.to_str().unwrap(), vhd.to_str().unwrap());
        run("qemu-img", "qemu-utils", &["compare", "-f", "raw", "-F", "vpc", raw, vhd]);
        if let Some(info) = run("qemu-img", "qemu-utils", &["info", "-f", "vpc", vhd]) {
            let whole = capacity.next_multiple_of(MIB);
            assert!(info.contains(&format!("({whole} bytes)")), "{info}");
        }
        // Larger ones are slow to hash, and say no more.
        if length < 64 * MIB { hex(&Sha256::digest(std::fs::read(vhd).unwrap())) } else { String::new() }
    })
}

#[test]
fn disks_of_every_shape() {
    check(512, &[(0, b"x".to_vec())]);
    check(MIB, &[]);
    check(BLOCK + 512, &[(BLOCK, noise(512))]);
    check(40 * MIB, &[(5, noise(3 << 20)), (39 * MIB, vec![7; 1 << 20])]);
    check(300 << 30, &[(299 << 30, noise(70_000))]);
}

#[test]
fn bytes_of_a_disk() {
    let digests = check(3 * MIB - 512, &[(65536, b"data".to_vec())]);
    assert_eq!(
        digests,
        [
            "07a105ce0fd1a25b36ddd43eac5b64d98610ae051c08442f382f8568ccbf9d8f",
            "1a4f5c4380fc9dbc6a248435fe58e2c40a8ef50ffafbdd48ef9cc8b96d5ea75f"
        ]
    );
}

#[test]
fn footer_of_a_disk() {
    let bytes = footer(64 * MIB, Kind::Fixed, &OPTIONS);
    assert_eq!(&bytes[..16], b"conectix\0\0\0\x02\0\x01\0\0");
    assert_eq!(&bytes[16..28], b"\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0");
    assert_eq!(&bytes[48..56], &(64 * MIB).to_be_bytes());
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let checksum: u32 = bytes[64..68].iter().map(|byte| u32::from(*byte)).sum();
    assert_eq!(bytes[64..68], (!(sum - checksum)).to_be_bytes());
    assert_eq!((bytes[74] >> 4, bytes[76] >> 6), (8, 2), "a UUID of version 8");
}

/// Rounded down: the geometry never promises more than the disk has.
#[test]
fn geometries() {
    for (sectors, expected) in [
        (2048, [0, 30, 4, 17]),
        (40 * 2048, [3, 195, 5, 17]),
        (1024 * 2048, [8, 32, 16, 63]),
        (u64::MAX, [0xff, 0xff, 16, 255]),
    ] {
        let [high, low, heads, per_track] = geometry(sectors);
        let cylinders = u64::from(u16::from_be_bytes([high, low]));
        assert!(cylinders * u64::from(heads) * u64::from(per_track) <= sectors);
        assert_eq!([high, low, heads, per_track], expected, "{sectors} sectors");
    }
}

#[test]
fn limits() {
    let dir = tempfile::tempdir().unwrap();
    let write = |capacity| {
        let source = disk(&dir.path().join("disk"), capacity, &[]);
        let out = tempfile::tempfile().unwrap();
        write_dynamic(&source, &OPTIONS, &out, &mut |_| {}).map_err(|e| e.to_string())
    };
    assert!(write(0).unwrap_err().contains("0 bytes"));
    assert!(write(MAX_CAPACITY + 512).unwrap_err().contains("this format ends at"));
    // Footer, header, table, footer.
    assert_eq!(write(MAX_CAPACITY), Ok(1536 + 2040 * 512 * 4 + 512));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_disk_is_read_back(
        sectors in 1_u64..40_000,
        pieces in prop::collection::vec((0.0..1.0, 1_usize..200_000), 0..5),
    ) {
        let capacity = sectors * SECTOR;
        let pieces: Vec<_> = pieces
            .into_iter()
            .map(|(place, length)| {
                let offset = (capacity as f64 * place) as u64;
                (offset, noise(length.min((capacity - offset) as usize)))
            })
            .collect();
        check(capacity, &pieces);
    }
}
