//! Batches: records are gathered, and a handler runs on many of them at once, as a task.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::task::AbortHandle;
use waterwheel_core::breaker::Verdict as End;
use waterwheel_core::engine::{CutReason, Outcome, SlotId, Verdict, Wish};
use waterwheel_core::{Now, PartitionId};

use super::gated::better;
use super::starts::{body_of, outcome_of, place};
use super::{Common, Shard, Work};
use crate::batch::{Batch, BatchHandler, Outcomes};
use crate::body::Decode;
use crate::driver::attempt::{Attempt, Ending};
use crate::driver::gate::end_of;
use crate::driver::watched::{Watch, watched_batch};
use crate::driver::{spawn, spawn_blocking};
use crate::failure::{Failure, FailureClass};
use crate::handler::Message;
use crate::hooks::Finish;
use crate::record::Record;
use crate::settings::{Execution, OnDrainDeadline};

/// Runs a handler for each batch.
pub(crate) struct Batches<T: Decode, H: BatchHandler<T>> {
    handler: Arc<H>,
    /// Who looks on.
    watch: Option<Arc<Watch>>,
    /// By slot: what waits for its batch to be full.
    gathered: Vec<Option<Gathered<T>>>,
    /// By slot: the first slot of its batch.
    batch_of: Vec<Option<(SlotId, SlotId)>>,
    /// By the first slot.
    running: HashMap<SlotId, Running>,
}

/// A record that waits for its batch. One of a slot that is used anew is of nobody.
struct Gathered<T> {
    slot: SlotId,
    partition: PartitionId,
    message: Result<Message<T>, Failure>,
}

/// A batch that runs.
struct Running {
    /// Those that were not shown to the handler with why.
    members: Vec<(SlotId, Option<Failure>)>,
    outcomes: Told,
    /// Members whose partition is gone.
    gone: usize,
    timed_out: bool,
    task: AbortHandle,
}

/// What the handler told.
type Told = Arc<Mutex<Option<Outcomes>>>;

impl<T: Decode, H: BatchHandler<T>> Batches<T, H> {
    pub(crate) fn new(handler: Arc<H>, watch: Option<Arc<Watch>>) -> Self {
        Self { handler, watch, gathered: Vec::new(), batch_of: Vec::new(), running: HashMap::new() }
    }

    fn take(&mut self, slot: SlotId) -> Option<Result<Message<T>, Failure>> {
        let waits = self.gathered.get_mut(slot.index())?.take_if(|waits| waits.slot == slot)?;
        Some(waits.message)
    }

    /// What is gathered of a partition does not run here.
    fn forget(&mut self, id: PartitionId) {
        for waits in &mut self.gathered {
            drop(waits.take_if(|waits| waits.partition == id));
        }
    }
}

impl<T: Decode, H: BatchHandler<T>> Unpin for Batches<T, H> {}

impl<T: Decode, H: BatchHandler<T>> Work for Batches<T, H> {
    type Output = ();

    fn start(shard: &mut Shard<Self>, record: Record, attempt: u32, first_failed_ms: Option<i64>, now: Now) {
        let partition = record.assignment().id;
        let message = body_of::<T>(&record).map(|body| Message::new(record, attempt, first_failed_ms, body));
        let Some(slot) = shard.engine.gather_open(now) else { return };
        shard.goes_on_in(slot);
        if message.is_err() {
            // Those behind it must not run before it is done with.
            shard.engine.close_lane(slot);
        }
        *place(&mut shard.work.gathered, slot) = Some(Gathered { slot, partition, message });
    }

    fn run(shard: &mut Shard<Self>, slots: Vec<SlotId>, now: Now) {
        shard.counts.attempts += slots.len() as u64;
        let (mut messages, mut members) = (Vec::with_capacity(slots.len()), Vec::with_capacity(slots.len()));
        for slot in slots {
            // Each was kept when it was gathered.
            let Some(message) = shard.work.take(slot) else { continue };
            members.push((slot, message.map(|message| messages.push(message)).err()));
        }
        let Some((first, _)) = members.first() else { return };
        let first = *first;
        if messages.is_empty() {
            shard.end_batch(members, Outcomes::ok(), false, now);
            return;
        }
        let outcomes = Told::default();
        let (handler, watch) = (shard.work.handler.clone(), shard.work.watch.clone());
        let (batch, told) = (Batch::new(messages), outcomes.clone());
        // The handler is called by the task.
        let work = async move {
            let outcomes = watched_batch(watch.as_ref(), batch, |batch| handler.handle(batch)).await;
            *told.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcomes);
            Ok(())
        };
        let attempt = Attempt::unpolled(work, first, shard.done.clone());
        let task = if shard.common.execution == Execution::Blocking {
            let runtime = tokio::runtime::Handle::current();
            spawn_blocking(move || runtime.block_on(attempt)).abort_handle()
        } else {
            spawn(attempt).abort_handle()
        };
        for (slot, _) in &members {
            *place(&mut shard.work.batch_of, *slot) = Some((*slot, first));
        }
        shard.work.running.insert(first, Running { members, outcomes, gone: 0, timed_out: false, task });
    }

    fn drains(shard: &mut Shard<Self>, id: PartitionId) {
        shard.work.forget(id);
    }

    fn leaves(shard: &mut Shard<Self>, id: PartitionId) {
        shard.work.forget(id);
    }

    /// A batch of which a part is gone goes on for the rest.
    fn cut(shard: &mut Shard<Self>, slot: SlotId, reason: CutReason) {
        let of = shard.work.batch_of.get(slot.index()).copied().flatten().filter(|(of, _)| *of == slot);
        let Some(batch) = of.and_then(|(_, first)| shard.work.running.get_mut(&first)) else { return };
        match reason {
            CutReason::Timeout | CutReason::Stalled => batch.timed_out = true,
            CutReason::Drain => {
                batch.gone += 1;
                if batch.gone < batch.members.len() || shard.common.on_drain_deadline == OnDrainDeadline::Abandon {
                    return;
                }
            }
        }
        // One on a thread that blocks goes on, but what it says counts as cut.
        batch.task.abort();
    }

    fn end(shard: &mut Shard<Self>, first: SlotId, ending: Ending, now: Now) {
        let Some(Running { members, outcomes, timed_out, .. }) = shard.work.running.remove(&first) else { return };
        let told = outcomes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (outcomes, cut) = match (ending, told) {
            (Ending::Result(Err(panic)), _) => (Outcomes::failed(panic), timed_out),
            (Ending::Result(Ok(())), Some(told)) => (told, timed_out),
            _ => (Outcomes::ok(), true),
        };
        shard.end_batch(members, outcomes, cut, now);
    }

    fn abort(&mut self) {
        self.running.values().for_each(|batch| batch.task.abort());
    }

    fn drops_what_is_cut(common: &Common) -> bool {
        common.execution != Execution::Blocking && common.on_drain_deadline == OnDrainDeadline::Cancel
    }
}

impl<T: Decode, H: BatchHandler<T>> Shard<Batches<T, H>> {
    /// Tells the engine how a batch ended, and does what follows for each of its records.
    fn end_batch(&mut self, members: Vec<(SlotId, Option<Failure>)>, outcomes: Outcomes, cut: bool, now: Now) {
        let shown = members.iter().filter(|(_, unshown)| unshown.is_none()).count();
        let outcomes = match cut {
            true => Outcomes::failed(Failure::of_class(
                FailureClass::Timeout,
                Wish::Policy,
                "the handler took longer than its timeout",
            )),
            false => outcomes,
        };
        let attempts: Vec<_> = members.iter().filter_map(|(slot, _)| self.gated_attempt(*slot)).collect();
        let mut told = outcomes.of_each(shown).into_iter();
        let mut best = End::Nothing;
        let (mut ends, mut failures) = (Vec::with_capacity(members.len()), Vec::with_capacity(members.len()));
        let mut finishing = Vec::new();
        for (slot, unshown) in members {
            finishing.push(self.finishing(slot));
            let failure = unshown.or_else(|| {
                let told = told.next()?.err();
                best = better(best, told.as_ref().map_or(End::Succeeded, end_of));
                told
            });
            ends.push((slot, failure.as_ref().map_or(Outcome::Ok, outcome_of)));
            // What is finished by its end is not there afterwards.
            failures.push(failure.and_then(|failure| {
                let record = self.engine.record(slot).map(|(batch, index)| batch.record(index))?;
                Some((record, self.engine.history(slot).map_or(0, |(attempts, _)| attempts), failure))
            }));
        }
        self.ended_together(&attempts, best, now);
        let verdicts = self.engine.ended_together(&ends, now);
        for ((verdict, failure), finishing) in verdicts.into_iter().zip(failures).zip(finishing) {
            match (verdict, failure) {
                (Verdict::Finished, _) => {
                    self.counts.succeeded += 1;
                    self.tell_finished(finishing, Finish::Ok);
                }
                (Verdict::NotRun | Verdict::Stale, _) | (_, None) => {}
                (_, Some((record, attempts, failure))) => self.follow(verdict, &record, attempts, failure),
            }
        }
    }
}
