//! Limits of a worker: its circuit breaker, rates and adaptive concurrency, as settings and as they are now.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::adaptive::{Adaptive, LimitReason};
use waterwheel_core::breaker::{Breaker, BreakerState};
use waterwheel_core::rate::RateLimit;

use super::{WorkerBuilder, WorkerHandle};
use crate::config::ConfigError;
use crate::driver::classes::ByClass;
use crate::record::Record;

impl WorkerBuilder {
    /// Stops starting records after failures, until what handlers need seems to be there again. Default: never.
    ///
    /// One for the whole worker. While it is open, nothing starts; what runs goes on, fetching, commits and hand-overs go on,
    /// and a stop ends at once. What waits because of it is not counted as an attempt. `docs/limits.md` has the rest.
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.policies.breaker = Some(breaker);
        self
    }

    /// The same for each class of records: one that is open holds up the keys of its own records, and no others. Default: none.
    ///
    /// `class_of` says which class a record is of (`None`: of none, it is always let through). It is asked for each attempt
    /// at a record that could be decoded, and should answer at once and always the same; a panic in it is one of the handler.
    /// What it says is in events, logs and metrics. Beyond 256 classes further ones share the breaker of the class `others`.
    ///
    /// A record that is held back waits as one in back-off does, and at most 1,024 of a partition do beside each other (or its
    /// part of `in_work`): behind those the partition's records wait, whatever their class. Not for batch handlers.
    ///
    /// ```no_run
    /// # fn build(client: waterwheel::Client) -> waterwheel::WorkerBuilder {
    /// use waterwheel::Breaker;
    ///
    /// let tenants = client.worker("billing").topic("orders").breaker_by(Breaker::consecutive(5), |record| {
    ///     record.header("tenant").map(String::from_utf8_lossy)
    /// });
    /// # tenants
    /// # }
    /// ```
    pub fn breaker_by(
        mut self,
        breaker: Breaker,
        class_of: impl for<'a> Fn(&'a Record) -> Option<Cow<'a, str>> + Send + Sync + 'static,
    ) -> Self {
        self.class_breaker = Some((breaker, Arc::new(class_of)));
        self
    }

    /// What the breakers of classes go by.
    pub(super) fn by_class(&self) -> Option<ByClass> {
        let (breaker, class_of) = self.class_breaker.clone()?;
        let stall = self.stall().map(|stall| stall.after);
        let timeout = self.handler_timeout.into_iter().chain(stall).min();
        Some(ByClass { breaker, class_of, timeout })
    }

    pub(super) fn refuse_class_breaker(&self, what: &str) -> Result<(), ConfigError> {
        if self.class_breaker.is_none() {
            return Ok(());
        }
        let problem = format!("does not go with a {what}: it takes records of many classes at once");
        Err(ConfigError::new("breaker_by", problem).remedy("use .breaker(..), which is one for all"))
    }

    /// Starts no more records or bytes a second than that, of this worker or of its whole group. Default: as many as can be.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.policies.rate = Some(limit);
        self
    }

    /// Finds out how many handlers may run at once, by how long they take. It takes the place of
    /// [`concurrency`](Self::concurrency), which has no effect beside it. Default: always as many as that says.
    pub fn adaptive(mut self, adaptive: Adaptive) -> Self {
        self.concurrency = adaptive.ceiling();
        self.policies.adaptive = Some(adaptive);
        self
    }

    pub(super) fn check_limits(&self) -> Result<(), ConfigError> {
        let policies = &self.policies;
        let mistakes = [
            policies.breaker.as_ref().and_then(Breaker::mistake),
            self.class_breaker.as_ref().and_then(|(breaker, _)| breaker.mistake()),
            policies.rate.as_ref().and_then(RateLimit::mistake),
            policies.adaptive.as_ref().and_then(Adaptive::mistake),
        ];
        if let Some((key, problem)) = mistakes.into_iter().flatten().next() {
            return Err(ConfigError::new(key, problem));
        }
        let is_group_wide = policies.rate.as_ref().is_some_and(RateLimit::is_group_wide);
        if is_group_wide && self.topics.iter().any(|topic| topic.starts_with('^')) {
            let problem = "needs topics by their names: of a pattern nobody knows how many partitions there are";
            return Err(ConfigError::new("rate_limit.group_wide", problem).remedy("name the topics"));
        }
        match &policies.adaptive {
            Some(adaptive) if adaptive.floor() < self.gather.max => {
                let problem = format!("is {}: a batch of {} would never be full", adaptive.floor(), self.gather.max);
                Err(ConfigError::new("adaptive.floor", problem).remedy("make it at least as large as a batch"))
            }
            // `.concurrency(..)` was called after `.adaptive(..)`.
            Some(adaptive) if adaptive.ceiling() != self.concurrency => {
                let problem = "has no effect beside adaptive, whose ceiling takes its place";
                Err(ConfigError::new("concurrency", problem).remedy("leave it out"))
            }
            _ => Ok(()),
        }
    }
}

/// A worker's limits as they are now. See [`WorkerHandle::limits`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Limits {
    /// The circuit breaker, if there is one.
    pub breaker: Option<BreakerStatus>,
    /// Those of classes of which there was a record in this session, by name.
    pub classes: Vec<(Arc<str>, BreakerStatus)>,
    /// The rate limits, if there are any.
    pub rate: Option<RateStatus>,
    /// The adaptive concurrency, if it is that.
    pub concurrency: Option<ConcurrencyStatus>,
}

/// A circuit breaker as it is now.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct BreakerStatus {
    /// What it lets through.
    pub state: BreakerState,
    /// How long until probes are let through, while it is open.
    pub open_for: Option<Duration>,
}

/// Rates as they are now.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RateStatus {
    /// Records a second that this worker may start.
    pub records: Option<f64>,
    /// Bytes a second that it may start.
    pub bytes: Option<f64>,
    /// Its share of a group-wide limit, 0 to 1; `None` where the limit is its own, or the share is not known yet.
    pub share: Option<f64>,
}

/// An adaptive concurrency as it is now.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ConcurrencyStatus {
    /// Handlers that may run at once.
    pub limit: usize,
    /// How long an attempt takes with nothing queued, once it was measured.
    pub base_latency: Option<Duration>,
    /// Why the limit moved last.
    pub reason: Option<LimitReason>,
}

impl WorkerHandle {
    /// What the worker's breaker, rates and adaptive concurrency say now. Answers at once; while no session runs, as they
    /// were at its end.
    pub fn limits(&self) -> Limits {
        let open_for = |until| self.common.clock.until(until);
        let status = |(state, until): (_, Option<_>)| BreakerStatus { state, open_for: until.map(open_for) };
        let classes = self.common.classes.iter().flat_map(|classes| classes.view());
        let classes = classes.map(|(class, state, until)| (class, status((state, until)))).collect();
        let Some(gate) = &self.common.gate else { return Limits { classes, ..Limits::default() } };
        let view = gate.view();
        Limits {
            breaker: view.breaker.map(status),
            classes,
            rate: view.rates.map(|(records, bytes, share)| RateStatus { records, bytes, share }),
            concurrency: view.limit.map(|view| ConcurrencyStatus {
                limit: view.limit,
                base_latency: view.base,
                reason: view.reason,
            }),
        }
    }
}
