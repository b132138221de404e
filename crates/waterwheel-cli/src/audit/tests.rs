//! Each fault, planted by hand in a journal, is found; a clean run is not accused.

use proptest::prelude::*;

use super::*;

/// Partition 0, offsets 0 to 5, and partition 1, offsets 10 to 12.
fn produced() -> Records {
    Records::of((0..6).map(|offset| (0, offset)).chain((10..13).map(|offset| (1, offset))))
}

fn judge(journals: &[&str]) -> Verdict {
    judge_by(Order::Key, produced(), journals)
}

fn judge_by(order: Order, records: Records, journals: &[&str]) -> Verdict {
    let mut auditor = Auditor::new(records, order);
    for (number, journal) in journals.iter().enumerate() {
        auditor.read_journal(journal.as_bytes(), &format!("j{}", number + 1)).unwrap();
    }
    auditor.verdict()
}

/// Two members; partition 1 goes from the first to the second.
const ONE: &str = "\
# assigned 0 1 0 100
# assigned 1 2 10 100
S 0 0 a b
S 0 1 c
E 0 1 c
S 1 10 a b
E 0 0 a b
S 0 2 a b
E 1 10 a b
# commit 1 11 180
# revoked 1 2 200
# failed 0 2
E 0 2 a b
S 0 3 
S 0 5 
E 0 5 
E 0 3 
S 0 2 a b
E 0 2 a b
# a remark
S 0 4 c
# failed 0 4
E 0 4 c
# finished 0 4 dead-letter
# commit 0 6 300
# revoked 0 1 310
";
const TWO: &str = "\
# assigned 1 7 11 201
S 1 11 k
E 1 11 k
S 1 12 k
E 1 12 k
# commit 1 13 240
# revoked 1 7 250
";

#[test]
fn a_clean_run_holds() {
    let verdict = judge(&[ONE, TWO]);
    assert!(verdict.holds(), "{verdict:#?}");
    assert_eq!((verdict.produced, verdict.handled, verdict.dead_lettered), (9, 8, 1));
    assert_eq!((verdict.duplicates.count, verdict.failed_attempts, verdict.interrupted), (0, 2, 0));
    assert_eq!(judge(&[TWO, ONE]), verdict, "the order of the journals does not matter");
}

#[test]
fn a_lost_record_is_found() {
    let journal = TWO.replace("S 1 12 k\nE 1 12 k\n# commit 1 13", "# commit 1 12");
    let verdict = judge(&[ONE, &journal]);
    assert_eq!(verdict.lost.first, ["1@12"]);
    assert!(!verdict.holds());
}

#[test]
fn a_record_that_only_failed_is_lost() {
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &["S 0 0 a\n# failed 0 0\nE 0 0 a\n"]);
    assert_eq!((verdict.lost.count, verdict.handled), (1, 0));
}

#[test]
fn a_record_finished_by_two_members_is_a_duplicate() {
    let journal = format!("{TWO}# assigned 0 8 0 400\nS 0 1 c\nE 0 1 c\n# revoked 0 8 500\n");
    let verdict = judge(&[ONE, &journal]);
    assert_eq!(verdict.duplicates.first, ["0@1"]);
    assert!(verdict.holds(), "duplicates are counted, not condemned: {verdict:#?}");
}

#[test]
fn a_record_started_again_after_success_is_a_duplicate() {
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &["S 0 0 a\nE 0 0 a\nS 0 0 a\n"]);
    assert_eq!((verdict.duplicates.count, verdict.interrupted), (1, 1));
}

#[test]
fn work_cut_short_by_a_death_is_no_duplicate() {
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &["S 0 0 a\n", "S 0 0 a\nE 0 0 a\n"]);
    assert_eq!((verdict.duplicates.count, verdict.interrupted, verdict.lost.count), (0, 1, 0));
}

#[test]
fn two_records_of_a_key_at_once_are_found() {
    let journal = "S 0 0 a\nS 0 1 b\nS 0 2 a\nE 0 0 a\nE 0 1 b\nE 0 2 a\n";
    let records = || Records::of([(0, 0), (0, 1), (0, 2)]);
    let verdict = judge_by(Order::Key, records(), &[journal]);
    assert_eq!(verdict.overlaps.first, ["0@2 (j1:3)"]);
    assert!(!verdict.holds());
    assert_eq!(judge_by(Order::Partition, records(), &[journal]).overlaps.count, 2);
    assert!(judge_by(Order::None, records(), &[journal]).holds());
}

#[test]
fn a_record_running_twice_at_once_is_found_without_a_key() {
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &["S 0 0 \nS 0 0 \nE 0 0 \n"]);
    assert_eq!(verdict.overlaps.count, 1);
}

#[test]
fn equal_keys_of_different_partitions_may_run_at_once() {
    let verdict = judge_by(Order::Key, Records::of([(0, 0), (1, 0)]), &["S 0 0 a\nS 1 0 a\nE 0 0 a\nE 1 0 a\n"]);
    assert!(verdict.holds(), "{verdict:#?}");
}

#[test]
fn a_key_run_backwards_is_found() {
    let records = || Records::of([(0, 0), (0, 1)]);
    let backwards = "S 0 1 a\nE 0 1 a\nS 0 0 a\nE 0 0 a\n";
    assert_eq!(judge_by(Order::Key, records(), &[backwards]).reorders.first, ["0@0 (j1:3)"]);
    let keyless = backwards.replace(" a\n", "\n");
    assert!(judge_by(Order::Key, records(), &[&keyless]).holds());
}

#[test]
fn a_retry_overtaken_by_its_key_is_found_only_where_assignments_are_told() {
    let records = || Records::of([(0, 0), (0, 1)]);
    let overtaken = "S 0 0 a\n# failed 0 0\nE 0 0 a\nS 0 1 a\nE 0 1 a\nS 0 0 a\nE 0 0 a\n";
    assert!(judge_by(Order::Key, records(), &[overtaken]).holds());
    let told = format!("# assigned 0 1 0 1\n{overtaken}");
    assert_eq!(judge_by(Order::Key, records(), &[&told]).reorders.count, 1);
}

#[test]
fn a_new_assignment_may_start_over() {
    let journal = "# assigned 0 1 0 1\nS 0 1 a\nE 0 1 a\n# lost 0 1 2\n# assigned 0 2 0 3\nS 0 0 a\nE 0 0 a\n";
    assert!(judge_by(Order::Key, Records::of([(0, 0), (0, 1)]), &[journal]).holds());
}

#[test]
fn a_commit_past_an_unfinished_record_is_found() {
    let journal = "# assigned 0 1 0 1\nS 0 0 a\nS 0 1 b\nE 0 1 b\n# commit 0 2 5\nE 0 0 a\n# commit 0 2 6\n";
    let verdict = judge_by(Order::Key, Records::of([(0, 0), (0, 1)]), &[journal]);
    assert_eq!(verdict.commits_past_unfinished.first, ["0@0 (journal 1, line 5)"]);
    assert_eq!(verdict.lost.count, 0);
    assert!(!verdict.holds());
}

#[test]
fn a_commit_may_pass_what_another_member_finished() {
    let one = "# assigned 0 1 0 1\nS 0 0 a\nS 0 1 b\nE 0 1 b\n";
    let two = "# assigned 0 2 0 9\nS 0 0 a\nE 0 0 a\n# commit 0 2 10\n";
    for journals in [[one, two], [two, one]] {
        let verdict = judge_by(Order::Key, Records::of([(0, 0), (0, 1)]), &journals);
        assert!(verdict.holds(), "{verdict:#?}");
    }
}

#[test]
fn a_commit_does_not_vouch_for_what_lies_below_its_assignment() {
    let journal = "# assigned 0 1 1 1\nS 0 1 b\nE 0 1 b\n# commit 0 2 10\n";
    let verdict = judge_by(Order::Key, Records::of([(0, 0), (0, 1)]), &[journal]);
    assert_eq!((verdict.commits_past_unfinished.count, verdict.lost.count), (0, 1));
}

#[test]
fn a_commit_that_goes_back_is_found() {
    let journal = "# assigned 0 1 0 1\nS 0 0 a\nE 0 0 a\n# commit 0 1 2\n# commit 0 0 3\n";
    assert_eq!(judge_by(Order::Key, Records::of([(0, 0)]), &[journal]).commits_back.count, 1);
}

#[test]
fn starts_and_commits_in_a_partition_not_held_are_found() {
    let journal = "# assigned 0 1 0 1\n# lost 0 1 2\nS 0 0 a\nE 0 0 a\n# commit 0 1 3\n";
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &[journal]);
    assert_eq!((verdict.unowned_starts.count, verdict.unowned_commits.count), (1, 1));
}

#[test]
fn a_partition_held_by_two_members_is_found() {
    let two = TWO.replace("11 201", "11 199");
    assert_eq!(judge(&[ONE, &two]).double_ownership.first, ["1 (journals 1 and 2, 1 ns)"]);
    let lost = ONE.replace("# revoked 1 2 200", "# lost 1 2 900");
    assert!(judge(&[&lost, &two]).holds(), "a member that was cut off learns it late");
}

#[test]
fn records_that_nobody_produced_are_found() {
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &["S 0 0 a\nE 0 0 a\nS 0 1 a\nE 0 1 a\n"]);
    assert_eq!(verdict.unproduced.first, ["0@1 (j1:3)"]);
}

#[test]
fn a_handler_cut_off_may_start_again() {
    let journal = "S 0 0 a\n# cut 0 0\nS 0 0 a\nE 0 0 a\n";
    let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &[journal]);
    assert!(verdict.holds(), "{verdict:#?}");
    assert_eq!((verdict.interrupted, verdict.duplicates.count), (1, 0));
}

#[test]
fn a_torn_last_line_is_counted_and_passed_over() {
    for torn in ["", "S", "S 1", "E 0 0", "E 0 0 a", "# comm"] {
        let journal = format!("S 0 0 a\n{torn}");
        let verdict = judge_by(Order::Key, Records::of([(0, 0)]), &[&journal, "S 0 0 a\nE 0 0 a\n"]);
        assert!(verdict.holds(), "{torn:?}: {verdict:#?}");
        assert_eq!((verdict.torn_lines, verdict.interrupted), (u64::from(!torn.is_empty()), 1), "{torn:?}");
    }
    let list = Records::read(&b"0 0 a\n0 1"[..], "list").unwrap();
    assert_eq!(judge_by(Order::Key, list, &["S 0 0 a\nE 0 0 a\n"]).torn_lines, 1);
}

#[test]
fn a_broken_line_is_an_error_that_names_it_and_not_its_key() {
    let broken = [
        ("X 0 0 secret", "not a line of a journal"),
        ("", "not a line of a journal"),
        ("S 0", "a number is missing"),
        ("S zero 0 secret", "a word is not a number in its range"),
        ("S 99999999999 0 secret", "a word is not a number in its range"),
        ("E  0 0 secret", "a word is not a number in its range"),
        ("# failed 0 0 more", "more words than the line should have"),
        ("# finished 0 0 lost", "a finished record is dead-letter or skip"),
        ("# assigned 0 1 2", "a number is missing"),
        ("# revoked 0 1 2", "ends an assignment that the member does not hold"),
        ("# assigned 5 2 0 7", "assigns a partition that the member holds already"),
    ];
    for (line, fault) in broken {
        let journal = format!("# assigned 5 1 0 3\n{line}\nS 0 0 a\n");
        let error = Auditor::new(produced(), Order::Key).read_journal(journal.as_bytes(), "j").unwrap_err();
        assert_eq!(error.to_string(), format!("j:2: {fault}"), "{line:?}");
    }
}

#[test]
fn what_is_written_is_read_again() {
    let lines = [
        Line::Start { partition: 3, offset: 7, key: b"two words " },
        Line::End { partition: 3, offset: i64::MAX, key: b"\xff\x00" },
        Line::Start { partition: 0, offset: 0, key: b"" },
        Line::Failed { partition: 1, offset: 2 },
        Line::Cut { partition: 1, offset: 2 },
        Line::Finished { partition: 1, offset: 2, how: Finish::DeadLetter },
        Line::Finished { partition: 1, offset: 2, how: Finish::Skip },
        Line::Assigned { partition: 1, epoch: 2, start: 3, ns: u64::MAX },
        Line::Revoked { partition: 1, epoch: 2, ns: 3 },
        Line::Lost { partition: 1, epoch: 2, ns: 3 },
        Line::Commit { partition: 1, offset: 2, ns: 3 },
        Line::Remark,
    ];
    for line in lines {
        let mut bytes = Vec::new();
        line.encode(&mut bytes);
        let (last, text) = bytes.split_last().unwrap();
        assert_eq!((*last, Line::parse(text)), (b'\n', Ok(line)));
    }
    let mut bytes = Vec::new();
    Line::Start { partition: 0, offset: 1, key: b"a\nb" }.encode(&mut bytes);
    assert_eq!(bytes, b"S 0 1 a\\nb\n");
}

#[test]
fn acknowledgements_may_come_in_any_order_and_twice() {
    let list = Records::read(&b"0 4 k\n0 2\n1 9 a b\n0 4 k\n"[..], "list").unwrap();
    let verdict = judge_by(Order::Key, list, &["S 0 2 \nE 0 2 \nS 1 9 a b\nE 1 9 a b\n"]);
    assert_eq!((verdict.produced, verdict.lost.first), (3, vec!["0@4".to_owned()]));
}

proptest! {
    /// Any bytes are a journal, or an error that names a line: never a panic.
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..300),
            "((S|E|# (failed|cut|finished|assigned|revoked|lost|commit)|#)( -?[0-9]{1,20}){0,5}[ a-z]{0,3}\n){0,8}"
                .prop_map(String::into_bytes),
        ],
    ) {
        let mut auditor = Auditor::new(produced(), Order::Key);
        match auditor.read_journal(&bytes[..], "j") {
            Ok(()) => drop(auditor.verdict()),
            Err(AuditError::Line { line, .. }) => prop_assert!(line as usize <= bytes.split(|b| *b == b'\n').count()),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_line_is_read_as_it_was_written(
        partition in any::<i32>(), offset in any::<i64>(), epoch in any::<u64>(), ns in any::<u64>(),
        key in prop::collection::vec(any::<u8>(), 0..20), kind in 0..9,
    ) {
        // A line feed in a key is written as two characters, which another key may be, too.
        let key: Vec<u8> = key.into_iter().filter(|byte| *byte != b'\n').collect();
        let line = match kind {
            0 => Line::Start { partition, offset, key: &key },
            1 => Line::End { partition, offset, key: &key },
            2 => Line::Failed { partition, offset },
            3 => Line::Cut { partition, offset },
            4 => Line::Finished { partition, offset, how: Finish::DeadLetter },
            5 => Line::Assigned { partition, epoch, start: offset, ns },
            6 => Line::Revoked { partition, epoch, ns },
            7 => Line::Lost { partition, epoch, ns },
            _ => Line::Commit { partition, offset, ns },
        };
        let mut bytes = Vec::new();
        line.encode(&mut bytes);
        prop_assert_eq!(bytes.pop(), Some(b'\n'));
        prop_assert_eq!(Line::parse(&bytes), Ok(line));
    }
}
