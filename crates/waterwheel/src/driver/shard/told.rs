//! What hooks are told by a shard. Where there are none, one look at that is all.

use waterwheel_core::engine::SlotId;

use super::{Shard, Work};
use crate::hooks::{FetchedBatch, Finish, Moment};
use crate::record::{Batch, Record, TopicPartition};

/// A record that is about to be finished, if somebody is told.
pub(super) type Finishing = Option<(TopicPartition, i64)>;

fn place(record: &Record) -> (TopicPartition, i64) {
    (record.topic_partition().clone(), record.offset())
}

impl<W: Work> Shard<W> {
    pub(super) fn tell_fetched(&self, batch: &Batch) {
        let Some(hooks) = &self.common.hooks else { return };
        if let Some(last) = batch.len().checked_sub(1) {
            let offset = |index| batch.record(index as u32).offset();
            let (offsets, records) = (offset(0)..offset(last) + 1, batch.len());
            let partition = batch.assignment().partition.clone();
            hooks.tell(Moment::Fetched(FetchedBatch { partition, offsets, records }));
        }
    }

    /// The open record, before it ends.
    #[inline]
    pub(super) fn finishing_open(&self) -> Finishing {
        self.common.hooks.as_ref()?;
        self.engine.open_record().map(|(batch, index)| place(&batch.record(index)))
    }

    /// The record in a slot, before it ends.
    pub(super) fn finishing(&self, slot: SlotId) -> Finishing {
        self.common.hooks.as_ref()?;
        self.engine.record(slot).map(|(batch, index)| place(&batch.record(index)))
    }

    #[inline]
    pub(super) fn tell_finished(&self, finishing: Finishing, how: Finish) {
        if let (Some((partition, offset)), Some(hooks)) = (finishing, &self.common.hooks) {
            hooks.tell(Moment::Finished(partition, offset, how));
        }
    }
}
