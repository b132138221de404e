//! How one seed's world is.

use std::time::Duration;

use waterwheel_core::breaker::Breaker;
use waterwheel_core::engine::{Exhausted, Gather, Settings, Stall, Wish};
use waterwheel_core::group::{Committer, GroupSettings};
use waterwheel_core::lanes::Order;
use waterwheel_core::rate::RateLimit;
use waterwheel_core::retry::Retry;
use waterwheel_core::tiers::Tiers;

use super::coordinator::Protocol;
use crate::rng::Rng;

/// The most workers at once.
pub(crate) const WORKERS: usize = 4;

/// Bounds below those that the seed draws, to make a failure smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) partitions: u32,
    pub(crate) workers: usize,
    pub(crate) shards: usize,
}

impl Bounds {
    pub(crate) const NONE: Self = Self { partitions: 8, workers: WORKERS, shards: 2 };
}

pub(crate) struct Setup {
    pub(crate) engine: Settings,
    pub(crate) group: GroupSettings,
    pub(crate) protocol: Protocol,
    pub(crate) partitions: u32,
    /// As many as adding may make of them.
    pub(crate) most_partitions: u32,
    pub(crate) workers: usize,
    pub(crate) session: Duration,
    pub(crate) rebalance_timeout: Duration,
    /// `offset.metadata.max.bytes` of the broker.
    pub(crate) broker_limit: usize,
    pub(crate) hold_when_full: bool,
    pub(crate) shards: usize,
    pub(crate) keys: usize,
    /// Attempts in a hundred that fail, and that hang.
    pub(crate) failing: u64,
    pub(crate) hanging: u64,
    /// Batches in a hundred that are written in a transaction.
    pub(crate) transactional: u64,
    /// Records are gathered, and run in batches.
    pub(crate) gathers: bool,
    /// Starts are held back by a breaker and a rate.
    pub(crate) gates: Option<Gates>,
    /// Partition 0 is a retry tier, of all the others and of itself.
    pub(crate) tier: Option<TierSetup>,
}

/// A retry tier, as plain numbers.
#[derive(Clone, Copy)]
pub(crate) struct TierSetup {
    pub(crate) delay: Duration,
    /// The cap over all visits.
    pub(crate) attempts: u32,
}

/// A breaker and a rate, as plain numbers.
#[derive(Clone, Copy)]
pub(crate) struct Gates {
    pub(crate) failures: u32,
    pub(crate) open_for: Duration,
    pub(crate) probes: u32,
    pub(crate) a_second: u64,
    pub(crate) burst: u64,
}

impl Gates {
    fn of(rng: &mut Rng) -> Self {
        let (failures, probes) = (rng.range(1..=4) as u32, rng.range(1..=3) as u32);
        Self {
            failures,
            open_for: ms(rng.range(5..=200)),
            probes,
            a_second: rng.range(300..=3_000),
            burst: rng.range(1..=20),
        }
    }

    pub(crate) fn breaker(&self) -> Breaker {
        Breaker::consecutive(self.failures).open_for(self.open_for).probes(self.probes)
    }

    pub(crate) fn rate(&self) -> RateLimit {
        RateLimit::records(self.a_second).burst(self.burst)
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl Setup {
    pub(crate) fn of(rng: &mut Rng, bounds: Bounds) -> Self {
        // Of a stream of its own: the other worlds stay as they are.
        let mut other = rng.fork();
        let gathers = other.percent(20);
        let gather = Gather { max: other.range(1..=6) as usize, wait: ms(other.range(0..=100)) };
        // With a slow clock and room for one record, each of them waits for the whole of it.
        let delay = other.percent(25).then(|| ms(other.range(0..=60)));
        // In batches it is not known which record is stuck.
        let stall = (!gathers && other.percent(25)).then(|| Stall {
            after: ms(other.range(20..=300)),
            wish: other.pick(&[Wish::Policy, Wish::DeadLetter, Wish::Park]),
        });
        let follow = other.percent(50);
        let gates = (other.percent(30) && !gathers).then(|| Gates::of(&mut other));
        let dead_letter = rng.percent(60);
        let mut engine = Settings {
            order: rng.pick(&[Order::Key, Order::Key, Order::Key, Order::Key, Order::Partition, Order::None]),
            retry: Retry::exponential(ms(rng.range(1..=50)), ms(rng.range(50..=300))).attempts(rng.range(1..=4) as u32),
            exhausted: rng.pick(&[Exhausted::DeadLetter, Exhausted::DeadLetter, Exhausted::Park, Exhausted::Skip]),
            dead_letter,
            follow,
            settle_retry: Retry::fixed(ms(rng.range(1..=100))).forever(),
            // As soon as it is known how many partitions there are.
            tiers: None,
            delay,
            handler_timeout: rng.percent(50).then(|| ms(rng.range(20..=300))),
            stall,
            concurrency: rng.pick(&[1, 2, 4, 8, 16]),
            waiting: rng.pick(&[1, 4, 10, 40]),
            bytes: rng.pick(&[100, 1_000, 3_000, 20_000]),
            // Each worker's own.
            wall_start_ms: 0,
            gather,
        };
        let session = ms(rng.range(300..=1_500));
        let group = GroupSettings {
            committer: Committer::Member,
            commit_every: ms(rng.range(10..=200)),
            drain_timeout: ms(rng.range(0..=300)),
            revocation_limit: ms(250),
            // Shorter than the session by the time between two heartbeats, also by a clock that is a sixteenth too slow.
            lease: rng.percent(60).then(|| session.mul_f64(0.7)),
            commit_timeout: ms(rng.range(20..=200)),
            map_limit: rng.pick(&[0, 10, 14, 24, 4096, 4096]),
        };
        let partitions = (rng.range(1..=6) as u32).min(bounds.partitions);
        let tier = other.percent(30).then(|| (ms(other.range(1..=60)), other.range(1..=6) as u32));
        let tier = tier
            .filter(|_| partitions > 1)
            .map(|(delay, more)| TierSetup { delay, attempts: engine.retry.most().unwrap_or(1) + more });
        if let Some(tier) = tier {
            (engine.tiers, engine.follow) = (Some(Tiers::new(vec![tier.delay], tier.attempts)), false);
        }
        Self {
            engine,
            group,
            protocol: rng.pick(&[Protocol::Eager, Protocol::Cooperative, Protocol::Consumer]),
            partitions,
            most_partitions: (partitions + 2).min(bounds.partitions),
            workers: (rng.range(1..=WORKERS as u64) as usize).min(bounds.workers),
            session,
            rebalance_timeout: ms(rng.range(500..=1_000)),
            broker_limit: rng.pick(&[12, 20, 4096, 4096]),
            hold_when_full: rng.percent(30),
            shards: (rng.range(1..=2) as usize).min(bounds.shards),
            keys: rng.range(1..=9) as usize,
            failing: rng.pick(&[0, 10, 30, 70]),
            hanging: rng.pick(&[0, 0, 2, 10]),
            transactional: rng.pick(&[0, 10, 50]),
            gathers,
            gates,
            tier,
        }
    }
}
