//! Events: what happened in a worker, for whoever listens.

use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::breaker::BreakerState;

use crate::error::KafkaError;
use crate::failure::FailureClass;
use crate::record::TopicPartition;

/// How a hook failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookFailure {
    /// It panicked; the next moment is told to it as if it had not.
    Panicked,
    /// It has not ended for that long. What comes meanwhile waits, and is dropped when its queue is full.
    Hangs(Duration),
}

/// Something that happened in a worker. Told to every [`WorkerHandle::events`](crate::WorkerHandle::events) stream; one
/// that is not read in time is dropped and counted, and never holds anything up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Partitions came to this member; their work begins.
    Assigned {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// The group wants partitions back: what runs may end within that time.
    Revoking {
        /// Which.
        partitions: Vec<TopicPartition>,
        /// How long what runs may take.
        within: Duration,
    },
    /// Partitions were drained, committed and given back.
    Revoked {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// Partitions were taken away: another member may be working on them already. Nothing of them is committed.
    Lost {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// An attempt failed and another one follows.
    Retrying {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// Attempts so far.
        attempts: u32,
        /// What kind of failure.
        class: FailureClass,
        /// When the next attempt is due.
        after: Duration,
    },
    /// A record has had all its attempts and nothing else is configured: it is tried on at that interval, and its key
    /// waits.
    Parked {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// What kind of failure.
        class: FailureClass,
        /// When the next attempt is due.
        after: Duration,
    },
    /// An attempt runs for longer than [`stall_after`](crate::WorkerBuilder::stall_after). Told once of each, at the next look
    /// ([`check_every`](crate::WorkerBuilder::check_every)); one that is cut for it is told by what follows.
    Stalled {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// Attempts begun.
        attempts: u32,
        /// How long this one runs.
        age: Duration,
    },
    /// A record is in the dead-letter topic, acknowledged.
    DeadLettered {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// What kind of failure.
        class: FailureClass,
    },
    /// A record has had its attempts here, and is in the topic of a retry tier, acknowledged: it comes again from there.
    Tiered {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// What kind of failure.
        class: FailureClass,
        /// The number of the tier, from 0.
        tier: usize,
    },
    /// A dead letter, or a letter to a retry tier, could not be written. Its partition is held until it can.
    DeadLetterFailed {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// Why.
        error: KafkaError,
    },
    /// A record was skipped, as its handler or the policy asked.
    Skipped {
        /// The record's partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// What kind of failure.
        class: FailureClass,
    },
    /// Offsets are gone before they could be read (retention, records deleted, a log cut off): work goes on at `to`.
    Gap {
        /// The partition.
        partition: TopicPartition,
        /// The next offset that was to be read; `None` where it is not known.
        from: Option<i64>,
        /// Where work goes on.
        to: i64,
    },
    /// What was committed belongs to an earlier topic of the same name: work begins at the start of the new one.
    TopicRecreated {
        /// The partition.
        partition: TopicPartition,
    },
    /// The committed metadata is not a commit map of ours, or a damaged one: everything above the committed offset runs
    /// again.
    MapRefused {
        /// The partition.
        partition: TopicPartition,
        /// Why.
        reason: String,
    },
    /// A transaction of an exactly-once worker was aborted. Nothing of it counts; the records of these partitions come
    /// again.
    TransactionAborted {
        /// Those with outputs in it.
        partitions: Vec<TopicPartition>,
        /// Why.
        error: KafkaError,
    },
    /// The commit map did not fit: after a restart the records above that offset may run again, and so many keys that follow
    /// a dead letter go on, those of the latest letters.
    MapCut {
        /// The partition.
        partition: TopicPartition,
        /// What the map covers, exclusive; `i64::MAX` where it covers all that is finished.
        reach: i64,
        /// The keys that follow a dead letter ([`AfterDeadLetter::Follow`](crate::AfterDeadLetter::Follow)) and that it had no
        /// room for.
        unfollowed: usize,
    },
    /// A commit failed; it is repeated.
    CommitFailed {
        /// Why.
        error: KafkaError,
    },
    /// Attempts were still running at the end of a drain: they were cut off and their records come again.
    CutOff {
        /// The partition.
        partition: TopicPartition,
        /// How many.
        attempts: usize,
    },
    /// Partitions were given back without their last commit, which was refused, or not answered in the time for the drain:
    /// what finished since the commit before comes again.
    Uncommitted {
        /// Which.
        partitions: Vec<TopicPartition>,
    },
    /// The circuit breaker opened, let probes through, or closed.
    BreakerChanged {
        /// Whose it is, where each class of records has its own ([`WorkerBuilder::breaker_by`](crate::WorkerBuilder::breaker_by)).
        class: Option<Arc<str>>,
        /// What it lets through now.
        state: BreakerState,
    },
    /// Handlers take long before they first wait: this shard runs them as tasks from now on.
    Spawning,
    /// A hook panicked, or does not end. Told to listeners, not to hooks.
    HookFailed {
        /// The method that was called.
        hook: &'static str,
        /// How.
        how: HookFailure,
    },
    /// The client under it has trouble that it repeats by itself, such as a broker that cannot be reached.
    Trouble {
        /// What.
        error: KafkaError,
    },
    /// Events were dropped because this stream was read too slowly.
    Missed {
        /// How many.
        events: u64,
    },
}
