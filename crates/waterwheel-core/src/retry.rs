//! When a failed record is tried again.

use std::hash::BuildHasher;
use std::time::Duration;

/// Exponential back-off with jitter.
///
/// The wait after attempt *n* is `initial` × `factor`^(*n* − 1), at most `max`, then made shorter by up to the share
/// `jitter` of itself, so that records which failed together do not all come back together.
#[derive(Clone, Debug, PartialEq)]
pub struct Retry {
    attempts: Option<u32>,
    initial: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
}

impl Default for Retry {
    /// Five attempts; 200 ms, doubling, at most 30 s, jitter 0.2.
    fn default() -> Self {
        Self {
            attempts: Some(5),
            initial: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        }
    }
}

impl Retry {
    /// Back-off that starts at `initial` and doubles, at most `max`; five attempts, jitter 0.2.
    pub fn exponential(initial: Duration, max: Duration) -> Self {
        Self { initial, max, ..Self::default() }
    }

    /// The same wait each time, without jitter; five attempts.
    pub fn fixed(wait: Duration) -> Self {
        Self { initial: wait, max: wait, factor: 1.0, jitter: 0.0, ..Self::default() }
    }

    /// One attempt and no retry.
    pub fn none() -> Self {
        Self { attempts: Some(1), ..Self::default() }
    }

    /// How often a record is tried, the first time included; at least 1. Default: 5.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts.max(1));
        self
    }

    /// Tries without end.
    pub fn forever(mut self) -> Self {
        self.attempts = None;
        self
    }

    /// What each wait is multiplied by for the next; at least 1. Default: 2.
    pub fn factor(mut self, factor: f64) -> Self {
        self.factor = if factor.is_finite() { factor.max(1.0) } else { 1.0 };
        self
    }

    /// The share of a wait that chance may take away, from 0 to 1. Default: 0.2.
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// How often a record is tried; `None` without end.
    pub fn most(&self) -> Option<u32> {
        self.attempts
    }

    /// The longest wait.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// Whether a record that failed `attempts` times has had all of them.
    pub fn is_exhausted(&self, attempts: u32) -> bool {
        self.attempts.is_some_and(|most| attempts >= most)
    }

    /// The wait after attempt `attempt` (from 1). `seed` decides the jitter: the same seed, the same wait.
    pub fn wait(&self, attempt: u32, seed: u64) -> Duration {
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let wait = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let chance = foldhash::quality::FixedState::default().hash_one((seed, attempt)) as f64 / u64::MAX as f64;
        Duration::try_from_secs_f64(wait * (1.0 - self.jitter * chance)).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_stay_there() {
        let r = Retry::exponential(Duration::from_millis(200), Duration::from_secs(1)).jitter(0.0);
        let waits: Vec<_> = (1..6).map(|n| r.wait(n, 0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1000, 1000]);
        assert_eq!(r.wait(u32::MAX, 0), Duration::from_secs(1));
    }

    #[test]
    fn jitter_only_shortens_and_within_its_share() {
        let r = Retry::default().jitter(0.5);
        let waits: Vec<_> = (0..1000).map(|seed| r.wait(1, seed).as_millis()).collect();
        assert!(waits.iter().all(|w| (100..=200).contains(w)));
        assert!(waits.iter().min() < waits.iter().max());
        assert_eq!(r.wait(3, 7), r.wait(3, 7));
    }

    /// Seen elsewhere: 2^n that wraps after eight tries, and jitter on the first wait only, so that all come back at once.
    #[test]
    fn back_off_does_not_wrap_nor_jitter_its_base_only() {
        let cap = Duration::from_secs(32);
        let full = Retry::exponential(Duration::from_millis(200), cap).jitter(1.0).forever();
        for attempt in 1..=20 {
            let waits: Vec<Duration> = (0..1_000).map(|seed| full.wait(attempt, seed)).collect();
            let ceiling = (Duration::from_millis(200) * 2_u32.pow(attempt - 1)).min(cap);
            assert!(waits.iter().all(|wait| *wait <= ceiling), "attempt {attempt}");
            // Spread over all that it may be, at the cap, too: each tenth of it has its share.
            for tenth in 0..10 {
                let (from, to) = (ceiling * tenth / 10, ceiling * (tenth + 1) / 10);
                let share = waits.iter().filter(|wait| **wait >= from && **wait <= to).count();
                assert!((50..200).contains(&share), "attempt {attempt}: {share} of 1,000 from {from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn attempts_count_the_first_one() {
        assert!(!Retry::default().is_exhausted(4) && Retry::default().is_exhausted(5));
        assert!(Retry::none().is_exhausted(1));
        assert!(!Retry::default().forever().is_exhausted(u32::MAX));
    }

    #[test]
    fn senseless_settings_are_bounded() {
        let r = Retry::exponential(Duration::MAX, Duration::MAX).factor(f64::NAN).jitter(f64::INFINITY).attempts(0);
        assert!(r.is_exhausted(1));
        assert!(r.wait(9, 1) <= Duration::MAX);
    }
}
