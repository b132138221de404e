//! A session: one run of a worker, from joining its group to leaving it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc, watch};
use waterwheel_core::engine::{Engine, Exhausted, Settings};
use waterwheel_core::group::{Group, GroupSettings};

use super::{Report, RunError, WorkerBuilder, WorkerHandle, WorkerState};
use crate::client::{Fetcher, Membership, Properties};
use crate::config::ConfigError;
use crate::dead_letter::Writer;
use crate::driver::clock::Clock;
use crate::driver::coordinator::{Ask, Coordinator, Ended, Wishes};
use crate::driver::groupless::Groupless;
use crate::driver::mailbox::Mailbox;
use crate::driver::opening::Opener;
use crate::driver::outbound::Letterbox;
use crate::driver::pool::Pool;
use crate::driver::shard::{Common, Shard, Work};
use crate::driver::tally::Tally;
use crate::driver::tasks::Tasks;
use crate::error::Error;
use crate::health::Trouble;
use crate::settings::OnExhausted;

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

/// A worker that is built, but for what works on its records.
pub(crate) struct Built {
    builder: WorkerBuilder,
    properties: Properties,
    shards: usize,
    common: Arc<Common>,
    asks: mpsc::Receiver<Ask>,
    state: ClosedWhenDropped,
    handle: WorkerHandle,
}

impl Built {
    /// Checks the configuration. Nothing connects before [`run`](Self::run).
    pub(crate) fn new(builder: WorkerBuilder) -> Result<Self, ConfigError> {
        let properties = builder.check()?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let shards = builder.shards.unwrap_or(cores).min(builder.concurrency);
        let common = Arc::new(Common {
            clock: Clock::start(),
            pool: Pool::new(builder.concurrency, shards),
            tally: Tally::default(),
            events: broadcast::Sender::new(EVENTS),
            notifications: broadcast::Sender::new(EVENTS),
            execution: builder.execution,
            on_drain_deadline: builder.on_drain_deadline,
            witness: builder.witness.clone(),
        });
        let wishes = Arc::new(watch::Sender::new(Wishes::default()));
        let (asks, asks_in) = mpsc::channel(16);
        let state = Arc::new(watch::Sender::new(WorkerState::Initialising));
        let handle = WorkerHandle {
            name: builder.name.clone(),
            wishes,
            asks,
            state: state.subscribe(),
            common: common.clone(),
            trouble: Arc::new(Trouble::default()),
        };
        Ok(Self { builder, properties, shards, common, asks: asks_in, state: ClosedWhenDropped(state), handle })
    }

    pub(crate) fn handle(&self) -> &WorkerHandle {
        &self.handle
    }

    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// Joins the group, works, leaves it. `work` makes what each shard does with its records.
    pub(crate) async fn run<W: Work>(self, mut work: impl FnMut() -> W) -> Result<Report, RunError> {
        let Built { builder, properties, shards, common, mut asks, state, handle } = self;
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
                work(),
                mailbox.clone(),
                inbox.clone(),
                dead_letters,
            );
            tasks.spawn(shard);
        }
        let group = Group::new(group_settings(&builder, &properties), common.clock.now());
        let opener = Opener { membership: membership.clone(), admin, start: builder.start, metadata: builder.metadata };
        let coordinator = Coordinator::new(
            common.clone(),
            group,
            membership.clone(),
            opener,
            mailboxes,
            inbox,
            handle.wishes.subscribe(),
            &mut asks,
            state.0.clone(),
            handle.trouble.clone(),
            builder.on_gap,
            builder.on_map_full,
            builder.metadata,
            builder.hooks.clone(),
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
        gather: builder.gather,
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
