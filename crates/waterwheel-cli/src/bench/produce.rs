//! `bench produce`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use waterwheel::{Producer, ProducerRecord, SendFailure, SendStage};

use super::place::Brokers;
use super::run::Run;
use super::{TOPIC, needed};
use crate::exit::{Exit, Failure};
use crate::global::{Global, Output};

/// Records sent at once.
const BATCH: usize = 1000;

/// Batches under way: together a little less than the client's queue holds (100,000 records).
const UNDER_WAY: usize = 90;

/// Records enqueued before the first of them is awaited, and such groups under way.
const GROUP: usize = 10_000;
const GROUPS: usize = 9;

/// Records under way where each is sent by itself.
const UNDER_WAY_EACH: usize = 10_000;

/// How long a record may wait for room in the queue.
const PATIENCE: Duration = Duration::from_secs(60);

/// How records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    /// `send_all`, 1,000 at once, 90 times under way
    Batch,
    /// `enqueue`, and the futures awaited in groups of 10,000, 9 of them under way
    Futures,
    /// `send`, 10,000 under way
    Each,
    /// `send`, one after the other; tells how long each took
    Await,
}

/// Write records and count their acknowledgements
///
/// Prints one JSON line, or a table with `-o table`. Without brokers it writes to a cluster in this process.
#[derive(clap::Args)]
pub(crate) struct Produce {
    /// Same as --brokers
    #[arg(long, value_name = "HOST:PORT,..")]
    bootstrap: Option<String>,
    /// Topic that there is; without brokers one of that name is made [default without brokers: bench]
    #[arg(long)]
    topic: Option<String>,
    /// How many records [default without brokers: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    size: usize,
    /// Distinct keys: `k0`, `k1`, ...
    #[arg(long, value_name = "N", default_value_t = 1000)]
    keys: u64,
    /// How the records are sent
    #[arg(long, value_name = "MODE", value_enum, default_value_t = Mode::Batch)]
    mode: Mode,
    /// Partitions of the topic made without brokers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = super::partitions)]
    partitions: usize,
}

impl Produce {
    pub(super) async fn run(self, global: &Global, mut started: Instant) -> Result<Exit, Failure> {
        let brokers = Brokers::find(global, self.bootstrap.as_deref())?;
        let topic = needed("--topic", self.topic, TOPIC.to_owned(), &brokers)?;
        let count = needed("--count", self.count, super::COUNT, &brokers)?;
        if brokers.are_embedded() {
            brokers.create_topic(&topic, self.partitions).await?;
            started = super::instant();
        } else {
            brokers.partitions_of(&topic).await?;
        }
        let producer = brokers.client().producer()?;
        let value = ProducerRecord::to(&*topic).value(vec![b'x'; self.size]);
        let records: Vec<ProducerRecord> = (0..self.keys.max(1)).map(|k| value.clone().key(format!("k{k}"))).collect();
        let run = Run::new(count, started);
        run.begin();
        let to_send = (0..count).map(|i| records[(i % records.len() as u64) as usize].clone());
        let mut took = Vec::new();
        match self.mode {
            Mode::Batch => send(&producer, to_send, |acknowledged| run.add(acknowledged)).await?,
            Mode::Futures => send_groups(&producer, to_send, |acknowledged| run.add(acknowledged)).await?,
            Mode::Each => send_each(&producer, to_send, || run.add(1)).await?,
            Mode::Await => {
                for record in to_send {
                    let begun = super::instant();
                    producer.send(record).await.map_err(unsent)?;
                    took.push(begun.elapsed());
                    run.add(1);
                }
            }
        }
        let mut figures = run.figures(match self.mode {
            Mode::Batch => "produce",
            Mode::Futures => "futures",
            Mode::Each => "each",
            Mode::Await => "await",
        });
        took.sort_unstable();
        let part = |of_100: usize| took.get(took.len() * of_100 / 100).map(|took| took.as_micros() as u64);
        (figures.p50_us, figures.p99_us) = (part(50), part(99));
        figures.embedded = brokers.are_embedded();
        figures.print(global.output_or(Output::Json))?;
        producer.close(Duration::from_secs(5)).await;
        Ok(Exit::Done)
    }
}

/// Sends all records, and tells how many more were acknowledged each time that some were.
pub(super) async fn send(
    producer: &Producer,
    mut records: impl Iterator<Item = ProducerRecord>,
    mut acknowledged: impl FnMut(u64),
) -> Result<(), Failure> {
    let mut sends = FuturesUnordered::new();
    loop {
        while sends.len() < UNDER_WAY {
            let batch: Vec<ProducerRecord> = records.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                break;
            }
            let n = batch.len() as u64;
            sends.push(async move { producer.send_all(batch).await.map(|()| n) });
        }
        match sends.next().await {
            Some(Ok(more)) => acknowledged(more),
            Some(Err(failures)) => {
                let first = failures.first().map(ToString::to_string).unwrap_or_default();
                let message = format!("{} records were not acknowledged: {first}", failures.len());
                return Err(Failure::new(Exit::Failed, message));
            }
            None => return Ok(()),
        }
    }
}

/// Sends the records one by one, and tells each that was acknowledged.
async fn send_each(
    producer: &Producer,
    mut records: impl Iterator<Item = ProducerRecord>,
    mut acknowledged: impl FnMut(),
) -> Result<(), Failure> {
    let mut sends = FuturesUnordered::new();
    loop {
        while sends.len() < UNDER_WAY_EACH
            && let Some(record) = records.next()
        {
            sends.push(producer.send(record));
        }
        match sends.next().await {
            Some(Ok(_)) => acknowledged(),
            Some(Err(failure)) => return Err(unsent(failure)),
            None => return Ok(()),
        }
    }
}

/// Enqueues records, awaits their futures by the group, and tells how many were acknowledged after each group.
async fn send_groups(
    producer: &Producer,
    records: impl Iterator<Item = ProducerRecord>,
    mut acknowledged: impl FnMut(u64),
) -> Result<(), Failure> {
    let mut groups = VecDeque::new();
    let mut group = Vec::with_capacity(GROUP);
    let mut records = records.peekable();
    while let Some(record) = records.next() {
        group.push(match producer.enqueue(record) {
            Err(failure) if failure.stage() == SendStage::QueueFull => {
                producer.enqueue_within(failure.into_record(), PATIENCE).await.map_err(unsent)?
            }
            put_in => put_in.map_err(unsent)?,
        });
        let is_last = records.peek().is_none();
        if group.len() == GROUP || is_last {
            groups.push_back(std::mem::replace(&mut group, Vec::with_capacity(GROUP)));
        }
        while groups.len() >= GROUPS || is_last {
            let Some(oldest) = groups.pop_front() else { break };
            let n = oldest.len() as u64;
            for answer in oldest {
                answer.await.map_err(unsent)?;
            }
            acknowledged(n);
        }
    }
    Ok(())
}

fn unsent(failure: SendFailure) -> Failure {
    Failure::new(Exit::Failed, format!("a record was not acknowledged: {failure}"))
}
