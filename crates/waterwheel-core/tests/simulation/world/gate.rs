//! The gate before starts, in worlds whose workers have a breaker and a rate; and what it must not let through, judged by
//! a model of its own (P19).

use waterwheel_core::Now;
use waterwheel_core::breaker::{BreakerState, Trial, Verdict};
use waterwheel_core::engine::{Outcome, Wish};
use waterwheel_core::gate::{Answer, Gate, Leave, Policies};

use super::World;
use super::setup::Gates;
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId, ensure};

/// A worker's gate, and what is known of it without it.
pub(crate) struct Gated {
    gate: Gate,
    model: Model,
}

/// Failures in a row, probes, and a bucket that leaks as fast as records may begin.
struct Model {
    phase: Phase,
    failures: u32,
    level: f64,
    at: Now,
}

enum Phase {
    Closed { since: Now },
    Open { until: Now },
    Probing { trial: Trial, begun: u32, succeeded: u32 },
}

impl Gated {
    pub(crate) fn new(gates: &Gates, now: Now) -> Self {
        let policies = Policies { breaker: Some(gates.breaker()), rate: Some(gates.rate()), adaptive: None };
        let model = Model { phase: Phase::Closed { since: now }, failures: 0, level: 0.0, at: now };
        Self { gate: Gate::new(&policies, now), model }
    }
}

impl World {
    /// What a shard may start that would like to start so many; `None`: it has to wait.
    pub(crate) fn leave_to_start(&mut self, id: WorkerId, shard: usize, wanted: u32) -> Option<Leave> {
        let now = self.reading(id);
        let worker = self.workers.get_mut(&id)?;
        let Some(gated) = &mut worker.gated else {
            return Some(Leave { starts: wanted, bytes: u64::MAX, trial: None, stamp: 0 });
        };
        if !worker.shards[shard].engine.has_turns(now) {
            gated.gate.leave_queue(shard);
            return None;
        }
        let answer = gated.gate.ask(shard, wanted, now);
        if let Answer::Go(leave) = answer {
            return Some(leave);
        }
        if gated.gate.breaker() == Some(BreakerState::Closed) {
            self.saw(Seen::HeldForRate);
        }
        None
    }

    /// Whether leave is good yet.
    pub(crate) fn goes_on(&self, id: WorkerId, leave: &Leave) -> bool {
        let gated = self.workers.get(&id).and_then(|w| w.gated.as_ref());
        gated.is_none_or(|gated| gated.gate.stamp() == leave.stamp)
    }

    /// `lacks_credits`: it stays the first in the queue until it has looked for some.
    pub(crate) fn settle_leave(&mut self, id: WorkerId, shard: usize, leave: Leave, started: u32, lacks_credits: bool) {
        let now = self.reading(id);
        if let Some(gated) = self.workers.get_mut(&id).and_then(|w| w.gated.as_mut()) {
            gated.gate.settle(leave, started, 0, now);
            if lacks_credits {
                gated.gate.stay_first(shard);
            }
        }
    }

    /// There are no credits for what the gate would let through.
    pub(crate) fn make_way(&mut self, id: WorkerId, shard: usize) {
        if let Some(gated) = self.workers.get_mut(&id).and_then(|w| w.gated.as_mut()) {
            gated.gate.leave_queue(shard);
        }
    }

    /// A record starts.
    pub(crate) fn check_gate(&mut self, id: WorkerId, trial: Option<Trial>) -> Checked {
        let (now, gates) = (self.reading(id), self.setup.gates);
        let gated = self.workers.get_mut(&id).and_then(|w| w.gated.as_mut());
        let (Some(Gated { model, .. }), Some(gates)) = (gated, gates) else { return Ok(()) };
        let passed = now.since(model.at).as_secs_f64() * gates.a_second as f64;
        (model.level, model.at) = ((model.level - passed).max(0.0) + 1.0, now);
        let level = model.level;
        let is_over = level > gates.burst as f64 + 0.01;
        ensure!(!is_over, "P19: {level} records begin at once, of {}", gates.burst);
        if let Phase::Open { until } = model.phase {
            ensure!(now >= until, "P19: a record starts at {now}, the breaker is open until {until}");
            let Some(trial) = trial else {
                return Err("P19: what starts after the breaker was open is no probe".into());
            };
            model.phase = Phase::Probing { trial, begun: 0, succeeded: 0 };
        }
        if let Phase::Probing { begun, .. } = &mut model.phase {
            *begun += 1;
            ensure!(*begun <= gates.probes, "P19: {begun} probes, and {} are allowed", gates.probes);
        }
        Ok(())
    }

    /// An attempt ended. `counts`: its assignment lives.
    pub(crate) fn tell_gate(&mut self, id: WorkerId, begun: Now, trial: Option<Trial>, outcome: Outcome, counts: bool) {
        let (now, gates) = (self.reading(id), self.setup.gates);
        let gated = self.workers.get_mut(&id).and_then(|w| w.gated.as_mut());
        let (Some(Gated { gate, model }), Some(gates)) = (gated, gates) else { return };
        let how = match outcome {
            _ if !counts => Verdict::Nothing,
            Outcome::Ok => Verdict::Succeeded,
            Outcome::Failed(Wish::DeadLetter | Wish::Skip) | Outcome::Again(_) => Verdict::Nothing,
            Outcome::Failed(_) | Outcome::Cut => Verdict::Failed,
        };
        match (trial, how) {
            (Some(trial), how) => gate.probed(trial, how, now),
            (None, Verdict::Succeeded) => gate.succeeded(1, now),
            (None, Verdict::Failed) => gate.failed(begun, now),
            (None, Verdict::Nothing) => {}
        }
        let seen = match (&mut model.phase, how) {
            (Phase::Probing { trial: of, begun, .. }, Verdict::Nothing) if trial == Some(*of) => {
                *begun -= 1;
                None
            }
            (Phase::Probing { trial: of, .. }, Verdict::Failed) if trial == Some(*of) => Some(Seen::BreakerOpened),
            (Phase::Probing { trial: of, succeeded, .. }, Verdict::Succeeded) if trial == Some(*of) => {
                *succeeded += 1;
                (*succeeded == gates.probes).then_some(Seen::BreakerClosed)
            }
            (Phase::Closed { since }, Verdict::Failed) if trial.is_none() && begun >= *since => {
                model.failures += 1;
                (model.failures == gates.failures).then_some(Seen::BreakerOpened)
            }
            (Phase::Closed { .. }, Verdict::Succeeded) if trial.is_none() => {
                model.failures = 0;
                None
            }
            _ => None,
        };
        let Some(seen) = seen else { return };
        model.failures = 0;
        model.phase = match seen {
            Seen::BreakerOpened => Phase::Open { until: now + gates.open_for },
            _ => Phase::Closed { since: now },
        };
        self.saw(seen);
    }
}
