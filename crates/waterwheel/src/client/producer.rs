//! The producer port: parcels of records out, answers back.

use std::sync::Arc;
use std::time::Duration;

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
    /// The producer can send nothing any more.
    pub(crate) fatal: bool,
}

/// Where and when a record was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) partition: i32,
    /// `None` where the broker does not say: without acknowledgements, or for a repeated batch that it had already.
    pub(crate) offset: Option<i64>,
    /// Milliseconds since the Unix epoch, as in the log.
    pub(crate) timestamp: Option<i64>,
}

/// A record that was not acknowledged, and why.
pub(crate) struct Unsent {
    pub(crate) record: Outgoing,
    pub(crate) why: SendError,
}

/// What became of one record.
pub(crate) type Sent = Result<Written, Box<Unsent>>;

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
    /// Each record has an answer of its own, by its place.
    Each(Vec<Outgoing>, Arc<dyn Answers>),
}

/// Who is told of each record of a parcel.
pub(crate) trait Answers: Send + Sync {
    /// Tells what became of some records, by their places. No lock of the port's is held. A place that was told before is
    /// passed over.
    fn told(&self, written: &[(u32, Written)], failed: Vec<(u32, Unsent)>);
}

/// Where a producer takes parcels from when it is told that there are some. So records can be gathered without the port,
/// and still go out in their order.
pub(crate) trait Source: Send + Sync {
    /// What was gathered. Called under the port's lock: it may not call the port.
    fn take(&self) -> Option<Parcel>;
}

/// When a parcel is taken from a [`Source`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pull {
    /// Before the call returns.
    Now,
    /// Soon, on the producer's own thread.
    Soon,
}

/// What a producer gives up when it is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Records that were not sent: they fail as not written.
    Unsent,
    /// Those under way, too: they fail as possibly written, whatever the broker answers.
    All,
}

impl Parcel {
    pub(crate) fn records(&self) -> &[Outgoing] {
        match self {
            Parcel::One(record, _) => std::slice::from_ref(record),
            Parcel::Many(records, _) | Parcel::Each(records, _) => records,
        }
    }
}

/// A producer.
pub(crate) trait Producer: Send + Sync {
    /// Sends a parcel's records in their order, after all that were given before. What the client's queue has no room for
    /// waits here. Every parcel is answered exactly once, also when the client ends or has ended.
    fn send(&self, parcel: Parcel);

    /// Sends what `source` has, in the order in which it is taken.
    fn pull(&self, source: &Arc<dyn Source>, when: Pull);

    /// Sends at once what waits for its batch to fill, for as long as something is unanswered, at most for that long.
    fn hurry(&self, within: Duration);

    /// Gives up records that are not acknowledged; they are answered soon.
    fn purge(&self, what: Purge);

    /// Records not acknowledged or failed yet.
    fn unanswered(&self) -> usize;

    /// Ready when there is no such record.
    fn answered(&self) -> PortFuture<()>;

    /// Ends the client; records not acknowledged by then fail first.
    fn close(&self) -> PortFuture<()>;
}
