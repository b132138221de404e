//! Notifications: how a consumer's partitions come and go.

use std::time::Duration;

use crate::error::KafkaError;
use crate::record::TopicPartition;

/// What a consumer is told of its group ([`ConsumerHandle::notifications`](crate::ConsumerHandle::notifications)).
/// `current` is what the consumer has right after it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notification {
    /// A rebalance gave partitions to this consumer; none where the group has none for it.
    Assigned {
        /// In addition to those that it had.
        claimed: Vec<TopicPartition>,
        /// All that it has.
        current: Vec<TopicPartition>,
    },
    /// A rebalance has begun that takes these: they yield no more, and what was delivered of them may still be finished.
    Revoking {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// How long from now.
        within: Duration,
        /// All that it has, these included.
        current: Vec<TopicPartition>,
    },
    /// Partitions were drained, committed and given back, to a rebalance or at the end.
    Revoked {
        /// Which.
        released: Vec<TopicPartition>,
        /// What is left.
        current: Vec<TopicPartition>,
    },
    /// Partitions were taken away: another member may be working on them already. Nothing of them is committed.
    Lost {
        /// Which.
        released: Vec<TopicPartition>,
        /// What is left.
        current: Vec<TopicPartition>,
    },
    /// The client has trouble with the group, which it repeats by itself unless the consumer ends.
    Error {
        /// What.
        error: KafkaError,
    },
    /// Notifications were dropped because they were read too slowly.
    Missed {
        /// How many.
        notifications: u64,
    },
}
