//! The data key: what secrets in the database are sealed with, so that a copy of the database alone gives none away.
//!
//! 32 bytes, base64, in a file beside the database that only its owner reads, or in one that several consoles share.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::secret::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

const LENGTH: usize = 32;

/// Why there is no data key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error("cannot use the data key {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error("{0} is no data key: it must hold 32 bytes as base64")]
    Content(PathBuf),
    /// Others could read it.
    #[error("others can read the data key {0}")]
    Rights(PathBuf),
}

/// A secret in the database that this key does not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a secret in the database was sealed with another data key")]
pub struct OtherKey;

/// Seals what is stored, and opens it. Clones are the same.
#[derive(Clone)]
pub struct Secrets(Arc<LessSafeKey>);

impl Secrets {
    /// The key in a file; made where there is none.
    ///
    /// # Errors
    /// When it cannot be read or made, or others can read it.
    pub fn from_file(path: &Path) -> Result<Secrets, Error> {
        let failed = |source| Error::File { path: path.to_owned(), source };
        let text = match fs::read_to_string(path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make(path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        };
        if fs::metadata(path).map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(Error::Rights(path.to_owned()));
        }
        let bytes = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
        Secrets::new(&bytes).ok_or_else(|| Error::Content(path.to_owned()))
    }

    /// The key itself; `None` unless it is 32 bytes.
    #[must_use]
    pub fn new(key: &[u8]) -> Option<Secrets> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).ok()?;
        Some(Secrets(Arc::new(LessSafeKey::new(key))))
    }

    /// Seals a value for one place, as in `pairings.secret` of a row.
    ///
    /// # Panics
    /// When the kernel has no random numbers.
    #[must_use]
    pub fn seal(&self, column: &str, row: &str, value: &str) -> String {
        let mut sealed = random::<NONCE_LEN>().to_vec();
        let nonce = Nonce::try_assume_unique_for_key(&sealed).expect("it has the length of a nonce");
        let mut text = Zeroizing::new(value.as_bytes().to_vec());
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(place(column, row)), &mut text)
            .expect("a value of a column is far below the cipher's limit");
        sealed.extend_from_slice(&text);
        sealed.extend_from_slice(tag.as_ref());
        STANDARD.encode(sealed)
    }

    /// Opens what was sealed for that place.
    ///
    /// # Errors
    /// When it was sealed for another place or by another key, or was changed since.
    pub fn open(&self, column: &str, row: &str, sealed: &str) -> Result<Secret, OtherKey> {
        let sealed = STANDARD.decode(sealed).map_err(|_| OtherKey)?;
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN).ok_or(OtherKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OtherKey)?;
        let mut text = Zeroizing::new(rest.to_vec());
        let open =
            self.0.open_in_place(nonce, Aad::from(place(column, row)), &mut text).map_err(|_| OtherKey)?;
        let open = std::str::from_utf8(open).map_err(|_| OtherKey)?;
        Ok(Secret::new(open.to_owned()))
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// Random bytes, for keys and names that nobody guesses.
///
/// # Panics
/// When the kernel has none, without which nothing here is safe.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the kernel has random numbers");
    bytes
}

/// Lengths first, so that no two places are written alike.
fn place(column: &str, row: &str) -> Vec<u8> {
    let mut place = Vec::with_capacity(16 + column.len() + row.len());
    for part in [column, row] {
        place.extend_from_slice(&(part.len() as u64).to_be_bytes());
        place.extend_from_slice(part.as_bytes());
    }
    place
}

fn make(path: &Path) -> io::Result<Zeroizing<String>> {
    let text = Zeroizing::new(STANDARD.encode(Zeroizing::new(random::<LENGTH>()).as_slice()));
    // Nobody may see half a key, and the second of two who make it at once takes the first's.
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => fs::File::open(folder)?.sync_all().map(|()| text),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            fs::read_to_string(path).map(Zeroizing::new)
        }
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_in_its_place_only() {
        let secrets = Secrets::new(&[7; LENGTH]).unwrap();
        let sealed = secrets.seal("pairings.secret", "row", "1234567");
        assert_ne!(sealed, secrets.seal("pairings.secret", "row", "1234567"), "the nonce is random");
        assert_eq!(secrets.open("pairings.secret", "row", &sealed).unwrap().expose(), "1234567");
        for (column, row) in [("pairings.secret", "other"), ("pairings.secre", "trow"), ("", "")] {
            assert_eq!(secrets.open(column, row, &sealed), Err(OtherKey));
        }
        let other = Secrets::new(&[8; LENGTH]).unwrap();
        assert_eq!(other.open("pairings.secret", "row", &sealed), Err(OtherKey));
        let mut changed = sealed.into_bytes();
        changed[20] ^= 1;
        assert!(secrets.open("pairings.secret", "row", &String::from_utf8(changed).unwrap()).is_err());
        for rubbish in ["", "AAAA", "not base64"] {
            assert_eq!(secrets.open("pairings.secret", "row", rubbish), Err(OtherKey));
        }
    }

    #[test]
    fn the_file_is_made_once_and_kept_from_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data-key");
        let sealed = Secrets::from_file(&path).unwrap().seal("a", "b", "value");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Secrets::from_file(&path).unwrap().open("a", "b", &sealed).unwrap().expose(), "value");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Secrets::from_file(&path), Err(Error::Rights(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short").unwrap();
        assert!(matches!(Secrets::from_file(&path), Err(Error::Content(_))));
        assert!(matches!(Secrets::from_file(&folder.path().join("no/key")), Err(Error::File { .. })));
    }
}
