//! The engine of one shard: takes records in, says which to run, and learns how they ended.
//!
//! Driven like a protocol core: the driver reports what happened ([`Engine::fetched`], [`Engine::ended`],
//! [`Engine::drain`], [`Engine::tick`] …) with the time, asks for the next record to start ([`Engine::next_start`]) and
//! carries out the [`Action`]s.
//!
//! A record in work is *open* (being polled in place; at most one), in a slot (not due yet, running elsewhere, waiting for a
//! retry, settling), queued in its lane, or in a batch that is not taken up yet:
//!
//! ```text
//! fetched ─▶ backlog ─▶ open ──ok──▶ finished (ledger)
//!               │         │ pending ─▶ slot: running ──ok──▶ finished
//!               ▼         │ failed         │ failed
//!          lane's queue   └──────┬─────────┘
//!               │                ├─▶ backoff ─▶ due ─▶ open …
//!               └─▶ open …       └─▶ settling ─ack─▶ finished;  ─fail─▶ settle back-off ─▶ settling
//! ```
//!
//! One that is not due when it is taken up waits in a slot first, and opens then like one whose back-off is over. One whose key
//! follows a dead letter settles without having been open.
//!
//! Where records are worked on in batches, one that is open goes to a slot and is *gathered* there before it runs.
//!
//! Owns **I3**: each started record ends in exactly one outcome, panic, timeout and cancellation included; **I4** (with
//! the epoch in every call): a result of an older assignment changes nothing, a lost partition is never committed;
//! **I6**: records and pinned bytes in work stay under the budget, and each partition gets its share; **I7**: a
//! dead-lettered record is finished only after the broker acknowledged it.

mod assignment;
mod batches;
mod delays;
mod endings;
mod explain;
mod follow;
mod gather;
mod intake;
mod partition;
mod slots;
mod tiers;
mod types;
mod views;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

pub use explain::{Explained, Head, KeyView, Place, RecordView, Subject};
pub use slots::SlotId;
pub use types::{Action, CutReason, Exhausted, Gather, Outcome, Resume, Settings, Stall, Start, Verdict, Wish};
pub use views::{CommitPoint, HoldReason, InWork, PartitionView, WorkStage};

use self::batches::Batches;
use self::gather::Gathering;
use self::partition::{Partition, Phase};
use self::slots::{Slot, Slots, Stage};
use crate::budget::Credits;
use crate::lanes::{LaneKey, Waiting};
use crate::types::{Epoch, Now, PartitionId, Records};

/// Starts in a row from one partition before the next one has its turn: long enough that a batch's memory is walked in
/// order, short enough that a partition waits for microseconds.
const QUANTUM: u32 = 64;

/// Most offsets that a partition keeps of records it has not kept (8 bytes each).
const DEFERRED_LIMIT: usize = 1 << 20;

/// Most records that a partition sets aside (they wait for a retry, or for a dead letter's answer), unless its share of
/// what may wait is larger: about 400 bytes each beside the record, which nothing else would bound when all fail.
const ASIDE_LIMIT: usize = 1024;

/// Timers that may be dead beside those that live before they are cleared away.
const DEAD_TIMERS: usize = 64;

/// How often sparse batches are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Retry(SlotId),
    Settle(SlotId),
    Timeout(SlotId),
    Stall(SlotId),
    Drain(PartitionId),
    Gather,
    Sweep,
}

/// The record that is polled in place. Written where it stays, and read field by field: a copy of the whole, right after its
/// fields were written, waits for the processor's store buffer (three such copies were half of a record's step).
#[derive(Clone, Copy)]
struct Open {
    partition: PartitionId,
    batch: u32,
    index: u32,
    attempt: u32,
    offset: i64,
    /// `None` where it has none, and also where it was not looked for, because all lanes are free.
    lane: Option<LaneKey>,
    /// The lane is marked busy already (it was queued or retried).
    occupied: bool,
    /// Where it waited for this attempt; `None` for a first one.
    slot: Option<SlotId>,
}

impl Open {
    /// A record that begins its first attempt.
    fn fresh(partition: PartitionId, at: Waiting, offset: i64, lane: Option<LaneKey>, occupied: bool) -> Self {
        Self { partition, batch: at.batch, index: at.index, attempt: 1, offset, lane, occupied, slot: None }
    }
}

/// What each partition may take of the worker's budgets.
#[derive(Default)]
struct Shares {
    /// Records that may wait for their key.
    waiting: usize,
    /// Bytes of its batches.
    bytes: usize,
}

/// The engine of one shard. See the module's documentation.
pub struct Engine<R> {
    settings: Settings,
    partitions: Vec<Option<Box<Partition>>>,
    assigned: usize,
    /// Partitions of the whole worker, by which shares are made.
    worker_partitions: usize,
    shares: Shares,
    batches: Batches<R>,
    slots: Slots,
    /// Lanes whose record of an earlier assignment still runs; by partition and lane.
    ghosts: HashMap<(PartitionId, LaneKey), usize, foldhash::fast::FixedState>,
    turn: VecDeque<PartitionId>,
    turns_left: u32,
    starved: VecDeque<PartitionId>,
    credits: Credits,
    /// Some partition may lack part of its reserve. Once all have theirs they keep it, and nobody looks at each any more.
    reserves_lacking: bool,
    timers: BinaryHeap<Reverse<(Now, Timer)>>,
    actions: VecDeque<Action>,
    open: Option<Open>,
    /// The last reading of the clock.
    now: Now,
    /// Records whose time and the clock disagreed, not told yet.
    disagreed: u64,
    gathering: Gathering,
    paused: bool,
    lease: Option<Now>,
    sweeping: bool,
}

impl<R: Records> Engine<R> {
    /// An engine without partitions and credits.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            partitions: Vec::new(),
            assigned: 0,
            worker_partitions: 0,
            shares: Shares::default(),
            batches: Batches::new(),
            slots: Slots::default(),
            ghosts: HashMap::default(),
            turn: VecDeque::new(),
            turns_left: QUANTUM,
            starved: VecDeque::new(),
            credits: Credits::default(),
            reserves_lacking: false,
            timers: BinaryHeap::new(),
            actions: VecDeque::new(),
            open: None,
            now: Now::default(),
            disagreed: 0,
            gathering: Gathering::default(),
            paused: false,
            lease: None,
            sweeping: false,
        }
    }

    // ---- time -----------------------------------------------------------------------------------------------------

    /// When [`tick`](Self::tick) is due next.
    pub fn next_timer(&self) -> Option<Now> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Lets time pass.
    pub fn tick(&mut self, now: Now) {
        self.now = now;
        self.run_overdue(now);
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Retry(slot) => self.retry_due(slot),
                Timer::Settle(slot) => self.settle_due(slot),
                Timer::Timeout(slot) => self.cut_late(slot, self.settings.handler_timeout, CutReason::Timeout, now),
                Timer::Stall(slot) => self.cut_late(slot, self.stalls_after(), CutReason::Stalled, now),
                Timer::Drain(id) => self.cut_drain(id, at),
                // It wakes the driver: this began with what is overdue.
                Timer::Gather => {}
                Timer::Sweep => self.sweep(now),
            }
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    // ---- steering -------------------------------------------------------------------------------------------------

    /// Starts nothing until [`resume`](Self::resume). What runs goes on.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Starts records again.
    pub fn resume(&mut self) {
        self.paused = false;
    }

    /// Starts nothing of a partition until it is resumed. What runs goes on, what is fetched stays.
    pub fn set_paused(&mut self, id: PartitionId, epoch: Epoch, paused: bool) {
        let Some(p) = self.partition_mut(id).filter(|p| p.epoch == epoch) else { return };
        p.paused = paused;
        if !paused {
            self.enqueue(id);
        }
    }

    /// Takes up no more records of a partition while its commit map does not fit. What was taken up goes on.
    pub fn set_map_full(&mut self, id: PartitionId, epoch: Epoch, full: bool) {
        let Some(p) = self.partition_mut(id).filter(|p| p.epoch == epoch) else { return };
        p.map_full = full;
        if !full {
            self.enqueue(id);
        }
    }

    /// Starts nothing from that time on, because the group may have given the partitions to another member by then.
    pub fn set_lease(&mut self, until: Option<Now>) {
        self.lease = until;
    }

    /// How many credits the engine could use now.
    pub fn wanted_credits(&mut self) -> usize {
        let mut reserves = 0;
        if self.reserves_lacking {
            let active = self.partitions.iter().flatten().filter(|p| p.is_active());
            reserves = active.map(|p| self.credits.missing_reserve(&p.share)).sum();
            self.reserves_lacking = reserves > 0;
        }
        let starts = if self.starved.is_empty() { 0 } else { self.settings.concurrency };
        (reserves + starts).saturating_sub(self.credits.free())
    }

    /// Adds credits from the worker's pool.
    pub fn grant(&mut self, credits: usize) {
        self.credits.grant(credits);
        if self.reserves_lacking {
            self.fill_reserves();
        }
        self.wake_starved();
    }

    fn fill_reserves(&mut self) {
        for index in 0..self.partitions.len() {
            let Some(p) = self.partitions[index].as_deref_mut().filter(|p| p.is_active()) else { continue };
            if self.credits.missing_reserve(&p.share) > 0 {
                self.credits.fill_reserve(&mut p.share);
                // It may have starved for the credit that it keeps now: no free one will wake it.
                self.enqueue(PartitionId(index as u32));
            }
        }
    }

    /// Takes back the credits that nobody here needs now.
    pub fn surrender_credits(&mut self) -> usize {
        self.credits.surrender()
    }

    // ---- inside ---------------------------------------------------------------------------------------------------

    fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(id.index())?.as_deref()
    }

    fn partition_mut(&mut self, id: PartitionId) -> Option<&mut Partition> {
        self.partitions.get_mut(id.index())?.as_deref_mut()
    }

    fn enqueue(&mut self, id: PartitionId) {
        let p = self.partitions.get_mut(id.index()).and_then(Option::as_deref_mut);
        if let Some(p) = p.filter(|p| !p.in_turn && p.is_active()) {
            p.in_turn = true;
            self.turn.push_back(id);
        }
    }

    /// Gives partitions that lacked a credit another turn, one for each credit that is free.
    fn wake_starved(&mut self) {
        for _ in 0..self.credits.free() {
            let Some(id) = self.starved.pop_front() else { return };
            if let Some(p) = self.partition_mut(id) {
                p.in_starved = false;
                self.enqueue(id);
            }
        }
    }

    /// Notes a timer. Those that have come to nothing are cleared away when they are the greater part, so that a long
    /// time-out costs no memory for each of the attempts that ended long before.
    fn set_timer(&mut self, at: Now, timer: Timer) {
        self.timers.push(Reverse((at, timer)));
        if self.timers.len() > 2 * (self.slots.len() + self.assigned) + DEAD_TIMERS {
            let mut timers = std::mem::take(&mut self.timers);
            timers.retain(|Reverse((at, timer))| self.is_live(*at, *timer));
            self.timers = timers;
        }
    }

    fn is_live(&self, at: Now, timer: Timer) -> bool {
        let stage = |slot| self.slots.get(slot).map(|s| s.stage);
        match timer {
            Timer::Retry(slot) => {
                matches!(stage(slot), Some(Stage::Delayed { until } | Stage::Backoff { until }) if until == at)
            }
            Timer::Settle(slot) => matches!(stage(slot), Some(Stage::SettleBackoff { .. })),
            Timer::Timeout(slot) => is_limit(stage(slot), self.settings.handler_timeout, at),
            Timer::Stall(slot) => is_limit(stage(slot), self.stalls_after(), at),
            Timer::Drain(id) => self.partition(id).is_some_and(|p| matches!(p.phase, Phase::Draining { .. })),
            Timer::Gather => self.gathering.is_due(at),
            Timer::Sweep => true,
        }
    }

    /// Makes the shares anew, after the number of partitions changed.
    fn share_out(&mut self) {
        let partitions = self.worker_partitions.max(self.assigned).max(1);
        let of = |budget: usize| (budget / partitions).max(1);
        self.shares = Shares { waiting: of(self.settings.waiting), bytes: of(self.settings.bytes) };
    }

    /// Holds a partition whose batches are over its share, and releases it when they are down to half of it.
    fn update_hold(&mut self, id: PartitionId) {
        let share = self.shares.bytes;
        let p = self.partitions.get_mut(id.index()).and_then(Option::as_deref_mut);
        let Some(p) = p.filter(|p| p.is_active()) else { return };
        if !p.held && p.bytes > share {
            p.held = true;
            self.actions.push_back(Action::Hold(id));
        } else if p.held && p.bytes <= share / 2 {
            p.held = false;
            self.actions.push_back(Action::Release(id));
        }
    }

    fn vacate(&mut self, id: PartitionId, key: LaneKey) {
        if let Some(p) = self.partition_mut(id) {
            p.lanes.vacate(key);
        }
        self.refill(id, key);
        self.enqueue(id);
    }

    /// Copies waiting records out of batches of which little else is alive.
    fn sweep(&mut self, now: Now) {
        if self.assigned == 0 {
            self.sweeping = false;
            return;
        }
        self.set_timer(now + SWEEP_EVERY, Timer::Sweep);
        for index in 0..self.partitions.len() {
            let Some(p) = self.partitions[index].as_deref_mut().filter(|p| p.waiting > 0) else { continue };
            p.lanes.for_each_waiting(|waiting| {
                if self.batches.is_sparse(waiting.batch)
                    && let Some((batch, growth)) = self.batches.detach(waiting.batch, waiting.index)
                {
                    *waiting = Waiting { batch, index: 0 };
                    p.bytes = p.bytes.saturating_add_signed(growth);
                }
            });
            self.update_hold(PartitionId(index as u32));
        }
    }
}

/// Whether an attempt that may take that long has to end at `at`.
fn is_limit(stage: Option<Stage>, within: Option<Duration>, at: Now) -> bool {
    matches!(stage, Some(Stage::Running { since, cut: None }) if within.is_some_and(|within| since + within == at))
}

fn wall_ms(wall_start_ms: i64, at: Now) -> i64 {
    wall_start_ms.saturating_add(at.millis())
}

#[cfg(test)]
mod tests;
