//! Batches: records that are gathered as they start, and run together.
//!
//! ```text
//! open ─gather_open─▶ gathered ─full, its time is up, or no credit left─▶ Action::Run: running ─ended_together─▶ as ever
//! ```
//!
//! A batch is of any partitions of the shard. A lane admits further records while all that it has in work is gathered, so a
//! batch holds several records of a key, in their order; from [`Action::Run`] on the lane waits for all of them. Of those
//! the first that fails makes the later ones *not run*: they go back to the head of their lane, uncounted (**I2**).
//!
//! A record that failed before is a batch by itself, and so is one that a failed batch did not count: what fails a batch
//! fails it once for each key.

use std::collections::HashMap;

use super::slots::{Slot, SlotId, Stage};
use super::types::{Action, Outcome, Verdict};
use super::{Engine, Timer};
use crate::lanes::{LaneKey, Waiting};
use crate::types::{Now, PartitionId, Records};

/// The batch that is not full yet.
#[derive(Default)]
pub(super) struct Gathering {
    slots: Vec<SlotId>,
    /// When it runs as it is.
    due: Option<Now>,
}

impl Gathering {
    pub(super) fn is_due(&self, at: Now) -> bool {
        self.due == Some(at)
    }
}

impl<R: Records> Engine<R> {
    /// The open record joins the batch that is being gathered; [`Action::Run`] says when that runs.
    pub fn gather_open(&mut self, now: Now) -> Option<SlotId> {
        let (id, offset) = self.open.map(|open| (open.partition, open.offset))?;
        let slot = self.place(Stage::Gathered { since: now })?;
        if self.partition(id).is_some_and(|p| p.is_suspect(offset)) {
            self.run(vec![slot], now);
            return Some(slot);
        }
        let lane = self.slots.get(slot).and_then(|s| s.lane);
        if let (Some(key), Some(p)) = (lane, self.partition_mut(id)) {
            p.lanes.open(key);
        }
        if self.gathering.slots.is_empty() {
            let due = now + self.settings.gather.wait;
            self.gathering.due = Some(due);
            self.set_timer(due, Timer::Gather);
        }
        self.gathering.slots.push(slot);
        if self.gathering.slots.len() >= self.settings.gather.max {
            self.run_gathered(now);
        }
        Some(slot)
    }

    /// No later record of its lane joins the one in the slot: it is not going to be worked on in its batch.
    pub fn close_lane(&mut self, slot: SlotId) {
        let Some(&Slot { partition, lane: Some(key), stage: Stage::Gathered { .. }, .. }) = self.slots.get(slot) else {
            return;
        };
        if let Some(p) = self.partition_mut(partition) {
            p.lanes.close(key);
        }
    }

    /// There is nothing to start at the moment. If that is for want of credits, which those gathered hold too, these run;
    /// whether there are some.
    pub fn stalled(&mut self, now: Now) -> bool {
        let runs = !self.gathering.slots.is_empty() && !self.starved.is_empty() && self.may_start(now);
        if runs {
            self.run_gathered(now);
        }
        runs
    }

    /// The records of a batch have ended, in the order of its [`Action::Run`]. A verdict for each, in that order.
    ///
    /// What is told of a record counts unless one before it, of its lane, is not finished by what was told of that.
    pub fn ended_together(&mut self, ends: &[(SlotId, Outcome)], now: Now) -> Vec<Verdict> {
        let mut failed: HashMap<(PartitionId, LaneKey), Vec<Waiting>> = HashMap::new();
        let mut verdicts = Vec::with_capacity(ends.len());
        for (slot, outcome) in ends {
            let lane = self.slots.get(*slot).filter(|s| s.runs()).and_then(|s| Some((s.partition, s.lane?)));
            if let Some(behind) = lane.and_then(|lane| failed.get_mut(&lane)) {
                behind.extend(self.give_back(*slot, *outcome));
                verdicts.push(Verdict::NotRun);
                continue;
            }
            let verdict = self.ended(*slot, *outcome, now);
            if !matches!(verdict, Verdict::Finished | Verdict::Skipped | Verdict::Stale)
                && let Some(lane) = lane
            {
                failed.insert(lane, Vec::new());
            }
            verdicts.push(verdict);
        }
        for ((id, key), behind) in failed {
            if let Some(p) = self.partition_mut(id) {
                p.lanes.put_back(key, &behind);
            }
        }
        verdicts
    }

    /// A record that runs counts as not run. Returns where it is, unless its partition drains: then nothing waits.
    fn give_back(&mut self, slot: SlotId, outcome: Outcome) -> Option<Waiting> {
        let Slot { partition: id, batch, index, offset, lane, .. } = self.slots.get(slot).copied()?;
        let p = self.partitions[id.index()].as_deref_mut()?;
        p.running -= 1;
        self.credits.end(&mut p.share);
        let waits = p.is_active();
        if waits {
            if matches!(outcome, Outcome::Failed(_) | Outcome::Cut) {
                p.suspects.insert(offset);
            }
            p.slotted -= 1;
            p.waiting += 1;
            if let Some(key) = lane {
                p.lanes.vacate(key);
            }
            self.slots.remove(slot);
        } else {
            self.drop_slot(slot);
        }
        self.enqueue(id);
        self.wake_starved();
        self.check_drained(id);
        waits.then_some(Waiting { batch, index })
    }

    /// Runs a batch whose time is up, once anything may start.
    pub(super) fn run_overdue(&mut self, now: Now) {
        if self.gathering.due.is_some_and(|due| due <= now) && self.may_start(now) {
            self.run_gathered(now);
        }
    }

    fn run_gathered(&mut self, now: Now) {
        self.gathering.due = None;
        let slots = std::mem::take(&mut self.gathering.slots);
        if !slots.is_empty() {
            self.run(slots, now);
        }
    }

    fn run(&mut self, slots: Vec<SlotId>, now: Now) {
        for slot in &slots {
            let Some(s) = self.slots.get_mut(*slot) else { continue };
            s.stage = Stage::Running { since: now, cut: None };
            let (id, lane) = (s.partition, s.lane);
            if let (Some(key), Some(p)) = (lane, self.partition_mut(id)) {
                p.lanes.close(key);
            }
            self.limit(*slot, now);
        }
        self.actions.push_back(Action::Run { slots });
    }

    /// What is gathered of a partition has not run, and does not.
    pub(super) fn drop_gathered(&mut self, id: PartitionId) {
        if self.gathering.slots.is_empty() {
            return;
        }
        let slots = std::mem::take(&mut self.gathering.slots);
        let (dropped, others): (Vec<_>, Vec<_>) =
            slots.into_iter().partition(|slot| self.slots.get(*slot).is_none_or(|s| s.partition == id));
        self.gathering.slots = others;
        for slot in dropped {
            if let Some(p) = self.partitions[id.index()].as_deref_mut() {
                p.running -= 1;
                self.credits.end(&mut p.share);
            }
            self.drop_slot(slot);
        }
        if self.gathering.slots.is_empty() {
            self.gathering.due = None;
        }
        self.wake_starved();
    }
}
