//! `tower` layers around handlers of all kinds: time-outs, limits, load shedding, or what a program has of its own.
//!
//! A handler becomes a [`HandlerService`] (a transform a [`TransformService`]), a layer makes another service of that, and a
//! [`ServiceHandler`] makes a handler of it again. Nothing is boxed on the way: a layered handler that is done at its first
//! poll is polled in place, like any other. What must act in the path of a record is a layer; what only looks on is a hook.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{AndThen, Map, MapErr};
use futures_util::{FutureExt, TryFutureExt};
use tower_layer::Layer;
use tower_service::Service;

use crate::batch::{Batch, BatchHandler, Outcomes};
use crate::body::Decode;
use crate::failure::{BoxError, Failure};
use crate::handler::{Handler, Message};
use crate::transform::{Outputs, Transform};

/// A [`Handler`] or a [`BatchHandler`] with a layer around it, for histories and wherever else a handler goes. Workers have
/// `layer` for it: [`ReadyWorker::layer`](crate::ReadyWorker::layer),
/// [`ReadyBatchWorker::layer`](crate::ReadyBatchWorker::layer), and for transforms
/// [`ReadyTransformWorker::layer`](crate::ReadyTransformWorker::layer).
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

/// A [`Handler`] as a service of one [`Message`] a call, or a [`BatchHandler`] as one of a [`Batch`]; always ready.
///
/// A batch of which all failed alike ([`Outcomes::failed`]) is an error of the service; one of which some failed is a
/// response.
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

impl<T: Decode, H: BatchHandler<T>> Service<Batch<T>> for HandlerService<H> {
    type Response = Outcomes;
    type Error = HandlerError;
    type Future = Map<H::Future, fn(Outcomes) -> Result<Outcomes, HandlerError>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, batch: Batch<T>) -> Self::Future {
        self.0.handle(batch).map(|outcomes| outcomes.into_result().map_err(HandlerError))
    }
}

/// A [`Transform`] as a service: always ready, of one [`Message`] a call.
pub struct TransformService<F>(Arc<F>);

impl<F> TransformService<F> {
    pub(crate) fn new(transform: F) -> Self {
        Self(Arc::new(transform))
    }
}

impl<F> Clone for TransformService<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Decode, F: Transform<T>> Service<Message<T>> for TransformService<F> {
    type Response = Outputs;
    type Error = HandlerError;
    type Future = MapErr<F::Future, fn(Failure) -> HandlerError>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message<T>) -> Self::Future {
        self.0.transform(message).map_err(HandlerError)
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

/// A service as a handler: as a [`Handler`] if it is one of messages that answers with nothing, as a [`Transform`] if it
/// answers with [`Outputs`], as a [`BatchHandler`] if it is one of batches that answers with [`Outcomes`].
///
/// Each attempt has a clone of it, is ready before it is called, and is the only thing held up while it is not: until then
/// the attempt runs, and counts for concurrency, time-outs and drains. Dropping an attempt's future drops the clone, and
/// the call if it was made.
///
/// An error of a layer's own means the worker's policy; a layer that wants something else to follow gives a
/// [`HandlerError`] of a [`Failure`] that says so. An error for a batch is one of each of its records. A panic in a layer is
/// a failure of its attempt.
#[derive(Clone, Debug)]
pub struct ServiceHandler<S>(S);

impl<S> ServiceHandler<S> {
    /// Makes a handler of a service of [`Message`]s or of [`Batch`]es.
    pub fn new(service: S) -> Self {
        Self(service)
    }

    fn attempt<R>(&self, request: R) -> Attempted<S, R>
    where
        S: Service<R, Error: Into<BoxError>> + Clone,
    {
        WhenReady(Some((self.0.clone(), request))).and_then(call::<S, R>)
    }
}

impl<T, S> Handler<T> for ServiceHandler<S>
where
    T: Send + 'static,
    S: Service<Message<T>, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Future = Attempted<S, Message<T>>;

    fn handle(&self, message: Message<T>) -> Self::Future {
        self.attempt(message)
    }
}

impl<T, S> Transform<T> for ServiceHandler<S>
where
    T: Decode,
    S: Service<Message<T>, Response = Outputs> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Future = Attempted<S, Message<T>>;

    fn transform(&self, message: Message<T>) -> Self::Future {
        self.attempt(message)
    }
}

impl<T, S> BatchHandler<T> for ServiceHandler<S>
where
    T: Decode,
    S: Service<Batch<T>, Response = Outcomes> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError> + 'static,
    S::Future: Send + 'static,
{
    type Future = Map<Attempted<S, Batch<T>>, fn(Result<Outcomes, Failure>) -> Outcomes>;

    fn handle(&self, batch: Batch<T>) -> Self::Future {
        self.attempt(batch).map(|result| result.unwrap_or_else(Outcomes::failed))
    }
}

/// The work of a service on one request.
type Attempted<S, R> = AndThen<WhenReady<S, R>, Called<S, R>, fn((S, R)) -> Called<S, R>>;

type Called<S, R> = MapErr<<S as Service<R>>::Future, fn(<S as Service<R>>::Error) -> Failure>;

fn call<S: Service<R>, R>((mut service, request): (S, R)) -> Called<S, R>
where
    S::Error: Into<BoxError>,
{
    service.call(request).map_err(failure_of::<S::Error>)
}

fn failure_of<E: Into<BoxError>>(error: E) -> Failure {
    match error.into().downcast::<HandlerError>() {
        Ok(error) => error.0,
        Err(error) => Failure::retry(error),
    }
}

/// Gives service and request once the service is ready.
#[derive(Debug)]
pub struct WhenReady<S, R>(Option<(S, R)>);

impl<S, R> Unpin for WhenReady<S, R> {}

impl<S: Service<R>, R> Future for WhenReady<S, R>
where
    S::Error: Into<BoxError>,
{
    type Output = Result<(S, R), Failure>;

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
