//! A worker's settings: the choices that have names.

use std::time::{Duration, SystemTime};

/// Where reading begins: that of a group that has committed nothing for a partition, of a history, of partitions read by
/// hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Start {
    /// At the first record that the topic still has.
    #[default]
    Earliest,
    /// At the end, as it is when the group first opens the partition: what was written before is passed over, in
    /// partitions added later, too.
    Latest,
    /// At that offset, in every partition.
    Offset(i64),
    /// At the first record as late as that.
    Timestamp(SystemTime),
    /// At the first record no older than that.
    Ago(Duration),
    /// That many offsets before the end, as it is when the partition is first opened, but not before its first record.
    /// Offsets, not records: transaction markers and what was compacted away count.
    BeforeEnd(u64),
    /// Nowhere: a partition of which the group has committed nothing ends the worker with an error.
    Nowhere,
}

/// Where handlers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Execution {
    /// A handler is polled once where its record is taken up, and becomes a task only if it then waits. A shard whose
    /// handlers take more than 100 µs before they first wait, three times in a row, spawns from then on.
    #[default]
    Inline,
    /// Every handler is a task of the runtime.
    Spawn,
    /// Every handler runs on a thread where it may block. It cannot be dropped: a time-out or a drain deadline leaves it
    /// running, fences its key until it ends, and ignores what it says.
    Blocking,
}

/// What happens to attempts that still run at a drain's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnDrainDeadline {
    /// Their futures are dropped.
    #[default]
    Cancel,
    /// They go on, and what they say is ignored. Their keys wait for them if the partition comes back.
    Abandon,
}

/// What happens when the records to be read next are gone: retention, deleted records, a log cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnGap {
    /// The gap is reported ([`Event::Gap`](crate::Event::Gap)) and work goes on at the first record there is.
    #[default]
    Continue,
    /// The worker stops with an error.
    Stop,
}

/// What happens while more is finished above an unfinished record than the commit's metadata can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnMapFull {
    /// Work goes on. What the map does not cover runs again after a restart or hand-over
    /// ([`Event::MapCut`](crate::Event::MapCut)).
    #[default]
    Continue,
    /// The partition takes up no more records until the map fits: less runs again, and its oldest record holds it up. Keys
    /// that follow a dead letter and find no room hold nothing up.
    Hold,
}

/// What a commit says beside its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CommitMetadata {
    /// The commit map: what is finished above the offset, so that it does not run again, and what has failed.
    #[default]
    Map,
    /// A text of the user's ([`ConsumerHandle::set_metadata`](crate::ConsumerHandle::set_metadata)), nothing by default.
    /// What is finished above the offset comes again after a restart or hand-over.
    Own,
}

/// What happens to an attempt that runs for longer than [`stall_after`](crate::WorkerBuilder::stall_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnStall {
    /// It goes on. It is told ([`Event::Stalled`](crate::Event::Stalled)), health is critical, and the worker does not count as
    /// live.
    #[default]
    Warn,
    /// It is cut, and has failed with the class `timeout`: the retry policy decides.
    TimeOut,
    /// It is cut, and its record goes to the dead-letter topic at once.
    DeadLetter,
    /// It is cut, and its record is tried on at the longest back-off, for ever; its key waits, and health is critical.
    Park,
    /// It is cut, and the worker stops with an error; its record is not finished.
    Stop,
}

/// What becomes of later records of a key of which one is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AfterDeadLetter {
    /// They go on.
    #[default]
    Continue,
    /// They follow it to the dead-letter topic, in their order and without an attempt, until the key is released
    /// ([`WorkerHandle::release_key`](crate::WorkerHandle::release_key)); also over a hand-over and a restart.
    Follow,
}

/// What happens to a record that has had all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExhausted {
    /// It goes to the dead-letter topic. The default where one is configured.
    DeadLetter,
    /// It is tried on at the longest back-off, for ever; its key waits, and health is critical. The default without a
    /// dead-letter topic.
    Park,
    /// It counts as finished, and is reported as skipped.
    Skip,
    /// The worker stops with an error; the record is not finished.
    Stop,
}
