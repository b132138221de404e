//! What a codec does with a schema: Avro, Protobuf, JSON, or whichever it is.

use serde_json::Value as Json;

use super::schema::{Parsed, RegisteredSchema, SchemaType};
use super::wire::Frame;
#[cfg(feature = "avro")]
use crate::body::avro::AvroSchema;
use crate::body::json::not_json;
#[cfg(feature = "protobuf")]
use crate::body::protobuf;
use crate::body::{DecodeError, EncodeError};

/// What was encoded: a payload, and for Protobuf the indexes of its message.
pub struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) indexes: Option<Vec<usize>>,
}

/// A language of schemas, with what a codec needs to know of it. Implemented by the formats that are here.
pub trait Format: Send + Sync + 'static {
    /// The language of schemas that it is for; `None`: any.
    #[doc(hidden)]
    const TYPE: Option<SchemaType>;

    /// Whether a payload is read without asking for its schema. `named`: the codec names its message.
    #[doc(hidden)]
    fn reads_alone(named: bool) -> bool;
}

/// A format that reads a `T` from a payload.
pub trait Reads<T>: Format {
    #[doc(hidden)]
    fn read(
        &self,
        schema: Option<&RegisteredSchema>,
        message: Option<&str>,
        frame: Frame<'_>,
    ) -> Result<T, DecodeError>;
}

/// A format that writes a `T` by a registered schema.
pub trait Writes<T>: Format {
    #[doc(hidden)]
    fn write(&self, schema: &RegisteredSchema, message: Option<&str>, value: &T) -> Result<Payload, EncodeError>;
}

fn other_type(expected: SchemaType) -> DecodeError {
    DecodeError::new(format!("of another schema type than {}", expected.as_str()))
}

fn not_written_by(expected: SchemaType) -> EncodeError {
    EncodeError::new(format!("the subject's schema is of another type than {}", expected.as_str()))
}

/// Avro, by serde.
#[cfg(feature = "avro")]
#[derive(Default)]
pub struct AvroFormat {
    pub(super) reader: Option<AvroSchema>,
}

#[cfg(feature = "avro")]
impl Format for AvroFormat {
    const TYPE: Option<SchemaType> = Some(SchemaType::Avro);

    fn reads_alone(_: bool) -> bool {
        false
    }
}

#[cfg(feature = "avro")]
impl<T: serde::de::DeserializeOwned> Reads<T> for AvroFormat {
    fn read(&self, schema: Option<&RegisteredSchema>, _: Option<&str>, frame: Frame<'_>) -> Result<T, DecodeError> {
        let Some(Parsed::Avro(writer)) = schema.map(|schema| &schema.parsed) else {
            return Err(other_type(SchemaType::Avro));
        };
        match &self.reader {
            Some(reader) => writer.decode_as(reader, frame.payload()),
            None => writer.decode(frame.payload()),
        }
    }
}

#[cfg(feature = "avro")]
impl<T: serde::Serialize> Writes<T> for AvroFormat {
    fn write(&self, schema: &RegisteredSchema, _: Option<&str>, value: &T) -> Result<Payload, EncodeError> {
        let Parsed::Avro(writer) = &schema.parsed else { return Err(not_written_by(SchemaType::Avro)) };
        Ok(Payload { bytes: writer.encode(value)?, indexes: None })
    }
}

/// Protobuf, by generated messages.
///
/// Reading needs no schema, and asks for none unless the codec names its message: then one of another name is refused.
#[cfg(feature = "protobuf")]
pub struct ProtobufFormat;

#[cfg(feature = "protobuf")]
impl Format for ProtobufFormat {
    const TYPE: Option<SchemaType> = Some(SchemaType::Protobuf);

    fn reads_alone(named: bool) -> bool {
        !named
    }
}

#[cfg(feature = "protobuf")]
impl<M: prost::Message + Default> Reads<M> for ProtobufFormat {
    fn read(
        &self,
        schema: Option<&RegisteredSchema>,
        message: Option<&str>,
        frame: Frame<'_>,
    ) -> Result<M, DecodeError> {
        let (indexes, payload) = frame.message()?;
        if let Some(name) = message {
            let Some(Parsed::Protobuf(schema)) = schema.map(|schema| &schema.parsed) else {
                return Err(other_type(SchemaType::Protobuf));
            };
            if schema.at(&indexes)?.full_name() != name {
                return Err(DecodeError::new(format!("another Protobuf message than {name}")));
            }
        }
        protobuf::decode(payload)
    }
}

#[cfg(feature = "protobuf")]
impl<M: prost::Message> Writes<M> for ProtobufFormat {
    fn write(&self, schema: &RegisteredSchema, message: Option<&str>, value: &M) -> Result<Payload, EncodeError> {
        let Parsed::Protobuf(schema) = &schema.parsed else { return Err(not_written_by(SchemaType::Protobuf)) };
        // A wrong guess would be read as another message.
        if message.is_none() && schema.has_several() {
            return Err(EncodeError::new("the Protobuf schema has several messages: name one by `message`"));
        }
        Ok(Payload { bytes: value.encode_to_vec(), indexes: Some(schema.path_of(message)?) })
    }
}

/// JSON by serde, whose schema is a JSON Schema. It is not validated, so reading asks for no schema.
pub struct JsonFormat;

impl Format for JsonFormat {
    const TYPE: Option<SchemaType> = Some(SchemaType::Json);

    fn reads_alone(_: bool) -> bool {
        true
    }
}

impl<T: serde::de::DeserializeOwned> Reads<T> for JsonFormat {
    fn read(&self, _: Option<&RegisteredSchema>, _: Option<&str>, frame: Frame<'_>) -> Result<T, DecodeError> {
        serde_json::from_slice(frame.payload()).map_err(|e| not_json(&e))
    }
}

impl<T: serde::Serialize> Writes<T> for JsonFormat {
    fn write(&self, schema: &RegisteredSchema, _: Option<&str>, value: &T) -> Result<Payload, EncodeError> {
        if schema.schema_type() != SchemaType::Json {
            return Err(not_written_by(SchemaType::Json));
        }
        let bytes = serde_json::to_vec(value).map_err(|_| EncodeError::new("a value that JSON cannot hold"))?;
        Ok(Payload { bytes, indexes: None })
    }
}

/// JSON of whatever the schema describes.
#[derive(Default)]
pub struct AnyFormat {
    pub(super) only: Option<SchemaType>,
}

impl AnyFormat {
    /// The type that was asked for, where the schema is of another.
    fn missed(&self, schema: &RegisteredSchema) -> Option<SchemaType> {
        self.only.filter(|only| *only != schema.schema_type())
    }
}

impl Format for AnyFormat {
    const TYPE: Option<SchemaType> = None;

    fn reads_alone(_: bool) -> bool {
        false
    }
}

impl Reads<Json> for AnyFormat {
    fn read(&self, schema: Option<&RegisteredSchema>, _: Option<&str>, frame: Frame<'_>) -> Result<Json, DecodeError> {
        let schema = schema.ok_or_else(|| DecodeError::new("without its schema"))?;
        match self.missed(schema) {
            Some(expected) => Err(other_type(expected)),
            None => any_to_json(schema, frame),
        }
    }
}

impl Writes<Json> for AnyFormat {
    fn write(&self, schema: &RegisteredSchema, message: Option<&str>, json: &Json) -> Result<Payload, EncodeError> {
        if let Some(expected) = self.missed(schema) {
            return Err(not_written_by(expected));
        }
        match &schema.parsed {
            #[cfg(feature = "avro")]
            Parsed::Avro(schema) => Ok(Payload { bytes: schema.encode_json(json)?, indexes: None }),
            #[cfg(feature = "protobuf")]
            Parsed::Protobuf(schema) => {
                let indexes = schema.path_of(message)?;
                let message = schema.at(&indexes).map_err(|e| EncodeError::new(e.to_string()))?;
                Ok(Payload { bytes: protobuf::encode_json(&message, json)?, indexes: Some(indexes) })
            }
            Parsed::Json => {
                let _ = message;
                JsonFormat.write(schema, None, json)
            }
        }
    }
}

/// A payload as JSON, by its schema.
pub(super) fn any_to_json(schema: &RegisteredSchema, frame: Frame<'_>) -> Result<Json, DecodeError> {
    match &schema.parsed {
        #[cfg(feature = "avro")]
        Parsed::Avro(schema) => schema.decode_json(frame.payload()),
        #[cfg(feature = "protobuf")]
        Parsed::Protobuf(schema) => {
            let (indexes, payload) = frame.message()?;
            protobuf::decode_json(&schema.at(&indexes)?, payload)
        }
        Parsed::Json => JsonFormat.read(None, None, frame),
    }
}
