//! Describes a consumer, and starts it.

use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::FutureExt;
use waterwheel_core::lanes::Order;

use super::{Consumer, ConsumerHandle, EndsWith, MAX_UNFINISHED, Partitions, Run};
use crate::body::{Decode, Raw};
use crate::config::ConfigError;
use crate::connection::Client;
use crate::driver::delivery::{Openings, Outbox, Pulled};
use crate::driver::shard::deliveries::{Deliveries, Outlet};
use crate::driver::spawn;
use crate::error::Error;
use crate::failure::BoxError;
use crate::record::TopicPartition;
use crate::settings::CommitMetadata;
use crate::worker::{Built, WorkerBuilder};

/// Describes a consumer of bodies `T`. Made by [`Client::consumer`].
pub struct ConsumerBuilder<T = Raw> {
    worker: WorkerBuilder,
    body: PhantomData<fn() -> T>,
}

impl Client {
    /// A consumer in the group of that name.
    ///
    /// Everything that is not said here is as with a [`worker`](Self::worker), apart from two defaults: records wait for
    /// no other ([`Order::None`]), and 10,000 may be out unfinished at once.
    pub fn consumer(&self, group: impl Into<String>) -> ConsumerBuilder {
        let worker = self.worker(group).order(Order::None).concurrency(MAX_UNFINISHED);
        ConsumerBuilder { worker, body: PhantomData }
    }
}

impl<T: Decode> ConsumerBuilder<T> {
    /// Adds a topic. One that begins with `^` is a regular expression over topic names: topics that come to match while the
    /// consumer runs are found, those that vanish are left.
    pub fn topic(self, topic: impl Into<String>) -> Self {
        self.with(|worker| worker.topic(topic))
    }

    /// Adds topics.
    pub fn topics<S: Into<String>>(self, topics: impl IntoIterator<Item = S>) -> Self {
        self.with(|worker| worker.topics(topics))
    }

    /// Leaves out the topics whose names match a regular expression; for patterns of topics. See
    /// [`WorkerBuilder::exclude`].
    pub fn exclude(self, pattern: impl Into<String>) -> Self {
        self.with(|worker| worker.exclude(pattern))
    }

    /// Records that may be out unfinished at once, over all partitions, those included that wait to be pulled; at least 1.
    /// A quarter is kept for the partitions in equal parts. Default: 10,000.
    pub fn max_unfinished(self, records: usize) -> Self {
        self.with(|worker| worker.concurrency(records))
    }

    /// What commits say beside their offset. Default: [`CommitMetadata::Map`].
    pub fn metadata(self, metadata: CommitMetadata) -> Self {
        self.with(|worker| worker.metadata(metadata))
    }

    /// Commits nothing by itself: what is finished is committed by the transactions that
    /// [begin with](crate::TransactionalProducer::begin_with) this consumer, together with what they send, and counts for
    /// nothing where they are not committed. Finish a delivery when what follows from it was sent, not before.
    ///
    /// When a partition is to leave, what of it is finished waits for the open transaction's commit: after the drain for at
    /// most 5 s, then the partition leaves and the transaction can only be aborted. `on_assigned` is called again for
    /// partitions that go back after an abort. [`commit`](ConsumerHandle::commit) and [`reset`](ConsumerHandle::reset) are
    /// refused; a [`seek`](ConsumerHandle::seek) is committed with the next transaction. Default: the consumer commits by
    /// itself, every second.
    pub fn commit_in_transactions(self) -> Self {
        self.with(WorkerBuilder::commit_in_transactions)
    }

    /// Awaited when partitions came, before their first record; may name offsets at which to begin instead of the
    /// committed ones, for those who keep offsets in a store of their own. An error, or 60 s without an end, ends the
    /// consumer: it would begin at the wrong place.
    pub fn on_assigned<F, Fut, E>(self, hook: F) -> Self
    where
        F: Fn(Vec<TopicPartition>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(TopicPartition, i64)>, E>> + Send + 'static,
        E: Into<BoxError> + 'static,
    {
        let hook = move |partitions| hook(partitions).map(|named| named.map_err(Into::into)).boxed();
        self.with(|worker| worker.hooks(|hooks| hooks.on_assigned = Some(Arc::new(hook))))
    }

    /// Awaited when partitions leave in order: after all that was delivered of them is finished or the drain time-out has
    /// passed, before the last commit and before they are given back. Given up 2 s after the drain's deadline. Not called
    /// for partitions that are lost.
    pub fn on_revoked<F, Fut>(self, hook: F) -> Self
    where
        F: Fn(Vec<TopicPartition>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.with(|worker| worker.hooks(|hooks| hooks.on_revoked = Some(Arc::new(move |p| hook(p).boxed()))))
    }

    /// Sets what a worker has: properties (static membership, rack, assignors, `group.protocol`), where to begin, order,
    /// retries, dead letters, limits, time-outs. A handler time-out is refused when the consumer starts: what was
    /// delivered cannot be taken back.
    pub fn with(self, set: impl FnOnce(WorkerBuilder) -> WorkerBuilder) -> Self {
        Self { worker: set(self.worker), ..self }
    }

    /// Decodes bodies as `U`; as with a worker, a record that cannot be decoded goes to the dead-letter topic at once, or is
    /// parked where there is none, and is not delivered.
    pub fn decode<U: Decode>(self) -> ConsumerBuilder<U> {
        ConsumerBuilder { worker: self.worker, body: PhantomData }
    }

    /// Checks the configuration and starts it, in a Tokio runtime with timers. Connects in the background, with back-off;
    /// what goes wrong is told by [`ConsumerHandle`], and by [`Consumer::close`] if it ends the consumer.
    pub fn start(self) -> Result<Consumer<T>, Error> {
        let outbox = Outbox::new();
        let outlet = outbox.clone();
        let run = self.run(outbox.clone(), move || Outlet::Together(outlet.clone()))?;
        Ok(Consumer { outbox, run })
    }

    /// The same, but each partition is a stream of its own.
    pub fn start_partitions(self) -> Result<Partitions<T>, Error> {
        let openings = Openings::new();
        let outlet = openings.clone();
        let run = self.run(openings.clone(), move || Outlet::Apart(outlet.clone()))?;
        Ok(Partitions { openings, run })
    }

    /// Runs it in the background; `pulled` ends with it.
    fn run<P: Pulled + Send + Sync + 'static>(
        self,
        pulled: Arc<P>,
        mut outlet: impl FnMut() -> Outlet<T> + Send + 'static,
    ) -> Result<Run, Error> {
        if self.worker.has_handler_timeout() {
            let problem = "is for handlers: what a consumer has delivered cannot be taken back";
            return Err(ConfigError::new("handler_timeout", problem).remedy("leave it out, or use a worker").into());
        }
        let in_transactions = self.worker.commits_in_transactions();
        let built = Built::new(self.worker)?;
        let (client, common) = (built.client().clone(), built.common().clone());
        let handle = ConsumerHandle::new(built.handle().clone(), client, common, in_transactions);
        let task = spawn(async move {
            let _ends = EndsWith(pulled);
            built.run(move || Deliveries::new(outlet())).await
        });
        Ok(Run { handle, task: Some(task) })
    }
}

impl<T> std::fmt::Debug for ConsumerBuilder<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsumerBuilder")
    }
}
