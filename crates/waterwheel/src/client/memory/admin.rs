//! Questions and changes that concern topics.

use std::sync::Arc;
use std::time::Duration;

use super::error;
use super::faults::Request;
use super::reads_committed;
use super::world::World;
use crate::client::{Admin, OffsetSpec, PortFuture, Properties, TopicDescription};
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

impl Admin for AdminClient {
    fn describe_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<TopicDescription, KafkaError>>> {
        self.world.ask(self.host, Request::Describe, |state| {
            let describe = |name: String| match state.topics.get(name.as_str()) {
                Some(topic) => Ok(TopicDescription { id: Some(topic.id), partitions: topic.logs.len(), name }),
                None => Err(error(code::UNKNOWN_TOPIC_OR_PARTITION, name)),
            };
            Ok(topics.into_iter().map(describe).collect())
        })
    }

    fn list_offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> PortFuture<Vec<Result<i64, KafkaError>>> {
        let committed = self.committed;
        self.world.ask(self.host, Request::Offsets, move |state| {
            let offset = |(partition, spec): (TopicPartition, OffsetSpec)| {
                let missing = || error(code::UNKNOWN_TOPIC_OR_PARTITION, partition.to_string());
                let log = state.log(&partition).ok_or_else(missing)?;
                Ok(match spec {
                    OffsetSpec::Earliest => log.start(),
                    OffsetSpec::Latest => log.end(committed),
                    OffsetSpec::Timestamp(time) => log.at_time(time, committed),
                })
            };
            Ok(of.into_iter().map(offset).collect())
        })
    }

    fn create_topic(&self, name: String, partitions: usize, _timeout: Duration) -> PortFuture<()> {
        self.world.ask(self.host, Request::CreateTopic, move |state| {
            let is_valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.len() > 249 || !name.chars().all(is_valid) {
                return Err(error(code::INVALID_TOPIC, name));
            }
            if !state.topics.contains_key(name.as_str()) {
                state.make_topic(&name, partitions);
            }
            Ok(())
        })
    }
}
