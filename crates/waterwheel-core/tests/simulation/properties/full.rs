//! The whole state against the reference, every so often: P4, P9, P11, I3.

use waterwheel_core::engine::PartitionView;
use waterwheel_core::lanes::Order;

use super::{Checked, WorkerId, ensure};
use crate::world::World;
use crate::world::log::{SIZE, What};
use crate::world::worker::{Shard, Worker};

impl World {
    pub(crate) fn check_all(&self) -> Checked {
        for (id, worker) in &self.workers {
            for (n, shard) in worker.shards.iter().enumerate() {
                let runs = self.runs.iter().filter(|r| r.place.worker == *id && r.place.shard == n).count();
                let known = shard.engine.running();
                ensure!(runs == known, "I3: {runs} attempts run in {id}, the engine knows of {known}");
                let mut unfinished = 0;
                for view in shard.engine.views(worker.clock.reading(self.now)) {
                    self.check_budget(&view)?;
                    unfinished += self.check_frontier(*id, shard, &view)?;
                }
                self.check_memory(*id, n, shard, runs, unfinished)?;
            }
            self.check_credits(*id, worker)?;
        }
        Ok(())
    }

    /// P4.
    fn check_budget(&self, view: &PartitionView) -> Checked {
        let most = self.setup.engine.waiting + self.setup.keys;
        ensure!(view.waiting <= most, "P4: {} records wait", view.waiting);
        let most = self.setup.engine.bytes + 8 * SIZE;
        // What runs and what is read again is not bound by bytes.
        let beside = (self.setup.engine.waiting + self.setup.keys + self.setup.engine.concurrency) * 8;
        ensure!(view.bytes <= most + beside * SIZE, "P4: {} bytes", view.bytes);
        Ok(())
    }

    /// P9: the frontier is what the reference says. How many records may be held for the partition.
    fn check_frontier(&self, id: WorkerId, shard: &Shard, view: &PartitionView) -> Result<usize, String> {
        let p = view.partition;
        let Some(life) = self.model.lives.get(&(id, view.epoch.0)) else {
            return Err(format!("I4: {p:?} has the unknown {:?}", view.epoch));
        };
        let log = &self.logs[p.index()];
        let lowest = life.unfinished(log);
        ensure!(view.frontier <= lowest, "P9: the frontier of {p:?} is {}, {lowest} is unfinished", view.frontier);
        life.advance(view.frontier, log)?;
        let fetched = shard.cursors.get(&p).map_or(view.next, |c| c.next.max(view.next));
        let mut held = 0;
        let mut first = None;
        for offset in life.from.min(life.horizon)..fetched.min(log.end()).min(life.horizon) {
            let entry = &log.entries[offset as usize];
            // Also what went since it was read is held.
            if entry.what == What::Control {
                continue;
            }
            if !life.is_done(offset, log) {
                first.get_or_insert(offset);
                held += 1;
            } else if offset >= view.next {
                // Not looked at yet.
                held += 1;
            }
        }
        if life.horizon == i64::MAX {
            self.check_waiting(id, shard, view)?;
            let least = first.unwrap_or(i64::MAX).min(view.next);
            ensure!(view.frontier >= least, "P9: the frontier of {p:?} is {}, not {least}", view.frontier);
            let above = view.finished_above;
            let most = (fetched.max(life.marked_to) - view.frontier).max(0);
            ensure!(above <= most as u64, "P11: {above} finished above the frontier of {p:?}, of {most}");
            return Ok(held);
        }
        Ok(usize::MAX / 64)
    }

    /// P3: what waits has a key, or belongs to a partition in order; all else would have been started.
    fn check_waiting(&self, id: WorkerId, shard: &Shard, view: &PartitionView) -> Checked {
        let (p, order) = (view.partition, self.setup.engine.order);
        let (life, log) = (&self.model.lives[&(id, view.epoch.0)], &self.logs[p.index()]);
        let may_wait = |o: &i64| {
            let entry = &log.entries[*o as usize];
            let keyed = order == Order::Partition || order == Order::Key && entry.key.is_some();
            entry.what != What::Control && keyed && !life.is_done(*o, log)
        };
        let most = (life.from..view.next.min(log.end())).filter(may_wait).count();
        let set_aside = shard.engine.in_work(self.now);
        let set_aside = set_aside.iter().filter(|w| w.partition == p && may_wait(&w.offset)).count();
        let waiting = view.waiting + view.deferred;
        ensure!(waiting + set_aside <= most, "P3: {waiting} of {p:?} wait, {most} may, {set_aside} of them in slots");
        Ok(())
    }

    /// P11: no more slots and batches than records are unfinished, plus what runs on of assignments that are over.
    fn check_memory(&self, id: WorkerId, n: usize, shard: &Shard, runs: usize, unfinished: usize) -> Checked {
        let sends = self.sends.iter().filter(|s| s.place.worker == id && s.place.shard == n).count();
        let (slots, batches) = shard.engine.footprint();
        let most = unfinished + runs + sends;
        ensure!(slots <= most, "P11: {slots} slots, {unfinished} unfinished, {runs} runs, {sends} sends");
        ensure!(batches <= most, "P11: {batches} batches, {unfinished} unfinished, {runs} runs, {sends} sends");
        Ok(())
    }

    /// P4: the pool never has more than there is.
    fn check_credits(&self, id: WorkerId, worker: &Worker) -> Checked {
        let most = self.setup.engine.concurrency;
        ensure!(worker.pool <= most, "P4: {} credits of {most} in the pool of {id}", worker.pool);
        Ok(())
    }

    /// I3, P16: no attempt runs past its time-out without being cut, no stop past its end.
    pub(crate) fn check_overdue(&self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get(&id).filter(|w| !w.frozen) else { return Ok(()) };
        let now = worker.clock.reading(self.now);
        let late = worker.stop_by.is_some_and(|by| by < now);
        ensure!(!late, "P16: the stop of {id} is overdue");
        let stall = self.setup.engine.stall.map(|stall| stall.after);
        if let Some(timeout) = self.setup.engine.handler_timeout.into_iter().chain(stall).min() {
            let mut runs = self.runs.iter().filter(|r| r.place.worker == id && r.cut.is_none());
            let late = runs.find(|r| r.since + timeout < now);
            ensure!(late.is_none(), "I3: {:?} runs since {:?}", late.map(|r| r.place), late.map(|r| r.since));
        }
        Ok(())
    }
}
