//! The fetch port: reads partitions that it is told to read; commits nothing and knows no group.

use std::sync::Arc;
use std::task::{Context, Poll};

use waterwheel_core::{Epoch, PartitionId};

use super::PortFuture;
use crate::error::KafkaError;
use crate::record::{Assignment, Batch};

/// Where reading starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Beginning,
    Offset(i64),
}

/// Why a partition yields no more until it is removed and added again.
#[derive(Debug)]
pub(crate) enum FetchFailure {
    /// The position is below the log's start or beyond its end, or the log was cut off below it.
    OutOfRange { position: Option<i64> },
    /// Anything else that does not mend by itself, such as missing rights or a deleted topic.
    Failed(KafkaError),
}

/// What a queue yields.
#[derive(Debug)]
pub(crate) enum Fetched {
    /// The next records of a partition. The first one's offset may lie above the last one's + 1: what is between
    /// will never come (compaction, transaction markers, aborted records).
    Batch(Batch),
    /// The partition's records below `next` have all come, and the log has gone on to it without one: behind the last
    /// record lie transaction markers, aborted records, or what compaction left of them. Told where no batch shows it.
    SkippedTo { id: PartitionId, epoch: Epoch, next: i64 },
    /// Records asked for by [`FetchQueue::reread`], or some of them, in offset order; and those of the offsets asked
    /// for that are no longer there. Each offset asked for is in one answer. They come though the partition is held.
    Reread { id: PartitionId, epoch: Epoch, batch: Option<Batch>, missing: Vec<i64> },
    /// The partition stopped.
    Stopped { id: PartitionId, epoch: Epoch, failure: FetchFailure },
    /// Something went wrong that the client repeats by itself; `None`: with the client as a whole. One of the queues
    /// is told.
    Trouble { id: Option<PartitionId>, error: KafkaError },
}

/// A reader of partitions, shared by the shards of a worker.
pub(crate) trait Fetcher: Send + Sync {
    /// Learns about topics before their partitions are added, so that the first records come without a detour.
    fn warm(&self, topics: &[String]);

    /// A queue of its own for one shard; an error once the client is closed.
    fn queue(&self) -> Result<Box<dyn FetchQueue>, KafkaError>;

    /// Ends the client, as soon as all queues are dropped.
    fn close(&self) -> PortFuture<()>;
}

/// The partitions of one shard. All calls return at once, apart from a lock or two.
pub(crate) trait FetchQueue: Send {
    /// Begins to read a partition. Adding one that is there already moves it; what the same assignment asked to be read
    /// again is still answered.
    fn add(&mut self, assignment: Arc<Assignment>, from: Position) -> Result<(), KafkaError>;

    /// Stops reading a partition: nothing of it comes after this.
    fn remove(&mut self, id: PartitionId);

    /// Serves nothing of a partition until [`release`](Self::release); what is prefetched stays, and what the client
    /// prefetches stays bounded.
    fn hold(&mut self, id: PartitionId);

    /// Serves a held partition again.
    fn release(&mut self, id: PartitionId);

    /// Reads single records once more, beside the partition's own progress. `offsets` ascend. Answers come as
    /// [`Fetched::Reread`]; further calls add to what is under way.
    fn reread(&mut self, id: PartitionId, offsets: &[i64]) -> Result<(), KafkaError>;

    /// The next batch or failure of any partition that is not held; partitions take turns.
    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Fetched>;
}
