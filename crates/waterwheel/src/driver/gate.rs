//! The gate before starts, shared by the shards of a worker: breaker, rate limits, adaptive concurrency.
//!
//! A lock around the core's [`Gate`](core::Gate), taken a few times a turn and never for a record; and the wakers of those
//! that wait at it. It outlives sessions, for whoever watches; each begins it anew.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::broadcast;
use waterwheel_core::Now;
use waterwheel_core::adaptive::{LimitReason, Sample};
use waterwheel_core::breaker::{BreakerState, Trial, Verdict};
use waterwheel_core::engine::Wish;
use waterwheel_core::gate::{self as core, Answer, Leave, Policies};

use super::hooking::{Hooking, tell};
use super::pool::Pool;
use super::tally::{Counts, Tally};
use crate::events::Event;
use crate::failure::{Failure, FailureClass};

/// Who hears of a worker's breakers.
#[derive(Clone)]
pub(crate) struct Listeners {
    pub(crate) events: broadcast::Sender<Event>,
    pub(crate) hooks: Option<Arc<Hooking>>,
    pub(crate) tally: Arc<Tally>,
}

impl Listeners {
    /// The worker's breaker, or that of a class, is in another state.
    pub(crate) fn breaker_changed(&self, class: Option<Arc<str>>, state: BreakerState) {
        if state == BreakerState::Open {
            self.tally.add(&Counts { breaker_opened: 1, ..Counts::default() });
        }
        match &class {
            None => tracing::warn!(state = state.name(), "the circuit breaker changed"),
            Some(class) => tracing::warn!(state = state.name(), ?class, "the circuit breaker of a class changed"),
        }
        tell(&self.events, self.hooks.as_deref(), Event::BreakerChanged { class, state });
    }
}

pub(crate) struct Gate {
    policies: Policies,
    state: Mutex<State>,
    /// The breaker is not closed.
    is_shut: AtomicBool,
    /// The stamp of leave that is good; read without the lock, before each start.
    stamp: AtomicU64,
    /// The adaptive limit; read without the lock, once a turn.
    limit: AtomicUsize,
    listeners: Listeners,
}

struct State {
    gate: core::Gate,
    /// By shard: who waits.
    wakers: Vec<Option<Waker>>,
    share: Option<f64>,
    /// Moves of the limit in earlier sessions.
    moves: [u64; LimitReason::ALL.len()],
}

/// A gate as it is now.
pub(crate) struct View {
    pub(crate) breaker: Option<(BreakerState, Option<Now>)>,
    /// Records and bytes a second that are this worker's, and its share of a group-wide limit.
    pub(crate) rates: Option<(Option<f64>, Option<f64>, Option<f64>)>,
    pub(crate) limit: Option<LimitView>,
}

pub(crate) struct LimitView {
    pub(crate) limit: usize,
    pub(crate) base: Option<Duration>,
    pub(crate) reason: Option<LimitReason>,
    pub(crate) moves: [u64; LimitReason::ALL.len()],
}

impl Gate {
    /// None where nothing is to be held back.
    pub(crate) fn new(policies: &Policies, listeners: &Listeners, now: Now) -> Option<Arc<Self>> {
        let gate = || core::Gate::new(policies, now);
        policies.are_any().then(|| {
            let state = State { gate: gate(), wakers: Vec::new(), share: None, moves: Default::default() };
            let gate = Self {
                policies: policies.clone(),
                state: Mutex::new(state),
                is_shut: AtomicBool::new(false),
                stamp: AtomicU64::new(0),
                limit: AtomicUsize::new(0),
                listeners: listeners.clone(),
            };
            gate.begin(now);
            Arc::new(gate)
        })
    }

    /// A session begins: with the breaker closed, buckets empty and the limit at its floor.
    pub(crate) fn begin(&self, now: Now) {
        self.change(|state| {
            if let Some(limit) = &state.gate.limit {
                state.moves.iter_mut().zip(limit.moves()).for_each(|(sum, moves)| *sum += moves);
            }
            let moves = state.moves;
            let (gate, wakers, share) = (core::Gate::new(&self.policies, now), Vec::new(), None);
            *state = State { gate, wakers, share, moves };
            self.limit.store(state.gate.limit.as_ref().map_or(0, |limit| limit.limit()), Ordering::Relaxed);
        });
    }

    /// Changes the state, tells what the breaker became, and wakes whose turn it is, if that may have come of it.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        self.change_by(None, change)
    }

    /// The same by a shard that asks: it is not woken by its own question.
    fn change_by<T>(&self, asks: Option<usize>, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.gate.breaker();
        let changed = change(&mut state);
        let after = state.gate.breaker();
        self.stamp.store(state.gate.stamp(), Ordering::Relaxed);
        if let Some(now) = after.filter(|_| after != before) {
            self.is_shut.store(now != BreakerState::Closed, Ordering::Relaxed);
            self.listeners.breaker_changed(None, now);
        }
        let first = state.gate.first_waiting().filter(|first| asks != Some(*first));
        if let Some(waker) = first.and_then(|shard| state.wakers.get_mut(shard)?.take()) {
            waker.wake();
        }
        changed
    }

    /// A shard would like to start up to `wanted` records. One that has to wait is woken when its turn comes.
    pub(crate) fn ask(&self, shard: usize, wanted: u32, now: Now, waker: &Waker) -> Answer {
        self.change_by(Some(shard), |state| {
            if state.wakers.len() <= shard {
                state.wakers.resize(shard + 1, None);
            }
            let answer = state.gate.ask(shard, wanted, now);
            state.wakers[shard] = (!matches!(answer, Answer::Go(_))).then(|| waker.clone());
            answer
        })
    }

    /// A shard has nothing to start.
    pub(crate) fn leave_queue(&self, shard: usize) {
        self.change(|state| state.gate.leave_queue(shard));
    }

    /// A shard has started that many of those it had leave for, of so many bytes. One that lacks credits for the others
    /// stays the first in the queue until it has looked for some: else two shards that each have only the one or the other
    /// would wake each other for ever.
    pub(crate) fn settle(&self, leave: Leave, started: u32, bytes: u64, lacks_credits: Option<usize>, now: Now) {
        self.change_by(lacks_credits, |state| {
            state.gate.settle(leave, started, bytes, now);
            if let Some(shard) = lacks_credits {
                state.gate.stay_first(shard);
            }
        });
    }

    /// So many attempts succeeded, and then one failed that was begun then.
    pub(crate) fn failed(&self, succeeded: u32, begun: Now, now: Now) {
        self.change(|state| {
            state.gate.succeeded(succeeded, now);
            state.gate.failed(begun, now);
        });
    }

    /// A probe ended.
    pub(crate) fn probed(&self, trial: Trial, how: Verdict, now: Now) {
        self.change(|state| state.gate.probed(trial, how, now));
    }

    /// So many attempts succeeded; and those of the sample ended. What the next sample goes by.
    pub(crate) fn ended(&self, succeeded: u32, sample: &Sample, pool: &Pool, now: Now) -> (u32, Now) {
        self.change(|state| {
            state.gate.succeeded(succeeded, now);
            let Some(limit) = &mut state.gate.limit else { return (0, now) };
            if limit.take(sample, now) {
                // Under the lock, or two moves could reach the pool in the wrong order.
                pool.resize(limit.limit());
                self.limit.store(limit.limit(), Ordering::Relaxed);
            }
            limit.epoch()
        })
    }

    /// Whether leave that was given is good yet.
    pub(crate) fn is_good(&self, leave: &Leave) -> bool {
        self.stamp.load(Ordering::Relaxed) == leave.stamp
    }

    /// Whether the breaker lets nothing through but probes.
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Relaxed)
    }

    /// The adaptive limit; `None` where there is none.
    pub(crate) fn limit(&self) -> Option<usize> {
        Some(self.limit.load(Ordering::Relaxed)).filter(|limit| *limit > 0)
    }

    /// Whether the limit is that of the whole group.
    pub(crate) fn is_group_wide(&self) -> bool {
        self.policies.rate.as_ref().is_some_and(|rate| rate.is_group_wide())
    }

    /// What of a group-wide limit is this worker's now.
    pub(crate) fn set_share(&self, share: f64, now: Now) {
        self.change(|state| {
            state.share = Some(share);
            state.gate.set_share(share, now);
        });
    }

    pub(crate) fn view(&self) -> View {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (records, bytes) = state.gate.rates();
        View {
            breaker: state.gate.breaker().map(|breaker| (breaker, state.gate.open_until())),
            rates: self.policies.rate.is_some().then_some((records, bytes, state.share)),
            limit: state.gate.limit.as_ref().map(|limit| LimitView {
                limit: limit.limit(),
                base: limit.base(),
                reason: limit.reason(),
                moves: std::array::from_fn(|n| state.moves[n] + limit.moves()[n]),
            }),
        }
    }
}

/// What a failure says to a breaker. One that is the record's own fault says nothing of what the handler needs.
pub(crate) fn end_of(failure: &Failure) -> Verdict {
    let is_records = matches!(failure.class, FailureClass::Decode | FailureClass::Dropped)
        || matches!(failure.wish, Wish::DeadLetter | Wish::Skip);
    if is_records || failure.again.is_some() { Verdict::Nothing } else { Verdict::Failed }
}
