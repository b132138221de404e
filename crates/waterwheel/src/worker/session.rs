//! A session: from joining a group to leaving it, with clients of its own.

use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::engine::{Engine, Exhausted, Settings};
use waterwheel_core::group::{Committer, Group, GroupSettings};

use super::WorkerBuilder;
use super::life::Built;
use super::transforms::transactional;
use crate::client::{Admin, Fetcher, Membership, Properties};
use crate::dead_letter::Writer;
use crate::driver::attempt::Done;
use crate::driver::coordinator::{Coordinator, Ended};
use crate::driver::groupless::Groupless;
use crate::driver::mailbox::Mailbox;
use crate::driver::opening::Opener;
use crate::driver::outbound::Letterbox;
use crate::driver::pool::Pool;
use crate::driver::shard::transactor::Transactor;
use crate::driver::shard::{Common, Shard, Work};
use crate::driver::tasks::Tasks;
use crate::driver::transaction::Seat;
use crate::error::{Error, KafkaError};
use crate::settings::OnExhausted;

/// How long the last commit, and then leaving the group, may each take when a worker stops.
const LAST_STEPS: Duration = Duration::from_secs(5);

/// Kept back from `max.poll.interval.ms` in a drain, for the commit and a heartbeat (measured: a drain that lasts
/// longer costs a member all its partitions).
const REVOCATION_MARGIN: Duration = Duration::from_secs(5);

/// Kept back from the session time-out in a lease, beside the time between two heartbeats: the coordinator counts from
/// when it sent its answer.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

impl Built {
    /// Joins the group, works, leaves it: with clients of its own, which end with it. `work` makes what each shard does
    /// with its records.
    pub(super) async fn session<W: Work>(&mut self, admin: Arc<dyn Admin>, work: &mut impl FnMut() -> W) -> Ended {
        match self.open(admin, work) {
            Ok(open) => open.await,
            Err(error) => Ended::at_once(Some(error.into())),
        }
    }

    /// Makes the clients and the shards.
    fn open<'a, W: Work>(
        &'a mut self,
        admin: Arc<dyn Admin>,
        work: &mut impl FnMut() -> W,
    ) -> Result<impl Future<Output = Ended> + 'a, KafkaError> {
        let Built { builder, properties, shards, transactional_id, asks, held, state, handle, .. } = self;
        let gate = handle.common.gate.as_ref();
        if let Some(gate) = gate {
            gate.begin(handle.common.clock.now());
        }
        if let Some(classes) = &handle.common.classes {
            classes.begin();
        }
        let concurrency = gate.and_then(|gate| gate.limit()).unwrap_or(builder.concurrency);
        let common = Arc::new(handle.common.with(Pool::new(concurrency, *shards)));
        let backend = builder.client.backend().clone();
        let membership: Arc<dyn Membership> = match &builder.course {
            None => backend.membership(properties, &[&builder.topics[..], &builder.tier_names()].concat())?,
            Some(course) => {
                let (topics, course) = (builder.topics.clone(), course.clone());
                Arc::new(Groupless::new(admin.clone(), topics, builder.start, course))
            }
        };
        let fetcher = backend.fetcher(properties)?;
        // What works exactly once writes its letters in its transactions.
        let writes = builder.dead_letter.is_some() || builder.retry_tiers.is_some();
        let letterbox = match writes {
            true if builder.exactly_once.is_none() => {
                let properties = for_dead_letters(properties);
                let backend = backend.clone();
                let make = Box::new(move || backend.producer(&properties));
                Some(Arc::new(Letterbox::new(make)?))
            }
            _ => None,
        };
        let exact = [builder.exact_topics(), builder.tier_names()].concat();
        // So that both are connected by the time the group has answered.
        fetcher.warm(&exact);
        drop(admin.describe_topics(exact.clone()));

        let inbox = Mailbox::new();
        let settings = Settings { concurrency, ..engine_settings(builder, &common) };
        let mut tasks = Tasks::new();
        let mut attempts = Vec::new();
        let mailboxes: Vec<_> = (0..*shards).map(|_| Mailbox::new()).collect();
        let mut seats = Vec::new();
        for (number, mailbox) in mailboxes.iter().enumerate() {
            let writer =
                || Writer::new(builder.dead_letter.clone(), common.tiers.clone(), builder.group_name().to_owned());
            let dead_letters = writes.then(|| (writer(), letterbox.clone()));
            let transactor = match builder.terms() {
                Some(terms) => {
                    let id = format!("{transactional_id}-{number}");
                    let (backend, properties) = (backend.clone(), transactional(properties, &id));
                    let seat = Arc::new(Seat::new(id, Box::new(move || backend.transactions(&properties)))?);
                    seats.push(seat.clone());
                    Some(Box::new(Transactor::new(seat, terms)))
                }
                None => None,
            };
            let shard = Shard::new(
                number,
                common.clone(),
                Engine::new(settings.clone()),
                fetcher.queue()?,
                work(),
                mailbox.clone(),
                inbox.clone(),
                dead_letters,
                transactor,
            );
            attempts.push(shard.attempts());
            tasks.spawn(shard);
        }
        let group = Group::new(group_settings(builder, properties), common.clock.now());
        let (start, tiers, metadata) = (builder.start, common.tiers.clone(), builder.metadata);
        let opener = Opener { membership: membership.clone(), admin, start, tiers, metadata };
        let mut coordinator = Coordinator::new(
            common.clone(),
            group,
            membership.clone(),
            opener,
            mailboxes,
            inbox,
            handle.wishes.subscribe(),
            asks,
            state.sender().clone(),
            handle.trouble.clone(),
            builder.on_gap,
            builder.on_map_full,
            builder.metadata,
            builder.hooks.clone(),
            builder.in_transactions,
            exact,
        );
        held.drain(..).for_each(|ask| coordinator.ask(ask));
        let trouble = handle.trouble.clone();
        Ok(async move {
            let ended = tokio::select! {
                ended = coordinator.run() => ended,
                // A shard ends before the coordinator says so only by a panic that is not the handler's.
                () = tasks.one_ended() => {
                    tracing::error!("a task of the worker panicked: it ends at once, as by a crash");
                    Ended::at_once(Some(Error::Broken))
                }
            };
            if matches!(ended.error, Some(Error::Broken)) {
                tasks.abort();
            }
            tasks.all_ended().await;
            if W::drops_what_is_cut(&common) {
                all_dropped(&attempts).await;
            }
            // Before the group is left: whoever has the partitions next waits for what is open in them.
            close_all(&seats).await;
            // Without partitions there is little to tell the group, and perhaps nobody to tell it to.
            let leaving = if trouble.has_joined() { LAST_STEPS } else { LAST_STEPS / 5 };
            close(&*membership, leaving, &*fetcher, letterbox.as_deref()).await;
            ended
        })
    }
}

/// Waits until the futures of attempts that were cut have been dropped: one that is being polled, on another thread, is
/// dropped when that poll returns. One that does not return is left behind.
async fn all_dropped<O>(attempts: &[Mailbox<Done<O>>]) {
    let dropped = async {
        while attempts.iter().any(Mailbox::is_shared) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    if tokio::time::timeout(LAST_STEPS, dropped).await.is_err() {
        tracing::warn!("a handler that was cut off is still working on the processor");
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

/// Ends the clients of transactions, and what is open with them.
async fn close_all(seats: &[Arc<Seat>]) {
    let closing = futures_util::future::join_all(seats.iter().map(|seat| seat.close()));
    if tokio::time::timeout(LAST_STEPS, closing).await.is_err() {
        tracing::warn!("a transaction could not be ended in time: readers wait until its time is up");
    }
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
        follow: builder.follows(),
        tiers: builder.retry_tiers.as_ref().map(|tiers| tiers.of_engine(&builder.retry)),
        delay: builder.process_delay,
        handler_timeout: builder.handler_timeout,
        stall: builder.stall(),
        concurrency: builder.concurrency,
        waiting: builder.in_work_records,
        bytes: builder.in_work_bytes,
        wall_start_ms: common.clock.wall_start_ms(),
        gather: builder.gather,
        ..Settings::default()
    }
}

/// A century, which clocks can add.
const NEVER: Duration = Duration::from_secs(3_155_760_000);

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
        committer: if builder.exactly_once.is_some() { Committer::Shards } else { Committer::Member },
        // Transactions commit when they end.
        commit_every: if builder.in_transactions { NEVER } else { builder.commit_interval() },
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
