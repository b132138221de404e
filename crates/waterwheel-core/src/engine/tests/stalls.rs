//! Attempts that are stuck.

use super::*;
use crate::engine::Stall;

fn stalls(wish: Wish) -> Settings {
    Settings { stall: Some(Stall { after: ms(100), wish }), dead_letter: true, ..settings() }
}

/// A key hangs, and all others are done; what becomes of the record that hangs.
fn hang(wish: Wish) -> (Rig, Verdict) {
    let mut rig = Rig::on_p0(stalls(wish));
    rig.engine.fetched(P0, E1, keyed(0..1_001, |o| format!("{}", o % 1_000)), None);
    let mut stuck = None;
    while let Some(start) = rig.engine.next_start(rig.now) {
        if start.records.offset(start.index as usize) == 0 {
            stuck = rig.engine.park_open(rig.now);
        } else {
            rig.engine.finish_open(Outcome::Ok, rig.now);
        }
    }
    let stuck = stuck.unwrap();
    rig.pass(ms(99));
    assert_eq!(rig.actions(), []);
    rig.pass(ms(1));
    assert_eq!(rig.actions(), [Action::Cut { slot: stuck, reason: CutReason::Stalled }]);
    assert_eq!(rig.point().finished, [1..1_000], "all but the key that hangs");
    let verdict = rig.end(stuck, Outcome::Cut);
    (rig, verdict)
}

#[test]
fn a_stuck_record_fails_as_by_a_time_out() {
    let (mut rig, verdict) = hang(Wish::Policy);
    assert!(matches!(verdict, Verdict::Retry { .. }), "{verdict:?}");
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 2), (1_000, 1)]);
}

#[test]
fn a_stuck_record_goes_to_the_dead_letter_topic_and_its_key_goes_on() {
    let (mut rig, verdict) = hang(Wish::DeadLetter);
    let Verdict::DeadLetter { slot } = verdict else { panic!("{verdict:?}") };
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Finished);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1_000, 1)]);
    assert_eq!(rig.frontier(), 1_001);
}

#[test]
fn a_stuck_record_is_parked_and_its_key_alone_waits() {
    let (mut rig, verdict) = hang(Wish::Park);
    assert!(matches!(verdict, Verdict::Parked { .. }), "{verdict:?}");
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    assert_eq!(rig.frontier(), 0);
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 2), (1_000, 1)]);
}

#[test]
fn a_stuck_record_stops_the_worker_and_stays_unfinished() {
    let (mut rig, verdict) = hang(Wish::Stop);
    assert_eq!((verdict, rig.frontier()), (Verdict::Stop, 0));
}

/// The timer of an attempt that ended is not that of the next one.
#[test]
fn a_retry_has_the_whole_time_again() {
    let mut rig = Rig::on_p0(stalls(Wish::Policy));
    rig.fetch("0a");
    let slot = rig.start();
    rig.pass(ms(60));
    rig.end(slot, FAILED);
    rig.pass(ms(10));
    let slot = rig.start();
    rig.pass(ms(60));
    assert_eq!(rig.actions(), []);
    rig.pass(ms(40));
    assert_eq!(rig.actions(), [Action::Cut { slot, reason: CutReason::Stalled }]);
}

#[test]
fn whichever_limit_is_the_shorter_one_cuts() {
    let mut rig = Rig::on_p0(Settings { handler_timeout: Some(ms(50)), ..stalls(Wish::DeadLetter) });
    rig.fetch("0a");
    let slot = rig.start();
    rig.pass(ms(200));
    assert_eq!(rig.actions(), [Action::Cut { slot, reason: CutReason::Timeout }]);
    assert!(matches!(rig.end(slot, Outcome::Cut), Verdict::Retry { .. }));
}
