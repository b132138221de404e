#![expect(clippy::single_range_in_vec_init, reason = "a list of one range is meant")]

use std::collections::BTreeSet;
use std::ops::Range;

use proptest::prelude::*;

use super::{Admitted, Ledger};

fn above(ledger: &Ledger) -> Vec<Range<i64>> {
    ledger.finished_above().collect()
}

/// One offset a line, by sets alone.
#[derive(Default)]
struct Model {
    from: i64,
    next: i64,
    unfinished: BTreeSet<i64>,
    marked: BTreeSet<i64>,
}

/// No step of the tests goes beyond it.
const END: i64 = 40_000;

impl Model {
    fn is_finished(&self, offset: i64) -> bool {
        let fetched = offset < self.next && !self.unfinished.contains(&offset);
        offset < self.from || fetched || self.marked.contains(&offset)
    }

    fn frontier(&self) -> i64 {
        let start = self.unfinished.first().copied().unwrap_or(self.next);
        (start..).find(|&offset| !self.is_finished(offset)).unwrap_or(i64::MAX)
    }

    fn above(&self) -> Vec<Range<i64>> {
        let mut ranges: Vec<Range<i64>> = Vec::new();
        for offset in (self.frontier()..END).filter(|&offset| self.is_finished(offset)) {
            match ranges.last_mut() {
                Some(last) if last.end == offset => last.end += 1,
                _ => ranges.push(offset..offset + 1),
            }
        }
        ranges
    }

    fn admit(&mut self, offset: i64) -> Admitted {
        if offset < self.next {
            return Admitted::Old;
        }
        self.next = offset + 1;
        if self.marked.contains(&offset) {
            return Admitted::AlreadyFinished;
        }
        self.unfinished.insert(offset);
        Admitted::New
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Admits records, each so many offsets above the last.
    Admit(Vec<i64>),
    /// Skips so many offsets.
    Skip(i64),
    /// Finishes the unfinished records at these places of their list.
    Finish(Vec<usize>),
    /// Finishes all but the one at this place.
    FinishAllBut(usize),
    /// Finishes what may not be there.
    FinishAnything(i64),
    /// Admits what may be old.
    AdmitAnything(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let run = (1usize..1500, 0i64..2).prop_map(|(n, gap)| Step::Admit(vec![gap; n]));
    prop_oneof![
        3 => prop::collection::vec(prop_oneof![9 => Just(0i64), 1 => 0i64..40], 1..200).prop_map(Step::Admit),
        2 => run,
        1 => (0i64..4000).prop_map(Step::Skip),
        4 => prop::collection::vec(any::<prop::sample::Index>(), 1..300)
            .prop_map(|places| Step::Finish(places.iter().map(|place| place.index(1 << 20)).collect())),
        2 => (0usize..4).prop_map(Step::FinishAllBut),
        1 => (-5i64..END).prop_map(Step::FinishAnything),
        1 => (-5i64..200).prop_map(Step::AdmitAnything),
    ]
}

fn marked() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((0i64..6000, prop_oneof![1i64..5, 1i64..3000]), 0..12)
}

/// Runs the steps on both, and calls `check` after each.
fn against_the_model(
    from: i64,
    marked: &[(i64, i64)],
    steps: &[Step],
    mut check: impl FnMut(&Ledger, &Model) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let ranges = marked.iter().map(|&(start, len)| start..start + len);
    let mut ledger = Ledger::new(from, ranges.clone());
    let marked = ranges.flatten().filter(|&offset| offset >= from).collect();
    let mut model = Model { from, next: from, unfinished: BTreeSet::new(), marked };
    check(&ledger, &model)?;
    let finish = |ledger: &mut Ledger, model: &mut Model, offset: i64| {
        prop_assert_eq!(ledger.finish(offset), model.unfinished.remove(&offset), "finish {}", offset);
        Ok(())
    };
    for step in steps {
        if model.next > END - 5000 {
            break;
        }
        match step {
            Step::Admit(gaps) => {
                for gap in gaps {
                    let offset = model.next + gap;
                    prop_assert_eq!(ledger.admit(offset), model.admit(offset), "admit {}", offset);
                }
            }
            Step::Skip(by) => {
                model.next += by;
                ledger.skip_to(model.next);
            }
            Step::Finish(places) => {
                let mut open: Vec<_> = model.unfinished.iter().copied().collect();
                for place in places {
                    if !open.is_empty() {
                        let offset = open.swap_remove(place % open.len());
                        finish(&mut ledger, &mut model, offset)?;
                    }
                }
            }
            Step::FinishAllBut(place) => {
                let open: Vec<_> = model.unfinished.iter().copied().collect();
                for (_, offset) in open.into_iter().enumerate().filter(|(n, _)| n != place) {
                    finish(&mut ledger, &mut model, offset)?;
                }
            }
            Step::FinishAnything(offset) => finish(&mut ledger, &mut model, *offset)?,
            Step::AdmitAnything(ahead) => {
                let offset = from + ahead;
                prop_assert_eq!(ledger.admit(offset), model.admit(offset), "admit {}", offset);
            }
        }
        check(&ledger, &model)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn frontier_never_passes_an_unfinished_record(
        from in 0i64..3000, marked in marked(), steps in prop::collection::vec(step(), 1..20),
    ) {
        against_the_model(from, &marked, &steps, |ledger, model| {
            let lowest = model.unfinished.first().copied().unwrap_or(i64::MAX);
            prop_assert!(ledger.frontier() <= lowest, "frontier {} passed {}", ledger.frontier(), lowest);
            prop_assert_eq!(ledger.frontier(), model.frontier());
            Ok(())
        })?;
    }

    #[test]
    fn frontier_never_goes_back(
        from in 0i64..3000, marked in marked(), steps in prop::collection::vec(step(), 1..20),
    ) {
        let mut before = from;
        against_the_model(from, &marked, &steps, |ledger, _| {
            prop_assert!(ledger.frontier() >= before, "{} after {}", ledger.frontier(), before);
            before = ledger.frontier();
            Ok(())
        })?;
    }

    #[test]
    fn everything_told_agrees_with_a_set_of_offsets(
        from in 0i64..3000, marked in marked(), steps in prop::collection::vec(step(), 1..20),
    ) {
        against_the_model(from, &marked, &steps, |ledger, model| {
            let expected = model.above();
            prop_assert_eq!(ledger.next(), model.next);
            prop_assert_eq!(ledger.unfinished_count(), model.unfinished.len() as u64);
            prop_assert_eq!(ledger.finished_above_count(), expected.iter().map(|r| (r.end - r.start) as u64).sum::<u64>());
            for offset in [model.frontier() - 1, model.frontier(), model.next, model.next + 700] {
                prop_assert_eq!(ledger.is_finished(offset), model.is_finished(offset), "{}", offset);
            }
            prop_assert_eq!(above(ledger), expected);
            Ok(())
        })?;
    }
}

#[test]
fn in_order_work_holds_no_memory() {
    let mut ledger = Ledger::new(7, []);
    for offset in 7..100_000 {
        assert_eq!(ledger.admit(offset), Admitted::New);
        assert!(ledger.finish(offset));
        assert_eq!(ledger.frontier(), offset + 1);
    }
    assert_eq!(ledger.memory_bytes(), 0);
}

#[test]
fn each_step_of_a_small_partition_is_as_told() {
    enum Do {
        Admit(i64, Admitted),
        Finish(i64, bool),
        Skip(i64),
    }
    use Admitted::{AlreadyFinished, New, Old};
    use Do::{Admit, Finish, Skip};
    let mut ledger = Ledger::new(10, [3..9, 14..16, 17..18, 12..12, Range { start: 30, end: 20 }]);
    let steps: [(Do, i64, i64, &[Range<i64>]); 17] = [
        (Finish(10, false), 10, 10, &[14..16, 17..18]), // never admitted
        (Admit(9, Old), 10, 10, &[14..16, 17..18]),
        (Admit(10, New), 10, 11, &[14..16, 17..18]),
        (Admit(10, Old), 10, 11, &[14..16, 17..18]),
        (Admit(13, New), 10, 14, &[11..13, 14..16, 17..18]), // 11 and 12 are a gap
        (Finish(12, false), 10, 14, &[11..13, 14..16, 17..18]),
        (Finish(13, true), 10, 14, &[11..16, 17..18]),
        (Finish(13, false), 10, 14, &[11..16, 17..18]),
        (Admit(14, AlreadyFinished), 10, 15, &[11..16, 17..18]),
        (Finish(14, false), 10, 15, &[11..16, 17..18]),
        (Finish(10, true), 16, 15, &[17..18]), // past what was fetched: the map had 15
        (Admit(15, AlreadyFinished), 16, 16, &[17..18]),
        (Skip(12), 16, 16, &[17..18]),
        (Skip(20), 20, 20, &[]),
        (Admit(25, New), 25, 26, &[]),
        (Skip(i64::MAX), 25, i64::MAX, &[26..i64::MAX]),
        (Admit(i64::MAX, Old), 25, i64::MAX, &[26..i64::MAX]),
    ];
    for (n, (step, frontier, next, finished)) in steps.into_iter().enumerate() {
        match step {
            Admit(offset, admitted) => assert_eq!(ledger.admit(offset), admitted, "step {n}"),
            Finish(offset, done) => assert_eq!(ledger.finish(offset), done, "step {n}"),
            Skip(to) => ledger.skip_to(to),
        }
        assert_eq!(
            (ledger.frontier(), ledger.next(), above(&ledger).as_slice()),
            (frontier, next, finished),
            "step {n}"
        );
    }
}

#[test]
fn what_the_commit_map_marks_at_the_base_moves_the_frontier() {
    let mut ledger = Ledger::new(5, [2..8]);
    assert_eq!((ledger.frontier(), ledger.next()), (8, 5));
    assert_eq!(ledger.admit(6), Admitted::AlreadyFinished);
    assert_eq!(ledger.admit(8), Admitted::New);
    assert_eq!(ledger.frontier(), 8);
}

#[test]
fn a_gap_of_a_billion_offsets_above_a_stuck_head_costs_no_more_than_two_pages() {
    let mut ledger = Ledger::new(0, []);
    ledger.admit(0);
    ledger.admit(1_000_000_123);
    assert!(ledger.memory_bytes() < 1024, "{} bytes", ledger.memory_bytes());
    assert_eq!(ledger.frontier(), 0);
    assert!(ledger.finish(1_000_000_123));
    assert_eq!(above(&ledger), [1..1_000_000_124]);
    assert_eq!(ledger.finished_above_count(), 1_000_000_123);
    assert!(ledger.finish(0));
    assert_eq!(ledger.frontier(), 1_000_000_124);
}

#[test]
fn three_million_finished_above_a_stuck_head_cost_a_kilobyte() {
    let mut ledger = Ledger::new(1, []);
    for offset in 1..=3_000_000 {
        ledger.admit(offset);
        if offset > 1 {
            ledger.finish(offset);
        }
    }
    assert!(ledger.memory_bytes() < 1024, "{} bytes", ledger.memory_bytes());
    assert_eq!(above(&ledger), [2..3_000_001]);
}

#[test]
fn every_other_record_finished_above_a_stuck_head_costs_under_two_bits_an_offset() {
    let mut ledger = Ledger::new(0, []);
    for offset in 0..1_000_000 {
        ledger.admit(offset);
        if offset % 2 == 1 {
            ledger.finish(offset);
        }
    }
    assert!(ledger.memory_bytes() < 1_000_000 / 4, "{} bytes", ledger.memory_bytes());
    assert_eq!(ledger.finished_above().count(), 500_000);
}

#[test]
fn the_first_and_last_offsets_of_all_do_not_overflow() {
    let mut ledger = Ledger::new(i64::MIN, [i64::MAX - 3000..i64::MAX, i64::MIN + 1..i64::MIN + 3]);
    assert_eq!(ledger.admit(i64::MIN), Admitted::New);
    assert_eq!(ledger.admit(i64::MAX - 1), Admitted::AlreadyFinished);
    assert_eq!(above(&ledger), [i64::MIN + 1..i64::MAX]);
    assert!(ledger.finish(i64::MIN));
    assert_eq!(ledger.frontier(), i64::MAX);
}

/// `cargo test --release -p waterwheel-core ledger -- --ignored --nocapture` prints what a record costs.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
fn cost_of_a_record() {
    let n = 20_000_000i64;
    let mut ledger = Ledger::new(0, []);
    let start = std::time::Instant::now();
    for offset in 0..n {
        ledger.admit(std::hint::black_box(offset));
        ledger.finish(std::hint::black_box(offset));
    }
    println!("in order: {:.2} ns a record", start.elapsed().as_nanos() as f64 / n as f64);
    for behind in [1, 100, 5000] {
        let mut ledger = Ledger::new(0, []);
        let start = std::time::Instant::now();
        for offset in 0..n {
            ledger.admit(std::hint::black_box(offset));
            // In blocks of `behind + 1`, from the last to the first.
            let (block, place) = (offset / (behind + 1), offset % (behind + 1));
            if place == behind {
                for back in 0..=behind {
                    ledger.finish(block * (behind + 1) + behind - back);
                }
            }
        }
        println!(
            "finished in blocks of {}: {:.2} ns a record",
            behind + 1,
            start.elapsed().as_nanos() as f64 / n as f64
        );
    }
    let mut ledger = Ledger::new(0, []);
    ledger.admit(0);
    let mut random = 88172645463325252u64;
    let start = std::time::Instant::now();
    let mut open = Vec::with_capacity(20_000);
    for offset in 1..n {
        ledger.admit(offset);
        open.push(offset);
        if open.len() == 20_000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let place = (random >> 33) as usize % open.len();
            ledger.finish(open.swap_remove(place));
        }
    }
    let ns = start.elapsed().as_nanos() as f64 / n as f64;
    println!("head stuck, random of 20,000: {ns:.2} ns a record, {} bytes", ledger.memory_bytes());
}
