//! A shard: fetches its partitions, starts their records, and tells the engine how they ended. Who works on a record is the
//! affair of its [`Work`].
//!
//! One task, on the caller's runtime. A turn of it serves, in this order: control letters, ends of attempts, answers to
//! dead letters, timers, then up to [`TURN`] starts, then one fetch. Control is so never later than `TURN` starts.

pub(crate) mod batches;
pub(crate) mod deliveries;
mod gated;
pub(crate) mod handlers;
mod letters;
mod starts;
mod told;
pub(crate) mod transactor;
mod views;

use std::collections::HashMap;
use std::num::NonZeroU128;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{broadcast, oneshot};
use tokio::time::Sleep;
use waterwheel_core::engine::{
    Action, CommitPoint, CutReason, Engine, InWork, PartitionView, Resume, SlotId, WorkStage,
};
use waterwheel_core::{Epoch, Now, PartitionId};

use self::gated::Gated;
use self::transactor::Transactor;
pub(crate) use self::views::HeadView;
use super::attempt::{Done, Ending, Output};
use super::classes::Classes;
use super::clock::Clock;
use super::gate::Gate;
use super::hooking::{Hooking, tell};
use super::mailbox::Mailbox;
use super::outbound::{Letterbox, Sent};
use super::pool::Pool;
use super::quiet::Quiet;
use super::tally::{Counts, Tally};
use crate::client::{FetchFailure, FetchQueue, Fetched, GroupMetadata, Position};
use crate::dead_letter::Writer;
use crate::error::{Error, KafkaError};
use crate::events::Event;
use crate::explain::{PartitionExplanation, Subject};
use crate::failure::FailureClass;
use crate::notifications::Notification;
use crate::record::{Assignment, Batch, Record, TopicPartition};
use crate::retry_tiers::TierTopics;
use crate::settings::{Execution, OnDrainDeadline};
use crate::spans::Spans;
use crate::witness::{Settled, Witness};

/// Starts between two looks at control letters and timers.
const TURN: usize = 64;

/// Turns after which the shard lets other tasks of the runtime run.
const TURNS_BEFORE_YIELD: usize = 16;

/// What a shard is told.
pub(crate) enum ToShard {
    Assign {
        assignment: Arc<Assignment>,
        resume: Resume,
        topic_id: Option<NonZeroU128>,
    },
    /// Fetch a partition that stopped again: where it was, but not below that offset. What lies between is gone.
    Refetch {
        partition: PartitionId,
        epoch: Epoch,
        from: Option<i64>,
    },
    Drain {
        partitions: Vec<PartitionId>,
        deadline: Now,
    },
    /// The partition's commit map does not fit, or fits again.
    MapFull {
        partition: PartitionId,
        epoch: Epoch,
        full: bool,
    },
    /// Everything up to that offset that was taken up is finished.
    Mark {
        partition: PartitionId,
        epoch: Epoch,
        last: i64,
    },
    /// Yield nothing of a partition, or yield again.
    PauseOf {
        partition: PartitionId,
        epoch: Epoch,
        paused: bool,
    },
    /// Start records of a key again that follow a dead letter; answers whether they did.
    ReleaseKey {
        partition: PartitionId,
        epoch: Epoch,
        key: Option<Box<[u8]>>,
        done: oneshot::Sender<bool>,
    },
    Lose(Vec<PartitionId>),
    Close(Vec<PartitionId>),
    Collect,
    /// Who the member is: the answer to [`FromShard::Asks`], behind all that came about before it was that. `None`: it is
    /// none.
    Standing(Option<GroupMetadata>),
    WorkerPartitions(usize),
    Lease(Now),
    Pause,
    Resume,
    View(oneshot::Sender<View>),
    /// All that was told before is done.
    Answer(oneshot::Sender<()>),
    /// What is known of a partition, and of what is asked about in it.
    Explain {
        partition: PartitionId,
        subject: Arc<Subject>,
        answer: oneshot::Sender<Option<PartitionExplanation>>,
    },
    End,
}

/// What a shard tells the coordinator.
pub(crate) enum FromShard {
    Drained {
        partition: PartitionId,
        point: CommitPoint,
        cut_off: usize,
    },
    Collected(Vec<(PartitionId, CommitPoint)>),
    Stopped {
        partition: PartitionId,
        epoch: Epoch,
        failure: FetchFailure,
    },
    StopAsked(Error),
    /// Who is the member? Asked before each commit of a shard that commits by itself.
    Asks {
        shard: usize,
    },
    /// A commit that was begun then is done.
    Committed {
        since: Now,
    },
    CommitFailed(KafkaError),
    /// What was done of these since their last commit is void, and they do not run here any more.
    RolledBack(Vec<(PartitionId, Epoch)>),
    /// The group refused their commit, since the member is none any more.
    Fenced(Vec<(PartitionId, Epoch)>),
}

/// A shard as it is now.
pub(crate) struct View {
    pub(crate) partitions: Vec<PartitionView>,
    pub(crate) in_work: Vec<InWork>,
    /// The records that hold commits.
    pub(crate) heads: Vec<HeadView>,
    pub(crate) parked: usize,
    /// The dead letters that later records of their keys follow.
    pub(crate) followed: Vec<(PartitionId, i64)>,
}

/// What the shards of a worker share.
#[derive(Clone)]
pub(crate) struct Common {
    pub(crate) clock: Clock,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tally: Arc<Tally>,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) notifications: broadcast::Sender<Notification>,
    pub(crate) execution: Execution,
    pub(crate) on_drain_deadline: OnDrainDeadline,
    pub(crate) witness: Option<Arc<dyn Witness>>,
    /// Those who are told beside the path.
    pub(crate) hooks: Option<Arc<Hooking>>,
    /// Who makes spans, and of which group.
    pub(crate) spans: Option<(Spans, Arc<str>)>,
    /// What holds starts back; `None` where nothing does.
    pub(crate) gate: Option<Arc<Gate>>,
    /// The breakers of classes of records.
    pub(crate) classes: Option<Arc<Classes>>,
    /// The topics of its retry tiers.
    pub(crate) tiers: Option<Arc<TierTopics>>,
}

impl Common {
    /// The same with credits of its own, for another session.
    pub(crate) fn with(&self, pool: Pool) -> Self {
        Self { pool: Arc::new(pool), ..self.clone() }
    }

    /// Tells everybody that something happened.
    pub(crate) fn tell(&self, event: Event) {
        tell(&self.events, self.hooks.as_deref(), event);
    }

    /// The same, but for hooks.
    pub(crate) fn tell_listeners(&self, event: Event) {
        tell(&self.events, None, event);
    }
}

/// Why the record in a slot failed last. Small: many records may be noted.
#[derive(Clone)]
struct Note {
    class: FailureClass,
    message: Option<Box<str>>,
    parked: bool,
    without_value: bool,
    /// The retry tier that it is on its way to, not to the dead-letter topic.
    tier: Option<u8>,
    /// The client that its letter was given to last.
    client: u16,
    /// How often it failed there.
    failures: u8,
    /// The offset of the dead letter that it follows; in a box, since few do.
    follows: Option<Box<i64>>,
}

/// What becomes of a record that may start.
pub(crate) trait Work: Sized + Send + Unpin + 'static {
    /// What an attempt that ends well gives.
    type Output: Output;

    /// Begins an attempt at the open record. Of which there is this one handle: it goes to whoever works on it.
    fn start(shard: &mut Shard<Self>, record: Record, attempt: u32, first_failed_ms: Option<i64>, now: Now);

    /// A stretch of starts begins.
    fn begin(&mut self, _now: Now) {}

    /// A stretch of starts is over.
    fn rest(&mut self) {}

    /// A partition came.
    fn assigned(_shard: &mut Shard<Self>, _assignment: &Assignment) {}

    /// A partition is about to be drained.
    fn drains(_shard: &mut Shard<Self>, _id: PartitionId) {}

    /// A partition leaves.
    fn leaves(_shard: &mut Shard<Self>, _id: PartitionId) {}

    /// A partition is paused, or resumed.
    fn pause(&mut self, _id: PartitionId, _paused: bool) {}

    /// Whether the attempt in that slot waits to be taken up.
    fn is_waiting(&self, _id: PartitionId, _slot: SlotId) -> bool {
        false
    }

    /// A record was started. Returns the time if it was looked at.
    fn started(_shard: &mut Shard<Self>) -> Option<Now> {
        None
    }

    /// Begins the attempts at gathered records, as one batch. For works that gather what is started.
    fn run(_shard: &mut Shard<Self>, _slots: Vec<SlotId>, _now: Now) {}

    /// Ends an attempt before its time. Its [`Done`] is still to come.
    fn cut(shard: &mut Shard<Self>, slot: SlotId, reason: CutReason);

    /// Takes in the end of what goes by that slot.
    fn end(shard: &mut Shard<Self>, slot: SlotId, ending: Ending<Self::Output>, now: Now) {
        shard.end(slot, ending, now);
    }

    /// An attempt ended like that; how it counts.
    fn ended(&mut self, _slot: SlotId, ending: Ending<Self::Output>) -> Ending<Self::Output> {
        ending
    }

    /// The shard is dropped, and not in order: takes its attempts with it.
    fn abort(&mut self);

    /// Whether all of an attempt that is cut off is dropped, so that nothing of it goes on.
    fn drops_what_is_cut(_common: &Common) -> bool {
        false
    }
}

/// One shard. See the module's documentation.
pub(crate) struct Shard<W: Work> {
    number: usize,
    common: Arc<Common>,
    engine: Engine<Batch>,
    fetch: Box<dyn FetchQueue>,
    work: W,
    inbox: Mailbox<ToShard>,
    coordinator: Mailbox<FromShard>,
    done: Mailbox<Done<W::Output>>,
    /// By slot: why its record failed last. One of a slot that is used anew, or not at all, is of nobody.
    notes: Vec<Option<(SlotId, Note)>>,
    /// Without a letterbox, letters go out in the shard's transactions.
    dead_letters: Option<(Writer, Option<Arc<Letterbox>>)>,
    /// Where its attempts make records, and it commits by itself.
    transactor: Option<Box<Transactor>>,
    /// What holds its starts back, if anything does.
    gated: Option<Box<Gated>>,
    sends: FuturesUnordered<BoxFuture<'static, (SlotId, (Sent, u16))>>,
    /// A send was added that was not polled yet, and so wakes nobody.
    unpolled: bool,
    /// The coordinator ended the shard, in order.
    ended: bool,
    assignments: HashMap<PartitionId, Arc<Assignment>>,
    counts: Counts,
    sleep: Pin<Box<Sleep>>,
    sleeps_until: Option<Now>,
    letters: Vec<ToShard>,
    ends: Vec<Done<W::Output>>,
    quiet: Quiet,
}

impl<W: Work> Shard<W> {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from what the worker has built")]
    pub(crate) fn new(
        number: usize,
        common: Arc<Common>,
        engine: Engine<Batch>,
        fetch: Box<dyn FetchQueue>,
        work: W,
        inbox: Mailbox<ToShard>,
        coordinator: Mailbox<FromShard>,
        dead_letters: Option<(Writer, Option<Arc<Letterbox>>)>,
        transactor: Option<Box<Transactor>>,
    ) -> Self {
        Self {
            number,
            engine,
            fetch,
            work,
            inbox,
            coordinator,
            done: Mailbox::new(),
            notes: Vec::new(),
            unpolled: false,
            ended: false,
            dead_letters,
            transactor,
            gated: common.gate.clone().map(|gate| Box::new(Gated::new(gate, number))),
            sends: FuturesUnordered::new(),
            assignments: HashMap::new(),
            counts: Counts::default(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sleeps_until: None,
            letters: Vec::new(),
            ends: Vec::new(),
            quiet: Quiet::default(),
            common,
        }
    }

    /// Where the shard's attempts report their ends: held by each until its future is dropped.
    pub(crate) fn attempts(&self) -> Mailbox<Done<W::Output>> {
        self.done.clone()
    }

    fn now(&self) -> Now {
        self.common.clock.now()
    }

    fn tell(&self, event: Event) {
        self.common.tell(event);
    }

    fn settled(&self, partition: &TopicPartition, offset: i64, how: Settled) {
        if let Some(witness) = &self.common.witness {
            witness.settled(partition, offset, how);
        }
    }

    // ---- control ----------------------------------------------------------------------------------------------

    /// Carries out the letters that have come; `true` at the last one.
    fn read_letters(&mut self, cx: &mut Context<'_>) -> bool {
        let mut letters = std::mem::take(&mut self.letters);
        self.inbox.take(cx, &mut letters);
        let mut end = false;
        for letter in letters.drain(..) {
            let now = self.now();
            match letter {
                ToShard::Assign { assignment, resume, topic_id } => self.assign(assignment, resume, topic_id, now),
                ToShard::Refetch { partition, epoch, from } => self.refetch(partition, epoch, from),
                ToShard::MapFull { partition, epoch, full } => self.engine.set_map_full(partition, epoch, full),
                ToShard::Drain { partitions, deadline } => self.drain(&partitions, deadline, now),
                ToShard::Lose(partitions) => {
                    self.lose(&partitions, now);
                    self.transactor_loses(&partitions);
                }
                ToShard::Close(partitions) => {
                    for id in &partitions {
                        self.leave(*id, None);
                        self.engine.close(*id);
                    }
                    self.transactor_loses(&partitions);
                }
                ToShard::Mark { partition, epoch, last } => self.mark(partition, epoch, last, now),
                ToShard::PauseOf { partition, epoch, paused } => self.pause_of(partition, epoch, paused),
                ToShard::ReleaseKey { partition, epoch, key, done } => {
                    // Whoever asked may have gone.
                    let _ = done.send(self.engine.release_key(partition, epoch, key.as_deref()));
                }
                ToShard::Collect => {
                    // What was finished before it was asked for belongs to it.
                    self.read_ends(cx);
                    self.collect();
                }
                ToShard::Standing(of) => self.cut(of),
                ToShard::WorkerPartitions(n) => self.engine.set_worker_partitions(n),
                ToShard::Lease(until) => self.engine.set_lease(Some(until)),
                ToShard::Pause => self.engine.pause(),
                ToShard::Resume => self.engine.resume(),
                // Whoever asked may have gone.
                ToShard::View(answer) => drop(answer.send(self.view(now))),
                ToShard::Answer(answer) => drop(answer.send(())),
                ToShard::Explain { partition, subject, answer } => {
                    drop(answer.send(self.explain(partition, &subject, now)));
                }
                ToShard::End => end = true,
            }
        }
        self.letters = letters;
        end
    }

    fn assign(&mut self, assignment: Arc<Assignment>, resume: Resume, topic_id: Option<NonZeroU128>, now: Now) {
        let (id, epoch, offset) = (assignment.id, assignment.epoch, resume.offset);
        self.leave(id, Some(now));
        self.transactor_loses(&[id]);
        if let Some(transactor) = &mut self.transactor {
            transactor.assigned(id, epoch, topic_id, offset);
        }
        if let Some(witness) = &self.common.witness {
            witness.assigned(&assignment.partition, epoch.0, offset);
        }
        self.engine.assign(id, epoch, resume, now);
        if let Some(tier) = &assignment.tier {
            self.engine.set_tier(id, epoch, tier.number);
        }
        self.add(assignment.clone(), offset);
        W::assigned(self, &assignment);
        self.assignments.insert(id, assignment);
    }

    fn mark(&mut self, id: PartitionId, epoch: Epoch, last: i64, now: Now) {
        if self.assignments.get(&id).is_some_and(|a| a.epoch == epoch) {
            for slot in self.engine.running_up_to(id, last) {
                if !self.work.is_waiting(id, slot) {
                    self.end(slot, Ending::Result(Ok(W::Output::default())), now);
                }
            }
        }
    }

    fn pause_of(&mut self, id: PartitionId, epoch: Epoch, paused: bool) {
        if self.assignments.get(&id).is_some_and(|a| a.epoch == epoch) {
            self.engine.set_paused(id, epoch, paused);
            self.work.pause(id, paused);
        }
    }

    fn refetch(&mut self, id: PartitionId, epoch: Epoch, from: Option<i64>) {
        let Some(was) = self.engine.fetched_to(id, epoch) else { return };
        let Some(assignment) = self.assignments.get(&id).cloned() else { return };
        let offset = from.map_or(was, |from| from.max(was));
        if offset > was {
            // What was fetched before the gap is still worked on.
            self.engine.skipped_to(id, epoch, offset);
            let partition = assignment.partition.clone();
            tracing::warn!(%partition, from = was, to = offset, "a gap: the records to be read next are gone");
            self.counts.gaps += offset.abs_diff(was);
            self.tell(Event::Gap { partition, from: Some(was), to: offset });
        }
        self.add(assignment, offset);
    }

    fn add(&mut self, assignment: Arc<Assignment>, offset: i64) {
        let (partition, epoch) = (assignment.id, assignment.epoch);
        if let Err(error) = self.fetch.add(assignment, Position::Offset(offset)) {
            let failure = FetchFailure::Failed(error);
            self.coordinator.post(FromShard::Stopped { partition, epoch, failure });
        }
    }

    fn drain(&mut self, partitions: &[PartitionId], deadline: Now, now: Now) {
        for id in partitions {
            self.fetch.remove(*id);
            if let Some(assignment) = self.assignments.get(id) {
                let deadline = self.common.clock.instant(deadline);
                // A second stop can bring the deadline forward, never put it off.
                assignment.drain.send_if_modified(|at| {
                    let sooner = at.is_none_or(|before| deadline < before);
                    if sooner {
                        *at = Some(deadline);
                    }
                    sooner
                });
            }
            W::drains(self, *id);
            self.transactor_drains(*id);
            self.engine.drain(*id, deadline, now);
        }
    }

    /// Ends the fetching of a partition; if `at` is given, without a drain, which its handlers are told.
    fn leave(&mut self, id: PartitionId, at: Option<Now>) {
        self.fetch.remove(id);
        W::leaves(self, id);
        if let Some(assignment) = self.assignments.remove(&id)
            && let Some(at) = at
        {
            if let Some(witness) = &self.common.witness {
                witness.lost(&assignment.partition, assignment.epoch.0);
            }
            assignment.drain.send_replace(Some(self.common.clock.instant(at)));
        }
    }

    /// Ends assignments without a drain: what runs is cut off.
    fn lose(&mut self, partitions: &[PartitionId], now: Now) {
        let running = |w: &&InWork| partitions.contains(&w.partition) && matches!(w.stage, WorkStage::Running(_));
        self.counts.cut_off += self.engine.in_work(now).iter().filter(running).count() as u64;
        for id in partitions {
            self.leave(*id, Some(now));
            self.engine.lose(*id, now);
        }
    }

    fn collect(&mut self) {
        self.engine.see_heads(self.common.clock.now());
        let ids: Vec<PartitionId> = self.engine.assigned().filter(|id| self.engine.is_dirty(*id)).collect();
        let points = ids.into_iter().filter_map(|id| Some((id, self.engine.commit_point(id)?))).collect();
        self.coordinator.post(FromShard::Collected(points));
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Hold(id) => self.fetch.hold(id),
                Action::Release(id) => self.fetch.release(id),
                Action::Cut { slot, reason } => W::cut(self, slot, reason),
                Action::Run { slots } => {
                    let now = self.now();
                    W::run(self, slots, now);
                }
                Action::Follow { slot, behind } => self.follow_up(slot, behind),
                Action::Settle { slot } => self.send_letter(slot),
                Action::Reread { partition, epoch, offsets } => {
                    if let Err(error) = self.fetch.reread(partition, &offsets) {
                        let failure = FetchFailure::Failed(error);
                        self.coordinator.post(FromShard::Stopped { partition, epoch, failure });
                    }
                }
                Action::Drained { partition, cut_off, .. } => {
                    if self.transactor_drained(partition, cut_off) {
                        continue;
                    }
                    if let Some(point) = self.engine.commit_point(partition) {
                        self.coordinator.post(FromShard::Drained { partition, point, cut_off });
                    }
                }
            }
        }
    }

    // ---- fetching -----------------------------------------------------------------------------------------------

    /// Takes in one batch or failure; whether there was one.
    fn fetch_one(&mut self, cx: &mut Context<'_>) -> bool {
        let Poll::Ready(fetched) = self.fetch.poll_fetch(cx) else { return false };
        match fetched {
            Fetched::Batch(batch) => {
                self.counts.fetched += batch.len() as u64;
                let (id, epoch) = (batch.assignment().id, batch.assignment().epoch);
                let leader_epoch = batch.leader_epoch();
                self.tell_fetched(&batch);
                self.engine.fetched(id, epoch, batch, leader_epoch);
            }
            Fetched::SkippedTo { id, epoch, next } => self.engine.skipped_to(id, epoch, next),
            Fetched::Reread { id, epoch, batch, missing } => {
                if !missing.is_empty() {
                    self.engine.reread_missing(id, epoch, &missing);
                }
                if let Some(batch) = batch {
                    self.engine.reread(id, epoch, batch);
                }
            }
            Fetched::Stopped { id, epoch, failure } => {
                self.coordinator.post(FromShard::Stopped { partition: id, epoch, failure });
            }
            Fetched::Trouble { error, .. } => self.trouble(error),
        }
        true
    }

    fn trouble(&mut self, error: KafkaError) {
        if self.quiet.is_news(error.code(), self.now()) {
            tracing::warn!(%error, "trouble while fetching");
            self.tell(Event::Trouble { error });
        }
    }

    /// Asks the pool for credits if some are wanted; whether any came.
    fn borrow(&mut self, cx: &Context<'_>) -> bool {
        let got = self.common.pool.take(self.number, self.engine.wanted_credits(), cx.waker());
        if got > 0 {
            self.engine.grant(got);
        }
        got > 0
    }

    /// Gives free credits to the pool if another shard waits for some.
    fn yield_credits(&mut self) {
        if self.common.pool.is_wanted_by_others(self.number) {
            self.common.pool.give(self.engine.surrender_credits());
        }
    }

    fn flush_counts(&mut self) {
        self.counts.clocks_disagreed += self.engine.take_disagreements();
        self.common.tally.add(&std::mem::take(&mut self.counts));
    }

    /// Sees to it that the task is woken when the engine's next timer is due. Whether it is due already.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let of_transactor = self.transactor.as_ref().and_then(|t| t.next_timer());
        let of_gate = self.gated.as_ref().and_then(|gated| gated.wakes_at());
        let timers = self.engine.next_timer().into_iter().chain(of_transactor).chain(of_gate);
        let Some(at) = timers.min() else { return false };
        if self.sleeps_until != Some(at) {
            self.sleeps_until = Some(at);
            let deadline = tokio::time::Instant::from_std(self.common.clock.instant(at));
            self.sleep.as_mut().reset(deadline);
        }
        let due = self.sleep.as_mut().poll(cx).is_ready();
        if due {
            self.sleeps_until = None;
            if let Some(gated) = &mut self.gated {
                gated.woken(at);
            }
        }
        due
    }
}

impl<W: Work> Future for Shard<W> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut turns = 0;
        loop {
            if this.read_letters(cx) {
                // What is to be cut was perhaps told with the same letters.
                this.act();
                this.ended = true;
                this.flush_counts();
                return Poll::Ready(());
            }
            let ended = this.read_ends(cx);
            this.read_answers(cx);
            this.engine.tick(this.now());
            this.act();
            if ended {
                // Before the starts, or a shard that always has work would use again whatever its attempts give back. Not
                // what it was just granted: shards would pass that on to each other for ever.
                this.yield_credits();
            }
            let more = this.start_some(cx);
            this.act();
            let more = this.serve_transactor(cx) || more;
            if more {
                this.yield_credits();
            }
            turns += 1;
            if turns == TURNS_BEFORE_YIELD {
                this.flush_counts();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let more = more || this.unpolled || this.borrow(cx) || this.fetch_one(cx);
            if more || this.engine.stalled(this.now()) || this.poll_timer(cx) {
                continue;
            }
            this.make_way();
            this.common.pool.give(this.engine.surrender_credits());
            this.flush_counts();
            return Poll::Pending;
        }
    }
}

/// A shard that ends without being told to, because the worker was dropped, takes its attempts with it.
impl<W: Work> Drop for Shard<W> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let now = self.common.clock.instant(self.now());
        for assignment in self.assignments.values() {
            assignment.drain.send_replace(Some(now));
        }
        self.work.abort();
        self.flush_counts();
    }
}
