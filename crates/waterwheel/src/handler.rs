//! Handlers: what a user writes.

use std::fmt;
use std::ops::Deref;
use std::time::Instant;

use futures_util::TryFutureExt;
use futures_util::future::MapErr;

use crate::dead_letter::OriginalPlace;
use crate::failure::Failure;
use crate::record::Record;

/// Works on one record after another.
///
/// Implemented for every `Fn(Message<T>) -> impl Future<Output = Result<(), E>>` where `E` is a [`Failure`] or any error
/// that converts into a boxed one (`anyhow::Error` too), which then means: by the worker's policy.
///
/// # What becomes of the future
///
/// It is polled once where it was made; if it is still pending it goes on as a task. It is **dropped** before it ends when
/// the handler timeout passes, when the partition's drain deadline passes (unless
/// [`OnDrainDeadline::Abandon`](crate::OnDrainDeadline) is set), or when the partition is lost; the record is then not
/// finished and comes again, here or at another member. [`Message::cancelled`] tells beforehand.
pub trait Handler<T>: Send + Sync + 'static {
    /// The work on one record.
    type Future: Future<Output = Result<(), Failure>> + Send + 'static;

    /// Begins the work on one record. Must not block; a worker may be told to run handlers where they may
    /// ([`Execution::Blocking`](crate::Execution)).
    fn handle(&self, message: Message<T>) -> Self::Future;
}

impl<T, F, Fut, E> Handler<T> for F
where
    T: Send + 'static,
    F: Fn(Message<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), E>> + Send + 'static,
    E: Into<Failure> + 'static,
{
    type Future = MapErr<Fut, fn(E) -> Failure>;

    fn handle(&self, message: Message<T>) -> Self::Future {
        self(message).map_err(E::into)
    }
}

/// A record, decoded for a handler. Gives the record's own parts by dereferencing to [`Record`].
pub struct Message<T> {
    record: Record,
    attempt: u32,
    first_failed_ms: Option<i64>,
    /// The decoded body.
    pub body: T,
}

impl<T> Message<T> {
    pub(crate) fn new(record: Record, attempt: u32, first_failed_ms: Option<i64>, body: T) -> Self {
        Self { record, attempt, first_failed_ms, body }
    }

    /// The decoded body, by value.
    pub fn into_body(self) -> T {
        self.body
    }

    /// The same message with another body.
    pub fn with_body<U>(self, body: U) -> Message<U> {
        let Self { record, attempt, first_failed_ms, body: _ } = self;
        Message { record, attempt, first_failed_ms, body }
    }

    /// The record as fetched.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Which attempt this is, from 1. Attempts made by this group's earlier members count, as far as the commit map
    /// carried them, and those made before the record came to a retry tier.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When an attempt at this record failed first, in milliseconds since the Unix epoch.
    pub fn first_failed_ms(&self) -> Option<i64> {
        self.first_failed_ms
    }

    /// Where the record was before it came to a retry tier ([`RetryTiers`](crate::RetryTiers)): its topic, partition,
    /// offset and time, which are the tier's of the record itself. Of one that is in no tier, where it is.
    pub fn original_place(&self) -> OriginalPlace {
        OriginalPlace::of(&self.record)
    }

    /// Until when this attempt may go on, once its partition is being drained; `None` before that.
    pub fn deadline(&self) -> Option<Instant> {
        *self.record.assignment().drain.borrow()
    }

    /// Ends when the partition begins to drain (a rebalance or a stop): a good moment for long work to put down what it
    /// has. Work that is nearly done may go on until [`deadline`](Self::deadline). Dropping the future has no effect.
    pub async fn cancelled(&self) {
        // The sender lives in the assignment, which this message holds: an error cannot happen.
        let _ = self.record.assignment().drain.subscribe().wait_for(Option::is_some).await;
    }
}

impl<T> Deref for Message<T> {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

impl<T> fmt::Debug for Message<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Message({}@{}, attempt {})", self.record.topic_partition(), self.record.offset(), self.attempt)
    }
}
