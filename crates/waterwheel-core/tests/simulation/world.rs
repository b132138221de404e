//! The world: logs, a group's coordinator, workers, a dead-letter topic, time. Carries out what the core asks for and
//! checks it on the way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::NonZeroU128;
use std::time::Duration;

use waterwheel_core::engine::{Exhausted, Settings};
use waterwheel_core::group::GroupSettings;
use waterwheel_core::lanes::Order;
use waterwheel_core::retry::Retry;
use waterwheel_core::{Now, PartitionId};

use crate::broker::Broker;
use crate::log::{Entry, Log};
use crate::model::{Checked, Model, WorkerId, ensure};
use crate::rng::Rng;
use crate::worker::{Run, Send, Worker};

pub(crate) const TOPIC: Option<NonZeroU128> = NonZeroU128::new(7);

/// Things that must happen in some run, or the simulation proves little.
pub(crate) const SOMETIMES: [&str; 28] = [
    "commit during a revocation",
    "stale completion",
    "gap inside an unfinished range",
    "map cut",
    "map too large for the broker",
    "drain cut at its deadline",
    "dead letter retried",
    "dead letter under way at a revocation",
    "dead letter written, reply lost",
    "partition assigned again to the same worker",
    "key waits for a ghost",
    "records read again",
    "record gone before it was read again",
    "partition held for its bytes",
    "commit applied, reply lost",
    "commit refused for its generation",
    "commit of a fenced member",
    "last commit given up",
    "session expired",
    "crash",
    "stop while draining",
    "stop cut short",
    "stop while opening",
    "time-out",
    "failing record resumed",
    "finished record not run again",
    "leader changed",
    "partition restarted",
];

/// How one seed's world is.
pub(crate) struct Setup {
    pub(crate) engine: Settings,
    pub(crate) group: GroupSettings,
    pub(crate) broker_limit: usize,
    pub(crate) shards: usize,
    pub(crate) keys: usize,
    /// Attempts in a hundred that fail, and that hang.
    pub(crate) failing: u64,
    pub(crate) hanging: u64,
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Setup {
    fn of(rng: &mut Rng) -> Self {
        let dead_letter = rng.percent(60);
        let engine = Settings {
            order: rng.pick(&[Order::Key, Order::Key, Order::Key, Order::Key, Order::Partition, Order::None]),
            retry: Retry::exponential(ms(rng.range(1..=50)), ms(rng.range(50..=300))).attempts(rng.range(1..=4) as u32),
            exhausted: rng.pick(&[Exhausted::DeadLetter, Exhausted::DeadLetter, Exhausted::Park, Exhausted::Skip]),
            dead_letter,
            settle_retry: Retry::fixed(ms(rng.range(1..=100))).forever(),
            handler_timeout: rng.percent(50).then(|| ms(rng.range(20..=300))),
            concurrency: rng.pick(&[1, 2, 4, 8, 16]),
            waiting: rng.pick(&[1, 4, 10, 40]),
            bytes: rng.pick(&[100, 1_000, 3_000, 20_000]),
            wall_start_ms: 1_000_000,
        };
        let group = GroupSettings {
            commit_every: ms(rng.range(10..=200)),
            drain_timeout: ms(rng.range(0..=300)),
            revocation_limit: ms(250),
            lease: rng.percent(30).then(|| ms(rng.range(100..=400))),
            commit_timeout: ms(rng.range(20..=200)),
            map_limit: rng.pick(&[0, 10, 14, 24, 4096]),
        };
        Self {
            engine,
            group,
            broker_limit: rng.pick(&[12, 20, 4096, 4096]),
            shards: rng.range(1..=2) as usize,
            keys: rng.range(1..=9) as usize,
            failing: rng.pick(&[0, 10, 30, 70]),
            hanging: rng.pick(&[0, 0, 2, 10]),
        }
    }
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) setup: Setup,
    pub(crate) now: Now,
    pub(crate) logs: Vec<Log>,
    pub(crate) broker: Broker,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    pub(crate) next_worker: WorkerId,
    /// Members whose worker died.
    pub(crate) dead: Vec<u32>,
    pub(crate) runs: Vec<Run>,
    pub(crate) sends: Vec<Send>,
    pub(crate) model: Model,
    pub(crate) seen: [u64; SOMETIMES.len()],
    /// No more faults: everything is to come to its end.
    pub(crate) calm: bool,
    hash: Hash,
    /// What was done and asked for, if it is to be printed.
    pub(crate) story: Option<Vec<String>>,
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
    pub(crate) fn new(seed: u64, story: bool) -> Self {
        let mut rng = Rng::new(seed);
        let setup = Setup::of(&mut rng);
        let partitions = rng.range(1..=6) as u32;
        let broker = Broker::new(rng.percent(40), partitions);
        let mut world = Self {
            rng,
            setup,
            now: Now::default(),
            logs: (0..partitions).map(|_| Log::default()).collect(),
            broker,
            workers: BTreeMap::new(),
            next_worker: 1,
            dead: Vec::new(),
            runs: Vec::new(),
            sends: Vec::new(),
            model: Model::default(),
            seen: [0; SOMETIMES.len()],
            calm: false,
            hash: Hash(0xcbf2_9ce4_8422_2325),
            story: story.then(Vec::new),
        };
        (0..partitions).for_each(|p| world.produce(p, 20));
        world.join();
        world
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.0
    }

    /// Notes what happens: for the hash, and for the story.
    pub(crate) fn note(&mut self, what: std::fmt::Arguments<'_>) {
        // Hashing cannot fail.
        let _ = self.hash.write_fmt(what);
        if let Some(story) = &mut self.story {
            story.push(format!("{} {what}", self.now));
        }
    }

    pub(crate) fn saw(&mut self, what: &str) {
        let at = SOMETIMES.iter().position(|s| *s == what);
        debug_assert!(at.is_some(), "{what}");
        self.seen[at.unwrap_or(0)] += 1;
    }

    pub(crate) fn ids(&self) -> Vec<WorkerId> {
        self.workers.keys().copied().collect()
    }

    // ---- the log ------------------------------------------------------------------------------------------------

    pub(crate) fn produce(&mut self, partition: u32, most: u64) {
        let n = self.rng.range(1..=most);
        for _ in 0..n {
            // Half of the records have one key; key 0 stands for the empty one.
            let keys = self.setup.keys;
            let key = match self.rng.below(10) {
                0 => None,
                1..=4 => Some(1),
                _ => Some(self.rng.below(keys) as u8),
            };
            let visible = self.rng.percent(85);
            let log = &mut self.logs[partition as usize];
            let leader_epoch = log.leader_epoch;
            log.entries.push(Entry { key, visible, leader_epoch });
        }
    }

    /// Some record of the upper part goes.
    pub(crate) fn compact(&mut self, partition: u32) {
        let log = &self.logs[partition as usize];
        let from = log.committed.as_ref().map_or(0, |(offset, _)| *offset);
        let candidates: Vec<i64> = log.visible(from).collect();
        if candidates.len() > 2 {
            let offset = candidates[self.rng.below(candidates.len() - 1)];
            self.logs[partition as usize].entries[offset as usize].visible = false;
            if !self.model.finished.contains(&(partition, offset)) {
                self.saw("gap inside an unfinished range");
            }
        }
    }

    pub(crate) fn change_leader(&mut self, partition: u32) {
        self.logs[partition as usize].leader_epoch += 1;
        self.saw("leader changed");
    }

    // ---- workers come and go -------------------------------------------------------------------------------------

    pub(crate) fn join(&mut self) {
        let member = self.broker.join(&mut self.rng);
        let worker = Worker::new(&self.setup.engine, &self.setup.group, self.setup.shards, member, self.now);
        self.workers.insert(self.next_worker, worker);
        self.next_worker += 1;
    }

    /// A worker dies; the broker finds out later.
    pub(crate) fn crash(&mut self, id: WorkerId) -> Checked {
        self.saw("crash");
        self.resolve_commits(id)?;
        self.forget(id);
        if let Some(worker) = self.workers.remove(&id) {
            self.dead.push(worker.member);
        }
        Ok(())
    }

    /// Nothing of a worker goes on.
    pub(crate) fn forget(&mut self, id: WorkerId) {
        self.runs.retain(|run| run.worker != id);
        self.sends.retain(|send| send.worker != id);
        self.model.lives.iter_mut().filter(|((w, _), _)| *w == id).for_each(|(_, life)| life.over = true);
    }

    pub(crate) fn stop(&mut self, id: WorkerId, patience: Option<Duration>) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        let within = patience.unwrap_or(self.setup.group.drain_timeout);
        let by = now + crate::worker::stop_limit(&self.setup.group, within);
        let (opening, revoking, again) = (!worker.opens.is_empty(), worker.revoking, worker.stop_by.is_some());
        worker.stop_by = Some(worker.stop_by.map_or(by, |before| before.min(by)));
        match patience {
            None => worker.group.stop(now),
            Some(patience) => worker.group.stop_within(patience, now),
        }
        for (seen, what) in
            [(opening, "stop while opening"), (revoking, "stop while draining"), (again, "stop cut short")]
        {
            if seen {
                self.saw(what);
            }
        }
        self.act_group(id)
    }

    // ---- time ---------------------------------------------------------------------------------------------------

    /// Lets time pass; timers fire on the way.
    pub(crate) fn pass(&mut self, time: Duration) -> Checked {
        let until = self.now + time;
        let mut ticks = 0;
        loop {
            let next = self.workers.iter().filter_map(|(id, w)| Some((w.next_timer()?, *id))).min();
            let Some((at, id)) = next.filter(|(at, _)| *at <= until) else { break };
            self.now = self.now.max(at);
            ticks += 1;
            ensure!(ticks < 20_000, "a timer is always due: {:?}", self.workers[&id].group);
            self.tick(id)?;
        }
        self.now = until;
        for id in self.ids() {
            self.tick(id)?;
            let late = self.workers.get(&id).and_then(|w| w.stop_by).is_some_and(|by| by < until);
            ensure!(!late, "P16: the stop of {id} is overdue");
        }
        Ok(())
    }

    fn tick(&mut self, id: WorkerId) -> Checked {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(&id) else { return Ok(()) };
        worker.shards.iter_mut().for_each(|s| s.engine.tick(now));
        worker.group.tick(now);
        for shard in 0..self.setup.shards {
            self.act_shard(id, shard);
        }
        self.act_group(id)
    }

    /// What holds at every step.
    pub(crate) fn check(&self) -> Checked {
        for (id, worker) in &self.workers {
            let running = self.runs.iter().filter(|r| r.worker == *id).count();
            let most = self.setup.engine.concurrency;
            ensure!(running <= most, "P4: {running} attempts of {most} run in {id}");
            for (n, shard) in worker.shards.iter().enumerate() {
                let runs = self.runs.iter().filter(|r| r.worker == *id && r.shard == n).count();
                let known = shard.engine.running();
                ensure!(runs == known, "I3: {runs} attempts run in {id}, the engine knows of {known}");
                for view in shard.engine.views(self.now) {
                    let most = self.setup.engine.waiting + self.setup.keys;
                    ensure!(view.waiting <= most, "P4: {} records wait", view.waiting);
                    let most = self.setup.engine.bytes + 8 * crate::log::SIZE;
                    // What runs and what is read again is not bound by bytes.
                    let beside = (self.setup.engine.waiting + self.setup.keys + self.setup.engine.concurrency) * 8;
                    ensure!(view.bytes <= most + beside * crate::log::SIZE, "P4: {} bytes", view.bytes);
                }
            }
        }
        Ok(())
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<> {
        (0..self.logs.len() as u32).map(PartitionId)
    }
}
