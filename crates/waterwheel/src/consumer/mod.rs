//! Consumers: records pulled by whoever works on them, with the promises of a worker kept around it.
//!
//! A consumer is a worker of which the work is to hand out: the same engine, ledger, commit map, drain and budget.

mod builder;
mod handle;

use std::fmt;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use tokio::task::JoinHandle;

pub use builder::ConsumerBuilder;
pub use handle::{CommittedOffset, ConsumerHandle, Lag};

use crate::body::Raw;
use crate::driver::delivery::{Delivery, Opened, Openings, Outbox, Pulled};
use crate::error::Error;
use crate::record::TopicPartition;
use crate::worker::{Report, RunError};

/// Pulls records of all its partitions as one stream. Made by [`ConsumerBuilder::start`]; what else it can do is its
/// [`ConsumerHandle`]'s, to which it dereferences.
///
/// **Dropped**, it ends in order in the background: what was delivered may still be finished until the drain time-out, the
/// rest is for the group's other members. [`close`](Self::close) waits for that and tells how it went.
pub struct Consumer<T = Raw> {
    outbox: Arc<Outbox<T>>,
    run: Run,
}

impl<T> Consumer<T> {
    /// The next record; `None` once the consumer has ended, of which [`close`](Self::close) says why.
    ///
    /// Records of a partition come in offset order, those that failed again later. As many as the consumer's
    /// [`max_unfinished`](ConsumerBuilder::max_unfinished) may be out at once: with all of them unfinished this waits.
    /// Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Delivery<T>> {
        poll_fn(|cx| self.outbox.poll_pop(cx)).await
    }

    /// Ends it: what nobody has pulled goes back, what was delivered may be finished until the drain time-out, all that is
    /// finished is committed, the group is left. Dropping the future leaves the rest to happen in the background.
    pub async fn close(self) -> Result<Report, RunError> {
        self.run.close().await
    }
}

impl<T> Stream for Consumer<T> {
    type Item = Delivery<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.outbox.poll_pop(cx)
    }
}

impl<T> Deref for Consumer<T> {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.run.handle
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Consumer({})", self.run.handle.worker().name())
    }
}

/// Yields the partitions of a consumer, each as a stream of its own, as they come. Made by
/// [`ConsumerBuilder::start_partitions`]. Dropped or closed it ends as a [`Consumer`] does.
pub struct Partitions<T = Raw> {
    openings: Arc<Openings<T>>,
    run: Run,
}

impl<T> Partitions<T> {
    /// The next partition that this consumer was given; `None` once the consumer has ended. Dropping the future loses
    /// nothing.
    ///
    /// Partitions are served side by side: one whose stream is not read holds up no other, and is not worked on.
    pub async fn next(&mut self) -> Option<PartitionStream<T>> {
        poll_fn(|cx| self.openings.poll_pop(cx)).await.map(PartitionStream)
    }

    /// Ends it: see [`Consumer::close`]. The partitions' streams end.
    pub async fn close(self) -> Result<Report, RunError> {
        self.run.close().await
    }
}

impl<T> Stream for Partitions<T> {
    type Item = PartitionStream<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.openings.poll_pop(cx).map(|opened| opened.map(PartitionStream))
    }
}

impl<T> Deref for Partitions<T> {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.run.handle
    }
}

impl<T> fmt::Debug for Partitions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partitions({})", self.run.handle.worker().name())
    }
}

/// The records of one partition, in offset order, until it leaves this consumer; a [`seek`](ConsumerHandle::seek) ends it
/// too, and the partition comes anew.
pub struct PartitionStream<T = Raw>(Opened<T>);

impl<T> PartitionStream<T> {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.0.partition
    }

    /// The next record; `None` once the partition has left. What was delivered before may still be finished until the
    /// drain time-out. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<Delivery<T>> {
        poll_fn(|cx| self.0.outbox.poll_pop(cx)).await
    }
}

impl<T> Stream for PartitionStream<T> {
    type Item = Delivery<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.outbox.poll_pop(cx)
    }
}

impl<T> fmt::Debug for PartitionStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartitionStream({})", self.0.partition)
    }
}

/// A consumer that runs.
struct Run {
    handle: ConsumerHandle,
    task: Option<JoinHandle<Result<Report, RunError>>>,
}

impl Run {
    async fn close(mut self) -> Result<Report, RunError> {
        self.handle.worker().close();
        // It is taken here only, and this takes the consumer.
        if let Some(task) = self.task.take()
            && let Ok(ended) = task.await
        {
            return ended;
        }
        Err(RunError { error: Error::Broken, report: Report::default() })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.handle.worker().close();
    }
}

/// Ends what is pulled from however the run ends, also by a panic.
struct EndsWith<P: Pulled>(Arc<P>);

impl<P: Pulled> Drop for EndsWith<P> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Records that may be out at once unless the builder is told otherwise.
const MAX_UNFINISHED: usize = 10_000;

/// How long a question to the cluster may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
