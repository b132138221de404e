//! The admin port: what a worker has to ask about topics, and operators about topics and groups.

use std::time::Duration;

use super::access::{Acl, AclFilter, ScramChange, ScramUser};
use super::described::{ClusterDescription, GroupDescription, GroupList, Operation, TopicDescription};
use super::topics::{
    ConfigChanges, ConfigEntry, ConfigResource, Deletion, Isolation, ListedOffset, Mode, NewPartitions, NewTopic,
};
use super::{Commit, CommitOutcome, Committed, PortFuture, WorldTime};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// Which offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first record that is still there.
    Earliest,
    /// The end: behind the last record, or behind the last one that is in no open transaction
    /// (`isolation.level=read_committed`, the default).
    Latest,
    /// The first record at or after that time, in milliseconds since the Unix epoch; the end where there is none.
    Timestamp(i64),
    /// The record with the latest time, which need not be the last one; the end where there is none.
    MaxTimestamp,
}

/// Questions and changes. Each is given up after 30 s, but for those with a time-out of their own. `Err` where a call
/// failed as a whole; else there is an answer to each thing asked for, in the order asked.
pub(crate) trait Admin: Send + Sync {
    /// The cluster's time; `None`: the machine's.
    fn time(&self) -> Option<WorldTime> {
        None
    }

    /// What kept the last calls from being answered (no connection, wrong credentials), until one is answered.
    fn trouble(&self) -> Option<KafkaError>;

    /// The brokers.
    fn describe_cluster(&self) -> PortFuture<ClusterDescription>;

    /// Puts a question to one broker that no other answers; `Ok` where it answers, also by a refusal.
    fn ask_broker(&self, id: i32) -> PortFuture<()>;

    /// The names of all topics that this client may see, in their order.
    fn list_topics(&self) -> PortFuture<Vec<String>>;

    /// Describes topics.
    fn describe_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<TopicDescription, KafkaError>>>;

    /// What this client may do with topics; `None` where the cluster does not tell.
    fn allowed_on_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<Option<Vec<Operation>>, KafkaError>>>;

    /// Offsets of partitions; without an isolation, with the one of the client's properties.
    fn find_offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Option<Isolation>,
    ) -> PortFuture<Vec<Result<ListedOffset, KafkaError>>>;

    /// The same with the client's isolation, and the end where no record is as asked for.
    fn list_offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> PortFuture<Vec<Result<i64, KafkaError>>>;

    /// Makes topics.
    fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        mode: Mode,
        timeout: Duration,
    ) -> PortFuture<Vec<Result<(), KafkaError>>>;

    /// Creates a topic with the cluster's default replication; `Ok` also where it exists already.
    fn create_topic(&self, name: String, partitions: usize, timeout: Duration) -> PortFuture<()> {
        let made = self.create_topics(vec![NewTopic::new(name).partitions(partitions)], Mode::Execute, timeout);
        Box::pin(async move {
            match made.await?.into_iter().next() {
                Some(Err(error)) if error.code() != code::TOPIC_ALREADY_EXISTS => Err(error),
                _ => Ok(()),
            }
        })
    }

    /// Deletes topics with all their records.
    fn delete_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<(), KafkaError>>>;

    /// Adds partitions to topics.
    fn create_partitions(&self, of: Vec<NewPartitions>, mode: Mode) -> PortFuture<Vec<Result<(), KafkaError>>>;

    /// Deletes records at the beginning of logs; where each log begins now.
    fn delete_records(&self, of: Vec<Deletion>) -> PortFuture<Vec<Result<i64, KafkaError>>>;

    /// All configurations of resources, by name.
    fn configs(&self, of: Vec<ConfigResource>) -> PortFuture<Vec<Result<Vec<ConfigEntry>, KafkaError>>>;

    /// Changes configurations.
    fn alter_configs(&self, changes: Vec<ConfigChanges>, mode: Mode) -> PortFuture<Vec<Result<(), KafkaError>>>;

    /// The access rules that a filter takes.
    fn acls(&self, filter: AclFilter) -> PortFuture<Vec<Acl>>;

    /// Makes access rules.
    fn create_acls(&self, acls: Vec<Acl>) -> PortFuture<Vec<Result<(), KafkaError>>>;

    /// Deletes access rules; those that went, for each filter.
    fn delete_acls(&self, filters: Vec<AclFilter>) -> PortFuture<Vec<Result<Vec<Acl>, KafkaError>>>;

    /// Users' credentials; of all by name, if none are named.
    fn scram_users(&self, users: Option<Vec<String>>) -> PortFuture<Vec<Result<ScramUser, KafkaError>>>;

    /// Changes users' credentials.
    fn alter_scram_users(&self, changes: Vec<ScramChange>) -> PortFuture<Vec<Result<(), KafkaError>>>;

    /// All groups of consumers that this client may see, by name.
    fn list_groups(&self) -> PortFuture<GroupList>;

    /// Describes groups; one that does not exist is `Dead`, or an error of which `is_unknown_group` holds.
    fn describe_groups(&self, groups: Vec<String>) -> PortFuture<Vec<Result<GroupDescription, KafkaError>>>;

    /// What a group has committed: for `partitions`, or for all for which it has committed something, by topic and
    /// partition.
    fn committed(
        &self,
        group: String,
        partitions: Option<Vec<TopicPartition>>,
    ) -> PortFuture<Vec<Result<Committed, KafkaError>>>;

    /// Commits for a group without being a member of it. The broker refuses where the group has members.
    fn commit(&self, group: String, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>>;

    /// Takes back what a group has committed for partitions. The broker refuses where a member subscribes to the topic.
    fn delete_offsets(&self, group: String, partitions: Vec<TopicPartition>) -> PortFuture<Vec<CommitOutcome>>;

    /// Deletes groups with all that they committed. The broker refuses where a group has members.
    fn delete_groups(&self, groups: Vec<String>) -> PortFuture<Vec<Result<(), KafkaError>>>;
}
