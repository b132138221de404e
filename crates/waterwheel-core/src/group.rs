//! The group side of a worker: which partitions it has, what it commits, when it gives them back.
//!
//! One for a worker, beside the engines of its shards. It is told what the group and the shards say and what time it is,
//! and answers with [`GroupAction`]s. A partition's way through it:
//!
//! ```text
//! assigned ─▶ opening ─committed offset read─▶ active ─revoking / stop─▶ draining ─▶ drained ─▶ last commit ─▶ released
//!                └─revoked: gone at once          └──────────lost / fenced: gone, never committed
//! ```
//!
//! Owns **I5**: a partition's committed offset never goes back within an epoch, and the group's half of **I4**: a lost
//! partition is never committed. At most one commit is under way, so commits cannot overtake each other.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::engine::{CommitPoint, Resume};
use crate::types::{Epoch, Now, PartitionId};

/// Who commits what is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committer {
    /// The member, by [`GroupAction::Commit`].
    Member,
    /// The shards, each in transactions of its own: what they hand in has been committed. [`GroupAction::Collect`] and
    /// [`GroupAction::Commit`] never come.
    Shards,
}

/// What the group side goes by.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// Who commits.
    pub committer: Committer,
    /// How often what finished is committed.
    pub commit_every: Duration,
    /// How long running attempts may go on after a revocation or a stop.
    pub drain_timeout: Duration,
    /// The longest that the group waits for a revocation (`max.poll.interval.ms`), less a margin for the commit and a
    /// heartbeat. A drain that lasts longer costs a member all its partitions.
    pub revocation_limit: Duration,
    /// How long after the coordinator's last answer records may still be started; `None`: without limit.
    pub lease: Option<Duration>,
    /// How long the last commit of a drain may take at least before the partitions are given back without it. What is left
    /// of the time for the drain is its, too, up to a minute in all.
    pub commit_timeout: Duration,
    /// Characters of metadata that a commit may carry for a partition.
    pub map_limit: usize,
}

/// The most that the last commit of a drain may take of the time for the drain. Coordinators that moved were seen to be away
/// for more than 30 s.
const LAST_COMMIT: Duration = Duration::from_secs(60);

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            committer: Committer::Member,
            commit_every: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(25),
            revocation_limit: Duration::from_secs(295),
            lease: None,
            commit_timeout: Duration::from_secs(5),
            map_limit: 4096,
        }
    }
}

/// What a broker's refusal of a commit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitTrouble {
    /// It may succeed when it is repeated.
    Again,
    /// The metadata is too large.
    TooLarge,
    /// The member is no longer one: all its partitions may be another's.
    Fenced,
    /// It will never succeed, but the member is still one (no rights to this topic, a deleted topic).
    Refused,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq)]
pub enum GroupAction {
    /// Read what the group has committed for these, then call [`Group::opened`] for each.
    Open(Vec<(PartitionId, Epoch)>),
    /// Give a partition to its shard and begin to fetch it.
    Assign {
        /// Which.
        partition: PartitionId,
        /// The new assignment.
        epoch: Epoch,
        /// Where its work begins.
        resume: Resume,
    },
    /// Stop fetching these and let what runs end; the shard answers with [`Group::drained`].
    Drain {
        /// Which.
        partitions: Vec<PartitionId>,
        /// Until when.
        deadline: Now,
    },
    /// Stop fetching these and cut what runs, at once.
    Lose(Vec<PartitionId>),
    /// The last commit of these was refused, or took too long; they go back without it.
    GaveUp(Vec<PartitionId>),
    /// Forget these: they are committed, or given up, and go back.
    Close(Vec<PartitionId>),
    /// Ask every shard what may be committed, then call [`Group::collected`].
    Collect,
    /// Commit, then call [`Group::committed`] with the same number.
    Commit {
        /// Names the commit.
        number: u64,
        /// What, with the room for each one's map in characters.
        points: Vec<(PartitionId, CommitPoint, usize)>,
    },
    /// Tell the group that the revocation is done.
    Release,
    /// Start nothing after this time.
    Lease(Now),
    /// Everything is drained and committed: leave the group.
    Leave,
}

#[derive(Debug)]
enum Phase {
    Opening,
    Active,
    /// What runs may end until the deadline; then the shard has to say so.
    Draining {
        deadline: Now,
    },
    /// Nothing runs; the last commit point may take until then to be committed.
    Drained {
        give_up: Now,
    },
}

#[derive(Debug)]
struct Held {
    epoch: Epoch,
    phase: Phase,
    /// What the broker was told last, or is being told.
    sent: i64,
    map_limit: usize,
}

/// The group side of a worker. See the module's documentation.
#[derive(Debug)]
pub struct Group {
    settings: GroupSettings,
    held: BTreeMap<PartitionId, Held>,
    next_epoch: u64,
    /// Points to commit, the newest of each partition.
    pending: BTreeMap<PartitionId, CommitPoint>,
    in_flight: Option<(u64, Vec<(PartitionId, CommitPoint)>)>,
    next_number: u64,
    next_commit: Now,
    /// The latest that was told.
    lease: Option<Now>,
    /// Shards that have not answered the last collection yet.
    collecting: usize,
    /// Partitions that the open revocation waits for.
    revoking: Option<Vec<PartitionId>>,
    stopping: bool,
    left: bool,
    actions: VecDeque<GroupAction>,
}

impl Group {
    /// A member without partitions.
    pub fn new(settings: GroupSettings, now: Now) -> Self {
        let next_commit = now + settings.commit_every;
        Self {
            settings,
            held: BTreeMap::new(),
            next_epoch: 1,
            pending: BTreeMap::new(),
            in_flight: None,
            next_number: 1,
            next_commit,
            lease: None,
            collecting: 0,
            revoking: None,
            stopping: false,
            left: false,
            actions: VecDeque::new(),
        }
    }

    /// Partitions that the member has, those being opened or drained included.
    pub fn partitions(&self) -> usize {
        self.held.len()
    }

    /// How many partitions are worked on: those that are being opened or drained are not.
    pub fn working(&self) -> usize {
        self.held.values().filter(|h| matches!(h.phase, Phase::Active)).count()
    }

    /// Whether that assignment of a partition lives and is worked on.
    pub fn is_current(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.held.get(&partition).is_some_and(|h| h.epoch == epoch && matches!(h.phase, Phase::Active))
    }

    /// Whether that assignment of a partition lives and waits to be told where its work begins.
    pub fn is_opening(&self, partition: PartitionId, epoch: Epoch) -> bool {
        let held = self.held.get(&partition).filter(|h| h.epoch == epoch);
        !self.stopping && held.is_some_and(|h| matches!(h.phase, Phase::Opening))
    }

    /// What was committed last for a partition, or is being committed.
    pub fn committed_offset(&self, partition: PartitionId) -> Option<i64> {
        self.held.get(&partition).map(|h| h.sent).filter(|offset| *offset != i64::MIN)
    }

    /// How long a drain may take after a revocation.
    pub fn drain_limit(&self) -> Duration {
        self.settings.drain_timeout.min(self.settings.revocation_limit)
    }

    /// A [`GroupAction::Collect`] goes to that many shards: each calls [`collected`](Self::collected) once.
    pub fn expect_collections(&mut self, shards: usize) {
        self.collecting = shards;
    }

    /// The group gave these to the member.
    pub fn assigned(&mut self, partitions: &[PartitionId]) {
        if self.stopping {
            return;
        }
        let mut opened = Vec::new();
        for id in partitions {
            let epoch = Epoch(self.next_epoch);
            self.next_epoch += 1;
            let held = Held { epoch, phase: Phase::Opening, sent: i64::MIN, map_limit: self.settings.map_limit };
            if let Some(old) = self.held.insert(*id, held)
                && !matches!(old.phase, Phase::Opening)
            {
                self.actions.push_back(GroupAction::Lose(vec![*id]));
            }
            self.pending.remove(id);
            opened.push((*id, epoch));
        }
        if !opened.is_empty() {
            self.actions.push_back(GroupAction::Open(opened));
        }
    }

    /// Where a partition's work begins was found out.
    pub fn opened(&mut self, partition: PartitionId, epoch: Epoch, resume: Resume) {
        let Some(held) = self.held.get_mut(&partition).filter(|h| h.epoch == epoch) else { return };
        if matches!(held.phase, Phase::Opening) && !self.stopping {
            held.phase = Phase::Active;
            held.sent = resume.offset;
            self.actions.push_back(GroupAction::Assign { partition, epoch, resume });
        }
    }

    /// A partition's position was set anew (a reset, a truncation): its epoch ends, a new one begins there.
    pub fn restarted(&mut self, partition: PartitionId, resume: Resume) {
        let Some(held) = self.held.get_mut(&partition).filter(|h| matches!(h.phase, Phase::Active)) else { return };
        held.epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        held.sent = resume.offset;
        self.pending.remove(&partition);
        let epoch = held.epoch;
        self.actions.push_back(GroupAction::Lose(vec![partition]));
        self.actions.push_back(GroupAction::Assign { partition, epoch, resume });
    }

    /// What was done of a partition since its last commit is void (its transaction was aborted): its epoch ends, and a new
    /// one begins where the group's commit says, once that has been read.
    pub fn rolled_back(&mut self, partition: PartitionId, epoch: Epoch) {
        let held = self.held.get_mut(&partition).filter(|h| h.epoch == epoch && matches!(h.phase, Phase::Active));
        let Some(held) = held else { return };
        held.epoch = Epoch(self.next_epoch);
        self.next_epoch += 1;
        (held.phase, held.sent) = (Phase::Opening, i64::MIN);
        self.actions.push_back(GroupAction::Open(vec![(partition, held.epoch)]));
    }

    /// A partition is to go on at another offset, as was asked: its epoch ends, a new one begins there, and that offset is
    /// committed, also where it lies below the one before.
    pub fn reset(&mut self, partition: PartitionId, offset: i64) {
        self.restarted(partition, Resume { offset, ..Resume::default() });
        let Some(held) = self.held.get(&partition).filter(|h| matches!(h.phase, Phase::Active)) else { return };
        let point = CommitPoint::bare(held.epoch, offset);
        self.pend(partition, point);
    }

    /// Keeps a point to be committed, if that is the member's to do.
    fn pend(&mut self, partition: PartitionId, point: CommitPoint) {
        if self.settings.committer == Committer::Member {
            self.pending.insert(partition, point);
        }
    }

    /// Asks the shards what may be committed now, unless they are being asked; whether it did.
    pub fn collect(&mut self) -> bool {
        let may = self.collecting == 0;
        if may {
            self.collecting = 1;
            self.actions.push_back(GroupAction::Collect);
        }
        may
    }

    /// Whether all that was collected is committed, or refused for good.
    pub fn is_settled(&self) -> bool {
        self.collecting == 0 && self.in_flight.is_none() && self.pending.is_empty()
    }

    /// Whether no shard is being asked what may be committed.
    pub fn has_collected(&self) -> bool {
        self.collecting == 0
    }

    /// Whether something waits for the commit under way to end.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Whether that assignment of a partition lives, in whatever phase.
    pub fn holds(&self, partition: PartitionId, epoch: Epoch) -> bool {
        self.held.get(&partition).is_some_and(|h| h.epoch == epoch)
    }

    /// Takes back a commit that was not sent: what it was of is committed anew, with what has come since.
    pub fn recommit(&mut self, number: u64) {
        let Some((_, points)) = self.in_flight.take_if(|(n, _)| *n == number) else { return };
        for (id, point) in points {
            self.pending.entry(id).or_insert(point);
        }
        self.proceed();
    }

    /// Partitions of which the shards have yet to say that nothing runs.
    pub fn draining(&self) -> usize {
        self.held.values().filter(|h| matches!(h.phase, Phase::Draining { .. })).count()
    }

    /// The group wants these back.
    pub fn revoking(&mut self, partitions: &[PartitionId], now: Now) {
        let deadline = now + self.drain_limit();
        let mut drain = Vec::new();
        let mut wait = Vec::new();
        for id in partitions {
            match self.held.get_mut(id) {
                None => {}
                Some(Held { phase: Phase::Opening, .. }) => {
                    self.held.remove(id);
                }
                Some(held) => {
                    wait.push(*id);
                    if matches!(held.phase, Phase::Active) {
                        held.phase = Phase::Draining { deadline };
                        drain.push(*id);
                    }
                }
            }
        }
        if !drain.is_empty() {
            self.actions.push_back(GroupAction::Drain { partitions: drain, deadline });
        }
        self.revoking = Some(wait);
        self.proceed();
    }

    /// These are gone: another member may have them. Nothing of them is committed.
    pub fn lost(&mut self, partitions: &[PartitionId], _now: Now) {
        let mut gone = Vec::new();
        for id in partitions {
            if let Some(held) = self.held.remove(id)
                && !matches!(held.phase, Phase::Opening)
            {
                gone.push(*id);
            }
            self.pending.remove(id);
        }
        if !gone.is_empty() {
            self.actions.push_back(GroupAction::Lose(gone));
        }
        self.proceed();
    }

    /// The member is no longer one: everything is lost.
    pub fn fenced(&mut self, now: Now) {
        let all: Vec<PartitionId> = self.held.keys().copied().collect();
        self.lost(&all, now);
    }

    /// Nothing of a partition runs any more.
    pub fn drained(&mut self, partition: PartitionId, point: CommitPoint, now: Now) {
        let Some(held) = self.held.get_mut(&partition).filter(|h| h.epoch == point.epoch) else { return };
        if let Phase::Draining { deadline } = held.phase {
            let most = deadline.min(now + LAST_COMMIT);
            held.phase = Phase::Drained { give_up: most.max(now + self.settings.commit_timeout) };
            self.pend(partition, point);
            self.proceed();
        }
    }

    /// What the shards have to commit; partitions with nothing new may be left out.
    pub fn collected(&mut self, points: Vec<(PartitionId, CommitPoint)>, _now: Now) {
        self.collecting = self.collecting.saturating_sub(1);
        for (id, point) in points {
            // A drained partition has handed in its last point already.
            if self.held.get(&id).is_some_and(|h| h.epoch == point.epoch && !matches!(h.phase, Phase::Drained { .. })) {
                self.pending.insert(id, point);
            }
        }
        if self.collecting == 0 {
            self.proceed();
        }
    }

    /// How a commit ended, for each of its partitions.
    pub fn committed(&mut self, number: u64, results: &[(PartitionId, Result<(), CommitTrouble>)], now: Now) {
        if self.in_flight.as_ref().is_none_or(|(n, _)| *n != number) {
            return;
        }
        let Some((_, points)) = self.in_flight.take() else { return };
        // If all that it was of is gone, so is the member that it fenced: the group has told, and there is a new one.
        let is_held =
            |(id, point): &(PartitionId, CommitPoint)| self.held.get(id).is_some_and(|h| h.epoch == point.epoch);
        if points.iter().any(is_held) && results.iter().any(|(_, r)| *r == Err(CommitTrouble::Fenced)) {
            self.fenced(now);
            return;
        }
        let (mut delayed, mut refused) = (false, Vec::new());
        for (id, point) in points {
            let Some(held) = self.held.get_mut(&id).filter(|h| h.epoch == point.epoch) else { continue };
            let result = results.iter().find(|(r, _)| *r == id).map_or(Err(CommitTrouble::Again), |(_, r)| *r);
            match result {
                Ok(()) => {}
                Err(CommitTrouble::Refused) => {
                    // That of another point may still come.
                    if matches!(held.phase, Phase::Drained { .. }) && !self.pending.contains_key(&id) {
                        refused.push(id);
                    }
                }
                Err(trouble) => {
                    if trouble == CommitTrouble::TooLarge && held.map_limit > 0 {
                        // Half as large, until at last the frontier goes alone.
                        held.map_limit = if held.map_limit < 64 { 0 } else { held.map_limit / 2 };
                    } else {
                        delayed = true;
                    }
                    self.pending.entry(id).or_insert(point);
                }
            }
        }
        if !refused.is_empty() {
            self.actions.push_back(GroupAction::GaveUp(refused));
        }
        if delayed {
            // Repeated at the next tick, a tenth of the usual pace so that a drain does not wait for long.
            self.next_commit = now + self.settings.commit_every / 10;
            self.settle_drains();
        } else {
            self.proceed();
        }
    }

    /// The coordinator answered at that time (by the driver's clock).
    pub fn coordinator_answered(&mut self, at: Now) {
        let until = self.settings.lease.map(|lease| at + lease);
        if let Some(until) = until.filter(|_| until > self.lease) {
            self.lease = Some(until);
            self.actions.push_back(GroupAction::Lease(until));
        }
    }

    /// Gives everything back: drains within `drain_timeout`, commits, leaves. Ends in [`GroupAction::Leave`], not later
    /// than `drain_timeout` and twice `commit_timeout` from now, whatever the shards and the broker do.
    pub fn stop(&mut self, now: Now) {
        self.stop_within(self.settings.drain_timeout, now);
    }

    /// The same, but what runs may go on for `patience` only; a second call can make it shorter.
    pub fn stop_within(&mut self, patience: Duration, now: Now) {
        self.stopping = true;
        self.held.retain(|_, h| !matches!(h.phase, Phase::Opening));
        let deadline = now + patience;
        let mut drain = Vec::new();
        for (id, held) in &mut self.held {
            match &mut held.phase {
                Phase::Active => held.phase = Phase::Draining { deadline },
                Phase::Draining { deadline: before } if deadline < *before => *before = deadline,
                Phase::Drained { give_up } => {
                    *give_up = deadline.max(now + self.settings.commit_timeout).min(*give_up);
                    continue;
                }
                _ => continue,
            }
            drain.push(*id);
        }
        if !drain.is_empty() {
            self.actions.push_back(GroupAction::Drain { partitions: drain, deadline });
        }
        self.proceed();
    }

    /// When [`tick`](Self::tick) is due next.
    pub fn next_timer(&self) -> Option<Now> {
        let commit = (!self.left).then_some(self.next_commit);
        commit.into_iter().chain(self.held.iter().filter_map(|(id, held)| self.patience(*id, held))).min()
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Now) {
        self.give_up(now);
        if now >= self.next_commit {
            self.next_commit = now + self.settings.commit_every;
            if self.in_flight.is_none() && self.has_work() {
                self.collect();
            }
            self.proceed();
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<GroupAction> {
        self.actions.pop_front()
    }

    /// Whether a commit of the partition is pending or under way.
    fn is_committing(&self, id: PartitionId) -> bool {
        let in_flight = self.in_flight.as_ref().is_some_and(|(_, points)| points.iter().any(|(p, _)| *p == id));
        in_flight || self.pending.contains_key(&id)
    }

    /// Whether a partition can go back.
    fn is_done(&self, id: PartitionId) -> bool {
        let Some(held) = self.held.get(&id) else { return true };
        matches!(held.phase, Phase::Drained { .. }) && !self.is_committing(id)
    }

    /// Whether there is a partition of which something may come to be committed.
    fn has_work(&self) -> bool {
        self.settings.committer == Committer::Member
            && self.held.values().any(|h| matches!(h.phase, Phase::Active | Phase::Draining { .. }))
    }

    /// Until when a partition that is to go back is waited for.
    fn patience(&self, id: PartitionId, held: &Held) -> Option<Now> {
        match held.phase {
            Phase::Opening | Phase::Active => None,
            Phase::Draining { deadline } => Some(deadline + self.settings.commit_timeout),
            Phase::Drained { give_up } => self.is_committing(id).then_some(give_up),
        }
    }

    /// Gives partitions back without their last commit, when that or the drain took too long. What was finished since
    /// the commit before comes again.
    fn give_up(&mut self, now: Now) {
        let late = self.held.iter().filter(|(id, held)| self.patience(**id, held).is_some_and(|at| now >= at));
        let late: Vec<PartitionId> = late.map(|(id, _)| *id).collect();
        if late.is_empty() {
            return;
        }
        let (mut hung, mut uncommitted) = (Vec::new(), Vec::new());
        for id in late {
            self.pending.remove(&id);
            if let Some((_, points)) = &mut self.in_flight {
                points.retain(|(p, _)| *p != id);
            }
            if self.held.get(&id).is_some_and(|h| matches!(h.phase, Phase::Draining { .. })) {
                self.held.remove(&id);
                hung.push(id);
            } else {
                uncommitted.push(id);
            }
        }
        if !uncommitted.is_empty() {
            self.actions.push_back(GroupAction::GaveUp(uncommitted));
        }
        if !hung.is_empty() {
            // The shard did not answer at the deadline: it hears of it when it can.
            self.actions.push_back(GroupAction::Lose(hung));
        }
        self.settle_drains();
    }

    /// Commits what is pending unless a commit is under way, then gives back what is done.
    fn proceed(&mut self) {
        if self.in_flight.is_none() && !self.pending.is_empty() {
            let mut points = Vec::new();
            for (id, point) in std::mem::take(&mut self.pending) {
                let Some(held) = self.held.get_mut(&id).filter(|h| h.epoch == point.epoch) else { continue };
                if point.offset < held.sent {
                    continue;
                }
                held.sent = point.offset;
                points.push((id, point));
            }
            if !points.is_empty() {
                let number = self.next_number;
                self.next_number += 1;
                let with_limits = points.iter().map(|(id, p)| (*id, p.clone(), self.held[id].map_limit)).collect();
                self.actions.push_back(GroupAction::Commit { number, points: with_limits });
                self.in_flight = Some((number, points));
            }
        }
        self.settle_drains();
    }

    /// Gives back partitions that are drained and whose last commit is done.
    fn settle_drains(&mut self) {
        if let Some(waiting) = &self.revoking
            && waiting.iter().all(|id| self.is_done(*id))
        {
            let closed: Vec<PartitionId> = waiting.iter().filter(|id| self.held.contains_key(id)).copied().collect();
            self.revoking = None;
            closed.iter().for_each(|id| {
                self.held.remove(id);
            });
            if !closed.is_empty() {
                self.actions.push_back(GroupAction::Close(closed));
            }
            self.actions.push_back(GroupAction::Release);
        }
        // A commit that is still under way is of partitions that are no longer held, or were given up.
        if self.stopping && !self.left && self.held.keys().all(|id| self.is_done(*id)) {
            let closed: Vec<PartitionId> = std::mem::take(&mut self.held).into_keys().collect();
            if !closed.is_empty() {
                self.actions.push_back(GroupAction::Close(closed));
            }
            self.left = true;
            self.actions.push_back(GroupAction::Leave);
        }
    }
}

#[cfg(test)]
mod tests;
