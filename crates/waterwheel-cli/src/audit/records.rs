//! The records that were produced, and what became of each: 16 bytes a record.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::AuditError;
use super::line::{Finish, Words, each_line};

/// Every produced record, by partition and offset.
#[derive(Debug, Default)]
pub struct Records {
    partitions: BTreeMap<i32, Partition>,
    torn: u64,
}

#[derive(Debug, Default)]
struct Partition {
    /// Ascending, without repetition; may have gaps.
    offsets: Vec<i64>,
    states: Vec<State>,
}

/// The place of a record in [`Records`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) index: usize,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) handled: bool,
    pub(super) dead_lettered: bool,
    pub(super) skipped: bool,
    pub(super) duplicate: bool,
    /// The journal (numbered from 1) that last started it.
    pub(super) started_in: u16,
    /// The journal (numbered from 1) that last finished it.
    pub(super) finished_in: u16,
}

impl State {
    pub(super) fn finished(self) -> bool {
        self.finished_in != 0
    }

    /// Marks the record finished by `journal`: by success, or in the way told.
    pub(super) fn finish(&mut self, how: Option<Finish>, journal: u16) {
        self.duplicate |= self.finished();
        self.finished_in = journal;
        match how {
            None => self.handled = true,
            Some(Finish::DeadLetter) => self.dead_lettered = true,
            Some(Finish::Skip) => self.skipped = true,
        }
    }
}

impl Records {
    /// Reads a produced list; `file` names it in errors.
    pub fn read(input: impl BufRead, file: &str) -> Result<Self, AuditError> {
        let mut records = Records::default();
        records.torn = each_line(input, file, |_, line| {
            let mut words = Words(line);
            records.add(words.number()?, words.number()?);
            Ok(())
        })?;
        records.seal();
        Ok(records)
    }

    /// The records at these partitions and offsets.
    pub fn of(places: impl IntoIterator<Item = (i32, i64)>) -> Self {
        let mut records = Records::default();
        for (partition, offset) in places {
            records.add(partition, offset);
        }
        records.seal();
        records
    }

    fn add(&mut self, partition: i32, offset: i64) {
        self.partitions.entry(partition).or_default().offsets.push(offset);
    }

    /// Acknowledgements may come in any order, and be told twice.
    fn seal(&mut self) {
        for partition in self.partitions.values_mut() {
            partition.offsets.sort_unstable();
            partition.offsets.dedup();
            partition.offsets.shrink_to_fit();
            partition.states = vec![State::default(); partition.offsets.len()];
        }
    }

    pub(super) fn torn(&self) -> u64 {
        self.torn
    }

    pub(super) fn find(&self, partition: i32, offset: i64) -> Option<Place> {
        let index = self.partitions.get(&partition)?.index_of(offset).ok()?;
        Some(Place { partition, index })
    }

    /// The index in its partition of the first record at `offset` or above.
    pub(super) fn index_from(&self, partition: i32, offset: i64) -> usize {
        self.partitions.get(&partition).map_or(0, |found| found.index_of(offset).unwrap_or_else(|next| next))
    }

    /// The place must come from this object.
    pub(super) fn state(&mut self, place: Place) -> Option<&mut State> {
        self.partitions.get_mut(&place.partition)?.states.get_mut(place.index)
    }

    /// All records with what became of them, by partition and offset.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i32, i64, State)> {
        self.partitions.iter().flat_map(|(number, partition)| {
            partition.offsets.iter().zip(&partition.states).map(|(offset, state)| (*number, *offset, *state))
        })
    }

    pub(super) fn offset(&self, place: Place) -> Option<i64> {
        self.partitions.get(&place.partition)?.offsets.get(place.index).copied()
    }
}

impl Partition {
    /// Offsets are mostly without gaps: then the first guess is right.
    fn index_of(&self, offset: i64) -> Result<usize, usize> {
        if let Some(first) = self.offsets.first()
            && let Ok(guess) = usize::try_from(offset.saturating_sub(*first))
            && self.offsets.get(guess) == Some(&offset)
        {
            return Ok(guess);
        }
        self.offsets.binary_search(&offset)
    }
}
