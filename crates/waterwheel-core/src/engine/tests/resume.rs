//! What the commit map said.

use super::*;
use crate::commit_map::Failing;

fn failing(offset: i64, attempts: u32, next_try_ms: i64) -> Failing {
    Failing { offset, attempts, first_failed_ms: 1, next_try_ms }
}

#[test]
fn what_the_map_marks_is_not_run_again() {
    let mut rig = Rig::new(settings());
    rig.resume(P0, E1, Resume { offset: 5, finished: vec![6..8, 9..10], ..Resume::default() });
    rig.fetch("5a 6a 7b 8b 9c 10c");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 1), (8, 1), (10, 1)]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (11, (0, 0)));
}

#[test]
fn a_failing_record_goes_on_where_it_stood() {
    let mut rig = Rig::new(settings());
    rig.resume(P0, E1, Resume { offset: 5, failing: vec![failing(6, 1, 8)], ..Resume::default() });
    rig.fetch("5a 6b 7b");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 1)]);
    assert_eq!(rig.point().failing, [failing(6, 1, 8)]);
    rig.pass(ms(8));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(6, 2), (7, 1)]);
}

#[test]
fn a_clock_that_was_set_back_makes_nobody_wait_for_ever() {
    let mut rig = Rig::new(settings());
    rig.resume(P0, E1, Resume { offset: 5, failing: vec![failing(5, 1, i64::MAX)], ..Resume::default() });
    rig.fetch("5a");
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 2)]);
}

#[test]
fn a_failing_record_that_has_to_queue_keeps_its_attempts() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("5a");
    let ghost = rig.start();
    rig.resume(P0, E2, Resume { offset: 5, failing: vec![failing(5, 1, 0)], ..Resume::default() });
    rig.engine.fetched(P0, E2, batch("5a"), None);
    assert_eq!(rig.start_all(), []);
    assert_eq!(rig.point().failing, [failing(5, 1, 0)]);
    rig.end(ghost, Outcome::Cut);
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(0));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 2)]);
}

#[test]
fn a_log_that_was_written_anew_makes_its_marks_void() {
    let mut rig = Rig::new(settings());
    let finished = vec![6..8, 9..12];
    let failing = vec![failing(8, 1, 0)];
    rig.resume(P0, E1, Resume { offset: 5, finished, failing, leader_epoch: Some(3), ..Resume::default() });
    rig.engine.fetched(P0, E1, batch("5a 6b"), Some(3));
    rig.engine.fetched(P0, E1, batch("7c 8d 9e"), Some(4));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 1), (7, 1), (8, 1), (9, 1)], "offset 6 is still what it was");
    assert_eq!(rig.frontier(), 10);
}

#[test]
fn a_new_leader_above_the_marks_leaves_them_alone() {
    let mut rig = Rig::new(settings());
    let resume = Resume { offset: 5, finished: vec![6..9], leader_epoch: Some(3), ..Resume::default() };
    rig.resume(P0, E1, resume);
    rig.engine.fetched(P0, E1, batch("5a 6b 7c 8d"), Some(3));
    rig.engine.fetched(P0, E1, batch("9e 10f"), Some(4));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 1), (9, 1), (10, 1)]);
    let point = rig.point();
    assert_eq!((point.offset, point.leader_epoch), (11, Some(4)));
}

#[test]
fn a_commit_names_the_epoch_of_its_highest_mark() {
    let mut rig = Rig::on_p0(settings());
    rig.engine.fetched(P0, E1, batch("0a 1b"), Some(3));
    rig.engine.fetched(P0, E1, batch("2c 3d"), Some(5));
    let started = rig.start_all();
    rig.end(started[1].1, Outcome::Ok);
    let point = rig.point();
    assert_eq!((point.leader_epoch, point.marks_epoch), (None, Some(3)));
    rig.end(started[3].1, Outcome::Ok);
    rig.end(started[0].1, Outcome::Ok);
    let point = rig.point();
    assert_eq!((point.offset, point.leader_epoch, point.marks_epoch), (2, Some(3), Some(5)));
}

#[test]
fn a_new_leader_does_not_make_a_failing_record_begin_again() {
    let mut rig = Rig::on_p0(settings());
    rig.engine.fetched(P0, E1, batch("0a"), Some(3));
    rig.engine.fetched(P0, E1, batch("1b"), Some(4));
    assert_eq!(rig.run_all(|offset| if offset == 0 { Outcome::Ok } else { FAILED }), [(0, 1), (1, 1)]);
    let point = rig.point();
    assert_eq!((point.offset, point.failing.len(), point.marks_epoch), (1, 1, Some(4)));
    let CommitPoint { failing, marks_epoch: leader_epoch, .. } = point;
    let resume = Resume { offset: 1, failing, leader_epoch, ..Resume::default() };
    rig.resume(P0, E2, resume);
    rig.engine.fetched(P0, E2, batch("1b"), Some(4));
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(1_000));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1, 2)]);
}
