//! The end, when no more faults happen: P9, P11 to P14, P16.

use waterwheel_core::PartitionId;

use super::{Checked, WorkerId, ensure};
use crate::world::World;
use crate::world::worker::Worker;

impl World {
    /// Whether every partition is worked on by somebody and committed up to its last record.
    pub(crate) fn is_at_rest(&self) -> bool {
        let is_done = |p: PartitionId| {
            let log = &self.logs[p.index()];
            let Some((id, epoch)) = self.held_by(p) else { return false };
            let worker = &self.workers[&id];
            let shard = &worker.shards[worker.shard_of(p)];
            let view = shard.engine.views(worker.clock.reading(self.now)).into_iter().find(|v| v.partition == p);
            let at_end = view.is_some_and(|v| v.epoch == epoch && v.frontier == log.end() && v.next == log.end());
            let moved = self.model.lives.get(&(id, epoch.0)).is_some_and(|life| life.from < log.end());
            let committed = log.committed.as_ref().is_some_and(|c| c.offset >= log.end());
            at_end && (committed || log.refused || !moved)
        };
        self.coordinator.is_settled() && self.partitions().all(is_done)
    }

    fn held_by(&self, p: PartitionId) -> Option<(WorkerId, waterwheel_core::Epoch)> {
        self.workers.iter().find_map(|(id, w)| Some((*id, *w.held.get(&p)?)))
    }

    /// P12, P13, P14.
    pub(crate) fn check_rest(&mut self) -> Checked {
        for p in 0..self.logs.len() as u32 {
            let log = &self.logs[p as usize];
            let left = self.model.unsettled(p, log);
            ensure!(left.is_none(), "P12: {left:?} of {p} never finished");
        }
        for (id, worker) in &self.workers {
            let now = worker.clock.reading(self.now);
            for shard in &worker.shards {
                for view in shard.engine.views(now) {
                    let end = self.logs[view.partition.index()].end();
                    ensure!(view.frontier == end, "P13: {:?} is at {} of {end}", view.partition, view.frontier);
                    let idle = (view.running, view.waiting, view.deferred, view.bytes) == (0, 0, 0, 0);
                    ensure!(idle && view.held.is_none(), "P14: {view:?} at rest");
                }
                let work = shard.engine.in_work(now);
                ensure!(work.is_empty(), "P14: {work:?} at rest in {id}");
                let footprint = shard.engine.footprint();
                ensure!(footprint == (0, 0), "P11: {footprint:?} slots and batches at rest");
            }
        }
        Ok(())
    }

    /// P14, when all have left: no lag.
    pub(crate) fn check_lag(&self) -> Checked {
        for (p, log) in self.logs.iter().enumerate() {
            let (end, committed) = (log.end(), log.committed.as_ref().map(|c| c.offset));
            ensure!(committed.unwrap_or(0) >= end, "P14: {p} is committed at {committed:?}, it ends at {end}");
        }
        Ok(())
    }

    /// P4, P11, P14, P16: a worker has left, and takes nothing with it.
    pub(crate) fn check_gone(&self, mut worker: Worker) -> Checked {
        let mut credits = worker.pool;
        let timer = worker.group.next_timer();
        ensure!(timer.is_none(), "P14: a timer is left at {timer:?}");
        for shard in &mut worker.shards {
            let footprint = shard.engine.footprint();
            ensure!(footprint == (0, 0), "P11: {footprint:?} slots and batches are left");
            let assigned = shard.engine.assigned().count();
            ensure!(assigned == 0, "P16: {assigned} partitions are left");
            credits += shard.engine.surrender_credits();
        }
        let all = self.setup.engine.concurrency;
        ensure!(credits == all, "P4: {credits} credits are left of {all}");
        Ok(())
    }

    /// Why it does not come to rest.
    pub(crate) fn unrest(&self) -> String {
        let log = |l: &crate::world::log::Log| (l.committed.as_ref().map(|c| c.offset), l.visible(0).last(), l.end());
        let logs: Vec<_> = self.logs.iter().map(log).collect();
        let views =
            self.workers.values().flat_map(|w| w.shards.iter().map(|s| s.engine.views(w.clock.reading(self.now))));
        let settled = self.coordinator.is_settled();
        format!("settled {settled}, committed, last and end {logs:?}, views {:?}", views.collect::<Vec<_>>())
    }
}
