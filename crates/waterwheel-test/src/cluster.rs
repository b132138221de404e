//! The cluster: topics, records, faults, groups.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use waterwheel::memory::{CommittedOffset, Control, Lasts, Request};
use waterwheel::{Client, Delivered, ProducerRecord, Record, TopicPartition};

use crate::host::Host;
use crate::transaction::Transaction;

/// A small Kafka in memory. Cheap to clone; what it holds is gone with the last clone and the last client.
///
/// To be made and used within a Tokio runtime with timers; see the crate's documentation on its time.
#[derive(Clone)]
pub struct Cluster {
    pub(crate) control: Control,
    next_host: Arc<AtomicU32>,
    pub(crate) patience: Duration,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A cluster without topics.
    pub fn new() -> Self {
        let next_host = Arc::new(AtomicU32::new(Control::TESTS_HOST + 1));
        Self { control: Control::default(), next_host, patience: Duration::from_secs(60) }
    }

    /// Makes a topic with that many partitions, or adds partitions to the one that there is.
    #[must_use]
    pub fn topic(self, name: &str, partitions: usize) -> Self {
        self.add_topic(name, partitions);
        self
    }

    /// How long an assertion waits for what it asserts. Default: 60 s, by the runtime's clock.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes a topic, or adds partitions, while clients are at work.
    pub fn add_topic(&self, name: &str, partitions: usize) {
        self.control.topic(name, partitions);
    }

    /// Deletes a topic and what groups have committed of it. Made again under the same name it is another topic.
    pub fn delete_topic(&self, name: &str) {
        self.control.delete_topic(name);
    }

    /// A client on a host of its own, with default settings. See [`host`](Self::host) for one that can be cut off.
    pub fn client(&self) -> Client {
        self.host().client()
    }

    /// A host: where clients run, and what can be cut off from the cluster or killed.
    pub fn host(&self) -> Host {
        Host::new(self.control.clone(), self.next_host.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets time pass: whatever is due meanwhile happens, in its order. With a clock that is not paused it waits.
    ///
    /// Dropping the future leaves the time where it is by then.
    pub async fn advance(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    // ---- records ------------------------------------------------------------------------------------------------

    /// Writes a record, to the partition of its key. No fault is in its way.
    ///
    /// # Panics
    /// Where the topic does not exist. Dropping the future may leave the record written or not.
    pub async fn produce(&self, topic: &str, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Delivered {
        self.produce_record(ProducerRecord::to(topic).key(key).value(value)).await
    }

    /// Writes a record with all that it may have: headers, a time, a partition, no key, no value.
    ///
    /// # Panics
    /// Where the topic or the partition does not exist. Dropping the future may leave the record written or not.
    #[expect(clippy::panic, reason = "ends the test")]
    pub async fn produce_record(&self, record: ProducerRecord) -> Delivered {
        if self.control.partitions(record.topic()).is_none() {
            panic!("the cluster has no topic {}: make it with Cluster::topic", record.topic());
        }
        let client = Host::new(self.control.clone(), Control::TESTS_HOST).client();
        let sent = match client.producer() {
            Ok(producer) => producer.send(record).await,
            Err(error) => panic!("no producer: {error}"),
        };
        sent.unwrap_or_else(|failure| panic!("the record was not written: {failure}"))
    }

    /// Begins a transaction that writes.
    pub fn begin(&self) -> Transaction {
        Transaction::new(self.control.clone())
    }

    /// The records of a topic that a reader of what is committed sees, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        self.partitions(topic).iter().flat_map(|partition| self.control.records(partition)).collect()
    }

    pub(crate) fn partitions(&self, topic: &str) -> Vec<TopicPartition> {
        let partitions = i32::try_from(self.control.partitions(topic).unwrap_or_default()).unwrap_or(i32::MAX);
        (0..partitions).map(|n| TopicPartition::new(topic, n)).collect()
    }

    /// Compacts a partition: of each key the last record stays, if it has a value.
    pub fn compact(&self, topic: &str, partition: i32) {
        self.control.compact(&TopicPartition::new(topic, partition));
    }

    /// Deletes a partition's records below an offset, as retention does.
    pub fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        self.control.delete_below(&TopicPartition::new(topic, partition), below);
    }

    /// Gives a partition another leader, under the next leader epoch, that has its records below `end` only: what other
    /// leaders acknowledged from there on is lost, as by an unclean election. `i64::MAX` loses nothing.
    pub fn change_leader(&self, topic: &str, partition: i32, end: i64) {
        self.control.new_leader(&TopicPartition::new(topic, partition), end);
    }

    // ---- faults -------------------------------------------------------------------------------------------------

    /// Makes requests of a kind fail with an error code: Kafka's (positive) or librdkafka's (negative). Those that a client
    /// repeats by itself are repeated. [`produce`](Self::produce) and the assertions meet no fault.
    pub fn fail(&self, request: Request, code: i32, lasts: Lasts) {
        self.control.fail(request, code, lasts);
    }

    /// Makes requests of a kind take that long from now on; [`Duration::ZERO`], the default, ends that.
    pub fn slow(&self, request: Request, latency: Duration) {
        self.control.slow(request, latency);
    }

    // ---- groups -------------------------------------------------------------------------------------------------

    /// Makes a group rebalance so that as many partitions as possible go to other members.
    pub fn rebalance(&self, group: &str) {
        self.control.shuffle(group);
    }

    /// Moves a partition to the group's member on that host, and keeps it there for as long as it is a member.
    pub fn move_to(&self, group: &str, topic: &str, partition: i32, host: &Host) {
        self.control.pin(group, &TopicPartition::new(topic, partition), host.number());
    }

    /// Throws the group's members on that host out, as if their sessions had expired unnoticed: they lose their partitions
    /// at once, without a drain, and join again.
    pub fn throw_out(&self, group: &str, host: &Host) {
        self.control.evict(group, host.number());
    }

    /// The group's generation, which goes up each time that it gives partitions to members; 0 for a group that never did.
    pub fn generation(&self, group: &str) -> i32 {
        self.control.group(group).map_or(0, |group| group.generation)
    }

    /// The partitions that a group has given to members on that host.
    pub fn assigned(&self, group: &str, host: &Host) -> Vec<TopicPartition> {
        let owners = self.control.group(group).unwrap_or_default().owners.into_iter();
        owners.filter(|(_, owner)| *owner == host.number()).map(|(partition, _)| partition).collect()
    }

    /// Commits that members sent for partitions that they did not have, with their offsets. A worker sends none.
    pub fn stray_commits(&self, group: &str) -> Vec<(TopicPartition, i64)> {
        self.control.group(group).unwrap_or_default().strays
    }

    /// What a group has committed for a partition; `None` where that is nothing.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<CommittedOffset> {
        self.control.committed(group, &TopicPartition::new(topic, partition))
    }

    /// Commits for a group, as a tool from outside would.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        self.control.commit(group, &TopicPartition::new(topic, partition), offset, metadata);
    }
}
