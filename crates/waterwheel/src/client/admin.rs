//! The admin port: what a worker has to ask about topics.

use std::time::Duration;

use super::PortFuture;
use crate::error::KafkaError;
use crate::record::TopicPartition;

/// A topic as the cluster describes it.
#[derive(Clone, Debug)]
pub(crate) struct TopicDescription {
    pub(crate) name: String,
    /// The topic's id (KIP-516); `None` where the cluster tells none. A topic made again has another one.
    pub(crate) id: Option<u128>,
    pub(crate) partitions: usize,
}

/// Which offset of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OffsetSpec {
    Earliest,
    Latest,
    /// The first record at or after that time, in milliseconds since the Unix epoch.
    Timestamp(i64),
}

/// Questions and changes that concern topics.
pub(crate) trait Admin: Send + Sync {
    /// Describes topics; for each, in the order asked, the description or why there is none.
    fn describe_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<TopicDescription, KafkaError>>>;

    /// For each, in the order asked: the offset; the end where no record is as late as the time asked for.
    fn list_offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> PortFuture<Vec<Result<i64, KafkaError>>>;

    /// Creates a topic with the cluster's default replication; `Ok` also where it exists already.
    fn create_topic(&self, name: String, partitions: usize, timeout: Duration) -> PortFuture<()>;
}
