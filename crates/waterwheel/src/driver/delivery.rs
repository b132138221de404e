//! Deliveries: records on their way to whoever pulls them, and how they come back finished.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use waterwheel_core::engine::{SlotId, Wish};

use super::attempt::{Done, Ending};
use super::mailbox::Mailbox;
use crate::body::Raw;
use crate::failure::{Failure, FailureClass};
use crate::handler::Message;

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
    pub(super) fn new(message: Message<T>, slot: SlotId, done: Mailbox<Done>) -> Self {
        Self { message, acker: Acker { slot, done: Some(done) } }
    }

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
    done: Option<Mailbox<Done>>,
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
        if let Some(done) = self.done.take() {
            done.post(Done { slot: self.slot, ending });
        }
    }
}

impl Drop for Acker {
    fn drop(&mut self) {
        if self.done.is_some() {
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

/// What waits to be pulled: many tasks add, one takes, and who added may take back what is still there.
pub(crate) struct Queue<I> {
    state: Mutex<State<I>>,
    reader: AtomicWaker,
}

struct State<I> {
    items: VecDeque<I>,
    closed: bool,
}

impl<I> Queue<I> {
    pub(crate) fn new() -> Arc<Self> {
        let state = Mutex::new(State { items: VecDeque::new(), closed: false });
        Arc::new(Self { state, reader: AtomicWaker::new() })
    }

    fn state(&self) -> MutexGuard<'_, State<I>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds items.
    pub(crate) fn push(&self, items: impl IntoIterator<Item = I>) {
        let first = {
            let mut state = self.state();
            let empty = state.items.is_empty();
            state.items.extend(items);
            empty
        };
        if first {
            self.reader.wake();
        }
    }

    /// Puts items before all others.
    pub(crate) fn put_back(&self, items: Vec<I>) {
        let mut state = self.state();
        items.into_iter().rev().for_each(|item| state.items.push_front(item));
        drop(state);
        self.reader.wake();
    }

    /// Takes back the items for which `is_wanted` holds.
    pub(crate) fn take_back(&self, is_wanted: impl Fn(&I) -> bool) -> Vec<I> {
        let mut state = self.state();
        let (wanted, others) = state.items.drain(..).partition::<Vec<I>, _>(is_wanted);
        state.items = others.into();
        wanted
    }

    /// Ends it: what is there can still be taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.reader.wake();
    }

    /// The next item; `None` once it is closed and empty.
    pub(crate) fn poll_pop(&self, cx: &mut Context<'_>) -> Poll<Option<I>> {
        for registered in [false, true] {
            let mut state = self.state();
            if let Some(item) = state.items.pop_front() {
                return Poll::Ready(Some(item));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            drop(state);
            if !registered {
                self.reader.register(cx.waker());
            }
        }
        Poll::Pending
    }

    /// Whether `look` holds for an item that is there.
    pub(crate) fn any(&self, look: impl FnMut(&I) -> bool) -> bool {
        self.state().items.iter().any(look)
    }
}

/// A delivery as the shard keeps it while nobody has pulled it: dropping it says nothing.
pub(crate) struct Waiting<T> {
    message: Message<T>,
    pub(super) slot: SlotId,
    done: Mailbox<Done>,
}

impl<T> Waiting<T> {
    pub(super) fn new(message: Message<T>, slot: SlotId, done: Mailbox<Done>) -> Self {
        Self { message, slot, done }
    }

    pub(super) fn id(&self) -> waterwheel_core::PartitionId {
        self.message.record().assignment().id
    }

    /// It was pulled.
    pub(crate) fn deliver(self) -> Delivery<T> {
        Delivery::new(self.message, self.slot, self.done)
    }
}
