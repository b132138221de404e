//! What a worker tells the process's metrics recorder (the `metrics` crate's; without one, nothing happens).
//!
//! Published every few seconds from counts and views that are there anyway: no record pays for it. So there is no
//! histogram: each would cost a call an attempt. No label holds a key or an offset. `docs/metrics.md` is these tables.

mod clients;
mod limits;

use std::collections::BTreeSet;

use metrics::{Label, Unit, counter, gauge};
use waterwheel_core::engine::HoldReason;
use waterwheel_core::lifecycle::WorkerState;

pub use self::clients::CLIENT_METRICS;
pub(crate) use self::clients::ClientPublisher;
use crate::driver::tally::Counts;
use crate::health::{Health, HealthLevel};
use crate::record::TopicPartition;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Is what it is now.
    Gauge,
}

/// One metric of the table.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, as Prometheus has it.
    pub name: &'static str,
    /// Whether it is a counter or a gauge.
    pub kind: MetricKind,
    /// Its labels beside those that all of its table have (`worker` and `group`; `client_id` and `role`), with their values
    /// where these are few.
    pub labels: &'static str,
    /// What it says.
    pub help: &'static str,
}

macro_rules! table {
    ($(#[$doc:meta])* $all:ident; $($constant:ident: $kind:ident $name:literal [$labels:literal] $help:literal;)*) => {
        $(const $constant: &str = $name;)*

        $(#[$doc])*
        pub const $all: &[Metric] =
            &[$(Metric { name: $name, kind: MetricKind::$kind, labels: $labels, help: $help }),*];
    };
}
use table;

/// Tells the recorder what a table says of its metrics.
fn describe(table: &[Metric]) {
    for metric in table {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, Unit::Count, metric.help),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, Unit::Count, metric.help),
        }
    }
}

table! {
    /// Every metric of a worker.
    METRICS;
    CONSUMED: Counter "messaging_client_consumed_messages_total" [""] "Records fetched.";
    SENT: Counter "messaging_client_sent_messages_total" [""] "Dead letters that the broker acknowledged.";
    ATTEMPTS: Counter "waterwheel_attempts_total" [""] "Handler runs begun.";
    SETTLED: Counter "waterwheel_records_settled_total" ["outcome=ok,retried,dead_lettered,skipped"]
        "Attempts by what became of their records; `retried` is followed by another attempt, the others finish the record.";
    UNDECODABLE: Counter "waterwheel_decode_failures_total" [""] "Records that could not be decoded.";
    PANICS: Counter "waterwheel_handler_panics_total" [""] "Attempts that panicked.";
    TIMEOUTS: Counter "waterwheel_handler_timeouts_total" [""] "Attempts that took longer than the handler time-out.";
    CUT_OFF: Counter "waterwheel_attempts_cut_off_total" [""]
        "Attempts cut off at a drain's deadline, or because their partition was lost; their records come again.";
    DEAD_LETTER_FAILURES: Counter "waterwheel_dead_letter_write_failures_total" [""]
        "Dead letters that could not be written at the first try.";
    GAPS: Counter "waterwheel_offsets_gone_total" [""] "Offsets that were gone before they could be read (retention).";
    COMMITS: Counter "waterwheel_commits_total" [""] "Commits that the broker acknowledged.";
    COMMIT_FAILURES: Counter "waterwheel_commits_failed_total" [""] "Commit requests that failed; they are repeated.";
    ABORTS: Counter "waterwheel_transactions_aborted_total" [""]
        "Transactions of exactly-once workers that were aborted; their records came again.";
    MAPS_CUT: Counter "waterwheel_commit_maps_cut_total" [""]
        "Commits whose map was cut to fit: more would run again after a restart.";
    REBALANCES: Counter "waterwheel_rebalances_total" [""] "Times that the group gave partitions.";
    LEFT: Counter "waterwheel_partitions_left_total" ["kind=revoked,lost"]
        "Partitions given back after a drain, and partitions taken away.";
    STATE: Gauge "waterwheel_worker_state"
        ["state=initialising,stopped,starting,consuming,stopping,closing,closed"] "1 at the state that it is in, else 0.";
    HEALTH: Gauge "waterwheel_health" ["check=worker,brokers,topics,group,commits,dead_letters,handlers,lag"]
        "0 ok, 1 warning, 2 critical.";
    ASSIGNED: Gauge "waterwheel_partitions_assigned" [""] "Partitions that it has.";
    HELD: Gauge "waterwheel_partitions_paused" ["reason=bytes,dead_letter,draining,operator,lease,map_full,breaker,rate_limit"]
        "Partitions that yield no records, by why.";
    IN_FLIGHT: Gauge "waterwheel_records_in_flight" [""] "Records whose handlers run.";
    WAITING: Gauge "waterwheel_records_buffered" [""] "Records that wait for their key or for their next attempt.";
    BYTES: Gauge "waterwheel_buffered_bytes" [""] "Bytes of fetched records held.";
    POLL_AGE: Gauge "waterwheel_poll_age_seconds" [""] "How long ago all of the worker's tasks last answered.";
    OFFSET: Gauge "waterwheel_consumer_offset" ["topic, partition, kind=position,frontier,end"]
        "The next offset to be taken up; the lowest that is not finished; the log's end.";
    LAG: Gauge "waterwheel_consumer_lag" ["topic, partition"] "Offsets between what is finished and the log's end.";
    COMMIT_GAP: Gauge "waterwheel_consumer_commit_gap" ["topic, partition"]
        "Records finished above the lowest that is not.";
    BREAKER_OPENED: Counter "waterwheel_breaker_opened_total" [""] "Times that the circuit breaker opened.";
    BREAKER: Gauge "waterwheel_breaker_state" [""] "0 closed, 1 half-open, 2 open.";
    RATE: Gauge "waterwheel_rate_limit" ["unit=records,bytes"]
        "Records and bytes a second that this worker may start; its share, of a group-wide limit.";
    LIMIT: Gauge "waterwheel_concurrency_limit" [""] "Handlers that may run at once, where that is adaptive.";
    BASE_LATENCY: Gauge "waterwheel_concurrency_base_latency_seconds" [""]
        "How long an attempt takes with nothing queued, as measured for the adaptive limit.";
    LIMIT_MOVES: Counter "waterwheel_concurrency_limit_moves_total" ["reason=room,queue,failures,measuring,measured"]
        "Times that the adaptive limit moved, by why.";
    CAUGHT_UP: Gauge "waterwheel_history_caught_up" [""] "1 once a history has caught up, 0 before.";
    REMAINING: Gauge "waterwheel_history_remaining" [""] "Offsets that a history has to go until then.";
}

/// One partition, to be published.
pub(crate) struct PartitionFigures {
    pub(crate) partition: TopicPartition,
    pub(crate) position: i64,
    pub(crate) frontier: i64,
    pub(crate) finished_above: u64,
    pub(crate) held: Option<HoldReason>,
    pub(crate) waiting: usize,
    pub(crate) bytes: usize,
    /// The log's end, where it is known.
    pub(crate) end: Option<i64>,
}

/// Publishes one worker's figures.
pub(crate) struct Publisher {
    labels: Vec<Label>,
    /// What was published of partitions, so that it can be taken back.
    published: BTreeSet<TopicPartition>,
}

fn number(n: impl TryInto<u32>) -> f64 {
    n.try_into().map_or(f64::from(u32::MAX), f64::from)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; offsets up to 2^53 are exact")]
fn offset(n: i64) -> f64 {
    n as f64
}

impl Publisher {
    pub(crate) fn new(worker: &str, group: &str) -> Self {
        describe(METRICS);
        let label = |key: &'static str, value: &str| Label::new(key, value.to_owned());
        Self { labels: vec![label("worker", worker), label("group", group)], published: BTreeSet::new() }
    }

    fn with(&self, more: impl IntoIterator<Item = (&'static str, String)>) -> Vec<Label> {
        self.labels.iter().cloned().chain(more.into_iter().map(|(key, value)| Label::new(key, value))).collect()
    }

    fn gauge(&self, name: &'static str, more: Option<(&'static str, &str)>, value: f64) {
        gauge!(name, self.with(more.map(|(key, value)| (key, value.to_owned())))).set(value);
    }

    pub(crate) fn counts(&self, counts: &Counts) {
        let plain = [
            (CONSUMED, counts.fetched),
            (SENT, counts.dead_lettered),
            (ATTEMPTS, counts.attempts),
            (UNDECODABLE, counts.undecodable),
            (PANICS, counts.panicked),
            (TIMEOUTS, counts.timed_out),
            (CUT_OFF, counts.cut_off),
            (DEAD_LETTER_FAILURES, counts.dead_letter_failures),
            (GAPS, counts.gaps),
            (COMMITS, counts.commits),
            (COMMIT_FAILURES, counts.commit_failures),
            (ABORTS, counts.transactions_aborted),
            (MAPS_CUT, counts.maps_cut),
            (REBALANCES, counts.assignments),
            (BREAKER_OPENED, counts.breaker_opened),
        ];
        for (name, count) in plain {
            counter!(name, self.labels.clone()).absolute(count);
        }
        let labelled = [
            (SETTLED, "outcome", "ok", counts.succeeded),
            (SETTLED, "outcome", "retried", counts.retried),
            (SETTLED, "outcome", "dead_lettered", counts.dead_lettered),
            (SETTLED, "outcome", "skipped", counts.skipped),
            (LEFT, "kind", "revoked", counts.revoked),
            (LEFT, "kind", "lost", counts.lost),
        ];
        for (name, key, value, count) in labelled {
            counter!(name, self.with([(key, value.to_owned())])).absolute(count);
        }
    }

    pub(crate) fn state(&self, now: WorkerState) {
        for state in WorkerState::ALL {
            self.gauge(STATE, Some(("state", state.name())), if state == now { 1.0 } else { 0.0 });
        }
    }

    pub(crate) fn health(&self, health: &Health) {
        for (check, level) in health.checks() {
            let value = match level {
                HealthLevel::Ok => 0.0,
                HealthLevel::Warning => 1.0,
                HealthLevel::Critical => 2.0,
            };
            self.gauge(HEALTH, Some(("check", &check.to_string())), value);
        }
    }

    /// How long ago the worker's tasks last answered, in seconds.
    pub(crate) fn poll_age(&self, seconds: f64) {
        self.gauge(POLL_AGE, None, seconds);
    }

    pub(crate) fn history(&self, caught_up: bool, remaining: u64) {
        self.gauge(CAUGHT_UP, None, if caught_up { 1.0 } else { 0.0 });
        self.gauge(REMAINING, None, offset(i64::try_from(remaining).unwrap_or(i64::MAX)));
    }

    /// The partitions that the worker has now, and its records that run and that wait for their next attempt. What was
    /// published of other partitions becomes 0.
    pub(crate) fn partitions(&mut self, partitions: &[PartitionFigures], running: usize, failed: usize) {
        let waiting: usize = partitions.iter().map(|p| p.waiting).sum();
        self.gauge(ASSIGNED, None, number(partitions.len()));
        self.gauge(IN_FLIGHT, None, number(running));
        self.gauge(WAITING, None, number(waiting + failed));
        self.gauge(BYTES, None, partitions.iter().map(|p| number(p.bytes)).sum());
        for (reason, name) in [
            (HoldReason::Bytes, "bytes"),
            (HoldReason::DeadLetter, "dead_letter"),
            (HoldReason::Draining, "draining"),
            (HoldReason::Paused, "operator"),
            (HoldReason::Lease, "lease"),
            (HoldReason::MapFull, "map_full"),
            (HoldReason::Breaker, "breaker"),
            (HoldReason::RateLimit, "rate_limit"),
        ] {
            let held = partitions.iter().filter(|p| p.held == Some(reason)).count();
            self.gauge(HELD, Some(("reason", name)), number(held));
        }
        let now: BTreeSet<TopicPartition> = partitions.iter().map(|p| p.partition.clone()).collect();
        for gone in self.published.difference(&now) {
            self.partition(gone, 0, 0, 0, Some(0), 0);
        }
        for p in partitions {
            let lag = p.end.map_or(0, |end| lag(p.frontier, p.finished_above, end));
            self.partition(&p.partition, p.position, p.frontier, p.finished_above, p.end, lag);
        }
        self.published = now;
    }

    fn partition(&self, of: &TopicPartition, position: i64, frontier: i64, gap: u64, end: Option<i64>, lag: u64) {
        let labels = self.with([("topic", of.topic.to_string()), ("partition", of.partition.to_string())]);
        let of_kind = |kind: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("kind", kind));
            labels
        };
        gauge!(OFFSET, of_kind("position")).set(offset(position));
        gauge!(OFFSET, of_kind("frontier")).set(offset(frontier));
        gauge!(COMMIT_GAP, labels.clone()).set(offset(i64::try_from(gap).unwrap_or(i64::MAX)));
        if let Some(end) = end {
            gauge!(OFFSET, of_kind("end")).set(offset(end));
            gauge!(LAG, labels).set(offset(i64::try_from(lag).unwrap_or(i64::MAX)));
        }
    }
}

/// Offsets to go: what is finished above the frontier is finished.
pub(crate) fn lag(frontier: i64, finished_above: u64, end: i64) -> u64 {
    let open = end.saturating_sub(frontier).max(0).unsigned_abs();
    open.saturating_sub(finished_above)
}
