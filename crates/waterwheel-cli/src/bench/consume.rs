//! `bench consume`.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use waterwheel::{
    Adaptive, AfterDeadLetter, AssignedConsumer, Breaker, DeadLetter, Error, Failure, Message, OnStall, Order,
    RateLimit, Raw, Retry, Start, WorkerBuilder,
};

use super::data::{Data, Spread};
use super::forward::Forward;
use super::place::Brokers;
use super::run::{Run, Seen};
use super::{Mode, TOPIC, instant, needed};
use crate::exit::{Exit, Failure as Ended};
use crate::global::{Global, Output};
use crate::journal::{Journal, Journaled};
use crate::stop::{self, Asked};
use crate::words::grouped;

/// Read a topic: raw batches, or through a worker with commits
///
/// Prints one JSON line, or a table with `-o table`. Without brokers it fills a topic in this process first.
#[derive(clap::Args)]
pub(crate) struct Consume {
    /// Same as --brokers
    #[arg(long, value_name = "HOST:PORT,..")]
    bootstrap: Option<String>,
    /// Topic that there is; without brokers one of that name is made [default without brokers: bench]
    #[arg(long)]
    topic: Option<String>,
    /// The consumer group
    #[arg(long, default_value = "bench")]
    group: String,
    /// raw: batches, no handler; pull: a consumer that finishes each record it receives; the others: a worker in that order
    #[arg(long, value_enum, default_value = "key")]
    mode: Mode,
    /// Handlers that run at once
    #[arg(long, value_name = "N", default_value_t = 256)]
    concurrency: usize,
    /// End after that many distinct records [default without brokers: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Microseconds that each handler waits; 0: it returns at once
    #[arg(long, value_name = "US", default_value_t = 0)]
    work_us: u64,
    /// Microseconds that --tail-pct percent of the handlers wait instead
    #[arg(long, value_name = "US", default_value_t = 0)]
    tail_us: u64,
    /// Percent of the handlers that wait as long as --tail-us says
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    tail_pct: u64,
    /// Percent of the records that fail the first time and are tried again after a second
    #[arg(long, value_name = "PERCENT", default_value_t = 0)]
    fail_pct: u64,
    /// Percent of the records that go to the topic of --dead-letter
    #[arg(long, value_name = "PERCENT", default_value_t = 0, requires = "dead_letter")]
    dead_pct: u64,
    /// The dead-letter topic
    #[arg(long, value_name = "TOPIC")]
    dead_letter: Option<String>,
    /// Copy each record to that topic: by a producer whose acknowledgement is waited for, with --exactly-once in transactions.
    /// It counts when the worker counts it: acknowledged, or committed
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["work_us", "tail_us", "tail_pct", "fail_pct", "dead_pct", "journal"])]
    forward: Option<String>,
    /// With every policy set so that it has nothing to do: delay, stall, breaker, rates, adaptive concurrency, and with
    /// --dead-letter keys that follow
    #[arg(long, conflicts_with = "forward")]
    idle_policies: bool,
    /// Copies and offsets in one transaction, each 100 ms
    #[arg(long, requires = "forward")]
    exactly_once: bool,
    /// Write a line for each handler's start and end, for `audit`
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Milliseconds after the group coordinator's last answer in which records may still be started; the default is the
    /// worker's
    #[arg(long, value_name = "MS")]
    lease_ms: Option<u64>,
    /// Bytes of each value in the topic made without brokers [default: 100]
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Distinct keys in the topic made without brokers [default: 1000]
    #[arg(long, value_name = "N")]
    keys: Option<u64>,
    /// Partitions of the topic made without brokers [default: 8]
    #[arg(long, value_name = "N", value_parser = super::partitions)]
    partitions: Option<usize>,
}

/// When no record has come by then, it is asked whether there is such a topic.
const QUIET: Duration = Duration::from_secs(1);

/// What is measured.
pub(super) struct Task {
    pub(super) brokers: Brokers,
    pub(super) topic: String,
    pub(super) run: Arc<Run>,
    pub(super) asked: Asked,
}

impl Consume {
    pub(super) async fn run(self, global: &Global, mut started: Instant) -> Result<Exit, Ended> {
        let (_requests, asked) = stop::requests()?;
        let brokers = Brokers::find(global, self.bootstrap.as_deref())?;
        let topic = needed("--topic", self.topic.clone(), TOPIC.to_owned(), &brokers)?;
        let count = needed("--count", self.count, super::COUNT, &brokers)?;
        let data = self.data(count, &brokers)?;
        if let Some(data) = data {
            let filled = async {
                brokers.create_topic(&topic, data.partitions).await?;
                brokers.fill(&topic, &data).await
            };
            tokio::select! {
                filled = filled => filled?,
                () = asked.reach(1) => {}
            }
            started = instant();
        }
        let task = Task { run: Arc::new(Run::new(count, started)), brokers, topic, asked };
        let mode = self.mode;
        let measured = async {
            match mode {
                Mode::Key | Mode::Partition | Mode::Unordered if self.forward.is_some() => self.forward(&task).await,
                Mode::Raw | Mode::Pull if self.forward.is_some() => {
                    Err(Ended::new(Exit::Usage, "--forward is for a worker").hint("leave --mode out"))
                }
                Mode::Raw => task.raw().await,
                Mode::Pull => self.pull(&task).await,
                _ => self.worker(&task).await,
            }
        };
        let finished = tokio::select! {
            finished = measured => finished?,
            never = task.run.watch() => match never {},
        };
        let mut figures = task.run.figures(mode.name());
        figures.is_unsafe = (mode == Mode::Raw).then_some("no group and no commits: partitions read by hand");
        figures.stalled = !finished;
        figures.embedded = task.brokers.are_embedded();
        figures.print(global.output_or(Output::Json))?;
        Ok(if finished { Exit::Done } else { Exit::ConditionNotMet })
    }

    /// What a cluster in this process is filled with; `None` on other brokers.
    fn data(&self, count: u64, brokers: &Brokers) -> Result<Option<Data>, Ended> {
        if !brokers.are_embedded() {
            let given = [
                ("size", self.size.is_some()),
                ("keys", self.keys.is_some()),
                ("partitions", self.partitions.is_some()),
            ];
            return match given.into_iter().find(|(_, is_given)| *is_given) {
                None => Ok(None),
                Some((name, _)) => Err(Ended::new(
                    Exit::Usage,
                    format!("--{name} is for the topic that is made where no brokers are named"),
                )
                .hint("on brokers, consume reads a topic as it is")),
            };
        }
        let data = Data {
            partitions: self.partitions.unwrap_or(8),
            records: count,
            size: self.size.unwrap_or(100),
            keys: self.keys.unwrap_or(1000),
            spread: Spread::Even,
        };
        if data.fits_embedded() {
            return Ok(Some(data));
        }
        let most = grouped(data.fitting_embedded().records);
        let message = format!(
            "{} records of {} bytes do not fit in the cluster in this process, which keeps 5 MiB a partition: {most} do",
            grouped(count),
            grouped(data.size as u64),
        );
        Err(Ended::new(Exit::Usage, message)
            .hint("lower --count or --size, raise --partitions or --keys, or name brokers"))
    }

    fn order(&self) -> Order {
        match self.mode {
            Mode::Partition => Order::Partition,
            Mode::Unordered => Order::None,
            Mode::Raw | Mode::Pull | Mode::Key => Order::Key,
        }
    }

    /// A worker that copies each record.
    async fn forward(self, task: &Task) -> Result<bool, Ended> {
        let to = self.forward.as_deref().unwrap_or_default();
        let (order, exactly_once) = (self.order(), self.exactly_once);
        Forward { group: &self.group, to, concurrency: self.concurrency, order, exactly_once }.run(task).await
    }

    /// A worker with its defaults.
    async fn worker(self, task: &Task) -> Result<bool, Ended> {
        let run = &task.run;
        let work = Work {
            run: run.clone(),
            work: Duration::from_micros(self.work_us),
            tail: Duration::from_micros(self.tail_us),
            tail_pct: self.tail_pct,
            fail_pct: self.fail_pct,
            dead_pct: self.dead_pct,
            failed: Mutex::default(),
        };
        // For the rest of the process: no count is shared by the threads that run handlers.
        let work: &'static Work = Box::leak(Box::new(work));
        let journal = match &self.journal {
            Some(path) => {
                let told = |error| Ended::new(Exit::Usage, format!("--journal {}: {error}", path.display()));
                Some(Arc::new(Journal::open(path).map_err(told)?))
            }
            None => None,
        };
        let mut builder = task
            .brokers
            .client()
            .worker(&*self.group)
            .topic(&*task.topic)
            .order(self.order())
            .concurrency(self.concurrency)
            .retry(Retry::fixed(Duration::from_secs(1)).forever());
        if let Some(journal) = &journal {
            builder = builder.witness(journal.clone());
        }
        if let Some(topic) = &self.dead_letter {
            builder = builder.dead_letter(DeadLetter::topic(topic));
        }
        if self.idle_policies {
            builder = with_idle_policies(builder, self.concurrency, self.dead_letter.is_some());
        }
        if let Some(lease) = self.lease_ms {
            builder = builder.lease(Duration::from_millis(lease));
        }
        let handler = move |message: Message<Raw>| work.handle(message);
        let worker = builder.handler(Journaled::new(handler, journal.clone())).build()?;
        let (mut finished, mut missing) = (true, None);
        let ended = worker
            .run_until(async {
                tokio::select! {
                    ended = run.wait(&task.asked) => finished = ended,
                    failure = task.missing() => missing = Some(failure),
                }
            })
            .await;
        if let Some(failure) = missing {
            return Err(failure);
        }
        ended.map_err(|e| e.error)?;
        if let Some(error) = journal.as_deref().and_then(Journal::broken) {
            return Err(Ended::new(Exit::Failed, format!("the journal is not whole: {error}")));
        }
        Ok(finished)
    }

    /// A consumer with its defaults: each record is finished as it comes.
    async fn pull(self, task: &Task) -> Result<bool, Ended> {
        let run = &*task.run;
        let mut consumer = task.brokers.client().consumer(&*self.group).topic(&*task.topic).start()?;
        let (mut seen, mut bytes) = (Seen::default(), 0usize);
        let pulled = async {
            while !run.is_done() {
                let Some(delivery) = consumer.recv().await else { return false };
                run.begin();
                bytes += delivery.key().map_or(0, <[u8]>::len) + delivery.value().map_or(0, <[u8]>::len);
                run.add(u64::from(seen.add(delivery.partition(), delivery.offset())));
                delivery.finish();
            }
            true
        };
        let finished = tokio::select! {
            finished = pulled => finished,
            finished = run.wait(&task.asked) => finished,
            failure = task.missing() => return Err(failure),
        };
        std::hint::black_box(bytes);
        consumer.close().await.map_err(|e| e.error)?;
        Ok(finished)
    }
}

/// Every policy, none of which has anything to do for records that are older than a millisecond.
fn with_idle_policies(builder: WorkerBuilder, concurrency: usize, follow: bool) -> WorkerBuilder {
    let builder = builder
        .process_delay(Duration::from_millis(1))
        .on_stall(OnStall::TimeOut)
        .breaker(Breaker::consecutive(1_000))
        .rate_limit(RateLimit::records(1 << 40).and_bytes(1 << 50))
        .adaptive(Adaptive::between(concurrency, concurrency.saturating_mul(2)));
    if follow { builder.after_dead_letter(AfterDeadLetter::Follow) } else { builder }
}

impl Task {
    /// The fetch port on all partitions of the topic.
    async fn open(&self) -> Result<AssignedConsumer, Ended> {
        let reader = self.brokers.client().assigned().topic(&*self.topic, Start::Earliest);
        match reader.clone().open().await {
            Err(Error::Kafka(e)) if e.is_unknown_topic() => {
                // Made a moment ago, or an error that says so.
                self.brokers.partitions_of(&self.topic).await?;
                Ok(reader.open().await?)
            }
            consumer => Ok(consumer?),
        }
    }

    /// Batches straight from the fetch port.
    async fn raw(&self) -> Result<bool, Ended> {
        let run = &*self.run;
        let mut consumer = tokio::select! {
            consumer = self.open() => consumer?,
            finished = run.wait(&self.asked) => return Ok(finished),
        };
        let read = async {
            let (mut seen, mut bytes) = (Seen::default(), 0usize);
            while !run.is_done() {
                let Some(batch) = consumer.next_batch().await? else { break };
                run.begin();
                let partition = batch.topic_partition().partition;
                let mut new = 0;
                batch.for_each(|offset, key, value| {
                    bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                    new += u64::from(seen.add(partition, offset));
                });
                run.add(new);
            }
            std::hint::black_box(bytes);
            Ok::<_, Ended>(true)
        };
        let finished = tokio::select! {
            read = read => read?,
            finished = run.wait(&self.asked) => finished,
        };
        consumer.close().await?;
        Ok(finished)
    }

    /// Ends where there is no such topic, for which a worker would wait; else never. Asks only if no record comes for a
    /// while, so that a start that is measured pays nothing for it.
    async fn missing(&self) -> Ended {
        tokio::time::sleep(QUIET).await;
        if self.run.has_begun() {
            return std::future::pending().await;
        }
        match self.brokers.partitions_of(&self.topic).await {
            Err(failure) if failure.exit() == Exit::NotFound => failure,
            _ => std::future::pending().await,
        }
    }
}

/// What the handlers do.
struct Work {
    run: Arc<Run>,
    work: Duration,
    tail: Duration,
    tail_pct: u64,
    fail_pct: u64,
    dead_pct: u64,
    failed: Mutex<HashSet<(i32, i64)>>,
}

impl Work {
    async fn handle(&self, message: Message<Raw>) -> Result<(), Failure> {
        let (partition, offset) = (message.partition(), message.offset());
        self.run.begin();
        let place = |factor: i64| (i64::from(partition) * factor + offset) as u64 % 100;
        let is_of_tail = self.tail_pct > 0 && place(1_000_003) < self.tail_pct;
        let wait = if is_of_tail { self.tail } else { self.work };
        if !wait.is_zero() {
            self.run.enter();
            let began = instant();
            tokio::time::sleep(wait).await;
            self.run.leave((!is_of_tail).then(|| began.elapsed()));
        }
        if self.fail_pct > 0 && place(7919) < self.fail_pct {
            let first = self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert((partition, offset));
            if first {
                return Err(Failure::retry("chosen to fail once"));
            }
        }
        self.run.handled(partition, offset);
        if place(104_729) < self.dead_pct {
            return Err(Failure::dead_letter("chosen for the dead-letter topic"));
        }
        Ok(())
    }
}
