//! Avro: schemas, and bodies read and written by them, without a container.
//!
//! An [`Avro`] decodes records whose writer's schema is known beforehand. With a schema registry, where each record names
//! its schema, use `registry::Registry::avro` instead.
//!
//! Bytes are checked against the writer's schema before anything is allocated for them: data that ends early or
//! goes on behind its end, counts and lengths that its bytes cannot hold, and nesting deeper than 128 are refused.

mod aliases;
mod json;
mod shape;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{GenericSingleObjectReader, Schema, from_value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::aliases::Aliases;
use self::json::Mapping;
use self::shape::Shape;
use super::codec::{Decoder, Decoding, Encoded, Encoder, Encoding};
use super::{DecodeError, EncodeError};
use crate::config::ConfigError;
use crate::failure::Failure;
use crate::record::Record;

/// A parsed Avro schema. Cheap to clone.
#[derive(Clone)]
pub struct AvroSchema(Arc<Parsed>);

struct Parsed {
    schema: Schema,
    /// Of the same schema: the way to deserialize that owns one. Its header is empty.
    reader: GenericSingleObjectReader,
    shape: Shape,
    /// What decides how bytes lie: two schemas of one form read each other's data as their own.
    form: String,
    has_aliases: bool,
}

impl AvroSchema {
    /// Parses a schema, as JSON.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Schema::parse_str(text).map_err(|e| unusable(&e)).and_then(Self::of)
    }

    /// Parses a schema that refers to named types which `references` define, in any order.
    pub fn parse_with(text: &str, references: &[impl AsRef<str>]) -> Result<Self, ConfigError> {
        if references.is_empty() {
            return Self::parse(text);
        }
        let (mut schema, referred) = Schema::parse_str_with_list(text, references).map_err(|e| unusable(&e))?;
        schema.denormalize(&referred).map_err(|e| unusable(&e))?;
        Self::of(schema)
    }

    fn of(schema: Schema) -> Result<Self, ConfigError> {
        let reader = GenericSingleObjectReader::builder().schema(schema.clone()).header(Vec::new()).build();
        Ok(Self(Arc::new(Parsed {
            reader: reader.map_err(|e| unusable(&e))?,
            shape: Shape::of(&schema)?,
            form: schema.canonical_form(),
            has_aliases: aliases::any(&schema),
            schema,
        })))
    }

    /// The full name of a record, enumeration or fixed; `None` for other types.
    pub fn name(&self) -> Option<String> {
        self.schema().name().map(|name| name.fullname(None))
    }

    /// Decodes what was written by this schema. Fields that `T` lacks are passed over; what the data lacks is an error
    /// unless `T` has a default for it.
    pub fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, DecodeError> {
        self.0.shape.check(bytes)?;
        let mut rest = bytes;
        let direct = self.0.reader.read_deser(&mut rest);
        // The direct way takes no number for a wider one, nor an enumeration for text; by way of a value it does.
        direct.or_else(|_| from_value(&self.value(bytes)?).map_err(|_| DecodeError::new(MISFIT)))
    }

    /// Decodes what was written by this schema as `reader` has it: by Avro's rules of schema resolution, with its defaults
    /// and the aliases of its fields. Slower than [`decode`](Self::decode) where the two schemas differ.
    pub fn decode_as<T: DeserializeOwned>(&self, reader: &AvroSchema, bytes: &[u8]) -> Result<T, DecodeError> {
        if self.0.form == reader.0.form {
            return self.decode(bytes);
        }
        self.0.shape.check(bytes)?;
        let mut value = self.value(bytes)?;
        if reader.0.has_aliases {
            value = Aliases::of(reader.schema()).ok_or_else(|| DecodeError::new(INCOMPLETE))?.apply(value);
        }
        let value = value.resolve(reader.schema());
        let value = value.map_err(|_| DecodeError::new("Avro data that the reader's schema cannot take"))?;
        from_value(&value).map_err(|_| DecodeError::new(MISFIT))
    }

    /// Encodes by this schema. Fields are found by name, whatever their order in `T`; what `T` lacks takes the schema's
    /// default.
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        let writer = self.writer()?;
        if writer.write_ser(&mut bytes, &value).is_ok() {
            return Ok(bytes);
        }
        // As in `decode`.
        bytes.clear();
        let written = to_value(value).and_then(|value| value.resolve(self.schema()));
        let written = written.and_then(|value| writer.write_value_ref(&mut bytes, &value));
        match (written, self.name()) {
            (Ok(_), _) => Ok(bytes),
            (Err(_), Some(name)) => Err(EncodeError::new(format!("a value that does not fit the Avro schema {name}"))),
            (Err(_), None) => Err(EncodeError::new("a value that does not fit the Avro schema")),
        }
    }

    /// Decodes into JSON, with nothing lost: see the page on formats for how types are shown. [`encode_json`](Self::encode_json)
    /// reads it back.
    pub fn decode_json(&self, bytes: &[u8]) -> Result<serde_json::Value, DecodeError> {
        let mapping = Mapping::of(self.schema()).ok_or_else(|| DecodeError::new(INCOMPLETE))?;
        self.0.shape.check(bytes)?;
        mapping.to_json(self.value(bytes)?).map_err(|e| DecodeError::new(e.to_string()))
    }

    /// Encodes JSON. Fields that are left out take the schema's default; fields that it does not know are an error.
    pub fn encode_json(&self, json: &serde_json::Value) -> Result<Vec<u8>, EncodeError> {
        let mapping = Mapping::of(self.schema()).ok_or_else(|| EncodeError::new(INCOMPLETE))?;
        let value = mapping.to_value(json).map_err(|e| EncodeError::new(e.to_string()))?;
        let mut bytes = Vec::new();
        let written = self.writer()?.write_value_ref(&mut bytes, &value);
        written.map_err(|_| EncodeError::new("JSON that does not fit the Avro schema"))?;
        Ok(bytes)
    }

    fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// Of bytes that were checked.
    fn value(&self, bytes: &[u8]) -> Result<Value, DecodeError> {
        let mut rest = bytes;
        self.0.reader.read_value(&mut rest).map_err(|_| {
            let at = bytes.len() - rest.len();
            DecodeError::new(format!("not of the Avro schema, up to byte {at}"))
        })
    }

    fn writer(&self) -> Result<GenericDatumWriter<'_>, EncodeError> {
        GenericDatumWriter::builder(self.schema()).build().map_err(|_| EncodeError::new(INCOMPLETE))
    }
}

impl fmt::Debug for AvroSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AvroSchema({})", self.name().as_deref().unwrap_or("unnamed"))
    }
}

const MISFIT: &str = "Avro data that does not fit the type";
const INCOMPLETE: &str = "the Avro schema lacks types that it names";

fn unusable(error: &apache_avro::Error) -> ConfigError {
    ConfigError::new("schema", format!("not a usable Avro schema: {error}"))
}

/// Bodies of one writer's schema, without a registry: a decoder of [`decoded`](crate::decoded), and an encoder.
///
/// Decodes into `T`, or into `Option<T>` where a null (a tombstone) is `None`.
pub struct Avro<T> {
    writer: AvroSchema,
    reader: Option<AvroSchema>,
    of_keys: bool,
    body: PhantomData<fn() -> T>,
}

impl<T> Avro<T> {
    /// Values written by that schema.
    pub fn new(writer: AvroSchema) -> Self {
        Self { writer, reader: None, of_keys: false, body: PhantomData }
    }

    /// Decodes as this schema has it (its defaults, aliases and promotions), instead of by `T`'s fields alone.
    pub fn reader(mut self, reader: AvroSchema) -> Self {
        self.reader = Some(reader);
        self
    }

    /// Keys instead of values.
    pub fn of_keys(mut self) -> Self {
        self.of_keys = true;
        self
    }

    fn bytes<'a>(&self, record: &'a Record) -> Option<&'a [u8]> {
        if self.of_keys { record.key() } else { record.value() }
    }
}

impl<T: DeserializeOwned + 'static> Avro<T> {
    fn body(&self, bytes: &[u8]) -> Result<T, Failure> {
        let body = match &self.reader {
            Some(reader) => self.writer.decode_as(reader, bytes),
            None => self.writer.decode(bytes),
        };
        body.map_err(Failure::undecodable)
    }
}

impl<T: DeserializeOwned + 'static> Decoder<T> for Avro<T> {
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure> {
        let bytes = self.bytes(record).ok_or_else(|| Failure::undecodable(DecodeError::null("Avro data")))?;
        self.body(bytes).map(Decoding::Done)
    }
}

impl<T: DeserializeOwned + 'static> Decoder<Option<T>> for Avro<T> {
    fn decode(&self, record: &Record) -> Result<Decoding<Option<T>>, Failure> {
        self.bytes(record).map(|bytes| self.body(bytes)).transpose().map(Decoding::Done)
    }
}

impl<T: Serialize + 'static> Encoder<T> for Avro<T> {
    fn encode(&self, _: &str, value: &T) -> Result<Encoding, EncodeError> {
        Ok(Encoding::Done(Encoded { bytes: Some(self.writer.encode(value)?), header: None }))
    }
}

#[cfg(test)]
mod tests;
