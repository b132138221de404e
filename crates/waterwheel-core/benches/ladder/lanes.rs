//! What key order costs: the hash of a key, and a lane that is taken, waited for and left.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use waterwheel_core::lanes::{LaneKey, Lanes, Order, Waiting};

/// Keys that have a record in work.
const BUSY: usize = 20_000;

pub(crate) fn ladder(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lanes");
    for length in [8, 36, 200] {
        let key = vec![b'k'; length];
        group.bench_function(BenchmarkId::new("hash of a key, bytes", length), |b| {
            b.iter(|| Order::Key.lane(Some(black_box(&key))))
        });
    }

    let keys: Vec<LaneKey> =
        (0..2 * BUSY).map(|n| Order::Key.lane(Some(format!("key-{n:07}").as_bytes())).unwrap()).collect();
    let mut lanes = Lanes::default();
    keys[..BUSY].iter().for_each(|key| lanes.occupy(*key));
    let mut next = 0;
    group.bench_function(BenchmarkId::new("a key is free, beside", BUSY), |b| {
        b.iter(|| {
            next = (next + 1) % BUSY;
            black_box(lanes.is_free(keys[BUSY + next], 1))
        })
    });
    group.bench_function(BenchmarkId::new("taken and left, beside", BUSY), |b| {
        b.iter(|| {
            next = (next + 1) % BUSY;
            lanes.vacate(keys[next]);
            lanes.occupy(black_box(keys[next]));
        })
    });
    group.bench_function(BenchmarkId::new("waited for and taken, beside", BUSY), |b| {
        b.iter(|| {
            next = (next + 1) % BUSY;
            lanes.queue(keys[next], 0, Waiting { batch: 0, index: 0 }, usize::MAX);
            lanes.vacate(keys[next]);
            black_box(lanes.take_ready())
        })
    });
}
