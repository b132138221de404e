//! The calls of a transaction, each repeated while that helps, and the client that they go to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{self, BoxFuture};
use futures_util::stream::FuturesUnordered;
use waterwheel_core::{Epoch, PartitionId};

use crate::client::{
    Commit, GroupMetadata, SentAll, TransactionError, TransactionErrorKind, TransactionFuture, Transactions,
};
use crate::error::KafkaError;

/// What one call may take before it is repeated.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two calls of the same.
const PAUSE: Duration = Duration::from_millis(50);

/// How long offsets are offered before the transaction is given up: longer than coordinators take to move.
const OFFERING: Duration = Duration::from_secs(30);

/// Makes a client with the shard's transactional id.
type Make = Box<dyn Fn() -> Result<Arc<dyn Transactions>, KafkaError> + Send + Sync>;

/// The client of a shard's transactions: made anew when it is fenced, or broken.
pub(crate) struct Seat {
    id: String,
    make: Make,
    current: Mutex<Arc<dyn Transactions>>,
}

impl Seat {
    pub(crate) fn new(id: String, make: Make) -> Result<Self, KafkaError> {
        let current = Mutex::new(make()?);
        Ok(Self { id, make, current })
    }

    /// The transactional id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    pub(crate) fn current(&self) -> Arc<dyn Transactions> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the id, with a new client if the one before is of no use any more.
    pub(crate) async fn take(self: Arc<Self>, anew: Option<Duration>) -> Result<(), Broken> {
        if let Some(after) = anew {
            tokio::time::sleep(after).await;
            let fatal = |error| TransactionError { error, kind: TransactionErrorKind::Fatal };
            let made = (self.make)().map_err(fatal)?;
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = made;
        }
        let client = self.current();
        Ok(repeated(None, || client.init(PATIENCE)).await?)
    }

    /// Aborts what is open, so that no reader waits for it, and ends the client; a failure is not the user's trouble any
    /// more.
    pub(crate) async fn close(&self) {
        let client = self.current();
        let _ = client.abort(PATIENCE).await;
        let _ = client.producer().close().await;
    }
}

/// The record that an output is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) id: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) offset: i64,
}

/// What was sent in a transaction, and is not known to be written.
pub(crate) type Answers = FuturesUnordered<BoxFuture<'static, (Vec<Origin>, SentAll)>>;

/// Why a transaction cannot be committed.
pub(crate) struct Broken {
    pub(crate) error: TransactionError,
    /// Outputs that were not written.
    pub(crate) unwritten: Vec<(Origin, KafkaError)>,
}

impl From<TransactionError> for Broken {
    fn from(error: TransactionError) -> Self {
        Self { error, unwritten: Vec::new() }
    }
}

/// What an answer says of outputs that were not written.
pub(crate) fn broken_by((origins, sent): (Vec<Origin>, SentAll)) -> Option<Broken> {
    let error = sent.failed.first()?.1.error.clone();
    let unwritten = sent.failed.into_iter().map(|(place, why)| (origins[place], why.error)).collect();
    Some(Broken { error: TransactionError { error, kind: TransactionErrorKind::Abortable }, unwritten })
}

/// Commits offsets together with what was sent. Ends when it is known whether that was done.
pub(crate) async fn commit(
    client: Arc<dyn Transactions>,
    mut sent: Answers,
    offsets: Vec<Commit>,
    of: GroupMetadata,
) -> Result<(), Broken> {
    let offered = repeated(Some(OFFERING), || client.send_offsets(offsets.clone(), of.clone(), PATIENCE));
    let written = async {
        let mut first: Option<Broken> = None;
        while let Some(answer) = sent.next().await {
            if let Some(broken) = broken_by(answer) {
                first.get_or_insert_with(|| broken.error.clone().into()).unwritten.extend(broken.unwritten);
            }
        }
        first.map_or(Ok(()), Err)
    };
    let (offered, written) = future::join(offered, written).await;
    written?;
    offered?;
    Ok(repeated(None, || client.commit(PATIENCE)).await?)
}

/// Aborts the open transaction.
pub(crate) async fn abort(client: Arc<dyn Transactions>) -> Result<(), Broken> {
    Ok(repeated(None, || client.abort(PATIENCE)).await?)
}

/// Calls until the answer is another than to call again. After `limit` it is to abort.
async fn repeated(limit: Option<Duration>, call: impl Fn() -> TransactionFuture<()>) -> Result<(), TransactionError> {
    let end = limit.map(|limit| tokio::time::Instant::now() + limit);
    loop {
        match call().await {
            Err(error) if error.kind == TransactionErrorKind::Retriable => {
                if end.is_some_and(|end| tokio::time::Instant::now() >= end) {
                    return Err(TransactionError { kind: TransactionErrorKind::Abortable, ..error });
                }
                tracing::debug!(%error, "a call of a transaction is repeated");
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}
