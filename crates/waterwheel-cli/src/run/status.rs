//! What a run says of itself on stderr, a line a worker every ten seconds.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use waterwheel::{Counts, WorkerHandle, WorkerState};

use super::exec::Pool;
use crate::exit::say;

const INTERVAL: Duration = Duration::from_secs(10);
/// The first line comes sooner when something is wrong at the start.
const FIRST: Duration = Duration::from_secs(3);

/// A worker as its status needs it.
pub(super) struct Watched {
    pub(super) handle: WorkerHandle,
    pub(super) pool: Option<Pool>,
}

/// Says how the workers are, until it is dropped.
pub(super) async fn report(workers: Vec<Watched>) {
    let mut before: Vec<(Counts, Instant)> = workers.iter().map(|w| (w.handle.counts(), Instant::now())).collect();
    tokio::time::sleep(FIRST).await;
    for worker in &workers {
        let joins = matches!(worker.handle.state(), WorkerState::Initialising | WorkerState::Starting);
        if joins || worker.pool.as_ref().is_some_and(|p| p.trouble().is_some()) {
            say(line(worker, None).await);
        }
    }
    let mut ticks = tokio::time::interval_at(Instant::now() + INTERVAL - FIRST, INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for (worker, before) in workers.iter().zip(&mut before) {
            let now = Instant::now();
            let counts = worker.handle.counts();
            let rate = (finished(&counts) - finished(&before.0)) as f64 / now.duration_since(before.1).as_secs_f64();
            *before = (counts, now);
            say(line(worker, Some(rate)).await);
        }
    }
}

fn finished(counts: &Counts) -> u64 {
    counts.succeeded + counts.dead_lettered + counts.skipped
}

async fn line(worker: &Watched, rate: Option<f64>) -> String {
    let health = worker.handle.health().await;
    let counts = worker.handle.counts();
    let mut line = format!("{}: {}", worker.handle.name(), worker.handle.state().name());
    if let Some(rate) = rate {
        line.push_str(&format!(", {rate:.0} records/s"));
    }
    line.push_str(&format!(", {} finished", finished(&counts)));
    if let Some(snapshot) = worker.handle.snapshot().await {
        let held = snapshot.partitions.iter().filter(|p| p.held.is_some()).count();
        line.push_str(&format!(", {} in work, {} partitions", snapshot.in_work.len(), snapshot.partitions.len()));
        if held > 0 {
            line.push_str(&format!(" ({held} held)"));
        }
    }
    line.push_str(&format!(", {} retries, {} dead letters", counts.retried, counts.dead_lettered));
    if counts.tiered > 0 {
        line.push_str(&format!(", {} to retry tiers", counts.tiered));
    }
    line.extend(health.causes.iter().map(|cause| format!("; {}: {}", cause.level, cause.text)));
    if let Some(trouble) = worker.pool.as_ref().and_then(Pool::trouble) {
        line.push_str(&format!("; critical: {trouble}"));
    }
    line
}
