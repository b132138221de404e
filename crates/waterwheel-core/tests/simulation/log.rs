//! The partitions as the broker has them: records, gaps, and what is committed.

use std::rc::Rc;

use waterwheel_core::{Epoch, Records};

/// What each record weighs.
pub(crate) const SIZE: usize = 100;

/// One offset of a partition.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The key; `None` for a null key.
    pub(crate) key: Option<u8>,
    /// Not a control record, not compacted, not aborted.
    pub(crate) visible: bool,
    pub(crate) leader_epoch: i32,
}

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    pub(crate) leader_epoch: i32,
    /// Offset and metadata.
    pub(crate) committed: Option<(i64, String)>,
}

impl Log {
    pub(crate) fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    pub(crate) fn is_visible(&self, offset: i64) -> bool {
        self.entries.get(offset as usize).is_some_and(|e| e.visible)
    }

    /// Visible offsets from `from` on.
    pub(crate) fn visible(&self, from: i64) -> impl Iterator<Item = i64> + '_ {
        (from.max(0)..self.end()).filter(|o| self.entries[*o as usize].visible)
    }

    pub(crate) fn batch(&self, partition: u32, epoch: Epoch, offsets: &[i64]) -> SimBatch {
        let records = offsets.iter().map(|o| (*o, self.entries[*o as usize].key.map(|k| [k]))).collect();
        SimBatch { partition, epoch, records: Rc::new(records) }
    }
}

/// Records of one partition and assignment.
#[derive(Clone)]
pub(crate) struct SimBatch {
    pub(crate) partition: u32,
    pub(crate) epoch: Epoch,
    records: Rc<Vec<(i64, Option<[u8; 1]>)>>,
}

impl Records for SimBatch {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn offset(&self, index: usize) -> i64 {
        self.records[index].0
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        // Key 0 stands for the empty one.
        let key = self.records[index].1.as_ref()?;
        Some(if key[0] == 0 { &[] } else { key })
    }

    fn size(&self, _index: usize) -> usize {
        SIZE
    }

    fn pinned_bytes(&self) -> usize {
        self.records.len() * SIZE
    }

    fn detach(&self, index: usize) -> Self {
        Self { records: Rc::new(vec![self.records[index]]), ..*self }
    }
}
