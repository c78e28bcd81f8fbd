//! Whatever an archive says, members lie within it, and unpacking stays within its folder.
#![no_main]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use libfuzzer_sys::{Corpus, fuzz_target};
use nix::sys::memfd::{MFdFlags, memfd_create};
use ova::{Archive, Kind, Limits};

fuzz_target!(|data: &[u8]| -> Corpus {
    // Checksums of headers are made right, which libFuzzer would rarely do by itself; every 17th input keeps its own.
    let mut data = data.to_vec();
    if data.len() % 17 != 0 {
        for header in data.chunks_exact_mut(512) {
            if header.iter().any(|byte| *byte != 0) {
                header[148..156].fill(b' ');
                let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
    }
    let file = File::from(memfd_create(c"archive", MFdFlags::empty()).unwrap());
    file.write_all_at(&data, 0).unwrap();
    let Ok(archive) = Archive::from_file(file) else { return Corpus::Keep };
    let mut last = 0;
    for entry in archive.members() {
        assert!(entry.header_offset >= last && entry.offset == entry.header_offset + 512);
        last = entry.offset.checked_add(entry.size).unwrap();
        assert!(last <= data.len() as u64);
        let mut content = Vec::new();
        let mut reader = archive.reader(entry);
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(content, &data[entry.offset as usize..last as usize]);
        reader.seek(SeekFrom::End(0)).unwrap();
        assert!(entry.size == 0 || matches!(entry.kind, Kind::Regular | Kind::Other(_)));
    }
    for extension in archive.extensions() {
        assert!(extension.member <= archive.members().len());
    }
    let end = archive.end();
    assert_eq!(end.offset + end.blocks * 512 + end.padding + end.trailing, data.len() as u64);
    // Only where it may succeed: folders cost more than all the rest.
    if archive.members().iter().all(|entry| entry.kind == Kind::Regular) && !archive.members().is_empty() {
        unpack(&archive);
    }
    Corpus::Keep
});

fn unpack(archive: &Archive) {
    let parent = std::env::temp_dir().join(format!("ova-fuzz-{}", std::process::id()));
    let dir = parent.join("in");
    std::fs::create_dir_all(&parent).unwrap();
    let result = ova::unpack(archive, &dir, &Limits { total: 1 << 20, keep_free: 0 });
    let outside = std::fs::read_dir(&parent).unwrap().count();
    match result {
        Ok(paths) => {
            assert!(outside == 1 && paths.iter().all(|path| path.parent() == Some(&dir)));
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), archive.members().len());
        }
        Err(_) => assert_eq!(outside, 0, "nothing is left"),
    }
    std::fs::remove_dir_all(&parent).unwrap();
}
