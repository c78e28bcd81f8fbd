//! Any bytes, from front to back.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut seen = 0;
    let result = vmdk::walk(&mut &bytes[..], &mut |_, grain| seen += grain.len() as u64);
    if let Ok(walk) = result {
        assert_eq!((walk.populated, walk.length), (seen, bytes.len() as u64));
    }
});
