//! Witnesses: told of a worker's doings in place, in the order in which they take effect.
//!
//! [`Event`](crate::Event)s are for watching and may be dropped; a witness is for evidence, such as the journal of an
//! audit: what it is told comes before what follows from it.

use crate::record::TopicPartition;

/// How a record was finished without a handler's success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The dead-letter topic acknowledged it.
    DeadLettered,
    /// It was skipped, as its handler or the policy asked.
    Skipped,
}

/// Sees what a worker does. Every method is called where it happens and holds it up until it returns: keep them short. An
/// epoch names one assignment of a partition; later ones have higher numbers.
pub trait Witness: Send + Sync + 'static {
    /// A partition is the worker's, and work begins at that offset. Before its first start.
    fn assigned(&self, partition: &TopicPartition, epoch: u64, start: i64) {
        let _ = (partition, epoch, start);
    }

    /// A partition is about to be given back. After its last end (those cut off excepted) and its last commit.
    fn revoked(&self, partition: &TopicPartition, epoch: u64) {
        let _ = (partition, epoch);
    }

    /// An assignment is over without a drain: the partition was lost, or begins anew at another place. After its last
    /// start.
    fn lost(&self, partition: &TopicPartition, epoch: u64) {
        let _ = (partition, epoch);
    }

    /// A commit is about to be sent: `offset` is the next to read.
    fn committing(&self, partition: &TopicPartition, offset: i64) {
        let _ = (partition, offset);
    }

    /// A record needs no more work although no handler succeeded. Before a commit can pass it.
    fn settled(&self, partition: &TopicPartition, offset: i64, how: Settled) {
        let _ = (partition, offset, how);
    }
}
