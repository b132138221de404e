//! The engine of one shard: takes records in, says which to run, and learns how they ended.
//!
//! Driven like a protocol core: the driver reports what happened ([`Engine::fetched`], [`Engine::ended`],
//! [`Engine::drain`], [`Engine::tick`] …) with the time, asks for the next record to start ([`Engine::next_start`]) and
//! carries out the [`Action`]s.
//!
//! A record in work is *open* (being polled in place; at most one), in a slot (running elsewhere, waiting for a retry,
//! settling), queued in its lane, or in a batch that is not taken up yet:
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
//! Owns **I3**: each started record ends in exactly one outcome, panic, timeout and cancellation included; **I4** (with
//! the epoch in every call): a result of an older assignment changes nothing, a lost partition is never committed;
//! **I6**: records and pinned bytes in work stay under the budget, and each partition gets its share; **I7**: a
//! dead-lettered record is finished only after the broker acknowledged it.

mod assignment;
mod batches;
mod endings;
mod intake;
mod partition;
mod slots;
mod types;
mod views;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

pub use slots::SlotId;
pub use types::{Action, CutReason, Exhausted, Outcome, Resume, Settings, Start, Verdict, Wish};
pub use views::{CommitPoint, HoldReason, InWork, PartitionView, WorkStage};

use self::batches::Batches;
use self::partition::Partition;
use self::slots::{Slot, Slots};
use crate::budget::Credits;
use crate::lanes::{LaneKey, Waiting};
use crate::types::{Epoch, Now, PartitionId, Records};

/// Starts in a row from one partition before the next one has its turn: long enough that a batch's memory is walked in
/// order, short enough that a partition waits for microseconds.
const QUANTUM: u32 = 64;

/// Most offsets that a partition keeps of records it has not kept (8 bytes each).
const DEFERRED_LIMIT: usize = 1 << 20;

/// How often sparse batches are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Retry(SlotId),
    Settle(SlotId),
    Timeout(SlotId, u32),
    Drain(PartitionId, Epoch),
    Sweep,
}

/// Where the open record came from.
enum Source {
    Fresh,
    Slot(SlotId),
}

struct Open {
    partition: PartitionId,
    batch: u32,
    index: u32,
    offset: i64,
    lane: Option<LaneKey>,
    /// The lane is marked busy already (it was queued or retried).
    occupied: bool,
    attempt: u32,
    first_failed_ms: Option<i64>,
    source: Source,
}

/// The engine of one shard. See the module's documentation.
pub struct Engine<R> {
    settings: Settings,
    partitions: Vec<Option<Box<Partition>>>,
    assigned: usize,
    /// Partitions of the whole worker, by which shares are made.
    worker_partitions: usize,
    batches: Batches<R>,
    slots: Slots,
    /// Lanes whose record of an earlier assignment still runs; by partition and lane.
    ghosts: HashMap<(PartitionId, LaneKey), usize, foldhash::fast::FixedState>,
    turn: VecDeque<PartitionId>,
    turns_left: u32,
    starved: VecDeque<PartitionId>,
    credits: Credits,
    timers: BinaryHeap<Reverse<(Now, Timer)>>,
    actions: VecDeque<Action>,
    open: Option<Open>,
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
            batches: Batches::new(),
            slots: Slots::default(),
            ghosts: HashMap::default(),
            turn: VecDeque::new(),
            turns_left: QUANTUM,
            starved: VecDeque::new(),
            credits: Credits::default(),
            timers: BinaryHeap::new(),
            actions: VecDeque::new(),
            open: None,
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
        while let Some(Reverse((at, timer))) = self.timers.peek().copied() {
            if at > now {
                return;
            }
            self.timers.pop();
            match timer {
                Timer::Retry(slot) => self.retry_due(slot),
                Timer::Settle(slot) => self.settle_due(slot),
                Timer::Timeout(slot, attempt) => self.time_out(slot, attempt),
                Timer::Drain(id, epoch) => self.cut_drain(id, epoch),
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

    /// Starts nothing from that time on, because the group may have given the partitions to another member by then.
    pub fn set_lease(&mut self, until: Option<Now>) {
        self.lease = until;
    }

    /// How many credits the engine could use now.
    pub fn wanted_credits(&self) -> usize {
        let reserves: usize = self.partitions.iter().flatten().map(|p| self.credits.missing_reserve(&p.share)).sum();
        let starts = if self.starved.is_empty() { 0 } else { self.settings.concurrency };
        (reserves + starts).saturating_sub(self.credits.free())
    }

    /// Adds credits from the worker's pool.
    pub fn grant(&mut self, credits: usize) {
        self.credits.grant(credits);
        for p in self.partitions.iter_mut().flatten() {
            self.credits.fill_reserve(&mut p.share);
        }
        self.wake_starved();
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
        if let Some(p) = self.partitions[id.index()].as_deref_mut().filter(|p| !p.in_turn && p.is_active()) {
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

    /// Records of one partition that may wait for their key.
    fn waiting_share(&self) -> usize {
        (self.settings.waiting / self.worker_partitions.max(self.assigned).max(1)).max(1)
    }

    /// Bytes of one partition.
    fn byte_share(&self) -> usize {
        (self.settings.bytes / self.worker_partitions.max(self.assigned).max(1)).max(1)
    }

    /// Holds a partition whose batches are over its share, and releases it when they are down to half of it.
    fn update_hold(&mut self, id: PartitionId) {
        let share = self.byte_share();
        let Some(p) = self.partitions.get_mut(id.index()).and_then(Option::as_deref_mut) else { return };
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
        self.timers.push(Reverse((now + SWEEP_EVERY, Timer::Sweep)));
        for index in 0..self.partitions.len() {
            let Some(p) = self.partitions[index].as_deref_mut().filter(|p| p.waiting > 0) else { continue };
            for (_, lane) in p.lanes.iter_mut() {
                for waiting in &mut lane.queue {
                    if self.batches.is_sparse(waiting.batch)
                        && let Some((batch, growth)) = self.batches.detach(waiting.batch, waiting.index)
                    {
                        *waiting = Waiting { batch, index: 0 };
                        p.bytes = p.bytes.saturating_add_signed(growth);
                    }
                }
            }
            self.update_hold(PartitionId(index as u32));
        }
    }
}

fn wall_ms(wall_start_ms: i64, at: Now) -> i64 {
    wall_start_ms.saturating_add(i64::try_from(at.since_start().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
