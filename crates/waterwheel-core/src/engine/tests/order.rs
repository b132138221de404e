//! What waits for what (I2).

use super::*;

#[test]
fn a_handler_that_ends_at_once_needs_no_slot() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b 3");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1), (1, 1), (2, 1), (3, 1)]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (4, (0, 0)));
}

#[test]
fn a_handler_that_waits_ends_later() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    let started = rig.start_all();
    assert_eq!(offsets(&started), [0, 1]);
    assert_eq!(rig.end(started[1].1, Outcome::Ok), Verdict::Finished);
    let point = rig.point();
    assert_eq!((point.offset, point.finished), (0, vec![1..2]));
    assert_eq!(rig.end(started[0].1, Outcome::Ok), Verdict::Finished);
    assert_eq!(rig.end(started[0].1, Outcome::Ok), Verdict::Stale, "an end counts once");
    assert_eq!((rig.frontier(), rig.engine.footprint()), (2, (0, 0)));
}

#[test]
fn records_of_a_key_run_one_at_a_time_in_order() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b 3a 4=  5=");
    let first = rig.start_all();
    assert_eq!(offsets(&first), [0, 2, 4], "an empty key is a key");
    rig.end(first[0].1, Outcome::Ok);
    let second = rig.start_all();
    assert_eq!(offsets(&second), [1]);
    rig.end(second[0].1, Outcome::Ok);
    assert_eq!(offsets(&rig.start_all()), [3]);
}

#[test]
fn a_key_waits_while_its_record_is_retried() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b");
    assert_eq!(rig.run_all(|o| if o == 0 { FAILED } else { Outcome::Ok }), [(0, 1), (2, 1)]);
    rig.pass(ms(9));
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.pass(ms(1));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 2), (1, 1)]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (3, (0, 0)));
}

#[test]
fn records_without_a_key_wait_for_nobody() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0 1 2");
    assert_eq!(offsets(&rig.start_all()), [0, 1, 2]);
}

#[test]
fn the_order_of_the_partition_runs_one_at_a_time() {
    let mut rig = Rig::on_p0(Settings { order: Order::Partition, ..settings() });
    rig.fetch("0a 1b 2");
    for offset in 0..3 {
        let started = rig.start_all();
        assert_eq!(offsets(&started), [offset]);
        rig.end(started[0].1, Outcome::Ok);
    }
    assert_eq!((rig.frontier(), rig.engine.footprint()), (3, (0, 0)));
}

#[test]
fn without_order_a_key_runs_side_by_side() {
    let mut rig = Rig::on_p0(Settings { order: Order::None, ..settings() });
    rig.fetch("0a 1a 2a");
    assert_eq!(offsets(&rig.start_all()), [0, 1, 2]);
}

#[test]
fn partitions_take_turns() {
    let mut rig = Rig::on_p0(settings());
    rig.assign(P1, E2, 1000);
    rig.engine.fetched(P0, E1, keyed(0..200, |o| o.to_string()), None);
    rig.engine.fetched(P1, E2, keyed(1000..1200, |o| o.to_string()), None);
    let run: Vec<bool> = rig.run_all(|_| Outcome::Ok).into_iter().map(|(o, _)| o >= 1000).collect();
    assert!(!run[63] && run[64] && run[127] && !run[128]);
    assert_eq!(run.len(), 400);
}

#[test]
fn a_paused_engine_and_one_without_a_lease_start_nothing() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    rig.engine.pause();
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    rig.engine.resume();
    rig.engine.set_lease(Some(rig.now + ms(5)));
    rig.pass(ms(5));
    assert_eq!(rig.run_all(|_| Outcome::Ok), []);
    assert_eq!(rig.engine.views(rig.now)[0].held, Some(super::super::HoldReason::Lease));
    rig.engine.set_lease(Some(rig.now + ms(5)));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(0, 1), (1, 1)]);
}

#[test]
fn a_skip_of_the_fetch_waits_for_what_was_fetched_before() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    rig.engine.skipped_to(P0, E1, 7);
    assert_eq!(rig.frontier(), 0);
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 2, "what lies below the gap runs all the same");
    assert_eq!(rig.frontier(), 7);
    rig.engine.skipped_to(P0, E1, 9);
    assert_eq!(rig.frontier(), 9);
}

#[test]
fn a_skip_told_to_a_draining_partition_changes_nothing() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    rig.drain(ms(10));
    rig.engine.skipped_to(P0, E1, 7);
    assert_eq!(rig.frontier(), 0);
}

#[test]
fn idle_keys_cost_nothing() {
    let mut rig = Rig::on_p0(settings());
    for n in 0..50 {
        rig.engine.fetched(P0, E1, keyed(n * 100..n * 100 + 100, |o| format!("k{}", o % 37)), None);
        let mut started = rig.start_all();
        while let Some((_, slot)) = started.pop() {
            rig.end(slot, Outcome::Ok);
            started.extend(rig.start_all());
        }
    }
    assert_eq!(rig.frontier(), 5000);
    assert_eq!(rig.engine.footprint(), (0, 0));
    assert_eq!(rig.engine.partition(P0).unwrap().lanes.len(), 0);
}

#[test]
fn a_batch_that_takes_the_place_of_another_is_read_from_its_start() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1b");
    for _ in 0..2 {
        // As at the end of a driver's turn: nobody asks whether there is more.
        assert!(rig.engine.next_start(rig.now).is_some());
        rig.engine.finish_open(Outcome::Ok, rig.now);
    }
    rig.fetch("2a 3b 4c 5d");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(2, 1), (3, 1), (4, 1), (5, 1)]);
}

#[test]
fn a_full_map_holds_what_is_not_taken_up_and_nothing_else() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a 1a 2b");
    let first = rig.start_all();
    assert_eq!(offsets(&first), [0, 2]);
    let epoch = rig.engine.views(rig.now)[0].epoch;
    rig.engine.set_map_full(PartitionId(0), epoch, true);
    rig.fetch("3c");
    assert_eq!(rig.engine.views(rig.now)[0].held, Some(super::super::HoldReason::MapFull));
    rig.end(first[0].1, Outcome::Ok);
    assert_eq!(offsets(&rig.start_all()), [1], "it waited for its key already");
    rig.engine.set_map_full(PartitionId(0), Epoch(epoch.0 + 1), false);
    assert_eq!(offsets(&rig.start_all()), [] as [i64; 0], "another assignment's map");
    rig.engine.set_map_full(PartitionId(0), epoch, false);
    assert_eq!(offsets(&rig.start_all()), [3]);
}

#[test]
fn a_paused_partition_keeps_what_it_has_and_holds_no_other_up() {
    let mut rig = Rig::on_p0(settings());
    let other = PartitionId(1);
    rig.assign(other, Epoch(7), 0);
    rig.fetch("0a 1a");
    let running = rig.start();
    rig.engine.set_paused(PartitionId(0), Epoch(1), true);
    assert_eq!(rig.end(running, Outcome::Ok), Verdict::Finished);
    rig.fetch("2b");
    rig.engine.fetched(other, Epoch(7), batch("0a"), None);
    assert_eq!(offsets(&rig.start_all()), [0], "the other one's");
    assert_eq!(rig.engine.views(rig.now)[0].held, Some(super::super::HoldReason::Paused));
    rig.engine.set_paused(PartitionId(0), Epoch(9), false);
    assert_eq!(rig.start_all(), [], "of another assignment");
    rig.engine.set_paused(PartitionId(0), Epoch(1), false);
    assert_eq!(offsets(&rig.start_all()), [1, 2]);
}
