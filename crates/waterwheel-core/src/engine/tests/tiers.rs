//! Records that go to retry tiers, and those that come from them.

use super::*;
use crate::tiers::Tiers;

/// Two attempts a visit, tiers of one and of two seconds, six attempts in all.
fn tiered() -> Settings {
    let tiers = Tiers::new(vec![ms(1_000), ms(2_000)], 6);
    Settings { tiers: Some(tiers), dead_letter: true, exhausted: Exhausted::DeadLetter, ..settings() }
}

/// With P0, of that tier, and a record that says that of itself, written at `Now` zero.
fn in_tier(tier: usize, attempts: Option<u32>, first_failed_ms: Option<i64>) -> Rig {
    let mut rig = Rig::on_p0(tiered());
    rig.engine.set_tier(P0, E1, tier);
    rig.engine.fetched(P0, E1, batch("0a").written(0).carrying(attempts, first_failed_ms), None);
    rig
}

/// Lets the record that starts fail until something else follows than another attempt here; the attempts.
fn fail(rig: &mut Rig) -> (Vec<u32>, Verdict) {
    let mut attempts = Vec::new();
    loop {
        attempts.push(rig.engine.next_start(rig.now).unwrap().attempt);
        match rig.engine.finish_open(FAILED, rig.now) {
            Verdict::Retry { .. } => rig.pass(ms(10)),
            verdict => return (attempts, verdict),
        }
    }
}

#[test]
fn behind_its_attempts_a_record_goes_to_the_next_tier_and_is_finished_when_that_has_it() {
    let mut rig = Rig::on_p0(tiered());
    rig.fetch("0a 1a");
    let (attempts, verdict) = fail(&mut rig);
    let Verdict::Tier { slot, tier: 0 } = verdict else { panic!("{verdict:?}") };
    assert_eq!((attempts, rig.frontier()), (vec![1, 2], 0));
    assert_eq!(rig.start_all(), [], "its key waits until it is there");
    assert!(matches!(rig.engine.settled(slot, false, rig.now), Verdict::Retry { .. }));
    rig.pass(ms(10));
    assert_eq!((rig.actions(), rig.frontier()), (vec![Action::Settle { slot }], 0));
    assert_eq!(rig.engine.settled(slot, true, rig.now), Verdict::Finished);
    assert_eq!((rig.frontier(), offsets(&rig.start_all())), (1, vec![1]));
}

#[test]
fn a_record_of_a_tier_waits_for_its_time_and_goes_on_counting() {
    let mut rig = in_tier(0, Some(2), Some(-7));
    assert_eq!(rig.start_all(), []);
    rig.pass(ms(999));
    assert_eq!(rig.start_all(), []);
    rig.pass(ms(1));
    let start = rig.engine.next_start(rig.now).unwrap();
    assert_eq!((start.attempt, start.first_failed_ms), (3, Some(0)), "it cannot have failed before time began");
    let Verdict::Retry { slot, .. } = rig.engine.finish_open(FAILED, rig.now) else { panic!("no retry") };
    assert_eq!(rig.engine.history(slot), Some((3, Some(0))));
    rig.pass(ms(10));
    assert_eq!(fail(&mut rig), (vec![4], Verdict::Tier { slot, tier: 1 }));
}

#[test]
fn the_last_attempt_of_all_is_followed_by_what_is_configured() {
    let mut rig = in_tier(1, Some(4), Some(0));
    rig.pass(ms(2_000));
    let (attempts, verdict) = fail(&mut rig);
    assert!(matches!(verdict, Verdict::DeadLetter { .. }), "{verdict:?}");
    assert_eq!(attempts, [5, 6]);
}

#[test]
fn a_wish_for_the_dead_letter_topic_goes_there_from_any_tier() {
    let mut rig = in_tier(0, Some(2), None);
    rig.pass(ms(1_000));
    let slot = rig.start();
    assert_eq!(rig.end(slot, Outcome::Failed(Wish::DeadLetter)), Verdict::DeadLetter { slot });
}

/// The fewest that one in the last tier has had are four, of six.
#[test]
fn a_forged_number_of_attempts_gains_none() {
    for (claimed, wanted) in
        [(None, vec![5, 6]), (Some(0), vec![5, 6]), (Some(5), vec![6]), (Some(1_000_000_000), vec![6])]
    {
        let mut rig = in_tier(1, claimed, None);
        rig.pass(ms(2_000));
        assert_eq!(fail(&mut rig).0, wanted, "{claimed:?}");
    }
}

/// What the commit map carries is what was tried here: the header stays what it is.
#[test]
fn attempts_in_a_tier_survive_a_hand_over_beside_those_of_the_header() {
    let mut rig = in_tier(0, Some(2), Some(0));
    rig.pass(ms(1_000));
    rig.engine.next_start(rig.now).unwrap();
    rig.engine.finish_open(FAILED, rig.now);
    let failing = rig.engine.commit_point(P0).unwrap().failing;
    assert_eq!(failing.iter().map(|f| (f.offset, f.attempts)).collect::<Vec<_>>(), [(0, 1)]);
    let mut next = Rig::new(tiered());
    next.pass(ms(2_000));
    next.resume(P0, E1, Resume { failing, ..Resume::default() });
    next.engine.set_tier(P0, E1, 0);
    next.engine.fetched(P0, E1, batch("0a").written(0).carrying(Some(2), Some(0)), None);
    let started = next.engine.next_start(next.now).map(|start| start.attempt);
    let attempt = started.or_else(|| {
        next.pass(ms(10));
        next.engine.next_start(next.now).map(|start| start.attempt)
    });
    assert_eq!(attempt, Some(4));
}

#[test]
fn a_drain_waits_for_the_answer_about_a_record_on_its_way_to_a_tier() {
    let mut rig = Rig::on_p0(tiered());
    rig.fetch("0a");
    let (_, verdict) = fail(&mut rig);
    let Verdict::Tier { slot, .. } = verdict else { panic!("{verdict:?}") };
    rig.engine.drain(P0, rig.now + ms(500), rig.now);
    assert_eq!(rig.actions(), []);
    rig.engine.settled(slot, true, rig.now);
    assert_eq!(rig.frontier(), 1);
    assert!(matches!(rig.actions()[..], [Action::Drained { cut_off: 0, .. }]));
}
