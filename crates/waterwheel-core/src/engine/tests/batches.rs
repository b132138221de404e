//! Records that are gathered and run together: what belongs to a batch, and what its end makes of each (I2, I3, I6).

use super::*;

/// Batches of at most `max`, for which the first waits 50 ms.
fn in_batches(max: usize) -> Settings {
    Settings { gather: Gather { max, wait: ms(50) }, ..settings() }
}

/// The batches that are to run, as slots and as offsets.
struct Batches(Vec<Vec<SlotId>>, Vec<Vec<i64>>);

impl Rig {
    /// Gathers all that may start; the batches that are to run by then.
    fn gather(&mut self) -> Batches {
        while self.engine.next_start(self.now).is_some() {
            assert!(self.engine.gather_open(self.now).is_some());
        }
        self.batches()
    }

    fn batches(&mut self) -> Batches {
        let mut batches = Batches(Vec::new(), Vec::new());
        for action in self.actions() {
            let Action::Run { slots } = action else { continue };
            let offset = |slot: &SlotId| self.engine.record(*slot).map_or(-1, |(r, index)| r.offset(index as usize));
            batches.1.push(slots.iter().map(offset).collect());
            batches.0.push(slots);
        }
        batches
    }

    /// The batch that runs after all was gathered and its time has passed.
    fn batch(&mut self, expected: &[i64]) -> Vec<SlotId> {
        let mut batches = self.gather();
        if batches.0.is_empty() {
            self.pass(ms(50));
            batches = self.batches();
        }
        assert_eq!(batches.1, [expected]);
        batches.0.remove(0)
    }

    fn end_all(&mut self, slots: &[SlotId], outcomes: &[Outcome]) -> Vec<Verdict> {
        assert_eq!(slots.len(), outcomes.len());
        let ends: Vec<_> = slots.iter().copied().zip(outcomes.iter().copied()).collect();
        self.engine.ended_together(&ends, self.now)
    }
}

fn not_run(verdicts: &[Verdict]) -> Vec<bool> {
    verdicts.iter().map(|v| *v == Verdict::NotRun).collect()
}

#[test]
fn a_batch_runs_when_it_is_full() {
    let mut rig = Rig::on_p0(in_batches(3));
    rig.fetch("0a 1b 2c 3d 4e 5f 6g");
    assert_eq!(rig.gather().1, [vec![0, 1, 2], vec![3, 4, 5]]);
}

#[test]
fn a_batch_that_is_not_full_runs_when_its_first_record_has_waited_long_enough() {
    let mut rig = Rig::on_p0(in_batches(3));
    rig.fetch("0a");
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0]);
    rig.pass(ms(30));
    rig.fetch("1b");
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0]);
    assert_eq!(rig.engine.next_timer(), Some(Now::default() + ms(50)));
    rig.pass(ms(20));
    let slots = rig.batches();
    assert_eq!(slots.1, [[0, 1]]);
    assert_eq!(rig.end_all(&slots.0[0], &[Outcome::Ok; 2]), [Verdict::Finished; 2]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (2, (0, 0)));
}

#[test]
fn a_batch_is_of_any_partitions() {
    let mut rig = Rig::on_p0(in_batches(4));
    rig.assign(P1, E2, 10);
    rig.fetch("0a 1b");
    rig.engine.fetched(P1, E2, batch("10a 11b"), None);
    rig.batch(&[0, 1, 10, 11]);
}

#[test]
fn a_batch_holds_several_records_of_a_key_in_order() {
    let mut rig = Rig::on_p0(in_batches(4));
    rig.fetch("0a 1a 2b 3a 4a 5b 6c");
    let first = rig.batch(&[0, 1, 2, 3]);
    let second = rig.batch(&[6]);
    assert_eq!(rig.end_all(&second, &[Outcome::Ok]), [Verdict::Finished]);
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0], "their keys run");
    rig.end_all(&first, &[Outcome::Ok; 4]);
    rig.batch(&[5, 4]);
}

#[test]
fn the_order_of_the_partition_fills_batches_one_after_the_other() {
    let mut rig = Rig::on_p0(Settings { order: Order::Partition, ..in_batches(3) });
    rig.fetch("0a 1b 2c 3d 4e 5f");
    let first = rig.batch(&[0, 1, 2]);
    rig.pass(ms(100));
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0], "the partition runs");
    let verdicts = rig.end_all(&first, &[Outcome::Ok, FAILED, Outcome::Ok]);
    assert_eq!(not_run(&verdicts), [false, false, true]);
    rig.pass(ms(10));
    let again = rig.batch(&[1]);
    rig.end_all(&again, &[Outcome::Ok]);
    rig.batch(&[2, 3, 4]);
}

#[test]
fn later_records_of_a_key_are_not_run_whatever_was_reported_for_them() {
    let mut rig = Rig::on_p0(in_batches(5));
    rig.fetch("0a 1b 2a 3b 4a 5a 6b");
    let slots = rig.batch(&[0, 1, 2, 3, 4]);
    let verdicts = rig.end_all(&slots, &[FAILED, Outcome::Ok, Outcome::Ok, Outcome::Ok, Outcome::Failed(Wish::Skip)]);
    assert_eq!(not_run(&verdicts), [false, false, true, false, true]);
    let point = rig.point();
    assert_eq!((point.offset, point.finished), (0, vec![1..2, 3..4]));
    assert_eq!(point.failing.iter().map(|f| (f.offset, f.attempts)).collect::<Vec<_>>(), [(0, 1)], "uncounted");
    rig.batch(&[6]);
    let retried = rig.batches();
    assert_eq!(retried.1, [] as [Vec<i64>; 0]);
    let retried = rig.batch(&[0]);
    rig.end_all(&retried, &[Outcome::Ok]);
    // What was reported as failed runs alone, what was reported as done does not.
    let behind = rig.batch(&[2]);
    rig.end_all(&behind, &[Outcome::Ok]);
    let suspect = rig.batch(&[4]);
    rig.end_all(&suspect, &[Outcome::Ok]);
    rig.batch(&[5]);
}

#[test]
fn a_record_that_fails_a_batch_fails_it_once_for_each_key() {
    let mut rig = Rig::on_p0(in_batches(6));
    rig.fetch("0a 1a 2a 3b 4b 5");
    let slots = rig.batch(&[0, 1, 2, 3, 4, 5]);
    let verdicts = rig.end_all(&slots, &[FAILED; 6]);
    assert_eq!(not_run(&verdicts), [false, true, true, false, true, false]);
    rig.pass(ms(10));
    let mut alone = Vec::new();
    loop {
        let batches = rig.gather();
        if batches.1.is_empty() {
            break;
        }
        alone.extend(batches.1);
        for slots in batches.0 {
            rig.end_all(&slots, &[Outcome::Ok]);
        }
    }
    assert_eq!(alone, [[0], [3], [5], [1], [4], [2]]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (6, (0, 0)));
}

#[test]
fn a_skip_is_no_failure_to_the_records_behind_it() {
    let mut rig = Rig::on_p0(in_batches(2));
    rig.fetch("0a 1a");
    let slots = rig.batch(&[0, 1]);
    let verdicts = rig.end_all(&slots, &[Outcome::Failed(Wish::Skip), Outcome::Ok]);
    assert_eq!(verdicts, [Verdict::Skipped, Verdict::Finished]);
}

#[test]
fn a_dead_letter_is_acknowledged_before_the_records_behind_it_run_again() {
    let mut rig = Rig::on_p0(Settings { dead_letter: true, exhausted: Exhausted::DeadLetter, ..in_batches(2) });
    rig.fetch("0a 1a");
    let slots = rig.batch(&[0, 1]);
    let verdicts = rig.end_all(&slots, &[Outcome::Failed(Wish::DeadLetter), Outcome::Ok]);
    assert_eq!(verdicts, [Verdict::DeadLetter { slot: slots[0] }, Verdict::NotRun]);
    rig.pass(ms(100));
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0]);
    assert_eq!(rig.engine.settled(slots[0], true, rig.now), Verdict::Finished);
    rig.batch(&[1]);
}

#[test]
fn a_record_that_could_not_be_run_is_gathered_with_those_behind_it() {
    let mut rig = Rig::on_p0(in_batches(3));
    rig.fetch("0a 1a 2a");
    let slots = rig.batch(&[0, 1, 2]);
    let verdicts = rig.end_all(&slots, &[Outcome::Again(ms(5)); 3]);
    assert_eq!(not_run(&verdicts), [false, true, true]);
    rig.pass(ms(5));
    rig.batch(&[0, 1, 2]);
}

#[test]
fn a_record_that_is_closed_behind_is_the_last_of_its_key() {
    let mut rig = Rig::on_p0(in_batches(4));
    rig.fetch("0a 1a 2a 3b");
    for offset in 0..2 {
        assert!(rig.engine.next_start(rig.now).is_some());
        let slot = rig.engine.gather_open(rig.now).unwrap();
        if offset == 1 {
            rig.engine.close_lane(slot);
        }
    }
    let slots = rig.batch(&[0, 1, 3]);
    rig.end_all(&slots, &[Outcome::Ok; 3]);
    rig.batch(&[2]);
}

#[test]
fn a_record_that_failed_before_waits_for_those_of_its_key_that_are_gathered() {
    let failing = crate::commit_map::Failing { offset: 1, attempts: 1, first_failed_ms: 0, next_try_ms: 0 };
    for order in [Order::Key, Order::Partition] {
        let mut rig = Rig::new(Settings { order, ..in_batches(4) });
        rig.resume(P0, E1, Resume { failing: vec![failing], ..Resume::default() });
        rig.fetch("0a 1a 2a");
        let slots = rig.batch(&[0]);
        rig.end_all(&slots, &[Outcome::Ok]);
        assert_eq!(rig.gather().1, [] as [Vec<i64>; 0]);
        rig.pass(ms(0));
        let slots = rig.batch(&[1]);
        rig.end_all(&slots, &[Outcome::Ok]);
        rig.batch(&[2]);
    }
}

#[test]
fn a_batch_takes_a_credit_for_each_record_and_runs_when_there_are_no_more() {
    let mut rig = Rig::on_p0(Settings { concurrency: 3, ..in_batches(3) });
    rig.fetch("0a 1b 2c 3d 4e");
    let first = rig.batch(&[0, 1, 2]);
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0], "all credits run");
    rig.end_all(&first[..1], &[Outcome::Ok]);
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0]);
    rig.engine.stalled(rig.now);
    assert_eq!(rig.batches().1, [[3]], "no credit comes for another one while this one waits");
}

#[test]
fn what_is_gathered_does_not_run_while_nothing_may_start() {
    let mut rig = Rig::on_p0(in_batches(3));
    rig.fetch("0a 1b");
    rig.gather();
    rig.engine.set_lease(Some(rig.now + ms(20)));
    rig.pass(ms(60));
    assert_eq!(rig.batches().1, [] as [Vec<i64>; 0], "another member may have them");
    rig.engine.set_lease(Some(rig.now + ms(20)));
    rig.engine.pause();
    rig.pass(ms(1));
    assert_eq!(rig.batches().1, [] as [Vec<i64>; 0]);
    rig.engine.resume();
    rig.pass(ms(1));
    assert_eq!(rig.batches().1, [[0, 1]]);
}

#[test]
fn a_drain_drops_what_is_gathered_and_holds_no_other_partition_up() {
    for lose in [false, true] {
        let mut rig = Rig::on_p0(in_batches(4));
        rig.assign(P1, E2, 10);
        rig.fetch("0a 1b");
        rig.engine.fetched(P1, E2, batch("10a"), None);
        rig.gather();
        if lose {
            rig.engine.lose(P0, rig.now);
        } else {
            rig.drain(ms(100));
            assert_eq!(rig.actions(), [drained(E1, 0)]);
            assert_eq!(rig.frontier(), 0);
        }
        rig.pass(ms(50));
        let slots = rig.batches();
        assert_eq!(slots.1, [[10]]);
        assert_eq!(rig.end_all(&slots.0[0], &[Outcome::Ok]), [Verdict::Finished]);
        if !lose {
            rig.engine.close(P0);
        }
        assert_eq!((rig.engine.footprint(), rig.engine.surrender_credits()), ((0, 0), 100));
    }
}

#[test]
fn a_batch_that_runs_through_a_drain_counts_for_the_partitions_that_stay() {
    let mut rig = Rig::on_p0(in_batches(4));
    rig.assign(P1, E2, 10);
    rig.fetch("0a 1a");
    rig.engine.fetched(P1, E2, batch("10a 11a"), None);
    let slots = rig.batch(&[0, 1, 10, 11]);
    rig.drain(ms(10));
    rig.pass(ms(10));
    assert!(rig.actions().contains(&drained(E1, 2)));
    rig.engine.close(P0);
    rig.assign(P0, Epoch(3), 0);
    rig.engine.fetched(P0, Epoch(3), batch("0a 1a"), None);
    assert_eq!(rig.gather().1, [] as [Vec<i64>; 0], "their key runs on");
    let verdicts = rig.end_all(&slots, &[Outcome::Ok, Outcome::Ok, FAILED, Outcome::Ok]);
    assert_eq!(verdicts[..2], [Verdict::Stale; 2]);
    assert_eq!(not_run(&verdicts[2..]), [false, true]);
    rig.batch(&[0, 1]);
}

#[test]
fn a_failure_in_a_drain_leaves_the_later_records_of_its_key_unfinished() {
    let mut rig = Rig::on_p0(in_batches(3));
    rig.fetch("0a 1a 2b");
    let slots = rig.batch(&[0, 1, 2]);
    rig.drain(ms(10));
    let verdicts = rig.end_all(&slots, &[FAILED, Outcome::Ok, Outcome::Ok]);
    assert_eq!(verdicts, [Verdict::CutOff, Verdict::NotRun, Verdict::Finished]);
    assert!(rig.actions().contains(&drained(E1, 0)));
    let point = rig.point();
    assert_eq!((point.offset, point.finished), (0, vec![2..3]));
    rig.engine.close(P0);
    assert_eq!(rig.engine.footprint(), (0, 0));
}

#[test]
fn a_batch_takes_as_long_as_an_attempt_may_from_when_it_runs() {
    let mut rig = Rig::on_p0(Settings { handler_timeout: Some(ms(70)), ..in_batches(3) });
    rig.fetch("0a 1b");
    let slots = rig.batch(&[0, 1]);
    rig.pass(ms(69));
    assert_eq!(rig.actions(), []);
    rig.pass(ms(1));
    let cut = |slot: &SlotId| Action::Cut { slot: *slot, reason: CutReason::Timeout };
    assert_eq!(rig.actions(), slots.iter().map(cut).collect::<Vec<_>>());
    let verdicts = rig.end_all(&slots, &[Outcome::Cut; 2]);
    assert!(verdicts.iter().all(|v| matches!(v, Verdict::Retry { .. })), "{verdicts:?}");
}

#[test]
fn no_more_records_join_others_than_may_wait_if_the_batch_fails() {
    let mut rig = Rig::on_p0(Settings { waiting: 2, ..in_batches(5) });
    rig.fetch("0a 1a 2a 3a 4a");
    let slots = rig.batch(&[0, 1, 2]);
    rig.end_all(&slots, &[FAILED; 3]);
    assert_eq!(rig.engine.views(rig.now)[0].waiting, 2);
}
