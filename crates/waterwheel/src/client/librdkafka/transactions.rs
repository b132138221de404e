//! Transactions: librdkafka's blocking calls, one after the other on a thread, `waterwheel-transactions`.
//!
//! No lock is held during a call: a commit waits for delivery reports, which `waterwheel-producer` takes meanwhile. A call
//! that did not end within its patience goes on in librdkafka and is resumed by the same call; any other one is refused
//! until then.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as sys;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::errors;
use super::handle::{Handle, lock};
use super::list::{List, c_string};
use super::producer::Sender;
use super::siblings::Setup;
use crate::client::{
    Commit, GroupMetadata, Producer, TransactionError, TransactionErrorKind, TransactionFuture, Transactions,
};
use crate::error::{KafkaError, code};

/// A producer's transactions.
pub(super) struct Transactor {
    shared: Arc<Shared>,
    jobs: SyncSender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

/// Calls that may wait for their turn.
const WAITING: usize = 16;

/// What calls share.
struct Shared {
    sender: Arc<Sender>,
    phase: Mutex<Phase>,
    /// Calls that have not ended.
    under_way: AtomicUsize,
}

/// How far the latest transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// None has begun yet, or it was aborted.
    Idle,
    Open,
    /// A commit has begun and not ended: it can only be called again.
    Committing,
    Committed,
}

/// A blocking call.
enum Call {
    Init,
    SendOffsets(List, GroupMetadata),
    Commit,
    Abort,
}

impl Transactor {
    pub(super) fn new(setup: &Setup) -> Result<Self, KafkaError> {
        let sender = Arc::new(Sender::new(setup)?);
        let (jobs, waiting): (SyncSender<Job>, Receiver<Job>) = sync_channel(WAITING);
        std::thread::Builder::new()
            .name("waterwheel-transactions".into())
            .spawn(move || waiting.into_iter().for_each(|job| job()))
            .map_err(|e| errors::no_thread(&e))?;
        let shared = Shared { sender, phase: Mutex::new(Phase::Idle), under_way: AtomicUsize::new(0) };
        Ok(Self { shared: Arc::new(shared), jobs })
    }
}

impl Transactions for Transactor {
    fn producer(&self) -> Arc<dyn Producer> {
        self.shared.sender.clone()
    }

    fn init(&self, patience: Duration) -> TransactionFuture<()> {
        call(&self.shared, &self.jobs, Call::Init, patience)
    }

    fn begin(&self) -> Result<(), TransactionError> {
        let handle = self.shared.sender.handle().ok_or_else(ended)?;
        if self.shared.under_way.load(Ordering::Acquire) > 0 {
            let error = errors::error(CONFLICT, "an earlier call is under way");
            return Err(TransactionError { error, kind: TransactionErrorKind::Retriable });
        }
        // SAFETY: the instance is live; the error object is ours.
        unsafe { outcome(&handle, sys::rd_kafka_begin_transaction(handle.as_ptr()), "beginning a transaction") }?;
        self.shared.sender.forget_failure();
        *lock(&self.shared.phase) = Phase::Open;
        Ok(())
    }

    fn send_offsets(&self, commits: Vec<Commit>, of: GroupMetadata, patience: Duration) -> TransactionFuture<()> {
        match List::of_commits(&commits) {
            Ok(list) => call(&self.shared, &self.jobs, Call::SendOffsets(list, of), patience),
            Err(error) => failed(TransactionError { error, kind: TransactionErrorKind::Abortable }),
        }
    }

    fn commit(&self, patience: Duration) -> TransactionFuture<()> {
        if !self.shared.sender.is_waiting() {
            return call(&self.shared, &self.jobs, Call::Commit, patience);
        }
        // librdkafka waits for what it has, not for what waits for room in it.
        let (shared, jobs) = (self.shared.clone(), self.jobs.clone());
        let end = Instant::now() + patience;
        Box::pin(async move {
            if tokio::time::timeout_at(end, shared.sender.answered()).await.is_err() {
                let error = errors::error(code::LOCAL_TIMED_OUT, "committing: records wait to be sent");
                return Err(TransactionError { error, kind: TransactionErrorKind::Retriable });
            }
            call(&shared, &jobs, Call::Commit, end.saturating_duration_since(Instant::now())).await
        })
    }

    fn abort(&self, patience: Duration) -> TransactionFuture<()> {
        call(&self.shared, &self.jobs, Call::Abort, patience)
    }
}

/// Has the thread make a call, after those before it.
fn call(shared: &Arc<Shared>, jobs: &SyncSender<Job>, call: Call, patience: Duration) -> TransactionFuture<()> {
    let Some(handle) = shared.sender.handle() else { return failed(ended()) };
    let (tell, told) = oneshot::channel();
    shared.under_way.fetch_add(1, Ordering::AcqRel);
    let of_job = shared.clone();
    let job = Box::new(move || {
        let answer = of_job.call(&handle, call, patience);
        // An instance that is to end does so before whoever waits hears of it.
        drop(handle);
        of_job.under_way.fetch_sub(1, Ordering::AcqRel);
        // The caller may have given up.
        _ = tell.send(answer);
    });
    if jobs.try_send(job).is_err() {
        shared.under_way.fetch_sub(1, Ordering::AcqRel);
        let error = errors::error(CONFLICT, "too many calls are under way");
        return failed(TransactionError { error, kind: TransactionErrorKind::Retriable });
    }
    Box::pin(async move { told.await.unwrap_or_else(|_| Err(ended())) })
}

fn failed(error: TransactionError) -> TransactionFuture<()> {
    Box::pin(std::future::ready(Err(error)))
}

fn ended() -> TransactionError {
    TransactionError { error: errors::ended(), kind: TransactionErrorKind::Fatal }
}

impl Shared {
    fn call(&self, handle: &Arc<Handle>, call: Call, patience: Duration) -> Result<(), TransactionError> {
        let rk = handle.as_ptr();
        let wait_ms = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
        match call {
            // SAFETY: the instance is live through the call; the error object is ours.
            Call::Init => unsafe { outcome(handle, sys::rd_kafka_init_transactions(rk, wait_ms), "taking the id") },
            Call::SendOffsets(offsets, group) => {
                let group = Group::new(&group)?;
                // SAFETY: as above; list and group are live, and copied.
                unsafe {
                    let said = sys::rd_kafka_send_offsets_to_transaction(rk, offsets.as_ptr(), group.0, wait_ms);
                    outcome(handle, said, "sending offsets to the transaction")
                }
            }
            Call::Commit => self.commit(handle, wait_ms),
            Call::Abort => {
                if matches!(self.phase(), Phase::Idle | Phase::Committed) {
                    return Ok(());
                }
                self.sender.fail_waiting();
                // SAFETY: as above.
                unsafe { outcome(handle, sys::rd_kafka_abort_transaction(rk, wait_ms), "aborting the transaction") }?;
                self.enter(Phase::Idle);
                Ok(())
            }
        }
    }

    fn commit(&self, handle: &Arc<Handle>, wait_ms: i32) -> Result<(), TransactionError> {
        match self.phase() {
            // Nobody heard of it.
            Phase::Committed => return Ok(()),
            Phase::Open => {
                // What librdkafka refused it does not count as a failure of the transaction.
                if let Some(why) = self.sender.failure() {
                    let context = format!("a record of the transaction was not acknowledged: {why}");
                    let error = KafkaError::new(why.code(), "abort it", context);
                    let kind = if handle.fatal().is_some() {
                        over(handle, why.code())
                    } else {
                        TransactionErrorKind::Abortable
                    };
                    return Err(TransactionError { error, kind });
                }
                self.enter(Phase::Committing);
            }
            Phase::Idle | Phase::Committing => {}
        }
        // SAFETY: the instance is live; the error object is ours.
        let said = unsafe {
            let said = sys::rd_kafka_commit_transaction(handle.as_ptr(), wait_ms);
            outcome(handle, said, "committing the transaction")
        };
        match &said {
            Ok(()) => self.enter(Phase::Committed),
            Err(e) if e.kind == TransactionErrorKind::Abortable && self.phase() == Phase::Committing => {
                self.enter(Phase::Open);
            }
            Err(_) => {}
        }
        said
    }

    fn phase(&self) -> Phase {
        *lock(&self.phase)
    }

    fn enter(&self, phase: Phase) {
        *lock(&self.phase) = phase;
    }
}

/// What a call said; frees its error object.
///
/// # Safety
/// `object` is null, or an error object that the caller owns.
unsafe fn outcome(handle: &Handle, object: *mut sys::rd_kafka_error_t, context: &str) -> Result<(), TransactionError> {
    if object.is_null() {
        return Ok(());
    }
    // SAFETY: not null, so live until it is taken below.
    let (fatal, retriable, code) = unsafe {
        let fatal = sys::rd_kafka_error_is_fatal(object) != 0;
        (fatal, sys::rd_kafka_error_is_retriable(object) != 0, errors::code_of(object))
    };
    let kind = match (fatal || handle.fatal().is_some(), retriable) {
        (true, _) => over(handle, code),
        (false, true) => TransactionErrorKind::Retriable,
        (false, false) => TransactionErrorKind::Abortable,
    };
    // SAFETY: as the caller says.
    unsafe { errors::take(object, context) }.map_err(|error| TransactionError { error, kind })
}

/// How a producer is over.
fn over(handle: &Handle, code: i32) -> TransactionErrorKind {
    let is_fenced = |code| code::FENCED_PRODUCER.contains(&code);
    if is_fenced(code) || handle.fatal().is_some_and(|e| is_fenced(e.code())) {
        TransactionErrorKind::Fenced
    } else {
        TransactionErrorKind::Fatal
    }
}

/// A member's standing, as librdkafka has it.
struct Group(*mut sys::rd_kafka_consumer_group_metadata_t);

impl Group {
    fn new(of: &GroupMetadata) -> Result<Self, TransactionError> {
        let fail = |error| TransactionError { error, kind: TransactionErrorKind::Abortable };
        let group = c_string(&of.0.group).map_err(fail)?;
        let member = c_string(&of.0.member).map_err(fail)?;
        let instance = of.0.instance.as_deref().map(c_string).transpose().map_err(fail)?;
        let instance = instance.as_ref().map_or(std::ptr::null(), |instance| instance.as_ptr());
        // SAFETY: the texts end in NUL and are copied; null means no static member.
        Ok(Self(unsafe {
            sys::rd_kafka_consumer_group_metadata_new_with_genid(
                group.as_ptr(),
                of.0.generation,
                member.as_ptr(),
                instance,
            )
        }))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: made by `new`, freed once.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(self.0) }
    }
}

/// librdkafka's code for a call while another one is under way.
const CONFLICT: i32 = -173;
