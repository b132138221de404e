//! How attempts end, and what follows: finished, tried again, dead-lettered, given up.

use std::time::Duration;

use super::slots::{Slot, SlotId, Stage};
use super::types::{Action, CutReason, Exhausted, Outcome, Verdict, Wish};
use super::{Engine, Open, Timer, wall_ms};
use crate::commit_map::Failing;
use crate::lanes::{LaneKey, Order};
use crate::tiers::Next;
use crate::types::{Now, Records};

impl<R: Records> Engine<R> {
    /// The open record ended where it began.
    pub fn finish_open(&mut self, outcome: Outcome, now: Now) -> Verdict {
        if outcome == Outcome::Ok {
            let Some(Open { partition: id, batch, offset, lane, occupied, slot, .. }) = self.open else {
                return Verdict::Stale;
            };
            self.open = None;
            // The way of nearly every record: no slot, no lane, no credit was taken.
            let Some(p) = self.partitions[id.index()].as_deref_mut() else { return Verdict::Stale };
            p.ledger.finish(offset);
            p.dirty = true;
            let freed = self.batches.release(batch);
            p.bytes -= freed;
            if let Some(slot) = slot {
                p.slotted -= 1;
                p.failing.remove(&offset);
                self.slots.remove(slot);
            }
            if freed > 0 {
                self.update_hold(id);
            }
            if let Some(lane) = lane.filter(|_| occupied) {
                self.vacate(id, lane);
            }
            return Verdict::Finished;
        }
        let Some(slot) = self.place(Stage::Running { since: now, cut: None }) else { return Verdict::Stale };
        self.ended(slot, outcome, now)
    }

    /// The open record goes on elsewhere; its end comes with [`Engine::ended`].
    pub fn park_open(&mut self, now: Now) -> Option<SlotId> {
        let slot = self.place(Stage::Running { since: now, cut: None })?;
        self.limit(slot, now);
        Some(slot)
    }

    /// An attempt begins now: it may take as long as is set.
    pub(super) fn limit(&mut self, slot: SlotId, now: Now) {
        if let Some(timeout) = self.settings.handler_timeout {
            self.set_timer(now + timeout, Timer::Timeout(slot));
        }
        if let Some(after) = self.stalls_after() {
            self.set_timer(now + after, Timer::Stall(slot));
        }
    }

    /// How long an attempt runs until it counts as stuck.
    pub(super) fn stalls_after(&self) -> Option<Duration> {
        self.settings.stall.map(|stall| stall.after)
    }

    /// An attempt in a slot ended.
    pub fn ended(&mut self, slot: SlotId, outcome: Outcome, now: Now) -> Verdict {
        let Some(s) = self.slots.get_mut(slot) else { return Verdict::Stale };
        let cut = match s.stage {
            Stage::Running { cut, .. } => cut,
            Stage::Ghost { epoch } => {
                self.end_ghost(slot, epoch);
                return Verdict::Stale;
            }
            _ => return Verdict::Stale,
        };
        let id = s.partition;
        let draining = {
            let Some(p) = self.partitions[id.index()].as_deref_mut() else { return Verdict::Stale };
            p.running -= 1;
            self.credits.end(&mut p.share);
            !p.is_active()
        };
        // The credit may be one that the partition keeps: then no free one wakes it.
        self.enqueue(id);
        self.wake_starved();
        let verdict = match outcome {
            Outcome::Ok => {
                self.finish_slot(slot);
                return Verdict::Finished;
            }
            Outcome::Again(_) if draining => self.drop_slot(slot),
            Outcome::Again(after) => {
                self.back_off(slot, after, now);
                Verdict::Retry { slot, after }
            }
            Outcome::Failed(wish) => self.failed(slot, wish, draining, now),
            Outcome::Cut if cut == Some(CutReason::Stalled) => {
                let wish = self.settings.stall.map_or(Wish::Policy, |stall| stall.wish);
                self.failed(slot, wish, draining, now)
            }
            // A time-out, or a future that was dropped by the runtime: a failure like others.
            Outcome::Cut => self.failed(slot, Wish::Policy, draining, now),
        };
        self.check_drained(id);
        verdict
    }

    /// Nobody took up the attempt, and the partition is about to be drained or lost: its record is as if it had not been
    /// started.
    pub fn unstart(&mut self, slot: SlotId) {
        let Some(Slot { partition: id, stage: Stage::Running { .. }, .. }) = self.slots.get(slot).copied() else {
            return;
        };
        if let Some(p) = self.partitions[id.index()].as_deref_mut() {
            p.running -= 1;
            self.credits.end(&mut p.share);
        }
        self.drop_slot(slot);
        self.wake_starved();
    }

    /// The dead letter of a record, or its copy in a tier, was acknowledged, or could not be written.
    pub fn settled(&mut self, slot: SlotId, written: bool, now: Now) -> Verdict {
        let Some(s) = self.slots.get_mut(slot) else { return Verdict::Stale };
        let Stage::Settling { tries } = s.stage else { return Verdict::Stale };
        let (id, seed) = (s.partition, s.offset as u64);
        if let Some(p) = self.partitions[id.index()].as_deref_mut() {
            p.settling -= 1;
            if tries > 0 && written {
                // Zero already where the partition drains.
                p.unsettled = p.unsettled.saturating_sub(1);
            }
        }
        if written {
            self.begin_following(slot);
            self.finish_slot(slot);
            return Verdict::Finished;
        }
        if self.partition(id).is_some_and(|p| !p.is_active()) {
            let verdict = self.drop_slot(slot);
            self.check_drained(id);
            return verdict;
        }
        if let Some(p) = self.partition_mut(id).filter(|_| tries == 0) {
            p.unsettled += 1;
        }
        let tries = tries.saturating_add(1);
        let after = self.settings.settle_retry.wait(tries, seed);
        if let Some(s) = self.slots.get_mut(slot) {
            s.stage = Stage::SettleBackoff { tries };
        }
        self.set_timer(now + after, Timer::Settle(slot));
        Verdict::Retry { slot, after }
    }

    /// Puts the open record in a slot, where it runs or waits for its batch.
    pub(super) fn place(&mut self, stage: Stage) -> Option<SlotId> {
        let Open { partition: id, batch, index, offset, lane, occupied, slot, .. } = self.open?;
        self.open = None;
        let lane = lane.or_else(|| self.lane(batch, index));
        let p = self.partitions[id.index()].as_deref_mut()?;
        p.running += 1;
        self.credits.start(&mut p.share);
        if let Some(key) = lane.filter(|_| !occupied) {
            p.lanes.occupy(key);
        }
        match slot {
            Some(slot) => self.slots.get_mut(slot)?.stage = stage,
            None => p.slotted += 1,
        }
        Some(slot.unwrap_or_else(|| self.slots.insert(Slot::new(id, batch, index, offset, lane, stage))))
    }

    /// The lane of a record.
    pub(super) fn lane(&self, batch: u32, index: u32) -> Option<LaneKey> {
        if self.settings.order == Order::None {
            return None;
        }
        self.settings.order.lane(self.batches.records(batch)?.key(index as usize))
    }

    /// Decides what follows a failed attempt.
    pub(super) fn failed(&mut self, slot: SlotId, wish: Wish, draining: bool, now: Now) -> Verdict {
        let wall_now = wall_ms(self.settings.wall_start_ms, now);
        let Some(Slot { partition: id, offset, .. }) = self.slots.get(slot).copied() else {
            return Verdict::Stale;
        };
        let Some(p) = self.partition_mut(id) else { return Verdict::Stale };
        let failing = Failing { offset, attempts: 0, first_failed_ms: wall_now, next_try_ms: 0 };
        p.suspects.remove(&offset);
        let failing = p.failing.entry(offset).or_insert(failing);
        failing.attempts = failing.attempts.saturating_add(1);
        let (attempts, seed) = (failing.attempts, offset as u64 ^ (u64::from(id.0) << 48));
        let next = self.next_by_policy(slot, attempts);
        let last = match wish {
            Wish::DeadLetter => Some(Exhausted::DeadLetter),
            Wish::Park => Some(Exhausted::Park),
            Wish::Skip => Some(Exhausted::Skip),
            Wish::Stop => Some(Exhausted::Stop),
            Wish::Policy | Wish::RetryAfter(_) => match next {
                Next::Exhausted => Some(self.settings.exhausted),
                Next::Tier(tier) => {
                    self.settle(slot);
                    return Verdict::Tier { slot, tier };
                }
                Next::Again => None,
            },
        };
        match last {
            Some(Exhausted::Skip) => {
                self.finish_slot(slot);
                Verdict::Skipped
            }
            Some(Exhausted::DeadLetter) if self.settings.dead_letter && !self.follows_enough(slot) => {
                self.settle(slot);
                Verdict::DeadLetter { slot }
            }
            Some(Exhausted::Stop) => {
                self.drop_slot(slot);
                Verdict::Stop
            }
            _ if draining => self.drop_slot(slot),
            Some(Exhausted::Park | Exhausted::DeadLetter) => {
                let after = self.settings.retry.max();
                self.back_off(slot, after, now);
                Verdict::Parked { slot, after }
            }
            None => {
                let after = match wish {
                    Wish::RetryAfter(after) => after,
                    _ => self.settings.retry.wait(attempts, seed),
                };
                self.back_off(slot, after, now);
                Verdict::Retry { slot, after }
            }
        }
    }

    /// A record waits for its next attempt. It is copied out of its batch, so as not to keep its neighbours.
    pub(super) fn back_off(&mut self, slot: SlotId, after: Duration, now: Now) {
        let Some(s) = self.slots.get_mut(slot) else { return };
        let until = now + after;
        s.stage = Stage::Backoff { until };
        let (id, offset) = (s.partition, s.offset);
        if let Some((batch, growth)) = self.batches.detach(s.batch, s.index) {
            (s.batch, s.index) = (batch, 0);
            if let Some(p) = self.partitions[id.index()].as_deref_mut() {
                p.bytes = p.bytes.saturating_add_signed(growth);
            }
            self.update_hold(id);
        }
        let next_try_ms = wall_ms(self.settings.wall_start_ms, until);
        if let Some(p) = self.partition_mut(id) {
            p.dirty = true;
            if let Some(failing) = p.failing.get_mut(&offset) {
                failing.next_try_ms = next_try_ms;
            }
        }
        self.set_timer(until, Timer::Retry(slot));
    }

    pub(super) fn retry_due(&mut self, slot: SlotId) {
        let Some(s) = self.slots.get_mut(slot) else { return };
        let was_delayed = match s.stage {
            Stage::Delayed { .. } => true,
            Stage::Backoff { .. } => false,
            _ => return,
        };
        s.stage = Stage::Due;
        let (id, offset) = (s.partition, s.offset);
        if let Some(p) = self.partition_mut(id) {
            p.due.push_back(slot);
            p.delayed -= usize::from(was_delayed);
            if let Some(failing) = p.failing.get_mut(&offset) {
                failing.next_try_ms = 0;
            }
        }
        self.enqueue(id);
    }

    pub(super) fn settle(&mut self, slot: SlotId) {
        let Some(s) = self.slots.get_mut(slot) else { return };
        let tries = if let Stage::SettleBackoff { tries } = s.stage { tries } else { 0 };
        s.stage = Stage::Settling { tries };
        let id = s.partition;
        if let Some(p) = self.partition_mut(id) {
            p.settling += 1;
        }
    }

    pub(super) fn settle_due(&mut self, slot: SlotId) {
        let Some(s) = self.slots.get(slot) else { return };
        if !matches!(s.stage, Stage::SettleBackoff { .. }) {
            return;
        }
        self.settle(slot);
        self.actions.push_back(Action::Settle { slot });
    }

    /// Cuts an attempt that has run for as long as it may.
    pub(super) fn cut_late(&mut self, slot: SlotId, within: Option<Duration>, reason: CutReason, now: Now) {
        let (Some(within), Some(s)) = (within, self.slots.get_mut(slot)) else { return };
        // The timer may be that of an earlier attempt, which ended in time.
        if let Stage::Running { since, cut: None } = s.stage
            && since + within <= now
        {
            s.stage = Stage::Running { since, cut: Some(reason) };
            self.actions.push_back(Action::Cut { slot, reason });
        }
    }

    /// The record in the slot needs no more work.
    pub(super) fn finish_slot(&mut self, slot: SlotId) {
        let Some(&Slot { partition: id, batch, offset, lane, .. }) = self.slots.get(slot) else { return };
        self.slots.remove(slot);
        let freed = self.batches.release(batch);
        let Some(p) = self.partition_mut(id) else { return };
        p.ledger.finish(offset);
        p.failing.remove(&offset);
        p.suspects.remove(&offset);
        p.dirty = true;
        p.slotted -= 1;
        p.bytes -= freed;
        if freed > 0 {
            self.update_hold(id);
        }
        if let Some(key) = lane {
            self.vacate(id, key);
        }
        self.enqueue(id);
        self.check_drained(id);
    }

    /// The record in the slot is given up unfinished: its partition drains, or the worker stops.
    pub(super) fn drop_slot(&mut self, slot: SlotId) -> Verdict {
        let Some(&Slot { partition: id, batch, .. }) = self.slots.get(slot) else { return Verdict::Stale };
        self.slots.remove(slot);
        let freed = self.batches.release(batch);
        if let Some(p) = self.partition_mut(id) {
            p.slotted -= 1;
            p.bytes -= freed;
        }
        Verdict::CutOff
    }
}
