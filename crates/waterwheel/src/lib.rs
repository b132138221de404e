//! Waterwheel turns a Kafka stream into work that gets done.

#![deny(unsafe_code)]

mod client;
pub mod config;
mod connection;
mod error;
mod record;

pub use connection::{Client, ClientBuilder};
pub use error::{Error, KafkaError};
pub use record::{Headers, Record, TopicPartition};
