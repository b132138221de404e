//! The state of everything, its time, its jobs, and who is woken by a change.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::faults::{Faults, Request};
use super::group::Group;
use super::log::Log;
use super::membership::Seat;
use super::producer::Outbox;
use super::transactions::{Client, Coordinated};
use super::{ended, error};
use crate::client::{PortFuture, WorldTime};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// A topic.
pub(super) struct Topic {
    pub(super) id: u128,
    pub(super) logs: Vec<Log>,
    /// What was set for it.
    pub(super) configs: BTreeMap<String, String>,
}

/// What is to happen later.
type Job = Box<dyn FnOnce(&mut State) + Send>;

/// A request of a host that is cut off: answered when it comes through or is given up, whichever is first.
type Unheard = Arc<Mutex<Option<Box<dyn FnOnce(&mut State, Heard) + Send>>>>;

enum Heard {
    Late,
    Never,
}

/// Everything there is.
pub(super) struct State {
    pub(super) now: Instant,
    /// Milliseconds since the Unix epoch.
    pub(super) wall_ms: i64,
    pub(super) topics: BTreeMap<Arc<str>, Topic>,
    pub(super) groups: BTreeMap<String, Group>,
    pub(super) seats: BTreeMap<u64, Seat>,
    pub(super) outboxes: BTreeMap<u64, Outbox>,
    /// By the numbers of their outboxes.
    pub(super) transactors: BTreeMap<u64, Client>,
    /// By transactional id.
    pub(super) coordinated: BTreeMap<String, Coordinated>,
    pub(super) faults: Faults,
    /// Requests of hosts that are cut off.
    unheard: Vec<(u32, Unheard)>,
    /// Jobs to be started once the state is free.
    jobs: Vec<(Duration, Job)>,
    /// What is told once the state is free: who hears it may use the cluster.
    tells: Vec<Box<dyn FnOnce() + Send>>,
    /// Who waits for a change.
    wakers: BTreeMap<u64, Waker>,
    next_number: u64,
}

impl State {
    /// A number that nothing else has.
    pub(super) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn later(&mut self, after: Duration, job: impl FnOnce(&mut State) + Send + 'static) {
        self.jobs.push((after, Box::new(job)));
    }

    pub(super) fn tell(&mut self, told: impl FnOnce() + Send + 'static) {
        self.tells.push(Box::new(told));
    }

    /// Wakes `waker` at the next change; one a number.
    pub(super) fn wake(&mut self, number: u64, waker: &Waker) {
        self.wakers.insert(number, waker.clone());
    }

    pub(super) fn log(&self, partition: &TopicPartition) -> Option<&Log> {
        let number = usize::try_from(partition.partition).ok()?;
        self.topics.get(&partition.topic)?.logs.get(number)
    }

    pub(super) fn log_mut(&mut self, partition: &TopicPartition) -> Option<&mut Log> {
        let number = usize::try_from(partition.partition).ok()?;
        self.topics.get_mut(&partition.topic)?.logs.get_mut(number)
    }

    /// Makes a topic, or adds partitions to one; those that there are stay.
    pub(super) fn make_topic(&mut self, name: &str, partitions: usize) {
        let id = u128::from(self.number()) << 64 | 1;
        let topic =
            self.topics.entry(name.into()).or_insert_with(|| Topic { id, logs: Vec::new(), configs: BTreeMap::new() });
        while topic.logs.len() < partitions {
            topic.logs.push(Log::new());
        }
        self.topics_changed();
    }

    pub(super) fn delete_topic(&mut self, name: &str) {
        self.topics.remove(name);
        for group in self.groups.values_mut() {
            group.forget_topic(name);
        }
        self.topics_changed();
    }
}

/// A cluster and all its clients.
pub(crate) struct World {
    state: Mutex<State>,
    start: Instant,
}

/// Where every world's wall clock begins: 2026-01-01T00:00:00Z.
const WALL_START_MS: i64 = 1_767_225_600_000;

/// A request that reaches nobody is given up after as long.
const GIVE_UP: Duration = Duration::from_secs(5);

impl World {
    pub(crate) fn new() -> Arc<Self> {
        let start = Instant::now();
        let state = State {
            now: start,
            wall_ms: WALL_START_MS,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            seats: BTreeMap::new(),
            outboxes: BTreeMap::new(),
            transactors: BTreeMap::new(),
            coordinated: BTreeMap::new(),
            faults: Faults::default(),
            unheard: Vec::new(),
            jobs: Vec::new(),
            tells: Vec::new(),
            wakers: BTreeMap::new(),
            next_number: 0,
        };
        Arc::new(Self { state: Mutex::new(state), start })
    }

    pub(super) fn time(&self) -> WorldTime {
        WorldTime { start: self.start, wall_start_ms: WALL_START_MS }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = Instant::now();
        state.wall_ms = WALL_START_MS + i64::try_from((state.now - self.start).as_millis()).unwrap_or(i64::MAX / 2);
        state
    }

    /// Looks, and changes only what nobody waits for.
    pub(super) fn look<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        look(&mut self.lock())
    }

    /// Changes something, starts the jobs that follow, and wakes everyone.
    pub(super) fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> R) -> R {
        let (result, jobs, tells, wakers) = {
            let mut state = self.lock();
            let result = change(&mut state);
            let (jobs, tells) = (std::mem::take(&mut state.jobs), std::mem::take(&mut state.tells));
            (result, jobs, tells, std::mem::take(&mut state.wakers))
        };
        for (after, job) in jobs {
            self.start_job(after, job);
        }
        tells.into_iter().for_each(|tell| tell());
        // With the state free: what a waker's drop ends may look at it.
        wakers.into_values().for_each(Waker::wake);
        result
    }

    #[expect(clippy::disallowed_methods, reason = "stands for the cluster, which works whatever its clients do")]
    fn start_job(self: &Arc<Self>, after: Duration, job: Job) {
        let world = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(world) = world.upgrade() {
                world.change(job);
            }
        });
    }

    /// A request to a broker: carried out after its latency, also if nobody waits for the answer.
    pub(super) fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        host: u32,
        request: Request,
        work: impl FnOnce(&mut State) -> Result<T, KafkaError> + Send + 'static,
    ) -> PortFuture<T> {
        self.change(|state| {
            if !state.faults.reaches_brokers(host) {
                return state.wait_to_be_heard(host, request, work);
            }
            state.send(host, request, work)
        })
    }

    /// The same to a group's coordinator.
    pub(super) fn ask_group<T: Send + 'static>(
        self: &Arc<Self>,
        host: u32,
        request: Request,
        work: impl FnOnce(&mut State) -> Result<T, KafkaError> + Send + 'static,
    ) -> PortFuture<T> {
        self.change(|state| {
            if !state.faults.reaches_group(host) {
                return state.wait_to_be_heard(host, request, work);
            }
            state.send(host, request, work)
        })
    }

    /// Ready once `done` is.
    pub(super) fn until(self: &Arc<Self>, done: impl Fn(&State) -> bool + Send + 'static) -> PortFuture<()> {
        let (world, number) = (self.clone(), self.look(State::number));
        Box::pin(poll_fn(move |cx| {
            world.look(|state| {
                if done(state) {
                    return Poll::Ready(Ok(()));
                }
                state.wake(number, cx.waker());
                Poll::Pending
            })
        }))
    }
}

impl State {
    fn send<T: Send + 'static>(
        &mut self,
        host: u32,
        request: Request,
        work: impl FnOnce(&mut State) -> Result<T, KafkaError> + Send + 'static,
    ) -> PortFuture<T> {
        let latency = self.faults.latency(host, request);
        if latency.is_zero() {
            return Box::pin(std::future::ready(self.carry_out(host, request, work)));
        }
        let (tell, told) = oneshot::channel();
        self.later(latency, move |state| {
            // The caller may have given up.
            _ = tell.send(state.carry_out(host, request, work));
        });
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(ended())) })
    }

    fn carry_out<T>(
        &mut self,
        host: u32,
        request: Request,
        work: impl FnOnce(&mut State) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        match self.faults.meet(host, request, self.now) {
            Some(code) => Err(error(code, format!("{request:?}"))),
            None => work(self),
        }
    }

    /// Sends what cannot be heard now: as with TCP it comes through when the host is healed, unless it is given up before.
    fn wait_to_be_heard<T: Send + 'static>(
        &mut self,
        host: u32,
        request: Request,
        work: impl FnOnce(&mut State) -> Result<T, KafkaError> + Send + 'static,
    ) -> PortFuture<T> {
        let (tell, told) = oneshot::channel();
        let answer = move |state: &mut State, heard: Heard| {
            // The caller may have given up.
            _ = tell.send(match heard {
                Heard::Late => state.carry_out(host, request, work),
                Heard::Never => Err(error(code::LOCAL_TIMED_OUT, "nobody answered")),
            });
        };
        let unheard: Unheard = Arc::new(Mutex::new(Some(Box::new(answer))));
        self.unheard.push((host, unheard.clone()));
        self.later(GIVE_UP, move |state| state.answer(&unheard, Heard::Never));
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(ended())) })
    }

    /// What a host sent while it was cut off, and has not given up, comes through.
    pub(super) fn hear_what_was_sent(&mut self, host: u32) {
        let (sent, rest) = std::mem::take(&mut self.unheard).into_iter().partition(|(of, _)| *of == host);
        self.unheard = rest;
        let sent: Vec<(u32, Unheard)> = sent;
        sent.iter().for_each(|(_, unheard)| self.answer(unheard, Heard::Late));
    }

    fn answer(&mut self, unheard: &Unheard, heard: Heard) {
        let answer = unheard.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            answer(self, heard);
        }
    }
}
