//! `kind = "forward"`: each record to another topic, acknowledged before it is finished.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use waterwheel::{Client, Error, Failure, KafkaError, Message, Producer, ProducerRecord};

use crate::body::Shown;

/// How long a record waits before it is sent again while the cluster cannot take it.
const AGAIN: Duration = Duration::from_secs(1);

/// Copies records to a topic: key, value, headers and timestamp as they are; the partition by the key. Cheap to clone.
#[derive(Clone)]
pub(super) struct Forwarder {
    producer: Producer,
    topic: Arc<str>,
    refused: Arc<OnceLock<KafkaError>>,
}

impl Forwarder {
    pub(super) fn new(client: &Client, topic: &str) -> Result<Self, Error> {
        Ok(Self { producer: client.producer()?, topic: topic.into(), refused: Arc::default() })
    }

    /// A record that the cluster cannot take at the moment has not failed: it is sent again. One that it does not take at
    /// all (too large) has; a topic that may not be written to ends the worker.
    pub(super) async fn handle(self, message: Message<Shown>) -> Result<(), Failure> {
        let copy = ProducerRecord::copy_of(message.record(), self.topic.clone());
        let Err(failure) = self.producer.send(copy).await else { return Ok(()) };
        let error = failure.error();
        if error.is_retriable() || error.is_unreachable() {
            tracing::warn!(%error, topic = %self.topic, "a copy could not be written; it is tried again");
            return Err(Failure::uncounted(AGAIN, failure));
        }
        if error.is_unauthorised() {
            self.refused.get_or_init(|| error.clone());
            return Err(Failure::stop(failure));
        }
        Err(Failure::retry(failure))
    }

    /// Why the topic cannot be written to at all.
    pub(super) fn refused(&self) -> Option<KafkaError> {
        self.refused.get().cloned()
    }

    pub(super) async fn close(&self, deadline: Duration) {
        let left = self.producer.close(deadline).await;
        if left > 0 {
            tracing::warn!(records = left, "copies were not acknowledged in time; their records come again");
        }
    }
}
