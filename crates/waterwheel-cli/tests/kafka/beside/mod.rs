//! Faults side by side: each scenario is written once, for this worker and for any other program that speaks the command
//! line of `bench consume`.
//!
//! Ours is held to the promises; of the others it is told what happened. [`arms_side_by_side`] is run by `./run beside`,
//! which also says what programs; what no other test covers runs for ours in the ordinary suite.

mod arm;
mod stage;
mod timeline;

use std::collections::VecDeque;

use crate::support::{Kafka, Member, Protocol};
use arm::Arm;
use stage::{RATE, Stage, Tail};

type Scenario = (&'static str, fn(Stage<'_>));

const SCENARIOS: [Scenario; 7] = [
    ("kill", killed),
    ("stop", |stage| stopped(stage, Tail::None)),
    ("stop-3s", |stage| stopped(stage, Tail::Long)),
    ("storm", |stage| storm(stage, Tail::None)),
    ("storm-3s", |stage| storm(stage, Tail::Long)),
    ("freeze", frozen),
    ("stuck", stuck_and_killed),
];

/// One of two members is killed.
fn killed(mut stage: Stage<'_>) {
    let Some((victim, other)) = stage.pair(Tail::None) else { return stage.judge() };
    stage.flow_on(3 * RATE + stage.some);
    stage.kill([victim]);
    stage.await_all_partitions(&other);
    stage.await_done();
    stage.stop(other);
    stage.judge();
}

/// Three times a member is stopped by SIGTERM and replaced.
fn stopped(mut stage: Stage<'_>, tail: Tail) {
    let Some((first, second)) = stage.pair(tail) else { return stage.judge() };
    let mut members = VecDeque::from([first, second]);
    for _ in 0..3 {
        stage.flow_on(RATE);
        if let Some(oldest) = members.pop_front() {
            stage.stop(oldest);
            stage.trial.injected(1);
        }
        let next = stage.join(tail);
        stage.await_starts(&next, 100);
        members.push_back(next);
    }
    end_all(stage, members);
}

/// Beside two members that stay, a third one joins and leaves, three times.
fn storm(mut stage: Stage<'_>, tail: Tail) {
    let Some((first, second)) = stage.pair(tail) else { return stage.judge() };
    for _ in 0..3 {
        let third = stage.join(tail);
        stage.await_starts(&third, 100);
        stage.stop(third);
        stage.trial.injected(1);
        stage.await_starts(&first, 100);
    }
    end_all(stage, [first, second]);
}

/// One of two members is frozen until the other has its partitions, and then goes on.
fn frozen(mut stage: Stage<'_>) {
    let Some((frozen, other)) = stage.pair(Tail::None) else { return stage.judge() };
    stage.flow_on(3 * RATE + stage.some);
    stage.freeze(&frozen);
    let taken = stage.await_all_partitions(&other);
    stage.trial.figure("taken_over", taken);
    stage.thaw(&frozen);
    stage.flow_on(4 * RATE);
    end_all(stage, [frozen, other]);
}

/// One record in a hundred never ends, and then both members are killed. Those that follow end them all.
fn stuck_and_killed(mut stage: Stage<'_>) {
    let Some((first, second)) = stage.pair(Tail::Stuck) else { return stage.judge() };
    stage.flow_on(3 * RATE + stage.some);
    stage.kill([first, second]);
    let (third, fourth) = (stage.join(Tail::None), stage.join(Tail::None));
    end_all(stage, [third, fourth]);
}

fn end_all(mut stage: Stage<'_>, members: impl IntoIterator<Item = Member>) {
    stage.await_done();
    members.into_iter().for_each(|member| stage.stop(member));
    stage.judge();
}

/// Every arm in every scenario: ours in three group protocols, and those of `WATERWHEEL_BESIDE`, one a line. With
/// `WATERWHEEL_ONLY`, parts of `scenario/arm` parted by commas, only those.
#[test]
#[ignore = "many minutes, and it is told other programs: ./run beside"]
fn arms_side_by_side() {
    let Some(kafka) = Kafka::shared() else { return };
    let told = |name| std::env::var(name).unwrap_or_default();
    let (others, only) = (told("WATERWHEEL_BESIDE"), told("WATERWHEEL_ONLY"));
    let mut arms = PROTOCOLS.map(Arm::ours).to_vec();
    arms.extend(others.lines().filter(|line| !line.trim().is_empty()).map(Arm::other));
    let mut tried = 0;
    for (name, scenario) in SCENARIOS {
        let is_asked = |arm: &&Arm| only.split(',').any(|part| format!("{name}/{}", arm.name).contains(part));
        let asked: Vec<&Arm> = arms.iter().filter(is_asked).collect();
        tried += asked.len();
        // All at the same time, so that all have the same broker and the same machine.
        std::thread::scope(|scope| {
            for arm in asked {
                scope.spawn(|| scenario(Stage::new(kafka, name, arm)));
            }
        });
    }
    assert!(tried > 0, "nothing has {only:?} in its name");
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Eager, Protocol::Cooperative, Protocol::Consumer];

/// For ours in the ordinary suite.
fn ours(case: &'static str, protocol: Protocol, scenario: fn(Stage<'_>)) {
    let Some(kafka) = Kafka::shared() else { return };
    scenario(Stage::new(kafka, case, &Arm::ours(protocol)));
}

#[test]
fn members_that_are_stopped_while_a_few_handlers_take_long_cost_nothing_when_all_is_revoked() {
    ours("stop-3s-eager", Protocol::Eager, |stage| stopped(stage, Tail::Long));
}

#[test]
fn members_that_are_stopped_while_a_few_handlers_take_long_cost_nothing_when_partitions_move_by_and_by() {
    ours("stop-3s-cooperative", Protocol::Cooperative, |stage| stopped(stage, Tail::Long));
}

#[test]
fn members_that_are_stopped_while_a_few_handlers_take_long_cost_nothing_in_the_consumer_protocol() {
    ours("stop-3s-consumer", Protocol::Consumer, |stage| stopped(stage, Tail::Long));
}

#[test]
fn a_third_member_that_comes_and_goes_while_a_few_handlers_take_long_costs_nothing_when_all_is_revoked() {
    ours("storm-3s-eager", Protocol::Eager, |stage| storm(stage, Tail::Long));
}

#[test]
fn a_third_member_that_comes_and_goes_while_a_few_handlers_take_long_costs_nothing_when_partitions_move_by_and_by() {
    ours("storm-3s-cooperative", Protocol::Cooperative, |stage| storm(stage, Tail::Long));
}

#[test]
fn a_third_member_that_comes_and_goes_while_a_few_handlers_take_long_costs_nothing_in_the_consumer_protocol() {
    ours("storm-3s-consumer", Protocol::Consumer, |stage| storm(stage, Tail::Long));
}

#[test]
fn members_killed_with_stuck_heads_run_little_again_when_all_is_revoked() {
    ours("stuck-eager", Protocol::Eager, stuck_and_killed);
}

#[test]
fn members_killed_with_stuck_heads_run_little_again_when_partitions_move_by_and_by() {
    ours("stuck-cooperative", Protocol::Cooperative, stuck_and_killed);
}

#[test]
fn members_killed_with_stuck_heads_run_little_again_in_the_consumer_protocol() {
    ours("stuck-consumer", Protocol::Consumer, stuck_and_killed);
}
