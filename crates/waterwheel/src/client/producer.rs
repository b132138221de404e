//! The producer port: records out, delivery reports back, both in batches.

use std::sync::Arc;
use std::task::{Context, Poll};

use super::PortFuture;
use crate::error::KafkaError;

/// A header: name and value, `None` for a null value.
pub(crate) type Header = (Arc<[u8]>, Option<Arc<[u8]>>);

/// A record to be written.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) topic: Arc<str>,
    /// `None`: chosen from the key as Kafka's Java client does (murmur2; records without a key anywhere).
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Arc<[u8]>>,
    pub(crate) value: Option<Arc<[u8]>>,
    /// In order, duplicates and nulls kept. Names are bytes: a foreign producer may have written what is not UTF-8.
    pub(crate) headers: Vec<Header>,
    /// Milliseconds since the Unix epoch; `None`: now.
    pub(crate) timestamp: Option<i64>,
}

/// Why a record was not acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct SendError {
    pub(crate) error: KafkaError,
    /// The broker may have written it all the same.
    pub(crate) possibly_written: bool,
}

/// What became of a record.
#[derive(Debug)]
pub(crate) struct Report {
    /// The ticket given to [`Producer::enqueue`].
    pub(crate) ticket: u64,
    /// Partition and offset.
    pub(crate) result: Result<(i32, i64), SendError>,
}

/// A producer.
pub(crate) trait Producer: Send + Sync {
    /// Puts records in the send queue, from the front, and removes from `records` those that it took. What stays was
    /// refused because the queue is full (`Ok`) or for the error given, which is that of the record now in front. Each
    /// record taken is reported once.
    fn enqueue(&self, records: &mut Vec<(u64, Outgoing)>) -> Result<(), KafkaError>;

    /// Adds the reports that have come to `into`; ready when there is at least one. One task at a time may wait here.
    fn poll_reports(&self, cx: &mut Context<'_>, into: &mut Vec<Report>) -> Poll<()>;

    /// Records not reported yet.
    fn queue_len(&self) -> usize;

    /// Ends the client; records not sent yet are reported as failed first.
    fn close(&self) -> PortFuture<()>;
}
