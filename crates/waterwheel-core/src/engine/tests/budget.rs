//! Credits, waiting records, bytes (I6).

use super::*;

fn many(settings: Settings, partitions: u32) -> Rig {
    let mut rig = Rig::new(settings);
    rig.engine.set_worker_partitions(partitions as usize);
    for id in 0..partitions {
        rig.assign(PartitionId(id), Epoch(u64::from(id) + 1), 0);
        rig.engine.fetched(PartitionId(id), Epoch(u64::from(id) + 1), keyed(0..20, |o| o.to_string()), None);
    }
    rig
}

#[test]
fn one_at_a_time_means_one_however_many_partitions() {
    let mut rig = many(Settings { concurrency: 1, ..settings() }, 10);
    for _ in 0..200 {
        let slot = rig.start();
        assert_eq!(rig.engine.running(), 1);
        rig.end(slot, Outcome::Ok);
    }
    assert_eq!(rig.start_all(), []);
    assert_eq!(rig.engine.surrender_credits(), 1);
}

#[test]
fn hung_partitions_leave_the_others_their_reserve() {
    let mut rig = Rig::new(Settings { concurrency: 8, ..settings() });
    rig.engine.set_worker_partitions(2);
    rig.assign(P0, E1, 0);
    rig.assign(P1, E2, 0);
    rig.engine.fetched(P0, E1, keyed(0..20, |o| o.to_string()), None);
    assert_eq!(rig.start_all().len(), 7);
    rig.engine.fetched(P1, E2, keyed(100..120, |o| o.to_string()), None);
    for offset in 100..120 {
        let started = rig.start_all();
        assert_eq!(offsets(&started), [offset]);
        rig.end(started[0].1, Outcome::Ok);
    }
}

#[test]
fn a_partition_goes_on_with_the_credit_that_it_keeps() {
    let mut rig = Rig::new(Settings { concurrency: 4, ..settings() });
    rig.engine.set_worker_partitions(1);
    rig.engine.surrender_credits();
    rig.assign(P0, E1, 0);
    rig.fetch("0 1 2");
    assert_eq!(rig.start_all(), [], "no credit yet");
    rig.engine.grant(1);
    let first = rig.start();
    rig.end(first, Outcome::Ok);
    let second = rig.start();
    rig.end(second, FAILED);
    assert_eq!(offsets(&rig.start_all()), [2]);
}

#[test]
fn a_free_credit_that_is_not_kept_goes_to_the_next_partition() {
    let mut rig = many(Settings { concurrency: 1, ..settings() }, 3);
    let slot = rig.start();
    rig.end(slot, Outcome::Ok);
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 59, "ends in place keep no credit");
}

#[test]
fn the_end_of_a_partition_wakes_those_that_lack_credits() {
    let mut rig = many(Settings { concurrency: 2, ..settings() }, 2);
    let held: Vec<_> = rig.start_all();
    assert_eq!(held.len(), 2);
    rig.engine.drain(P0, rig.now, rig.now);
    rig.engine.close(P0);
    held.into_iter().for_each(|(_, slot)| _ = rig.end(slot, Outcome::Cut));
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 20);
}

#[test]
fn credits_are_neither_made_nor_lost() {
    let mut rig = many(Settings { concurrency: 10, dead_letter: true, ..settings() }, 3);
    let mut running = Vec::new();
    for step in 0..300usize {
        running.extend(rig.start_all());
        assert!(rig.engine.running() <= 10, "step {step}");
        if !running.is_empty() {
            let (_, slot) = running.remove(step * 7 % running.len());
            let outcome = [Outcome::Ok, FAILED, Outcome::Again(ms(1)), Outcome::Failed(Wish::DeadLetter)][step % 4];
            if let Verdict::DeadLetter { slot } = rig.end(slot, outcome) {
                rig.engine.settled(slot, true, rig.now);
            }
        }
        match step {
            100 => rig.engine.lose(P1, rig.now),
            150 => rig.engine.set_worker_partitions(9),
            200 => rig.assign(P1, Epoch(77), 0),
            _ => {}
        }
        rig.pass(ms(2));
    }
    for id in 0..3 {
        rig.engine.lose(PartitionId(id), rig.now);
    }
    running.into_iter().for_each(|(_, slot)| _ = rig.end(slot, Outcome::Cut));
    assert_eq!((rig.engine.surrender_credits(), rig.engine.footprint()), (10, (0, 0)));
}

#[test]
fn bytes_over_the_share_hold_the_partition_until_half_is_free() {
    let mut rig = Rig::on_p0(Settings { bytes: 4 * SIZE, ..settings() });
    rig.fetch("0a 1b 2c");
    assert_eq!(rig.actions(), []);
    rig.fetch("3d 4e");
    assert_eq!(rig.actions(), [Action::Hold(P0)]);
    let started = rig.start_all();
    rig.end(started[3].1, Outcome::Ok);
    rig.end(started[4].1, Outcome::Ok);
    assert_eq!(rig.actions(), [], "three of four are held yet");
    (0..3).for_each(|n| _ = rig.end(started[n].1, Outcome::Ok));
    assert_eq!(rig.actions(), [Action::Release(P0)]);
    assert_eq!(rig.engine.views(rig.now)[0].bytes, 0);
}

#[test]
fn one_batch_is_always_admitted() {
    let mut rig = Rig::on_p0(Settings { bytes: 1, ..settings() });
    for offset in 0..5 {
        rig.fetch(&format!("{offset}a"));
        assert_eq!(rig.actions(), [Action::Hold(P0)]);
        assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 1);
        assert_eq!(rig.actions(), [Action::Release(P0)]);
    }
}

#[test]
fn sparse_batches_are_given_up_for_copies() {
    let mut rig = Rig::on_p0(settings());
    rig.engine.fetched(P0, E1, keyed(0..100, |o| if o % 10 < 2 { "hot".into() } else { o.to_string() }), None);
    let started = rig.start_all();
    started.iter().skip(1).for_each(|(_, slot)| _ = rig.end(*slot, Outcome::Ok));
    assert_eq!(rig.engine.views(rig.now)[0].bytes, 100 * SIZE);
    rig.end(started[0].1, FAILED);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.engine.views(rig.now)[0].bytes, 20 * SIZE);
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 20);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (100, (0, 0)));
}
