//! Partitions of retry tiers: their records wait for the tier's time, and have had attempts before they came.

use super::Engine;
use super::slots::{Slot, SlotId};
use crate::lanes::Waiting;
use crate::tiers::{Next, first_failed_ms};
use crate::types::{Epoch, PartitionId, Records};

impl<R: Records> Engine<R> {
    /// That partition is of the tier of that number; told before its first records. They start no earlier than the tier's
    /// delay after their own time, instead of [`Settings::delay`](super::Settings::delay).
    pub fn set_tier(&mut self, id: PartitionId, epoch: Epoch, tier: usize) {
        let delay = self.settings.tiers.as_ref().and_then(|tiers| tiers.delay(tier));
        if let Some(p) = self.partition_mut(id).filter(|p| p.epoch == epoch) {
            (p.tier, p.delay) = (Some(tier), delay);
        }
    }

    /// What follows a failure by the policy, where it was the attempt of that number here.
    pub(super) fn next_by_policy(&self, slot: SlotId, here: u32) -> Next {
        let retry = &self.settings.retry;
        let Some(tiers) = &self.settings.tiers else {
            return if retry.is_exhausted(here) { Next::Exhausted } else { Next::Again };
        };
        let Some(&Slot { partition: id, batch, index, .. }) = self.slots.get(slot) else { return Next::Again };
        let tier = self.partition(id).and_then(|p| p.tier);
        let before = self.before(id, Waiting { batch, index }).map_or(0, |(attempts, _)| attempts);
        tiers.next(tier, before, here, retry)
    }

    /// The attempts at a record, and when it failed first, with what was before it came to its tier.
    pub(super) fn in_all(&self, id: PartitionId, at: Waiting, here: u32, failed_ms: Option<i64>) -> (u32, Option<i64>) {
        match self.before(id, at) {
            Some((before, first_ms)) => (before.saturating_add(here), first_ms.or(failed_ms)),
            None => (here, failed_ms),
        }
    }

    /// The attempts at a record before it came to its tier, and when it failed first; `None` outside of tiers.
    fn before(&self, id: PartitionId, at: Waiting) -> Option<(u32, Option<i64>)> {
        let tier = self.partition(id)?.tier?;
        let (tiers, records) = (self.settings.tiers.as_ref()?, self.batches.records(at.batch)?);
        let index = at.index as usize;
        let carried = records.carried(index);
        let attempts = tiers.attempts_before(Some(tier), carried.attempts, &self.settings.retry);
        Some((attempts, first_failed_ms(carried.first_failed_ms, records.time_ms(index))))
    }
}
