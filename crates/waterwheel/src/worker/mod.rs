//! Workers: a handler, the topics it works on, and the promises kept around it.

mod batches;
mod delays;
mod follow;
mod handle;
#[cfg(feature = "tower")]
mod layers;
mod life;
mod limits;
mod monitor;
mod session;
mod stalls;
mod tiers;
mod transforms;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::breaker::Breaker;
use waterwheel_core::engine::Gather;
use waterwheel_core::gate::Policies;
use waterwheel_core::lanes::Order;
use waterwheel_core::retry::Retry;

pub use batches::{BatchWorker, ReadyBatchWorker};
pub use handle::{HeadStatus, PartitionStatus, RecordStatus, Snapshot, WorkerHandle, WorkerState};
pub(crate) use life::Built;
pub use limits::{BreakerStatus, ConcurrencyStatus, Limits, RateStatus};
pub use transforms::{ExactlyOnce, ReadyTransformWorker, TransformWorker};
use watching::Watching;

use crate::body::Decode;
use crate::client::Properties;
use crate::config::{ConfigError, names};
use crate::connection::Client;
use crate::dead_letter::DeadLetter;
use crate::driver::attempt::Handling;
use crate::driver::classes::ClassOf;
use crate::driver::coordinator::Hooks;
use crate::driver::groupless::Course;
use crate::driver::shard::handlers::Handlers;
use crate::driver::tally::Counts;
use crate::driver::watched::Watched;
use crate::error::Error;
use crate::handler::Handler;
use crate::record::TopicPartition;
use crate::retry_tiers::RetryTiers;
use crate::settings::{
    AfterDeadLetter, CommitMetadata, Execution, OnDrainDeadline, OnExhausted, OnGap, OnMapFull, OnStall, Start,
};
use crate::witness::Witness;

/// Describes a worker. Made by [`Client::worker`].
pub struct WorkerBuilder {
    client: Client,
    name: Arc<str>,
    group: Option<String>,
    topics: Vec<String>,
    excluded: Vec<String>,
    properties: BTreeMap<String, String>,
    order: Order,
    concurrency: usize,
    in_work_records: usize,
    in_work_bytes: usize,
    retry: Retry,
    dead_letter: Option<DeadLetter>,
    on_exhausted: Option<OnExhausted>,
    after_dead_letter: AfterDeadLetter,
    retry_tiers: Option<RetryTiers>,
    process_delay: Option<Duration>,
    handler_timeout: Option<Duration>,
    commit_every: Option<Duration>,
    drain_timeout: Duration,
    on_drain_deadline: OnDrainDeadline,
    on_gap: OnGap,
    on_map_full: OnMapFull,
    start: Start,
    execution: Execution,
    lease: Option<Duration>,
    shards: Option<usize>,
    gather: Gather,
    start_stopped: bool,
    start_when_healthy: bool,
    stall_after: Duration,
    on_stall: OnStall,
    check_every: Duration,
    witness: Option<Arc<dyn Witness>>,
    /// Reads all partitions without a group, and tells it how far it has come.
    course: Option<Arc<Course>>,
    metadata: CommitMetadata,
    hooks: Hooks,
    /// Nothing is committed but by transactions.
    in_transactions: bool,
    exactly_once: Option<ExactlyOnce>,
    watching: Watching,
    /// What holds starts back.
    policies: Policies,
    class_breaker: Option<(Breaker, ClassOf)>,
}

impl Client {
    /// A worker of that name, which is also its group unless [`WorkerBuilder::group`] says another.
    pub fn worker(&self, name: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder {
            client: self.clone(),
            name: name.into().into(),
            group: None,
            topics: Vec::new(),
            excluded: Vec::new(),
            properties: BTreeMap::new(),
            order: Order::Key,
            concurrency: 256,
            in_work_records: 20_000,
            in_work_bytes: 64 << 20,
            retry: Retry::default(),
            dead_letter: None,
            on_exhausted: None,
            after_dead_letter: AfterDeadLetter::Continue,
            retry_tiers: None,
            process_delay: None,
            handler_timeout: None,
            commit_every: None,
            drain_timeout: Duration::from_secs(25),
            on_drain_deadline: OnDrainDeadline::Cancel,
            on_gap: OnGap::Continue,
            on_map_full: OnMapFull::Continue,
            start: Start::Earliest,
            execution: Execution::Inline,
            lease: None,
            shards: None,
            gather: Gather { max: 1, wait: Duration::ZERO },
            start_stopped: false,
            start_when_healthy: false,
            stall_after: Duration::from_secs(300),
            on_stall: OnStall::Warn,
            check_every: Duration::from_secs(5),
            witness: None,
            course: None,
            metadata: CommitMetadata::Map,
            hooks: Hooks::default(),
            in_transactions: false,
            exactly_once: None,
            watching: Watching::default(),
            policies: Policies::default(),
            class_breaker: None,
        }
    }
}

impl WorkerBuilder {
    /// The consumer group. Default: the worker's name.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }

    /// Adds a topic. One that begins with `^` is a regular expression over topic names.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Adds topics.
    pub fn topics<S: Into<String>>(mut self, topics: impl IntoIterator<Item = S>) -> Self {
        self.topics.extend(topics.into_iter().map(Into::into));
        self
    }

    /// Leaves out the topics whose names match a regular expression, where topics are named by one. With the classic group
    /// protocol; in `group.protocol=consumer` brokers match the names, and know no exceptions.
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.excluded.push(pattern.into());
        self
    }

    /// A client property for this worker alone, by librdkafka's name.
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }

    /// Which records wait for each other. Default: [`Order::Key`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Handlers that run at once, over all partitions; at least 1. Default: 256.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Records that may wait in memory for their key, over all partitions. Beyond its part of them a key's records are
    /// kept as offsets and read again. Default: 20,000.
    pub fn in_work_records(mut self, records: usize) -> Self {
        self.in_work_records = records;
        self
    }

    /// Bytes of fetched records that may be held, over all partitions; each partition may always hold one batch (256 KiB,
    /// or a single larger record). Default: 64 MiB.
    pub fn in_work_bytes(mut self, bytes: usize) -> Self {
        self.in_work_bytes = bytes;
        self
    }

    /// When failed records are tried again. Default: five attempts, 200 ms doubling up to 30 s, jitter 0.2.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Where records go that have had all their attempts. Default: nowhere; they are parked.
    pub fn dead_letter(mut self, dead_letter: DeadLetter) -> Self {
        self.dead_letter = Some(dead_letter);
        self
    }

    /// What happens to a record that has had all its attempts. Default: [`OnExhausted::DeadLetter`] where one is
    /// configured, else [`OnExhausted::Park`].
    pub fn on_exhausted(mut self, policy: OnExhausted) -> Self {
        self.on_exhausted = Some(policy);
        self
    }

    /// How long an attempt may take; then its future is dropped and it has failed. Default: as long as it wants.
    pub fn handler_timeout(mut self, timeout: Duration) -> Self {
        self.handler_timeout = Some(timeout);
        self
    }

    /// How often what is finished is committed. Default: 1 s.
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.commit_every = Some(interval);
        self
    }

    /// Commits nothing by itself.
    pub(crate) fn commit_in_transactions(mut self) -> Self {
        self.in_transactions = true;
        self
    }

    pub(crate) fn commits_in_transactions(&self) -> bool {
        self.in_transactions
    }

    /// How long handlers may go on after a revocation or a stop; after a revocation never later than
    /// `max.poll.interval.ms` less 5 s. What is left of it, up to a minute, is also for the last commit, which has 5 s at
    /// least. Default: 25 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// What happens to attempts that still run at a drain's deadline. Default: they are cancelled.
    pub fn on_drain_deadline(mut self, policy: OnDrainDeadline) -> Self {
        self.on_drain_deadline = policy;
        self
    }

    /// What happens when the records to be read next are gone. Default: reported, and on with the first there is.
    pub fn on_gap(mut self, policy: OnGap) -> Self {
        self.on_gap = policy;
        self
    }

    /// What happens while the commit map does not fit. Default: work goes on.
    pub fn on_map_full(mut self, policy: OnMapFull) -> Self {
        self.on_map_full = policy;
        self
    }

    /// Where a group begins that has committed nothing. Default: [`Start::Earliest`].
    pub fn start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Where handlers run. Default: [`Execution::Inline`].
    pub fn execution(mut self, execution: Execution) -> Self {
        self.execution = execution;
        self
    }

    /// How long after the group coordinator's last answer records may still be started. Default: `session.timeout.ms`
    /// less `heartbeat.interval.ms` and 1 s, at least half of it (41 s by default); with `group.protocol=consumer`, where
    /// the broker keeps both, 39 s (its defaults of 45 s and 5 s).
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = Some(lease);
        self
    }

    /// What commits say beside their offset. Default: [`CommitMetadata::Map`].
    pub fn metadata(mut self, metadata: CommitMetadata) -> Self {
        self.metadata = metadata;
        self
    }

    /// Tasks that the partitions are spread over. Default: one a core.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Begins stopped: the run makes no client and joins no group until [`WorkerHandle::start`]. Default: it starts as
    /// soon as it runs.
    pub fn start_stopped(mut self) -> Self {
        self.start_stopped = true;
        self
    }

    /// Each start waits until the brokers answer and the topics that are named are there, in
    /// [`WorkerState::Starting`]; health says what is missing. It asks again after a wait that doubles from 200 ms up to
    /// 30 s, of which chance takes any part. Default: it joins its group at once, and waits there.
    pub fn start_when_healthy(mut self) -> Self {
        self.start_when_healthy = true;
        self
    }

    /// How long an attempt may run, or a partition with records stand still, before health is critical and
    /// [`WorkerHandle::is_live`] (for an attempt) no more true. Default: 5 min.
    pub fn stall_after(mut self, time: Duration) -> Self {
        self.stall_after = time;
        self
    }

    /// How often the worker looks at itself and publishes metrics. Every third time it asks the cluster for its topics
    /// and the logs' ends. Default: 5 s.
    pub fn check_every(mut self, interval: Duration) -> Self {
        self.check_every = interval;
        self
    }

    /// Who is told of the worker's doings in place. Default: nobody.
    pub fn witness(mut self, witness: Arc<dyn Witness>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Checks everything and makes a worker of it. Nothing connects yet.
    pub fn handler<T: Decode, H: Handler<T>>(self, handler: H) -> ReadyWorker<T, H> {
        ReadyWorker { builder: self, handler, body: std::marker::PhantomData }
    }

    /// Makes it read all partitions without a group; it tells `course` how far it has come, ten times a second.
    pub(crate) fn groupless(mut self, course: Arc<Course>) -> Self {
        (self.course, self.commit_every) = (Some(course), Some(Duration::from_millis(100)));
        self
    }

    pub(crate) fn hooks(mut self, set: impl FnOnce(&mut Hooks)) -> Self {
        set(&mut self.hooks);
        self
    }

    /// With the client of its topics' cluster, and the group's name as the brokers have it.
    fn placed(mut self) -> Result<Self, ConfigError> {
        if self.course.is_none() {
            self.group = Some(self.client.group(self.group_name()));
        }
        let (letters, tiers) = (self.dead_letter_topics(), self.tier_names());
        self.client = self.client.for_topics(self.topics.iter().chain(&letters).chain(&tiers).map(String::as_str))?;
        Ok(self)
    }

    pub(crate) fn has_handler_timeout(&self) -> bool {
        self.handler_timeout.is_some()
    }

    fn commit_interval(&self) -> Duration {
        self.commit_every.unwrap_or(Duration::from_secs(1))
    }

    fn group_name(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.name)
    }

    /// The topics that are named, without patterns.
    fn exact_topics(&self) -> Vec<String> {
        self.topics.iter().filter(|topic| !topic.starts_with('^')).cloned().collect()
    }

    /// Where their dead letters go.
    fn dead_letter_topics(&self) -> Vec<String> {
        let Some(letters) = &self.dead_letter else { return Vec::new() };
        let group = self.group_name();
        // A name that cannot be made was refused when the worker was built.
        let names = self
            .exact_topics()
            .into_iter()
            .filter_map(|topic| names::dead_letter_topic(&letters.template, &topic, group).ok());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }

    fn check(&self) -> Result<Properties, ConfigError> {
        names::check_group(self.group_name())?;
        if self.topics.is_empty() {
            return Err(ConfigError::new("topics", "a worker needs a topic").remedy("name one with .topic(..)"));
        }
        for topic in &self.topics {
            match self.course {
                None => names::check_topic_or_pattern(topic)?,
                Some(_) => names::check_topic(topic)?,
            }
        }
        if self.course.is_some() {
            self.check_groupless()?;
        }
        let too_small = |key: &str, value: usize| match value {
            0 => Err(ConfigError::new(key, "must be at least 1")),
            _ => Ok(()),
        };
        too_small("concurrency", self.concurrency)?;
        too_small("in_work_records", self.in_work_records)?;
        too_small("in_work_bytes", self.in_work_bytes)?;
        too_small("shards", self.shards.unwrap_or(1))?;
        self.check_limits()?;
        for (key, time) in [
            ("commit_every", self.commit_interval()),
            ("stall_after", self.stall_after),
            ("check_every", self.check_every),
        ] {
            if time.is_zero() {
                return Err(ConfigError::new(key, "must be longer than nothing").remedy("use 1s, for example"));
            }
        }
        match &self.dead_letter {
            Some(d) => names::check_dead_letter(&d.template, &self.topics, self.group_name())?,
            None if self.on_exhausted == Some(OnExhausted::DeadLetter) => {
                let problem = "says dead_letter, but no dead-letter topic is configured";
                return Err(ConfigError::new("on_exhausted", problem).remedy("add .dead_letter(..)"));
            }
            None => {}
        }
        self.check_stalls()?;
        self.check_follow()?;
        self.check_tiers()?;
        let mut properties = self.client.properties().clone();
        for (name, value) in &self.properties {
            crate::config::check_property(name, value)?;
            properties.insert(name.clone(), value.clone());
        }
        if self.in_transactions && properties.get("isolation.level").is_some_and(|level| level == "read_uncommitted") {
            let problem = "is read_uncommitted: offsets would be read that a transaction is about to change";
            return Err(ConfigError::new("isolation.level", problem).remedy("leave it out"));
        }
        properties.insert("group.id".to_owned(), self.group_name().to_owned());
        self.exclude_from(&mut properties)?;
        Ok(properties)
    }

    /// Excluded topics are ones that the clients do not see.
    fn exclude_from(&self, properties: &mut Properties) -> Result<(), ConfigError> {
        if self.excluded.is_empty() {
            return Ok(());
        }
        let mistake = |problem: String, remedy: &str| Err(ConfigError::new("exclude", problem).remedy(remedy));
        if properties.get("group.protocol").is_some_and(|p| p.eq_ignore_ascii_case("consumer")) {
            let problem = "is not for group.protocol=consumer, in which brokers match topics' names".to_owned();
            return mistake(problem, "write a pattern that leaves them out, or use the classic protocol");
        }
        if !self.topics.iter().any(|topic| topic.starts_with('^')) {
            return mistake("excludes from patterns, and there is none".to_owned(), "leave it out");
        }
        for pattern in &self.excluded {
            names::check_topic_or_pattern(&format!("^{}", pattern.trim_start_matches('^')))?;
            if pattern.contains(',') {
                return mistake(format!("{pattern:?} has a comma, which no topic's name has"), "take it out");
            }
            if let Some(topic) = self.topics.iter().find(|topic| *topic == pattern) {
                return mistake(format!("{topic:?} is excluded and wanted"), "leave one of them out");
            }
        }
        properties.insert("topic.blacklist".to_owned(), self.excluded.join(","));
        Ok(())
    }

    /// What only a member of a group can have.
    fn check_groupless(&self) -> Result<(), ConfigError> {
        let of_groups = [("group", self.group.is_some()), ("lease", self.lease.is_some())];
        if let Some((key, _)) = of_groups.into_iter().find(|(_, set)| *set) {
            let problem = "is for members of a group, and a history has none";
            return Err(ConfigError::new(key, problem).remedy("leave it out, or use a worker"));
        }
        if self.start == Start::Nowhere {
            let problem = "nothing is committed without a group: there is nowhere to begin";
            return Err(ConfigError::new("start", problem).remedy("use Start::Earliest"));
        }
        Ok(())
    }
}

/// A worker that has its handler and only needs to be built.
pub struct ReadyWorker<T, H> {
    builder: WorkerBuilder,
    handler: H,
    body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, H: Handler<T>> ReadyWorker<T, H> {
    /// Checks the configuration. Nothing connects before [`Worker::run`].
    pub fn build(self) -> Result<Worker<T, H>, Error> {
        self.builder.refuse_exactly_once("handler")?;
        let built = Built::new(self.builder)?;
        let handler = Arc::new(Watched::new(Handling(self.handler), built.watch()));
        Ok(Worker { built, handler, body: self.body })
    }
}

/// A worker: reads its topics as a member of a group and runs its handler for every record.
pub struct Worker<T, H> {
    built: Built,
    handler: Arc<Watched<Handling<H>>>,
    body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, H: Handler<T>> Worker<T, H> {
    /// A handle to steer and watch the worker with.
    pub fn handle(&self) -> WorkerHandle {
        self.built.handle().clone()
    }

    /// Runs until a handle closes the worker, or it cannot go on. Handles stop and start it meanwhile
    /// ([`WorkerHandle::stop`]).
    ///
    /// Without a broker it keeps trying, with back-off, and health is critical. Must be called in a Tokio runtime with
    /// timers; a current-thread one will do. Dropping the future ends the worker at once, as a crash would: nothing is
    /// committed any more, the group learns of it when the session time-out passes, and what was in work comes again.
    pub async fn run(self) -> Result<Report, RunError> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `shutdown` ends, then closes in order; otherwise like [`run`](Self::run).
    ///
    /// With [`signal::shutdown`](crate::signal::shutdown), the first SIGTERM or SIGINT drains.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Report, RunError> {
        let Self { built, handler, .. } = self;
        let execution = built.common().execution;
        built.run_until(shutdown, move || Handlers::new(handler.clone(), execution)).await
    }
}

/// What a worker has done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Records and attempts, by what became of them.
    pub counts: Counts,
    /// Attempts that still ran at a drain's deadline, by partition; their records come again.
    pub cut_off: Vec<(TopicPartition, usize)>,
    /// Partitions that were given back without their last commit, which the coordinator refused or did not answer in the
    /// time for the drain (see [`drain_timeout`](WorkerBuilder::drain_timeout)): what finished since the commit before comes
    /// again.
    pub uncommitted: Vec<TopicPartition>,
}

impl Report {
    /// Whether every handler that was running ended before its drain's deadline, and all that was done is committed.
    pub fn is_clean(&self) -> bool {
        self.cut_off.is_empty() && self.uncommitted.is_empty()
    }
}

/// Why a worker ended, and what it had done by then.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct RunError {
    /// Why.
    #[source]
    pub error: Error,
    /// What it had done.
    pub report: Report,
}
