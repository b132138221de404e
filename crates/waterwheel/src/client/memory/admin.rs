//! Questions and changes that concern topics and groups.

use std::sync::Arc;
use std::time::Duration;

use super::error;
use super::faults::Request;
use super::groups::{ALLOWED, BROKER};
use super::log::Written;
use super::reads_committed;
use super::refusal::UNSUPPORTED_VERSION;
use super::world::{Topic, World};
use crate::client::{
    Acl, AclFilter, Admin, BrokerDescription, ClusterDescription, Commit, CommitOutcome, Committed, ConfigChanges,
    ConfigEntry, ConfigResource, Deletion, GroupDescription, GroupList, Isolation, ListedOffset, Mode, NewPartitions,
    NewTopic, OffsetSpec, Operation, PartitionDescription, PortFuture, Properties, ScramChange, ScramUser,
    TopicDescription, WorldTime,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// Asks and changes.
pub(super) struct AdminClient {
    world: Arc<World>,
    host: u32,
    /// Whether "latest" is the last stable offset.
    committed: bool,
}

impl AdminClient {
    pub(super) fn new(world: Arc<World>, host: u32, properties: &Properties) -> Self {
        Self { world, host, committed: reads_committed(properties) }
    }
}

fn partitions(topic: &Topic) -> Vec<PartitionDescription> {
    let one = PartitionDescription { leader: Some(BROKER), replicas: vec![BROKER], in_sync: vec![BROKER] };
    vec![one; topic.logs.len()]
}

impl Admin for AdminClient {
    fn time(&self) -> Option<WorldTime> {
        Some(self.world.time())
    }

    fn trouble(&self) -> Option<KafkaError> {
        let reached = self.world.look(|state| state.faults.reaches_brokers(self.host));
        (!reached).then(|| error(code::LOCAL_TRANSPORT, "cut off"))
    }

    fn describe_cluster(&self) -> PortFuture<ClusterDescription> {
        self.world.ask(self.host, Request::Describe, |_| {
            let broker = BrokerDescription { id: BROKER, host: "memory".to_owned(), port: 9092 };
            Ok(ClusterDescription { id: Some("memory".to_owned()), brokers: vec![broker], controller: Some(BROKER) })
        })
    }

    fn ask_broker(&self, _: i32) -> PortFuture<()> {
        self.world.ask(self.host, Request::Describe, |_| Ok(()))
    }

    fn list_topics(&self) -> PortFuture<Vec<String>> {
        self.world.ask(self.host, Request::Describe, |state| Ok(state.topics.keys().map(|t| t.to_string()).collect()))
    }

    fn allowed_on_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<Option<Vec<Operation>>, KafkaError>>> {
        self.world.ask(self.host, Request::Describe, |state| {
            let allowed = |name: String| match state.topics.contains_key(name.as_str()) {
                true => Ok(Some(ALLOWED.to_vec())),
                false => Err(error(code::UNKNOWN_TOPIC_OR_PARTITION, name)),
            };
            Ok(topics.into_iter().map(allowed).collect())
        })
    }

    fn list_groups(&self) -> PortFuture<GroupList> {
        self.world.ask_group(self.host, Request::Groups, |state| {
            Ok(GroupList { groups: state.list_groups(), failures: Vec::new() })
        })
    }

    fn describe_groups(&self, groups: Vec<String>) -> PortFuture<Vec<Result<GroupDescription, KafkaError>>> {
        self.world.ask_group(self.host, Request::Groups, move |state| {
            Ok(groups.iter().map(|group| state.describe_group(group)).collect())
        })
    }

    fn committed(
        &self,
        group: String,
        partitions: Option<Vec<TopicPartition>>,
    ) -> PortFuture<Vec<Result<Committed, KafkaError>>> {
        self.world.ask_group(self.host, Request::Committed, move |state| {
            Ok(state.committed_by(&group, partitions).into_iter().map(Ok).collect())
        })
    }

    fn commit(&self, group: String, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>> {
        self.world.ask_group(self.host, Request::Commit, move |state| Ok(state.commit_from_outside(&group, commits)))
    }

    fn delete_offsets(&self, group: String, partitions: Vec<TopicPartition>) -> PortFuture<Vec<CommitOutcome>> {
        self.world.ask_group(self.host, Request::Groups, move |state| state.delete_offsets(&group, partitions))
    }

    fn delete_groups(&self, groups: Vec<String>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.world.ask_group(self.host, Request::Groups, move |state| {
            Ok(groups.iter().map(|group| state.delete_group(group)).collect())
        })
    }

    fn describe_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<TopicDescription, KafkaError>>> {
        self.world.ask(self.host, Request::Describe, |state| {
            let describe = |name: String| match state.topics.get(name.as_str()) {
                Some(topic) => Ok(TopicDescription { id: Some(topic.id), partitions: partitions(topic), name }),
                None => Err(error(code::UNKNOWN_TOPIC_OR_PARTITION, name)),
            };
            Ok(topics.into_iter().map(describe).collect())
        })
    }

    fn find_offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Option<Isolation>,
    ) -> PortFuture<Vec<Result<ListedOffset, KafkaError>>> {
        let committed = isolation.map_or(self.committed, |isolation| isolation == Isolation::ReadCommitted);
        self.world.ask(self.host, Request::Offsets, move |state| {
            let find = |(partition, spec): (TopicPartition, OffsetSpec)| {
                let missing = || error(code::UNKNOWN_TOPIC_OR_PARTITION, partition.to_string());
                let log = state.log(&partition).ok_or_else(missing)?;
                let at = |offset| ListedOffset { offset: Some(offset), timestamp: None };
                let of = |record: Option<&Written>| ListedOffset {
                    offset: record.map(|r| r.offset),
                    timestamp: record.map(|r| r.timestamp),
                };
                Ok(match spec {
                    OffsetSpec::Earliest => at(log.start()),
                    OffsetSpec::Latest => at(log.end(committed)),
                    OffsetSpec::Timestamp(time) => of(log.at_time(time, committed)),
                    OffsetSpec::MaxTimestamp => of(log.latest_by_time(committed)),
                })
            };
            Ok(of.into_iter().map(find).collect())
        })
    }

    fn list_offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> PortFuture<Vec<Result<i64, KafkaError>>> {
        let committed = self.committed;
        let partitions: Vec<_> = of.iter().map(|(partition, _)| partition.clone()).collect();
        let (found, world) = (self.find_offsets(of, None), self.world.clone());
        Box::pin(async move {
            let found = found.await?;
            world.look(|state| {
                let known = |(found, partition): (Result<ListedOffset, KafkaError>, &TopicPartition)| {
                    let end = || state.log(partition).map_or(0, |log| log.end(committed));
                    found.map(|found| found.offset.unwrap_or_else(end))
                };
                Ok(found.into_iter().zip(&partitions).map(known).collect())
            })
        })
    }

    fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        mode: Mode,
        _timeout: Duration,
    ) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.world.ask(self.host, Request::CreateTopic, move |state| {
            Ok(topics.into_iter().map(|topic| state.create_topic(topic, mode)).collect())
        })
    }

    fn delete_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.world.ask(self.host, Request::Topics, move |state| {
            let delete = |name: String| match state.topics.contains_key(name.as_str()) {
                true => {
                    state.delete_topic(&name);
                    Ok(())
                }
                false => Err(error(code::UNKNOWN_TOPIC_OR_PARTITION, name)),
            };
            Ok(topics.into_iter().map(delete).collect())
        })
    }

    fn create_partitions(&self, of: Vec<NewPartitions>, mode: Mode) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.world.ask(self.host, Request::Topics, move |state| {
            Ok(of.into_iter().map(|wanted| state.create_partitions(&wanted, mode)).collect())
        })
    }

    fn delete_records(&self, of: Vec<Deletion>) -> PortFuture<Vec<Result<i64, KafkaError>>> {
        self.world.ask(self.host, Request::Topics, move |state| {
            Ok(of.into_iter().map(|(partition, below)| state.delete_records(&partition, below)).collect())
        })
    }

    fn configs(&self, of: Vec<ConfigResource>) -> PortFuture<Vec<Result<Vec<ConfigEntry>, KafkaError>>> {
        self.world.ask(self.host, Request::Describe, move |state| {
            Ok(of.iter().map(|resource| state.configs(resource)).collect())
        })
    }

    fn alter_configs(&self, changes: Vec<ConfigChanges>, mode: Mode) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.world.ask(self.host, Request::Topics, move |state| {
            Ok(changes.iter().map(|changes| state.alter_configs(changes, mode)).collect())
        })
    }

    fn acls(&self, _: AclFilter) -> PortFuture<Vec<Acl>> {
        unsupported()
    }

    fn create_acls(&self, _: Vec<Acl>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        unsupported()
    }

    fn delete_acls(&self, _: Vec<AclFilter>) -> PortFuture<Vec<Result<Vec<Acl>, KafkaError>>> {
        unsupported()
    }

    fn scram_users(&self, _: Option<Vec<String>>) -> PortFuture<Vec<Result<ScramUser, KafkaError>>> {
        unsupported()
    }

    fn alter_scram_users(&self, _: Vec<ScramChange>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        unsupported()
    }
}

/// The answer about access rules and users, which this cluster does not have.
fn unsupported<T: Send + 'static>() -> PortFuture<T> {
    Box::pin(std::future::ready(Err(error(UNSUPPORTED_VERSION, "access rules and users"))))
}
