//! Figures of breaker, rates and adaptive concurrency.

use metrics::counter;
use waterwheel_core::adaptive::LimitReason;
use waterwheel_core::breaker::BreakerState;

use super::{BASE_LATENCY, BREAKER, LIMIT, LIMIT_MOVES, Publisher, RATE, number};
use crate::driver::classes::Classes;
use crate::driver::gate::View;

fn value_of(state: BreakerState) -> f64 {
    match state {
        BreakerState::Closed => 0.0,
        BreakerState::HalfOpen => 1.0,
        BreakerState::Open => 2.0,
    }
}

impl Publisher {
    /// The breakers of classes.
    pub(crate) fn classes(&self, classes: &Classes) {
        for (class, state, _) in classes.view() {
            self.gauge(BREAKER, Some(("class", &class)), value_of(state));
        }
    }

    /// What holds starts back, where anything does.
    pub(crate) fn limits(&self, view: &View) {
        if let Some((state, _)) = view.breaker {
            self.gauge(BREAKER, None, value_of(state));
        }
        if let Some((records, bytes, _)) = view.rates {
            for (unit, rate) in [("records", records), ("bytes", bytes)] {
                rate.into_iter().for_each(|rate| self.gauge(RATE, Some(("unit", unit)), rate));
            }
        }
        if let Some(view) = &view.limit {
            self.gauge(LIMIT, None, number(view.limit));
            view.base.into_iter().for_each(|base| self.gauge(BASE_LATENCY, None, base.as_secs_f64()));
            for (reason, moves) in LimitReason::ALL.into_iter().zip(view.moves) {
                counter!(LIMIT_MOVES, self.with([("reason", reason.name().to_owned())])).absolute(moves);
            }
        }
    }
}
