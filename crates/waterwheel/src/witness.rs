//! Witnesses: told of a worker's doings in place, in the order in which they take effect.
//!
//! [`Event`](crate::Event)s are for watching and may be dropped; a witness is for evidence, such as the journal of an
//! audit: what it is told comes before what follows from it.

use crate::error::KafkaError;
use crate::record::TopicPartition;

/// How a record was finished without a handler's success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// The dead-letter topic acknowledged it.
    DeadLettered,
    /// It was skipped, as its handler or the policy asked.
    Skipped,
    /// The topic of a retry tier acknowledged it: it comes again from there.
    Tiered {
        /// The number of the tier, from 0.
        tier: usize,
    },
}

/// Sees what a worker does. Every method is called where it happens and holds it up until it returns: keep them short. An
/// epoch names one assignment of a partition; later ones have higher numbers.
pub trait Witness: Send + Sync + 'static {
    /// The group gave partitions to this member, in addition to those that it has; none where it has none for it. Before
    /// any of them is opened, so before their [`assigned`](Self::assigned).
    fn given(&self, partitions: &[TopicPartition]) {
        let _ = partitions;
    }

    /// A partition is the worker's, and work begins at that offset. Before its first start.
    fn assigned(&self, partition: &TopicPartition, epoch: u64, start: i64) {
        let _ = (partition, epoch, start);
    }

    /// A partition is about to be given back. After its last end (those cut off excepted) and its last commit.
    fn revoked(&self, partition: &TopicPartition, epoch: u64) {
        let _ = (partition, epoch);
    }

    /// The group takes partitions back: they are about to be given back, all that there was to commit is answered, or they
    /// are gone already, and what runs in them is about to be cut off. Some may have been told before.
    fn taken(&self, partitions: &[TopicPartition]) {
        let _ = partitions;
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

    /// What was told as [`committing`](Self::committing) was answered: the broker has it, or an error says why not. Not told
    /// where the worker ends without an answer.
    fn committed(&self, partition: &TopicPartition, offset: i64, answer: Result<(), &KafkaError>) {
        let _ = (partition, offset, answer);
    }

    /// A record needs no more work although no handler succeeded. Before a commit can pass it.
    fn settled(&self, partition: &TopicPartition, offset: i64, how: Settled) {
        let _ = (partition, offset, how);
    }
}
