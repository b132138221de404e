//! Whether a worker's partitions go forward, from one look at them after another.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use waterwheel_core::Now;

use super::{Cause, CheckKind, some};
use crate::record::TopicPartition;

/// Lag that has grown at that many looks in a row is told.
const GROWING_LOOKS: usize = 10;

/// One partition at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    /// Finished records, as a position: the frontier, and what is finished above it.
    pub(crate) finished: i64,
    /// The log's end.
    pub(crate) end: i64,
    /// Whether something else tells why it does not move: it is held, or has records in work.
    pub(crate) is_explained: bool,
}

impl Place {
    /// Offsets to go.
    pub(crate) fn lag(&self) -> u64 {
        self.end.saturating_sub(self.finished).max(0).unsigned_abs()
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Where each partition was, and since when it has been there with records to go.
    since: BTreeMap<TopicPartition, (i64, Option<Now>)>,
    /// Lag over all partitions, at looks in which it only grew.
    growing: VecDeque<(Now, u64)>,
}

impl Progress {
    /// What is wrong by this look. Partitions that are not among `places` are forgotten.
    pub(crate) fn look(&mut self, places: &[Place], stall_after: Duration, now: Now) -> Vec<Cause> {
        let mut since = BTreeMap::new();
        let mut stalled = Vec::new();
        for place in places {
            let before = self.since.get(&place.partition).filter(|(finished, _)| *finished == place.finished);
            let at = (place.lag() > 0 && !place.is_explained).then(|| before.and_then(|(_, at)| *at).unwrap_or(now));
            since.insert(place.partition.clone(), (place.finished, at));
            if at.is_some_and(|at| at < now && now.since(at) >= stall_after) {
                stalled.push(&place.partition);
            }
        }
        let same = since.len() == self.since.len() && since.keys().all(|p| self.since.contains_key(p));
        self.since = since;
        let mut causes = Vec::new();
        if !stalled.is_empty() {
            let text = format!(
                "{} partitions have records to go, nothing in work, and have not moved for {stall_after:?}: {}",
                stalled.len(),
                some(&stalled)
            );
            causes.push(Cause::critical(CheckKind::Lag, text));
        }
        causes.extend(self.grows(places.iter().map(Place::lag).sum(), same, now));
        causes
    }

    fn grows(&mut self, lag: u64, same_partitions: bool, now: Now) -> Option<Cause> {
        if !same_partitions || self.growing.back().is_none_or(|(_, before)| lag <= *before) {
            self.growing.clear();
        }
        self.growing.push_back((now, lag));
        if self.growing.len() > GROWING_LOOKS + 1 {
            self.growing.pop_front();
        }
        let (since, before) = *self.growing.front().filter(|_| self.growing.len() > GROWING_LOOKS)?;
        let text = format!("{lag} records to go, {} more than {:?} ago", lag - before, now.since(since));
        Some(Cause::warning(CheckKind::Lag, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthLevel;

    const STALL: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Now {
        Now::at(Duration::from_secs(seconds))
    }

    fn place(finished: i64, end: i64) -> Place {
        Place { partition: TopicPartition::new("t", 0), finished, end, is_explained: false }
    }

    #[test]
    fn a_partition_that_does_not_move_is_critical_and_one_that_waits_for_records_is_not() {
        let mut progress = Progress::default();
        let mut look = |finished, end, s| progress.look(&[place(finished, end)], STALL, at(s));
        assert!(look(5, 9, 0).is_empty() && look(5, 9, 59).is_empty());
        let found = look(5, 9, 60);
        assert_eq!((found[0].level, found[0].check), (HealthLevel::Critical, CheckKind::Lag), "{found:?}");
        assert!(look(6, 9, 61).is_empty(), "it moved");
        assert!(look(9, 9, 62).is_empty());
        assert!(look(9, 9, 500).is_empty(), "there is nothing to go");
        assert!(look(9, 10, 501).is_empty() && look(9, 10, 560).is_empty());
        assert!(!look(9, 10, 561).is_empty());
    }

    #[test]
    fn what_is_held_or_in_work_is_told_by_its_own_check() {
        let mut progress = Progress::default();
        let busy = Place { is_explained: true, ..place(5, 9) };
        assert!(progress.look(std::slice::from_ref(&busy), STALL, at(0)).is_empty());
        assert!(progress.look(&[busy], STALL, at(600)).is_empty());
        assert!(progress.look(&[place(5, 9)], STALL, at(601)).is_empty(), "it stands still since now");
    }

    #[test]
    fn lag_that_grows_on_and_on_is_a_warning() {
        let mut progress = Progress::default();
        let mut look = |n: i64, end| progress.look(&[place(n, end)], STALL, at(n.unsigned_abs()));
        for n in 0..10 {
            assert!(look(n, 100 + 3 * n).is_empty(), "{n}");
        }
        let found = look(10, 130);
        assert_eq!(found[0].level, HealthLevel::Warning);
        assert_eq!(found[0].text, "120 records to go, 20 more than 10s ago");
        assert!(look(11, 131).is_empty(), "it stands");
    }

    #[test]
    fn partitions_that_come_are_no_growth() {
        let mut progress = Progress::default();
        for n in 0..30_i32 {
            let places: Vec<Place> = (0..=n / 10)
                .map(|p| Place { partition: TopicPartition::new("t", p), ..place(i64::from(n), i64::from(2 * n + 50)) })
                .collect();
            let found = progress.look(&places, STALL, at(u64::from(n.unsigned_abs())));
            assert!(found.is_empty(), "{n}: {found:?}");
        }
    }
}
