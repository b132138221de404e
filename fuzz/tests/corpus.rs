//! Each target over its corpus and over bytes made from it: what `cargo fuzz` does for longer, on a stable compiler.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::fs;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use waterwheel_fuzz::{TARGETS, Target};

const CASES: u32 = 8_000;
const LONGEST: usize = 128 << 10;

fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files = fs::read_dir(&folder).expect("each target has a corpus");
    let corpus: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    corpus
}

/// A change of some bytes: what is put in, how many are taken out for it, and where.
fn damage() -> impl Strategy<Value = (Vec<u8>, usize, Index)> {
    let pieces = prop_oneof![
        3 => vec(any::<u8>(), 0..4),
        2 => vec(prop_oneof![Just(0), Just(b'\n'), Just(b'='), Just(b'"'), Just(b'['), Just(b'9'), Just(0xFF)], 0..40),
        1 => Just(b"99999999999999999999".to_vec()),
    ];
    (pieces, 0usize..6, any::<Index>())
}

fn damaged(of: &[u8], damages: Vec<(Vec<u8>, usize, Index)>) -> Vec<u8> {
    let mut bytes = of.to_vec();
    for (put, taken, at) in damages {
        let start = at.index(bytes.len() + 1);
        let end = bytes.len().min(start + taken);
        bytes.splice(start..end, put);
    }
    bytes
}

#[test]
fn no_bytes_make_a_reader_panic_or_hold_many_times_their_size() {
    for target in &TARGETS {
        let corpus = corpus(target);
        for seed in &corpus {
            target.run(seed);
        }
        let near = (any::<Index>(), vec(damage(), 0..6))
            .prop_map(|(seed, damages)| damaged(&corpus[seed.index(corpus.len())], damages));
        // Some long enough for what a reader holds for each byte to show.
        let inputs =
            (prop_oneof![1 => vec(any::<u8>(), 0..400), 4 => near], prop_oneof![9 => Just(1), 1 => 1..1_000_usize]);
        let inputs = inputs.prop_map(|(bytes, times)| bytes.repeat(times.min(LONGEST / bytes.len().max(1)).max(1)));
        let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
        let ran = runner.run(&inputs, |bytes| {
            target.run(&bytes);
            Ok(())
        });
        ran.unwrap_or_else(|failure| panic!("{}: {failure}", target.name));
    }
}
