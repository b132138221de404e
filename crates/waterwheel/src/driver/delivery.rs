//! Deliveries: records on their way to whoever pulls them, and how they come back finished.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use waterwheel_core::PartitionId;
use waterwheel_core::engine::{SlotId, Wish};

use super::attempt::{Done, Ending};
use super::mailbox::Mailbox;
use crate::body::Raw;
use crate::failure::{Failure, FailureClass};
use crate::handler::Message;
use crate::record::TopicPartition;

/// A record that was pulled, decoded. It is not finished before [`finish`](Self::finish) is called, here or at its
/// [`Acker`], in whatever order; what is committed never passes it until then.
///
/// Gives the record's own parts by dereferencing to [`Message`] and [`Record`](crate::Record).
///
/// **Dropped unfinished** it has failed, with the class `dropped`: it comes again after the consumer's back-off, and goes
/// to the dead-letter topic after its last attempt, if there is one.
pub struct Delivery<T = Raw> {
    message: Message<T>,
    acker: Acker,
}

impl<T> Delivery<T> {
    /// The record needs no more work.
    pub fn finish(self) {
        self.acker.finish();
    }

    /// The record was not done; what follows says the [`Failure`], or the consumer's policy where any other error is given.
    pub fn fail(self, why: impl Into<Failure>) {
        self.acker.fail(why);
    }

    /// The message, and what finishes it: to be kept apart, moved to other tasks, used in any order.
    pub fn split(self) -> (Message<T>, Acker) {
        (self.message, self.acker)
    }
}

impl<T> Deref for Delivery<T> {
    type Target = Message<T>;

    fn deref(&self) -> &Message<T> {
        &self.message
    }
}

impl<T> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delivery({:?})", self.message)
    }
}

/// Finishes a delivery, once. May be sent to other tasks and kept; dropped unused it says that the record has failed, as
/// with a [`Delivery`] that is dropped. What it says after its partition has left this member changes nothing.
#[must_use = "dropped, it says that the record has failed"]
pub struct Acker {
    slot: SlotId,
    /// `None` once it has spoken.
    returns: Option<Arc<Returns>>,
}

impl Acker {
    /// The record needs no more work.
    pub fn finish(mut self) {
        self.say(Ending::Result(Ok(())));
    }

    /// The record was not done; what follows says the [`Failure`], or the consumer's policy where any other error is given.
    pub fn fail(mut self, why: impl Into<Failure>) {
        self.say(Ending::Result(Err(why.into())));
    }

    fn say(&mut self, ending: Ending) {
        if let Some(returns) = self.returns.take() {
            returns.tell(Done { slot: self.slot, ending });
        }
    }
}

impl Drop for Acker {
    fn drop(&mut self) {
        if self.returns.is_some() {
            let text = "the delivery was dropped before it was finished";
            self.say(Ending::Result(Err(Failure::of_class(FailureClass::Dropped, Wish::Policy, text))));
        }
    }
}

impl fmt::Debug for Acker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acker")
    }
}

/// How a shard hears of what was finished.
struct Returns {
    done: Mailbox<Done>,
    /// Nothing is ready to be pulled, and somebody waits: what is finished may make something ready.
    awaited: Arc<AtomicBool>,
    /// A partition of the shard drains: what is finished may be its last.
    drains: Arc<AtomicBool>,
}

/// Finished deliveries that a shard is woken for while there is something to pull: one at a time, each would cost a change
/// of threads.
const RETURNS: usize = 64;

impl Returns {
    /// What is finished is of interest to who waits for the next record, to a drain, and to the next commit, for which the
    /// shard is woken anyway; a failure is to be dealt with.
    fn tell(&self, done: Done) {
        let urgent = matches!(done.ending, Ending::Result(Err(_)) | Ending::Cut);
        let count = self.done.post_quietly(done);
        if urgent || count >= RETURNS || self.awaited.load(Ordering::SeqCst) || self.drains.load(Ordering::SeqCst) {
            self.done.wake();
        }
    }
}

/// A delivery as it waits for somebody to pull it: dropping it says nothing.
pub(super) struct Waiting<T> {
    message: Message<T>,
    pub(super) slot: SlotId,
    source: usize,
}

impl<T> Waiting<T> {
    pub(super) fn new(message: Message<T>, slot: SlotId, source: usize) -> Self {
        Self { message, slot, source }
    }

    pub(super) fn id(&self) -> PartitionId {
        self.message.record().assignment().id
    }
}

/// Deliveries that wait to be pulled: shards add, one task takes, and a shard may take back what is still there.
pub(crate) struct Outbox<T> {
    state: Mutex<State<T>>,
    reader: AtomicWaker,
    awaited: Arc<AtomicBool>,
}

struct State<T> {
    waiting: VecDeque<Waiting<T>>,
    /// The shards that add.
    sources: Vec<Arc<Returns>>,
    closed: bool,
}

impl<T> Outbox<T> {
    pub(crate) fn new() -> Arc<Self> {
        let state = State { waiting: VecDeque::new(), sources: Vec::new(), closed: false };
        Arc::new(Self { state: Mutex::new(state), reader: AtomicWaker::new(), awaited: Arc::default() })
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A shard that will add deliveries, and hears by that mailbox what became of them: at once while `drains` holds. Its
    /// number.
    pub(super) fn source(&self, done: Mailbox<Done>, drains: Arc<AtomicBool>) -> usize {
        let mut state = self.state();
        state.sources.push(Arc::new(Returns { done, awaited: self.awaited.clone(), drains }));
        state.sources.len() - 1
    }

    /// Adds deliveries.
    pub(super) fn push(&self, waiting: impl IntoIterator<Item = Waiting<T>>) {
        self.state().waiting.extend(waiting);
        self.wake();
    }

    /// Puts deliveries before all others.
    pub(super) fn put_back(&self, waiting: Vec<Waiting<T>>) {
        {
            let mut state = self.state();
            waiting.into_iter().rev().for_each(|waiting| state.waiting.push_front(waiting));
        }
        self.wake();
    }

    /// Takes back what waits of a partition.
    pub(super) fn take_back(&self, id: PartitionId) -> Vec<Waiting<T>> {
        let mut state = self.state();
        let (wanted, others) = state.waiting.drain(..).partition::<Vec<_>, _>(|waiting| waiting.id() == id);
        state.waiting = others.into();
        wanted
    }

    /// Whether the delivery of that slot is there.
    pub(super) fn has(&self, id: PartitionId, slot: SlotId) -> bool {
        self.state().waiting.iter().any(|waiting| waiting.slot == slot && waiting.id() == id)
    }

    fn wake(&self) {
        if self.awaited.load(Ordering::SeqCst) {
            self.reader.wake();
        }
    }
}

impl<T> Pulled for Outbox<T> {
    type Item = Delivery<T>;

    fn close(&self) {
        self.state().closed = true;
        self.reader.wake();
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Delivery<T>>> {
        for registered in [false, true] {
            let mut state = self.state();
            if let Some(Waiting { message, slot, source }) = state.waiting.pop_front() {
                // Counted here, where it is mostly dropped too: a count that two threads change in turn is slow.
                let returns = state.sources.get(source).cloned();
                drop(state);
                if registered {
                    self.awaited.store(false, Ordering::SeqCst);
                }
                return Poll::Ready(Some(Delivery { message, acker: Acker { slot, returns } }));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            if !registered {
                let sources = state.sources.clone();
                drop(state);
                self.reader.register(cx.waker());
                self.awaited.store(true, Ordering::SeqCst);
                // What is finished and was not told to them may make more ready.
                sources.iter().for_each(|returns| returns.done.wake());
            }
        }
        Poll::Pending
    }
}

/// What one task takes from.
pub(crate) trait Pulled {
    type Item;

    /// Ends it: what is there can still be taken.
    fn close(&self);

    /// The next item; `None` once it is closed and empty.
    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Self::Item>>;
}

/// A partition's own outbox, on its way to whoever reads partition by partition.
pub(crate) struct Opened<T> {
    pub(crate) partition: TopicPartition,
    pub(crate) outbox: Arc<Outbox<T>>,
}

/// Partitions that were opened.
pub(crate) struct Openings<T> {
    state: Mutex<(VecDeque<Opened<T>>, bool)>,
    reader: AtomicWaker,
}

impl<T> Openings<T> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((VecDeque::new(), false)), reader: AtomicWaker::new() })
    }

    fn state(&self) -> MutexGuard<'_, (VecDeque<Opened<T>>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, opened: Opened<T>) {
        self.state().0.push_back(opened);
        self.reader.wake();
    }
}

impl<T> Pulled for Openings<T> {
    type Item = Opened<T>;

    fn close(&self) {
        self.state().1 = true;
        self.reader.wake();
    }

    fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<Opened<T>>> {
        self.reader.register(cx.waker());
        let (opened, closed) = &mut *self.state();
        match opened.pop_front() {
            None if !*closed => Poll::Pending,
            opened => Poll::Ready(opened),
        }
    }
}
