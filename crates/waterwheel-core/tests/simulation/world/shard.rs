//! What the driver of a shard does: letters, turns, actions.

use waterwheel_core::engine::{Action, CutReason, Engine, InWork, Resume, Start, WorkStage};
use waterwheel_core::gate::Leave;
use waterwheel_core::{Epoch, PartitionId};

use super::World;
use super::log::SimBatch;
use super::worker::{Cursor, FromShard, Shard, ToShard};
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

impl World {
    pub(crate) fn shard(&mut self, id: WorkerId, shard: usize) -> Option<&mut Shard> {
        self.workers.get_mut(&id)?.shards.get_mut(shard)
    }

    pub(crate) fn engine(&mut self, id: WorkerId, shard: usize) -> Option<&mut Engine<SimBatch>> {
        self.shard(id, shard).map(|s| &mut s.engine)
    }

    /// One turn of a shard's loop.
    pub(crate) fn turn(&mut self, id: WorkerId, shard: usize) -> Checked {
        let now = self.reading(id);
        if self.workers.get(&id).is_none_or(|w| w.frozen) {
            return Ok(());
        }
        while let Some(letter) = self.shard(id, shard).and_then(|s| s.inbox.pop_front()) {
            self.read(id, shard, letter)?;
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.tick_engine(shard, now);
        }
        self.act_shard(id, shard);
        let wanted = self.rng.range(0..=8) as u32;
        let leave = self.leave_to_start(id, shard, wanted);
        let (mut more, mut started) = (leave.is_some(), 0);
        let none = Leave { starts: 0, bytes: 0, trial: None, stamp: 0 };
        let leave = leave.unwrap_or(none);
        while started < leave.starts && self.goes_on(id, &leave) {
            let start = self.engine(id, shard).and_then(|e| e.next_start(now));
            let Some(Start { records, index, attempt, .. }) = start else {
                more = false;
                break;
            };
            let records = records.clone();
            started += 1;
            self.check_gate(id, leave.trial)?;
            self.start(id, shard, &records, index as usize, attempt, leave.trial)?;
        }
        let lacks_credits = leave.starts > 0 && !more && self.engine(id, shard).is_some_and(|e| e.wanted_credits() > 0);
        self.settle_leave(id, shard, leave, started, lacks_credits);
        self.act_shard(id, shard);
        if !more {
            let borrowed = self.borrow_or_fetch(id, shard);
            if lacks_credits && !borrowed {
                self.make_way(id, shard);
            }
            if let Some(engine) = self.engine(id, shard) {
                engine.stalled(now);
            }
            self.act_shard(id, shard);
            self.see_lease(id, shard);
        }
        Ok(())
    }

    fn see_lease(&mut self, id: WorkerId, shard: usize) {
        let now = self.reading(id);
        if let (Some(lease), Some(worker)) = (self.setup.group.lease, self.workers.get(&id))
            && worker.contact.is_some_and(|at| now >= at + lease)
            && !worker.shards[shard].cursors.is_empty()
        {
            self.saw(Seen::LeaseRanOut);
        }
    }

    /// Whether it has got credits.
    fn borrow_or_fetch(&mut self, id: WorkerId, shard: usize) -> bool {
        let chunk = (self.setup.engine.concurrency / self.setup.shards / 4).max(1);
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let engine = &mut worker.shards[shard].engine;
        let borrowed = engine.wanted_credits().min(chunk).min(worker.pool);
        worker.pool -= borrowed;
        if borrowed > 0 {
            engine.grant(borrowed);
        } else if !self.fetch(id, shard)
            && let Some(worker) = self.workers.get_mut(&id)
        {
            worker.pool += worker.shards[shard].engine.surrender_credits();
        }
        borrowed > 0
    }

    fn read(&mut self, id: WorkerId, shard: usize, letter: ToShard) -> Checked {
        match &letter {
            ToShard::Drain(ids, deadline) => {
                self.see_drain(id, ids, *deadline);
                self.see_undue(id, shard, ids);
                self.drop_gathered(id, shard, ids);
            }
            ToShard::Lose(ids) | ToShard::Close(ids) => {
                self.drop_gathered(id, shard, ids);
                for p in ids {
                    self.keep_batch(id, shard, *p);
                    self.end_life(id, *p);
                }
            }
            _ => {}
        }
        let now = self.reading(id);
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let s = &mut worker.shards[shard];
        match letter {
            ToShard::Assign(p, epoch, resume) => return self.assign(id, shard, p, epoch, resume),
            ToShard::Refetch(p, epoch, from) => self.refetch(id, shard, p, epoch, from),
            ToShard::Drain(ids, deadline) => {
                s.told = now;
                for p in ids {
                    s.cursors.remove(&p);
                    s.engine.drain(p, deadline, now);
                }
            }
            ToShard::MapFull(p, epoch, full) => s.engine.set_map_full(p, epoch, full),
            ToShard::Lose(ids) => {
                for p in ids {
                    s.cursors.remove(&p);
                    s.engine.lose(p, now);
                }
            }
            ToShard::Close(ids) => {
                for p in ids {
                    s.cursors.remove(&p);
                    s.engine.close(p);
                }
            }
            ToShard::Collect => return self.collect(id, shard),
            ToShard::Partitions(n) => s.engine.set_worker_partitions(n),
            ToShard::Lease(until) => s.engine.set_lease(Some(until)),
            ToShard::Pause => {
                s.engine.pause();
                s.paused = true;
                if !s.cursors.is_empty() {
                    self.saw(Seen::Paused);
                }
            }
            ToShard::Resume => {
                s.engine.resume();
                s.paused = false;
                self.release_keys(id, shard);
            }
        }
        Ok(())
    }

    /// What follows a dead letter in the shard starts again.
    fn release_keys(&mut self, id: WorkerId, shard: usize) {
        let held: Vec<_> = self.workers[&id].held.iter().map(|(p, epoch)| (*p, *epoch)).collect();
        let keys: Vec<Vec<u8>> = std::iter::once(Vec::new()).chain((1..=u8::MAX).map(|key| vec![key])).collect();
        for (p, epoch) in held {
            let Some(engine) = self.engine(id, shard) else { return };
            let released = keys.iter().filter(|key| engine.release_key(p, epoch, Some(key))).count();
            if released > 0 {
                self.saw(Seen::KeyReleased);
                if let Some(life) = self.model.lives.get_mut(&(id, epoch.0)) {
                    life.followed.clear();
                }
            }
        }
    }

    fn collect(&mut self, id: WorkerId, shard: usize) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let engine = &mut worker.shards[shard].engine;
        let mut points = Vec::new();
        let assigned: Vec<PartitionId> = engine.assigned().collect();
        for p in assigned {
            if engine.is_dirty(p) {
                points.extend(engine.commit_point(p).map(|point| (p, point)));
            } else if let Some(epoch) = worker.held.get(&p) {
                self.model.check_clean((id, epoch.0))?;
            }
        }
        for (p, point) in &points {
            let life = (id, point.epoch.0);
            if self.model.lives.get(&life).is_some_and(|l| !l.over) {
                self.model.check_point(life, point, &self.logs[p.index()])?;
            }
        }
        worker.inbox.push_back(FromShard::Collected(points));
        Ok(())
    }

    fn see_drain(&mut self, id: WorkerId, ids: &[PartitionId], deadline: waterwheel_core::Now) {
        for life in self.model.lives.iter_mut().filter(|((w, _), _)| *w == id).map(|(_, life)| life) {
            if !life.over && ids.contains(&PartitionId(life.partition)) {
                let deadline = life.deadline.map_or(deadline, |at| at.min(deadline));
                life.deadline = Some(deadline);
                if !life.drained {
                    life.give_up = Some(deadline + self.setup.group.commit_timeout);
                }
            }
        }
        let of = |s: &super::worker::Send| s.place.worker == id && ids.contains(&PartitionId(s.place.partition));
        if self.sends.iter().any(of) {
            self.saw(Seen::LetterWhileRevoking);
        }
    }

    fn see_undue(&mut self, id: WorkerId, shard: usize, ids: &[PartitionId]) {
        let now = self.reading(id);
        let waits = |w: &InWork| ids.contains(&w.partition) && matches!(w.stage, WorkStage::Delayed(_));
        if self.engine(id, shard).is_some_and(|e| e.in_work(now).iter().any(waits)) {
            self.saw(Seen::DrainedUndue);
        }
    }

    /// The assignments of a partition that a worker has are over.
    fn end_life(&mut self, id: WorkerId, p: PartitionId) {
        let lives = self.model.lives.iter_mut().filter(|((w, _), life)| *w == id && life.partition == p.0);
        lives.for_each(|(_, life)| life.over = true);
    }

    fn assign(&mut self, id: WorkerId, shard: usize, p: PartitionId, epoch: Epoch, resume: Resume) -> Checked {
        let now = self.reading(id);
        self.end_life(id, p);
        if !resume.failing.is_empty() {
            self.saw(Seen::FailingResumed);
            if self.next_worker > 2 {
                self.saw(Seen::ClocksDiffer);
            }
        }
        let log = &self.logs[p.index()];
        let committed = self.workers.get_mut(&id).and_then(|w| w.opened.remove(&epoch));
        let committed = committed.filter(|c| resume.offset == c.offset);
        self.model.begin((id, epoch.0), p.0, &resume, committed.as_ref(), log)?;
        if log.was_cut() {
            let hidden = self.model.hide(log, resume.offset);
            self.seen[Seen::HiddenByCommit as usize] += u64::from(hidden > 0);
        }
        let lost = self.model.unsettled(p.0, log).filter(|o| *o < resume.offset);
        ensure!(lost.is_none(), "P1: {p:?} begins at {}, and {lost:?} never finished", resume.offset);
        // Cut since it was opened, or committed beyond the end: what is known is of a log that is no more.
        let (end, cuts) = (self.logs[p.index()].end(), self.logs[p.index()].cuts);
        let cut_since = self.workers.get(&id).is_some_and(|w| w.cuts.get(&p) != Some(&cuts));
        let diverged = cut_since || resume.offset > end;
        if diverged {
            self.model.end_horizon((id, epoch.0), if cut_since { 0 } else { end });
        }
        if self.workers.get_mut(&id).is_some_and(|w| !w.had.insert(p)) {
            self.saw(Seen::SameWorkerAgain);
        }
        let of = |r: &super::worker::Run| r.place.worker == id && r.place.partition == p.0 && r.place.key.is_some();
        if self.runs.iter().any(of) {
            self.saw(Seen::KeyWaitsForGhost);
        }
        let is_tier = self.is_tier(p.0);
        let Some(s) = self.shard(id, shard) else { return Ok(()) };
        let next = resume.offset;
        let (held, stopped, wanted) = (false, false, Default::default());
        s.engine.assign(p, epoch, resume, now);
        if is_tier {
            s.engine.set_tier(p, epoch, 0);
        }
        s.cursors.insert(p, Cursor { epoch, next, held, diverged, stopped, wanted });
        Ok(())
    }

    pub(crate) fn act_shard(&mut self, id: WorkerId, shard: usize) {
        while let Some(action) = self.engine(id, shard).and_then(|e| e.poll_action()) {
            self.note(format_args!("{id}.{shard} {action:?}"));
            let held = matches!(action, Action::Hold(_));
            match action {
                Action::Hold(p) | Action::Release(p) => {
                    if held {
                        self.saw(Seen::HeldForBytes);
                    }
                    if let Some(cursor) = self.shard(id, shard).and_then(|s| s.cursors.get_mut(&p)) {
                        cursor.held = held;
                    }
                }
                Action::Cut { slot, reason } => {
                    let within = match reason {
                        CutReason::Timeout => {
                            self.saw(Seen::TimedOut);
                            self.setup.engine.handler_timeout
                        }
                        CutReason::Stalled => {
                            self.saw(Seen::Stalled);
                            self.setup.engine.stall.map(|stall| stall.after)
                        }
                        CutReason::Drain => None,
                    };
                    let of = |r: &&mut super::worker::Run| (r.place.worker, r.place.shard, r.slot) == (id, shard, slot);
                    let now = self.reading(id);
                    for run in self.runs.iter_mut().filter(of) {
                        run.cut = Some(reason);
                        let early = within.is_none_or(|within| run.since + within > now);
                        if early && reason != CutReason::Drain {
                            self.fault =
                                Some(format!("I3: {:?} is cut at {now}, it runs since {}", run.place, run.since));
                        }
                    }
                }
                Action::Run { slots } => {
                    if let Err(why) = self.run_batch(id, shard, slots) {
                        self.fault.get_or_insert(why);
                    }
                }
                Action::Follow { slot, .. } => {
                    self.saw(Seen::Followed);
                    self.send(id, shard, slot);
                    let place = self.sends.last().map(|send| send.place);
                    if let Some((place, life)) = place.and_then(|p| Some((p, self.model.lives.get_mut(&p.life())?))) {
                        life.followers.insert(place.offset);
                    }
                }
                Action::Settle { slot } => {
                    self.saw(Seen::LetterRetried);
                    self.send(id, shard, slot);
                }
                Action::Reread { partition, offsets, .. } => {
                    if let Some(cursor) = self.shard(id, shard).and_then(|s| s.cursors.get_mut(&partition)) {
                        cursor.wanted.extend(offsets);
                    }
                }
                Action::Drained { partition, cut_off, .. } => {
                    if cut_off > 0 {
                        self.saw(Seen::DrainCut);
                    }
                    self.drained(id, shard, partition);
                }
            }
        }
    }

    fn drained(&mut self, id: WorkerId, shard: usize, p: PartitionId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let Some(point) = worker.shards[shard].engine.commit_point(p) {
            let life = (id, point.epoch.0);
            if let Err(why) = self.model.check_point(life, &point, &self.logs[p.index()]) {
                self.fault.get_or_insert(why);
            }
            worker.inbox.push_back(FromShard::Drained(p, point));
        }
    }
}
