//! Hooks beside the path: a bounded queue and a thread for each, so that none holds anything up.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{broadcast, watch};
use waterwheel_core::Now;

use super::clock::Clock;
use super::tally::{Counts, Tally};
use crate::events::{Event, HookFailure};
use crate::hooks::{Call, Moment};

/// Moments that a hook may be behind before some are dropped.
const QUEUE: usize = 8_192;

/// How long a call may take at most before it is told, whatever else may stall.
const HANGS_AFTER: Duration = Duration::from_secs(10);

/// How long a worker that has ended waits for its hooks.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The hooks of a worker.
pub(crate) struct Hooking {
    seats: Vec<Seat>,
    hangs_after: Duration,
    tally: Arc<Tally>,
}

/// Where one hook is told.
struct Seat {
    to: Sender<Moment>,
    /// Until its thread has it.
    from: Mutex<Option<Receiver<Moment>>>,
    state: Arc<State>,
}

struct State {
    /// The call under way: since when, of which method, and whether it was told to hang.
    call: Mutex<Option<(Now, &'static str, bool)>>,
    /// No more is coming.
    closed: AtomicBool,
    ended: watch::Sender<bool>,
}

impl State {
    fn call(&self) -> MutexGuard<'_, Option<(Now, &'static str, bool)>> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells listeners, and hooks where there are any, that something happened.
pub(crate) fn tell(listeners: &broadcast::Sender<Event>, hooks: Option<&Hooking>, event: Event) {
    if let Some(hooks) = hooks {
        hooks.tell(Moment::Event(event.clone()));
    }
    // No listener is no mistake.
    let _ = listeners.send(event);
}

impl Hooking {
    /// Room for that many hooks. Without any there is nobody to tell.
    pub(crate) fn new(hooks: usize, stall_after: Duration, tally: Arc<Tally>) -> Option<Arc<Self>> {
        let seat = |_| {
            let (to, from) = channel(QUEUE);
            let (call, closed, ended) = (Mutex::new(None), AtomicBool::new(false), watch::Sender::new(false));
            Seat { to, from: Mutex::new(Some(from)), state: Arc::new(State { call, closed, ended }) }
        };
        let seats = (0..hooks).map(seat).collect();
        (hooks > 0).then(|| Arc::new(Self { seats, hangs_after: stall_after.min(HANGS_AFTER), tally }))
    }

    /// Tells all of them, as far as there is room.
    pub(crate) fn tell(&self, moment: Moment) {
        for seat in &self.seats {
            if seat.to.try_send(moment.clone()).is_err() {
                self.tally.add(&Counts { hook_moments_dropped: 1, ..Counts::default() });
            }
        }
    }

    /// Begins to call them, each on a thread of its own that ends when [`Ending`] is dropped. To be called on the worker's
    /// runtime.
    pub(crate) fn begin(
        self: &Arc<Self>,
        calls: Vec<Call>,
        clock: Clock,
        fail: impl Fn(Event) + Clone + Send + 'static,
    ) -> Ending {
        for (seat, call) in self.seats.iter().zip(calls) {
            let from = seat.from.lock().unwrap_or_else(PoisonError::into_inner).take();
            let Some(from) = from else { continue };
            let (runtime, state) = (tokio::runtime::Handle::current(), seat.state.clone());
            let (tally, fail) = (self.tally.clone(), fail.clone());
            let failed = move |hook, how| {
                tally.add(&Counts { hook_failures: 1, ..Counts::default() });
                fail(Event::HookFailed { hook, how });
            };
            let serve = move || runtime.block_on(serve(from, call, state, clock, failed));
            let thread = std::thread::Builder::new().name("waterwheel-hook".to_owned()).spawn(serve);
            if let Err(error) = thread {
                tracing::error!(%error, "no thread for a hook: it is told nothing");
                seat.state.ended.send_replace(true);
            }
        }
        Ending(self.clone())
    }

    /// The calls that hang, each told once.
    pub(crate) fn hanging(&self, now: Now) -> Vec<Event> {
        let hangs = |seat: &Seat| {
            let mut call = seat.state.call();
            let (since, hook, told) = call.as_mut()?;
            let time = now.since(*since);
            if *told || time < self.hangs_after {
                return None;
            }
            *told = true;
            self.tally.add(&Counts { hook_failures: 1, ..Counts::default() });
            Some(Event::HookFailed { hook, how: HookFailure::Hangs(time) })
        };
        self.seats.iter().filter_map(hangs).collect()
    }

    /// Waits until all have been told everything, for at most two seconds.
    pub(crate) async fn end(&self) {
        let ends = self.seats.iter().map(|seat| async {
            seat.state.closed.store(true, Ordering::SeqCst);
            // Full, or its thread has ended: both are seen below.
            let _ = seat.to.send(Moment::End).await;
            // The sender is in the seat.
            let _ = seat.state.ended.subscribe().wait_for(|ended| *ended).await;
        });
        let ended = futures_util::future::join_all(ends);
        if tokio::time::timeout(LAST_WORDS, ended).await.is_err() {
            tracing::warn!("a hook does not end: it is left behind");
        }
    }
}

/// Ends the hooks' threads when it is dropped, each behind what it has yet to be told.
pub(crate) struct Ending(Arc<Hooking>);

impl Drop for Ending {
    fn drop(&mut self) {
        for seat in &self.0.seats {
            seat.state.closed.store(true, Ordering::SeqCst);
            // Without room, there is something left after which its thread looks at `closed`.
            let _ = seat.to.try_send(Moment::End);
        }
    }
}

async fn serve(
    mut from: Receiver<Moment>,
    call: Call,
    state: Arc<State>,
    clock: Clock,
    failed: impl Fn(&'static str, HookFailure),
) {
    while let Some(moment) = from.recv().await {
        let name = moment.name();
        if matches!(moment, Moment::End) {
            break;
        }
        *state.call() = Some((clock.now(), name, false));
        let called = AssertUnwindSafe(async { call(moment).await }).catch_unwind().await;
        *state.call() = None;
        if called.is_err() {
            failed(name, HookFailure::Panicked);
        }
        if state.closed.load(Ordering::SeqCst) && from.is_empty() {
            break;
        }
    }
    state.ended.send_replace(true);
}
