//! A value that is never printed.

use std::fmt;
use std::path::Path;

use super::error::ConfigError;
use super::text_file::read_text_file;

const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A password or key. Debug and Display print `[redacted]`.
///
/// The copies inside the Kafka client cannot be wiped from memory; this one is not either.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// A secret from a literal or a variable.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value of an environment variable; an error when it is not set, empty or not UTF-8.
    pub fn from_env(variable: &str) -> Result<Self, ConfigError> {
        match std::env::var(variable) {
            Ok(value) if value.is_empty() => {
                Err(ConfigError::new(variable, "the environment variable is empty").remedy("give it a value"))
            }
            Ok(value) => Ok(Self(value)),
            Err(std::env::VarError::NotPresent) => {
                Err(ConfigError::new(variable, "the environment variable is not set").remedy("export it"))
            }
            Err(std::env::VarError::NotUnicode(_)) => {
                Err(ConfigError::new(variable, "the environment variable is not UTF-8").remedy("export it as UTF-8"))
            }
        }
    }

    /// The content of a regular file of at most 64 KiB of UTF-8, without its last newline (exactly one is taken off).
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let mut text = read_text_file(path.as_ref(), MAX_SECRET_BYTES)?;
        if text.ends_with('\n') {
            text.pop();
            if text.ends_with('\r') {
                text.pop();
            }
        }
        if text.is_empty() {
            let file = path.as_ref().display().to_string();
            return Err(ConfigError::new("", "the secret file is empty")
                .in_file(file)
                .remedy("write the secret to it"));
        }
        Ok(Self(text))
    }

    /// The secret itself. Keep it out of logs, errors and metrics.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<&str> for Secret {
    fn from(value: &str) -> Self {
        Self::new(value)
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_redacted() {
        let secret = Secret::new("canary-7f3a");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "[redacted] [redacted] Some([redacted])");
        assert_eq!(secret.expose(), "canary-7f3a");
    }

    #[test]
    fn exactly_one_newline_is_taken_off_a_secret_file() {
        let dir = tempfile::tempdir().unwrap();
        for (content, expected) in [("s\n", "s"), ("s\n\n", "s\n"), ("s\r\n", "s"), ("s", "s"), (" s ", " s ")] {
            let path = dir.path().join("secret");
            std::fs::write(&path, content).unwrap();
            assert_eq!(Secret::from_file(&path).unwrap().expose(), expected, "{content:?}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_names_its_source() {
        assert_eq!(
            Secret::from_env("WATERWHEEL_TEST_UNSET").unwrap_err().to_string(),
            "WATERWHEEL_TEST_UNSET: the environment variable is not set; export it"
        );
        assert_eq!(Secret::from_file("/no/secret").unwrap_err().to_string(), "/no/secret: no such file");
        let dir = tempfile::tempdir().unwrap();
        let error = Secret::from_file(dir.path()).unwrap_err();
        assert_eq!(error.problem(), "is a directory");
    }
}
