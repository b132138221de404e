//! Workers whose handler has layers around it.

use tower_layer::Layer;

use super::{ReadyBatchWorker, ReadyTransformWorker, ReadyWorker};
use crate::batch::BatchHandler;
use crate::body::Decode;
use crate::handler::Handler;
use crate::layers::{HandlerService, ServiceHandler, TransformService, layered};
use crate::transform::Transform;

impl<T: Decode, H: Handler<T>> ReadyWorker<T, H> {
    /// Puts a `tower` layer around the handler; the one that is put last is outermost. See [`layered`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use waterwheel::{Client, Failure, Message, Utf8};
    /// # fn build(client: Client) -> Result<(), waterwheel::Error> {
    /// # async fn charge(_: Message<Utf8>) -> Result<(), Failure> { Ok(()) }
    /// let worker = client
    ///     .worker("billing")
    ///     .topic("orders")
    ///     .handler(charge)
    ///     .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(2)))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<L: Layer<HandlerService<H>>>(self, layer: L) -> ReadyWorker<T, ServiceHandler<L::Service>> {
        let Self { builder, handler, body } = self;
        ReadyWorker { builder, handler: layered(handler, layer), body }
    }
}

impl<T: Decode, H: BatchHandler<T>> ReadyBatchWorker<T, H> {
    /// Puts a `tower` layer around the batch handler, which sees [`Batch`](crate::Batch)es; the one that is put last is
    /// outermost. See [`HandlerService`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use waterwheel::{Batch, Client, Failure, Utf8};
    /// # fn build(client: Client) -> Result<(), waterwheel::Error> {
    /// # async fn insert(_: Batch<Utf8>) -> Result<(), Failure> { Ok(()) }
    /// let worker = client
    ///     .worker("billing")
    ///     .topic("orders")
    ///     .batch_handler(insert, 100, Duration::from_millis(50))
    ///     .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(2)))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<L: Layer<HandlerService<H>>>(self, layer: L) -> ReadyBatchWorker<T, ServiceHandler<L::Service>> {
        let Self { builder, handler, body } = self;
        ReadyBatchWorker { builder, handler: layered(handler, layer), body }
    }
}

impl<T: Decode, F: Transform<T>> ReadyTransformWorker<T, F> {
    /// Puts a `tower` layer around the transform; the one that is put last is outermost. See [`TransformService`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use waterwheel::{Client, ExactlyOnce, Failure, Message, ProducerRecord, Utf8};
    /// # fn build(client: Client) -> Result<(), waterwheel::Error> {
    /// # async fn invoice(_: Message<Utf8>) -> Result<ProducerRecord, Failure> { Ok(ProducerRecord::to("invoices")) }
    /// let worker = client
    ///     .worker("invoices")
    ///     .topic("orders")
    ///     .exactly_once(ExactlyOnce::new())
    ///     .transform(invoice)
    ///     .layer(tower::timeout::TimeoutLayer::new(Duration::from_secs(2)))
    ///     .build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<L: Layer<TransformService<F>>>(self, layer: L) -> ReadyTransformWorker<T, ServiceHandler<L::Service>> {
        let Self { builder, transform, body } = self;
        let transform = ServiceHandler::new(layer.layer(TransformService::new(transform)));
        ReadyTransformWorker { builder, transform, body }
    }
}
