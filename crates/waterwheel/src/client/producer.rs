//! The producer port: parcels of records out, one answer a parcel back.

use std::sync::Arc;

use tokio::sync::oneshot;

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

/// A record that was not acknowledged, and why.
pub(crate) struct Unsent {
    pub(crate) record: Outgoing,
    pub(crate) why: SendError,
}

/// What became of one record: partition and offset, or why not.
pub(crate) type Sent = Result<(i32, i64), Box<Unsent>>;

/// What became of many records.
pub(crate) struct SentAll {
    /// As they were given, so that they are dropped by who made them.
    pub(crate) records: Vec<Outgoing>,
    /// The failed ones, by their place, ascending.
    pub(crate) failed: Vec<(usize, SendError)>,
}

/// Records that are sent together, and who is told what became of them. Who has gone is told nothing; the records go on.
pub(crate) enum Parcel {
    One(Outgoing, oneshot::Sender<Sent>),
    Many(Vec<Outgoing>, oneshot::Sender<SentAll>),
}

impl Parcel {
    pub(crate) fn records(&self) -> &[Outgoing] {
        match self {
            Parcel::One(record, _) => std::slice::from_ref(record),
            Parcel::Many(records, _) => records,
        }
    }
}

/// A producer.
pub(crate) trait Producer: Send + Sync {
    /// Sends a parcel's records in their order, after all that were given before. What the client's queue has no room for
    /// waits here. Every parcel is answered exactly once, also when the client ends or has ended.
    fn send(&self, parcel: Parcel);

    /// Records not acknowledged or failed yet.
    fn unanswered(&self) -> usize;

    /// Ready when there is no such record.
    fn answered(&self) -> PortFuture<()>;

    /// Ends the client; records not acknowledged by then fail first.
    fn close(&self) -> PortFuture<()>;
}
