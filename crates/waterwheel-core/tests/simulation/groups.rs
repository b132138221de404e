//! What the driver of the group side does: events, openings, commits, leaving.

use waterwheel_core::commit_map::{self, Limit, MapHead};
use waterwheel_core::engine::{CommitPoint, Resume};
use waterwheel_core::group::{CommitTrouble, GroupAction};
use waterwheel_core::{Epoch, PartitionId};

use crate::broker::GroupEvent;
use crate::model::{Checked, WorkerId, ensure};
use crate::worker::{Commit, FromShard, ToShard};
use crate::world::{TOPIC, World};

type CommitResult = (PartitionId, Result<(), CommitTrouble>);

impl World {
    // ---- what comes in -------------------------------------------------------------------------------------------

    /// One event of the group.
    pub(crate) fn group_event(&mut self, id: WorkerId) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let Some(event) = self.broker.event(worker.member) else { return Ok(()) };
        let ids = |partitions: &[u32]| partitions.iter().map(|p| PartitionId(*p)).collect::<Vec<_>>();
        match &event {
            GroupEvent::Assigned(partitions) => {
                worker.group.coordinator_answered(now);
                worker.group.assigned(&ids(partitions));
                worker.partitions_changed();
            }
            GroupEvent::Revoking(partitions) => {
                worker.revoking = true;
                worker.group.revoking(&ids(partitions), now);
            }
            GroupEvent::Lost => {
                let all: Vec<PartitionId> = (0..self.logs.len() as u32).map(PartitionId).collect();
                worker.group.lost(&all, now);
                worker.partitions_changed();
            }
        }
        self.note(format_args!("{id} {event:?}"));
        self.act_group(id)?;
        if matches!(event, GroupEvent::Lost) {
            self.rejoin(id);
        }
        Ok(())
    }

    fn rejoin(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id)
            && !self.broker.is_member(worker.member)
        {
            worker.member = self.broker.join(&mut self.rng);
            worker.zombie = false;
        }
    }

    /// One letter of a shard.
    pub(crate) fn letter(&mut self, id: WorkerId) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        match worker.inbox.pop_front() {
            None => return Ok(()),
            Some(FromShard::Drained(p, point)) => worker.group.drained(p, point, now),
            Some(FromShard::Collected(points)) => worker.group.collected(points, now),
        }
        self.act_group(id)
    }

    /// The broker tells what is committed for a partition.
    pub(crate) fn open(&mut self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let Some((p, epoch)) = worker.opens.pop_front() else { return Ok(()) };
        let resume = match &self.logs[p.index()].committed {
            None => Resume::default(),
            Some((offset, text)) => match commit_map::decode(text, TOPIC, *offset) {
                Ok(map) => Resume {
                    offset: *offset,
                    finished: map.finished().collect(),
                    failing: map.failing().to_vec(),
                    leader_epoch: map.leader_epoch(),
                },
                Err(_) => Resume { offset: *offset, ..Resume::default() },
            },
        };
        self.note(format_args!("{id} opened {p:?} {resume:?}"));
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        worker.group.opened(p, epoch, resume);
        self.act_group(id)
    }

    /// A partition of the worker begins anew where it was committed, without the map.
    pub(crate) fn restart(&mut self, id: WorkerId, p: PartitionId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let Some(epoch) = worker.held.get(&p).copied() else { return Ok(()) };
        let Some(offset) = worker.group.committed_offset(p) else { return Ok(()) };
        if worker.group.is_current(p, epoch) {
            worker.group.restarted(p, Resume { offset, ..Resume::default() });
            self.saw("partition restarted");
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
                GroupAction::Open(partitions) => worker.opens.extend(partitions),
                GroupAction::Assign { partition, epoch, resume } => {
                    worker.held.insert(partition, epoch);
                    worker.tell(partition, ToShard::Assign(partition, epoch, resume));
                }
                GroupAction::Drain { partitions, deadline } => {
                    worker.tell_of(&partitions, |ids| ToShard::Drain(ids, deadline));
                }
                GroupAction::Lose(partitions) => {
                    partitions.iter().for_each(|p| _ = worker.held.remove(p));
                    worker.tell_of(&partitions, ToShard::Lose);
                }
                GroupAction::Close(partitions) => {
                    let given_up = partitions.iter().any(|p| {
                        let of = |c: &Commit| !c.over && c.entries.iter().any(|e| e.0 == p.0);
                        worker.commits.iter().any(of)
                    });
                    partitions.iter().for_each(|p| _ = worker.held.remove(p));
                    worker.tell_of(&partitions, ToShard::Close);
                    if given_up {
                        self.saw("last commit given up");
                    }
                }
                GroupAction::Collect => {
                    worker.group.expect_collections(worker.shards.len());
                    worker.tell_all(|| ToShard::Collect);
                }
                GroupAction::Commit { number, points } => self.send_commit(id, number, points)?,
                GroupAction::Release => {
                    worker.revoking = false;
                    worker.partitions_changed();
                    let member = worker.member;
                    self.resolve_commits(id)?;
                    self.broker.release(member);
                }
                GroupAction::Lease(until) => worker.tell_all(|| ToShard::Lease(until)),
                GroupAction::Leave => return self.leave(id),
            }
        }
    }

    fn send_commit(&mut self, id: WorkerId, number: u64, points: Vec<(PartitionId, CommitPoint, usize)>) -> Checked {
        let mut entries = Vec::new();
        for (p, point, limit) in points {
            let Some(worker) = self.workers.get(&id) else { return Ok(()) };
            ensure!(worker.held.get(&p) == Some(&point.epoch), "P6: a commit of {p:?}, which is not held");
            ensure!(
                worker.commits.iter().all(|c| c.over || !c.entries.iter().any(|e| e.0 == p.0)),
                "two commits of {p:?}"
            );
            let revoking = worker.revoking;
            self.model.check_point((id, point.epoch.0), &point, &self.logs[p.index()])?;
            let head = MapHead { topic_id: TOPIC, base: point.offset, leader_epoch: point.marks_epoch };
            let map = commit_map::encode(&head, point.finished, &point.failing, Limit::Utf16(limit));
            ensure!(map.units <= limit, "P2: a map of {} for {limit}", map.units);
            if map.cut {
                self.saw("map cut");
            }
            if revoking {
                self.saw("commit during a revocation");
            }
            entries.push((p.0, point.offset, map.text, map.units));
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            let (member, sent_at) = (worker.member, self.now);
            worker.commits.push_back(Commit { number, member, sent_at, entries, over: false });
        }
        Ok(())
    }

    /// The broker takes in a commit. What it says of each partition.
    fn apply(&mut self, commit: &Commit) -> Result<Vec<CommitResult>, String> {
        let mut results = Vec::new();
        for (p, offset, text, units) in &commit.entries {
            let id = PartitionId(*p);
            if *units > self.setup.broker_limit {
                self.saw("map too large for the broker");
                results.push((id, Err(CommitTrouble::TooLarge)));
                continue;
            }
            let log = &mut self.logs[id.index()];
            let before = log.committed.as_ref().map_or(0, |(before, _)| *before);
            ensure!(*offset >= before, "P7: {p} is committed at {before} and goes back to {offset}");
            let lost = log.visible(0).take_while(|o| o < offset).find(|o| !self.model.finished.contains(&(*p, *o)));
            ensure!(lost.is_none(), "R1: {p} is committed at {offset}, and {lost:?} never finished");
            log.committed = Some((*offset, text.clone()));
            results.push((id, Ok(())));
        }
        Ok(results)
    }

    /// What is on its way when the member rejoins or leaves has arrived before, or never will.
    pub(crate) fn resolve_commits(&mut self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let mut commits = std::mem::take(&mut worker.commits);
        for commit in commits.iter_mut().filter(|c| !c.over) {
            commit.over = true;
            if self.broker.is_member(commit.member) && self.rng.percent(50) {
                self.apply(commit)?;
            }
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.commits = commits;
        }
        Ok(())
    }

    /// The answer to the commit that is under way.
    pub(crate) fn answer_commit(&mut self, id: WorkerId) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let Some(commit) = worker.commits.pop_front() else { return Ok(()) };
        let each = |result| commit.entries.iter().map(|e| (PartitionId(e.0), result)).collect::<Vec<_>>();
        let chance = if self.calm { 100 } else { self.rng.below(100) };
        let results = if commit.over {
            each(Err(CommitTrouble::Again))
        } else if !self.broker.is_member(commit.member) {
            self.saw("commit of a fenced member");
            each(Err(CommitTrouble::Fenced))
        } else {
            match chance {
                0..=11 => {
                    self.saw("commit refused for its generation");
                    each(Err(CommitTrouble::Again))
                }
                12..=23 => {
                    self.apply(&commit)?;
                    self.saw("commit applied, reply lost");
                    each(Err(CommitTrouble::Again))
                }
                24 | 25 => each(Err(CommitTrouble::Refused)),
                _ => self.apply(&commit)?,
            }
        };
        self.note(format_args!("{id} commit {} {results:?}", commit.number));
        let fenced = results.iter().any(|(_, r)| *r == Err(CommitTrouble::Fenced));
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        if !fenced {
            worker.group.coordinator_answered(commit.sent_at);
        }
        worker.group.committed(commit.number, &results, now);
        // The client finds out by itself, tells, and joins again: `group_event`.
        self.act_group(id)
    }

    /// The worker is done: what still runs ends, and nothing may be left.
    fn leave(&mut self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        ensure!(!worker.left, "P16: a worker leaves twice");
        worker.left = true;
        ensure!(worker.held.is_empty(), "P16: a worker leaves with {:?}", worker.held);
        let member = worker.member;
        self.resolve_commits(id)?;
        self.broker.remove(member, &mut self.rng);
        for shard in 0..self.setup.shards {
            self.turn(id, shard)?;
        }
        while let Some(at) = self.runs.iter().position(|r| r.worker == id) {
            self.runs[at].hangs = false;
            self.finish(at)?;
        }
        self.sends.retain(|s| s.worker != id);
        let Some(worker) = self.workers.remove(&id) else { return Ok(()) };
        let mut credits = worker.pool;
        for mut shard in worker.shards {
            let footprint = shard.engine.footprint();
            ensure!(footprint == (0, 0), "P11: {footprint:?} slots and batches are left");
            credits += shard.engine.surrender_credits();
        }
        let all = self.setup.engine.concurrency;
        ensure!(credits == all, "P4: {credits} credits are left of {all}");
        self.forget(id);
        Ok(())
    }

    /// Whether a partition is worked on: for those who wait for the end.
    pub(crate) fn is_held(&self, p: PartitionId) -> Option<(WorkerId, Epoch)> {
        self.workers.iter().find_map(|(id, w)| Some((*id, *w.held.get(&p)?)))
    }
}
