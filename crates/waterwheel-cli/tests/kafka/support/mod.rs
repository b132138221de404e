//! What tests on a real Kafka share: brokers, topics, records, processes, waiting.

mod cluster;
pub(crate) mod commits;
mod hostile;
mod inside;
mod offsets;
mod ops;
mod process;
mod produce;
mod proxy;
mod trial;
mod verifiable;
mod wire;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub(crate) use cluster::{Cluster, Kafka};
pub(crate) use hostile::{Answer, Api, Hostile, TOPIC, fetched, topic};
pub(crate) use inside::Inside;
pub(crate) use ops::{OPS, Probed};
pub(crate) use process::{Process, Size};
pub(crate) use produce::{Bytes, Flow, Produced};
pub(crate) use proxy::{Proxy, Way};
pub(crate) use trial::{Entry, Member, Protocol, Reading, Tail, Trial};
pub(crate) use verifiable::{Consumers, Half, Source};
pub(crate) use wire::{Body, Codec, Tells, batch, gzip_bomb, lz4_bomb, record, snappy_bomb, zstd_bomb};

/// How long what must happen may take, on a machine that has more to do beside. What happens ends the waiting: only a test
/// that fails waits for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);

/// Whether also the long forms of cases are to be run, and those that need much of the machine: `./run faults` does.
pub(crate) fn is_whole() -> bool {
    let whole = std::env::var("WATERWHEEL_FAULTS").is_ok_and(|asked| asked == "all");
    if !whole {
        eprintln!("SKIPPED: WATERWHEEL_FAULTS=all runs it");
    }
    whole
}

/// Runs a test, for as long as one may take.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.expect("a runtime").block_on(async { tokio::time::timeout(PATIENCE * 2, test).await });
    ended.expect("the test should have ended by now")
}

/// What blocks, in between: a client of its own that is not asynchronous.
pub(crate) fn aside<T>(what: impl FnOnce() -> T) -> T {
    tokio::task::block_in_place(what)
}

/// A number that no other call in any test process of this machine gets at the same time.
fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Milliseconds since the Unix epoch.
fn now_ms() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

/// A name for a topic (or group) that no other test uses.
pub(crate) fn topic_name(purpose: &str) -> String {
    // A cluster that outlives the test process may hold topics of an earlier one with its number.
    format!("{purpose}-{}-{}", unique(), now_ms())
}

/// Waits until `condition` holds; fails the test if it does not within `limit`.
#[track_caller]
pub(crate) fn wait_until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(limit, what, || condition().then_some(()));
}

/// Waits until `attempt` gives something, and returns it; fails the test if it does not within `limit`.
#[track_caller]
pub(crate) fn wait_for<T>(limit: Duration, what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_each(Duration::from_millis(20), limit, attempt)
        .unwrap_or_else(|| panic!("waited {limit:?} in vain for {what}"))
}

/// Tries `attempt` again after each `pause` until it gives something; `None` if it does not within `limit`.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where tests wait, and they wait for what another process does"
)]
pub(crate) fn wait_each<T>(pause: Duration, limit: Duration, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        let found = attempt();
        if found.is_some() || began.elapsed() >= limit {
            return found;
        }
        std::thread::sleep(pause);
    }
}
