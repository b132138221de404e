//! Partitions read by hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};
use waterwheel_core::{PartitionId, Records as _};

use super::faults::Request;
use super::log::Found;
use super::world::{State, World};
use super::{ended, error, reads_committed};
use crate::client::{FetchFailure, FetchQueue, Fetched, Fetcher, PortFuture, Position, Properties};
use crate::error::{KafkaError, code};
use crate::record::Assignment;

/// A reader of partitions.
pub(super) struct FetchClient {
    world: Arc<World>,
    host: u32,
    committed: bool,
    closed: AtomicBool,
}

impl FetchClient {
    pub(super) fn new(world: Arc<World>, host: u32, properties: &Properties) -> Self {
        Self { world, host, committed: reads_committed(properties), closed: AtomicBool::new(false) }
    }
}

impl Fetcher for FetchClient {
    fn warm(&self, _: &[String]) {}

    fn queue(&self) -> Result<Box<dyn FetchQueue>, KafkaError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(ended());
        }
        Ok(Box::new(Shard {
            number: self.world.look(State::number),
            world: self.world.clone(),
            host: self.host,
            committed: self.committed,
            slots: BTreeMap::new(),
            waiting: VecDeque::new(),
            turn: PartitionId(0),
            sleep: None,
        }))
    }

    fn close(&self) -> PortFuture<()> {
        self.closed.store(true, Ordering::Release);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// The partitions of one shard.
struct Shard {
    number: u64,
    world: Arc<World>,
    host: u32,
    committed: bool,
    slots: BTreeMap<PartitionId, Slot>,
    /// Goes out before anything else.
    waiting: VecDeque<Fetched>,
    /// The partition that is looked at first.
    turn: PartitionId,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// A partition of a shard.
struct Slot {
    assignment: Arc<Assignment>,
    /// `None`: the log's beginning, not asked for yet.
    next: Option<i64>,
    /// The leader's epoch of the last record that was read.
    leader_epoch: Option<i32>,
    held: bool,
    stopped: bool,
    /// Its next request is answered then at the earliest.
    not_before: Instant,
    wanted: BTreeSet<i64>,
}

/// How long after an error a client asks again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What stops a partition; anything else is repeated.
const STOPS: [i32; 4] = [
    code::UNKNOWN_TOPIC_OR_PARTITION,
    code::TOPIC_AUTHORIZATION_FAILED,
    code::LOCAL_UNKNOWN_TOPIC,
    code::LOCAL_BAD_MSG,
];

impl Slot {
    fn failed(&mut self, code: i32, now: Instant) -> Fetched {
        let (id, epoch) = (self.assignment.id, self.assignment.epoch);
        let error = error(code, self.assignment.partition.to_string());
        if code == code::OFFSET_OUT_OF_RANGE || STOPS.contains(&code) {
            self.stopped = true;
            let failure = match code {
                code::OFFSET_OUT_OF_RANGE => FetchFailure::OutOfRange { position: self.next },
                _ => FetchFailure::Failed(error),
            };
            return Fetched::Stopped { id, epoch, failure };
        }
        self.not_before = now + AGAIN_AFTER;
        Fetched::Trouble { id: Some(id), error }
    }

    /// What a fetch finds, unless it has to wait.
    fn fetch(&mut self, state: &mut State, host: u32, committed: bool) -> Option<Fetched> {
        let (now, partition) = (state.now, &self.assignment.partition);
        let (Some(log), id, epoch) = (state.log(partition), self.assignment.id, self.assignment.epoch) else {
            return Some(self.failed(code::UNKNOWN_TOPIC_OR_PARTITION, now));
        };
        let from = *self.next.get_or_insert(log.start());
        let found = log.read(from, self.leader_epoch, committed, &self.assignment);
        if matches!(found, Found::End) {
            return None;
        }
        if let Some(code) = state.faults.meet(host, Request::Fetch, now) {
            return Some(self.failed(code, now));
        }
        self.not_before = now + state.faults.latency(host, Request::Fetch);
        match found {
            Found::Batch(batch) => {
                self.next = Some(batch.offset(batch.len() - 1) + 1);
                self.leader_epoch = batch.leader_epoch();
                Some(Fetched::Batch(batch))
            }
            Found::SkippedTo { next } => {
                self.next = Some(next);
                Some(Fetched::SkippedTo { id, epoch, next })
            }
            Found::OutOfRange => Some(self.failed(code::OFFSET_OUT_OF_RANGE, now)),
            Found::End => None,
        }
    }

    fn reread(&mut self, state: &State, committed: bool, into: &mut VecDeque<Fetched>) {
        let (id, epoch) = (self.assignment.id, self.assignment.epoch);
        // A topic that is gone stops the partition where it is read.
        let Some(log) = state.log(&self.assignment.partition).filter(|_| !self.wanted.is_empty()) else { return };
        let (batches, missing) = log.reread(&std::mem::take(&mut self.wanted), committed, &self.assignment);
        let answers = batches.into_iter().map(|batch| (Some(batch), Vec::new()));
        let gone = (!missing.is_empty()).then_some((None, missing));
        into.extend(answers.chain(gone).map(|(batch, missing)| Fetched::Reread { id, epoch, batch, missing }));
    }
}

impl Shard {
    /// The next item, or when to look again.
    fn next(&mut self, state: &mut State) -> Result<Fetched, Option<Instant>> {
        if !state.faults.reaches_brokers(self.host) {
            return Err(None);
        }
        for slot in self.slots.values_mut().filter(|slot| !slot.stopped) {
            slot.reread(state, self.committed, &mut self.waiting);
        }
        if let Some(item) = self.waiting.pop_front() {
            return Ok(item);
        }
        let mut later: Option<Instant> = None;
        let turns: Vec<PartitionId> =
            self.slots.range(self.turn..).chain(self.slots.range(..self.turn)).map(|(id, _)| *id).collect();
        for id in turns {
            let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.held && !slot.stopped) else { continue };
            if slot.not_before > state.now {
                later = Some(later.map_or(slot.not_before, |at| at.min(slot.not_before)));
            } else if let Some(item) = slot.fetch(state, self.host, self.committed) {
                self.turn = PartitionId(id.0.wrapping_add(1));
                return Ok(item);
            }
        }
        Err(later)
    }
}

impl FetchQueue for Shard {
    fn add(&mut self, assignment: Arc<Assignment>, from: Position) -> Result<(), KafkaError> {
        let same = self.slots.get_mut(&assignment.id).filter(|slot| slot.assignment.epoch == assignment.epoch);
        let (wanted, mut answers) = match same {
            Some(slot) => {
                let is_answer = |item: &Fetched| matches!(item, Fetched::Reread { id, .. } if *id == assignment.id);
                let (answers, rest) = std::mem::take(&mut self.waiting).into_iter().partition(is_answer);
                self.waiting = rest;
                (std::mem::take(&mut slot.wanted), answers)
            }
            None => (BTreeSet::new(), VecDeque::new()),
        };
        self.remove(assignment.id);
        self.waiting.append(&mut answers);
        let next = match from {
            Position::Beginning => None,
            Position::Offset(offset) => Some(offset),
        };
        let slot = Slot {
            next,
            leader_epoch: None,
            held: false,
            stopped: false,
            not_before: self.world.look(|state| state.now),
            wanted,
            assignment: assignment.clone(),
        };
        self.slots.insert(assignment.id, slot);
        Ok(())
    }

    fn remove(&mut self, id: PartitionId) {
        self.slots.remove(&id);
        self.waiting.retain(|item| !matches!(item, Fetched::Reread { id: of, .. } if *of == id));
    }

    fn hold(&mut self, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.held = true;
        }
    }

    fn release(&mut self, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.held = false;
        }
    }

    fn reread(&mut self, id: PartitionId, offsets: &[i64]) -> Result<(), KafkaError> {
        match self.slots.get_mut(&id) {
            Some(slot) => slot.wanted.extend(offsets),
            None => return Err(error(code::LOCAL_UNKNOWN_PARTITION, "reading again what is not read")),
        }
        Ok(())
    }

    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Fetched> {
        let world = self.world.clone();
        loop {
            let later = match world.look(|state| {
                let next = self.next(state);
                if next.is_err() {
                    state.wake(self.number, cx.waker());
                }
                next
            }) {
                Ok(item) => return Poll::Ready(item),
                Err(later) => later,
            };
            self.sleep = later.map(|at| Box::pin(tokio::time::sleep_until(at)));
            if self.sleep.as_mut().is_none_or(|sleep| sleep.as_mut().poll(cx).is_pending()) {
                return Poll::Pending;
            }
        }
    }
}
