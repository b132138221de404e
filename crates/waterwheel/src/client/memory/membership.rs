//! A group member that fetches nothing.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::faults::Request;
use super::world::{State, World};
use super::{ended, error, pattern};
use crate::client::transactions::Standing;
use crate::client::{
    Commit, CommitOutcome, Committed, GroupMetadata, GroupProtocol, Membership, MembershipEvent, PortFuture, Properties,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// A member.
pub(super) struct Member {
    world: Arc<World>,
    /// Of its seat.
    number: u64,
    host: u32,
    group: String,
    protocol: GroupProtocol,
    /// Until the coordinator answers next.
    sleep: Mutex<Option<Pin<Box<Sleep>>>>,
}

/// A member as its client knows it.
pub(super) struct Seat {
    pub(super) host: u32,
    pub(super) group: String,
    pub(super) client_id: String,
    pub(super) topics: Vec<String>,
    pub(super) instance: Option<String>,
    pub(super) protocol: GroupProtocol,
    /// Of the consumer protocol.
    pub(super) is_new: bool,
    pub(super) session: Duration,
    pub(super) max_poll: Duration,
    pub(super) owned: BTreeSet<TopicPartition>,
    /// The open revocation.
    pub(super) open: Option<Open>,
    /// Whether it was told that the group was joined.
    pub(super) has_told: bool,
    events: VecDeque<MembershipEvent>,
    /// When it was last told of the coordinator's answers.
    answered: Option<Instant>,
}

/// A revocation that waits for its member.
pub(super) struct Open {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) serial: u64,
    /// The reader of events knows of it.
    pub(super) told: bool,
    /// The member gave it back, and the coordinator may not have heard of it.
    pub(super) released: bool,
}

/// How often the coordinator's answers are told.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// How long offsets are waited for that open transactions are about to change, as by librdkafka's member.
const COMMITTED_WITHIN: Duration = Duration::from_secs(10);

/// Codes of a commit that concern single partitions.
const OF_PARTITIONS: [i32; 4] = [
    code::UNKNOWN_TOPIC_OR_PARTITION,
    code::OFFSET_METADATA_TOO_LARGE,
    code::INVALID_COMMIT_OFFSET_SIZE,
    code::TOPIC_AUTHORIZATION_FAILED,
];

impl Member {
    pub(super) fn join(
        world: Arc<World>,
        host: u32,
        properties: &Properties,
        topics: &[String],
    ) -> Result<Self, KafkaError> {
        let millis = |name: &str, default: u64| {
            Duration::from_millis(properties.get(name).and_then(|v| v.parse().ok()).unwrap_or(default))
        };
        let is_new = properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
        let assignor = properties.get("partition.assignment.strategy");
        let is_eager = !is_new && assignor.is_some_and(|assignor| !assignor.contains("cooperative"));
        let protocol = if is_eager { GroupProtocol::Eager } else { GroupProtocol::Incremental };
        let group = properties.get("group.id").cloned().unwrap_or_default();
        for topic in topics {
            pattern::check(topic)?;
        }
        let seat = Seat {
            host,
            group: group.clone(),
            client_id: properties.get("client.id").cloned().unwrap_or_default(),
            topics: topics.to_vec(),
            instance: properties.get("group.instance.id").cloned(),
            protocol,
            is_new,
            session: millis("session.timeout.ms", 45_000),
            max_poll: millis("max.poll.interval.ms", 300_000),
            owned: BTreeSet::new(),
            open: None,
            has_told: false,
            events: VecDeque::new(),
            answered: None,
        };
        let number = world.change(|state| {
            let number = state.number();
            let latency = state.faults.latency(host, Request::Join);
            state.seats.insert(number, seat);
            if latency.is_zero() {
                state.join(number);
            } else {
                state.later(latency, move |state| state.join(number));
            }
            number
        });
        Ok(Self { world, number, host, group, protocol, sleep: Mutex::new(None) })
    }

    fn leave(&self) {
        let number = self.number;
        self.world.change(|state| state.leave(number));
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Membership for Member {
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<MembershipEvent> {
        let mut sleep = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let found = self.world.look(|state| {
                let found = state.next_event(self.number);
                state.wake(self.number, cx.waker());
                found
            });
            match found {
                Ok(event) => return Poll::Ready(event),
                Err(later) => *sleep = later.map(|at| Box::pin(tokio::time::sleep_until(at))),
            }
            if sleep.as_mut().is_none_or(|sleep| sleep.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
        }
    }

    fn release(&self) {
        self.world.change(|state| {
            let Some(seat) = state.seats.get_mut(&self.number) else { return };
            if let Some(open) = seat.open.as_mut().filter(|open| open.told) {
                open.released = true;
                state.release(self.number);
            }
        });
    }

    fn commit(&self, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>> {
        let (number, group) = (self.number, self.group.clone());
        let Some(sent) = self.world.look(|state| {
            state.seats.contains_key(&number).then(|| state.groups.get(&group).and_then(|g| g.standing(number)))
        }) else {
            return Box::pin(std::future::ready(Err(ended())));
        };
        let partitions: Vec<_> = commits.iter().map(|c| c.partition.clone()).collect();
        let work = move |state: &mut State| state.commit(number, sent, &group, commits);
        let answer = self.world.ask_group(self.host, Request::Commit, work);
        Box::pin(async move {
            match answer.await {
                // A fault of partitions comes as theirs.
                Err(e) if OF_PARTITIONS.contains(&e.code()) => {
                    let outcome = |partition| CommitOutcome { partition, result: Err(e.clone()) };
                    Ok(partitions.into_iter().map(outcome).collect())
                }
                answer => answer,
            }
        })
    }

    fn committed(&self, partitions: Vec<TopicPartition>) -> PortFuture<Vec<Committed>> {
        let (world, host, name) = (self.world.clone(), self.host, self.group.clone());
        let ask = async move {
            loop {
                let (group, asked) = (name.clone(), partitions.clone());
                let answer = world.ask_group(host, Request::Committed, move |state| {
                    let stable = !state.is_unstable(&group, &asked);
                    Ok(stable.then(|| state.committed_by(&group, Some(asked))))
                });
                if let Some(committed) = answer.await? {
                    return Ok(committed);
                }
                let (group, asked) = (name.clone(), partitions.clone());
                world.until(move |state| !state.is_unstable(&group, &asked)).await?;
            }
        };
        let answer = tokio::time::timeout(COMMITTED_WITHIN, ask);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(error(code::LOCAL_TIMED_OUT, "committed offsets"))) })
    }

    fn protocol(&self) -> GroupProtocol {
        self.protocol
    }

    fn group_metadata(&self) -> Option<GroupMetadata> {
        self.world.look(|state| {
            let (identity, generation) = state.groups.get(&self.group)?.standing(self.number)?;
            let instance = state.seats.get(&self.number)?.instance.clone();
            let standing = Standing { group: self.group.clone(), member: identity.to_string(), instance, generation };
            Some(GroupMetadata(Arc::new(standing)))
        })
    }

    fn close(&self) -> PortFuture<()> {
        self.leave();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Seat {
    /// A reader that is slower than trouble comes misses some of it, and nothing else.
    const TROUBLES: usize = 64;

    pub(super) fn tell(&mut self, event: MembershipEvent) {
        let is_trouble = |event: &MembershipEvent| matches!(event, MembershipEvent::Trouble(_));
        if !is_trouble(&event) || self.events.iter().filter(|e| is_trouble(e)).count() < Self::TROUBLES {
            self.events.push_back(event);
        }
    }
}

impl State {
    /// A member's next event, or when there may be one by itself.
    fn next_event(&mut self, number: u64) -> Result<MembershipEvent, Option<Instant>> {
        let Some(seat) = self.seats.get_mut(&number) else { return Err(None) };
        if let Some(event) = seat.events.pop_front() {
            if let (MembershipEvent::Revoking(partitions), Some(open)) = (&event, &mut seat.open) {
                open.told |= *partitions == open.partitions;
            }
            return Ok(event);
        }
        let is_member = self.groups.get(&seat.group).is_some_and(|group| group.standing(number).is_some());
        if !is_member || !self.faults.reaches_group(seat.host) {
            return Err(None);
        }
        match seat.answered.map(|at| at + HEARTBEAT) {
            Some(next) if next > self.now => Err(Some(next)),
            _ => {
                seat.answered = Some(self.now);
                Ok(MembershipEvent::CoordinatorAnswered { ago: Duration::ZERO })
            }
        }
    }
}
