//! Manifests: a digest of each file of a package (DSP0243, section 5.1).
//!
//! ```text
//! SHA256(appliance.ovf)= 3a6eb0790f39ac87c94f3856b2dd2c5d110e6811602261a9a923d3bb23adc8b7
//! ```
//!
//! ovftool's parser wants this to the letter. What others write is read too, and told apart.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io::{self, Read};

use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

/// No manifest is longer, in bytes.
pub const MAX_SIZE: u64 = 1 << 20;

/// How a digest was made.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Algorithm {
    /// Of OVF 1.0. Collisions can be made, so new hosts refuse it.
    Sha1,
    /// What we write.
    Sha256,
    /// Of OVF 2.
    Sha512,
}

impl Algorithm {
    /// Length of the digest, in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The digest of everything that `content` has.
    ///
    /// # Errors
    /// What reading fails with.
    pub fn digest(self, content: &mut dyn Read) -> io::Result<Vec<u8>> {
        fn all<D: Digest>(content: &mut dyn Read) -> io::Result<Vec<u8>> {
            let mut hasher = D::new();
            let mut buffer = vec![0; 1 << 18];
            loop {
                match content.read(&mut buffer) {
                    Ok(0) => return Ok(hasher.finalize().to_vec()),
                    Ok(n) => hasher.update(&buffer[..n]),
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(e),
                }
            }
        }
        match self {
            Self::Sha1 => all::<Sha1>(content),
            Self::Sha256 => all::<Sha256>(content),
            Self::Sha512 => all::<Sha512>(content),
        }
    }

    /// From any of the spellings in use: OpenSSL 3 says `SHA2-256`.
    fn parse(name: &str) -> Option<Self> {
        match &*name.to_ascii_uppercase() {
            "SHA1" | "SHA-1" => Some(Self::Sha1),
            "SHA256" | "SHA-256" | "SHA2-256" => Some(Self::Sha256),
            "SHA512" | "SHA-512" | "SHA2-512" => Some(Self::Sha512),
            _ => None,
        }
    }
}

impl fmt::Display for Algorithm {
    /// As manifests spell it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
        })
    }
}

/// A manifest, as it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Manifest {
    /// In their order. No file is there twice with one algorithm.
    pub lines: Vec<Line>,
    /// Line numbers, from 1, of blank lines, which strict readers take for malformed ones.
    pub blank: Vec<usize>,
}

/// A line of a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// Line number, from 1.
    pub number: usize,
    /// How the digest was made.
    pub algorithm: Algorithm,
    /// The file.
    pub name: String,
    /// Of its content; as long as the algorithm's are.
    pub digest: Vec<u8>,
    /// Whether the line is `^SHA(256|512)\([^)]+\)= [0-9a-f]+$`, which every importer reads.
    pub strict: bool,
}

/// Why a manifest cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Not what anyone needs.
    #[error("The manifest is longer than 1 MiB")]
    TooLong,
    /// The line is something else than `ALGORITHM(name)= digest`.
    #[error("Line {line} of the manifest is not `ALGORITHM(name)= digest`")]
    Form {
        /// From 1.
        line: usize,
    },
    /// An unknown algorithm.
    #[error(
        "Line {line} of the manifest is a digest by `{algorithm}`, which is none of SHA1, SHA256, SHA512"
    )]
    Algorithm {
        /// From 1.
        line: usize,
        /// As written.
        algorithm: String,
    },
    /// A digest that is not hexadecimal or not of the algorithm's length.
    #[error("The digest in line {line} of the manifest is not one of {algorithm}")]
    Digest {
        /// From 1.
        line: usize,
        /// Which it should be of.
        algorithm: Algorithm,
    },
    /// Two digests of one file by one algorithm.
    #[error("Line {line} of the manifest is the second one for `{name}`")]
    Duplicate {
        /// From 1.
        line: usize,
        /// The file.
        name: String,
    },
}

impl Manifest {
    /// Whether every importer reads it: only strict lines, each ended by `\n` alone (a missing last one is the same
    /// to all).
    pub fn is_strict(&self) -> bool {
        self.blank.is_empty() && self.lines.iter().all(|line| line.strict)
    }

    /// The first line for a file.
    pub fn get(&self, name: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name)
    }
}

/// Reads a manifest: any case, any spaces round the punctuation, any line ends.
///
/// # Errors
/// See [`ManifestError`].
pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
    if bytes.len() as u64 > MAX_SIZE {
        return Err(ManifestError::TooLong);
    }
    let mut manifest = Manifest::default();
    let mut seen = BTreeSet::new();
    for (number, bytes) in (1..).zip(lines(bytes)) {
        if bytes.trim_ascii().is_empty() {
            manifest.blank.push(number);
            continue;
        }
        let Statement { algorithm, name, digits, strict } = Statement::parse(bytes, number)?;
        let digest = unhex(digits)
            .filter(|digest| digest.len() == algorithm.size())
            .ok_or(ManifestError::Digest { line: number, algorithm })?;
        if !seen.insert((algorithm, name)) {
            return Err(ManifestError::Duplicate { line: number, name: name.escape_debug().to_string() });
        }
        manifest.lines.push(Line { number, algorithm, name: name.into(), digest, strict });
    }
    Ok(manifest)
}

/// The strict form, by SHA-256: one line a file, in the given order.
pub fn write<'a>(files: impl IntoIterator<Item = (&'a str, [u8; 32])>) -> String {
    files.into_iter().map(|(name, digest)| format!("SHA256({name})= {}\n", hex(&digest))).collect()
}

/// `ALGORITHM(name)= digits`; a certificate's first line is one too.
#[derive(Debug)]
pub(crate) struct Statement<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) name: &'a str,
    pub(crate) digits: &'a str,
    pub(crate) strict: bool,
}

impl<'a> Statement<'a> {
    /// Reads `bytes`, line `line` without its `\n`.
    pub(crate) fn parse(bytes: &'a [u8], line: usize) -> Result<Self, ManifestError> {
        let form = || ManifestError::Form { line };
        let text = std::str::from_utf8(bytes).map_err(|_| form())?;
        let (spelling, rest) = text.split_once('(').ok_or_else(form)?;
        // From the right: digits have no parenthesis, names may.
        let (name, rest) = rest.rsplit_once(')').ok_or_else(form)?;
        let written = rest.trim_ascii_start().strip_prefix('=').ok_or_else(form)?;
        let digits = written.trim_ascii();
        if name.is_empty() || name.contains(char::is_control) {
            return Err(form());
        }
        let algorithm = Algorithm::parse(spelling.trim_ascii()).ok_or_else(|| ManifestError::Algorithm {
            line,
            algorithm: spelling.trim_ascii().escape_debug().to_string(),
        })?;
        let strict = matches!(spelling, "SHA256" | "SHA512")
            && !name.contains(')')
            && rest.strip_prefix("= ") == Some(digits)
            && !digits.bytes().any(|digit| digit.is_ascii_uppercase());
        Ok(Self { algorithm, name, digits, strict })
    }
}

/// Lines without their `\n`; an end after the last one starts no further one.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\n").unwrap_or(line))
}

/// Lower case.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
    }
    text
}

/// Either case.
pub(crate) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "9834876dcfb05cb167a5c24953eba58c4ac89b1adf57f28f2f9d09af107ee8f0";

    #[test]
    fn spellings() {
        let sha1 = &DIGEST[..40];
        let sha512 = &DIGEST.repeat(2);
        let upper = DIGEST.to_uppercase();
        for (text, algorithm, name, strict) in [
            (format!("SHA256(a.ovf)= {DIGEST}\n"), Algorithm::Sha256, "a.ovf", true),
            (format!("SHA256(a.ovf)= {DIGEST}"), Algorithm::Sha256, "a.ovf", true),
            (format!("SHA512(a b.ovf)= {sha512}\n"), Algorithm::Sha512, "a b.ovf", true),
            (format!("SHA1(a.ovf)= {sha1}\n"), Algorithm::Sha1, "a.ovf", false),
            (format!("SHA256 (a.ovf)= {DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA256(a.ovf) = {DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA256(a.ovf)={DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA256(a.ovf)=  {DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA256(a.ovf)= {DIGEST} \n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA256(a.ovf)= {DIGEST}\r\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA256(a.ovf)= {upper}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("SHA2-256(a.ovf)= {DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!("sha256(a.ovf)= {DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
            (format!(" SHA256(a(1).ovf)= {DIGEST}\n"), Algorithm::Sha256, "a(1).ovf", false),
            (format!("\n\nSHA256(a.ovf)= {DIGEST}\n"), Algorithm::Sha256, "a.ovf", false),
        ] {
            let manifest = parse(text.as_bytes()).unwrap();
            let [line] = &*manifest.lines else { panic!("{text}") };
            assert_eq!((line.algorithm, &*line.name), (algorithm, name), "{text}");
            assert_eq!(hex(&line.digest), DIGEST.repeat(2)[..2 * algorithm.size()], "{text}");
            assert_eq!(manifest.is_strict(), strict, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = format!("SHA256(a)= {DIGEST}\n");
        for (text, line, message) in [
            ("nonsense", 2, "Line 2 of the manifest is not"),
            ("SHA256 a = 00", 2, "is not `ALGORITHM(name)= digest`"),
            ("SHA256()= 00", 2, "is not `ALGORITHM(name)= digest`"),
            ("SHA256(\u{1b}[31m)= 00", 2, "is not `ALGORITHM(name)= digest`"),
            ("\nMD5(b)= 00", 3, "a digest by `MD5`"),
            ("SHA256(b)= 00", 2, "not one of SHA256"),
            ("SHA1(b)= 9834876dcfb05cb167a5c24953eba58c4ac89b1g", 2, "not one of SHA1"),
            (good.trim(), 2, "second one for `a`"),
        ] {
            let error = parse(format!("{good}{text}\n").as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains(&format!("ine {line}")), "{text}: {error}");
        }
        assert_eq!(parse(b"SHA256(\xff)= 00").unwrap_err(), ManifestError::Form { line: 1 });
        assert_eq!(parse(&vec![b'\n'; (1 << 20) + 1]).unwrap_err(), ManifestError::TooLong);
    }

    #[test]
    fn digests() {
        let digest = |algorithm: Algorithm| hex(&algorithm.digest(&mut &b"abc"[..]).unwrap());
        assert_eq!(digest(Algorithm::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(digest(Algorithm::Sha256).starts_with("ba7816bf8f01cfea414140de5dae2223"));
        assert!(digest(Algorithm::Sha512).starts_with("ddaf35a193617abacc417349ae204131"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_written_is_read(files in proptest::collection::btree_map("[a-zA-Z0-9._-]{1,40}", proptest::prelude::any::<[u8; 32]>(), 0..8)) {
            let text = write(files.iter().map(|(name, digest)| (&**name, *digest)));
            let manifest = parse(text.as_bytes()).unwrap();
            assert!(manifest.is_strict());
            let read = manifest.lines.iter().map(|line| (line.name.clone(), line.digest.clone().try_into().unwrap())).collect();
            assert_eq!(files, read);
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
