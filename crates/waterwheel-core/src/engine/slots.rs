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
    /// Waits for its batch to be full.
    Gathered { since: Now },
    /// An attempt runs.
    Running { since: Now, cut: Option<CutReason> },
    /// Waits for its time to start first.
    Delayed { until: Now },
    /// Waits for its next attempt.
    Backoff { until: Now },
    /// Its time has come; waits for a credit.
    Due,
    /// Handed to the driver to be dead-lettered.
    Settling { tries: u32 },
    /// The dead letter could not be written; tried again later.
    SettleBackoff { tries: u32 },
    /// Runs on although its assignment, that of the epoch, ended: its result changes nothing.
    Ghost { epoch: Epoch },
    /// There is no record.
    Vacant,
}

/// A record in a slot: 48 bytes. How often it failed stands in its partition, where few have an entry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    generation: u32,
    pub(super) partition: PartitionId,
    pub(super) batch: u32,
    pub(super) index: u32,
    pub(super) offset: i64,
    pub(super) lane: Option<LaneKey>,
    pub(super) stage: Stage,
}

impl Slot {
    #[inline(always)]
    pub(super) fn new(
        partition: PartitionId,
        batch: u32,
        index: u32,
        offset: i64,
        lane: Option<LaneKey>,
        stage: Stage,
    ) -> Self {
        Self { generation: 0, partition, batch, index, offset, lane, stage }
    }

    /// Whether an attempt runs that counts.
    pub(super) fn runs(&self) -> bool {
        matches!(self.stage, Stage::Running { .. })
    }
}

/// Slots that are made room for at once, at least.
const MOST_SPARE: usize = 64;

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
}

impl Slots {
    /// Always inlined: the slot is then written once, where it stays.
    #[inline(always)]
    pub(super) fn insert(&mut self, slot: Slot) -> SlotId {
        let index = match self.vacant.pop() {
            Some(index) => {
                let place = &mut self.slots[index as usize];
                *place = Slot { generation: place.generation, ..slot };
                index
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact((self.slots.len() / 4).max(MOST_SPARE));
                }
                self.slots.push(slot);
                self.slots.len() as u32 - 1
            }
        };
        SlotId { index, generation: self.slots[index as usize].generation }
    }

    /// Nobody has the name of a vacant slot yet.
    pub(super) fn get(&self, id: SlotId) -> Option<&Slot> {
        self.slots.get(id.index as usize).filter(|s| s.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: SlotId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index as usize).filter(|s| s.generation == id.generation)
    }

    pub(super) fn remove(&mut self, id: SlotId) {
        let Some(place) = self.get_mut(id) else { return };
        place.generation = place.generation.wrapping_add(1);
        place.stage = Stage::Vacant;
        self.vacant.push(id.index);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        let taken = self.slots.iter().enumerate().filter(|(_, s)| s.stage != Stage::Vacant);
        taken.map(|(index, s)| (SlotId { index: index as u32, generation: s.generation }, s))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SlotId, &mut Slot)> {
        let taken = self.slots.iter_mut().enumerate().filter(|(_, s)| s.stage != Stage::Vacant);
        taken.map(|(index, s)| (SlotId { index: index as u32, generation: s.generation }, s))
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }
}
