//! Keys and values in a format: read into what is shown of them, and written from what was shown.
//!
//! A registry that fails and a body that is not what it should be stay apart: the first says nothing about the record.

mod args;
mod settings;

pub(crate) use self::args::{FormatArgs, Formats, OnError};
pub(crate) use self::settings::RegistrySettings;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use waterwheel::config::ConfigError;
use waterwheel::registry::{
    AnyFormat, JsonFormat, Part, Registry, RegistryCodec, RegistryError, RegistryErrorKind, SchemaType,
};
use waterwheel::{DecodeError, Decoder, Decoding, EncodeError, Encoded, Encoder, Failure, FromBytes, Record, Utf8};

use crate::exit::Exit;

/// What keys or values are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum BodyFormat {
    /// Anything.
    #[default]
    #[value(name = "raw", alias = "bytes")]
    Bytes,
    /// Text.
    Utf8,
    /// JSON; with a registry also behind a schema's id.
    Json,
    /// Avro, by a registry's schema.
    Avro,
    /// Protobuf, by a registry's schema.
    Protobuf,
}

impl BodyFormat {
    /// Whether it cannot be read without a registry.
    pub(crate) fn needs_registry(self) -> bool {
        matches!(self, Self::Avro | Self::Protobuf)
    }

    /// Whether a registry makes a difference to it.
    fn knows_registries(self) -> bool {
        self == Self::Json || self.needs_registry()
    }
}

/// What is shown of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Its bytes.
    Bytes,
    /// Its bytes, which are JSON.
    Json,
    /// This JSON, in one line.
    Decoded(Vec<u8>),
}

/// Keys or values of one format. A null is one in every format.
pub(crate) struct BodyCodec {
    part: Part,
    by: By,
}

enum By {
    Bytes,
    Utf8,
    Json,
    JsonSchema(RegistryCodec<Box<RawValue>, JsonFormat>),
    Schema(RegistryCodec<Json, AnyFormat>),
}

impl BodyCodec {
    /// An error where the format needs a registry and there is none.
    pub(crate) fn new(format: BodyFormat, part: Part, registry: Option<&Registry>) -> Result<Self, ConfigError> {
        let by = match (format, registry) {
            (BodyFormat::Bytes, _) => By::Bytes,
            (BodyFormat::Utf8, _) => By::Utf8,
            (BodyFormat::Json, None) => By::Json,
            (BodyFormat::Json, Some(registry)) => By::JsonSchema(of_part(registry.json(), part)),
            (BodyFormat::Avro, Some(registry)) => By::Schema(of_part(registry.any().only(SchemaType::Avro), part)),
            (BodyFormat::Protobuf, Some(registry)) => {
                By::Schema(of_part(registry.any().only(SchemaType::Protobuf), part))
            }
            (BodyFormat::Avro | BodyFormat::Protobuf, None) => return Err(no_registry()),
        };
        Ok(Self { part, by })
    }

    fn bytes<'a>(&self, record: &'a Record) -> Option<&'a [u8]> {
        match self.part {
            Part::Key => record.key(),
            Part::Value => record.value(),
        }
    }

    /// Says which part of the record it is, where that is the key.
    fn about(&self, failure: Failure) -> Failure {
        match self.part {
            Part::Key if !failure.error().is::<RegistryError>() => {
                Failure::undecodable(format!("key: {}", failure.error()))
            }
            _ => failure,
        }
    }

    fn look(&self, record: &Record, bytes: &[u8]) -> Result<Decoding<Shown>, Failure> {
        let shown = match &self.by {
            By::Bytes => Shown::Bytes,
            By::Utf8 => Utf8::from_bytes(Some(bytes)).map(|_| Shown::Bytes).map_err(Failure::undecodable)?,
            By::JsonSchema(codec) if names_schema(record, self.part, bytes) => {
                return decoding(codec.decode(record)?, |json: Box<RawValue>| one_line(json.get().as_bytes()));
            }
            By::Json | By::JsonSchema(_) => waterwheel::Json::<IgnoredAny>::from_bytes(Some(bytes))
                .map(|_| Shown::Json)
                .map_err(Failure::undecodable)?,
            By::Schema(codec) => return decoding(codec.decode(record)?, |json: Json| json.to_string().into_bytes()),
        };
        Ok(Decoding::Done(shown))
    }
}

impl BodyCodec {
    /// The bytes of what is JSON for a schema's format, else of what it is already. May have to ask the registry first.
    pub(crate) async fn write(&self, topic: &str, body: &[u8]) -> Result<Encoded, EncodeError> {
        let as_is = || Encoded { bytes: Some(body.to_vec()), header: None };
        match &self.by {
            By::Bytes => Ok(as_is()),
            By::Utf8 => match Utf8::from_bytes(Some(body)) {
                Ok(_) => Ok(as_is()),
                Err(error) => Err(self.unwritten(&error)),
            },
            By::Json => self.parsed::<IgnoredAny>(body).map(|_| as_is()),
            By::JsonSchema(codec) => codec.write(topic, &self.parsed::<Box<RawValue>>(body)?).await,
            By::Schema(codec) => codec.write(topic, &self.parsed::<Json>(body)?).await,
        }
    }

    /// Whether it is anything, and says nothing of how JSON is written.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.by, By::Bytes)
    }

    /// The header that names a body's schema, if what is written names its own.
    pub(crate) fn schema_header(&self) -> Option<&'static str> {
        matches!(self.by, By::JsonSchema(_) | By::Schema(_)).then(|| self.part.schema_header())
    }

    fn parsed<T: DeserializeOwned + Send + 'static>(&self, body: &[u8]) -> Result<T, EncodeError> {
        let json = waterwheel::Json::<T>::from_bytes(Some(body)).map_err(|error| self.unwritten(&error))?;
        Ok(json.0)
    }

    fn unwritten(&self, error: &DecodeError) -> EncodeError {
        let part = match self.part {
            Part::Key => "key",
            Part::Value => "value",
        };
        EncodeError::new(format!("{part}: {error}"))
    }
}

impl Decoder<Shown> for BodyCodec {
    fn decode(&self, record: &Record) -> Result<Decoding<Shown>, Failure> {
        match self.bytes(record) {
            None => Ok(Decoding::Done(Shown::Bytes)),
            Some(bytes) => self.look(record, bytes).map_err(|failure| self.about(failure)),
        }
    }
}

fn of_part<T, F>(codec: RegistryCodec<T, F>, part: Part) -> RegistryCodec<T, F> {
    match part {
        Part::Key => codec.of_keys(),
        Part::Value => codec,
    }
}

fn no_registry() -> ConfigError {
    ConfigError::new("", "avro and protobuf are read and written by a schema registry's schemas, and none is named")
        .remedy("name it: --registry http://localhost:8081")
}

fn decoding<T>(decoding: Decoding<T>, text: impl FnOnce(T) -> Vec<u8>) -> Result<Decoding<Shown>, Failure> {
    Ok(match decoding {
        Decoding::Done(body) => Decoding::Done(Shown::Decoded(text(body))),
        Decoding::Wait(wait) => Decoding::Wait(wait),
    })
}

/// Whether a body begins with a schema's id, or a header has it. JSON never begins with the bytes 0 or 1.
fn names_schema(record: &Record, part: Part, bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0 | 1)) || record.header(part.schema_header()).is_some()
}

/// JSON as it stands: its line ends stand between tokens only.
pub(crate) fn one_line(json: &[u8]) -> Vec<u8> {
    json.iter().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { *byte }).collect()
}

/// How a verb ends that cannot go on because of its registry; `None`: it is about this record.
pub(crate) fn of_registry(error: &RegistryError) -> Option<Exit> {
    use RegistryErrorKind::{NotFound, TimedOut, Unauthorised, Unavailable, Unreachable, Unusable};
    match error.kind() {
        NotFound | Unusable => None,
        Unreachable | TimedOut | Unavailable => Some(Exit::Unreachable),
        Unauthorised => Some(Exit::NotAuthorised),
        _ => Some(Exit::Failed),
    }
}
