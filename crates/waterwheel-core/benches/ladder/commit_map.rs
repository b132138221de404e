//! The commit map at its largest: a random half of a window above one stuck record.

use std::hint::black_box;
use std::num::NonZeroU128;

use criterion::{BenchmarkId, Criterion};
use waterwheel_core::commit_map::{self, Limit, MapHead};
use waterwheel_core::ledger::Ledger;

use crate::Chance;

/// Offsets of the window.
pub(crate) const OFFSETS: usize = 60_000;

/// The ledger of a partition whose first record is stuck, and of whose others any half is finished.
pub(crate) fn half_finished() -> Ledger {
    let mut chance = Chance(1);
    let mut ledger = Ledger::new(0, []);
    for offset in 0..OFFSETS as i64 {
        ledger.admit(offset);
        if offset > 0 && chance.below(2) == 0 {
            ledger.finish(offset);
        }
    }
    ledger
}

pub(crate) fn ladder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit map");
    let head = MapHead { topic_id: NonZeroU128::new(u128::MAX / 3), base: 0, leader_epoch: Some(7) };
    let finished: Vec<_> = half_finished().finished_above().collect();
    let encode = || commit_map::encode(black_box(&head), finished.iter().cloned(), &[], &[], Limit::KAFKA);
    let map = encode();
    assert!(!map.cut && map.units <= 4_096, "{} units", map.units);
    println!("commit map: a random half of {OFFSETS} offsets takes {} UTF-16 units", map.units);

    group.bench_function(BenchmarkId::new("encode, a random half of", OFFSETS), |b| b.iter(encode));
    group.bench_function(BenchmarkId::new("decode, a random half of", OFFSETS), |b| {
        b.iter(|| {
            let read = commit_map::decode(black_box(&map.text), head.topic_id, 0).unwrap();
            black_box(read.finished().count())
        })
    });
}
