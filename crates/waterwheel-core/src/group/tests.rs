//! Step tests of the group side, by a virtual clock.

use std::time::Duration;

use super::{CommitTrouble, Committer, Group, GroupAction, GroupSettings};
use crate::engine::{CommitPoint, Resume};
use crate::types::{Epoch, Now, PartitionId};

const P0: PartitionId = PartitionId(0);
const P1: PartitionId = PartitionId(1);
const AGAIN: Result<(), CommitTrouble> = Err(CommitTrouble::Again);
const TOO_LARGE: Result<(), CommitTrouble> = Err(CommitTrouble::TooLarge);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn at(seconds: u64) -> Now {
    Now::at(s(seconds))
}

fn point(epoch: u64, offset: i64) -> CommitPoint {
    CommitPoint::bare(Epoch(epoch), offset)
}

fn from(offset: i64) -> Resume {
    Resume { offset, ..Resume::default() }
}

/// A group that commits every second, drains for 20 and waits 5 for a commit.
fn group() -> Group {
    let settings = GroupSettings { drain_timeout: s(20), commit_timeout: s(5), ..GroupSettings::default() };
    Group::new(settings, at(0))
}

fn actions(group: &mut Group) -> Vec<GroupAction> {
    std::iter::from_fn(|| group.poll_action()).collect()
}

/// With partitions 0 and 1 opened at offset 10, in epochs 1 and 2.
fn of_two() -> Group {
    let mut group = group();
    group.assigned(&[P0, P1]);
    group.opened(P0, Epoch(1), from(10));
    group.opened(P1, Epoch(2), from(10));
    actions(&mut group);
    group
}

/// The number and the offsets of the one commit asked for.
fn commit(group: &mut Group) -> (u64, Vec<(PartitionId, i64, usize)>) {
    let mut commits = actions(group).into_iter().filter_map(|action| match action {
        GroupAction::Commit { number, points } => {
            Some((number, points.into_iter().map(|(id, p, limit)| (id, p.offset, limit)).collect()))
        }
        _ => None,
    });
    let commit = commits.next().expect("a commit");
    assert_eq!(commits.next(), None, "one at a time");
    commit
}

/// What one shard has to commit.
fn collect(group: &mut Group, points: &[(PartitionId, CommitPoint)], now: Now) {
    group.tick(now);
    assert_eq!(actions(group), [GroupAction::Collect]);
    group.expect_collections(1);
    group.collected(points.to_vec(), now);
}

#[test]
fn what_is_assigned_is_opened_and_then_worked_on() {
    let mut group = group();
    group.assigned(&[P0]);
    assert_eq!(actions(&mut group), [GroupAction::Open(vec![(P0, Epoch(1))])]);
    assert!(!group.is_current(P0, Epoch(1)) && group.is_opening(P0, Epoch(1)) && !group.is_opening(P0, Epoch(9)));
    group.opened(P0, Epoch(9), from(3));
    assert_eq!(actions(&mut group), [], "of another assignment");
    group.opened(P0, Epoch(1), from(3));
    let assign = GroupAction::Assign { partition: P0, epoch: Epoch(1), resume: from(3) };
    assert_eq!(actions(&mut group), [assign]);
    assert!(group.is_current(P0, Epoch(1)) && !group.is_opening(P0, Epoch(1)));
    assert_eq!(group.committed_offset(P0), Some(3));
    group.opened(P0, Epoch(1), from(3));
    assert_eq!(actions(&mut group), [], "an answer counts once");
}

#[test]
fn a_partition_revoked_while_it_opens_goes_back_at_once() {
    let mut group = group();
    group.assigned(&[P0]);
    actions(&mut group);
    group.revoking(&[P0], at(1));
    assert_eq!(actions(&mut group), [GroupAction::Release]);
    group.opened(P0, Epoch(1), from(3));
    assert_eq!(actions(&mut group), []);
}

#[test]
fn only_what_is_revoked_drains_and_it_is_committed_before_it_goes_back() {
    let mut group = of_two();
    group.revoking(&[P1], at(1));
    assert_eq!(actions(&mut group), [GroupAction::Drain { partitions: vec![P1], deadline: at(21) }]);
    assert!(group.is_current(P0, Epoch(1)) && !group.is_current(P1, Epoch(2)));
    group.drained(P1, point(2, 15), at(2));
    let (number, points) = commit(&mut group);
    assert_eq!(points, [(P1, 15, 4096)]);
    group.committed(number, &[(P1, Ok(()))], at(3));
    assert_eq!(actions(&mut group), [GroupAction::Close(vec![P1]), GroupAction::Release]);
    assert_eq!(group.partitions(), 1);
}

#[test]
fn a_revocation_waits_for_all_of_its_partitions() {
    let mut group = of_two();
    group.revoking(&[P0, P1], at(1));
    group.drained(P0, point(1, 11), at(2));
    let (number, _) = commit(&mut group);
    group.committed(number, &[(P0, Ok(()))], at(2));
    // Long after the first one's commit, which must not be taken for one that got no answer.
    group.tick(at(15));
    assert!(!actions(&mut group).contains(&GroupAction::Release));
    assert!(group.next_timer() > Some(at(15)), "no timer that is always due");
    group.drained(P1, point(2, 12), at(16));
    let (number, _) = commit(&mut group);
    group.committed(number, &[(P1, Ok(()))], at(16));
    assert_eq!(actions(&mut group), [GroupAction::Close(vec![P0, P1]), GroupAction::Release]);
}

#[test]
fn a_commit_is_repeated_while_the_partition_is_held() {
    let mut group = of_two();
    group.revoking(&[P0], at(1));
    group.drained(P0, point(1, 11), at(2));
    let (first, _) = commit(&mut group);
    group.committed(first, &[(P0, AGAIN)], at(2));
    assert_eq!(actions(&mut group), []);
    group.tick(group.next_timer().unwrap());
    let (second, points) = commit(&mut group);
    assert!(second > first && points == [(P0, 11, 4096)]);
    group.committed(first, &[(P0, Ok(()))], at(3));
    assert_eq!(actions(&mut group), [], "the first one's answer is late");
    group.committed(second, &[(P0, Ok(()))], at(3));
    assert_eq!(actions(&mut group), [GroupAction::Close(vec![P0]), GroupAction::Release]);
}

#[test]
fn a_map_that_is_too_large_is_halved_and_at_last_left_out() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    let mut limits = Vec::new();
    for _ in 0..8 {
        let (number, points) = commit(&mut group);
        limits.push(points[0].2);
        group.committed(number, &[(P0, TOO_LARGE)], at(1));
    }
    assert_eq!(limits, [4096, 2048, 1024, 512, 256, 128, 64, 32]);
    let (number, points) = commit(&mut group);
    assert_eq!(points, [(P0, 11, 0)], "the frontier alone");
    group.committed(number, &[(P0, TOO_LARGE)], at(1));
    assert_eq!(actions(&mut group), [], "nothing is left to leave out: not at once");
    group.tick(group.next_timer().unwrap());
    let (number, _) = commit(&mut group);
    group.committed(number, &[(P0, Ok(()))], at(2));
}

#[test]
fn a_fenced_member_loses_everything_and_commits_nothing() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    let (number, _) = commit(&mut group);
    group.revoking(&[P1], at(1));
    actions(&mut group);
    group.committed(number, &[(P0, Err(CommitTrouble::Fenced))], at(2));
    assert_eq!(actions(&mut group), [GroupAction::Lose(vec![P0, P1]), GroupAction::Release]);
    group.drained(P1, point(2, 15), at(2));
    group.tick(at(9));
    assert_eq!((actions(&mut group), group.partitions()), (vec![], 0));
}

#[test]
fn a_late_fencing_does_not_meet_the_next_membership() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    let (number, _) = commit(&mut group);
    group.lost(&[P0, P1], at(1));
    group.assigned(&[P0]);
    group.opened(P0, Epoch(3), from(10));
    actions(&mut group);
    group.committed(number, &[(P0, Err(CommitTrouble::Fenced))], at(2));
    assert!(actions(&mut group).is_empty() && group.is_current(P0, Epoch(3)));
}

#[test]
fn what_is_lost_is_never_committed() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    let (number, _) = commit(&mut group);
    group.revoking(&[P1], at(1));
    group.drained(P1, point(2, 12), at(1));
    group.lost(&[P1], at(1));
    assert!(actions(&mut group).contains(&GroupAction::Lose(vec![P1])));
    group.committed(number, &[(P0, AGAIN)], at(1));
    group.lost(&[P0], at(1));
    group.collected(vec![(P0, point(1, 13))], at(1));
    group.tick(at(9));
    assert_eq!(actions(&mut group), [GroupAction::Lose(vec![P0])]);
}

#[test]
fn a_lost_partition_ends_its_revocation_without_a_commit_in_the_way() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    commit(&mut group);
    group.revoking(&[P0], at(1));
    actions(&mut group);
    group.lost(&[P0], at(1));
    assert_eq!(actions(&mut group), [GroupAction::Lose(vec![P0]), GroupAction::Release]);
}

#[test]
fn what_is_told_of_an_older_assignment_is_not_committed() {
    let mut group = of_two();
    group.lost(&[P0], at(1));
    group.assigned(&[P0]);
    group.opened(P0, Epoch(3), from(10));
    actions(&mut group);
    group.drained(P0, point(1, 50), at(1));
    assert!(group.is_current(P0, Epoch(3)));
    collect(&mut group, &[(P0, point(1, 50))], at(1));
    assert_eq!(actions(&mut group), []);
}

#[test]
fn a_committed_offset_never_goes_back() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 20))], at(1));
    let (number, _) = commit(&mut group);
    group.committed(number, &[(P0, Ok(()))], at(1));
    collect(&mut group, &[(P0, point(1, 19))], at(2));
    assert_eq!(actions(&mut group), []);
    assert_eq!(group.committed_offset(P0), Some(20));
}

#[test]
fn only_one_commit_is_under_way() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    let (number, _) = commit(&mut group);
    group.revoking(&[P1], at(1));
    group.drained(P1, point(2, 12), at(1));
    group.tick(at(3));
    assert_eq!(actions(&mut group), [GroupAction::Drain { partitions: vec![P1], deadline: at(21) }]);
    group.committed(number, &[(P0, Ok(()))], at(3));
    let (_, points) = commit(&mut group);
    assert_eq!(points, [(P1, 12, 4096)]);
}

#[test]
fn a_newer_point_takes_the_place_of_one_that_was_refused() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 11))], at(1));
    let (number, _) = commit(&mut group);
    group.revoking(&[P0], at(1));
    group.drained(P0, point(1, 12), at(1));
    group.committed(number, &[(P0, AGAIN)], at(1));
    group.tick(group.next_timer().unwrap());
    assert_eq!(commit(&mut group).1, [(P0, 12, 4096)]);
}

#[test]
fn a_last_commit_without_an_answer_is_given_up() {
    let mut group = of_two();
    group.revoking(&[P0], at(1));
    group.drained(P0, point(1, 11), at(2));
    commit(&mut group);
    // What is left of the 20 s for the drain is for the commit.
    group.tick(at(20));
    assert!(!actions(&mut group).contains(&GroupAction::Release));
    group.tick(at(21));
    let given_back = [GroupAction::GaveUp(vec![P0]), GroupAction::Close(vec![P0]), GroupAction::Release];
    assert_eq!(actions(&mut group), given_back);
}

#[test]
fn a_last_commit_has_five_seconds_at_the_end_of_a_drain_and_a_minute_of_a_long_one() {
    for (drain, drained, given_up) in [(20, 3, 21), (20, 19, 24), (20, 21, 26), (600, 2, 62)] {
        let mut group = of_two();
        group.stop_within(s(drain), at(1));
        group.drained(P0, point(1, 11), at(drained));
        group.drained(P1, point(2, 20), at(drained));
        commit(&mut group);
        group.tick(at(given_up - 1));
        assert!(!actions(&mut group).contains(&GroupAction::Leave), "{drain}");
        group.tick(at(given_up));
        assert_eq!(actions(&mut group).last(), Some(&GroupAction::Leave), "{drain}");
    }
}

#[test]
fn a_second_stop_leaves_a_last_commit_five_seconds() {
    let mut group = of_two();
    group.stop(at(1));
    group.drained(P0, point(1, 30), at(2));
    group.drained(P1, point(2, 30), at(2));
    commit(&mut group);
    group.stop_within(Duration::ZERO, at(3));
    group.tick(at(7));
    assert_eq!(actions(&mut group), []);
    group.tick(at(8));
    assert_eq!(actions(&mut group).last(), Some(&GroupAction::Leave));
}

#[test]
fn a_refused_commit_holds_no_drain_up() {
    let mut group = of_two();
    group.revoking(&[P0], at(1));
    group.drained(P0, point(1, 11), at(2));
    let (number, _) = commit(&mut group);
    group.committed(number, &[(P0, Err(CommitTrouble::Refused))], at(2));
    let given_back = [GroupAction::GaveUp(vec![P0]), GroupAction::Close(vec![P0]), GroupAction::Release];
    assert_eq!(actions(&mut group), given_back);
}

#[test]
fn a_shard_that_does_not_answer_holds_no_drain_up() {
    let mut group = of_two();
    group.revoking(&[P0], at(1));
    actions(&mut group);
    group.tick(at(26));
    assert_eq!(actions(&mut group)[..2], [GroupAction::Lose(vec![P0]), GroupAction::Release]);
    group.drained(P0, point(1, 99), at(27));
    assert_eq!(group.partitions(), 1);
}

#[test]
fn a_restart_begins_a_new_epoch_at_its_offset() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 50))], at(1));
    let (number, _) = commit(&mut group);
    group.restarted(P0, from(40));
    let assign = GroupAction::Assign { partition: P0, epoch: Epoch(3), resume: from(40) };
    assert_eq!(actions(&mut group), [GroupAction::Lose(vec![P0]), assign]);
    assert_eq!(group.committed_offset(P0), Some(40), "where it would restart once more");
    group.committed(number, &[(P0, AGAIN)], at(1));
    collect(&mut group, &[(P0, point(3, 41))], at(2));
    assert_eq!(commit(&mut group).1, [(P0, 41, 4096)], "a reset may go back");
}

#[test]
fn the_shards_answers_are_committed_together() {
    let mut group = of_two();
    group.tick(at(1));
    assert_eq!(actions(&mut group), [GroupAction::Collect]);
    group.expect_collections(2);
    group.collected(vec![(P0, point(1, 11))], at(1));
    group.tick(at(2));
    assert_eq!(actions(&mut group), [GroupAction::Commit { number: 1, points: vec![(P0, point(1, 11), 4096)] }]);
}

#[test]
fn a_lease_is_never_made_shorter() {
    let mut group = Group::new(GroupSettings { lease: Some(s(30)), ..GroupSettings::default() }, at(0));
    group.coordinator_answered(at(5));
    assert_eq!(actions(&mut group), [GroupAction::Lease(at(35))]);
    group.coordinator_answered(at(4));
    assert_eq!(actions(&mut group), []);
}

// ---- stop -----------------------------------------------------------------------------------------------------------

#[test]
fn a_stop_drains_commits_and_leaves_once() {
    let mut group = of_two();
    group.stop(at(1));
    assert_eq!(actions(&mut group), [GroupAction::Drain { partitions: vec![P0, P1], deadline: at(21) }]);
    group.assigned(&[PartitionId(7)]);
    group.drained(P0, point(1, 11), at(2));
    let (number, _) = commit(&mut group);
    group.drained(P1, point(2, 12), at(2));
    group.committed(number, &[(P0, Ok(()))], at(2));
    let (number, _) = commit(&mut group);
    group.committed(number, &[(P1, Ok(()))], at(3));
    assert_eq!(actions(&mut group), [GroupAction::Close(vec![P0, P1]), GroupAction::Leave]);
    group.stop(at(4));
    group.tick(at(60));
    group.revoking(&[P0], at(61));
    assert_eq!(actions(&mut group), [GroupAction::Release]);
    assert_eq!(group.next_timer(), None);
}

#[test]
fn a_second_stop_makes_the_drain_shorter_and_never_longer() {
    let mut group = of_two();
    group.stop(at(1));
    actions(&mut group);
    group.stop_within(s(1), at(2));
    assert_eq!(actions(&mut group), [GroupAction::Drain { partitions: vec![P0, P1], deadline: at(3) }]);
    group.stop(at(2));
    assert_eq!(actions(&mut group), []);
}

#[test]
fn a_stop_ends_within_its_deadline_from_any_phase() {
    // What happens before the stop, then the answers that come in time, if any.
    type Step = fn(&mut Group);
    let before: [Step; 6] = [
        |_| {},
        |group| group.assigned(&[P0, P1]),
        |group| *group = of_two(),
        |group| {
            *group = of_two();
            group.revoking(&[P0], at(0));
        },
        |group| {
            *group = of_two();
            group.revoking(&[P0], at(0));
            group.drained(P0, point(1, 11), at(0));
        },
        |group| {
            *group = of_two();
            group.tick(at(1));
            group.expect_collections(1);
            group.collected(vec![(P0, point(1, 11))], at(1));
            group.lost(&[P0, P1], at(1));
        },
    ];
    for (n, before) in before.iter().enumerate() {
        for answers in 0..3 {
            let mut group = group();
            before(&mut group);
            group.stop(at(1));
            if answers > 0 {
                group.drained(P0, point(1, 11), at(20));
                group.drained(P1, point(2, 11), at(20));
            }
            let mut left = 0;
            for now in 1..=31 {
                group.tick(at(now));
                for action in actions(&mut group) {
                    match action {
                        GroupAction::Leave => left += 1,
                        GroupAction::Commit { number, points } if answers == 2 => {
                            let results: Vec<_> = points.iter().map(|(id, _, _)| (*id, AGAIN)).collect();
                            group.committed(number, &results, at(now));
                        }
                        _ => {}
                    }
                }
            }
            assert_eq!((left, group.partitions()), (1, 0), "case {n}, answers {answers}");
        }
    }
}

#[test]
fn a_reset_is_committed_below_what_was_committed_before() {
    let mut group = of_two();
    collect(&mut group, &[(P0, point(1, 15))], at(1));
    let (number, _) = commit(&mut group);
    group.reset(P0, 3);
    assert!(!group.is_settled());
    let [GroupAction::Lose(lost), GroupAction::Assign { epoch, resume, .. }] = &actions(&mut group)[..] else {
        panic!()
    };
    assert_eq!((lost, *epoch, resume), (&vec![P0], Epoch(3), &from(3)));
    group.committed(number, &[(P0, Ok(()))], at(1));
    let (number, points) = commit(&mut group);
    assert_eq!(points, [(P0, 3, 4096)], "after the one that was under way, not across it");
    group.committed(number, &[(P0, Ok(()))], at(1));
    assert!(group.is_settled());
    group.revoking(&[P1], at(2));
    group.reset(P1, 3);
    assert_eq!(group.draining(), 1);
    assert!(group.is_settled(), "what drains is reset no more");
}

#[test]
fn who_asks_for_a_collection_does_not_disturb_one_that_is_under_way() {
    let mut group = of_two();
    assert!(group.collect() && !group.collect());
    assert_eq!(actions(&mut group), [GroupAction::Collect]);
    group.expect_collections(2);
    group.collected(vec![], at(0));
    assert!(!group.is_settled() && !group.collect());
    group.collected(vec![], at(0));
    assert!(group.is_settled() && group.collect());
}

/// As [`of_two`], whose shards commit by themselves.
fn of_committing_shards() -> Group {
    let settings = GroupSettings { committer: Committer::Shards, drain_timeout: s(20), ..GroupSettings::default() };
    let mut group = Group::new(settings, at(0));
    group.assigned(&[P0, P1]);
    group.opened(P0, Epoch(1), from(10));
    group.opened(P1, Epoch(2), from(10));
    actions(&mut group);
    group
}

#[test]
fn a_member_whose_shards_commit_never_commits() {
    let mut group = of_committing_shards();
    group.tick(at(100));
    group.reset(P0, 3);
    let assign = GroupAction::Assign { partition: P0, epoch: Epoch(3), resume: from(3) };
    assert_eq!(actions(&mut group), [GroupAction::Lose(vec![P0]), assign]);
    group.revoking(&[P0, P1], at(100));
    group.drained(P0, point(3, 11), at(101));
    group.drained(P1, point(2, 12), at(101));
    let drain = GroupAction::Drain { partitions: vec![P0, P1], deadline: at(120) };
    assert_eq!(actions(&mut group), [drain, GroupAction::Close(vec![P0, P1]), GroupAction::Release]);
}

#[test]
fn what_is_rolled_back_is_opened_anew_in_another_epoch() {
    let mut group = of_committing_shards();
    group.rolled_back(P0, Epoch(9));
    assert_eq!(actions(&mut group), [], "of another assignment");
    group.rolled_back(P0, Epoch(1));
    assert_eq!(actions(&mut group), [GroupAction::Open(vec![(P0, Epoch(3))])]);
    assert!(group.is_opening(P0, Epoch(3)) && group.is_current(P1, Epoch(2)));
    group.opened(P0, Epoch(3), from(8));
    assert_eq!(actions(&mut group), [GroupAction::Assign { partition: P0, epoch: Epoch(3), resume: from(8) }]);
    // One that drains is not: its shard says when nothing is left of it.
    group.revoking(&[P1], at(1));
    group.rolled_back(P1, Epoch(2));
    assert_eq!(actions(&mut group), [GroupAction::Drain { partitions: vec![P1], deadline: at(21) }]);
    group.drained(P1, point(2, 10), at(2));
    assert_eq!(actions(&mut group), [GroupAction::Close(vec![P1]), GroupAction::Release]);
}
