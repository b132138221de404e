//! Why: what a partition, a record or a key waits for, as one answer for people ([`Display`](std::fmt::Display)) and
//! programs (`Serialize`).
//!
//! Names no key and no payload (R9): who asks about a key knows it already.

mod json;
mod text;

use std::fmt;
use std::time::Duration;

use waterwheel_core::engine::{self, Explained, HoldReason, KeyView, RecordView, SlotId};
use waterwheel_core::lifecycle::WorkerState;

use crate::failure::FailureClass;
use crate::record::{Batch, TopicPartition};

/// What is asked. See [`WorkerHandle::explain`](crate::WorkerHandle::explain).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// All partitions of a topic that the worker has.
    Topic(String),
    /// One partition: what holds its commit, whether it is held itself, and why.
    Partition(TopicPartition),
    /// The record at that offset of a partition.
    Offset(TopicPartition, i64),
    /// A key: in all partitions of the topic that the worker has, or in one of them.
    Key {
        /// The topic.
        topic: String,
        /// The partition, where it is known.
        partition: Option<i32>,
        /// The key's bytes.
        key: Vec<u8>,
    },
}

impl Subject {
    /// Whether the partition is asked about.
    pub(crate) fn has(&self, of: &TopicPartition) -> bool {
        match self {
            Self::Topic(topic) => *of.topic == **topic,
            Self::Partition(partition) | Self::Offset(partition, _) => partition == of,
            Self::Key { topic, partition, .. } => {
                *of.topic == **topic && partition.is_none_or(|partition| partition == of.partition)
            }
        }
    }

    /// What is asked of each partition.
    pub(crate) fn of_each(&self) -> engine::Subject<'_> {
        match self {
            Self::Topic(_) | Self::Partition(_) => engine::Subject::Partition,
            Self::Offset(_, offset) => engine::Subject::Offset(*offset),
            Self::Key { key, .. } => engine::Subject::Key(key),
        }
    }
}

impl fmt::Debug for Subject {
    /// Names the place, not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(topic) => write!(f, "Topic({topic})"),
            Self::Partition(partition) => write!(f, "Partition({partition})"),
            Self::Offset(partition, offset) => write!(f, "Offset({partition}@{offset})"),
            Self::Key { topic, partition, .. } => write!(f, "Key({topic}, {partition:?})"),
        }
    }
}

/// The answer: how it stands with what was asked about, at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Explanation {
    /// The worker's name.
    pub worker: String,
    /// Its group.
    pub group: String,
    /// What it is doing.
    pub state: WorkerState,
    /// The partitions asked about that it has, in order. Empty where another member has them, or nobody.
    pub partitions: Vec<PartitionExplanation>,
}

/// How it stands with one partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartitionExplanation {
    /// Which.
    pub partition: TopicPartition,
    /// The lowest offset that is not finished: what the next commit says.
    pub frontier: i64,
    /// Offsets finished above it, which the commit map carries.
    pub finished_above: u64,
    /// What holds the commit there; `None` where nothing that was fetched is unfinished.
    pub head: Option<HeadExplanation>,
    /// The last commit that the broker took; `None` where there was none yet, or the worker commits in transactions.
    pub committed: Option<LastCommit>,
    /// The next offset to be taken up.
    pub next: i64,
    /// The next offset to be fetched.
    pub fetched: i64,
    /// The log's end, as it was asked last (at most three intervals of
    /// [`check_every`](crate::WorkerBuilder::check_every) ago); `None` where it is not known yet.
    pub end: Option<i64>,
    /// Attempts that run.
    pub running: usize,
    /// Records that wait for their key.
    pub waiting: usize,
    /// Records that failed and wait for a retry, or for their dead letter to be acknowledged.
    pub set_aside: usize,
    /// Bytes of fetched records held.
    pub bytes: usize,
    /// Why the partition yields no records; `None` while it does.
    pub held: Option<HoldReason>,
    /// The record asked about.
    pub record: Option<RecordExplanation>,
    /// The key asked about; `None` where it has no records in work here, or keys have no order.
    pub key: Option<KeyExplanation>,
    /// The dead letter that the key asked about follows ([`AfterDeadLetter::Follow`](crate::AfterDeadLetter::Follow)), until it is
    /// released.
    pub follows: Option<i64>,
}

impl PartitionExplanation {
    /// Offsets to go until the log's end; what is finished above the frontier is finished. `None` where the end is not
    /// known.
    pub fn lag(&self) -> Option<u64> {
        self.end.map(|end| crate::metrics::lag(self.frontier, self.finished_above, end))
    }
}

/// The record that holds a commit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeadExplanation {
    /// How it stands with it.
    pub record: RecordExplanation,
    /// For how long it has held the commit, known to an interval of
    /// [`commit_every`](crate::WorkerBuilder::commit_every); where transactions commit, of
    /// [`check_every`](crate::WorkerBuilder::check_every).
    pub age: Duration,
}

/// How it stands with one record.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordExplanation {
    /// Its offset.
    pub offset: i64,
    /// Where it is in its life.
    pub place: engine::Place,
    /// Attempts begun.
    pub attempts: u32,
    /// The class of its last failure here; `None` where it has not failed since the worker has the partition.
    pub last_failure: Option<FailureClass>,
    /// It has had all its attempts and is tried on for ever.
    pub is_parked: bool,
    /// When it failed first, also at another member, in milliseconds since the Unix epoch.
    pub first_failed_ms: Option<i64>,
    /// Its own time, in milliseconds since the Unix epoch; `None` where it has none or is not in memory.
    pub timestamp_ms: Option<i64>,
}

/// How it stands with a key.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct KeyExplanation {
    /// Its records that run, wait for a retry, or wait for their dead letter: one, but in batches.
    pub in_work: Vec<RecordExplanation>,
    /// Its records in memory that wait behind those.
    pub queued: usize,
    /// Its records behind those again, which are read again when their turn comes.
    pub kept: usize,
    /// The offsets of the first of those that wait, at most 16.
    pub first: Vec<i64>,
}

/// The last commit that the broker took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LastCommit {
    /// Its offset.
    pub offset: i64,
    /// How long ago it was answered.
    pub age: Duration,
    /// The size of its metadata, which is the commit map unless
    /// [`CommitMetadata::Own`](crate::CommitMetadata::Own) is set, in UTF-16 units, as brokers count.
    pub metadata: usize,
    /// How large that may be at present.
    pub room: usize,
    /// The map did not fit: after a restart records above its reach may run again.
    pub is_cut: bool,
}

/// What a shard notes of a record in a slot: why it failed last, and whether it is parked.
pub(crate) type Noted = Option<(FailureClass, bool)>;

impl PartitionExplanation {
    pub(crate) fn new(partition: TopicPartition, of: Explained<Batch>, noted: impl Fn(SlotId) -> Noted) -> Self {
        let Explained { view, fetched_to, set_aside, head, record, key, follows } = of;
        let record_of = |view: RecordView<Batch>| RecordExplanation::new(view, &noted);
        Self {
            partition,
            frontier: view.frontier,
            finished_above: view.finished_above,
            head: head.map(|head| HeadExplanation { record: record_of(head.record), age: head.age }),
            committed: None,
            next: view.next,
            fetched: fetched_to,
            end: None,
            running: view.running,
            waiting: view.waiting + view.deferred,
            set_aside,
            bytes: view.bytes,
            held: view.held,
            record: record.map(record_of),
            key: key.map(|KeyView { in_work, queued, kept, first }| {
                let in_work = in_work.into_iter().map(record_of).collect();
                KeyExplanation { in_work, queued, kept, first }
            }),
            follows,
        }
    }
}

impl RecordExplanation {
    fn new(of: RecordView<Batch>, noted: impl Fn(SlotId) -> Noted) -> Self {
        let RecordView { offset, place, attempts, first_failed_ms, slot, record } = of;
        let noted = slot.and_then(noted);
        Self {
            offset,
            place,
            attempts,
            last_failure: noted.map(|(class, _)| class),
            is_parked: noted.is_some_and(|(_, parked)| parked),
            first_failed_ms,
            timestamp_ms: record.and_then(|(batch, index)| batch.record(index).timestamp_millis()),
        }
    }
}

/// The word for a reason in metrics and JSON.
pub(crate) fn word_of(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::Bytes => "bytes",
        HoldReason::DeadLetter => "dead_letter",
        HoldReason::Draining => "draining",
        HoldReason::Paused => "operator",
        HoldReason::Lease => "lease",
        HoldReason::MapFull => "map_full",
        HoldReason::Delayed => "delayed",
        HoldReason::Breaker => "breaker",
        HoldReason::RateLimit => "rate_limit",
    }
}
