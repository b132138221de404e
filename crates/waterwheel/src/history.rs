//! Histories: topics read from the beginning, all partitions, without a group and without commits; and the moment in which
//! everything that was there when reading began has been handled (promise R6).

use std::sync::Arc;
use std::time::Duration;

use crate::body::Decode;
use crate::connection::Client;
use crate::driver::clock::Clock;
use crate::driver::groupless::Course;
use crate::error::Error;
use crate::handler::Handler;
use crate::record::TopicPartition;
use crate::worker::{ReadyWorker, Report, RunError, Worker, WorkerBuilder, WorkerHandle, WorkerState};

/// Describes a history. Made by [`Client::history`].
pub struct HistoryBuilder {
    worker: WorkerBuilder,
    course: Arc<Course>,
}

impl Client {
    /// A history of that topic: reads all its partitions from the beginning, and on when it is caught up. It belongs to no
    /// group and commits nothing, so that each process that runs one sees everything, each time it starts.
    ///
    /// Everything else is as with a [`worker`](Self::worker): records of a key in order and many keys at once unless told
    /// otherwise, retries, dead letters, bounded memory.
    ///
    /// With `isolation.level=read_committed`, Kafka's default here, only what is committed counts: the target is the last
    /// stable offset, so that an open transaction does not hold it up.
    pub fn history(&self, topic: impl Into<String>) -> HistoryBuilder {
        let (topic, course) = (topic.into(), Arc::new(Course::new(Clock::start(self.backend().time()))));
        HistoryBuilder { worker: self.worker(topic.clone()).topic(topic).groupless(course.clone()), course }
    }
}

impl HistoryBuilder {
    /// Adds a topic. It is caught up when all of them are. Patterns are not taken.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.with(|worker| worker.topic(topic))
    }

    /// Sets what a worker has: order, concurrency, retries, dead letters, limits, properties, where to begin. What only a
    /// member of a group can have (`group`, `lease`, [`Start::Nowhere`](crate::Start::Nowhere)) is refused when the history
    /// is built.
    pub fn with(self, set: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        Self { worker: set(self.worker), ..self }
    }

    /// What handles the records.
    pub fn handler<T: Decode, H: Handler<T>>(self, handler: H) -> ReadyHistory<T, H> {
        ReadyHistory { worker: self.worker.handler(handler), course: self.course }
    }
}

/// A history that has its handler and only needs to be built.
pub struct ReadyHistory<T, H> {
    worker: ReadyWorker<T, H>,
    course: Arc<Course>,
}

impl<T: Decode, H: Handler<T>> ReadyHistory<T, H> {
    /// Checks the configuration. Nothing connects before [`History::run`].
    pub fn build(self) -> Result<History<T, H>, Error> {
        let worker = self.worker.build()?;
        let handle = HistoryHandle { worker: worker.handle(), course: self.course };
        Ok(History { worker, handle })
    }
}

/// Reads topics from the beginning and runs its handler for every record.
pub struct History<T, H> {
    worker: Worker<T, H>,
    handle: HistoryHandle,
}

impl<T: Decode, H: Handler<T>> History<T, H> {
    /// A handle to steer and watch it with.
    pub fn handle(&self) -> HistoryHandle {
        self.handle.clone()
    }

    /// Runs until a handle closes it, or it cannot go on; a topic that does not exist is an error
    /// ([`is_unknown_topic`](crate::KafkaError::is_unknown_topic)). Being caught up does not end it.
    ///
    /// Dropping the future ends it at once: handlers' futures are dropped.
    pub async fn run(self) -> Result<Report, RunError> {
        self.worker.run().await
    }

    /// Runs until `shutdown` ends, then closes in order; otherwise like [`run`](Self::run). With
    /// `handle.caught_up()` it reads what there is and ends.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Report, RunError> {
        self.worker.run_until(shutdown).await
    }
}

/// Steers and watches a history. Cheap to clone; works before, while and after it runs.
#[derive(Clone)]
pub struct HistoryHandle {
    worker: WorkerHandle,
    course: Arc<Course>,
}

impl HistoryHandle {
    /// The handle of the worker that it is: to stop, start, pause, close and watch it. One that is stopped and started
    /// goes on where it was.
    pub fn worker(&self) -> &WorkerHandle {
        &self.worker
    }

    /// Waits until everything that was there when reading began has been handled: finished by the handler, dead-lettered,
    /// or skipped by policy. Any number of callers may wait, before and after the fact. False where the history ended
    /// without that.
    ///
    /// A partition's target is where it ended when it was found, and counts as a position: compaction, transaction
    /// markers, aborted and deleted records at the end change nothing. Partitions found before this moment count too. A log
    /// that is cut off or made again meanwhile is caught up at its new end. A parked record holds it up
    /// ([`OnExhausted::Park`](crate::OnExhausted::Park)); health says so.
    ///
    /// Told when positions are noted, ten times a second. Dropping the future has no effect.
    pub async fn caught_up(&self) -> bool {
        let mut caught_up = self.course.caught_up();
        let ended = self.worker.until(|state| state == WorkerState::Closed);
        tokio::select! {
            biased;
            told = caught_up.wait_for(|told| *told) => told.is_ok(),
            () = ended => self.is_caught_up(),
        }
    }

    /// Whether it is caught up, or has been.
    pub fn is_caught_up(&self) -> bool {
        self.course.is_caught_up()
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        self.course.read(|targets, rate| Progress {
            partitions: targets
                .iter()
                .map(|(partition, target)| PartitionProgress {
                    partition: partition.clone(),
                    start: target.start,
                    position: target.position,
                    target: target.target,
                    caught_up: target.is_reached(),
                })
                .collect(),
            rate,
        })
    }
}

/// How far a history has come. Counted in offsets, some of which may have no record.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Every partition found so far.
    pub partitions: Vec<PartitionProgress>,
    /// Offsets a second, over the last ten seconds; none before there are two observations.
    pub rate: Option<f64>,
}

/// How far a history has come in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionProgress {
    /// The partition.
    pub partition: TopicPartition,
    /// Where reading began.
    pub start: i64,
    /// Everything below is handled.
    pub position: i64,
    /// Where the partition ended when it was found.
    pub target: i64,
    /// Whether the position has been at the target.
    pub caught_up: bool,
}

impl Progress {
    /// Offsets between start and target, over all partitions.
    pub fn total(&self) -> u64 {
        self.partitions.iter().map(|p| p.target.saturating_sub(p.start).max(0).unsigned_abs()).sum()
    }

    /// Offsets to go until it is caught up.
    pub fn remaining(&self) -> u64 {
        let behind = self.partitions.iter().filter(|p| !p.caught_up);
        behind.map(|p| p.target.saturating_sub(p.position).max(0).unsigned_abs()).sum()
    }

    /// How long that takes at the present rate; none while there is no rate.
    pub fn eta(&self) -> Option<Duration> {
        match self.remaining() {
            0 => Some(Duration::ZERO),
            offsets => Duration::try_from_secs_f64(offsets as f64 / self.rate?).ok(),
        }
    }
}
