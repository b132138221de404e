//! Lives: started, stopped and closed in any order, each within its deadline, and at the end nothing is left undone.

use std::time::Duration;

use waterwheel::WorkerState;
use waterwheel_test::Cluster;

use crate::support::{Dice, Gate, Journal, fill, gated, member, run, start};

/// Schedules; `WATERWHEEL_SCHEDULES` says another number.
fn schedules() -> u64 {
    std::env::var("WATERWHEEL_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000)
}

/// Of paused time: a drain of 300 ms, twice the 5 s of a last step, and what is in between.
const DEADLINE: Duration = Duration::from_secs(12);

#[test]
fn ten_thousand_lives_end_within_their_deadlines_and_lose_nothing() {
    for seed in 1..=schedules() {
        run(one_life(seed));
    }
}

async fn one_life(seed: u64) {
    let mut dice = Dice(seed);
    let cluster = Cluster::new().topic("t", 3).patience(Duration::from_secs(400));
    fill(&cluster, 6).await;
    let (journal, gate) = (Journal::default(), Gate::closed());
    if dice.below(2) == 0 {
        gate.open();
    }
    let host = cluster.host();
    let builder = member(&host.client()).drain_timeout(Duration::from_millis(300));
    let builder = if dice.below(2) == 0 { builder.start_stopped() } else { builder };
    let builder = if dice.below(4) == 0 { builder.start_when_healthy() } else { builder };
    let worker = start(builder.handler(gated(&journal, &gate, &[0, 1])).build().unwrap());
    let handle = worker.handle.clone();
    for _ in 0..dice.below(9) {
        match dice.below(9) {
            0..=2 => handle.start(),
            3 => handle.stop(),
            4 => {
                assert!(handle.stop_and_wait(DEADLINE).await, "seed {seed}: {:?}", handle.state());
                let state = handle.state();
                assert!([WorkerState::Initialising, WorkerState::Stopped].contains(&state), "seed {seed}: {state:?}");
                assert_eq!(journal.running(), 0, "seed {seed}: it is stopped, and something runs");
            }
            5 => drop(handle.wait_for(WorkerState::Consuming, Duration::from_millis(dice.below(2_000))).await),
            6 => host.cut_off(),
            7 => host.heal(),
            _ => cluster.advance(Duration::from_millis(dice.below(3_000))).await,
        }
        assert_ne!(handle.state(), WorkerState::Closed, "seed {seed}");
    }
    match dice.below(3) {
        0 => handle.close_now(),
        _ => handle.close(),
    }
    let ended = tokio::time::timeout(DEADLINE, worker.ended()).await;
    assert!(matches!(ended, Ok(Ok(_))), "seed {seed}: {:?}, {ended:?}", handle.state());
    assert_eq!((handle.state(), journal.running()), (WorkerState::Closed, 0), "seed {seed}");
    // Whatever was before, the next one does what is left, if only after the session of one that could not say good-bye.
    gate.open();
    host.heal();
    let next = start(member(&cluster.client()).handler(gated(&journal, &gate, &[])).build().unwrap());
    cluster.assert_finished("g", "t").await;
    assert_eq!(journal.places().len(), 6, "seed {seed}");
    next.stop().await;
}
