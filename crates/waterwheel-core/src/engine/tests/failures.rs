//! How attempts end, and what follows (I3, I7).

use super::*;

fn with_dead_letters(exhausted: Exhausted) -> Settings {
    Settings { dead_letter: true, exhausted, ..settings() }
}

fn exhausted(settings: Settings) -> (Rig, Verdict) {
    let mut rig = Rig::on_p0(settings);
    rig.fetch("0a 1a");
    let slot = rig.start();
    assert_eq!(rig.end(slot, FAILED), Verdict::Retry { slot, after: ms(10) });
    rig.pass(ms(10));
    let slot = rig.start();
    let verdict = rig.end(slot, FAILED);
    (rig, verdict)
}

fn dead_letter_slot(verdict: Verdict) -> SlotId {
    let Verdict::DeadLetter { slot } = verdict else { panic!("{verdict:?}") };
    slot
}

#[test]
fn the_last_failure_parks_the_record_and_its_key() {
    let (mut rig, verdict) = exhausted(settings());
    assert!(matches!(verdict, Verdict::Parked { after, .. } if after == ms(10)));
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 3), (1, 1)]);
}

#[test]
fn the_last_failure_skips_the_record() {
    let (mut rig, verdict) = exhausted(Settings { exhausted: Exhausted::Skip, ..settings() });
    assert_eq!(verdict, Verdict::Skipped);
    assert_eq!(rig.frontier(), 1);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1, 1)]);
}

#[test]
fn the_last_failure_stops_the_worker_and_leaves_the_record_unfinished() {
    let (mut rig, verdict) = exhausted(Settings { exhausted: Exhausted::Stop, ..settings() });
    assert_eq!(verdict, Verdict::Stop);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [], "its key waits");
    rig.drain(ms(10));
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    let point = rig.point();
    assert_eq!((point.offset, point.failing[0].attempts), (0, 2));
}

#[test]
fn a_dead_letter_is_finished_only_when_acknowledged() {
    let (mut rig, verdict) = exhausted(with_dead_letters(Exhausted::DeadLetter));
    let slot = dead_letter_slot(verdict);
    assert_eq!(rig.frontier(), 0, "not acknowledged yet");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [], "its key waits");
    assert_eq!(rig.engine.history(slot), Some((2, Some(0))));
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Finished);
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Stale, "an answer counts once");
    assert_eq!(rig.frontier(), 1);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1, 1)]);
    assert_eq!(rig.engine.footprint(), (0, 0));
}

#[test]
fn a_dead_letter_that_cannot_be_written_holds_its_partition_until_it_is() {
    let mut rig = Rig::on_p0(with_dead_letters(Exhausted::DeadLetter));
    rig.assign(P1, E2, 50);
    rig.fetch("0a 1b");
    let started = rig.start_all();
    let slot = dead_letter_slot(rig.end(started[0].1, Outcome::Failed(Wish::DeadLetter)));
    rig.end(started[1].1, Outcome::Ok);
    assert!(matches!(rig.engine.settled(slot, false, rig.now), Verdict::Retry { .. }));
    rig.fetch("2c");
    rig.engine.fetched(P1, E2, batch("50a"), None);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(50, 1)], "only its own partition is held");
    rig.pass(ms(9));
    assert_eq!(rig.actions(), [], "not before its back-off is over");
    rig.pass(ms(1));
    assert_eq!(rig.actions(), [Action::Settle { slot }]);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [], "held until the answer");
    assert!(matches!(rig.engine.settled(slot, false, rig.now), Verdict::Retry { .. }));
    rig.pass(ms(10));
    assert_eq!(rig.actions(), [Action::Settle { slot }]);
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Finished);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(2, 1)]);
    assert_eq!(rig.frontier(), 3);
}

#[test]
fn a_wish_for_the_dead_letter_topic_parks_where_there_is_none() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    let slot = rig.start();
    assert!(matches!(rig.end(slot, Outcome::Failed(Wish::DeadLetter)), Verdict::Parked { .. }));
    assert_eq!(rig.frontier(), 0);
}

#[test]
fn wishes_to_skip_and_to_stop_are_granted_at_once() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    let started = rig.start_all();
    assert_eq!(rig.end(started[0].1, Outcome::Failed(Wish::Skip)), Verdict::Skipped);
    assert_eq!(rig.end(started[1].1, Outcome::Failed(Wish::Stop)), Verdict::Stop);
    assert_eq!(rig.frontier(), 1);
}

#[test]
fn a_wished_wait_counts_the_attempt_and_an_uncounted_one_does_not() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    for wait in [3, 4] {
        let slot = rig.start();
        assert_eq!(rig.end(slot, Outcome::Again(ms(wait))), Verdict::Retry { slot, after: ms(wait) });
        rig.pass(ms(wait));
    }
    let slot = rig.start();
    let wish = Outcome::Failed(Wish::RetryAfter(ms(77)));
    assert_eq!(rig.end(slot, wish), Verdict::Retry { slot, after: ms(77) });
    rig.pass(ms(77));
    assert_eq!(rig.run_all(|_| wish), [(0, 2)]);
    assert_eq!(rig.engine.in_work(rig.now).len(), 1, "parked: the attempts are used up");
}

#[test]
fn an_attempt_that_takes_too_long_is_cut_and_counts() {
    let mut rig = Rig::on_p0(Settings { handler_timeout: Some(ms(100)), ..settings() });
    rig.fetch("0a");
    let slot = rig.start();
    rig.pass(ms(99));
    assert_eq!(rig.actions(), []);
    rig.pass(ms(1));
    assert_eq!(rig.actions(), [Action::Cut { slot, reason: CutReason::Timeout }]);
    assert_eq!(rig.end(slot, Outcome::Cut), Verdict::Retry { slot, after: ms(10) });
    assert_eq!(rig.end(slot, Outcome::Ok), Verdict::Stale, "too late");
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 2)]);
}

#[test]
fn a_result_that_crosses_its_cut_counts() {
    let mut rig = Rig::on_p0(Settings { handler_timeout: Some(ms(100)), ..settings() });
    rig.fetch("0a");
    let slot = rig.start();
    rig.pass(ms(100));
    assert_eq!(rig.end(slot, Outcome::Ok), Verdict::Finished);
    assert_eq!(rig.frontier(), 1);
}

#[test]
fn an_attempt_that_is_not_counted_leaves_no_timeout_behind() {
    let mut rig = Rig::on_p0(Settings { handler_timeout: Some(ms(100)), ..settings() });
    rig.fetch("0a");
    let slot = rig.start();
    rig.end(slot, Outcome::Again(ms(50)));
    rig.pass(ms(50));
    rig.start();
    rig.pass(ms(50));
    assert_eq!(rig.actions(), [], "the second try runs since 50 ms only");
    rig.pass(ms(50));
    assert_eq!(rig.actions().len(), 1);
}

#[test]
fn long_timeouts_cost_nothing_for_attempts_that_ended() {
    let mut rig = Rig::on_p0(Settings { handler_timeout: Some(Duration::from_secs(3600)), ..settings() });
    for offset in 0..1000 {
        rig.fetch(&offset.to_string());
        let slot = rig.start();
        rig.end(slot, Outcome::Ok);
    }
    assert!(rig.engine.timers.len() < 100, "{}", rig.engine.timers.len());
}

#[test]
fn records_set_aside_are_bounded() {
    let mut rig = Rig::on_p0(Settings { waiting: 10, ..settings() });
    rig.engine.fetched(P0, E1, keyed(0..3000, |o| o.to_string()), None);
    let tried = rig.run_all(|_| FAILED).len();
    assert_eq!(tried, 1024, "where all fail, no more are taken up");
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 3000);
}
