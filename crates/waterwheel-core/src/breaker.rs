//! A circuit breaker: whether attempts may begin, by how the last ones ended.
//!
//! ```text
//! closed ──enough failures──▶ open ──its time is up──▶ half-open ──all probes succeed──▶ closed
//!                              ▲                           │
//!                              └─────────one fails─────────┘
//! ```
//!
//! Time without attempts says nothing. What was begun before a state says nothing in it: attempts that time out long
//! after the breaker opened neither keep it open nor open it again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::types::Now;

/// The parts that a window of the failure rate is counted in.
const PARTS: u32 = 10;

/// When a worker stops starting records, and how it begins again.
///
/// What counts as a failure: an attempt whose handler returned an error, panicked, or took too long. A record that cannot
/// be decoded, and an attempt that is not counted (`Failure::uncounted`), are neither success nor failure.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    trip: Trip,
    open_for: Duration,
    at_most: Option<Duration>,
    probes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Trip {
    Consecutive(u32),
    Rate { share: f64, window: Duration, least: u32 },
}

impl Breaker {
    /// Opens after that many failed attempts without a success between them, over all partitions; at least 1. Open for
    /// 10 s, then one probe, unless told otherwise.
    pub fn consecutive(failures: u32) -> Self {
        Self::of(Trip::Consecutive(failures))
    }

    /// Opens when more than that share (0 to 1) of the attempts that ended within `window` failed, and at least ten ended
    /// in it ([`least`](Self::least)). Open for 10 s, then one probe, unless told otherwise.
    pub fn failure_rate(share: f64, window: Duration) -> Self {
        Self::of(Trip::Rate { share, window, least: 10 })
    }

    fn of(trip: Trip) -> Self {
        Self { trip, open_for: Duration::from_secs(10), at_most: None, probes: 1 }
    }

    /// Attempts that must have ended within the window before their rate means anything. Default: 10. No effect with
    /// [`consecutive`](Self::consecutive).
    pub fn least(mut self, attempts: u32) -> Self {
        if let Trip::Rate { least, .. } = &mut self.trip {
            *least = attempts;
        }
        self
    }

    /// How long it stays open before probes are let through. Default: 10 s.
    pub fn open_for(mut self, time: Duration) -> Self {
        self.open_for = time;
        self
    }

    /// Each time that probes fail, it stays open for twice as long, up to that. Default: always for
    /// [`open_for`](Self::open_for).
    pub fn at_most(mut self, time: Duration) -> Self {
        self.at_most = Some(time);
        self
    }

    /// Attempts that are let through when its time is up; all must succeed. At least 1. Default: 1.
    pub fn probes(mut self, attempts: u32) -> Self {
        self.probes = attempts;
        self
    }

    /// What is wrong with the settings: the key, and the problem.
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        match self.trip {
            Trip::Consecutive(0) => return Some(("breaker.failures", "must be at least 1")),
            Trip::Rate { share, .. } if !(share > 0.0 && share < 1.0) => {
                return Some(("breaker.failure_rate", "must be above 0 and below 1"));
            }
            Trip::Rate { window, .. } if window.is_zero() => {
                return Some(("breaker.window", "must be longer than nothing"));
            }
            Trip::Rate { least: 0, .. } => return Some(("breaker.least", "must be at least 1")),
            _ => {}
        }
        match (self.open_for, self.at_most, self.probes) {
            (open_for, ..) if open_for.is_zero() => Some(("breaker.open_for", "must be longer than nothing")),
            (open_for, Some(at_most), _) if at_most < open_for => {
                Some(("breaker.at_most", "must not be shorter than open_for"))
            }
            (.., 0) => Some(("breaker.probes", "must be at least 1")),
            _ => None,
        }
    }
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing, for a time.
    Open,
    /// A few attempts, by whose ends it closes or opens again.
    HalfOpen,
}

impl BreakerState {
    /// The word used in metrics and logs: `closed`, `open`, `half_open`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Names the probes of one half-open time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial(u32);

/// How an attempt ended, to a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What it needs is there.
    Succeeded,
    /// What it needs may be missing.
    Failed,
    /// It says nothing: another one is let through in its place.
    Nothing,
}

/// What may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Everything.
    All,
    /// So many probes.
    Probes(Trial, u32),
    /// Nothing until then.
    Until(Now),
    /// Nothing until a probe has ended.
    Later,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Closed { since: Now },
    Open { until: Now },
    HalfOpen { left: u32, succeeded: u32 },
}

/// A breaker at work.
#[derive(Debug)]
pub struct Circuit {
    settings: Breaker,
    phase: Phase,
    /// Failures since the last success.
    run: u32,
    window: VecDeque<Part>,
    trial: u32,
    /// Times in a row that it opened without having closed.
    opened: u32,
    changes: u64,
}

/// Ends within a part of the window.
#[derive(Debug)]
struct Part {
    since: Now,
    ended: u32,
    failed: u32,
}

impl Circuit {
    /// A closed one.
    pub fn new(settings: Breaker, now: Now) -> Self {
        let (phase, window) = (Phase::Closed { since: now }, VecDeque::new());
        Self { settings, phase, run: 0, window, trial: 0, opened: 0, changes: 0 }
    }

    /// What it lets through.
    pub fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } => BreakerState::Closed,
            Phase::Open { .. } => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How often its state changed.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// When probes are let through, while it is open.
    pub fn open_until(&self) -> Option<Now> {
        match self.phase {
            Phase::Open { until } => Some(until),
            _ => None,
        }
    }

    /// What may begin now. Asking changes an open one whose time is up.
    pub fn pass(&mut self, now: Now) -> Pass {
        if let Phase::Open { until } = self.phase {
            if now < until {
                return Pass::Until(until);
            }
            self.trial = self.trial.wrapping_add(1);
            self.phase = Phase::HalfOpen { left: self.settings.probes, succeeded: 0 };
            self.changes += 1;
        }
        match self.phase {
            Phase::HalfOpen { left: 0, .. } => Pass::Later,
            Phase::HalfOpen { left, .. } => Pass::Probes(Trial(self.trial), left),
            _ => Pass::All,
        }
    }

    /// Probes begin.
    pub fn probe(&mut self, probes: u32) {
        if let Phase::HalfOpen { left, .. } = &mut self.phase {
            *left = left.saturating_sub(probes);
        }
    }

    /// A probe ended. One of an earlier trial changes nothing.
    pub fn probed(&mut self, trial: Trial, how: Verdict, now: Now) {
        let Phase::HalfOpen { left, succeeded } = &mut self.phase else { return };
        if trial.0 != self.trial {
            return;
        }
        match how {
            Verdict::Nothing => *left += 1,
            Verdict::Failed => self.open(now),
            Verdict::Succeeded => {
                *succeeded += 1;
                if *succeeded >= self.settings.probes {
                    self.phase = Phase::Closed { since: now };
                    self.changes += 1;
                    (self.run, self.opened) = (0, 0);
                    self.window.clear();
                }
            }
        }
    }

    /// So many attempts that were no probes succeeded.
    pub fn succeeded(&mut self, attempts: u32, now: Now) {
        if matches!(self.phase, Phase::Closed { .. }) && attempts > 0 {
            self.run = 0;
            self.note(attempts, 0, now);
        }
    }

    /// An attempt that was no probe, begun then, failed.
    pub fn failed(&mut self, begun: Now, now: Now) {
        if !matches!(self.phase, Phase::Closed { since } if begun >= since) {
            return;
        }
        self.run += 1;
        self.note(1, 1, now);
        let trips = match self.settings.trip {
            Trip::Consecutive(n) => self.run >= n,
            Trip::Rate { share, least, .. } => {
                let sum = |of: fn(&Part) -> u32| self.window.iter().map(of).sum::<u32>();
                let (ended, failed) = (sum(|part| part.ended), sum(|part| part.failed));
                ended >= least && f64::from(failed) > share * f64::from(ended)
            }
        };
        if trips {
            self.open(now);
        }
    }

    fn open(&mut self, now: Now) {
        let longest = self.settings.at_most.unwrap_or(self.settings.open_for);
        let time = self.settings.open_for.saturating_mul(1 << self.opened.min(31)).min(longest);
        (self.opened, self.changes) = (self.opened + 1, self.changes + 1);
        self.phase = Phase::Open { until: now + time };
        self.run = 0;
        self.window.clear();
    }

    fn note(&mut self, ended: u32, failed: u32, now: Now) {
        let Trip::Rate { window, .. } = self.settings.trip else { return };
        while self.window.front().is_some_and(|part| now.since(part.since) >= window) {
            self.window.pop_front();
        }
        match self.window.back_mut().filter(|part| now.since(part.since) < window / PARTS) {
            Some(part) => {
                part.ended = part.ended.saturating_add(ended);
                part.failed = part.failed.saturating_add(failed);
            }
            None => self.window.push_back(Part { since: now, ended, failed }),
        }
    }
}

#[cfg(test)]
mod tests;
