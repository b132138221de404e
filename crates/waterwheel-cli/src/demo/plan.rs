//! What a demo does: how much, for how long, and which orders give trouble. All of it follows from the seed.
//!
//! The in-process cluster keeps 5 MiB and 100,000 batches a partition and drops the oldest beyond that without a word,
//! read or not. A plan therefore lowers a rate that would fill a partition within the run, and says so.

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(super) const TOPIC: &str = "orders";
pub(super) const PARTITIONS: usize = 6;
pub(super) const GROUP: &str = "billing";
pub(super) const DEAD_LETTERS: &str = "orders.billing.dlt";
/// Marks the demo's own records: anyone may write to its topic while it runs.
pub(super) const MARK: &str = "waterwheel-demo";

/// What is put in a partition at most: less than the cluster's 5 MiB, because sizes are estimated.
pub(super) const PARTITION_LIMIT: u64 = 4 << 20;
/// Bytes of a record in its partition, at most: in a batch of its own 61 of the batch's header, 12 of key, 68 of value, 34 of
/// the mark and about 12 of framing.
pub(super) const RECORD_BYTES: u64 = 220;
/// The hottest partition has about a third of all records; by bad luck of the keys more.
const HOTTEST_SHARE: f64 = 0.45;

/// The hottest key's part of all records: one over the 200th harmonic number.
const HOTTEST_KEY_SHARE: f64 = 0.17;
/// Seconds that a key waits for retries, for each of its records: 1 % wait for 90 or 270 ms, 0.05 % for 630 ms.
const WAITING_FOR_RETRIES: f64 = 0.002;
/// Seconds of work that may be left when producing ends.
const BACKLOG: f64 = 20.0;

const CUSTOMERS: usize = 200;
const GOODS: [&str; 6] = ["tea", "coffee", "salt", "pepper", "rice", "beans"];

/// What was asked for, made to fit.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) length: Duration,
    /// Orders a second.
    pub(super) rate: f64,
    /// The rate that was asked for, and why it was too high.
    pub(super) lowered: Option<(f64, Limit)>,
    /// Pretend work on an order: from this to twice this.
    pub(super) work: Duration,
}

/// What a rate was lowered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The cluster would drop records.
    Cluster,
    /// The customer who orders most, whose orders are worked on one at a time, would keep the demo waiting for long after
    /// its time.
    HottestKey,
}

impl Plan {
    pub(super) fn new(seed: u64, length: Duration, rate: f64, work: Duration) -> Self {
        let seconds = length.as_secs_f64().max(1.0);
        let cluster = PARTITION_LIMIT as f64 / (RECORD_BYTES as f64 * HOTTEST_SHARE) / seconds;
        let an_order = work.as_secs_f64() * 1.5 + WAITING_FOR_RETRIES;
        let hottest_key = (seconds + BACKLOG) / seconds / (HOTTEST_KEY_SHARE * an_order);
        let (most, limit) =
            if cluster < hottest_key { (cluster, Limit::Cluster) } else { (hottest_key, Limit::HottestKey) };
        let lowered = (rate > most).then_some((rate, limit));
        Self { seed, length, rate: rate.min(most), lowered, work }
    }

    /// When the second member joins.
    pub(super) fn joins(&self) -> Duration {
        self.length / 3
    }

    /// When the second member leaves.
    pub(super) fn leaves(&self) -> Duration {
        self.length * 2 / 3
    }

    /// How long the work on an order takes.
    pub(super) fn work_on(&self, order: u64) -> Duration {
        self.work.mul_f64(1.0 + Chance::of(self.seed, order, 1).share())
    }

    /// What goes wrong with an order.
    pub(super) fn trouble(&self, order: u64) -> Trouble {
        match Chance::of(self.seed, order, 2).below(2000) {
            0 => Trouble::Poison,
            1 => Trouble::Garbled,
            2..=11 => Trouble::FailsTwice,
            12..=21 => Trouble::FailsOnce,
            _ => Trouble::None,
        }
    }
}

/// What goes wrong with an order: 1 % fail once or twice, 0.1 % can never be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    None,
    FailsOnce,
    FailsTwice,
    /// Every attempt fails.
    Poison,
    /// Its JSON is cut off.
    Garbled,
}

impl Trouble {
    /// Whether that attempt fails.
    pub(super) fn fails(self, attempt: u32) -> bool {
        match self {
            Trouble::FailsOnce => attempt <= 1,
            Trouble::FailsTwice => attempt <= 2,
            Trouble::Poison => true,
            Trouble::None | Trouble::Garbled => false,
        }
    }
}

/// The body of a record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: u64,
    customer: String,
    item: String,
    cents: u64,
}

/// Makes one order after another.
pub(super) struct Orders {
    plan: Plan,
    next: u64,
    /// For each customer, the share of orders up to and with them: the n-th orders 1/n as often as the first (Zipf).
    shares: Vec<f64>,
}

impl Orders {
    pub(super) fn new(plan: Plan) -> Self {
        let weights = (1..=CUSTOMERS).map(|rank| 1.0 / rank as f64);
        let all: f64 = weights.clone().sum();
        let mut sum = 0.0;
        let shares = weights.map(|weight| {
            sum += weight / all;
            sum
        });
        Self { plan, next: 0, shares: shares.collect() }
    }

    /// The next order's key and value.
    pub(super) fn next(&mut self) -> (String, Vec<u8>) {
        let id = self.next;
        self.next += 1;
        let mut chance = Chance::of(self.plan.seed, id, 3);
        let share = chance.share();
        let customer = format!("customer-{:03}", self.shares.partition_point(|upto| *upto < share).min(CUSTOMERS - 1));
        let item = GOODS[chance.below(GOODS.len() as u64) as usize].to_owned();
        let order = Order { id, customer: customer.clone(), item, cents: 100 + chance.below(9900) };
        // An order has nothing that JSON cannot say.
        let mut value = serde_json::to_vec(&order).unwrap_or_default();
        if self.plan.trouble(id) == Trouble::Garbled {
            value.truncate(value.len() / 2);
        }
        (customer, value)
    }
}

/// Chance that comes out the same for the same seed, order and use: SplitMix64.
struct Chance(u64);

impl Chance {
    fn of(seed: u64, order: u64, purpose: u64) -> Self {
        let mut chance = Chance(seed ^ order.wrapping_mul(0xA24B_AED4_963E_E407) ^ (purpose << 56));
        chance.next();
        chance
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn plan(seed: u64, seconds: u64, rate: f64) -> Plan {
        Plan::new(seed, Duration::from_secs(seconds), rate, Duration::from_millis(3))
    }

    #[test]
    fn the_same_seed_makes_the_same_orders() {
        let make = |seed| {
            let mut orders = Orders::new(plan(seed, 20, 500.0));
            (0..100).map(|_| orders.next()).collect::<Vec<_>>()
        };
        assert_eq!(make(7), make(7));
        assert_ne!(make(7), make(8));
    }

    #[test]
    fn one_in_a_hundred_fails_for_a_time_and_one_in_a_thousand_for_ever() {
        let plan = plan(1, 20, 500.0);
        let (mut fail, mut never) = (0, 0);
        for id in 0..100_000 {
            match plan.trouble(id) {
                Trouble::FailsOnce | Trouble::FailsTwice => fail += 1,
                Trouble::Poison | Trouble::Garbled => never += 1,
                Trouble::None => {}
            }
        }
        assert!((900..1100).contains(&fail), "{fail}");
        assert!((70..130).contains(&never), "{never}");
    }

    #[test]
    fn the_keys_have_a_hot_head() {
        let mut orders = Orders::new(plan(1, 20, 500.0));
        let mut counts = HashMap::<String, u32>::new();
        for _ in 0..10_000 {
            *counts.entry(orders.next().0).or_default() += 1;
        }
        assert!((1500..1900).contains(&counts["customer-000"]), "{}", counts["customer-000"]);
        assert!(counts.len() > 190, "{}", counts.len());
    }

    #[test]
    fn a_long_run_is_slow_enough_for_the_cluster_to_keep_everything() {
        assert_eq!(plan(1, 30, 500.0).lowered, None);
        let long = plan(1, 3600, 500.0);
        assert_eq!(long.lowered, Some((500.0, Limit::Cluster)));
        let hottest = long.rate * 3600.0 * HOTTEST_SHARE * RECORD_BYTES as f64;
        assert!(hottest <= PARTITION_LIMIT as f64 + 1.0, "{hottest}");
    }
    #[test]
    fn slow_work_gets_no_more_orders_than_can_be_done() {
        let slow = Plan::new(1, Duration::from_secs(30), 500.0, Duration::from_secs(1));
        assert_eq!(slow.lowered, Some((500.0, Limit::HottestKey)));
        let hottest = slow.rate * 30.0 * HOTTEST_KEY_SHARE * 1.5;
        assert!((45.0..=50.0).contains(&hottest), "{hottest}");
    }
}
