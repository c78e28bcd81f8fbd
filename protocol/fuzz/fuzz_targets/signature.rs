//! Signed requests: three headers, a line each, then the body.
#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::signature::{MAX_NONCE, MIN_NONCE, SignatureError, verify};

fuzz_target!(|text: &str| {
    let mut parts = text.splitn(4, '\n');
    let [digest, input, signature] = [(); 3].map(|()| parts.next());
    let body = parts.next().unwrap_or_default().as_bytes();
    let header = |name: &str| match name {
        "content-digest" => digest,
        "signature-input" => input,
        "signature" => signature,
        _ => None,
    };
    let verify = |method: &str, body: &[u8]| verify(header, method, "/v1/link/poll", None, body);
    if let Ok(signed) = verify("POST", body) {
        assert!((MIN_NONCE..=MAX_NONCE).contains(&signed.nonce.len()));
        assert_eq!(verify("POST", &[body, b"x"].concat()), Err(SignatureError::Digest));
        assert_eq!(verify("GET", body), Err(SignatureError::Wrong));
    }
});
