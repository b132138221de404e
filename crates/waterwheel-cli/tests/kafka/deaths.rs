//! Members that stop, die or freeze under load.

use std::collections::BTreeSet;

use rustix::process::Signal;

use crate::support::{Entry, Kafka, PATIENCE, Protocol, Trial, wait_until};

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

/// One of two members is frozen until the other has its partitions, and then goes on.
fn a_frozen_member(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(100_000, 5_000);
    let mut load = [&LOAD[..], &["--tail-pct", "10"]].concat();
    if protocol == Protocol::Consumer {
        // The broker alone knows the session time-out, 6 s here; the worker takes Kafka's default for granted.
        load.extend(["--lease-ms", "5000"]);
    }
    let properties = protocol.properties();
    let frozen = trial.member(&properties, &load);
    let other = trial.member(&properties, &load);
    trial.await_settled(&[&frozen, &other]);
    trial.await_starts(frozen.number, 5_000);

    frozen.process.signal(Signal::STOP);
    let held_then = trial.journal(frozen.number).held.clone();
    let since = trial.journal(frozen.number).ended_since_commit(8);
    wait_until(PATIENCE, "the other member to hold everything", || trial.journal(other.number).held.len() == 8);
    trial.await_starts(other.number, 500);
    assert!(!trial.is_done(), "void: everything was finished before the frozen member went on");
    trial.injected(1);
    let stood_at = trial.journal(frozen.number).entries.len();
    let mut committed = kafka.committed(&trial.group, &trial.topic, trial.partitions);
    frozen.process.signal(Signal::CONT);

    // It learns that its partitions are gone; until then nothing that it says or does counts.
    wait_until(PATIENCE, "the frozen member to learn that its partitions are lost", || {
        let now = kafka.committed(&trial.group, &trial.topic, trial.partitions);
        for (partition, (now, then)) in now.iter().zip(&committed).enumerate() {
            assert!(now.offset >= then.offset, "partition {partition}: committed {then:?}, and after it {now:?}");
        }
        committed = now;
        let entries = &trial.journal(frozen.number).entries[stood_at..];
        held_then.iter().all(|p| entries.iter().any(|e| matches!(e, Entry::Lost(q) | Entry::Revoked(q) if q == p)))
    });
    let entries = &trial.journal(frozen.number).entries[stood_at..];
    let (mut gone, mut zombie_starts, mut returned) = (BTreeSet::new(), 0, BTreeSet::new());
    for entry in entries {
        match entry {
            Entry::Lost(p) => drop(gone.insert(*p)),
            Entry::Revoked(p) => returned.extend((!gone.contains(p)).then_some(*p)),
            Entry::Start(p, _) if !gone.contains(p) => zombie_starts += 1,
            Entry::Assigned(p, _) => drop(gone.insert(*p)),
            _ => {}
        }
    }
    assert_eq!(zombie_starts, 0, "starts after the thaw, in partitions that were another's (seed {})", trial.seed);
    assert!(returned.is_empty(), "partitions {returned:?} were another's and were given back as if in order");

    trial.await_done(PATIENCE);
    trial.end(frozen);
    trial.end(other);
    trial.figure("finished_since_commit", since);
    trial.assert_all_committed();
    trial.judge((CONCURRENCY + since) as u64);
}

#[test]
fn a_member_that_was_frozen_starts_and_commits_nothing_when_all_is_revoked() {
    a_frozen_member("frozen-eager", Protocol::Eager);
}

#[test]
fn a_member_that_was_frozen_starts_and_commits_nothing_when_partitions_move_by_and_by() {
    a_frozen_member("frozen-cooperative", Protocol::Cooperative);
}

#[test]
fn a_member_that_was_frozen_starts_and_commits_nothing_in_the_consumer_protocol() {
    a_frozen_member("frozen-consumer", Protocol::Consumer);
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
