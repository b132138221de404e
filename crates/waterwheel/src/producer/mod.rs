//! The producer: records out, each with its acknowledgement.
//!
//! Records that come one by one are gathered ([`intake`]) until the producer port takes them; their answers lie together
//! ([`lot`]), and their number is bounded ([`room`]). Many at once go to the port as they are.

mod builder;
mod intake;
mod lot;
mod many;
mod outcome;
mod record;
mod room;
#[cfg(test)]
#[cfg(feature = "__memory")]
mod tests;
mod trace;
mod watch;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

pub use crate::client::Purge;
pub use builder::{Acks, Compression, Partitioner, ProducerBuilder};
pub use lot::DeliveryFuture;
pub use many::StreamFailure;
pub use outcome::{Delivered, SendFailure, SendStage};
pub use record::ProducerRecord;
pub use trace::TraceParent;
pub use watch::{DeliveryReport, Interceptor};

use crate::client::{self, Pull, Source};
use crate::config::names;
use crate::driver::outbound::Outbound;
use crate::subscription::Subscription;
use intake::{Intake, Next};
use room::{NoRoom, Room};
use watch::Watch;

/// What [`Producer::send`] does when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFull {
    /// It waits for room, in its turn, for at most the delivery time-out.
    #[default]
    Wait,
    /// It fails at once, at [`SendStage::QueueFull`].
    Fail,
}

/// Writes records. Cheap to clone; the last clone that is dropped ends the client, and what is not acknowledged by then
/// may or may not be written: [`close`](Self::close) first.
///
/// Idempotent, with `acks=all`, unless [its settings](ProducerBuilder) or the client's properties say otherwise.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    outbound: Outbound,
    room: Arc<Room>,
    watch: Arc<Watch>,
    intake: Arc<Intake>,
    /// The same, for the port.
    source: Arc<dyn Source>,
    /// Topics of other clusters.
    elsewhere: HashSet<String>,
    on_full: OnFull,
    patience: Duration,
}

/// With fewer records unanswered, the next one is handed over by whoever sends it: the producer's thread would do so some
/// 50 µs later. With more, gathering is cheaper.
const FEW: usize = 8;

/// What ending the client itself may take beyond the deadline.
const CLOSING: Duration = Duration::from_millis(500);

impl Producer {
    fn new(
        port: Arc<dyn client::Producer>,
        room: Room,
        watch: Watch,
        elsewhere: HashSet<String>,
        on_full: OnFull,
        patience: Duration,
    ) -> Self {
        let (room, watch) = (Arc::new(room), Arc::new(watch));
        let intake = Arc::new(Intake::new(room.clone(), watch.clone()));
        let source = intake.clone();
        let outbound = Outbound::new(port);
        Self { shared: Arc::new(Shared { outbound, room, watch, intake, source, elsewhere, on_full, patience }) }
    }

    fn with_valid_topic(&self, record: ProducerRecord) -> Result<ProducerRecord, SendFailure> {
        if let Err(error) = names::check_topic(record.topic()) {
            return Err(SendFailure::bad_topic(record, &error.to_string()));
        }
        if self.shared.elsewhere.contains(record.topic()) {
            return Err(SendFailure::bad_topic(record, "is on another cluster: make a producer of Client::for_topic"));
        }
        Ok(record)
    }

    /// Sends a record and waits for its acknowledgement, at most the
    /// [delivery time-out](ProducerBuilder::delivery_timeout) (5 minutes by default). Before the first connection it waits
    /// for that. Sends made without waiting in between go out together, in the order in which the futures were first polled.
    ///
    /// Dropping the future does not take the record back once it was polled, unless it waits for room: it is written or
    /// not, and nobody is told.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivered, SendFailure> {
        match self.enqueue(record) {
            Ok(answer) => answer.await,
            Err(failure) if failure.stage() == SendStage::QueueFull && self.shared.on_full == OnFull::Wait => {
                self.enqueue_within(failure.into_record(), self.shared.patience).await?.await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Puts a record in the queue. The future tells its fate; records go out in the order of the calls, also if nobody waits
    /// for their futures. Cheap enough for millions under way: no channel, no task, no wake-up a record.
    ///
    /// Fails at once, and gives the record back, where the queue is full ([`SendStage::QueueFull`]: wait with
    /// [`ready`](Self::ready), or use [`enqueue_within`](Self::enqueue_within)), the producer is closed, the topic's name is
    /// invalid or that of one on another cluster ([`Client::for_topic`](crate::Client::for_topic)), or an interceptor
    /// panicked.
    pub fn enqueue(&self, record: ProducerRecord) -> Result<DeliveryFuture, SendFailure> {
        let record = self.with_valid_topic(record)?;
        let bytes = record.size();
        match self.shared.room.take(bytes) {
            Ok(()) => {}
            Err(NoRoom::Full) => return Err(SendFailure::queue_full(record)),
            Err(NoRoom::Closed) => return Err(SendFailure::closed(record)),
        }
        match self.shared.watch.before(record) {
            Ok(record) => Ok(self.put(record, bytes)),
            Err(failure) => {
                self.shared.room.free(1, bytes);
                Err(failure)
            }
        }
    }

    /// The same, and waits for room where the queue is full, in turn with others that wait, at most for `deadline`; then it
    /// fails at [`SendStage::QueueFull`]. Dropping the future before it is ready sends nothing.
    pub async fn enqueue_within(
        &self,
        record: ProducerRecord,
        deadline: Duration,
    ) -> Result<DeliveryFuture, SendFailure> {
        let record = match self.enqueue(record) {
            Err(failure) if failure.stage() == SendStage::QueueFull => failure.into_record(),
            done => return done,
        };
        let changed = self.shared.watch.before(record.clone())?;
        let bytes = record.size();
        let put = self.shared.room.take_in_turn(bytes, || self.put(changed, bytes));
        match timeout(deadline, put).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(SendFailure::closed(record)),
            Err(_) => Err(SendFailure::queue_full(record)),
        }
    }

    /// Waits until the queue has room for a record, or the producer is closed. Another task may take the room first.
    /// Dropping the future has no effect.
    pub async fn ready(&self) {
        if self.shared.room.take(1).is_ok() || self.shared.room.take_in_turn(1, || ()).await.is_ok() {
            self.shared.room.free(1, 1);
        }
    }

    /// Puts in a record that has its room.
    fn put(&self, record: ProducerRecord, bytes: usize) -> DeliveryFuture {
        let Shared { outbound, intake, source, .. } = &*self.shared;
        let (answer, next) = intake.put(record, bytes);
        match next {
            Next::Send => outbound.pull(source, Pull::Now),
            Next::Tell => outbound.pull(source, if outbound.unanswered() < FEW { Pull::Now } else { Pull::Soon }),
            Next::Nothing => {}
        }
        answer
    }

    /// Gives the port what was gathered.
    pub(crate) fn hand_over(&self) {
        self.shared.outbound.pull(&self.shared.source, Pull::Now);
    }

    /// Waits until everything sent so far has its answer, at most for `deadline`; batches go out without lingering meanwhile.
    /// Returns how many records have none, which go on. Dropping the future leaves the producer as it is.
    pub async fn flush(&self, deadline: Duration) -> usize {
        self.hand_over();
        let outbound = &self.shared.outbound;
        if outbound.unanswered() > 0 {
            outbound.hurry(deadline);
        }
        // Not all answered in time: they are counted below.
        let _ = timeout(deadline, outbound.answered()).await;
        self.queue_len()
    }

    /// Gives up what is not acknowledged. Those records fail within moments, and make room.
    pub fn purge(&self, what: Purge) {
        self.hand_over();
        self.shared.outbound.purge(what);
    }

    /// Records not acknowledged yet.
    pub fn queue_len(&self) -> usize {
        self.shared.outbound.unanswered() + self.shared.intake.len()
    }

    /// What becomes of every record sent from now on. Never holds the producer up: with more than 1,024 reports unread, the
    /// oldest are dropped and told as [`DeliveryReport::Missed`]. Records refused before they were queued are not told.
    pub fn deliveries(&self) -> Subscription<DeliveryReport> {
        self.shared.watch.reports()
    }

    /// How often an [`Interceptor`] panicked.
    pub fn interceptor_panics(&self) -> u64 {
        self.shared.watch.panics()
    }

    /// Takes no more records (they fail at [`SendStage::Closed`]), waits until everything sent has its answer, at most for
    /// `deadline`, then ends the client for all its clones: what is still unanswered fails. Returns how many records that
    /// were.
    ///
    /// Dropping the future leaves the producer closed to new records; what was sent goes on until the last clone is dropped.
    pub async fn close(&self, deadline: Duration) -> usize {
        let end = Instant::now() + deadline;
        self.shared.room.close();
        let left = self.flush(deadline).await;
        // A client that does not end in time ends in the background.
        let _ = timeout_at(end.max(Instant::now() + CLOSING), self.shared.outbound.close()).await;
        left
    }
}

impl Drop for Shared {
    /// What was gathered is answered, too.
    fn drop(&mut self) {
        self.outbound.pull(&self.source, Pull::Now);
    }
}

/// The record, if its topic's name is one.
impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Producer({} unanswered)", self.queue_len())
    }
}
