//! What a worker tells the process's metrics recorder (the `metrics` crate's; without one, nothing happens).
//!
//! Published every few seconds from counts and views that are there anyway: no record pays for it. The one histogram costs a
//! call an attempt, and is there only where it was asked for. No label holds a key or an offset. `docs/metrics.md` is these
//! tables.

mod clients;
mod limits;

use std::collections::BTreeSet;
use std::time::Duration;

use metrics::{Histogram, Label, Unit, counter, gauge, histogram};
use waterwheel_core::engine::HoldReason;
use waterwheel_core::lifecycle::WorkerState;

pub use self::clients::CLIENT_METRICS;
pub(crate) use self::clients::ClientPublisher;
use crate::driver::tally::Counts;
use crate::explain::word_of;
use crate::health::{Health, HealthLevel};
use crate::record::TopicPartition;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// Is what it is now.
    Gauge,
    /// Counts values by their size; in seconds.
    Histogram,
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
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
}

table! {
    /// Every metric of a worker.
    METRICS;
    CONSUMED: Counter "messaging_client_consumed_messages_total" [""] "Records fetched.";
    SENT: Counter "messaging_client_sent_messages_total" [""] "Dead letters and letters to retry tiers that the broker acknowledged.";
    PROCESS: Histogram "messaging_process_duration_seconds" [""]
        "How long attempts took, where that is measured (`WorkerBuilder::time_attempts`).";
    ATTEMPTS: Counter "waterwheel_attempts_total" [""] "Handler runs begun.";
    SETTLED: Counter "waterwheel_records_settled_total" ["outcome=ok,retried,tiered,dead_lettered,skipped"]
        "Attempts by what became of their records; `retried` is followed by another attempt, the others finish the record; `tiered`: it comes again from a retry tier.";
    FOLLOWED: Counter "waterwheel_records_followed_total" [""]
        "Records given to the dead-letter topic untried, because an earlier one of their key is there.";
    UNDECODABLE: Counter "waterwheel_decode_failures_total" [""] "Records that could not be decoded.";
    PANICS: Counter "waterwheel_handler_panics_total" [""] "Attempts that panicked.";
    TIMEOUTS: Counter "waterwheel_handler_timeouts_total" [""] "Attempts that took longer than the handler time-out.";
    DISAGREED: Counter "waterwheel_record_times_disagreed_total" [""]
        "Records without a time, or with one more than a second ahead of the worker's clock, where there is a process delay.";
    HOOK_DROPS: Counter "waterwheel_hook_moments_dropped_total" [""]
        "Moments that a hook was not told, because it was too far behind.";
    HOOK_FAILURES: Counter "waterwheel_hook_failures_total" [""] "Calls of hooks that panicked, or did not end in time.";
    CUT_OFF: Counter "waterwheel_attempts_cut_off_total" [""]
        "Attempts cut off at a drain's deadline, or because their partition was lost; their records come again.";
    DEAD_LETTER_FAILURES: Counter "waterwheel_dead_letter_write_failures_total" [""]
        "Dead letters, and letters to retry tiers, that could not be written at the first try.";
    GAPS: Counter "waterwheel_offsets_gone_total" [""] "Offsets that were gone before they could be read (retention).";
    COMMITS: Counter "waterwheel_commits_total" [""] "Commits that the broker acknowledged.";
    COMMIT_FAILURES: Counter "waterwheel_commits_failed_total" [""] "Commit requests that failed; they are repeated.";
    ABORTS: Counter "waterwheel_transactions_aborted_total" [""]
        "Transactions of exactly-once workers that were aborted; their records came again.";
    MAPS_CUT: Counter "waterwheel_commit_maps_cut_total" [""]
        "Commits whose map was cut to fit: after a restart more would run again, or keys that follow a dead letter go on.";
    REBALANCES: Counter "waterwheel_rebalances_total" [""] "Times that the group gave partitions.";
    LEFT: Counter "waterwheel_partitions_left_total" ["kind=revoked,lost"]
        "Partitions given back after a drain, and partitions taken away.";
    STATE: Gauge "waterwheel_worker_state"
        ["state=initialising,stopped,starting,consuming,stopping,closing,closed"] "1 at the state that it is in, else 0.";
    HEALTH: Gauge "waterwheel_health" ["check=worker,brokers,topics,group,commits,dead_letters,handlers,lag"]
        "0 ok, 1 warning, 2 critical.";
    ASSIGNED: Gauge "waterwheel_partitions_assigned" [""] "Partitions that it has.";
    HELD: Gauge "waterwheel_partitions_paused" ["reason=bytes,dead_letter,draining,operator,lease,map_full,delayed,breaker,rate_limit"]
        "Partitions that yield no records, by why.";
    IN_FLIGHT: Gauge "waterwheel_records_in_flight" [""] "Records whose handlers run.";
    WAITING: Gauge "waterwheel_records_buffered" [""] "Records that wait for their key, their time or their next attempt.";
    DELAYED: Gauge "waterwheel_records_delayed" [""] "Records set aside because their process delay is not over.";
    BYTES: Gauge "waterwheel_buffered_bytes" [""] "Bytes of fetched records held.";
    POLL_AGE: Gauge "waterwheel_poll_age_seconds" [""] "How long ago all of the worker's tasks last answered.";
    OFFSET: Gauge "waterwheel_consumer_offset" ["topic, partition, kind=position,frontier,end"]
        "The next offset to be taken up; the lowest that is not finished; the log's end.";
    LAG: Gauge "waterwheel_consumer_lag" ["topic, partition"] "Offsets between what is finished and the log's end.";
    COMMIT_GAP: Gauge "waterwheel_consumer_commit_gap" ["topic, partition"]
        "Records finished above the lowest that is not.";
    OLDEST: Gauge "waterwheel_oldest_attempt_seconds" ["topic, partition"] "How long the oldest attempt that runs has run.";
    TIME_LAG: Gauge "waterwheel_consumer_lag_time_seconds" ["topic, partition"]
        "Age of the oldest record that was fetched and is not finished, by its own time; 0 where there is none.";
    HEAD_AGE: Gauge "waterwheel_consumer_head_age_seconds" ["topic, partition"]
        "For how long the lowest record that is not finished has held the commit; 0 where there is none.";
    BREAKER_OPENED: Counter "waterwheel_breaker_opened_total" [""] "Times that the circuit breaker opened.";
    BREAKER: Gauge "waterwheel_breaker_state" ["class"] "0 closed, 1 half-open, 2 open; by class where each has its own.";
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
    /// How long its oldest attempt runs.
    pub(crate) oldest: Duration,
    /// The log's end, where it is known.
    pub(crate) end: Option<i64>,
    /// For how long a record has held the commit.
    pub(crate) head_age: Duration,
    /// How old that record is.
    pub(crate) time_lag: Duration,
}

impl PartitionFigures {
    /// What takes back all that was published of a partition.
    fn gone(partition: TopicPartition) -> Self {
        let (position, frontier, finished_above, held, waiting, bytes) = (0, 0, 0, None, 0, 0);
        let (end, oldest, head_age, time_lag) = (Some(0), Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { partition, position, frontier, finished_above, held, waiting, bytes, oldest, end, head_age, time_lag }
    }
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
            (SENT, counts.dead_lettered + counts.tiered),
            (ATTEMPTS, counts.attempts),
            (FOLLOWED, counts.followed),
            (UNDECODABLE, counts.undecodable),
            (PANICS, counts.panicked),
            (TIMEOUTS, counts.timed_out),
            (DISAGREED, counts.clocks_disagreed),
            (CUT_OFF, counts.cut_off),
            (HOOK_DROPS, counts.hook_moments_dropped),
            (HOOK_FAILURES, counts.hook_failures),
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
            (SETTLED, "outcome", "tiered", counts.tiered),
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

    /// Records whose delay is not over.
    pub(crate) fn delayed(&self, records: usize) {
        self.gauge(DELAYED, None, number(records));
    }

    /// The partitions that the worker has now, and its records that run and that wait in slots. What was published of other
    /// partitions becomes 0.
    pub(crate) fn partitions(&mut self, partitions: &[PartitionFigures], running: usize, aside: usize) {
        let waiting: usize = partitions.iter().map(|p| p.waiting).sum();
        self.gauge(ASSIGNED, None, number(partitions.len()));
        self.gauge(IN_FLIGHT, None, number(running));
        self.gauge(WAITING, None, number(waiting + aside));
        self.gauge(BYTES, None, partitions.iter().map(|p| number(p.bytes)).sum());
        for reason in [
            HoldReason::Bytes,
            HoldReason::DeadLetter,
            HoldReason::Draining,
            HoldReason::Paused,
            HoldReason::Lease,
            HoldReason::MapFull,
            HoldReason::Delayed,
            HoldReason::Breaker,
            HoldReason::RateLimit,
        ] {
            let held = partitions.iter().filter(|p| p.held == Some(reason)).count();
            self.gauge(HELD, Some(("reason", word_of(reason))), number(held));
        }
        let now: BTreeSet<TopicPartition> = partitions.iter().map(|p| p.partition.clone()).collect();
        for gone in self.published.difference(&now) {
            self.partition(&PartitionFigures::gone(gone.clone()));
        }
        partitions.iter().for_each(|p| self.partition(p));
        self.published = now;
    }

    fn partition(&self, of: &PartitionFigures) {
        let PartitionFigures { partition, position, frontier, finished_above, .. } = of;
        let labels =
            self.with([("topic", partition.topic.to_string()), ("partition", partition.partition.to_string())]);
        let of_kind = |kind: &'static str| {
            let mut labels = labels.clone();
            labels.push(Label::from_static_parts("kind", kind));
            labels
        };
        gauge!(OFFSET, of_kind("position")).set(offset(*position));
        gauge!(OFFSET, of_kind("frontier")).set(offset(*frontier));
        gauge!(COMMIT_GAP, labels.clone()).set(offset(i64::try_from(*finished_above).unwrap_or(i64::MAX)));
        gauge!(OLDEST, labels.clone()).set(of.oldest.as_secs_f64());
        gauge!(TIME_LAG, labels.clone()).set(of.time_lag.as_secs_f64());
        gauge!(HEAD_AGE, labels.clone()).set(of.head_age.as_secs_f64());
        if let Some(end) = of.end {
            let lag = lag(*frontier, *finished_above, end);
            gauge!(OFFSET, of_kind("end")).set(offset(end));
            gauge!(LAG, labels).set(offset(i64::try_from(lag).unwrap_or(i64::MAX)));
        }
    }
}

/// The histogram of the times of a worker's attempts, in seconds.
pub(crate) fn attempt_times(labels: &[(&'static str, String)]) -> Histogram {
    histogram!(PROCESS, labels)
}

/// Offsets to go: what is finished above the frontier is finished.
pub(crate) fn lag(frontier: i64, finished_above: u64, end: i64) -> u64 {
    let open = end.saturating_sub(frontier).max(0).unsigned_abs();
    open.saturating_sub(finished_above)
}
