//! Workers that work exactly once: their handler makes records of a record.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use super::{Built, Report, RunError, WorkerBuilder, WorkerHandle};
use crate::body::Decode;
use crate::client::Properties;
use crate::config::ConfigError;
use crate::driver::attempt::Transforming;
use crate::driver::shard::handlers::Handlers;
use crate::driver::shard::transactor::Terms;
use crate::driver::watched::Watched;
use crate::error::Error;
use crate::settings::CommitMetadata;
use crate::transform::Transform;

/// A transaction that is open for longer is ended by its coordinator, unless `transaction.timeout.ms` says otherwise: what a
/// worker that died left open holds up readers for as long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// How a worker works exactly once: what its [`Transform`] produces and the offsets of what it read are committed in one
/// transaction, so that a reader of what is committed sees the outputs of each record once.
#[derive(Clone, Debug)]
pub struct ExactlyOnce {
    id: Option<String>,
    every: Duration,
    records: usize,
    bytes: usize,
}

impl Default for ExactlyOnce {
    fn default() -> Self {
        Self { id: None, every: Duration::from_millis(100), records: 50_000, bytes: 32 << 20 }
    }
}

impl ExactlyOnce {
    /// With the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the transactional ids of this worker begin with; `-0`, `-1` … follow, one for each shard. No two workers that
    /// live may have the same: the later one fences the earlier, which ends with an error when that goes on. Default: the group's name and a random part, so that what a worker that died left open ends by its time-out (10 s,
    /// unless `transaction.timeout.ms` says otherwise), and not when its successor begins.
    pub fn transactional_id(mut self, prefix: impl Into<String>) -> Self {
        self.id = Some(prefix.into());
        self
    }

    /// How long after its first record a transaction is committed, at the latest. Outputs are seen, and work that was done
    /// is safe, only then; each transaction costs a few requests for each shard. Default: 100 ms.
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// The most outputs of a transaction: it is committed then, and nothing more is started until another one can begin.
    /// Attempts that run already may exceed it. Default: 50,000.
    pub fn records(mut self, records: usize) -> Self {
        self.records = records;
        self
    }

    /// The same in bytes of outputs: keys, values, headers, and about 150 bytes each. Default: 32 MiB.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }
}

impl WorkerBuilder {
    /// Makes it a worker that works exactly once, with a [`transform`](Self::transform) instead of a handler.
    ///
    /// It commits in transactions only: [`commit_every`](Self::commit_every) is [`ExactlyOnce::every`] then. Dead letters and
    /// skips are part of the transaction, too. Its shards have a producer each.
    pub fn exactly_once(mut self, how: ExactlyOnce) -> Self {
        self.exactly_once = Some(how);
        self
    }

    /// Makes a worker of it whose handler makes records of each record. For [`exactly_once`](Self::exactly_once).
    ///
    /// A key's next record may run as soon as the one before has ended well, many keys at once. When a transaction is
    /// aborted (its partition was lost, a member of the group came or went at a bad moment, an output was refused, brokers
    /// were away) its records run again, and none of its outputs is seen.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use waterwheel::{Client, ExactlyOnce, Failure, Message, ProducerRecord, Utf8};
    ///
    /// let client = Client::new("localhost:9092")?;
    /// let worker = client
    ///     .worker("invoices")
    ///     .topic("orders")
    ///     .exactly_once(ExactlyOnce::new())
    ///     .transform(async |order: Message<Utf8>| {
    ///         let invoice = ProducerRecord::to("invoices").key(order.key().unwrap_or_default()).value(&order.body.0);
    ///         Ok::<_, Failure>(invoice)
    ///     })
    ///     .build()?;
    /// worker.run_until(waterwheel::signal::shutdown()).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transform<T: Decode, F: Transform<T>>(self, transform: F) -> ReadyTransformWorker<T, F> {
        ReadyTransformWorker { builder: self, transform, body: std::marker::PhantomData }
    }

    /// Refuses what is only for workers that have a [`transform`](Self::transform).
    pub(super) fn refuse_exactly_once(&self, with: &str) -> Result<(), ConfigError> {
        if self.exactly_once.is_none() {
            return Ok(());
        }
        let problem =
            format!("is for workers with a transform: what a {with} produces is not part of its transactions");
        Err(ConfigError::new("exactly_once", problem).remedy("use .transform(..)"))
    }

    fn check_exactly_once(&self, how: &ExactlyOnce) -> Result<(), ConfigError> {
        let mistake = |key: &str, problem: &str, remedy: &str| Err(ConfigError::new(key, problem).remedy(remedy));
        if how.every.is_zero() || how.records == 0 || how.bytes == 0 {
            return mistake("exactly_once", "a transaction without time or room", "use the defaults");
        }
        if how.id.as_deref() == Some("") {
            return mistake("exactly_once", "the transactional id is empty", "name one, or leave it to the worker");
        }
        if self.commit_every.is_some() {
            return mistake("commit_every", "transactions commit, and nothing else", "use ExactlyOnce::every");
        }
        if self.metadata == CommitMetadata::Own {
            return mistake("metadata", "a worker that works exactly once needs its commit map", "leave it out");
        }
        let property = |name: &str| self.properties.get(name).or_else(|| self.client.properties().get(name));
        let is = |name: &str, values: &[&str]| property(name).is_some_and(|v| values.contains(&&*v.to_lowercase()));
        if is("enable.idempotence", &["false"]) {
            return mistake("enable.idempotence", "is false, but transactions need it", "leave it out");
        }
        if is("acks", &["0", "1"]) || is("request.required.acks", &["0", "1"]) {
            return mistake(
                "acks",
                "transactions need the acknowledgement of all replicas",
                "leave it out, or say all",
            );
        }
        if is("isolation.level", &["read_uncommitted"]) {
            let problem = "would read records, and begin at offsets, of transactions that may be aborted yet";
            return mistake("isolation.level", problem, "leave it out, or say read_committed");
        }
        Ok(())
    }

    /// When the transactions of a worker that works exactly once are cut.
    pub(super) fn terms(&self) -> Option<Terms> {
        let ExactlyOnce { every, records, bytes, .. } = *self.exactly_once.as_ref()?;
        Some(Terms { every, records, bytes, on_map_full: self.on_map_full })
    }

    /// What the transactional ids begin with.
    pub(super) fn transactional_id(&self) -> String {
        let named = self.exactly_once.as_ref().and_then(|how| how.id.clone());
        named.unwrap_or_else(|| format!("{}-{:x}", self.group_name(), RandomState::new().hash_one(self.group_name())))
    }
}

/// The properties of a shard's transactional client. A topic that is not found within 5 s is not there: by the client's
/// default (30 s) the transaction would run out of time first, and the record that it is for not be known.
pub(super) fn transactional(properties: &Properties, id: &str) -> Properties {
    let mut properties = properties.clone();
    properties.insert("transactional.id".to_owned(), id.to_owned());
    let timeout = || TRANSACTION_TIMEOUT.as_millis().to_string();
    properties.entry("transaction.timeout.ms".to_owned()).or_insert_with(timeout);
    properties.entry("topic.metadata.propagation.max.ms".to_owned()).or_insert_with(|| "5000".to_owned());
    properties
}

/// A worker that has its transform and only needs to be built.
pub struct ReadyTransformWorker<T, F> {
    pub(super) builder: WorkerBuilder,
    pub(super) transform: F,
    pub(super) body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, F: Transform<T>> ReadyTransformWorker<T, F> {
    /// Checks the configuration. Nothing connects before [`TransformWorker::run`].
    pub fn build(self) -> Result<TransformWorker<T, F>, Error> {
        match &self.builder.exactly_once {
            Some(how) => self.builder.check_exactly_once(how)?,
            None => {
                let problem = "what a transform makes is written in transactions, and there are none";
                return Err(ConfigError::new("transform", problem).remedy("add .exactly_once(..)").into());
            }
        }
        let built = Built::new(self.builder)?;
        let transform = Arc::new(Watched::new(Transforming(self.transform), built.watch()));
        Ok(TransformWorker { built, transform, body: self.body })
    }
}

/// A worker that makes records of records, exactly once. Like [`Worker`](crate::Worker) in all else.
pub struct TransformWorker<T, F> {
    built: Built,
    transform: Arc<Watched<Transforming<F>>>,
    body: std::marker::PhantomData<fn() -> T>,
}

impl<T: Decode, F: Transform<T>> TransformWorker<T, F> {
    /// A handle to steer and watch the worker with.
    pub fn handle(&self) -> WorkerHandle {
        self.built.handle().clone()
    }

    /// Runs as [`Worker::run`](crate::Worker::run) does. Dropping the future ends the worker at once, as a crash would: its
    /// open transactions are aborted when their time is up.
    pub async fn run(self) -> Result<Report, RunError> {
        self.run_until(std::future::pending()).await
    }

    /// Runs until `shutdown` ends, then closes in order; otherwise like [`run`](Self::run).
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<Report, RunError> {
        let Self { built, transform, .. } = self;
        let execution = built.common().execution;
        built.run_until(shutdown, move || Handlers::new(transform.clone(), execution)).await
    }
}
