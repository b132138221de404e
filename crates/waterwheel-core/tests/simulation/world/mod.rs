//! The world: logs, a group's coordinator, workers, a dead-letter topic, time. Carries out what the core asks for, as the
//! drivers do, and checks it on the way.

pub(crate) mod attempts;
mod batches;
pub(crate) mod clock;
pub(crate) mod commits;
pub(crate) mod coordinator;
pub(crate) mod faults;
pub(crate) mod fetch;
pub(crate) mod gate;
pub(crate) mod log;
pub(crate) mod member;
pub(crate) mod opening;
pub(crate) mod setup;
pub(crate) mod shard;
pub(crate) mod topics;
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU128;
use std::time::Duration;

use waterwheel_core::{Now, PartitionId};

use self::clock::Clock;
use self::coordinator::Coordinator;
use self::log::Log;
use self::setup::{Bounds, Setup};
use self::worker::{Run, Send, Worker};
use crate::counters::{SOMETIMES, Seen};
use crate::properties::{Checked, Model, WorkerId, ensure};
use crate::rng::Rng;

const TOPIC: NonZeroU128 = NonZeroU128::MIN;

/// How much of what happens is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Diary {
    Closed,
    /// To compare two runs.
    Hash,
    /// To be read.
    Story,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) setup: Setup,
    pub(crate) now: Now,
    pub(crate) logs: Vec<Log>,
    pub(crate) coordinator: Coordinator,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) next_worker: WorkerId,
    pub(crate) runs: Vec<Run>,
    /// Batches that have run.
    pub(crate) batches: u64,
    pub(crate) sends: Vec<Send>,
    /// The dead-letter topic cannot be written.
    pub(crate) letters_down: bool,
    pub(crate) model: Model,
    pub(crate) seen: [u64; SOMETIMES.len()],
    /// No more faults: everything is to come to its end.
    pub(crate) calm: bool,
    /// Partitions may be lost now: the group said so, or their log is read anew.
    pub(crate) loss_is_due: bool,
    /// A property that proved broken where no result can be given.
    pub(crate) fault: Option<String>,
    diary: Diary,
    hash: Hash,
    pub(crate) story: Vec<String>,
}

/// FNV-1a of everything written to it.
struct Hash(u64);

impl std::fmt::Write for Hash {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0 = s.bytes().fold(self.0, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Ok(())
    }
}

impl World {
    pub(crate) fn new(seed: u64, bounds: Bounds, diary: Diary) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::of(&mut rng, bounds);
        let coordinator = Coordinator::new(setup.protocol, setup.partitions, setup.session, setup.rebalance_timeout);
        let mut world = Self {
            rng,
            now: Now::default(),
            logs: (0..setup.partitions).map(|_| Log::new(TOPIC)).collect(),
            setup,
            coordinator,
            workers: BTreeMap::new(),
            next_worker: 1,
            runs: Vec::new(),
            batches: 0,
            sends: Vec::new(),
            letters_down: false,
            model: Model::default(),
            seen: [0; SOMETIMES.len()],
            calm: false,
            loss_is_due: false,
            fault: None,
            diary,
            hash: Hash(0xcbf2_9ce4_8422_2325),
            story: Vec::new(),
        };
        (0..world.setup.partitions).for_each(|p| world.produce(p, 20));
        world.start_worker();
        world
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// Notes what happens: for the hash, or for the story.
    pub(crate) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        match self.diary {
            Diary::Closed => {}
            // Hashing cannot fail.
            Diary::Hash => _ = self.hash.write_fmt(what),
            Diary::Story => self.story.push(format!("{} {what}", self.now)),
        }
    }

    pub(crate) fn saw(&mut self, what: Seen) {
        self.seen[what as usize] += 1;
    }

    pub(crate) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.logs.len() as u32).map(PartitionId)
    }

    /// What a worker's clock shows.
    pub(crate) fn reading(&self, id: WorkerId) -> Now {
        self.workers.get(&id).map_or(self.now, |w| w.clock.reading(self.now))
    }

    pub(crate) fn start_worker(&mut self) {
        let clock = Clock::of(&mut self.rng);
        let worker = Worker::new(&self.setup, clock, self.now);
        self.workers.insert(self.next_worker, worker);
        self.next_worker += 1;
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    /// Lets time pass; timers fire on the way, members say that they live, and those that do not are missed.
    pub(crate) fn pass(&mut self, time: Duration) -> Checked {
        let until = self.now + time;
        let beat = self.setup.session / 4;
        while self.now < until {
            let slice = until.min(self.now + beat);
            self.pass_slice(slice)?;
            for id in self.ids() {
                if self.workers.get(&id).is_some_and(|w| w.next_beat <= self.now) {
                    self.heartbeat(id);
                }
            }
            if self.rng.percent(50) {
                self.coordinator.sync();
            }
            self.expire();
        }
        Ok(())
    }

    fn pass_slice(&mut self, until: Now) -> Checked {
        let mut ticks = 0;
        loop {
            let live = self.workers.iter().filter(|(_, w)| !w.frozen);
            let next = live.filter_map(|(id, w)| Some((w.clock.world_time(w.next_timer()?), *id))).min();
            let Some((at, id)) = next.filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            ticks += 1;
            ensure!(ticks < 20_000, "P14: a timer is always due: {:?}", self.workers[&id].group);
            self.tick(id)?;
        }
        self.now = until;
        for id in self.ids() {
            self.tick(id)?;
            self.check_overdue(id)?;
        }
        Ok(())
    }

    /// A worker's timers, unless it is frozen.
    pub(crate) fn tick(&mut self, id: WorkerId) -> Checked {
        let now = self.reading(id);
        let Some(worker) = self.workers.get_mut(&id).filter(|w| !w.frozen) else { return Ok(()) };
        (0..worker.shards.len()).for_each(|shard| worker.tick_engine(shard, now));
        worker.group.tick(now);
        for shard in 0..self.setup.shards {
            self.act_shard(id, shard);
        }
        self.act_group(id)
    }
}
