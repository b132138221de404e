//! Dead letters: the record as it was, and why it is there; written, and read again.

mod origin;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::origin::{DeadLetterOrigin, OriginError};

use crate::client::{Header, Outgoing};
use crate::config::names;
use crate::error::Error;
use crate::failure::FailureClass;
use crate::record::Record;

/// The longest error text in a header, in bytes.
const ERROR_MESSAGE_LIMIT: usize = 1024;

/// What happens to a dead letter that is too large for its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TooLarge {
    /// The partition is held and health says why, until the topic takes it. Nothing is dropped.
    #[default]
    Hold,
    /// It is written without its value, and with the headers `waterwheel-value-omitted` (the value's size in bytes) and
    /// those that name the original place, where the value still is as long as the topic keeps it.
    Pointer,
}

/// Where records go that have had all their attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub(crate) template: String,
    pub(crate) too_large: TooLarge,
    pub(crate) error_message: bool,
}

impl DeadLetter {
    /// To that topic; `{topic}` and `{group}` are filled in, as in `{topic}.{group}.dlt`.
    pub fn topic(template: impl Into<String>) -> Self {
        Self { template: template.into(), too_large: TooLarge::default(), error_message: false }
    }

    /// What happens to a dead letter that is too large for its topic. Default: [`TooLarge::Hold`].
    pub fn too_large(mut self, policy: TooLarge) -> Self {
        self.too_large = policy;
        self
    }

    /// Puts the handler's own error text (at most 1,024 bytes) in the header `waterwheel-error-message`. Off by default,
    /// because such texts like to quote the record.
    pub fn with_error_message(mut self) -> Self {
        self.error_message = true;
        self
    }
}

/// The names of the headers that say where a dead letter was and why it failed.
mod header {
    pub(super) const TOPIC: &str = "waterwheel-original-topic";
    pub(super) const PARTITION: &str = "waterwheel-original-partition";
    pub(super) const OFFSET: &str = "waterwheel-original-offset";
    pub(super) const TIMESTAMP: &str = "waterwheel-original-timestamp";
    pub(super) const GROUP: &str = "waterwheel-group";
    pub(super) const ERROR_CLASS: &str = "waterwheel-error-class";
    pub(super) const ERROR_MESSAGE: &str = "waterwheel-error-message";
    pub(super) const ATTEMPTS: &str = "waterwheel-attempts";
    pub(super) const FIRST_FAILED_AT: &str = "waterwheel-first-failed-at";
    pub(super) const FOLLOWS: &str = "waterwheel-follows-offset";
    pub(super) const VALUE_OMITTED: &str = "waterwheel-value-omitted";
}

/// Why a record became a dead letter.
#[derive(Clone, Debug)]
pub(crate) struct Cause {
    pub(crate) class: FailureClass,
    pub(crate) message: Option<String>,
    pub(crate) attempts: u32,
    pub(crate) first_failed_ms: i64,
    /// It was not tried, and follows the dead letter of that offset.
    pub(crate) follows: Option<i64>,
}

/// Makes dead letters for one worker.
pub(crate) struct Writer {
    settings: DeadLetter,
    group: String,
    topics: HashMap<Arc<str>, Arc<str>>,
}

impl Writer {
    pub(crate) fn new(settings: DeadLetter, group: String) -> Self {
        Self { settings, group, topics: HashMap::new() }
    }

    pub(crate) fn keeps_messages(&self) -> bool {
        self.settings.error_message
    }

    pub(crate) fn too_large(&self) -> TooLarge {
        self.settings.too_large
    }

    /// The topic for dead letters of `topic`.
    fn topic(&mut self, topic: &Arc<str>) -> Result<Arc<str>, Error> {
        if let Some(known) = self.topics.get(topic) {
            return Ok(known.clone());
        }
        let made: Arc<str> = names::dead_letter_topic(&self.settings.template, topic, &self.group)?.into();
        self.topics.insert(topic.clone(), made.clone());
        Ok(made)
    }

    /// The dead letter of a record: its key, value and headers byte for byte, and the headers that say where it was and
    /// why it failed. `without_value`: the value is left out and its size told.
    pub(crate) fn letter(&mut self, record: &Record, cause: &Cause, without_value: bool) -> Result<Outgoing, Error> {
        let mut headers: Vec<Header> =
            record.headers().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        let mut add =
            |name: &str, value: String| headers.push((name.as_bytes().into(), Some(value.into_bytes().into())));
        add(header::TOPIC, record.topic().to_owned());
        add(header::PARTITION, record.partition().to_string());
        add(header::OFFSET, record.offset().to_string());
        if let Some(timestamp) = record.timestamp_millis() {
            add(header::TIMESTAMP, timestamp.to_string());
        }
        add(header::GROUP, self.group.clone());
        add(header::ERROR_CLASS, cause.class.to_string());
        if let Some(message) = &cause.message {
            add(header::ERROR_MESSAGE, message.clone());
        }
        add(header::ATTEMPTS, cause.attempts.to_string());
        add(header::FIRST_FAILED_AT, cause.first_failed_ms.to_string());
        if let Some(offset) = cause.follows {
            add(header::FOLLOWS, offset.to_string());
        }
        let value = record.value();
        if without_value {
            add(header::VALUE_OMITTED, value.map_or(0, <[u8]>::len).to_string());
        }
        Ok(Outgoing {
            topic: self.topic(&record.topic_partition().topic)?,
            partition: None,
            key: record.key().map(Into::into),
            value: value.filter(|_| !without_value).map(Into::into),
            headers,
            timestamp: record.timestamp_millis(),
        })
    }
}

/// An error's text, cut to what a header may hold.
pub(crate) fn bounded(text: &str) -> String {
    let mut end = text.len().min(ERROR_MESSAGE_LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}
