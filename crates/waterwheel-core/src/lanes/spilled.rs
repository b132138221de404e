//! What a lane holds of records that were too many to be kept: their offsets.

use std::collections::{HashSet, VecDeque};

/// The offsets behind a lane's queue. They ascend; the first of them are asked for and on their way.
#[derive(Debug)]
pub(super) struct Spilled {
    offsets: VecDeque<i64>,
    asked: usize,
}

/// What became of a record that was read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was the next one of its lane.
    Queued,
    /// Earlier ones of its lane are still on their way.
    Early,
    /// Nobody asked for it.
    Unasked,
}

impl Spilled {
    pub(super) fn of(offset: i64) -> Self {
        Self { offsets: VecDeque::from([offset]), asked: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = i64> {
        self.offsets.iter().copied()
    }

    pub(super) fn has(&self, offset: i64) -> bool {
        self.offsets.binary_search(&offset).is_ok()
    }

    pub(super) fn push(&mut self, offset: i64) {
        self.offsets.push_back(offset);
    }

    /// Up to `most` offsets to ask for. None while some are on their way.
    pub(super) fn ask(&mut self, most: usize) -> Vec<i64> {
        if self.asked > 0 {
            return Vec::new();
        }
        self.asked = self.offsets.len().min(most);
        self.offsets.iter().take(self.asked).copied().collect()
    }

    /// A record came. Forgets its offset if that was the next one.
    pub(super) fn arrive(&mut self, offset: i64) -> Arrival {
        match self.offsets.binary_search(&offset) {
            Ok(0) if self.asked > 0 => {
                self.offsets.pop_front();
                self.asked -= 1;
                Arrival::Queued
            }
            Ok(place) if place < self.asked => Arrival::Early,
            _ => Arrival::Unasked,
        }
    }

    /// Forgets those of `gone` that were asked for, and shows each. Returns how many.
    pub(super) fn lose(&mut self, gone: &HashSet<i64>, mut lost: impl FnMut(i64)) -> usize {
        let (mut place, asked) = (0, self.asked);
        self.offsets.retain(|offset| {
            place += 1;
            let is_gone = place <= asked && gone.contains(offset);
            if is_gone {
                self.asked -= 1;
                lost(*offset);
            }
            !is_gone
        });
        asked - self.asked
    }
}
