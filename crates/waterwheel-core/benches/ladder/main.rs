//! The ladder of the core: what each step costs, one record or one call a figure. `./run bench` runs it and prints a table.
#![expect(clippy::unwrap_used, reason = "a figure of a step that did not happen means nothing")]

mod budget;
mod commit_map;
mod engine;
mod lanes;
mod ledger;
mod records;

use std::time::Duration;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    engine::in_place(&mut criterion);
    engine::parked(&mut criterion);
    engine::growth(&mut criterion);
    ledger::ladder(&mut criterion);
    lanes::ladder(&mut criterion);
    budget::ladder(&mut criterion);
    commit_map::ladder(&mut criterion);
    criterion.final_summary();
}

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    /// A number below `n`.
    fn below(&mut self, n: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)) * n as u128) >> 64) as usize
    }
}
