//! Transactions: records and offsets that are seen together or not at all.
//!
//! A [`Transaction`] borrows its producer, so that there is one at a time. Whatever becomes of it, the producer's next one
//! begins only when this one is out of the world: committed, or aborted.

mod builder;
mod failure;
mod transaction;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use builder::TransactionalProducerBuilder;
pub use failure::{Remedy, TransactionFailure};
pub use transaction::Transaction;

use tokio::time::Instant;

use crate::client::{TransactionErrorKind, Transactions};
use crate::consumer::ConsumerHandle;
use crate::producer::Producer;

/// Writes records in transactions. Made by [`TransactionalProducerBuilder::connect`].
///
/// **Dropped**, it ends at once. A transaction that was open then is aborted by the cluster, when the next producer of this
/// id connects or when the transaction's time is up; until then readers of what is committed wait at its first record.
/// [`close`](Self::close) aborts it.
pub struct TransactionalProducer {
    port: Arc<dyn Transactions>,
    records: Producer,
    id: String,
    timeout: Duration,
    left: Left,
}

/// What the last transaction left to be done before another one can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    ToAbort,
    /// A commit was not answered: it may have been done.
    ToCommit,
}

impl TransactionalProducer {
    /// The transactional id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Begins a transaction. If the one before was left open it is aborted first, and if its commit was left unanswered that
    /// is brought to its end, within `deadline`.
    ///
    /// Dropping the future leaves no transaction open.
    pub async fn begin(&mut self, deadline: Duration) -> Result<Transaction<'_>, TransactionFailure> {
        self.settle(deadline).await?;
        self.open(None)
    }

    /// Begins a transaction that takes a consumer's offsets with it: its commit commits what the consumer has finished, its
    /// end by an abort, a failure or a drop makes the consumer go back to what is committed. The consumer is one of
    /// [`commit_in_transactions`](crate::ConsumerBuilder::commit_in_transactions).
    ///
    /// Begin before you pull; what was pulled before belongs to the transaction before. If that was not committed, all
    /// partitions have gone back by the time this returns, and deliveries of before are of no consequence: drop them.
    ///
    /// Dropping the future leaves no transaction open.
    pub async fn begin_with(
        &mut self,
        consumer: &ConsumerHandle,
        deadline: Duration,
    ) -> Result<Transaction<'_>, TransactionFailure> {
        let end = Instant::now() + deadline;
        self.settle(deadline).await?;
        let begun = tokio::time::timeout_at(end, consumer.begin_transaction()).await;
        begun.map_err(|_| TransactionFailure::late("the consumer has not gone back"))??;
        self.open(Some(consumer.clone()))
    }

    fn open(&mut self, consumer: Option<ConsumerHandle>) -> Result<Transaction<'_>, TransactionFailure> {
        self.port.begin()?;
        self.left = Left::ToAbort;
        Ok(Transaction::new(self, consumer))
    }

    /// Ends what the transaction before left.
    async fn settle(&mut self, deadline: Duration) -> Result<(), TransactionFailure> {
        let end = Instant::now() + deadline;
        if self.left == Left::ToCommit {
            match self.port.commit(deadline).await {
                Ok(()) => self.left = Left::Nothing,
                Err(e) if e.kind == TransactionErrorKind::Abortable => self.left = Left::ToAbort,
                Err(e) => return Err(e.into()),
            }
        }
        if self.left == Left::ToAbort {
            self.port.abort(end.saturating_duration_since(Instant::now())).await?;
            self.left = Left::Nothing;
        }
        Ok(())
    }

    /// Aborts what is open and ends the client, within `deadline`. Dropping the future ends it as a drop of the producer does.
    pub async fn close(mut self, deadline: Duration) -> Result<(), TransactionFailure> {
        let end = Instant::now() + deadline;
        let settled = self.settle(deadline).await;
        self.records.close(end.saturating_duration_since(Instant::now())).await;
        settled
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TransactionalProducer({})", self.id)
    }
}
