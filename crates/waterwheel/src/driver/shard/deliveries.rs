//! Deliveries: a record waits in a queue for whoever pulls, and runs until they say that it is finished.

use std::collections::HashMap;
use std::sync::Arc;

use waterwheel_core::engine::{CutReason, SlotId};
use waterwheel_core::{Now, PartitionId};

use super::{Shard, Work};
use crate::body::Decode;
use crate::driver::delivery::{Queue, Waiting};
use crate::handler::Message;
use crate::record::{Assignment, Record, TopicPartition};

/// A partition's own queue, on its way to whoever reads partition by partition.
pub(crate) struct Opened<T> {
    pub(crate) partition: TopicPartition,
    pub(crate) queue: Arc<Queue<Waiting<T>>>,
}

/// Where deliveries wait.
pub(crate) enum Outlet<T> {
    /// All in one queue.
    Together(Arc<Queue<Waiting<T>>>),
    /// Each partition's in one of its own, which is told when it begins, and ends with the assignment.
    Apart { opened: Arc<Queue<Opened<T>>>, queues: HashMap<PartitionId, Arc<Queue<Waiting<T>>>> },
}

impl<T> Outlet<T> {
    fn of(&self, id: PartitionId) -> Option<&Arc<Queue<Waiting<T>>>> {
        match self {
            Outlet::Together(queue) => Some(queue),
            Outlet::Apart { queues, .. } => queues.get(&id),
        }
    }
}

/// Hands records out.
pub(crate) struct Deliveries<T> {
    outlet: Outlet<T>,
    /// What was started in this stretch: handed over at its end, a lock for each partition's turn and not for each record.
    started: Vec<Waiting<T>>,
    /// What waited of partitions that were then paused.
    paused: HashMap<PartitionId, Vec<Waiting<T>>>,
}

impl<T> Deliveries<T> {
    pub(crate) fn new(outlet: Outlet<T>) -> Self {
        Self { outlet, started: Vec::new(), paused: HashMap::new() }
    }

    /// Takes back what nobody has pulled.
    fn take_back(&mut self, id: PartitionId) -> Vec<Waiting<T>> {
        let mut back = self.paused.remove(&id).unwrap_or_default();
        if let Some(queue) = self.outlet.of(id) {
            back.extend(queue.take_back(|waiting| waiting.id() == id));
        }
        back
    }
}

/// Nothing in it is ever pinned.
impl<T> Unpin for Deliveries<T> {}

impl<T: Decode> Work for Deliveries<T> {
    fn start(shard: &mut Shard<Self>, record: Record, attempt: u32, first_failed_ms: Option<i64>, now: Now) {
        shard.counts.attempts += 1;
        let Some(body) = shard.decode::<T>(&record, attempt, now) else { return };
        if let Some(slot) = shard.engine.park_open(now) {
            let message = Message::new(record, attempt, first_failed_ms, body);
            shard.work.started.push(Waiting::new(message, slot, shard.done.clone()));
        }
    }

    fn rest(&mut self) {
        match &self.outlet {
            Outlet::Together(queue) if !self.started.is_empty() => queue.push(self.started.drain(..)),
            Outlet::Together(_) => {}
            Outlet::Apart { queues, .. } => {
                let mut started = self.started.drain(..).peekable();
                while let Some(first) = started.next() {
                    let id = first.id();
                    // One without a queue is of a partition that left: not reached, as nothing of it starts.
                    let Some(queue) = queues.get(&id) else { continue };
                    let others = std::iter::from_fn(|| started.next_if(|waiting| waiting.id() == id));
                    queue.push(std::iter::once(first).chain(others));
                }
            }
        }
    }

    fn assigned(&mut self, assignment: &Assignment) {
        if let Outlet::Apart { opened, queues } = &mut self.outlet {
            let queue = Queue::new();
            queues.insert(assignment.id, queue.clone());
            opened.push([Opened { partition: assignment.partition.clone(), queue }]);
        }
    }

    fn leaving(shard: &mut Shard<Self>, id: PartitionId) {
        for waiting in shard.work.take_back(id) {
            shard.engine.unstart(waiting.slot);
        }
        if let Outlet::Apart { queues, .. } = &mut shard.work.outlet
            && let Some(queue) = queues.remove(&id)
        {
            queue.close();
        }
    }

    fn pause(&mut self, id: PartitionId, paused: bool) {
        if paused {
            let back = self.take_back(id);
            self.paused.insert(id, back);
        } else if let (Some(back), Some(queue)) = (self.paused.remove(&id), self.outlet.of(id)) {
            queue.put_back(back);
        }
    }

    fn is_waiting(&self, id: PartitionId, slot: SlotId) -> bool {
        let is_it = |waiting: &Waiting<T>| waiting.slot == slot;
        self.paused.get(&id).is_some_and(|paused| paused.iter().any(is_it))
            || self.outlet.of(id).is_some_and(|queue| queue.any(is_it))
    }

    /// What was pulled cannot be cut: its lane and its credit come free when it is finished or dropped.
    fn cut(_shard: &mut Shard<Self>, _slot: SlotId, _reason: CutReason) {}

    fn abort(&mut self) {}
}
