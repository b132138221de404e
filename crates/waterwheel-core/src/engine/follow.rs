//! Key follow-up: later records of a lane of which one was dead-lettered go to the dead-letter topic behind it, in their
//! order and without an attempt, until the lane is released. They settle as any dead letter does (I7).

use super::slots::{Slot, Stage};
use super::types::Action;
use super::{Engine, Open};
use crate::lanes::LaneKey;
use crate::types::{Epoch, PartitionId, Records};

/// Most lanes of a partition that are followed; a record whose lane would be one more is parked. About 40 bytes each.
pub(super) const FOLLOWED_LIMIT: usize = 10_000;

impl<R: Records> Engine<R> {
    /// A record was dead-lettered: those of its lane follow it from now on, unless it followed another one itself, whose lane may
    /// have been released since.
    pub(super) fn begin_following(&mut self, id: PartitionId, lane: Option<LaneKey>, offset: i64) {
        if self.settings.follow
            && let (Some(lane), Some(p)) = (lane, self.partition_mut(id))
            && p.failures(offset) > 0
        {
            p.followed.entry(lane).or_insert(offset);
        }
    }

    /// Whether no more lanes of a partition can be followed, and that one is not.
    pub(super) fn follows_enough(&self, id: PartitionId, lane: Option<LaneKey>) -> bool {
        let full = |p: &super::Partition| p.followed.len() >= FOLLOWED_LIMIT && p.follows(lane).is_none();
        self.settings.follow && lane.is_some() && self.partition(id).is_some_and(full)
    }

    /// A record that was taken up goes to the dead-letter topic behind the one at `behind`.
    pub(super) fn follow_up(&mut self, open: Open, behind: i64) {
        let Open { partition: id, batch, index, offset, lane, occupied, .. } = open;
        let Some(p) = self.partition_mut(id) else { return };
        p.slotted += 1;
        p.settling += 1;
        p.failing.remove(&offset);
        if let Some(key) = lane.filter(|_| !occupied) {
            p.lanes.occupy(key);
        }
        let slot = self.slots.insert(Slot::new(id, batch, index, offset, lane, Stage::Settling { tries: 0 }));
        self.actions.push_back(Action::Follow { slot, behind });
    }

    /// Records of that key start again. Whether they did not.
    pub fn release_key(&mut self, id: PartitionId, epoch: Epoch, key: Option<&[u8]>) -> bool {
        let Some(lane) = self.settings.order.lane(key) else { return false };
        let p = self.partition_mut(id).filter(|p| p.epoch == epoch);
        p.is_some_and(|p| p.followed.remove(&lane).is_some())
    }

    /// The offsets of the dead letters that later records of their lanes follow, in their order.
    pub fn followed(&self, id: PartitionId) -> Vec<i64> {
        let mut offsets: Vec<i64> =
            self.partition(id).map(|p| p.followed.values().copied().collect()).unwrap_or_default();
        offsets.sort_unstable();
        offsets
    }
}
