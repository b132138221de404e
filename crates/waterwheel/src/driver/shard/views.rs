//! What a shard tells of itself to whoever watches or asks.

use std::time::Duration;

use waterwheel_core::engine::{Head, HoldReason, SlotId};
use waterwheel_core::{Now, PartitionId};

use super::{Shard, View, Work};
use crate::explain::{Noted, PartitionExplanation, Subject};

/// The record that holds a partition's commit.
pub(crate) struct HeadView {
    pub(crate) partition: PartitionId,
    /// For how long it has.
    pub(crate) age: Duration,
    /// Its own time, in milliseconds since the Unix epoch.
    pub(crate) timestamp_ms: Option<i64>,
}

impl<W: Work> Shard<W> {
    pub(super) fn view(&mut self, now: Now) -> View {
        self.engine.see_heads(now);
        let heads = self.engine.heads(now).into_iter().map(|Head { partition, record, age }| {
            let timestamp_ms = record.record.and_then(|(batch, index)| batch.record(index).timestamp_millis());
            HeadView { partition, age, timestamp_ms }
        });
        let parked = self.notes.iter().flatten();
        let parked = parked.filter(|(slot, n)| n.parked && self.engine.history(*slot).is_some()).count();
        let (heads, in_work) = (heads.collect(), self.engine.in_work(now));
        let mut partitions = self.engine.views(now);
        let gate = self.held_by_gate();
        partitions.iter_mut().for_each(|p| p.held = p.held.or(gate));
        let of = |id| self.engine.followed(id).into_iter().map(move |offset| (id, offset));
        let followed = self.engine.assigned().flat_map(of).collect();
        View { partitions, in_work, heads, parked, followed }
    }

    /// Why nothing of any partition starts, where that is the gate's doing.
    fn held_by_gate(&self) -> Option<HoldReason> {
        self.gated.as_ref()?.holds()
    }

    pub(super) fn explain(&mut self, id: PartitionId, subject: &Subject, now: Now) -> Option<PartitionExplanation> {
        self.engine.see_heads(now);
        let mut explained = self.engine.explain(id, subject.of_each(), now)?;
        explained.view.held = explained.view.held.or_else(|| self.held_by_gate());
        let name = self.assignments.get(&id)?.partition.clone();
        let noted = |slot: SlotId| -> Noted {
            let (of, note) = self.notes.get(slot.index())?.as_ref()?;
            (*of == slot).then_some((note.class, note.parked))
        };
        Some(PartitionExplanation::new(name, explained, noted))
    }
}
