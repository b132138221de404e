//! What a test does to the cluster, and what it sees of it.

use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::{Epoch, PartitionId};

use super::faults::TESTS_HOST;
pub use super::faults::{Lasts, Reach, Request};
use super::log::Log;
use super::world::{State, World};
use crate::client::{Commit, Outgoing};
use crate::record::{Assignment, Record, TopicPartition};

/// A cluster in memory. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    pub(crate) world: Arc<World>,
}

/// The group's commit of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to read.
    pub offset: i64,
    /// What was committed with it.
    pub metadata: String,
}

/// A group as its coordinator sees it.
#[derive(Clone, Debug, Default)]
pub struct GroupView {
    /// Goes up with each assignment.
    pub generation: i32,
    /// Who has what, by host.
    pub owners: Vec<(TopicPartition, u32)>,
    /// Commits of partitions that their sender did not have.
    pub strays: Vec<(TopicPartition, i64)>,
}

impl Default for Control {
    fn default() -> Self {
        Self { world: World::new() }
    }
}

impl Control {
    /// The host of the test itself, which no fault is for.
    pub const TESTS_HOST: u32 = TESTS_HOST;

    /// Makes a topic, or adds partitions to one.
    pub fn topic(&self, name: &str, partitions: usize) {
        self.world.change(|state| state.make_topic(name, partitions));
    }

    /// Deletes a topic, and what groups have committed of it.
    pub fn delete_topic(&self, name: &str) {
        self.world.change(|state| state.delete_topic(name));
    }

    /// How many partitions a topic has; `None` where there is none of that name.
    pub fn partitions(&self, topic: &str) -> Option<usize> {
        self.world.look(|state| state.topics.get(topic).map(|topic| topic.logs.len()))
    }

    /// The records of a partition that a reader of what is committed sees.
    pub fn records(&self, partition: &TopicPartition) -> Vec<Record> {
        self.world.look(|state| {
            let Some(log) = state.log(partition) else { return Vec::new() };
            let of = Assignment::new(PartitionId(0), Epoch(0), partition.clone());
            let wanted = log.visible(true).map(|r| r.offset).collect();
            let (batches, _) = log.reread(&wanted, true, &of);
            batches.iter().flat_map(|batch| (0..batch.len() as u32).map(|i| batch.record(i))).collect()
        })
    }

    /// Where a partition's log begins, and where it ends.
    pub fn ends(&self, partition: &TopicPartition) -> Option<(i64, i64)> {
        self.world.look(|state| state.log(partition).map(|log| (log.start(), log.end(false))))
    }

    fn on_log(&self, partition: &TopicPartition, change: impl FnOnce(&mut Log)) {
        self.world.change(|state| {
            if let Some(log) = state.log_mut(partition) {
                change(log);
            }
        });
    }

    /// Leaves of each key the last record, if that has a value.
    pub fn compact(&self, partition: &TopicPartition) {
        self.on_log(partition, Log::compact);
    }

    /// Deletes the records below an offset.
    pub fn delete_below(&self, partition: &TopicPartition, offset: i64) {
        self.on_log(partition, |log| log.delete_below(offset));
    }

    /// Makes another leader, whose log ends at `end` at the latest.
    pub fn new_leader(&self, partition: &TopicPartition, end: i64) {
        self.on_log(partition, |log| log.new_leader(end));
    }

    /// Begins a transaction; its number.
    pub fn begin(&self) -> u64 {
        self.world.look(State::number)
    }

    /// Writes a record in a transaction; its offset.
    pub fn write_in(&self, transaction: u64, to: &TopicPartition, key: &[u8], value: &[u8]) -> Option<i64> {
        let record = Outgoing {
            topic: to.topic.clone(),
            partition: Some(to.partition),
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
            timestamp: None,
        };
        self.world.change(|state| {
            let now = state.wall_ms;
            Some(state.log_mut(to)?.append(&record, now, Some(transaction)))
        })
    }

    /// Ends a transaction, with a marker in each partition that it wrote to.
    pub fn end(&self, transaction: u64, commits: bool) {
        self.world.change(|state| state.end_transaction(transaction, commits));
    }

    /// Makes requests of a kind fail with a code (Kafka's, or librdkafka's negative ones).
    pub fn fail(&self, request: Request, code: i32, lasts: Lasts) {
        self.world.change(|state| state.faults.fail(request, code, lasts, state.now));
    }

    /// Makes requests of a kind take that long from now on.
    pub fn slow(&self, request: Request, latency: Duration) {
        self.world.change(|state| state.faults.slow(request, latency));
    }

    /// Cuts a host off. Its members' sessions expire.
    pub fn cut_off(&self, host: u32, reach: Reach) {
        self.world.change(|state| {
            state.faults.cut_off(host, reach, state.now);
            state.watch_sessions(host);
        });
    }

    /// Ends that.
    pub fn heal(&self, host: u32) {
        self.world.change(|state| {
            state.faults.heal(host);
            state.hear_what_was_sent(host);
            let of_host = state.seats.iter().filter(|(_, seat)| seat.host == host);
            let numbers: Vec<u64> = of_host.map(|(number, _)| *number).collect();
            numbers.into_iter().for_each(|number| state.hear(number));
        });
    }

    /// A group, if there is one of that name.
    pub fn group(&self, name: &str) -> Option<GroupView> {
        self.world.look(|state| {
            let group = state.groups.get(name)?;
            let host = |seat: &u64| state.seats.get(seat).map_or(TESTS_HOST, |seat| seat.host);
            Some(GroupView {
                generation: group.generation(),
                owners: group.owners.iter().map(|(p, seat)| (p.clone(), host(seat))).collect(),
                strays: group.strays.clone(),
            })
        })
    }

    /// Gives as many partitions of a group as possible to others than before.
    pub fn shuffle(&self, group: &str) {
        self.world.change(|state| state.shuffle(group));
    }

    /// Gives a partition to the member of that host, and keeps it there.
    pub fn pin(&self, group: &str, partition: &TopicPartition, host: u32) {
        self.world.change(|state| {
            let member = state.seats.iter().find(|(_, seat)| seat.host == host && seat.group == group);
            let Some(member) = member.map(|(number, _)| *number) else { return };
            if let Some(group) = state.groups.get_mut(group) {
                group.pins.insert(partition.clone(), member);
            }
            state.rebalance(group);
        });
    }

    /// Throws a host's members out of a group: they lose everything at once, and join again.
    pub fn evict(&self, group: &str, host: u32) {
        self.world.change(|state| {
            let of_host = state.seats.iter().filter(|(_, seat)| seat.host == host && seat.group == group);
            let numbers: Vec<u64> = of_host.map(|(number, _)| *number).collect();
            numbers.into_iter().for_each(|number| state.evict(group, number));
        });
    }

    /// What a group has committed of a partition.
    pub fn committed(&self, group: &str, partition: &TopicPartition) -> Option<CommittedOffset> {
        self.world.look(|state| {
            let committed = state.groups.get(group)?.committed(partition);
            Some(CommittedOffset { offset: committed.offset?, metadata: committed.metadata })
        })
    }

    /// Commits as another tool would.
    pub fn commit(&self, group: &str, partition: &TopicPartition, offset: i64, metadata: &str) {
        let commit = Commit { partition: partition.clone(), offset, leader_epoch: None, metadata: metadata.to_owned() };
        self.world.change(|state| state.groups.entry(group.to_owned()).or_default().keep(commit));
    }
}
