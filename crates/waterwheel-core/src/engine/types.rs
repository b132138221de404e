//! The words of the engine's interface: settings, outcomes, verdicts, actions.

use std::ops::Range;
use std::time::Duration;

use super::SlotId;
use crate::commit_map::{Failing, Followed};
use crate::lanes::Order;
use crate::retry::Retry;
use crate::tiers::Tiers;
use crate::types::{Epoch, PartitionId};

/// What happens to a record that has had all its attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Exhausted {
    /// It is written to the dead-letter topic, then finished.
    DeadLetter,
    /// It is tried on at the longest wait, for ever; its key waits.
    #[default]
    Park,
    /// It is finished without having succeeded.
    Skip,
    /// The worker stops; the record stays unfinished.
    Stop,
}

/// What the engine goes by. Durations and counts are checked by who makes it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which records wait for each other.
    pub order: Order,
    /// When a failed record is tried again.
    pub retry: Retry,
    /// What happens after the last attempt.
    pub exhausted: Exhausted,
    /// Whether there is a dead-letter topic; without one a wish for it parks the record.
    pub dead_letter: bool,
    /// Whether later records of a lane follow one that was dead-lettered, until the lane is released.
    pub follow: bool,
    /// When a dead letter that could not be written is tried again.
    pub settle_retry: Retry,
    /// Where records go behind their attempts in one place; `None`: nowhere.
    pub tiers: Option<Tiers>,
    /// How long after its own time a record may start first; `None`: at once.
    pub delay: Option<Duration>,
    /// How long an attempt may take; `None`: as long as it wants.
    pub handler_timeout: Option<Duration>,
    /// What becomes of an attempt that runs for too long to be believed in; `None`: it goes on.
    pub stall: Option<Stall>,
    /// Attempts that may run at once in the whole worker.
    pub concurrency: usize,
    /// Records that may wait for their key in the whole worker.
    pub waiting: usize,
    /// Bytes of fetched batches that the whole worker may hold.
    pub bytes: usize,
    /// Wall time at `Now` zero, in milliseconds since the Unix epoch.
    pub wall_start_ms: i64,
    /// How batches are gathered, where records are started with [`Engine::gather_open`](super::Engine::gather_open).
    pub gather: Gather,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order: Order::Key,
            retry: Retry::default(),
            exhausted: Exhausted::Park,
            dead_letter: false,
            follow: false,
            settle_retry: Retry::exponential(Duration::from_millis(500), Duration::from_secs(10)).forever(),
            tiers: None,
            delay: None,
            handler_timeout: None,
            stall: None,
            concurrency: 100,
            waiting: 10_000,
            bytes: 256 << 20,
            wall_start_ms: 0,
            gather: Gather { max: 1, wait: Duration::ZERO },
        }
    }
}

/// What becomes of an attempt that is stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stall {
    /// How long it may run.
    pub after: Duration,
    /// What it counts as having wished for when it is cut.
    pub wish: Wish,
}

/// How records are gathered into batches, for a handler that takes many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gather {
    /// The most records of a batch; at least 1, and no more than [`Settings::concurrency`], or no batch is ever full.
    pub max: usize,
    /// How long the first record of a batch waits for others.
    pub wait: Duration,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Ok,
    /// It failed; what is to follow.
    Failed(Wish),
    /// Its future was dropped before it ended, because of an [`Action::Cut`].
    Cut,
    /// It did not fail, but could not be run: it is tried again after that time, and the attempt is not counted.
    Again(Duration),
}

/// What a failed attempt wishes for its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Whatever the settings say.
    Policy,
    /// A retry after that time instead of the back-off; the number of attempts still counts.
    RetryAfter(Duration),
    /// The dead-letter topic at once.
    DeadLetter,
    /// That it is tried on at the longest wait, for ever.
    Park,
    /// No more work.
    Skip,
    /// That the worker stops.
    Stop,
}

/// What the engine made of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The record is finished.
    Finished,
    /// The record is tried again after that time.
    Retry {
        /// Where the record waits.
        slot: SlotId,
        /// The wait.
        after: Duration,
    },
    /// The same, although its attempts are used up: nothing else is configured.
    Parked {
        /// Where the record waits.
        slot: SlotId,
        /// The wait.
        after: Duration,
    },
    /// The driver has to write the record to the dead-letter topic and to report with [`Engine::settled`](super::Engine::settled).
    DeadLetter {
        /// Where the record waits.
        slot: SlotId,
    },
    /// The driver has to write the record to the topic of that tier and to report with
    /// [`Engine::settled`](super::Engine::settled), as for a dead letter.
    Tier {
        /// Where the record waits.
        slot: SlotId,
        /// The number of the tier, from 0.
        tier: usize,
    },
    /// The record is finished without success, as wished.
    Skipped,
    /// The worker has to stop; the record is not finished.
    Stop,
    /// The record was cut off by the end of its assignment; it is not finished.
    CutOff,
    /// An earlier record of its lane failed in the same batch: whatever its outcome was, it counts as not run, and comes
    /// again behind that one.
    NotRun,
    /// The assignment was over already: nothing changed.
    Stale,
}

/// Why an attempt is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutReason {
    /// It took longer than [`Settings::handler_timeout`].
    Timeout,
    /// It is stuck, by [`Settings::stall`].
    Stalled,
    /// Its partition's drain deadline passed, or the partition is lost.
    Drain,
}

/// A record to run now. It is *open* until [`Engine::finish_open`](super::Engine::finish_open),
/// [`Engine::park_open`](super::Engine::park_open) or [`Engine::gather_open`](super::Engine::gather_open).
#[derive(Clone, Copy, Debug)]
pub struct Start<'a, R> {
    /// The batch.
    pub records: &'a R,
    /// The record's place in it.
    pub index: u32,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// When it failed first, in milliseconds since the Unix epoch.
    pub first_failed_ms: Option<i64>,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve nothing of this partition.
    Hold(PartitionId),
    /// Serve it again.
    Release(PartitionId),
    /// End this attempt: drop its future and report [`Outcome::Cut`], or its result if it has one already.
    Cut {
        /// Which.
        slot: SlotId,
        /// Why.
        reason: CutReason,
    },
    /// Run these gathered records together, and tell all their ends at once with
    /// [`Engine::ended_together`](super::Engine::ended_together).
    Run {
        /// Which, in the order in which they were started.
        slots: Vec<SlotId>,
    },
    /// Write this record to the dead-letter topic, untried, as one that follows another one of its lane.
    Follow {
        /// Which.
        slot: SlotId,
        /// The offset of the record that it follows.
        behind: i64,
    },
    /// Write this record to the dead-letter topic, or its tier, once more.
    Settle {
        /// Which.
        slot: SlotId,
    },
    /// Read these records again; they ascend.
    Reread {
        /// Of which partition.
        partition: PartitionId,
        /// In which assignment.
        epoch: Epoch,
        /// Their offsets.
        offsets: Vec<i64>,
    },
    /// Nothing of this partition runs any more: commit it, then [`Engine::close`](super::Engine::close).
    Drained {
        /// Which.
        partition: PartitionId,
        /// In which assignment.
        epoch: Epoch,
        /// Attempts that were running at the deadline.
        cut_off: usize,
    },
}

impl Action {
    /// The partition, if the action is about its assignment as a whole and not about one slot.
    pub(super) fn of_assignment(&self) -> Option<PartitionId> {
        match self {
            Self::Hold(id) | Self::Release(id) => Some(*id),
            Self::Reread { partition, .. } | Self::Drained { partition, .. } => Some(*partition),
            Self::Cut { .. } | Self::Run { .. } | Self::Follow { .. } | Self::Settle { .. } => None,
        }
    }
}

/// Where a partition's work begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resume {
    /// The first offset that is not finished.
    pub offset: i64,
    /// What is finished above it.
    pub finished: Vec<Range<i64>>,
    /// What has failed before.
    pub failing: Vec<Failing>,
    /// Which keys follow a dead letter.
    pub followed: Vec<Followed>,
    /// The leader epoch of the highest finished record.
    pub leader_epoch: Option<i32>,
}
