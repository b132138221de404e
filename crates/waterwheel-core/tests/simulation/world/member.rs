//! What the driver of the group side does: heartbeats, events, revocations, leaving.

use std::time::Duration;

use waterwheel_core::PartitionId;
use waterwheel_core::group::GroupAction;

use super::World;
use super::coordinator::{GroupEvent, Protocol};
use super::worker::{FromShard, Opening, ToShard, stop_limit};
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

impl World {
    /// Whether requests of a worker reach the coordinator.
    pub(crate) fn reaches(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|w| !w.frozen && !w.cut_off) && !self.coordinator.is_away(self.now)
    }

    // ---- what comes in -------------------------------------------------------------------------------------------

    /// The client says that its member lives, joins if it is none, and hears what there is.
    pub(crate) fn heartbeat(&mut self, id: WorkerId) {
        let (now, beat, reaches) = (self.now, self.setup.session / 4, self.reaches(id));
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.next_beat = now + beat;
        if !reaches {
            return;
        }
        let member = match worker.member {
            Some(member) => member,
            None if worker.stop_by.is_some() => return,
            None => self.coordinator.join(&mut self.rng, now),
        };
        let reading = worker.clock.reading(now);
        worker.member = Some(member);
        if self.coordinator.is_member(member) {
            // That it is no member it hears first, and what that means.
            worker.contact = Some(reading);
            worker.group.coordinator_answered(reading);
        }
        if std::mem::take(&mut worker.release_due) {
            self.coordinator.release(member, now);
        }
        let told_already = worker.heard.iter().any(|(_, e)| matches!(e, GroupEvent::Lost));
        if told_already {
            return;
        }
        if let Some(event) = self.coordinator.heartbeat(member, now) {
            if matches!(event, GroupEvent::Assigned(_)) {
                let seen = match self.coordinator.protocol() {
                    Protocol::Eager => Seen::Eager,
                    Protocol::Cooperative => Seen::Cooperative,
                    Protocol::Consumer => Seen::Consumer,
                };
                self.seen[seen as usize] += 1;
            }
            worker.heard.push_back((reading, event));
        }
        worker.known_epoch = self.coordinator.known_epoch(member);
    }

    /// The worker takes in one event of the group.
    pub(crate) fn group_event(&mut self, id: WorkerId) -> Checked {
        let now = self.reading(id);
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        let Some((heard_at, event)) = worker.heard.pop_front() else { return Ok(()) };
        let ids = |partitions: &[u32]| partitions.iter().map(|p| PartitionId(*p)).collect::<Vec<_>>();
        let mut while_opening = false;
        match &event {
            GroupEvent::Assigned(partitions) => {
                worker.group.coordinator_answered(heard_at);
                worker.group.assigned(&ids(partitions));
                worker.partitions_changed();
            }
            GroupEvent::Revoking(partitions) => {
                while_opening = worker.opens.iter().any(|o| partitions.contains(&o.partition.0));
                worker.revoking = true;
                worker.group.revoking(&ids(partitions), now);
            }
            GroupEvent::Lost => {
                let all: Vec<PartitionId> = (0..self.logs.len() as u32).map(PartitionId).collect();
                worker.group.lost(&all, now);
                worker.partitions_changed();
                (worker.member, worker.kicked, worker.release_due) = (None, false, false);
            }
        }
        self.note(format_args!("{id} {event:?}"));
        if while_opening {
            self.saw(Seen::RevokedWhileOpening);
        }
        self.loss_is_due = !matches!(event, GroupEvent::Revoking(_));
        self.act_group(id)?;
        self.loss_is_due = false;
        Ok(())
    }

    /// One letter of a shard.
    pub(crate) fn letter(&mut self, id: WorkerId) -> Checked {
        let now = self.reading(id);
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        match worker.inbox.pop_front() {
            None => return Ok(()),
            Some(FromShard::Drained(p, point)) => {
                if let Some(life) = self.model.lives.get_mut(&(id, point.epoch.0)) {
                    life.drained = true;
                    life.give_up = Some(now + self.setup.group.commit_timeout);
                }
                worker.group.drained(p, point, now);
            }
            Some(FromShard::Collected(points)) => worker.group.collected(points, now),
            Some(FromShard::OutOfRange(p, epoch, was)) => self.out_of_range(id, p, epoch, was),
        }
        self.act_group(id)
    }

    // ---- what goes out -------------------------------------------------------------------------------------------

    pub(crate) fn act_group(&mut self, id: WorkerId) -> Checked {
        loop {
            let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
            let Some(action) = worker.group.poll_action() else { return Ok(()) };
            if let Some(stop) = worker.left.then_some(&action) {
                ensure!(*stop == GroupAction::Release, "P16: {stop:?} after the worker left");
            }
            self.note(format_args!("{id} {action:?}"));
            let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
            match action {
                GroupAction::Open(partitions) => {
                    let opening = |(partition, epoch)| Opening { partition, epoch, committed: None };
                    worker.opens.extend(partitions.into_iter().map(opening));
                }
                GroupAction::Assign { partition, epoch, resume } => {
                    worker.held.insert(partition, epoch);
                    worker.tell(partition, ToShard::Assign(partition, epoch, resume));
                }
                GroupAction::Drain { partitions, deadline } => {
                    worker.tell_of(&partitions, |ids| ToShard::Drain(ids, deadline));
                }
                GroupAction::Lose(partitions) => {
                    let (due, held) = (self.loss_is_due, &worker.held);
                    let lives = partitions.iter().filter_map(|p| self.model.lives.get(&(id, held.get(p)?.0)));
                    let drained = lives.into_iter().find(|life| life.drained && !life.over);
                    let lost = drained.map(|life| life.partition).filter(|_| !due);
                    ensure!(lost.is_none(), "P15: {lost:?} is drained, and given up without its last commit");
                    partitions.iter().for_each(|p| _ = worker.held.remove(p));
                    worker.tell_of(&partitions, ToShard::Lose);
                }
                GroupAction::GaveUp(_) => {}
                GroupAction::Close(partitions) => self.give_back(id, partitions)?,
                GroupAction::Collect => {
                    worker.group.expect_collections(worker.shards.len());
                    worker.tell_all(|| ToShard::Collect);
                }
                GroupAction::Commit { number, points } => self.send_commit(id, number, points)?,
                GroupAction::Release => self.release(id)?,
                GroupAction::Lease(until) => worker.tell_all(|| ToShard::Lease(until)),
                GroupAction::Leave => return self.leave(id),
            }
        }
    }

    fn give_back(&mut self, id: WorkerId, partitions: Vec<PartitionId>) -> Checked {
        let now = self.reading(id);
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let mut given_up = false;
        for p in &partitions {
            let is_out = worker.commits.iter().any(|c| c.entries.iter().any(|e| e.partition == *p));
            given_up |= is_out;
            if let Some(epoch) = worker.held.remove(p) {
                let late = |at: waterwheel_core::Now| now >= at;
                let life = (id, epoch.0);
                let late = self.model.lives.get(&life).and_then(|l| l.give_up).is_some_and(late);
                self.model.check_given_back(life, is_out || late, &self.logs[p.index()])?;
            }
        }
        worker.tell_of(&partitions, ToShard::Close);
        if given_up {
            self.saw(Seen::CommitGivenUp);
        }
        Ok(())
    }

    fn release(&mut self, id: WorkerId) -> Checked {
        let (now, reaches) = (self.now, self.reaches(id));
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        worker.revoking = false;
        worker.partitions_changed();
        worker.release_due = !reaches;
        let member = worker.member;
        self.resolve_commits(id)?;
        if let Some(member) = member.filter(|_| reaches) {
            self.coordinator.release(member, now);
        }
        Ok(())
    }

    // ---- the end ---------------------------------------------------------------------------------------------------

    pub(crate) fn stop(&mut self, id: WorkerId, patience: Option<Duration>) -> Checked {
        let now = self.reading(id);
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        let within = patience.unwrap_or(self.setup.group.drain_timeout);
        let by = now + stop_limit(&self.setup.group, within);
        let (opening, revoking, again) = (!worker.opens.is_empty(), worker.revoking, worker.stop_by.is_some());
        worker.stop_by = Some(worker.stop_by.map_or(by, |before| before.min(by)));
        match patience {
            None => worker.group.stop(now),
            Some(patience) => worker.group.stop_within(patience, now),
        }
        let seen = [(opening, Seen::StopWhileOpening), (revoking, Seen::StopWhileDraining), (again, Seen::StopAgain)];
        seen.into_iter().filter(|(is, _)| *is).for_each(|(_, what)| self.saw(what));
        self.act_group(id)
    }

    /// The worker is done: what still runs ends, and nothing may be left.
    fn leave(&mut self, id: WorkerId) -> Checked {
        let (now, reaches) = (self.now, self.reaches(id));
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        ensure!(!worker.left, "P16: a worker leaves twice");
        worker.left = true;
        ensure!(worker.held.is_empty(), "P16: a worker leaves with {:?}", worker.held);
        let member = worker.member;
        self.resolve_commits(id)?;
        // One that cannot say so is missed in time.
        if let Some(member) = member.filter(|_| reaches) {
            self.coordinator.remove(member, &mut self.rng, now);
        }
        for shard in 0..self.setup.shards {
            self.turn(id, shard)?;
        }
        while let Some(at) = self.runs.iter().position(|r| r.place.worker == id) {
            self.runs[at].hangs = false;
            self.finish(at)?;
        }
        self.sends.retain(|s| s.place.worker != id);
        let Some(worker) = self.workers.remove(&id) else { return Ok(()) };
        self.check_gone(worker)?;
        self.forget(id);
        Ok(())
    }

    /// Nothing of a worker goes on.
    pub(crate) fn forget(&mut self, id: WorkerId) {
        self.runs.retain(|run| run.place.worker != id);
        self.sends.retain(|send| send.place.worker != id);
        self.model.lives.iter_mut().filter(|((w, _), _)| *w == id).for_each(|(_, life)| life.over = true);
    }
}
