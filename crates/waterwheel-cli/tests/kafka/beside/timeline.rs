//! What journals show when they are laid side by side: starts that overlapped across members, order, standstills.
//!
//! The journals have no times of their own; those at which they were read decide, and only what is certain by them counts
//! ([`Reading`](crate::support::Reading)): of an overlap both attempts must be seen to run at one moment. It knows starts
//! and ends alone, so that it judges any program's members alike.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::support::{Entry, Reading, Tail};

/// A member that was killed or frozen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Struck {
    pub(super) member: usize,
    /// When it had stopped: nothing is written to its journal from there on.
    pub(super) from: Reading,
    /// When it went on; never if it was killed.
    pub(super) until: Option<Reading>,
}

/// One start of a handler, and its end.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    offset: i64,
    member: usize,
    /// Its place in its member's journal.
    index: usize,
    start: u32,
    /// The place and the look of its end.
    end: Option<(usize, u32)>,
}

#[derive(Debug, Default)]
pub(super) struct Timeline {
    /// Attempts by partition and key.
    lanes: HashMap<(i32, String), Vec<Attempt>>,
    /// Times of ends, by partition.
    ends: BTreeMap<i32, Vec<Duration>>,
    struck: Vec<Struck>,
}

/// What it shows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Starts while a record of the same partition and key ran, in any member.
    pub(super) overlaps: usize,
    /// Attempts that ran when their member was frozen, and during which another member started one of the same key.
    pub(super) overlaps_of_frozen: usize,
    /// Records first started after a later one of their key.
    pub(super) reorders: usize,
    /// The longest time between two ends in one partition.
    pub(super) standstill: Duration,
}

impl Timeline {
    /// Lays those journals, by the members' numbers, side by side.
    pub(super) fn new(tails: &[Tail], keys: &HashMap<(i32, i64), String>, struck: &[Struck]) -> Self {
        let mut timeline = Self { struck: struck.to_vec(), ..Self::default() };
        for (member, tail) in tails.iter().enumerate() {
            timeline.read(member, &tail.entries, &tail.readings, keys);
        }
        timeline
    }

    fn read(&mut self, member: usize, entries: &[Entry], readings: &[Reading], keys: &HashMap<(i32, i64), String>) {
        let mut running: HashMap<(i32, i64), Vec<Attempt>> = HashMap::new();
        for (index, (entry, reading)) in entries.iter().zip(readings).enumerate() {
            match *entry {
                Entry::Start(partition, offset) => {
                    let attempt = Attempt { offset, member, index, start: reading.pass, end: None };
                    running.entry((partition, offset)).or_default().push(attempt);
                }
                Entry::End(partition, offset) | Entry::Cut(partition, offset) => {
                    let attempt = running.get_mut(&(partition, offset)).and_then(Vec::pop);
                    let attempt = attempt.unwrap_or_else(|| panic!("member {member}: {entry:?} without a start"));
                    self.add(partition, Attempt { end: Some((index, reading.pass)), ..attempt }, keys);
                    if matches!(entry, Entry::End(..)) {
                        self.ends.entry(partition).or_default().push(reading.at);
                    }
                }
                _ => {}
            }
        }
        let death = self.struck.iter().find(|struck| struck.member == member && struck.until.is_none());
        // What a dead member ran ended with it; what one that ended in order left running never will.
        let last = death.map(|struck| struck.from).or(readings.last().copied());
        for ((partition, _), attempts) in running {
            for attempt in attempts {
                let end = last.map(|last| (entries.len(), last.pass));
                self.add(partition, Attempt { end, ..attempt }, keys);
            }
        }
    }

    fn add(&mut self, partition: i32, attempt: Attempt, keys: &HashMap<(i32, i64), String>) {
        // Without a key there is no order.
        if let Some(key) = keys.get(&(partition, attempt.offset)) {
            self.lanes.entry((partition, key.clone())).or_default().push(attempt);
        }
    }

    pub(super) fn shown(&mut self) -> Shown {
        let mut shown = Shown::default();
        let struck = std::mem::take(&mut self.struck);
        let is_frozen = |attempt: &Attempt| {
            struck.iter().any(|struck| {
                struck.member == attempt.member
                    && attempt.start <= struck.from.pass
                    && struck.until.is_some_and(|until| attempt.end.is_none_or(|(_, end)| end >= until.pass))
            })
        };
        for attempts in self.lanes.values_mut() {
            attempts.sort_unstable_by_key(|attempt| (attempt.start, attempt.member, attempt.index));
            let mut frozen_and_passed = vec![false; attempts.len()];
            for (n, later) in attempts.iter().enumerate() {
                let overlapped = |earlier: &Attempt| earlier.runs_at_start_of(later) && later.runs_at_start_of(earlier);
                let mut counted = false;
                for (m, earlier) in attempts[..n].iter().enumerate().filter(|(_, earlier)| overlapped(earlier)) {
                    // Within a member nothing excuses it.
                    if is_frozen(earlier) && earlier.member != later.member {
                        frozen_and_passed[m] = true;
                    } else {
                        counted = true;
                    }
                }
                shown.overlaps += usize::from(counted);
            }
            shown.overlaps_of_frozen += frozen_and_passed.iter().filter(|passed| **passed).count();
            shown.reorders += reorders(attempts);
        }
        self.struck = struck;
        self.ends.values_mut().for_each(|ends| ends.sort_unstable());
        let gaps = self.ends.values().flat_map(|ends| ends.windows(2).map(|pair| pair[1] - pair[0]));
        shown.standstill = gaps.max().unwrap_or_default();
        shown
    }
}

impl Attempt {
    /// Whether it is certain that it had not ended when the other started.
    fn runs_at_start_of(&self, other: &Attempt) -> bool {
        match self.end {
            None => true,
            Some((index, _)) if self.member == other.member => index > other.index,
            Some((_, pass)) => pass >= other.start + 2,
        }
    }

    /// Whether it is certain that it started before the other.
    fn starts_before(&self, other: &Attempt) -> bool {
        if self.member == other.member { self.index < other.index } else { self.start + 2 <= other.start }
    }
}

/// Of one key's attempts, in the order of their starts.
fn reorders(attempts: &[Attempt]) -> usize {
    let mut first: BTreeMap<i64, &Attempt> = BTreeMap::new();
    for attempt in attempts {
        first.entry(attempt.offset).or_insert(attempt);
    }
    let of_first: Vec<&Attempt> = first.into_values().collect();
    let is_late = |(n, record): (usize, &&Attempt)| of_first[n + 1..].iter().any(|later| later.starts_before(record));
    of_first.iter().enumerate().filter(|(n, record)| is_late((*n, record))).count()
}

/// Records that a member has in work by the end of its journal, and those that it finished since that time.
pub(super) fn exposed(tail: &Tail, since: Duration) -> (usize, usize) {
    let (mut in_work, mut finished) = (0_usize, 0);
    for (entry, reading) in tail.entries.iter().zip(&tail.readings) {
        match entry {
            Entry::Start(..) => in_work += 1,
            Entry::Cut(..) => in_work -= 1,
            Entry::End(..) => {
                in_work -= 1;
                finished += usize::from(reading.at >= since);
            }
            _ => {}
        }
    }
    (in_work, finished)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(pass: u32) -> Reading {
        Reading { pass, at: Duration::from_millis(u64::from(pass)) }
    }

    /// By member, entries with the look at which they were read; the key of offset n is `n % 10`.
    fn shown(members: &[&[(u32, Entry)]], struck: &[Struck]) -> Shown {
        let keys = (0..100).map(|offset| ((0, offset), format!("k{}", offset % 10))).collect();
        let mut timeline = Timeline { struck: struck.to_vec(), ..Timeline::default() };
        for (member, entries) in members.iter().enumerate() {
            let readings: Vec<Reading> = entries.iter().map(|(pass, _)| at(*pass)).collect();
            let entries: Vec<Entry> = entries.iter().map(|(_, entry)| *entry).collect();
            timeline.read(member, &entries, &readings, &keys);
        }
        timeline.shown()
    }

    fn s(pass: u32, offset: i64) -> (u32, Entry) {
        (pass, Entry::Start(0, offset))
    }

    fn e(pass: u32, offset: i64) -> (u32, Entry) {
        (pass, Entry::End(0, offset))
    }

    fn counts(shown: &Shown) -> (usize, usize, usize) {
        (shown.overlaps, shown.overlaps_of_frozen, shown.reorders)
    }

    #[test]
    fn an_overlap_within_a_member_and_across_members_is_found() {
        assert_eq!(counts(&shown(&[&[s(1, 1), s(1, 11), e(1, 1), e(1, 11)]], &[])), (1, 0, 0));
        assert_eq!(counts(&shown(&[&[s(1, 1), e(9, 1)], &[s(3, 1), e(5, 1)]], &[])), (1, 0, 0));
        assert_eq!(counts(&shown(&[&[s(1, 1), e(9, 1)], &[s(3, 11), e(12, 11)]], &[])), (1, 0, 0));
        assert_eq!(counts(&shown(&[&[s(1, 1), e(9, 1)], &[s(3, 2), e(12, 2)]], &[])), (0, 0, 0), "another key");
    }

    #[test]
    fn what_may_have_been_one_after_the_other_is_no_overlap() {
        assert_eq!(counts(&shown(&[&[s(1, 1), e(6, 1)], &[s(5, 11), e(9, 11)]], &[])), (0, 0, 0));
        assert_eq!(counts(&shown(&[&[s(5, 1), e(9, 1)], &[s(5, 11), e(5, 11)]], &[])), (0, 0, 0));
    }

    #[test]
    fn what_a_dead_member_ran_overlaps_nothing_after_its_death() {
        let dead = Struck { member: 0, from: at(4), until: None };
        assert_eq!(counts(&shown(&[&[s(1, 1)], &[s(5, 1), e(9, 1)]], &[dead])), (0, 0, 0));
        assert_eq!(counts(&shown(&[&[s(1, 1)], &[s(2, 1), e(9, 1)]], &[dead])), (1, 0, 0), "while it lived");
    }

    #[test]
    fn what_a_frozen_member_ran_is_counted_apart_and_what_it_starts_then_is_not() {
        let frozen = Struck { member: 0, from: at(4), until: Some(at(20)) };
        let other = [s(9, 1), e(10, 1), s(12, 11), e(30, 11)];
        assert_eq!(counts(&shown(&[&[s(1, 1), e(21, 1)], &other], &[frozen])), (0, 1, 0));
        assert_eq!(counts(&shown(&[&[s(1, 1), e(21, 1), s(22, 11), e(25, 11)], &other], &[frozen])), (1, 1, 0));
    }

    #[test]
    fn a_record_first_started_after_a_later_one_is_a_reorder_and_one_that_runs_again_is_not() {
        assert_eq!(counts(&shown(&[&[s(1, 11), e(1, 11), s(1, 1), e(1, 1)]], &[])), (0, 0, 1));
        assert_eq!(counts(&shown(&[&[s(1, 11), e(1, 11)], &[s(4, 1), e(5, 1)]], &[])), (0, 0, 1));
        assert_eq!(counts(&shown(&[&[s(1, 11), e(1, 11)], &[s(2, 1), e(5, 1)]], &[])), (0, 0, 0), "uncertain");
        let first = [s(1, 1), e(1, 1), s(2, 11), e(2, 11)];
        assert_eq!(counts(&shown(&[&first, &[s(6, 1), e(6, 1), s(7, 11), e(7, 11)]], &[])), (0, 0, 0), "again");
    }

    #[test]
    fn the_standstill_is_the_longest_gap_within_a_partition() {
        let other = [(30, Entry::Start(1, 5)), (30, Entry::End(1, 5))];
        let shown = shown(&[&[s(1, 1), e(2, 1), s(3, 2), e(19, 2), s(20, 3), e(25, 3)], &other], &[]);
        assert_eq!(shown.standstill, Duration::from_millis(17));
    }
}
