//! What a failed call of a transaction leaves to do.

use std::time::Duration;

use crate::client::{TransactionError, TransactionErrorKind};
use crate::error::{Error, KafkaError, code};

/// What is to be done after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Remedy {
    /// The same call again. After a commit only that: it may have been done.
    Retry,
    /// The transaction cannot be committed: abort it (or drop it) and do its work again in another one.
    Abort,
    /// Another producer has taken this one's id, or the cluster aborted a transaction that was open for too long, which it
    /// tells in the same words. This producer is over. If nobody else is to have its id, connect another one and do the work
    /// again; a producer of an instance that was replaced is to end.
    Fenced,
    /// This producer is over for another reason. What it had open is aborted when the next one of its id connects.
    Fatal,
}

/// Why a call of a transaction failed.
#[derive(Debug, thiserror::Error)]
#[error("{error}{}", self.hint())]
pub struct TransactionFailure {
    #[source]
    error: Error,
    remedy: Remedy,
    too_long: Option<(Duration, Duration)>,
}

impl TransactionFailure {
    /// What is to be done.
    pub fn remedy(&self) -> Remedy {
        self.remedy
    }

    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// Whether the transaction had been open for longer than its time-out allows when it was found
    /// [`Fenced`](Remedy::Fenced): then this is the likely reason.
    pub fn took_too_long(&self) -> bool {
        self.too_long.is_some()
    }

    pub(super) fn of_configuration(error: impl Into<Error>) -> Self {
        Self { error: error.into(), remedy: Remedy::Fatal, too_long: None }
    }

    /// What was waited for longer than the caller wants to.
    pub(super) fn late(what: &str) -> Self {
        let error = KafkaError::new(code::LOCAL_TIMED_OUT, "timed out", what);
        Self { error: error.into(), remedy: Remedy::Retry, too_long: None }
    }

    /// What makes it impossible to commit a transaction.
    pub(super) fn abort(error: Error) -> Self {
        Self { error, remedy: Remedy::Abort, too_long: None }
    }

    /// Notes how long the transaction was open, and may have been.
    pub(super) fn after(mut self, open: Duration, timeout: Duration) -> Self {
        if self.remedy == Remedy::Fenced && open >= timeout {
            self.too_long = Some((open, timeout));
        }
        self
    }

    fn hint(&self) -> String {
        match (self.remedy, self.too_long) {
            (_, Some((open, timeout))) => {
                format!("; the transaction was open for {open:.1?}, which its time-out of {timeout:?} does not allow")
            }
            (Remedy::Abort, None) => "; abort the transaction".to_owned(),
            (Remedy::Fenced, None) => "; another producer has taken this transactional id".to_owned(),
            (Remedy::Retry, None) => "; try again".to_owned(),
            (Remedy::Fatal, None) => String::new(),
        }
    }
}

impl From<TransactionError> for TransactionFailure {
    fn from(TransactionError { error, kind }: TransactionError) -> Self {
        let remedy = match kind {
            TransactionErrorKind::Retriable => Remedy::Retry,
            TransactionErrorKind::Abortable => Remedy::Abort,
            TransactionErrorKind::Fenced => Remedy::Fenced,
            TransactionErrorKind::Fatal => Remedy::Fatal,
        };
        Self { error: error.into(), remedy, too_long: None }
    }
}

/// What a consumer cannot do for a transaction.
impl From<Error> for TransactionFailure {
    fn from(error: Error) -> Self {
        Self::abort(error)
    }
}
