//! One attempt: a handler's future, polled in place first and then as a task.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use waterwheel_core::engine::{SlotId, Wish};

use super::mailbox::Mailbox;
use crate::body::Decode;
use crate::failure::{Failure, FailureClass};
use crate::handler::{Handler, Message};

/// How an attempt that went on as a task ended.
pub(crate) enum Ending {
    /// By itself.
    Result(Result<(), Failure>),
    /// Its future was dropped.
    Cut,
}

/// The end of an attempt that went on as a task.
pub(crate) struct Done {
    pub(crate) slot: SlotId,
    pub(crate) ending: Ending,
}

/// A boxed future that can be replaced without a new allocation.
type Cell<F> = Pin<Box<Option<F>>>;

/// The place where futures are polled first. A future that ends there costs no allocation.
pub(crate) struct InPlace<F>(Cell<F>);

impl<F: Future<Output = Result<(), Failure>>> InPlace<F> {
    pub(crate) fn new() -> Self {
        Self(Box::pin(None))
    }

    /// Makes a future and polls it once. A panic is a failure.
    #[inline]
    pub(crate) fn start(&mut self, make: impl FnOnce() -> F) -> Poll<Result<(), Failure>> {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            self.0.set(Some(make()));
            // The task that it becomes polls it again with a waker of its own.
            poll_cell(&mut self.0, &mut Context::from_waker(Waker::noop()))
        }));
        let polled = polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic))));
        if polled.is_ready() {
            clear(&mut self.0);
        }
        polled
    }

    /// Takes the future out that [`start`](Self::start) found pending, as a task that reports to `done`.
    pub(crate) fn take(&mut self, slot: SlotId, done: Mailbox<Done>) -> Attempt<F> {
        Attempt { cell: std::mem::replace(&mut self.0, Box::pin(None)), slot, done }
    }
}

fn poll_cell<F: Future>(cell: &mut Cell<F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    match cell.as_mut().as_pin_mut() {
        Some(future) => future.poll(cx),
        // Not reached: a cell is filled before it is polled, and emptied only when its future has ended.
        None => Poll::Pending,
    }
}

/// Drops the future, which can panic like any code of a user's.
fn clear<F>(cell: &mut Cell<F>) {
    if catch_unwind(AssertUnwindSafe(|| cell.set(None))).is_err() {
        tracing::warn!("a handler's future panicked when it was dropped");
    }
}

fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::of_class(FailureClass::Panic, Wish::Policy, text.unwrap_or("a panic without a text"))
}

/// An attempt as a task. It reports its end exactly once, also when it is dropped (invariant I3).
///
/// 24 bytes: a task of no more than that takes 128 of tokio's, a larger one 256.
pub(crate) struct Attempt<F> {
    /// Empty once the end is reported.
    cell: Cell<F>,
    slot: SlotId,
    done: Mailbox<Done>,
}

impl<F: Future<Output = Result<(), Failure>>> Attempt<F> {
    /// An attempt that has not been polled yet.
    pub(crate) fn unpolled(future: F, slot: SlotId, done: Mailbox<Done>) -> Self {
        Self { cell: Box::pin(Some(future)), slot, done }
    }
}

impl<F: Future<Output = Result<(), Failure>>> Future for Attempt<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let polled = catch_unwind(AssertUnwindSafe(|| poll_cell(&mut this.cell, cx)));
        let Poll::Ready(result) = polled.unwrap_or_else(|panic| Poll::Ready(Err(panicked(&*panic)))) else {
            return Poll::Pending;
        };
        clear(&mut this.cell);
        this.done.post(Done { slot: this.slot, ending: Ending::Result(result) });
        Poll::Ready(())
    }
}

impl<F> Drop for Attempt<F> {
    fn drop(&mut self) {
        if self.cell.is_some() {
            clear(&mut self.cell);
            self.done.post(Done { slot: self.slot, ending: Ending::Cut });
        }
    }
}

/// A call of a handler that is made when it is first polled, so that a slow call does not hold up the shard.
pub(crate) struct LazyHandle<T: Decode, H: Handler<T>> {
    call: Option<(Arc<H>, Message<T>)>,
    future: Option<Pin<Box<H::Future>>>,
}

impl<T: Decode, H: Handler<T>> LazyHandle<T, H> {
    pub(crate) fn new(handler: Arc<H>, message: Message<T>) -> Self {
        Self { call: Some((handler, message)), future: None }
    }
}

impl<T: Decode, H: Handler<T>> Unpin for LazyHandle<T, H> {}

impl<T: Decode, H: Handler<T>> Future for LazyHandle<T, H> {
    type Output = Result<(), Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((handler, message)) = this.call.take() {
            this.future = Some(Box::pin(handler.handle(message)));
        }
        match &mut this.future {
            Some(future) => future.as_mut().poll(cx),
            // Not reached: the call is there until the first poll makes the future of it.
            None => Poll::Pending,
        }
    }
}
