//! Any bytes, opened as a disk beside two files that descriptors name, and read at many places.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use vmdk::{Options, Source, Vmdk};

/// In memory where that is possible.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
    fs::write(folder.path().join("flat"), [7; 8192]).expect("a file");
    let flat = vmdk::Raw::open(folder.path().join("flat")).expect("the file");
    let options = Options { extent_name: "sparse".into(), content_id: [1; 16] };
    let mut sparse = fs::File::create(folder.path().join("sparse")).expect("a file");
    vmdk::write_stream_optimized(&flat, &options, &mut sparse, &mut |_| {}).expect("a disk");
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let path = FOLDER.path().join("disk.vmdk");
    fs::write(&path, bytes).expect("the folder takes a file");
    let Ok(disk) = Vmdk::open(&path) else { return };
    let capacity = disk.capacity();
    let mut buffer = vec![0; 70_000];
    let mut read = |offset: u64| {
        let length = (capacity - offset).min(buffer.len() as u64) as usize;
        let _ = disk.read_exact_at(&mut buffer[..length], offset);
    };
    read(0);
    read(capacity / 2);
    read(capacity - 1);
    let mut at = 0;
    for _ in 0..16 {
        let Ok(Some(data)) = disk.next_data(at) else { return };
        assert!(data.start >= at && data.start < data.end && data.end <= capacity, "{data:?} of {capacity}");
        read(data.start);
        at = data.end;
    }
});
