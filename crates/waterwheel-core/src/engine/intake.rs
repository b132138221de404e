//! Records in, and which of them starts next.

use std::time::Duration;

use super::partition::{Cursor, Partition};
use super::slots::{Slot, Stage};
use super::types::{Action, Start};
use super::{DEFERRED_LIMIT, Engine, Open, QUANTUM, Source};
use crate::lanes::{LaneKey, Order, Waiting};
use crate::ledger::Admitted;
use crate::types::{Epoch, Now, PartitionId, Records};

/// What a partition has to offer.
enum Next {
    Record(Open),
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
                // The log was cut off below this record and written anew: the marks are of other records.
                p.ledger.forget_known();
                p.known_failing.clear();
                p.known_epoch = None;
            }
        }
        let (batch, bytes) = self.batches.insert(records.clone(), records.len());
        p.bytes += bytes;
        p.backlog.push_back(Cursor { batch, next: 0 });
        self.enqueue(id);
        self.update_hold(id);
    }

    /// The fetch position moved to `next` without records (retention, an explicit gap): what is between will never come.
    pub fn skipped_to(&mut self, id: PartitionId, epoch: Epoch, next: i64) {
        let Some(p) = current(&mut self.partitions, id, epoch) else { return };
        p.ledger.skip_to(next);
        p.dirty = true;
    }

    /// Records came that were to be read again.
    pub fn reread(&mut self, id: PartitionId, epoch: Epoch, records: R) {
        let order = self.settings.order;
        let Some(p) = current(&mut self.partitions, id, epoch).filter(|p| p.is_active()) else { return };
        let (batch, bytes) = self.batches.insert(records.clone(), records.len());
        p.bytes += bytes;
        for index in 0..records.len() {
            let wanted = order.lane(records.key(index)).filter(|key| {
                p.lanes.get_mut(*key).is_some_and(|lane| {
                    let wanted = lane.requested.front() == Some(&records.offset(index));
                    if wanted {
                        lane.requested.pop_front();
                    }
                    wanted
                })
            });
            match wanted {
                Some(key) => p.lanes.arrive(key, Waiting { batch, index: index as u32 }),
                None => p.bytes -= self.batches.release(batch),
            }
        }
        self.enqueue(id);
    }

    /// Records that were to be read again are no longer there.
    pub fn reread_missing(&mut self, id: PartitionId, epoch: Epoch, offsets: &[i64]) {
        let Some(p) = current(&mut self.partitions, id, epoch).filter(|p| p.is_active()) else { return };
        let mut touched = Vec::new();
        for (key, lane) in p.lanes.iter_mut() {
            let before = lane.requested.len();
            lane.requested.retain(|o| !offsets.contains(o));
            if lane.requested.len() < before {
                p.waiting -= before - lane.requested.len();
                touched.push(*key);
            }
        }
        for offset in offsets {
            p.ledger.finish(*offset);
        }
        p.dirty = true;
        for key in touched {
            self.refill(id, key);
            if let Some(p) = self.partition_mut(id) {
                p.lanes.prune(key);
            }
        }
        self.enqueue(id);
    }

    /// The next record to run, if one may. Partitions take turns.
    pub fn next_start(&mut self, now: Now) -> Option<Start<R>> {
        debug_assert!(self.open.is_none(), "a record is open already");
        if self.paused || self.lease.is_some_and(|until| now >= until) {
            return None;
        }
        while let Some(id) = self.turn.front().copied() {
            match self.next_of(id, now) {
                Next::Record(open) => {
                    self.turns_left -= 1;
                    if self.turns_left == 0 {
                        self.turns_left = QUANTUM;
                        self.turn.rotate_left(1);
                    }
                    let records = self.batches.records(open.batch)?.clone();
                    let start = Start {
                        records,
                        index: open.index,
                        attempt: open.attempt,
                        first_failed_ms: open.first_failed_ms,
                    };
                    self.open = Some(open);
                    return Some(start);
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
        None
    }

    fn next_of(&mut self, id: PartitionId, now: Now) -> Next {
        let Some(p) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
        if !p.is_active() || p.unsettled > 0 {
            return Next::Nothing;
        }
        if let Some(slot) = p.due.front().copied() {
            if !self.credits.may_start(&p.share) {
                return Next::NoCredit;
            }
            p.due.pop_front();
            if let Some(s) = self.slots.get_mut(slot) {
                return Next::Record(Open {
                    partition: id,
                    batch: s.batch,
                    index: s.index,
                    offset: s.offset,
                    lane: s.lane,
                    occupied: s.lane.is_some(),
                    attempt: s.attempts + 1,
                    first_failed_ms: s.first_failed_ms,
                    source: Source::Slot(slot),
                });
            }
        }
        if p.lanes.peek_ready().is_some() {
            if !self.credits.may_start(&p.share) {
                return Next::NoCredit;
            }
            if let Some((key, waiting)) = p.lanes.take_ready() {
                p.waiting -= 1;
                let offset = self.batches.records(waiting.batch).map_or(0, |r| r.offset(waiting.index as usize));
                self.refill(id, key);
                return Next::Record(Open {
                    partition: id,
                    batch: waiting.batch,
                    index: waiting.index,
                    offset,
                    lane: Some(key),
                    occupied: true,
                    attempt: 1,
                    first_failed_ms: None,
                    source: Source::Fresh,
                });
            }
        }
        self.next_fresh(id, now)
    }

    /// The next record of the backlog that may start; those whose lane is busy are queued on the way.
    fn next_fresh(&mut self, id: PartitionId, now: Now) -> Next {
        let share = self.waiting_share();
        let Some(p) = self.partitions[id.index()].as_deref_mut() else { return Next::Nothing };
        while let Some(Cursor { batch, next: index }) = p.backlog.front().copied() {
            let Some(records) = self.batches.records(batch).filter(|r| (index as usize) < r.len()) else {
                p.backlog.pop_front();
                continue;
            };
            let offset = records.offset(index as usize);
            let lane = self.settings.order.lane(records.key(index as usize));
            let is_free = lane.is_none_or(|key| p.lanes.is_free(key));
            if is_free && !self.credits.may_start(&p.share) {
                return Next::NoCredit;
            }
            if !is_free && !p.may_queue(self.settings.order, lane, share) {
                return Next::Nothing;
            }
            p.backlog[0].next += 1;
            if p.ledger.admit(offset) != Admitted::New {
                p.bytes -= self.batches.release(batch);
                continue;
            }
            if !p.known_failing.is_empty()
                && let Some(known) = p.take_known_failing(offset)
                && is_free
            {
                let slot = Slot {
                    partition: id,
                    epoch: p.epoch,
                    batch,
                    index,
                    offset,
                    lane,
                    attempts: known.attempts,
                    first_failed_ms: Some(known.first_failed_ms),
                    stage: Stage::Backoff { until: now },
                };
                if let Some(key) = lane {
                    p.lanes.occupy(key);
                }
                let slot = self.slots.insert(slot);
                let wall_now = self.settings.wall_start_ms.saturating_add(now.since_start().as_millis() as i64);
                let wait = u64::try_from(known.next_try_ms.saturating_sub(wall_now)).unwrap_or(0);
                // A clock that was set back must not make a record wait for longer than its policy would.
                self.back_off(slot, Duration::from_millis(wait).min(self.settings.retry.max()), now);
                return self.next_of(id, now);
            }
            let Some(key) = lane.filter(|_| !is_free) else {
                return Next::Record(Open {
                    partition: id,
                    batch,
                    index,
                    offset,
                    lane,
                    occupied: false,
                    attempt: 1,
                    first_failed_ms: None,
                    source: Source::Fresh,
                });
            };
            if p.queue(key, offset, Waiting { batch, index }, share) {
                p.bytes -= self.batches.release(batch);
            }
        }
        self.update_hold(id);
        Next::Nothing
    }

    /// Asks for records of a lane that were kept as offsets only, when its queue runs low.
    pub(super) fn refill(&mut self, id: PartitionId, key: LaneKey) {
        let share = self.waiting_share();
        let Some(p) = self.partitions[id.index()].as_deref_mut() else { return };
        let Some(lane) = p.lanes.get_mut(key) else { return };
        let most = spill_at(share);
        if lane.deferred.is_empty() || !lane.requested.is_empty() || lane.queue.len() > most / 4 {
            return;
        }
        let offsets: Vec<i64> = lane.deferred.drain(..lane.deferred.len().min(most)).collect();
        lane.requested.extend(&offsets);
        p.deferred -= offsets.len();
        p.waiting += offsets.len();
        self.actions.push_back(Action::Reread { partition: id, epoch: p.epoch, offsets });
    }
}

/// The assignment `epoch` of a partition, if that is the one that lives.
fn current(partitions: &mut [Option<Box<Partition>>], id: PartitionId, epoch: Epoch) -> Option<&mut Partition> {
    partitions.get_mut(id.index())?.as_deref_mut().filter(|p| p.epoch == epoch)
}

/// The number of its records that a key may hold in memory: half of its partition's share.
fn spill_at(share: usize) -> usize {
    (share / 2).max(1)
}

impl Partition {
    /// Whether one more record of a busy lane may be taken up.
    fn may_queue(&mut self, order: Order, lane: Option<LaneKey>, share: usize) -> bool {
        if order == Order::Partition {
            // The backlog is the lane's queue.
            return false;
        }
        let spilled = lane
            .and_then(|key| self.lanes.get_mut(key))
            .is_some_and(|lane| lane.is_spilled() || lane.queue.len() >= spill_at(share));
        if spilled { self.deferred < DEFERRED_LIMIT } else { self.waiting < share }
    }

    /// Queues a record in its busy lane. Returns whether only its offset was kept.
    fn queue(&mut self, key: LaneKey, offset: i64, waiting: Waiting, share: usize) -> bool {
        let Some(lane) = self.lanes.get_mut(key) else { return false };
        if lane.is_spilled() || lane.queue.len() >= spill_at(share) {
            lane.deferred.push_back(offset);
            self.deferred += 1;
            return true;
        }
        lane.queue.push_back(waiting);
        self.waiting += 1;
        false
    }
}
