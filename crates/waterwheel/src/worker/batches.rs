//! Workers whose handler takes many records at once.

use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::engine::Gather;

use super::{Built, Report, RunError, WorkerBuilder, WorkerHandle};
use crate::batch::BatchHandler;
use crate::body::Decode;
use crate::config::ConfigError;
use crate::driver::shard::batches::Batches;
use crate::error::Error;

impl WorkerBuilder {
    /// Makes a worker of it whose handler takes up to `max` records at once: as many as there are `wait` after the first
    /// of them, or as soon as there are `max`. See [`BatchHandler`] for what is in a batch, and what follows a failure.
    ///
    /// Each record of a batch counts in [`concurrency`](Self::concurrency) from when it is gathered, so `max` must not be
    /// larger; twice that and more lets one batch be gathered while another one runs. Without credits for more, a batch
    /// runs with what it has. The other settings are as with any handler: retries, dead letters, drains; the
    /// [`handler_timeout`](Self::handler_timeout) is a batch's.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn insert(_: Vec<String>) -> Result<(), std::io::Error> { Ok(()) }
    /// use std::time::Duration;
    /// use waterwheel::{Batch, Client, Utf8};
    ///
    /// let client = Client::new("localhost:9092")?;
    /// let worker = client
    ///     .worker("billing")
    ///     .topic("orders")
    ///     .concurrency(1_000)
    ///     .batch_handler(
    ///         |batch: Batch<Utf8>| insert(batch.into_bodies().map(|line| line.0).collect()),
    ///         500,
    ///         Duration::from_millis(50),
    ///     )
    ///     .build()?;
    /// worker.run_until(waterwheel::signal::shutdown()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn batch_handler<T: Decode, H: BatchHandler<T>>(
        self,
        handler: H,
        max: usize,
        wait: Duration,
    ) -> ReadyBatchWorker<T, H> {
        let builder = Self { gather: Gather { max, wait }, ..self };
        ReadyBatchWorker { builder, handler, body: std::marker::PhantomData }
    }
}

/// A worker that has its batch handler and only needs to be built.
pub struct ReadyBatchWorker<T, H> {
    pub(super) builder: WorkerBuilder,
    pub(super) handler: H,
    pub(super) body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, H: BatchHandler<T>> ReadyBatchWorker<T, H> {
    /// Checks the configuration. Nothing connects before [`BatchWorker::run`].
    pub fn build(self) -> Result<BatchWorker<T, H>, Error> {
        self.builder.refuse_exactly_once("batch handler")?;
        self.builder.refuse_class_breaker("batch handler")?;
        let (Gather { max, .. }, concurrency) = (self.builder.gather, self.builder.concurrency);
        if max == 0 {
            return Err(ConfigError::new("batch_handler", "a batch has at least 1 record").remedy("raise max").into());
        }
        if max > concurrency {
            let problem = format!("{max} records a batch cannot run at once with a concurrency of {concurrency}");
            let remedy = format!("use .concurrency({}) or a smaller max", max.saturating_mul(2));
            return Err(ConfigError::new("batch_handler", problem).remedy(remedy).into());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // No more shards than can each fill a batch.
        let shards = self.builder.shards.unwrap_or(cores).min(concurrency / max);
        let built = Built::new(WorkerBuilder { shards: Some(shards), ..self.builder })?;
        Ok(BatchWorker { built, handler: Arc::new(self.handler), body: self.body })
    }
}

/// A worker that runs its handler for many records at once. Like [`Worker`](crate::Worker) in all else.
pub struct BatchWorker<T, H> {
    built: Built,
    handler: Arc<H>,
    body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, H: BatchHandler<T>> BatchWorker<T, H> {
    /// A handle to steer and watch the worker with.
    pub fn handle(&self) -> WorkerHandle {
        self.built.handle().clone()
    }

    /// Runs as [`Worker::run`](crate::Worker::run) does. Dropping the future ends the worker at once, as a crash would.
    pub async fn run(self) -> Result<Report, RunError> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `shutdown` ends, then closes in order; otherwise like [`run`](Self::run).
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Report, RunError> {
        let Self { built, handler, .. } = self;
        let watch = built.watch();
        built.run_until(shutdown, move || Batches::new(handler.clone(), watch.clone())).await
    }
}
