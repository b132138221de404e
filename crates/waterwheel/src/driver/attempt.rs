//! One attempt: a handler's future, polled in place first and then as a task.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use waterwheel_core::engine::{SlotId, Wish};

use super::classes::Passed;
use super::mailbox::Mailbox;
use crate::body::Decode;
use crate::failure::{Failure, FailureClass};
use crate::handler::{Handler, Message};
use crate::spans::{Span, Spans};
use crate::transform::{Outputs, Transform};

/// What an attempt that ends well gives.
pub(crate) trait Output: Default + Send + Unpin + 'static {
    /// Whether it is to be written before the record is finished.
    const PRODUCES: bool;

    fn into_outputs(self) -> Outputs;

    /// What it has to write gets spans, of that attempt.
    fn trace(&mut self, _spans: &Spans, _attempt: &Span) {}
}

impl Output for () {
    const PRODUCES: bool = false;

    fn into_outputs(self) -> Outputs {
        Outputs::default()
    }
}

impl Output for Outputs {
    const PRODUCES: bool = true;

    fn into_outputs(self) -> Outputs {
        self
    }

    fn trace(&mut self, spans: &Spans, attempt: &Span) {
        Outputs::trace(self, spans, attempt);
    }
}

/// What makes attempts of messages.
pub(crate) trait Attempts<T: Decode>: Send + Sync + 'static {
    type Output: Output;
    type Future: Future<Output = Result<Self::Output, Failure>> + Send + 'static;

    /// Begins one. `passed`: what its class let through, if it has one.
    fn attempt(&self, message: Message<T>, passed: Option<Box<Passed>>) -> Self::Future;
}

/// Attempts of a handler, which give nothing.
pub(crate) struct Handling<H>(pub(crate) H);

impl<T: Decode, H: Handler<T>> Attempts<T> for Handling<H> {
    type Output = ();
    type Future = H::Future;

    fn attempt(&self, message: Message<T>, _: Option<Box<Passed>>) -> Self::Future {
        self.0.handle(message)
    }
}

/// Attempts of a transform.
pub(crate) struct Transforming<F>(pub(crate) F);

impl<T: Decode, F: Transform<T>> Attempts<T> for Transforming<F> {
    type Output = Outputs;
    type Future = F::Future;

    fn attempt(&self, message: Message<T>, _: Option<Box<Passed>>) -> Self::Future {
        self.0.transform(message)
    }
}

/// How an attempt that went on as a task ended.
pub(crate) enum Ending<O = ()> {
    /// By itself.
    Result(Result<O, Failure>),
    /// Its future was dropped.
    Cut,
}

/// The end of an attempt that went on as a task.
pub(crate) struct Done<O = ()> {
    pub(crate) slot: SlotId,
    pub(crate) ending: Ending<O>,
}

/// A boxed future that can be replaced without a new allocation.
type Cell<F> = Pin<Box<Option<F>>>;

/// The place where futures are polled first. A future that ends there costs no allocation.
pub(crate) struct InPlace<F>(Cell<F>);

impl<O, F: Future<Output = Result<O, Failure>>> InPlace<F> {
    pub(crate) fn new() -> Self {
        Self(Box::pin(None))
    }

    /// Makes a future and polls it once. A panic is a failure.
    #[inline]
    pub(crate) fn start(&mut self, make: impl FnOnce() -> F) -> Poll<F::Output> {
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
    pub(crate) fn take(&mut self, slot: SlotId, done: Mailbox<Done<O>>) -> Attempt<F, O> {
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

pub(super) fn panicked(panic: &(dyn Any + Send)) -> Failure {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Failure::of_class(FailureClass::Panic, Wish::Policy, text.unwrap_or("a panic without a text"))
}

/// An attempt as a task. It reports its end exactly once, also when it is dropped (invariant I3).
///
/// 24 bytes: a task of no more than that takes 128 of tokio's, a larger one 256.
pub(crate) struct Attempt<F, O = ()> {
    /// Empty once the end is reported.
    cell: Cell<F>,
    slot: SlotId,
    done: Mailbox<Done<O>>,
}

impl<O, F: Future<Output = Result<O, Failure>>> Attempt<F, O> {
    /// An attempt that has not been polled yet.
    pub(crate) fn unpolled(future: F, slot: SlotId, done: Mailbox<Done<O>>) -> Self {
        Self { cell: Box::pin(Some(future)), slot, done }
    }
}

impl<O, F: Future<Output = Result<O, Failure>>> Future for Attempt<F, O> {
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

impl<F, O> Drop for Attempt<F, O> {
    fn drop(&mut self) {
        if self.cell.is_some() {
            clear(&mut self.cell);
            self.done.post(Done { slot: self.slot, ending: Ending::Cut });
        }
    }
}

/// A call of a handler that is made when it is first polled, so that a slow call does not hold up the shard.
pub(crate) struct LazyHandle<T: Decode, H: Attempts<T>> {
    call: Option<Call<T, H>>,
    future: Option<Pin<Box<H::Future>>>,
}

type Call<T, H> = (Arc<H>, Message<T>, Option<Box<Passed>>);

impl<T: Decode, H: Attempts<T>> LazyHandle<T, H> {
    pub(crate) fn new(handler: Arc<H>, message: Message<T>, passed: Option<Box<Passed>>) -> Self {
        Self { call: Some((handler, message, passed)), future: None }
    }
}

impl<T: Decode, H: Attempts<T>> Unpin for LazyHandle<T, H> {}

impl<T: Decode, H: Attempts<T>> Future for LazyHandle<T, H> {
    type Output = Result<H::Output, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some((handler, message, passed)) = this.call.take() {
            this.future = Some(Box::pin(handler.attempt(message, passed)));
        }
        match &mut this.future {
            Some(future) => future.as_mut().poll(cx),
            // Not reached: the call is there until the first poll makes the future of it.
            None => Poll::Pending,
        }
    }
}
