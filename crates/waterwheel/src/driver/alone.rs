//! A shard alone: its records come from memory, and nobody hears of their ends. For the ladder in `benches/`, and for the
//! test of what a record in work takes of memory.
#![cfg_attr(not(feature = "__bench"), expect(unreachable_pub, reason = "public for the benchmarks only"))]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::broadcast;
use waterwheel_core::engine::{Engine, Resume, Settings};
use waterwheel_core::gate::Policies;
use waterwheel_core::{Epoch, PartitionId};

use super::attempt::Handling;
use super::clock::Clock;
use super::gate::{Gate, Listeners};
use super::mailbox::Mailbox;
use super::pool::Pool;
use super::shard::handlers::Handlers;
use super::shard::{Common, Shard, ToShard};
use super::tally::Counts;
use super::watched::Watched;
use crate::body::Raw;
use crate::client::{FetchQueue, Fetched, Position};
use crate::error::KafkaError;
use crate::handler::Handler;
use crate::record::{Assignment, Batch, BatchBuilder, TopicPartition};
use crate::settings::{Execution, OnDrainDeadline};

/// Batches on their way to a shard.
type Fetchable = Arc<Mutex<VecDeque<Batch>>>;

/// A shard, and what its fetch queue will yield.
pub struct LoneShard<H: Handler<Raw>> {
    shard: Shard<Handlers<Raw, Watched<Handling<H>>>>,
    common: Arc<Common>,
    fetchable: Fetchable,
}

impl<H: Handler<Raw>> LoneShard<H> {
    /// A shard with partitions 0 to `partitions`, and what makes their batches. Within a runtime.
    pub fn new(settings: Settings, partitions: usize, handler: H) -> (Self, Source) {
        Self::held(settings, &Policies::default(), partitions, handler)
    }

    /// The same, with what holds starts back.
    pub fn held(settings: Settings, policies: &Policies, partitions: usize, handler: H) -> (Self, Source) {
        let (clock, tally, events) = (Clock::start(None), Arc::default(), broadcast::Sender::new(16));
        let listeners = Listeners { events: events.clone(), hooks: None, tally: Arc::clone(&tally) };
        let gate = Gate::new(policies, &listeners, clock.now());
        let common = Arc::new(Common {
            clock,
            pool: Arc::new(Pool::new(settings.concurrency, 1)),
            tally,
            events,
            notifications: broadcast::Sender::new(16),
            execution: Execution::Inline,
            on_drain_deadline: OnDrainDeadline::Cancel,
            witness: None,
            hooks: None,
            spans: None,
            gate,
            classes: None,
            tiers: None,
        });
        let fetchable = Fetchable::default();
        let inbox = Mailbox::new();
        inbox.post(ToShard::WorkerPartitions(partitions));
        let name = TopicPartition::new("topic", 0).topic;
        let assigned = (0..partitions).map(|number| {
            let partition = TopicPartition::new(name.clone(), number as i32);
            let assignment = Assignment::new(PartitionId(number as u32), Epoch(number as u64), partition);
            let (assignment_of_shard, resume) = (assignment.clone(), Resume::default());
            inbox.post(ToShard::Assign { assignment: assignment_of_shard, resume, topic_id: None });
            (assignment, 0)
        });
        let source = Source { assigned: assigned.collect() };
        let shard = Shard::new(
            0,
            common.clone(),
            Engine::new(settings),
            Box::new(FromMemory(fetchable.clone())),
            Handlers::new(Arc::new(Watched::new(Handling(handler), None)), Execution::Inline),
            inbox.clone(),
            Mailbox::new(),
            None,
            None,
        );
        (Self { shard, common, fetchable }, source)
    }

    /// Works on those batches until as many records as they hold have ended well.
    pub async fn finish(&mut self, made: Made) {
        let end = self.counts().succeeded + made.0.iter().map(|batch| batch.len() as u64).sum::<u64>();
        self.fetchable().extend(made.0);
        poll_fn(|cx| {
            // The last one ends when the shard is told to.
            let _ = Pin::new(&mut self.shard).poll(cx);
            if self.counts().succeeded < end { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Takes up those batches until nothing moves any more.
    pub async fn take_up(&mut self, made: Made) {
        self.fetchable().extend(made.0);
        poll_fn(|cx| {
            let before = self.counts();
            let _ = Pin::new(&mut self.shard).poll(cx);
            if self.counts() != before || !self.fetchable().is_empty() {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// What it has done so far.
    pub fn counts(&self) -> Counts {
        self.common.tally.read()
    }

    fn fetchable(&self) -> std::sync::MutexGuard<'_, VecDeque<Batch>> {
        self.fetchable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes batches of a shard's partitions, offset after offset.
pub struct Source {
    assigned: Vec<(Arc<Assignment>, i64)>,
}

/// Batches in the order of their fetch.
#[derive(Default)]
pub struct Made(Vec<Batch>);

impl Source {
    /// Adds the next batch of a partition to `made`: a record for each key, all with that value and those headers.
    pub fn make(
        &mut self,
        made: &mut Made,
        partition: usize,
        keys: &[Vec<u8>],
        value: &[u8],
        headers: &[(&[u8], &[u8])],
    ) {
        let (assignment, next) = &mut self.assigned[partition];
        let bytes = keys.iter().map(|key| key.len() + value.len()).sum();
        let mut builder = BatchBuilder::with_capacity(keys.len(), bytes);
        for key in keys {
            builder.push(*next, Some(*next), Some(key), Some(value));
            headers.iter().for_each(|(name, value)| builder.header(name, Some(value)));
            *next += 1;
        }
        made.0.push(builder.build(assignment.clone(), None));
    }
}

struct FromMemory(Fetchable);

impl FetchQueue for FromMemory {
    fn add(&mut self, _: Arc<Assignment>, _: Position) -> Result<(), KafkaError> {
        Ok(())
    }

    fn remove(&mut self, _: PartitionId) {}

    fn hold(&mut self, _: PartitionId) {}

    fn release(&mut self, _: PartitionId) {}

    fn reread(&mut self, _: PartitionId, _: &[i64]) -> Result<(), KafkaError> {
        Ok(())
    }

    fn poll_fetch(&mut self, _: &mut Context<'_>) -> Poll<Fetched> {
        let batch = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        batch.map_or(Poll::Pending, |batch| Poll::Ready(Fetched::Batch(batch)))
    }
}

#[cfg(test)]
mod tests;
