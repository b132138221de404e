//! Process delay: how long a record waits, by its own time, before it may start.
//!
//! The clocks of who writes, of the broker and of the worker are not one. So a record never waits for longer than the delay,
//! counted from when it came, whatever time it claims to be of.

use std::time::Duration;

/// How far ahead of the worker's clock a record's time may be, in milliseconds, before the clocks count as disagreeing.
/// Synchronised ones are milliseconds apart.
const TOLERANCE_MS: i64 = 1_000;

/// How long a record waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// From now on; at most the delay.
    pub rest: Duration,
    /// The record has no time, or one more than a second ahead of when it came.
    pub clocks_disagree: bool,
}

impl Wait {
    /// Whether the record is not due yet.
    pub fn is_on(&self) -> bool {
        !self.rest.is_zero()
    }
}

/// How long a record of the time `written_ms`, which came at `arrived_ms`, waits at `now_ms`; all in milliseconds since the
/// Unix epoch. One that has no time does not wait; one from the future waits from when it came.
pub fn wait(delay: Duration, written_ms: Option<i64>, arrived_ms: i64, now_ms: i64) -> Wait {
    let Some(written_ms) = written_ms else { return Wait { rest: Duration::ZERO, clocks_disagree: true } };
    let clocks_disagree = written_ms > arrived_ms.saturating_add(TOLERANCE_MS);
    let due_ms = written_ms.min(arrived_ms).saturating_add(millis(delay));
    let rest = match u64::try_from(due_ms.saturating_sub(now_ms)) {
        Ok(ms) if ms > 0 => Duration::from_millis(ms).min(delay),
        _ => Duration::ZERO,
    };
    Wait { rest, clocks_disagree }
}

/// Whole milliseconds, without the 128 bits of [`Duration::as_millis`]: each record is looked at.
fn millis(time: Duration) -> i64 {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000).saturating_add(i64::from(time.subsec_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const DELAY: Duration = Duration::from_secs(5);

    fn at(written_ms: i64) -> (u128, bool) {
        let Wait { rest, clocks_disagree } = wait(DELAY, Some(written_ms), NOW, NOW);
        (rest.as_millis(), clocks_disagree)
    }

    #[test]
    fn a_record_waits_until_its_time_and_the_delay_have_passed() {
        assert_eq!(at(NOW), (5_000, false));
        assert_eq!(at(NOW - 1), (4_999, false));
        assert_eq!(at(NOW - 4_999), (1, false));
        assert_eq!(at(NOW - 5_000), (0, false));
        assert_eq!(at(0), (0, false));
    }

    #[test]
    fn a_time_that_cannot_be_makes_nobody_wait_for_longer_than_the_delay() {
        assert_eq!(at(NOW + 1_000), (5_000, false), "clocks are never quite the same");
        assert_eq!(at(NOW + 1_001), (5_000, true));
        // The first of January 9999.
        assert_eq!(at(253_370_764_800_000), (5_000, true));
        assert_eq!(at(i64::MAX), (5_000, true));
        assert_eq!(at(i64::MIN), (0, false));
        assert_eq!(wait(DELAY, None, NOW, NOW), Wait { rest: Duration::ZERO, clocks_disagree: true });
        assert_eq!(
            wait(Duration::MAX, Some(i64::MAX), i64::MAX, i64::MIN).rest,
            Duration::from_millis(i64::MAX as u64)
        );
    }

    /// Looked at again and again, a record from the future would never be due.
    #[test]
    fn what_is_left_to_wait_shrinks_with_time_whatever_the_record_says() {
        for written in [NOW - 3_000, NOW, NOW + 60_000, i64::MAX] {
            let first = wait(DELAY, Some(written), NOW, NOW).rest;
            let later = wait(DELAY, Some(written), NOW, NOW + 1_000).rest;
            assert_eq!(first - later, Duration::from_secs(1), "{written}");
            assert_eq!(wait(DELAY, Some(written), NOW, NOW + 5_000).rest, Duration::ZERO, "{written}");
        }
    }

    #[test]
    fn a_worker_whose_clock_was_set_back_waits_no_longer_than_the_delay() {
        assert_eq!(wait(DELAY, Some(NOW), NOW, NOW - 3_600_000).rest, DELAY);
    }
}
