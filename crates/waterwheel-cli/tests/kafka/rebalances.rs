//! Hand-overs between members under load.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waterwheel::{Failure, Message, Raw, WorkerBuilder};

use crate::support::{Entry, Kafka, PATIENCE, Protocol, Trial, is_whole, wait_until};

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
    trial.injected(2 * rounds);
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

/// While the partitions that move are drained, those that stay go on: the drain ends only when they did.
fn kept_partitions_go_on(name: &'static str, protocol: Protocol) {
    const ENOUGH: usize = 500;
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, 8);
    trial.produce(80_000, 4_000);
    let gate = Arc::new(Gate::default());
    let handler = {
        let gate = gate.clone();
        move |message: Message<Raw>| {
            let gate = gate.clone();
            async move {
                gate.started(message.partition());
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_millis(15)) => {}
                    () = message.cancelled() => gate.wait(message.partition(), ENOUGH).await,
                }
                Ok::<(), Failure>(())
            }
        }
    };
    let properties = protocol.properties();
    let configure = |builder: WorkerBuilder| builder.concurrency(64).drain_timeout(PATIENCE);
    let first = trial.inside(&properties, configure, handler);
    trial.await_starts(first.number, 2_000);
    let load = ["--concurrency", "64", "--work-us", "15000"];
    let second = trial.member(&properties, &load);
    wait_until(PATIENCE, "the second member to get its share", || trial.journal(second.number).held.len() == 4);
    assert!(!trial.is_done(), "void: everything was finished before the hand-over");
    trial.injected(1);
    let (drained, kept) = gate.told();
    assert!(!drained.is_empty(), "void: no handler ran in a partition that was drained");
    assert!(kept >= ENOUGH, "only {kept} records of the kept partitions were started during the drain");
    // The journal tells the same: nothing of the drained partitions starts, much of the others does.
    let entries = &trial.journal(first.number).entries;
    let revoked = entries.iter().position(|e| matches!(e, Entry::Revoked(_))).expect("partitions were given back");
    let last = entries[..revoked].iter().rposition(|e| matches!(e, Entry::Start(p, _) if drained.contains(p)));
    let between = entries[last.expect("they had records")..revoked].iter();
    let kept = between.filter(|e| matches!(e, Entry::Start(p, _) if !drained.contains(p))).count();
    trial.figure("kept_starts_in_drain", kept);
    assert!(kept >= ENOUGH, "{kept} records by the journal");
    gate.open();
    trial.await_done(PATIENCE);
    let report = first.stop();
    assert!(report.is_clean(), "{report:?}");
    trial.end(second);
    trial.assert_all_committed();
    trial.judge(0);
}

/// Handlers of drained partitions wait here until enough records of the others were started.
#[derive(Default)]
struct Gate(Mutex<(BTreeSet<i32>, usize, bool)>);

impl Gate {
    fn started(&self, partition: i32) {
        let mut gate = self.0.lock().expect("nobody panicked");
        if !gate.0.is_empty() && !gate.0.contains(&partition) {
            gate.1 += 1;
        }
    }

    async fn wait(&self, partition: i32, enough: usize) {
        self.0.lock().expect("nobody panicked").0.insert(partition);
        while {
            let gate = self.0.lock().expect("nobody panicked");
            gate.1 < enough && !gate.2
        } {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    fn told(&self) -> (BTreeSet<i32>, usize) {
        let gate = self.0.lock().expect("nobody panicked");
        (gate.0.clone(), gate.1)
    }

    /// From now on nobody waits.
    fn open(&self) {
        self.0.lock().expect("nobody panicked").2 = true;
    }
}

#[test]
fn partitions_that_stay_go_on_while_others_are_drained() {
    kept_partitions_go_on("kept-cooperative", Protocol::Cooperative);
}

#[test]
fn partitions_that_stay_go_on_while_others_are_drained_in_the_consumer_protocol() {
    kept_partitions_go_on("kept-consumer", Protocol::Consumer);
}

/// So many members, some of them coming and going all the time, share many partitions.
fn a_big_group(name: &'static str, protocol: Protocol, members: usize, partitions: i32, records: usize) {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, name, partitions);
    trial.produce(records, 20_000);
    // A handful of handlers a partition: it takes a while.
    let load = ["--concurrency", "32", "--work-us", "40000"];
    let properties = protocol.properties();
    let mut all: Vec<_> = (0..members).map(|_| trial.member(&properties, &load)).collect();
    let last = all[members - 1].number;
    trial.await_starts_or_done(last, 100);
    let mut rounds = 0;
    while !trial.is_done() && rounds < members {
        // The eldest leaves, and another one joins.
        let eldest = all.remove(0);
        trial.end(eldest);
        let newest = trial.member(&properties, &load);
        trial.await_starts_or_done(newest.number, 100);
        rounds += usize::from(trial.journal(newest.number).starts >= 100);
        all.push(newest);
    }
    trial.await_done(2 * PATIENCE);
    all.into_iter().for_each(|member| trial.end(member));
    assert!(rounds >= 2, "void: only {rounds} members left and joined before everything was finished");
    trial.injected(2 * rounds);
    trial.figure("rounds", rounds);
    trial.assert_all_committed();
    trial.judge(0);
}

#[test]
fn a_big_group_whose_members_change_loses_nothing_when_partitions_move_by_and_by() {
    a_big_group("big-cooperative", Protocol::Cooperative, 8, 40, 60_000);
}

#[test]
fn a_bigger_group_whose_members_change_loses_nothing_when_all_is_revoked() {
    if is_whole() {
        a_big_group("bigger-eager", Protocol::Eager, 12, 80, 200_000);
    }
}

#[test]
fn a_bigger_group_whose_members_change_loses_nothing_in_the_consumer_protocol() {
    if is_whole() {
        a_big_group("bigger-consumer", Protocol::Consumer, 12, 80, 200_000);
    }
}
