//! Offsets of partitions: the ends of a log, by time, and when what is there was written.

use std::future::poll_fn;
use std::sync::Arc;

use waterwheel_core::{Epoch, PartitionId};

use super::Admin;
use crate::client::{FetchFailure, Fetched, Fetcher, Isolation, ListedOffset, OffsetSpec, Position};
use crate::config::canonical;
use crate::error::{Error, KafkaError, code};
use crate::record::{Assignment, TopicPartition};

impl Admin {
    /// The offsets that are asked for, and the end of the log where no record is as asked for. Which end that is, the
    /// client's property `isolation.level` says: behind the last record in no open transaction, unless it is `read_uncommitted`.
    pub async fn offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> Result<Vec<Result<i64, KafkaError>>, Error> {
        self.within(self.port.list_offsets(of)).await
    }

    /// The offsets that are asked for, by an isolation of this question's own, and the times of records found by time.
    pub async fn find_offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> Result<Vec<Result<ListedOffset, KafkaError>>, Error> {
        self.within(self.port.find_offsets(of, Some(isolation))).await
    }

    /// When the first record at or behind each offset was written, by its own timestamp in milliseconds since the Unix epoch;
    /// `None` where there is no such record, or it has no time. It is read from the log: one batch a partition is fetched.
    ///
    /// An error that is [unreachable](KafkaError::is_unreachable) for those that were not read by the deadline, and an offset
    /// out of range (code 1) where the log no longer has it, or not yet.
    pub async fn record_times(
        &self,
        of: &[(TopicPartition, i64)],
    ) -> Result<Vec<Result<Option<i64>, KafkaError>>, Error> {
        let mut queue = self.fetcher()?.queue()?;
        for (n, (partition, offset)) in of.iter().enumerate() {
            let assignment = Assignment::new(PartitionId(n as u32), Epoch(1), partition.clone());
            queue.add(assignment, Position::Offset(*offset))?;
        }
        let mut times: Vec<Option<Result<Option<i64>, KafkaError>>> = vec![None; of.len()];
        let read = async {
            while times.iter().any(Option::is_none) {
                let (id, time) = match poll_fn(|cx| queue.poll_fetch(cx)).await {
                    Fetched::Batch(batch) => (batch.assignment().id, Ok(batch.record(0).timestamp_millis())),
                    Fetched::SkippedTo { id, .. } => (id, Ok(None)),
                    Fetched::Stopped { id, failure: FetchFailure::OutOfRange { .. }, .. } => {
                        let place = format!("{}@{}", of[id.0 as usize].0, of[id.0 as usize].1);
                        (id, Err(KafkaError::new(code::OFFSET_OUT_OF_RANGE, "the log does not have it", place)))
                    }
                    Fetched::Stopped { id, failure: FetchFailure::Failed(error), .. } => (id, Err(error)),
                    Fetched::Trouble { .. } | Fetched::Reread { .. } => continue,
                };
                queue.remove(id);
                times[id.0 as usize].get_or_insert(time);
            }
        };
        // What was read in time is told.
        _ = tokio::time::timeout(self.deadline, read).await;
        let late = |n: usize| KafkaError::new(code::LOCAL_TIMED_OUT, "timed out", of[n].0.to_string());
        Ok(times.into_iter().enumerate().map(|(n, time)| time.unwrap_or_else(|| Err(late(n)))).collect())
    }

    fn fetcher(&self) -> Result<&Arc<dyn Fetcher>, Error> {
        if let Some(fetcher) = self.fetcher.get() {
            return Ok(fetcher);
        }
        let mut properties = self.client.properties().clone();
        // One record of each partition is all that is wanted.
        for (name, value) in
            [("queued.min.messages", "1"), ("queued.max.messages.kbytes", "64"), ("fetch.message.max.bytes", "65536")]
        {
            properties.insert(canonical(name).to_owned(), value.to_owned());
        }
        let fetcher = self.client.backend().fetcher(&properties)?;
        Ok(self.fetcher.get_or_init(|| fetcher))
    }
}
