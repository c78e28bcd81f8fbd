//! Rules for what must not be given away: keys in any file of the pack.
//!
//! Compressed files, such as charts, are not looked into.

use super::{Entry, Found, Subject, files};

/// What begins the content of a private key, and what must follow for it to be one.
const MARKS: &[(&[u8], &str)] = &[
    (b"PRIVATE KEY-----", "private key"),
    (b"PRIVATE KEY BLOCK-----", "OpenPGP private key"),
    (b"AGE-SECRET-KEY-1", "age key"),
    (b"PuTTY-User-Key-File-", "PuTTY key"),
    // `-----BEGIN … PRIVATE KEY-` in base64, as Secrets of Kubernetes have it.
    (b"LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0t", "private key in base64"),
    (b"LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVkt", "private key in base64"),
    (b"LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0t", "private key in base64"),
    (b"LS0tLS1CRUdJTiBPUEVOU1NIIFBSSVZBVEUgS0VZ", "private key in base64"),
    (b"LS0tLS1CRUdJTiBFTkNSWVBURUQgUFJJVkFURSBLRVkt", "private key in base64"),
];

/// The fewest characters that make a key: words about keys, and places to fill in, have fewer.
const MIN_KEY: usize = 24;

pub(super) fn private_key(pack: &Subject<'_>, found: &mut Found) {
    for (name, head) in contents(pack) {
        for (mark, what) in MARKS {
            let mut from = 0;
            while let Some(start) = find(&head[from..], mark).map(|start| from + start) {
                from = start + mark.len();
                if is_followed_by_key(&head[from..]) {
                    found.at(name, files::place(head, start), format!("The file has a {what}"));
                }
            }
        }
    }
}

/// Whether key material follows: after headers and line ends, also those that are escaped, come characters of base64.
fn is_followed_by_key(mut rest: &[u8]) -> bool {
    rest = &rest[..rest.len().min(512)];
    loop {
        let before = rest;
        rest = rest.trim_ascii_start();
        for escape in [&b"\\n"[..], b"\\r"] {
            rest = rest.strip_prefix(escape).unwrap_or(rest);
        }
        let line = rest.split(|byte| *byte == b'\n' || *byte == b'\\').next().unwrap_or_default();
        // `Proc-Type: 4,ENCRYPTED`, `Version: GnuPG`, `PuTTY-User-Key-File-3: ssh-ed25519`
        if find(line, b": ").is_some_and(|end| end < 24) {
            rest = &rest[line.len()..];
        }
        if rest.len() == before.len() {
            let is_base64 = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
            return rest.iter().take_while(is_base64).count() >= MIN_KEY;
        }
    }
}

pub(super) fn encryption_key(pack: &Subject<'_>, found: &mut Found) {
    for (name, head) in contents(pack) {
        // Also where it is a text in values, as files of kubeadm are.
        if find(head, b"EncryptionConfig").is_none() {
            continue;
        }
        let mut from = 0;
        while let Some(start) = find(&head[from..], b"secret:").map(|start| from + start) {
            from = start + b"secret:".len();
            let value = head[from..].split(|byte| b"\n\\,}#".contains(byte)).next().unwrap_or_default();
            let value = value.trim_ascii().trim_ascii();
            let value = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\"")).unwrap_or(value);
            let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=".contains(byte);
            // 16, 24 or 32 bytes: the lengths of keys that the API server takes.
            if matches!(value.len(), 24 | 32 | 44) && value.iter().all(is_base64) {
                found.at(name, files::place(head, start), "The file has a key of EncryptionConfiguration");
            }
        }
    }
}

fn contents<'a>(pack: &Subject<'a>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    pack.files.iter().filter_map(|(name, entry)| match entry {
        Entry::File { head, .. } => Some((name, head.as_slice())),
        _ => None,
    })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
