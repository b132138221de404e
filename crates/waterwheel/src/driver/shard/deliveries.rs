//! Deliveries: a record waits in a queue for whoever pulls, and runs until they say that it is finished.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use waterwheel_core::engine::{CutReason, SlotId};
use waterwheel_core::{Now, PartitionId};

use super::{Shard, Work};
use crate::body::Decode;
use crate::driver::delivery::{Opened, Openings, Outbox, Pulled, Waiting};
use crate::handler::Message;
use crate::record::{Assignment, Record};

/// Where deliveries wait.
pub(crate) enum Outlet<T> {
    /// All in one place.
    Together(Arc<Outbox<T>>),
    /// Each partition's in one of its own, which ends with the assignment.
    Apart(Arc<Openings<T>>),
}

/// Hands records out.
pub(crate) struct Deliveries<T> {
    outlet: Outlet<T>,
    /// Each partition's place, and this shard's number there.
    places: HashMap<PartitionId, (Arc<Outbox<T>>, usize)>,
    /// This shard's number where all are together.
    number: Option<usize>,
    /// What was started in this stretch: handed over at its end, a lock for each partition's turn and not for each record.
    started: Vec<Waiting<T>>,
    /// Partitions that drain, and whether there are any.
    draining: HashSet<PartitionId>,
    drains: Arc<AtomicBool>,
    /// What waited of partitions that were then paused.
    paused: HashMap<PartitionId, Vec<Waiting<T>>>,
}

impl<T> Deliveries<T> {
    pub(crate) fn new(outlet: Outlet<T>) -> Self {
        Self {
            outlet,
            places: HashMap::new(),
            number: None,
            started: Vec::new(),
            draining: HashSet::new(),
            drains: Arc::default(),
            paused: HashMap::new(),
        }
    }

    /// Takes back what nobody has pulled.
    fn take_back(&mut self, id: PartitionId) -> Vec<Waiting<T>> {
        let mut back = self.paused.remove(&id).unwrap_or_default();
        if let Some((outbox, _)) = self.places.get(&id) {
            back.extend(outbox.take_back(id));
        }
        back
    }
}

/// Nothing in it is ever pinned.
impl<T> Unpin for Deliveries<T> {}

impl<T: Decode> Work for Deliveries<T> {
    type Output = ();

    fn start(shard: &mut Shard<Self>, record: Record, attempt: u32, first_failed_ms: Option<i64>, now: Now) {
        let Some(body) = shard.decode::<T>(&record, attempt, now) else { return };
        shard.counts.attempts += 1;
        // A partition without a place has left: not reached, as nothing of it starts.
        let Some((_, source)) = shard.work.places.get(&record.assignment().id) else { return };
        let source = *source;
        if let Some(slot) = shard.engine.park_open(now) {
            let message = Message::new(record, attempt, first_failed_ms, body);
            shard.work.started.push(Waiting::new(message, slot, source));
        }
    }

    fn rest(&mut self) {
        if self.started.is_empty() {
            return;
        }
        if let Outlet::Together(outbox) = &self.outlet {
            outbox.push(self.started.drain(..));
            return;
        }
        let mut started = self.started.drain(..).peekable();
        while let Some(first) = started.next() {
            let id = first.id();
            let Some((outbox, _)) = self.places.get(&id) else { continue };
            let others = std::iter::from_fn(|| started.next_if(|waiting| waiting.id() == id));
            outbox.push(std::iter::once(first).chain(others));
        }
    }

    fn assigned(shard: &mut Shard<Self>, assignment: &Assignment) {
        let (done, drains) = (shard.done.clone(), shard.work.drains.clone());
        let place = match &shard.work.outlet {
            Outlet::Together(outbox) => {
                let number = shard.work.number.get_or_insert_with(|| outbox.source(done, drains));
                (outbox.clone(), *number)
            }
            Outlet::Apart(openings) => {
                let outbox = Outbox::new();
                let number = outbox.source(done, drains);
                openings.push(Opened { partition: assignment.partition.clone(), outbox: outbox.clone() });
                (outbox, number)
            }
        };
        shard.work.places.insert(assignment.id, place);
    }

    fn drains(shard: &mut Shard<Self>, id: PartitionId) {
        Self::leaves(shard, id);
        shard.work.draining.insert(id);
        shard.work.drains.store(true, Ordering::SeqCst);
    }

    fn leaves(shard: &mut Shard<Self>, id: PartitionId) {
        shard.work.draining.remove(&id);
        shard.work.drains.store(!shard.work.draining.is_empty(), Ordering::SeqCst);
        for waiting in shard.work.take_back(id) {
            shard.engine.unstart(waiting.slot);
        }
        if let (Outlet::Apart(_), Some((outbox, _))) = (&shard.work.outlet, shard.work.places.remove(&id)) {
            outbox.close();
        }
    }

    fn pause(&mut self, id: PartitionId, paused: bool) {
        if paused {
            let back = self.take_back(id);
            self.paused.insert(id, back);
        } else if let (Some(back), Some((outbox, _))) = (self.paused.remove(&id), self.places.get(&id)) {
            outbox.put_back(back);
        }
    }

    fn is_waiting(&self, id: PartitionId, slot: SlotId) -> bool {
        self.paused.get(&id).is_some_and(|paused| paused.iter().any(|waiting| waiting.slot == slot))
            || self.places.get(&id).is_some_and(|(outbox, _)| outbox.has(id, slot))
    }

    /// What was pulled cannot be cut: its lane and its credit come free when it is finished or dropped.
    fn cut(_shard: &mut Shard<Self>, _slot: SlotId, _reason: CutReason) {}

    fn abort(&mut self) {}
}
