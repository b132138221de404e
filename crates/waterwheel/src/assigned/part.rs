//! One partition being read by hand: where it stands, and what becomes of its failures.

use std::collections::VecDeque;
use std::sync::Arc;

use waterwheel_core::{Epoch, PartitionId};

use super::batch::RecordBatch;
use super::builder::Located;
use crate::client::Position;
use crate::error::KafkaError;
use crate::record::{Assignment, TopicPartition};

/// A topic that is not there, or not yet everywhere, is asked for that often, half a second apart.
const TRIES: u32 = 10;

pub(super) struct Part {
    pub(super) assignment: Arc<Assignment>,
    /// All below has been given, or will never come.
    pub(super) position: i64,
    /// Whether nothing has come of it since it was placed at its beginning, wherever that is by then.
    from_beginning: bool,
    /// Where it ended when reading began.
    end: i64,
    at_end: bool,
    /// Where reading ends.
    pub(super) stop: Option<i64>,
    /// Whether `stop` is the end, and goes down with it.
    stops_at_end: bool,
    open: bool,
    pub(super) paused: bool,
    /// Fetched before it was paused.
    pub(super) kept: VecDeque<RecordBatch>,
    /// Since the last record.
    pub(super) failures: u32,
}

impl Part {
    pub(super) fn new(id: PartitionId, epoch: Epoch, located: Located, paused: bool) -> Self {
        Self {
            assignment: Assignment::new(id, epoch, located.partition),
            position: located.start,
            from_beginning: located.from_beginning,
            end: located.end,
            at_end: false,
            stop: located.stop,
            stops_at_end: located.stops_at_end,
            open: true,
            paused,
            kept: VecDeque::new(),
            failures: 0,
        }
    }

    pub(super) fn id(&self) -> PartitionId {
        self.assignment.id
    }

    /// Where the fetch port is to begin. By its word, not by the offset that was told, where that may have gone since:
    /// nobody asked for what is no longer there.
    pub(super) fn from(&self) -> Position {
        if self.from_beginning { Position::Beginning } else { Position::Offset(self.position) }
    }

    /// Whether more may come of it.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn close(&mut self) {
        self.open = false;
        self.kept.clear();
    }

    /// All below `to` has been given; whether the end is reached with that.
    pub(super) fn advance(&mut self, to: i64) -> bool {
        self.from_beginning &= to <= self.position;
        self.position = self.position.max(to);
        let reached = !self.at_end && self.position >= self.end;
        self.at_end |= reached;
        reached
    }

    /// Whether it is where reading ends.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_some_and(|stop| self.position >= stop)
    }

    /// It is read on at `to`, and the log ends at `end`: an end above that will not be reached.
    pub(super) fn moved(&mut self, to: i64, end: i64) {
        self.position = to;
        self.from_beginning = false;
        self.end = self.end.min(end);
        if self.stops_at_end {
            self.stop = self.stop.map(|stop| stop.min(end));
        }
    }

    /// Whether it is to be tried again after that.
    pub(super) fn may_mend(&self, error: &KafkaError) -> bool {
        error.may_pass() && (!error.is_unknown_topic() || self.failures < TRIES)
    }

    pub(super) fn position(&self) -> PartitionPosition {
        PartitionPosition {
            partition: self.assignment.partition.clone(),
            position: self.position,
            end: self.end,
            at_end: self.at_end,
            paused: self.paused,
        }
    }
}

/// How far a partition read by hand has come. Offsets, between which may be no record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionPosition {
    /// Which.
    pub partition: TopicPartition,
    /// All below has been given, or will never come.
    pub position: i64,
    /// Where it ended when reading it began.
    pub end: i64,
    /// Whether the position has been at that end.
    pub at_end: bool,
    /// Whether it is paused.
    pub paused: bool,
}
