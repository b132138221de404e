//! The whole core in a simulated world: logs with transactions, compaction, retention and cut ends, a group's coordinator
//! in three protocols, workers whose clocks differ, that die, freeze and come back, handlers that fail, hang and take too
//! long, a dead-letter topic that fails. What must hold is in `properties`, what must have happened in `counters`.
//!
//! Everything that happens is decided by a seed. A failure is made small and printed with its seed; `SIM_SEED=n` (and
//! `SIM_STEPS=m`) runs that one alone, `SIM_SEEDS=n SIM_FROM=s` that many from there on. `./run simulate` does the same in
//! a release build.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a test that fails")]

mod counters;
mod plan;
mod properties;
mod rng;
mod run;
mod shrink;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::counters::SOMETIMES;
use crate::plan::plan;
use crate::run::{Care, run};
use crate::shrink::shrink;
use crate::world::Diary;
use crate::world::setup::Bounds;

const SEEDS: u64 = 3_000;
const STEPS: usize = 1_000;

/// What all seeds together came to.
struct Total {
    seen: [u64; SOMETIMES.len()],
    /// The lowest seed that failed in each way, how many did, and why.
    failed: BTreeMap<String, (u64, u64, String)>,
}

/// Runs seeds on all processors.
fn run_all(from: u64, seeds: u64, steps: usize) -> Total {
    let go_on = number("SIM_GO_ON").is_some();
    let next = AtomicU64::new(from);
    let total = Mutex::new(Total { seen: [0; SOMETIMES.len()], failed: BTreeMap::new() });
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let ended = run(seed, Bounds::NONE, &plan(seed, steps), Diary::Closed, Care::Usual);
                    let mut total = total.lock().unwrap();
                    total.seen.iter_mut().zip(ended.seen).for_each(|(all, n)| *all += n);
                    if let Some((_, why)) = ended.failure {
                        if !go_on {
                            // No more seeds, but those under way may be lower.
                            next.store(from + seeds, Ordering::Relaxed);
                        }
                        let property = why.split_once(':').map_or(&*why, |(property, _)| property).to_owned();
                        let (lowest, n, said) = total.failed.entry(property).or_insert((seed, 0, why.clone()));
                        *n += 1;
                        if seed < *lowest {
                            (*lowest, *said) = (seed, why);
                        }
                    }
                }
            });
        }
    });
    total.into_inner().unwrap()
}

/// Tells of a failure, as small as it can be made.
fn report(seed: u64, steps: usize, why: &str) -> ! {
    eprintln!("seed {seed} fails: {why}\nmaking it small ...");
    let shrunk = shrink(seed, &plan(seed, steps), why);
    // The end, and the beginning of the rest: what does not come to rest goes round in circles.
    let story = &shrunk.ended.story;
    let rest = story.iter().position(|line| line.ends_with("-- to rest")).unwrap_or(story.len());
    eprintln!("{}", story[rest.saturating_sub(300)..story.len().min(rest + 200)].join("\n"));
    eprintln!("\n{} steps of {steps}, {:?}:", shrunk.steps.len(), shrunk.bounds);
    for (at, step) in &shrunk.steps {
        eprintln!("  {at:>5} {:?}", step.operation);
    }
    let why = shrunk.ended.failure.map_or_else(|| why.to_owned(), |(_, why)| why);
    panic!("{why}\n  once more: SIM_SEED={seed} SIM_STEPS={steps} cargo test -p waterwheel-core --test simulation")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn the_promises_hold_whatever_happens() {
    let steps = number("SIM_STEPS").map_or(STEPS, |n| n as usize);
    let (from, seeds) = match number("SIM_SEED") {
        Some(seed) => (seed, 1),
        None => (number("SIM_FROM").unwrap_or(0), number("SIM_SEEDS").unwrap_or(SEEDS)),
    };
    let total = run_all(from, seeds, steps);
    for (property, (seed, n, why)) in &total.failed {
        eprintln!("{n} seeds break {property}, first {seed}: {why}");
    }
    if let Some((seed, _, why)) = total.failed.into_values().min() {
        report(seed, steps, &why);
    }
    for (what, n) in SOMETIMES.iter().zip(total.seen) {
        println!("{n:>12} {what}");
    }
    let never: Vec<&&str> = SOMETIMES.iter().zip(total.seen).filter(|(_, n)| *n == 0).map(|(what, _)| what).collect();
    assert!(never.is_empty() || seeds < SEEDS || steps < STEPS, "never happened: {never:?}");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in [1, 77, 4_242] {
        let [a, b] = [0, 1].map(|_| run(seed, Bounds::NONE, &plan(seed, STEPS), Diary::Hash, Care::Usual));
        assert_eq!(a.hash, b.hash, "seed {seed}");
        assert!(a.failure.is_none(), "seed {seed} fails: {:?}", a.failure);
    }
}
