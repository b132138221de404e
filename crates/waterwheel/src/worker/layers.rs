//! Workers whose handler has layers around it.

use tower_layer::Layer;

use super::ReadyWorker;
use crate::body::Decode;
use crate::handler::Handler;
use crate::layers::{HandlerService, ServiceHandler, layered};

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
