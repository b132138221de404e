//! Reads the headers of a dead letter.
//!
//! Whoever may write to the topic may write anything into them: nothing is allocated beyond the headers' own length, and
//! no error quotes them.

use std::fmt;
use std::str::FromStr;

use super::header;
use crate::failure::FailureClass;
use crate::record::Record;

/// Where a dead letter was and why it failed, as its headers say.
///
/// The headers are only as trustworthy as those who may write to the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterOrigin {
    /// The topic that the record was read from.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, in milliseconds since 1970; none if it had none.
    pub timestamp_millis: Option<i64>,
    /// The consumer group that could not handle it.
    pub group: String,
    /// What kind of failure the last one was.
    pub error_class: FailureClass,
    /// The last failure's own text, if the worker was told to write it.
    pub error_message: Option<String>,
    /// Attempts made.
    pub attempts: u32,
    /// When it first failed, in milliseconds since 1970; 0 where it was not tried.
    pub first_failed_millis: i64,
    /// The offset of the dead letter that it follows, where it was not tried because an earlier record of its key is one.
    pub follows_offset: Option<i64>,
    /// The size in bytes of a value that was left out for being too large for the dead-letter topic.
    pub omitted_value_bytes: Option<u64>,
}

impl DeadLetterOrigin {
    /// Reads a record's headers: none if it is no dead letter of Waterwheel's, an error if a header that should be there
    /// is missing or damaged. Of a record that became a dead letter several times, the last time counts.
    pub fn of(record: &Record) -> Result<Option<Self>, OriginError> {
        Self::from_headers(record.headers())
    }

    /// As [`of`](Self::of), from names and values in their order.
    pub fn from_headers<'a>(
        headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<Option<Self>, OriginError> {
        let last = Last::of(headers);
        // The first that is written: what stands behind another one's is not this time's.
        if last.topic.is_none() {
            return Ok(None);
        }
        Ok(Some(Self {
            topic: text(header::TOPIC, last.topic)?.ok_or(OriginError(header::TOPIC))?,
            partition: last.partition()?.ok_or(OriginError(header::PARTITION))?,
            offset: last.offset()?.ok_or(OriginError(header::OFFSET))?,
            timestamp_millis: last.timestamp()?,
            group: text(header::GROUP, last.group)?.ok_or(OriginError(header::GROUP))?,
            error_class: last.error_class.and_then(FailureClass::named).ok_or(OriginError(header::ERROR_CLASS))?,
            error_message: text(header::ERROR_MESSAGE, last.error_message)?,
            attempts: last.attempts()?.ok_or(OriginError(header::ATTEMPTS))?,
            first_failed_millis: last.first_failed_at()?.ok_or(OriginError(header::FIRST_FAILED_AT))?,
            follows_offset: number(header::FOLLOWS, last.follows)?,
            omitted_value_bytes: number(header::VALUE_OMITTED, last.value_omitted)?,
        }))
    }
}

/// A header that makes a dead letter's origin unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginError(&'static str);

impl OriginError {
    /// The header's name.
    pub fn header(&self) -> &'static str {
        self.0
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header {} of the dead letter is missing or damaged; it was not written by Waterwheel alone", self.0)
    }
}

impl std::error::Error for OriginError {}

/// The values of one time that a record became a dead letter, or went to a retry tier.
#[derive(Default)]
pub(super) struct Last<'a> {
    topic: Option<&'a [u8]>,
    partition: Option<&'a [u8]>,
    offset: Option<&'a [u8]>,
    timestamp: Option<&'a [u8]>,
    group: Option<&'a [u8]>,
    error_class: Option<&'a [u8]>,
    error_message: Option<&'a [u8]>,
    attempts: Option<&'a [u8]>,
    first_failed_at: Option<&'a [u8]>,
    follows: Option<&'a [u8]>,
    value_omitted: Option<&'a [u8]>,
}

impl<'a> Last<'a> {
    /// Those of the last time.
    pub(super) fn of(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Self {
        let mut last = Self::default();
        for (name, value) in headers {
            last.take(name, value.unwrap_or_default());
        }
        last
    }

    pub(super) fn partition(&self) -> Result<Option<i32>, OriginError> {
        number(header::PARTITION, self.partition)
    }

    pub(super) fn offset(&self) -> Result<Option<i64>, OriginError> {
        number(header::OFFSET, self.offset)
    }

    pub(super) fn timestamp(&self) -> Result<Option<i64>, OriginError> {
        number(header::TIMESTAMP, self.timestamp)
    }

    pub(super) fn attempts(&self) -> Result<Option<u32>, OriginError> {
        number(header::ATTEMPTS, self.attempts)
    }

    pub(super) fn first_failed_at(&self) -> Result<Option<i64>, OriginError> {
        number(header::FIRST_FAILED_AT, self.first_failed_at)
    }

    fn take(&mut self, name: &[u8], value: &'a [u8]) {
        let Ok(name) = std::str::from_utf8(name) else { return };
        let field = match name {
            // The first header of a time: those before it are of an earlier one.
            header::TOPIC => {
                *self = Self::default();
                &mut self.topic
            }
            header::PARTITION => &mut self.partition,
            header::OFFSET => &mut self.offset,
            header::TIMESTAMP => &mut self.timestamp,
            header::GROUP => &mut self.group,
            header::ERROR_CLASS => &mut self.error_class,
            header::ERROR_MESSAGE => &mut self.error_message,
            header::ATTEMPTS => &mut self.attempts,
            header::FIRST_FAILED_AT => &mut self.first_failed_at,
            header::FOLLOWS => &mut self.follows,
            header::VALUE_OMITTED => &mut self.value_omitted,
            _ => return,
        };
        *field = Some(value);
    }
}

fn text(name: &'static str, value: Option<&[u8]>) -> Result<Option<String>, OriginError> {
    value.map(|bytes| std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| OriginError(name))).transpose()
}

fn number<T: FromStr>(name: &'static str, value: Option<&[u8]>) -> Result<Option<T>, OriginError> {
    let parse = |bytes| std::str::from_utf8(bytes).ok()?.parse().ok();
    value.map(|bytes| parse(bytes).ok_or(OriginError(name))).transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Cause, DeadLetter, To, Writer};
    use super::*;
    use crate::TopicPartition;
    use crate::record::{Assignment, BatchBuilder};
    use waterwheel_core::{Epoch, PartitionId};

    fn class() -> impl Strategy<Value = FailureClass> {
        use FailureClass::{Decode, Handler, Panic, Timeout};
        prop_oneof![Just(Handler), Just(Panic), Just(Timeout), Just(Decode)]
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..30)
    }

    proptest! {
        /// Whatever the record's own headers are, they stay in front, and what is read is what was written.
        #[test]
        fn what_was_written_is_read(
            own in prop::collection::vec((prop_oneof![bytes(), Just(header::TOPIC.into()), Just(header::ATTEMPTS.into())], prop::option::of(bytes())), 0..5),
            value in prop::option::of(bytes()), timestamp in prop::option::of(0i64..), offset in 0i64.., attempts: u32,
            class in class(), message in prop::option::of(".{0,40}"), first_failed_ms: i64, without_value: bool,
            follows in prop::option::of(0i64..),
        ) {
            let mut batch = BatchBuilder::with_capacity(1, 64);
            batch.push(offset, timestamp, None, value.as_deref());
            for (name, value) in &own {
                batch.header(name, value.as_deref());
            }
            let place = TopicPartition::new("orders", 7);
            let record = batch.build(Assignment::new(PartitionId(0), Epoch(1), place), None).record(0);
            let mut writer = Writer::new(Some(DeadLetter::topic("letters")), None, "billing".to_owned());
            let cause = Cause { class, message: message.clone(), attempts, first_failed_ms, follows };
            let letter = writer.letter(&record, &cause, To::DeadLetters { without_value }).unwrap();
            let headers: Vec<_> = letter.headers.iter().map(|(n, v)| (&n[..], v.as_deref())).collect();
            let before: Vec<_> = own.iter().map(|(n, v)| (&n[..], v.as_deref())).collect();
            prop_assert_eq!(&headers[..own.len()], &before[..]);
            let origin = DeadLetterOrigin::from_headers(headers).unwrap().unwrap();
            prop_assert_eq!(origin, DeadLetterOrigin {
                topic: "orders".to_owned(), partition: 7, offset, timestamp_millis: timestamp,
                group: "billing".to_owned(), error_class: class, error_message: message, attempts,
                first_failed_millis: first_failed_ms, follows_offset: follows,
                omitted_value_bytes: without_value.then_some(value.map_or(0, |value| value.len() as u64)),
            });
        }
    }

    #[test]
    fn what_is_missing_or_damaged_is_named_and_not_quoted() {
        let written = [
            (header::TOPIC, "orders"),
            (header::PARTITION, "7"),
            (header::OFFSET, "42"),
            (header::GROUP, "billing"),
            (header::ERROR_CLASS, "handler"),
            (header::ATTEMPTS, "3"),
            (header::FIRST_FAILED_AT, "1"),
        ];
        let read = |headers: &[(&str, &str)]| {
            DeadLetterOrigin::from_headers(headers.iter().map(|(n, v)| (n.as_bytes(), Some(v.as_bytes()))))
        };
        assert_eq!(read(&written).unwrap().unwrap().offset, 42);
        assert_eq!(read(&written[1..]), Ok(None), "without its first header it is no dead letter");
        for at in 1..written.len() {
            let mut damaged = written.to_vec();
            damaged.remove(at);
            assert_eq!(read(&damaged), Err(OriginError(written[at].0)));
            damaged.insert(at, (written[at].0, "canary"));
            let text = read(&damaged).err().map(|error| error.to_string());
            // A group may have any name.
            assert_eq!(text.is_none(), written[at].0 == header::GROUP, "{text:?}");
            assert!(text.is_none_or(|text| text.contains(written[at].0) && !text.contains("canary")));
        }
        for damage in [(header::TIMESTAMP, ""), (header::FOLLOWS, "first"), (header::VALUE_OMITTED, "-1")] {
            let damaged = [&written[..], &[damage]].concat();
            assert_eq!(read(&damaged), Err(OriginError(damage.0)));
        }
    }
}
