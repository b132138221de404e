//! A group member that fetches nothing.
//!
//! One thread, `waterwheel-group`, polls the instance for as long as it lives (invariant I8): neither a slow reader of
//! events nor a revocation that waits stops it. It alone answers assignments and revocations:
//!
//! ```text
//!                  ┌── ASSIGN: answered at once with an empty list ──▶ Assigned
//! group ─▶ thread ─┼── REVOKE: kept open ──▶ Revoking ── release() ──▶ answered
//!                  │               └── lost meanwhile ──▶ Lost, answered
//!                  └── REVOKE, lost: answered at once ──▶ Lost
//! ```
//!
//! With an empty list librdkafka has nothing to fetch, and so nothing to stop while a revocation waits
//! (measured: no Fetch, ListOffsets or OffsetFetch request in any protocol).

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use rdkafka::bindings as sys;
use tokio::sync::oneshot;

use super::errors;
use super::handle::{Event, Handle, Queue, lock};
use super::list::{self, List};
use super::properties::Role;
use super::siblings::Setup;
use super::statistics::{Answered, CoordinatorClock};
use crate::client::transactions::Standing;
use crate::client::{
    Commit, CommitOutcome, Committed, GroupMetadata, GroupProtocol, Membership, MembershipEvent, PortFuture,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// A member of a group.
pub(super) struct Member {
    /// `None` once closed.
    shared: Mutex<Option<Arc<Shared>>>,
    events: Arc<Events>,
}

impl Member {
    pub(super) fn join(properties: &Setup, topics: &[String]) -> Result<Self, KafkaError> {
        let events = sys::RD_KAFKA_EVENT_REBALANCE
            | sys::RD_KAFKA_EVENT_OFFSET_COMMIT
            | sys::RD_KAFKA_EVENT_ERROR
            | sys::RD_KAFKA_EVENT_STATS;
        let handle = Handle::new(Role::Membership, properties, events)?;
        let queue = Queue::group(&handle)?;
        let subscription = List::of_topics(topics)?;
        // SAFETY: the instance and the list are live; the list is copied.
        let code = unsafe { errors::raw::rd_kafka_subscribe(handle.as_ptr(), subscription.as_ptr()) };
        errors::check(code, "subscribing")?;

        let shared = Arc::new(Shared {
            queue,
            handle,
            commits: Mutex::default(),
            next_commit: AtomicU64::new(1),
            stop: AtomicBool::new(false),
        });
        let events = Arc::<Events>::default();
        let control = Control {
            shared: shared.clone(),
            events: events.clone(),
            owned: BTreeSet::new(),
            // In a classic group each member is told of its assignment, if it is one of nothing.
            has_told: properties.get("group.protocol").is_none_or(|protocol| protocol != "consumer"),
            open: None,
            clock: CoordinatorClock::default(),
        };
        std::thread::Builder::new()
            .name("waterwheel-group".into())
            .spawn(move || control.run())
            .map_err(|e| errors::no_thread(&e))?;
        Ok(Self { shared: Mutex::new(Some(shared)), events })
    }

    fn shared(&self) -> Result<Arc<Shared>, KafkaError> {
        lock(&self.shared).clone().ok_or_else(errors::ended)
    }

    fn stop(&self) -> Option<Arc<Shared>> {
        let shared = lock(&self.shared).take()?;
        shared.stop.store(true, Ordering::Release);
        shared.queue.interrupt();
        Some(shared)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Membership for Member {
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<MembershipEvent> {
        self.events.poll(cx)
    }

    fn release(&self) {
        if let Ok(shared) = self.shared() {
            self.events.release();
            shared.queue.interrupt();
        }
    }

    fn commit(&self, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>> {
        let shared = match self.shared() {
            Ok(shared) => shared,
            Err(e) => return Box::pin(async { Err(e) }),
        };
        let requests: Vec<_> = split(commits).into_iter().map(|part| shared.send(part)).collect();
        // A future that nobody polls must not keep the client from ending.
        let shared = Arc::downgrade(&shared);
        Box::pin(async move {
            let (mut outcomes, mut whole) = (Vec::new(), None);
            let all = requests.len();
            let mut failed = 0;
            for request in requests {
                match request.answer().await {
                    (commits, Err(Refusal::OfSome(_))) if commits.len() > 1 => {
                        // Which ones, only requests of one partition each tell.
                        let alone: Vec<_> = match shared.upgrade() {
                            Some(shared) => commits.into_iter().map(|c| shared.send(vec![c])).collect(),
                            None => return Err(errors::ended()),
                        };
                        for request in alone {
                            let (commits, answer) = request.answer().await;
                            outcomes.extend(outcomes_of(commits, &answer.map_err(Refusal::into_error)));
                        }
                    }
                    (commits, answer) => {
                        if let Err(Refusal::OfAll(e)) = &answer {
                            failed += 1;
                            whole = Some(e.clone());
                        }
                        outcomes.extend(outcomes_of(commits, &answer.map_err(Refusal::into_error)));
                    }
                }
            }
            match whole {
                Some(e) if failed == all => Err(e),
                _ => Ok(outcomes),
            }
        })
    }

    fn committed(&self, partitions: Vec<TopicPartition>) -> PortFuture<Vec<Committed>> {
        let shared = match self.shared() {
            Ok(shared) => shared,
            Err(e) => return Box::pin(async { Err(e) }),
        };
        let (tell, told) = oneshot::channel();
        let ask = move || {
            // The caller may have given up.
            _ = tell.send(shared.committed(&partitions));
        };
        let thread = std::thread::Builder::new().name("waterwheel-committed".into()).spawn(ask);
        Box::pin(async move {
            thread.map_err(|e| errors::no_thread(&e))?;
            told.await.unwrap_or_else(|_| Err(errors::ended()))
        })
    }

    fn protocol(&self) -> GroupProtocol {
        self.shared().map_or(GroupProtocol::Eager, |shared| shared.protocol())
    }

    fn group_metadata(&self) -> Option<GroupMetadata> {
        self.shared().ok()?.standing()
    }

    fn close(&self) -> PortFuture<()> {
        match self.stop() {
            Some(shared) => shared.handle.on_end(),
            None => Box::pin(async { Ok(()) }),
        }
    }
}

/// The answer of one commit request.
type CommitAnswer = Result<(), Refusal>;

/// Why a commit request was refused, as far as librdkafka tells: where one partition of a request is refused, it gives
/// that partition's code to all of them, also to those that the broker accepted (`rdkafka_cgrp.c`,
/// `rd_kafka_cgrp_update_committed_offsets`).
#[derive(Debug)]
enum Refusal {
    /// The member, the group or the connection.
    OfAll(KafkaError),
    /// At least one partition.
    OfSome(KafkaError),
}

impl Refusal {
    /// Codes that concern single partitions: unknown (3), metadata too large (12), offset too large (28), no rights (29).
    const OF_PARTITIONS: [i32; 4] = [
        code::UNKNOWN_TOPIC_OR_PARTITION,
        code::OFFSET_METADATA_TOO_LARGE,
        code::INVALID_COMMIT_OFFSET_SIZE,
        code::TOPIC_AUTHORIZATION_FAILED,
    ];

    fn into_error(self) -> KafkaError {
        match self {
            Refusal::OfAll(e) | Refusal::OfSome(e) => e,
        }
    }
}

/// A commit request under way.
struct Request {
    commits: Vec<Commit>,
    told: Result<oneshot::Receiver<CommitAnswer>, KafkaError>,
}

impl Request {
    async fn answer(self) -> (Vec<Commit>, CommitAnswer) {
        let answer = match self.told {
            Ok(told) => told.await.unwrap_or_else(|_| Err(Refusal::OfAll(errors::ended()))),
            Err(e) => Err(Refusal::OfAll(e)),
        };
        (self.commits, answer)
    }
}

fn outcomes_of(commits: Vec<Commit>, answer: &Result<(), KafkaError>) -> impl Iterator<Item = CommitOutcome> {
    commits.into_iter().map(|c| CommitOutcome { partition: c.partition, result: answer.clone() })
}

/// What the thread and the port share.
struct Shared {
    queue: Queue,
    handle: Arc<Handle>,
    /// Requests under way, by the number that librdkafka hands back with the answer.
    commits: Mutex<HashMap<u64, oneshot::Sender<CommitAnswer>>>,
    next_commit: AtomicU64,
    /// Set once, by the port's end.
    stop: AtomicBool,
}

impl Shared {
    fn protocol(&self) -> GroupProtocol {
        // SAFETY: the instance is live; the text is a constant.
        let name = unsafe { errors::text(sys::rd_kafka_rebalance_protocol(self.handle.as_ptr())) };
        if name == "COOPERATIVE" { GroupProtocol::Incremental } else { GroupProtocol::Eager }
    }

    /// Sends one request.
    fn send(&self, commits: Vec<Commit>) -> Request {
        let told = self.send_commit(&commits);
        Request { commits, told }
    }

    fn send_commit(&self, commits: &[Commit]) -> Result<oneshot::Receiver<CommitAnswer>, KafkaError> {
        let offsets = List::of_commits(commits)?;
        let (tell, told) = oneshot::channel();
        let number = self.next_commit.fetch_add(1, Ordering::Relaxed);
        lock(&self.commits).insert(number, tell);
        // SAFETY: instance, list and queue are live; the list is copied; the opaque is a number that is only handed back.
        let code = unsafe {
            sys::rd_kafka_commit_queue(
                self.handle.as_ptr(),
                offsets.as_ptr(),
                self.queue.as_ptr(),
                None,
                std::ptr::without_provenance_mut(number as usize),
            ) as i32
        };
        errors::check(code, "committing").inspect_err(|_| drop(lock(&self.commits).remove(&number)))?;
        Ok(told)
    }

    /// Who the member is; `None` while the coordinator has not taken it into the group.
    fn standing(&self) -> Option<GroupMetadata> {
        // SAFETY: the instance is live; what is returned is ours, or null, and destroyed here, after its texts were copied.
        unsafe {
            let metadata = sys::rd_kafka_consumer_group_metadata(self.handle.as_ptr());
            if metadata.is_null() {
                return None;
            }
            let instance = sys::rd_kafka_consumer_group_metadata_group_instance_id(metadata);
            let standing = Standing {
                group: errors::text(sys::rd_kafka_consumer_group_metadata_group_id(metadata)),
                member: errors::text(sys::rd_kafka_consumer_group_metadata_member_id(metadata)),
                instance: (!instance.is_null()).then(|| errors::text(instance)),
                generation: sys::rd_kafka_consumer_group_metadata_generation_id(metadata),
            };
            sys::rd_kafka_consumer_group_metadata_destroy(metadata);
            (standing.generation > 0).then(|| GroupMetadata(Arc::new(standing)))
        }
    }

    fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, KafkaError> {
        let list = List::of_partitions(partitions)?;
        // SAFETY: instance and list are live.
        let code = unsafe { errors::raw::rd_kafka_committed(self.handle.as_ptr(), list.as_ptr(), COMMITTED_WAIT_MS) };
        errors::check(code, "asking for the committed offsets")?;
        list.read()
            .into_iter()
            .map(|e| {
                errors::check(e.code, &e.partition.to_string())?;
                Ok(Committed {
                    offset: (e.offset >= 0).then_some(e.offset),
                    leader_epoch: e.leader_epoch,
                    metadata: e.metadata,
                    partition: e.partition,
                })
            })
            .collect()
    }
}

const COMMITTED_WAIT_MS: i32 = 10_000;

/// A request with 85 full maps (700 KiB of metadata) made the broker refuse the whole commit with -1.
const COMMIT_METADATA: usize = 512 * 1024;

/// Cuts commits into requests that the broker takes.
fn split(commits: Vec<Commit>) -> Vec<Vec<Commit>> {
    let (mut requests, mut bytes) = (vec![Vec::new()], 0);
    for c in commits {
        bytes += c.metadata.len();
        match requests.last_mut() {
            Some(last) if last.is_empty() || bytes <= COMMIT_METADATA => last.push(c),
            _ => {
                bytes = c.metadata.len();
                requests.push(vec![c]);
            }
        }
    }
    requests.retain(|r| !r.is_empty());
    requests
}

/// What only the thread touches.
struct Control {
    shared: Arc<Shared>,
    events: Arc<Events>,
    /// The partitions of this member, by what the group said.
    owned: BTreeSet<TopicPartition>,
    /// Whether it was told that the group was joined.
    has_told: bool,
    /// The revocation that waits for `release`.
    open: Option<Vec<TopicPartition>>,
    clock: CoordinatorClock,
}

impl Control {
    const WAIT_MS: i32 = 100;

    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Acquire) {
            if let Some(event) = self.shared.queue.poll(Self::WAIT_MS) {
                self.take(&event);
            }
            if self.open.is_some() && self.is_lost() {
                // Taken away while it was being drained.
                if let Some(partitions) = self.open.clone() {
                    self.tell_lost(partitions);
                    self.answer_open();
                }
            } else if self.events.take_release() {
                self.answer_open();
            }
        }
        self.answer_open();
        self.leave();
        // Whoever still waits for a commit learns that the client has ended, by the sender's drop.
        lock(&self.shared.commits).clear();
    }

    fn take(&mut self, event: &Event) {
        match event.kind() {
            sys::RD_KAFKA_EVENT_REBALANCE => self.rebalance(event),
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => self.committed(event),
            sys::RD_KAFKA_EVENT_STATS => {
                // SAFETY: the event is live, and its text with it.
                let json = unsafe { errors::text(sys::rd_kafka_event_stats(event.as_ptr())) };
                if let Some(answered) = self.clock.read(&json) {
                    self.events.coordinator_answered(answered);
                }
                // librdkafka says nothing of an assignment that is like the one before, so not that the first one is empty.
                if !self.has_told && self.is_member() {
                    self.has_told = true;
                    self.events.push(MembershipEvent::Assigned(Vec::new()));
                }
            }
            sys::RD_KAFKA_EVENT_ERROR => self.error(event),
            _ => {}
        }
    }

    fn error(&mut self, event: &Event) {
        let error = event.error(&self.shared.handle);
        if let Some(fatal) = self.shared.handle.fatal() {
            // librdkafka gives everything up by itself and says no more about it.
            let mut lost = self.answer_open().unwrap_or_default();
            lost.extend(std::mem::take(&mut self.owned));
            if !lost.is_empty() {
                self.events.push(MembershipEvent::Lost(lost));
            }
            self.events.push(MembershipEvent::Fatal(fatal));
        } else if ENDS.contains(&error.code()) {
            self.events.push(MembershipEvent::Fatal(error));
        } else {
            self.events.push(MembershipEvent::Trouble(error));
        }
    }

    fn rebalance(&mut self, event: &Event) {
        // SAFETY: the event is live, and its list with it.
        let list = unsafe { list::read(sys::rd_kafka_event_topic_partition_list(event.as_ptr())) };
        let partitions: Vec<TopicPartition> = list.into_iter().map(|e| e.partition).collect();
        if event.code() == ASSIGN {
            self.answer_assign();
            self.has_told = true;
            self.owned.extend(partitions.iter().cloned());
            self.events.push(MembershipEvent::Assigned(partitions));
            // Told after the assignment, as old as it is then: whoever takes it in may have stood still meanwhile.
            self.events.coordinator_answered(Answered::now());
            return;
        }
        let lost = self.is_lost();
        let gone = match self.shared.protocol() {
            // Whatever the event's list says: all that this member has is gone.
            GroupProtocol::Eager => std::mem::take(&mut self.owned).into_iter().collect(),
            GroupProtocol::Incremental if lost && partitions.is_empty() => {
                std::mem::take(&mut self.owned).into_iter().collect()
            }
            GroupProtocol::Incremental => {
                for p in &partitions {
                    self.owned.remove(p);
                }
                partitions
            }
        };
        if lost || gone.is_empty() {
            if !gone.is_empty() {
                self.tell_lost(gone);
            }
            self.answer_revoke();
        } else {
            self.open = Some(gone.clone());
            self.events.push(MembershipEvent::Revoking(gone));
        }
    }

    /// Tells of partitions that are lost. Before librdkafka is answered and joins anew, so that whoever sees another standing
    /// of the member (`group_metadata`) finds the event waiting.
    fn tell_lost(&self, partitions: Vec<TopicPartition>) {
        self.events.push(MembershipEvent::Lost(partitions));
    }

    /// Answers the open revocation, if there is one, and closes it.
    fn answer_open(&mut self) -> Option<Vec<TopicPartition>> {
        let partitions = self.open.take()?;
        self.answer_revoke();
        Some(partitions)
    }

    /// Whether the coordinator has taken it into the group.
    fn is_member(&self) -> bool {
        self.shared.standing().is_some()
    }

    fn is_lost(&self) -> bool {
        // SAFETY: the instance is live.
        unsafe { sys::rd_kafka_assignment_lost(self.shared.handle.as_ptr()) != 0 }
    }

    fn answer_assign(&self) {
        let (rk, nothing) = (self.shared.handle.as_ptr(), List::with_capacity(0));
        // SAFETY: instance and list are live; the list is copied, the error object is ours.
        let answered = unsafe {
            match self.shared.protocol() {
                GroupProtocol::Eager => {
                    errors::check(errors::raw::rd_kafka_assign(rk, nothing.as_ptr()), "answering an assignment")
                }
                GroupProtocol::Incremental => {
                    errors::take(sys::rd_kafka_incremental_assign(rk, nothing.as_ptr()), "answering an assignment")
                }
            }
        };
        self.report(answered);
    }

    fn answer_revoke(&self) {
        let (rk, nothing) = (self.shared.handle.as_ptr(), List::with_capacity(0));
        // SAFETY: as in `answer_assign`; null means that nothing is assigned any more.
        let answered = unsafe {
            match self.shared.protocol() {
                GroupProtocol::Eager => {
                    errors::check(errors::raw::rd_kafka_assign(rk, std::ptr::null()), "answering a revocation")
                }
                GroupProtocol::Incremental => {
                    errors::take(sys::rd_kafka_incremental_unassign(rk, nothing.as_ptr()), "answering a revocation")
                }
            }
        };
        self.report(answered);
    }

    fn report(&self, answered: Result<(), KafkaError>) {
        if let Err(e) = answered {
            self.events.push(MembershipEvent::Trouble(e));
        }
    }

    fn committed(&self, event: &Event) {
        // SAFETY: the event is live; the opaque is the number given with the request, the list lives with the event.
        let (number, list) = unsafe {
            let list = sys::rd_kafka_event_topic_partition_list(event.as_ptr());
            (sys::rd_kafka_event_opaque(event.as_ptr()) as usize as u64, list::read(list))
        };
        let Some(tell) = lock(&self.shared.commits).remove(&number) else { return };
        // Where it was not sent or not answered, the list may name no error.
        let refused = list.iter().find(|e| Refusal::OF_PARTITIONS.contains(&e.code));
        let answer = match (event.code(), refused) {
            (_, Some(e)) => {
                Err(Refusal::OfSome(errors::error(e.code, format!("committing {}@{}", e.partition, e.offset))))
            }
            (0, None) => Ok(()),
            (code, None) => Err(Refusal::OfAll(errors::error(code, "committing"))),
        };
        // The caller may have given up.
        _ = tell.send(answer);
    }

    /// Leaves the group, also where the port was only dropped: an instance that is destroyed while it waits for the
    /// answer to an assignment never ends, and its main thread spins (seen with librdkafka 2.12.1; the state is
    /// `WAIT_ASSIGN_CALL`). Here every event is answered until librdkafka says that it is closed.
    ///
    /// Ends when the coordinator has answered or librdkafka gives up; callers do not wait longer than they like.
    fn leave(&mut self) {
        // SAFETY: instance and queue are live; the error object is ours.
        let begun = unsafe {
            let error = sys::rd_kafka_consumer_close_queue(self.shared.handle.as_ptr(), self.shared.queue.as_ptr());
            errors::take(error, "leaving the group")
        };
        if begun.is_err() {
            // A fatal error: there is no group to leave, and no more events than those that wait.
            while let Some(event) = self.shared.queue.poll(0) {
                self.answer_leaving(&event);
            }
            return;
        }
        // SAFETY: the instance is live.
        while unsafe { sys::rd_kafka_consumer_closed(self.shared.handle.as_ptr()) } == 0 {
            if let Some(event) = self.shared.queue.poll(Self::WAIT_MS) {
                self.answer_leaving(&event);
            }
        }
    }

    fn answer_leaving(&self, event: &Event) {
        match event.kind() {
            sys::RD_KAFKA_EVENT_REBALANCE if event.code() == ASSIGN => self.answer_assign(),
            sys::RD_KAFKA_EVENT_REBALANCE => self.answer_revoke(),
            sys::RD_KAFKA_EVENT_OFFSET_COMMIT => self.committed(event),
            _ => {}
        }
    }
}

/// librdkafka's code of a rebalance event that assigns.
const ASSIGN: i32 = -175;

/// What does not mend by waiting: no rights for the topics (29), the group (30) or the cluster (31); a newer member with
/// this instance's id (82).
const ENDS: [i32; 4] = [29, 30, 31, code::FENCED_INSTANCE_ID];

/// Events that wait for their reader.
#[derive(Default)]
struct Events {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<MembershipEvent>,
    troubles: usize,
    /// The latest, as a reading of the clock that counts suspension.
    answered: Option<Answered>,
    revocation: Revocation,
}

/// What the reader of events knows of the open revocation. A release that was meant for an earlier one, lost meanwhile,
/// must not release a later one that its caller has not heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Revocation {
    #[default]
    None,
    /// The reader was told.
    Told,
    /// The reader gave it back; the thread is to answer.
    Released,
}

impl Events {
    /// A reader that is slower than trouble comes misses some of it, and nothing else.
    const TROUBLES: usize = 64;

    fn push(&self, event: MembershipEvent) {
        let mut waiting = lock(&self.waiting);
        if matches!(event, MembershipEvent::Trouble(_)) {
            if waiting.troubles == Self::TROUBLES {
                return;
            }
            waiting.troubles += 1;
        }
        if matches!(event, MembershipEvent::Revoking(_)) {
            waiting.revocation = Revocation::None;
        }
        waiting.events.push_back(event);
        drop(waiting);
        self.waker.wake();
    }

    fn release(&self) {
        let mut waiting = lock(&self.waiting);
        if waiting.revocation == Revocation::Told {
            waiting.revocation = Revocation::Released;
        }
    }

    fn take_release(&self) -> bool {
        let mut waiting = lock(&self.waiting);
        waiting.revocation == Revocation::Released && {
            waiting.revocation = Revocation::None;
            true
        }
    }

    fn coordinator_answered(&self, answered: Answered) {
        lock(&self.waiting).answered = Some(answered);
        self.waker.wake();
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<MembershipEvent> {
        self.waker.register(cx.waker());
        let mut waiting = lock(&self.waiting);
        if let Some(event) = waiting.events.pop_front() {
            match event {
                MembershipEvent::Trouble(_) => waiting.troubles -= 1,
                MembershipEvent::Revoking(_) => waiting.revocation = Revocation::Told,
                _ => {}
            }
            return Poll::Ready(event);
        }
        match waiting.answered.take() {
            Some(answered) => Poll::Ready(MembershipEvent::CoordinatorAnswered { ago: answered.ago() }),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(partition: i32, metadata: usize) -> Commit {
        Commit {
            partition: TopicPartition::new("t", partition),
            offset: 1,
            leader_epoch: None,
            metadata: "x".repeat(metadata),
        }
    }

    #[test]
    fn commits_are_cut_where_their_metadata_would_be_too_much_for_one_request() {
        let sizes = |requests: Vec<Vec<Commit>>| requests.iter().map(Vec::len).collect::<Vec<_>>();
        assert!(split(Vec::new()).is_empty());
        assert_eq!(sizes(split((0..3).map(|p| commit(p, 0)).collect())), [3]);
        assert_eq!(sizes(split((0..5).map(|p| commit(p, COMMIT_METADATA / 2)).collect())), [2, 2, 1]);
        assert_eq!(sizes(split((0..2).map(|p| commit(p, COMMIT_METADATA + 1)).collect())), [1, 1]);
    }
}
