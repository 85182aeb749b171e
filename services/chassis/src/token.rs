//! A token that can be replaced while the service runs.
//!
//! A token in a file is looked at whenever one is compared: whoever writes a new file and then
//! uses the new token is let in at once, with no signal, no restart, and no moment in which
//! neither holds. A look is one system call; the file is read only if it has changed. While the
//! file is missing or holds no token, the last good one stays.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{secret::Secret, settings::Mistakes};

/// A file changed this recently is read again: file systems count time in ticks, and two writes
/// within one look the same.
const FRESH: Duration = Duration::from_secs(2);

/// A token as it was set.
#[derive(Clone, Debug)]
pub enum Token {
    /// By its value.
    Fixed(Secret),
    /// In a file.
    File(Arc<TokenFile>),
}

/// A file with a token.
#[derive(Debug)]
pub struct TokenFile {
    path: String,
    // A std mutex: held for a look at the file, never across an await.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    stamp: Option<Stamp>,
    secret: Secret,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl Token {
    /// A token in a file, which must be there now.
    ///
    /// # Errors
    /// What was expected, or why the file could not be read.
    pub fn from_file(path: &str) -> Result<Self, String> {
        let stamp = Stamp::of(path).ok();
        let secret = Secret::from_file(path)?;
        let seen = Mutex::new(Seen { stamp, secret });
        Ok(Self::File(Arc::new(TokenFile { path: path.to_owned(), seen })))
    }

    /// Reads `name` or `name_file`, at most one of them.
    pub fn parse(
        name: &str,
        value: Option<&str>,
        file: Option<&str>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        match (value, file) {
            (None, Some(file)) => {
                let noted = |expected| mistakes.note(&format!("{name}_file"), file, expected);
                Self::from_file(file).map_err(noted).ok()
            }
            _ => Secret::parse(name, value, file, mistakes).map(Self::Fixed),
        }
    }

    /// The token as it is now.
    #[must_use]
    pub fn current(&self) -> Secret {
        match self {
            Self::Fixed(secret) => secret.clone(),
            Self::File(file) => file.current(),
        }
    }

    /// Whether `candidate` is the token as it is now, in time that does not depend on where they
    /// differ.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.current().matches(candidate)
    }
}

impl TokenFile {
    fn current(&self) -> Secret {
        let mut seen = self.lock();
        let stamp = Stamp::of(&self.path).ok();
        if stamp != seen.stamp || stamp.is_some_and(Stamp::is_fresh) {
            match Secret::from_file(&self.path) {
                Ok(secret) => {
                    if !secret.matches(seen.secret.expose()) {
                        tracing::info!(file = self.path, "a token was replaced");
                    }
                    seen.secret = secret;
                }
                Err(expected) if stamp != seen.stamp => {
                    tracing::warn!(
                        file = self.path,
                        "the last good token stays: expected {expected}"
                    );
                }
                Err(_) => {}
            }
            seen.stamp = stamp;
        }
        seen.secret.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(path: &str) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        Ok(Self { inode: metadata.ino(), length: metadata.len(), changed })
    }

    fn is_fresh(self) -> bool {
        let changed = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or(0));
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
        age.is_ok_and(|age| age < FRESH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_token_holds_at_once_and_a_bad_file_leaves_the_last_good_one() {
        let path = std::env::temp_dir().join(format!("evenkeel-rotated-{}", std::process::id()));
        let name = path.to_str().unwrap();
        fs::write(&path, "first-token\n").unwrap();
        let token = Token::from_file(name).unwrap();
        assert!(token.matches("first-token"));
        for next in ["other-token", "third-token"] {
            // Of the same length, at once, in place: nothing but the content tells them apart.
            fs::write(&path, next).unwrap();
            assert!(token.matches(next) && !token.matches("first-token"), "{next}");
        }
        fs::write(&path, "bad").unwrap();
        assert!(token.matches("third-token") && !token.matches("bad"));
        fs::remove_file(&path).unwrap();
        assert!(token.matches("third-token"));
        fs::write(&path, "fourth-token").unwrap();
        assert!(token.matches("fourth-token") && !token.matches("third-token"));
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_not_there_at_the_start_is_a_mistake_with_its_name() {
        let mut mistakes = Mistakes::default();
        assert!(Token::parse("x_token", None, Some("/does/not/exist"), &mut mistakes).is_none());
        assert!(
            Token::parse("x_token", Some("correct-horse"), Some("/x"), &mut mistakes).is_none()
        );
        let names: Vec<String> = mistakes.into_vec().into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["X_TOKEN_FILE", "X_TOKEN_FILE"]);
    }
}
