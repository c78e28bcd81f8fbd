//! Makes the corpora to start from: `corpus/walk` and `corpus/open`.

use std::error::Error;
use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

const DESCRIPTORS: [(&str, &str); 4] = [
    ("flat", "RW 16 FLAT \"flat\" 0\n"),
    ("zero", "RW 8 ZERO\nRW 8 FLAT \"flat\" 8\nRDONLY 1 ZERO\n"),
    ("sparse", "RW 16 SPARSE \"sparse\"\nddb.adapterType = \"lsilogic\"\n"),
    ("outside", "RW 16 FLAT \"../flat\" 0\nparentCID=12345678\n"),
];

fn main() -> Result<(), Box<dyn Error>> {
    for target in ["walk", "open"] {
        fs::create_dir_all(format!("corpus/{target}"))?;
    }
    for (name, extents) in DESCRIPTORS {
        let text =
            format!("# Disk DescriptorFile\nversion=1\nCID=fffffffe\ncreateType=\"custom\"\n{extents}");
        fs::write(format!("corpus/open/{name}"), text)?;
    }
    let disk = tempfile::tempfile()?;
    let options = vmdk::Options { extent_name: "a.vmdk".into(), content_id: *b"0123456789abcdef" };
    for (n, capacity) in [512, 65536, 40 << 20].into_iter().enumerate() {
        disk.set_len(capacity)?;
        disk.write_all_at(b"first", 0)?;
        disk.write_all_at(b"last", capacity - 4)?;
        let mut bytes = Vec::new();
        vmdk::write_stream_optimized(&vmdk::Raw::new(disk.try_clone()?)?, &options, &mut bytes, &mut |_| {})?;
        fs::write(format!("corpus/walk/stream-{n}"), &bytes)?;
        fs::write(format!("corpus/open/stream-{n}"), &bytes)?;
        fs::write(format!("corpus/open/sparse-{n}"), uncompressed(capacity))?;
        // Tables in front, grains behind, as qemu-img has it: all that the footer says, said at once.
        let mut front = bytes.clone();
        front[56..64].copy_from_slice(&bytes[bytes.len() - 1024 + 56..][..8]);
        fs::write(format!("corpus/walk/front-{n}"), &front)?;
        fs::write(format!("corpus/open/front-{n}"), &front)?;
    }
    File::open("corpus")?.sync_all()?;
    Ok(())
}

/// A monolithicSparse disk with one grain of 4 KiB: header, descriptor, directory, table, grain.
fn uncompressed(capacity: u64) -> Vec<u8> {
    let mut bytes = vec![0; 16 * 512];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, b"KDMV\x01\0\0\0\x01\0\0\0");
    put(12, &(capacity / 512).to_le_bytes());
    put(20, &8_u64.to_le_bytes());
    put(28, &1_u64.to_le_bytes());
    put(36, &1_u64.to_le_bytes());
    put(44, &512_u32.to_le_bytes());
    put(56, &2_u64.to_le_bytes());
    put(64, &8_u64.to_le_bytes());
    put(73, b"\n \r\n");
    put(512, b"# Disk DescriptorFile\ncreateType=\"monolithicSparse\"\nRW 1 SPARSE \"a.vmdk\"\n");
    put(1024, &3_u32.to_le_bytes());
    put(3 * 512, &8_u32.to_le_bytes());
    put(8 * 512, b"grain");
    bytes
}
