//! Later records of a key that follow a dead letter of it.

use super::*;

fn following() -> Settings {
    Settings { follow: true, dead_letter: true, ..settings() }
}

const GIVEN_UP: Outcome = Outcome::Failed(Wish::DeadLetter);

/// The first record of key `a` is a dead letter, acknowledged.
fn dead_lettered() -> Rig {
    let mut rig = Rig::on_p0(following());
    rig.fetch("0a 1b 2a");
    let started = rig.start_all();
    assert_eq!(offsets(&started), [0, 1]);
    rig.end(started[1].1, Outcome::Ok);
    let Verdict::DeadLetter { slot } = rig.end(started[0].1, GIVEN_UP) else { panic!("no dead letter") };
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Finished);
    rig
}

/// The next record becomes a dead letter, acknowledged.
fn dead_letter_next(rig: &mut Rig) {
    let slot = rig.start();
    let Verdict::DeadLetter { slot } = rig.end(slot, GIVEN_UP) else { panic!("no dead letter") };
    rig.engine.settled(slot, true, rig.now);
}

/// The record that is to follow now.
fn followed(rig: &mut Rig, behind: i64) -> SlotId {
    assert_eq!(rig.start_all(), []);
    let actions = rig.actions();
    let [Action::Follow { slot, behind: of }] = actions[..] else { panic!("{actions:?}") };
    assert_eq!(of, behind);
    slot
}

#[test]
fn later_records_of_the_key_follow_one_by_one_and_others_go_on() {
    let mut rig = dead_lettered();
    rig.fetch("3a 4b");
    assert_eq!(offsets(&rig.start_all()), [4]);
    let actions = rig.actions();
    let [Action::Follow { slot, behind: 0 }] = actions[..] else { panic!("{actions:?}") };
    assert_eq!(rig.frontier(), 2, "it is not finished before it is acknowledged");
    rig.engine.settled(slot, true, rig.now);
    let last = followed(&mut rig, 0);
    rig.engine.settled(last, true, rig.now);
    assert_eq!((rig.frontier(), rig.engine.followed(P0)), (4, vec![0]));
}

#[test]
fn a_key_that_is_released_starts_again() {
    let mut rig = dead_lettered();
    let slot = followed(&mut rig, 0);
    assert!(!rig.engine.release_key(P0, E2, Some(b"a")), "of another assignment");
    assert!(!rig.engine.release_key(P0, E1, Some(b"b")));
    assert!(rig.engine.release_key(P0, E1, Some(b"a")) && !rig.engine.release_key(P0, E1, Some(b"a")));
    rig.engine.settled(slot, true, rig.now);
    rig.fetch("3a");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(3, 1)]);
    assert_eq!(rig.frontier(), 4);
}

#[test]
fn one_that_follows_and_cannot_be_written_holds_its_key() {
    let mut rig = dead_lettered();
    rig.fetch("3a");
    let slot = followed(&mut rig, 0);
    assert!(matches!(rig.engine.settled(slot, false, rig.now), Verdict::Retry { .. }));
    rig.pass(ms(10));
    assert_eq!(rig.actions(), [Action::Settle { slot }]);
    rig.engine.settled(slot, true, rig.now);
    followed(&mut rig, 0);
}

#[test]
fn nothing_follows_where_it_is_not_set_or_there_is_no_key() {
    let mut rig = Rig::on_p0(Settings { follow: false, ..following() });
    rig.fetch("0a");
    dead_letter_next(&mut rig);
    rig.fetch("1a");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1, 1)]);
    let mut rig = Rig::on_p0(following());
    rig.fetch("0");
    dead_letter_next(&mut rig);
    rig.fetch("1");
    assert_eq!(rig.run_all(|_| Outcome::Ok), [(1, 1)]);
}

#[test]
fn a_key_too_many_is_parked() {
    let mut rig = Rig::on_p0(following());
    let many = crate::engine::follow::FOLLOWED_LIMIT as i64;
    rig.engine.fetched(P0, E1, keyed(0..many + 1, |o| o.to_string()), None);
    while rig.engine.next_start(rig.now).is_some() {
        match rig.engine.finish_open(GIVEN_UP, rig.now) {
            Verdict::DeadLetter { slot } => _ = rig.engine.settled(slot, true, rig.now),
            verdict => assert!(matches!(verdict, Verdict::Parked { .. }), "{verdict:?}"),
        }
    }
    assert_eq!((rig.engine.followed(P0).len() as i64, rig.frontier()), (many, many));
}

/// What the last commit point says, taken over by the next assignment.
fn handed_over(rig: &mut Rig, settings: Settings) -> Rig {
    let CommitPoint { offset, finished, failing, followed, .. } = rig.point();
    let mut next = Rig::new(settings);
    next.resume(P0, E1, Resume { offset, finished, failing, followed, leader_epoch: None });
    next
}

#[test]
fn the_next_owner_goes_on_following_until_the_key_is_released_there() {
    let mut rig = dead_lettered();
    rig.drain(ms(100));
    let mut next = handed_over(&mut rig, following());
    next.fetch("2a 3b");
    assert_eq!(next.run_all(|_| Outcome::Ok), [(3, 1)]);
    let actions = next.actions();
    let [Action::Follow { slot, behind: 0 }] = actions[..] else { panic!("{actions:?}") };
    next.engine.settled(slot, true, next.now);
    assert_eq!(next.point().followed.len(), 1);
    assert!(!next.engine.is_dirty(P0));
    assert!(next.engine.release_key(P0, E1, Some(b"a")) && next.engine.is_dirty(P0), "to be committed, although idle");
    assert_eq!(next.point().followed, []);
    next.fetch("4a");
    assert_eq!(next.run_all(|_| Outcome::Ok), [(4, 1)]);
}

/// The map had no room for the marks: the letter and what is before it run again, and do not follow it.
#[test]
fn a_letter_that_comes_again_does_not_follow_itself() {
    let mut rig = Rig::on_p0(following());
    rig.fetch("0b 1a");
    let slots = rig.start_all();
    let Verdict::DeadLetter { slot } = rig.end(slots[1].1, GIVEN_UP) else { panic!("no dead letter") };
    rig.engine.settled(slot, true, rig.now);
    let followed = rig.point().followed;
    let mut next = Rig::new(following());
    next.resume(P0, E1, Resume { offset: 0, followed, ..Resume::default() });
    next.fetch("0a 1a 2a");
    assert_eq!(next.run_all(|_| Outcome::Ok), [(0, 1), (1, 1)]);
    assert!(matches!(next.actions()[..], [Action::Follow { behind: 1, .. }]));
}

#[test]
fn what_is_followed_ends_with_the_setting_and_with_the_order_that_it_is_of() {
    let by = |order| Settings { order, ..following() };
    for (settings, kept) in [
        (following(), 1),
        (by(Order::Partition), 0),
        (by(Order::None), 0),
        (Settings { follow: false, ..following() }, 0),
    ] {
        assert_eq!(handed_over(&mut dead_lettered(), settings).point().followed.len(), kept);
    }
    let mut whole = Rig::on_p0(by(Order::Partition));
    whole.fetch("0a");
    dead_letter_next(&mut whole);
    assert_eq!(handed_over(&mut whole, following()).point().followed, []);
    let mut next = handed_over(&mut whole, by(Order::Partition));
    next.fetch("1");
    assert_eq!(next.run_all(|_| Outcome::Ok), []);
    assert!(matches!(next.actions()[..], [Action::Follow { behind: 0, .. }]));
}
