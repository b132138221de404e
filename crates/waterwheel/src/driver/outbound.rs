//! Records out, one by one or many at once, on top of the producer port.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

pub(crate) use crate::client::Sent;
use crate::client::{Outgoing, Parcel, Producer, Pull, Purge, SentAll, Source};
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

    /// Puts a parcel in the send queue.
    pub(crate) fn give(&self, parcel: Parcel) {
        self.producer.send(parcel);
    }

    /// Puts in the send queue what a source has.
    pub(crate) fn pull(&self, source: &Arc<dyn Source>, when: Pull) {
        self.producer.pull(source, when);
    }

    /// Sends at once what waits for its batch to fill, for at most that long.
    pub(crate) fn hurry(&self, within: Duration) {
        self.producer.hurry(within);
    }

    /// Gives up records that are not acknowledged.
    pub(crate) fn purge(&self, what: Purge) {
        self.producer.purge(what);
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

/// Makes a client for dead letters.
type Make = Box<dyn Fn() -> Result<Arc<dyn Producer>, KafkaError> + Send + Sync>;

/// What dead letters go out by, shared by all shards: a client that is made anew when it finds no way any more.
///
/// librdkafka believes no leader of an epoch below one that it knows. A topic made again begins at epoch 0: a client that
/// did not see it missing goes on sending to the old leaders, for as long as it lives.
pub(crate) struct Letterbox {
    make: Make,
    /// The client and its number.
    current: Mutex<(Outbound, u16)>,
}

impl Letterbox {
    pub(crate) fn new(make: Make) -> Result<Self, KafkaError> {
        let current = Mutex::new((Outbound::new(make()?), 0));
        Ok(Self { make, current })
    }

    fn current(&self) -> (Outbound, u16) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts a letter in the send queue; the answer tells the number of the client that it was given to.
    pub(crate) fn send(&self, letter: Outgoing) -> impl Future<Output = (Sent, u16)> + Send + use<> {
        let (outbound, number) = self.current();
        let answer = outbound.send(letter);
        async move {
            let sent = answer.await;
            // A client that is not the current one any more ends behind its last answer.
            drop(outbound);
            (sent, number)
        }
    }

    /// Makes the client anew, unless that was done since `number`. Letters that have no answer yet get it from their own.
    pub(crate) fn renew(&self, number: u16) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.1 != number {
            return;
        }
        match (self.make)() {
            Ok(producer) => {
                tracing::warn!("dead letters fail again and again: their client is made anew");
                *current = (Outbound::new(producer), number.wrapping_add(1));
            }
            Err(error) => tracing::warn!(%error, "the client for dead letters could not be made anew"),
        }
    }

    /// Ends the client; what is not acknowledged by then is answered as failed.
    pub(crate) async fn close(&self) -> Result<(), KafkaError> {
        self.current().0.close().await
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
