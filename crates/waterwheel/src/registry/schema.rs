//! Schemas: as a program gives them, and as a registry has them.

use std::fmt;
use std::hash::Hash;

use serde_json::{Value as Json, json};

use super::error::{RegistryError, RegistryErrorKind};
use super::wire::SchemaId;
#[cfg(feature = "avro")]
use crate::body::avro::AvroSchema;
#[cfg(feature = "protobuf")]
use crate::body::protobuf::ProtobufSchema;
#[cfg(any(feature = "avro", feature = "protobuf"))]
use crate::config::ConfigError;

/// The language of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SchemaType {
    /// Avro.
    Avro,
    /// Protobuf.
    Protobuf,
    /// JSON Schema. Values are JSON; they are not validated against it.
    Json,
}

impl SchemaType {
    /// As registries call it: `AVRO`, `PROTOBUF`, `JSON`.
    pub fn as_str(self) -> &'static str {
        match self {
            SchemaType::Avro => "AVRO",
            SchemaType::Protobuf => "PROTOBUF",
            SchemaType::Json => "JSON",
        }
    }

    /// A registry that tells no type means Avro.
    fn told(name: Option<&str>) -> Option<Self> {
        match name {
            None => Some(SchemaType::Avro),
            Some(name) => [Self::Avro, Self::Protobuf, Self::Json].into_iter().find(|kind| kind.as_str() == name),
        }
    }
}

/// A schema that another one refers to: of that subject and version, by the name used in the schema (an Avro type's full
/// name, the path of a `.proto` import, a JSON Schema's URL).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The name used in the schema.
    pub name: String,
    /// The subject it is registered under.
    pub subject: String,
    /// Its version there.
    pub version: u32,
}

impl Reference {
    fn told(json: &Json) -> Option<Self> {
        Some(Self {
            name: json.get("name")?.as_str()?.to_owned(),
            subject: json.get("subject")?.as_str()?.to_owned(),
            version: u32::try_from(json.get("version")?.as_i64()?).ok()?,
        })
    }
}

/// A schema's text, to be looked up or registered.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SchemaText {
    pub(super) kind: SchemaType,
    pub(super) text: String,
    pub(super) references: Vec<Reference>,
}

impl SchemaText {
    fn new(kind: SchemaType, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), references: Vec::new() }
    }

    /// An Avro schema.
    pub fn avro(text: impl Into<String>) -> Self {
        Self::new(SchemaType::Avro, text)
    }

    /// The text of a `.proto` file.
    pub fn protobuf(text: impl Into<String>) -> Self {
        Self::new(SchemaType::Protobuf, text)
    }

    /// A JSON Schema.
    pub fn json(text: impl Into<String>) -> Self {
        Self::new(SchemaType::Json, text)
    }

    /// Adds a schema that it refers to.
    pub fn reference(mut self, name: impl Into<String>, subject: impl Into<String>, version: u32) -> Self {
        self.references.push(Reference { name: name.into(), subject: subject.into(), version });
        self
    }

    /// The name of what it describes, as far as its text tells: an Avro type's full name, a JSON Schema's title.
    pub(super) fn record_name(&self) -> Option<String> {
        let json: Json = serde_json::from_str(&self.text).ok()?;
        let field = |name: &str| json.get(name)?.as_str();
        match self.kind {
            SchemaType::Json => field("title").map(str::to_owned),
            SchemaType::Protobuf => None,
            SchemaType::Avro => match (field("namespace"), field("name")?) {
                (Some(space), name) if !space.is_empty() && !name.contains('.') => Some(format!("{space}.{name}")),
                (_, name) => Some(name.to_owned()),
            },
        }
    }

    pub(super) fn request(&self) -> Json {
        let mut request = json!({ "schema": self.text });
        if self.kind != SchemaType::Avro {
            request["schemaType"] = json!(self.kind.as_str());
        }
        if !self.references.is_empty() {
            let named = |r: &Reference| json!({ "name": r.name, "subject": r.subject, "version": r.version });
            request["references"] = self.references.iter().map(named).collect();
        }
        request
    }
}

impl fmt::Debug for SchemaText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchemaText({}, {} bytes)", self.kind.as_str(), self.text.len())
    }
}

/// What a registry tells of a schema: by id, by GUID, by subject and version.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) text: SchemaText,
    pub(super) id: Option<u32>,
    pub(super) guid: Option<SchemaId>,
    pub(super) version: Option<u32>,
}

impl Told {
    pub(super) fn of(json: &Json) -> Result<Self, RegistryError> {
        let number = |name: &str| json.get(name)?.as_u64().and_then(|number| u32::try_from(number).ok());
        let text = json.get("schema").and_then(Json::as_str);
        let text = text.ok_or_else(|| RegistryError::new(RegistryErrorKind::Refused, "an answer without a schema"))?;
        let kind = json.get("schemaType").and_then(Json::as_str);
        let kind = SchemaType::told(kind).ok_or_else(|| {
            RegistryError::new(RegistryErrorKind::Unusable, format!("schemas of type {}", kind.unwrap_or_default()))
        })?;
        let references = json.get("references").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let references = references.iter().map(Reference::told).collect::<Option<Vec<_>>>();
        let references = references
            .ok_or_else(|| RegistryError::new(RegistryErrorKind::Refused, "a reference without its parts"))?;
        Ok(Self {
            text: SchemaText { kind, text: text.to_owned(), references },
            id: number("id"),
            guid: json.get("guid").and_then(Json::as_str).and_then(SchemaId::from_guid),
            version: number("version"),
        })
    }
}

/// A schema as the registry has it, parsed.
pub struct RegisteredSchema {
    pub(super) told: Told,
    pub(super) parsed: Parsed,
}

/// A schema made ready for use.
pub(super) enum Parsed {
    #[cfg(feature = "avro")]
    Avro(AvroSchema),
    #[cfg(feature = "protobuf")]
    Protobuf(ProtobufSchema),
    Json,
}

impl RegisteredSchema {
    /// `referred`: every schema that it refers to, directly or not, by the names they are referred to by.
    pub(super) fn parse(told: Told, referred: &[(String, String)]) -> Result<Self, RegistryError> {
        #[cfg(any(feature = "avro", feature = "protobuf"))]
        let unusable = |e: ConfigError| RegistryError::new(RegistryErrorKind::Unusable, e.to_string());
        let parsed = match told.text.kind {
            #[cfg(feature = "avro")]
            SchemaType::Avro => {
                let referred: Vec<&str> = referred.iter().map(|(_, text)| text.as_str()).collect();
                Parsed::Avro(AvroSchema::parse_with(&told.text.text, &referred).map_err(unusable)?)
            }
            #[cfg(feature = "protobuf")]
            SchemaType::Protobuf => {
                Parsed::Protobuf(ProtobufSchema::parse(&told.text.text, referred).map_err(unusable)?)
            }
            SchemaType::Json => Parsed::Json,
            #[cfg(not(all(feature = "avro", feature = "protobuf")))]
            other => {
                let _ = referred;
                let text = format!("built without the feature for {} schemas", other.as_str());
                return Err(RegistryError::new(RegistryErrorKind::Unusable, text));
            }
        };
        Ok(Self { told, parsed })
    }

    /// Its language.
    pub fn schema_type(&self) -> SchemaType {
        self.told.text.kind
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.told.text.text
    }

    /// What it refers to directly.
    pub fn references(&self) -> &[Reference] {
        &self.told.text.references
    }

    /// Its number; `None` where it was asked for by GUID.
    pub fn id(&self) -> Option<u32> {
        self.told.id
    }

    /// Its GUID; `None` where the registry tells none.
    pub fn guid(&self) -> Option<SchemaId> {
        self.told.guid
    }

    /// Its version under the subject that it was asked for by.
    pub fn version(&self) -> Option<u32> {
        self.told.version
    }
}

impl fmt::Debug for RegisteredSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegisteredSchema({}, id {:?})", self.schema_type().as_str(), self.id())
    }
}
