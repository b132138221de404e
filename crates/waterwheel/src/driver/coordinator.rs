//! The coordinator: the group membership of a worker, its commits, and who of its shards has which partition.

mod asks;
mod commits;
mod explaining;
mod hooks;
mod offered;
mod shares;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::poll_fn;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use waterwheel_core::engine::Resume;
use waterwheel_core::group::{Group, GroupAction};
use waterwheel_core::lifecycle::{Move, WorkerState};
use waterwheel_core::{Epoch, Now, PartitionId};

pub(crate) use self::asks::Ask;
use self::asks::Asked;
use self::commits::CommitAnswer;
use self::explaining::LastCommits;
use self::hooks::Hooked;
pub(crate) use self::hooks::Hooks;
pub(crate) use self::offered::Offer;
use self::offered::Offered;
use self::shares::Shares;
use super::mailbox::Mailbox;
use super::opening::{Found, Opened, Opener};
use super::quiet::Quiet;
use super::shard::{Common, FromShard, ToShard};
use super::tally::Counts;
use crate::client::{FetchFailure, Membership, MembershipEvent};
use crate::error::{Error, KafkaError, code};
use crate::events::Event;
use crate::health::Trouble;
use crate::hooks::Moment;
use crate::notifications::Notification;
use crate::record::{Assignment, TopicPartition};
use crate::settings::{CommitMetadata, OnGap, OnMapFull};

/// What a worker's handles want of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// It is to be without a session.
    pub(crate) stopped: bool,
    /// It is to end.
    pub(crate) close: Option<Stopping>,
    pub(crate) paused: bool,
}

/// How a worker is to end; what is wished later can only be more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stopping {
    InOrder,
    AtOnce,
}

/// How a worker's coordinator ended.
pub(crate) struct Ended {
    pub(crate) error: Option<Error>,
    pub(crate) late: Late,
}

impl Ended {
    /// Without a drain.
    pub(crate) fn at_once(error: Option<Error>) -> Self {
        Self { error, late: Late::default() }
    }
}

/// What drains did not get done in their time.
#[derive(Default)]
pub(crate) struct Late {
    /// Attempts that were cut off, by partition.
    pub(crate) cut_off: Vec<(TopicPartition, usize)>,
    /// Partitions that were given back without their last commit.
    pub(crate) uncommitted: Vec<TopicPartition>,
}

/// A partition that stopped.
struct Stopped {
    partition: PartitionId,
    epoch: Epoch,
    /// Where it was to be read next, if the log has no such offset; `None`: it stopped for another reason.
    was: Option<i64>,
    found: Result<Found, KafkaError>,
}

/// How long after a failure that may pass a partition is opened or fetched again.
const REFETCH_AFTER: Duration = Duration::from_millis(500);

pub(crate) struct Coordinator<'a> {
    common: Arc<Common>,
    group: Group,
    membership: Arc<dyn Membership>,
    opener: Opener,
    shards: Vec<Mailbox<ToShard>>,
    inbox: Mailbox<FromShard>,
    wishes: watch::Receiver<Wishes>,
    /// The wishes that were carried out.
    granted: Wishes,
    asks: &'a mut mpsc::Receiver<Ask>,
    state: Arc<watch::Sender<WorkerState>>,
    trouble: Arc<Trouble>,
    on_gap: OnGap,
    on_map_full: OnMapFull,
    /// Assignments whose map did not fit the last time.
    full: HashMap<PartitionId, Epoch>,
    metadata: CommitMetadata,
    asked: Asked,
    hooked: Hooked,
    offered: Offered,
    /// Where limits are those of the whole group.
    shares: Option<Shares>,
    /// The partitions that are this member's, as it was told.
    owned: BTreeSet<TopicPartition>,
    names: Vec<TopicPartition>,
    ids: HashMap<TopicPartition, PartitionId>,
    /// The assignment last given to the shards.
    epochs: HashMap<PartitionId, Epoch>,
    topic_ids: BTreeMap<PartitionId, Option<NonZeroU128>>,
    opens: FuturesUnordered<BoxFuture<'static, Vec<Opened>>>,
    commits: FuturesUnordered<BoxFuture<'static, CommitAnswer>>,
    last_commits: LastCommits,
    /// Partitions that stopped and are being found a new place.
    restarts: FuturesUnordered<BoxFuture<'static, Stopped>>,
    revoking: Vec<TopicPartition>,
    error: Option<Error>,
    late: Late,
    leaving: bool,
    quiet: Quiet,
}

impl<'a> Coordinator<'a> {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from what the worker has built")]
    pub(crate) fn new(
        common: Arc<Common>,
        group: Group,
        membership: Arc<dyn Membership>,
        opener: Opener,
        shards: Vec<Mailbox<ToShard>>,
        inbox: Mailbox<FromShard>,
        wishes: watch::Receiver<Wishes>,
        asks: &'a mut mpsc::Receiver<Ask>,
        state: Arc<watch::Sender<WorkerState>>,
        trouble: Arc<Trouble>,
        on_gap: OnGap,
        on_map_full: OnMapFull,
        metadata: CommitMetadata,
        hooks: Hooks,
        in_transactions: bool,
        topics: Vec<String>,
    ) -> Self {
        let gate = common.gate.clone().filter(|gate| gate.is_group_wide());
        Self {
            shares: gate.map(|gate| Shares::new(gate, topics)),
            common,
            group,
            membership,
            opener,
            shards,
            inbox,
            wishes,
            granted: Wishes::default(),
            asks,
            state,
            trouble,
            on_gap,
            on_map_full,
            full: HashMap::new(),
            metadata,
            asked: Asked::default(),
            hooked: Hooked::new(hooks),
            offered: Offered::new(in_transactions),
            owned: BTreeSet::new(),
            names: Vec::new(),
            ids: HashMap::new(),
            epochs: HashMap::new(),
            topic_ids: BTreeMap::new(),
            opens: FuturesUnordered::new(),
            commits: FuturesUnordered::new(),
            last_commits: LastCommits::default(),
            restarts: FuturesUnordered::new(),
            revoking: Vec::new(),
            error: None,
            late: Late::default(),
            leaving: false,
            quiet: Quiet::default(),
        }
    }

    /// Serves the group until the worker has left it.
    pub(crate) async fn run(mut self) -> Ended {
        // What was wished before there was anyone to grant it.
        self.grant();
        while !self.leaving {
            self.act();
            if self.leaving {
                break;
            }
            let timer = self.group.next_timer().map(|at| self.common.clock.instant(at));
            let sleep = async {
                match timer {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let mut letters = Vec::new();
            tokio::select! {
                biased;
                Ok(()) = self.wishes.changed() => self.grant(),
                Some(ask) = self.asks.recv() => self.ask(ask),
                event = poll_fn(|cx| self.membership.poll_event(cx)) => self.group_event(event),
                () = poll_fn(|cx| read(&self.inbox, cx, &mut letters)) => {}
                Some(opened) = self.opens.next(), if !self.opens.is_empty() => self.opened(opened),
                Some(answer) = self.commits.next(), if !self.commits.is_empty() => self.commit_answered(answer),
                committed = self.offered.outcome() => self.transaction_ended(committed),
                Some(starts) = self.hooked.assigned.next(), if !self.hooked.assigned.is_empty() => self.starts_named(starts),
                Some(drained) = self.hooked.revoked.next(), if !self.hooked.revoked.is_empty() => self.revoked(drained),
                total = shares::told(&mut self.shares) => self.share_told(total),
                Some(found) = self.restarts.next(), if !self.restarts.is_empty() => self.restart(found),
                () = sleep => self.group.tick(self.common.clock.now()),
            }
            for letter in letters {
                self.letter(letter);
            }
            self.call_on_revoked();
            self.serve_commits();
            self.serve_offer();
            self.share();
        }
        self.shards.iter().for_each(|shard| shard.post(ToShard::End));
        Ended { error: self.error, late: self.late }
    }

    fn names_of(&self, partitions: &[PartitionId]) -> Vec<TopicPartition> {
        partitions.iter().map(|id| self.names[id.index()].clone()).collect()
    }

    fn now(&self) -> Now {
        self.common.clock.now()
    }

    fn tell(&self, event: Event) {
        self.common.tell(event);
    }

    /// Tells those who asked for notifications, with what is this member's now.
    fn notify(&self, notification: impl FnOnce(Vec<TopicPartition>) -> Notification) {
        if self.common.notifications.receiver_count() > 0 {
            // No listener is no mistake.
            let _ = self.common.notifications.send(notification(self.owned.iter().cloned().collect()));
        }
    }

    fn given_back(&mut self, partitions: Vec<TopicPartition>) {
        self.owned.retain(|p| !partitions.contains(p));
        self.notify(|current| Notification::Revoked { released: partitions.clone(), current });
        self.tell(Event::Revoked { partitions });
    }

    fn count(&self, counts: Counts) {
        self.common.tally.add(&counts);
    }

    fn advance(&self, what: Move) {
        self.state.send_if_modified(|state| {
            let before = std::mem::replace(state, state.after(what));
            *state != before
        });
    }

    // ---- what comes in ------------------------------------------------------------------------------------------

    fn grant(&mut self) {
        let (now, wishes) = (self.now(), *self.wishes.borrow_and_update());
        if wishes.paused != self.granted.paused {
            self.shards.iter().for_each(|s| s.post(if wishes.paused { ToShard::Pause } else { ToShard::Resume }));
        }
        if wishes.stopped && !self.granted.stopped {
            self.leave(now, None, Move::Stop);
        }
        if wishes.close != self.granted.close {
            let patience = wishes.close.filter(|how| *how == Stopping::AtOnce).map(|_| Duration::ZERO);
            self.leave(now, patience, Move::Close);
        }
        self.granted = wishes;
    }

    /// Ends the worker, for a reason of its own.
    fn close(&mut self, now: Now, patience: Option<Duration>) {
        self.leave(now, patience, Move::Close);
    }

    fn leave(&mut self, now: Now, patience: Option<Duration>, how: Move) {
        match patience {
            Some(patience) => self.group.stop_within(patience, now),
            None => self.group.stop(now),
        }
        // The shards are told first, so that whoever sees the state may rely on it: only turns under way start more.
        self.act();
        self.advance(how);
    }

    fn group_event(&mut self, event: MembershipEvent) {
        let now = self.now();
        match event {
            MembershipEvent::Assigned(partitions) => {
                self.count(Counts { assignments: 1, ..Counts::default() });
                let ids: Vec<PartitionId> = partitions.iter().map(|p| self.intern(p)).collect();
                tracing::info!(partitions = ids.len(), protocol = ?self.membership.protocol(), "assigned");
                if let Some(witness) = &self.common.witness {
                    witness.given(&partitions);
                }
                self.group.assigned(&ids);
                self.trouble.joined();
                self.advance(Move::Assigned);
                self.owned.extend(partitions.iter().cloned());
                self.ask_for_total(Duration::ZERO);
                self.notify(|current| Notification::Assigned { claimed: partitions.clone(), current });
                self.tell(Event::Assigned { partitions });
                self.partitions_changed();
            }
            MembershipEvent::Revoking(partitions) => {
                let ids: Vec<PartitionId> = partitions.iter().map(|p| self.intern(p)).collect();
                tracing::info!(partitions = ids.len(), "revoking: draining");
                let within = self.group.drain_limit();
                self.notify(|current| Notification::Revoking { partitions: partitions.clone(), within, current });
                self.tell(Event::Revoking { partitions: partitions.clone(), within });
                self.revoking = partitions;
                self.group.revoking(&ids, now);
            }
            MembershipEvent::Lost(partitions) => {
                let ids: Vec<PartitionId> = partitions.iter().map(|p| self.intern(p)).collect();
                tracing::warn!(partitions = ids.len(), "partitions lost");
                self.count(Counts { lost: ids.len() as u64, ..Counts::default() });
                self.witness_taken(&partitions);
                self.group.lost(&ids, now);
                self.owned.retain(|p| !partitions.contains(p));
                self.notify(|current| Notification::Lost { released: partitions.clone(), current });
                self.tell(Event::Lost { partitions });
                self.partitions_changed();
            }
            MembershipEvent::CoordinatorAnswered { ago } => {
                self.trouble.answered(now - ago);
                self.group.coordinator_answered(now - ago);
            }
            // A broker that has never taken the credentials will not take them later; one that once did may.
            MembershipEvent::Trouble(error)
                if error.code() == code::LOCAL_AUTHENTICATION && *self.state.borrow() == WorkerState::Starting =>
            {
                tracing::error!(%error, "the cluster refuses the credentials");
                self.trouble.client(&error, now);
                self.error.get_or_insert(Error::Kafka(error));
                self.close(now, Some(Duration::ZERO));
            }
            MembershipEvent::Trouble(error) => {
                self.trouble.client(&error, now);
                if self.quiet.is_news(error.code(), now) {
                    tracing::warn!(%error, "trouble with the group");
                    self.notify(|_| Notification::Error { error: error.clone() });
                    self.tell(Event::Trouble { error });
                }
            }
            MembershipEvent::Fatal(error) => {
                tracing::error!(%error, "the membership ended");
                self.notify(|_| Notification::Error { error: error.clone() });
                self.error.get_or_insert(Error::Kafka(error));
                self.group.fenced(now);
                self.close(now, Some(Duration::ZERO));
            }
        }
    }

    fn letter(&mut self, letter: FromShard) {
        let now = self.now();
        match letter {
            FromShard::Drained { partition, point, cut_off } => {
                if cut_off > 0 {
                    let name = self.names[partition.index()].clone();
                    tracing::warn!(partition = %name, attempts = cut_off, "cut off at the drain's deadline");
                    self.count(Counts { cut_off: cut_off as u64, ..Counts::default() });
                    self.tell(Event::CutOff { partition: name.clone(), attempts: cut_off });
                    self.late.cut_off.push((name, cut_off));
                }
                if let Some(hooks) = &self.common.hooks {
                    hooks.tell(Moment::Drained(self.names[partition.index()].clone(), cut_off));
                }
                self.note_drained(partition, &point, cut_off);
                self.drained(partition, point);
            }
            FromShard::Collected(points) => self.group.collected(points, now),
            FromShard::Stopped { partition, epoch, failure } => self.stopped(partition, epoch, failure),
            FromShard::StopAsked(error) => {
                self.error.get_or_insert(error);
                self.close(now, None);
            }
            FromShard::Asks { shard } => self.tell_standing(shard),
            FromShard::Committed { since } => {
                self.trouble.committed();
                self.group.coordinator_answered(since);
            }
            FromShard::CommitFailed(error) => {
                self.trouble.commit_failed(&error);
                tracing::warn!(%error, "a transaction could not be committed");
                self.tell(Event::CommitFailed { error });
            }
            FromShard::RolledBack(partitions) => {
                partitions.into_iter().for_each(|(partition, epoch)| self.group.rolled_back(partition, epoch));
            }
            FromShard::Fenced(partitions) => {
                // If all of them are gone, so is the member that was refused: the group has told, and there is a new one.
                if partitions.iter().any(|(partition, epoch)| self.group.is_current(*partition, *epoch)) {
                    self.group.fenced(now);
                }
            }
        }
    }

    /// Tells a shard who the member is, behind all that it was told before it became that: a shard that commits with it
    /// knows of each partition that was lost until then.
    fn tell_standing(&mut self, shard: usize) {
        let standing = self.membership.group_metadata();
        // The task itself waits for the next event when it comes round.
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(event) = self.membership.poll_event(&mut cx) {
            self.group_event(event);
        }
        self.act();
        self.shards[shard].post(ToShard::Standing(standing));
    }

    fn opened(&mut self, opened: Vec<Opened>) {
        let mut ready = Vec::new();
        for Opened { partition, epoch, resume, topic_id, note } in opened {
            if let Some(note) = note {
                self.tell(note);
            }
            self.topic_ids.insert(partition, topic_id);
            match resume {
                Ok(resume) if self.group.is_opening(partition, epoch) => ready.push((partition, epoch, resume)),
                Ok(_) => {}
                Err(_) if !self.group.is_opening(partition, epoch) => {}
                Err(error) if passes(&error) => {
                    let name = self.names[partition.index()].clone();
                    tracing::warn!(partition = %name, %error, "cannot be opened yet");
                    let open = self.opener.open(vec![(partition, epoch, name)]);
                    self.opens.push(Box::pin(async move {
                        tokio::time::sleep(REFETCH_AFTER).await;
                        open.await
                    }));
                }
                Err(error) => {
                    tracing::error!(partition = %self.names[partition.index()], %error, "cannot be opened");
                    self.error.get_or_insert(Error::Kafka(error));
                    let now = self.now();
                    self.close(now, None);
                }
            }
        }
        self.call_on_assigned(ready);
    }

    /// A partition stopped yielding records: find it a new place, or stop.
    fn stopped(&mut self, partition: PartitionId, epoch: Epoch, failure: FetchFailure) {
        if !self.group.is_current(partition, epoch) {
            return;
        }
        let name = self.names[partition.index()].clone();
        let was = match failure {
            // An unknown place counts as one below the log's start.
            FetchFailure::OutOfRange { position } => Some(position.unwrap_or(i64::MIN)),
            FetchFailure::Failed(error) if passes(&error) => {
                let now = self.now();
                self.trouble.client(&error, now);
                // A damaged batch comes again and again, and nothing else would be said of it.
                if self.quiet.is_news(error.code(), now) {
                    tracing::warn!(partition = %name, %error, "cannot be fetched, tried again");
                }
                self.tell(Event::Trouble { error });
                None
            }
            FetchFailure::Failed(error) => {
                self.error.get_or_insert(Error::Kafka(error));
                let now = self.now();
                self.close(now, None);
                return;
            }
        };
        if self.on_gap == OnGap::Stop && was.is_some() {
            let reason = "the records to be read next are gone (retention, deleted records, or a log cut off)";
            let place = format!("{name}@{}", was.unwrap_or_default());
            self.error.get_or_insert(Error::Stopped { place, reason: reason.to_owned() });
            let now = self.now();
            self.close(now, None);
            return;
        }
        let find = self.opener.look_up(name);
        self.restarts.push(Box::pin(async move {
            if was.is_none() {
                tokio::time::sleep(REFETCH_AFTER).await;
            }
            Stopped { partition, epoch, was, found: find.await }
        }));
    }

    fn restart(&mut self, Stopped { partition, epoch, was, found }: Stopped) {
        if !self.group.is_current(partition, epoch) {
            return;
        }
        match found {
            // Beyond the end: the log was cut off or made anew, and its offsets mean other records now.
            Ok(Found { first: to, topic_id }) if was.is_some_and(|was| was >= to) => {
                let name = self.names[partition.index()].clone();
                tracing::warn!(partition = %name, from = was, to, "the log ends before what was read: starting over");
                self.tell(Event::Gap { partition: name, from: was, to });
                // What is committed from now on is of the topic that is there now.
                if topic_id.is_some() {
                    self.topic_ids.insert(partition, topic_id);
                }
                self.group.restarted(partition, Resume { offset: to, ..Resume::default() });
            }
            Ok(Found { first: to, .. }) => {
                let from = was.map(|_| to);
                self.shard(partition).post(ToShard::Refetch { partition, epoch, from });
            }
            Err(error) => {
                self.error.get_or_insert(Error::Kafka(error));
                let now = self.now();
                self.close(now, None);
            }
        }
    }

    // ---- what goes out ------------------------------------------------------------------------------------------

    fn act(&mut self) {
        while let Some(action) = self.group.poll_action() {
            match action {
                GroupAction::Open(partitions) => {
                    let named: Vec<_> =
                        partitions.into_iter().map(|(id, epoch)| (id, epoch, self.names[id.index()].clone())).collect();
                    self.opens.push(self.opener.open(named));
                }
                GroupAction::Assign { partition, epoch, resume } => {
                    self.epochs.insert(partition, epoch);
                    self.last_commits.forget(partition);
                    self.offered.assigned(partition, epoch, &resume);
                    let name = self.names[partition.index()].clone();
                    let tier = self.common.tiers.as_ref().and_then(|tiers| tiers.of(&name.topic)).cloned();
                    let assignment = Assignment::of_tier(partition, epoch, name, tier);
                    let topic_id = self.topic_ids.get(&partition).copied().flatten();
                    self.shard(partition).post(ToShard::Assign { assignment, resume, topic_id });
                }
                GroupAction::Drain { partitions, deadline } => {
                    self.hooked.draining_until(deadline);
                    self.to_shards(&partitions, |partitions| ToShard::Drain { partitions, deadline });
                }
                GroupAction::Lose(partitions) => {
                    self.note_gone(&partitions);
                    self.to_shards(&partitions, ToShard::Lose);
                }
                GroupAction::GaveUp(partitions) => {
                    let partitions = self.names_of(&partitions);
                    tracing::warn!(
                        ?partitions,
                        "given back without their last commit: what finished since the one before comes again"
                    );
                    self.late.uncommitted.extend(partitions.iter().cloned());
                    self.tell(Event::Uncommitted { partitions });
                }
                GroupAction::Close(partitions) => {
                    self.count(Counts { revoked: partitions.len() as u64, ..Counts::default() });
                    self.witness_revoked(&partitions);
                    self.note_closed(&partitions);
                    if self.revoking.is_empty() {
                        // At the end: nothing is released, the group is left.
                        let names = self.names_of(&partitions);
                        self.witness_taken(&names);
                        self.given_back(names);
                    }
                    self.to_shards(&partitions, ToShard::Close);
                }
                GroupAction::Collect => {
                    self.group.expect_collections(self.shards.len());
                    self.shards.iter().for_each(|s| s.post(ToShard::Collect));
                }
                GroupAction::Commit { number, points } => self.commit(number, points),
                GroupAction::Release => {
                    let partitions = std::mem::take(&mut self.revoking);
                    self.witness_taken(&partitions);
                    self.membership.release();
                    self.given_back(partitions);
                    self.partitions_changed();
                }
                GroupAction::Lease(until) => self.shards.iter().for_each(|s| s.post(ToShard::Lease(until))),
                GroupAction::Leave => self.leaving = true,
            }
        }
    }

    fn witness_revoked(&self, partitions: &[PartitionId]) {
        let Some(witness) = &self.common.witness else { return };
        for id in partitions {
            if let Some(epoch) = self.epochs.get(id) {
                witness.revoked(&self.names[id.index()], epoch.0);
            }
        }
    }

    fn witness_taken(&self, partitions: &[TopicPartition]) {
        if let Some(witness) = &self.common.witness {
            witness.taken(partitions);
        }
    }

    // ---- names --------------------------------------------------------------------------------------------------

    fn intern(&mut self, partition: &TopicPartition) -> PartitionId {
        if let Some(id) = self.ids.get(partition) {
            return *id;
        }
        let id = PartitionId(self.names.len() as u32);
        self.names.push(partition.clone());
        self.ids.insert(partition.clone(), id);
        id
    }

    /// A partition's shard: always the same one, so that old work of it is known where new work begins.
    fn shard(&self, partition: PartitionId) -> &Mailbox<ToShard> {
        &self.shards[partition.index() % self.shards.len()]
    }

    fn to_shards(&self, partitions: &[PartitionId], letter: impl Fn(Vec<PartitionId>) -> ToShard) {
        for (number, shard) in self.shards.iter().enumerate() {
            let of_shard: Vec<PartitionId> =
                partitions.iter().filter(|id| id.index() % self.shards.len() == number).copied().collect();
            if !of_shard.is_empty() {
                shard.post(letter(of_shard));
            }
        }
    }

    fn partitions_changed(&self) {
        let n = self.group.partitions();
        self.shards.iter().for_each(|s| s.post(ToShard::WorkerPartitions(n)));
    }
}

/// Ready once there are letters.
fn read(inbox: &Mailbox<FromShard>, cx: &mut Context<'_>, into: &mut Vec<FromShard>) -> Poll<()> {
    inbox.take(cx, into);
    if into.is_empty() { Poll::Pending } else { Poll::Ready(()) }
}

/// Whether the partition may be there, and led by somebody, in a moment: one that was just added is not at first.
fn passes(error: &KafkaError) -> bool {
    error.may_pass() || error.code() == code::LOCAL_UNKNOWN_PARTITION
}
