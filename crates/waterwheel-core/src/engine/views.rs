//! What the engine tells about itself: for commits, and for whoever watches.

use std::ops::Range;
use std::time::Duration;

use super::Engine;
use super::partition::Phase;
use super::slots::Stage;
use crate::commit_map::{Failing, Followed};
use crate::lanes::Waiting;
use crate::types::{Epoch, Now, PartitionId, Records};

/// Records that failed and are kept in a commit map.
const MOST_FAILING: usize = 64;

/// What may be committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPoint {
    /// The assignment.
    pub epoch: Epoch,
    /// The lowest offset not finished.
    pub offset: i64,
    /// The leader epoch of the last record below `offset`, where it is known.
    pub leader_epoch: Option<i32>,
    /// What is finished above `offset`: ascending, disjoint.
    pub finished: Vec<Range<i64>>,
    /// The leader epoch of the highest record that is finished or failing, where it is known.
    pub marks_epoch: Option<i32>,
    /// Records that failed and are not finished, by offset; at most 64.
    pub failing: Vec<Failing>,
    /// Keys that follow a dead letter, by its offset.
    pub followed: Vec<Followed>,
}

impl CommitPoint {
    /// The point at that offset, above which nothing is finished.
    pub fn bare(epoch: Epoch, offset: i64) -> Self {
        let (finished, failing, followed) = (Vec::new(), Vec::new(), Vec::new());
        Self { epoch, offset, leader_epoch: None, finished, marks_epoch: None, failing, followed }
    }
}

/// Why a partition yields no records at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldReason {
    /// Its batches hold more bytes than its share.
    Bytes,
    /// Its dead letters, or letters to retry tiers, cannot be written.
    DeadLetter,
    /// It is being drained.
    Draining,
    /// The worker is paused, or this partition.
    Paused,
    /// The group's coordinator has not answered for too long.
    Lease,
    /// Its commit map is full, and the worker is told to hold then.
    MapFull,
    /// Its records are not due yet.
    Delayed,
    /// The worker's circuit breaker is open, or waits for its probes. Told by whoever drives the engine.
    Breaker,
    /// The worker's rate limit is reached. Told by whoever drives the engine.
    RateLimit,
}

/// One partition, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Which.
    pub partition: PartitionId,
    /// The assignment.
    pub epoch: Epoch,
    /// The lowest offset not finished.
    pub frontier: i64,
    /// The next offset to be taken up.
    pub next: i64,
    /// Attempts that run, or wait for their batch to be full.
    pub running: usize,
    /// Records that wait for their key.
    pub waiting: usize,
    /// Records of which only the offset is kept.
    pub deferred: usize,
    /// Records finished above the frontier.
    pub finished_above: u64,
    /// Bytes held by its batches.
    pub bytes: usize,
    /// Why it yields no records; `None` while it does.
    pub held: Option<HoldReason>,
}

/// What a record in a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkStage {
    /// It waits for its batch to be full, since that long.
    Gathered(Duration),
    /// An attempt runs, since that long.
    Running(Duration),
    /// It is not due yet, and waits for that long.
    Delayed(Duration),
    /// It waits for its next attempt, for that long yet.
    Backoff(Duration),
    /// It waits for its dead letter, or that to a retry tier, to be acknowledged.
    Settling,
}

/// One record in a slot, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InWork {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: i64,
    /// Attempts begun.
    pub attempts: u32,
    /// What it is doing.
    pub stage: WorkStage,
}

impl<R: Records> Engine<R> {
    /// Whether something finished in a partition since its commit point was taken last.
    pub fn is_dirty(&self, id: PartitionId) -> bool {
        self.partition(id).is_some_and(|p| p.dirty)
    }

    /// What may be committed for a partition now. The partition counts as clean afterwards.
    pub fn commit_point(&mut self, id: PartitionId) -> Option<CommitPoint> {
        let p = self.partitions.get_mut(id.index())?.as_deref_mut()?;
        p.dirty = false;
        p.trim_leader_epochs();
        let offset = p.ledger.frontier();
        let finished: Vec<Range<i64>> = p.ledger.finished_above().collect();
        while p.failing.first_entry().is_some_and(|first| *first.key() < offset) {
            p.failing.pop_first();
        }
        let failing: Vec<Failing> = p.failing.values().take(MOST_FAILING).copied().collect();
        // Of all that the map names: a record of a later epoch below its highest offset proves another log.
        let highest = finished.last().map_or(offset, |r| r.end) - 1;
        let highest = failing.last().map_or(highest, |f| highest.max(f.offset));
        let marks_epoch = p.leader_epoch_at(highest).max(p.known_epoch);
        let (epoch, leader_epoch) = (p.epoch, p.leader_epoch_at(offset - 1));
        let followed = p.all_followed();
        Some(CommitPoint { epoch, offset, leader_epoch, finished, marks_epoch, failing, followed })
    }

    /// The partitions that the engine has.
    pub fn assigned(&self) -> impl Iterator<Item = PartitionId> {
        self.partitions.iter().enumerate().filter(|(_, p)| p.is_some()).map(|(i, _)| PartitionId(i as u32))
    }

    /// Each partition, as it is now.
    pub fn views(&self, now: Now) -> Vec<PartitionView> {
        let expired = self.lease.is_some_and(|until| now >= until);
        let view = |(index, p): (usize, &Option<Box<super::Partition>>)| {
            let p = p.as_deref()?;
            let held = match p.phase {
                Phase::Draining { .. } | Phase::Drained { .. } => Some(HoldReason::Draining),
                Phase::Active if self.paused || p.paused => Some(HoldReason::Paused),
                Phase::Active if expired => Some(HoldReason::Lease),
                Phase::Active if p.map_full => Some(HoldReason::MapFull),
                Phase::Active if p.unsettled > 0 => Some(HoldReason::DeadLetter),
                // Whether or not it has as many bytes as it may: it is the delay that it waits for.
                Phase::Active if p.only_delays() => Some(HoldReason::Delayed),
                Phase::Active => p.held.then_some(HoldReason::Bytes),
            };
            Some(PartitionView {
                partition: PartitionId(index as u32),
                epoch: p.epoch,
                frontier: p.ledger.frontier(),
                next: p.ledger.next(),
                running: p.running,
                waiting: p.waiting,
                deferred: p.deferred,
                finished_above: p.ledger.finished_above_count(),
                bytes: p.bytes,
                held,
            })
        };
        self.partitions.iter().enumerate().filter_map(view).collect()
    }

    /// Each record in a slot, as it is now.
    pub fn in_work(&self, now: Now) -> Vec<InWork> {
        let view = |(_, s): (_, &super::Slot)| {
            let stage = match s.stage {
                Stage::Gathered { since } => WorkStage::Gathered(now.since(since)),
                Stage::Running { since, .. } => WorkStage::Running(now.since(since)),
                Stage::Delayed { until } => WorkStage::Delayed(until.since(now)),
                Stage::Backoff { until } => WorkStage::Backoff(until.since(now)),
                Stage::Due if self.attempts(s) == 0 => WorkStage::Delayed(Duration::ZERO),
                Stage::Due => WorkStage::Backoff(Duration::ZERO),
                Stage::Settling { .. } | Stage::SettleBackoff { .. } => WorkStage::Settling,
                Stage::Ghost { .. } | Stage::Vacant => return None,
            };
            Some(InWork { partition: s.partition, offset: s.offset, attempts: self.history_of(s).0, stage })
        };
        self.slots.iter().filter_map(view).collect()
    }

    /// The attempts of a partition that run at records up to `last`.
    pub fn running_up_to(&self, id: PartitionId, last: i64) -> Vec<super::SlotId> {
        let below = |s: &super::Slot| s.partition == id && s.runs() && s.offset <= last;
        self.slots.iter().filter(|(_, s)| below(s)).map(|(slot, _)| slot).collect()
    }

    /// The open record: its batch and its place there.
    pub fn open_record(&self) -> Option<(&R, u32)> {
        let open = self.open.as_ref()?;
        Some((self.batches.records(open.batch)?, open.index))
    }

    /// The record in a slot: its batch and its place there.
    pub fn record(&self, slot: super::SlotId) -> Option<(&R, u32)> {
        let s = self.slots.get(slot)?;
        Some((self.batches.records(s.batch)?, s.index))
    }

    /// How often the record in a slot was tried, in all tiers, and when it failed first (milliseconds since the Unix epoch).
    pub fn history(&self, slot: super::SlotId) -> Option<(u32, Option<i64>)> {
        let s = self.slots.get(slot)?;
        Some(self.history_of(s))
    }

    fn history_of(&self, s: &super::Slot) -> (u32, Option<i64>) {
        let here = (self.attempts(s), self.first_failed_ms(s.partition, s.offset));
        self.in_all(s.partition, Waiting { batch: s.batch, index: s.index }, here.0, here.1)
    }

    /// When the attempt began that runs in a slot, and counts.
    pub fn running_since(&self, slot: super::SlotId) -> Option<Now> {
        match self.slots.get(slot)?.stage {
            Stage::Running { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether an attempt runs in a slot, or is about to, also of an assignment that is over.
    pub fn is_under_way(&self, slot: super::SlotId) -> bool {
        let under_way = |stage| matches!(stage, Stage::Gathered { .. } | Stage::Running { .. } | Stage::Ghost { .. });
        self.slots.get(slot).is_some_and(|s| under_way(s.stage))
    }

    /// Attempts begun here at the record in a slot.
    fn attempts(&self, s: &super::Slot) -> u32 {
        let failures = self.partition(s.partition).map_or(0, |p| p.failures(s.offset));
        failures + u32::from(s.runs())
    }

    /// When the record at `offset` failed first, in milliseconds since the Unix epoch.
    pub(super) fn first_failed_ms(&self, id: PartitionId, offset: i64) -> Option<i64> {
        self.partition(id)?.failing.get(&offset).map(|f| f.first_failed_ms)
    }

    /// Attempts that run, those of dead assignments included.
    pub fn running(&self) -> usize {
        self.slots.iter().filter(|(_, s)| matches!(s.stage, Stage::Running { .. } | Stage::Ghost { .. })).count()
    }

    /// Records in slots and batches held, for tests of memory.
    pub fn footprint(&self) -> (usize, usize) {
        (self.slots.len(), self.batches.count())
    }
}
