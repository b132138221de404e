//! Bodies: how a record's value becomes what a handler takes.

use std::fmt;
use std::ops::Deref;

use crate::record::Record;

/// Made from a record before its handler runs. A failure is one of the record's, of class `decode`: since a second try
/// would see the same bytes, it goes to the dead-letter topic at once, or is parked where there is none.
pub trait Decode: Sized + Send + 'static {
    /// Decodes.
    fn decode(record: &Record) -> Result<Self, DecodeError>;
}

/// Why a body could not be decoded: what was expected and where it went wrong, never the bytes themselves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    /// An error with that text, which must not quote the payload.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The record as it is: use [`Record::value`] and [`Record::key`] of the message. Never fails, copies nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Raw;

impl Decode for Raw {
    fn decode(_: &Record) -> Result<Self, DecodeError> {
        Ok(Raw)
    }
}

/// The value as text. A null value or one that is not UTF-8 is a failure.
#[derive(Clone, PartialEq, Eq)]
pub struct Utf8(pub String);

impl Decode for Utf8 {
    fn decode(record: &Record) -> Result<Self, DecodeError> {
        let value = record.value().ok_or_else(|| DecodeError::new("null value where UTF-8 text is expected"))?;
        match std::str::from_utf8(value) {
            Ok(text) => Ok(Utf8(text.to_owned())),
            Err(e) => Err(DecodeError::new(format!("not UTF-8 at byte {}", e.valid_up_to()))),
        }
    }
}

impl Deref for Utf8 {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Utf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Utf8({} bytes)", self.0.len())
    }
}

/// The value as JSON. A null value is a failure unless `T` takes JSON's `null` (such as an `Option`).
#[cfg(feature = "json")]
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned + Send + 'static> Decode for Json<T> {
    fn decode(record: &Record) -> Result<Self, DecodeError> {
        serde_json::from_slice(record.value().unwrap_or(b"null")).map(Json).map_err(|e| {
            // The error's own text can quote the value: class and place only (promise R9).
            let what = match e.classify() {
                serde_json::error::Category::Syntax => "not JSON",
                serde_json::error::Category::Data => "JSON of another shape",
                serde_json::error::Category::Eof => "JSON that ends too early",
                serde_json::error::Category::Io => "unreadable",
            };
            DecodeError::new(format!("{what} at line {} column {}", e.line(), e.column()))
        })
    }
}

#[cfg(feature = "json")]
impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

#[cfg(feature = "json")]
impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json(..)")
    }
}
