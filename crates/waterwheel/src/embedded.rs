//! A small Kafka inside this process, for trying things out: librdkafka's mock cluster, reachable over TCP.
//!
//! Any client can connect to it. It is no broker to keep data in:
//!
//! * it keeps 5 MiB and 100,000 batches a partition and drops the oldest beyond that, silently;
//! * it knows no transactions (markers are not written, aborted records are read) and no administration: topics are made
//!   by [`Cluster::create_topic`] or by asking for their metadata;
//! * while a classic group rebalances it refuses commits, which a real Kafka accepts; with `group.protocol=consumer` it
//!   accepts them, so hand-over is seen as it is on a real Kafka only with that.
//!
//! Facts from librdkafka 2.12.1 (`rdkafka_mock.c`, `rdkafka_mock_cgrp.c`) and measured.

use std::sync::Arc;
use std::time::Duration;

use crate::client::librdkafka::mock::MockCluster;
use crate::error::KafkaError;

/// An in-process cluster; it ends when the last clone is dropped.
#[derive(Clone)]
pub struct Cluster(Arc<MockCluster>);

impl Cluster {
    /// Starts that many brokers on ports of the loopback interface. Groups begin without the usual wait of three seconds,
    /// and members of a `group.protocol=consumer` group hear of a change within half a second.
    pub fn start(brokers: usize) -> Result<Self, KafkaError> {
        let cluster = MockCluster::start(brokers)?;
        cluster.initial_rebalance_delay(Duration::ZERO);
        cluster.group_heartbeat_interval(Duration::from_millis(500));
        Ok(Self(Arc::new(cluster)))
    }

    /// Where it can be reached, as `bootstrap.servers` wants it.
    pub fn bootstrap_servers(&self) -> String {
        self.0.bootstrap()
    }

    /// Makes a topic.
    pub fn create_topic(&self, name: &str, partitions: usize) -> Result<(), KafkaError> {
        self.0.create_topic(name, partitions)
    }
}
