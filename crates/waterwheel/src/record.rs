//! Records as fetched: one owned buffer a batch, records as an index into it.
//!
//! A [`Batch`] is of one partition and one assignment. It owns the bytes of all its records (nothing borrows the
//! client), so a [`Record`] is a reference count and a position: cloning one copies no payload, and a batch's memory is
//! freed when its last record is dropped. [`Record::detach`] copies one record out, so that a record which has to wait
//! does not keep its neighbours alive.
//!
//! Neither type prints payloads: their `Debug` names the place only (promise R9).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use waterwheel_core::tiers::Carried;
use waterwheel_core::{Epoch, PartitionId};

use crate::dead_letter::carried;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Names partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What retry tier a partition is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    /// Its number, from 0.
    pub(crate) number: usize,
    /// The topic whose records come to it.
    pub(crate) source: Arc<str>,
}

/// A partition held from one assign to its revoke.
///
/// Shared by every batch fetched under it, so that a running handler can learn that its partition is being drained.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) id: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) partition: TopicPartition,
    /// `Some(deadline)` once the partition drains; written by the shard that owns the partition.
    pub(crate) drain: watch::Sender<Option<std::time::Instant>>,
    /// What retry tier it is of.
    pub(crate) tier: Option<Tier>,
}

impl Assignment {
    pub(crate) fn new(id: PartitionId, epoch: Epoch, partition: TopicPartition) -> Arc<Self> {
        Self::of_tier(id, epoch, partition, None)
    }

    pub(crate) fn of_tier(id: PartitionId, epoch: Epoch, partition: TopicPartition, tier: Option<Tier>) -> Arc<Self> {
        Arc::new(Self { id, epoch, partition, drain: watch::Sender::new(None), tier })
    }
}

/// Where a record's parts lie in its batch's buffer: key, value and headers, one after the other.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: i64,
    /// Milliseconds since the Unix epoch, or negative where the record has none.
    timestamp: i64,
    start: u32,
    /// [`NULL`] for a null key.
    key_len: u32,
    /// [`NULL`] for a null value.
    value_len: u32,
    headers_len: u32,
}

/// Marks a null key or value (Kafka's lengths are signed 32 bit, so no real length reaches it).
const NULL: u32 = u32::MAX;

fn length(len: u32) -> usize {
    if len == NULL { 0 } else { len as usize }
}

#[derive(Debug)]
struct Buffer {
    assignment: Arc<Assignment>,
    /// The partition leader's epoch that the records were fetched under, where the broker tells it.
    leader_epoch: Option<i32>,
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

/// Records of one partition and one assignment, in offset order.
#[derive(Clone)]
pub(crate) struct Batch(Arc<Buffer>);

impl Batch {
    pub(crate) fn assignment(&self) -> &Arc<Assignment> {
        &self.0.assignment
    }

    pub(crate) fn len(&self) -> usize {
        self.0.entries.len()
    }

    pub(crate) fn leader_epoch(&self) -> Option<i32> {
        self.0.leader_epoch
    }

    /// Bytes of memory that the batch holds, payload and index.
    pub(crate) fn pinned_bytes(&self) -> usize {
        self.0.bytes.capacity() + self.0.entries.capacity() * size_of::<Entry>()
    }

    /// Shows offset, key and value of each record in `range`.
    pub(crate) fn for_each(&self, range: Range<usize>, look: &mut impl FnMut(i64, Option<&[u8]>, Option<&[u8]>)) {
        for e in &self.0.entries[range] {
            let rest = &self.0.bytes[e.start as usize..];
            let (key, rest) = rest.split_at(length(e.key_len));
            let value = (e.value_len != NULL).then(|| &rest[..e.value_len as usize]);
            look(e.offset, (e.key_len != NULL).then_some(key), value);
        }
    }

    pub(crate) fn record(&self, index: u32) -> Record {
        Record { batch: self.clone(), index }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batch({} x {})", self.0.assignment.partition, self.len())
    }
}

impl waterwheel_core::Records for Batch {
    fn len(&self) -> usize {
        self.0.entries.len()
    }

    fn offset(&self, index: usize) -> i64 {
        self.0.entries[index].offset
    }

    fn key(&self, index: usize) -> Option<&[u8]> {
        key_of(&self.0, index)
    }

    fn time_ms(&self, index: usize) -> Option<i64> {
        time_of(self.0.entries[index].timestamp)
    }

    fn carried(&self, index: usize) -> Carried {
        carried(headers_of(&self.0, index))
    }

    fn size(&self, index: usize) -> usize {
        let e = &self.0.entries[index];
        size_of::<Entry>() + length(e.key_len) + length(e.value_len) + e.headers_len as usize
    }

    fn pinned_bytes(&self) -> usize {
        Batch::pinned_bytes(self)
    }

    fn detach(&self, index: usize) -> Self {
        let e = &self.0.entries[index];
        let start = e.start as usize;
        let end = start + length(e.key_len) + length(e.value_len) + e.headers_len as usize;
        Batch(Arc::new(Buffer {
            assignment: self.0.assignment.clone(),
            leader_epoch: self.0.leader_epoch,
            entries: vec![Entry { start: 0, ..*e }],
            bytes: self.0.bytes[start..end].to_vec(),
        }))
    }
}

fn time_of(timestamp: i64) -> Option<i64> {
    (timestamp >= 0).then_some(timestamp)
}

fn key_of(buffer: &Buffer, index: usize) -> Option<&[u8]> {
    let e = &buffer.entries[index];
    (e.key_len != NULL).then(|| &buffer.bytes[e.start as usize..][..e.key_len as usize])
}

fn headers_of(buffer: &Buffer, index: usize) -> Headers<'_> {
    let e = &buffer.entries[index];
    let start = e.start as usize + length(e.key_len) + length(e.value_len);
    Headers { bytes: &buffer.bytes[start..][..e.headers_len as usize] }
}

/// Fills a [`Batch`], record by record in offset order.
pub(crate) struct BatchBuilder {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// Room for `records` records and `bytes` bytes of payload, before it has to grow.
    pub(crate) fn with_capacity(records: usize, bytes: usize) -> Self {
        Self { entries: Vec::with_capacity(records), bytes: Vec::with_capacity(bytes) }
    }

    /// Appends a record without headers; they follow with [`header`](Self::header), until the next `push`.
    ///
    /// `timestamp`: milliseconds since the Unix epoch, `None` where the record has none.
    pub(crate) fn push(&mut self, offset: i64, timestamp: Option<i64>, key: Option<&[u8]>, value: Option<&[u8]>) {
        let part = |p: Option<&[u8]>| p.map_or(NULL, |p| p.len() as u32);
        self.entries.push(Entry {
            offset,
            timestamp: timestamp.unwrap_or(-1),
            start: self.bytes.len() as u32,
            key_len: part(key),
            value_len: part(value),
            headers_len: 0,
        });
        self.bytes.extend_from_slice(key.unwrap_or_default());
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// Appends a header to the record pushed last. Order and duplicates are kept; `None` is a null value.
    pub(crate) fn header(&mut self, name: &[u8], value: Option<&[u8]>) {
        let before = self.bytes.len();
        self.bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&value.map_or(NULL, |v| v.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(name);
        self.bytes.extend_from_slice(value.unwrap_or_default());
        if let Some(last) = self.entries.last_mut() {
            last.headers_len += (self.bytes.len() - before) as u32;
        }
    }

    /// The batch; `leader_epoch` holds for all its records.
    pub(crate) fn build(self, assignment: Arc<Assignment>, leader_epoch: Option<i32>) -> Batch {
        Batch(Arc::new(Buffer { assignment, leader_epoch, entries: self.entries, bytes: self.bytes }))
    }
}

/// A record as fetched. Cheap to clone: a reference count and a position.
///
/// Holding one keeps the buffer of its batch (up to 256 KiB, or the record's own size if that is more) in memory; use
/// [`detach`](Self::detach) for a record that is kept for long.
#[derive(Clone)]
pub struct Record {
    batch: Batch,
    index: u32,
}

impl Record {
    fn entry(&self) -> &Entry {
        &self.batch.0.entries[self.index as usize]
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.batch.0.assignment.partition.topic
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.batch.0.assignment.partition.partition
    }

    /// The topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.batch.0.assignment.partition
    }

    /// The record's place in its partition.
    pub fn offset(&self) -> i64 {
        self.entry().offset
    }

    /// The record's time in milliseconds since the Unix epoch; `None` where the record has none.
    ///
    /// Whether the producer or the broker set it is the topic's `message.timestamp.type`.
    pub fn timestamp_millis(&self) -> Option<i64> {
        time_of(self.entry().timestamp)
    }

    /// The record's time; `None` where the record has none, or one that the system's clock cannot represent.
    pub fn timestamp(&self) -> Option<SystemTime> {
        let millis = u64::try_from(self.timestamp_millis()?).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(millis))
    }

    /// The key; `None` for a null key. An empty key is a key.
    pub fn key(&self) -> Option<&[u8]> {
        key_of(&self.batch.0, self.index as usize)
    }

    /// The value; `None` for a null value (in a compacted topic: a tombstone).
    pub fn value(&self) -> Option<&[u8]> {
        let e = self.entry();
        let start = e.start as usize + length(e.key_len);
        (e.value_len != NULL).then(|| &self.batch.0.bytes[start..][..e.value_len as usize])
    }

    /// The headers in their order, duplicates kept. A value of `None` is a null value.
    pub fn headers(&self) -> Headers<'_> {
        headers_of(&self.batch.0, self.index as usize)
    }

    /// The value of the last header of that name, as Kafka's own clients look one up; `None` where there is none or it
    /// is null.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().filter(|(n, _)| *n == name.as_bytes()).last().and_then(|(_, v)| v)
    }

    /// A copy of this record alone, which keeps no other record's memory.
    pub fn detach(&self) -> Record {
        use waterwheel_core::Records as _;
        Record { batch: self.batch.detach(self.index as usize), index: 0 }
    }

    pub(crate) fn assignment(&self) -> &Arc<Assignment> {
        &self.batch.0.assignment
    }

    /// The bytes of its key, value and headers.
    pub(crate) fn bytes(&self) -> usize {
        let e = self.entry();
        length(e.key_len) + length(e.value_len) + e.headers_len as usize
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}@{})", self.topic_partition(), self.offset())
    }
}

/// The headers of a record: name and value, `None` for a null value.
#[derive(Clone)]
pub struct Headers<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, rest) = self.bytes.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let value_len = u32::from_le_bytes(*value_len);
        let (name, rest) = rest.split_at_checked(u32::from_le_bytes(*name_len) as usize)?;
        let (value, rest) = rest.split_at_checked(length(value_len))?;
        self.bytes = rest;
        Some((name, (value_len != NULL).then_some(value)))
    }
}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Headers({})", self.clone().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Batch {
        let mut b = BatchBuilder::with_capacity(2, 64);
        b.push(7, Some(5), Some(b"k"), None);
        b.header(b"a", Some(b"1"));
        b.header(b"a", None);
        b.header(b"b", Some(b""));
        b.push(9, None, Some(b""), Some(b"value"));
        b.build(Assignment::new(PartitionId(0), Epoch(1), TopicPartition::new("t", 3)), Some(4))
    }

    #[test]
    fn nulls_empties_headers_and_their_order_survive() {
        let batch = two();
        for record in [batch.record(0), batch.record(0).detach()] {
            assert_eq!((record.offset(), record.timestamp_millis()), (7, Some(5)));
            assert_eq!((record.key(), record.value()), (Some(&b"k"[..]), None));
            let headers: Vec<_> = record.headers().collect();
            assert_eq!(headers, [(&b"a"[..], Some(&b"1"[..])), (b"a", None), (b"b", Some(b""))]);
            assert_eq!((record.header("b"), record.header("a"), record.header("c")), (Some(&b""[..]), None, None));
        }
        for record in [batch.record(1), batch.record(1).detach()] {
            assert_eq!((record.key(), record.value()), (Some(&b""[..]), Some(&b"value"[..])));
            assert_eq!((record.timestamp(), record.headers().count()), (None, 0));
        }
    }

    #[test]
    fn a_debug_print_names_the_place_and_no_payload() {
        assert_eq!(format!("{:?} {:?}", two(), two().record(1)), "Batch(t-3 x 2) Record(t-3@9)");
    }
}
