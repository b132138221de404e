//! Why: what is known of one partition, one record, one key, for whoever asks what work waits for.
//!
//! Questions are rare: they walk what the engine has, and cost the path of a record nothing. The one thing that nobody
//! could tell afterwards, since when a record holds the commit, is looked at whenever commits are collected
//! ([`Engine::see_heads`]).

use std::time::Duration;

use super::slots::{Slot, SlotId, Stage};
use super::views::PartitionView;
use super::{Engine, Partition};
use crate::lanes::{LaneKey, Waiting};
use crate::types::{Now, PartitionId, Records};

/// What is asked of a partition beside how it is itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// Nothing.
    Partition,
    /// The record at that offset.
    Offset(i64),
    /// The records of that key.
    Key(&'a [u8]),
}

/// Where a record is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Needs no more work, or was never there: a hole in the log that was passed over.
    Finished,
    /// Waits for its batch to be full, since that long.
    Gathered(Duration),
    /// An attempt runs, since that long.
    Running(Duration),
    /// An attempt runs, since that long, and was told to end.
    Cutting(Duration),
    /// Waits for its next attempt, for that long yet.
    Backoff(Duration),
    /// It is not due yet, by its process delay; so long from now.
    Delayed(Duration),
    /// Its next attempt is due, and waits for a credit or for its partition's turn.
    Due,
    /// Waits for its dead letter, or that to a retry tier, to be acknowledged.
    Settling,
    /// That letter could not be written, and is sent again in a moment.
    Resending,
    /// Waits for records of its key.
    Queued {
        /// How many of them are before it, those in work included.
        behind: usize,
        /// The first of those in work, if one is.
        head: Option<i64>,
    },
    /// The same, kept as an offset only: it is read again when its turn comes.
    Kept {
        /// How many records of its key are before it, those in work included.
        behind: usize,
        /// The first of those in work, if one is.
        head: Option<i64>,
    },
    /// Was fetched, and is not taken up yet.
    Fetched,
    /// Lies behind all that was fetched.
    Unfetched,
    /// Lies among what was fetched and is no record: a hole in the log that is not passed over yet.
    Absent,
}

/// One record, as it is now.
#[derive(Clone, Debug)]
pub struct RecordView<R> {
    /// Its offset.
    pub offset: i64,
    /// Where it is in its life.
    pub place: Place,
    /// Attempts begun.
    pub attempts: u32,
    /// When it failed first, in milliseconds since the Unix epoch.
    pub first_failed_ms: Option<i64>,
    /// Its slot, if it has one.
    pub slot: Option<SlotId>,
    /// The record itself, its batch and its place there, if it is in memory.
    pub record: Option<(R, u32)>,
}

/// One key, as it is now.
#[derive(Clone, Debug)]
pub struct KeyView<R> {
    /// Its records in slots: those that run, wait for a retry, or are being settled.
    pub in_work: Vec<RecordView<R>>,
    /// Its records in the queue behind those.
    pub queued: usize,
    /// Its records behind those again, of which only the offset is kept.
    pub kept: usize,
    /// The offsets of the first that wait, at most 16.
    pub first: Vec<i64>,
}

/// The record that holds a partition's commit.
#[derive(Clone, Debug)]
pub struct Head<R> {
    /// Of which partition.
    pub partition: PartitionId,
    /// The record.
    pub record: RecordView<R>,
    /// For how long it has been seen to.
    pub age: Duration,
}

/// The answer about a partition.
#[derive(Clone, Debug)]
pub struct Explained<R> {
    /// The partition itself.
    pub view: PartitionView,
    /// The next offset to be fetched.
    pub fetched_to: i64,
    /// Records in slots that do not run.
    pub set_aside: usize,
    /// What holds the commit; `None` where nothing that was fetched is unfinished.
    pub head: Option<Head<R>>,
    /// The record asked about.
    pub record: Option<RecordView<R>>,
    /// The key asked about; `None` where it has no records in work, or keys have no order.
    pub key: Option<KeyView<R>>,
    /// The dead letter that the key asked about follows.
    pub follows: Option<i64>,
}

/// Offsets of waiting records that are told.
const FIRST: usize = 16;

impl<R: Records> Engine<R> {
    /// Looks which record holds each partition's commit. To be told each time that commits are collected: how long one
    /// has done so is known to that interval.
    pub fn see_heads(&mut self, now: Now) {
        for p in self.partitions.iter_mut().flatten() {
            let head = head_of(p, |batch| self.batches.records(batch));
            p.head = head.map(|offset| match p.head {
                Some((before, since)) if before == offset => (offset, since),
                _ => (offset, now),
            });
        }
    }

    /// The record that holds the commit, of each partition that has one.
    pub fn heads(&self, now: Now) -> Vec<Head<R>> {
        self.assigned().filter_map(|id| self.head(id, now)).collect()
    }

    /// What is known of a partition, and of a record or a key of it.
    pub fn explain(&self, id: PartitionId, subject: Subject<'_>, now: Now) -> Option<Explained<R>> {
        let view = self.views(now).into_iter().find(|view| view.partition == id)?;
        let p = self.partition(id)?;
        let (record, key) = match subject {
            Subject::Partition => (None, None),
            Subject::Offset(offset) => (Some(self.look(id, p, offset, now)), None),
            Subject::Key(key) => {
                let lane = self.settings.order.lane(Some(key));
                (None, lane.and_then(|lane| self.look_at_key(id, p, lane, now)))
            }
        };
        let follows = match subject {
            Subject::Key(key) => p.follows(i64::MAX, self.settings.order, || Some(key)),
            Subject::Partition | Subject::Offset(_) => None,
        };
        let (fetched_to, set_aside) = (self.end_of(p), p.aside());
        Some(Explained { view, fetched_to, set_aside, head: self.head(id, now), record, key, follows })
    }

    fn head(&self, id: PartitionId, now: Now) -> Option<Head<R>> {
        let p = self.partition(id)?;
        let offset = head_of(p, |batch| self.batches.records(batch))?;
        let since = p.head.filter(|(seen, _)| *seen == offset).map_or(now, |(_, since)| since);
        Some(Head { partition: id, record: self.look(id, p, offset, now), age: now.since(since) })
    }

    /// The next offset to be fetched, also of a partition that drains.
    fn end_of(&self, p: &Partition) -> i64 {
        let last = p.backlog.back().and_then(|cursor| self.batches.records(cursor.batch));
        let fetched = last.map_or(i64::MIN, |records| records.offset(records.len() - 1) + 1);
        p.ledger.next().max(fetched).max(p.skip_to.unwrap_or(i64::MIN))
    }

    fn look(&self, id: PartitionId, p: &Partition, offset: i64, now: Now) -> RecordView<R> {
        let mut slots = self.slots.iter().filter(|(_, s)| s.partition == id && s.offset == offset);
        if let Some((slot, s)) = slots.find(|(_, s)| !matches!(s.stage, Stage::Ghost { .. })) {
            return self.look_at_slot(slot, s, now);
        }
        let offset_of = |at: Waiting| self.batches.records(at.batch).map(|r| r.offset(at.index as usize));
        let mut record = None;
        let place = if p.ledger.is_finished(offset) {
            Place::Finished
        } else if let Some(key) = p.lanes.lane_with(|at| {
            let is = offset_of(at) == Some(offset);
            record = if is { Some(at) } else { record };
            is
        }) {
            let queued = p.lanes.look(key).map_or_else(Vec::new, |lane| lane.queued);
            let (in_work, head) = self.in_work_of(id, key);
            let before = queued.iter().take_while(|at| offset_of(**at) != Some(offset)).count();
            Place::Queued { behind: in_work + before, head }
        } else if let Some(key) = p.lanes.lane_keeping(offset) {
            let (in_work, head) = self.in_work_of(id, key);
            let before = p
                .lanes
                .look(key)
                .map_or(0, |lane| lane.queued.len() + lane.kept.iter().take_while(|kept| **kept != offset).count());
            Place::Kept { behind: in_work + before, head }
        } else if let Some(at) = self.in_backlog(p, offset) {
            record = Some(at);
            Place::Fetched
        } else if offset >= self.end_of(p) {
            Place::Unfetched
        } else {
            Place::Absent
        };
        let (mut attempts, mut first_failed_ms) = (p.failures(offset), p.known(offset).map(|f| f.first_failed_ms));
        if let Some(at) = record {
            (attempts, first_failed_ms) = self.in_all(id, at, attempts, first_failed_ms);
        }
        let record = record.and_then(|at| Some((self.batches.records(at.batch)?.clone(), at.index)));
        RecordView { offset, place, attempts, first_failed_ms, slot: None, record }
    }

    fn look_at_slot(&self, slot: SlotId, s: &Slot, now: Now) -> RecordView<R> {
        let place = match s.stage {
            Stage::Gathered { since } => Place::Gathered(now.since(since)),
            Stage::Running { since, cut: None } => Place::Running(now.since(since)),
            Stage::Running { since, cut: Some(_) } => Place::Cutting(now.since(since)),
            Stage::Delayed { until } => Place::Delayed(until.since(now)),
            Stage::Backoff { until } => Place::Backoff(until.since(now)),
            Stage::Due => Place::Due,
            Stage::Settling { .. } => Place::Settling,
            Stage::SettleBackoff { .. } => Place::Resending,
            // Not shown: nobody's record any more.
            Stage::Ghost { .. } | Stage::Vacant => Place::Finished,
        };
        let (attempts, first_failed_ms) = self.history(slot).unwrap_or_default();
        let record = self.batches.records(s.batch).map(|records| (records.clone(), s.index));
        RecordView { offset: s.offset, place, attempts, first_failed_ms, slot: Some(slot), record }
    }

    fn look_at_key(&self, id: PartitionId, p: &Partition, key: LaneKey, now: Now) -> Option<KeyView<R>> {
        let lane = p.lanes.look(key)?;
        let mut in_work: Vec<_> = self.slots_of(id, key).map(|(slot, s)| self.look_at_slot(slot, s, now)).collect();
        in_work.sort_by_key(|record| record.offset);
        let queued = lane.queued.iter();
        let queued = queued.filter_map(|at| Some(self.batches.records(at.batch)?.offset(at.index as usize)));
        let first = queued.chain(lane.kept.iter().copied()).take(FIRST).collect();
        Some(KeyView { in_work, queued: lane.queued.len(), kept: lane.kept.len(), first })
    }

    /// The records of a lane in slots.
    fn slots_of(&self, id: PartitionId, key: LaneKey) -> impl Iterator<Item = (SlotId, &Slot)> {
        let is_of = move |s: &Slot| s.partition == id && s.lane == Some(key) && !matches!(s.stage, Stage::Ghost { .. });
        self.slots.iter().filter(move |(_, s)| is_of(s))
    }

    /// How many records of a lane are in slots, and the first of them.
    fn in_work_of(&self, id: PartitionId, key: LaneKey) -> (usize, Option<i64>) {
        (self.slots_of(id, key).count(), self.slots_of(id, key).map(|(_, s)| s.offset).min())
    }

    fn in_backlog(&self, p: &Partition, offset: i64) -> Option<Waiting> {
        p.backlog.iter().find_map(|cursor| {
            let records = self.batches.records(cursor.batch)?;
            let mut rest = cursor.next..records.len() as u32;
            let index = rest.find(|index| records.offset(*index as usize) == offset)?;
            Some(Waiting { batch: cursor.batch, index })
        })
    }
}

/// The offset that holds the commit: the lowest that was fetched and is not finished.
fn head_of<'a, R: Records + 'a>(p: &Partition, records: impl Fn(u32) -> Option<&'a R>) -> Option<i64> {
    let frontier = p.ledger.frontier();
    if frontier < p.ledger.next() {
        return Some(frontier);
    }
    let taken_up = p.backlog.iter().filter_map(|cursor| {
        let records = records(cursor.batch)?;
        let mut rest = cursor.next as usize..records.len();
        rest.find(|index| !p.ledger.is_finished(records.offset(*index))).map(|index| records.offset(index))
    });
    let mut taken_up = taken_up;
    taken_up.next()
}
