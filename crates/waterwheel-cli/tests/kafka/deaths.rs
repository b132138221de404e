//! Members that stop, die or freeze under load.

use rustix::process::Signal;

use crate::support::{Kafka, PATIENCE, Protocol, Trial};

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
    // Nobody else commits for its partitions before the group has noticed.
    let committed = kafka.committed(&trial.group, &trial.topic, trial.partitions);
    let held = trial.journal(victim.number).held.clone();
    let of_victim = |(partition, c): (usize, &crate::support::Committed)| {
        if held.contains(&(partition as i32)) { c.clone() } else { crate::support::Committed::default() }
    };
    let committed: Vec<_> = committed.iter().enumerate().map(of_victim).collect();
    let since = trial.journal(victim.number).ended_since_commit(&committed);

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

#[test]
fn ten_stops_under_load_cost_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    for protocol in [Protocol::Eager, Protocol::Consumer] {
        let name = if protocol == Protocol::Eager { "stops-eager" } else { "stops-consumer" };
        let mut trial = Trial::new(kafka, name, 8);
        trial.produce(40_000, 2_000);
        let load = [&LOAD[..], &["--tail-pct", "10"]].concat();
        for _ in 0..10 {
            let member = trial.member(&protocol.properties(), &load);
            trial.await_starts(member.number, 1_500);
            assert!(!trial.is_done(), "void: everything was finished before the tenth stop");
            trial.end(member);
        }
        let last = trial.member(&protocol.properties(), &load);
        trial.await_done(PATIENCE);
        trial.end(last);
        trial.assert_all_committed();
        trial.judge(0);
    }
}
