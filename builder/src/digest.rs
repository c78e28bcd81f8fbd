//! SHA-256 over what decides a result. Every key of a layer, and the signature, is made here.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// A SHA-256 in lower-case hexadecimal, 64 characters.
pub(crate) type Digest = String;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

/// The digest of a value's canonical JSON: `serde_json` sorts map keys and prints no white space, structs keep their
/// order of fields.
pub(crate) fn of_json(value: &impl Serialize) -> Result<Digest> {
    // By way of `Value`, whose maps are sorted, so that the order of fields in our structs does not matter either.
    let value = serde_json::to_value(value).context("Cannot make canonical JSON")?;
    Ok(hex(&Sha256::digest(value.to_string())))
}

/// Sixteen bytes for an identifier named `role` in something whose content is `digest`.
pub(crate) fn id(digest: &str, role: &str) -> [u8; 16] {
    let hash = Sha256::new().chain_update(digest).chain_update([0]).chain_update(role).finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&hash[..16]);
    id
}

/// [`id`] as an RFC 9562 version 8 UUID (custom, so a hash is allowed).
pub(crate) fn uuid(digest: &str, role: &str) -> String {
    let mut id = id(digest, role);
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    let text = hex(&id);
    format!("{}-{}-{}-{}-{}", &text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..])
}

/// The digest and length in bytes of a file.
pub(crate) fn of_file(path: &Path) -> Result<(Digest, u64)> {
    let mut file = File::open(path).with_context(|| format!("Cannot open {}", path.display()))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hex(&hasher.finalize()), size)),
            Ok(n) => {
                hasher.update(&buffer[..n]);
                size += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).with_context(|| format!("Cannot read {}", path.display())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_canonical() {
        assert_eq!(
            of_json(&json!({"b": 1, "a": [2]})).unwrap(),
            of_json(&json!({"a": [2], "b": 1})).unwrap()
        );
        assert_ne!(of_json(&json!({"a": 1})).unwrap(), of_json(&json!({"a": 2})).unwrap());
    }

    #[test]
    fn identifiers_differ_by_role_and_content() {
        let uuid1 = uuid("x", "root");
        assert_eq!(uuid1, uuid("x", "root"));
        assert_ne!(uuid1, uuid("x", "esp"));
        assert_ne!(uuid1, uuid("y", "root"));
        assert_eq!((uuid1.len(), &uuid1[14..15]), (36, "8"));
    }
}
