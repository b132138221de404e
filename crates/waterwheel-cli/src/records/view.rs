//! What is written of a record: one that was read, or what a table kept of it.

use waterwheel::{Headers, Record, TableEntry};

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
            record: Some(record),
        }
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
            record: None,
        }
    }

    pub(crate) fn headers(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        self.record.map(Record::headers).into_iter().flat_map(|headers: Headers<'a>| headers)
    }
}
