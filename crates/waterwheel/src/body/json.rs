//! JSON by serde.

use std::fmt;
use std::ops::Deref;

use super::{DecodeError, Encode, EncodeError, FromBytes};

/// JSON. A null is a failure unless `T` takes JSON's `null` (such as an `Option`).
///
/// `Option<Json<T>>` and `Json<Option<T>>` differ in one case: JSON's text `null` is `None` for the second only.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: serde::de::DeserializeOwned + Send + 'static> FromBytes for Json<T> {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, DecodeError> {
        serde_json::from_slice(bytes.unwrap_or(b"null")).map(Json).map_err(|e| not_json(&e))
    }
}

/// What was wrong and where. The error's own text can quote the value: class and place only (promise R9).
pub(crate) fn not_json(error: &serde_json::Error) -> DecodeError {
    let what = match error.classify() {
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => "JSON of another shape",
        serde_json::error::Category::Eof => "JSON that ends too early",
        serde_json::error::Category::Io => "unreadable",
    };
    DecodeError::new(format!("{what} at line {} column {}", error.line(), error.column()))
}

impl<T: serde::Serialize> Encode for Json<T> {
    fn encode(&self) -> Result<Option<Vec<u8>>, EncodeError> {
        // Its text may quote the value.
        serde_json::to_vec(&self.0).map(Some).map_err(|_| EncodeError::new("a value that JSON cannot hold"))
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json(..)")
    }
}
