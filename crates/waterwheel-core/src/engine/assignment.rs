//! Partitions come and go: assign, drain, lose, close.
//!
//! ```text
//! assign ─▶ active ─drain─▶ draining ─nothing runs, or the deadline─▶ drained ─commit─▶ close
//!              └──────lose──────┴───────────────────────────────────────────────────────▶ close, no commit
//! ```
//!
//! What still runs when its assignment ends becomes a ghost: its result changes nothing (I4), but its lane stays taken, so
//! that a partition which comes back to this member never runs a key twice at once.

use super::partition::{Partition, Phase};
use super::slots::{SlotId, Stage};
use super::types::{Action, CutReason, Resume};
use super::{Engine, SWEEP_EVERY, Timer};
use crate::budget::reserve;
use crate::ledger::Ledger;
use crate::types::{Epoch, Now, PartitionId, Records};

impl<R: Records> Engine<R> {
    /// Says how many partitions the whole worker has, from which the shares follow.
    pub fn set_worker_partitions(&mut self, partitions: usize) {
        self.worker_partitions = partitions;
        self.share_out();
        self.set_reserves();
        for id in 0..self.partitions.len() {
            self.update_hold(PartitionId(id as u32));
        }
        self.wake_starved();
    }

    /// Says how many attempts may run at once in the whole worker from now on. Those that run go on; the pool of credits
    /// is its owner's affair.
    pub fn set_concurrency(&mut self, concurrency: usize) {
        self.settings.concurrency = concurrency;
        self.set_reserves();
        self.wake_starved();
    }

    fn set_reserves(&mut self) {
        let partitions = self.worker_partitions;
        self.credits.set_reserve(reserve(self.settings.concurrency, partitions));
        self.reserves_lacking = true;
        for p in self.partitions.iter_mut().flatten() {
            self.credits.trim_reserve(&mut p.share);
        }
    }

    /// A partition is this shard's from now on. One that is there already is replaced, as if it had been lost.
    pub fn assign(&mut self, id: PartitionId, epoch: Epoch, resume: Resume, now: Now) {
        if self.partition(id).is_some() {
            self.lose(id, now);
        }
        if self.partitions.len() <= id.index() {
            self.partitions.resize_with(id.index() + 1, || None);
        }
        let mut p = Partition::new(epoch, Ledger::new(resume.offset, resume.finished), self.settings.delay);
        p.failing = resume.failing.into_iter().map(|f| (f.offset, f)).collect();
        p.known_epoch = resume.leader_epoch;
        if self.settings.follow {
            p.go_on_following(self.settings.order, resume.followed);
        }
        for (partition, lane) in self.ghosts.keys() {
            if *partition == id {
                p.lanes.occupy(*lane);
            }
        }
        self.credits.fill_reserve(&mut p.share);
        self.reserves_lacking = true;
        self.partitions[id.index()] = Some(Box::new(p));
        self.assigned += 1;
        self.share_out();
        if !self.sweeping {
            self.sweeping = true;
            self.set_timer(now + SWEEP_EVERY, Timer::Sweep);
        }
    }

    /// Starts no more records of a partition; what runs may end until `deadline`. Ends in [`Action::Drained`]. A second
    /// call can bring the deadline forward.
    pub fn drain(&mut self, id: PartitionId, deadline: Now, now: Now) {
        let Some(p) = self.partition_mut(id) else { return };
        match p.phase {
            Phase::Active => {
                p.phase = Phase::Draining { deadline };
                self.drop_waiting(id);
                self.check_drained(id);
            }
            Phase::Draining { deadline: before } if deadline < before => p.phase = Phase::Draining { deadline },
            Phase::Draining { .. } | Phase::Drained { .. } => return,
        }
        if deadline <= now {
            self.cut_drain(id, now);
        } else {
            self.set_timer(deadline, Timer::Drain(id));
        }
    }

    /// A partition is gone: nothing of it starts, what runs is cut, nothing is to be committed.
    pub fn lose(&mut self, id: PartitionId, _now: Now) {
        self.close(id);
    }

    /// Forgets a partition: after its last commit.
    pub fn close(&mut self, id: PartitionId) {
        if self.partition(id).is_some_and(Partition::is_active) {
            self.drop_waiting(id);
        }
        self.abandon_running(id);
        // What was to be done for it must not be done to the partition's next assignment.
        self.actions.retain(|action| action.of_assignment() != Some(id));
        let Some(p) = self.partitions.get_mut(id.index()).and_then(Option::take) else { return };
        self.credits.leave(p.share);
        self.assigned -= 1;
        self.share_out();
        self.wake_starved();
    }

    /// Drops all records of a partition that wait for anything but their running attempt or an answer.
    pub(super) fn drop_waiting(&mut self, id: PartitionId) {
        let Some(p) = self.partitions.get_mut(id.index()).and_then(Option::as_deref_mut) else { return };
        for cursor in p.backlog.drain(..) {
            let left = self.batches.records(cursor.batch).map_or(0, |r| r.len()).saturating_sub(cursor.next as usize);
            for _ in 0..left {
                p.bytes -= self.batches.release(cursor.batch);
            }
        }
        p.lanes.for_each_waiting(|waiting| p.bytes -= self.batches.release(waiting.batch));
        p.lanes.clear_waiting();
        (p.waiting, p.deferred, p.unsettled, p.delayed) = (0, 0, 0, 0);
        p.due.clear();
        p.skip_to = None;
        self.drop_gathered(id);
        let waits = |stage| {
            matches!(stage, Stage::Delayed { .. } | Stage::Backoff { .. } | Stage::Due | Stage::SettleBackoff { .. })
        };
        let of_partition = self.slots.iter().filter(|(_, s)| s.partition == id && waits(s.stage));
        let waiting: Vec<SlotId> = of_partition.map(|(slot, _)| slot).collect();
        for slot in waiting {
            self.drop_slot(slot);
        }
    }

    pub(super) fn check_drained(&mut self, id: PartitionId) {
        let Some(p) = self.partition_mut(id) else { return };
        if matches!(p.phase, Phase::Draining { .. }) && p.running == 0 && p.settling == 0 {
            let epoch = p.epoch;
            p.phase = Phase::Drained { cut_off: 0 };
            self.actions.push_back(Action::Drained { partition: id, epoch, cut_off: 0 });
        }
    }

    /// What still runs is cut off, if the drain's deadline has passed. (The timer may be that of an earlier drain.)
    pub(super) fn cut_drain(&mut self, id: PartitionId, now: Now) {
        let Some(p) = self.partition_mut(id) else { return };
        if !matches!(p.phase, Phase::Draining { deadline } if deadline <= now) {
            return;
        }
        let (epoch, cut_off) = (p.epoch, p.running);
        p.phase = Phase::Drained { cut_off };
        self.abandon_running(id);
        self.actions.push_back(Action::Drained { partition: id, epoch, cut_off });
    }

    /// Cuts what runs and gives up what settles; both are of a dead assignment from now on.
    pub(super) fn abandon_running(&mut self, id: PartitionId) {
        let Some(p) = self.partitions.get_mut(id.index()).and_then(Option::as_deref_mut) else { return };
        if p.running == 0 && p.settling == 0 {
            return;
        }
        let epoch = p.epoch;
        let mut unanswered = Vec::new();
        for (slot, s) in self.slots.iter_mut().filter(|(_, s)| s.partition == id) {
            match s.stage {
                Stage::Running { .. } => {
                    s.stage = Stage::Ghost { epoch };
                    if let Some(key) = s.lane {
                        *self.ghosts.entry((id, key)).or_default() += 1;
                    }
                    self.actions.push_back(Action::Cut { slot, reason: CutReason::Drain });
                }
                Stage::Settling { .. } => unanswered.push(slot),
                _ => {}
            }
        }
        // The credits of what runs on stay out until it ends.
        let share = std::mem::take(&mut p.share);
        p.slotted -= p.running;
        (p.running, p.settling) = (0, 0);
        self.credits.leave(share);
        for slot in unanswered {
            self.drop_slot(slot);
        }
        self.wake_starved();
    }

    /// An attempt of a dead assignment ended: its lane is free for the assignment that lives.
    pub(super) fn end_ghost(&mut self, slot: SlotId, epoch: Epoch) {
        let Some(s) = self.slots.get(slot).copied() else { return };
        self.slots.remove(slot);
        self.credits.end_ghost();
        let freed = self.batches.release(s.batch);
        if let Some(p) = self.partition_mut(s.partition).filter(|p| p.epoch == epoch) {
            p.bytes -= freed;
        }
        if let Some(key) = s.lane {
            let left = self.ghosts.get_mut(&(s.partition, key)).map(|n| {
                *n -= 1;
                *n
            });
            if left == Some(0) {
                self.ghosts.remove(&(s.partition, key));
                if self.partition(s.partition).is_some_and(|p| p.epoch != epoch) {
                    self.vacate(s.partition, key);
                }
            }
        }
        self.wake_starved();
    }
}
