//! Decoders and encoders of one type of key or value, with a registry.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};

use super::error::{RegistryError, RegistryErrorKind};
#[cfg(feature = "avro")]
use super::format::AvroFormat;
use super::format::{AnyFormat, Reads, Writes};
use super::schema::{RegisteredSchema, SchemaText, SchemaType};
use super::subject::{Part, SubjectStrategy};
use super::wire::{self, Frame, SchemaId};
use super::{Registry, ToWrite};
#[cfg(feature = "avro")]
use crate::body::avro::AvroSchema;
use crate::body::codec::{Decoder, Decoding, Encoded, Encoder, Encoding};
use crate::body::{DecodeError, EncodeError};
use crate::failure::Failure;
use crate::record::Record;

/// Topics whose way to write is remembered; a topic beyond them costs a longer look-up.
const MOST_TOPICS: usize = 1_000;

/// Keys or values of one type: a decoder for [`decoded`](crate::decoded), and an encoder for
/// [`ProducerRecord::value_by`](crate::ProducerRecord::value_by).
///
/// Decodes into `T`, or into `Option<T>` where a null (a tombstone) is `None`; encodes a `T`, or an `Option<T>` alike. Settings
/// are made before it is used. One codec is best kept and shared (in an `Arc`, for several uses).
pub struct RegistryCodec<T, F> {
    registry: Registry,
    format: F,
    part: Part,
    strategy: SubjectStrategy,
    text: Option<Arc<SchemaText>>,
    message: Option<String>,
    use_latest: bool,
    register: bool,
    normalize: bool,
    guid_in_header: bool,
    /// What is to be written by, of each topic.
    wanted: RwLock<HashMap<String, Arc<ToWrite>>>,
    body: PhantomData<fn() -> T>,
}

impl<T, F> RegistryCodec<T, F> {
    pub(super) fn new(registry: Registry, format: F) -> Self {
        Self {
            registry,
            format,
            part: Part::Value,
            strategy: SubjectStrategy::default(),
            text: None,
            message: None,
            use_latest: false,
            register: false,
            normalize: false,
            guid_in_header: false,
            wanted: RwLock::default(),
            body: PhantomData,
        }
    }

    /// Keys instead of values.
    pub fn of_keys(mut self) -> Self {
        self.part = Part::Key;
        self
    }

    /// How the subject's name is made. Default: [`SubjectStrategy::Topic`].
    pub fn subject(mut self, strategy: SubjectStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The schema to write by. It must be registered under the subject, unless [`auto_register`](Self::auto_register) is set.
    /// Default: the subject's latest.
    pub fn schema(mut self, text: SchemaText) -> Self {
        self.text = Some(Arc::new(text));
        self
    }

    /// Writes by the subject's latest schema even if one is given, whose name then only serves to make the subject's.
    pub fn use_latest(mut self) -> Self {
        self.use_latest = true;
        self
    }

    /// Registers the given schema if it is not there. Off by default: in production that is a deployment's part, and a slip
    /// in a program would change what others read.
    pub fn auto_register(mut self) -> Self {
        self.register = true;
        self
    }

    /// Lets the registry normalise the given schema before it looks it up or registers it, so that differences that mean
    /// nothing (white space, the order of attributes) make no new version.
    pub fn normalize(mut self) -> Self {
        self.normalize = true;
        self
    }

    /// Names the schema by its GUID in a header, not by its id before the payload. The registry has to know GUIDs
    /// (Confluent's from version 8 on). Both are read, whatever is written.
    pub fn guid_in_header(mut self) -> Self {
        self.guid_in_header = true;
        self
    }

    /// The full name of the Protobuf message, where a file has several. Records of another message are then undecodable.
    pub fn message(mut self, name: impl Into<String>) -> Self {
        self.message = Some(name.into());
        self
    }

    fn bytes<'a>(&self, record: &'a Record) -> Option<&'a [u8]> {
        match self.part {
            Part::Key => record.key(),
            Part::Value => record.value(),
        }
    }

    fn wanted(&self, topic: &str) -> Result<Arc<ToWrite>, EncodeError> {
        if let Some(wanted) = self.wanted.read().unwrap_or_else(PoisonError::into_inner).get(topic) {
            return Ok(wanted.clone());
        }
        let record = self.message.clone().or_else(|| self.text.as_ref()?.record_name());
        let subject = self.strategy.subject(topic, self.part, record.as_deref()).ok_or_else(|| {
            EncodeError::new(
                "the subject is named after the record, whose name is not known: give `schema` or `message`",
            )
        })?;
        let text = self.text.clone().filter(|_| !self.use_latest);
        let (register, normalize, guid) = (self.register, self.normalize, self.guid_in_header);
        let wanted = Arc::new(ToWrite { subject: subject.into_owned(), text, register, normalize, guid });
        let mut remembered = self.wanted.write().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() < MOST_TOPICS {
            remembered.insert(topic.to_owned(), wanted.clone());
        }
        Ok(wanted)
    }
}

#[cfg(feature = "avro")]
impl<T> RegistryCodec<T, AvroFormat> {
    /// Decodes as this schema has it (its defaults, aliases and promotions), instead of by `T`'s fields alone.
    pub fn reader(mut self, reader: AvroSchema) -> Self {
        self.format.reader = Some(reader);
        self
    }
}

impl<T> RegistryCodec<T, AnyFormat> {
    /// Takes and writes by schemas of this type only. Default: any.
    pub fn only(mut self, schema_type: SchemaType) -> Self {
        self.format.only = Some(schema_type);
        self
    }
}

impl<T: Send + 'static, F: Reads<T>> RegistryCodec<T, F> {
    fn body(&self, record: &Record, bytes: &[u8]) -> Result<Decoding<T>, Failure> {
        let frame = Frame::of(bytes, record.header(self.part.schema_header())).map_err(Failure::undecodable)?;
        let message = self.message.as_deref();
        let schema = if F::reads_alone(message.is_some()) {
            None
        } else {
            match self.registry.known(frame.id) {
                Some(schema) => Some(schema.map_err(RegistryError::into_failure)?),
                None => {
                    let (registry, id) = (self.registry.clone(), frame.id);
                    return Ok(Decoding::Wait(Box::pin(async move {
                        registry.schema(id).await.map(drop).map_err(RegistryError::into_failure)
                    })));
                }
            }
        };
        self.format.read(schema.as_deref(), message, frame).map(Decoding::Done).map_err(Failure::undecodable)
    }
}

impl<T, F: Writes<T>> RegistryCodec<T, F> {
    fn value(&self, topic: &str, value: &T) -> Result<Encoding, EncodeError> {
        let wanted = self.wanted(topic)?;
        match self.registry.known_to_write(&wanted) {
            Some(schema) => self.payload(&*schema.map_err(unwritten)?, value).map(Encoding::Done),
            None => {
                let registry = self.registry.clone();
                Ok(Encoding::Wait(Box::pin(
                    async move { registry.to_write(&wanted).await.map(drop).map_err(unwritten) },
                )))
            }
        }
    }

    fn payload(&self, schema: &RegisteredSchema, value: &T) -> Result<Encoded, EncodeError> {
        let payload = self.format.write(schema, self.message.as_deref(), value)?;
        let indexes = payload.indexes.as_deref();
        if self.guid_in_header {
            let guid = schema.guid().ok_or_else(|| EncodeError::new("the registry tells no GUID of the schema"))?;
            let header = (self.part.schema_header(), wire::name(guid, indexes));
            return Ok(Encoded { bytes: Some(payload.bytes), header: Some(header) });
        }
        let id = schema.id().ok_or_else(|| EncodeError::new("the registry tells no id of the schema"))?;
        let mut bytes = wire::name(SchemaId::Id(id), indexes);
        bytes.extend_from_slice(&payload.bytes);
        Ok(Encoded { bytes: Some(bytes), header: None })
    }
}

fn unwritten(error: RegistryError) -> EncodeError {
    let unwritten = match error.kind() {
        RegistryErrorKind::NotFound => {
            EncodeError::new(format!("{error}; register the schema, or let the codec do it by `auto_register`"))
        }
        _ if error.is_retriable() => EncodeError::retriable(error.to_string()),
        _ => EncodeError::new(error.to_string()),
    };
    unwritten.caused_by(error)
}

impl<T: Send + 'static, F: Reads<T>> Decoder<T> for RegistryCodec<T, F> {
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure> {
        let expected = F::TYPE.map_or("a schema's payload", SchemaType::as_str);
        let bytes = self.bytes(record).ok_or_else(|| Failure::undecodable(DecodeError::null(expected)))?;
        self.body(record, bytes)
    }
}

impl<T: Send + 'static, F: Reads<T>> Decoder<Option<T>> for RegistryCodec<T, F> {
    fn decode(&self, record: &Record) -> Result<Decoding<Option<T>>, Failure> {
        match self.bytes(record).map(|bytes| self.body(record, bytes)).transpose()? {
            None => Ok(Decoding::Done(None)),
            Some(Decoding::Done(body)) => Ok(Decoding::Done(Some(body))),
            Some(Decoding::Wait(wait)) => Ok(Decoding::Wait(wait)),
        }
    }
}

impl<T: Send + 'static, F: Writes<T>> Encoder<T> for RegistryCodec<T, F> {
    fn encode(&self, topic: &str, value: &T) -> Result<Encoding, EncodeError> {
        self.value(topic, value)
    }
}

impl<T: Send + 'static, F: Writes<T>> Encoder<Option<T>> for RegistryCodec<T, F> {
    fn encode(&self, topic: &str, value: &Option<T>) -> Result<Encoding, EncodeError> {
        match value {
            Some(value) => self.value(topic, value),
            None => Ok(Encoding::Done(Encoded { bytes: None, header: None })),
        }
    }
}

impl<T, F> fmt::Debug for RegistryCodec<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistryCodec({:?}, {:?})", self.part, self.strategy)
    }
}
