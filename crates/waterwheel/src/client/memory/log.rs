//! One partition's log.
//!
//! Offsets without a record are gaps: transaction markers, or what compaction took. Offsets below `start` are deleted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::client::{Header, Outgoing};
use crate::record::{Assignment, Batch, BatchBuilder};

/// A record as written.
pub(super) struct Written {
    pub(super) offset: i64,
    leader_epoch: i32,
    /// Milliseconds since the Unix epoch.
    pub(super) timestamp: i64,
    pub(super) key: Option<Arc<[u8]>>,
    pub(super) value: Option<Arc<[u8]>>,
    pub(super) headers: Vec<Header>,
    transaction: Option<u64>,
}

impl Written {
    fn size(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(n, v)| 8 + n.len() + v.as_ref().map_or(0, |v| v.len())).sum();
        headers + self.key.as_ref().map_or(0, |k| k.len()) + self.value.as_ref().map_or(0, |v| v.len())
    }

    fn copy_to(&self, builder: &mut BatchBuilder) {
        builder.push(self.offset, Some(self.timestamp), self.key.as_deref(), self.value.as_deref());
        self.headers.iter().for_each(|(name, value)| builder.header(name, value.as_deref()));
    }
}

/// What is at a position.
pub(super) enum Found {
    /// Records, of one leader epoch.
    Batch(Batch),
    /// No record below `next`, and the log goes on to it.
    SkippedTo { next: i64 },
    /// Nothing yet.
    End,
    /// The position is below the start or beyond the end, or the log was cut off below it.
    OutOfRange,
}

/// A log.
pub(super) struct Log {
    records: VecDeque<Written>,
    start: i64,
    end: i64,
    /// Each leader's epoch and the offset that it began at, ascending; never empty.
    epochs: Vec<(i32, i64)>,
    /// Open transactions and their first offsets.
    open: BTreeMap<u64, i64>,
    aborted: BTreeSet<u64>,
}

/// Payload of a batch; a larger record is a batch by itself.
const BATCH_BYTES: usize = 256 * 1024;
/// Records of a batch.
const BATCH_RECORDS: usize = 1_000;

impl Log {
    pub(super) fn new() -> Self {
        Self {
            records: VecDeque::new(),
            start: 0,
            end: 0,
            epochs: vec![(0, 0)],
            open: BTreeMap::new(),
            aborted: BTreeSet::new(),
        }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    /// The end; with `committed` the last stable offset.
    pub(super) fn end(&self, committed: bool) -> i64 {
        match self.open.values().min() {
            Some(&first) if committed => first,
            _ => self.end,
        }
    }

    fn leader_epoch(&self) -> i32 {
        self.epochs.last().map_or(0, |(epoch, _)| *epoch)
    }

    fn from(&self, offset: i64) -> impl Iterator<Item = &Written> {
        let at = self.records.partition_point(|r| r.offset < offset);
        self.records.range(at..)
    }

    fn is_visible(&self, record: &Written, committed: bool) -> bool {
        !committed || record.transaction.is_none_or(|t| !self.aborted.contains(&t))
    }

    /// The records that a reader sees.
    pub(super) fn visible(&self, committed: bool) -> impl Iterator<Item = &Written> {
        let end = self.end(committed);
        self.records.iter().take_while(move |r| r.offset < end).filter(move |r| self.is_visible(r, committed))
    }

    /// What a reader finds at a position that it came to by reading records of that epoch.
    pub(super) fn read(&self, from: i64, epoch: Option<i32>, committed: bool, of: &Arc<Assignment>) -> Found {
        let cut_off = epoch.is_some_and(|epoch| self.epoch_end(epoch) < from);
        if from < self.start || from > self.end || cut_off {
            return Found::OutOfRange;
        }
        let end = self.end(committed);
        let mut records = self.from(from).take_while(|r| r.offset < end).filter(|r| self.is_visible(r, committed));
        let Some(first) = records.next() else {
            return if from < end { Found::SkippedTo { next: end } } else { Found::End };
        };
        let mut bytes = first.size();
        let mut taken = vec![first];
        for record in records.take(BATCH_RECORDS - 1) {
            bytes += record.size();
            if bytes > BATCH_BYTES || record.leader_epoch != first.leader_epoch {
                break;
            }
            taken.push(record);
        }
        Found::Batch(batch(&taken, of))
    }

    /// The visible ones of these offsets, in batches of one leader epoch each; and the others.
    pub(super) fn reread(
        &self,
        wanted: &BTreeSet<i64>,
        committed: bool,
        of: &Arc<Assignment>,
    ) -> (Vec<Batch>, Vec<i64>) {
        let mut missing = Vec::new();
        let mut found: Vec<&Written> = Vec::new();
        let end = self.end(committed);
        for &offset in wanted {
            let record = self.from(offset).next().filter(|r| r.offset == offset && offset < end);
            match record.filter(|r| self.is_visible(r, committed)) {
                Some(record) => found.push(record),
                None => missing.push(offset),
            }
        }
        let batches = found.chunk_by(|a, b| a.leader_epoch == b.leader_epoch).map(|records| batch(records, of));
        (batches.collect(), missing)
    }

    /// Where the records of an epoch end in this log.
    fn epoch_end(&self, epoch: i32) -> i64 {
        self.epochs.iter().find(|(e, _)| *e > epoch).map_or(self.end, |(_, start)| *start)
    }

    /// The first record at or after that time.
    pub(super) fn at_time(&self, timestamp: i64, committed: bool) -> Option<&Written> {
        let end = self.end(committed);
        self.records.iter().find(|r| r.timestamp >= timestamp && r.offset < end)
    }

    /// The record with the latest time, the first of those that have it.
    pub(super) fn latest_by_time(&self, committed: bool) -> Option<&Written> {
        let end = self.end(committed);
        let below = self.records.iter().filter(|r| r.offset < end);
        below.reduce(|latest, r| if r.timestamp > latest.timestamp { r } else { latest })
    }

    /// Appends; the record's offset.
    pub(super) fn append(&mut self, record: &Outgoing, now: i64, transaction: Option<u64>) -> i64 {
        let offset = self.end;
        self.end += 1;
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        self.records.push_back(Written {
            offset,
            leader_epoch: self.leader_epoch(),
            timestamp: record.timestamp.unwrap_or(now),
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            transaction,
        });
        offset
    }

    /// Ends a transaction, with a marker, if it wrote something here.
    pub(super) fn end_transaction(&mut self, transaction: u64, commits: bool) {
        if self.open.remove(&transaction).is_some() {
            self.end += 1;
            if !commits {
                self.aborted.insert(transaction);
            }
        }
    }

    /// Leaves of each key the last record, and of those without a value none; records without a key stay.
    pub(super) fn compact(&mut self) {
        let mut last = BTreeMap::new();
        for record in &self.records {
            if let Some(key) = &record.key {
                last.insert(key.clone(), record.offset);
            }
        }
        self.records.retain(|r| r.key.as_ref().is_none_or(|key| last.get(key) == Some(&r.offset) && r.value.is_some()));
    }

    /// Deletes what lies below an offset.
    pub(super) fn delete_below(&mut self, offset: i64) {
        self.start = offset.clamp(self.start, self.end);
        let start = self.start;
        self.records.retain(|r| r.offset >= start);
    }

    /// A new leader, whose log ends at `end` at the latest: what lies there or above is gone.
    pub(super) fn new_leader(&mut self, end: i64) {
        let epoch = self.leader_epoch() + 1;
        self.end = end.clamp(self.start, self.end);
        let end = self.end;
        self.records.retain(|r| r.offset < end);
        self.open.retain(|_, first| *first < end);
        self.epochs.retain(|(_, start)| *start < end);
        self.epochs.push((epoch, end));
    }
}

/// A batch of records of one epoch; not of none.
fn batch(records: &[&Written], of: &Arc<Assignment>) -> Batch {
    let mut builder = BatchBuilder::with_capacity(records.len(), records.iter().map(|r| r.size()).sum());
    records.iter().for_each(|record| record.copy_to(&mut builder));
    builder.build(of.clone(), records.first().map(|r| r.leader_epoch))
}
