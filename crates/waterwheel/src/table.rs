//! The last value of every key of a history, in memory.
//!
//! An entry is one allocation: its record's partition and offset (2 to 8 bytes as a rule), the length of the key, key, value.
//! The indices over them are many small ones, so that one which grows copies little and holds up few readers.

mod entry;
mod index;

use std::collections::HashMap;
use std::fmt;
use std::future::{Ready, ready};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use tokio::sync::{broadcast, watch};
use waterwheel_core::lanes::Order;

pub use self::entry::TableEntry;
use self::index::Index;
use crate::body::Raw;
use crate::error::Error;
use crate::failure::Failure;
use crate::handler::{Handler, Message};
use crate::history::{History, HistoryBuilder};
use crate::record::Record;

/// Indices that keys are spread over.
const SHARDS: usize = 64;
/// Changes that one who watches them all may be behind.
const CHANGES: usize = 1024;

/// The last value of every key of a topic. Cheap to clone; kept by its history, before and after that is caught up, for as
/// long as it runs. Made by [`HistoryBuilder::latest_per_key`].
///
/// A record with a null value (a tombstone) removes its key; an empty value is a value. Records without a key are counted
/// and left out. Should a key come from several partitions, what was read last counts.
///
/// Holds key and value of every key, and beside them at most 64 bytes a key and half as much again as key and value take.
#[derive(Clone)]
pub struct Table(Arc<Inner>);

struct Inner {
    hasher: RandomState,
    shards: Vec<RwLock<Index>>,
    keyless: AtomicU64,
    changes: broadcast::Sender<TableChange>,
    watched: Mutex<HashMap<Box<[u8]>, watch::Sender<()>>>,
    /// How many keys are watched.
    watchers: AtomicUsize,
}

impl Table {
    fn new() -> Self {
        Self(Arc::new(Inner {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            keyless: AtomicU64::new(0),
            changes: broadcast::Sender::new(CHANGES),
            watched: Mutex::default(),
            watchers: AtomicUsize::new(0),
        }))
    }

    /// The entry of that key, copied.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<TableEntry> {
        let (shard, hash) = self.place(key.as_ref());
        read(shard).get(hash, key.as_ref()).cloned()
    }

    /// Whether there is an entry of that key.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> bool {
        let (shard, hash) = self.place(key.as_ref());
        read(shard).get(hash, key.as_ref()).is_some()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.shards.iter().map(|shard| read(shard).len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Records that were left out because they have no key.
    pub fn keyless(&self) -> u64 {
        self.0.keyless.load(Ordering::Relaxed)
    }

    /// All entries, in no order. A sixty-fourth of them is copied at a time, as it is when the iterator comes to it: what
    /// changes meanwhile may be seen or not.
    pub fn iter(&self) -> impl Iterator<Item = TableEntry> + use<> {
        let table = self.clone();
        (0..SHARDS).flat_map(move |at| read(&table.0.shards[at]).iter().cloned().collect::<Vec<_>>())
    }

    /// A copy of all entries as they are at one moment, in no order. The table changes no more until it is made.
    pub fn snapshot(&self) -> Vec<TableEntry> {
        let all: Vec<_> = self.0.shards.iter().map(read).collect();
        all.iter().flat_map(|shard| shard.iter().cloned()).collect()
    }

    /// Every change from now on. One who falls more than 1,024 behind loses the oldest, and is told how many.
    pub fn changes(&self) -> TableChanges {
        TableChanges(self.0.changes.subscribe())
    }

    /// Watches one key from now on.
    pub fn watch(&self, key: impl Into<Box<[u8]>>) -> KeyWatch {
        let key = key.into();
        let mut watched = self.watched();
        let sender = watched.entry(key.clone()).or_insert_with(|| watch::Sender::new(()));
        let changed = sender.subscribe();
        self.0.watchers.store(watched.len(), Ordering::SeqCst);
        drop(watched);
        KeyWatch { table: self.clone(), key, changed }
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, HashMap<Box<[u8]>, watch::Sender<()>>> {
        self.0.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a key belongs.
    fn place(&self, key: &[u8]) -> (&RwLock<Index>, u32) {
        let hash = self.0.hasher.hash_one(key);
        (&self.0.shards[(hash >> 32) as usize % SHARDS], hash as u32)
    }

    fn apply(&self, record: &Record) {
        let Some(key) = record.key() else {
            self.0.keyless.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let (shard, hash) = self.place(key);
        match TableEntry::of(record) {
            Some(entry) => write(shard).put(hash, entry),
            None => write(shard).remove(hash, key),
        }
        if self.0.changes.receiver_count() > 0 {
            // Nobody may be left.
            let _ = self.0.changes.send(TableChange(record.detach()));
        }
        if self.0.watchers.load(Ordering::SeqCst) > 0
            && let Some(watch) = self.watched().get(key)
        {
            watch.send_replace(());
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Table({} keys)", self.len())
    }
}

fn read(shard: &RwLock<Index>) -> RwLockReadGuard<'_, Index> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Index>) -> RwLockWriteGuard<'_, Index> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

impl HistoryBuilder {
    /// Keeps the last value of every key instead of running a handler of yours: the [`Table`] is there at once and fills
    /// while the history runs. Its records are taken in partition order, whatever `order` was set.
    ///
    /// Checks the configuration. Nothing connects before [`History::run`].
    pub fn latest_per_key(self) -> Result<(Table, History<Raw, TableKeeper>), Error> {
        let table = Table::new();
        let in_order = self.with(|worker| worker.order(Order::Partition));
        Ok((table.clone(), in_order.handler(TableKeeper(table)).build()?))
    }
}

/// The handler that keeps a [`Table`].
pub struct TableKeeper(Table);

impl Handler<Raw> for TableKeeper {
    type Future = Ready<Result<(), Failure>>;

    fn handle(&self, message: Message<Raw>) -> Self::Future {
        self.0.apply(message.record());
        ready(Ok(()))
    }
}

/// One change of a [`Table`]: the record that made it.
#[derive(Clone, Debug)]
pub struct TableChange(Record);

impl TableChange {
    /// The key. (A record without one changes nothing.)
    pub fn key(&self) -> &[u8] {
        self.0.key().unwrap_or_default()
    }

    /// The value; `None` where the key was removed.
    pub fn value(&self) -> Option<&[u8]> {
        self.0.value()
    }

    /// The whole record.
    pub fn record(&self) -> &Record {
        &self.0
    }
}

/// The changes of a [`Table`]. See [`Table::changes`].
pub struct TableChanges(broadcast::Receiver<TableChange>);

/// So many changes were not seen; what they led to is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} changes of the table were missed: look at the table itself, and look more often")]
pub struct MissedChanges(pub u64);

impl TableChanges {
    /// The next change; `None` once the history has ended and no table is left. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<TableChange, MissedChanges>> {
        match self.0.recv().await {
            Ok(change) => Some(Ok(change)),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Err(MissedChanges(missed))),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Watches one key of a [`Table`]. See [`Table::watch`].
pub struct KeyWatch {
    table: Table,
    key: Box<[u8]>,
    changed: watch::Receiver<()>,
}

impl KeyWatch {
    /// The entry as it is now; `None` while there is none.
    pub fn get(&self) -> Option<TableEntry> {
        self.table.get(&self.key)
    }

    /// Waits until the key was written or removed, since it was watched or this was told last; several changes may be told
    /// as one. Waits for ever where the history has ended. Dropping the future loses nothing.
    pub async fn changed(&mut self) {
        // The sender is there for as long as someone watches.
        let _ = self.changed.changed().await;
    }
}

impl Drop for KeyWatch {
    fn drop(&mut self) {
        let mut watched = self.table.watched();
        if watched.get(&self.key).is_some_and(|sender| sender.receiver_count() == 1) {
            watched.remove(&self.key);
            self.table.0.watchers.store(watched.len(), Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests;
