//! One record through the ledger: taken in, and finished sooner or later.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use waterwheel_core::ledger::Ledger;

use crate::Chance;

/// Records that are in work at once.
const WINDOW: usize = 1_000;

/// A ledger behind whose first record everything else goes on.
fn stuck() -> Ledger {
    let mut ledger = Ledger::new(0, []);
    ledger.admit(0);
    ledger
}

pub(crate) fn ladder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");

    let mut ledger = Ledger::new(0, []);
    group.bench_function("in order", |b| {
        b.iter(|| {
            let offset = ledger.next();
            black_box(ledger.admit(offset));
            black_box(ledger.finish(offset))
        })
    });

    for (name, mut ledger) in [("any order", Ledger::new(0, [])), ("any order behind a stuck record", stuck())] {
        let mut chance = Chance(1);
        let mut in_work: Vec<i64> = (0..WINDOW as i64).map(|n| ledger.next() + n).collect();
        for offset in &in_work {
            ledger.admit(*offset);
        }
        group.bench_function(name, |b| {
            b.iter(|| {
                let next = ledger.next();
                black_box(ledger.admit(next));
                let one = chance.below(WINDOW);
                let offset = std::mem::replace(&mut in_work[one], next);
                black_box(ledger.finish(offset))
            })
        });
    }

    let mut ledger = stuck();
    group.bench_function("in order behind a stuck record", |b| {
        b.iter(|| {
            let offset = ledger.next();
            black_box(ledger.admit(offset));
            black_box(ledger.finish(offset))
        })
    });

    let ledger = crate::commit_map::half_finished();
    group.bench_function(BenchmarkId::new("finished above, a random half of", crate::commit_map::OFFSETS), |b| {
        b.iter(|| black_box(ledger.finished_above().count()))
    });
}
