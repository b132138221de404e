//! One worker: the core's group side and engines, and around them what a driver keeps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU128;
use std::rc::Rc;
use std::time::Duration;

use waterwheel_core::breaker::Trial;
use waterwheel_core::engine::{CommitPoint, CutReason, Engine, Resume, SlotId};
use waterwheel_core::group::{Group, GroupSettings};
use waterwheel_core::{Epoch, Now, PartitionId};

use super::clock::Clock;
use super::coordinator::{GroupEvent, MemberId};
use super::gate::Gated;
use super::log::{Committed, SimBatch};
use super::setup::Setup;
use crate::properties::{Follows, LifeId, WorkerId};

/// A letter to a shard.
pub(crate) enum ToShard {
    Assign(PartitionId, Epoch, Resume),
    Refetch(PartitionId, Epoch, i64),
    Drain(Vec<PartitionId>, Now),
    MapFull(PartitionId, Epoch, bool),
    Lose(Vec<PartitionId>),
    Close(Vec<PartitionId>),
    Collect,
    Partitions(usize),
    Lease(Now),
    Pause,
    Resume,
}

/// A letter to the coordinator of the worker.
pub(crate) enum FromShard {
    Drained(PartitionId, CommitPoint),
    Collected(Vec<(PartitionId, CommitPoint)>),
    /// The log has no such offset.
    OutOfRange(PartitionId, Epoch, i64),
}

/// Where a shard reads a partition.
pub(crate) struct Cursor {
    pub(crate) epoch: Epoch,
    pub(crate) next: i64,
    pub(crate) held: bool,
    /// The log was cut off or made anew below `next` since.
    pub(crate) diverged: bool,
    /// It has told that it cannot go on.
    pub(crate) stopped: bool,
    /// To be read again.
    pub(crate) wanted: BTreeSet<i64>,
}

pub(crate) struct Shard {
    pub(crate) engine: Engine<SimBatch>,
    pub(crate) inbox: VecDeque<ToShard>,
    pub(crate) cursors: BTreeMap<PartitionId, Cursor>,
    pub(crate) paused: bool,
    pub(crate) gathered: Vec<Gathered>,
    /// Batches that were on their way when their assignment ended.
    pub(crate) stale: Vec<SimBatch>,
    /// What time its engine was told last, by the worker's clock.
    pub(crate) told: Now,
}

/// The record that an attempt or a dead letter is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) worker: WorkerId,
    pub(crate) shard: usize,
    pub(crate) partition: u32,
    pub(crate) epoch: Epoch,
    pub(crate) offset: i64,
    pub(crate) serial: u32,
    pub(crate) key: Option<u8>,
    /// What its headers say of earlier attempts.
    pub(crate) claimed: Option<u32>,
}

impl Place {
    pub(crate) fn life(&self) -> LifeId {
        (self.worker, self.epoch.0)
    }
}

/// An attempt that runs.
pub(crate) struct Run {
    pub(crate) place: Place,
    pub(crate) slot: SlotId,
    /// By its worker's clock.
    pub(crate) since: Now,
    /// Ends only when it is cut.
    pub(crate) hangs: bool,
    pub(crate) cut: Option<CutReason>,
    /// Those of a batch end together.
    pub(crate) batch: Option<u64>,
    /// It is a breaker's probe.
    pub(crate) trial: Option<Trial>,
}

/// A record that waits for its batch.
pub(crate) struct Gathered {
    pub(crate) place: Place,
    pub(crate) slot: SlotId,
    pub(crate) attempt: u32,
}

/// A dead letter without an answer.
pub(crate) struct Send {
    pub(crate) place: Place,
    pub(crate) slot: SlotId,
    /// To the retry tier, with so many attempts made.
    pub(crate) tiered: Option<u32>,
}

/// One partition of a commit.
pub(crate) struct Entry {
    pub(crate) partition: PartitionId,
    pub(crate) life: LifeId,
    pub(crate) offset: i64,
    pub(crate) text: String,
    pub(crate) units: usize,
    /// The topic that the map names.
    pub(crate) named: Option<NonZeroU128>,
    pub(crate) marks: Rc<BTreeMap<i64, u32>>,
    pub(crate) follows: Follows,
    /// All that its assignment had finished is in it.
    pub(crate) whole: bool,
}

/// A commit on its way.
pub(crate) struct Commit {
    pub(crate) number: u64,
    pub(crate) member: MemberId,
    /// The generation or member epoch that it names.
    pub(crate) epoch: u32,
    /// By the worker's clock.
    pub(crate) sent_at: Now,
    pub(crate) entries: Vec<Entry>,
    /// The broker has it already, or never got it.
    pub(crate) over: bool,
    /// It went out while the coordinator could not be reached.
    pub(crate) unsent: bool,
}

/// A partition that is being opened.
pub(crate) struct Opening {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    /// What the group has committed, once that was answered.
    pub(crate) committed: Option<Option<Committed>>,
}

/// A partition whose fetch ended, and what its log begins with, once that was answered.
pub(crate) struct Lookup {
    pub(crate) partition: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) was: i64,
}

pub(crate) struct Worker {
    pub(crate) group: Group,
    pub(crate) clock: Clock,
    /// `None` while it has to join.
    pub(crate) member: Option<MemberId>,
    /// The generation or member epoch that it knows.
    pub(crate) known_epoch: u32,
    pub(crate) shards: Vec<Shard>,
    /// Credits that no shard has.
    pub(crate) pool: usize,
    pub(crate) gated: Option<Gated>,
    /// What the client has heard and not told yet, and when it heard it, by the worker's clock.
    pub(crate) heard: VecDeque<(Now, GroupEvent)>,
    pub(crate) opens: VecDeque<Opening>,
    pub(crate) lookups: VecDeque<Lookup>,
    pub(crate) commits: VecDeque<Commit>,
    pub(crate) inbox: VecDeque<FromShard>,
    pub(crate) topics: BTreeMap<PartitionId, NonZeroU128>,
    /// What assignments that shards have not heard of go by; one that is missing begins where its log does.
    pub(crate) opened: BTreeMap<Epoch, Committed>,
    /// How often a partition's log had been cut when it was opened.
    pub(crate) cuts: BTreeMap<PartitionId, u32>,
    pub(crate) full: BTreeMap<PartitionId, Epoch>,
    /// What the group side gave to shards and did not take back.
    pub(crate) held: BTreeMap<PartitionId, Epoch>,
    /// All it ever had: to see a partition come again.
    pub(crate) had: BTreeSet<PartitionId>,
    pub(crate) revoking: bool,
    /// A release that the coordinator has not heard of.
    pub(crate) release_due: bool,
    pub(crate) frozen: bool,
    pub(crate) cut_off: bool,
    /// Thrown out by hand, or because it took too long: nobody told it, and no lease helps.
    pub(crate) kicked: bool,
    /// When the coordinator answered last, by the worker's clock.
    pub(crate) contact: Option<Now>,
    pub(crate) next_beat: Now,
    pub(crate) stop_by: Option<Now>,
    pub(crate) left: bool,
}

impl Worker {
    pub(crate) fn new(setup: &Setup, clock: Clock, now: Now) -> Self {
        let settings = waterwheel_core::engine::Settings { wall_start_ms: clock.wall_start_ms, ..setup.engine.clone() };
        let shard = |_| Shard {
            engine: Engine::new(settings.clone()),
            inbox: VecDeque::new(),
            cursors: BTreeMap::new(),
            paused: false,
            gathered: Vec::new(),
            stale: Vec::new(),
            told: Now::default(),
        };
        Self {
            group: Group::new(setup.group.clone(), clock.reading(now)),
            clock,
            member: None,
            known_epoch: 0,
            shards: (0..setup.shards).map(shard).collect(),
            pool: setup.engine.concurrency,
            gated: setup.gates.as_ref().map(|gates| Gated::new(gates, clock.reading(now))),
            heard: VecDeque::new(),
            opens: VecDeque::new(),
            lookups: VecDeque::new(),
            commits: VecDeque::new(),
            inbox: VecDeque::new(),
            topics: BTreeMap::new(),
            opened: BTreeMap::new(),
            cuts: BTreeMap::new(),
            full: BTreeMap::new(),
            held: BTreeMap::new(),
            had: BTreeSet::new(),
            revoking: false,
            release_due: false,
            frozen: false,
            cut_off: false,
            kicked: false,
            contact: None,
            next_beat: now,
            stop_by: None,
            left: false,
        }
    }

    pub(crate) fn shard_of(&self, id: PartitionId) -> usize {
        id.index() % self.shards.len()
    }

    pub(crate) fn tell(&mut self, id: PartitionId, letter: ToShard) {
        let shard = self.shard_of(id);
        self.shards[shard].inbox.push_back(letter);
    }

    /// One letter for each shard that has some of these.
    pub(crate) fn tell_of(&mut self, ids: &[PartitionId], letter: impl Fn(Vec<PartitionId>) -> ToShard) {
        let shards = self.shards.len();
        for (number, shard) in self.shards.iter_mut().enumerate() {
            let of_shard: Vec<_> = ids.iter().copied().filter(|id| id.index() % shards == number).collect();
            if !of_shard.is_empty() {
                shard.inbox.push_back(letter(of_shard));
            }
        }
    }

    pub(crate) fn tell_all(&mut self, letter: impl Fn() -> ToShard) {
        self.shards.iter_mut().for_each(|s| s.inbox.push_back(letter()));
    }

    pub(crate) fn partitions_changed(&mut self) {
        let n = self.group.partitions();
        self.tell_all(|| ToShard::Partitions(n));
    }

    pub(crate) fn tick_engine(&mut self, shard: usize, now: Now) {
        let shard = &mut self.shards[shard];
        shard.engine.tick(now);
        shard.told = now;
    }

    /// When its next timer is due, by its own clock.
    pub(crate) fn next_timer(&self) -> Option<Now> {
        let engines = self.shards.iter().filter_map(|s| s.engine.next_timer());
        engines.chain(self.group.next_timer()).min()
    }
}

/// The longest that a stop may take.
pub(crate) fn stop_limit(group: &GroupSettings, patience: Duration) -> Duration {
    patience + 2 * group.commit_timeout
}
