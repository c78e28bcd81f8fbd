//! No certificate, however made, is trusted without a root, and none makes anything panic.
//!
//! An input is text, `0 | certificate | 0 | roots`, or the DER in it laid bare, which libFuzzer can change without
//! breaking base64: `1 | line | newline | (0 chain, 1 root | u16 length | DER)...`
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use libfuzzer_sys::fuzz_target;
use ova::certificate::{Roots, Trust, parse, verify};

/// The seeds sign this one.
const MANIFEST: &[u8] = b"SHA256(a.ovf)= 9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0\n";

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, text)) => {
            let at = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
            check(&text[..at], &text[at..]);
        }
        Some((1, der)) => {
            let at = der.iter().position(|byte| *byte == b'\n').map_or(der.len(), |at| at + 1);
            let (line, mut rest) = der.split_at(at);
            let mut texts = [line.to_vec(), Vec::new()];
            while let [role, high, low, after @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low])).min(after.len());
                let (der, next) = after.split_at(length);
                let text = &mut texts[usize::from(role & 1)];
                let pem =
                    ["-----BEGIN CERTIFICATE-----\n", &STANDARD.encode(der), "\n-----END CERTIFICATE-----\n"];
                text.extend_from_slice(pem.concat().as_bytes());
                rest = next;
            }
            check(&texts[0], &texts[1]);
        }
        _ => {}
    }
});

fn check(certificate: &[u8], roots: &[u8]) {
    if let Ok(parsed) = parse(certificate) {
        assert!(!parsed.signature.is_empty() && !parsed.chain.is_empty());
    }
    let now = 2_000_000_000;
    if let Ok(verified) = verify(MANIFEST, certificate, &Roots::default(), now) {
        assert!(matches!(verified.trust, Trust::Untrusted(_)));
    }
    if let Ok(roots) = Roots::from_pem(roots) {
        let _ = verify(MANIFEST, certificate, &roots, now);
    }
}
