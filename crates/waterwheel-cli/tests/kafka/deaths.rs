//! Members that stop or die under load.

use rustix::process::Signal;

use crate::support::{Entry, Kafka, PATIENCE, Protocol, Trial};

const CONCURRENCY: usize = 64;
const LOAD: [&str; 6] = ["--concurrency", "64", "--work-us", "10000", "--tail-us", "50000"];

/// One of two members is killed in the midst of its work.
fn a_killed_member(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(60_000, 3_000);
    let load = [&LOAD[..], &["--tail-pct", "10"]].concat();
    let properties = protocol.properties();
    let victim = trial.member(&properties, &load);
    let survivor = trial.member(&properties, &load);
    trial.await_settled(&[&victim, &survivor]);
    trial.await_starts(victim.number, 8_000);

    victim.process.signal(Signal::KILL);
    let mut process = victim.process;
    process.wait(PATIENCE);
    assert!(!trial.is_done(), "void: everything was finished before the member was killed");
    trial.injected(1);
    let since = trial.journal(victim.number).ended_since_commit(8);

    trial.await_done(PATIENCE);
    trial.end(survivor);
    trial.figure("finished_since_commit", since);
    trial.assert_all_committed();
    let verdict = trial.judge((CONCURRENCY + since) as u64);
    assert!(verdict.interrupted <= CONCURRENCY as u64, "more than its concurrency ran: {verdict:#?}");
}

#[test]
fn a_killed_member_loses_nothing_when_all_is_revoked() {
    a_killed_member("killed-eager", Protocol::Eager);
}

#[test]
fn a_killed_member_loses_nothing_when_partitions_move_by_and_by() {
    a_killed_member("killed-cooperative", Protocol::Cooperative);
}

#[test]
fn a_killed_member_loses_nothing_in_the_consumer_protocol() {
    a_killed_member("killed-consumer", Protocol::Consumer);
}

/// Ten members, one after the other, are stopped in the midst of their work.
fn ten_stops(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(40_000, 2_000);
    let load = [&LOAD[..], &["--tail-pct", "10"]].concat();
    for _ in 0..10 {
        let member = trial.member(&protocol.properties(), &load);
        trial.await_starts(member.number, 1_500);
        assert!(!trial.is_done(), "void: everything was finished before the tenth stop");
        trial.end(member);
        trial.injected(1);
    }
    let last = trial.member(&protocol.properties(), &load);
    trial.await_done(PATIENCE);
    trial.end(last);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn ten_stops_under_load_cost_nothing_when_all_is_revoked() {
    ten_stops("stops-eager", Protocol::Eager);
}

#[test]
fn ten_stops_under_load_cost_nothing_when_partitions_move_by_and_by() {
    ten_stops("stops-cooperative", Protocol::Cooperative);
}

#[test]
fn ten_stops_under_load_cost_nothing_in_the_consumer_protocol() {
    ten_stops("stops-consumer", Protocol::Consumer);
}

/// Handlers take longer than `max.poll.interval.ms`, the session and the lease: the member is polled all the same (I8).
fn long_handlers(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 4);
    // Two of each key: 18 s.
    let records: Vec<_> = (0..16).map(|n| (Some(format!("k{}", n % 8)), format!("v{n}"))).collect();
    let produced = kafka.produce(&trial.topic, records);
    trial.was_produced(produced);
    let mut properties = protocol.properties();
    properties.push(("max.poll.interval.ms", "6000"));
    let member = trial.member(&properties, &["--concurrency", "64", "--work-us", "9000000"]);
    trial.await_done(PATIENCE);
    // Each took longer than the poll interval.
    trial.injected(16);
    let entries = &trial.journal(member.number).entries;
    let left = entries.iter().filter(|e| matches!(e, Entry::Revoked(_) | Entry::Lost(_))).count();
    assert_eq!(left, 0, "partitions left the member while its handlers ran");
    trial.end(member);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn handlers_longer_than_the_poll_interval_cost_no_partition_in_a_classic_group() {
    long_handlers("long-handlers-cooperative", Protocol::Cooperative);
}

#[test]
fn handlers_longer_than_the_poll_interval_cost_no_partition_in_the_consumer_protocol() {
    long_handlers("long-handlers-consumer", Protocol::Consumer);
}
