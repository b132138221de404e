//! A record to be sent.

use std::fmt;
use std::sync::Arc;

use crate::client::Outgoing;
use crate::record::Record;

/// A record to be sent. Cheap to clone.
#[derive(Clone)]
pub struct ProducerRecord(pub(super) Outgoing);

impl ProducerRecord {
    /// A record for that topic, with neither key nor value.
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self(Outgoing {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp: None,
        })
    }

    /// A copy of a record for that topic: its key, value, headers and timestamp as they are; the partition by the key.
    pub fn copy_of(record: &Record, topic: impl Into<Arc<str>>) -> Self {
        Self(Outgoing {
            topic: topic.into(),
            partition: None,
            key: record.key().map(Into::into),
            value: record.value().map(Into::into),
            headers: record.headers().map(|(name, value)| (name.into(), value.map(Into::into))).collect(),
            timestamp: record.timestamp_millis(),
        })
    }

    /// The key. Default: null. An empty key is a key.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.0.key = Some(key.as_ref().into());
        self
    }

    /// The value. Default: null, which in a compacted topic deletes the key.
    pub fn value(mut self, value: impl AsRef<[u8]>) -> Self {
        self.0.value = Some(value.as_ref().into());
        self
    }

    /// Adds a header. Their order is kept, and so are several of one name.
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.0.headers.push((name.as_ref().into(), Some(value.as_ref().into())));
        self
    }

    /// Adds a header with a null value.
    pub fn null_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.0.headers.push((name.as_ref().into(), None));
        self
    }

    /// Takes out all headers of that name.
    pub fn without_header(mut self, name: impl AsRef<[u8]>) -> Self {
        self.0.headers.retain(|(other, _)| **other != *name.as_ref());
        self
    }

    /// The record's time, in milliseconds since the Unix epoch. Default: now.
    pub fn timestamp_millis(mut self, millis: i64) -> Self {
        self.0.timestamp = Some(millis);
        self
    }

    /// The partition. Default: by the key, as Kafka's Java client chooses it; without a key, any.
    pub fn partition(mut self, partition: i32) -> Self {
        self.0.partition = Some(partition);
        self
    }

    pub(crate) fn into_outgoing(self) -> Outgoing {
        self.0
    }

    /// The topic that it is for.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// Its key; `None` for null.
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.0.key.as_deref()
    }

    /// Its value; `None` for null.
    pub fn value_bytes(&self) -> Option<&[u8]> {
        self.0.value.as_deref()
    }

    /// Its headers, names and values, in their order; `None` for a null value.
    pub fn headers(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.0.headers.iter().map(|(name, value)| (&**name, value.as_deref()))
    }

    /// What it counts against a queue's limit in bytes: key, value and headers.
    pub(super) fn size(&self) -> usize {
        let headers = self.0.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, |v| v.len()));
        headers.sum::<usize>()
            + self.0.key.as_ref().map_or(0, |k| k.len())
            + self.0.value.as_ref().map_or(0, |v| v.len())
    }
}

impl fmt::Debug for ProducerRecord {
    /// Names the place only (promise R9).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProducerRecord(to {})", self.0.topic)
    }
}
