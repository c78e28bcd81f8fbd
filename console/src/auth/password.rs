//! Passwords: argon2id (RFC 9106), a few at a time and never on the threads that serve.

use std::sync::{Arc, OnceLock};

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use protocol::secret::Secret;
use tokio::sync::Semaphore;

use crate::data_key;
use crate::error::{Error, Result};

/// The shortest that is taken, in characters (NIST SP 800-63B-4, section 3.1.1.2, for passwords that stand alone asks
/// for 15, beside others for 8; ours are guessed at most once a second).
pub const MIN: usize = 12;
/// The longest, in bytes: hashing takes time.
pub const MAX: usize = 256;

/// Each takes 19 MiB and a core for some 20 ms.
const AT_ONCE: usize = 2;
/// Who would wait longer than a few seconds is sent away instead.
const WAITING: usize = 64;

/// Hashes passwords.
#[derive(Debug)]
pub struct Hasher {
    running: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Hasher {
    /// With no work yet.
    #[must_use]
    pub fn new() -> Hasher {
        Hasher { running: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(WAITING)) }
    }

    /// The hash of a password, as PHC string.
    ///
    /// # Errors
    /// When too many are asked for at once.
    pub async fn hash(&self, password: Secret) -> Result<String> {
        self.run(move || hash(&password)).await?
    }

    /// Whether a password is the one that was hashed; where there is no hash it takes as long, and is not.
    ///
    /// # Errors
    /// When too many are asked for at once.
    pub async fn verify(&self, password: Secret, hash: Option<String>) -> Result<bool> {
        self.run(move || {
            let real = hash.is_some();
            let hash = hash.as_deref().unwrap_or_else(|| nobodys());
            let Ok(hash) = PasswordHash::new(hash) else { return false };
            Argon2::default().verify_password(password.expose().as_bytes(), &hash).is_ok() && real
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let busy = || Error::too_many("busy", "Too many sign in at once.", std::time::Duration::from_secs(2));
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| busy())?;
        let work = move || {
            // Held until it is done, not until nobody waits for it any more.
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Error::Internal(error.to_string()))
    }
}

impl Default for Hasher {
    fn default() -> Hasher {
        Hasher::new()
    }
}

/// The hash of a password, as PHC string: argon2id with 19 MiB, 2 passes, 1 lane (OWASP's first choice of that size).
///
/// # Errors
/// Never for passwords up to [`MAX`].
pub fn hash(password: &Secret) -> Result<String> {
    Argon2::default()
        .hash_password(password.expose().as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| Error::Internal(error.to_string()))
}

/// A hash that no password has, to compare with where there is no account.
fn nobodys() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| hash(&Secret::new(super::random_text())).unwrap_or_default())
}

/// Why a password is not taken, if it is not; one sentence.
#[must_use]
pub fn objection(password: &Secret, name: &str) -> Option<String> {
    let password = password.expose();
    if password.chars().count() < MIN {
        return Some(format!("It is shorter than {MIN} characters."));
    }
    if password.len() > MAX {
        return Some(format!("It is longer than {MAX} bytes."));
    }
    if password.to_lowercase().contains(&name.to_lowercase()) {
        return Some("It has the account's name in it.".into());
    }
    let mut different: Vec<char> = password.chars().collect();
    different.sort_unstable();
    different.dedup();
    (different.len() < 5).then(|| "It has fewer than five different characters.".into())
}

/// A password to begin with: 20 letters and digits that are not mistaken for each other, some 98 bits.
#[must_use]
pub fn initial() -> Secret {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let letters: Vec<char> =
        data_key::random::<20>().iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let groups: Vec<String> = letters.chunks(5).map(|group| group.iter().collect()).collect();
    Secret::new(groups.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[tokio::test]
    async fn a_hash_is_of_one_password() {
        let hasher = Hasher::new();
        let hash = hasher.hash(secret("correct horse battery")).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hasher.verify(secret("correct horse battery"), Some(hash.clone())).await.unwrap());
        assert!(!hasher.verify(secret("correct horse batterz"), Some(hash)).await.unwrap());
        assert!(!hasher.verify(secret("correct horse battery"), None).await.unwrap());
        assert!(!hasher.verify(secret("anything"), Some("no hash".into())).await.unwrap());
    }

    #[test]
    fn weak_passwords_are_refused() {
        for (password, good) in [
            ("short", false),
            ("elevenchars", false),
            ("twelve chars", true),
            ("aaaaaaaaaaaaaaaa", false),
            ("my name is Admin ok", false),
            (&"long, ".repeat(50), false),
            ("пароль длинный", true),
        ] {
            assert_eq!(objection(&secret(password), "admin").is_none(), good, "{password}");
        }
        assert_eq!(initial().expose().len(), 23);
        assert!(objection(&initial(), "admin").is_none());
    }
}
