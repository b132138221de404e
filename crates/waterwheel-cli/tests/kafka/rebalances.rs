//! Hand-overs between members under load.

use crate::support::{Kafka, Protocol, Trial};

/// A hundred thousand keyed records through two members while a third joins and leaves again and again.
fn a_third_member_comes_and_goes(name: &'static str, protocol: Protocol) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(100_000, 5_000);

    let load = ["--concurrency", "64", "--work-us", "15000", "--tail-us", "50000", "--tail-pct", "10"];
    let properties = protocol.properties();
    let stay = [trial.member(&properties, &load), trial.member(&properties, &load)];
    trial.await_settled(&[&stay[0], &stay[1]]);
    let mut rounds = 0;
    while !trial.is_done() {
        let third = trial.member(&properties, &load);
        trial.await_starts_or_done(third.number, 500);
        rounds += usize::from(trial.journal(third.number).starts >= 500);
        trial.end(third);
    }
    for member in stay {
        trial.end(member);
    }
    assert!(rounds >= 3, "void: only {rounds} members joined and left before everything was finished");
    trial.figure("rounds", rounds);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn a_third_member_that_comes_and_goes_costs_nothing_when_all_is_revoked() {
    a_third_member_comes_and_goes("storm-eager", Protocol::Eager);
}

#[test]
fn a_third_member_that_comes_and_goes_costs_nothing_when_partitions_move_by_and_by() {
    a_third_member_comes_and_goes("storm-cooperative", Protocol::Cooperative);
}

#[test]
fn a_third_member_that_comes_and_goes_costs_nothing_in_the_consumer_protocol() {
    a_third_member_comes_and_goes("storm-consumer", Protocol::Consumer);
}
