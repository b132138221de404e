//! Adaptive concurrency: finds out how many attempts may run at once, by how long they take.
//!
//! Of the Vegas kind: at a limit *L*, attempts that take *t* where they took *t₀* with nothing queued mean that
//! *L*·(1 − *t₀*/*t*) of them wait somewhere rather than being worked on. That estimate has the unit of what is set, so one
//! window that shows a queue tells where the knee is (*L*·*t₀*/*t*), where a gradient would have to feel its way and, with
//! an average of the past for *t₀*, drifts along with a service that is overloaded for long.
//!
//! *t₀* is measured anew now and then, and when the limit has shrunk twice without an end of the queue, by running fewer for
//! a moment: at half, and by halves on as long as that makes attempts faster.

use std::time::Duration;

use crate::types::Now;

/// Shares of the limit that may wait: below the first it grows, above the second it shrinks, to what leaves the third.
const QUEUE_LOW: f64 = 0.03;
const QUEUE_HIGH: f64 = 0.07;
const QUEUE_AIM: f64 = 0.05;

/// The first of the steps by which it grows; each is twice the one before it, until there is a queue.
const FIRST_STEP: f64 = 0.05;

/// Ends that a window has at least, and in how long it may have fewer, but no less than the last.
const ENDS: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);
const FEW_ENDS: u32 = 10;

/// What is left of the limit after a window in which too much failed.
const AFTER_FAILURES: f64 = 0.8;

/// How often the unqueued time is measured anew at least, and the same in times of an attempt's length, so that a service
/// that takes seconds is not held at half for long.
const MEASURE_EVERY: Duration = Duration::from_secs(30);
const MEASURE_EVERY_ATTEMPTS: u32 = 100;

/// What halving must make of an attempt's time for another halving to be worth it.
const FASTER: f64 = 0.9;

/// Between which numbers the concurrency moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Adaptive {
    floor: usize,
    ceiling: usize,
    tolerated: f64,
}

impl Adaptive {
    /// Begins at `floor` (at least 1) and never goes beyond `ceiling`, which takes the place of the worker's concurrency.
    pub fn between(floor: usize, ceiling: usize) -> Self {
        Self { floor, ceiling, tolerated: 0.1 }
    }

    /// The share of attempts (0 to 1) that may fail without the limit shrinking for it. Default: 0.1. With 1 it goes by
    /// time alone, which is right where failures are the records' fault.
    pub fn tolerate_failures(mut self, share: f64) -> Self {
        self.tolerated = share;
        self
    }

    /// The lowest limit.
    pub fn floor(&self) -> usize {
        self.floor
    }

    /// The highest limit.
    pub fn ceiling(&self) -> usize {
        self.ceiling
    }

    /// What is wrong with the settings: the key, and the problem.
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        if self.floor == 0 {
            Some(("adaptive.floor", "must be at least 1"))
        } else if self.ceiling < self.floor {
            Some(("adaptive.ceiling", "must not be below the floor"))
        } else if !(0.0..=1.0).contains(&self.tolerated) {
            Some(("adaptive.tolerate_failures", "must be from 0 to 1"))
        } else {
            None
        }
    }
}

/// Why a limit moved last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitReason {
    /// Nothing waits: there is room for more.
    Room,
    /// Attempts take longer: some of them wait.
    Queue,
    /// Too many failed.
    Failures,
    /// It is held low for a moment, to measure how long an attempt takes with nothing queued.
    Measuring,
    /// It was, and goes on where it was.
    Measured,
}

impl LimitReason {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Room, Self::Queue, Self::Failures, Self::Measuring, Self::Measured];

    /// The word used in metrics: `room`, `queue`, `failures`, `measuring`, `measured`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Queue => "queue",
            Self::Failures => "failures",
            Self::Measuring => "measuring",
            Self::Measured => "measured",
        }
    }
}

/// Ends of attempts since the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// The [`Limit::epoch`] by which it was taken.
    pub epoch: u32,
    /// All that ended.
    pub ended: u32,
    /// Those begun in the epoch that succeeded.
    pub succeeded: u32,
    /// Those begun in the epoch that failed.
    pub failed: u32,
    /// The sum of the time of those that succeeded.
    pub time: Duration,
}

impl Sample {
    /// An attempt ended. `from`: when the epoch began.
    pub fn add(&mut self, begun: Now, now: Now, from: Now, succeeded: bool) {
        self.ended += 1;
        if begun < from {
            return;
        }
        if succeeded {
            self.succeeded += 1;
            self.time += now.since(begun);
        } else {
            self.failed += 1;
        }
    }

    fn join(&mut self, other: &Sample) {
        self.ended = self.ended.saturating_add(other.ended);
        if other.epoch == self.epoch {
            self.succeeded += other.succeeded;
            self.failed += other.failed;
            self.time += other.time;
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Seeking,
    /// Held low; whether by halves before, and how long an attempt took then.
    Measuring {
        back_to: usize,
        before: Option<f64>,
    },
}

/// A limit that moves.
#[derive(Debug)]
pub struct Limit {
    settings: Adaptive,
    limit: usize,
    /// Seconds that an attempt takes with nothing queued.
    base: Option<f64>,
    phase: Phase,
    step: f64,
    /// Windows in a row that showed a queue, and the limit before the first of them.
    queued: Option<(u32, usize)>,
    measured_at: Now,
    window: Sample,
    /// When the window began, and when the epoch did.
    since: Now,
    from: Now,
    reason: Option<LimitReason>,
    moves: [u64; LimitReason::ALL.len()],
}

impl Limit {
    /// A limit at its floor.
    pub fn new(settings: Adaptive, now: Now) -> Self {
        Self {
            limit: settings.floor,
            settings,
            base: None,
            phase: Phase::Seeking,
            step: 1.0,
            queued: None,
            measured_at: now,
            window: Sample::default(),
            since: now,
            from: now,
            reason: None,
            moves: [0; LimitReason::ALL.len()],
        }
    }

    /// Attempts that may run at once.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// How long an attempt takes with nothing queued, once it was measured.
    pub fn base(&self) -> Option<Duration> {
        self.base.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Why it moved last.
    pub fn reason(&self) -> Option<LimitReason> {
        self.reason
    }

    /// How often it moved for each reason, in the order of [`LimitReason::ALL`].
    pub fn moves(&self) -> [u64; LimitReason::ALL.len()] {
        self.moves
    }

    /// Counts its moves. What was begun before the last one was begun under another limit.
    pub fn epoch(&self) -> (u32, Now) {
        (self.window.epoch, self.from)
    }

    /// Takes in what ended. Whether the limit moved.
    pub fn take(&mut self, sample: &Sample, now: Now) -> bool {
        self.window.join(sample);
        let Sample { succeeded, failed, .. } = self.window;
        let (ends, elapsed) = (succeeded + failed, now.since(self.since));
        let wanted = u32::try_from(2 * self.limit).unwrap_or(u32::MAX).max(ENDS);
        if ends < wanted && (ends < FEW_ENDS || elapsed < WINDOW) {
            return false;
        }
        let window = self.window;
        self.window = Sample { epoch: window.epoch, ..Sample::default() };
        let (began, before) = (std::mem::replace(&mut self.since, now), self.limit);
        if f64::from(failed) > self.settings.tolerated * f64::from(ends) {
            self.failed();
        } else if succeeded > 0 {
            let time = window.time.as_secs_f64() / f64::from(succeeded);
            // By Little's law, those that ran at once on average.
            let ran = f64::from(window.ended) * time / now.since(began).as_secs_f64().max(1e-9);
            match self.phase {
                Phase::Measuring { back_to, before } => self.measured(time, back_to, before, now),
                Phase::Seeking => self.seek(time, ran, now),
            }
        }
        if self.limit == before {
            return false;
        }
        self.window.epoch = window.epoch.wrapping_add(1);
        self.from = now;
        true
    }

    fn failed(&mut self) {
        self.phase = Phase::Seeking;
        (self.step, self.queued) = (FIRST_STEP, None);
        self.set(self.scaled(AFTER_FAILURES), LimitReason::Failures);
    }

    fn seek(&mut self, time: f64, ran: f64, now: Now) {
        let base = *self.base.get_or_insert(time);
        if self.limit == self.settings.floor {
            // There is no lower limit to measure it at.
            self.base = Some(time.max(base * 0.5));
        } else if time < base {
            // A step towards it: the least of many windows would be less than what attempts take.
            self.base = Some(base + (time - base) * 0.2);
        }
        let queue = 1.0 - self.base.unwrap_or(time) / time;
        if queue > QUEUE_HIGH {
            self.step = FIRST_STEP;
            let (windows, before) = self.queued.map_or((1, self.limit), |(n, before)| (n + 1, before));
            self.queued = Some((windows, before));
            if windows > 2 {
                // Fewer are no faster: it is attempts that take longer, or the time was measured with a queue.
                self.measure(before, now);
            } else {
                self.set(self.scaled((1.0 - queue) * (1.0 + QUEUE_AIM)), LimitReason::Queue);
            }
            return;
        }
        self.queued = None;
        let every = MEASURE_EVERY.as_secs_f64().max(time * f64::from(MEASURE_EVERY_ATTEMPTS));
        if now.since(self.measured_at).as_secs_f64() >= every && self.limit > self.settings.floor {
            self.measure(self.limit, now);
        } else if queue >= QUEUE_LOW {
            self.step = FIRST_STEP;
        } else if ran * 2.0 > self.as_float() {
            // A limit that is not reached says nothing of a higher one.
            self.set(self.scaled(1.0 + self.step).max(self.limit + 1), LimitReason::Room);
            self.step = (self.step * 2.0).min(1.0);
        }
    }

    /// Fewer, for a moment.
    fn measure(&mut self, back_to: usize, now: Now) {
        self.measured_at = now;
        (self.step, self.queued) = (FIRST_STEP, None);
        self.phase = Phase::Measuring { back_to, before: None };
        self.set(self.limit / 2, LimitReason::Measuring);
        if self.limit == self.settings.floor && back_to == self.limit {
            self.phase = Phase::Seeking;
        }
    }

    fn measured(&mut self, time: f64, back_to: usize, before: Option<f64>, now: Now) {
        let known = before.or(self.base).unwrap_or(time);
        let is_faster = time < known * FASTER;
        // At first it may be slower than it was known to be, because of what waits.
        let goes_on = if before.is_some() { is_faster } else { time * FASTER > known };
        if goes_on && self.limit > self.settings.floor {
            self.phase = Phase::Measuring { back_to, before: Some(time) };
            self.set(self.limit / 2, LimitReason::Measuring);
            return;
        }
        self.base = Some(time);
        self.measured_at = now;
        self.phase = Phase::Seeking;
        self.set(back_to, LimitReason::Measured);
    }

    #[expect(clippy::cast_precision_loss, reason = "a limit is no more than a million")]
    fn as_float(&self) -> f64 {
        self.limit as f64
    }

    /// Rounded down.
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "neither negative nor large")]
    fn scaled(&self, by: f64) -> usize {
        (self.as_float() * by) as usize
    }

    fn set(&mut self, limit: usize, reason: LimitReason) {
        let limit = limit.clamp(self.settings.floor, self.settings.ceiling);
        if limit != self.limit {
            self.limit = limit;
            self.reason = Some(reason);
            if let Some(n) = LimitReason::ALL.iter().position(|of| *of == reason) {
                self.moves[n] += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
