//! What hooks are told.

use std::ops::Range;
use std::time::Duration;

use crate::events::Event;
use crate::failure::FailureClass;
use crate::record::TopicPartition;

/// Records came from the brokers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchedBatch {
    /// Of which partition.
    pub partition: TopicPartition,
    /// From the first offset to behind the last one; there may be holes.
    pub offsets: Range<i64>,
    /// How many.
    pub records: usize,
}

/// An attempt, by the record that it is at; of a batch, by the first one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptPlace {
    /// The record's partition.
    pub partition: TopicPartition,
    /// The record's offset.
    pub offset: i64,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// How many records it is at: 1, but for batches.
    pub records: usize,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptOutcome {
    /// Well.
    Ok,
    /// It failed; of a batch, at least one record did, and this is the first one's class.
    Failed(FailureClass),
    /// Its future was dropped: it took longer than the handler timeout, its drain's deadline passed, or its partition was
    /// lost.
    CutOff,
}

/// An attempt that ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AttemptEnd {
    /// Which.
    pub place: AttemptPlace,
    /// How.
    pub outcome: AttemptOutcome,
    /// How long it took.
    pub took: Duration,
}

/// Why a record needs no more work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// Its handler said ok.
    Ok,
    /// The dead-letter topic acknowledged it.
    DeadLettered,
    /// It was skipped.
    Skipped,
    /// The topic of a retry tier acknowledged it: it comes again from there.
    Tiered,
}

/// Something that hooks are told.
#[derive(Clone)]
pub(crate) enum Moment {
    Fetched(FetchedBatch),
    Before(AttemptPlace),
    After(AttemptEnd),
    Finished(TopicPartition, i64, Finish),
    BeforeCommit(Vec<(TopicPartition, i64)>),
    Drained(TopicPartition, usize),
    Event(Event),
    /// The last one.
    End,
}

impl Moment {
    /// The name of the method that is told.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Fetched(_) => "fetched",
            Self::Before(_) => "before_attempt",
            Self::After(_) => "after_attempt",
            Self::Finished(..) => "finished",
            Self::BeforeCommit(_) => "before_commit",
            Self::Drained(..) => "drained",
            Self::Event(Event::Assigned { .. }) => "assigned",
            Self::Event(Event::Revoked { .. }) => "revoked",
            Self::Event(Event::DeadLettered { .. }) => "dead_lettered",
            Self::Event(Event::BreakerChanged { .. }) => "breaker_changed",
            Self::Event(_) => "event",
            Self::End => "end",
        }
    }
}
