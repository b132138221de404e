//! What may start: P3, P4, P5, P10, P15, P17, P18, P20, and one worker at a time (R2).

use waterwheel_core::PartitionId;
use waterwheel_core::lanes::Order;

use super::{Checked, ensure};
use crate::counters::Seen;
use crate::world::World;
use crate::world::worker::{Place, Worker};

impl World {
    /// `batch`: what starts together with it.
    pub(crate) fn check_start(&mut self, place: &Place, attempt: u32, batch: &[Place]) -> Checked {
        let Place { worker, partition, offset, serial, .. } = *place;
        let now = self.reading(worker);
        let Some(life) = self.model.lives.get(&place.life()) else { return Err("start without a life".into()) };
        ensure!(!life.over && life.deadline.is_none(), "P5: {place:?} starts in an assignment that ends");
        // What is gathered counts as started.
        let unsettled = life.unsettled.first().filter(|_| batch.is_empty());
        ensure!(unsettled.is_none(), "P8: {place:?} starts, and the dead letter of {unsettled:?} cannot be written");
        ensure!(offset >= life.from, "P15: {place:?} is committed and runs again");
        ensure!(life.resumed.get(&offset) != Some(&serial), "P15: {place:?} finished before and runs again");
        ensure!(!life.finished.contains_key(&offset), "P15: {place:?} finished and runs again");
        let letter = self.lane_of(place).and_then(|lane| life.followed.get(&lane)).filter(|letter| **letter < offset);
        ensure!(letter.is_none(), "P18: {place:?} starts behind the dead letter {letter:?}, which it is to follow");
        let (failed, not_before) = life.failed.get(&offset).copied().unwrap_or_default();
        // What a map said of the record that was there before a log was cut off is of no account.
        let before = self.attempts_before(place);
        let other = self.logs[partition as usize].was_cut() && attempt == before + 1;
        let fits = attempt == before + failed + 1 || other;
        ensure!(fits, "I3: attempt {attempt} of {place:?} after {failed} that failed, and {before} before");
        ensure!(now >= not_before, "I3: {place:?} waits until {not_before}, and starts at {now}");
        let log = &self.logs[partition as usize];
        let before = log.visible(life.from).take_while(|o| *o < offset.min(life.horizon));
        let before = before
            .skip_while(|o| *o < life.unfinished(log))
            .filter(|o| !batch.iter().any(|other| other.life() == place.life() && other.offset == *o))
            .find(|o| self.is_ordered(place, log.entries[*o as usize].key) && !life.is_done(*o, log));
        ensure!(before.is_none(), "P3: {place:?} starts before {before:?}");
        let skipped = life.resumed.keys().next().is_some_and(|first| offset > *first);
        if other && let Some(life) = self.model.lives.get_mut(&place.life()) {
            life.failed.remove(&offset);
        }
        if failed == 0 {
            self.check_delay(place)?;
        }
        if self.is_tier(partition) && place.claimed != Some(self.attempts_before(place)) {
            self.saw(Seen::Forged);
        }
        self.check_liberty(place)?;
        self.check_alone(place, batch.len().max(1))?;
        if skipped {
            self.saw(Seen::FinishedNotRunAgain);
        }
        if self.model.is_finished(serial) {
            self.saw(Seen::RunAgain);
        }
        Ok(())
    }

    /// Whether a partition is the retry tier.
    pub(crate) fn is_tier(&self, partition: u32) -> bool {
        partition == 0 && self.setup.tier.is_some()
    }

    /// Attempts that a record has had before it came to the retry tier. P20: what it claims brings it no more attempts than
    /// one that has had a visit, and leaves it one.
    pub(crate) fn attempts_before(&self, place: &Place) -> u32 {
        let Some(tier) = self.setup.tier.filter(|_| self.is_tier(place.partition)) else { return 0 };
        let visit = self.setup.engine.retry.most().unwrap_or(u32::MAX);
        place.claimed.unwrap_or(0).max(visit).min(tier.attempts - 1)
    }

    /// What orders a record: its key, or its partition; `None` where nothing does.
    pub(crate) fn lane_of(&self, place: &Place) -> Option<Option<u8>> {
        match self.setup.engine.order {
            Order::Key => place.key.map(Some),
            Order::Partition => Some(None),
            Order::None => None,
        }
    }

    /// Whether a record with that key would have to wait for the one at `place`, or it for that.
    pub(crate) fn is_ordered(&self, place: &Place, key: Option<u8>) -> bool {
        match self.setup.engine.order {
            Order::Key => place.key.is_some() && key == place.key,
            Order::Partition => true,
            Order::None => false,
        }
    }

    /// P17.
    fn check_delay(&mut self, place: &Place) -> Checked {
        let tier = self.setup.tier.filter(|_| self.is_tier(place.partition));
        let delay = tier.map(|tier| tier.delay).or(self.setup.engine.delay);
        let (Some(delay), Some(worker)) = (delay, self.workers.get(&place.worker)) else {
            return Ok(());
        };
        let entry = self.logs[place.partition as usize].entry(place.offset).filter(|e| e.serial == place.serial);
        let arrived = self.model.lives.get(&place.life()).and_then(|life| life.arrived.get(&place.offset));
        let (Some(written), Some(arrived)) = (entry.and_then(|e| e.written_ms), arrived) else { return Ok(()) };
        let (clock, delay) = (&worker.clock, delay.as_millis() as i64);
        let (now, came) = (clock.wall_ms(clock.reading(self.now)), clock.wall_ms(*arrived));
        let due = written.min(came) + delay;
        ensure!(now >= due, "P17: {place:?} of {written} came at {came} and starts at {now}, {delay} ms are to pass");
        if came < due {
            self.saw(Seen::Delayed);
        }
        if written > came {
            self.saw(Seen::FromTheFuture);
        }
        Ok(())
    }

    /// P10, and that the group lets this worker have the partition.
    fn check_liberty(&self, place: &Place) -> Checked {
        let Some(worker) = self.workers.get(&place.worker) else { return Err("start without a worker".into()) };
        ensure!(!worker.shards[place.shard].paused, "P10: {place:?} starts while the worker is paused");
        let now = worker.clock.reading(self.now);
        if let (Some(lease), Some(contact)) = (self.setup.group.lease, worker.contact) {
            ensure!(now < contact + lease, "P10: {place:?} starts at {now}, the coordinator answered at {contact}");
        }
        let owner = self.coordinator.owner(place.partition);
        if owner.is_some() && owner != worker.member {
            let expelled = worker.member.is_none_or(|id| !self.coordinator.is_member(id));
            let excused = expelled && (worker.kicked || self.setup.group.lease.is_none());
            ensure!(excused, "R2: {place:?} starts, and {owner:?} has the partition");
        }
        Ok(())
    }

    /// P3, P4: nothing that it would have to wait for runs, and no more than may run do.
    fn check_alone(&self, place: &Place, starting: usize) -> Checked {
        let mut of_worker = starting;
        for run in &self.runs {
            let other = &run.place;
            of_worker += usize::from(other.worker == place.worker);
            if other.partition != place.partition || !self.is_ordered(place, other.key) {
                continue;
            }
            let at = other.offset;
            ensure!(
                other.worker != place.worker,
                "P3: {place:?} starts while {at} of {} of its key runs",
                other.epoch.0
            );
            // Another worker's attempt may go on only if it was cut off, or its worker thrown out.
            let partition = PartitionId(place.partition);
            let is_expelled = |w: &Worker| w.member.is_none_or(|id| !self.coordinator.is_member(id));
            let gone = |w: &Worker| is_expelled(w) || w.left || w.held.get(&partition) != Some(&other.epoch);
            let excused = run.cut.is_some() || self.workers.get(&other.worker).is_none_or(gone);
            let excused = excused || self.workers.get(&place.worker).is_none_or(is_expelled);
            let life = self.model.lives.get(&other.life());
            let reading = self.reading(other.worker);
            let excused = excused || life.is_none_or(|life| !life.counts(reading));
            ensure!(excused, "R2: {place:?} starts while {} runs {at}", other.worker);
        }
        let most = self.setup.engine.concurrency;
        ensure!(of_worker <= most, "P4: {of_worker} attempts of {most} in {}", place.worker);
        Ok(())
    }
}
