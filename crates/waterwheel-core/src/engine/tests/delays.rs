//! Records that are not due yet.

use super::*;
use crate::engine::{HoldReason, WorkStage};

/// The wall time at which the tests begin, so that records can be older.
const START: i64 = 1_000_000;

fn delayed() -> Settings {
    Settings { delay: Some(ms(5_000)), wall_start_ms: START, ..settings() }
}

impl Rig {
    fn fetch_written(&mut self, words: &str, ms: i64) {
        self.engine.tick(self.now);
        self.engine.fetched(P0, E1, batch(words).written(ms), None);
    }
}

#[test]
fn a_record_starts_when_its_time_and_the_delay_have_passed() {
    let mut rig = Rig::on_p0(delayed());
    rig.fetch_written("0a", START - 3_000);
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(1_999));
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(1));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1)]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (1, (0, 0)));
}

#[test]
fn what_is_not_due_holds_up_its_own_key_alone() {
    let mut rig = Rig::on_p0(delayed());
    rig.fetch_written("0a 1b", START);
    // Older, as another producer's may be.
    rig.fetch_written("2a 3c 4", START - 5_000);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(3, 1), (4, 1)]);
    assert_eq!(rig.frontier(), 0, "nothing is committed past what waits");
    rig.pass(ms(5_000));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(rig.frontier(), 5);
}

#[test]
fn what_waited_for_its_key_is_looked_at_again() {
    let mut rig = Rig::on_p0(delayed());
    rig.fetch_written("0a", START - 5_000);
    rig.fetch_written("1a", START - 1_000);
    let slot = rig.start();
    rig.end(slot, Outcome::Ok);
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(4_000));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1, 1)]);
}

#[test]
fn a_record_from_the_future_waits_for_the_delay_and_is_counted() {
    let mut rig = Rig::on_p0(delayed());
    rig.fetch_written("0a 1a 2a 3b", i64::MAX);
    rig.engine.fetched(P0, E1, batch("4c"), None);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(4, 1)], "one without a time starts at once");
    rig.pass(ms(5_000));
    // Those of one key too: their wait counts from when they came.
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1), (3, 1), (1, 1), (2, 1)]);
    assert_eq!((rig.engine.take_disagreements(), rig.engine.take_disagreements()), (5, 0));
}

#[test]
fn what_waits_takes_no_credit_and_is_told_as_delayed() {
    let mut rig = Rig::on_p0(Settings { concurrency: 1, ..delayed() });
    rig.fetch_written("0a 1b 2c", START);
    assert_eq!(rig.start_all(), []);
    let stages: Vec<WorkStage> = rig.engine.in_work(rig.now).iter().map(|w| w.stage).collect();
    assert_eq!(stages, [WorkStage::Delayed(ms(5_000)); 3]);
    assert_eq!(rig.engine.views(rig.now)[0].held, Some(HoldReason::Delayed));
    rig.fetch_written("3d", START - 5_000);
    assert_eq!(offsets(&rig.start_all()), [3]);
    assert_eq!(rig.engine.views(rig.now)[0].held, None);
}

#[test]
fn more_than_may_be_set_aside_stays_in_the_backlog() {
    let mut rig = Rig::on_p0(Settings { waiting: 1, ..delayed() });
    rig.engine.tick(rig.now);
    rig.engine.fetched(P0, E1, keyed(0..3_000, |o| o.to_string()).written(START), None);
    assert_eq!(rig.start_all(), []);
    assert_eq!(rig.engine.footprint().0, crate::engine::ASIDE_LIMIT);
    rig.pass(ms(5_000));
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 3_000);
    assert_eq!(rig.frontier(), 3_000);
}

#[test]
fn a_drain_drops_what_is_not_due_at_once_and_commits_below_it() {
    let mut rig = Rig::on_p0(delayed());
    rig.fetch_written("0a 1b", START - 5_000);
    rig.fetch_written("2a 3c", START);
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1), (1, 1)]);
    rig.drain(ms(1_000));
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (2, (0, 0)));
    rig.pass(ms(60_000));
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
}

#[test]
fn a_retry_is_not_delayed_once_more() {
    let mut rig = Rig::on_p0(delayed());
    rig.fetch_written("0a", START - 5_000);
    assert_eq!(rig.run_all(|_| FAILED), [(0, 1)]);
    rig.pass(ms(10));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 2)]);
}

#[test]
fn records_that_are_due_together_run_in_one_batch() {
    let mut rig = Rig::on_p0(Settings { gather: Gather { max: 3, wait: ms(50) }, ..delayed() });
    rig.fetch_written("0a 1b 2c", START - 1_000);
    rig.fetch_written("3a", START);
    assert!(rig.engine.next_start(rig.now).is_none());
    rig.pass(ms(4_000));
    let mut slots = Vec::new();
    while rig.engine.next_start(rig.now).is_some() {
        slots.push(rig.engine.gather_open(rig.now).unwrap());
    }
    assert_eq!(rig.actions(), [Action::Run { slots: slots.clone() }]);
    let ends: Vec<_> = slots.into_iter().map(|slot| (slot, Outcome::Ok)).collect();
    rig.engine.ended_together(&ends, rig.now);
    assert!(rig.engine.next_start(rig.now).is_none(), "offset 3 is not due");
    rig.pass(ms(1_000));
    assert!(rig.engine.next_start(rig.now).is_some());
}

#[test]
fn what_is_not_due_does_not_join_the_batch_of_its_key() {
    let mut rig = Rig::on_p0(Settings { gather: Gather { max: 3, wait: ms(50) }, ..delayed() });
    rig.fetch_written("0a", START - 5_000);
    rig.fetch_written("1a", START - 4_990);
    assert!(rig.engine.next_start(rig.now).is_some());
    let slot = rig.engine.gather_open(rig.now).unwrap();
    assert!(rig.engine.next_start(rig.now).is_none());
    rig.pass(ms(50));
    assert_eq!(rig.actions(), [Action::Run { slots: vec![slot] }]);
}
