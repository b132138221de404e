//! The ladder of the driver: what a record costs on its way into a batch, and through a shard to its handler and back.
//! `./run bench` runs it and prints a table.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use tokio::runtime::{Builder, Runtime};
use waterwheel::bench::{LoneShard, Made, Policies, Settings, Source, Stall, Wish};
use waterwheel::{Adaptive, Breaker, Failure, Handler, Message, Order, RateLimit, Raw};

/// Records of a batch, and batches of a round.
const RECORDS: usize = 1_000;
const BATCHES: usize = 20;

fn main() -> std::io::Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    let runtime = Builder::new_current_thread().enable_time().build()?;
    batch(&mut criterion, &runtime);
    dispatch(&mut criterion, &runtime);
    criterion.final_summary();
    Ok(())
}

async fn at_once(message: Message<Raw>) -> Result<(), Failure> {
    black_box(message.value());
    Ok(())
}

async fn after_one_turn(message: Message<Raw>) -> Result<(), Failure> {
    tokio::task::yield_now().await;
    black_box(message.value());
    Ok(())
}

fn keys(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("key-{n:07}").into_bytes()).collect()
}

/// From parts in memory to a batch, and its end.
fn batch(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("batch of 1,000");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let (_shard, mut source) = runtime.block_on(async { LoneShard::new(Settings::default(), 1, at_once) });
    let keys = keys(RECORDS);
    let headers: [(&[u8], &[u8]); 2] = [(b"content-type", b"application/json"), (b"trace", &[7; 16])];
    for (name, value, headers) in [("100 B", 100, &[][..]), ("1 KB", 1_000, &[]), ("100 B, 2 headers", 100, &headers)] {
        let value = vec![b'v'; value];
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut made = Made::default();
                source.make(&mut made, 0, &keys, &value, headers);
                black_box(made)
            })
        });
    }
}

/// From a batch to a handler and back.
fn dispatch(criterion: &mut Criterion, runtime: &Runtime) {
    let mut group = criterion.benchmark_group("dispatch of 20,000");
    group.throughput(Throughput::Elements((RECORDS * BATCHES) as u64));
    for order in [Order::Key, Order::Partition, Order::None] {
        let id = BenchmarkId::new("in place", format!("{order:?}").to_lowercase());
        round(&mut group, id, runtime, Settings { order, ..settings() }, 1, at_once);
    }
    for (name, settings, policies) in idle_policies() {
        let id = BenchmarkId::new("in place, idle", name);
        held(&mut group, id, runtime, settings, &policies, 1, at_once);
    }
    for partitions in [10, 100, 1_000] {
        let id = BenchmarkId::new("in place, partitions", partitions);
        round(&mut group, id, runtime, settings(), partitions, at_once);
    }
    for concurrency in [1, 100, 1_000, 20_000] {
        let id = BenchmarkId::new("as tasks, at once", concurrency);
        round(&mut group, id, runtime, Settings { concurrency, ..settings() }, 1, after_one_turn);
    }
    let (_, settings, policies) = idle_policies().pop().unwrap_or_default();
    held(
        &mut group,
        BenchmarkId::new("as tasks, idle", "all policies"),
        runtime,
        settings,
        &policies,
        1,
        after_one_turn,
    );
}

/// Each policy, with nothing to do; the last one is all of them.
fn idle_policies() -> Vec<(&'static str, Settings, Policies)> {
    let delay = Some(Duration::from_millis(1));
    let stall = Some(Stall { after: Duration::from_secs(3_600), wish: Wish::Park });
    let breaker = Some(Breaker::consecutive(1_000));
    let rate = Some(RateLimit::records(1 << 40).and_bytes(1 << 50));
    let adaptive = Some(Adaptive::between(256, 1_000));
    // Long after the records' times, which are their offsets.
    let none = Settings { wall_start_ms: 1_700_000_000_000, ..settings() };
    let open = Policies::default();
    vec![
        ("process delay", Settings { delay, ..none.clone() }, open.clone()),
        ("stall", Settings { stall, ..none.clone() }, open.clone()),
        ("follow", Settings { follow: true, dead_letter: true, ..none.clone() }, open.clone()),
        ("breaker", none.clone(), Policies { breaker: breaker.clone(), ..open.clone() }),
        ("rate limit", none.clone(), Policies { rate: rate.clone(), ..open.clone() }),
        ("adaptive", none.clone(), Policies { adaptive: adaptive.clone(), ..open }),
        (
            "all policies",
            Settings { delay, stall, follow: true, dead_letter: true, ..none },
            Policies { breaker, rate, adaptive },
        ),
    ]
}

fn settings() -> Settings {
    Settings { concurrency: 256, waiting: 100_000, bytes: 1 << 30, ..Settings::default() }
}

type Group<'a> = criterion::BenchmarkGroup<'a, criterion::measurement::WallTime>;

fn round<H: Handler<Raw>>(
    group: &mut Group<'_>,
    id: BenchmarkId,
    runtime: &Runtime,
    settings: Settings,
    partitions: usize,
    handler: H,
) {
    held(group, id, runtime, settings, &Policies::default(), partitions, handler);
}

/// The same, with what holds starts back.
fn held<H: Handler<Raw>>(
    group: &mut Group<'_>,
    id: BenchmarkId,
    runtime: &Runtime,
    settings: Settings,
    policies: &Policies,
    partitions: usize,
    handler: H,
) {
    let (keys, value) = (keys(RECORDS * BATCHES), [b'v'; 100]);
    let (mut shard, mut source) = runtime.block_on(async { LoneShard::held(settings, policies, partitions, handler) });
    let mut partition = 0;
    let mut make = |source: &mut Source| {
        let mut made = Made::default();
        for keys in keys.chunks(RECORDS) {
            source.make(&mut made, partition, keys, &value, &[]);
            partition = (partition + 1) % partitions;
        }
        made
    };
    group.bench_function(id, |b| {
        b.iter_batched(|| make(&mut source), |made| runtime.block_on(shard.finish(made)), BatchSize::LargeInput)
    });
}
