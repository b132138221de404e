//! Dead letters: the record as it was, and why it is there; written, and read again. And letters to retry tiers, which are
//! the same but for where they go.

mod carried;
mod origin;

use std::collections::HashMap;
use std::sync::Arc;

pub use self::carried::OriginalPlace;
pub(crate) use self::carried::carried;
use self::carried::own_headers;
pub use self::origin::{DeadLetterOrigin, OriginError};

use crate::client::Outgoing;
use crate::config::{ConfigError, names};
use crate::error::Error;
use crate::failure::FailureClass;
use crate::record::Record;
use crate::retry_tiers::TierTopics;

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
    pub(super) const TIER: &str = "waterwheel-retry-tier";

    const OURS: [&str; 12] = [
        TOPIC,
        PARTITION,
        OFFSET,
        TIMESTAMP,
        GROUP,
        ERROR_CLASS,
        ERROR_MESSAGE,
        ATTEMPTS,
        FIRST_FAILED_AT,
        FOLLOWS,
        VALUE_OMITTED,
        TIER,
    ];

    /// Whether a letter of ours writes a header of that name.
    pub(super) fn is_ours(name: &[u8]) -> bool {
        OURS.iter().any(|ours| ours.as_bytes() == name)
    }
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

/// Where a letter goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum To {
    /// To the dead-letter topic. `without_value`: the value is left out and its size told.
    DeadLetters { without_value: bool },
    /// To the retry tier of that number, written at that time, in milliseconds since the Unix epoch.
    Tier { number: usize, written_ms: i64 },
}

/// Makes dead letters, and letters to retry tiers, for one worker.
pub(crate) struct Writer {
    dead_letter: Option<DeadLetter>,
    tiers: Option<Arc<TierTopics>>,
    group: String,
    topics: HashMap<Arc<str>, Arc<str>>,
}

impl Writer {
    pub(crate) fn new(dead_letter: Option<DeadLetter>, tiers: Option<Arc<TierTopics>>, group: String) -> Self {
        Self { dead_letter, tiers, group, topics: HashMap::new() }
    }

    pub(crate) fn keeps_messages(&self) -> bool {
        self.dead_letter.as_ref().is_some_and(|letters| letters.error_message)
    }

    /// What happens to a dead letter that is too large. (One to a tier has to have its value: it is held.)
    pub(crate) fn too_large(&self) -> TooLarge {
        self.dead_letter.as_ref().map_or(TooLarge::Hold, |letters| letters.too_large)
    }

    /// The topic for dead letters of `topic`.
    fn topic(&mut self, topic: &Arc<str>) -> Result<Arc<str>, Error> {
        if let Some(known) = self.topics.get(topic) {
            return Ok(known.clone());
        }
        let Some(letters) = &self.dead_letter else {
            return Err(ConfigError::new("dead_letter", "there is none").into());
        };
        let made: Arc<str> = names::dead_letter_topic(&letters.template, topic, &self.group)?.into();
        self.topics.insert(topic.clone(), made.clone());
        Ok(made)
    }

    /// The letter about a record: its key, value and headers byte for byte, and the headers that say where it was and
    /// why it failed. About one of a tier they say where it was first, in the place of those that it came with.
    pub(crate) fn letter(&mut self, record: &Record, cause: &Cause, to: To) -> Result<Outgoing, Error> {
        let place = OriginalPlace::of(record);
        let source = record.assignment().tier.as_ref().map_or(&record.topic_partition().topic, |tier| &tier.source);
        let tier = match to {
            To::DeadLetters { .. } => None,
            To::Tier { number, .. } => self.tiers.as_ref().and_then(|tiers| tiers.name(source, number)),
        };
        let tier = tier.map(|(topic, delay)| (topic.clone(), delay.to_owned()));
        let mut headers = own_headers(record);
        let mut add =
            |name: &str, value: String| headers.push((name.as_bytes().into(), Some(value.into_bytes().into())));
        add(header::TOPIC, place.partition.topic.to_string());
        add(header::PARTITION, place.partition.partition.to_string());
        add(header::OFFSET, place.offset.to_string());
        if let Some(timestamp) = place.timestamp_millis {
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
        let mut value = record.value();
        let (topic, timestamp) = match (to, tier) {
            (To::Tier { written_ms, .. }, Some((topic, delay))) => {
                add(header::TIER, delay);
                (topic, Some(written_ms))
            }
            (To::Tier { .. }, None) => {
                return Err(ConfigError::new("retry_tiers", "there is none of that number").into());
            }
            (To::DeadLetters { without_value }, _) => {
                if without_value {
                    add(header::VALUE_OMITTED, value.take().map_or(0, <[u8]>::len).to_string());
                }
                (self.topic(source)?, place.timestamp_millis)
            }
        };
        let (key, value) = (record.key().map(Into::into), value.map(Into::into));
        Ok(Outgoing { topic, partition: None, key, value, headers, timestamp })
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
