//! One record through the engine: fetched, started, and ended in place or elsewhere.

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use waterwheel_core::engine::{Engine, Outcome, Resume, Settings, SlotId, Start};
use waterwheel_core::lanes::Order;
use waterwheel_core::{Epoch, Now, PartitionId};

use crate::Chance;
use crate::records::{BATCH, Batch, Supply};

const EPOCH: Epoch = Epoch(1);

type Group<'a> = BenchmarkGroup<'a, WallTime>;

/// An engine, and a topic that never ends.
struct Rig {
    engine: Engine<Batch>,
    supply: Supply,
    /// By partition: the next offset to fetch.
    next: Vec<i64>,
    /// The partition that is fetched next.
    turn: usize,
    slots: Vec<SlotId>,
    /// Fetched and not ended.
    outstanding: usize,
    chance: Chance,
    now: Now,
}

impl Rig {
    fn new(order: Order, concurrency: usize, partitions: usize, keys: usize) -> Self {
        let settings = Settings { order, concurrency, waiting: 100_000, bytes: 1 << 30, ..Settings::default() };
        let mut engine = Engine::new(settings);
        engine.grant(concurrency);
        engine.set_worker_partitions(partitions);
        let now = Now::default();
        for partition in 0..partitions {
            engine.assign(PartitionId(partition as u32), EPOCH, Resume::default(), now);
        }
        Self {
            engine,
            supply: Supply::of_keys(keys),
            next: vec![0; partitions],
            turn: 0,
            slots: Vec::new(),
            outstanding: 0,
            chance: Chance(1),
            now,
        }
    }

    /// A batch of the partition whose turn it is.
    fn fetch(&mut self) {
        let batch = self.supply.batch(self.next[self.turn]);
        self.engine.fetched(PartitionId(self.turn as u32), EPOCH, batch, None);
        self.next[self.turn] += BATCH as i64;
        self.turn = (self.turn + 1) % self.next.len();
        self.outstanding += BATCH;
        while self.engine.poll_action().is_some() {}
    }

    /// Whether a record started.
    fn start(&mut self) -> bool {
        let Some(Start { records, index, attempt, .. }) = self.engine.next_start(self.now) else { return false };
        black_box((std::ptr::from_ref(records), index, attempt));
        true
    }

    /// One record, done where it starts.
    fn in_place(&mut self) {
        while !self.start() {
            // One batch of each, so that all partitions take turns.
            (0..self.next.len()).for_each(|_| self.fetch());
        }
        self.engine.finish_open(Outcome::Ok, self.now);
    }

    /// Starts what may start, up to `running` attempts at once, while no more than `window` records are in work.
    fn park(&mut self, running: usize, window: usize) {
        while self.slots.len() < running {
            if self.start() {
                self.slots.push(self.engine.park_open(self.now).unwrap());
            } else if self.outstanding < window {
                self.fetch();
            } else {
                break;
            }
        }
    }

    /// With that many attempts running.
    fn filled(mut self, running: usize, window: usize) -> Self {
        self.park(running, window);
        self
    }

    /// One record ends elsewhere, any of those that run, and others start in its place.
    fn parked(&mut self, running: usize, window: usize) {
        let one = self.chance.below(self.slots.len());
        let slot = self.slots.swap_remove(one);
        self.engine.ended(slot, Outcome::Ok, self.now);
        self.outstanding -= 1;
        self.park(running, window);
    }
}

/// Steps a rig that is made only if its name is asked for.
fn bench(group: &mut Group<'_>, id: BenchmarkId, make: impl Fn() -> Rig, step: impl Fn(&mut Rig)) {
    let mut made = None;
    group.bench_function(id, |b| {
        let rig = made.get_or_insert_with(&make);
        b.iter(|| step(rig))
    });
}

/// One record, done where it starts: no slot, no lane, no credit.
pub(crate) fn in_place(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine in place");
    for (name, order) in [("key", Order::Key), ("partition", Order::Partition), ("none", Order::None)] {
        bench(&mut group, BenchmarkId::from_parameter(name), || Rig::new(order, 256, 1, 1_000), Rig::in_place);
    }
}

/// One record that becomes a task, with that many in work, each of a key of its own.
pub(crate) fn parked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine parked");
    for (name, order, running) in [
        ("key, 1", Order::Key, 1),
        ("key, 100", Order::Key, 100),
        ("key, 1000", Order::Key, 1_000),
        ("key, 20000", Order::Key, 20_000),
        ("partition, 1", Order::Partition, 1),
        ("none, 1000", Order::None, 1_000),
        ("none, 20000", Order::None, 20_000),
    ] {
        let make = || Rig::new(order, running, 1, 1_000_000).filled(running, usize::MAX);
        bench(&mut group, BenchmarkId::from_parameter(name), make, |rig| rig.parked(running, usize::MAX));
    }
}

/// The same record among more and more partitions and keys.
pub(crate) fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine growth");
    for partitions in [1, 10, 100, 1_000] {
        let id = BenchmarkId::new("partitions, in place", partitions);
        bench(&mut group, id, || Rig::new(Order::Key, 256, partitions, 1_000), Rig::in_place);
    }
    for partitions in [1, 10, 100, 1_000] {
        let id = BenchmarkId::new("partitions, parked 1000", partitions);
        let make = || Rig::new(Order::Key, 1_000, partitions, 1_000_000).filled(1_000, usize::MAX);
        bench(&mut group, id, make, |rig| rig.parked(1_000, usize::MAX));
    }
    for keys in [10, 1_000, 100_000, 1_000_000] {
        let id = BenchmarkId::new("keys, in place", keys);
        bench(&mut group, id, || Rig::new(Order::Key, 256, 1, keys), Rig::in_place);
    }
    // With few keys most records wait for theirs; never so many that some would be kept as offsets only.
    for keys in [10, 1_000, 100_000, 1_000_000] {
        let id = BenchmarkId::new("keys, parked 1000", keys);
        let make = || Rig::new(Order::Key, 1_000, 1, keys).filled(1_000, 10_000);
        bench(&mut group, id, make, |rig| rig.parked(1_000, 10_000));
    }
}
