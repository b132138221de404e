//! What becomes of a record: where it was written, or why not.

use std::fmt;

use super::record::ProducerRecord;
use crate::client::{SendError, Unsent, Written};
use crate::error::{KafkaError, code};

/// Where and when a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// The offset. `None` where the broker does not say: with [`Acks::None`](crate::Acks::None), and where a batch was
    /// repeated that it had already.
    pub offset: Option<i64>,
    /// The record's time in the log, in milliseconds since the Unix epoch.
    pub timestamp_millis: Option<i64>,
}

impl From<Written> for Delivered {
    fn from(at: Written) -> Self {
        Self { partition: at.partition, offset: at.offset, timestamp_millis: at.timestamp }
    }
}

/// Where a send ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendStage {
    /// The producer's queue had no room for it.
    QueueFull,
    /// The producer was closed before.
    Closed,
    /// An interceptor panicked before it was sent.
    Intercepted,
    /// It was refused by this client (its topic's name, its size) or by the cluster, or not acknowledged in time;
    /// [`SendFailure::error`] says which.
    Sending,
}

/// Why a record was not acknowledged, and the record.
#[derive(Clone, thiserror::Error)]
#[error("{}: {}", .0.record.topic(), .0.error)]
pub struct SendFailure(Box<Failed>);

#[derive(Clone)]
struct Failed {
    error: KafkaError,
    stage: SendStage,
    possibly_written: bool,
    fatal: bool,
    record: ProducerRecord,
}

impl SendFailure {
    fn unsent(stage: SendStage, record: ProducerRecord, error: KafkaError) -> Self {
        Self(Box::new(Failed { error, stage, possibly_written: false, fatal: false, record }))
    }

    pub(super) fn queue_full(record: ProducerRecord) -> Self {
        let error = KafkaError::new(code::LOCAL_QUEUE_FULL, "the producer's queue is full; wait with `ready`", "");
        Self::unsent(SendStage::QueueFull, record, error)
    }

    pub(super) fn closed(record: ProducerRecord) -> Self {
        let error = KafkaError::new(code::LOCAL_DESTROYED, "the producer is closed", "");
        Self::unsent(SendStage::Closed, record, error)
    }

    pub(super) fn intercepted(record: ProducerRecord) -> Self {
        let error = KafkaError::new(code::LOCAL_FAIL, "an interceptor panicked", "");
        Self::unsent(SendStage::Intercepted, record, error)
    }

    pub(super) fn bad_topic(record: ProducerRecord, problem: &str) -> Self {
        let error = KafkaError::new(code::INVALID_TOPIC, problem, "");
        Self::unsent(SendStage::Sending, record, error)
    }

    pub(super) fn of(record: ProducerRecord, why: SendError) -> Self {
        let stage = if why.error.code() == code::LOCAL_DESTROYED && !why.possibly_written {
            SendStage::Closed
        } else {
            SendStage::Sending
        };
        let SendError { error, possibly_written, fatal } = why;
        Self(Box::new(Failed { error, stage, possibly_written, fatal, record }))
    }

    /// What went wrong.
    pub fn error(&self) -> &KafkaError {
        &self.0.error
    }

    /// Where the send ended.
    pub fn stage(&self) -> SendStage {
        self.0.stage
    }

    /// Whether the record may be in the topic all the same, so that sending it again may write it twice.
    pub fn possibly_written(&self) -> bool {
        self.0.possibly_written
    }

    /// Whether the same send may succeed later without a change of configuration or rights. A full queue may have room.
    pub fn is_retriable(&self) -> bool {
        !self.0.fatal && (self.0.stage == SendStage::QueueFull || self.0.error.is_retriable())
    }

    /// Whether this producer can send nothing any more: close it, and make another.
    pub fn is_fatal(&self) -> bool {
        self.0.fatal
    }

    /// The record.
    pub fn record(&self) -> &ProducerRecord {
        &self.0.record
    }

    /// The record, to send it again.
    pub fn into_record(self) -> ProducerRecord {
        self.0.record
    }
}

impl From<Unsent> for SendFailure {
    fn from(unsent: Unsent) -> Self {
        Self::of(ProducerRecord(unsent.record), unsent.why)
    }
}

impl fmt::Debug for SendFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failed { error, stage, possibly_written, fatal, record } = &*self.0;
        let what = f.debug_struct("SendFailure").field("topic", &record.topic()).field("error", error).finish();
        what?;
        write!(
            f,
            " at {stage:?}{}{}",
            if *possibly_written { ", possibly written" } else { "" },
            if *fatal { ", fatal" } else { "" }
        )
    }
}
