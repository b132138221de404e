//! Workers: a handler, the topics it works on, and the promises kept around it.

mod handle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use waterwheel_core::engine::{Engine, Exhausted, Settings};
use waterwheel_core::group::{Group, GroupSettings};
use waterwheel_core::lanes::Order;
use waterwheel_core::retry::Retry;

pub use handle::{Events, PartitionStatus, RecordStatus, Snapshot, WorkerHandle, WorkerState};

use crate::body::Decode;
use crate::client::{Fetcher, Membership, Properties};
use crate::config::{ConfigError, names};
use crate::connection::Client;
use crate::dead_letter::{DeadLetter, Writer};
use crate::driver::clock::Clock;
use crate::driver::coordinator::{Ask, Coordinator, Ended, Wishes};
use crate::driver::groupless::{Course, Groupless};
use crate::driver::mailbox::Mailbox;
use crate::driver::opening::Opener;
use crate::driver::outbound::Letterbox;
use crate::driver::pool::Pool;
use crate::driver::shard::{Common, Shard};
use crate::driver::tally::{Counts, Tally};
use crate::driver::tasks::Tasks;
use crate::error::Error;
use crate::handler::Handler;
use crate::health::Trouble;
use crate::record::TopicPartition;
use crate::settings::{Execution, OnDrainDeadline, OnExhausted, OnGap, OnMapFull, Start};
use crate::witness::Witness;

/// Events that a reader may be behind before it misses some.
const EVENTS: usize = 1024;

/// How long the last commit, and then leaving the group, may each take when a worker stops.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Kept back from `max.poll.interval.ms` in a drain, for the commit and a heartbeat (measured: a drain that lasts
/// longer costs a member all its partitions).
const REVOCATION_MARGIN: Duration = Duration::from_secs(5);

/// Kept back from the session time-out in a lease, beside the time between two heartbeats: the coordinator counts from
/// when it sent its answer.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// Describes a worker. Made by [`Client::worker`].
pub struct WorkerBuilder {
    client: Client,
    name: Arc<str>,
    group: Option<String>,
    topics: Vec<String>,
    properties: BTreeMap<String, String>,
    order: Order,
    concurrency: usize,
    in_work_records: usize,
    in_work_bytes: usize,
    retry: Retry,
    dead_letter: Option<DeadLetter>,
    on_exhausted: Option<OnExhausted>,
    handler_timeout: Option<Duration>,
    commit_every: Duration,
    drain_timeout: Duration,
    on_drain_deadline: OnDrainDeadline,
    on_gap: OnGap,
    on_map_full: OnMapFull,
    start: Start,
    execution: Execution,
    lease: Option<Duration>,
    shards: Option<usize>,
    witness: Option<Arc<dyn Witness>>,
    /// Reads all partitions without a group, and tells it how far it has come.
    course: Option<Arc<Course>>,
}

impl Client {
    /// A worker of that name, which is also its group unless [`WorkerBuilder::group`] says another.
    pub fn worker(&self, name: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder {
            client: self.clone(),
            name: name.into().into(),
            group: None,
            topics: Vec::new(),
            properties: BTreeMap::new(),
            order: Order::Key,
            concurrency: 256,
            in_work_records: 20_000,
            in_work_bytes: 64 << 20,
            retry: Retry::default(),
            dead_letter: None,
            on_exhausted: None,
            handler_timeout: None,
            commit_every: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(25),
            on_drain_deadline: OnDrainDeadline::Cancel,
            on_gap: OnGap::Continue,
            on_map_full: OnMapFull::Continue,
            start: Start::Earliest,
            execution: Execution::Inline,
            lease: None,
            shards: None,
            witness: None,
            course: None,
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
        self.commit_every = interval;
        self
    }

    /// How long handlers may go on after a revocation or a stop; after a revocation never later than
    /// `max.poll.interval.ms` less 5 s. Default: 25 s.
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

    /// Tasks that the partitions are spread over. Default: one a core.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
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
        (self.course, self.commit_every) = (Some(course), Duration::from_millis(100));
        self
    }

    fn group_name(&self) -> &str {
        self.group.as_deref().unwrap_or(&self.name)
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
        if self.commit_every.is_zero() {
            return Err(ConfigError::new("commit_every", "must be longer than nothing").remedy("use 1s, for example"));
        }
        match &self.dead_letter {
            Some(d) => names::check_dead_letter(&d.template, &self.topics, self.group_name())?,
            None if self.on_exhausted == Some(OnExhausted::DeadLetter) => {
                let problem = "says dead_letter, but no dead-letter topic is configured";
                return Err(ConfigError::new("on_exhausted", problem).remedy("add .dead_letter(..)"));
            }
            None => {}
        }
        let mut properties = self.client.properties().clone();
        for (name, value) in &self.properties {
            crate::config::check_property(name, value)?;
            properties.insert(name.clone(), value.clone());
        }
        properties.insert("group.id".to_owned(), self.group_name().to_owned());
        Ok(properties)
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
        let builder = self.builder;
        let properties = builder.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = builder.shards.unwrap_or(cores).min(builder.concurrency);
        let common = Arc::new(Common {
            clock: Clock::start(builder.client.backend().time()),
            pool: Pool::new(builder.concurrency, shards),
            tally: Tally::default(),
            events: broadcast::Sender::new(EVENTS),
            execution: builder.execution,
            on_drain_deadline: builder.on_drain_deadline,
            witness: builder.witness.clone(),
        });
        let wishes = Arc::new(watch::Sender::new(Wishes::default()));
        let (asks, asks_in) = mpsc::channel(16);
        let state = Arc::new(watch::Sender::new(WorkerState::Initialising));
        let trouble = Arc::new(Trouble::default());
        let handle = WorkerHandle {
            name: builder.name.clone(),
            wishes,
            asks,
            state: state.subscribe(),
            common: common.clone(),
            trouble,
        };
        let handler = Arc::new(self.handler);
        Ok(Worker {
            builder,
            properties,
            shards,
            common,
            asks: asks_in,
            state: ClosedWhenDropped(state),
            handle,
            handler,
            body: self.body,
        })
    }
}

/// A worker: reads its topics as a member of a group and runs its handler for every record.
pub struct Worker<T, H> {
    builder: WorkerBuilder,
    properties: Properties,
    shards: usize,
    common: Arc<Common>,
    asks: mpsc::Receiver<Ask>,
    state: ClosedWhenDropped,
    handle: WorkerHandle,
    handler: Arc<H>,
    body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, H: Handler<T>> Worker<T, H> {
    /// A handle to steer and watch the worker with.
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Runs until a handle stops the worker, or it cannot go on.
    ///
    /// Without a broker it keeps trying, with back-off, and health is critical. Must be called in a Tokio runtime with
    /// timers; a current-thread one will do. Dropping the future ends the worker at once, as a crash would: nothing is
    /// committed any more, the group learns of it when the session time-out passes, and what was in work comes again.
    pub async fn run(self) -> Result<Report, RunError> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `shutdown` ends, then stops in order; otherwise like [`run`](Self::run).
    ///
    /// With [`signal::shutdown`](crate::signal::shutdown), the first SIGTERM or SIGINT drains.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Report, RunError> {
        let handle = self.handle.clone();
        let run = self.run_to_end();
        tokio::pin!(run, shutdown);
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = &mut shutdown => {
                handle.stop();
                run.await
            }
        };
        ended
    }

    async fn run_to_end(self) -> Result<Report, RunError> {
        let Worker { builder, properties, shards, common, asks, state, handle, handler, .. } = self;
        let fail = |error: Error| RunError { error, report: Report::default() };
        let backend = builder.client.backend().clone();
        let admin = backend.admin(&properties).map_err(|e| fail(e.into()))?;
        let membership: Arc<dyn Membership> = match &builder.course {
            None => backend.membership(&properties, &builder.topics).map_err(|e| fail(e.into()))?,
            Some(course) => {
                let (topics, course) = (builder.topics.clone(), course.clone());
                Arc::new(Groupless::new(admin.clone(), topics, builder.start, course))
            }
        };
        let fetcher = backend.fetcher(&properties).map_err(|e| fail(e.into()))?;
        let letterbox = match &builder.dead_letter {
            Some(_) => {
                let (backend, properties) = (backend.clone(), for_dead_letters(&properties));
                let make = Box::new(move || backend.producer(&properties));
                Some(Arc::new(Letterbox::new(make).map_err(|e| fail(e.into()))?))
            }
            None => None,
        };
        let exact: Vec<String> = builder.topics.iter().filter(|t| !t.starts_with('^')).cloned().collect();
        // So that both are connected by the time the group has answered.
        fetcher.warm(&exact);
        drop(admin.describe_topics(exact));

        let inbox = Mailbox::new();
        let settings = engine_settings(&builder, &common);
        let mut tasks = Tasks::new();
        let mailboxes: Vec<_> = (0..shards).map(|_| Mailbox::new()).collect();
        for (number, mailbox) in mailboxes.iter().enumerate() {
            let dead_letters = builder
                .dead_letter
                .clone()
                .map(|d| Writer::new(d, builder.group_name().to_owned()))
                .zip(letterbox.clone());
            let shard = Shard::new(
                number,
                common.clone(),
                Engine::new(settings.clone()),
                fetcher.queue().map_err(|e| fail(e.into()))?,
                handler.clone(),
                mailbox.clone(),
                inbox.clone(),
                dead_letters,
            );
            tasks.spawn(shard);
        }
        let group = Group::new(group_settings(&builder, &properties), common.clock.now());
        let opener = Opener { membership: membership.clone(), admin, start: builder.start, clock: common.clock };
        let coordinator = Coordinator::new(
            common.clone(),
            group,
            membership.clone(),
            opener,
            mailboxes,
            inbox,
            handle.wishes.subscribe(),
            asks,
            state.0.clone(),
            handle.trouble.clone(),
            builder.on_gap,
            builder.on_map_full,
        );
        let ended = tokio::select! {
            ended = coordinator.run() => ended,
            // A shard ends before the coordinator says so only by a panic that is not the handler's.
            () = tasks.one_ended() => {
                tracing::error!("a task of the worker panicked: it ends at once, as by a crash");
                Ended { error: Some(Error::Broken), cut_off: Vec::new() }
            }
        };
        if matches!(ended.error, Some(Error::Broken)) {
            tasks.abort();
        }
        tasks.all_ended().await;
        // Without partitions there is little to tell the group, and perhaps nobody to tell it to.
        let leaving = if handle.trouble.has_joined() { LAST_STEPS } else { LAST_STEPS / 5 };
        close(&*membership, leaving, &*fetcher, letterbox.as_deref()).await;
        drop(state);
        let report = Report { counts: common.tally.read(), cut_off: ended.cut_off };
        match ended.error {
            None => Ok(report),
            Some(error) => Err(RunError { error, report }),
        }
    }
}

/// Makes the state [`WorkerState::Closed`] however the worker ends, also when it is dropped.
struct ClosedWhenDropped(Arc<watch::Sender<WorkerState>>);

impl Drop for ClosedWhenDropped {
    fn drop(&mut self) {
        self.0.send_replace(WorkerState::Closed);
    }
}

/// A dead letter that is not acknowledged within 10 s, or whose topic is not found within 5 s, is a failure that is told
/// and repeated, unless the user's properties say otherwise. By the client's defaults (300 s, 30 s) a hand-over would wait
/// for that long.
fn for_dead_letters(properties: &Properties) -> Properties {
    let mut properties = properties.clone();
    properties.entry("topic.metadata.propagation.max.ms".to_owned()).or_insert_with(|| "5000".to_owned());
    if !properties.contains_key("message.timeout.ms") {
        properties.entry("delivery.timeout.ms".to_owned()).or_insert_with(|| "10000".to_owned());
    }
    properties
}

/// Ends the clients, each within its time; one that does not end by then ends on a thread of its own.
async fn close(membership: &dyn Membership, leaving: Duration, fetcher: &dyn Fetcher, letterbox: Option<&Letterbox>) {
    if tokio::time::timeout(leaving, membership.close()).await.is_err() {
        tracing::warn!("the group did not answer in time: it learns of the end when the session time-out passes");
    }
    let rest = async {
        // What could not be ended in order is not the user's trouble any more.
        let _ = fetcher.close().await;
        if let Some(letterbox) = letterbox {
            let _ = letterbox.close().await;
        }
    };
    if tokio::time::timeout(LAST_STEPS, rest).await.is_err() {
        tracing::warn!("a client did not end in time; it ends in the background");
    }
}

fn engine_settings(builder: &WorkerBuilder, common: &Common) -> Settings {
    let exhausted = match builder.on_exhausted {
        Some(OnExhausted::DeadLetter) => Exhausted::DeadLetter,
        Some(OnExhausted::Park) => Exhausted::Park,
        Some(OnExhausted::Skip) => Exhausted::Skip,
        Some(OnExhausted::Stop) => Exhausted::Stop,
        None if builder.dead_letter.is_some() => Exhausted::DeadLetter,
        None => Exhausted::Park,
    };
    Settings {
        order: builder.order,
        retry: builder.retry.clone(),
        exhausted,
        dead_letter: builder.dead_letter.is_some(),
        handler_timeout: builder.handler_timeout,
        concurrency: builder.concurrency,
        waiting: builder.in_work_records,
        bytes: builder.in_work_bytes,
        wall_start_ms: common.clock.wall_start_ms(),
        ..Settings::default()
    }
}

fn group_settings(builder: &WorkerBuilder, properties: &Properties) -> GroupSettings {
    let millis = |name: &str| properties.get(name).and_then(|v| v.parse().ok()).map(Duration::from_millis);
    let max_poll = millis("max.poll.interval.ms").unwrap_or(Duration::from_secs(300));
    let session = millis("session.timeout.ms").unwrap_or(Duration::from_secs(45));
    // Brokers keep those of `group.protocol=consumer`; 5 s is Kafka's default.
    let of_brokers = properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
    let heartbeat = if of_brokers { Duration::from_secs(5) } else { Duration::from_secs(3) };
    let heartbeat = millis("heartbeat.interval.ms").unwrap_or(heartbeat);
    // With little time to spare, half of it.
    let less = |time: Duration, margin: Duration| time.saturating_sub(margin).max(time / 2);
    GroupSettings {
        commit_every: builder.commit_every,
        drain_timeout: builder.drain_timeout,
        revocation_limit: less(max_poll, REVOCATION_MARGIN),
        // The answer may have been to something else than a heartbeat, which is all that keeps a session alive.
        // Without a group nobody else can be given the partitions.
        lease: match builder.course {
            None => Some(builder.lease.unwrap_or_else(|| less(session, heartbeat + LEASE_MARGIN))),
            Some(_) => None,
        },
        commit_timeout: LAST_STEPS.min(less(max_poll, REVOCATION_MARGIN)),
        ..GroupSettings::default()
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
}

impl Report {
    /// Whether every handler that was running ended before its drain's deadline.
    pub fn is_clean(&self) -> bool {
        self.cut_off.is_empty()
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
