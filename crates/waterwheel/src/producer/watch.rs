//! Those who watch a producer: interceptors, and readers of its delivery reports.
//!
//! They are called with no lock held. One that panics harms its record at most.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::broadcast;

use super::outcome::{Delivered, SendFailure};
use super::record::ProducerRecord;
use crate::subscription::Subscription;

/// Sees every record of a producer before it is sent and after it was answered. Several run in the order in which they were
/// given to the builder.
///
/// No lock is held meanwhile: an interceptor may use the producer, but may not wait. `before` runs on the task that sends,
/// `after` on the thread that all answers come by, so what is slow there delays them all.
pub trait Interceptor: Send + Sync + 'static {
    /// The record as it is to be sent. If this panics, the record is not sent: its send fails at
    /// [`SendStage::Intercepted`](crate::SendStage::Intercepted), and gives the record back as it was.
    fn before(&self, record: ProducerRecord) -> ProducerRecord {
        record
    }

    /// What became of a record, as it was sent. If this panics, it is logged and counted
    /// ([`Producer::interceptor_panics`](crate::Producer::interceptor_panics)); the record's answer stays what it is.
    fn after(&self, record: &ProducerRecord, outcome: Result<&Delivered, &SendFailure>) {
        let _ = (record, outcome);
    }
}

/// What became of a record, as [`Producer::deliveries`](crate::Producer::deliveries) tells it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum DeliveryReport {
    /// It was acknowledged.
    Delivered {
        /// The record.
        record: ProducerRecord,
        /// Where it was written.
        at: Delivered,
    },
    /// It was not.
    Failed(SendFailure),
    /// Reports were dropped because they were read too slowly.
    Missed {
        /// How many.
        reports: u64,
    },
}

/// Reports kept for a slow reader.
const REPORTS: usize = 1_024;

/// Those who watch.
pub(super) struct Watch {
    interceptors: Vec<Arc<dyn Interceptor>>,
    reports: broadcast::Sender<DeliveryReport>,
    panics: AtomicU64,
}

impl Default for Watch {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Watch {
    pub(super) fn new(interceptors: Vec<Arc<dyn Interceptor>>) -> Self {
        Self { interceptors, reports: broadcast::Sender::new(REPORTS), panics: AtomicU64::new(0) }
    }

    /// Whether anybody wants to know what becomes of records.
    pub(super) fn is_on(&self) -> bool {
        !self.interceptors.is_empty() || self.reports.receiver_count() > 0
    }

    pub(super) fn panics(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    pub(super) fn reports(&self) -> Subscription<DeliveryReport> {
        Subscription::new(self.reports.subscribe(), |reports| DeliveryReport::Missed { reports })
    }

    /// The record as the interceptors want it sent.
    pub(super) fn before(&self, mut record: ProducerRecord) -> Result<ProducerRecord, SendFailure> {
        for interceptor in &self.interceptors {
            let given = record.clone();
            match self.caught("before", || interceptor.before(given)) {
                Some(changed) => record = changed,
                None => {
                    let failure = SendFailure::intercepted(record);
                    self.failed(&failure);
                    return Err(failure);
                }
            }
        }
        Ok(record)
    }

    pub(super) fn written(&self, record: ProducerRecord, at: Delivered) {
        for interceptor in &self.interceptors {
            self.caught("after", || interceptor.after(&record, Ok(&at)));
        }
        // Nobody may be reading.
        let _ = self.reports.send(DeliveryReport::Delivered { record, at });
    }

    pub(super) fn failed(&self, failure: &SendFailure) {
        for interceptor in &self.interceptors {
            self.caught("after", || interceptor.after(failure.record(), Err(failure)));
        }
        // Nobody may be reading.
        let _ = self.reports.send(DeliveryReport::Failed(failure.clone()));
    }

    /// What an interceptor returns; `None` if it panics.
    fn caught<T>(&self, hook: &str, call: impl FnOnce() -> T) -> Option<T> {
        // What a panic leaves behind in an interceptor is the interceptor's own.
        let result = catch_unwind(AssertUnwindSafe(call));
        if result.is_err() {
            self.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(hook, "an interceptor of a producer panicked");
        }
        result.ok()
    }
}
