//! The gate before starts: what breaker and rate limits let the shards of a worker begin, and whose turn it is.
//!
//! A shard asks for leave to start some records, and settles for those that it did. One that is told to wait stands in a
//! queue: only the first in it is told a time, and whoever changes the gate wakes that one
//! ([`first_waiting`](Gate::first_waiting)), so no shard asks again and again, and none starves.

use std::collections::VecDeque;

use crate::adaptive::{Adaptive, Limit};
use crate::breaker::{Breaker, BreakerState, Circuit, Pass, Trial, Verdict};
use crate::rate::{Bucket, RateLimit};
use crate::types::Now;

/// What holds starts back.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    /// Stops starting after failures.
    pub breaker: Option<Breaker>,
    /// Starts no more than that.
    pub rate: Option<RateLimit>,
    /// Finds out how many may run at once.
    pub adaptive: Option<Adaptive>,
}

impl Policies {
    /// Whether there are any.
    pub fn are_any(&self) -> bool {
        self.breaker.is_some() || self.rate.is_some() || self.adaptive.is_some()
    }
}

/// Leave to start records, until it is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    /// So many at most.
    pub starts: u32,
    /// And none once those that were started have so many bytes.
    pub bytes: u64,
    /// They are a breaker's probes.
    pub trial: Option<Trial>,
    /// It is good while this is the gate's [`stamp`](Gate::stamp).
    pub stamp: u64,
}

/// What a shard that asks is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It may start.
    Go(Leave),
    /// It is the first in the queue, and may ask again then.
    Until(Now),
    /// It stands in the queue.
    Wait,
}

/// The gate of a worker's session.
#[derive(Debug)]
pub struct Gate {
    circuit: Option<Circuit>,
    records: Option<Bucket>,
    bytes: Option<Bucket>,
    /// How many may run at once, where that is to be found out.
    pub limit: Option<Limit>,
    waiting: VecDeque<usize>,
}

impl Gate {
    /// A gate with its breaker closed and its buckets empty.
    pub fn new(policies: &Policies, now: Now) -> Self {
        let (records, bytes) = policies.rate.as_ref().map(|rate| rate.buckets(now)).unwrap_or_default();
        Self {
            circuit: policies.breaker.clone().map(|breaker| Circuit::new(breaker, now)),
            records,
            bytes,
            limit: policies.adaptive.clone().map(|adaptive| Limit::new(adaptive, now)),
            waiting: VecDeque::new(),
        }
    }

    /// A shard would like to start up to `wanted` records.
    pub fn ask(&mut self, shard: usize, wanted: u32, now: Now) -> Answer {
        if self.waiting.front().is_some_and(|first| *first != shard) {
            if !self.waiting.contains(&shard) {
                self.waiting.push_back(shard);
            }
            return Answer::Wait;
        }
        let answer = self.leave(wanted, now);
        match answer {
            Answer::Go(_) => self.leave_queue(shard),
            _ if self.waiting.is_empty() => self.waiting.push_back(shard),
            _ => {}
        }
        answer
    }

    fn leave(&mut self, wanted: u32, now: Now) -> Answer {
        let (mut starts, trial) = match self.circuit.as_mut().map_or(Pass::All, |circuit| circuit.pass(now)) {
            Pass::All => (wanted, None),
            Pass::Probes(trial, n) => (wanted.min(n), Some(trial)),
            Pass::Until(at) => return Answer::Until(at),
            Pass::Later => return Answer::Wait,
        };
        let wait = |bucket: &Bucket| bucket.ready_at().map_or(Answer::Wait, Answer::Until);
        let mut bytes = u64::MAX;
        if let Some(bucket) = &mut self.bytes {
            bytes = bucket.available(now);
            if bytes == 0 {
                return wait(bucket);
            }
        }
        if let Some(bucket) = &mut self.records {
            starts = starts.min(u32::try_from(bucket.available(now)).unwrap_or(u32::MAX));
            if starts == 0 {
                return wait(bucket);
            }
            bucket.take(u64::from(starts));
        }
        if let (Some(circuit), Some(_)) = (&mut self.circuit, trial) {
            circuit.probe(starts);
        }
        Answer::Go(Leave { starts, bytes, trial, stamp: self.stamp() })
    }

    /// A shard has started that many records, of so many bytes.
    pub fn settle(&mut self, leave: Leave, started: u32, bytes: u64, now: Now) {
        let left = leave.starts.saturating_sub(started);
        if let Some(bucket) = &mut self.records {
            bucket.give_back(u64::from(left));
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.take(bytes);
        }
        if let (Some(circuit), Some(trial)) = (&mut self.circuit, leave.trial) {
            (0..left).for_each(|_| circuit.probed(trial, Verdict::Nothing, now));
        }
    }

    /// Changes with the breaker: leave that was given before is good no more.
    pub fn stamp(&self) -> u64 {
        self.circuit.as_ref().map_or(0, Circuit::changes)
    }

    /// A shard that lacks something else asks again at once: it stays the first in the queue.
    pub fn stay_first(&mut self, shard: usize) {
        if !self.waiting.contains(&shard) {
            self.waiting.push_front(shard);
        }
    }

    /// A shard has nothing to start: it does not wait any more.
    pub fn leave_queue(&mut self, shard: usize) {
        self.waiting.retain(|waiting| *waiting != shard);
    }

    /// Whose turn it is.
    pub fn first_waiting(&self) -> Option<usize> {
        self.waiting.front().copied()
    }

    /// So many attempts that were no probes succeeded.
    pub fn succeeded(&mut self, attempts: u32, now: Now) {
        if let Some(circuit) = &mut self.circuit {
            circuit.succeeded(attempts, now);
        }
    }

    /// An attempt that was no probe, begun then, failed.
    pub fn failed(&mut self, begun: Now, now: Now) {
        if let Some(circuit) = &mut self.circuit {
            circuit.failed(begun, now);
        }
    }

    /// A probe ended.
    pub fn probed(&mut self, trial: Trial, how: Verdict, now: Now) {
        if let Some(circuit) = &mut self.circuit {
            circuit.probed(trial, how, now);
        }
    }

    /// What the breaker lets through, if there is one.
    pub fn breaker(&self) -> Option<BreakerState> {
        self.circuit.as_ref().map(Circuit::state)
    }

    /// When an open breaker lets probes through.
    pub fn open_until(&self) -> Option<Now> {
        self.circuit.as_ref().and_then(Circuit::open_until)
    }

    /// Another share of a group-wide limit is this worker's.
    pub fn set_share(&mut self, share: f64, now: Now) {
        self.records.iter_mut().chain(&mut self.bytes).for_each(|bucket| bucket.set_share(share, now));
    }

    /// Records and bytes a second that are this worker's.
    pub fn rates(&self) -> (Option<f64>, Option<f64>) {
        (self.records.as_ref().map(Bucket::rate), self.bytes.as_ref().map(Bucket::rate))
    }
}

#[cfg(test)]
mod tests;
