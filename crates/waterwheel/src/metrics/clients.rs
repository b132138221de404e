//! What the clients under a `Client` tell the process's metrics recorder, from their statistics.
//!
//! Several of them may have one role (two workers, say): counters grow by what each has counted since it last told, gauges are
//! sums, or the greatest of them. Labels are bounded: roles, and the cluster's brokers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use metrics::{Label, counter, gauge};

use super::{Metric, MetricKind, describe, table};
use crate::client::{BrokerStatistics, ClientRole, ClientStatistics, StatisticsListener};

table! {
    /// Every metric of the clients under a `Client`; published where the property `statistics.interval.ms` is set.
    CLIENT_METRICS;
    REQUESTS: Counter "waterwheel_client_requests_total" ["broker"] "Requests sent to a broker.";
    ERRORS: Counter "waterwheel_client_request_errors_total" ["broker"]
        "Requests that failed, or were not answered in time.";
    CONNECTS: Counter "waterwheel_client_connects_total" ["broker"] "Connections made or tried.";
    SENT_BYTES: Counter "waterwheel_client_sent_bytes_total" ["broker"] "Bytes sent to a broker.";
    RECEIVED_BYTES: Counter "waterwheel_client_received_bytes_total" ["broker"] "Bytes received from a broker.";
    ROUND_TRIP: Gauge "waterwheel_client_round_trip_seconds" ["broker"]
        "From a request to its answer, on the average of the last interval.";
    THROTTLE: Gauge "waterwheel_client_throttle_seconds" ["broker"]
        "The longest that a broker made a client wait in the last interval, for its quota.";
    QUEUED: Gauge "waterwheel_client_queued_records" [""] "Records that wait to be sent or acknowledged.";
    QUEUED_BYTES: Gauge "waterwheel_client_queued_bytes" [""] "Bytes of them.";
    FETCHED: Gauge "waterwheel_client_fetched_records" [""] "Records that were read ahead.";
    FETCHED_BYTES: Gauge "waterwheel_client_fetched_bytes" [""] "Bytes of them.";
}

/// Publishes the statistics of one `Client`'s clients.
#[derive(Default)]
pub(crate) struct ClientPublisher {
    /// What each instance told last, by its name.
    last: Mutex<BTreeMap<String, ClientStatistics>>,
}

impl StatisticsListener for ClientPublisher {
    fn told(&self, now: &ClientStatistics) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() {
            describe(CLIENT_METRICS);
        }
        let before = last.insert(now.instance.clone(), now.clone());
        for broker in &now.brokers {
            let before = before.as_ref().and_then(|before| before.brokers.iter().find(|of| of.id == broker.id));
            grow(&labels(now, Some(broker.id)), broker, before);
        }
        publish(&last, now);
    }

    fn ended(&self, instance: &str) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gone) = last.remove(instance) {
            publish(&last, &gone);
        }
    }
}

fn labels(of: &ClientStatistics, broker: Option<i32>) -> Vec<Label> {
    let mut labels =
        vec![Label::new("client_id", of.client_id.clone()), Label::from_static_parts("role", of.role.as_str())];
    labels.extend(broker.map(|id| Label::new("broker", id.to_string())));
    labels
}

/// What a metric tells of some statistics.
type Figure<T> = fn(&T) -> u64;

fn grow(labels: &[Label], now: &BrokerStatistics, before: Option<&BrokerStatistics>) {
    let counts: [(&str, Figure<BrokerStatistics>); 5] = [
        (REQUESTS, |broker| broker.requests),
        (ERRORS, |broker| broker.errors),
        (CONNECTS, |broker| broker.connects),
        (SENT_BYTES, |broker| broker.sent_bytes),
        (RECEIVED_BYTES, |broker| broker.received_bytes),
    ];
    for (name, count) in counts {
        counter!(name, labels.to_vec()).increment(count(now).saturating_sub(before.map_or(0, count)));
    }
}

/// The gauges of all instances with the role of that one, and of the brokers that it knows.
fn publish(all: &BTreeMap<String, ClientStatistics>, of: &ClientStatistics) {
    let role: ClientRole = of.role;
    let same = || all.values().filter(move |other| other.role == role);
    let sums: [(&str, Figure<ClientStatistics>); 4] = [
        (QUEUED, |of| of.queued_records),
        (QUEUED_BYTES, |of| of.queued_bytes),
        (FETCHED, |of| of.partitions.iter().map(|partition| partition.fetched).sum()),
        (FETCHED_BYTES, |of| of.partitions.iter().map(|partition| partition.fetched_bytes).sum()),
    ];
    for (name, figure) in sums {
        gauge!(name, labels(of, None)).set(number(same().map(figure).sum()));
    }
    for broker in &of.brokers {
        let seen = || same().flat_map(|of| &of.brokers).filter(|other| other.id == broker.id);
        let round_trip = seen().filter_map(|broker| broker.round_trip).max().unwrap_or_default();
        let throttle = seen().map(|broker| broker.throttle).max().unwrap_or_default();
        gauge!(ROUND_TRIP, labels(of, Some(broker.id))).set(round_trip.as_secs_f64());
        gauge!(THROTTLE, labels(of, Some(broker.id))).set(throttle.as_secs_f64());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; counts up to 2^53 are exact")]
fn number(n: u64) -> f64 {
    n as f64
}
