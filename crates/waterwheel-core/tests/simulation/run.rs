//! One run: a seed's world, a list of steps, and the way to rest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::counters::SOMETIMES;
use crate::plan::{Operation, Step};
use crate::properties::{Checked, WorkerId, ensure};
use crate::rng::Rng;
use crate::world::setup::Bounds;
use crate::world::worker::{ToShard, Worker};
use crate::world::{Diary, World};

/// How closely a run is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Care {
    /// The whole state every [`FULL_CHECK_EVERY`] steps.
    Usual,
    /// After each step.
    Utmost,
}

/// How often the whole state is compared with the reference, in steps.
const FULL_CHECK_EVERY: usize = 64;

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) hash: u64,
    pub(crate) seen: [u64; SOMETIMES.len()],
    pub(crate) story: Vec<String>,
    /// After how many steps, and why.
    pub(crate) failure: Option<(usize, String)>,
}

pub(crate) fn run(seed: u64, bounds: Bounds, steps: &[Step], diary: Diary, care: Care) -> Ended {
    let mut world = World::new(seed, bounds, diary);
    let mut done = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        for step in steps {
            done += 1;
            world.step(*step)?;
            if care == Care::Utmost || done % FULL_CHECK_EVERY == 0 {
                world.check_all()?;
            }
        }
        world.come_to_rest(seed)
    }));
    let why = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some("panic: the core panicked".to_owned()),
    };
    let (hash, seen, story) = (world.hash(), world.seen, std::mem::take(&mut world.story));
    Ended { hash, seen, story, failure: why.map(|why| (done, why)) }
}

impl World {
    fn step(&mut self, step: Step) -> Checked {
        self.rng = Rng::new(step.chance);
        let id = self.actor(step.operation);
        let operation = if id.is_none() { Operation::Join } else { step.operation };
        let id = id.unwrap_or(0);
        let partition = self.rng.below(self.logs.len()) as u32;
        let shard = self.rng.below(self.setup.shards);
        let (run, send) = (self.rng.below(self.runs.len()), self.rng.below(self.sends.len()));
        let ms = |from, to| from..=to;
        self.note(format_args!("-- {operation:?} {id} {shard} {partition}"));
        match operation {
            Operation::Turn => self.turn(id, shard)?,
            Operation::Finish => self.finish(run)?,
            Operation::PassLittle => {
                let time = Duration::from_millis(self.rng.range(ms(0, 30)));
                self.pass(time)?;
            }
            Operation::PassLong => {
                let time = Duration::from_millis(self.rng.range(ms(0, 800)));
                self.pass(time)?;
            }
            Operation::GroupEvent => {
                self.heartbeat(id);
                if self.rng.percent(30) {
                    self.coordinator.sync();
                }
                self.group_event(id)?;
            }
            Operation::Letter => self.letter(id)?,
            Operation::Open => self.open(id)?,
            Operation::LookUp => self.look_up(id)?,
            Operation::AnswerCommit => self.answer_commit(id)?,
            Operation::Settle => self.settle(send)?,
            Operation::Produce => self.produce(partition, 12),
            Operation::EndTxn => self.end_txn(partition),
            Operation::Compact => self.compact(partition),
            Operation::ChangeLeader => self.change_leader(partition),
            Operation::DeleteRecords => self.delete_records(partition),
            Operation::Truncate => self.truncate(partition),
            Operation::Recreate => self.recreate(partition),
            Operation::AddPartition => self.add_partition(),
            Operation::Garble => self.garble(partition),
            Operation::Join if self.workers.len() < self.setup.workers => self.start_worker(),
            Operation::Join => {}
            Operation::Stop => {
                let patience = self.rng.percent(40).then(|| Duration::from_millis(self.rng.range(ms(0, 100))));
                self.stop(id, patience)?;
            }
            Operation::Crash => self.crash(id)?,
            Operation::Freeze => self.freeze_or_thaw(id, self.now),
            Operation::CutOff => self.cut_off_or_back(id),
            Operation::Kick => self.kick(id),
            Operation::MoveCoordinator => self.move_coordinator(),
            Operation::Rebalance => self.rebalance(),
            Operation::PauseOrResume => {
                let pause = self.rng.percent(40);
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.tell_all(|| if pause { ToShard::Pause } else { ToShard::Resume });
                }
            }
            Operation::LettersDown => self.letters_down_or_up(),
        }
        self.fault.take().map_or(Ok(()), Err)
    }

    /// Whom a step is about: somebody who has something to do, if there is one.
    fn actor(&mut self, operation: Operation) -> Option<WorkerId> {
        let may = |w: &Worker| match operation {
            Operation::Freeze | Operation::CutOff => w.frozen || w.cut_off,
            _ if w.frozen => false,
            Operation::GroupEvent => !w.heard.is_empty(),
            Operation::Letter => !w.inbox.is_empty(),
            Operation::Open => !w.opens.is_empty(),
            Operation::LookUp => !w.lookups.is_empty(),
            Operation::AnswerCommit => !w.commits.is_empty(),
            _ => true,
        };
        let able = self.workers.values().filter(|w| may(w)).count();
        if able > 0 {
            let at = self.rng.below(able);
            return self.workers.iter().filter(|(_, w)| may(w)).nth(at).map(|(id, _)| *id);
        }
        let at = self.rng.below(self.workers.len());
        self.workers.keys().nth(at).copied()
    }

    /// No more faults: all that there is gets done.
    fn come_to_rest(&mut self, seed: u64) -> Checked {
        self.rng = Rng::new(!seed);
        (self.calm, self.letters_down) = (true, false);
        self.note(format_args!("-- to rest"));
        for p in 0..self.logs.len() as u32 {
            self.end_txn(p);
        }
        for id in self.ids() {
            let Some(worker) = self.workers.get_mut(&id) else { continue };
            worker.cut_off = false;
            if worker.frozen {
                self.freeze_or_thaw(id, self.now);
            }
        }
        for round in 0.. {
            if self.workers.values().all(|w| w.stop_by.is_some()) {
                self.start_worker();
            }
            self.round()?;
            if self.is_at_rest() {
                break;
            }
            ensure!(round < 3_000, "P12: it does not come to rest: {}", self.unrest());
        }
        self.check_all()?;
        self.check_rest()?;
        for id in self.ids() {
            self.stop(id, None)?;
        }
        for round in 0.. {
            if self.workers.is_empty() {
                return self.check_lag();
            }
            ensure!(round < 1_000, "P16: a stop does not end");
            self.round()?;
        }
        Ok(())
    }

    fn round(&mut self) -> Checked {
        for id in self.ids() {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.tell_all(|| ToShard::Resume);
            }
            for _ in 0..4 {
                self.heartbeat(id);
                self.coordinator.sync();
                self.group_event(id)?;
                self.open(id)?;
                self.look_up(id)?;
                self.answer_commit(id)?;
                self.letter(id)?;
                self.letter(id)?;
            }
            for shard in 0..self.setup.shards {
                for _ in 0..4 {
                    self.turn(id, shard)?;
                }
            }
        }
        while !self.runs.is_empty() {
            self.finish(0)?;
        }
        while !self.sends.is_empty() {
            self.settle(0)?;
        }
        self.pass(Duration::from_millis(10))?;
        self.fault.take().map_or(Ok(()), Err)
    }
}
