//! What the tests share: workers that run, and a journal of what their handlers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use waterwheel::{
    Client, Failure, Handler, Message, ProducerRecord, Raw, Record, Report, RunError, Transform, TransformWorker,
    Worker, WorkerBuilder, WorkerHandle,
};
use waterwheel_test::{Cluster, Host};

/// Runs a test in paused time; it fails if it takes longer than an hour of that.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(3_600), test).await })
        .expect("the test should have ended by now");
}

/// A worker that runs.
pub(crate) struct Running {
    pub(crate) handle: WorkerHandle,
    task: JoinHandle<Result<Report, RunError>>,
}

#[expect(clippy::disallowed_methods, reason = "the one place where tests spawn")]
pub(crate) fn start<H: Handler<Raw>>(worker: Worker<Raw, H>) -> Running {
    Running { handle: worker.handle(), task: tokio::spawn(worker.run()) }
}

impl Running {
    /// Stops it in order.
    pub(crate) async fn stop(self) -> Report {
        self.handle.close();
        self.ended().await.unwrap()
    }

    pub(crate) async fn ended(self) -> Result<Report, RunError> {
        self.task.await.unwrap()
    }

    /// Ends it as the death of its host would.
    pub(crate) async fn kill(self, host: Host) {
        host.kill();
        self.task.abort();
        assert!(self.task.await.is_err_and(|e| e.is_cancelled()));
    }
}

/// A worker on topic `t` in group `g`, on that client, that commits five times a second.
pub(crate) fn member(client: &Client) -> WorkerBuilder {
    client.worker("g").topic("t").commit_every(Duration::from_millis(200)).shards(2)
}

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn eventually<'a>(what: &'a str, mut holds: impl FnMut() -> bool + 'a) -> impl Future<Output = ()> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let end = Instant::now() + Duration::from_secs(300);
        while !holds() {
            assert!(Instant::now() < end, "{caller}: waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Splitmix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % n
    }
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Done,
    Failed,
    Dropped,
}

/// An attempt, as its handler saw it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) host: usize,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) begun: Instant,
    /// When and how it ended.
    pub(crate) end: Option<(Instant, End)>,
}

/// What all handlers did, in the order of their beginnings. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<Vec<Entry>>>);

/// An attempt that runs; dropped before it says otherwise, it was cut off.
pub(crate) struct Attempt {
    journal: Journal,
    at: usize,
}

impl Journal {
    pub(crate) fn begin(&self, host: usize, message: &Message<Raw>) -> Attempt {
        let mut entries = self.0.lock().unwrap();
        entries.push(Entry {
            host,
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            begun: Instant::now(),
            end: None,
        });
        Attempt { journal: self.clone(), at: entries.len() - 1 }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().clone()
    }

    /// Attempts that run.
    pub(crate) fn running(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|e| e.end.is_none()).count()
    }

    /// The partitions and offsets of those that ended well.
    pub(crate) fn places(&self) -> BTreeSet<(i32, i64)> {
        let done = |e: &&Entry| e.end.is_some_and(|(_, end)| end == End::Done);
        self.0.lock().unwrap().iter().filter(done).map(|e| (e.partition, e.offset)).collect()
    }

    /// The offsets of those that ended well, in the order of their beginnings.
    pub(crate) fn done(&self) -> Vec<i64> {
        let done = |e: &&Entry| e.end.is_some_and(|(_, end)| end == End::Done);
        self.0.lock().unwrap().iter().filter(done).map(|e| e.offset).collect()
    }
}

impl Attempt {
    fn end(&self, end: End) {
        self.journal.0.lock().unwrap()[self.at].end.get_or_insert((Instant::now(), end));
    }

    pub(crate) fn done(self) -> Result<(), Failure> {
        self.end(End::Done);
        Ok(())
    }

    pub(crate) fn failed(self) -> Result<(), Failure> {
        self.end(End::Failed);
        Err(Failure::retry("asked for by the test"))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.end(End::Dropped);
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

/// A handler that ends well at once, but for the offsets at which it waits for the gate.
pub(crate) fn gated(journal: &Journal, gate: &Gate, at: &'static [i64]) -> impl Handler<Raw> + use<> {
    let (journal, gate) = (journal.clone(), gate.clone());
    move |message: Message<Raw>| {
        let (attempt, gate) = (journal.begin(0, &message), gate.clone());
        async move {
            if at.contains(&message.offset()) {
                gate.pass().await;
            }
            attempt.done()
        }
    }
}

/// Writes so many records to `t`, each with a key of its own.
pub(crate) async fn fill(cluster: &Cluster, count: usize) {
    for i in 0..count {
        cluster.produce("t", format!("k{i}"), "v").await;
    }
}

// ---- exactly once -------------------------------------------------------------------------------------------------

#[expect(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn start_transform<F: Transform<Raw>>(worker: TransformWorker<Raw, F>) -> Running {
    Running { handle: worker.handle(), task: tokio::spawn(worker.run()) }
}

/// What is made of a record: one for `out`, with its key, that names its place.
pub(crate) fn output(message: &Message<Raw>) -> ProducerRecord {
    let place = format!("{}@{}", message.partition(), message.offset());
    ProducerRecord::to("out").key(message.key().unwrap_or_default()).value(place)
}

/// Holds the input topic against what a reader of what is committed sees in `out` and, as places, in `letters`: each record
/// there once, and those of a key of a partition in their order.
#[track_caller]
pub(crate) fn assert_exactly_once(cluster: &Cluster, letters: &[(i32, i64)], told: &str) {
    let place = |record: &Record| {
        let text = std::str::from_utf8(record.value().unwrap()).unwrap();
        let (partition, offset) = text.split_once('@').unwrap();
        (partition.parse::<i32>().unwrap(), offset.parse::<i64>().unwrap())
    };
    let mut last = BTreeMap::new();
    let mut seen: Vec<(i32, i64)> = letters.to_vec();
    for record in cluster.records("out") {
        let (partition, offset) = place(&record);
        seen.push((partition, offset));
        let before = last.insert((partition, record.key().unwrap_or_default().to_vec()), offset);
        assert!(before.is_none_or(|before| before < offset), "{told}: {partition}@{offset} behind {before:?}");
    }
    seen.sort_unstable();
    let wanted: Vec<(i32, i64)> = cluster.records("t").iter().map(|r| (r.partition(), r.offset())).collect();
    let twice: Vec<_> = seen.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    let missing: Vec<_> = wanted.iter().filter(|place| !seen.contains(place)).collect();
    assert!(twice.is_empty() && missing.is_empty(), "{told}: twice {twice:?}, missing {missing:?}");
    assert_eq!(seen, wanted, "{told}");
}
