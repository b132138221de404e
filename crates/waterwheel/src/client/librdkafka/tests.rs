//! What the ports promise, on librdkafka's mock cluster, and on a real Kafka where `WATERWHEEL_BOOTSTRAP` names one.

mod admin;
mod fetch;
mod group;
mod log;
mod produce;
mod speed;
mod wire;

use std::collections::hash_map::RandomState;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use waterwheel_core::{Epoch, PartitionId};

use super::Librdkafka;
use super::mock::MockCluster;
use crate::client::{
    Admin, Backend, FetchQueue, Fetched, Fetcher, Outgoing, Parcel, Producer, Properties, SendError, SentAll,
};
use crate::record::{Assignment, Record, TopicPartition};

/// A cluster to test on.
struct Kafka {
    bootstrap: String,
    mock: Option<MockCluster>,
}

impl Kafka {
    fn mock() -> Self {
        let mock = MockCluster::start(1).unwrap();
        mock.initial_rebalance_delay(Duration::from_millis(100));
        Self { bootstrap: mock.bootstrap(), mock: Some(mock) }
    }

    fn real() -> Option<Self> {
        Some(Self { bootstrap: std::env::var("WATERWHEEL_BOOTSTRAP").ok()?, mock: None })
    }

    fn properties(&self, more: &[(&str, &str)]) -> Properties {
        let own = [("bootstrap.servers", self.bootstrap.as_str())];
        own.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn admin(&self) -> Arc<dyn Admin> {
        Librdkafka.admin(&self.properties(&[])).unwrap()
    }

    fn producer(&self, more: &[(&str, &str)]) -> Arc<dyn Producer> {
        Librdkafka.producer(&self.properties(more)).unwrap()
    }

    fn fetcher(&self, more: &[(&str, &str)]) -> Arc<dyn Fetcher> {
        Librdkafka.fetcher(&self.properties(more)).unwrap()
    }

    /// A topic that no other test uses.
    async fn topic(&self, partitions: usize) -> String {
        let name = unique("topic");
        match &self.mock {
            Some(mock) => mock.create_topic(&name, partitions).unwrap(),
            None => {
                let admin = self.admin();
                admin.create_topic(name.clone(), partitions, Duration::from_secs(30)).await.unwrap();
                // Until every broker knows it.
                while admin.describe_topics(vec![name.clone()]).await.unwrap()[0].is_err() {}
            }
        }
        name
    }

    /// Writes `count` records `v<i>` with keys `k<i>` to a partition.
    async fn fill(&self, topic: &str, partition: i32, count: usize) {
        let producer = self.producer(&[]);
        let record = |i| outgoing(topic, partition, &format!("k{i}"), &format!("v{i}"));
        for sent in send(&*producer, (0..count).map(record).collect()).await {
            sent.unwrap();
        }
        producer.close().await.unwrap();
    }
}

fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{:x}-{n}", RandomState::new().hash_one(n))
}

fn outgoing(topic: &str, partition: i32, key: &str, value: &str) -> Outgoing {
    Outgoing {
        topic: topic.into(),
        partition: Some(partition),
        key: Some(key.as_bytes().into()),
        value: Some(value.as_bytes().into()),
        headers: Vec::new(),
        timestamp: None,
    }
}

/// Sends all, one by one, and waits for all answers.
async fn send(producer: &dyn Producer, records: Vec<Outgoing>) -> Vec<Result<(i32, i64), SendError>> {
    let put_in = |record| {
        let (to, answer) = oneshot::channel();
        producer.send(Parcel::One(record, to));
        answer
    };
    let answers: Vec<_> = records.into_iter().map(put_in).collect();
    let mut sent = Vec::new();
    for answer in answers {
        sent.push(answer.await.unwrap().map_err(|unsent| unsent.why));
    }
    sent
}

/// Sends all as one parcel.
fn send_all(producer: &dyn Producer, records: Vec<Outgoing>) -> oneshot::Receiver<SentAll> {
    let (to, answer) = oneshot::channel();
    producer.send(Parcel::Many(records, to));
    answer
}

fn assignment(id: u32, epoch: u64, topic: &str, partition: i32) -> Arc<Assignment> {
    Assignment::new(PartitionId(id), Epoch(epoch), TopicPartition::new(topic, partition))
}

async fn next(queue: &mut dyn FetchQueue) -> Fetched {
    loop {
        match poll_fn(|cx| queue.poll_fetch(cx)).await {
            // A broker that is being found, and so on.
            Fetched::Trouble { error, .. } => println!("trouble: {error}"),
            Fetched::SkippedTo { .. } => {}
            item => return item,
        }
    }
}

/// The next `count` records of a queue; anything else fails.
async fn records(queue: &mut dyn FetchQueue, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        match next(queue).await {
            Fetched::Batch(batch) => records.extend((0..batch.len() as u32).map(|i| batch.record(i))),
            other => panic!("{other:?}"),
        }
    }
    records
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(90), test).await })
        .expect("the test should have ended by now");
}

/// Makes of each `async fn(Kafka)` a test on the mock cluster and one on a real Kafka.
macro_rules! on_every_cluster {
    ($($test:ident)*) => {
        mod mock {
            $(#[test] fn $test() { super::super::run(super::$test(super::Kafka::mock())); })*
        }
        mod real {
            $(#[test] fn $test() {
                match super::Kafka::real() {
                    Some(kafka) => super::super::run(super::$test(kafka)),
                    None => println!("no WATERWHEEL_BOOTSTRAP: not run"),
                }
            })*
        }
    };
}
use on_every_cluster;
