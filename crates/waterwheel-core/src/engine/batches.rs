//! The batches that have records in work, and how much memory they hold.

use crate::lanes::Waiting;
use crate::types::{Now, Records};

struct Held<R> {
    records: R,
    /// Records not yet done with: not fetched past, not finished, or waiting.
    alive: u32,
    /// As many as count for the budget; what a batch has beyond 4 GiB does not.
    bytes: u32,
    /// When its records came.
    arrived: Now,
}

/// A slab of batches: a batch stays until the last of its records is done with.
pub(super) struct Batches<R> {
    held: Vec<Option<Held<R>>>,
    vacant: Vec<u32>,
}

impl<R: Records> Batches<R> {
    pub(super) fn new() -> Self {
        Self { held: Vec::new(), vacant: Vec::new() }
    }

    /// Keeps a batch of which `alive` records need work. Returns its place and the bytes it holds.
    pub(super) fn insert(&mut self, records: R, alive: usize, arrived: Now) -> (u32, usize) {
        let counted = u32::try_from(records.pinned_bytes()).unwrap_or(u32::MAX);
        let held = Some(Held { records, alive: alive as u32, bytes: counted, arrived });
        let bytes = counted as usize;
        match self.vacant.pop() {
            Some(at) => {
                self.held[at as usize] = held;
                (at, bytes)
            }
            None => {
                self.held.push(held);
                (self.held.len() as u32 - 1, bytes)
            }
        }
    }

    pub(super) fn records(&self, at: u32) -> Option<&R> {
        self.held.get(at as usize)?.as_ref().map(|h| &h.records)
    }

    /// The time of a record, and when it came.
    pub(super) fn times(&self, at: Waiting) -> Option<(Option<i64>, Now)> {
        let held = self.held.get(at.batch as usize)?.as_ref()?;
        Some((held.records.time_ms(at.index as usize), held.arrived))
    }

    /// One record of the batch is done with. Returns the bytes that this freed.
    #[must_use]
    pub(super) fn release(&mut self, at: u32) -> usize {
        let Some(slot) = self.held.get_mut(at as usize) else { return 0 };
        let Some(held) = slot else { return 0 };
        held.alive = held.alive.saturating_sub(1);
        if held.alive > 0 {
            return 0;
        }
        let bytes = held.bytes as usize;
        *slot = None;
        self.vacant.push(at);
        bytes
    }

    /// Whether less than a quarter of the batch is alive, so that copying the rest out would free memory.
    pub(super) fn is_sparse(&self, at: u32) -> bool {
        let held = self.held.get(at as usize).and_then(Option::as_ref);
        held.is_some_and(|h| h.records.len() > 1 && (h.alive as usize) * 4 < h.records.len())
    }

    /// Copies one record out of its batch. Returns the new place and by how much the bytes held grew (or shrank).
    pub(super) fn detach(&mut self, at: u32, index: u32) -> Option<(u32, isize)> {
        let Held { records, arrived, .. } = self.held.get(at as usize)?.as_ref()?;
        if records.len() == 1 {
            return None;
        }
        let (single, arrived) = (records.detach(index as usize), *arrived);
        let (place, added) = self.insert(single, 1, arrived);
        let freed = self.release(at);
        Some((place, added as isize - freed as isize))
    }

    pub(super) fn count(&self) -> usize {
        self.held.len() - self.vacant.len()
    }
}
