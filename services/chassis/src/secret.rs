//! Tokens: read from a setting or a file, compared in constant time, never shown.

use std::{fmt, fs, io::Write, path::Path};

use subtle::ConstantTimeEq;

use crate::settings::Mistakes;

/// A shorter token could be guessed by trying; a longer line is not a token.
const LENGTH: std::ops::RangeInclusive<usize> = 8..=512;

/// A token that must not appear in logs or answers.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A token from text, without surrounding white space.
    ///
    /// # Errors
    /// What was expected.
    pub fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if LENGTH.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!(
                "a token of {} to {} visible ASCII characters",
                LENGTH.start(),
                LENGTH.end()
            ))
        }
    }

    /// A token from a file.
    ///
    /// # Errors
    /// What was expected, or why the file could not be read.
    pub fn from_file(path: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path)
            .map_err(|error| format!("a readable file with a token ({error})"))?;
        Self::new(&text).map_err(|expected| format!("a file with {expected}"))
    }

    /// Makes a random token in a new file that only this user can read. An existing file is left
    /// as it is, so that several processes may share one.
    ///
    /// # Errors
    /// What was expected, or why the file could not be written.
    pub fn make_file(path: &str) -> Result<(), String> {
        use std::os::unix::fs::OpenOptionsExt;
        if Path::new(path).exists() {
            return Ok(());
        }
        let fail = |error: std::io::Error| format!("a file that can be made ({error})");
        let mut random = [0_u8; 24];
        std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").map_err(fail)?, &mut random)
            .map_err(fail)?;
        let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        // Written aside and linked into place: a reader never sees half a token, and of two
        // processes that start together one wins.
        let aside = format!("{path}.{}", std::process::id());
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&aside)
            .map_err(fail)?;
        let linked = writeln!(file, "{token}").and_then(|()| fs::hard_link(&aside, path));
        // A file left aside would be a second copy of the secret.
        let _ = fs::remove_file(&aside);
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(fail(error)),
            _ => Ok(()),
        }
    }

    /// Reads `name` or `name_file`, at most one of them.
    pub fn parse(
        name: &str,
        value: Option<&str>,
        file: Option<&str>,
        mistakes: &mut Mistakes,
    ) -> Option<Self> {
        let name_file = format!("{name}_file");
        let (name, shown, result) = match (value, file) {
            (None, None) => return None,
            (Some(value), None) => (name, "(hidden)", Self::new(value)),
            (None, Some(file)) => (name_file.as_str(), file, Self::from_file(file)),
            (Some(_), Some(file)) => {
                let either = format!("only one of {} and this", name.to_uppercase());
                (name_file.as_str(), file, Err(either))
            }
        };
        result.map_err(|expected| mistakes.note(name, shown, expected)).ok()
    }

    /// Whether `candidate` is this token, in time that does not depend on where they differ.
    #[must_use]
    pub fn matches(&self, candidate: &str) -> bool {
        self.0.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// The token itself, for the one header that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_shown() {
        let secret = Secret::new("correct-horse").unwrap();
        assert!(!format!("{secret:?}").contains("horse"));
        let mut mistakes = Mistakes::default();
        assert!(Secret::parse("x_token", Some("short"), None, &mut mistakes).is_none());
        assert!(!mistakes.into_vec()[0].to_string().contains("short"));
    }

    #[test]
    fn only_the_same_token_matches() {
        let secret = Secret::new(" correct-horse\n").unwrap();
        assert!(secret.matches("correct-horse"));
        assert!(!secret.matches("correct-hors") && !secret.matches("correct-horse "));
    }

    #[test]
    fn a_made_file_is_private_and_kept_by_the_next_maker() {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("evenkeel-token-{}", std::process::id()));
        let name = path.to_str().unwrap();
        Secret::make_file(name).unwrap();
        let first = Secret::from_file(name).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        Secret::make_file(name).unwrap();
        assert!(first.matches(Secret::from_file(name).unwrap().expose()));
        fs::remove_file(path).unwrap();
    }
}
