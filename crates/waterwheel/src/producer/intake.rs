//! Gathers records that come one by one, so that the producer port sees them by the hundred.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::lot::{DeliveryFuture, Lot};
use super::record::ProducerRecord;
use super::room::Room;
use super::watch::Watch;
use crate::client::{Outgoing, Parcel, Source};

/// Where records are gathered until the port takes them.
pub(super) struct Intake {
    room: Arc<Room>,
    watch: Arc<Watch>,
    open: Mutex<Option<Open>>,
}

struct Open {
    lot: Arc<Lot>,
    records: Vec<Outgoing>,
}

/// What the producer does after a record was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It is the first one: the port has to be told.
    Tell,
    /// Enough for the caller to send them itself.
    Send,
    /// The port was told already.
    Nothing,
}

/// Records that a caller sends itself instead of leaving them to the producer's thread: as many as are handed over to
/// librdkafka at once.
const ENOUGH: usize = 1_000;

impl Intake {
    pub(super) fn new(room: Arc<Room>, watch: Arc<Watch>) -> Self {
        Self { room, watch, open: Mutex::new(None) }
    }

    /// Puts in a record that has its room.
    pub(super) fn put(&self, record: ProducerRecord, bytes: usize) -> (DeliveryFuture, Next) {
        let watched = self.watch.is_on().then(|| record.clone());
        let mut open = self.open();
        let is_first = open.is_none();
        let Open { lot, records } = open.get_or_insert_with(|| Open {
            lot: Arc::new(Lot::new(Some(self.room.clone()), self.watch.clone())),
            records: Vec::new(),
        });
        records.push(record.0);
        let next = match records.len() {
            _ if is_first => Next::Tell,
            n if n.is_multiple_of(ENOUGH) => Next::Send,
            _ => Next::Nothing,
        };
        (lot.add(bytes, watched), next)
    }

    /// Records that the port has not taken yet.
    pub(super) fn len(&self) -> usize {
        self.open().as_ref().map_or(0, |open| open.records.len())
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Intake {
    fn take(&self) -> Option<Parcel> {
        let Open { lot, records } = self.open().take()?;
        Some(Parcel::Each(records, lot))
    }
}
