//! What attempts give to the transaction, and partitions that leave it.

use std::collections::HashSet;

use waterwheel_core::engine::{CommitPoint, Outcome, SlotId, Verdict};
use waterwheel_core::{Now, PartitionId};

use super::{Hold, Part, Stage, Transactor};
use crate::client::Outgoing;
use crate::driver::shard::{FromShard, Shard, Work};
use crate::driver::transaction::Origin;
use crate::failure::{Failure, FailureClass};
use crate::record::Record;
use crate::spans::Span;
use crate::transform::Outputs;
use crate::witness::Settled;

impl<W: Work> Shard<W> {
    /// The open record ended well where it began.
    pub(in super::super) fn finish_open_with(&mut self, outputs: Outputs, attempt: u32, now: Now) {
        let Some(record) = self.engine.open_record().map(|(batch, index)| batch.record(index)) else { return };
        match self.transactor.as_ref().map_or(Ok(()), |t| t.check(&record, &outputs, now)) {
            Ok(()) => {
                self.engine.finish_open(Outcome::Ok, now);
                self.take_outputs(&record, outputs);
            }
            Err(failure) => self.fail_open(failure, attempt, now),
        }
    }

    /// An attempt in a slot ended well; or, by what it gave, not.
    pub(in super::super) fn finish_with(&mut self, slot: SlotId, outputs: Outputs, now: Now) -> Result<(), Failure> {
        let record = self.engine.record(slot).map(|(batch, index)| batch.record(index));
        let Some(record) = record else {
            self.engine.ended(slot, Outcome::Ok, now);
            return Ok(());
        };
        let id = record.assignment().id;
        let is_current = self.assignments.get(&id).is_some_and(|a| a.epoch == record.assignment().epoch);
        if let Some(transactor) = self.transactor.as_ref().filter(|_| is_current) {
            transactor.check(&record, &outputs, now)?;
        }
        if self.engine.ended(slot, Outcome::Ok, now) == Verdict::Finished {
            self.take_outputs(&record, outputs);
        }
        Ok(())
    }

    fn take_outputs(&mut self, record: &Record, outputs: Outputs) {
        let Some(transactor) = &mut self.transactor else { return };
        let origin = origin_of(record);
        transactor.take(origin, outputs);
        if let Some(part) = transactor.part(origin.id) {
            part.done.succeeded += 1;
        }
    }

    /// The letter about a record that failed: it is finished with the transaction that has the letter.
    pub(in super::super) fn letter_in_transaction(
        &mut self,
        slot: SlotId,
        record: &Record,
        (letter, span): (Outgoing, Option<Span>),
        how: Settled,
        class: FailureClass,
    ) {
        let now = self.now();
        self.engine.settled(slot, true, now);
        if let Some(transactor) = &mut self.transactor {
            let origin = origin_of(record);
            transactor.spans.take(origin.id, span);
            transactor.push(origin, letter);
        }
        self.concluded(record, how, class);
    }

    /// Partitions left, or begin anew.
    pub(in super::super) fn transactor_loses(&mut self, partitions: &[PartitionId]) {
        if let Some(transactor) = &mut self.transactor {
            partitions.iter().for_each(|id| transactor.left(*id));
        }
    }

    /// A partition is to be drained.
    pub(in super::super) fn transactor_drains(&mut self, id: PartitionId) {
        let Some(part) = self.transactor.as_mut().and_then(|t| t.part(id)) else { return };
        part.is_draining = true;
        if part.hold == Hold::Told {
            let point = CommitPoint::bare(part.epoch, part.committed);
            self.coordinator.post(FromShard::Drained { partition: id, point, cut_off: 0 });
        }
    }

    /// Nothing of a partition runs any more: told when that is committed. Whether there is anything to wait for.
    pub(in super::super) fn transactor_drained(&mut self, id: PartitionId, cut_off: usize) -> bool {
        let Some(transactor) = &mut self.transactor else { return false };
        transactor.drains = true;
        transactor.part(id).map(|part| part.drained = Some(cut_off)).is_some()
    }

    /// Tells of the partitions that are drained and of which nothing is left to commit.
    pub(super) fn tell_drained(&mut self, t: &mut Transactor) {
        if !t.drains {
            return;
        }
        let waiting: HashSet<PartitionId> = t.waiting.iter().map(|(origin, _)| origin.id).collect();
        let engine = &mut self.engine;
        let is_over = matches!(t.stage, Stage::Over);
        let is_clean = |id: PartitionId, part: &Part| !part.is_touched && !part.is_unclaimed && !waiting.contains(&id);
        for (id, part) in t.parts().filter(|(_, part)| part.hold == Hold::Held && part.drained.is_some()) {
            if (is_over || is_clean(id, part) && !engine.is_dirty(id))
                && let (Some(point), Some(cut_off)) = (engine.commit_point(id), part.drained.take())
            {
                self.coordinator.post(FromShard::Drained { partition: id, point, cut_off });
            }
        }
        let left = t.parts().any(|(_, part)| part.drained.is_some());
        t.drains = left;
    }
}

fn origin_of(record: &Record) -> Origin {
    let assignment = record.assignment();
    Origin { id: assignment.id, epoch: assignment.epoch, offset: record.offset() }
}
