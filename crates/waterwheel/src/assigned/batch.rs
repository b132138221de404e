//! Records that were fetched together.

use waterwheel_core::Records as _;

use crate::record::{Batch, Record, TopicPartition};

/// Records of one partition, in offset order, in one buffer.
#[derive(Clone, Debug)]
pub struct RecordBatch {
    batch: Batch,
    /// Those of the batch that it is about: from `from` on, below `to`.
    from: u32,
    to: u32,
    /// Where reading goes on behind it.
    next: i64,
}

impl RecordBatch {
    /// All of a batch, which has a record.
    pub(super) fn new(batch: Batch) -> Self {
        let (to, next) = (batch.len() as u32, batch.offset(batch.len() - 1) + 1);
        Self { batch, from: 0, to, next }
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.batch.assignment().partition
    }

    /// How many records; at least one.
    pub fn len(&self) -> usize {
        (self.to - self.from) as usize
    }

    /// Never: a batch has a record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record> + '_ {
        (self.from..self.to).map(|index| self.batch.record(index))
    }

    /// Looks at each record's key and value without counting a reference: the cheapest way over a batch.
    pub fn for_each(&self, mut look: impl FnMut(i64, Option<&[u8]>, Option<&[u8]>)) {
        self.batch.for_each(self.from as usize..self.to as usize, &mut look);
    }

    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Where reading goes on behind its last record.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    /// Leaves out what is at `stop` or behind it.
    pub(super) fn cut_at(&mut self, stop: i64) {
        if self.next <= stop {
            return;
        }
        while self.to > self.from && self.batch.offset(self.to as usize - 1) >= stop {
            self.to -= 1;
        }
        self.next = stop;
    }

    /// Takes the first record out; where reading goes on behind it.
    pub(super) fn take_first(&mut self) -> Option<(Record, i64)> {
        if self.is_empty() {
            return None;
        }
        let record = self.batch.record(self.from);
        self.from += 1;
        let next = if self.is_empty() { self.next } else { record.offset() + 1 };
        Some((record, next))
    }
}

#[cfg(test)]
mod tests {
    use waterwheel_core::{Epoch, PartitionId};

    use super::*;
    use crate::record::{Assignment, BatchBuilder};

    fn batch(offsets: &[i64]) -> RecordBatch {
        let mut builder = BatchBuilder::with_capacity(offsets.len(), 0);
        offsets.iter().for_each(|offset| builder.push(*offset, None, None, None));
        let assignment = Assignment::new(PartitionId(0), Epoch(1), TopicPartition::new("t", 0));
        RecordBatch::new(builder.build(assignment, None))
    }

    #[test]
    fn what_is_cut_off_is_not_given_and_counts_as_read() {
        let mut cut = batch(&[3, 5, 9, 12]);
        cut.cut_at(13);
        assert_eq!((cut.len(), cut.next()), (4, 13));
        cut.cut_at(8);
        assert_eq!((cut.iter().map(|r| r.offset()).collect::<Vec<_>>(), cut.next()), (vec![3, 5], 8));
        let mut seen = Vec::new();
        cut.for_each(|offset, _, _| seen.push(offset));
        assert_eq!(seen, [3, 5]);
        let nexts: Vec<_> = std::iter::from_fn(|| cut.take_first()).map(|(r, next)| (r.offset(), next)).collect();
        assert_eq!(nexts, [(3, 4), (5, 8)], "the last one is followed by what was cut off");
        let mut nothing = batch(&[3, 5]);
        nothing.cut_at(2);
        assert_eq!((nothing.len(), nothing.next()), (0, 2));
    }
}
