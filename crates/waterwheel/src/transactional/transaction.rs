//! One transaction: what is sent in it, and how it ends.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

use super::{Left, TransactionFailure, TransactionalProducer};
use crate::client::TransactionErrorKind;
use crate::consumer::ConsumerHandle;
use crate::driver::coordinator::Offer;
use crate::error::{KafkaError, code};
use crate::producer::{Delivered, DeliveryFuture, ProducerRecord, SendFailure, SendStage};

/// A transaction that is open. Made by [`TransactionalProducer::begin`].
///
/// **Dropped** before it was committed it is aborted in the background, and the producer's next transaction begins only when
/// that is done. Dropped while a commit of it is unanswered it is committed or not; the next one begins when that is known.
#[must_use = "dropped, it is aborted"]
pub struct Transaction<'a> {
    producer: &'a mut TransactionalProducer,
    consumer: Option<ConsumerHandle>,
    /// The consumer's offsets, and whom to tell that they are committed.
    offer: Option<Offer>,
    /// They are in the transaction.
    has_offsets: bool,
    /// Why the first send failed that did.
    failed: OnceLock<KafkaError>,
    since: Instant,
}

/// How long an abort by a drop may take; the next transaction makes it again.
const ABORT_WITHIN: Duration = Duration::from_secs(30);

impl<'a> Transaction<'a> {
    pub(super) fn new(producer: &'a mut TransactionalProducer, consumer: Option<ConsumerHandle>) -> Self {
        Self { producer, consumer, offer: None, has_offsets: false, failed: OnceLock::new(), since: Instant::now() }
    }

    /// Sends a record as part of the transaction, and waits for its acknowledgement, as
    /// [`Producer::send`](crate::Producer::send) does. One that fails makes the transaction one that can only be aborted.
    ///
    /// Dropping the future does not take the record back once it was polled.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivered, SendFailure> {
        self.note_late();
        let sent = self.producer.records.send(record).await;
        sent.inspect_err(|failure| self.note(failure))
    }

    /// Puts a record in the queue as part of the transaction, as [`Producer::enqueue`](crate::Producer::enqueue) does: the future
    /// tells its fate, and the commit waits for it, also where nobody waits for the future.
    pub fn enqueue(&self, record: ProducerRecord) -> Result<DeliveryFuture, SendFailure> {
        self.note_late();
        self.producer.records.enqueue(record).inspect_err(|failure| self.note(failure))
    }

    /// Sends records, in their order, and waits until each has its answer, as
    /// [`Producer::send_all`](crate::Producer::send_all) does. Dropping the future takes none back.
    pub async fn send_all(&self, records: Vec<ProducerRecord>) -> Result<(), Vec<SendFailure>> {
        self.note_late();
        let sent = self.producer.records.send_all(records).await;
        sent.inspect_err(|failures| failures.iter().for_each(|failure| self.note(failure)))
    }

    /// Notes a record that comes when the consumer's offsets are taken: what it follows from may not be among them.
    fn note_late(&self) {
        if self.offer.is_some() {
            let error = || KafkaError::new(code::LOCAL_STATE, "it was sent after a commit had begun", "");
            self.failed.get_or_init(error);
        }
    }

    /// Notes that the transaction lacks a record. One for which the queue had no room is its sender's again.
    fn note(&self, failure: &SendFailure) {
        if failure.stage() != SendStage::QueueFull {
            self.failed.get_or_init(|| failure.error().clone());
        }
    }

    /// Commits: all that was sent, and what the consumer has finished that it [began with](TransactionalProducer::begin_with),
    /// is seen from now on. `Ok` also where an earlier call did it whose answer nobody heard.
    ///
    /// With a consumer, nothing can be sent once this was called: it would make the transaction one that can only be aborted.
    /// After a failure [`remedy`](TransactionFailure::remedy) says what is to be done. Dropping the future leaves it done or
    /// not: call it again, or drop the transaction.
    pub async fn commit(&mut self, deadline: Duration) -> Result<(), TransactionFailure> {
        if let Some(error) = self.failed.get() {
            let lacks = KafkaError::new(error.code(), error.name(), "a record cannot be part of the transaction");
            return Err(TransactionFailure::abort(lacks.into()));
        }
        let end = Instant::now() + deadline;
        if !self.has_offsets
            && let Some(consumer) = self.consumer.clone()
        {
            self.add_offsets_of(&consumer, deadline).await.map_err(|failure| self.timed(failure))?;
        }
        self.producer.left = Left::ToCommit;
        // Sends whose futures were dropped belong to this one, not to the next.
        self.producer.records.hand_over();
        let committed = self.producer.port.commit(end.saturating_duration_since(Instant::now())).await;
        match committed {
            Ok(()) => {
                self.producer.left = Left::Nothing;
                // A consumer that has ended needs not to know.
                _ = self.offer.take().map(|offer| offer.committed.send(()));
                self.consumer = None;
                Ok(())
            }
            Err(error) => {
                if error.kind != TransactionErrorKind::Retriable {
                    self.producer.left = Left::ToAbort;
                }
                Err(self.timed(error.into()))
            }
        }
    }

    /// Puts what a consumer has finished in the transaction. Dropped or failed, it is done again with the same offer.
    async fn add_offsets_of(&mut self, of: &ConsumerHandle, deadline: Duration) -> Result<(), TransactionFailure> {
        let end = Instant::now() + deadline;
        if self.offer.is_none() {
            let asked = tokio::time::timeout_at(end, of.offer()).await;
            let late = |_| TransactionFailure::late("the consumer has not said what is finished");
            self.offer = Some(asked.map_err(late)??);
        }
        if let Some(Offer { commits, of: Some(of), .. }) = &self.offer
            && !commits.is_empty()
        {
            let left = end.saturating_duration_since(Instant::now());
            self.producer.port.send_offsets(commits.clone(), of.clone(), left).await?;
        }
        self.has_offsets = true;
        Ok(())
    }

    /// Aborts: nothing that was sent is ever seen by readers of what is committed. What could not be done within `deadline`
    /// is done before the next transaction. Dropping the future leaves it under way.
    pub async fn abort(self, deadline: Duration) -> Result<(), TransactionFailure> {
        let settled = match self.producer.left {
            // It was committed.
            Left::Nothing => Ok(()),
            Left::ToAbort | Left::ToCommit => {
                self.producer.records.hand_over();
                self.producer.port.abort(deadline).await
            }
        };
        match settled {
            Ok(()) => self.producer.left = Left::Nothing,
            Err(error) => return Err(self.timed(error.into())),
        }
        Ok(())
    }

    fn timed(&self, failure: TransactionFailure) -> TransactionFailure {
        failure.after(self.since.elapsed(), self.producer.timeout)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if self.producer.left == Left::ToAbort {
            self.producer.records.hand_over();
            // It is under way without being polled.
            drop(self.producer.port.abort(ABORT_WITHIN));
        }
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transaction(of {})", self.producer.id)
    }
}
