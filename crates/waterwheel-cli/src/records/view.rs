//! What is written of a record: one that was read, or what a table kept of it.

use waterwheel::{Headers, Record, TableEntry};

use crate::body::Shown;

/// A record's parts.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(super) key_is_json: bool,
    pub(super) value_is_json: bool,
    record: Option<&'a Record>,
}

impl<'a> View<'a> {
    pub(crate) fn of(record: &'a Record) -> Self {
        Self {
            topic: record.topic(),
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp_millis(),
            key: record.key(),
            value: record.value(),
            key_is_json: false,
            value_is_json: false,
            record: Some(record),
        }
    }

    /// With its key as that shows it.
    pub(crate) fn with_key(mut self, shown: &'a Shown) -> Self {
        (self.key, self.key_is_json) = seen(self.key, shown);
        self
    }

    /// With its value as that shows it.
    pub(crate) fn with_value(mut self, shown: &'a Shown) -> Self {
        (self.value, self.value_is_json) = seen(self.value, shown);
        self
    }

    /// What a table keeps: neither time nor headers.
    pub(crate) fn of_entry(topic: &'a str, entry: &'a TableEntry) -> Self {
        Self {
            topic,
            partition: entry.partition(),
            offset: entry.offset(),
            timestamp: None,
            key: Some(entry.key()),
            value: Some(entry.value()),
            key_is_json: false,
            value_is_json: false,
            record: None,
        }
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        self.record.map(Record::headers).into_iter().flat_map(|headers: Headers<'a>| headers)
    }
}

/// The bytes, and whether they are JSON. A null stays one.
fn seen<'a>(bytes: Option<&'a [u8]>, shown: &'a Shown) -> (Option<&'a [u8]>, bool) {
    match (bytes, shown) {
        (None, _) | (_, Shown::Bytes) => (bytes, false),
        (Some(_), Shown::Json) => (bytes, true),
        (Some(_), Shown::Decoded(json)) => (Some(json), true),
    }
}
