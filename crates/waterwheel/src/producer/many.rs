//! Many records at once: all of a list, or a stream's with a bounded number under way.

use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{FuturesUnordered, Stream, StreamExt};

use super::Producer;
use super::lot::{DeliveryFuture, Lot};
use super::outcome::SendFailure;
use super::record::ProducerRecord;
use crate::client::{Parcel, Pull, SentAll};
use crate::driver::outbound::{Answer, MOST_AT_ONCE};

/// Why [`Producer::send_stream`] ended early: records that were not acknowledged, and how many were.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} records were not acknowledged, {acknowledged} were: {}", failures.len(), first(failures))]
pub struct StreamFailure {
    acknowledged: u64,
    failures: Vec<SendFailure>,
}

fn first(failures: &[SendFailure]) -> String {
    failures.first().map(ToString::to_string).unwrap_or_default()
}

impl StreamFailure {
    /// How many records were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Those that were not: at most as many as were under way.
    pub fn failures(&self) -> &[SendFailure] {
        &self.failures
    }

    /// The same, with the records.
    pub fn into_failures(self) -> Vec<SendFailure> {
        self.failures
    }
}

/// Records of one batch, and batches under way: together a little less than librdkafka's queue holds by default (100,000).
const BATCH: usize = 1_000;
const UNDER_WAY: usize = 90;

/// Records that were sent together.
#[derive(Default)]
struct Given {
    refused: Vec<SendFailure>,
    /// Those with one answer for all.
    parcels: Vec<Answer<SentAll>>,
    /// Those with an answer each, because someone watches.
    answers: Vec<DeliveryFuture>,
}

impl Given {
    /// Those that were not acknowledged.
    async fn failures(self) -> Vec<SendFailure> {
        let mut failures = self.refused;
        for parcel in self.parcels {
            let SentAll { records, failed } = parcel.await;
            let failed = failed.into_iter().map(|(i, why)| SendFailure::of(ProducerRecord(records[i].clone()), why));
            failures.extend(failed);
        }
        for answer in self.answers {
            failures.extend(answer.await.err());
        }
        failures
    }
}

impl Producer {
    /// Sends records, in their order, and waits until each has its answer. The cheap way for many small records: one wait
    /// and one answer for all. They are not counted against the queue's limits: what exceeds librdkafka's queue waits in
    /// memory. [`send_stream`](Self::send_stream) takes them from a stream instead.
    ///
    /// An error has each record that was not acknowledged; the others were. Dropping the future takes none back.
    pub async fn send_all(&self, records: Vec<ProducerRecord>) -> Result<(), Vec<SendFailure>> {
        let failures = self.give(records).failures().await;
        if failures.is_empty() { Ok(()) } else { Err(failures) }
    }

    /// Sends records behind all that were enqueued before.
    fn give(&self, mut records: Vec<ProducerRecord>) -> Given {
        let mut given = Given::default();
        if self.shared.room.is_closed() {
            given.refused.extend(records.into_iter().map(SendFailure::closed));
            return given;
        }
        let same_topic = |a: &ProducerRecord, b: &ProducerRecord| Arc::ptr_eq(&a.0.topic, &b.0.topic);
        if records.chunk_by(same_topic).any(|run| self.with_valid_topic(run[0].clone()).is_err()) {
            let judged = records.into_iter().map(|record| self.with_valid_topic(record));
            let (valid, refused): (Vec<_>, Vec<_>) = judged.partition(Result::is_ok);
            given.refused.extend(refused.into_iter().filter_map(Result::err));
            records = valid.into_iter().filter_map(Result::ok).collect();
        }
        self.shared.outbound.pull(&self.shared.source, Pull::Now);
        if self.shared.watch.is_on() {
            self.give_watched(records, &mut given);
            return given;
        }
        let mut records: Vec<_> = records.into_iter().map(|record| record.0).collect();
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(MOST_AT_ONCE));
            given.parcels.push(self.shared.outbound.send_all(records));
            records = rest;
        }
        given
    }

    fn give_watched(&self, records: Vec<ProducerRecord>, given: &mut Given) {
        let lot = Arc::new(Lot::new(None, self.shared.watch.clone()));
        let mut sent = Vec::with_capacity(records.len());
        for record in records {
            match self.shared.watch.before(record) {
                Ok(record) => {
                    given.answers.push(lot.add(0, Some(record.clone())));
                    sent.push(record.0);
                }
                Err(failure) => given.refused.push(failure),
            }
        }
        if !sent.is_empty() {
            self.shared.outbound.give(Parcel::Each(sent, lot));
        }
    }

    /// Sends what a stream yields, in its order, and tells how many records were acknowledged when it has ended. What is
    /// ready is sent together, up to 1,000 records at a time; at most 90,000 are under way, and no more than
    /// [`queue_records`](crate::ProducerBuilder::queue_records), so the stream is read no faster than the brokers take it.
    ///
    /// After a failure nothing more is taken from the stream, and the error is returned when all that is under way has its
    /// answer. Dropping the future takes nothing back that was read from the stream.
    pub async fn send_stream(&self, records: impl Stream<Item = ProducerRecord>) -> Result<u64, StreamFailure> {
        let queue = self.shared.room.most_records();
        let batch = BATCH.min(queue);
        let most = (queue / batch).clamp(1, UNDER_WAY);
        let mut batches = pin!(records.ready_chunks(batch));
        let mut sends = FuturesUnordered::new();
        let (mut acknowledged, mut failures, mut ended) = (0, Vec::new(), false);
        loop {
            tokio::select! {
                biased;
                Some((sent, failed)) = sends.next(), if !sends.is_empty() => {
                    let failed: Vec<SendFailure> = failed;
                    acknowledged += (sent - failed.len()) as u64;
                    failures.extend(failed);
                }
                batch = batches.next(), if !ended && failures.is_empty() && sends.len() < most => match batch {
                    Some(batch) => {
                        let (sent, answers) = (batch.len(), self.give(batch));
                        sends.push(async move { (sent, answers.failures().await) });
                    }
                    None => ended = true,
                },
                else => break,
            }
        }
        if failures.is_empty() { Ok(acknowledged) } else { Err(StreamFailure { acknowledged, failures }) }
    }
}
