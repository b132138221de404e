//! The end of an assignment (I4), and what is left of it.

use super::*;

#[test]
fn a_drain_drops_what_waits_and_lets_end_what_runs() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b 3c");
    let started = rig.start_all();
    assert_eq!(offsets(&started), [0, 2, 3]);
    rig.end(started[1].1, Outcome::Ok);
    rig.fetch("4d");
    rig.drain(ms(100));
    assert_eq!(rig.actions(), []);
    rig.fetch("5e");
    assert_eq!(rig.start_all(), [], "nothing starts any more");
    rig.end(started[2].1, Outcome::Ok);
    assert_eq!(rig.actions(), []);
    rig.end(started[0].1, Outcome::Ok);
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    let point = rig.point();
    assert_eq!((point.offset, point.finished), (1, vec![2..4]));
    rig.engine.close(P0);
    rig.pass(ms(100));
    assert_eq!((rig.actions(), rig.engine.footprint()), (vec![], (0, 0)));
}

#[test]
fn a_drain_of_an_idle_partition_ends_at_once_and_once() {
    let mut rig = Rig::on_p0(settings());
    rig.drain(ms(100));
    rig.drain(ms(50));
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    rig.pass(ms(100));
    assert_eq!(rig.actions(), []);
}

#[test]
fn a_failed_attempt_of_a_draining_partition_is_handed_on() {
    let mut rig = Rig::on_p0(Settings { wall_start_ms: 5000, ..settings() });
    rig.fetch("0a 1b 2c");
    rig.run_all(|o| if o == 1 { FAILED } else { Outcome::Again(ms(3)) });
    rig.pass(ms(3));
    let started = rig.start_all();
    assert_eq!(offsets(&started), [0, 2]);
    rig.drain(ms(100));
    assert_eq!(rig.end(started[0].1, FAILED), Verdict::CutOff);
    assert_eq!(rig.end(started[1].1, Outcome::Again(ms(1))), Verdict::CutOff);
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    let failing: Vec<_> =
        rig.point().failing.iter().map(|f| (f.offset, f.attempts, f.first_failed_ms, f.next_try_ms)).collect();
    assert_eq!(failing, [(0, 1, 5003, 0), (1, 1, 5000, 5010)], "retries delay no drain");
}

#[test]
fn one_that_never_failed_lends_its_next_try_to_nobody() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    rig.run_all(|o| if o == 0 { Outcome::Failed(Wish::RetryAfter(ms(70))) } else { Outcome::Again(ms(999)) });
    rig.drain(ms(100));
    let failing: Vec<_> = rig.point().failing.iter().map(|f| (f.offset, f.next_try_ms)).collect();
    assert_eq!(failing, [(0, 70)]);
}

#[test]
fn the_drain_waits_for_dead_letters_but_not_for_a_topic_that_is_down() {
    let mut rig = Rig::on_p0(Settings { dead_letter: true, ..settings() });
    rig.fetch("0a 1b");
    let started = rig.start_all();
    for (_, slot) in &started {
        assert_eq!(rig.end(*slot, Outcome::Failed(Wish::DeadLetter)), Verdict::DeadLetter { slot: *slot });
    }
    rig.engine.settled(started[1].1, false, rig.now);
    rig.drain(ms(100));
    assert_eq!(rig.actions(), [], "one is not answered yet");
    assert_eq!(rig.engine.settled(started[0].1, true, rig.now), Verdict::Finished);
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    let point = rig.point();
    assert_eq!((point.offset, point.failing[0].offset), (1, 1));
}

#[test]
fn a_dead_letter_fails_during_the_drain() {
    let mut rig = Rig::on_p0(Settings { dead_letter: true, ..settings() });
    rig.fetch("0a");
    let slot = rig.start();
    rig.drain(ms(100));
    assert_eq!(rig.end(slot, Outcome::Failed(Wish::DeadLetter)), Verdict::DeadLetter { slot });
    assert_eq!(rig.actions(), []);
    assert_eq!(rig.engine.settled(slot, false, rig.now), Verdict::CutOff);
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    assert_eq!(rig.frontier(), 0);
}

#[test]
fn a_failed_dead_letter_that_settles_during_the_drain_is_finished() {
    let mut rig = Rig::on_p0(Settings { dead_letter: true, ..settings() });
    rig.fetch("0a");
    let slot = rig.start();
    rig.end(slot, Outcome::Failed(Wish::DeadLetter));
    rig.engine.settled(slot, false, rig.now);
    rig.pass(ms(10));
    assert_eq!(rig.actions(), [Action::Settle { slot }]);
    rig.drain(ms(100));
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Finished);
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    assert_eq!(rig.frontier(), 1);
}

#[test]
fn the_deadline_cuts_what_runs_and_its_late_result_changes_nothing() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    let started = rig.start_all();
    rig.end(started[1].1, Outcome::Ok);
    rig.drain(ms(100));
    rig.pass(ms(100));
    let slot = started[0].1;
    assert_eq!(rig.actions(), [Action::Cut { slot, reason: CutReason::Drain }, drained(E1, 1)]);
    let before = rig.point();
    assert_eq!(rig.end(slot, Outcome::Ok), Verdict::Stale);
    assert_eq!(rig.point(), before);
    rig.engine.close(P0);
    assert_eq!(rig.engine.footprint(), (0, 0));
    assert_eq!(rig.engine.surrender_credits(), 100);
}

#[test]
fn a_second_drain_brings_the_deadline_forward_only() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    rig.start();
    rig.drain(ms(100));
    rig.drain(ms(500));
    rig.drain(ms(20));
    rig.pass(ms(20));
    assert_eq!(rig.actions().last(), Some(&drained(E1, 1)));
    rig.pass(ms(500));
    assert_eq!(rig.actions(), []);
}

#[test]
fn a_second_drain_does_not_put_the_deadline_off() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    rig.start();
    rig.drain(ms(100));
    rig.drain(ms(500));
    rig.pass(ms(99));
    assert_eq!(rig.actions(), []);
    rig.pass(ms(1));
    assert_eq!(rig.actions().last(), Some(&drained(E1, 1)));
}

#[test]
fn what_waits_is_not_held_during_a_drain() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2a");
    rig.start();
    rig.fetch("3b 4a");
    let all = rig.engine.views(rig.now)[0].bytes;
    rig.drain(ms(100));
    let left = rig.engine.views(rig.now)[0].bytes;
    assert!(left > 0 && left < all, "the batch of the record that runs, of {all} bytes: {left}");
}

#[test]
fn a_drain_without_patience_cuts_at_once() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    let slot = rig.start();
    rig.drain(ms(0));
    assert_eq!(rig.actions(), [Action::Cut { slot, reason: CutReason::Drain }, drained(E1, 1)]);
}

#[test]
fn what_was_known_to_fail_and_was_never_fetched_is_handed_on() {
    let mut rig = Rig::new(settings());
    let known = crate::commit_map::Failing { offset: 7, attempts: 3, first_failed_ms: 1, next_try_ms: 2 };
    rig.resume(P0, E1, Resume { offset: 5, failing: vec![known], ..Resume::default() });
    rig.drain(ms(10));
    assert_eq!(rig.point().failing, [known]);
}

#[test]
fn a_partition_that_comes_back_waits_for_a_key_that_still_runs() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    let started = rig.start_all();
    let ghost = started[0].1;
    rig.end(started[1].1, Outcome::Ok);
    rig.engine.lose(P0, rig.now);
    rig.assign(P0, E2, 0);
    rig.engine.fetched(P0, E2, batch("0a 1b 2a"), None);
    let started = rig.start_all();
    assert_eq!(offsets(&started), [1], "key a still runs, whatever its assignment");
    rig.end(started[0].1, Outcome::Ok);
    assert_eq!(rig.end(ghost, Outcome::Ok), Verdict::Stale);
    assert_eq!(rig.frontier(), 0, "the old result finishes nothing");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1), (2, 1)]);
    assert_eq!(rig.frontier(), 3);
}

#[test]
fn a_ghost_outlives_two_assignments() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    let ghost = rig.start();
    rig.assign(P0, E2, 0);
    rig.engine.fetched(P0, E2, batch("0a"), None);
    rig.assign(P0, Epoch(3), 0);
    rig.engine.fetched(P0, Epoch(3), batch("0a"), None);
    assert_eq!(rig.start_all(), []);
    rig.end(ghost, Outcome::Cut);
    assert_eq!(offsets(&rig.start_all()), [0]);
}

#[test]
fn what_is_lost_is_cut_and_gone() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b");
    let started = rig.start_all();
    rig.end(started[1].1, FAILED);
    rig.actions();
    rig.engine.lose(P0, rig.now);
    assert_eq!(rig.actions(), [Action::Cut { slot: started[0].1, reason: CutReason::Drain }]);
    assert_eq!(rig.engine.commit_point(P0), None, "nothing of it is committed");
    rig.end(started[0].1, Outcome::Ok);
    rig.pass(ms(1000));
    assert_eq!((rig.actions(), rig.engine.footprint(), rig.engine.next_timer()), (vec![], (0, 0), None));
}

#[test]
fn what_is_told_of_an_older_assignment_changes_nothing() {
    let mut rig = Rig::new(settings());
    rig.assign(P0, E2, 0);
    rig.fetch("0a");
    rig.engine.skipped_to(P0, E1, 9);
    rig.engine.reread(P0, E1, batch("0a"));
    rig.engine.reread_missing(P0, E1, &[0]);
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (0, (0, 0)));
}

#[test]
fn what_was_asked_for_an_assignment_is_not_done_to_the_next() {
    let mut rig = Rig::on_p0(Settings { bytes: 100, ..settings() });
    rig.fetch("0a 1b");
    rig.drain(ms(10));
    rig.assign(P0, E2, 0);
    assert_eq!(rig.actions(), [], "neither the hold nor the end of the first is told now");
}

#[test]
fn an_open_lane_closes_without_a_drain() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b");
    let started = rig.start_all();
    rig.engine.close(P0);
    started.into_iter().for_each(|(_, slot)| _ = rig.end(slot, Outcome::Ok));
    assert_eq!((rig.engine.footprint(), rig.engine.surrender_credits()), ((0, 0), 100));
}

#[test]
fn what_nobody_took_up_is_as_if_it_had_not_been_started() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b 2c");
    let started = rig.start_all();
    rig.end(started[2].1, Outcome::Ok);
    rig.engine.unstart(started[1].1);
    rig.drain(ms(100));
    assert_eq!(rig.actions(), [], "one runs");
    rig.end(started[0].1, Outcome::Ok);
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    let point = rig.point();
    assert_eq!((point.offset, point.finished, point.failing), (1, vec![2..3], vec![]));
    rig.engine.close(P0);
    assert_eq!(rig.engine.footprint(), (0, 0));
    assert_eq!(rig.end(started[1].1, Outcome::Ok), Verdict::Stale);
}
