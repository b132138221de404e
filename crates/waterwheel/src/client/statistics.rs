//! Statistics of one client, decoded.

use std::time::Duration;

use super::ClientRole;

/// Figures of one client. Counts are since it was made.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ClientStatistics {
    /// What the client does.
    pub role: ClientRole,
    /// Its `client.id`.
    pub client_id: String,
    /// What tells it from others in this process.
    pub instance: String,
    /// How long it has been there.
    pub age: Duration,
    /// Records that wait to be sent or acknowledged.
    pub queued_records: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Records acknowledged by brokers.
    pub sent_records: u64,
    /// Bytes of records (without their protocol) acknowledged by brokers.
    pub sent_record_bytes: u64,
    /// Records read from brokers.
    pub received_records: u64,
    /// Bytes of them.
    pub received_record_bytes: u64,
    /// The brokers it knows, by id.
    pub brokers: Vec<BrokerStatistics>,
    /// Partitions that it reads or writes, by topic and partition.
    pub partitions: Vec<PartitionStatistics>,
}

/// Figures of a client's connection to one broker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct BrokerStatistics {
    /// The broker's number.
    pub id: i32,
    /// Where it is, `host:port`.
    pub address: String,
    /// librdkafka's word: `UP`, `DOWN`, `CONNECT`, …
    pub state: String,
    /// Requests sent.
    pub requests: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Requests that failed, or were not answered in time.
    pub errors: u64,
    /// Connections made or tried.
    pub connects: u64,
    /// Requests that wait for their answer.
    pub waiting: u64,
    /// From a request to its answer, on the average of the last interval; `None` without a request.
    pub round_trip: Option<Duration>,
    /// The longest time that the broker made it wait in the last interval; zero without one.
    pub throttle: Duration,
}

/// Figures of one partition.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PartitionStatistics {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The broker that leads it; `None` while it is not known.
    pub leader: Option<i32>,
    /// Records fetched that nobody has taken yet.
    pub fetched: u64,
    /// Bytes of them.
    pub fetched_bytes: u64,
    /// Records that wait to be sent.
    pub queued: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
}

/// Who publishes statistics.
pub(crate) trait StatisticsListener: Send + Sync {
    fn told(&self, statistics: &ClientStatistics);
    /// The instance tells no more.
    fn ended(&self, instance: &str);
}
