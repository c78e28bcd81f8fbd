//! Requests signed with the device key, for where a known proxy ends TLS and a client certificate cannot arrive: HTTP
//! Message Signatures (RFC 9421) with a digest of the body (RFC 9530), in one profile and no other:
//!
//! ```text
//! Content-Digest: sha-256=:…:
//! Signature-Input: gw=("@method" "@path" "@query" "content-digest");created=…;keyid="…";nonce="…";alg="ed25519"
//! Signature: gw=:…:
//! ```
//!
//! `keyid` is the public key in base64, `created` in seconds since 1970. Whether the key is a gateway's, the time near
//! and the nonce new, is for the console to say.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use ring::digest;
use ring::signature::{ED25519, UnparsedPublicKey};

use crate::device_key::DeviceKey;

/// How far `created` may be off, either way. A nonce must be remembered for twice as long.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(5);
/// The longest nonce, in bytes.
pub const MAX_NONCE: usize = 64;
/// The shortest nonce, in bytes.
pub const MIN_NONCE: usize = 16;

const DIGEST: &str = "content-digest";
const INPUT: &str = "signature-input";
const SIGNATURE: &str = "signature";
const COVERED: &str = r#"("@method" "@path" "@query" "content-digest")"#;

/// Who signed a request, and when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Signed {
    /// The device key, public half.
    pub key: [u8; 32],
    /// By the signer's clock.
    pub created: Timestamp,
    /// Different in each request of this key; letters, digits, `-` and `_`.
    pub nonce: String,
}

impl Signed {
    /// Whether `created` is within [`WINDOW`] of now.
    #[must_use]
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.duration_since(self.created).abs() <= WINDOW
    }
}

/// Why a request does not count as signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SignatureError {
    /// It is not.
    #[error("The request has no `{0}` header")]
    Missing(&'static str),
    /// It is, but in no way that this profile knows.
    #[error("The `{0}` header is malformed")]
    Malformed(&'static str),
    /// The body is another than the one that was signed.
    #[error("The body is not the one that was signed")]
    Digest,
    /// The signature is of something else, or of another key.
    #[error("The signature is wrong")]
    Wrong,
}

/// The three headers that sign a request: `path` without query, `query` without question mark. `nonce` must be new, 16 to
/// 64 letters, digits, `-` or `_`; a UUID is good.
#[must_use]
pub fn sign(
    key: &DeviceKey,
    method: &str,
    path: &str,
    query: Option<&str>,
    body: &[u8],
    created: Timestamp,
    nonce: &str,
) -> [(&'static str, String); 3] {
    let digest = content_digest(body);
    let params = params(created.as_second(), &key.public(), nonce);
    let signature = key.sign(base(method, path, query, &digest, &params).as_bytes());
    [
        (DIGEST, digest),
        (INPUT, format!("gw={params}")),
        (SIGNATURE, format!("gw=:{}:", STANDARD.encode(signature))),
    ]
}

/// Checks a signed request. `header` gives a header's value by its name in lower case; one that came twice is to be none.
///
/// # Errors
/// With the reason why nobody has signed this.
pub fn verify<'a>(
    header: impl Fn(&str) -> Option<&'a str>,
    method: &str,
    path: &str,
    query: Option<&str>,
    body: &[u8],
) -> Result<Signed, SignatureError> {
    let get = |name| header(name).ok_or(SignatureError::Missing(name));
    let (input, signature, digest) = (get(INPUT)?, get(SIGNATURE)?, get(DIGEST)?);
    let (params, signed) = read_input(input).ok_or(SignatureError::Malformed(INPUT))?;
    let signature = read_signature(signature).ok_or(SignatureError::Malformed(SIGNATURE))?;
    if digest != content_digest(body) {
        return Err(SignatureError::Digest);
    }
    UnparsedPublicKey::new(&ED25519, signed.key)
        .verify(base(method, path, query, digest, params).as_bytes(), &signature)
        .map_err(|_| SignatureError::Wrong)?;
    Ok(signed)
}

/// RFC 9530, section 2.
fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest::digest(&digest::SHA256, body)))
}

/// RFC 9421, section 2.3, in the one order that we write.
fn params(created: i64, key: &[u8; 32], nonce: &str) -> String {
    format!(r#"{COVERED};created={created};keyid="{}";nonce="{nonce}";alg="ed25519""#, STANDARD.encode(key))
}

/// The signature base: RFC 9421, section 2.5.
fn base(method: &str, path: &str, query: Option<&str>, digest: &str, params: &str) -> String {
    let query = query.unwrap_or_default();
    format!(
        "\"@method\": {method}\n\"@path\": {path}\n\"@query\": ?{query}\n\"content-digest\": {digest}\n\"@signature-params\": {params}"
    )
}

/// Takes `Signature-Input` apart; only what [`params`] would write is taken.
fn read_input(input: &str) -> Option<(&str, Signed)> {
    let text = input.strip_prefix("gw=")?;
    let rest = text.strip_prefix(COVERED)?.strip_prefix(";created=")?;
    let (created, rest) = rest.split_once(";keyid=\"")?;
    let (key, rest) = rest.split_once("\";nonce=\"")?;
    let (nonce, _) = rest.split_once('"')?;
    let created = created.parse().ok()?;
    let key = STANDARD.decode(key).ok()?.try_into().ok()?;
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if !(MIN_NONCE..=MAX_NONCE).contains(&nonce.len())
        || !nonce.bytes().all(known)
        || params(created, &key, nonce) != text
    {
        return None;
    }
    Some((text, Signed { key, created: Timestamp::from_second(created).ok()?, nonce: nonce.to_owned() }))
}

fn read_signature(text: &str) -> Option<[u8; 64]> {
    STANDARD.decode(text.strip_prefix("gw=:")?.strip_suffix(':')?).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NONCE: &str = "0198f1f0-3c1e-7cc0-8000-000000000001";
    const BODY: &[u8] = br#"{"spool":"0198f1f0-3c1e-7cc0-8000-000000000002"}"#;

    /// A request on its way.
    #[derive(Clone, Debug)]
    struct Request {
        method: String,
        path: String,
        query: Option<String>,
        body: Vec<u8>,
        headers: Vec<(&'static str, String)>,
    }

    impl Request {
        fn signed(key: &DeviceKey) -> Request {
            let created = Timestamp::from_second(1_800_000_000).unwrap();
            Request {
                method: "POST".into(),
                path: "/v1/link/poll".into(),
                query: None,
                body: BODY.to_vec(),
                headers: sign(key, "POST", "/v1/link/poll", None, BODY, created, NONCE).to_vec(),
            }
        }

        fn verify(&self) -> Result<Signed, SignatureError> {
            let header = |name: &str| {
                self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
            };
            verify(header, &self.method, &self.path, self.query.as_deref(), &self.body)
        }

        fn header(&mut self, name: &str) -> &mut String {
            &mut self.headers.iter_mut().find(|(known, _)| *known == name).unwrap().1
        }
    }

    #[test]
    fn what_is_signed_verifies() {
        let key = DeviceKey::generate();
        let signed = Request::signed(&key).verify().unwrap();
        let created = Timestamp::from_second(1_800_000_000).unwrap();
        assert_eq!(signed, Signed { key: key.public(), created, nonce: NONCE.into() });

        let created = Timestamp::from_second(-1).unwrap();
        let headers = sign(&key, "GET", "/v1/link", Some("a=b&c"), b"", created, NONCE);
        let header =
            |name: &str| headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
        assert_eq!(verify(header, "GET", "/v1/link", Some("a=b&c"), b"").unwrap().created, created);
        assert_eq!(verify(header, "GET", "/v1/link", Some("a=b"), b""), Err(SignatureError::Wrong));
    }

    /// As RFC 9421 writes it in section 2.5, and RFC 9530 the digest of nothing.
    #[test]
    fn the_base_is_the_standard_s() {
        let digest = content_digest(b"");
        assert_eq!(digest, "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:");
        let params = params(1_800_000_000, &[0; 32], NONCE);
        assert_eq!(
            base("POST", "/v1/link/poll", None, &digest, &params).lines().collect::<Vec<_>>(),
            [
                r#""@method": POST"#,
                r#""@path": /v1/link/poll"#,
                r#""@query": ?"#,
                r#""content-digest": sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"#,
                r#""@signature-params": ("@method" "@path" "@query" "content-digest");created=1800000000;keyid="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";nonce="0198f1f0-3c1e-7cc0-8000-000000000001";alg="ed25519""#,
            ]
        );
    }

    #[test]
    fn test_vectors() {
        let mut vectors = Vec::new();
        for (seed, method, path, query, body, created) in [
            (
                1,
                "POST",
                "/v1/link/poll",
                None,
                r#"{"spool":"0198f1f0-3c1e-7cc0-8000-000000000002"}"#,
                1_800_000_000,
            ),
            (2, "GET", "/v1/link", None, "", 1_800_000_001),
            (3, "GET", "/v1/link", Some("wait=25&x=%2F"), "", 1_800_000_002),
        ] {
            let seed = [seed; 32];
            let key = crate::testdata::device_key(seed);
            let at = Timestamp::from_second(created).unwrap();
            let headers = sign(&key, method, path, query, body.as_bytes(), at, NONCE);
            vectors.push(serde_json::json!({
                "device_key_seed": crate::bytes::Bytes(seed.to_vec()),
                "method": method, "path": path, "query": query, "body": body, "created": created, "nonce": NONCE,
                "headers": headers.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            }));
        }
        crate::testdata::assert_file("signatures.json", &vectors.into());
    }

    #[test]
    fn another_request_is_not_signed() {
        let right = Request::signed(&DeviceKey::generate());
        type Change = fn(&mut Request);
        let changes: [(&str, Change, SignatureError); 19] = [
            ("method", |r| r.method = "GET".into(), SignatureError::Wrong),
            ("path", |r| r.path = "/v1/link/certificate".into(), SignatureError::Wrong),
            ("query", |r| r.query = Some("x".into()), SignatureError::Wrong),
            ("body", |r| r.body.push(b' '), SignatureError::Digest),
            ("no body", |r| r.body.clear(), SignatureError::Digest),
            (
                "body and digest",
                |r| {
                    r.body.clear();
                    *r.header(DIGEST) = content_digest(b"");
                },
                SignatureError::Wrong,
            ),
            ("no digest", |r| r.headers.retain(|(name, _)| *name != DIGEST), SignatureError::Missing(DIGEST)),
            ("no input", |r| r.headers.retain(|(name, _)| *name != INPUT), SignatureError::Missing(INPUT)),
            (
                "no signature",
                |r| r.headers.retain(|(name, _)| *name != SIGNATURE),
                SignatureError::Missing(SIGNATURE),
            ),
            ("another hash", |r| *r.header(DIGEST) = "sha-512=:AAAA:".into(), SignatureError::Digest),
            ("created later", |r| change(r, "1800000000", "1800000001"), SignatureError::Wrong),
            (
                "created beyond",
                |r| change(r, "1800000000", "9223372036854775807"),
                SignatureError::Malformed(INPUT),
            ),
            ("created oddly", |r| change(r, "1800000000", "+1800000000"), SignatureError::Malformed(INPUT)),
            ("nonce", |r| change(r, "0001\"", "0002\""), SignatureError::Wrong),
            ("short nonce", |r| change(r, NONCE, "short"), SignatureError::Malformed(INPUT)),
            ("odd nonce", |r| change(r, NONCE, "0198f1f0 3c1e-7cc0"), SignatureError::Malformed(INPUT)),
            ("less covered", |r| change(r, "\"@method\" ", ""), SignatureError::Malformed(INPUT)),
            ("algorithm", |r| change(r, "ed25519", "hmac-sha256"), SignatureError::Malformed(INPUT)),
            (
                "another parameter",
                |r| r.header(INPUT).push_str(";tag=\"x\""),
                SignatureError::Malformed(INPUT),
            ),
        ];
        fn change(request: &mut Request, from: &str, to: &str) {
            let header = request.header(INPUT);
            assert!(header.contains(from));
            *header = header.replace(from, to);
        }
        for (what, change, error) in changes {
            let mut request = right.clone();
            change(&mut request);
            assert_eq!(request.verify(), Err(error), "{what}");
        }
    }

    #[test]
    fn another_key_is_not_the_signer_s() {
        let (mut request, other) =
            (Request::signed(&DeviceKey::generate()), Request::signed(&DeviceKey::generate()));
        request.headers[1] = other.headers[1].clone();
        assert_eq!(request.verify(), Err(SignatureError::Wrong));
    }

    #[test]
    fn the_window_is_five_minutes_either_way() {
        let signed = Request::signed(&DeviceKey::generate()).verify().unwrap();
        for (seconds, fresh) in
            [(0, true), (300, true), (301, false), (-300, true), (-301, false), (3600, false)]
        {
            let now = signed.created + SignedDuration::from_secs(seconds);
            assert_eq!(signed.is_fresh(now), fresh, "{seconds} s later");
        }
        assert!(!signed.is_fresh(Timestamp::MAX) && !signed.is_fresh(Timestamp::MIN));
    }

    proptest! {
        #[test]
        fn whatever_is_asked_verifies_and_nothing_else_does(
            (method, path, query) in ("[A-Z]{3,7}", "/[a-z0-9/%._-]{0,30}", proptest::option::of("[a-z0-9=&%]{0,30}")),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            nonce in "[A-Za-z0-9_-]{16,64}",
            seconds in -10_000_000_000i64..100_000_000_000,
            (place, bit) in (any::<prop::sample::Index>(), 0u8..7),
        ) {
            let key = DeviceKey::generate();
            let created = Timestamp::from_second(seconds).unwrap();
            let headers = sign(&key, &method, &path, query.as_deref(), &body, created, &nonce).to_vec();
            let right = Request { method, path, query, body, headers };
            prop_assert_eq!(right.verify().unwrap(), Signed { key: key.public(), created, nonce });

            let mut wrong = right.clone();
            let all: usize = wrong.headers.iter().map(|(_, value)| value.len()).sum();
            let mut at = place.index(all);
            for (_, value) in &mut wrong.headers {
                if at < value.len() {
                    let mut bytes = value.clone().into_bytes();
                    bytes[at] ^= 1 << bit;
                    *value = String::from_utf8(bytes).expect("ASCII stays ASCII");
                    break;
                }
                at -= value.len();
            }
            prop_assert!(wrong.verify().is_err(), "{:?} and {:?}", wrong, right);
        }

        #[test]
        fn no_header_panics(
            input in prop_oneof!["\\PC{0,80}", "gw=\\(\"@method\" \"@path\" \"@query\" \"content-digest\"\\);created=[0-9-]{0,22};keyid=\"[A-Za-z0-9+/=]{0,50}\";nonce=\"[a-z\"]{0,70}\"\\PC{0,20}"],
            signature in prop_oneof!["\\PC{0,80}", "gw=:[A-Za-z0-9+/=]{0,100}:"],
            digest in "\\PC{0,80}",
        ) {
            let request = Request {
                method: "GET".into(),
                path: "/".into(),
                query: None,
                body: Vec::new(),
                headers: vec![(DIGEST, digest), (INPUT, input), (SIGNATURE, signature)],
            };
            prop_assert!(request.verify().is_err());
        }
    }
}
