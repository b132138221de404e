//! The partitions of one shard that may have something to yield.
//!
//! librdkafka calls back when a queue gets its first entry, and not again before it was emptied. So a partition is put
//! in the list by that call, taken out to be served, and put back for as long as its queue yielded something.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::task::AtomicWaker;
use rdkafka::bindings as sys;

use super::handle::lock;

/// Names a reader within its shard, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Token(pub(super) u64);

/// What may have something to yield, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Ready {
    list: Mutex<VecDeque<Token>>,
    pub(super) waker: AtomicWaker,
}

impl Ready {
    pub(super) fn pop(&self) -> Option<Token> {
        lock(&self.list).pop_front()
    }
}

/// Puts one reader in its shard's list, once at a time.
#[derive(Debug)]
pub(super) struct Signal {
    ready: Arc<Ready>,
    token: Token,
    listed: AtomicBool,
}

impl Signal {
    pub(super) fn new(ready: Arc<Ready>, token: Token) -> Self {
        Self { ready, token, listed: AtomicBool::new(false) }
    }

    /// Lists the reader and wakes the shard.
    pub(super) fn raise(&self) {
        if !self.listed.swap(true, Ordering::AcqRel) {
            lock(&self.ready.list).push_back(self.token);
            self.ready.waker.wake();
        }
    }

    /// Has been taken from the list. What comes to the queue from now on lists it again; so look into the queue after
    /// this, not before.
    pub(super) fn taken(&self) {
        self.listed.store(false, Ordering::Release);
    }
}

/// Called by librdkafka under the lock of the queue: takes no lock that anybody holds while calling librdkafka, and
/// calls nothing of it. (A waker does not either: it schedules a task.)
pub(super) unsafe extern "C" fn on_first(_: *mut sys::rd_kafka_t, signal: *mut c_void) {
    // SAFETY: the reader gave a pointer to its boxed `Signal`, and ends the calls before it drops that.
    unsafe { &*signal.cast::<Signal>() }.raise();
}
