use std::time::Duration;

use super::*;

fn at(ms: u64) -> Now {
    Now::at(Duration::from_millis(ms))
}

fn gate(policies: Policies) -> Gate {
    Gate::new(&policies, at(0))
}

fn limited(a_second: u64, burst: u64) -> Gate {
    gate(Policies { rate: Some(RateLimit::records(a_second).burst(burst)), ..Policies::default() })
}

fn go(answer: Answer) -> Leave {
    match answer {
        Answer::Go(leave) => leave,
        other => panic!("{other:?}"),
    }
}

#[test]
fn shards_that_wait_have_turns() {
    let mut gate = limited(1_000, 10);
    assert!(matches!(gate.ask(0, 64, at(0)), Answer::Until(_)));
    assert_eq!(gate.ask(1, 64, at(5)), Answer::Wait, "there are tokens, but another one was first");
    let leave = go(gate.ask(0, 64, at(5)));
    assert_eq!((leave.starts, gate.first_waiting()), (5, Some(1)));
    gate.settle(leave, 5, 0, at(5));
    assert_eq!(gate.ask(0, 64, at(9)), Answer::Wait);
    assert_eq!(go(gate.ask(1, 64, at(9))).starts, 4);
    assert_eq!(gate.first_waiting(), Some(0));
    gate.leave_queue(0);
    assert_eq!(gate.first_waiting(), None);
}

#[test]
fn what_was_not_started_is_given_back() {
    let mut gate = limited(1_000, 10);
    let leave = go(gate.ask(0, 64, at(100)));
    gate.settle(leave, 3, 0, at(100));
    assert_eq!((leave.starts, go(gate.ask(0, 64, at(100))).starts), (10, 7));
}

#[test]
fn a_probe_that_was_not_started_is_given_back() {
    let breaker = Some(Breaker::consecutive(1).open_for(Duration::from_secs(1)).probes(2));
    let mut gate = gate(Policies { breaker, ..Policies::default() });
    assert_eq!(go(gate.ask(0, 64, at(0))).starts, 64);
    gate.failed(at(0), at(0));
    assert_eq!(gate.ask(0, 64, at(1)), Answer::Until(at(1_000)));
    let leave = go(gate.ask(0, 64, at(1_000)));
    assert!(leave.starts == 2 && leave.trial.is_some());
    assert_eq!(gate.ask(1, 64, at(1_000)), Answer::Wait);
    gate.settle(leave, 1, 0, at(1_000));
    assert_eq!((gate.first_waiting(), go(gate.ask(1, 64, at(1_000))).starts), (Some(1), 1));
}

#[test]
fn bytes_are_paid_for_afterwards() {
    let rate = Some(RateLimit::records(1_000_000).and_bytes(1_000).burst_bytes(100));
    let mut gate = gate(Policies { rate, ..Policies::default() });
    let leave = go(gate.ask(0, 64, at(1_000)));
    assert_eq!((leave.starts, leave.bytes), (64, 100));
    gate.settle(leave, 1, 600, at(1_000));
    assert!(matches!(gate.ask(0, 64, at(1_400)), Answer::Until(_)), "500 are owed");
    assert_eq!(go(gate.ask(0, 64, at(1_502))).bytes, 2);
}
