//! What the driver of a shard does: letters, starts, ends, dead letters, fetching.

use waterwheel_core::engine::{Action, CutReason, Engine, Outcome, Resume, SlotId, Start, Verdict, Wish};
use waterwheel_core::lanes::Order;
use waterwheel_core::{Epoch, PartitionId, Records};

use crate::log::SimBatch;
use crate::model::{Checked, WorkerId, ensure};
use crate::worker::{Cursor, FromShard, Run, Send, Shard, ToShard, Worker};
use crate::world::World;

/// The record that an attempt is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    worker: WorkerId,
    shard: usize,
    partition: u32,
    epoch: Epoch,
    offset: i64,
    key: Option<u8>,
}

impl World {
    fn shard(&mut self, id: WorkerId, shard: usize) -> Option<&mut Shard> {
        self.workers.get_mut(&id)?.shards.get_mut(shard)
    }

    pub(crate) fn engine(&mut self, id: WorkerId, shard: usize) -> Option<&mut Engine<SimBatch>> {
        self.shard(id, shard).map(|s| &mut s.engine)
    }

    /// One turn of a shard's loop.
    pub(crate) fn turn(&mut self, id: WorkerId, shard: usize) -> Checked {
        let now = self.now;
        while let Some(letter) = self.shard(id, shard).and_then(|s| s.inbox.pop_front()) {
            self.read(id, shard, letter)?;
        }
        if let Some(engine) = self.engine(id, shard) {
            engine.tick(now);
        }
        self.act_shard(id, shard);
        let mut more = true;
        for _ in 0..self.rng.range(0..=8) {
            let start = self.engine(id, shard).and_then(|e| e.next_start(now));
            let Some(Start { records, index, attempt, .. }) = start else {
                more = false;
                break;
            };
            let records = records.clone();
            self.start(id, shard, &records, index as usize, attempt)?;
        }
        self.act_shard(id, shard);
        if !more {
            self.borrow_or_fetch(id, shard);
            self.act_shard(id, shard);
        }
        Ok(())
    }

    fn borrow_or_fetch(&mut self, id: WorkerId, shard: usize) {
        let chunk = (self.setup.engine.concurrency / self.setup.shards / 4).max(1);
        let Some(worker) = self.workers.get_mut(&id) else { return };
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
    }

    fn read(&mut self, id: WorkerId, shard: usize, letter: ToShard) -> Checked {
        let now = self.now;
        if let ToShard::Assign(p, epoch, resume) = letter {
            return self.assign(id, shard, p, epoch, resume);
        }
        if let ToShard::Drain(ids, deadline) = &letter {
            for life in self.model.lives.iter_mut().filter(|((w, _), _)| *w == id).map(|(_, life)| life) {
                if !life.over && ids.contains(&PartitionId(life.partition)) {
                    life.deadline = Some(life.deadline.map_or(*deadline, |at| at.min(*deadline)));
                }
            }
            let under_way = self.sends.iter().any(|s| s.worker == id && ids.contains(&PartitionId(s.partition)));
            if under_way {
                self.saw("dead letter under way at a revocation");
            }
        }
        if let ToShard::Lose(ids) | ToShard::Close(ids) = &letter {
            ids.iter().for_each(|p| self.end_life(id, *p));
        }
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let s = &mut worker.shards[shard];
        match letter {
            ToShard::Assign(..) => {}
            ToShard::Drain(ids, deadline) => {
                for p in ids {
                    s.cursors.remove(&p);
                    s.engine.drain(p, deadline, now);
                }
            }
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
            ToShard::Collect => {
                let ids: Vec<PartitionId> = s.engine.assigned().filter(|p| s.engine.is_dirty(*p)).collect();
                let points = ids.into_iter().filter_map(|p| Some((p, s.engine.commit_point(p)?))).collect();
                worker.inbox.push_back(FromShard::Collected(points));
            }
            ToShard::Partitions(n) => s.engine.set_worker_partitions(n),
            ToShard::Lease(until) => s.engine.set_lease(Some(until)),
            ToShard::Pause => s.engine.pause(),
            ToShard::Resume => s.engine.resume(),
        }
        Ok(())
    }

    /// The assignments of a partition that a worker has are over.
    fn end_life(&mut self, id: WorkerId, p: PartitionId) {
        let lives = self.model.lives.iter_mut().filter(|((w, _), life)| *w == id && life.partition == p.0);
        lives.for_each(|(_, life)| life.over = true);
    }

    fn assign(&mut self, id: WorkerId, shard: usize, p: PartitionId, epoch: Epoch, resume: Resume) -> Checked {
        let now = self.now;
        self.end_life(id, p);
        if !resume.failing.is_empty() {
            self.saw("failing record resumed");
        }
        self.model.begin((id, epoch.0), p.0, &resume, &self.logs[p.index()])?;
        if self.workers.get_mut(&id).is_some_and(|w| !w.had.insert(p)) {
            self.saw("partition assigned again to the same worker");
        }
        if self.runs.iter().any(|r| r.worker == id && r.partition == p.0 && r.key.is_some()) {
            self.saw("key waits for a ghost");
        }
        let Some(s) = self.shard(id, shard) else { return Ok(()) };
        let cursor = Cursor { epoch, next: resume.offset, held: false, wanted: Default::default() };
        s.engine.assign(p, epoch, resume, now);
        s.cursors.insert(p, cursor);
        Ok(())
    }

    pub(crate) fn act_shard(&mut self, id: WorkerId, shard: usize) {
        while let Some(action) = self.engine(id, shard).and_then(|e| e.poll_action()) {
            self.note(format_args!("{id}.{shard} {action:?}"));
            let held = matches!(action, Action::Hold(_));
            match action {
                Action::Hold(p) | Action::Release(p) => {
                    if held {
                        self.saw("partition held for its bytes");
                    }
                    if let Some(cursor) = self.shard(id, shard).and_then(|s| s.cursors.get_mut(&p)) {
                        cursor.held = held;
                    }
                }
                Action::Cut { slot, reason } => {
                    if reason == CutReason::Timeout {
                        self.saw("time-out");
                    }
                    let of = |r: &&mut Run| (r.worker, r.shard, r.slot) == (id, shard, slot);
                    self.runs.iter_mut().filter(of).for_each(|run| run.cut = Some(reason));
                }
                Action::Settle { slot } => {
                    self.saw("dead letter retried");
                    self.send(id, shard, slot);
                }
                Action::Reread { partition, offsets, .. } => {
                    if let Some(cursor) = self.shard(id, shard).and_then(|s| s.cursors.get_mut(&partition)) {
                        cursor.wanted.extend(offsets);
                    }
                }
                Action::Drained { partition, cut_off, .. } => {
                    if cut_off > 0 {
                        self.saw("drain cut at its deadline");
                    }
                    let Some(worker) = self.workers.get_mut(&id) else { return };
                    if let Some(point) = worker.shards[shard].engine.commit_point(partition) {
                        worker.inbox.push_back(FromShard::Drained(partition, point));
                    }
                }
            }
        }
    }

    // ---- starts --------------------------------------------------------------------------------------------------

    fn start(&mut self, id: WorkerId, shard: usize, records: &SimBatch, index: usize, attempt: u32) -> Checked {
        let (partition, epoch) = (records.partition, records.epoch);
        let offset = records.offset(index);
        let key = self.logs[partition as usize].entries[offset as usize].key;
        let place = Place { worker: id, shard, partition, epoch, offset, key };
        self.note(format_args!("start {place:?} {attempt}"));
        self.check_start(&place)?;
        *self.model.attempts.entry((partition, offset)).or_default() += 1;
        let now = self.now;
        if self.rng.percent(50) {
            let outcome = self.outcome();
            let verdict = self.engine(id, shard).map(|e| e.finish_open(outcome, now));
            return self.follow(&place, outcome, verdict.unwrap_or(Verdict::Stale));
        }
        let hangs = self.rng.percent(self.setup.hanging);
        let slot = self.engine(id, shard).and_then(|e| e.park_open(now));
        let Some(slot) = slot else { return Err("no slot for the open record".to_owned()) };
        self.runs.push(Run { worker: id, shard, slot, partition, epoch, offset, key, hangs, cut: None });
        Ok(())
    }

    /// P3, P4, P5, and that what finished is not run again.
    fn check_start(&mut self, place: &Place) -> Checked {
        let Place { worker, partition, epoch, offset, key, .. } = *place;
        let Some(life) = self.model.lives.get(&(worker, epoch.0)) else { return Err("start without a life".into()) };
        ensure!(!life.over && life.deadline.is_none(), "P5: {place:?} starts in an assignment that ends");
        ensure!(!life.resumed.contains(&offset), "{place:?} finished in an earlier assignment and runs again");
        ensure!(!life.finished.contains(&offset), "{place:?} finished and runs again");
        let log = &self.logs[partition as usize];
        let ordered = |o: i64| match self.setup.engine.order {
            Order::Key => key.is_some() && log.entries[o as usize].key == key,
            Order::Partition => true,
            Order::None => false,
        };
        let before = log.visible(life.from).take_while(|o| *o < offset).find(|o| ordered(*o) && !life.is_done(*o));
        ensure!(before.is_none(), "P3: {place:?} starts before {before:?}");
        let passed_over = !life.resumed.is_empty() && offset > *life.resumed.iter().next().unwrap_or(&i64::MAX);
        let mut of_worker = 1;
        for run in &self.runs {
            of_worker += usize::from(run.worker == worker);
            if run.partition != partition || !ordered(run.offset) {
                continue;
            }
            ensure!(run.worker != worker, "P3: {place:?} starts while {}@{} of its key runs", run.epoch.0, run.offset);
            // Another worker's attempt may go on only if it was cut off, or its worker thrown out.
            let gone = |w: &Worker| w.zombie || w.left || w.held.get(&PartitionId(partition)) != Some(&run.epoch);
            let excused = run.cut.is_some() || self.workers.get(&run.worker).is_none_or(gone);
            let excused = excused || self.workers.get(&worker).is_none_or(|w| w.zombie);
            let other = self.model.lives.get(&(run.worker, run.epoch.0));
            let excused = excused || other.is_none_or(|life| !life.counts(self.now));
            ensure!(excused, "R2: {place:?} starts while {} runs {}", run.worker, run.offset);
        }
        let most = self.setup.engine.concurrency;
        ensure!(of_worker <= most, "P4: {of_worker} attempts of {most} in {worker}");
        if passed_over {
            self.saw("finished record not run again");
        }
        Ok(())
    }

    fn outcome(&mut self) -> Outcome {
        if self.calm || !self.rng.percent(self.setup.failing) {
            return Outcome::Ok;
        }
        match self.rng.below(20) {
            0 => Outcome::Failed(Wish::Skip),
            1 | 2 => Outcome::Failed(Wish::DeadLetter),
            3 | 4 => Outcome::Failed(Wish::RetryAfter(std::time::Duration::from_millis(self.rng.range(0..=200)))),
            5 | 6 => Outcome::Again(std::time::Duration::from_millis(self.rng.range(0..=100))),
            7 if self.rng.percent(10) => Outcome::Failed(Wish::Stop),
            _ => Outcome::Failed(Wish::Policy),
        }
    }

    // ---- ends ----------------------------------------------------------------------------------------------------

    /// Ends an attempt that runs, unless it hangs.
    pub(crate) fn finish(&mut self, at: usize) -> Checked {
        let now = self.now;
        let Some(run) = self.runs.get(at) else { return Ok(()) };
        if run.hangs && run.cut.is_none() && !self.calm {
            return Ok(());
        }
        let run = self.runs.swap_remove(at);
        let outcome = if run.cut.is_some() && self.rng.percent(80) { Outcome::Cut } else { self.outcome() };
        let Run { worker, shard, partition, epoch, offset, key, .. } = run;
        let place = Place { worker, shard, partition, epoch, offset, key };
        let verdict = self.engine(worker, shard).map(|e| e.ended(run.slot, outcome, now));
        self.follow(&place, outcome, verdict.unwrap_or(Verdict::Stale))?;
        self.act_shard(worker, shard);
        Ok(())
    }

    fn counts(&self, place: &Place) -> bool {
        self.model.lives.get(&(place.worker, place.epoch.0)).is_some_and(|life| life.counts(self.now))
    }

    fn follow(&mut self, place: &Place, outcome: Outcome, verdict: Verdict) -> Checked {
        self.note(format_args!("end {place:?} {outcome:?} {verdict:?}"));
        let counts = self.counts(place);
        ensure!(counts || verdict == Verdict::Stale, "I4: {outcome:?} of {place:?} is {verdict:?}, too late");
        ensure!(!counts || verdict != Verdict::Stale, "I3: {outcome:?} of {place:?} is not taken");
        if !counts {
            self.saw("stale completion");
        }
        if outcome == Outcome::Ok {
            ensure!(!counts || verdict == Verdict::Finished, "I3: {place:?} ended well and is {verdict:?}");
            self.finished(place, counts);
        } else {
            ensure!(verdict != Verdict::Finished, "I3: {place:?} failed ({outcome:?}) and is finished");
        }
        match verdict {
            Verdict::Skipped => self.finished(place, true),
            Verdict::DeadLetter { slot } => self.send(place.worker, place.shard, slot),
            Verdict::Stop => self.stop(place.worker, None)?,
            _ => {}
        }
        Ok(())
    }

    fn finished(&mut self, place: &Place, counts: bool) {
        self.model.finished.insert((place.partition, place.offset));
        if let Some(life) = self.model.lives.get_mut(&(place.worker, place.epoch.0)).filter(|_| counts) {
            life.finished.insert(place.offset);
        }
    }

    // ---- dead letters --------------------------------------------------------------------------------------------

    fn send(&mut self, id: WorkerId, shard: usize, slot: SlotId) {
        let record = self.engine(id, shard).and_then(|e| e.record(slot));
        if let Some((records, index)) = record {
            let (partition, epoch, offset) = (records.partition, records.epoch, records.offset(index as usize));
            self.sends.push(Send { worker: id, shard, slot, partition, epoch, offset });
        }
    }

    /// The dead-letter topic answers, or not.
    pub(crate) fn settle(&mut self, at: usize) -> Checked {
        if at >= self.sends.len() {
            return Ok(());
        }
        let Send { worker, shard, slot, partition, epoch, offset } = self.sends.swap_remove(at);
        let place = Place { worker, shard, partition, epoch, offset, key: None };
        let (written, answered) = match self.rng.below(10) {
            _ if self.calm => (true, true),
            0..=5 => (true, true),
            6 => (true, false),
            _ => (false, false),
        };
        if written && !answered {
            self.saw("dead letter written, reply lost");
        }
        let (now, counts) = (self.now, self.counts(&place));
        let verdict = self.engine(worker, shard).map(|e| e.settled(slot, answered, now));
        self.note(format_args!("settled {place:?} {answered} {verdict:?}"));
        if written {
            self.finished(&place, answered && counts);
        }
        let finished = verdict == Some(Verdict::Finished);
        ensure!(finished == (answered && counts), "P8: {place:?} answered {answered}, counts {counts}: {verdict:?}");
        self.act_shard(worker, shard);
        Ok(())
    }

    // ---- fetching ------------------------------------------------------------------------------------------------

    /// Serves one batch; whether there was one.
    fn fetch(&mut self, id: WorkerId, shard: usize) -> bool {
        let Some(worker) = self.workers.get(&id) else { return false };
        let ids: Vec<PartitionId> = worker.shards[shard].cursors.keys().copied().collect();
        if ids.is_empty() {
            return false;
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
        let Some(s) = self.workers.get_mut(&id).and_then(|w| w.shards.get_mut(shard)) else { return false };
        let Some(cursor) = s.cursors.get_mut(&p).filter(|c| !c.held && c.next < log.end()) else { return false };
        let mut offsets: Vec<i64> = log.visible(cursor.next).take(most).collect();
        let Some(first) = offsets.first().copied() else {
            // The rest of the log is a gap.
            cursor.next = log.end();
            s.engine.skipped_to(p, cursor.epoch, cursor.next);
            let end = log.end();
            self.note(format_args!("{id}.{shard} skipped {p:?} to {end}"));
            return true;
        };
        let leader_epoch = log.entries[first as usize].leader_epoch;
        offsets.retain(|o| log.entries[*o as usize].leader_epoch == leader_epoch);
        cursor.next = offsets.last().map_or(first, |o| o + 1);
        s.engine.fetched(p, cursor.epoch, log.batch(p.0, cursor.epoch, &offsets), Some(leader_epoch));
        self.note(format_args!("{id}.{shard} fetched {p:?} {offsets:?} of leader {leader_epoch}"));
        true
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
            s.engine.reread(p, cursor.epoch, log.batch(p.0, cursor.epoch, &there));
        }
        if !missing.is_empty() {
            self.saw("record gone before it was read again");
        }
        if !there.is_empty() {
            self.saw("records read again");
        }
        true
    }
}
