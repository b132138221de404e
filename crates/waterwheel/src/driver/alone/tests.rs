//! What a record takes of memory: allocations on its way through a handler that ends at once, and bytes while it is in work.

use std::time::Duration;

use allocation_counter::measure;
use tokio::runtime::{Builder, Runtime};
use waterwheel_core::engine::Settings;
use waterwheel_core::lanes::Order;
use waterwheel_core::retry::Retry;

use super::{LoneShard, Made};
use crate::body::Raw;
use crate::driver::spawn;
use crate::failure::Failure;
use crate::handler::{Handler, Message};

/// Records of a batch.
const BATCH: usize = 1_000;
/// Records in work.
const MANY: usize = 20_000;
/// Bytes of a key and of a value.
const KEY: usize = 11;
const VALUE: usize = 100;

/// The most bytes that a record in work may take beside its payload, at any stage.
const LIMIT: f64 = 100.0;

async fn at_once(_: Message<Raw>) -> Result<(), Failure> {
    Ok(())
}

async fn sleeping(message: Message<Raw>) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    drop(message);
    Ok(())
}

async fn failing(_: Message<Raw>) -> Result<(), Failure> {
    Err(Failure::retry("failed"))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn settings(order: Order, concurrency: usize) -> Settings {
    let retry = Retry::fixed(Duration::from_secs(3_600));
    Settings { order, concurrency, waiting: 10 * MANY, bytes: 1 << 30, retry, ..Settings::default() }
}

/// `records` records, which have `of` keys in turn.
fn keys(records: usize, of: usize) -> Vec<Vec<u8>> {
    (0..records).map(|n| format!("key-{:07}", n % of).into_bytes()).collect()
}

fn alone<H: Handler<Raw>>(settings: Settings, handler: H) -> (Runtime, LoneShard<H>, impl FnMut(&[Vec<u8>]) -> Made) {
    let runtime = runtime();
    let (shard, mut source) = runtime.block_on(async { LoneShard::new(settings, 1, handler) });
    let make = move |keys: &[Vec<u8>]| {
        let mut made = Made::default();
        keys.chunks(BATCH).for_each(|keys| source.make(&mut made, 0, keys, &[b'v'; VALUE], &[]));
        made
    };
    (runtime, shard, make)
}

/// Bytes allocated and kept for each of `records` records, which have `of` keys, when the shard has taken up all it can.
/// Their batches are not counted.
fn kept<H: Handler<Raw>>(settings: Settings, records: usize, of: usize, handler: H) -> f64 {
    let (runtime, mut shard, mut make) = alone(settings, handler);
    let made = make(&keys(records, of));
    // Batches that are given back are no gain.
    let batches = made.0.clone();
    let bytes = measure(|| runtime.block_on(shard.take_up(made))).bytes_current;
    drop(batches);
    bytes as f64 / records as f64
}

#[track_caller]
fn check(what: &str, bytes: f64, most: f64) {
    eprintln!("{what}: {bytes:.1} B");
    assert!(bytes <= most, "{what}: {bytes:.1} B a record, more than {most}");
}

#[test]
fn a_record_that_is_done_where_it_starts_allocates_nothing() {
    for order in [Order::Key, Order::Partition, Order::None] {
        let (runtime, mut shard, mut make) = alone(settings(order, 256), at_once);
        let keys = keys(100 * BATCH, 1_000);
        // What grows to its size grows with these.
        runtime.block_on(shard.finish(make(&keys)));
        let made = make(&keys);
        let counted = measure(|| runtime.block_on(shard.finish(made)));
        assert_eq!((counted.count_total, counted.bytes_total), (0, 0), "{order:?}, {} records", keys.len());
    }
}

#[test]
fn a_record_that_is_not_taken_up_takes_its_place_in_the_batch() {
    let (_runtime, _shard, mut make) = alone(settings(Order::Key, 1), at_once);
    let keys = keys(MANY, MANY);
    let mut made = None;
    let bytes = measure(|| made = Some(make(&keys))).bytes_current;
    check("in its batch", bytes as f64 / MANY as f64 - (KEY + VALUE) as f64, 40.0);
}

#[test]
fn a_record_that_waits_takes_little() {
    let tight = |settings| Settings { waiting: 10, ..settings };
    let keyed = settings(Order::Key, MANY);
    check("behind others of one key", kept(keyed.clone(), MANY, 1, sleeping), 25.0);
    check("as an offset, behind others of one key", kept(tight(keyed.clone()), MANY, 1, sleeping), 25.0);
    // Half of the records run, each with another one of its key behind it. What waits is what two are more than one.
    let running = kept(keyed.clone(), MANY / 2, MANY / 2, sleeping);
    let two = 2.0 * kept(keyed.clone(), MANY, MANY / 2, sleeping);
    check("behind one of its key", two - running, LIMIT);
    let two = 2.0 * kept(tight(keyed), MANY, MANY / 2, sleeping);
    check("as an offset, behind one of its key", two - running, LIMIT);
}

#[test]
fn a_record_that_runs_as_a_task_takes_a_hundred_bytes_of_ours() {
    fn future_of<H: Handler<Raw>>(_: H) -> f64 {
        size_of::<H::Future>() as f64
    }
    let future = future_of(sleeping);
    let runtime = runtime();
    let tasks = measure(|| {
        runtime.block_on(async { (0..MANY).for_each(|_| drop(spawn(Box::pin(std::future::pending::<()>())))) })
    });
    let task = tasks.bytes_current as f64 / MANY as f64;
    eprintln!(
        "tokio's task: {task:.1} B, the handler's future: {future} B, its message: {} B",
        size_of::<Message<Raw>>()
    );
    for order in [Order::Key, Order::None] {
        let all = kept(settings(order, MANY), MANY, MANY, sleeping);
        eprintln!("{order:?}: {all:.1} B in all");
        check(&format!("as a task, order {order:?}"), all - task - future, LIMIT);
    }
}

#[test]
fn a_record_that_waits_for_a_retry_is_copied_out_of_its_batch() {
    // No more than 1,024 of them a partition, unless more may wait.
    let payload = (KEY + VALUE) as f64;
    check("until its retry", kept(settings(Order::Key, MANY), MANY, MANY, failing) - payload, 400.0);
}
