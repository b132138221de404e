//! Records in, and which of them starts next.

use std::collections::HashSet;
use std::time::Duration;

use super::delays::wait_of;
use super::partition::{Cursor, Partition};
use super::slots::{Slot, Stage};
use super::types::{Action, Start};
use super::{ASIDE_LIMIT, DEFERRED_LIMIT, Engine, Open, QUANTUM, wall_ms};
use crate::commit_map::Failing;
use crate::delay::Wait;
use crate::lanes::{Arrival, Kept, LaneKey, Order, Waiting};
use crate::ledger::Admitted;
use crate::types::{Epoch, Now, PartitionId, Records};

/// What a partition has to offer.
enum Next {
    /// A record, which is open now.
    Opened,
    NoCredit,
    Nothing,
}

impl<R: Records> Engine<R> {
    /// Records were fetched: the next ones of the partition, of one leader epoch. Ignored for another assignment.
    pub fn fetched(&mut self, id: PartitionId, epoch: Epoch, records: R, leader_epoch: Option<i32>) {
        let Some(p) = current(&mut self.partitions, id, epoch).filter(|p| p.is_active()) else { return };
        if records.is_empty() {
            return;
        }
        let first = records.offset(0);
        if let Some(e) = leader_epoch {
            p.see_leader_epoch(first, e);
            if p.known_epoch.is_some_and(|known| known < e) {
                // Epochs ascend along a log: marks from here on are of records that were cut off and written anew.
                // Those below stay, although they may not be taken up yet.
                p.ledger.forget_known(first);
                p.failing.split_off(&first);
                p.known_epoch = None;
            }
        }
        let (batch, bytes) = self.batches.insert(records.clone(), records.len(), self.now);
        p.bytes += bytes;
        p.backlog.push_back(Cursor { batch, next: 0 });
        self.enqueue(id);
        self.update_hold(id);
    }

    /// The next offset to fetch in that assignment: behind all that was fetched, taken up or not.
    pub fn fetched_to(&self, id: PartitionId, epoch: Epoch) -> Option<i64> {
        let p = self.partition(id).filter(|p| p.epoch == epoch && p.is_active())?;
        let last = p.backlog.back().and_then(|cursor| self.batches.records(cursor.batch));
        let fetched = last.map(|records| records.offset(records.len() - 1) + 1);
        Some(p.ledger.next().max(fetched.unwrap_or(i64::MIN)).max(p.skip_to.unwrap_or(i64::MIN)))
    }

    /// The fetch position moved to `next` without records (retention, an explicit gap): what is between will never come.
    pub fn skipped_to(&mut self, id: PartitionId, epoch: Epoch, next: i64) {
        let Some(p) = current(&mut self.partitions, id, epoch).filter(|p| p.is_active()) else { return };
        if p.backlog.is_empty() {
            p.ledger.skip_to(next);
            p.dirty = true;
        } else {
            // What was fetched before and is not taken up yet lies below.
            p.skip_to = p.skip_to.max(Some(next));
        }
    }

    /// Records came that were to be read again.
    pub fn reread(&mut self, id: PartitionId, epoch: Epoch, records: R) {
        let order = self.settings.order;
        let Some(p) = current(&mut self.partitions, id, epoch).filter(|p| p.is_active()) else { return };
        let (batch, bytes) = self.batches.insert(records.clone(), records.len(), self.now);
        p.bytes += bytes;
        let (mut early, mut others) = (Vec::new(), Vec::new());
        for index in 0..records.len() {
            let offset = records.offset(index);
            let waiting = Waiting { batch, index: index as u32 };
            let lane = order.lane(records.key(index));
            match lane.map_or(Arrival::Unasked, |key| p.lanes.arrive(key, offset, waiting)) {
                Arrival::Queued => continue,
                Arrival::Early => early.push(offset),
                Arrival::Unasked => others.push(offset),
            }
            p.bytes -= self.batches.release(batch);
        }
        if !early.is_empty() {
            // Came before an earlier one of its key, whose answer is still out: in its turn, then.
            self.actions.push_back(Action::Reread { partition: id, epoch, offsets: early });
        }
        if !others.is_empty() {
            // If they were asked for, then by another key: the log was written anew there, and what it held is gone.
            self.reread_missing(id, epoch, &others);
        }
        self.update_hold(id);
        self.enqueue(id);
    }

    /// Records that were to be read again are no longer there. To be told before those that come in the same answer.
    pub fn reread_missing(&mut self, id: PartitionId, epoch: Epoch, offsets: &[i64]) {
        let Some(p) = current(&mut self.partitions, id, epoch).filter(|p| p.is_active()) else { return };
        let gone: HashSet<i64> = offsets.iter().copied().collect();
        let (count, touched) = p.lanes.lose(&gone, |offset| {
            p.ledger.finish(offset);
        });
        p.waiting -= count;
        p.dirty = true;
        for key in touched {
            self.refill(id, key);
        }
        self.enqueue(id);
    }

    /// Whether it is worth asking for the next record to run.
    pub fn has_turns(&self, now: Now) -> bool {
        self.may_start(now) && (!self.turn.is_empty() || !self.starved.is_empty() && self.credits.free() > 0)
    }

    /// The next record to run, if one may. Partitions take turns.
    #[inline]
    pub fn next_start(&mut self, now: Now) -> Option<Start<'_, R>> {
        if !self.open_next(now) {
            return None;
        }
        let open = self.open.as_ref()?;
        let records = self.batches.records(open.batch)?;
        let first_failed_ms = if open.attempt == 1 { None } else { self.first_failed_ms(open.partition, open.offset) };
        let (index, mut start) =
            (open.index, Start { records, index: open.index, attempt: open.attempt, first_failed_ms });
        if self.settings.tiers.is_some() {
            let at = Waiting { batch: open.batch, index };
            (start.attempt, start.first_failed_ms) = self.in_all(open.partition, at, open.attempt, first_failed_ms);
        }
        Some(start)
    }

    fn open_next(&mut self, now: Now) -> bool {
        debug_assert!(self.open.is_none(), "a record is open already");
        if !self.may_start(now) {
            return false;
        }
        loop {
            let Some(id) = self.turn.front().copied() else {
                // One that was woken may have done its work without keeping the credit.
                self.wake_starved();
                if self.turn.is_empty() {
                    return false;
                }
                continue;
            };
            match self.next_of(id, now) {
                Next::Opened => {
                    self.turns_left -= 1;
                    if self.turns_left == 0 {
                        self.turns_left = QUANTUM;
                        self.turn.rotate_left(1);
                    }
                    return true;
                }
                next => {
                    self.turn.pop_front();
                    self.turns_left = QUANTUM;
                    let starved = matches!(next, Next::NoCredit);
                    if let Some(p) = self.partition_mut(id) {
                        p.in_turn = false;
                        if starved && !p.in_starved {
                            p.in_starved = true;
                            self.starved.push_back(id);
                        }
                    }
                }
            }
        }
    }

    /// Whether anything may start: not while all is paused, or the group may have given the partitions away.
    pub(super) fn may_start(&self, now: Now) -> bool {
        !self.paused && self.lease.is_none_or(|until| now < until)
    }

    fn next_of(&mut self, id: PartitionId, now: Now) -> Next {
        let Some(mut p) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
        if !p.is_active() || p.unsettled > 0 || p.paused {
            return Next::Nothing;
        }
        if let Some(slot) = p.due.front().copied() {
            if !self.credits.may_start(&p.share) {
                return Next::NoCredit;
            }
            p.due.pop_front();
            if let Some(s) = self.slots.get_mut(slot) {
                self.open = Some(Open {
                    partition: id,
                    batch: s.batch,
                    index: s.index,
                    offset: s.offset,
                    lane: s.lane,
                    occupied: s.lane.is_some(),
                    attempt: p.failures(s.offset) + 1,
                    slot: Some(slot),
                });
                return Next::Opened;
            }
        }
        while let Some(key) = p.lanes.peek_ready() {
            if (!p.failing.is_empty() || !p.suspects.is_empty() || p.delay.is_some())
                && let Some(first) = p.lanes.first_of_open(key)
                && (self.batches.records(first.batch).is_some_and(|r| p.is_suspect(r.offset(first.index as usize)))
                    || wait_of(&self.batches, &self.settings, p.delay, first, now).is_some_and(|wait| wait.is_on()))
            {
                // It runs alone or later, after those of its lane that are gathered.
                p.lanes.close(key);
                continue;
            }
            if !self.credits.may_start(&p.share) {
                return Next::NoCredit;
            }
            if let Some((key, waiting)) = p.lanes.take_ready() {
                p.waiting -= 1;
                let (offset, behind) = self.batches.records(waiting.batch).map_or((0, None), |r| {
                    let (offset, order) = (r.offset(waiting.index as usize), self.settings.order);
                    (offset, p.follows(offset, order, || r.key(waiting.index as usize)))
                });
                let (known, delay) = (p.known(offset), p.delay);
                self.refill(id, key);
                let fresh = Open::fresh(id, waiting, offset, Some(key), true);
                if let Some(behind) = behind {
                    self.follow_up(fresh, behind);
                    let Some(again) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
                    p = again;
                    continue;
                }
                let wait = wait_of(&self.batches, &self.settings, delay, waiting, now);
                if !stays(known, wait) {
                    self.disagreed += u64::from(wait.is_some_and(|wait| wait.clocks_disagree));
                    self.open = Some(fresh);
                    return Next::Opened;
                }
                self.stay(fresh, known, wait, now);
            }
            let Some(again) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
            p = again;
        }
        if self.partition(id).is_some_and(|p| p.map_full) { Next::Nothing } else { self.next_fresh(id, now) }
    }

    /// The next record of the backlog that may start; those whose lane is busy are queued on the way.
    fn next_fresh(&mut self, id: PartitionId, now: Now) -> Next {
        let share = self.shares.waiting;
        let Some(mut p) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
        let freed_before = p.bytes;
        let next = loop {
            let Some(Cursor { batch, next: index }) = p.backlog.front().copied() else {
                if let Some(next) = p.skip_to.take() {
                    p.ledger.skip_to(next);
                    p.dirty = true;
                }
                break Next::Nothing;
            };
            let Some(records) = self.batches.records(batch) else {
                p.backlog.pop_front();
                continue;
            };
            let offset = records.offset(index as usize);
            // A key is hashed when somebody has to know: of records that are done where they start, hardly ever.
            let key = || self.settings.order.lane(records.key(index as usize));
            let lane = if p.lanes.is_empty() && p.followed.is_empty() { None } else { key() };
            let is_free = lane.is_none_or(|key| p.lanes.is_free(key, share.saturating_sub(p.waiting)));
            if is_free && !self.credits.may_start(&p.share) {
                break Next::NoCredit;
            }
            let has_room = if is_free { p.aside() < share.max(ASIDE_LIMIT) } else { p.may_queue(self.settings.order) };
            if !has_room {
                break Next::Nothing;
            }
            p.backlog[0].next += 1;
            if p.backlog[0].next as usize == records.len() {
                // At once: the batch may be freed, and another one come to its place, before the next look here.
                p.backlog.pop_front();
            }
            if p.ledger.admit(offset) != Admitted::New {
                p.dirty = true;
                p.bytes -= self.batches.release(batch);
                continue;
            }
            let waiting = Waiting { batch, index };
            let known = p.known(offset);
            let wait = wait_of(&self.batches, &self.settings, p.delay, waiting, now);
            // One that failed before, or is not due yet, does not join a batch: what is gathered of its lane goes first.
            if let Some(key) = lane.filter(|key| !is_free || stays(known, wait) && p.lanes.close(*key)) {
                if p.queue(key, offset, waiting, share) {
                    p.bytes -= self.batches.release(batch);
                }
                continue;
            }
            let fresh = Open::fresh(id, waiting, offset, lane, false);
            let behind = p.follows(offset, self.settings.order, || records.key(index as usize));
            if behind.is_none() && !stays(known, wait) {
                self.disagreed += u64::from(wait.is_some_and(|wait| wait.clocks_disagree));
                self.open = Some(fresh);
                break Next::Opened;
            }
            match behind {
                Some(behind) => self.follow_up(fresh, behind),
                None => self.stay(fresh, known, wait, now),
            }
            let Some(again) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
            p = again;
        };
        if p.bytes < freed_before {
            self.update_hold(id);
        }
        next
    }

    /// A record that was taken up waits in a slot: because it failed before, or is not due yet.
    fn stay(&mut self, open: Open, known: Option<Failing>, wait: Option<Wait>, now: Now) {
        match (known, wait) {
            (Some(known), _) => self.go_on_failing(open, known, now),
            (None, Some(wait)) => self.set_aside(open, wait, now),
            (None, None) => {}
        }
    }

    /// A record that failed in an earlier assignment waits for its next attempt, as it would have done there.
    fn go_on_failing(&mut self, open: Open, known: Failing, now: Now) {
        let Open { partition: id, batch, index, offset, lane, .. } = open;
        let lane = lane.or_else(|| self.lane(batch, index));
        let Some(p) = self.partitions[id.index()].as_deref_mut() else { return };
        p.slotted += 1;
        if let Some(key) = lane {
            p.lanes.occupy(key);
        }
        let slot = self.slots.insert(Slot::new(id, batch, index, offset, lane, Stage::Backoff { until: now }));
        let wall_now = wall_ms(self.settings.wall_start_ms, now);
        let wait = u64::try_from(known.next_try_ms.saturating_sub(wall_now)).unwrap_or(0);
        // A clock that was set back must not make a record wait for longer than its policy would.
        self.back_off(slot, Duration::from_millis(wait).min(self.settings.retry.max()), now);
    }

    /// Asks for records of a lane that were kept as offsets only, when its queue runs low.
    pub(super) fn refill(&mut self, id: PartitionId, key: LaneKey) {
        let share = self.shares.waiting;
        let Some(p) = self.partitions.get_mut(id.index()).and_then(Option::as_deref_mut) else { return };
        let offsets = p.lanes.ask(key, p.room(share));
        if offsets.is_empty() {
            return;
        }
        p.deferred -= offsets.len();
        p.waiting += offsets.len();
        self.actions.push_back(Action::Reread { partition: id, epoch: p.epoch, offsets });
    }
}

/// Whether a record does not start when it is taken up.
fn stays(known: Option<Failing>, wait: Option<Wait>) -> bool {
    known.is_some() || wait.is_some_and(|wait| wait.is_on())
}

/// The assignment `epoch` of a partition, if that is the one that lives.
fn current(partitions: &mut [Option<Box<Partition>>], id: PartitionId, epoch: Epoch) -> Option<&mut Partition> {
    partitions.get_mut(id.index())?.as_deref_mut().filter(|p| p.epoch == epoch)
}

impl Partition {
    /// Whether one more record of a busy lane may be taken up.
    fn may_queue(&self, order: Order) -> bool {
        // With the order of the partition, the backlog is the lane's queue.
        order != Order::Partition && self.deferred < DEFERRED_LIMIT
    }

    /// How many more records may wait: those that have joined a batch may have to, if it fails.
    fn room(&self, share: usize) -> usize {
        share.saturating_sub(self.waiting + self.lanes.joined())
    }

    /// Queues a record in its busy lane. Returns whether only its offset was kept.
    ///
    /// A lane may hold as many records as there is room left for others: one hot key half of the share, a second one a
    /// quarter, and so on. However many there are, other keys are never shut out.
    fn queue(&mut self, key: LaneKey, offset: i64, waiting: Waiting, share: usize) -> bool {
        let kept = self.lanes.queue(key, offset, waiting, self.room(share));
        match kept {
            Kept::Record => self.waiting += 1,
            Kept::Offset => self.deferred += 1,
        }
        kept == Kept::Offset
    }
}
