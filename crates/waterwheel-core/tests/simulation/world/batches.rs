//! Batches: records that are gathered, begin together and end together.

use waterwheel_core::PartitionId;
use waterwheel_core::engine::{Outcome, SlotId, Verdict};

use super::World;
use super::worker::{Gathered, Place, Run};
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

impl World {
    /// The open record waits for its batch.
    pub(crate) fn gather(&mut self, place: Place, attempt: u32) -> Checked {
        let now = self.reading(place.worker);
        // As a driver does with one that cannot be decoded.
        let closed = self.rng.percent(5);
        let Some(engine) = self.engine(place.worker, place.shard) else { return Ok(()) };
        let Some(slot) = engine.gather_open(now) else { return Err("I3: no slot for the open record".to_owned()) };
        if closed {
            engine.close_lane(slot);
        }
        if let Some(shard) = self.shard(place.worker, place.shard) {
            shard.gathered.push(Gathered { place, slot, attempt });
        }
        Ok(())
    }

    /// What is gathered of these partitions is not to run.
    pub(crate) fn drop_gathered(&mut self, id: WorkerId, shard: usize, ids: &[PartitionId]) {
        let Some(s) = self.shard(id, shard) else { return };
        let before = s.gathered.len();
        s.gathered.retain(|g| !ids.contains(&PartitionId(g.place.partition)));
        if s.gathered.len() < before {
            self.saw(Seen::GatheredDropped);
        }
    }

    /// A batch begins.
    pub(crate) fn run_batch(&mut self, id: WorkerId, shard: usize, slots: Vec<SlotId>) -> Checked {
        let (now, most) = (self.reading(id), self.setup.engine.gather.max);
        ensure!(!slots.is_empty() && slots.len() <= most, "P4: {} records in a batch of {most}", slots.len());
        let Some(s) = self.shard(id, shard) else { return Ok(()) };
        let mut batch = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(at) = s.gathered.iter().position(|g| g.slot == slot) else {
                return Err(format!("P5: {slot:?} runs and is not gathered"));
            };
            batch.push(s.gathered.remove(at));
        }
        let places: Vec<Place> = batch.iter().map(|g| g.place).collect();
        for (at, Gathered { place, attempt, .. }) in batch.iter().enumerate() {
            self.check_start(place, *attempt, &places)?;
            let before = places[..at].iter().find(|other| self.is_behind(other, place));
            ensure!(before.is_none(), "P3: {place:?} behind {before:?} in its batch");
            if places[at..].iter().any(|other| self.is_behind(other, place)) {
                let first = self.attempts_before(place) + 1;
                ensure!(*attempt == first, "P3: {place:?} failed before and does not run alone");
                self.saw(Seen::BatchOfKey);
            }
        }
        let hangs = self.rng.percent(self.setup.hanging);
        if hangs {
            self.saw(Seen::Hang);
        }
        self.batches += 1;
        let number = self.batches;
        let runs = batch.into_iter().map(|Gathered { place, slot, .. }| Run {
            place,
            slot,
            since: now,
            hangs,
            cut: None,
            batch: Some(number),
            trial: None,
        });
        self.runs.extend(runs);
        Ok(())
    }

    /// Whether one record of an assignment has to wait for another.
    fn is_behind(&self, place: &Place, other: &Place) -> bool {
        place.life() == other.life() && place.offset > other.offset && self.is_ordered(other, place.key)
    }

    /// A batch ends, with one outcome for all or one for each.
    pub(crate) fn finish_batch(&mut self, number: u64) -> Checked {
        let all = std::mem::take(&mut self.runs);
        let (batch, others): (Vec<Run>, Vec<Run>) = all.into_iter().partition(|run| run.batch == Some(number));
        self.runs = others;
        let Some(first) = batch.first().map(|run| run.place) else { return Ok(()) };
        if batch.iter().any(|run| run.cut.is_some()) && batch.iter().any(|run| run.cut.is_none()) {
            self.saw(Seen::BatchCutInPart);
        }
        let of_all = self.rng.percent(30).then(|| self.outcome());
        let mut ends = Vec::with_capacity(batch.len());
        for run in &batch {
            let cut = run.cut.is_some() && self.rng.percent(80);
            let outcome = if cut { Outcome::Cut } else { of_all.unwrap_or_else(|| self.outcome()) };
            ends.push((run.slot, outcome));
        }
        let now = self.reading(first.worker);
        let verdicts = self.engine(first.worker, first.shard).map(|e| e.ended_together(&ends, now));
        let verdicts = verdicts.unwrap_or_else(|| vec![Verdict::Stale; ends.len()]);
        ensure!(verdicts.len() == ends.len(), "I3: {} verdicts on {} ends", verdicts.len(), ends.len());
        for (at, Run { place, .. }) in batch.iter().enumerate() {
            let is_done = |verdict| matches!(verdict, Verdict::Finished | Verdict::Skipped | Verdict::Stale);
            let behind = (0..at).any(|other| !is_done(verdicts[other]) && self.is_behind(place, &batch[other].place));
            let (outcome, verdict) = (ends[at].1, verdicts[at]);
            ensure!(behind == (verdict == Verdict::NotRun), "P3: {outcome:?} of {place:?} is {verdict:?} in {ends:?}");
            if behind {
                self.saw(Seen::NotRun);
                continue;
            }
            self.expect_failure(place, outcome);
            self.follow(place, outcome, verdict)?;
        }
        self.act_shard(first.worker, first.shard);
        Ok(())
    }
}
