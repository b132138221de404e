//! What the ports promise: one suite for every backend. It runs on the memory cluster, on librdkafka with its mock cluster,
//! and on librdkafka with a real Kafka where `WATERWHEEL_BOOTSTRAP` names one. What only one of them can is tested there.

mod admin;
mod fetch;
mod group;
mod produce;
mod topics;
mod transactions;

use std::collections::hash_map::RandomState;
use std::future::poll_fn;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;
use waterwheel_core::{Epoch, PartitionId};

use super::librdkafka::Librdkafka;
use super::librdkafka::mock::MockCluster;
use super::memory::Memory;
use super::memory::control::{Control, Request};
use super::{
    Admin, Backend, FetchQueue, Fetched, Fetcher, Membership, Outgoing, Parcel, Producer, Properties, SendError,
    SentAll,
};
use crate::record::{Assignment, Record, TopicPartition};

/// A cluster to test on.
pub(super) struct Kafka {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) bootstrap: String,
    pub(super) mock: Option<MockCluster>,
    pub(super) memory: Option<Control>,
}

impl Kafka {
    pub(super) fn mock() -> Self {
        let mock = MockCluster::start(1).unwrap();
        mock.initial_rebalance_delay(Duration::from_millis(100));
        Self {
            backend: Arc::new(Librdkafka::new(None, None)),
            bootstrap: mock.bootstrap(),
            mock: Some(mock),
            memory: None,
        }
    }

    pub(super) fn real() -> Option<Self> {
        let bootstrap = std::env::var("WATERWHEEL_BOOTSTRAP").ok()?;
        Some(Self { backend: Arc::new(Librdkafka::new(None, None)), bootstrap, mock: None, memory: None })
    }

    /// Within a runtime. Its requests take a moment, as those of the others do.
    fn memory() -> Self {
        let control = Control::default();
        for request in [
            Request::Fetch,
            Request::Produce,
            Request::Commit,
            Request::Join,
            Request::Describe,
            Request::Groups,
            Request::EndTransaction,
            Request::AddOffsets,
        ] {
            control.slow(request, Duration::from_millis(1));
        }
        let backend = Arc::new(Memory::new(control.world.clone(), 1));
        Self { backend, bootstrap: "memory:9092".to_owned(), mock: None, memory: Some(control) }
    }

    pub(super) fn properties(&self, more: &[(&str, &str)]) -> Properties {
        let own = [("bootstrap.servers", self.bootstrap.as_str())];
        own.iter().chain(more).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn admin(&self) -> Arc<dyn Admin> {
        self.backend.admin(&self.properties(&[])).unwrap()
    }

    pub(super) fn producer(&self, more: &[(&str, &str)]) -> Arc<dyn Producer> {
        self.backend.producer(&self.properties(more)).unwrap()
    }

    pub(super) fn fetcher(&self, more: &[(&str, &str)]) -> Arc<dyn Fetcher> {
        self.backend.fetcher(&self.properties(more)).unwrap()
    }

    pub(super) fn membership(&self, properties: &[(&str, &str)], topic: &str) -> Arc<dyn Membership> {
        self.backend.membership(&self.properties(properties), &[topic.to_owned()]).unwrap()
    }

    /// A topic that no other test uses.
    pub(super) async fn topic(&self, partitions: usize) -> String {
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
    pub(super) async fn fill(&self, topic: &str, partition: i32, count: usize) {
        let producer = self.producer(&[]);
        let record = |i| outgoing(topic, partition, &format!("k{i}"), &format!("v{i}"));
        for sent in send(&*producer, (0..count).map(record).collect()).await {
            sent.unwrap();
        }
        producer.close().await.unwrap();
    }
}

pub(super) fn unique(what: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{:x}-{n}", RandomState::new().hash_one(n))
}

pub(super) fn outgoing(topic: &str, partition: i32, key: &str, value: &str) -> Outgoing {
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
pub(super) async fn send(producer: &dyn Producer, records: Vec<Outgoing>) -> Vec<Result<(i32, i64), SendError>> {
    let put_in = |record| {
        let (to, answer) = oneshot::channel();
        producer.send(Parcel::One(record, to));
        answer
    };
    let answers: Vec<_> = records.into_iter().map(put_in).collect();
    let mut sent = Vec::new();
    for answer in answers {
        let sent_to = answer.await.unwrap().map_err(|unsent| unsent.why);
        sent.push(sent_to.map(|at| (at.partition, at.offset.unwrap())));
    }
    sent
}

/// Sends all as one parcel.
pub(super) fn send_all(producer: &dyn Producer, records: Vec<Outgoing>) -> oneshot::Receiver<SentAll> {
    let (to, answer) = oneshot::channel();
    producer.send(Parcel::Many(records, to));
    answer
}

pub(super) fn assignment(id: u32, epoch: u64, topic: &str, partition: i32) -> Arc<Assignment> {
    Assignment::new(PartitionId(id), Epoch(epoch), TopicPartition::new(topic, partition))
}

pub(super) async fn next(queue: &mut dyn FetchQueue) -> Fetched {
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
pub(super) async fn records(queue: &mut dyn FetchQueue, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        match next(queue).await {
            Fetched::Batch(batch) => records.extend((0..batch.len() as u32).map(|i| batch.record(i))),
            other => panic!("{other:?}"),
        }
    }
    records
}

pub(super) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(90), test).await })
        .expect("the test should have ended by now");
}

/// Time passes when everything waits.
pub(super) fn run_in_memory(test: impl AsyncFnOnce(Kafka)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(600), test(Kafka::memory())).await })
        .expect("the test should have ended by now");
}

/// Makes of each `async fn(Kafka)` a test on the memory cluster, one on the mock cluster and one on a real Kafka.
macro_rules! on_every_cluster {
    ($($test:ident)*) => {
        mod memory {
            $(#[test] fn $test() { crate::client::tests::run_in_memory(super::$test); })*
        }
        mod mock {
            $(#[test] fn $test() { crate::client::tests::run(super::$test(crate::client::tests::Kafka::mock())); })*
        }
        mod real {
            $(#[test] fn $test() {
                match crate::client::tests::Kafka::real() {
                    Some(kafka) => crate::client::tests::run(super::$test(kafka)),
                    None => println!("no WATERWHEEL_BOOTSTRAP: not run"),
                }
            })*
        }
    };
}
use on_every_cluster;
