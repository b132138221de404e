//! What only librdkafka can, or cannot; what every backend promises is tested in `client/tests`.

mod fetch;
mod log;
mod produce;
mod speed;
mod wire;

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::{Epoch, PartitionId};

use super::Librdkafka;
use crate::client::tests::{Kafka, assignment, next, outgoing, records, run, send, send_all};
use crate::client::{Backend, FetchQueue, Fetched};
use crate::record::Record;
