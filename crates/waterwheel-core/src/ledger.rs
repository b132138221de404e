//! Which offsets of one partition are finished, within one assignment, and so what may be committed.
//!
//! Owner of two invariants. **I1**: the frontier never passes an unfinished record; it is the lowest offset that is not
//! finished, and the only offset that is ever committed. **I5** (the ledger's half): the frontier never goes back; a new
//! assignment, a reset or a truncation begins with a new ledger.
//!
//! Records come in fetch order, once each ([`admit`](Ledger::admit)), and finish in any order
//! ([`finish`](Ledger::finish)). Offsets that the fetch passes over (compacted, control records, aborted) are finished the
//! moment they are passed. A partition that finishes in order costs two integers and touches no memory; what finishes out
//! of order is kept in pages of bits, full stretches as two integers however long.
//!
//! ```text
//!          frontier            next
//!   finished │ finished or not  │ not fetched; finished only where the commit map says so
//! ───────────┴──────────────────┴──────────────────▶ offset
//! ```
//! The frontier can lie beyond `next`: what the commit map had marked there needs no fetch to be finished.

mod marks;
#[cfg(test)]
mod tests;

use std::ops::Range;

use marks::Marks;
pub use marks::Ranges;

/// What a record is to the ledger that it is admitted to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// To be worked on; [`Ledger::finish`] ends it.
    New,
    /// The commit map says it was finished before: not to be run again.
    AlreadyFinished,
    /// Below what was fetched before (or `i64::MAX`, which no record has): nothing was changed.
    Old,
}

/// The finished offsets of one partition in one assignment.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// The lowest offset not finished.
    frontier: i64,
    /// One past the highest offset fetched.
    next: i64,
    /// Admitted as new and not finished.
    unfinished: u64,
    /// What is finished above the frontier. Offsets below the frontier in it mean nothing.
    marks: Marks,
}

impl Ledger {
    /// A ledger for an assignment that begins at the committed offset `frontier`, above which `already_finished` (from the
    /// commit map, in any order) needs no work.
    pub fn new(frontier: i64, already_finished: impl IntoIterator<Item = Range<i64>>) -> Self {
        let mut marks = Marks::default();
        for range in already_finished {
            marks.insert_range(range.start.max(frontier)..range.end);
        }
        let next = frontier;
        let frontier = marks.advance(frontier);
        Self { frontier, next, unfinished: 0, marks }
    }

    /// Takes in the next record in fetch order. The offsets passed over since the last one are a gap, and finished.
    #[inline]
    pub fn admit(&mut self, offset: i64) -> Admitted {
        if offset < self.next || offset == i64::MAX {
            return Admitted::Old;
        }
        if offset > self.next {
            self.skip_to(offset);
        }
        self.next = offset + 1;
        if offset < self.frontier || self.marks.contains(offset) {
            return Admitted::AlreadyFinished;
        }
        self.unfinished += 1;
        Admitted::New
    }

    /// Takes in that the fetch has gone on to `next` without a record: what lies between is a gap, and finished.
    pub fn skip_to(&mut self, next: i64) {
        if next <= self.next {
            return;
        }
        let gap = self.next.max(self.frontier)..next;
        self.next = next;
        if gap.start == self.frontier && gap.end > self.frontier {
            self.frontier = self.marks.advance(gap.end);
        } else {
            self.marks.insert_range(gap);
        }
    }

    /// Forgets what the commit map said about offsets from `from` on, as far as they are not admitted yet: the log was
    /// written anew there.
    pub fn forget_known(&mut self, from: i64) {
        let from = from.max(self.next);
        let kept: Vec<_> = self.finished_above().map(|r| r.start.min(from)..r.end.min(from)).collect();
        self.marks = Marks::default();
        kept.into_iter().for_each(|r| self.marks.insert_range(r));
        self.frontier = self.frontier.min(from);
    }

    /// Marks an admitted record as finished. False, and nothing changed, when it was finished before or never admitted.
    #[inline]
    pub fn finish(&mut self, offset: i64) -> bool {
        if offset < self.frontier || offset >= self.next {
            return false;
        }
        if offset == self.frontier {
            self.frontier = self.marks.advance(offset + 1);
        } else if !self.marks.insert(offset) {
            return false;
        }
        self.unfinished -= 1;
        true
    }

    /// The lowest offset that is not finished: what may be committed.
    pub fn frontier(&self) -> i64 {
        self.frontier
    }

    /// The offset that the fetch is expected to bring next, or a higher one.
    pub fn next(&self) -> i64 {
        self.next
    }

    /// Whether `offset` needs no work any more.
    pub fn is_finished(&self, offset: i64) -> bool {
        offset < self.frontier || self.marks.contains(offset)
    }

    /// What is finished above the frontier: ascending ranges that neither overlap nor touch, those from the commit map
    /// included. They begin above the frontier, as the commit map wants them.
    pub fn finished_above(&self) -> Ranges<'_> {
        self.marks.ranges(self.frontier)
    }

    /// How many offsets are finished above the frontier, gaps included. Costs a look at each page.
    pub fn finished_above_count(&self) -> u64 {
        self.marks.count(self.frontier)
    }

    /// How many records are admitted and not finished.
    pub fn unfinished_count(&self) -> u64 {
        self.unfinished
    }

    /// Bytes of heap held.
    pub fn memory_bytes(&self) -> usize {
        self.marks.memory_bytes()
    }
}
