//! Members that have names: their sessions outlive them, and no two have one name.

use super::topic;
use crate::support::{Consumers, Half, Kafka, Protocol, Source};

/// Longer than a test takes, as Kafka's.
const SESSION: &str = "60000";

fn instance(number: usize) -> String {
    format!("instance-{number}")
}

fn start_all(consumers: &mut Consumers<'_>, halves: &[Half]) -> Vec<usize> {
    (0..).zip(halves).map(|(number, half)| consumers.start_static(*half, &instance(number))).collect()
}

/// `test_static_consumer_bounce_with_eager_assignment`, all and rolling: while static members bounce, the one that stays
/// gives nothing back; a dynamic one does.
fn bounce(purpose: &str, producer: Half, protocol: Protocol, is_static: bool) {
    const ROUNDS: usize = 2;
    let Some((kafka, topic)) = topic(purpose, 1, producer == Half::Java) else { return };
    let mut source = Source::start(kafka, producer, &topic, &["--throughput", "1000"]);
    source.await_acked(1);
    let mut consumers = Consumers::new(kafka, &topic, protocol, &[]).with_session(SESSION);
    let start = |consumers: &mut Consumers<'_>, number: usize| match is_static {
        true => consumers.start_static(Half::Ours, &instance(number)),
        false => consumers.start(Half::Ours),
    };
    let mut members: Vec<usize> = (0..3).map(|number| start(&mut consumers, number)).collect();
    consumers.await_all_joined(3, 1);
    let (stays, before) = (members[0], consumers.revocations(members[0]));
    for _ in 0..ROUNDS {
        consumers.stop_together(&members[1..]);
        for (number, member) in members.iter_mut().enumerate().skip(1) {
            *member = start(&mut consumers, number);
        }
        consumers.await_all_joined(3, 1);
        consumers.await_consumed(1);
        for (number, member) in members.iter_mut().enumerate().skip(1) {
            consumers.stop(*member);
            *member = start(&mut consumers, number);
            consumers.await_all_joined(3, 1);
            consumers.await_consumed(1);
        }
    }
    let revocations = consumers.revocations(stays) - before;
    assert_eq!(revocations == 0, is_static, "the member that stays was revoked {revocations} times");
    consumers.stop_all();
    source.stop();
    assert_eq!(consumers.positions(), consumers.total, "no record was consumed twice, none passed over");
    consumers.assert_all_committed();
}

#[test]
fn static_members_that_bounce_revoke_nothing_of_others() {
    bounce("verifiable-static", Half::Java, Protocol::Eager, true);
}

#[test]
fn dynamic_members_that_bounce_revoke_what_others_have() {
    bounce("verifiable-dynamic", Half::Ours, Protocol::Eager, false);
}

/// Beyond Kafka's test, which has no such one for its new protocol.
#[test]
fn static_members_that_bounce_revoke_nothing_of_others_in_the_consumer_protocol() {
    bounce("verifiable-static-848", Half::Ours, Protocol::Consumer, true);
}

/// A producer, three static members that have joined, and an empty second set of members of their group.
fn conflict(purpose: &str, protocol: Protocol) -> Option<(Source, Consumers<'static>, Consumers<'static>)> {
    let (kafka, topic): (&'static Kafka, _) = topic(purpose, 1, true)?;
    let mut source = Source::start(kafka, Half::Ours, &topic, &["--throughput", "500"]);
    source.await_acked(1);
    let group = || Consumers::new(kafka, &topic, protocol, &[]).with_session(SESSION);
    Some((source, group(), group()))
}

/// `test_fencing_static_consumer`, stable, classic: who comes with a name that is taken gets it, and the one before ends.
fn newcomers_win(purpose: &str, before: &[Half], after: &[Half]) {
    let Some((mut source, mut consumers, mut conflicting)) = conflict(purpose, Protocol::Eager) else { return };
    let members = start_all(&mut consumers, before);
    consumers.await_all_joined(before.len(), 1);
    let newcomers = start_all(&mut conflicting, after);
    conflicting.await_joined(newcomers.len());
    for fenced in &members[..newcomers.len()] {
        let said = consumers.await_failure(*fenced);
        if before[*fenced] == Half::Ours {
            assert!(said.contains("group.instance.id"), "{said}");
        }
    }
    consumers.await_joined(members.len() - newcomers.len());
    assert_eq!(consumers.ended(), newcomers.len());
    // The names go on without those that had them.
    let total = consumers.total + conflicting.total;
    consumers.await_together(&mut conflicting, "records after the conflict", |a, b| a.total + b.total > total + 100);
    consumers.stop_all();
    conflicting.stop_all();
    source.stop();
}

#[test]
fn a_newcomer_of_ours_takes_a_static_name_from_javas_member() {
    newcomers_win("verifiable-fencing-java", &[Half::Java, Half::Ours, Half::Ours], &[Half::Ours]);
}

#[test]
fn newcomers_take_static_names_from_members_of_ours() {
    newcomers_win("verifiable-fencing", &[Half::Ours; 3], &[Half::Java, Half::Ours]);
}

/// `test_fencing_static_consumer`, stable, consumer protocol: who comes with a name that is taken does not get in, and
/// nobody notices; when those before have stopped, the names can be had.
#[test]
fn newcomers_with_static_names_that_are_taken_stay_out_in_the_consumer_protocol() {
    let conflict = conflict("verifiable-fencing-848", Protocol::Consumer);
    let Some((mut source, mut consumers, mut conflicting)) = conflict else { return };
    let halves = [Half::Ours, Half::Java, Half::Ours];
    start_all(&mut consumers, &halves);
    consumers.await_all_joined(3, 1);
    let rebalances = consumers.rebalances();
    let newcomers = start_all(&mut conflicting, &[Half::Ours; 2]);
    for newcomer in newcomers {
        let said = conflicting.await_failure(newcomer);
        assert!(said.contains("The instance ID is still used"), "{said}");
    }
    consumers.await_consumed(1);
    assert_eq!(consumers.rebalances(), rebalances, "who does not get in moves nothing");
    assert_eq!((consumers.joined(), conflicting.joined(), conflicting.rebalances()), (3, 0, 0));
    consumers.stop_all();
    start_all(&mut conflicting, &[Half::Ours; 2]);
    conflicting.await_joined(2);
    conflicting.await_consumed(1);
    conflicting.stop_all();
    source.stop();
}

/// `test_fencing_static_consumer`, all: two members for one name start at the same time, and one is left.
fn one_is_left(purpose: &str, protocol: Protocol) {
    let Some((mut source, mut consumers, mut conflicting)) = conflict(purpose, protocol) else { return };
    start_all(&mut consumers, &[Half::Ours; 3]);
    start_all(&mut conflicting, &[Half::Ours]);
    consumers.await_together(&mut conflicting, "one member for each name", |a, b| {
        (a.joined() + b.joined(), a.ended() + b.ended()) == (3, 1)
    });
    consumers.stop_all();
    conflicting.stop_all();
    source.stop();
}

#[test]
fn of_two_members_with_one_static_name_one_is_left() {
    one_is_left("verifiable-fencing-all", Protocol::Eager);
}

#[test]
fn of_two_members_with_one_static_name_one_is_left_in_the_consumer_protocol() {
    one_is_left("verifiable-fencing-all-848", Protocol::Consumer);
}
