//! Allocations of a record on its way through a handler that ends at once.

use allocation_counter::{AllocationInfo, measure};
use tokio::runtime::{Builder, Runtime};
use waterwheel_core::engine::Settings;
use waterwheel_core::lanes::Order;

use super::{LoneShard, Made, Source};
use crate::body::Raw;
use crate::failure::Failure;
use crate::handler::Message;

const BATCH: usize = 1_000;

async fn at_once(_: Message<Raw>) -> Result<(), Failure> {
    Ok(())
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

fn settings(order: Order, concurrency: usize) -> Settings {
    Settings { order, concurrency, waiting: 100_000, bytes: 1 << 30, ..Settings::default() }
}

fn keys(count: usize, of: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("key-{:07}", n % of).into_bytes()).collect()
}

fn batches(source: &mut Source, keys: &[Vec<u8>]) -> Made {
    let mut made = Made::default();
    keys.chunks(BATCH).for_each(|keys| source.make(&mut made, 0, keys, &[b'v'; 100], &[]));
    made
}

#[test]
fn a_record_that_is_done_where_it_starts_allocates_nothing() {
    for order in [Order::Key, Order::Partition, Order::None] {
        let runtime = runtime();
        let (mut shard, mut source) = runtime.block_on(async { LoneShard::new(settings(order, 256), 1, at_once) });
        let keys = keys(100 * BATCH, 1_000);
        let first = batches(&mut source, &keys);
        runtime.block_on(shard.finish(first));
        let made = batches(&mut source, &keys);
        let AllocationInfo { count_total, .. } = measure(|| runtime.block_on(shard.finish(made)));
        assert_eq!(count_total, 0, "{order:?}: allocations for {} records", keys.len());
    }
}
