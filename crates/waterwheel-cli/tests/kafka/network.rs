//! Networks that are slow, break, fall silent or lose half of a connection, between members and real brokers.
//!
//! Members meet the brokers through proxies only (`support::Proxy`), which count what they do: a case whose fault did not
//! happen is void. The test's own clients go to the brokers directly.

use std::time::Duration;

use crate::support::{Cluster, Counts, Entry, Kafka, PATIENCE, Protocol, Trial, Way, wait_until};

const CONCURRENCY: usize = 64;
const LOAD: [&str; 4] = ["--concurrency", "64", "--work-us", "10000"];

/// The properties of a member that goes through the proxies.
fn proxied<'a>(addresses: &'a str, properties: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("bootstrap.servers", addresses)], properties].concat()
}

/// What all proxies did.
fn counts(kafka: &Kafka) -> Counts {
    kafka.proxies().iter().map(|proxy| proxy.counts()).fold(Counts::default(), |a, b| Counts {
        accepted: a.accepted + b.accepted,
        cut: a.cut + b.cut,
        reset: a.reset + b.reset,
        halved: a.halved + b.halved,
        swallowed: a.swallowed + b.swallowed,
        bytes: [a.bytes[0] + b.bytes[0], a.bytes[1] + b.bytes[1]],
    })
}

/// Each connection lives for 0.5 to 1.5 s, half of them end by a reset, while two members work.
fn short_lived_connections(kafka: &Kafka, name: &'static str, protocol: Protocol) {
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(40_000, 4_000);
    let addresses = kafka.bootstrap_proxied();
    // The members' time-outs must not be what ends the sessions.
    let mut properties = proxied(&addresses, &protocol.properties());
    properties.retain(|(key, _)| *key != "session.timeout.ms");
    properties.push(("log.connection.close", "false"));
    let members = [trial.member(&properties, &LOAD), trial.member(&properties, &LOAD)];
    trial.await_settled(&[&members[0], &members[1]]);

    let before = counts(kafka);
    for proxy in kafka.proxies() {
        proxy.set(Way { life: Some(Duration::from_millis(500)..Duration::from_millis(1_500)), ..Way::default() });
        // Those that are there live without end.
        proxy.reset();
    }
    assert!(!trial.is_done(), "void: everything was finished before the first connection was cut");
    trial.await_done(PATIENCE);
    let after = counts(kafka);
    for proxy in kafka.proxies() {
        proxy.set(Way::default());
    }
    let [one, other] = members;
    trial.end(one);
    trial.end(other);
    assert!(after.cut >= before.cut + 20, "void: few connections were cut: {before:?}, {after:?}");
    trial.figure("cut", after.cut - before.cut);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn connections_that_break_all_the_time_lose_nothing() {
    let Some(kafka) = Cluster::of(1).proxied(48).start() else { return };
    short_lived_connections(&kafka, "short-lived-eager", Protocol::Eager);
    short_lived_connections(&kafka, "short-lived-cooperative", Protocol::Cooperative);
    short_lived_connections(&kafka, "short-lived-consumer", Protocol::Consumer);
}
