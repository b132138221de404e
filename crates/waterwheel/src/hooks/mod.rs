//! Hooks: a program's own code that is told what a worker does, beside its path.

mod moments;

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use waterwheel_core::breaker::BreakerState;

pub(crate) use self::moments::Moment;
pub use self::moments::{AttemptEnd, AttemptOutcome, AttemptPlace, FetchedBatch, Finish};
use crate::events::Event;
use crate::failure::FailureClass;
use crate::record::TopicPartition;
use crate::worker::WorkerHandle;

/// Is told what a worker does, as it happens and in its order, by [`WorkerBuilder::hook`](crate::WorkerBuilder::hook).
///
/// A hook looks on. It runs on a thread of its own, one call after another, with the program's runtime at hand, so it may
/// wait, and call everything that the worker's handle has; the worker waits for it nowhere. What it has not been told yet waits
/// in a queue of 8,192 moments; when that is full, further moments are dropped and counted
/// ([`Counts::hook_moments_dropped`](crate::Counts)). A call that panics ends by that, and one that takes longer than
/// [`stall_after`](crate::WorkerBuilder::stall_after) or 10 s, whichever is less, is told once; both by
/// [`Event::HookFailed`]. When the worker has ended it waits for at most two seconds until the hook has been told all that
/// there was. What is to act in the path of records is a layer (feature `tower`) or the handler itself.
///
/// All methods do nothing unless they are written. Nothing that they are told holds a key or a payload.
///
/// ```no_run
/// use waterwheel::{AttemptEnd, AttemptOutcome, Client, Hook, Message, Raw, WorkerHandle};
///
/// struct Slow;
///
/// impl Hook for Slow {
///     async fn after_attempt(&self, _: &WorkerHandle, end: AttemptEnd) {
///         if end.took.as_secs() >= 5 && end.outcome == AttemptOutcome::Ok {
///             println!("{}@{} took {:?}", end.place.partition, end.place.offset, end.took);
///         }
///     }
/// }
///
/// # fn build(client: Client) -> Result<(), waterwheel::Error> {
/// # async fn charge(_: Message<Raw>) -> Result<(), waterwheel::Failure> { Ok(()) }
/// let worker = client.worker("billing").topic("orders").hook(Slow).handler(charge).build()?;
/// # Ok(())
/// # }
/// ```
pub trait Hook: Send + Sync + 'static {
    /// Records were fetched.
    fn fetched(&self, handle: &WorkerHandle, batch: FetchedBatch) -> impl Future<Output = ()> + Send {
        let _ = (handle, batch);
        async {}
    }

    /// An attempt begins; by when this is told it may have ended.
    fn before_attempt(&self, handle: &WorkerHandle, attempt: AttemptPlace) -> impl Future<Output = ()> + Send {
        let _ = (handle, attempt);
        async {}
    }

    /// An attempt ended.
    fn after_attempt(&self, handle: &WorkerHandle, end: AttemptEnd) -> impl Future<Output = ()> + Send {
        let _ = (handle, end);
        async {}
    }

    /// A record needs no more work. Of a worker that works exactly once only those that were dead-lettered, skipped or went to a
    /// retry tier are told: whether the others are finished, their transactions decide.
    fn finished(
        &self,
        handle: &WorkerHandle,
        partition: TopicPartition,
        offset: i64,
        how: Finish,
    ) -> impl Future<Output = ()> + Send {
        let _ = (handle, partition, offset, how);
        async {}
    }

    /// A record is in the dead-letter topic, acknowledged.
    fn dead_lettered(
        &self,
        handle: &WorkerHandle,
        partition: TopicPartition,
        offset: i64,
        class: FailureClass,
    ) -> impl Future<Output = ()> + Send {
        let _ = (handle, partition, offset, class);
        async {}
    }

    /// These offsets are about to be committed; by when this is told they may be. Not told where transactions commit.
    fn before_commit(
        &self,
        handle: &WorkerHandle,
        offsets: Vec<(TopicPartition, i64)>,
    ) -> impl Future<Output = ()> + Send {
        let _ = (handle, offsets);
        async {}
    }

    /// Partitions came.
    fn assigned(&self, handle: &WorkerHandle, partitions: Vec<TopicPartition>) -> impl Future<Output = ()> + Send {
        let _ = (handle, partitions);
        async {}
    }

    /// Nothing of a partition that is to leave runs any more; so many attempts were cut off for that.
    fn drained(
        &self,
        handle: &WorkerHandle,
        partition: TopicPartition,
        cut_off: usize,
    ) -> impl Future<Output = ()> + Send {
        let _ = (handle, partition, cut_off);
        async {}
    }

    /// Partitions were drained, committed and given back.
    fn revoked(&self, handle: &WorkerHandle, partitions: Vec<TopicPartition>) -> impl Future<Output = ()> + Send {
        let _ = (handle, partitions);
        async {}
    }

    /// The circuit breaker, or that of a class, opened, lets probes through, or closed; what it lets through now. See
    /// [`WorkerBuilder::breaker`](crate::WorkerBuilder::breaker).
    fn breaker_changed(
        &self,
        handle: &WorkerHandle,
        class: Option<Arc<str>>,
        state: BreakerState,
    ) -> impl Future<Output = ()> + Send {
        let _ = (handle, class, state);
        async {}
    }

    /// Every other [`Event`]: retries, lost partitions, gaps, commits that fail, and what else there will be. But for
    /// [`Event::HookFailed`].
    fn event(&self, handle: &WorkerHandle, event: Event) -> impl Future<Output = ()> + Send {
        let _ = (handle, event);
        async {}
    }
}

/// Tells a hook.
pub(crate) type Call = Box<dyn Fn(Moment) -> BoxFuture<'static, ()> + Send>;

/// What tells that hook, with that handle.
pub(crate) fn caller<H: Hook>(hook: Arc<H>, handle: WorkerHandle) -> Call {
    Box::new(move |moment| {
        let (hook, handle) = (hook.clone(), handle.clone());
        async move { call(&*hook, &handle, moment).await }.boxed()
    })
}

async fn call<H: Hook>(hook: &H, handle: &WorkerHandle, moment: Moment) {
    match moment {
        Moment::Fetched(batch) => hook.fetched(handle, batch).await,
        Moment::Before(attempt) => hook.before_attempt(handle, attempt).await,
        Moment::After(end) => hook.after_attempt(handle, end).await,
        Moment::Finished(partition, offset, how) => hook.finished(handle, partition, offset, how).await,
        Moment::BeforeCommit(offsets) => hook.before_commit(handle, offsets).await,
        Moment::Drained(partition, cut_off) => hook.drained(handle, partition, cut_off).await,
        Moment::Event(Event::Assigned { partitions }) => hook.assigned(handle, partitions).await,
        Moment::Event(Event::Revoked { partitions }) => hook.revoked(handle, partitions).await,
        Moment::Event(Event::DeadLettered { partition, offset, class }) => {
            hook.dead_lettered(handle, partition, offset, class).await;
        }
        Moment::Event(Event::BreakerChanged { class, state }) => hook.breaker_changed(handle, class, state).await,
        Moment::Event(event) => hook.event(handle, event).await,
        Moment::End => {}
    }
}
