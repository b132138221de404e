//! Bodies: how a record's bytes become what a handler takes, and back.
//!
//! A type that can do without context does it itself: [`Decode`], [`FromBytes`], [`Encode`]. What needs context (a
//! registry, a schema, a key) is an object beside the type: `codec` has their two traits and the adapter around a handler.

#[cfg(feature = "avro")]
pub mod avro;
pub(crate) mod codec;
#[cfg(feature = "json")]
pub(crate) mod json;
#[cfg(feature = "protobuf")]
pub mod protobuf;
mod record_values;
#[cfg(feature = "json")]
pub mod rules;

#[cfg(feature = "json")]
pub use json::Json;

use std::error::Error;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

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

    pub(crate) fn null(expected: &str) -> Self {
        Self(format!("null where {expected} is expected"))
    }
}

/// Made from a key or a value alone, so that a type serves as both: with it come [`Decode`] (of the value), keys in
/// [`Keyed`], and tombstones and null keys as `None` of an `Option`.
pub trait FromBytes: Sized + Send + 'static {
    /// Decodes; `None` is a null key or value.
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, DecodeError>;
}

impl<T: FromBytes> Decode for T {
    fn decode(record: &Record) -> Result<Self, DecodeError> {
        T::from_bytes(record.value())
    }
}

/// A null key or value is `None`.
impl<T: FromBytes> FromBytes for Option<T> {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, DecodeError> {
        bytes.map(|bytes| T::from_bytes(Some(bytes))).transpose()
    }
}

/// The bytes themselves.
impl FromBytes for Vec<u8> {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, DecodeError> {
        bytes.map(<[u8]>::to_vec).ok_or_else(|| DecodeError::null("bytes"))
    }
}

/// Key and value, each decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyed<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
}

impl<K: FromBytes, V: FromBytes> Decode for Keyed<K, V> {
    fn decode(record: &Record) -> Result<Self, DecodeError> {
        let key = K::from_bytes(record.key()).map_err(|e| DecodeError::new(format!("key: {e}")))?;
        Ok(Self { key, value: V::from_bytes(record.value())? })
    }
}

/// Made into the bytes of a key or a value; the counterpart of [`FromBytes`]. `ProducerRecord::encoded_value` takes one.
pub trait Encode {
    /// Encodes; `None` is a null, which as a value deletes its key in a compacted topic.
    fn encode(&self) -> Result<Option<Vec<u8>>, EncodeError>;
}

/// `None` is a null key or value.
impl<T: Encode> Encode for Option<T> {
    fn encode(&self) -> Result<Option<Vec<u8>>, EncodeError> {
        self.as_ref().map_or(Ok(None), T::encode)
    }
}

/// The bytes themselves.
impl Encode for Vec<u8> {
    fn encode(&self) -> Result<Option<Vec<u8>>, EncodeError> {
        Ok(Some(self.clone()))
    }
}

/// Why a value could not be encoded. Its text names types and fields, never what is in them.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct EncodeError {
    text: String,
    retriable: bool,
    cause: Option<Arc<dyn Error + Send + Sync>>,
}

impl EncodeError {
    /// An error with that text, which must not quote the value.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), retriable: false, cause: None }
    }

    /// An error that may pass by itself, such as a registry that does not answer.
    pub fn retriable(text: impl Into<String>) -> Self {
        Self { retriable: true, ..Self::new(text) }
    }

    /// With the error of whoever was asked for help, such as a registry's. Its text is not added.
    pub fn caused_by(mut self, cause: impl Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }

    /// Whether encoding the same value again may succeed.
    pub fn is_retriable(&self) -> bool {
        self.retriable
    }

    /// The error behind it, if it is not the value's own: with a registry, `RegistryError`. This text tells it already.
    pub fn cause(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.cause.as_deref()
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

/// Text. A null or what is not UTF-8 is a failure.
#[derive(Clone, PartialEq, Eq)]
pub struct Utf8(pub String);

impl FromBytes for Utf8 {
    fn from_bytes(bytes: Option<&[u8]>) -> Result<Self, DecodeError> {
        match std::str::from_utf8(bytes.ok_or_else(|| DecodeError::null("UTF-8 text"))?) {
            Ok(text) => Ok(Utf8(text.to_owned())),
            Err(e) => Err(DecodeError::new(format!("not UTF-8 at byte {}", e.valid_up_to()))),
        }
    }
}

impl Encode for Utf8 {
    fn encode(&self) -> Result<Option<Vec<u8>>, EncodeError> {
        Ok(Some(self.0.clone().into_bytes()))
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
