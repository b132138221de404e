//! Members that come and go, one after the other, all together, or the partition's owner.

use super::topic;
use crate::support::{Consumers, Half, Protocol, Source};

/// `test_group_consumption`: three members start one after the other and stop in the same order; the partition is read
/// after each rebalance.
fn group_consumption(purpose: &str, producer: Half, halves: [Half; 3], protocol: Protocol) {
    let is_java = producer == Half::Java || halves.contains(&Half::Java);
    let Some((kafka, topic)) = topic(purpose, 1, is_java) else { return };
    let mut source = Source::start(kafka, producer, &topic, &["--throughput", "500"]);
    let mut consumers = Consumers::new(kafka, &topic, protocol, &["--verbose"]);
    let mut members = Vec::new();
    for half in halves {
        members.push(consumers.start(half));
        consumers.await_all_joined(members.len(), 1);
        consumers.await_consumed(1);
    }
    for (stopped, member) in (1..).zip(&members) {
        consumers.stop(*member);
        if stopped < members.len() {
            consumers.await_all_joined(members.len() - stopped, 1);
            consumers.await_consumed(1);
        }
    }
    source.stop();
    consumers.stop_all();
    let once = consumers.total - consumers.javas_duplicates;
    assert_eq!((consumers.duplicates, once), (0, consumers.positions()));
    consumers.assert_all_committed();
}

#[test]
fn members_that_start_and_stop_one_by_one_pass_the_partition_on_when_all_is_revoked() {
    group_consumption("verifiable-one-by-one-eager", Half::Ours, [Half::Ours, Half::Java, Half::Ours], Protocol::Eager);
}

#[test]
fn members_that_start_and_stop_one_by_one_pass_the_partition_on_when_partitions_move_by_and_by() {
    group_consumption("verifiable-one-by-one-cooperative", Half::Java, [Half::Ours; 3], Protocol::Cooperative);
}

#[test]
fn members_that_start_and_stop_one_by_one_pass_the_partition_on_in_the_consumer_protocol() {
    group_consumption(
        "verifiable-one-by-one-848",
        Half::Ours,
        [Half::Java, Half::Ours, Half::Ours],
        Protocol::Consumer,
    );
}

/// `test_consumer_bounce`, all: three consumers of one partition are stopped together and started together.
fn bounce_of_all(purpose: &str, protocol: Protocol) {
    let Some((kafka, topic)) = topic(purpose, 1, false) else { return };
    let mut source = Source::start(kafka, Half::Ours, &topic, &["--throughput", "1000"]);
    source.await_acked(1);
    let mut consumers = Consumers::new(kafka, &topic, protocol, &[]);
    let mut members: Vec<usize> = (0..3).map(|_| consumers.start(Half::Ours)).collect();
    consumers.await_all_joined(3, 1);
    for _ in 0..3 {
        consumers.await_consumed(200);
        consumers.stop_together(&members);
        members = (0..3).map(|_| consumers.start(Half::Ours)).collect();
        consumers.await_all_joined(3, 1);
        consumers.await_consumed(1);
    }
    consumers.stop_all();
    source.stop();
    assert_eq!(consumers.positions(), consumers.total, "no record was consumed twice, none passed over");
    consumers.assert_all_committed();
}

#[test]
fn consumers_that_bounce_together_read_nothing_twice_when_all_is_revoked() {
    bounce_of_all("verifiable-together-eager", Protocol::Eager);
}

#[test]
fn consumers_that_bounce_together_read_nothing_twice_when_partitions_move_by_and_by() {
    bounce_of_all("verifiable-together-cooperative", Protocol::Cooperative);
}

#[test]
fn consumers_that_bounce_together_read_nothing_twice_in_the_consumer_protocol() {
    bounce_of_all("verifiable-together-848", Protocol::Consumer);
}

/// `test_consumer_failure`: the owner of the partition is stopped in order before anything else was told it; the others go
/// on, and nothing is read twice. With and without commits that are told.
fn owner_stops(purpose: &str, producer: Half, protocol: Protocol, commits: &[&str]) {
    let Some((kafka, topic)) = topic(purpose, 1, producer == Half::Java) else { return };
    let mut consumers = Consumers::new(kafka, &topic, protocol, commits);
    for _ in 0..3 {
        consumers.start(Half::Ours);
    }
    consumers.await_all_joined(3, 1);
    let mut source = Source::start(kafka, producer, &topic, &["--throughput", "1000"]);
    source.await_acked(1_000);
    consumers.stop(consumers.owner(0));
    consumers.await_all_joined(2, 1);
    consumers.await_consumed(1_000);
    source.stop();
    consumers.stop_all();
    assert_eq!(consumers.positions(), consumers.total, "no record was consumed twice, none passed over");
    match commits {
        [] => consumers.assert_all_committed(),
        _ => consumers.assert_broker_has_all(),
    }
}

#[test]
fn an_owner_that_stops_costs_nothing_when_all_is_revoked() {
    owner_stops("verifiable-owner-eager", Half::Ours, Protocol::Eager, &[]);
}

#[test]
fn an_owner_that_stops_costs_nothing_when_partitions_move_by_and_by() {
    owner_stops("verifiable-owner-cooperative", Half::Java, Protocol::Cooperative, &["--enable-autocommit"]);
}

#[test]
fn an_owner_that_stops_costs_nothing_in_the_consumer_protocol() {
    owner_stops("verifiable-owner-848", Half::Ours, Protocol::Consumer, &["--enable-autocommit"]);
}

/// `AssignmentValidationTest.test_valid_assignment`: members start one after the other, and each time every partition has
/// exactly one of them.
fn valid_assignment(purpose: &str, protocol: Protocol, assignor: &[&str], halves: [Half; 3]) {
    let Some((kafka, topic)) = topic(purpose, 6, halves.contains(&Half::Java)) else { return };
    let mut consumers = Consumers::new(kafka, &topic, protocol, assignor);
    for (started, half) in (1..).zip(halves) {
        consumers.start(half);
        consumers.await_all_joined(started, 6);
        let mut all: Vec<i32> = consumers.assignments().into_iter().flatten().collect();
        all.sort_unstable();
        assert_eq!(all, [0, 1, 2, 3, 4, 5], "{started} members");
    }
    consumers.stop_all();
}

#[test]
fn each_partition_has_one_member_by_range() {
    valid_assignment("verifiable-range", Protocol::Eager, &[], [Half::Ours, Half::Java, Half::Ours]);
}

#[test]
fn each_partition_has_one_member_by_round_robin() {
    let assignor = ["--assignment-strategy", "org.apache.kafka.clients.consumer.RoundRobinAssignor"];
    valid_assignment("verifiable-round-robin", Protocol::Eager, &assignor, [Half::Java, Half::Ours, Half::Ours]);
}

#[test]
fn each_partition_has_one_member_by_cooperative_sticky() {
    valid_assignment("verifiable-sticky", Protocol::Cooperative, &[], [Half::Ours, Half::Java, Half::Ours]);
}

#[test]
fn each_partition_has_one_member_by_the_brokers_range() {
    let assignor = ["--group-remote-assignor", "range"];
    valid_assignment("verifiable-remote-range", Protocol::Consumer, &assignor, [Half::Java, Half::Ours, Half::Ours]);
}

#[test]
fn each_partition_has_one_member_by_the_brokers_uniform() {
    let assignor = ["--group-remote-assignor", "uniform"];
    valid_assignment("verifiable-remote-uniform", Protocol::Consumer, &assignor, [Half::Ours; 3]);
}
