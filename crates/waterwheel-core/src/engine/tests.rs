//! Step tests of the engine: each tells it what happens, by a virtual clock, and looks at what it asks for.
#![expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

mod batches;
mod budget;
mod delays;
mod drain;
mod explain;
mod failures;
mod follow;
mod order;
mod resume;
mod spill;
mod stalls;
mod tiers;

use std::rc::Rc;
use std::time::Duration;

use super::{
    Action, CommitPoint, CutReason, Engine, Exhausted, Gather, Outcome, Resume, Settings, SlotId, Verdict, Wish,
};
use crate::lanes::Order;
use crate::retry::Retry;
use crate::tiers::Carried;
use crate::types::{Epoch, Now, PartitionId, Records};

pub(super) const P0: PartitionId = PartitionId(0);
pub(super) const P1: PartitionId = PartitionId(1);
pub(super) const E1: Epoch = Epoch(1);
pub(super) const E2: Epoch = Epoch(2);
/// What each record of a [`SimBatch`] weighs.
pub(super) const SIZE: usize = 100;

/// Records as offsets and keys.
#[derive(Clone)]
pub(super) struct SimBatch {
    records: Rc<Vec<(i64, Option<Vec<u8>>)>>,
    written_ms: Option<i64>,
    carried: Carried,
}

impl SimBatch {
    fn of(records: Vec<(i64, Option<Vec<u8>>)>) -> Self {
        Self { records: Rc::new(records), written_ms: None, carried: Carried::default() }
    }

    /// All of them of that time.
    pub(super) fn written(self, ms: i64) -> Self {
        Self { written_ms: Some(ms), ..self }
    }

    /// All of them with that in their headers.
    pub(super) fn carrying(self, attempts: Option<u32>, first_failed_ms: Option<i64>) -> Self {
        Self { carried: Carried { attempts, first_failed_ms }, ..self }
    }
}

impl Records for SimBatch {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn offset(&self, index: usize) -> i64 {
        self.records[index].0
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        self.records[index].1.as_deref()
    }

    fn time_ms(&self, _index: usize) -> Option<i64> {
        self.written_ms
    }

    fn carried(&self, _index: usize) -> Carried {
        self.carried
    }

    fn size(&self, _index: usize) -> usize {
        SIZE
    }

    fn pinned_bytes(&self) -> usize {
        self.records.len() * SIZE
    }

    fn detach(&self, index: usize) -> Self {
        Self { records: Rc::new(vec![self.records[index].clone()]), ..*self }
    }
}

/// One record a word: `5a` is offset 5 with key `a`, `6` is offset 6 without a key, `7=` has the empty key.
pub(super) fn batch(words: &str) -> SimBatch {
    let record = |word: &str| {
        let digits = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
        let (offset, key) = word.split_at(digits);
        let key = (!key.is_empty()).then(|| key.trim_matches('=').as_bytes().to_vec());
        (offset.parse().unwrap(), key)
    };
    SimBatch::of(words.split_whitespace().map(record).collect())
}

/// Offsets `range`, each with the key that `key` gives.
pub(super) fn keyed(range: std::ops::Range<i64>, key: impl Fn(i64) -> String) -> SimBatch {
    SimBatch::of(range.map(|o| (o, Some(key(o).into_bytes()))).collect())
}

pub(super) const FAILED: Outcome = Outcome::Failed(Wish::Policy);

pub(super) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Two attempts, ten milliseconds apart.
pub(super) fn settings() -> Settings {
    Settings {
        retry: Retry::fixed(ms(10)).attempts(2),
        settle_retry: Retry::fixed(ms(10)).forever(),
        ..Settings::default()
    }
}

/// An engine with all its credits, and a clock.
pub(super) struct Rig {
    pub(super) engine: Engine<SimBatch>,
    pub(super) now: Now,
}

impl Rig {
    pub(super) fn new(settings: Settings) -> Self {
        let concurrency = settings.concurrency;
        let mut engine = Engine::new(settings);
        engine.grant(concurrency);
        Self { engine, now: Now::default() }
    }

    /// With one partition, assigned from offset 0.
    pub(super) fn on_p0(settings: Settings) -> Self {
        let mut rig = Self::new(settings);
        rig.assign(P0, E1, 0);
        rig
    }

    pub(super) fn assign(&mut self, id: PartitionId, epoch: Epoch, offset: i64) {
        self.resume(id, epoch, Resume { offset, ..Resume::default() });
    }

    pub(super) fn resume(&mut self, id: PartitionId, epoch: Epoch, resume: Resume) {
        self.engine.assign(id, epoch, resume, self.now);
    }

    pub(super) fn fetch(&mut self, words: &str) {
        self.engine.fetched(P0, E1, batch(words), None);
    }

    /// Starts everything that may start, as tasks. Their offsets and slots, in the order of their starts.
    pub(super) fn start_all(&mut self) -> Vec<(i64, SlotId)> {
        let mut started = Vec::new();
        while let Some(start) = self.engine.next_start(self.now) {
            let offset = start.records.offset(start.index as usize);
            started.push((offset, self.engine.park_open(self.now).unwrap()));
        }
        started
    }

    /// Starts all that may start, each ending at once. Their offsets and attempts.
    pub(super) fn run_all(&mut self, mut outcome: impl FnMut(i64) -> Outcome) -> Vec<(i64, u32)> {
        let mut run = Vec::new();
        while let Some(start) = self.engine.next_start(self.now) {
            let offset = start.records.offset(start.index as usize);
            run.push((offset, start.attempt));
            self.engine.finish_open(outcome(offset), self.now);
        }
        run
    }

    /// The one record that starts now, as a task.
    pub(super) fn start(&mut self) -> SlotId {
        let started = self.start_all();
        assert_eq!(started.len(), 1, "{started:?}");
        started[0].1
    }

    pub(super) fn end(&mut self, slot: SlotId, outcome: Outcome) -> Verdict {
        self.engine.ended(slot, outcome, self.now)
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.engine.tick(self.now);
    }

    pub(super) fn drain(&mut self, within: Duration) {
        self.engine.drain(P0, self.now + within, self.now);
    }

    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.engine.poll_action()).collect()
    }

    pub(super) fn point(&mut self) -> CommitPoint {
        self.engine.commit_point(P0).unwrap()
    }

    pub(super) fn frontier(&mut self) -> i64 {
        self.point().offset
    }
}

pub(super) fn offsets(started: &[(i64, SlotId)]) -> Vec<i64> {
    started.iter().map(|(offset, _)| *offset).collect()
}

pub(super) fn drained(epoch: Epoch, cut_off: usize) -> Action {
    Action::Drained { partition: P0, epoch, cut_off }
}
