//! What the tests share: a cluster, records in and out, workers that run, waiting for conditions.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use waterwheel::embedded::Cluster;
use waterwheel::{
    BatchHandler, BatchWorker, Client, Decode, Event, Failure, Handler, Message, Producer, ProducerRecord, Record,
    Report, RunError, Subscription, Transform, TransformWorker, Worker, WorkerBuilder, WorkerHandle, WorkerState,
};

/// No test takes longer; most end within a second.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The cluster of all tests.
pub(crate) fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::start(1).unwrap())
}

pub(crate) fn client() -> Client {
    Client::new(cluster().bootstrap_servers()).unwrap()
}

/// A name that no other test uses.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{what}-{:x}-{n}", RandomState::new().hash_one(n))
}

/// A topic of the test's own.
pub(crate) fn topic(partitions: usize) -> String {
    let name = unique("topic");
    cluster().create_topic(&name, partitions).unwrap();
    name
}

/// A worker on a topic, in a group of its own, that commits ten times a second.
pub(crate) fn worker_on(topic: &str) -> WorkerBuilder {
    client().worker(unique("group")).topic(topic).commit_every(Duration::from_millis(100))
}

/// A worker of a group that has several members, or one after another. With the consumer protocol: the embedded cluster
/// keeps a member of the classic one waiting for almost the session time-out after another one has left.
pub(crate) fn member_of(group: &str, topic: &str) -> WorkerBuilder {
    worker_on(topic).group(group).property("group.protocol", "consumer")
}

/// Runs a test on a runtime of its own, with two threads, and fails it if it takes too long.
pub(crate) fn run(test: impl Future<Output = ()>) {
    run_on(tokio::runtime::Builder::new_multi_thread().worker_threads(2), test);
}

pub(crate) fn run_on(runtime: &mut tokio::runtime::Builder, test: impl Future<Output = ()>) {
    let runtime = runtime.enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await });
    // Handlers on blocking threads that a failed test left behind must not hold it up.
    runtime.shutdown_background();
    ended.expect("the test should have ended by now");
}

// ---- waiting ------------------------------------------------------------------------------------------------------

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn eventually<'a>(what: &'a str, mut holds: impl FnMut() -> bool + 'a) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let patience = PATIENCE / 3;
        tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| panic!("{caller}: waited in vain for {what}"));
    }
}

/// The next event that `wanted` makes something of.
pub(crate) async fn event<T>(
    events: &mut Subscription<Event>,
    what: &str,
    mut wanted: impl FnMut(Event) -> Option<T>,
) -> T {
    let wait = async {
        loop {
            let event = events.next().await.expect("the worker still has handles");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE / 3, wait).await.unwrap_or_else(|_| panic!("waited in vain for the event {what}"))
}

// ---- workers ------------------------------------------------------------------------------------------------------

/// A handler whose type is that of all others, so that the worker is compiled once and not for each test.
pub(crate) struct Boxed<T>(Box<Begin<T>>);

type Begin<T> = dyn Fn(Message<T>) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync;

pub(crate) fn boxed<T: Decode, H: Handler<T>>(handler: H) -> Boxed<T> {
    Boxed(Box::new(move |message| Box::pin(handler.handle(message))))
}

impl<T: Decode> Handler<T> for Boxed<T> {
    type Future = BoxFuture<'static, Result<(), Failure>>;

    fn handle(&self, message: Message<T>) -> Self::Future {
        (self.0)(message)
    }
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) handle: WorkerHandle,
    task: JoinHandle<Result<Report, RunError>>,
}

#[expect(clippy::disallowed_methods, reason = "the one place where tests spawn")]
pub(crate) fn spawn<F: Future<Output: Send> + Send + 'static>(future: F) -> JoinHandle<F::Output> {
    tokio::spawn(future)
}

pub(crate) fn start<T: Decode, H: Handler<T>>(worker: Worker<T, H>) -> Running {
    Running { handle: worker.handle(), task: spawn(worker.run()) }
}

pub(crate) fn start_batches<T: Decode, H: BatchHandler<T>>(worker: BatchWorker<T, H>) -> Running {
    Running { handle: worker.handle(), task: spawn(worker.run()) }
}

pub(crate) fn start_transform<T: Decode, F: Transform<T>>(worker: TransformWorker<T, F>) -> Running {
    Running { handle: worker.handle(), task: spawn(worker.run()) }
}

impl Running {
    /// Stops it in order.
    pub(crate) async fn stop(self) -> Report {
        self.handle.close();
        self.ended().await.unwrap()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) -> Result<Report, RunError> {
        let ended = self.task.await.expect("running a worker does not panic");
        assert_eq!(self.handle.state(), WorkerState::Closed);
        ended
    }

    /// Drops the future, as a crash would.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err_and(|e| e.is_cancelled()));
    }

    pub(crate) fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

// ---- what handlers tell -------------------------------------------------------------------------------------------

/// One attempt, as its handler saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Option<String>,
    pub(crate) attempt: u32,
}

/// What handlers did, in order; and how many ran at once. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Diary {
    begun: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<Mutex<Vec<Seen>>>,
    running: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

/// An attempt that runs; if it is dropped before `done`, it was cut off.
pub(crate) struct Attempt {
    diary: Diary,
    seen: Seen,
    done: bool,
}

impl Diary {
    pub(crate) fn begin<T>(&self, message: &Message<T>) -> Attempt {
        let seen = Seen {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(|k| String::from_utf8_lossy(k).into_owned()),
            attempt: message.attempt(),
        };
        self.begun.lock().unwrap().push(seen.clone());
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(running, Ordering::SeqCst);
        Attempt { diary: self.clone(), seen, done: false }
    }

    /// All attempts begun so far.
    pub(crate) fn begun(&self) -> Vec<Seen> {
        self.begun.lock().unwrap().clone()
    }

    /// All attempts that ended with success, in the order of their ends.
    pub(crate) fn done(&self) -> Vec<Seen> {
        self.ended.lock().unwrap().clone()
    }

    pub(crate) fn offsets(&self) -> Vec<i64> {
        self.done().iter().map(|s| s.offset).collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.ended.lock().unwrap().len()
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    /// Attempts whose future was dropped before they ended.
    pub(crate) fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

impl Attempt {
    pub(crate) fn done(mut self) {
        self.done = true;
    }

    /// Failed: neither done nor dropped.
    pub(crate) fn failed(mut self) {
        self.done = true;
        self.seen.attempt = 0;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.diary.running.fetch_sub(1, Ordering::SeqCst);
        if !self.done {
            self.diary.dropped.fetch_add(1, Ordering::SeqCst);
        } else if self.seen.attempt > 0 {
            self.diary.ended.lock().unwrap().push(self.seen.clone());
        }
    }
}

/// Holds handlers back until it is opened.
#[derive(Clone)]
pub(crate) struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn open(&self) {
        self.0.send_replace(true);
    }

    pub(crate) async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// Writes its attempts down, each once it has passed the gate.
pub(crate) fn gated(diary: &Diary, gate: &Gate) -> impl Handler<waterwheel::Raw> + use<> {
    let (diary, gate) = (diary.clone(), gate.clone());
    move |m: Message<waterwheel::Raw>| {
        let (attempt, gate) = (diary.begin(&m), gate.clone());
        async move {
            gate.pass().await;
            attempt.done();
            anyhow::Ok(())
        }
    }
}

// ---- records in and out -------------------------------------------------------------------------------------------

pub(crate) fn record(topic: &str, partition: i32, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> ProducerRecord {
    ProducerRecord::to(topic).partition(partition).key(key).value(value)
}

/// Sends records in order, all acknowledged.
pub(crate) async fn send(records: impl IntoIterator<Item = ProducerRecord>) {
    let producer: Producer = client().producer().unwrap();
    let sends: Vec<_> = records.into_iter().map(|r| producer.send(r)).collect();
    for sent in futures_util::future::join_all(sends).await {
        sent.unwrap();
    }
    producer.close(PATIENCE).await;
}

/// Sends `count` records `v<i>` to partition 0, with the keys that `key` says.
pub(crate) async fn fill(topic: &str, count: usize, key: impl Fn(usize) -> String) {
    send((0..count).map(|i| record(topic, 0, key(i), format!("v{i}")))).await;
}

/// Reads the first `count` records of a topic, with a worker of its own.
pub(crate) async fn read(topic: &str, count: usize) -> Vec<Record> {
    let read = Arc::new(Mutex::new(Vec::new()));
    let (handler_read, done) = (read.clone(), read.clone());
    let handler = move |message: Message<waterwheel::Raw>| {
        handler_read.lock().unwrap().push(message.record().detach());
        std::future::ready(Ok::<_, waterwheel::Failure>(()))
    };
    let reader = start(worker_on(topic).handler(boxed(handler)).build().unwrap());
    eventually("all records to be read", || done.lock().unwrap().len() >= count).await;
    reader.stop().await;
    let mut records = std::mem::take(&mut *read.lock().unwrap());
    records.sort_by_key(|r| (r.partition(), r.offset()));
    assert_eq!(records.len(), count);
    records
}

fn plain_member(group: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster().bootstrap_servers()).set("group.id", group);
    config.create().unwrap()
}

/// What a group has committed for a partition: offset and metadata; asked by another client than the one under test.
pub(crate) fn committed(group: &str, topic: &str, partition: i32) -> Option<(i64, String)> {
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    let found = plain_member(group).committed_offsets(list, Duration::from_secs(10)).unwrap();
    let element = &found.elements()[0];
    match element.offset() {
        Offset::Offset(offset) => Some((offset, element.metadata().to_owned())),
        _ => None,
    }
}

/// Commits for a group without members, as another tool would.
pub(crate) fn commit(group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).unwrap();
    list.find_partition(topic, partition).unwrap().set_metadata(metadata);
    plain_member(group).commit(&list, CommitMode::Sync).unwrap();
}
