//! Reading partitions by hand, without a group: batches straight from the fetch port.

use std::future::poll_fn;
use std::sync::Arc;

use waterwheel_core::{Epoch, PartitionId};

use crate::client::{FetchFailure, FetchQueue, Fetched, Fetcher, Position};
use crate::config::names;
use crate::connection::Client;
use crate::error::{Error, KafkaError, code};
use crate::record::{Assignment, Batch, Record, TopicPartition};

/// Reads partitions from where it is told to, without a group and without commits.
///
/// Records come in batches of one partition, in offset order; partitions take turns. What is read ahead stays bounded
/// (10,000 records or 2 MiB a partition: `queued.min.messages`, `queued.max.messages.kbytes`).
pub struct AssignedConsumer {
    queue: Box<dyn FetchQueue>,
    fetcher: Arc<dyn Fetcher>,
}

/// Records of one partition, in offset order, in one buffer.
#[derive(Clone, Debug)]
pub struct RecordBatch(Batch);

impl RecordBatch {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.0.assignment().partition
    }

    /// How many records; at least one.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: a batch has a record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record> + '_ {
        (0..self.len() as u32).map(|index| self.0.record(index))
    }

    /// Looks at each record's key and value without counting a reference: the cheapest way over a batch.
    pub fn for_each(&self, mut look: impl FnMut(i64, Option<&[u8]>, Option<&[u8]>)) {
        self.0.for_each(&mut look);
    }
}

impl Client {
    /// A consumer of all partitions of a topic, from the first record on. Asks the cluster for the partitions; dropping
    /// the future changes nothing.
    pub async fn read_topic(&self, topic: impl Into<String>) -> Result<AssignedConsumer, Error> {
        let topic = topic.into();
        names::check_topic(&topic)?;
        let fetcher = self.backend().fetcher(self.properties())?;
        fetcher.warm(std::slice::from_ref(&topic));
        let admin = self.backend().admin(self.properties())?;
        let described = admin.describe_topics(vec![topic.clone()]).await?;
        let description = described.into_iter().next().unwrap_or_else(|| {
            Err(KafkaError::new(
                code::UNKNOWN_TOPIC_OR_PARTITION,
                "the cluster does not know the topic",
                topic.as_str(),
            ))
        })?;
        let mut queue = fetcher.queue()?;
        for n in 0..description.partitions.len() {
            let partition = TopicPartition::new(topic.as_str(), n as i32);
            queue.add(Assignment::new(PartitionId(n as u32), Epoch(1), partition), Position::Beginning)?;
        }
        Ok(AssignedConsumer { queue, fetcher })
    }
}

impl AssignedConsumer {
    /// The next batch of any partition. An error means that its partition yields no more. Dropping the future loses
    /// nothing.
    pub async fn next_batch(&mut self) -> Result<RecordBatch, Error> {
        loop {
            match poll_fn(|cx| self.queue.poll_fetch(cx)).await {
                Fetched::Batch(batch) => return Ok(RecordBatch(batch)),
                Fetched::Stopped { failure: FetchFailure::Failed(error), .. } => return Err(error.into()),
                Fetched::Stopped { failure: FetchFailure::OutOfRange { position }, .. } => {
                    let place = format!("offset {}", position.unwrap_or_default());
                    return Err(
                        KafkaError::new(code::OFFSET_OUT_OF_RANGE, "the records to be read are gone", place).into()
                    );
                }
                Fetched::Trouble { error, .. } => tracing::warn!(%error, "trouble while fetching"),
                // Nothing is committed, and nothing was asked to be read again.
                Fetched::SkippedTo { .. } | Fetched::Reread { .. } => {}
            }
        }
    }

    /// Ends the consumer. Dropping the future leaves the rest to a thread of its own.
    pub async fn close(self) -> Result<(), Error> {
        drop(self.queue);
        Ok(self.fetcher.close().await?)
    }
}
