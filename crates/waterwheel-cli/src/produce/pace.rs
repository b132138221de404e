//! So many records a second at most.

use std::time::Duration;

use tokio::time::Instant;

/// What a timer or a slow input may be late without making the rate lower: as much is caught up with, and no more.
const SLACK: Duration = Duration::from_millis(100);

/// When the next record may go.
pub(super) struct Pace {
    /// Between two records; `None`: as fast as they come.
    step: Option<Duration>,
    next: Option<Instant>,
}

impl Pace {
    /// `rate`: records a second, more than 0.
    pub(super) fn new(rate: Option<f64>) -> Self {
        Self { step: rate.map(|rate| Duration::from_secs_f64(1.0 / rate)), next: None }
    }

    /// When the next record is due, if that is later than now.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.next.filter(|next| *next > now)
    }

    /// A record has gone.
    pub(super) fn took(&mut self, now: Instant) {
        if let Some(step) = self.step {
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            self.next = Some(self.next.map_or(now, |next| next.max(earliest)) + step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that go in `millis` if one is tried each millisecond, but not between the two `pause` tells.
    fn gone(rate: f64, millis: u64, pause: std::ops::Range<u64>) -> u64 {
        let begin = Instant::now();
        let mut pace = Pace::new(Some(rate));
        let mut gone = 0;
        for at in (0..millis).filter(|at| !pause.contains(at)) {
            let now = begin + Duration::from_millis(at);
            while pace.due(now).is_none() {
                pace.took(now);
                gone += 1;
            }
        }
        gone
    }

    #[test]
    fn the_rate_is_kept_whatever_the_timers_steps_and_not_caught_up_with_after_a_pause() {
        for rate in [0.5, 3.0, 700.0, 1_000.0, 12_345.0, 1_000_000.0] {
            let (gone, due) = (gone(rate, 10_000, 0..0) as f64, rate * 10.0);
            assert!((gone - due).abs() <= 1.0 + due * 0.002, "{rate}: {gone} of {due}");
        }
        let (gone, due) = (gone(1_000.0, 10_000, 2_000..8_000), 4_000 + 100);
        assert!(gone.abs_diff(due) <= 5, "{gone}");
    }
}
