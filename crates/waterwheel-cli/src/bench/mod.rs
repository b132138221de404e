//! `waterwheel bench`: figures, by the library's defaults.
//!
//! `consume` and `produce` speak the command line of the side-by-side measurements in `BENCHMARKS.md`, so that they can be
//! put beside other clients on one Kafka; `latency` and `worker` run them, or any other program that speaks it, and draw
//! conclusions. Without brokers all of them run on a cluster in this process.

mod child;
mod consume;
mod data;
mod figures;
mod forward;
mod latency;
mod place;
mod produce;
mod run;
mod worker;

use std::time::Instant;

use clap::{Args, Subcommand, ValueEnum};

use self::place::Brokers;
use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::runtime;

pub(crate) use self::run::instant;

/// Measure consuming, producing, latency, or a set of workloads
///
/// Without brokers (by --brokers, WATERWHEEL_BROKERS or --command-config) it runs on a cluster in this process, and figures
/// mean little.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Consume(consume::Consume),
    Produce(produce::Produce),
    Latency(latency::Latency),
    Worker(worker::Worker),
}

impl Bench {
    /// `started`: when the process did.
    pub(crate) fn run(self, global: &Global, started: Instant) -> Result<Exit, Failure> {
        runtime::block_on(async {
            match self.what {
                What::Consume(consume) => consume.run(global, started).await,
                What::Produce(produce) => produce.run(global, started).await,
                What::Latency(latency) => latency.run(global).await,
                What::Worker(worker) => worker.run(global).await,
            }
        })
    }
}

/// Which records are worked on one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Raw,
    Pull,
    Key,
    Partition,
    Unordered,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Raw => "raw",
            Mode::Pull => "pull",
            Mode::Key => "key",
            Mode::Partition => "partition",
            Mode::Unordered => "unordered",
        }
    }
}

/// The topic of `consume` and `produce`, and how many records they have, where no brokers are named.
const TOPIC: &str = "bench";
const COUNT: u64 = 100_000;

/// An option that must be given where brokers are.
fn needed<T>(option: &str, given: Option<T>, embedded: T, brokers: &Brokers) -> Result<T, Failure> {
    match given {
        Some(given) => Ok(given),
        None if brokers.are_embedded() => Ok(embedded),
        None => Err(Failure::new(Exit::Usage, format!("{option} is needed where brokers are named"))
            .hint("waterwheel help bench tells the options of each of its verbs")),
    }
}

/// A number of partitions, as the brokers' admin calls and the cluster in this process take it.
fn partitions(text: &str) -> Result<usize, String> {
    within(text, 1, 1000)
}

/// A whole number in that range; negative ones are told the range, too.
fn within<N: TryFrom<i64>>(text: &str, least: i64, most: i64) -> Result<N, String> {
    match text.parse::<i64>() {
        Ok(number) if (least..=most).contains(&number) => N::try_from(number).map_err(|_| "is out of range".to_owned()),
        _ => Err(format!("must be a whole number from {least} to {most}")),
    }
}
