//! Attempts and dead letters: how they begin, and all the ways in which they end.

use std::time::Duration;

use waterwheel_core::Records;
use waterwheel_core::breaker::Trial;
use waterwheel_core::engine::{CutReason, Outcome, SlotId, Verdict, Wish};

use super::World;
use super::log::{Said, SimBatch, What};
use super::worker::{Place, Run, Send};
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

impl World {
    pub(crate) fn start(
        &mut self,
        id: WorkerId,
        shard: usize,
        records: &SimBatch,
        index: usize,
        attempt: u32,
        trial: Option<Trial>,
    ) -> Checked {
        let (partition, epoch) = (records.partition, records.epoch);
        let (offset, serial, key) = (records.offset(index), records.serial(index), records.key_number(index));
        let claimed = records.claimed(index);
        let place = Place { worker: id, shard, partition, epoch, offset, serial, key, claimed };
        self.note(format_args!("start {place:?} {attempt}"));
        if self.setup.gathers {
            return self.gather(place, attempt);
        }
        self.check_start(&place, attempt, &[])?;
        let now = self.reading(id);
        if self.rng.percent(50) {
            let outcome = self.outcome();
            self.expect_failure(&place, outcome);
            let verdict = self.engine(id, shard).map(|e| e.finish_open(outcome, now));
            self.tell_gate(id, now, trial, outcome, true);
            return self.follow(&place, outcome, verdict.unwrap_or(Verdict::Stale));
        }
        let hangs = self.rng.percent(self.setup.hanging);
        if hangs {
            self.saw(Seen::Hang);
        }
        let slot = self.engine(id, shard).and_then(|e| e.park_open(now));
        let Some(slot) = slot else { return Err("I3: no slot for the open record".to_owned()) };
        self.runs.push(Run { place, slot, since: now, hangs, cut: None, batch: None, trial });
        Ok(())
    }

    pub(crate) fn outcome(&mut self) -> Outcome {
        if self.calm || !self.rng.percent(self.setup.failing) {
            return Outcome::Ok;
        }
        match self.rng.below(24) {
            0 => Outcome::Failed(Wish::Skip),
            1 | 2 => Outcome::Failed(Wish::DeadLetter),
            3 | 4 => Outcome::Failed(Wish::RetryAfter(Duration::from_millis(self.rng.range(0..=200)))),
            5 | 6 => Outcome::Again(Duration::from_millis(self.rng.range(0..=100))),
            7 if self.rng.percent(10) => Outcome::Failed(Wish::Stop),
            8 | 9 => {
                // The driver catches it; to the core it is a failure like others.
                self.saw(Seen::Panic);
                Outcome::Failed(Wish::Policy)
            }
            _ => Outcome::Failed(Wish::Policy),
        }
    }

    /// Ends an attempt that runs, unless it hangs or its worker is frozen.
    pub(crate) fn finish(&mut self, at: usize) -> Checked {
        let Some(run) = self.runs.get(at) else { return Ok(()) };
        let frozen = self.workers.get(&run.place.worker).is_some_and(|w| w.frozen);
        if frozen || run.hangs && run.cut.is_none() && !self.calm {
            return Ok(());
        }
        if let Some(batch) = run.batch {
            return self.finish_batch(batch);
        }
        let run = self.runs.swap_remove(at);
        let outcome = if run.cut.is_some() && self.rng.percent(80) { Outcome::Cut } else { self.outcome() };
        let place = run.place;
        let now = self.reading(place.worker);
        let member = self.workers.get(&place.worker).and_then(|w| w.member);
        if member.is_some() && self.coordinator.owner(place.partition).is_some_and(|o| Some(o) != member) {
            self.saw(Seen::ZombieRuns);
        }
        self.expect_failure(&place, outcome);
        let counts = self.engine(place.worker, place.shard).is_some_and(|e| e.running_since(run.slot).is_some());
        self.tell_gate(place.worker, run.since, run.trial, outcome, counts);
        let verdict = self.engine(place.worker, place.shard).map(|e| e.ended(run.slot, outcome, now));
        // One that was stuck counts as having wished for what is set.
        let judged = match (run.cut, outcome, self.setup.engine.stall) {
            (Some(CutReason::Stalled), Outcome::Cut, Some(stall)) => Outcome::Failed(stall.wish),
            _ => outcome,
        };
        self.follow(&place, judged, verdict.unwrap_or(Verdict::Stale))?;
        self.act_shard(place.worker, place.shard);
        Ok(())
    }

    /// The reference counts an attempt that failed.
    pub(crate) fn expect_failure(&mut self, place: &Place, outcome: Outcome) {
        if let Some(life) = self.model.lives.get_mut(&place.life())
            && matches!(outcome, Outcome::Failed(_) | Outcome::Cut)
        {
            life.failed.entry(place.offset).or_default().0 += 1;
        }
    }

    pub(crate) fn follow(&mut self, place: &Place, outcome: Outcome, verdict: Verdict) -> Checked {
        self.note(format_args!("end {place:?} {outcome:?} {verdict:?}"));
        self.check_verdict(place, outcome, verdict)?;
        let counts = self.counts(place);
        if !counts {
            self.saw(Seen::StaleCompletion);
        }
        if outcome == Outcome::Ok {
            self.finished(place, counts);
        } else {
            ensure!(verdict != Verdict::Finished, "P8: {place:?} failed ({outcome:?}) and is finished");
        }
        let now = self.reading(place.worker);
        match verdict {
            Verdict::Skipped => self.finished(place, true),
            Verdict::DeadLetter { slot } => self.send(place.worker, place.shard, slot),
            Verdict::Tier { slot, .. } => {
                if let Some(life) = self.model.lives.get_mut(&place.life()) {
                    life.tiered.insert(place.offset);
                }
                self.send(place.worker, place.shard, slot);
            }
            Verdict::Stop => self.stop(place.worker, None)?,
            Verdict::Retry { after, .. } | Verdict::Parked { after, .. } => {
                if let Some(life) = self.model.lives.get_mut(&place.life()) {
                    life.failed.entry(place.offset).or_default().1 = now + after;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn finished(&mut self, place: &Place, counts: bool) {
        self.model.finish(place.serial);
        if let Some(life) = self.model.lives.get_mut(&place.life()).filter(|_| counts) {
            life.finished.insert(place.offset, place.serial);
        }
    }

    /// The broker has the copy of a record for the retry tier.
    fn put_in_tier(&mut self, place: &Place, made: u32) {
        let written_ms = self.workers.get(&place.worker).map(|w| w.clock.wall_ms(w.clock.reading(self.now)));
        let (serial, said) = (self.model.new_record(), Said { written_ms, claimed: Some(made) });
        self.logs[0].append(place.key, What::Record, serial, said, false);
        self.saw(if self.is_tier(place.partition) { Seen::TieredAgain } else { Seen::Tiered });
    }

    // ---- dead letters --------------------------------------------------------------------------------------------

    pub(crate) fn send(&mut self, id: WorkerId, shard: usize, slot: SlotId) {
        let Some((records, index)) = self.engine(id, shard).and_then(|e| e.record(slot)) else { return };
        let index = index as usize;
        let (partition, epoch, key) = (records.partition, records.epoch, records.key_number(index));
        let (offset, serial, claimed) = (records.offset(index), records.serial(index), records.claimed(index));
        let place = Place { worker: id, shard, partition, epoch, offset, serial, key, claimed };
        let made = self.engine(id, shard).and_then(|e| e.history(slot)).map_or(0, |(attempts, _)| attempts);
        let is_tiered = self.model.lives.get(&place.life()).is_some_and(|life| life.tiered.contains(&offset));
        self.sends.push(Send { place, slot, tiered: is_tiered.then_some(made) });
    }

    /// The dead-letter topic answers, late or not; it may have the letter and not say so.
    pub(crate) fn settle(&mut self, at: usize) -> Checked {
        let Some(send) = self.sends.get(at) else { return Ok(()) };
        if self.workers.get(&send.place.worker).is_some_and(|w| w.frozen) {
            return Ok(());
        }
        let Send { place, slot, tiered } = self.sends.swap_remove(at);
        let (written, answered) = match self.rng.below(10) {
            _ if self.calm => (true, true),
            _ if self.letters_down => (false, false),
            0..=5 => (true, true),
            6 => (true, false),
            _ => (false, false),
        };
        let (now, counts) = (self.reading(place.worker), self.counts(&place));
        if written && !answered {
            self.saw(Seen::LetterReplyLost);
        }
        if answered && !counts {
            self.saw(Seen::LetterLate);
        }
        let verdict = self.engine(place.worker, place.shard).map(|e| e.settled(slot, answered, now));
        self.note(format_args!("settled {place:?} {answered} {verdict:?}"));
        if let Some(made) = tiered.filter(|_| written) {
            self.put_in_tier(&place, made);
        }
        if written {
            self.finished(&place, answered && counts);
        }
        if let Some(life) = self.model.lives.get_mut(&place.life()).filter(|life| life.deadline.is_none()) {
            if answered {
                life.unsettled.remove(&place.offset);
            } else {
                life.unsettled.insert(place.offset);
            }
        }
        let finished = verdict == Some(Verdict::Finished);
        let lane = self.lane_of(&place).filter(|_| finished && self.setup.engine.follow);
        if let (Some(lane), Some(life)) = (lane, self.model.lives.get_mut(&place.life()))
            && !life.followers.contains(&place.offset)
        {
            life.followed.entry(lane).or_insert(place.offset);
            life.letters.insert(place.offset, lane);
        }
        ensure!(finished == (answered && counts), "P8: {place:?} answered {answered}, counts {counts}: {verdict:?}");
        self.act_shard(place.worker, place.shard);
        Ok(())
    }
}
