//! A shard: fetches its partitions, starts their records, and tells the engine how they ended.
//!
//! One task, on the caller's runtime. A turn of it serves, in this order: control letters, ends of attempts, answers to
//! dead letters, timers, then up to [`TURN`] starts, then one fetch. Control is so never later than `TURN` starts.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{broadcast, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Sleep;
use waterwheel_core::engine::{
    Action, CommitPoint, CutReason, Engine, InWork, Outcome, PartitionView, Resume, SlotId, Start, Verdict, Wish,
    WorkStage,
};
use waterwheel_core::{Epoch, Now, PartitionId};

use super::attempt::{Attempt, Done, Ending, InPlace};
use super::clock::Clock;
use super::mailbox::Mailbox;
use super::outbound::{Outbound, Sent, client_ended};
use super::pool::Pool;
use super::quiet::Quiet;
use super::tally::{Counts, Tally};
use crate::body::{Decode, DecodeError};
use crate::client::{FetchFailure, FetchQueue, Fetched, Position};
use crate::dead_letter::{Cause, TooLarge, Writer, bounded};
use crate::error::{Error, KafkaError, code};
use crate::events::Event;
use crate::failure::{Failure, FailureClass};
use crate::handler::{Handler, Message};
use crate::record::{Assignment, Batch, Record, TopicPartition};
use crate::settings::{Execution, OnDrainDeadline};
use crate::witness::{Settled, Witness};

/// Starts between two looks at control letters and timers.
const TURN: usize = 64;

/// Turns after which the shard lets other tasks of the runtime run.
const TURNS_BEFORE_YIELD: usize = 16;

/// First polls that take longer than this are work on the processor, better done as a task on another core.
const SLOW_POLL: Duration = Duration::from_micros(100);

/// Slow first polls in a row before the shard begins to spawn.
const SLOW_IN_A_ROW: u32 = 3;

/// First polls between two looks at the clock, while they are fast.
const STRIDE: u32 = 16;

/// What a shard is told.
pub(crate) enum ToShard {
    Assign {
        assignment: Arc<Assignment>,
        resume: Resume,
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
    Lose(Vec<PartitionId>),
    Close(Vec<PartitionId>),
    Collect,
    WorkerPartitions(usize),
    Lease(Now),
    Pause,
    Resume,
    View(oneshot::Sender<View>),
    End,
}

/// What a shard tells the coordinator.
pub(crate) enum FromShard {
    Drained { partition: PartitionId, point: CommitPoint, cut_off: usize },
    Collected(Vec<(PartitionId, CommitPoint)>),
    Stopped { partition: PartitionId, epoch: Epoch, failure: FetchFailure },
    StopAsked(Error),
}

/// A shard as it is now.
pub(crate) struct View {
    pub(crate) partitions: Vec<PartitionView>,
    pub(crate) in_work: Vec<InWork>,
    pub(crate) parked: usize,
}

/// What the shards of a worker share.
pub(crate) struct Common {
    pub(crate) clock: Clock,
    pub(crate) pool: Pool,
    pub(crate) tally: Tally,
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) execution: Execution,
    pub(crate) on_drain_deadline: OnDrainDeadline,
    pub(crate) witness: Option<Arc<dyn Witness>>,
}

/// Why the record in a slot failed last.
#[derive(Clone)]
struct Note {
    class: FailureClass,
    message: Option<String>,
    parked: bool,
    without_value: bool,
}

/// Decides whether handlers are polled in place first.
struct Pace {
    spawning: bool,
    slow: u32,
    stride: u32,
    since_look: u32,
    looked: Now,
}

/// One shard. See the module's documentation.
pub(crate) struct Shard<T: Decode, H: Handler<T>> {
    number: usize,
    common: Arc<Common>,
    engine: Engine<Batch>,
    fetch: Box<dyn FetchQueue>,
    handler: Arc<H>,
    inbox: Mailbox<ToShard>,
    coordinator: Mailbox<FromShard>,
    done: Mailbox<Done>,
    place: InPlace<H::Future>,
    pace: Pace,
    /// By slot: how to cut the attempt.
    running: Vec<Option<AbortHandle>>,
    /// Attempts on blocking threads that were to be cut: whatever they say counts as cut.
    fenced: HashSet<SlotId>,
    /// By slot: why its record failed last. One of a slot that is used anew, or not at all, is of nobody.
    notes: Vec<Option<(SlotId, Note)>>,
    dead_letters: Option<(Writer, Outbound)>,
    sends: FuturesUnordered<BoxFuture<'static, (SlotId, Sent)>>,
    /// A send was added that was not polled yet, and so wakes nobody.
    unpolled: bool,
    /// The coordinator ended the shard, in order.
    ended: bool,
    assignments: HashMap<PartitionId, Arc<Assignment>>,
    counts: Counts,
    sleep: Pin<Box<Sleep>>,
    sleeps_until: Option<Now>,
    letters: Vec<ToShard>,
    ends: Vec<Done>,
    quiet: Quiet,
    body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, H: Handler<T>> Shard<T, H> {
    #[expect(clippy::too_many_arguments, reason = "made in one place, from what the worker has built")]
    pub(crate) fn new(
        number: usize,
        common: Arc<Common>,
        engine: Engine<Batch>,
        fetch: Box<dyn FetchQueue>,
        handler: Arc<H>,
        inbox: Mailbox<ToShard>,
        coordinator: Mailbox<FromShard>,
        dead_letters: Option<(Writer, Outbound)>,
    ) -> Self {
        let now = common.clock.now();
        let spawning = common.execution != Execution::Inline;
        Self {
            number,
            engine,
            fetch,
            handler,
            inbox,
            coordinator,
            done: Mailbox::new(),
            place: InPlace::new(),
            pace: Pace { spawning, slow: 0, stride: 1, since_look: 0, looked: now },
            running: Vec::new(),
            fenced: HashSet::new(),
            notes: Vec::new(),
            unpolled: false,
            ended: false,
            dead_letters,
            sends: FuturesUnordered::new(),
            assignments: HashMap::new(),
            counts: Counts::default(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            sleeps_until: None,
            letters: Vec::new(),
            ends: Vec::new(),
            quiet: Quiet::default(),
            body: std::marker::PhantomData,
            common,
        }
    }

    fn now(&self) -> Now {
        self.common.clock.now()
    }

    fn tell(&self, event: Event) {
        // No listener is no mistake.
        let _ = self.common.events.send(event);
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
                ToShard::Assign { assignment, resume } => self.assign(assignment, resume, now),
                ToShard::Refetch { partition, epoch, from } => self.refetch(partition, epoch, from),
                ToShard::Drain { partitions, deadline } => self.drain(&partitions, deadline, now),
                ToShard::Lose(partitions) => {
                    let running =
                        |w: &&InWork| partitions.contains(&w.partition) && matches!(w.stage, WorkStage::Running(_));
                    self.counts.cut_off += self.engine.in_work(now).iter().filter(running).count() as u64;
                    for id in partitions {
                        self.leave(id, Some(now));
                        self.engine.lose(id, now);
                    }
                }
                ToShard::Close(partitions) => {
                    for id in partitions {
                        self.leave(id, None);
                        self.engine.close(id);
                    }
                }
                ToShard::Collect => self.collect(),
                ToShard::WorkerPartitions(n) => self.engine.set_worker_partitions(n),
                ToShard::Lease(until) => self.engine.set_lease(Some(until)),
                ToShard::Pause => self.engine.pause(),
                ToShard::Resume => self.engine.resume(),
                ToShard::View(answer) => {
                    let parked = self.notes.iter().flatten();
                    let parked = parked.filter(|(slot, n)| n.parked && self.engine.history(*slot).is_some()).count();
                    let view = View { partitions: self.engine.views(now), in_work: self.engine.in_work(now), parked };
                    // Whoever asked may have gone.
                    let _ = answer.send(view);
                }
                ToShard::End => end = true,
            }
        }
        self.letters = letters;
        end
    }

    fn assign(&mut self, assignment: Arc<Assignment>, resume: Resume, now: Now) {
        let (id, epoch, offset) = (assignment.id, assignment.epoch, resume.offset);
        self.leave(id, Some(now));
        if let Some(witness) = &self.common.witness {
            witness.assigned(&assignment.partition, epoch.0, offset);
        }
        self.engine.assign(id, epoch, resume, now);
        self.add(assignment.clone(), offset);
        self.assignments.insert(id, assignment);
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
            self.engine.drain(*id, deadline, now);
        }
    }

    /// Ends the fetching of a partition; if `at` is given, without a drain, which its handlers are told.
    fn leave(&mut self, id: PartitionId, at: Option<Now>) {
        self.fetch.remove(id);
        if let Some(assignment) = self.assignments.remove(&id)
            && let Some(at) = at
        {
            if let Some(witness) = &self.common.witness {
                witness.lost(&assignment.partition, assignment.epoch.0);
            }
            assignment.drain.send_replace(Some(self.common.clock.instant(at)));
        }
    }

    fn collect(&mut self) {
        let ids: Vec<PartitionId> = self.engine.assigned().filter(|id| self.engine.is_dirty(*id)).collect();
        let points = ids.into_iter().filter_map(|id| Some((id, self.engine.commit_point(id)?))).collect();
        self.coordinator.post(FromShard::Collected(points));
    }

    fn act(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Hold(id) => self.fetch.hold(id),
                Action::Release(id) => self.fetch.release(id),
                Action::Cut { slot, reason } => self.cut(slot, reason),
                Action::Settle { slot } => self.send_dead_letter(slot),
                Action::Reread { partition, epoch, offsets } => {
                    if let Err(error) = self.fetch.reread(partition, &offsets) {
                        let failure = FetchFailure::Failed(error);
                        self.coordinator.post(FromShard::Stopped { partition, epoch, failure });
                    }
                }
                Action::Drained { partition, cut_off, .. } => {
                    if let Some(point) = self.engine.commit_point(partition) {
                        self.coordinator.post(FromShard::Drained { partition, point, cut_off });
                    }
                }
            }
        }
    }

    fn cut(&mut self, slot: SlotId, reason: CutReason) {
        if self.common.execution == Execution::Blocking {
            // One that runs goes on; one that still waits for its thread is dropped.
            self.fenced.insert(slot);
        } else if reason == CutReason::Drain && self.common.on_drain_deadline == OnDrainDeadline::Abandon {
            return;
        }
        if let Some(Some(running)) = self.running.get(slot.index()) {
            running.abort();
        }
    }

    // ---- starts and ends ----------------------------------------------------------------------------------------

    /// Starts up to [`TURN`] records; whether there may be more.
    fn start_some(&mut self) -> bool {
        let mut now = self.now();
        self.pace.looked = now;
        self.pace.since_look = 0;
        for _ in 0..TURN {
            let Some(start) = self.engine.next_start(now) else { return false };
            self.start(start, now);
            if let Some(at) = self.look_at_clock() {
                now = at;
            }
        }
        true
    }

    fn start(&mut self, start: Start<Batch>, now: Now) {
        self.counts.attempts += 1;
        let record = start.records.record(start.index);
        let body = match catch_unwind(AssertUnwindSafe(|| T::decode(&record))) {
            Ok(Ok(body)) => body,
            not_decoded => {
                let error = match not_decoded {
                    Ok(Err(error)) => error,
                    _ => DecodeError::new("decoding panicked"),
                };
                let failure = Failure::of_class(FailureClass::Decode, Wish::DeadLetter, error);
                let verdict = self.engine.finish_open(Outcome::Failed(failure.wish), now);
                self.follow(verdict, &record, start.attempt, failure);
                return;
            }
        };
        if self.pace.spawning {
            let message = Message::new(record, start.attempt, start.first_failed_ms, body);
            self.spawn_unpolled(message, now);
            return;
        }
        let message = Message::new(record.clone(), start.attempt, start.first_failed_ms, body);
        let handler = &self.handler;
        match self.place.start(|| handler.handle(message)) {
            Poll::Ready(Ok(())) => {
                self.engine.finish_open(Outcome::Ok, now);
                self.counts.succeeded += 1;
            }
            Poll::Ready(Err(failure)) => {
                let outcome = outcome_of(&failure);
                let verdict = self.engine.finish_open(outcome, now);
                self.follow(verdict, &record, start.attempt, failure);
            }
            Poll::Pending => {
                if let Some(slot) = self.engine.park_open(now) {
                    let attempt = self.place.take(slot, self.done.clone());
                    self.keep(slot, super::spawn(attempt).abort_handle());
                }
            }
        }
    }

    fn spawn_unpolled(&mut self, message: Message<T>, now: Now) {
        let Some(slot) = self.engine.park_open(now) else { return };
        let (handler, done) = (self.handler.clone(), self.done.clone());
        let task = if self.common.execution == Execution::Blocking {
            let runtime = tokio::runtime::Handle::current();
            // The handler itself may block: it is called there, not on the shard. The attempt is made here, so that it
            // reports its end also if it is cut before it has a thread.
            let attempt = Attempt::unpolled(LazyHandle::new(handler, message), slot, done);
            let work = super::spawn_blocking(move || runtime.block_on(attempt));
            work.abort_handle()
        } else {
            super::spawn(Attempt::unpolled(LazyHandle::new(handler, message), slot, done)).abort_handle()
        };
        self.keep(slot, task);
    }

    fn keep(&mut self, slot: SlotId, task: AbortHandle) {
        if self.running.len() <= slot.index() {
            self.running.resize_with(slot.index() + 1, || None);
        }
        self.running[slot.index()] = Some(task);
    }

    /// Takes in the attempts that ended as tasks; whether there were any.
    fn read_ends(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ends = std::mem::take(&mut self.ends);
        self.done.take(cx, &mut ends);
        let any = !ends.is_empty();
        if any {
            let now = self.now();
            for Done { slot, ending } in ends.drain(..) {
                self.end(slot, ending, now);
            }
        }
        self.ends = ends;
        any
    }

    fn end(&mut self, slot: SlotId, ending: Ending, now: Now) {
        if let Some(running) = self.running.get_mut(slot.index()) {
            *running = None;
        }
        let record = self.engine.record(slot).map(|(batch, index)| batch.record(index));
        let attempts = self.engine.history(slot).map_or(0, |(attempts, _)| attempts);
        let ending = if self.fenced.remove(&slot) { Ending::Cut } else { ending };
        let (outcome, failure) = match ending {
            Ending::Result(Ok(())) => (Outcome::Ok, None),
            Ending::Result(Err(failure)) => (outcome_of(&failure), Some(failure)),
            Ending::Cut => (Outcome::Cut, None),
        };
        let verdict = self.engine.ended(slot, outcome, now);
        match (verdict, record) {
            (Verdict::Finished, _) => {
                self.counts.succeeded += 1;
            }
            (Verdict::Stale, _) => {}
            (verdict, Some(record)) => {
                let failure = failure.unwrap_or_else(|| {
                    let text = "the handler took longer than its timeout";
                    Failure::of_class(FailureClass::Timeout, Wish::Policy, text)
                });
                self.follow(verdict, &record, attempts, failure);
            }
            (_, None) => {}
        }
    }

    /// Does what follows a failed attempt.
    fn follow(&mut self, verdict: Verdict, record: &Record, attempts: u32, failure: Failure) {
        let (partition, offset, class) = (record.topic_partition().clone(), record.offset(), failure.class);
        if failure.again.is_none() {
            match class {
                FailureClass::Panic => self.counts.panicked += 1,
                FailureClass::Timeout => self.counts.timed_out += 1,
                FailureClass::Decode => self.counts.undecodable += 1,
                FailureClass::Handler => {}
            }
        }
        let note = |parked| {
            let keeps = self.dead_letters.as_ref().is_some_and(|(writer, _)| writer.keeps_messages());
            let message = keeps.then(|| text_of(&failure));
            Note { class, message, parked, without_value: false }
        };
        match verdict {
            Verdict::Retry { slot, after } => {
                let note = note(false);
                self.keep_note(slot, note);
                if failure.again.is_none() {
                    self.counts.retried += 1;
                    self.tell(Event::Retrying { partition, offset, attempts, class, after });
                }
            }
            Verdict::Parked { slot, after } => {
                let note = note(true);
                self.counts.retried += 1;
                self.keep_note(slot, note);
                tracing::warn!(%partition, offset, %class, "a record failed all its attempts and is parked; its key waits");
                self.tell(Event::Parked { partition, offset, class, after });
            }
            Verdict::DeadLetter { slot } => {
                let note = note(false);
                self.keep_note(slot, note);
                self.send_dead_letter(slot);
            }
            Verdict::Skipped => {
                self.counts.skipped += 1;
                self.settled(&partition, offset, Settled::Skipped);
                self.tell(Event::Skipped { partition, offset, class });
            }
            Verdict::Stop => {
                let place = format!("{partition}@{offset}");
                let why =
                    if failure.wish == Wish::Stop { "the handler asked to stop" } else { "its attempts are used up" };
                let reason = format!("{why} ({class})");
                self.coordinator.post(FromShard::StopAsked(Error::Stopped { place, reason }));
            }
            // It failed while its partition drains: the next attempt is made by whoever has the partition next.
            Verdict::CutOff => self.counts.retried += 1,
            Verdict::Finished | Verdict::Stale => {}
        }
    }

    fn keep_note(&mut self, slot: SlotId, note: Note) {
        if self.notes.len() <= slot.index() {
            self.notes.resize_with(slot.index() + 1, || None);
        }
        self.notes[slot.index()] = Some((slot, note));
    }

    fn note(&mut self, slot: SlotId) -> Option<&mut Note> {
        note_of(&mut self.notes, slot)
    }

    // ---- dead letters -------------------------------------------------------------------------------------------

    fn send_dead_letter(&mut self, slot: SlotId) {
        let (Some((batch, index)), Some((attempts, first_failed))) =
            (self.engine.record(slot), self.engine.history(slot))
        else {
            return;
        };
        let note = note_of(&mut self.notes, slot);
        let Some(((writer, outbound), note)) = self.dead_letters.as_mut().zip(note) else { return };
        let cause = Cause {
            class: note.class,
            message: note.message.clone(),
            attempts,
            first_failed_ms: first_failed.unwrap_or_default(),
        };
        let answer = match writer.letter(&batch.record(index), &cause, note.without_value) {
            Ok(letter) => outbound.send(letter),
            Err(error) => {
                self.coordinator.post(FromShard::StopAsked(error));
                return;
            }
        };
        self.unpolled = true;
        self.sends.push(Box::pin(async move { (slot, answer.await.unwrap_or_else(|_| Err(client_ended()))) }));
    }

    fn read_answers(&mut self, cx: &mut Context<'_>) {
        self.unpolled = false;
        while let Poll::Ready(Some((slot, sent))) = self.sends.poll_next_unpin(cx) {
            let now = self.now();
            let record = self.engine.record(slot).map(|(batch, index)| batch.record(index));
            let note = note_of(&mut self.notes, slot);
            if let (Err(e), Some((writer, _)), Some(note)) = (&sent, &self.dead_letters, note)
                && [code::MESSAGE_TOO_LARGE, code::RECORD_LIST_TOO_LARGE].contains(&e.error.code())
                && writer.too_large() == TooLarge::Pointer
            {
                note.without_value = true;
            }
            let class = self.note(slot).map_or(FailureClass::Handler, |n| n.class);
            let verdict = self.engine.settled(slot, sent.is_ok(), now);
            let Some(record) = record else { continue };
            let (partition, offset) = (record.topic_partition().clone(), record.offset());
            match (verdict, sent) {
                (Verdict::Finished, _) => {
                    self.counts.dead_lettered += 1;
                    self.settled(&partition, offset, Settled::DeadLettered);
                    self.tell(Event::DeadLettered { partition, offset, class });
                }
                (Verdict::Retry { .. }, Err(e)) => {
                    self.counts.dead_letter_failures += 1;
                    tracing::warn!(%partition, offset, error = %e.error, "a dead letter could not be written; its partition is held");
                    self.tell(Event::DeadLetterFailed { partition, offset, error: e.error });
                }
                _ => {}
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
                self.engine.fetched(id, epoch, batch, leader_epoch);
            }
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

    // ---- pace ---------------------------------------------------------------------------------------------------

    /// Looks at the clock now and then to see whether first polls are slow. Returns the time if it looked.
    fn look_at_clock(&mut self) -> Option<Now> {
        if self.pace.spawning {
            return None;
        }
        self.pace.since_look += 1;
        if self.pace.since_look < self.pace.stride {
            return None;
        }
        let now = self.common.clock.now();
        let each = now.since(self.pace.looked) / self.pace.since_look;
        (self.pace.looked, self.pace.since_look) = (now, 0);
        if each > SLOW_POLL {
            self.pace.stride = 1;
            self.pace.slow += 1;
            if self.pace.slow >= SLOW_IN_A_ROW && self.common.execution == Execution::Inline {
                self.pace.spawning = true;
                tracing::warn!(
                    "handlers work for more than {SLOW_POLL:?} before they first wait: they run as tasks from now on, \
                     so as to use all cores; Execution::Spawn says so from the start"
                );
                self.tell(Event::Spawning);
            }
        } else {
            self.pace.slow = 0;
            self.pace.stride = (self.pace.stride * 2).min(STRIDE);
        }
        Some(now)
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
        self.common.tally.add(&std::mem::take(&mut self.counts));
    }

    /// Sees to it that the task is woken when the engine's next timer is due. Whether it is due already.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.engine.next_timer() else { return false };
        if self.sleeps_until != Some(at) {
            self.sleeps_until = Some(at);
            let deadline = tokio::time::Instant::from_std(self.common.clock.instant(at));
            self.sleep.as_mut().reset(deadline);
        }
        let due = self.sleep.as_mut().poll(cx).is_ready();
        if due {
            self.sleeps_until = None;
        }
        due
    }
}

impl<T: Decode, H: Handler<T>> Future for Shard<T, H>
where
    Self: Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut turns = 0;
        loop {
            if this.read_letters(cx) {
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
            let more = this.start_some();
            this.act();
            if more {
                this.yield_credits();
            }
            turns += 1;
            if turns == TURNS_BEFORE_YIELD {
                this.flush_counts();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if more || this.unpolled || this.borrow(cx) || this.fetch_one(cx) || this.poll_timer(cx) {
                continue;
            }
            this.common.pool.give(this.engine.surrender_credits());
            this.flush_counts();
            return Poll::Pending;
        }
    }
}

/// A shard that ends without being told to, because the worker was dropped, takes its attempts with it.
impl<T: Decode, H: Handler<T>> Drop for Shard<T, H> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let now = self.common.clock.instant(self.now());
        for assignment in self.assignments.values() {
            assignment.drain.send_replace(Some(now));
        }
        self.running.iter().flatten().for_each(AbortHandle::abort);
        self.flush_counts();
    }
}

fn note_of(notes: &mut [Option<(SlotId, Note)>], slot: SlotId) -> Option<&mut Note> {
    notes.get_mut(slot.index())?.as_mut().filter(|(of, _)| *of == slot).map(|(_, note)| note)
}

/// The text of a failure's error, which is the program's own code.
fn text_of(failure: &Failure) -> String {
    catch_unwind(AssertUnwindSafe(|| bounded(&failure.source.to_string())))
        .unwrap_or_else(|_| "no text: it panicked".into())
}

fn outcome_of(failure: &Failure) -> Outcome {
    match failure.again {
        Some(after) => Outcome::Again(after),
        None => Outcome::Failed(failure.wish),
    }
}

/// A call of a handler that is made when it is first polled, so that a slow call does not hold up the shard.
struct LazyHandle<T: Decode, H: Handler<T>> {
    call: Option<(Arc<H>, Message<T>)>,
    future: Option<Pin<Box<H::Future>>>,
}

impl<T: Decode, H: Handler<T>> LazyHandle<T, H> {
    fn new(handler: Arc<H>, message: Message<T>) -> Self {
        Self { call: Some((handler, message)), future: None }
    }
}

impl<T: Decode, H: Handler<T>> Unpin for LazyHandle<T, H> {}

impl<T: Decode, H: Handler<T>> Future for LazyHandle<T, H> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((handler, message)) = this.call.take() {
            this.future = Some(Box::pin(handler.handle(message)));
        }
        match &mut this.future {
            Some(future) => future.as_mut().poll(cx),
            // Not reached: the call is there until the first poll makes the future of it.
            None => Poll::Pending,
        }
    }
}
