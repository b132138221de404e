//! Key follow-up: later records of a key of which one was dead-lettered go to the dead-letter topic behind it, in their
//! order and without an attempt, until the key is released. They settle as any dead letter does (I7). What is followed is in
//! each commit point, so whoever has the partition next goes on with it.

use super::partition::Partition;
use super::slots::{Slot, SlotId, Stage};
use super::types::Action;
use super::{Engine, Open};
use crate::commit_map::{Followed, FollowedKey};
use crate::lanes::Order;
use crate::types::{Epoch, PartitionId, Records};

/// Most keys of a partition that are followed; a record whose key would be one more is parked. About 40 bytes each.
pub(super) const FOLLOWED_LIMIT: usize = 10_000;

impl Partition {
    /// The offset of the dead letter that the record at `offset` follows. The letter itself does not, nor what is before it,
    /// although the commit map may not have had room to say that they are finished.
    pub(super) fn follows<'a>(&self, offset: i64, order: Order, key: impl FnOnce() -> Option<&'a [u8]>) -> Option<i64> {
        if self.followed.is_empty() {
            return None;
        }
        self.followed.get(&FollowedKey::of(order, key())?).copied().filter(|behind| *behind < offset)
    }

    /// Takes over what an earlier assignment followed, unless that was by another order.
    pub(super) fn go_on_following(&mut self, order: Order, followed: Vec<Followed>) {
        let is_of = |f: &Followed| match order {
            Order::Key => f.key != FollowedKey::PARTITION,
            Order::Partition => f.key == FollowedKey::PARTITION,
            Order::None => false,
        };
        self.followed = followed.into_iter().filter(is_of).map(|f| (f.key, f.offset)).collect();
    }

    /// What is followed, by the letters' offsets.
    pub(super) fn all_followed(&self) -> Vec<Followed> {
        let mut all: Vec<Followed> =
            self.followed.iter().map(|(key, offset)| Followed { offset: *offset, key: *key }).collect();
        all.sort_unstable();
        all
    }
}

impl<R: Records> Engine<R> {
    /// What the record in a slot follows dead letters with.
    fn followed_key(&self, slot: SlotId) -> Option<FollowedKey> {
        let (records, index) = self.record(slot)?;
        FollowedKey::of(self.settings.order, records.key(index as usize))
    }

    /// The record in a slot was dead-lettered: those of its key follow it from now on, unless it followed another one itself,
    /// whose key may have been released since.
    pub(super) fn begin_following(&mut self, slot: SlotId) {
        if self.settings.follow
            && let Some(Slot { partition: id, offset, .. }) = self.slots.get(slot).copied()
            && let Some(key) = self.followed_key(slot)
            && let Some(p) = self.partition_mut(id)
            && p.failures(offset) > 0
        {
            p.followed.entry(key).or_insert(offset);
        }
    }

    /// Whether no more keys of a partition can be followed, and that of the record in a slot is not.
    pub(super) fn follows_enough(&self, slot: SlotId) -> bool {
        let Some(key) = self.followed_key(slot).filter(|_| self.settings.follow) else { return false };
        let p = self.slots.get(slot).and_then(|s| self.partition(s.partition));
        p.is_some_and(|p| p.followed.len() >= FOLLOWED_LIMIT && !p.followed.contains_key(&key))
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
        let Some(key) = FollowedKey::of(self.settings.order, key) else { return false };
        let Some(p) = self.partition_mut(id).filter(|p| p.epoch == epoch) else { return false };
        let released = p.followed.remove(&key).is_some();
        // The next commit is to say so, whether or not anything finishes until then.
        p.dirty |= released;
        released
    }

    /// The offsets of the dead letters that later records of their keys follow, in their order.
    pub fn followed(&self, id: PartitionId) -> Vec<i64> {
        self.partition(id).map(|p| p.all_followed().iter().map(|f| f.offset).collect()).unwrap_or_default()
    }
}
