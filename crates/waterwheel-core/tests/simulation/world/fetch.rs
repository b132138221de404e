//! What the fetch client does: serves batches, tells of gaps, reads again, and stops where the log has no such offset.

use waterwheel_core::{Epoch, PartitionId};

use super::World;
use super::worker::FromShard;
use crate::counters::Seen;
use crate::properties::WorkerId;

impl World {
    /// Serves one batch; whether there was one.
    pub(crate) fn fetch(&mut self, id: WorkerId, shard: usize) -> bool {
        let Some(worker) = self.workers.get(&id) else { return false };
        let ids: Vec<PartitionId> = worker.shards[shard].cursors.keys().copied().collect();
        if ids.is_empty() {
            return false;
        }
        if let Some(batch) = self.shard(id, shard).and_then(|s| s.stale.pop()) {
            let (p, epoch) = (PartitionId(batch.partition), batch.epoch);
            self.note(format_args!("{id}.{shard} stale batch {p:?} {epoch:?}"));
            if let Some(engine) = self.engine(id, shard) {
                engine.fetched(p, epoch, batch, None);
                self.saw(Seen::StaleBatch);
            }
            return true;
        }
        let from = self.rng.below(ids.len());
        (0..ids.len()).any(|n| {
            let p = ids[(from + n) % ids.len()];
            self.serve_reread(id, shard, p) || self.serve(id, shard, p)
        })
    }

    fn serve(&mut self, id: WorkerId, shard: usize, p: PartitionId) -> bool {
        let most = self.rng.range(1..=8) as usize;
        let log = &self.logs[p.index()];
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let s = &mut worker.shards[shard];
        let Some(cursor) = s.cursors.get_mut(&p).filter(|c| !c.held && !c.stopped) else { return false };
        if cursor.diverged || cursor.next < log.start || cursor.next > log.end() {
            cursor.stopped = true;
            let (epoch, was) = (cursor.epoch, cursor.next);
            worker.inbox.push_back(FromShard::OutOfRange(p, epoch, was));
            self.note(format_args!("{id}.{shard} out of range {p:?} at {was}"));
            return true;
        }
        let end = log.stable_end();
        if cursor.next >= end {
            if log.in_txn() {
                self.saw(Seen::WaitsForLso);
            }
            return false;
        }
        let mut offsets: Vec<i64> = log.visible(cursor.next).take(most).collect();
        let Some(first) = offsets.first().copied() else {
            // The rest of the log is a gap.
            cursor.next = end;
            self.model.read((id, cursor.epoch.0), end);
            s.engine.skipped_to(p, cursor.epoch, cursor.next);
            self.saw(Seen::GapAtEnd);
            self.note(format_args!("{id}.{shard} skipped {p:?} to {end}"));
            return true;
        };
        let leader_epoch = log.entries[first as usize].leader_epoch;
        offsets.retain(|o| log.entries[*o as usize].leader_epoch == leader_epoch);
        cursor.next = offsets.last().map_or(first, |o| o + 1);
        self.model.read((id, cursor.epoch.0), cursor.next);
        self.model.arrived((id, cursor.epoch.0), &offsets, s.told);
        s.engine.fetched(p, cursor.epoch, log.batch(p.0, cursor.epoch, &offsets), Some(leader_epoch));
        self.note(format_args!("{id}.{shard} fetched {p:?} {offsets:?} of leader {leader_epoch}"));
        true
    }

    /// What the client has read and not told yet when an assignment ends.
    pub(crate) fn keep_batch(&mut self, id: WorkerId, shard: usize, p: PartitionId) {
        let log = &self.logs[p.index()];
        let Some(s) = self.workers.get_mut(&id).and_then(|w| w.shards.get_mut(shard)) else { return };
        let Some(cursor) = s.cursors.get(&p) else { return };
        let offsets: Vec<i64> = log.visible(cursor.next).take(2).collect();
        if !offsets.is_empty() {
            s.stale.push(log.batch(p.0, cursor.epoch, &offsets));
        }
    }

    /// A partition that stopped is fetched again, behind what is gone.
    pub(crate) fn refetch(&mut self, id: WorkerId, shard: usize, p: PartitionId, epoch: Epoch, from: i64) {
        let Some(s) = self.shard(id, shard) else { return };
        let Some(was) = s.engine.fetched_to(p, epoch) else { return };
        let offset = from.max(was);
        if offset > was {
            s.engine.skipped_to(p, epoch, offset);
        }
        if let Some(cursor) = s.cursors.get_mut(&p) {
            (cursor.next, cursor.stopped) = (offset, false);
        }
    }

    fn serve_reread(&mut self, id: WorkerId, shard: usize, p: PartitionId) -> bool {
        let most = self.rng.range(1..=8) as usize;
        let log = &self.logs[p.index()];
        let Some(s) = self.workers.get_mut(&id).and_then(|w| w.shards.get_mut(shard)) else { return false };
        let Some(cursor) = s.cursors.get_mut(&p).filter(|c| !c.wanted.is_empty()) else { return false };
        let asked: Vec<i64> = cursor.wanted.iter().copied().take(most).collect();
        asked.iter().for_each(|o| _ = cursor.wanted.remove(o));
        let (there, missing): (Vec<i64>, Vec<i64>) = asked.into_iter().partition(|o| log.is_visible(*o));
        if !missing.is_empty() {
            s.engine.reread_missing(p, cursor.epoch, &missing);
        }
        if !there.is_empty() {
            self.model.arrived((id, cursor.epoch.0), &there, s.told);
            s.engine.reread(p, cursor.epoch, log.batch(p.0, cursor.epoch, &there));
        }
        self.note(format_args!("{id}.{shard} read {p:?} {there:?} again, {missing:?} are gone"));
        if !missing.is_empty() {
            self.saw(Seen::GoneBeforeReadAgain);
        }
        if !there.is_empty() {
            self.saw(Seen::ReadAgain);
        }
        true
    }
}
