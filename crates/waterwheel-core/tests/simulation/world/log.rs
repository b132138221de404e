//! A partition as the broker has it: records, control records, transactions, what was compacted, deleted or cut off.

use std::collections::BTreeMap;
use std::num::NonZeroU128;
use std::rc::Rc;

use waterwheel_core::tiers::Carried;
use waterwheel_core::{Epoch, Records};

use crate::properties::{Follows, LifeId};

/// What each record weighs.
pub(crate) const SIZE: usize = 100;

/// What an offset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Record,
    /// The record was compacted away, or its transaction aborted.
    Gone,
    /// Written by the broker: the end of a transaction, or what a leader writes.
    Control,
}

/// One offset of a partition.
#[derive(Clone)]
pub(crate) struct Entry {
    /// The key; `None` for a null key.
    pub(crate) key: Option<u8>,
    pub(crate) what: What,
    pub(crate) leader_epoch: i32,
    /// Names the record: another one at the same offset has another.
    pub(crate) serial: u32,
    /// The time that it has, in milliseconds since the Unix epoch.
    pub(crate) written_ms: Option<i64>,
    /// What its headers say of earlier attempts.
    pub(crate) claimed: Option<u32>,
    /// Of the open transaction.
    in_txn: bool,
}

/// What the group has committed for the partition.
#[derive(Clone)]
pub(crate) struct Committed {
    pub(crate) offset: i64,
    pub(crate) text: String,
    /// What the map marks, as its writer knew it: offset and record.
    pub(crate) marks: Rc<BTreeMap<i64, u32>>,
    /// Which keys it says follow a dead letter, and its offset, as its writer knew them.
    pub(crate) follows: Follows,
    pub(crate) by: Option<LifeId>,
    /// The topic that it is of, and the one that its map names.
    pub(crate) topic: NonZeroU128,
    pub(crate) named: Option<NonZeroU128>,
    /// The log was cut off below it, or it was meant for a log of before.
    pub(crate) tainted: bool,
    /// Its text is not what was committed.
    pub(crate) garbled: bool,
}

pub(crate) struct Log {
    pub(crate) entries: Vec<Entry>,
    /// The first offset that is left.
    pub(crate) start: i64,
    pub(crate) leader_epoch: i32,
    pub(crate) topic: NonZeroU128,
    pub(crate) committed: Option<Committed>,
    /// The last commit was refused for good: there is none before something new finishes.
    pub(crate) refused: bool,
    /// How often it was cut off, or made anew.
    pub(crate) cuts: u32,
    /// The first offset of the open transaction.
    open: Option<i64>,
}

impl Log {
    pub(crate) fn new(topic: NonZeroU128) -> Self {
        Self {
            entries: Vec::new(),
            start: 0,
            leader_epoch: 0,
            topic,
            committed: None,
            refused: false,
            cuts: 0,
            open: None,
        }
    }

    pub(crate) fn end(&self) -> i64 {
        self.entries.len() as i64
    }

    /// Where a reader of committed records ends.
    pub(crate) fn stable_end(&self) -> i64 {
        self.open.unwrap_or(self.end())
    }

    pub(crate) fn entry(&self, offset: i64) -> Option<&Entry> {
        self.entries.get(usize::try_from(offset).ok()?)
    }

    pub(crate) fn is_visible(&self, offset: i64) -> bool {
        offset >= self.start && offset < self.stable_end() && self.entries[offset as usize].what == What::Record
    }

    /// Visible offsets from `from` on.
    pub(crate) fn visible(&self, from: i64) -> impl Iterator<Item = i64> + '_ {
        (from.max(self.start)..self.stable_end()).filter(|o| self.entries[*o as usize].what == What::Record)
    }

    pub(crate) fn was_cut(&self) -> bool {
        self.cuts > 0
    }

    pub(crate) fn in_txn(&self) -> bool {
        self.open.is_some()
    }

    /// Appends a record, to a transaction if `in_txn`.
    pub(crate) fn append(&mut self, key: Option<u8>, what: What, serial: u32, said: Said, in_txn: bool) {
        if in_txn && self.open.is_none() {
            self.open = Some(self.end());
        }
        let leader_epoch = self.leader_epoch;
        let Said { written_ms, claimed } = said;
        self.entries.push(Entry { key, what, leader_epoch, serial, written_ms, claimed, in_txn });
    }

    /// Ends the open transaction and writes its control record.
    pub(crate) fn end_txn(&mut self, commit: bool) {
        let Some(from) = self.open.take() else { return };
        for entry in self.entries[from as usize..].iter_mut().filter(|e| e.in_txn) {
            entry.in_txn = false;
            if !commit {
                entry.what = What::Gone;
            }
        }
        self.append(None, What::Control, 0, Said::default(), false);
    }

    /// Deletes what is below `start`; what was committed there stays as it is.
    pub(crate) fn delete_below(&mut self, start: i64) {
        self.start = self.start.max(start.min(self.stable_end()));
    }

    /// A leader that lacks what is from `cut` on takes over.
    pub(crate) fn truncate(&mut self, cut: i64) {
        self.entries.truncate(cut as usize);
        self.start = self.start.min(cut);
        self.open = self.open.filter(|from| *from < cut);
        self.leader_epoch += 1;
        self.cuts += 1;
        if let Some(committed) = &mut self.committed {
            committed.tainted |= committed.offset > cut;
        }
    }

    /// The topic is deleted and made again; the group's commits go with it.
    pub(crate) fn recreate(&mut self) {
        let topic = self.topic.saturating_add(1);
        *self = Self { cuts: self.cuts + 1, ..Self::new(topic) };
    }

    pub(crate) fn batch(&self, partition: u32, epoch: Epoch, offsets: &[i64]) -> SimBatch {
        let record = |o: &i64| {
            let entry = &self.entries[*o as usize];
            let (key, serial) = (entry.key.map(|k| [k]), entry.serial);
            SimRecord { offset: *o, key, serial, said: Said { written_ms: entry.written_ms, claimed: entry.claimed } }
        };
        SimBatch { partition, epoch, records: offsets.iter().map(record).collect() }
    }
}

#[derive(Clone, Copy)]
struct SimRecord {
    offset: i64,
    key: Option<[u8; 1]>,
    serial: u32,
    said: Said,
}

/// What a record says of itself: its time, and earlier attempts.
#[derive(Clone, Copy, Default)]
pub(crate) struct Said {
    pub(crate) written_ms: Option<i64>,
    pub(crate) claimed: Option<u32>,
}

/// Records of one partition and assignment.
#[derive(Clone)]
pub(crate) struct SimBatch {
    pub(crate) partition: u32,
    pub(crate) epoch: Epoch,
    records: Rc<[SimRecord]>,
}

impl SimBatch {
    pub(crate) fn serial(&self, index: usize) -> u32 {
        self.records[index].serial
    }

    /// What its headers say of earlier attempts.
    pub(crate) fn claimed(&self, index: usize) -> Option<u32> {
        self.records[index].said.claimed
    }

    /// The key as a number; that of the empty key is 0.
    pub(crate) fn key_number(&self, index: usize) -> Option<u8> {
        self.records[index].key.map(|k| k[0])
    }
}

impl Records for SimBatch {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn offset(&self, index: usize) -> i64 {
        self.records[index].offset
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        // Key 0 stands for the empty one.
        let key = self.records[index].key.as_ref()?;
        Some(if key[0] == 0 { &[] } else { key })
    }

    fn time_ms(&self, index: usize) -> Option<i64> {
        self.records[index].said.written_ms
    }

    fn carried(&self, index: usize) -> Carried {
        Carried { attempts: self.records[index].said.claimed, first_failed_ms: None }
    }

    fn size(&self, _index: usize) -> usize {
        SIZE
    }

    fn pinned_bytes(&self) -> usize {
        self.records.len() * SIZE
    }

    fn detach(&self, index: usize) -> Self {
        Self { records: Rc::new([self.records[index]]), ..*self }
    }
}
