//! The group's coordinator at the broker: who is a member, who has which partition. Eager or incremental.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::rng::Rng;

pub(crate) type MemberId = u32;

/// What a member is told.
#[derive(Clone, Debug)]
pub(crate) enum GroupEvent {
    Assigned(Vec<u32>),
    Revoking(Vec<u32>),
    /// It is no member any more.
    Lost,
}

#[derive(Default)]
struct Member {
    owned: BTreeSet<u32>,
    /// Told to give these back, and has not done so.
    revoking: Option<BTreeSet<u32>>,
    events: VecDeque<GroupEvent>,
}

pub(crate) struct Broker {
    eager: bool,
    partitions: u32,
    members: BTreeMap<MemberId, Member>,
    next_member: MemberId,
    target: BTreeMap<u32, MemberId>,
    /// Eager: a round is under way.
    preparing: bool,
}

impl Broker {
    pub(crate) fn new(eager: bool, partitions: u32) -> Self {
        let (members, target) = (BTreeMap::new(), BTreeMap::new());
        Self { eager, partitions, members, next_member: 1, target, preparing: false }
    }

    pub(crate) fn is_member(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    pub(crate) fn join(&mut self, rng: &mut Rng) -> MemberId {
        let id = self.next_member;
        self.next_member += 1;
        self.members.insert(id, Member::default());
        self.rebalance(rng);
        id
    }

    /// The member left, or its session expired.
    pub(crate) fn remove(&mut self, id: MemberId, rng: &mut Rng) {
        if self.members.remove(&id).is_some() {
            self.rebalance(rng);
        }
    }

    /// The member gave back what was revoked.
    pub(crate) fn release(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id)
            && let Some(gone) = member.revoking.take()
        {
            member.owned.retain(|p| !gone.contains(p));
            self.progress();
        }
    }

    pub(crate) fn event(&mut self, id: MemberId) -> Option<GroupEvent> {
        match self.members.get_mut(&id) {
            Some(member) => member.events.pop_front(),
            None => Some(GroupEvent::Lost),
        }
    }

    /// Whether [`event`](Self::event) would tell something.
    pub(crate) fn has_event(&self, id: MemberId) -> bool {
        self.members.get(&id).is_none_or(|m| !m.events.is_empty())
    }

    pub(crate) fn is_settled(&self) -> bool {
        !self.preparing && self.members.values().all(|m| m.events.is_empty() && m.revoking.is_none())
    }

    /// Deals the partitions out anew.
    pub(crate) fn rebalance(&mut self, rng: &mut Rng) {
        let ids: Vec<MemberId> = self.members.keys().copied().collect();
        self.target.clear();
        if !ids.is_empty() {
            let shift = rng.below(ids.len());
            self.target = (0..self.partitions).map(|p| (p, ids[(p as usize + shift) % ids.len()])).collect();
        }
        self.preparing = self.eager;
        self.progress();
    }

    fn progress(&mut self) {
        if self.eager {
            self.progress_eagerly();
        } else {
            self.progress_incrementally();
        }
    }

    fn progress_eagerly(&mut self) {
        if !self.preparing {
            return;
        }
        for member in self.members.values_mut().filter(|m| m.revoking.is_none() && !m.owned.is_empty()) {
            member.revoking = Some(member.owned.clone());
            member.events.push_back(GroupEvent::Revoking(member.owned.iter().copied().collect()));
        }
        if self.members.values().any(|m| m.revoking.is_some()) {
            return;
        }
        self.preparing = false;
        for (id, member) in &mut self.members {
            member.owned = self.target.iter().filter(|(_, m)| *m == id).map(|(p, _)| *p).collect();
            member.events.push_back(GroupEvent::Assigned(member.owned.iter().copied().collect()));
        }
    }

    fn progress_incrementally(&mut self) {
        let target = &self.target;
        for (id, member) in self.members.iter_mut().filter(|(_, m)| m.revoking.is_none()) {
            let gone: BTreeSet<u32> = member.owned.iter().copied().filter(|p| target.get(p) != Some(id)).collect();
            if !gone.is_empty() {
                member.events.push_back(GroupEvent::Revoking(gone.iter().copied().collect()));
                member.revoking = Some(gone);
            }
        }
        let taken: BTreeSet<u32> = self.members.values().flat_map(|m| m.owned.iter().copied()).collect();
        for (id, member) in &mut self.members {
            let free = target.iter().filter(|(p, m)| *m == id && !taken.contains(p));
            let free: Vec<u32> = free.map(|(p, _)| *p).collect();
            if !free.is_empty() {
                member.owned.extend(&free);
                member.events.push_back(GroupEvent::Assigned(free));
            }
        }
    }
}
