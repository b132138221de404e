//! A group's coordinator: its members, what it gives them, and what they have committed.
//!
//! ```text
//! join, leave, eviction, topics that change ─▶ rebalance: a new target ─▶ settle
//! settle: what a member has beyond its target ─▶ Revoking … release ─▶ settle
//!         what nobody has ─▶ Assigned to its target        (eager: only when nobody has anything)
//! ```
//!
//! A member that does not give back within its `max.poll.interval.ms`, or is not heard of for its session time-out, is
//! evicted: another one may have its partitions from then on, whether it knows or not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::balance::{self, Spread};
use super::error;
use super::faults::Request;
use super::membership::{Open, Seat};
use super::world::State;
use crate::client::{Commit, CommitOutcome, Committed, GroupProtocol, MembershipEvent};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// A group.
#[derive(Default)]
pub(super) struct Group {
    /// By their seats' numbers.
    pub(super) members: BTreeMap<u64, Registered>,
    pub(super) owners: Spread,
    target: Spread,
    /// Where a test wants partitions to be.
    pub(super) pins: Spread,
    pub(super) committed: BTreeMap<TopicPartition, Committed>,
    generation: i32,
    /// Eager: everything is being given back.
    preparing: bool,
    turn: usize,
    /// Commits that a member sent for partitions that it did not have.
    pub(super) strays: Vec<(TopicPartition, i64)>,
}

/// A member as the coordinator knows it.
pub(super) struct Registered {
    /// Another one after each time it joined.
    pub(super) identity: u64,
    epoch: i32,
    pub(super) client_id: String,
    pub(super) topics: Vec<String>,
    session: Duration,
    pub(super) instance: Option<String>,
    pub(super) protocol: GroupProtocol,
    /// Of the consumer protocol.
    pub(super) is_new: bool,
}

/// Metadata may be that long, in UTF-16 units (`offset.metadata.max.bytes`).
pub(super) const METADATA: usize = 4_096;
/// How long after a failure a member joins again.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// What does not mend by waiting (as with librdkafka): no rights for topics, group or cluster.
const ENDS: [i32; 3] = [29, 30, 31];

impl Group {
    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn committed(&self, partition: &TopicPartition) -> Committed {
        let none =
            || Committed { partition: partition.clone(), offset: None, leader_epoch: None, metadata: String::new() };
        self.committed.get(partition).cloned().unwrap_or_else(none)
    }

    pub(super) fn keep(&mut self, commit: Commit) {
        let Commit { partition, offset, leader_epoch, metadata } = commit;
        let committed = Committed { partition: partition.clone(), offset: Some(offset), leader_epoch, metadata };
        self.committed.insert(partition, committed);
    }

    pub(super) fn forget_topic(&mut self, name: &str) {
        self.committed.retain(|partition, _| &*partition.topic != name);
    }

    /// The number and the epoch that a member commits with.
    pub(super) fn standing(&self, seat: u64) -> Option<(u64, i32)> {
        self.members.get(&seat).map(|m| (m.identity, m.epoch))
    }

    fn is_eager(&self) -> bool {
        self.members.values().any(|m| m.protocol == GroupProtocol::Eager)
    }

    pub(super) fn of(spread: &Spread, seat: u64) -> BTreeSet<TopicPartition> {
        spread.iter().filter(|(_, member)| **member == seat).map(|(partition, _)| partition.clone()).collect()
    }

    fn remove(&mut self, seat: u64) {
        self.members.remove(&seat);
        self.owners.retain(|_, member| *member != seat);
        self.target.retain(|_, member| *member != seat);
    }
}

impl Registered {
    /// What it has to say with its offsets.
    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }
}

impl State {
    /// Makes a seat's client a member of its group.
    pub(super) fn join(&mut self, number: u64) {
        let Some(seat) = self.seats.get(&number) else { return };
        let (host, name) = (seat.host, seat.group.clone());
        if !self.faults.reaches_group(host) {
            return self.later(AGAIN_AFTER, move |state| state.join(number));
        }
        if let Some(code) = self.faults.meet(host, Request::Join, self.now) {
            return self.refuse(number, error(code, "joining the group"));
        }
        let before = self.groups.get(&name).and_then(|group| {
            let instance = self.seats.get(&number)?.instance.as_ref()?;
            group.members.iter().find(|(_, m)| m.instance.as_ref() == Some(instance)).map(|(at, m)| (*at, m.is_new))
        });
        if let Some((before, is_new)) = before {
            if self.seats.contains_key(&before) {
                if is_new {
                    return self.refuse(number, error(code::UNRELEASED_INSTANCE_ID, "joining the group"));
                }
                self.fence(before);
            }
            return self.succeed(&name, before, number);
        }
        self.register(number);
        self.rebalance(&name);
    }

    fn register(&mut self, number: u64) {
        let identity = self.number();
        let Some(seat) = self.seats.get_mut(&number) else { return };
        let group = self.groups.entry(seat.group.clone()).or_default();
        let registered = Registered {
            identity,
            epoch: group.generation,
            client_id: seat.client_id.clone(),
            topics: seat.topics.clone(),
            session: seat.session,
            instance: seat.instance.clone(),
            protocol: seat.protocol,
            is_new: seat.is_new,
        };
        group.members.insert(number, registered);
        seat.has_told = false;
    }

    fn refuse(&mut self, number: u64, error: KafkaError) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        if ENDS.contains(&error.code()) || error.is_fenced() {
            seat.tell(MembershipEvent::Fatal(error));
        } else {
            seat.tell(MembershipEvent::Trouble(error));
            self.later(AGAIN_AFTER, move |state| state.join(number));
        }
    }

    /// A static member's place is taken by a newer one of the same name.
    fn fence(&mut self, number: u64) {
        let Some(seat) = self.seats.get_mut(&number) else { return };
        seat.lose_all();
        seat.tell(MembershipEvent::Fatal(error(code::FENCED_INSTANCE_ID, "joining the group")));
    }

    /// A static member takes over what the one of that name had.
    fn succeed(&mut self, name: &str, before: u64, number: u64) {
        self.register(number);
        let (Some(group), Some(seat)) = (self.groups.get_mut(name), self.seats.get_mut(&number)) else { return };
        group.members.remove(&before);
        for member in group.owners.values_mut().chain(group.target.values_mut()).filter(|m| **m == before) {
            *member = number;
        }
        seat.give(Group::of(&group.owners, number));
        self.settle(name);
    }

    /// Takes a client out of its group, if the coordinator can be told.
    pub(super) fn leave(&mut self, number: u64) {
        let Some(seat) = self.seats.remove(&number) else { return };
        let Some(group) = self.groups.get_mut(&seat.group) else { return };
        // One that cannot tell, and a static one, stay until their sessions expire.
        let identity = group.members.get(&number).map(|m| m.identity);
        if seat.instance.is_some() || !self.faults.reaches_group(seat.host) {
            let name = seat.group.clone();
            if let Some(identity) = identity {
                self.later(seat.session, move |state| state.expire(&name, number, identity, None));
            }
            return;
        }
        group.remove(number);
        self.rebalance(&seat.group);
    }

    /// The sessions of a host's members expire unless it is heard of again.
    pub(super) fn watch_sessions(&mut self, host: u32) {
        let of_host = self.seats.iter().filter(|(_, seat)| seat.host == host);
        let watched: Vec<_> = of_host
            .filter_map(|(number, seat)| {
                let member = self.groups.get(&seat.group)?.members.get(number)?;
                Some((seat.group.clone(), *number, member.identity, member.session))
            })
            .collect();
        for (name, number, identity, session) in watched {
            self.later(session, move |state| state.expire(&name, number, identity, Some(host)));
        }
    }

    /// Evicts a member that has not been heard of for its session time-out: a host's that is cut off, or a static one that
    /// has not come back.
    fn expire(&mut self, name: &str, number: u64, identity: u64, host: Option<u32>) {
        let Some(member) = self.groups.get(name).and_then(|g| g.members.get(&number)) else { return };
        let is_silent = match host {
            Some(host) => self.faults.silent_for(host, self.now) >= Some(member.session),
            None => true,
        };
        if is_silent && member.identity == identity {
            self.evict(name, number);
        }
    }

    /// Takes a member out of its group. If it can be told, it has lost everything, and joins again.
    pub(super) fn evict(&mut self, name: &str, number: u64) {
        let Some(group) = self.groups.get_mut(name).filter(|g| g.members.contains_key(&number)) else { return };
        group.remove(number);
        self.rebalance(name);
        self.hear(number);
    }

    /// A client that reaches the coordinator learns what became of it.
    pub(super) fn hear(&mut self, number: u64) {
        let Some(seat) = self.seats.get_mut(&number).filter(|s| self.faults.reaches_group(s.host)) else { return };
        let name = seat.group.clone();
        if self.groups.get(&name).is_some_and(|g| g.members.contains_key(&number)) {
            self.release(number);
            self.settle(&name);
        } else {
            seat.lose_all();
            self.join(number);
        }
    }

    /// Which members may have which partition.
    fn takers(&self, group: &Group) -> Vec<(TopicPartition, Vec<u64>)> {
        let all = self.topics.iter().flat_map(|(name, topic)| {
            let partitions = i32::try_from(topic.logs.len()).unwrap_or(i32::MAX);
            (0..partitions).map(move |n| TopicPartition::new(name.clone(), n))
        });
        all.map(|partition| {
            let wants = |m: &Registered| m.topics.iter().any(|topic| super::pattern::matches(topic, &partition.topic));
            let takers = group.members.iter().filter(|(_, m)| wants(m)).map(|(number, _)| *number).collect();
            (partition, takers)
        })
        .collect()
    }

    /// Finds anew who is to have what.
    pub(super) fn rebalance(&mut self, name: &str) {
        let Some(group) = self.groups.get(name) else { return };
        let takers = self.takers(group);
        let mut target = balance::spread(&takers, &group.target);
        let pinned =
            group.pins.iter().filter(|(p, member)| target.contains_key(*p) && group.members.contains_key(*member));
        target.extend(pinned.map(|(p, member)| (p.clone(), *member)).collect::<Vec<_>>());
        self.aim(name, target);
    }

    /// The same, and gives as much as possible to others than before.
    pub(super) fn shuffle(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.turn += 1;
        let turn = group.turn;
        let Some(group) = self.groups.get(name) else { return };
        let target = balance::deal(&self.takers(group), turn);
        self.aim(name, target);
    }

    fn aim(&mut self, name: &str, target: Spread) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.preparing = group.is_eager();
        group.target = target;
        self.settle(name);
    }

    /// Topics or partitions came or went.
    pub(super) fn topics_changed(&mut self) {
        let names: Vec<String> = self.groups.keys().cloned().collect();
        for name in names {
            let Some(group) = self.groups.get(&name) else { continue };
            if balance::spread(&self.takers(group), &group.target) != group.target {
                self.rebalance(&name);
            }
        }
    }

    /// Brings what the members have closer to what they are to have, as far as it goes for now.
    fn settle(&mut self, name: &str) {
        // Taken out for as long, so that the seats can be changed.
        let Some(mut group) = self.groups.remove(name) else { return };
        let reached: Vec<u64> = group.members.keys().copied().filter(|n| self.is_reached(*n)).collect();
        for &number in &reached {
            let has = Group::of(&group.owners, number);
            let keeps = if group.preparing { BTreeSet::new() } else { Group::of(&group.target, number) };
            let goes: Vec<TopicPartition> = has.difference(&keeps).cloned().collect();
            if !goes.is_empty() {
                self.open(number, goes);
            }
        }
        if !group.preparing || group.owners.is_empty() {
            let all = std::mem::take(&mut group.preparing);
            self.give(&mut group, &reached, all);
        }
        self.groups.insert(name.to_owned(), group);
    }

    fn is_reached(&self, number: u64) -> bool {
        self.seats.get(&number).is_some_and(|seat| self.faults.reaches_group(seat.host))
    }

    /// Gives what nobody has. `all`: everybody is told, also of nothing.
    fn give(&mut self, group: &mut Group, reached: &[u64], all: bool) {
        let free: Spread =
            group.target.iter().filter(|(p, _)| !group.owners.contains_key(*p)).map(|(p, m)| (p.clone(), *m)).collect();
        let mut generation = group.generation;
        for &number in reached {
            let gets = Group::of(&free, number);
            let Some(seat) = self.seats.get_mut(&number) else { continue };
            if gets.is_empty() && !all && seat.has_told {
                continue;
            }
            generation = group.generation + 1;
            group.owners.extend(gets.iter().map(|p| (p.clone(), number)));
            if let Some(member) = group.members.get_mut(&number) {
                member.epoch = generation;
            }
            seat.give(gets);
        }
        group.generation = generation;
    }

    /// Asks a member to give partitions back, unless it is being asked already.
    fn open(&mut self, number: u64, partitions: Vec<TopicPartition>) {
        let serial = self.number();
        let Some(seat) = self.seats.get_mut(&number).filter(|seat| seat.open.is_none()) else { return };
        seat.open = Some(Open { partitions: partitions.clone(), serial, told: false, released: false });
        seat.tell(MembershipEvent::Revoking(partitions));
        let (name, patience) = (seat.group.clone(), seat.max_poll);
        self.later(patience, move |state| {
            let open = state.seats.get(&number).and_then(|seat| seat.open.as_ref());
            if open.is_some_and(|open| open.serial == serial) {
                state.evict(&name, number);
            }
        });
    }

    /// Takes back what a member has released, if the coordinator can be told.
    pub(super) fn release(&mut self, number: u64) {
        if !self.is_reached(number) {
            return;
        }
        let Some(seat) = self.seats.get_mut(&number) else { return };
        let Some(open) = seat.open.take_if(|open| open.released) else { return };
        seat.owned.retain(|p| !open.partitions.contains(p));
        let name = seat.group.clone();
        if let Some(group) = self.groups.get_mut(&name) {
            group.owners.retain(|p, member| *member != number || !open.partitions.contains(p));
        }
        self.settle(&name);
    }

    /// Commits what a member sent when it had that standing.
    pub(super) fn commit(
        &mut self,
        number: u64,
        sent: Option<(u64, i32)>,
        name: &str,
        commits: Vec<Commit>,
    ) -> Result<Vec<CommitOutcome>, KafkaError> {
        let fail = |code| Err(error(code, "committing"));
        let member = self.groups.get(name).and_then(|group| group.members.get(&number));
        let Some((member, sent)) = member.zip(sent).filter(|(member, sent)| member.identity == sent.0) else {
            return fail(code::UNKNOWN_MEMBER_ID);
        };
        if member.epoch != sent.1 {
            return fail(if member.is_new { code::STALE_MEMBER_EPOCH } else { code::ILLEGAL_GENERATION });
        }
        let mut outcomes = Vec::with_capacity(commits.len());
        for commit in commits {
            let (partition, exists) = (commit.partition.clone(), self.log(&commit.partition).is_some());
            let Some(group) = self.groups.get_mut(name) else { return fail(code::UNKNOWN_MEMBER_ID) };
            let refused = if !exists {
                Some(code::UNKNOWN_TOPIC_OR_PARTITION)
            } else if commit.metadata.encode_utf16().count() > METADATA {
                Some(code::OFFSET_METADATA_TOO_LARGE)
            } else {
                None
            };
            let result = match refused {
                Some(code) => Err(error(code, format!("committing {partition}@{}", commit.offset))),
                None => {
                    if group.owners.get(&partition) != Some(&number) {
                        group.strays.push((partition.clone(), commit.offset));
                    }
                    group.keep(commit);
                    Ok(())
                }
            };
            outcomes.push(CommitOutcome { partition, result });
        }
        Ok(outcomes)
    }
}

impl Seat {
    /// Is given partitions, or none.
    fn give(&mut self, partitions: BTreeSet<TopicPartition>) {
        self.has_told = true;
        self.owned.extend(partitions.iter().cloned());
        self.tell(MembershipEvent::Assigned(partitions.into_iter().collect()));
    }

    /// Everything is gone.
    fn lose_all(&mut self) {
        self.open = None;
        let lost = std::mem::take(&mut self.owned);
        if !lost.is_empty() {
            self.tell(MembershipEvent::Lost(lost.into_iter().collect()));
        }
    }
}
