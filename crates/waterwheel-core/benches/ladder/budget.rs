//! A credit taken and given back.

use std::hint::black_box;

use criterion::Criterion;
use waterwheel_core::budget::{Credits, Share, reserve};

pub(crate) fn ladder(criterion: &mut Criterion) {
    let mut credits = Credits::default();
    let mut shares: Vec<Share> = (0..16).map(|_| Share::default()).collect();
    credits.set_reserve(reserve(256, shares.len()));
    credits.grant(256);
    let mut n = 0;
    criterion.bench_function("budget/a credit taken and given back", |b| {
        b.iter(|| {
            n = (n + 1) % shares.len();
            let share = &mut shares[n];
            assert!(credits.may_start(black_box(share)));
            credits.start(share);
            credits.end(black_box(share));
        })
    });
}
