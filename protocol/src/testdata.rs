//! Test vectors: `testdata/*.json`, for other implementations too. As with snapshots, `INSTA_UPDATE=always` writes them anew.

use std::path::Path;
use std::{env, fs};

use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::Value;

use crate::device_key::DeviceKey;

/// That a file of `testdata` says this.
pub(crate) fn assert_file(name: &str, value: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name);
    if env::var_os("INSTA_UPDATE").is_some_and(|value| value == "always") {
        fs::write(&path, format!("{value:#}\n")).unwrap();
    }
    let kept: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(&kept, value, "{}", path.display());
}

/// The key pair of a seed: PKCS #8 v2 as RFC 5958 and RFC 8410 write it.
pub(crate) fn device_key(seed: [u8; 32]) -> DeviceKey {
    let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
    let head = [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let pkcs8 = [&head, seed.as_slice(), &[0x81, 0x21, 0], public.public_key().as_ref()].concat();
    DeviceKey::from_pkcs8(&pkcs8).unwrap()
}
