//! Streams of what is told to everybody who listens.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// What is told from the moment on in which it was asked for: a stream, which ends once everything that could tell more is
/// gone. Nothing ever waits for its reader: with more than 1,024 items unread, the oldest are dropped, and their number is
/// told in their place.
pub struct Subscription<T>(BoxStream<'static, T>);

impl<T: Clone + Send + 'static> Subscription<T> {
    pub(crate) fn new(receiver: Receiver<T>, missed: fn(u64) -> T) -> Self {
        let stream = futures_util::stream::unfold(receiver, move |mut receiver| async move {
            match receiver.recv().await {
                Ok(item) => Some((item, receiver)),
                Err(RecvError::Lagged(number)) => Some((missed(number), receiver)),
                Err(RecvError::Closed) => None,
            }
        });
        Self(Box::pin(stream))
    }
}

impl<T> Subscription<T> {
    /// The next item; `None` once there will be none. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<T> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

impl<T> Stream for Subscription<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subscription")
    }
}
