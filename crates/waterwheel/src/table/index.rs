//! Entries found by their keys: open addressing, with the hashes in an array of their own.
//!
//! A standard map asks an entry for its key's hash whenever it grows, which reads memory all over the place: of a table of
//! 1 M keys that was almost half of the time that making it took. Growing by half instead of twice keeps it at least 54 % full.

use super::entry::TableEntry;

/// One of a table's indices. Whoever asks brings the hash of the key; 0 is taken as 1.
#[derive(Default)]
pub(super) struct Index {
    /// 0 where there is no entry.
    hashes: Vec<u32>,
    entries: Vec<Option<TableEntry>>,
    len: usize,
}

/// Slots of the smallest index that has any.
const LEAST: usize = 8;

impl Index {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &TableEntry> {
        self.entries.iter().flatten()
    }

    pub(super) fn get(&self, hash: u32, key: &[u8]) -> Option<&TableEntry> {
        self.find(hash.max(1), key).ok().and_then(|at| self.entries[at].as_ref())
    }

    /// Puts the entry in the place of the one with its key, if there is one.
    pub(super) fn put(&mut self, hash: u32, entry: TableEntry) {
        let hash = hash.max(1);
        if (self.len + 1) * 5 > self.hashes.len() * 4 {
            self.grow();
        }
        match self.find(hash, entry.key()) {
            Ok(at) => self.entries[at] = Some(entry),
            Err(at) => {
                (self.hashes[at], self.entries[at]) = (hash, Some(entry));
                self.len += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, hash: u32, key: &[u8]) {
        let Ok(mut hole) = self.find(hash.max(1), key) else { return };
        let slots = self.hashes.len();
        self.len -= 1;
        (self.hashes[hole], self.entries[hole]) = (0, None);
        // Those behind it that stand there only because it was taken move up: nobody would look past the hole.
        let mut at = hole;
        loop {
            at = (at + 1) % slots;
            if self.hashes[at] == 0 {
                return;
            }
            let (from_home, from_hole) = (distance(self.home(self.hashes[at]), at, slots), distance(hole, at, slots));
            if from_home >= from_hole {
                self.hashes.swap(hole, at);
                self.entries.swap(hole, at);
                hole = at;
            }
        }
    }

    /// Where the key's entry is, or else where it would be put. There is a free slot, unless there are none at all.
    fn find(&self, hash: u32, key: &[u8]) -> Result<usize, usize> {
        if self.hashes.is_empty() {
            return Err(0);
        }
        let mut at = self.home(hash);
        loop {
            match self.hashes[at] {
                0 => return Err(at),
                h if h == hash && self.entries[at].as_ref().is_some_and(|entry| entry.key() == key) => return Ok(at),
                _ => at = if at + 1 == self.hashes.len() { 0 } else { at + 1 },
            }
        }
    }

    /// Where a hash belongs: slots are in the order of hashes, so that growing moves through memory from front to end.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.hashes.len() as u64) >> 32) as usize
    }

    fn grow(&mut self) {
        let slots = (self.hashes.len() * 3 / 2).max(LEAST);
        let hashes = std::mem::replace(&mut self.hashes, vec![0; slots]);
        let entries = std::mem::replace(&mut self.entries, std::iter::repeat_with(|| None).take(slots).collect());
        for (hash, entry) in hashes.into_iter().zip(entries).filter(|(hash, _)| *hash != 0) {
            let mut at = self.home(hash);
            while self.hashes[at] != 0 {
                at = if at + 1 == slots { 0 } else { at + 1 };
            }
            (self.hashes[at], self.entries[at]) = (hash, entry);
        }
    }
}

/// How far it is from one slot on to another.
fn distance(from: usize, to: usize, slots: usize) -> usize {
    (to + slots - from) % slots
}
