use libdeflater::{CompressionLvl, Compressor};

use super::*;
use crate::layout::{GRAIN, GRAIN_SECTORS, MarkerType, grain_marker, marker};

/// A stream with these grains, put together by hand: sector, compressed data, and what its marker says of that.
fn stream(grains: &[(u64, Vec<u8>)], end: &[u8]) -> Vec<u8> {
    let mut bytes = Header::stream_optimized(4 * GRAIN_SECTORS, Header::AT_FOOTER).to_bytes().to_vec();
    bytes.resize(128 * 512, 0);
    for (sector, data) in grains {
        bytes.extend(grain_marker(*sector, data.len() as u32));
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend(end);
    bytes
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut compressor = Compressor::new(CompressionLvl::default());
    let mut data = vec![0; content.len() + 1000];
    let length = compressor.zlib_compress(content, &mut data).unwrap();
    data.truncate(length);
    data
}

fn walked(grains: &[(u64, Vec<u8>)], end: &[u8]) -> Result<Walk, String> {
    walk(&mut &stream(grains, end)[..], &mut |_, _| {}).map_err(|error| error.to_string())
}

const EOS: [u8; 512] = [0; 512];

#[test]
fn grains_that_go_back_or_repeat() {
    let grain = zlib(&[1; GRAIN as usize]);
    for (sectors, ascending) in [([0, 128, 256], true), ([0, 256, 128], false), ([0, 128, 128], false)] {
        let walk = walked(&sectors.map(|sector| (sector, grain.clone())), &EOS).unwrap();
        assert_eq!((walk.ascending, walk.grains, walk.populated), (ascending, 3, 3 * GRAIN));
        assert!(walk.zlib && !walk.footer);
    }
}

#[test]
fn raw_deflate_is_told_apart() {
    let whole = zlib(&[1; GRAIN as usize]);
    let raw = whole[2..whole.len() - 4].to_vec();
    assert!(!walked(&[(0, raw)], &EOS).unwrap().zlib);
}

#[test]
fn a_short_grain_is_filled_up() {
    let bytes = stream(&[(128, zlib(b"short"))], &EOS);
    let mut seen = Vec::new();
    walk(&mut &bytes[..], &mut |offset, grain| seen.push((offset, grain[..6].to_vec(), grain.len())))
        .unwrap();
    assert_eq!(seen, [(GRAIN, b"short\0".to_vec(), GRAIN as usize)]);
}

#[test]
fn ends_of_all_kinds() {
    let walk = walked(&[], &[&EOS[..], b"left over"].concat()).unwrap();
    assert_eq!((walk.end_of_stream, walk.trailing, walk.length), (Some(65536), 9, 65536 + 521));
    let walk = walked(&[], &[]).unwrap();
    assert_eq!((walk.end_of_stream, walk.trailing, walk.length), (None, 0, 65536));
    let mut progress = EOS;
    progress[0] = 1;
    progress[12] = 4;
    let walk = walked(&[], &[progress, [7; 512], EOS].concat()).unwrap();
    assert_eq!(walk.end_of_stream, Some(65536 + 1024));
}

#[test]
fn what_is_wrong_is_named() {
    let good = zlib(&[1; GRAIN as usize]);
    let mut long = marker(MarkerType::GrainTable, 4096);
    let mut unknown = EOS;
    unknown[12] = 9;
    for (grains, end, expected) in [
        (vec![(512, good.clone())], &EOS[..], "Byte 65536: a grain for sector 512"),
        (vec![(1, good.clone())], &EOS, "Byte 65536: a grain for sector 1,"),
        (vec![(0, zlib(&[1; GRAIN as usize + 1]))], &EOS, "Byte 65548: compressed data that is damaged"),
        (vec![(0, vec![0x78; 100])], &EOS, "Byte 65548: compressed data that is damaged"),
        (vec![(0, vec![0; 100_000])], &EOS, "Byte 65544: 100000 bytes"),
        (vec![], &good, "Byte 65536: 512 bytes are needed"),
        (vec![], &long.clone(), "Byte 65536: a grain table of 8 sectors"),
        (vec![], &unknown, "Byte 65548: a marker of type 9"),
    ] {
        let error = walked(&grains, end).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    // A table that is not there.
    long[0] = 4;
    assert!(walked(&[], &long).unwrap_err().contains("Byte 66048: 2048 bytes are needed"));
    // A grain that ends with the file.
    let bytes = stream(&[(0, crate::testing::noise(2000))], &[]);
    let error = walk(&mut &bytes[..bytes.len() - 600], &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.contains("but the file ends at byte"), "{error}");
}

#[test]
fn heads_that_lie() {
    let walked = |change: fn(&mut Header)| {
        let mut header = Header::stream_optimized(128, Header::AT_FOOTER);
        change(&mut header);
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(1 << 17, 0);
        walk(&mut &bytes[..], &mut |_, _| {}).map(|_| ()).map_err(|error| error.to_string())
    };
    assert!(walked(|_| {}).is_ok());
    for (change, expected) in [
        ((|h| h.flags = 1) as fn(&mut Header), "Byte 8: flags 0x1"),
        (|h| h.overhead = 0, "Byte 64: the first grain"),
        (|h| h.overhead = u64::MAX, "Byte 64: the first grain"),
        (|h| h.overhead = 1 << 40, "bytes are needed here"),
        (|h| h.descriptor = 200, "Byte 28: the descriptor"),
        (|h| h.descriptor_size = u64::MAX, "Byte 36: a descriptor of"),
    ] {
        let error = walked(change).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
