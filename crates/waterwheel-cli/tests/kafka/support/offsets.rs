//! What the broker says of a group and of a topic's ends, by a client that is not ours.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{Kafka, PATIENCE, wait_for};

/// What a group has committed for a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) offset: Option<i64>,
    pub(crate) metadata: String,
}

impl Kafka {
    fn consumer(&self, group: &str) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("group.id", group).set("enable.auto.commit", "false");
        config.create().expect("a consumer")
    }

    /// What the group has committed, by partition.
    pub(crate) fn committed(&self, group: &str, topic: &str, partitions: i32) -> Vec<Committed> {
        let mut list = TopicPartitionList::new();
        list.add_partition_range(topic, 0, partitions - 1);
        let consumer = self.consumer(group);
        // The group's coordinator may be moving.
        let list = wait_for(PATIENCE, "the group's committed offsets", || {
            consumer.committed_offsets(list.clone(), Duration::from_secs(5)).ok()
        });
        let committed = list.elements().into_iter().map(|element| Committed {
            offset: match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            },
            metadata: element.metadata().to_owned(),
        });
        committed.collect()
    }

    /// How many members a classic group has, if it is not rebalancing.
    pub(crate) fn settled_members(&self, group: &str) -> Option<usize> {
        let list = self.consumer(group).fetch_group_list(Some(group), Duration::from_secs(5)).ok()?;
        list.groups().iter().find(|found| found.state() == "Stable").map(|found| found.members().len())
    }

    /// Commits for a group that has no members, with that metadata.
    pub(crate) fn commit(&self, group: &str, topic: &str, commits: &[(i32, i64, &str)]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset, metadata) in commits {
            let mut element = list.add_partition(topic, *partition);
            element.set_offset(Offset::Offset(*offset)).expect("a plain offset");
            element.set_metadata(*metadata);
        }
        let consumer = self.consumer(group);
        wait_for(PATIENCE, "a commit by another tool", || consumer.commit(&list, CommitMode::Sync).ok());
    }

    /// How many members the group has, in the classic protocol.
    pub(crate) fn members(&self, group: &str) -> usize {
        let consumer = self.consumer("nobody");
        wait_for(PATIENCE, "the group's members", || {
            let groups = consumer.fetch_group_list(Some(group), Duration::from_secs(5)).ok()?;
            groups.groups().iter().find(|found| found.name() == group).map(|found| found.members().len())
        })
    }

    /// The number of the broker that coordinates the group.
    pub(crate) fn coordinator(&self, group: &str) -> usize {
        self.coordinates("__consumer_offsets", group)
    }

    /// The number of the broker that coordinates the transactions of an id, once there was one.
    pub(crate) fn transaction_coordinator(&self, id: &str) -> usize {
        self.coordinates("__transaction_state", id)
    }

    fn coordinates(&self, log: &str, name: &str) -> usize {
        // Java's String.hashCode, as the brokers reckon.
        let hash = name.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
        let consumer = self.consumer("nobody");
        wait_for(PATIENCE, "the coordinator", || {
            let metadata = consumer.fetch_metadata(Some(log), Duration::from_secs(5)).ok()?;
            let partitions = metadata.topics().first()?.partitions();
            let number = i32::try_from(hash.unsigned_abs() as usize % partitions.len()).ok()?;
            let partition = partitions.iter().find(|partition| partition.id() == number)?;
            usize::try_from(partition.leader()).ok()
        })
    }

    /// Whether the group has committed these offsets, by partition; where there is none, 0 is meant.
    pub(crate) fn has_committed(&self, group: &str, topic: &str, offsets: &[i64]) -> bool {
        let committed = self.committed(group, topic, offsets.len() as i32);
        committed.iter().map(|committed| committed.offset.unwrap_or(0)).eq(offsets.iter().copied())
    }

    /// The offset after the last record, by partition.
    pub(crate) fn ends(&self, topic: &str, partitions: i32) -> Vec<i64> {
        let consumer = self.consumer("nobody");
        let end = |partition| {
            wait_for(PATIENCE, "the end of a partition", || {
                consumer.fetch_watermarks(topic, partition, Duration::from_secs(5)).ok()
            })
        };
        (0..partitions).map(|partition| end(partition).1).collect()
    }
}
