//! Questions about a cluster and changes to its groups: what operators need, and the command's verbs.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use waterwheel_core::{Epoch, PartitionId};

pub use crate::client::{
    BrokerDescription, ClusterDescription, Commit, CommitOutcome, Committed, GroupDescription, GroupList, GroupListing,
    GroupMember, GroupState, GroupType, OffsetSpec, Operation, PartitionDescription, TopicDescription,
};

use crate::client::{Admin as Port, FetchFailure, Fetched, Fetcher, PortFuture, Position};
use crate::config::canonical;
use crate::connection::Client;
use crate::error::{Error, KafkaError, code};
use crate::record::{Assignment, TopicPartition};

/// Asks a cluster about its brokers, topics and groups, and changes what groups have committed. Made by
/// [`Client::admin`]; cheap to clone.
///
/// Every call is given up after [`deadline`](Self::deadline), 10 s unless set, with an error of which
/// [`is_unreachable`](KafkaError::is_unreachable) holds and which tells what was in the way. Wrong credentials or an untrusted
/// certificate end a call after 2 s. Dropping a call's future gives up its answer; a change that was sent may still be made.
///
/// A call that is about several things answers each, in the order asked, with what was found or why not.
#[derive(Clone)]
pub struct Admin {
    port: Arc<dyn Port>,
    deadline: Duration,
    client: Client,
    /// Made when records are first read.
    fetcher: Arc<OnceLock<Arc<dyn Fetcher>>>,
}

/// How long after a coordinator that was new to a group a commit is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Client {
    /// Questions and changes that concern topics and groups. Connects at the first of them.
    pub fn admin(&self) -> Result<Admin, Error> {
        let port = self.backend().admin(self.properties())?;
        Ok(Admin { port, deadline: Duration::from_secs(10), client: self.clone(), fetcher: Arc::default() })
    }
}

impl Admin {
    /// Gives calls up after as long, at most 30 s; 10 s by default.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The cluster's id and brokers.
    pub async fn cluster(&self) -> Result<ClusterDescription, Error> {
        self.within(self.port.describe_cluster()).await
    }

    /// Asks one broker, by the address that it tells clients. `Ok` where it answers, whatever it says.
    pub async fn ask_broker(&self, id: i32) -> Result<(), Error> {
        self.within(self.port.ask_broker(id)).await
    }

    /// The names of all topics that this client may see, in their order, Kafka's own (`__consumer_offsets`) among them.
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        self.within(self.port.list_topics()).await
    }

    /// Describes topics. Where there is none, an error of which [`is_unknown_topic`](KafkaError::is_unknown_topic) holds;
    /// asking makes none.
    pub async fn describe_topics(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<Result<TopicDescription, KafkaError>>, Error> {
        self.within(self.port.describe_topics(topics)).await
    }

    /// What this client may do with topics; `None` where the cluster does not tell.
    pub async fn allowed_on_topics(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<Result<Option<Vec<Operation>>, KafkaError>>, Error> {
        self.within(self.port.allowed_on_topics(topics)).await
    }

    /// The offsets that are asked for.
    pub async fn offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> Result<Vec<Result<i64, KafkaError>>, Error> {
        self.within(self.port.list_offsets(of)).await
    }

    /// All groups of consumers that this client may see.
    pub async fn groups(&self) -> Result<GroupList, Error> {
        self.within(self.port.list_groups()).await
    }

    /// Describes groups. Where there is none, an error of which [`is_unknown_group`](KafkaError::is_unknown_group) holds.
    pub async fn describe_groups(
        &self,
        groups: Vec<String>,
    ) -> Result<Vec<Result<GroupDescription, KafkaError>>, Error> {
        let described = self.within(self.port.describe_groups(groups)).await?;
        // Brokers before Kafka 4.0 describe a group that does not exist as dead.
        let existing = |group: GroupDescription| match group.state {
            GroupState::Dead => Err(KafkaError::new(code::GROUP_ID_NOT_FOUND, "no such group", group.name)),
            _ => Ok(group),
        };
        Ok(described.into_iter().map(|group| group.and_then(existing)).collect())
    }

    /// What a group has committed: for `partitions`, in their order, or with `None` for all for which it has committed
    /// something, by topic and partition. A group that does not exist has committed nothing.
    pub async fn committed(
        &self,
        group: impl Into<String>,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Result<Vec<Result<Committed, KafkaError>>, Error> {
        self.within(self.port.committed(group.into(), partitions)).await
    }

    /// Commits for a group without being a member of it: its next members begin there. Where the group has members,
    /// errors of which [`is_active_group`](KafkaError::is_active_group) holds. Makes the group where there is none. Repeated
    /// while the group's coordinator is new to it.
    pub async fn commit(&self, group: impl Into<String>, commits: Vec<Commit>) -> Result<Vec<CommitOutcome>, Error> {
        const NEW: [i32; 3] =
            [code::COORDINATOR_LOAD_IN_PROGRESS, code::COORDINATOR_NOT_AVAILABLE, code::NOT_COORDINATOR];
        let is_new = |outcome: &CommitOutcome| outcome.result.as_ref().is_err_and(|e| NEW.contains(&e.code()));
        let (port, group) = (self.port.clone(), group.into());
        let repeated = async move {
            loop {
                let outcomes = port.commit(group.clone(), commits.clone()).await?;
                if !outcomes.iter().any(is_new) {
                    return Ok(outcomes);
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        self.within(Box::pin(repeated)).await
    }

    /// Takes back what a group has committed for partitions: its next members begin there as if it had committed nothing.
    /// An error for a partition of a topic that a member subscribes to.
    pub async fn delete_offsets(
        &self,
        group: impl Into<String>,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<CommitOutcome>, Error> {
        self.within(self.port.delete_offsets(group.into(), partitions)).await
    }

    /// Deletes groups with all that they committed. A group that has members stays: an error of which
    /// [`is_active_group`](KafkaError::is_active_group) holds.
    pub async fn delete_groups(&self, groups: Vec<String>) -> Result<Vec<Result<(), KafkaError>>, Error> {
        self.within(self.port.delete_groups(groups)).await
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

    async fn within<T>(&self, answer: PortFuture<T>) -> Result<T, Error> {
        let late = || {
            let trouble = self.port.trouble().map_or_else(String::new, |trouble| format!(": {trouble}"));
            KafkaError::new(
                code::LOCAL_TIMED_OUT,
                "timed out",
                format!("no answer within {:?}{trouble}", self.deadline),
            )
        };
        Ok(tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(|_| Err(late()))?)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
