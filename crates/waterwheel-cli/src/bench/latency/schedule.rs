//! When each record is due: record n at n/rate seconds, whatever became of those before it.
//!
//! A generator that waits for answers, or that forgets what it should have sent while it could not, measures only the
//! moments in which all was well ("coordinated omission"). This one sends what is overdue at once, and a latency counts
//! from the time at which the record was due.

use std::time::Duration;

/// Later than this counts as late: a sleep of the system is exact to a tenth of it.
pub(super) const LATE: Duration = Duration::from_millis(1);

/// The times of all records.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Records a second.
    pub(super) rate: u64,
    /// Records that are not counted.
    pub(super) warm_up: u64,
    pub(super) total: u64,
}

impl Schedule {
    pub(super) fn new(rate: u32, warm_up: Duration, duration: Duration) -> Self {
        let records = |time: Duration| (u128::from(rate) * time.as_nanos()).div_ceil(1_000_000_000) as u64;
        let (rate, warm_up, counted) = (u64::from(rate), records(warm_up), records(duration));
        Self { rate, warm_up, total: warm_up + counted }
    }

    pub(super) fn counts(&self, record: u64) -> bool {
        record >= self.warm_up
    }

    /// When that record is due, from the first one's time on.
    pub(super) fn due(&self, record: u64) -> Duration {
        let nanos = u128::from(record) * 1_000_000_000 / u128::from(self.rate);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// Whether the generator kept up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Records that were sent, warm-up included.
    pub(super) sent: u64,
    /// Counted records that were sent more than [`LATE`] after they were due.
    pub(super) late: u64,
    /// The most that a counted record was sent after it was due.
    pub(super) latest: Duration,
}

impl Kept {
    /// That record is sent now.
    pub(super) fn note(&mut self, schedule: &Schedule, record: u64, now: Duration) {
        self.sent += 1;
        if schedule.counts(record) {
            let behind = now.saturating_sub(schedule.due(record));
            self.late += u64::from(behind > LATE);
            self.latest = self.latest.max(behind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn records_are_due_at_a_steady_rate() {
        let schedule = Schedule::new(3, S, 2 * S);
        assert_eq!((schedule.warm_up, schedule.total), (3, 9));
        let due: Vec<u128> = (0..5).map(|n| schedule.due(n).as_micros()).collect();
        assert_eq!(due, [0, 333_333, 666_666, 1_000_000, 1_333_333]);
        assert!(!schedule.counts(2) && schedule.counts(3));
        // No rounding adds up: an hour at the highest rate.
        let long = Schedule::new(1_000_000, Duration::ZERO, 3600 * S);
        assert_eq!((long.total, long.due(long.total)), (3_600_000_000, 3600 * S));
        // The last part of a second counts as well.
        assert_eq!(Schedule::new(10, Duration::ZERO, Duration::from_millis(1_050)).total, 11);
    }

    #[test]
    fn a_generator_that_falls_behind_keeps_the_intended_times_and_says_so() {
        let schedule = Schedule::new(1000, Duration::from_millis(2), S);
        let mut kept = Kept::default();
        let ms = Duration::from_millis;
        // It stood still until 6 ms, then sent all that was due: of the warm-up, late, late, late, late by 1 ms, in time.
        for (record, now) in [(0, 6), (1, 6), (2, 6), (3, 6), (4, 6), (5, 6), (6, 6)] {
            kept.note(&schedule, record, ms(now));
        }
        assert_eq!(kept, Kept { sent: 7, late: 3, latest: ms(4) });
    }
}
