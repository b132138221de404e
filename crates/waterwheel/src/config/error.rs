//! What a mistake in the configuration looks like: where, which key, what is wrong, the likely remedy.
//!
//! No secret gets in: an error never quotes the value of a property, only what a value may be.

use std::fmt;

const UNKNOWN_PROPERTY: &str = "unknown property";

/// A mistake in the configuration, found before the first connection.
///
/// It prints as `file:line:column: key: what is wrong; remedy`, without the parts that it has not got.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError(Box<Mistake>);

#[derive(Clone, PartialEq, Eq)]
struct Mistake {
    place: Option<Place>,
    key: String,
    problem: String,
    remedy: String,
}

#[derive(Clone, PartialEq, Eq)]
struct Place {
    file: String,
    /// From 1; `None` when the file as a whole is meant.
    line_column: Option<(usize, usize)>,
}

impl ConfigError {
    /// A mistake at `key` (may be empty). Neither part may hold a secret.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self(Box::new(Mistake { place: None, key: key.into(), problem: problem.into(), remedy: String::new() }))
    }

    pub(crate) fn unknown_property(key: &str, nearest: Option<&str>) -> Self {
        let error = Self::new(key, UNKNOWN_PROPERTY);
        match nearest {
            Some(name) => error.remedy(format!("did you mean \"{name}\"?")),
            None => error.remedy("properties have librdkafka's names, see its CONFIGURATION.md"),
        }
    }

    /// Adds what would put it right.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = remedy.into();
        self
    }

    /// Says which file (or environment variable, as `$NAME`) holds the mistake.
    #[must_use]
    pub fn in_file(mut self, file: impl Into<String>) -> Self {
        self.0.place = Some(Place { file: file.into(), line_column: None });
        self
    }

    /// Says where the mistake is; line and column (in characters) count from 1.
    #[must_use]
    pub fn at(mut self, file: impl Into<String>, line: usize, column: usize) -> Self {
        self.0.place = Some(Place { file: file.into(), line_column: Some((line, column)) });
        self
    }

    /// The same mistake under another key, as `worker.retry.attempts` for `attempts`.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.0.key = key.into();
        self
    }

    /// The key (property, setting) that is wrong; empty when none is meant.
    pub fn key(&self) -> &str {
        &self.0.key
    }

    /// What is wrong, without place, key and remedy.
    pub fn problem(&self) -> &str {
        &self.0.problem
    }

    /// What would put it right; empty when there is nothing to say.
    pub fn hint(&self) -> &str {
        &self.0.remedy
    }

    /// The file that holds the mistake.
    pub fn file(&self) -> Option<&str> {
        self.0.place.as_ref().map(|place| place.file.as_str())
    }

    /// Line and column (in characters) in that file, from 1.
    pub fn line_column(&self) -> Option<(usize, usize)> {
        self.0.place.as_ref().and_then(|place| place.line_column)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake { place, key, problem, remedy } = &*self.0;
        if let Some(place) = place {
            write!(f, "{}:", place.file.escape_debug())?;
            if let Some((line, column)) = place.line_column {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        let key = key.escape_debug();
        if place.is_none() && problem == UNKNOWN_PROPERTY {
            return write!(f, "{problem} \"{key}\": {remedy}");
        }
        if !self.0.key.is_empty() {
            write!(f, "{key}: ")?;
        }
        f.write_str(problem)?;
        if !remedy.is_empty() {
            write!(f, "; {remedy}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_prints_the_parts_it_has() {
        let error = ConfigError::new("attempts", "must be at least 1");
        assert_eq!(error.to_string(), "attempts: must be at least 1");
        let error = error.remedy("use 5").with_key("worker.retry.attempts").at("orders.toml", 12, 1);
        assert_eq!(error.to_string(), "orders.toml:12:1: worker.retry.attempts: must be at least 1; use 5");
        assert_eq!(ConfigError::new("", "no such file").in_file("a\nb").to_string(), "a\\nb: no such file");
    }
}
