//! Starts and ends of attempts, and what follows a failed one.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Context;

use waterwheel_core::Now;
use waterwheel_core::breaker::Verdict as End;
use waterwheel_core::engine::{Outcome, SlotId, Start, Verdict, Wish};

use super::{FromShard, Note, Shard, TURN, Work};
use crate::body::{Decode, DecodeError};
use crate::dead_letter::bounded;
use crate::driver::attempt::{Done, Ending, Output};
use crate::driver::classes::Passed;
use crate::driver::gate::end_of;
use crate::driver::shard::letters::note_of;
use crate::error::Error;
use crate::events::Event;
use crate::failure::{Failure, FailureClass};
use crate::hooks::Finish;
use crate::record::{Record, TopicPartition};
use crate::witness::Settled;

/// A record that was finished without a handler's success.
pub(super) struct Concluded {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) how: Settled,
    pub(super) class: FailureClass,
}

impl<W: Work> Shard<W> {
    /// Starts up to [`TURN`] records; whether there may be more.
    pub(super) fn start_some(&mut self, cx: &Context<'_>) -> bool {
        let is_full = self.transactor.as_ref().is_some_and(|t| t.is_full());
        if self.gated.is_some() {
            return self.start_gated(!is_full, cx);
        }
        if is_full {
            return false;
        }
        let mut now = self.now();
        self.work.begin(now);
        for _ in 0..TURN {
            let Some(Start { records, index, attempt, first_failed_ms }) = self.engine.next_start(now) else {
                self.work.rest();
                return false;
            };
            let record = records.record(index);
            W::start(self, record, attempt, first_failed_ms, now);
            if let Some(at) = W::started(self) {
                now = at;
            }
        }
        self.work.rest();
        true
    }

    /// The body of the open record. Without one the attempt at it has failed.
    pub(super) fn decode<T: Decode>(&mut self, record: &Record, attempt: u32, now: Now) -> Option<T> {
        let failure = match body_of::<T>(record) {
            Ok(body) => return Some(body),
            Err(failure) => failure,
        };
        self.counts.attempts += 1;
        let verdict = self.engine.finish_open(Outcome::Failed(failure.wish), now);
        self.opened_as(&failure, now);
        self.follow(verdict, record, attempt, failure);
        None
    }

    /// What the class of a record lets through, if it has one.
    #[inline]
    pub(super) fn pass(&self, record: &Record) -> Result<Option<Box<Passed>>, Failure> {
        self.common.classes.as_ref().map_or(Ok(None), |classes| classes.pass(record))
    }

    /// The open record is not let through: no attempt at it has begun. (A panic in telling its class is one of an attempt.)
    pub(super) fn hold_back(&mut self, failure: Failure, attempt: u32, now: Now) {
        self.counts.attempts += u64::from(failure.again.is_none());
        self.fail_open(failure, attempt, now);
    }

    /// The open record failed where it began.
    pub(super) fn fail_open(&mut self, failure: Failure, attempt: u32, now: Now) {
        let record = self.engine.open_record().map(|(batch, index)| batch.record(index));
        let verdict = self.engine.finish_open(outcome_of(&failure), now);
        self.opened_as(&failure, now);
        if let Some(record) = record {
            self.follow(verdict, &record, attempt, failure);
        }
    }

    /// Takes in the attempts that ended as tasks; whether there were any.
    pub(super) fn read_ends(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ends = std::mem::take(&mut self.ends);
        self.done.take(cx, &mut ends);
        let any = !ends.is_empty();
        if any {
            let now = self.now();
            for Done { slot, ending } in ends.drain(..) {
                W::end(self, slot, ending, now);
            }
            self.tell_gate(now);
        }
        self.ends = ends;
        any
    }

    pub(super) fn end(&mut self, slot: SlotId, ending: Ending<W::Output>, now: Now) {
        let attempt = self.gated_attempt(slot);
        let (outcome, failure) = match self.work.ended(slot, ending) {
            Ending::Result(Ok(output)) if W::Output::PRODUCES => {
                match self.finish_with(slot, output.into_outputs(), now) {
                    Ok(()) => return self.ended_as(attempt, End::Succeeded, now),
                    Err(failure) => (outcome_of(&failure), failure),
                }
            }
            Ending::Result(Ok(_)) => {
                let finishing = self.finishing(slot);
                if self.engine.ended(slot, Outcome::Ok, now) == Verdict::Finished {
                    self.counts.succeeded += 1;
                    self.tell_finished(finishing, Finish::Ok);
                }
                return self.ended_as(attempt, End::Succeeded, now);
            }
            Ending::Result(Err(failure)) => (outcome_of(&failure), failure),
            Ending::Cut => {
                let text = "the handler took longer than it may";
                (Outcome::Cut, Failure::of_class(FailureClass::Timeout, Wish::Policy, text))
            }
        };
        self.ended_as(attempt, end_of(&failure), now);
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
                FailureClass::Handler | FailureClass::Dropped | FailureClass::Followed => {}
            }
        }
        let note = |parked| {
            let keeps = self.dead_letters.as_ref().is_some_and(|(writer, _)| writer.keeps_messages());
            let message = keeps.then(|| text_of(&failure).into());
            Note { message, parked, ..Note::of(class) }
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
                self.send_letter(slot);
            }
            Verdict::Tier { slot, tier } => {
                let tier = u8::try_from(tier).ok();
                let note = Note { tier, ..note(false) };
                self.keep_note(slot, note);
                self.send_letter(slot);
            }
            Verdict::Skipped => self.concluded(record, Settled::Skipped, class),
            Verdict::Stop => {
                let place = format!("{partition}@{offset}");
                let why =
                    if failure.wish == Wish::Stop { "the handler asked to stop" } else { "its attempts are used up" };
                let reason = format!("{why} ({class})");
                self.coordinator.post(FromShard::StopAsked(Error::Stopped { place, reason }));
            }
            // It failed while its partition drains: the next attempt is made by whoever has the partition next.
            Verdict::CutOff => self.counts.retried += 1,
            Verdict::Finished | Verdict::NotRun | Verdict::Stale => {}
        }
    }

    /// A record was finished without a handler's success; told at once, or when its transaction is committed.
    pub(super) fn concluded(&mut self, record: &Record, how: Settled, class: FailureClass) {
        let concluded = Concluded { partition: record.topic_partition().clone(), offset: record.offset(), how, class };
        match &mut self.transactor {
            Some(transactor) => transactor.concluded(record.assignment().id, concluded),
            None => self.announce(concluded),
        }
    }

    pub(super) fn announce(&mut self, Concluded { partition, offset, how, class }: Concluded) {
        self.settled(&partition, offset, how);
        let finish = match how {
            Settled::DeadLettered => Finish::DeadLettered,
            Settled::Skipped => Finish::Skipped,
            Settled::Tiered { .. } => Finish::Tiered,
        };
        self.tell_finished(self.common.hooks.is_some().then(|| (partition.clone(), offset)), finish);
        match how {
            Settled::Skipped => {
                self.counts.skipped += 1;
                self.tell(Event::Skipped { partition, offset, class });
            }
            Settled::DeadLettered => {
                self.counts.dead_lettered += 1;
                self.tell(Event::DeadLettered { partition, offset, class });
            }
            Settled::Tiered { tier } => {
                self.counts.tiered += 1;
                self.tell(Event::Tiered { partition, offset, class, tier });
            }
        }
    }

    pub(super) fn keep_note(&mut self, slot: SlotId, note: Note) {
        *place(&mut self.notes, slot) = Some((slot, note));
    }

    pub(super) fn note(&mut self, slot: SlotId) -> Option<&mut Note> {
        note_of(&mut self.notes, slot)
    }
}

/// The body of a record, or why it has none.
pub(super) fn body_of<T: Decode>(record: &Record) -> Result<T, Failure> {
    let error = match catch_unwind(AssertUnwindSafe(|| T::decode(record))) {
        Ok(Ok(body)) => return Ok(body),
        Ok(Err(error)) => error,
        Err(_) => DecodeError::new("decoding panicked"),
    };
    Err(Failure::of_class(FailureClass::Decode, Wish::DeadLetter, error))
}

/// The slot's place in a table, which grows by a quarter: doubled ones were a tenth of what a record in work takes.
pub(super) fn place<T>(table: &mut Vec<Option<T>>, slot: SlotId) -> &mut Option<T> {
    let at = slot.index();
    if at >= table.capacity() {
        table.reserve_exact(at + at / 4 + 64 - table.len());
    }
    if at >= table.len() {
        table.resize_with(at + 1, || None);
    }
    &mut table[at]
}

pub(super) fn outcome_of(failure: &Failure) -> Outcome {
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
