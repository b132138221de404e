//! What becomes of one unit of input (a line, a file): a record, or what is wrong with it.

use std::cell::OnceCell;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use waterwheel::{EncodeError, Encoded, ProducerRecord};

use crate::body::{BodyCodec, of_registry};
use crate::exit::Exit;
use crate::records::{Parsed, parse_record};

/// How records are made of units.
pub(super) struct Maker {
    /// `None`: of each record its own.
    pub(super) topic: Option<Arc<str>>,
    pub(super) partition: Option<i32>,
    pub(super) shape: Shape,
    /// On top of its own.
    pub(super) headers: Vec<(String, Option<String>)>,
    /// `None`: key and value are written as they stand.
    pub(super) bodies: Option<Bodies>,
}

/// How keys and values are written.
pub(super) struct Bodies {
    key: BodyCodec,
    value: BodyCodec,
    /// Asks the registry while the thread that reads waits. Not the verb's, which may end meanwhile.
    runtime: OnceCell<Runtime>,
}

/// Why a unit is no record, or none that can be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) text: String,
    /// The code that tells it.
    pub(super) exit: Exit,
    /// Whether it will be the same with the next one.
    pub(super) is_final: bool,
}

impl Problem {
    pub(super) fn new(text: impl Into<String>, exit: Exit) -> Self {
        Self { text: text.into(), exit, is_final: false }
    }
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::new(text, Exit::Failed)
    }
}

impl From<&str> for Problem {
    fn from(text: &str) -> Self {
        Self::new(text, Exit::Failed)
    }
}

impl From<EncodeError> for Problem {
    fn from(error: EncodeError) -> Self {
        let Some(cause) = error.cause().and_then(|cause| cause.downcast_ref()) else { return error.to_string().into() };
        match of_registry(cause) {
            Some(exit) => Self { text: cause.to_string(), exit, is_final: true },
            None => format!("{cause}; register the schema first").into(),
        }
    }
}

#[derive(Clone)]
pub(super) enum Shape {
    Text {
        /// Of records that have none of their own.
        key: Option<String>,
        key_delimiter: Option<Vec<u8>>,
        /// What stands for null.
        null: Option<Vec<u8>>,
    },
    /// `consume -J`'s JSON.
    Json {
        /// Partitions by the key, and not those of the JSON.
        by_key: bool,
        /// The time of sending, and not that of the JSON.
        now: bool,
    },
}

/// A record that is to be sent.
pub(super) struct Made {
    pub(super) record: ProducerRecord,
    pub(super) topic: Arc<str>,
    pub(super) partition: Option<i32>,
    /// Bytes of key, value and headers.
    pub(super) size: usize,
}

impl Maker {
    pub(super) fn make(&self, unit: &[u8]) -> Result<Made, Problem> {
        match &self.shape {
            Shape::Text { key, key_delimiter, null } => {
                let (own, value) = match key_delimiter {
                    Some(delimiter) => split(unit, delimiter),
                    None => (None, unit),
                };
                let known = |bytes: &&[u8]| null.as_deref() != Some(*bytes);
                let key = match own {
                    Some(own) => Some(own).filter(known),
                    None => key.as_deref().map(str::as_bytes),
                };
                let topic = self.topic.clone().unwrap_or_default();
                self.written(topic, self.partition, key, Some(value).filter(known))
            }
            Shape::Json { by_key, now } => {
                let Parsed { topic, partition, timestamp, key, headers, value, is_json } = parse_record(unit)?;
                if is_json.key && self.bodies.as_ref().is_none_or(|bodies| bodies.key.is_raw()) {
                    return Err("the key was decoded: --key-format says how it is written".into());
                }
                if is_json.value && self.bodies.as_ref().is_none_or(|bodies| bodies.value.is_raw()) {
                    return Err("the value was decoded: --value-format says how it is written".into());
                }
                let topic = match (&self.topic, topic) {
                    (Some(topic), _) => topic.clone(),
                    (None, Some(topic)) => topic.into(),
                    (None, None) => return Err("names no topic".into()),
                };
                let partition = self.partition.or(partition.filter(|_| !by_key));
                let mut made = self.written(topic, partition, key.as_deref(), value.as_deref())?;
                let stale: Vec<&str> = self.bodies.iter().flat_map(Bodies::schema_headers).collect();
                for (name, value) in headers.into_iter().filter(|(n, _)| !stale.iter().any(|s| s.as_bytes() == &**n)) {
                    made = made.with_header(&name, value.as_deref());
                }
                if let Some(millis) = timestamp.filter(|_| !now) {
                    made.record = made.record.timestamp_millis(millis);
                }
                Ok(made)
            }
        }
    }

    /// A record of that value and number as key.
    pub(super) fn make_up(&self, value: &[u8], key: Option<u64>) -> Made {
        let fixed = match &self.shape {
            Shape::Text { key, .. } => key.clone(),
            Shape::Json { .. } => None,
        };
        let key = key.map(|key| key.to_string()).or(fixed);
        let topic = self.topic.clone().unwrap_or_default();
        self.record(topic, self.partition, key.as_deref().map(str::as_bytes), Some(value))
    }

    /// A record of key and value in their formats.
    fn written(
        &self,
        topic: Arc<str>,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<Made, Problem> {
        let Some(bodies) = &self.bodies else { return Ok(self.record(topic, partition, key, value)) };
        let (key, value) = bodies.write(&topic, key, value)?;
        let made = self.record(topic, partition, bytes(&key), bytes(&value));
        let headers = [key, value].into_iter().flatten().filter_map(|encoded| encoded.header);
        Ok(headers.fold(made, |made, (name, value)| made.with_header(name.as_bytes(), Some(&value))))
    }

    fn record(&self, topic: Arc<str>, partition: Option<i32>, key: Option<&[u8]>, value: Option<&[u8]>) -> Made {
        let mut record = ProducerRecord::to(topic.clone());
        let size = key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        if let Some(key) = key {
            record = record.key(key);
        }
        if let Some(value) = value {
            record = record.value(value);
        }
        if let Some(partition) = partition {
            record = record.partition(partition);
        }
        let made = Made { record, topic, partition, size };
        self.headers
            .iter()
            .fold(made, |made, (name, value)| made.with_header(name.as_bytes(), value.as_deref().map(str::as_bytes)))
    }
}

fn bytes(body: &Option<Encoded>) -> Option<&[u8]> {
    body.as_ref()?.bytes.as_deref()
}

impl Bodies {
    pub(super) fn new(key: BodyCodec, value: BodyCodec) -> Self {
        Self { key, value, runtime: OnceCell::new() }
    }

    /// Waits until the registry has answered, if it has to be asked.
    fn write(
        &self,
        topic: &str,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<(Option<Encoded>, Option<Encoded>), Problem> {
        let runtime = match self.runtime.get() {
            Some(runtime) => runtime,
            None => {
                let made = Builder::new_current_thread().enable_all().build();
                let made = made.map_err(|error| Problem::from(error.to_string()))?;
                self.runtime.get_or_init(|| made)
            }
        };
        let write = |codec: &BodyCodec, body: Option<&[u8]>| {
            body.map(|body| runtime.block_on(codec.write(topic, body))).transpose()
        };
        Ok((write(&self.key, key)?, write(&self.value, value)?))
    }

    /// Headers that named schemas where the record was read, and would be wrong beside those that are written.
    fn schema_headers(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.key.schema_header().into_iter().chain(self.value.schema_header())
    }
}

impl Made {
    fn with_header(self, name: &[u8], value: Option<&[u8]>) -> Self {
        let size = self.size + name.len() + value.map_or(0, <[u8]>::len);
        let record = match value {
            Some(value) => self.record.header(name, value),
            None => self.record.null_header(name),
        };
        Self { record, size, ..self }
    }
}

/// Cuts at the first delimiter, where there is one.
fn split<'a>(unit: &'a [u8], delimiter: &[u8]) -> (Option<&'a [u8]>, &'a [u8]) {
    match unit.windows(delimiter.len()).position(|window| window == delimiter) {
        Some(at) => (Some(&unit[..at]), &unit[at + delimiter.len()..]),
        None => (None, unit),
    }
}
