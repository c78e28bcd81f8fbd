//! What tests share: disks, other programs, comparisons.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::{Options, Raw, Source};

pub(crate) const MIB: u64 = 1 << 20;

/// A sparse disk with `pieces` of data: offset and content.
pub(crate) fn disk(path: &Path, capacity: u64, pieces: &[(u64, Vec<u8>)]) -> Raw {
    let file = File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap();
    file.set_len(capacity).unwrap();
    for (offset, content) in pieces {
        file.write_all_at(content, *offset).unwrap();
    }
    Raw::new(file).unwrap()
}

pub(crate) fn options() -> Options {
    Options { extent_name: "a-disk1.vmdk".into(), content_id: *b"0123456789abcdef" }
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    (0..length.div_ceil(32)).flat_map(|n| Sha256::digest(n.to_le_bytes())).take(length).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a program says; nothing where it is missing and the one who runs the tests accepts that.
pub(crate) fn run(program: &str, package: &str, arguments: &[&str]) -> Option<String> {
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

/// Both have the same data, and where one says that there is none the other has zeros. Read in pieces of odd sizes.
pub(crate) fn same(one: &dyn Source, other: &dyn Source) {
    assert_eq!(one.capacity(), other.capacity());
    for (of, with) in [(one, other), (other, one)] {
        let mut at = 0;
        while let Some(data) = of.next_data(at).unwrap() {
            assert!(data.start >= at && data.start < data.end && data.end <= of.capacity(), "{data:?}");
            for length in [100_003, 65536, 512].into_iter().cycle() {
                if at >= data.end {
                    break;
                }
                at = at.max(data.start);
                let length = length.min(data.end - at);
                let (mut a, mut b) = (vec![1; length as usize], vec![2; length as usize]);
                of.read_exact_at(&mut a, at).unwrap();
                with.read_exact_at(&mut b, at).unwrap();
                assert!(a == b, "{length} bytes at {at}");
                at += length;
            }
        }
    }
}
