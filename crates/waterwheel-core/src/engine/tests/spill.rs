//! A key with more records than may wait: kept as offsets, read again in its turn.

use std::collections::BTreeMap;

use super::*;

/// What was asked to be read again.
fn asked(actions: &[Action]) -> Vec<i64> {
    let offsets = actions.iter().filter_map(|a| match a {
        Action::Reread { offsets, .. } => Some(offsets.clone()),
        _ => None,
    });
    offsets.flatten().collect()
}

#[test]
fn a_hot_key_that_fails_leaves_the_cold_keys_their_way() {
    let mut rig = Rig::on_p0(Settings { waiting: 20, concurrency: 5, ..settings() });
    let key = |o: i64| if o % 10 == 0 { format!("cold{o}") } else { "hot".to_owned() };
    let log: BTreeMap<i64, String> = (0..1000).map(|o| (o, key(o))).collect();
    for n in 0..10 {
        rig.engine.fetched(P0, E1, keyed(n * 100..n * 100 + 100, key), None);
    }
    let first = rig.run_all(|o| if log[&o] == "hot" { FAILED } else { Outcome::Ok });
    assert_eq!(first.len(), 101, "all cold ones, and the first hot one");
    assert!(rig.engine.views(rig.now)[0].waiting <= 20);
    let mut hot = Vec::new();
    for _ in 0..5000 {
        rig.pass(ms(10));
        hot.extend(rig.run_all(|_| Outcome::Ok));
        let again = asked(&rig.actions());
        for offset in again {
            rig.engine.reread(P0, E1, keyed(offset..offset + 1, key));
        }
    }
    let hot: Vec<i64> = hot.into_iter().map(|(o, _)| o).collect();
    assert_eq!(
        hot,
        log.iter().filter(|(_, k)| *k == "hot").map(|(o, _)| *o).collect::<Vec<_>>(),
        "in order, each once"
    );
    assert_eq!((rig.frontier(), rig.engine.footprint()), (1000, (0, 0)));
}

#[test]
fn many_hot_keys_shut_nobody_out() {
    let mut rig = Rig::on_p0(Settings { waiting: 16, ..settings() });
    let key = |o: i64| if o < 500 { format!("hot{}", o % 5) } else { format!("cold{o}") };
    rig.engine.fetched(P0, E1, keyed(0..600, key), None);
    let started = rig.start_all();
    assert_eq!(started.len(), 100, "five hot ones and as many cold ones as there are credits");
    assert!(rig.engine.views(rig.now)[0].waiting <= 16);
}

/// Ten records of one key: 0 to 4 are done, 5 to 8 were kept as offsets and are asked for, 9 is kept as an offset yet.
fn spilled() -> Rig {
    let mut rig = Rig::on_p0(Settings { waiting: 8, ..settings() });
    rig.fetch("0a 1a 2a 3a 4a 5a 6a 7a 8a 9a");
    let mut slot = rig.start();
    for _ in 1..5 {
        rig.end(slot, Outcome::Ok);
        slot = rig.start();
    }
    rig.end(slot, Outcome::Ok);
    rig
}

#[test]
fn records_read_again_keep_their_place() {
    let mut rig = spilled();
    assert_eq!(asked(&rig.actions()), [5, 6, 7, 8]);
    rig.fetch("10a");
    assert_eq!(rig.start_all(), [], "a later record does not overtake those that were asked for");
    rig.engine.reread(P0, E1, batch("5a 6a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok).len(), 2);
    rig.engine.reread(P0, E1, batch("7a 8a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(7, 1), (8, 1)]);
    assert_eq!(asked(&rig.actions()), [9, 10]);
    rig.engine.reread(P0, E1, batch("9a 10a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(9, 1), (10, 1)]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (11, (0, 0)));
}

#[test]
fn records_that_are_gone_hold_nobody_up() {
    let mut rig = spilled();
    rig.actions();
    rig.engine.reread_missing(P0, E1, &[6, 7, 8, 999]);
    rig.engine.reread(P0, E1, batch("5a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 1)]);
    assert_eq!(rig.frontier(), 9);
    assert_eq!(asked(&rig.actions()), [9]);
    rig.engine.reread_missing(P0, E1, &[9]);
    assert_eq!((rig.frontier(), rig.engine.footprint()), (10, (0, 0)));
    assert_eq!(rig.engine.partition(P0).unwrap().lanes.len(), 0);
}

#[test]
fn an_offset_that_nobody_asked_for_is_not_taken_as_gone() {
    let mut rig = Rig::on_p0(settings());
    rig.fetch("0a");
    let slot = rig.start();
    rig.engine.reread_missing(P0, E1, &[0]);
    assert_eq!(rig.frontier(), 0);
    rig.end(slot, Outcome::Ok);
    assert_eq!(rig.frontier(), 1);
}

#[test]
fn one_that_is_read_again_too_early_is_asked_for_once_more() {
    let mut rig = spilled();
    rig.actions();
    rig.engine.reread(P0, E1, batch("5a 7a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(5, 1)]);
    assert_eq!(asked(&rig.actions()), [7]);
    rig.engine.reread_missing(P0, E1, &[6]);
    rig.engine.reread(P0, E1, batch("7a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(7, 1)]);
}

#[test]
fn what_was_kept_as_offsets_is_dropped_by_a_drain() {
    let mut rig = spilled();
    rig.actions();
    rig.drain(ms(10));
    assert_eq!(rig.actions(), [drained(E1, 0)]);
    rig.engine.reread(P0, E1, batch("5a 6a 7a"));
    assert_eq!((rig.start_all(), rig.frontier(), rig.engine.footprint()), (vec![], 5, (0, 0)));
}

#[test]
fn another_record_in_the_place_of_one_that_was_asked_for_holds_nobody_up() {
    let mut rig = spilled();
    rig.actions();
    rig.engine.reread(P0, E1, batch("5b 6a 7a 8a"));
    assert_eq!(asked(&rig.actions()), [6, 7, 8], "came before it was known that 5 is gone");
    rig.engine.reread(P0, E1, batch("6a 7a 8a"));
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(6, 1), (7, 1), (8, 1)]);
    assert_eq!(rig.frontier(), 9);
}
