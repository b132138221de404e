//! What a record takes of memory: allocations on its way through a handler that ends at once, and bytes while it is in work.

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use tokio::runtime::{Builder, Runtime};
use waterwheel_core::engine::Settings;
use waterwheel_core::lanes::Order;

use super::{LoneShard, Made, Source};
use crate::body::Raw;
use crate::failure::Failure;
use crate::handler::{Handler, Message};

const BATCH: usize = 1_000;

async fn at_once(_: Message<Raw>) -> Result<(), Failure> {
    Ok(())
}

async fn sleeping(_: Message<Raw>) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_secs(3600)).await;
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
        let AllocationInfo { count_total, bytes_total, .. } = measure(|| runtime.block_on(shard.finish(made)));
        eprintln!("{order:?} {count_total} allocations {bytes_total} bytes for {} records", keys.len());
    }
}

fn held<H: Handler<Raw>>(what: &str, settings: Settings, records: usize, of: usize, handler: H) -> i64 {
    let runtime = runtime();
    let (mut shard, mut source) = runtime.block_on(async { LoneShard::new(settings, 1, handler) });
    let made = batches(&mut source, &keys(records, of));
    let info = measure(|| runtime.block_on(shard.take_up(made)));
    eprintln!(
        "{what}: {records} records {:.1} B each, {} ({:?})",
        info.bytes_current as f64 / records as f64,
        info.count_current,
        shard.counts()
    );
    info.bytes_current
}

#[test]
fn bytes_in_work() {
    for n in [1_000, 10_000, 16_000, 20_000] {
        held("running key", settings(Order::Key, n), n, n, sleeping);
        held("running none", settings(Order::None, n), n, n, sleeping);
        held("waiting one key", settings(Order::Key, n), n, 1, sleeping);
        held("waiting half", settings(Order::Key, n), n, n / 2, sleeping);
        held("deferred one key", Settings { waiting: 10, ..settings(Order::Key, n) }, n, 1, sleeping);
        held("deferred half", Settings { waiting: 10, ..settings(Order::Key, n) }, n, n / 2, sleeping);
        let rt = runtime();
        let info = measure(|| {
            rt.block_on(async {
                for _ in 0..n {
                    drop(crate::driver::spawn(async {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    }));
                }
                tokio::task::yield_now().await;
            })
        });
        eprintln!("bare tokio::spawn(sleep): {:.1}", info.bytes_current as f64 / n as f64);
        let info = measure(|| {
            rt.block_on(async {
                for _ in 0..n {
                    drop(crate::driver::spawn(Box::pin(async {
                        tokio::time::sleep(Duration::from_secs(3600)).await;
                    })));
                }
                tokio::task::yield_now().await;
            })
        });
        eprintln!("bare tokio::spawn(box sleep): {:.1}", info.bytes_current as f64 / n as f64);
        let info = measure(|| {
            rt.block_on(async {
                for _ in 0..n {
                    drop(crate::driver::spawn(std::future::pending::<()>()));
                }
                tokio::task::yield_now().await;
            })
        });
        eprintln!("bare tokio::spawn(pending): {:.1}", info.bytes_current as f64 / n as f64);
    }
    fn size<H: Handler<Raw>>(_: H) -> (usize, usize) {
        (size_of::<H::Future>(), size_of::<crate::driver::attempt::Attempt<H::Future>>())
    }
    eprintln!(
        "future {:?} sleep {} message {}",
        size(sleeping),
        size_of::<tokio::time::Sleep>(),
        size_of::<Message<Raw>>()
    );
    eprintln!("slot note {}", size_of::<Option<tokio::task::AbortHandle>>());
}
