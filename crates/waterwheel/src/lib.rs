//! Waterwheel turns a Kafka stream into work that gets done.
//!
//! A [`Worker`] reads topics as a member of a consumer group and runs a handler for every record: many keys side by side,
//! each key in order. What fails is tried again and at last dead-lettered, only what is finished is committed, and
//! partitions are handed over without work being done twice.
//!
//! ```no_run
//! use serde::Deserialize;
//! use waterwheel::{Client, DeadLetter, Failure, Json, Message};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     customer: String,
//!     cents: u64,
//! }
//!
//! async fn charge(order: Message<Json<Order>>) -> Result<(), Failure> {
//!     println!("{} pays {} cents", order.body.customer, order.body.cents);
//!     Ok(())
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new("localhost:9092")?; // checks the configuration; connects later, with back-off
//! let worker = client
//!     .worker("billing")
//!     .topic("orders")
//!     .dead_letter(DeadLetter::topic("{topic}.{group}.dlt"))
//!     .handler(charge)
//!     .build()?;
//! let report = worker.run_until(waterwheel::signal::shutdown()).await?;
//! println!("{} orders charged", report.counts.succeeded);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to find what
//!
//! A [`Client`] holds the checked configuration: brokers, [`config::Security`] (TLS, SASL), and every librdkafka property
//! by name. [`Client::worker`] begins a [`WorkerBuilder`], which has all settings of a worker with their defaults: order,
//! concurrency and memory, [`Retry`], [`RetryTiers`], [`DeadLetter`], time-outs, drain, [`Start`], [`Execution`]; and what holds starts back:
//! [`Breaker`], [`RateLimit`], [`Adaptive`].
//!
//! A handler is any `Fn(Message<T>) -> impl Future<Output = Result<(), E>>`, or a type that implements [`Handler`]. `T` is
//! a body that can [`Decode`] itself: [`Raw`], [`Utf8`], `Json<T>`, `Protobuf<M>`, [`Keyed`], an `Option` of these, or one of your own.
//! [`decoded`] puts a [`Decoder`] before a handler, for Avro and schema registries. `E` is a [`Failure`], which says
//! what is to follow (a retry, a dead letter, a skip, a stop), or any other error, which means the worker's policy. A
//! [`Message`] gives the body, the [`Record`] as fetched, the number of the attempt, and the drain's deadline.
//!
//! [`WorkerBuilder::batch_handler`] makes a worker whose handler takes many records at once, in the order of each key: a
//! [`Batch`], up to a size or a time, with one outcome for all or [`Outcomes`] for each. What fails in one is tried again alone.
//!
//! [`Worker::run_until`] runs it and ends in a [`Report`], or in a [`RunError`] that holds one. Meanwhile a
//! [`WorkerHandle`] stops, pauses and resumes it, and shows what it does: [`Event`]s, [`Snapshot`]s, [`Health`],
//! [`Counts`]; a [`Hook`] is told beside the path, and [`WorkerHandle::explain`] says what work waits for. A [`Witness`] is told in place, for audits.
//!
//! A [`Consumer`], made by [`Client::consumer`], is a worker whose records are pulled: one stream, or [`Partitions`], each a stream of
//! its own. A [`Delivery`] is finished when its receiver says so; a [`ConsumerHandle`] seeks, marks, commits, pauses, asks.
//!
//! A [`History`], made by [`Client::history`], is a worker without a group that reads everything, and tells when it has caught up.
//! With [`HistoryBuilder::latest_per_key`] it keeps a [`Table`] of the last value of every key.
//!
//! [`Client::admin`] asks about topics, configurations, groups, access rules and users, and changes them. [`Client::events`]
//! tells what connections have to say, and statistics. Logins: [`ClientBuilder::oauth_token`], [`Client::set_credentials`].
//!
//! A [`Producer`] ([`Client::producer`]) sends records: [`Producer::send`] waits for one, [`Producer::enqueue`] keeps many under way,
//! [`Producer::send_all`] is for lists. A [`SendFailure`] gives the record back and says whether it may be sent again.
//! A [`TransactionalProducer`] writes in [`Transaction`]s, which may take a consumer's offsets along.
//!
//! Beside workers there is an [`AssignedConsumer`], which reads partitions by hand ([`Client::assigned`]).
//! [`embedded::Cluster`] is a small Kafka in this process, for trying things out. The examples `worker`, `retries`,
//! `dead_letters`, `steering`, `exactly_once`, `consumer`, `history`, `table` and `producer` run on it as they are.
//!
//! # What is promised
//!
//! - No record that the broker acknowledged is passed over. A record is finished when its handler said ok, when the
//!   dead-letter topic acknowledged it, or when a skip or a gap was reported; a commit never passes one that is not.
//! - Records of one key of a partition run one at a time, in offset order, retries included. A record without a key waits
//!   for no other.
//! - A stop or a rebalance redelivers nothing if running handlers end within the drain time-out. After a crash, what was
//!   in work or finished since the last commit comes again, and nothing else, however old the slowest record is: what is
//!   finished above it travels in the commit's metadata.
//! - Memory is bounded, and a slow or failing key, partition or topic holds up only itself.
//! - A stop ends within its deadline from any state, and the report names what it cut off.
//! - No secret and no payload is in any log, error or debug print.
//!
//! With [`WorkerBuilder::exactly_once`], what a record becomes in other topics is there once.
//! Not promised: exactly-once effects outside Kafka (make handlers idempotent), and order across partitions.
//!
//! # What happens when a future is dropped
//!
//! Dropping what [`Worker::run`] returns is a crash: handlers' futures are dropped, nothing more is committed, the group
//! learns of it when the session time-out passes, and what was in work comes again. Stop it by its handle, or by the
//! future given to [`Worker::run_until`], and wait. A handler's own future is dropped when its attempt times out, when its
//! drain's deadline passes, or when its partition is lost ([`Handler`]). Every other async function says in its
//! documentation what its drop means.
//!
//! # Features
//!
//! `json` (default): `Json<T>` bodies. `zstd` (default): zstd compression. `vendored`: OpenSSL built in instead of the
//! system's. `gssapi`: Kerberos. `system-librdkafka`: the system's librdkafka (2.12.1 or newer) instead of the bundled one.
//! `ops`: probes and metrics over HTTP. `tower`: layers around handlers. `otel`: OpenTelemetry spans. `avro`, `protobuf`, `schema-registry`: the modules of these names (`registry` for the last).

#![deny(unsafe_code)]

pub mod admin;
mod assigned;
mod batch;
mod body;
mod client;
pub mod config;
mod connection;
mod consumer;
mod dead_letter;
mod driver;
pub mod embedded;
mod error;
mod events;
mod explain;
mod failure;
mod handler;
mod health;
mod history;
mod hooks;
#[cfg(feature = "tower")]
mod layers;
pub mod metrics;
mod notifications;
#[cfg(feature = "ops")]
pub mod ops;
mod places;
mod producer;
mod record;
#[cfg(feature = "schema-registry")]
pub mod registry;
mod retry_tiers;
mod settings;
pub mod signal;
mod spans;
mod subscription;
mod table;
mod transactional;
mod transform;
mod witness;
mod worker;

pub use assigned::{AssignedBuilder, AssignedConsumer, PartitionPosition, ReadEvent, RecordBatch, Until};
pub use batch::{Batch, BatchHandler, Outcomes};
#[cfg(feature = "json")]
pub use body::Json;
#[cfg(feature = "avro")]
pub use body::avro;
pub use body::codec::{
    Decoded, Decoder, Decoding, Encoded, Encoder, Encoding, KeyedBy, Plain, PlainKey, Wait, decoded, keyed,
};
#[cfg(feature = "protobuf")]
pub use body::protobuf;
#[cfg(feature = "json")]
pub use body::rules;
pub use body::{Decode, DecodeError, Encode, EncodeError, FromBytes, Keyed, Raw, Utf8};
pub use client::{BrokerStatistics, ClientEvent, ClientRole, ClientStatistics, OAuthToken, PartitionStatistics};
pub use connection::{Client, ClientBuilder};
pub use consumer::{CommittedOffset, Consumer, ConsumerBuilder, ConsumerHandle, Lag, PartitionStream, Partitions};
pub use dead_letter::{DeadLetter, DeadLetterOrigin, OriginError, OriginalPlace, TooLarge};
pub use driver::delivery::{Acker, Delivery};
pub use driver::places::Watermarks;
pub use driver::tally::Counts;
pub use error::{Error, KafkaError};
pub use events::{Event, HookFailure};
pub use explain::{
    Explanation, HeadExplanation, KeyExplanation, LastCommit, PartitionExplanation, RecordExplanation, Subject,
};
pub use failure::{BoxError, Failure, FailureClass};
pub use handler::{Handler, Message};
pub use health::{Cause, CheckKind, Health, HealthLevel};
pub use history::{History, HistoryBuilder, HistoryHandle, PartitionProgress, Progress, ReadyHistory};
pub use hooks::{AttemptEnd, AttemptOutcome, AttemptPlace, FetchedBatch, Finish, Hook};
#[cfg(feature = "tower")]
pub use layers::{HandlerError, HandlerService, ServiceHandler, TransformService, WhenReady, layered};
pub use notifications::Notification;
pub use producer::{
    Acks, Compression, Delivered, DeliveryFuture, DeliveryReport, Interceptor, OnFull, Partitioner, Producer,
    ProducerBuilder, ProducerRecord, Purge, SendFailure, SendStage, StreamFailure, TraceParent,
};
pub use record::{Headers, Record, TopicPartition};
pub use retry_tiers::RetryTiers;
pub use settings::{
    AfterDeadLetter, CommitMetadata, Execution, OnDrainDeadline, OnExhausted, OnGap, OnMapFull, OnStall, Start,
};
#[cfg(feature = "otel")]
pub use spans::Spans;
pub use subscription::Subscription;
pub use table::{KeyWatch, MissedChanges, Table, TableChange, TableChanges, TableEntry, TableKeeper};
pub use transactional::{Remedy, Transaction, TransactionFailure, TransactionalProducer, TransactionalProducerBuilder};
pub use transform::{Outputs, Transform};
pub use waterwheel_core::adaptive::{Adaptive, LimitReason};
pub use waterwheel_core::breaker::{Breaker, BreakerState};
pub use waterwheel_core::engine::{HoldReason, Place as RecordPlace, WorkStage};
pub use waterwheel_core::lanes::Order;
pub use waterwheel_core::rate::RateLimit;
pub use waterwheel_core::retry::Retry;
pub use witness::{Settled, Witness};
pub use worker::{
    BatchWorker, BreakerStatus, ConcurrencyStatus, ExactlyOnce, HeadStatus, Limits, PartitionStatus, RateStatus,
    ReadyBatchWorker, ReadyTransformWorker, ReadyWorker, RecordStatus, Report, RunError, Snapshot, TransformWorker,
    Worker, WorkerBuilder, WorkerHandle, WorkerState,
};

/// The benchmarks' way in. Not for use: it changes and goes without notice.
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub mod bench {
    pub use crate::driver::alone::{LoneShard, Made, Source};
    pub use waterwheel_core::engine::{Settings, Stall, Wish};
    pub use waterwheel_core::gate::Policies;
}

/// The cluster in memory, for the crate `waterwheel-test`. Not for use: it changes and goes without notice.
#[cfg(feature = "__memory")]
#[doc(hidden)]
pub mod memory {
    pub use crate::client::memory::control::{CommittedOffset, Control, GroupView, Lasts, Reach, Request};
}

/// Compiles the examples in README.md.
#[doc = include_str!("../../../README.md")]
#[cfg(doctest)]
struct ReadmeDoctests;

/// Compiles the examples in docs/consumers.md.
#[doc = include_str!("../../../docs/consumers.md")]
#[cfg(doctest)]
struct ConsumersDoctests;

/// Compiles the examples in docs/formats.md.
#[cfg(feature = "json")]
#[doc = include_str!("../../../docs/formats.md")]
#[cfg(doctest)]
struct FormatsDoctests;

/// Compiles the examples in docs/schema-registry.md.
#[cfg(all(feature = "avro", feature = "schema-registry"))]
#[doc = include_str!("../../../docs/schema-registry.md")]
#[cfg(doctest)]
struct SchemaRegistryDoctests;

/// Compiles the examples in docs/exactly-once.md.
#[doc = include_str!("../../../docs/exactly-once.md")]
#[cfg(doctest)]
struct ExactlyOnceDoctests;

/// Compiles the examples in docs/hooks.md.
#[cfg(all(feature = "otel", feature = "tower"))]
#[doc = include_str!("../../../docs/hooks.md")]
#[cfg(doctest)]
struct HooksDoctests;

/// Compiles the examples in docs/limits.md.
#[doc = include_str!("../../../docs/limits.md")]
#[cfg(doctest)]
struct LimitsDoctests;

/// Compiles the examples in docs/retry-tiers.md.
#[doc = include_str!("../../../docs/retry-tiers.md")]
#[cfg(doctest)]
struct RetryTiersDoctests;

/// Compiles the examples in docs/history.md.
#[doc = include_str!("../../../docs/history.md")]
#[cfg(doctest)]
struct HistoryDoctests;

/// Compiles the examples in docs/producing.md.
#[doc = include_str!("../../../docs/producing.md")]
#[cfg(doctest)]
struct ProducingDoctests;

/// Compiles the examples in docs/reading.md.
#[doc = include_str!("../../../docs/reading.md")]
#[cfg(doctest)]
struct ReadingDoctests;

/// Compiles the examples in docs/transactions.md.
#[doc = include_str!("../../../docs/transactions.md")]
#[cfg(doctest)]
struct TransactionsDoctests;

/// Compiles the examples in docs/admin.md.
#[doc = include_str!("../../../docs/admin.md")]
#[cfg(doctest)]
struct AdminDoctests;

/// Compiles the examples in docs/events.md.
#[doc = include_str!("../../../docs/events.md")]
#[cfg(doctest)]
struct EventsDoctests;

/// Compiles the examples in docs/security.md.
#[doc = include_str!("../../../docs/security.md")]
#[cfg(doctest)]
struct SecurityDoctests;
