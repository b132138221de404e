//! What can go wrong with a registry, and what follows from it.

use std::time::Duration;

use crate::body::DecodeError;
use crate::failure::Failure;

/// When a record whose schema could not be had is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Bytes of a registry's own words that are shown.
const SHOWN: usize = 300;

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// It could not be reached, or the connection broke.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It answered that it cannot answer now (429, 5xx).
    Unavailable,
    /// It refused for lack of credentials or rights (401, 403).
    Unauthorised,
    /// It has no such subject, version or schema (40401, 40402, 40403).
    NotFound,
    /// A schema is invalid, or not compatible with those before it (409, 42201 and the like).
    Invalid,
    /// It refused for another reason, or something else than a registry answers there.
    Refused,
    /// It has the schema, but this build cannot use it.
    Unusable,
}

/// An error of a schema registry. Its text has the registry's own words, which are about schemas, never about records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema registry: {text}")]
pub struct RegistryError {
    kind: RegistryErrorKind,
    code: Option<u32>,
    text: String,
}

impl RegistryError {
    pub(super) fn new(kind: RegistryErrorKind, text: impl Into<String>) -> Self {
        Self { kind, code: None, text: text.into() }
    }

    /// An answer that is not a success.
    pub(super) fn answered(what: &str, status: u16, body: &[u8]) -> Self {
        let told: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let told = told.as_ref();
        let code = told.and_then(|told| u32::try_from(told.get("error_code")?.as_u64()?).ok());
        let kind = match (status, code) {
            (_, Some(40401..=40499)) => RegistryErrorKind::NotFound,
            (401 | 403, _) => RegistryErrorKind::Unauthorised,
            (429 | 500..=599, _) => RegistryErrorKind::Unavailable,
            (409 | 422, _) => RegistryErrorKind::Invalid,
            // Without a registry's code a 404 is of a wrong address, which is no reason to give records up.
            _ => RegistryErrorKind::Refused,
        };
        let words = told.and_then(|told| told.get("message")?.as_str()).unwrap_or("no reason told");
        let words: String = words.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        Self { kind, code, text: format!("{what}: {words} ({})", code.unwrap_or(u32::from(status))) }
    }

    /// What kind of failure it is.
    pub fn kind(&self) -> RegistryErrorKind {
        self.kind
    }

    /// The registry's own code, such as 40403.
    pub fn code(&self) -> Option<u32> {
        self.code
    }

    /// Whether the same request may succeed later without a change of configuration, rights or schemas.
    pub fn is_retriable(&self) -> bool {
        use RegistryErrorKind::{TimedOut, Unavailable, Unreachable};
        matches!(self.kind, Unreachable | TimedOut | Unavailable)
    }

    /// What it means for a record whose schema was asked for. One whose schema is unknown or unusable is undecodable;
    /// anything else is no fault of the record's: it is tried again, uncounted, and never dead-lettered.
    pub fn into_failure(self) -> Failure {
        match self.kind {
            RegistryErrorKind::NotFound | RegistryErrorKind::Unusable => Failure::undecodable(self),
            _ => Failure::uncounted(AGAIN, self),
        }
    }
}

/// Why a key or value could not be decoded with a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The registry failed, or has not got the schema.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The bytes are not what their schema says, or name none.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl ReadError {
    /// What it means for a record; see [`RegistryError::into_failure`].
    pub fn into_failure(self) -> Failure {
        match self {
            ReadError::Registry(error) => error.into_failure(),
            ReadError::Decode(error) => Failure::undecodable(error),
        }
    }
}
