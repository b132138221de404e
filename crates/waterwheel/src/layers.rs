//! `tower` layers around handlers: time-outs, limits, load shedding, or what a program has of its own.
//!
//! A handler becomes a [`HandlerService`], a layer makes another service of that, and a [`ServiceHandler`] makes a handler of
//! it again. Nothing is boxed on the way: a layered handler that is done at its first poll is polled in place, like any
//! other. What must act in the path of a record is a layer; what only looks on is a hook.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::TryFutureExt;
use futures_util::future::{AndThen, MapErr};
use tower_layer::Layer;
use tower_service::Service;

use crate::failure::{BoxError, Failure};
use crate::handler::{Handler, Message};

/// A handler with a layer around it; for workers there is also [`ReadyWorker::layer`](crate::ReadyWorker::layer).
///
/// ```
/// # use std::time::Duration;
/// # use waterwheel::{Client, Failure, Message, Utf8, layered};
/// # fn build(client: Client) -> Result<(), waterwheel::Error> {
/// # async fn charge(_: Message<Utf8>) -> Result<(), Failure> { Ok(()) }
/// let handler = layered(charge, tower::timeout::TimeoutLayer::new(Duration::from_secs(2)));
/// let history = client.history("orders").handler(handler).build()?;
/// # Ok(())
/// # }
/// ```
pub fn layered<H, L: Layer<HandlerService<H>>>(handler: H, layer: L) -> ServiceHandler<L::Service> {
    ServiceHandler(layer.layer(HandlerService(Arc::new(handler))))
}

/// A handler as a service: always ready, of one [`Message`] a call.
pub struct HandlerService<H>(Arc<H>);

impl<H> Clone for HandlerService<H> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, H: Handler<T>> Service<Message<T>> for HandlerService<H> {
    type Response = ();
    type Error = HandlerError;
    type Future = MapErr<H::Future, fn(Failure) -> HandlerError>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message<T>) -> Self::Future {
        self.0.handle(message).map_err(HandlerError)
    }
}

/// A [`Failure`] as an error, which layers want. One that comes through them as it is, boxed or not, is the same failure
/// again, with its class and its wish.
pub struct HandlerError(Failure);

impl HandlerError {
    /// The failure, for a layer that decides by it.
    pub fn failure(&self) -> &Failure {
        &self.0
    }
}

impl From<Failure> for HandlerError {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl fmt::Debug for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HandlerError {
    /// Names the class, not the error's text, which may quote the record.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the handler failed ({})", self.0.class())
    }
}

impl StdError for HandlerError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(self.0.error())
    }
}

/// A service as a handler. Each attempt has a clone of it, is ready before it is called, and is the only thing held up
/// while it is not: until then the attempt runs, and counts for concurrency, time-outs and drains.
///
/// An error of a layer's own means the worker's policy; a layer that wants something else to follow gives a
/// [`HandlerError`] of a [`Failure`] that says so. A panic in a layer is a failure of its attempt.
#[derive(Clone, Debug)]
pub struct ServiceHandler<S>(S);

impl<S> ServiceHandler<S> {
    /// Makes a handler of a service of [`Message`]s.
    pub fn new(service: S) -> Self {
        Self(service)
    }
}

impl<T, S> Handler<T> for ServiceHandler<S>
where
    T: Send + 'static,
    S: Service<Message<T>, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Future = AndThen<WhenReady<S, T>, Called<S, T>, fn((S, Message<T>)) -> Called<S, T>>;

    fn handle(&self, message: Message<T>) -> Self::Future {
        WhenReady(Some((self.0.clone(), message))).and_then(call::<S, T>)
    }
}

type Called<S, T> = MapErr<<S as Service<Message<T>>>::Future, fn(<S as Service<Message<T>>>::Error) -> Failure>;

fn call<S: Service<Message<T>>, T>((mut service, message): (S, Message<T>)) -> Called<S, T>
where
    S::Error: Into<BoxError>,
{
    service.call(message).map_err(failure_of::<S::Error>)
}

fn failure_of<E: Into<BoxError>>(error: E) -> Failure {
    match error.into().downcast::<HandlerError>() {
        Ok(error) => error.0,
        Err(error) => Failure::retry(error),
    }
}

/// Gives service and message once the service is ready.
#[derive(Debug)]
pub struct WhenReady<S, T>(Option<(S, Message<T>)>);

impl<S, T> Unpin for WhenReady<S, T> {}

impl<S: Service<Message<T>>, T> Future for WhenReady<S, T>
where
    S::Error: Into<BoxError>,
{
    type Output = Result<(S, Message<T>), Failure>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some((service, _)) = &mut self.0 else { return Poll::Pending };
        match service.poll_ready(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Err(failure_of(error))),
            Poll::Ready(Ok(())) => match self.0.take() {
                Some(ready) => Poll::Ready(Ok(ready)),
                // Not reached: it was there a line above.
                None => Poll::Pending,
            },
        }
    }
}
