//! Handlers: a record's future is polled where it is made, and goes on as a task if it waits.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::task::AbortHandle;
use waterwheel_core::Now;
use waterwheel_core::engine::{CutReason, Outcome, SlotId};

use super::starts::place;
use super::{Common, Shard, Work};
use crate::body::Decode;
use crate::driver::attempt::{Attempt, Attempts, Ending, InPlace, LazyHandle, Output};
use crate::driver::classes::Passed;
use crate::driver::{spawn, spawn_blocking};
use crate::events::Event;
use crate::handler::Message;
use crate::hooks::Finish;
use crate::record::Record;
use crate::settings::{Execution, OnDrainDeadline};

/// First polls that take longer than this are work on the processor, better done as a task on another core.
const SLOW_POLL: Duration = Duration::from_micros(100);

/// Slow first polls in a row before the shard begins to spawn.
const SLOW_IN_A_ROW: u32 = 3;

/// First polls between two looks at the clock, while they are fast.
const STRIDE: u32 = 16;

/// Runs a handler for each record.
pub(crate) struct Handlers<T: Decode, H: Attempts<T>> {
    handler: Arc<H>,
    place: InPlace<H::Future>,
    pace: Pace,
    /// By slot: how to cut the attempt.
    running: Vec<Option<AbortHandle>>,
    /// Attempts on blocking threads that were to be cut: whatever they say counts as cut.
    fenced: HashSet<SlotId>,
    body: std::marker::PhantomData<fn() -> T>,
}

/// Decides whether handlers are polled in place first.
struct Pace {
    spawning: bool,
    slow: u32,
    stride: u32,
    since_look: u32,
    looked: Now,
}

impl<T: Decode, H: Attempts<T>> Handlers<T, H> {
    pub(crate) fn new(handler: Arc<H>, execution: Execution) -> Self {
        let spawning = execution != Execution::Inline;
        Self {
            handler,
            place: InPlace::new(),
            pace: Pace { spawning, slow: 0, stride: 1, since_look: 0, looked: Now::default() },
            running: Vec::new(),
            fenced: HashSet::new(),
            body: std::marker::PhantomData,
        }
    }

    fn keep(&mut self, slot: SlotId, task: AbortHandle) {
        *place(&mut self.running, slot) = Some(task);
    }
}

impl<T: Decode, H: Attempts<T>> Work for Handlers<T, H> {
    type Output = H::Output;

    fn start(shard: &mut Shard<Self>, record: Record, attempt: u32, first_failed_ms: Option<i64>, now: Now) {
        let Some(body) = shard.decode::<T>(&record, attempt, now) else { return };
        let passed = match shard.pass(&record) {
            Ok(passed) => passed,
            Err(failure) => return shard.hold_back(failure, attempt, now),
        };
        shard.counts.attempts += 1;
        let message = Message::new(record, attempt, first_failed_ms, body);
        if shard.work.pace.spawning {
            spawn_unpolled(shard, message, passed, now);
            return;
        }
        let Handlers { handler, place, .. } = &mut shard.work;
        match place.start(|| handler.attempt(message, passed)) {
            Poll::Ready(Ok(output)) if H::Output::PRODUCES => {
                shard.finish_open_with(output.into_outputs(), attempt, now)
            }
            Poll::Ready(Ok(_)) => {
                let finishing = shard.finishing_open();
                shard.engine.finish_open(Outcome::Ok, now);
                shard.counts.succeeded += 1;
                shard.tell_finished(finishing, Finish::Ok);
            }
            Poll::Ready(Err(failure)) => shard.fail_open(failure, attempt, now),
            Poll::Pending => {
                if let Some(slot) = shard.park_open(now) {
                    let attempt = shard.work.place.take(slot, shard.done.clone());
                    shard.work.keep(slot, spawn(attempt).abort_handle());
                }
            }
        }
    }

    fn begin(&mut self, now: Now) {
        self.pace.looked = now;
        self.pace.since_look = 0;
    }

    /// Looks at the clock now and then to see whether first polls are slow.
    fn started(shard: &mut Shard<Self>) -> Option<Now> {
        let pace = &mut shard.work.pace;
        if pace.spawning {
            return None;
        }
        pace.since_look += 1;
        if pace.since_look < pace.stride {
            return None;
        }
        let now = shard.common.clock.now();
        let each = now.since(pace.looked) / pace.since_look;
        (pace.looked, pace.since_look) = (now, 0);
        if each > SLOW_POLL {
            pace.stride = 1;
            pace.slow += 1;
            if pace.slow >= SLOW_IN_A_ROW && shard.common.execution == Execution::Inline {
                pace.spawning = true;
                tracing::warn!(
                    "handlers work for more than {SLOW_POLL:?} before they first wait: they run as tasks from now on, \
                     so as to use all cores; Execution::Spawn says so from the start"
                );
                shard.tell(Event::Spawning);
            }
        } else {
            pace.slow = 0;
            pace.stride = (pace.stride * 2).min(STRIDE);
        }
        Some(now)
    }

    fn cut(shard: &mut Shard<Self>, slot: SlotId, reason: CutReason) {
        if shard.common.execution == Execution::Blocking {
            // One that runs goes on; one that still waits for its thread is dropped.
            shard.work.fenced.insert(slot);
        } else if reason == CutReason::Drain && shard.common.on_drain_deadline == OnDrainDeadline::Abandon {
            return;
        }
        if let Some(Some(running)) = shard.work.running.get(slot.index()) {
            running.abort();
        }
    }

    fn ended(&mut self, slot: SlotId, ending: Ending<H::Output>) -> Ending<H::Output> {
        if let Some(running) = self.running.get_mut(slot.index()) {
            *running = None;
        }
        if self.fenced.remove(&slot) { Ending::Cut } else { ending }
    }

    fn abort(&mut self) {
        self.running.iter().flatten().for_each(AbortHandle::abort);
    }

    fn drops_what_is_cut(common: &Common) -> bool {
        common.execution != Execution::Blocking && common.on_drain_deadline == OnDrainDeadline::Cancel
    }
}

fn spawn_unpolled<T: Decode, H: Attempts<T>>(
    shard: &mut Shard<Handlers<T, H>>,
    message: Message<T>,
    passed: Option<Box<Passed>>,
    now: Now,
) {
    let Some(slot) = shard.park_open(now) else { return };
    let (handler, done) = (shard.work.handler.clone(), shard.done.clone());
    let task = if shard.common.execution == Execution::Blocking {
        let runtime = tokio::runtime::Handle::current();
        // The handler itself may block: it is called there, not on the shard. The attempt is made here, so that it
        // reports its end also if it is cut before it has a thread.
        let attempt = Attempt::unpolled(LazyHandle::new(handler, message, passed), slot, done);
        let work = spawn_blocking(move || runtime.block_on(attempt));
        work.abort_handle()
    } else {
        spawn(Attempt::unpolled(LazyHandle::new(handler, message, passed), slot, done)).abort_handle()
    };
    shard.work.keep(slot, task);
}
