//! The transaction port: records and offsets that take effect together or not at all.
//!
//! ```text
//! init ─▶ ready ── begin ─▶ open ── commit ─▶ ready          Retriable: the same call again
//!           ▲                 ├─ Abortable ─┐                Fenced, Fatal: this producer is over
//!           └────── abort ────┴─────────────┘
//! ```

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{Commit, Producer};
use crate::error::KafkaError;

/// A future of the transaction port. The call is under way when it is returned (but see
/// [`commit`](Transactions::commit)); dropping it gives up its answer. A later call comes after it.
pub(crate) type TransactionFuture<T> = Pin<Box<dyn Future<Output = Result<T, TransactionError>> + Send>>;

/// What a failed call leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionErrorKind {
    /// The same call again. A commit of which this was said may have been done: it can only be called again, not aborted.
    Retriable,
    /// To abort; then another transaction may begin.
    Abortable,
    /// Another producer has this one's id, or the coordinator ended a transaction that took too long: this producer is over,
    /// its open transaction is or will be aborted by the cluster.
    Fenced,
    /// This producer is over. Its open transaction is aborted by the cluster, when the next producer of its id is made or
    /// when its time is up.
    Fatal,
}

/// Why a call of a transaction failed.
#[derive(Clone, Debug)]
pub(crate) struct TransactionError {
    pub(crate) error: KafkaError,
    pub(crate) kind: TransactionErrorKind,
}

impl fmt::Display for TransactionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

/// Who a member of a group is at the moment, as a coordinator checks it before it takes offsets. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct GroupMetadata(pub(super) Arc<Standing>);

/// What [`GroupMetadata`] is to the backends.
#[derive(Debug)]
pub(super) struct Standing {
    pub(super) group: String,
    pub(super) member: String,
    pub(super) instance: Option<String>,
    /// The generation, with the consumer protocol the member's epoch; -1 where it is no member.
    pub(super) generation: i32,
}

/// Transactions of a producer that has a `transactional.id`. Calls are made one after the other, in the order in which they
/// came; `patience` bounds each.
pub(crate) trait Transactions: Send + Sync {
    /// What is sent through it is part of the open transaction, and fails where none is open.
    fn producer(&self) -> Arc<dyn Producer>;

    /// Takes the id: fences older producers of it and ends their open transaction. Before anything else.
    fn init(&self, patience: Duration) -> TransactionFuture<()>;

    /// Begins one. Local; refused as [`Retriable`](TransactionErrorKind::Retriable) while an earlier call is under way.
    fn begin(&self) -> Result<(), TransactionError>;

    /// Offsets, with their metadata, that are committed for a group together with what was sent. Refused as
    /// [`Abortable`](TransactionErrorKind::Abortable) where the member is not one any more.
    fn send_offsets(&self, commits: Vec<Commit>, of: GroupMetadata, patience: Duration) -> TransactionFuture<()>;

    /// Sends what is queued, and commits. [`Abortable`](TransactionErrorKind::Abortable) where a record given since the
    /// beginning was not acknowledged. Dropped, it is done or not (and not even begun while records wait for room in the
    /// client's queue): to be called again, or followed by [`abort`](Self::abort), which then waits for it.
    fn commit(&self, patience: Duration) -> TransactionFuture<()>;

    /// Fails what is queued, and aborts; does nothing where no transaction is open.
    fn abort(&self, patience: Duration) -> TransactionFuture<()>;
}
