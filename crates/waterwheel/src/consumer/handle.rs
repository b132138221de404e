//! Handles: steering and asking a consumer that runs.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot;

use super::ANSWER_WITHIN;
use crate::client::Admin;
use crate::config::ConfigError;
use crate::connection::Client;
use crate::driver::coordinator::{Ask, Offer};
use crate::driver::places::{Watermarks, places};
use crate::driver::shard::Common;
use crate::error::{Error, KafkaError, code};
use crate::notifications::Notification;
use crate::record::TopicPartition;
use crate::settings::Start;
use crate::subscription::Subscription;
use crate::worker::WorkerHandle;

/// Characters of metadata that Kafka's brokers take with a commit unless told otherwise (`offset.metadata.max.bytes`).
const METADATA_LIMIT: usize = 4096;

/// Steers a consumer and asks it things. Cheap to clone; works while the consumer runs, and changes nothing after.
#[derive(Clone)]
pub struct ConsumerHandle {
    worker: WorkerHandle,
    common: Arc<Common>,
    client: Client,
    /// Only transactions commit.
    in_transactions: bool,
    /// Whom to ask about offsets, made at the first question.
    admin: Arc<OnceLock<Arc<dyn Admin>>>,
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The partition.
    pub partition: TopicPartition,
    /// The next offset to read; `None` where nothing is committed.
    pub offset: Option<i64>,
    /// What was committed with it: a commit map, or a text of the user's.
    pub metadata: String,
}

/// How far a consumer is behind in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lag {
    /// The partition.
    pub partition: TopicPartition,
    /// The lowest offset that is not finished.
    pub frontier: i64,
    /// Where the partition ends.
    pub end: i64,
    /// Offsets from the frontier to the end, without those that are finished above the frontier. Some may have no record.
    pub records: u64,
}

impl ConsumerHandle {
    pub(super) fn new(worker: WorkerHandle, client: Client, common: Arc<Common>, in_transactions: bool) -> Self {
        Self { worker, common, client, in_transactions, admin: Arc::default() }
    }

    /// The handle of the worker that it is: state, counts, events, snapshots, health; pausing and stopping all of it.
    pub fn worker(&self) -> &WorkerHandle {
        &self.worker
    }

    /// Goes on at another place in a partition, and commits it, as Kafka's `seek` and an offset reset in one: what was
    /// delivered before is of no consequence any more, whether it is finished or not. What is pulled after it has returned comes
    /// from the new place.
    ///
    /// Waits until the partition is this consumer's, so put a time limit around it; dropping the future withdraws it.
    pub async fn seek(&self, partition: &TopicPartition, to: Start) -> Result<(), Error> {
        let offset = self.place(partition, to).await?;
        let (done, is_done) = oneshot::channel();
        self.ask(Ask::Seek { partition: partition.clone(), offset, done }).await?;
        is_done.await.map_err(|_| ended())
    }

    /// Like [`seek`](Self::seek), and waits until that place is committed.
    pub async fn reset(&self, partition: &TopicPartition, to: Start) -> Result<(), Error> {
        self.check_commits()?;
        self.seek(partition, to).await?;
        self.commit().await
    }

    /// Everything delivered of a partition up to an offset, it included, is finished, as if each had been.
    pub async fn mark(&self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        self.mark_all([(partition.clone(), offset)]).await
    }

    /// The same for many partitions. Partitions that are not this consumer's are left out. Dropping the future may leave
    /// it done or not.
    pub async fn mark_all(&self, marks: impl IntoIterator<Item = (TopicPartition, i64)>) -> Result<(), Error> {
        self.ask(Ask::Mark(marks.into_iter().collect())).await
    }

    /// Yields nothing of these partitions until they are resumed; what is fetched stays. A partition that leaves is not
    /// paused when it comes back.
    pub async fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.ask(Ask::Pause { partitions: partitions.to_vec(), paused: true }).await
    }

    /// Yields records of these partitions again.
    pub async fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.ask(Ask::Pause { partitions: partitions.to_vec(), paused: false }).await
    }

    /// Commits all that is finished by now, and waits until the broker has taken it. Failures that may pass are repeated
    /// as long as this is waited for and beyond. Dropping the future leaves the commit under way.
    pub async fn commit(&self) -> Result<(), Error> {
        self.check_commits()?;
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Commit(answer)).await?;
        Ok(answered.await.map_err(|_| ended())??)
    }

    fn check_commits(&self) -> Result<(), ConfigError> {
        let problem = "has its offsets committed by transactions, as commit_in_transactions() says";
        let error = || ConfigError::new("consumer", problem).remedy("begin a transaction with it");
        if self.in_transactions { Err(error()) } else { Ok(()) }
    }

    /// A transaction begins that is to take this consumer's offsets along. Ready once all that is pulled is of it.
    pub(crate) async fn begin_transaction(&self) -> Result<(), Error> {
        if !self.in_transactions {
            let error = ConfigError::new("consumer", "commits by itself, not in transactions");
            return Err(error.remedy("build it with commit_in_transactions()").into());
        }
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::BeginTransaction(answer)).await?;
        answered.await.map_err(|_| ended())?
    }

    /// What is finished and no transaction has committed.
    pub(crate) async fn offer(&self) -> Result<Offer, Error> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Offer(answer)).await?;
        answered.await.map_err(|_| ended())?
    }

    /// What the group has committed for these partitions, whoever has them. Dropping the future has no effect.
    pub async fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<CommittedOffset>, Error> {
        let (answer, answered) = oneshot::channel();
        self.ask(Ask::Committed { partitions: partitions.to_vec(), answer }).await?;
        let committed = answered.await.map_err(|_| ended())??;
        let shown = |c: crate::client::Committed| CommittedOffset {
            partition: c.partition,
            offset: c.offset,
            metadata: c.metadata,
        };
        Ok(committed.into_iter().map(shown).collect())
    }

    /// What commits of a partition say beside their offset from now on, with
    /// [`CommitMetadata::Own`](crate::CommitMetadata::Own). At most 4,096 UTF-16 units, Kafka's default limit.
    pub async fn set_metadata(&self, partition: &TopicPartition, text: impl Into<String>) -> Result<(), Error> {
        let text = text.into();
        let length = text.encode_utf16().count();
        if length > METADATA_LIMIT {
            let problem = format!("has {length} UTF-16 units, brokers take {METADATA_LIMIT}");
            return Err(ConfigError::new("metadata", problem).into());
        }
        self.ask(Ask::Metadata { partition: partition.clone(), text }).await
    }

    /// The partitions that this consumer has, by [`snapshot`](WorkerHandle::snapshot).
    pub async fn assigned(&self) -> Vec<TopicPartition> {
        let snapshot = self.worker.snapshot().await;
        snapshot.into_iter().flat_map(|s| s.partitions).map(|p| p.partition).collect()
    }

    /// The next offset of a partition to be made ready for delivery; `None` where it is not this consumer's.
    pub async fn position(&self, partition: &TopicPartition) -> Option<i64> {
        let snapshot = self.worker.snapshot().await?;
        snapshot.partitions.into_iter().find(|p| p.partition == *partition).map(|p| p.next)
    }

    /// The first and the last offset of a partition, asked now.
    pub async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        let asked = [Start::Earliest, Start::Latest].map(|start| (partition.clone(), start));
        let answers = self.offsets(asked.to_vec()).await?;
        let [low, high] = <[i64; 2]>::try_from(answers).map_err(|_| no_answer(partition))?;
        Ok(Watermarks { low, high })
    }

    /// How far this consumer is behind, for each partition that it has.
    pub async fn lag(&self) -> Result<Vec<Lag>, Error> {
        let Some(snapshot) = self.worker.snapshot().await else { return Err(ended()) };
        let asked = snapshot.partitions.iter().map(|p| (p.partition.clone(), Start::Latest)).collect();
        let ends = self.offsets(asked).await?;
        let lag = snapshot.partitions.into_iter().zip(ends).map(|(p, end)| Lag {
            records: end.saturating_sub(p.frontier).max(0).unsigned_abs().saturating_sub(p.finished_above),
            partition: p.partition,
            frontier: p.frontier,
            end,
        });
        Ok(lag.collect())
    }

    /// For each partition the offset of the first record that is as late as `at` says, or its end.
    pub async fn offsets_for_times(
        &self,
        at: impl IntoIterator<Item = (TopicPartition, std::time::SystemTime)>,
    ) -> Result<Vec<(TopicPartition, i64)>, Error> {
        let (names, asked): (Vec<_>, Vec<_>) =
            at.into_iter().map(|(partition, at)| (partition.clone(), (partition, Start::Timestamp(at)))).unzip();
        let offsets = self.offsets(asked).await?;
        Ok(names.into_iter().zip(offsets).collect())
    }

    /// How this consumer's partitions come and go, from now on. Never holds it up: with more than 1,024 unread, the oldest
    /// are dropped and told as [`Notification::Missed`].
    pub fn notifications(&self) -> Subscription<Notification> {
        let receiver = self.common.notifications.subscribe();
        Subscription::new(receiver, |notifications| Notification::Missed { notifications })
    }

    /// Ends the consumer in order, as [`Consumer::close`](super::Consumer::close) does, and does not wait.
    pub fn close(&self) {
        self.worker.close();
    }

    async fn ask(&self, ask: Ask) -> Result<(), Error> {
        self.worker.asks.send(ask).await.map_err(|_| ended())
    }

    /// The offset that a place has now.
    async fn place(&self, partition: &TopicPartition, to: Start) -> Result<i64, Error> {
        let offsets = self.offsets(vec![(partition.clone(), to)]).await?;
        Ok(offsets.first().copied().ok_or_else(|| no_answer(partition))?)
    }

    async fn offsets(&self, of: Vec<(TopicPartition, Start)>) -> Result<Vec<i64>, Error> {
        let admin = match self.admin.get() {
            Some(admin) => admin,
            None => {
                let made = self.client.backend().admin(self.client.properties())?;
                self.admin.get_or_init(|| made)
            }
        };
        let asked = tokio::time::timeout(ANSWER_WITHIN, places(&**admin, &of)).await;
        let answers = asked.map_err(|_| KafkaError::new(code::LOCAL_TIMED_OUT, "no answer", "listing offsets"))??;
        Ok(answers.into_iter().collect::<Result<_, _>>()?)
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConsumerHandle({})", self.worker.name())
    }
}

fn ended() -> Error {
    Error::Ended
}

fn no_answer(partition: &TopicPartition) -> KafkaError {
    KafkaError::new(code::LOCAL_TIMED_OUT, "the cluster gave no answer", partition.to_string())
}
