use super::*;

fn at(ms: u64) -> Now {
    Now::at(Duration::from_millis(ms))
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn trial(circuit: &mut Circuit, now: Now) -> (Trial, u32) {
    match circuit.pass(now) {
        Pass::Probes(trial, n) => (trial, n),
        other => panic!("{other:?} at {now}"),
    }
}

#[test]
fn it_opens_after_failures_in_a_row_and_not_before() {
    let mut circuit = Circuit::new(Breaker::consecutive(3).open_for(secs(5)), at(0));
    for round in 0..4 {
        circuit.failed(at(round), at(round));
        circuit.failed(at(round), at(round));
        circuit.succeeded(1, at(round));
    }
    assert_eq!(circuit.pass(at(9)), Pass::All);
    (10..13).for_each(|ms| circuit.failed(at(ms), at(ms)));
    assert_eq!((circuit.state(), circuit.pass(at(13))), (BreakerState::Open, Pass::Until(at(5_012))));
}

#[test]
fn time_without_attempts_neither_closes_nor_opens_it() {
    let mut circuit = Circuit::new(Breaker::consecutive(2).open_for(secs(1)), at(0));
    circuit.failed(at(0), at(0));
    assert_eq!(circuit.pass(at(3_600_000)), Pass::All);
    circuit.failed(at(3_600_000), at(3_600_000));
    assert_eq!(circuit.state(), BreakerState::Open, "an hour in between is no success");
    trial(&mut circuit, at(7_200_000));
    assert_eq!(circuit.state(), BreakerState::HalfOpen, "nor is it one of a probe");
}

#[test]
fn it_closes_when_all_probes_succeed_and_opens_for_longer_when_one_fails() {
    let mut circuit = Circuit::new(Breaker::consecutive(1).open_for(secs(1)).at_most(secs(3)).probes(2), at(0));
    circuit.failed(at(0), at(0));
    let mut now = 1_000;
    for wait in [2_000, 3_000, 3_000] {
        let (name, left) = trial(&mut circuit, at(now));
        assert_eq!(left, 2);
        circuit.probe(2);
        assert_eq!(circuit.pass(at(now)), Pass::Later);
        circuit.probed(name, Verdict::Succeeded, at(now));
        circuit.probed(name, Verdict::Failed, at(now));
        assert_eq!(circuit.open_until(), Some(at(now + wait)));
        now += wait;
    }
    let (name, _) = trial(&mut circuit, at(now));
    circuit.probe(2);
    circuit.probed(name, Verdict::Succeeded, at(now));
    assert_eq!(circuit.state(), BreakerState::HalfOpen);
    circuit.probed(name, Verdict::Succeeded, at(now));
    assert_eq!(circuit.pass(at(now)), Pass::All);
    circuit.failed(at(now), at(now));
    assert_eq!(circuit.open_until(), Some(at(now + 1_000)), "the first wait again, after it has closed");
}

#[test]
fn a_probe_that_says_nothing_lets_another_one_through() {
    let mut circuit = Circuit::new(Breaker::consecutive(1).open_for(secs(1)), at(0));
    circuit.failed(at(0), at(0));
    let (name, _) = trial(&mut circuit, at(1_000));
    circuit.probe(1);
    circuit.probed(name, Verdict::Nothing, at(1_100));
    assert_eq!(trial(&mut circuit, at(1_100)), (name, 1));
}

#[test]
fn what_was_begun_before_says_nothing() {
    let mut circuit = Circuit::new(Breaker::consecutive(1).open_for(secs(1)), at(0));
    circuit.failed(at(0), at(10));
    circuit.failed(at(5), at(500));
    assert_eq!(circuit.open_until(), Some(at(1_010)), "a straggler does not keep it open");
    let (first, _) = trial(&mut circuit, at(1_010));
    circuit.probe(1);
    circuit.succeeded(7, at(1_011));
    circuit.failed(at(5), at(1_012));
    assert_eq!(circuit.state(), BreakerState::HalfOpen, "nor decides for the probe");
    circuit.probed(first, Verdict::Failed, at(1_020));
    let (second, _) = trial(&mut circuit, at(2_020));
    circuit.probe(1);
    circuit.probed(first, Verdict::Succeeded, at(2_021));
    assert_eq!(circuit.state(), BreakerState::HalfOpen, "nor does a probe of an earlier trial");
    circuit.probed(second, Verdict::Succeeded, at(2_022));
    circuit.failed(at(2_000), at(2_030));
    assert_eq!(circuit.state(), BreakerState::Closed, "nor does it open it again");
}

#[test]
fn a_rate_needs_enough_attempts_and_forgets_old_ones() {
    let rate = Breaker::failure_rate(0.5, secs(10)).least(6);
    let mut circuit = Circuit::new(rate.clone(), at(0));
    (0..5).for_each(|ms| circuit.failed(at(ms), at(ms)));
    assert_eq!(circuit.state(), BreakerState::Closed, "five are too few");
    circuit.failed(at(20_000), at(20_000));
    assert_eq!(circuit.state(), BreakerState::Closed, "and those are forgotten");
    let mut circuit = Circuit::new(rate, at(0));
    circuit.succeeded(6, at(0));
    (0..6).for_each(|ms| circuit.failed(at(ms), at(ms)));
    assert_eq!(circuit.state(), BreakerState::Closed, "half of them failed, no more");
    circuit.failed(at(7), at(7));
    assert_eq!(circuit.state(), BreakerState::Open);
}

/// Random attempts against a model that keeps the whole history.
#[test]
fn runs_of_failures_are_those_of_a_model() {
    let mut state = 7_u64;
    let mut dice = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut circuit = Circuit::new(Breaker::consecutive(3).open_for(secs(1)), at(0));
    let (mut run, mut opened, mut now) = (0, 0, 0);
    for _ in 0..20_000 {
        now += dice(50);
        match circuit.pass(at(now)) {
            Pass::All if dice(2) == 0 => {
                circuit.succeeded(1, at(now));
                run = 0;
            }
            Pass::All => {
                circuit.failed(at(now), at(now));
                run += 1;
                assert_eq!(circuit.state() == BreakerState::Open, run == 3, "at {now}");
                if run == 3 {
                    (run, opened) = (0, now);
                }
            }
            Pass::Until(until) => assert_eq!(until, at(opened + 1_000)),
            Pass::Probes(name, n) => {
                assert!(n == 1 && now >= opened + 1_000);
                circuit.probe(1);
                assert_eq!(circuit.pass(at(now)), Pass::Later);
                let fails = dice(2) == 0;
                circuit.probed(name, if fails { Verdict::Failed } else { Verdict::Succeeded }, at(now));
                if fails {
                    opened = now;
                }
            }
            Pass::Later => panic!("a probe is lost"),
        }
    }
}
