//! Schemas from a registry with Confluent's API, and codecs that use them.
//!
//! ```no_run
//! use waterwheel::registry::Registry;
//! use waterwheel::{Client, Failure, Message, decoded};
//!
//! #[derive(serde::Deserialize)]
//! struct Order {
//!     customer: String,
//! }
//!
//! async fn charge(order: Message<Order>) -> Result<(), Failure> {
//!     println!("{} pays", order.body.customer);
//!     Ok(())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = Registry::new("http://localhost:8081")?;
//! let client = Client::new("localhost:9092")?;
//! # #[cfg(feature = "avro")]
//! let worker = client.worker("billing").topic("orders").handler(decoded(registry.avro(), charge)).build()?;
//! # Ok(())
//! # }
//! ```
//!
//! A registry that is down or slow is no fault of a record's: its attempt is repeated, uncounted, and never dead-lettered. An
//! id that the registry does not know, and bytes that are not what their schema says, are failures of class `decode`.
//!
//! Requests are made by whoever needs the answer, in its own future; hyper keeps the connections in tasks of its own. Of those
//! who ask for one schema at the same time, one asks.

mod builder;
mod cache;
mod codec;
mod error;
mod format;
mod http;
mod schema;
mod subject;
mod wire;

pub use builder::RegistryBuilder;
pub use codec::RegistryCodec;
pub use error::{ReadError, RegistryError, RegistryErrorKind};
#[cfg(feature = "avro")]
pub use format::AvroFormat;
#[cfg(feature = "protobuf")]
pub use format::ProtobufFormat;
pub use format::{AnyFormat, Format, JsonFormat, Reads, Writes};
pub use schema::{Reference, RegisteredSchema, SchemaText, SchemaType};
pub use subject::{Part, SubjectStrategy};
pub use wire::SchemaId;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde_json::Value as Json;

use self::cache::Cache;
use self::http::Http;
use self::schema::Told;
use self::subject::escaped;
use self::wire::Frame;
use crate::body::EncodeError;
use crate::body::codec::{Encoded, Encoder as _};
use crate::config::ConfigError;

/// Schemas that one schema may refer to, directly or not.
const MOST_REFERENCES: usize = 256;

/// A schema registry. Cheap to clone; clones share their connections and what they have learned.
///
/// Every method that asks waits at most for its attempts ([`RegistryBuilder::timeout`], [`RegistryBuilder::retry`]). Dropping
/// such a future gives the request up; what it was to change may be changed all the same.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    http: Http,
    by_id: Cache<SchemaId, Arc<RegisteredSchema>>,
    to_write: Cache<ToWrite, Arc<RegisteredSchema>>,
    latest: Cache<String, Arc<RegisteredSchema>>,
    versions: Cache<(String, u32), Told>,
}

/// A schema that records are to be written by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct ToWrite {
    subject: String,
    /// `None`: by the subject's latest.
    text: Option<Arc<SchemaText>>,
    register: bool,
    normalize: bool,
    /// Its GUID is needed.
    guid: bool,
}

impl Registry {
    /// A registry at that address (or several of one registry, parted by commas), with the default settings. Connects to
    /// nothing yet.
    pub fn new(urls: &str) -> Result<Self, ConfigError> {
        Self::builder(urls).build()
    }

    /// The settings, to be changed.
    pub fn builder(urls: &str) -> RegistryBuilder {
        RegistryBuilder::new(urls)
    }

    fn over(http: Http, settings: &RegistryBuilder) -> Self {
        Self(Arc::new(Inner {
            http,
            by_id: Cache::new(None, settings.keep_refused),
            to_write: Cache::new(None, settings.keep_refused),
            latest: Cache::new(Some(settings.keep_latest), settings.keep_refused),
            versions: Cache::new(None, settings.keep_refused),
        }))
    }

    /// Typed Avro values, by their writer's schema. `T` is found by the names of its fields.
    #[cfg(feature = "avro")]
    pub fn avro<T>(&self) -> RegistryCodec<T, AvroFormat> {
        RegistryCodec::new(self.clone(), AvroFormat::default())
    }

    /// Generated Protobuf messages.
    #[cfg(feature = "protobuf")]
    pub fn protobuf<M>(&self) -> RegistryCodec<M, ProtobufFormat> {
        RegistryCodec::new(self.clone(), ProtobufFormat)
    }

    /// JSON with a JSON Schema. It is not validated.
    pub fn json<T>(&self) -> RegistryCodec<T, JsonFormat> {
        RegistryCodec::new(self.clone(), JsonFormat)
    }

    /// JSON from and to whatever the schema says: Avro, Protobuf or JSON.
    pub fn any(&self) -> RegistryCodec<Json, AnyFormat> {
        RegistryCodec::new(self.clone(), AnyFormat::default())
    }

    /// Decodes a key or value of any format into JSON. `header`: the value of the record's header that names the schema
    /// ([`Part::schema_header`]), if it has it.
    pub async fn decode_to_json(&self, bytes: &[u8], header: Option<&[u8]>) -> Result<Json, ReadError> {
        let frame = Frame::of(bytes, header)?;
        let schema = self.schema(frame.id).await?;
        Ok(format::any_to_json(&schema, frame)?)
    }

    /// Encodes JSON by the latest schema of a subject. For other choices, see [`any`](Self::any).
    pub async fn encode_from_json(&self, subject: &str, json: &Json) -> Result<Encoded, EncodeError> {
        self.any().subject(SubjectStrategy::Named(subject.to_owned())).write("", json).await
    }

    /// The schema of that id.
    pub async fn schema(&self, id: SchemaId) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let path = match id {
            SchemaId::Id(id) => format!("/schemas/ids/{id}"),
            SchemaId::Guid(_) => format!("/schemas/guids/{id}"),
        };
        let ask = || async {
            let mut told = Told::of(&self.0.http.get(&path).await?)?;
            match id {
                SchemaId::Id(id) => told.id = Some(id),
                SchemaId::Guid(_) => told.guid = Some(id),
            }
            self.parsed(told).await
        };
        self.0.by_id.get(&id, ask).await
    }

    /// What is known of that id by now.
    pub(crate) fn known(&self, id: SchemaId) -> Option<Result<Arc<RegisteredSchema>, RegistryError>> {
        self.0.by_id.known(&id)
    }

    /// The latest schema of a subject; asked for anew after [`RegistryBuilder::keep_latest`].
    pub async fn latest(&self, subject: &str) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let ask = || async {
            let path = format!("/subjects/{}/versions/latest", escaped(subject));
            self.parsed(Told::of(&self.0.http.get(&path).await?)?).await
        };
        self.0.latest.get(&subject.to_owned(), ask).await
    }

    /// That version of a subject.
    pub async fn version(&self, subject: &str, version: u32) -> Result<Arc<RegisteredSchema>, RegistryError> {
        self.parsed(self.told(subject, version).await?).await
    }

    async fn told(&self, subject: &str, version: u32) -> Result<Told, RegistryError> {
        let ask = || async {
            let path = format!("/subjects/{}/versions/{version}", escaped(subject));
            Told::of(&self.0.http.get(&path).await?)
        };
        self.0.versions.get(&(subject.to_owned(), version), ask).await
    }

    /// The subjects that there are.
    pub async fn subjects(&self) -> Result<Vec<String>, RegistryError> {
        let names = serde_json::from_value(self.0.http.get("/subjects").await?);
        names.map_err(|_| RegistryError::new(RegistryErrorKind::Refused, "an answer that is no list of subjects"))
    }

    /// The versions of a subject.
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let versions = self.0.http.get(&format!("/subjects/{}/versions", escaped(subject))).await?;
        serde_json::from_value(versions)
            .map_err(|_| RegistryError::new(RegistryErrorKind::Refused, "an answer that is no list of versions"))
    }

    /// Registers a schema under a subject, if it is not there yet, and tells its id.
    pub async fn register(&self, subject: &str, schema: &SchemaText) -> Result<u32, RegistryError> {
        self.post_schema(subject, schema, true, false).await?.0.ok_or_else(no_id)
    }

    /// The registered schema of that text under a subject.
    pub async fn lookup(&self, subject: &str, schema: &SchemaText) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let (id, guid) = self.post_schema(subject, schema, false, false).await?;
        self.parsed(Told { text: schema.clone(), id, guid, version: None }).await
    }

    /// Whether a schema may follow those of a subject, by the subject's rule of compatibility.
    pub async fn is_compatible(&self, subject: &str, schema: &SchemaText) -> Result<bool, RegistryError> {
        let path = format!("/compatibility/subjects/{}/versions/latest", escaped(subject));
        let answer = self.0.http.post(&path, &schema.request()).await?;
        answer.get("is_compatible").and_then(Json::as_bool).ok_or_else(|| {
            RegistryError::new(RegistryErrorKind::Refused, "an answer that does not say whether it is compatible")
        })
    }

    /// Registers or looks up, and tells the id and the GUID.
    async fn post_schema(
        &self,
        subject: &str,
        schema: &SchemaText,
        register: bool,
        normalize: bool,
    ) -> Result<(Option<u32>, Option<SchemaId>), RegistryError> {
        let versions = if register { "/versions" } else { "" };
        let normalize = if normalize { "?normalize=true" } else { "" };
        let path = format!("/subjects/{}{versions}{normalize}", escaped(subject));
        let answer = self.0.http.post(&path, &schema.request()).await?;
        let id = answer.get("id").and_then(Json::as_u64).and_then(|id| u32::try_from(id).ok());
        Ok((id, answer.get("guid").and_then(Json::as_str).and_then(SchemaId::from_guid)))
    }

    pub(crate) fn known_to_write(&self, wanted: &ToWrite) -> Option<Result<Arc<RegisteredSchema>, RegistryError>> {
        match wanted.text {
            Some(_) => self.0.to_write.known(wanted),
            None => self.0.latest.known(&wanted.subject),
        }
    }

    pub(crate) async fn to_write(&self, wanted: &ToWrite) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let Some(text) = &wanted.text else { return self.latest(&wanted.subject).await };
        let ask = || async {
            let (id, mut guid) = self.post_schema(&wanted.subject, text, wanted.register, wanted.normalize).await?;
            let id = id.ok_or_else(no_id)?;
            if guid.is_none() && wanted.guid {
                // Some registries tell it only here.
                guid = self.schema(SchemaId::Id(id)).await?.guid();
            }
            self.parsed(Told { text: (**text).clone(), id: Some(id), guid, version: None }).await
        };
        self.0.to_write.get(wanted, ask).await
    }

    /// Parses a schema, with all that it refers to.
    async fn parsed(&self, told: Told) -> Result<Arc<RegisteredSchema>, RegistryError> {
        let mut referred = Vec::new();
        let mut seen = HashSet::new();
        let mut left = told.text.references.clone();
        while let Some(reference) = left.pop() {
            if !seen.insert(reference.clone()) {
                continue;
            }
            if seen.len() > MOST_REFERENCES {
                return Err(RegistryError::new(RegistryErrorKind::Unusable, "a schema that refers to too many others"));
            }
            let schema = self.told(&reference.subject, reference.version).await?;
            left.extend(schema.text.references);
            // One type may be referred to by several, of one version.
            if referred.iter().all(|(name, _)| *name != reference.name) {
                referred.push((reference.name, schema.text.text));
            }
        }
        RegisteredSchema::parse(told, &referred).map(Arc::new)
    }
}

fn no_id() -> RegistryError {
    RegistryError::new(RegistryErrorKind::Refused, "an answer without an id")
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registry")
    }
}
