//! Starts and ends of attempts, and what follows a failed one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::AbortHandle;
use waterwheel_core::Now;
use waterwheel_core::engine::{Outcome, SlotId, Start, Verdict, Wish};

use super::{FromShard, Note, Shard, TURN};
use crate::body::{Decode, DecodeError};
use crate::dead_letter::bounded;
use crate::driver::attempt::{Attempt, Done, Ending, LazyHandle};
use crate::driver::shard::letters::note_of;
use crate::driver::{spawn, spawn_blocking};
use crate::error::Error;
use crate::events::Event;
use crate::failure::{Failure, FailureClass};
use crate::handler::{Handler, Message};
use crate::record::Record;
use crate::settings::Execution;
use crate::witness::Settled;

/// First polls that take longer than this are work on the processor, better done as a task on another core.
const SLOW_POLL: Duration = Duration::from_micros(100);

/// Slow first polls in a row before the shard begins to spawn.
const SLOW_IN_A_ROW: u32 = 3;

/// First polls between two looks at the clock, while they are fast.
const STRIDE: u32 = 16;

impl<T: Decode, H: Handler<T>> Shard<T, H> {
    /// Starts up to [`TURN`] records; whether there may be more.
    pub(super) fn start_some(&mut self) -> bool {
        let mut now = self.now();
        self.pace.looked = now;
        self.pace.since_look = 0;
        for _ in 0..TURN {
            let Some(Start { records, index, attempt, first_failed_ms }) = self.engine.next_start(now) else {
                return false;
            };
            let record = records.record(index);
            self.start(record, attempt, first_failed_ms, now);
            if let Some(at) = self.look_at_clock() {
                now = at;
            }
        }
        true
    }

    /// Runs a handler on the open record. Of which there is this one handle: it goes to the handler.
    pub(super) fn start(&mut self, record: Record, attempt: u32, first_failed_ms: Option<i64>, now: Now) {
        self.counts.attempts += 1;
        let body = match catch_unwind(AssertUnwindSafe(|| T::decode(&record))) {
            Ok(Ok(body)) => body,
            not_decoded => {
                let error = match not_decoded {
                    Ok(Err(error)) => error,
                    _ => DecodeError::new("decoding panicked"),
                };
                let failure = Failure::of_class(FailureClass::Decode, Wish::DeadLetter, error);
                let verdict = self.engine.finish_open(Outcome::Failed(failure.wish), now);
                self.follow(verdict, &record, attempt, failure);
                return;
            }
        };
        if self.pace.spawning {
            self.spawn_unpolled(Message::new(record, attempt, first_failed_ms, body), now);
            return;
        }
        let handler = &self.handler;
        match self.place.start(|| handler.handle(Message::new(record, attempt, first_failed_ms, body))) {
            Poll::Ready(Ok(())) => {
                self.engine.finish_open(Outcome::Ok, now);
                self.counts.succeeded += 1;
            }
            Poll::Ready(Err(failure)) => {
                let record = self.engine.open_record().map(|(batch, index)| batch.record(index));
                let verdict = self.engine.finish_open(outcome_of(&failure), now);
                if let Some(record) = record {
                    self.follow(verdict, &record, attempt, failure);
                }
            }
            Poll::Pending => {
                if let Some(slot) = self.engine.park_open(now) {
                    let attempt = self.place.take(slot, self.done.clone());
                    self.keep(slot, spawn(attempt).abort_handle());
                }
            }
        }
    }

    pub(super) fn spawn_unpolled(&mut self, message: Message<T>, now: Now) {
        let Some(slot) = self.engine.park_open(now) else { return };
        let (handler, done) = (self.handler.clone(), self.done.clone());
        let task = if self.common.execution == Execution::Blocking {
            let runtime = tokio::runtime::Handle::current();
            // The handler itself may block: it is called there, not on the shard. The attempt is made here, so that it
            // reports its end also if it is cut before it has a thread.
            let attempt = Attempt::unpolled(LazyHandle::new(handler, message), slot, done);
            let work = spawn_blocking(move || runtime.block_on(attempt));
            work.abort_handle()
        } else {
            spawn(Attempt::unpolled(LazyHandle::new(handler, message), slot, done)).abort_handle()
        };
        self.keep(slot, task);
    }

    pub(super) fn keep(&mut self, slot: SlotId, task: AbortHandle) {
        *place(&mut self.running, slot) = Some(task);
    }

    /// Takes in the attempts that ended as tasks; whether there were any.
    pub(super) fn read_ends(&mut self, cx: &mut Context<'_>) -> bool {
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

    pub(super) fn end(&mut self, slot: SlotId, ending: Ending, now: Now) {
        if let Some(running) = self.running.get_mut(slot.index()) {
            *running = None;
        }
        let ending = if self.fenced.remove(&slot) { Ending::Cut } else { ending };
        let (outcome, failure) = match ending {
            Ending::Result(Ok(())) => {
                if self.engine.ended(slot, Outcome::Ok, now) == Verdict::Finished {
                    self.counts.succeeded += 1;
                }
                return;
            }
            Ending::Result(Err(failure)) => (outcome_of(&failure), failure),
            Ending::Cut => {
                let text = "the handler took longer than its timeout";
                (Outcome::Cut, Failure::of_class(FailureClass::Timeout, Wish::Policy, text))
            }
        };
        let record = self.engine.record(slot).map(|(batch, index)| batch.record(index));
        let attempts = self.engine.history(slot).map_or(0, |(attempts, _)| attempts);
        let verdict = self.engine.ended(slot, outcome, now);
        if let Some(record) = record.filter(|_| verdict != Verdict::Stale) {
            self.follow(verdict, &record, attempts, failure);
        }
    }

    /// Does what follows a failed attempt.
    pub(super) fn follow(&mut self, verdict: Verdict, record: &Record, attempts: u32, failure: Failure) {
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
            Note { class, message, parked, without_value: false, failed: (0, 0) }
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

    pub(super) fn keep_note(&mut self, slot: SlotId, note: Note) {
        *place(&mut self.notes, slot) = Some((slot, note));
    }

    pub(super) fn note(&mut self, slot: SlotId) -> Option<&mut Note> {
        note_of(&mut self.notes, slot)
    }

    /// Looks at the clock now and then to see whether first polls are slow. Returns the time if it looked.
    pub(super) fn look_at_clock(&mut self) -> Option<Now> {
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
}

/// The slot's place in a table, which grows by a quarter: doubled ones were a tenth of what a record in work takes.
fn place<T>(table: &mut Vec<Option<T>>, slot: SlotId) -> &mut Option<T> {
    let at = slot.index();
    if at >= table.capacity() {
        table.reserve_exact(at + at / 4 + 64 - table.len());
    }
    if at >= table.len() {
        table.resize_with(at + 1, || None);
    }
    &mut table[at]
}

fn outcome_of(failure: &Failure) -> Outcome {
    match failure.again {
        Some(after) => Outcome::Again(after),
        None => Outcome::Failed(failure.wish),
    }
}

/// The text of a failure's error, which is the program's own code.
fn text_of(failure: &Failure) -> String {
    catch_unwind(AssertUnwindSafe(|| bounded(&failure.source.to_string())))
        .unwrap_or_else(|_| "no text: it panicked".into())
}
