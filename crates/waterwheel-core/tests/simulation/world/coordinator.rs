//! The group's coordinator at the broker: who is a member, who has which partition, whose commits it takes.
//!
//! Members ask ([`Coordinator::heartbeat`]); what they are told they hear only then. Three protocols: *eager* (everything
//! is given back, then dealt out), *cooperative* (a round deals out what is free and takes what moves; another round
//! follows) and *consumer* (KIP-848: no rounds, each member is brought to the target by itself).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waterwheel_core::Now;

use crate::rng::Rng;

pub(crate) type MemberId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Eager,
    Cooperative,
    Consumer,
}

/// What a member is told.
#[derive(Clone, Debug)]
pub(crate) enum GroupEvent {
    Assigned(Vec<u32>),
    Revoking(Vec<u32>),
    /// It is no member any more.
    Lost,
}

/// Why a commit is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    UnknownMember,
    IllegalGeneration,
    RebalanceInProgress,
    StaleEpoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Stable,
    /// Waits until every member has joined again.
    Preparing,
    /// All have joined; the assignment is on its way.
    Completing,
}

#[derive(Debug)]
struct Member {
    owned: BTreeSet<u32>,
    /// Told to give these back, and has not done so.
    revoking: Option<BTreeSet<u32>>,
    /// The generation, or member epoch, that it knows.
    epoch: u32,
    joined: bool,
    /// When it was heard last.
    heard: Now,
    /// Since when the group waits for it.
    awaited: Option<Now>,
}

pub(crate) struct Coordinator {
    protocol: Protocol,
    partitions: u32,
    session: Duration,
    rebalance_timeout: Duration,
    members: BTreeMap<MemberId, Member>,
    next_member: MemberId,
    target: BTreeMap<u32, MemberId>,
    phase: Phase,
    epoch: u32,
    /// It is on its way to another broker until then.
    away: Now,
}

impl Coordinator {
    pub(crate) fn new(protocol: Protocol, partitions: u32, session: Duration, rebalance_timeout: Duration) -> Self {
        Self {
            protocol,
            partitions,
            session,
            rebalance_timeout,
            members: BTreeMap::new(),
            next_member: 1,
            target: BTreeMap::new(),
            phase: Phase::Stable,
            epoch: 0,
            away: Now::default(),
        }
    }

    pub(crate) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(crate) fn is_member(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    pub(crate) fn is_away(&self, now: Now) -> bool {
        now < self.away
    }

    /// Who has a partition, those who were told to give it back included.
    pub(crate) fn owner(&self, partition: u32) -> Option<MemberId> {
        self.members.iter().find(|(_, m)| m.owned.contains(&partition)).map(|(id, _)| *id)
    }

    pub(crate) fn is_settled(&self) -> bool {
        let settled = |(id, m): (&MemberId, &Member)| {
            let target: BTreeSet<u32> = self.target.iter().filter(|(_, to)| *to == id).map(|(p, _)| *p).collect();
            m.revoking.is_none() && m.epoch == self.epoch && m.owned == target
        };
        self.phase == Phase::Stable && !self.members.is_empty() && self.members.iter().all(settled)
    }

    /// Whether a revocation is open.
    pub(crate) fn is_revoking(&self) -> bool {
        self.members.values().any(|m| m.revoking.is_some())
    }

    pub(crate) fn join(&mut self, rng: &mut Rng, now: Now) -> MemberId {
        let id = self.next_member;
        self.next_member += 1;
        let member =
            Member { owned: BTreeSet::new(), revoking: None, epoch: 0, joined: false, heard: now, awaited: None };
        self.members.insert(id, member);
        self.rebalance(rng, now);
        id
    }

    /// The member left, or is thrown out.
    pub(crate) fn remove(&mut self, id: MemberId, rng: &mut Rng, now: Now) {
        if self.members.remove(&id).is_some() {
            self.rebalance(rng, now);
        }
    }

    /// More partitions than before.
    pub(crate) fn add_partition(&mut self, rng: &mut Rng, now: Now) {
        self.partitions += 1;
        self.rebalance(rng, now);
    }

    /// Another broker takes the group over; members' sessions begin anew there.
    pub(crate) fn move_away(&mut self, until: Now) {
        self.away = until;
        for member in self.members.values_mut() {
            member.heard = member.heard.max(until);
            member.awaited = member.awaited.map(|_| until);
        }
    }

    /// Deals the partitions out anew.
    pub(crate) fn rebalance(&mut self, rng: &mut Rng, now: Now) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        self.target.clear();
        if !ids.is_empty() {
            let shift = rng.below(ids.len());
            self.target = (0..self.partitions).map(|p| (p, ids[(p as usize + shift) % ids.len()])).collect();
        }
        if self.protocol == Protocol::Consumer {
            self.epoch += 1;
        } else {
            self.prepare(now);
        }
    }

    fn prepare(&mut self, now: Now) {
        self.phase = Phase::Preparing;
        for member in self.members.values_mut() {
            member.joined = false;
            member.awaited = Some(now);
        }
    }

    /// Members that are silent for too long, or are waited for too long. Whether each is removed for its silence.
    pub(crate) fn overdue(&self, now: Now) -> Option<(MemberId, bool)> {
        self.members.iter().find_map(|(id, m)| {
            let silent = now.since(m.heard) > self.session;
            let slow = m.awaited.is_some_and(|since| now.since(since) > self.rebalance_timeout);
            (silent || slow).then_some((*id, silent))
        })
    }

    /// The member gave back what was revoked.
    pub(crate) fn release(&mut self, id: MemberId, now: Now) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let Some(gone) = member.revoking.take() else { return };
        member.owned.retain(|p| !gone.contains(p));
        match self.protocol {
            Protocol::Eager => {}
            // It joins again, so that others get what it gave back.
            Protocol::Cooperative if self.phase == Phase::Preparing => {}
            Protocol::Cooperative => self.prepare(now),
            Protocol::Consumer => member.awaited = None,
        }
    }

    /// A member says that it lives. What it is told.
    pub(crate) fn heartbeat(&mut self, id: MemberId, now: Now) -> Option<GroupEvent> {
        let Some(member) = self.members.get_mut(&id) else { return Some(GroupEvent::Lost) };
        member.heard = member.heard.max(now);
        if self.protocol == Protocol::Consumer {
            return self.reconcile(id, now);
        }
        match self.phase {
            Phase::Preparing => {
                if member.joined || member.revoking.is_some() {
                    return None;
                }
                if self.protocol == Protocol::Eager && !member.owned.is_empty() {
                    member.revoking = Some(member.owned.clone());
                    return Some(GroupEvent::Revoking(member.owned.iter().copied().collect()));
                }
                member.joined = true;
                member.awaited = None;
                if self.members.values().all(|m| m.joined) {
                    self.phase = Phase::Completing;
                    self.epoch += 1;
                }
                None
            }
            Phase::Completing => None,
            Phase::Stable => self.synced(id),
        }
    }

    /// The assignment of a round is known.
    pub(crate) fn sync(&mut self) {
        if self.phase != Phase::Completing {
            return;
        }
        self.phase = Phase::Stable;
        if self.protocol == Protocol::Eager {
            for (id, member) in &mut self.members {
                member.owned = self.target.iter().filter(|(_, to)| *to == id).map(|(p, _)| *p).collect();
            }
        }
    }

    /// What a member learns of the round that is over.
    fn synced(&mut self, id: MemberId) -> Option<GroupEvent> {
        let taken: BTreeSet<u32> = self.members.values().flat_map(|m| m.owned.iter().copied()).collect();
        let member = self.members.get_mut(&id)?;
        if member.revoking.is_some() {
            return None;
        }
        let is_new = member.epoch < self.epoch;
        if is_new {
            member.epoch = self.epoch;
            if self.protocol == Protocol::Eager {
                return Some(GroupEvent::Assigned(member.owned.iter().copied().collect()));
            }
            let target = &self.target;
            let free: Vec<u32> =
                target.iter().filter(|(p, to)| **to == id && !taken.contains(p)).map(|(p, _)| *p).collect();
            member.owned.extend(&free);
            return Some(GroupEvent::Assigned(free));
        }
        // After what is new, what goes.
        if self.protocol == Protocol::Cooperative {
            let gone: BTreeSet<u32> =
                member.owned.iter().copied().filter(|p| self.target.get(p) != Some(&id)).collect();
            if !gone.is_empty() {
                member.revoking = Some(gone.clone());
                return Some(GroupEvent::Revoking(gone.into_iter().collect()));
            }
        }
        None
    }

    /// KIP-848: first what goes, then the new epoch and what is free.
    fn reconcile(&mut self, id: MemberId, now: Now) -> Option<GroupEvent> {
        let taken: BTreeSet<u32> = self.members.values().flat_map(|m| m.owned.iter().copied()).collect();
        let (epoch, target) = (self.epoch, &self.target);
        let member = self.members.get_mut(&id)?;
        if member.revoking.is_some() {
            return None;
        }
        let gone: BTreeSet<u32> = member.owned.iter().copied().filter(|p| target.get(p) != Some(&id)).collect();
        if !gone.is_empty() {
            member.awaited = Some(now);
            member.revoking = Some(gone.clone());
            return Some(GroupEvent::Revoking(gone.into_iter().collect()));
        }
        let free: Vec<u32> =
            target.iter().filter(|(p, to)| **to == id && !taken.contains(p)).map(|(p, _)| *p).collect();
        let moved = member.epoch < epoch;
        member.epoch = epoch;
        member.owned.extend(&free);
        (moved || !free.is_empty()).then_some(GroupEvent::Assigned(free))
    }

    /// A commit was taken. In a classic group it shows that the member lives, in KIP-848 only a heartbeat does.
    pub(crate) fn committed(&mut self, id: MemberId, now: Now) {
        let classic = self.protocol != Protocol::Consumer;
        if let Some(member) = self.members.get_mut(&id).filter(|_| classic) {
            member.heard = member.heard.max(now);
        }
    }

    /// The epoch that a member knows, with which it commits.
    pub(crate) fn known_epoch(&self, id: MemberId) -> u32 {
        self.members.get(&id).map_or(0, |m| m.epoch)
    }

    /// Whether a commit is taken: of a member that knows the epoch it names, and not while a round completes.
    pub(crate) fn may_commit(&self, id: MemberId, epoch: u32) -> Result<(), Refusal> {
        let Some(member) = self.members.get(&id) else { return Err(Refusal::UnknownMember) };
        match self.protocol {
            Protocol::Consumer if epoch < member.epoch => Err(Refusal::StaleEpoch),
            Protocol::Consumer => Ok(()),
            _ if self.phase == Phase::Completing => Err(Refusal::RebalanceInProgress),
            _ if epoch != self.epoch => Err(Refusal::IllegalGeneration),
            _ => Ok(()),
        }
    }
}
