//! `waterwheel bench`: figures as one JSON line, by the library's defaults.
//!
//! Speaks the command line of the side-by-side measurements in `BENCHMARKS.md`, so that it can be put beside other
//! clients on one Kafka.

mod consume;
mod produce;
mod run;

use clap::{Args, Subcommand, ValueEnum};

use crate::exit::{Exit, Failure};
use crate::global::Global;

/// Measure consuming or producing; prints one JSON line.
#[derive(Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    Consume(Consume),
    Produce(Produce),
}

/// Read a topic: raw batches, or through a worker with commits.
#[derive(Args)]
pub(crate) struct Consume {
    /// Same as --brokers.
    #[arg(long, value_name = "HOST:PORT,..")]
    bootstrap: Option<String>,
    #[arg(long)]
    topic: String,
    /// The consumer group.
    #[arg(long, default_value = "bench")]
    group: String,
    /// raw: batches, no handler; the others: a worker in that order.
    #[arg(long, value_enum, default_value = "key")]
    mode: Mode,
    /// Handlers that run at once.
    #[arg(long, default_value_t = 256)]
    concurrency: usize,
    /// End after that many distinct records.
    #[arg(long)]
    count: u64,
    /// Microseconds that each handler waits; 0: it returns at once.
    #[arg(long, default_value_t = 0)]
    work_us: u64,
    /// Microseconds that --tail-pct percent of the handlers wait instead.
    #[arg(long, default_value_t = 0)]
    tail_us: u64,
    #[arg(long, default_value_t = 0)]
    tail_pct: u64,
    /// Percent of the records that fail the first time and are tried again after a second.
    #[arg(long, default_value_t = 0)]
    fail_pct: u64,
    /// Write a line for each handler's start and end, for `audit`.
    #[arg(long, value_name = "FILE")]
    journal: Option<std::path::PathBuf>,
    /// Milliseconds after the group coordinator's last answer in which records may still be started; the default is the
    /// worker's.
    #[arg(long, value_name = "MS")]
    lease_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    Raw,
    Key,
    Partition,
    Unordered,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Mode::Raw => "raw",
            Mode::Key => "key",
            Mode::Partition => "partition",
            Mode::Unordered => "unordered",
        }
    }
}

/// Write records and count their acknowledgements.
#[derive(Args)]
pub(crate) struct Produce {
    /// Same as --brokers.
    #[arg(long, value_name = "HOST:PORT,..")]
    bootstrap: Option<String>,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    count: u64,
    /// Bytes of each value.
    #[arg(long, default_value_t = 100)]
    size: usize,
    /// Distinct keys: `k0`, `k1`, ...
    #[arg(long, default_value_t = 1000)]
    keys: u64,
}

impl Bench {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        let bootstrap = match &self.what {
            What::Consume(c) => &c.bootstrap,
            What::Produce(p) => &p.bootstrap,
        };
        let mut properties = global.properties()?;
        if let Some(brokers) = bootstrap {
            properties.insert("bootstrap.servers".to_owned(), brokers.clone());
        }
        let client = waterwheel::Client::builder().properties(properties).build()?;
        let runtime = tokio::runtime::Runtime::new()?;
        let ended = runtime.block_on(async {
            match self.what {
                What::Consume(consume) => consume.run(client).await,
                What::Produce(produce) => produce.run(client).await,
            }
        });
        // What still waits (a signal listener) is not waited for.
        runtime.shutdown_background();
        ended
    }
}
