//! Waterwheel turns a Kafka stream into work that gets done.

#![deny(unsafe_code)]

mod assigned;
mod body;
mod client;
pub mod config;
mod connection;
mod dead_letter;
mod driver;
pub mod embedded;
mod error;
mod events;
mod failure;
mod handler;
mod health;
mod producer;
mod record;
pub mod signal;
mod witness;
mod worker;

pub use assigned::{AssignedConsumer, RecordBatch};
#[cfg(feature = "json")]
pub use body::Json;
pub use body::{Decode, DecodeError, Raw, Utf8};
pub use connection::{Client, ClientBuilder};
pub use dead_letter::{DeadLetter, TooLarge};
pub use driver::tally::Counts;
pub use error::{Error, KafkaError};
pub use events::Event;
pub use failure::{BoxError, Failure, FailureClass};
pub use handler::{Handler, Message};
pub use health::{Health, HealthLevel};
pub use producer::{Delivered, Producer, ProducerRecord, SendFailure};
pub use record::{Headers, Record, TopicPartition};
pub use waterwheel_core::engine::{HoldReason, WorkStage};
pub use waterwheel_core::lanes::Order;
pub use waterwheel_core::retry::Retry;
pub use witness::{Settled, Witness};
pub use worker::{
    Events, Execution, OnDrainDeadline, OnExhausted, OnGap, PartitionStatus, ReadyWorker, RecordStatus, Report,
    RunError, Snapshot, Start, Worker, WorkerBuilder, WorkerHandle, WorkerState,
};
