//! Waterwheel turns a Kafka stream into work that gets done.

#![deny(unsafe_code)]

mod client;
pub mod config;
mod error;
mod record;

pub use error::{Error, KafkaError};
pub use record::{Headers, Record, TopicPartition};
