//! The records whose first attempt did not end where it began: running, waiting for a retry, or settling.

use super::CutReason;
use crate::lanes::LaneKey;
use crate::types::{Epoch, Now, PartitionId};

/// Names a record in a slot. A slot that was freed and used again has another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SlotId {
    pub(super) index: u32,
    generation: u32,
}

impl SlotId {
    /// The slot's place, for tables kept beside the engine. Used again after the slot is freed.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// Where a record in a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// An attempt runs.
    Running { since: Now, cut: Option<CutReason> },
    /// Waits for its next attempt.
    Backoff { until: Now },
    /// Its time has come; waits for a credit.
    Due,
    /// Handed to the driver to be dead-lettered.
    Settling { tries: u32 },
    /// The dead letter could not be written; tried again later.
    SettleBackoff { tries: u32 },
    /// Runs on although its assignment ended: its result changes nothing.
    Ghost,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) partition: PartitionId,
    pub(super) epoch: Epoch,
    pub(super) batch: u32,
    pub(super) index: u32,
    pub(super) offset: i64,
    pub(super) lane: Option<LaneKey>,
    /// Attempts begun so far.
    pub(super) attempts: u32,
    /// Wall time in milliseconds since the Unix epoch.
    pub(super) first_failed_ms: Option<i64>,
    pub(super) stage: Stage,
}

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<(u32, Option<Slot>)>,
    vacant: Vec<u32>,
}

impl Slots {
    pub(super) fn insert(&mut self, slot: Slot) -> SlotId {
        match self.vacant.pop() {
            Some(index) => {
                let (generation, place) = &mut self.slots[index as usize];
                *place = Some(slot);
                SlotId { index, generation: *generation }
            }
            None => {
                self.slots.push((0, Some(slot)));
                SlotId { index: self.slots.len() as u32 - 1, generation: 0 }
            }
        }
    }

    pub(super) fn get(&self, id: SlotId) -> Option<&Slot> {
        self.slots.get(id.index as usize).filter(|(generation, _)| *generation == id.generation)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize).filter(|(generation, _)| *generation == id.generation)?.1.as_mut()
    }

    pub(super) fn remove(&mut self, id: SlotId) -> Option<Slot> {
        let (generation, place) = self.slots.get_mut(id.index as usize).filter(|(g, _)| *g == id.generation)?;
        let slot = place.take()?;
        *generation = generation.wrapping_add(1);
        self.vacant.push(id.index);
        Some(slot)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(index, (generation, slot))| {
            Some((SlotId { index: index as u32, generation: *generation }, slot.as_ref()?))
        })
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SlotId, &mut Slot)> {
        self.slots.iter_mut().enumerate().filter_map(|(index, (generation, slot))| {
            Some((SlotId { index: index as u32, generation: *generation }, slot.as_mut()?))
        })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
