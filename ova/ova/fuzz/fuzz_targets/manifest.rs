//! What is read of a manifest and written again is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ova::manifest::{Algorithm, parse, write};

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = parse(data) else { return };
    for line in &manifest.lines {
        assert_eq!(line.digest.len(), line.algorithm.size());
        assert!(!line.name.is_empty() && !line.name.contains('\n'));
    }
    let sha256 = manifest.lines.iter().filter(|line| line.algorithm == Algorithm::Sha256);
    let files: Vec<_> =
        sha256.map(|line| (&*line.name, <[u8; 32]>::try_from(&*line.digest).unwrap())).collect();
    let again = parse(write(files.iter().copied()).as_bytes()).unwrap();
    assert_eq!(files.len(), again.lines.len());
    for ((name, digest), line) in files.iter().zip(&again.lines) {
        assert_eq!((*name, &digest[..]), (&*line.name, &*line.digest));
        assert!(line.strict || name.contains(')'));
    }
});
