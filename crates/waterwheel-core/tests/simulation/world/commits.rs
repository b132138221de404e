//! Commits: written, taken or refused by the broker, answered or not.

use std::rc::Rc;

use waterwheel_core::commit_map::{self, Limit, MapHead};
use waterwheel_core::engine::CommitPoint;
use waterwheel_core::group::CommitTrouble;
use waterwheel_core::{Epoch, PartitionId};

use super::World;
use super::coordinator::Refusal;
use super::log::Committed;
use super::worker::{Commit, Entry, ToShard};
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

type CommitResult = (PartitionId, Result<(), CommitTrouble>);

impl World {
    pub(crate) fn send_commit(
        &mut self,
        id: WorkerId,
        number: u64,
        points: Vec<(PartitionId, CommitPoint, usize)>,
    ) -> Checked {
        let mut entries = Vec::new();
        for (p, point, limit) in points {
            let Some(worker) = self.workers.get(&id) else { return Ok(()) };
            ensure!(worker.held.get(&p) == Some(&point.epoch), "P6: a commit of {p:?}, which is not held");
            let is_out = |c: &Commit| !c.over && c.entries.iter().any(|e| e.partition == p);
            ensure!(!worker.commits.iter().any(is_out), "P7: two commits of {p:?} are under way");
            let revoking = worker.revoking;
            let topic_id = worker.topics.get(&p).copied();
            let head = MapHead { topic_id, base: point.offset, leader_epoch: point.marks_epoch };
            let map = commit_map::encode(
                &head,
                point.finished.iter().cloned(),
                &point.failing,
                &point.followed,
                Limit::Utf16(limit),
            );
            ensure!(map.units <= limit, "P2: a map of {} for {limit}", map.units);
            let life = (id, point.epoch.0);
            self.model.check_text(life, &point, &head, &map)?;
            if map.cut {
                self.saw(Seen::MapCut);
            }
            if revoking {
                self.saw(Seen::CommitWhileRevoking);
            }
            self.hold_while_full(id, p, point.epoch, map.cut);
            let marks = Rc::new(self.model.marks_of(life, &point));
            let follows = self.model.follows_of(life, &point, map.followed);
            let (partition, offset, whole) = (p, point.offset, !map.cut);
            let (text, units, named) = (map.text, map.units, topic_id);
            entries.push(Entry { partition, life, offset, text, units, named, marks, follows, whole });
        }
        let reaches = self.reaches(id);
        let sent_at = self.reading(id);
        if let Some(worker) = self.workers.get_mut(&id) {
            let (member, epoch) = (worker.member.unwrap_or(0), worker.known_epoch);
            let unsent = !reaches;
            worker.commits.push_back(Commit { number, member, epoch, sent_at, entries, over: false, unsent });
        }
        Ok(())
    }

    fn hold_while_full(&mut self, id: WorkerId, p: PartitionId, epoch: Epoch, full: bool) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let was_full = worker.full.get(&p) == Some(&epoch);
        if !self.setup.hold_when_full || full == was_full {
            return;
        }
        if full {
            worker.full.insert(p, epoch);
        } else {
            worker.full.remove(&p);
        }
        worker.tell(p, ToShard::MapFull(p, epoch, full));
        self.saw(Seen::MapHolds);
    }

    /// The broker takes in a commit. What it says of each partition.
    fn apply(&mut self, commit: &Commit) -> Result<Vec<CommitResult>, String> {
        self.coordinator.committed(commit.member, self.now);
        let mut results = Vec::new();
        for entry in &commit.entries {
            let Entry { partition: id, life, offset, text, units, marks, follows, named, .. } = entry;
            let p = id.0;
            if *units > self.setup.broker_limit {
                self.saw(Seen::MapTooLarge);
                results.push((*id, Err(CommitTrouble::TooLarge)));
                continue;
            }
            let owner = self.coordinator.owner(p);
            ensure!(owner == Some(commit.member), "P6: {} commits {p}, which {owner:?} has", commit.member);
            let log = &mut self.logs[id.index()];
            let unsettled = self.model.unsettled(p, log).filter(|o| o < offset);
            let of = &self.model.lives[life];
            let mut tainted = of.horizon < *offset;
            if let Some(before) = &log.committed {
                let anew = before.by != Some(*life) && (of.anew || before.tainted);
                let back = before.offset;
                ensure!(*offset >= back || anew, "P7: {p} is committed at {back} and goes back to {offset}");
            }
            if let Some(lost) = unsettled {
                let unread = of.resumed.contains_key(&lost);
                ensure!(tainted || unread, "P1: {p} is committed at {offset}, and {lost} never finished");
                tainted |= unread;
                if unread {
                    self.seen[Seen::CommitOfUnreadMark as usize] += 1;
                }
            }
            tainted |= *offset > log.end();
            let (offset, text, marks, by) = (*offset, text.clone(), marks.clone(), Some(*life));
            let follows = follows.clone();
            let topic = log.topic;
            log.committed =
                Some(Committed { offset, text, marks, follows, by, topic, named: *named, tainted, garbled: false });
            self.saw(if tainted { Seen::CommitOfCutLog } else { Seen::CommitApplied });
            results.push((*id, Ok(())));
        }
        Ok(results)
    }

    /// What is on its way when the member rejoins or leaves has arrived before, or never will.
    pub(crate) fn resolve_commits(&mut self, id: WorkerId) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let mut commits = std::mem::take(&mut worker.commits);
        for commit in commits.iter_mut().filter(|c| !c.over) {
            commit.over = true;
            let taken = self.coordinator.may_commit(commit.member, commit.epoch).is_ok() && !commit.unsent;
            if taken && self.rng.percent(50) {
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
        let (now, reaches) = (self.reading(id), self.reaches(id));
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        let Some(commit) = worker.commits.pop_front() else { return Ok(()) };
        let each = |result| commit.entries.iter().map(|e| (e.partition, result)).collect::<Vec<_>>();
        let chance = if self.calm { 100 } else { self.rng.below(100) };
        let standing = self.coordinator.may_commit(commit.member, commit.epoch);
        let mut answered = false;
        let results = if commit.over || commit.unsent {
            each(Err(CommitTrouble::Again))
        } else if let Err(refusal) = standing {
            self.saw(match refusal {
                Refusal::UnknownMember => Seen::CommitOfFenced,
                Refusal::IllegalGeneration => Seen::CommitOfOldGeneration,
                Refusal::RebalanceInProgress => Seen::CommitWhileCompleting,
                Refusal::StaleEpoch => Seen::CommitOfStaleEpoch,
            });
            let fenced = refusal == Refusal::UnknownMember && reaches;
            each(Err(if fenced { CommitTrouble::Fenced } else { CommitTrouble::Again }))
        } else {
            match chance {
                0..=5 => {
                    self.saw(Seen::CommitNeverArrived);
                    each(Err(CommitTrouble::Again))
                }
                6..=17 => {
                    self.apply(&commit)?;
                    self.saw(Seen::CommitReplyLost);
                    each(Err(CommitTrouble::Again))
                }
                18 | 19 => {
                    self.saw(Seen::CommitRefused);
                    answered = reaches;
                    each(Err(CommitTrouble::Refused))
                }
                _ if !reaches => {
                    if self.rng.percent(50) {
                        self.apply(&commit)?;
                    }
                    each(Err(CommitTrouble::Again))
                }
                _ => {
                    answered = true;
                    self.apply(&commit)?
                }
            }
        };
        self.note(format_args!("{id} commit {} {results:?}", commit.number));
        self.acknowledge(&commit, &results);
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        if answered {
            worker.contact = worker.contact.max(Some(commit.sent_at));
            worker.group.coordinator_answered(commit.sent_at);
        }
        worker.group.committed(commit.number, &results, now);
        // The client finds out by itself, tells, and joins again: `group_event`.
        self.loss_is_due = results.iter().any(|(_, result)| *result == Err(CommitTrouble::Fenced));
        self.act_group(id)?;
        self.loss_is_due = false;
        Ok(())
    }

    fn acknowledge(&mut self, commit: &Commit, results: &[CommitResult]) {
        for (entry, (_, result)) in commit.entries.iter().zip(results) {
            let Some(life) = self.model.lives.get_mut(&entry.life) else { continue };
            life.doubtful = result.is_err();
            let refused = *result == Err(CommitTrouble::Refused);
            let log = &mut self.logs[entry.partition.index()];
            log.refused = refused || log.refused && result.is_err();
            if result.is_ok() {
                let done = |o: &i64| *o < entry.offset || entry.marks.contains_key(o);
                let finished = life.finished.keys().filter(|o| done(o)).count();
                life.acknowledged = Some((entry.offset, finished, entry.whole));
            }
        }
    }
}
