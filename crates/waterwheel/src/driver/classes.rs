//! Breakers for classes of records.
//!
//! The gate before starts knows no records, so these stand behind it: the class is asked for each record that was decoded,
//! and where it is open there is no attempt, and the record comes again. So it is set aside as one in back-off is, its key
//! waits, and it takes no credit. The lock is held for an attempt's beginning and its end, and never while a program's code
//! runs.

use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waterwheel_core::Now;
use waterwheel_core::breaker::{Breaker, BreakerState, Circuit, Pass, Trial, Verdict};

use super::attempt::panicked;
use super::clock::Clock;
use super::gate::Listeners;
use crate::failure::Failure;
use crate::record::Record;

/// Most classes that have a breaker of their own; records of any more have one together.
const MOST: usize = 256;

/// The class of those.
const OTHERS: &str = "others";

/// When a record is looked at again whose class waits for its probes to end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Tells a record's class; `None`: it has no breaker.
pub(crate) type ClassOf = Arc<dyn for<'a> Fn(&'a Record) -> Option<Cow<'a, str>> + Send + Sync>;

/// What a worker's breakers go by.
#[derive(Clone)]
pub(crate) struct ByClass {
    pub(crate) breaker: Breaker,
    pub(crate) class_of: ClassOf,
    /// How long an attempt may take: one that is cut off then has failed.
    pub(crate) timeout: Option<Duration>,
}

/// The breakers of a worker, by class.
pub(crate) struct Classes {
    by: ByClass,
    clock: Clock,
    circuits: Mutex<HashMap<Arc<str>, Circuit>>,
    listeners: Listeners,
}

/// An attempt that was let through. It has ended when it is dropped: without anything to say, if nobody told how.
pub(crate) struct Passed {
    classes: Arc<Classes>,
    class: Arc<str>,
    trial: Option<Trial>,
    begun: Now,
    how: Verdict,
}

impl Passed {
    /// It ended like that.
    pub(crate) fn end(&mut self, how: Verdict) {
        self.how = how;
    }

    /// It was cut off after that time.
    pub(crate) fn cut_after(&mut self, took: Duration) {
        let is_late = self.classes.by.timeout.is_some_and(|timeout| took >= timeout);
        self.end(if is_late { Verdict::Failed } else { Verdict::Nothing });
    }
}

impl Drop for Passed {
    fn drop(&mut self) {
        self.classes.ended(self);
    }
}

impl Classes {
    pub(crate) fn new(by: ByClass, clock: Clock, listeners: &Listeners) -> Self {
        Self { by, clock, circuits: Mutex::default(), listeners: listeners.clone() }
    }

    fn circuits(&self) -> MutexGuard<'_, HashMap<Arc<str>, Circuit>> {
        self.circuits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins, with all of them closed.
    pub(crate) fn begin(&self) {
        self.circuits().clear();
    }

    /// An attempt at a record is about to begin. `Err`: it may not, and what becomes of the record instead.
    pub(crate) fn pass(self: &Arc<Self>, record: &Record) -> Result<Option<Box<Passed>>, Failure> {
        let told = catch_unwind(AssertUnwindSafe(|| (self.by.class_of)(record)));
        let Some(class) = told.map_err(|panic| panicked(&*panic))? else { return Ok(None) };
        let now = self.clock.now();
        let mut circuits = self.circuits();
        let class = match circuits.get_key_value(&*class) {
            Some((class, _)) => class.clone(),
            None if circuits.len() < MOST => Arc::from(&*class),
            None => Arc::from(OTHERS),
        };
        let circuit = circuits.entry(class.clone()).or_insert_with(|| Circuit::new(self.by.breaker.clone(), now));
        let before = circuit.state();
        let pass = circuit.pass(now);
        if let Pass::Probes(..) = pass {
            circuit.probe(1);
        }
        self.tell_change(&class, before, circuit.state());
        let trial = match pass {
            Pass::All => None,
            Pass::Probes(trial, _) => Some(trial),
            Pass::Until(until) => return Err(held_back(until.since(now))),
            Pass::Later => return Err(held_back(LOOK_AGAIN)),
        };
        Ok(Some(Box::new(Passed { classes: self.clone(), class, trial, begun: now, how: Verdict::Nothing })))
    }

    fn ended(&self, passed: &Passed) {
        let now = self.clock.now();
        let mut circuits = self.circuits();
        // One of an earlier session may have no circuit any more.
        let Some(circuit) = circuits.get_mut(&passed.class) else { return };
        let before = circuit.state();
        match (passed.trial, passed.how) {
            (Some(trial), how) => circuit.probed(trial, how, now),
            (None, Verdict::Succeeded) => circuit.succeeded(1, now),
            (None, Verdict::Failed) => circuit.failed(passed.begun, now),
            (None, Verdict::Nothing) => {}
        }
        self.tell_change(&passed.class, before, circuit.state());
    }

    /// Under the lock, so that changes are told in their order.
    fn tell_change(&self, class: &Arc<str>, before: BreakerState, state: BreakerState) {
        if state != before {
            self.listeners.breaker_changed(Some(class.clone()), state);
        }
    }

    /// Each class that there was a record of, what its breaker lets through, and until when it is open; by name.
    pub(crate) fn view(&self) -> Vec<(Arc<str>, BreakerState, Option<Now>)> {
        let mut view: Vec<_> =
            self.circuits().iter().map(|(class, c)| (class.clone(), c.state(), c.open_until())).collect();
        view.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        view
    }
}

/// What becomes of a record that is not let through.
fn held_back(wait: Duration) -> Failure {
    Failure::uncounted(wait, "the circuit breaker of its class is open")
}
