//! Records out, one by one or many at once, on top of the producer port.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

pub(crate) use crate::client::Sent;
use crate::client::{Outgoing, Parcel, Producer, SentAll};
use crate::error::KafkaError;

/// Most records that can be sent at once.
pub(crate) const MOST_AT_ONCE: usize = 1 << 24;

/// Sends records and tells their fate. Cheap to clone; the last clone ends the client.
#[derive(Clone)]
pub(crate) struct Outbound {
    producer: Arc<dyn Producer>,
}

impl Outbound {
    pub(crate) fn new(producer: Arc<dyn Producer>) -> Self {
        Self { producer }
    }

    /// Puts a record in the send queue. Dropping the answer does not take it back.
    pub(crate) fn send(&self, record: Outgoing) -> Answer<Sent> {
        let (to, answer) = oneshot::channel();
        self.producer.send(Parcel::One(record, to));
        Answer(answer)
    }

    /// Puts many records in the send queue, at most [`MOST_AT_ONCE`]; one answer for all. Dropping it takes none of them
    /// back.
    pub(crate) fn send_all(&self, records: Vec<Outgoing>) -> Answer<SentAll> {
        debug_assert!(records.len() <= MOST_AT_ONCE, "a place has to fit a ticket");
        let (to, answer) = oneshot::channel();
        if records.is_empty() {
            // The receiver is right here.
            let _ = to.send(SentAll { records, failed: Vec::new() });
        } else {
            self.producer.send(Parcel::Many(records, to));
        }
        Answer(answer)
    }

    /// Records that have no answer yet.
    pub(crate) fn unanswered(&self) -> usize {
        self.producer.unanswered()
    }

    /// Waits until no record is unanswered.
    pub(crate) async fn answered(&self) {
        // It does not fail.
        let _ = self.producer.answered().await;
    }

    /// Ends the client; what is not acknowledged by then is answered as failed.
    pub(crate) async fn close(&self) -> Result<(), KafkaError> {
        let left = self.producer.unanswered();
        if left > 0 {
            tracing::warn!(records = left, "the producer ends with records unanswered");
        }
        self.producer.close().await
    }
}

/// What becomes of what was sent.
pub(crate) struct Answer<T>(oneshot::Receiver<T>);

impl<T> Future for Answer<T> {
    type Output = T;

    #[expect(clippy::expect_used, reason = "the port answers every parcel, also when it ends")]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.expect("a parcel without an answer"))
    }
}
