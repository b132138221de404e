//! The producer: records out, each with its acknowledgement.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::client::{Outgoing, SendError, SentAll};
use crate::config::names;
use crate::connection::Client;
use crate::driver::outbound::{MOST_AT_ONCE, Outbound};
use crate::error::{Error, KafkaError, code};
use crate::record::Record;

/// A record to be sent. Cheap to clone.
#[derive(Clone)]
pub struct ProducerRecord(Outgoing);

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

    pub(crate) fn of(record: Outgoing) -> Self {
        Self(record)
    }

    pub(crate) fn into_outgoing(self) -> Outgoing {
        self.0
    }

    /// The topic that it is for.
    pub fn topic(&self) -> &str {
        &self.0.topic
    }
}

impl fmt::Debug for ProducerRecord {
    /// Names the place only (promise R9).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProducerRecord(to {})", self.0.topic)
    }
}

/// Where a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// Why a record was not acknowledged, and the record.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {error}", record.topic())]
pub struct SendFailure {
    #[source]
    error: KafkaError,
    possibly_written: bool,
    record: ProducerRecord,
}

impl SendFailure {
    fn new(record: ProducerRecord, why: SendError) -> Self {
        Self { error: why.error, possibly_written: why.possibly_written, record }
    }

    /// What went wrong.
    pub fn error(&self) -> &KafkaError {
        &self.error
    }

    /// Whether the record may be in the topic all the same, so that sending it again may write it twice.
    pub fn possibly_written(&self) -> bool {
        self.possibly_written
    }

    /// Whether the same send may succeed later without a change of configuration or rights.
    pub fn is_retriable(&self) -> bool {
        self.error.is_retriable()
    }

    /// The record, to send it again.
    pub fn into_record(self) -> ProducerRecord {
        self.record
    }
}

/// Writes records. Cheap to clone; the last clone that is dropped ends the client, and what is not acknowledged by then
/// may or may not be written: [`close`](Self::close) first.
///
/// Idempotent, with `acks=all`, unless the client's properties say otherwise.
#[derive(Clone)]
pub struct Producer {
    outbound: Outbound,
}

impl Client {
    /// A producer. It connects by itself; must be called in a Tokio runtime.
    pub fn producer(&self) -> Result<Producer, Error> {
        let producer = self.backend().producer(self.properties())?;
        Ok(Producer { outbound: Outbound::new(producer) })
    }
}

impl Producer {
    /// Sends a record and waits for its acknowledgement, at most `message.timeout.ms` (5 minutes by default). Sends made
    /// without waiting in between go out together, in the order in which the futures were first polled.
    ///
    /// Dropping the future does not take the record back once it was polled: it is written or not, and nobody is told.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivered, SendFailure> {
        if let Err(error) = names::check_topic(record.topic()) {
            let error = KafkaError::new(code::INVALID_TOPIC, error.to_string(), "");
            return Err(SendFailure { error, possibly_written: false, record });
        }
        match self.outbound.send(record.0).await {
            Ok((partition, offset)) => Ok(Delivered { partition, offset }),
            Err(unsent) => Err(SendFailure::new(ProducerRecord(unsent.record), unsent.why)),
        }
    }

    /// Sends records, in their order, and waits until each has its answer. The cheap way for many small records: one wait
    /// and one answer for all. Up to 16,777,216 at once; what exceeds the client's queue waits in memory.
    ///
    /// An error has each record that was not acknowledged; the others were. Dropping the future takes none back.
    pub async fn send_all(&self, records: Vec<ProducerRecord>) -> Result<(), Vec<SendFailure>> {
        for topic in records.chunk_by(|a, b| Arc::ptr_eq(&a.0.topic, &b.0.topic)).map(|run| run[0].topic()) {
            if let Err(error) = names::check_topic(topic) {
                let error = KafkaError::new(code::INVALID_TOPIC, error.to_string(), "");
                let failed = |record| SendFailure { error: error.clone(), possibly_written: false, record };
                return Err(records.into_iter().map(failed).collect());
            }
        }
        let mut failures = Vec::new();
        let mut records: Vec<_> = records.into_iter().map(|record| record.0).collect();
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(MOST_AT_ONCE));
            let SentAll { records: sent, failed } = self.outbound.send_all(records).await;
            let failed = failed.into_iter().map(|(place, e)| SendFailure::new(ProducerRecord(sent[place].clone()), e));
            failures.extend(failed);
            records = rest;
        }
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// Records not acknowledged yet.
    pub fn queue_len(&self) -> usize {
        self.outbound.unanswered()
    }

    /// Waits until everything sent has its answer, at most that long, then ends the client for all its clones: what is
    /// still unanswered fails. Returns how many records that were.
    ///
    /// Dropping the future leaves the producer as it is, or ends it in the background if it was ending.
    pub async fn close(&self, deadline: Duration) -> usize {
        let end = tokio::time::Instant::now() + deadline;
        // Not all answered in time: they are counted below.
        let _ = tokio::time::timeout_at(end, self.outbound.answered()).await;
        let left = self.outbound.unanswered();
        // A client that does not end in time ends in the background.
        let _ = tokio::time::timeout_at(end.max(tokio::time::Instant::now() + CLOSING), self.outbound.close()).await;
        left
    }
}

/// What ending the client itself may take beyond the deadline.
const CLOSING: Duration = Duration::from_millis(500);

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} unanswered)", self.queue_len())
    }
}
