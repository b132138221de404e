//! Who works on what: processes, records in work, and suspects. Pure: no process, no clock; it is told what happened and
//! says what to do.
//!
//! ```text
//! process: Out ─due─▶ Starting ─ready─▶ Ready ─kill─▶ Ending
//!           ▲───────────exit───┴───────────┴────────────┘
//! ```
//!
//! - A record is *in work* from when it is sent to a process until its answer, or until the process has ended.
//! - A process that ends with one record in work has failed that record. With several, each is a *suspect*: none has
//!   failed, and each runs again alone, in a process of its own (the *lone* one, started when there is need).
//! - A record past its deadline, or dropped by its worker, is *given up*. So that an attempt never overlaps the next one,
//!   its failure is told only when the process has answered after all (which is ignored) or has ended. Until then the
//!   process takes no more records; once it has only such records, it is killed.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::protocol::Answer;

/// A time: since the roster was made.
pub(super) type Now = Duration;

/// Suspects and culprits remembered; beyond it the oldest is forgotten and runs among others.
const MAX_SUSPECTS: usize = 10_000;
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// A process that has not said ready by then is started again.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// The lone process ends when it was not needed for that long.
const LONE_IDLE: Duration = Duration::from_secs(60);

/// Names a job of the roster.
pub(super) type Ticket = u64;

/// A record's place.
pub(super) type Place = (Arc<str>, i32, i64);

/// What became of a job.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Answered(Answer),
    /// It took too long.
    TimedOut,
    /// It was alone in a process that ended.
    Crashed,
    /// It was in a process that ended, and not alone; or it could not be started at all.
    NotRun,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Start {
        seat: usize,
    },
    Send {
        seat: usize,
        line: Vec<u8>,
    },
    Kill {
        seat: usize,
    },
    /// In order: nothing is in work there.
    Retire {
        seat: usize,
    },
    Tell {
        ticket: Ticket,
        fate: Fate,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Out { until: Option<Now> },
    Starting { since: Now },
    Ready { capacity: usize },
    Ending,
}

struct Seat {
    phase: Phase,
    work: Vec<Ticket>,
    /// Ends without an answer in between.
    failures: u32,
    idle_since: Now,
}

struct Job {
    place: Place,
    id: String,
    line: Vec<u8>,
    stage: Stage,
}

enum Stage {
    Queued,
    InWork,
    Late,
    Dropped,
}

impl Stage {
    fn is_given_up(&self) -> bool {
        matches!(self, Stage::Late | Stage::Dropped)
    }
}

pub(super) struct Roster {
    timeout: Duration,
    /// The last one is the lone one.
    seats: Vec<Seat>,
    jobs: BTreeMap<Ticket, Job>,
    next_ticket: Ticket,
    queue: VecDeque<Ticket>,
    lone_queue: VecDeque<Ticket>,
    suspects: HashSet<Place>,
    suspects_by_age: VecDeque<Place>,
    /// Of what was sent, in order; those answered since are passed over.
    deadlines: VecDeque<(Now, Ticket)>,
    waiting: usize,
    given_up: usize,
    closed: bool,
    orders: VecDeque<Order>,
}

impl Roster {
    pub(super) fn new(processes: usize, timeout: Duration) -> Self {
        let seat = |until| Seat { phase: Phase::Out { until }, work: Vec::new(), failures: 0, idle_since: Now::ZERO };
        let mut seats: Vec<Seat> = (0..processes).map(|_| seat(Some(Now::ZERO))).collect();
        seats.push(seat(None));
        Self {
            timeout,
            seats,
            jobs: BTreeMap::new(),
            next_ticket: 1,
            queue: VecDeque::new(),
            lone_queue: VecDeque::new(),
            suspects: HashSet::new(),
            suspects_by_age: VecDeque::new(),
            deadlines: VecDeque::new(),
            waiting: 0,
            given_up: 0,
            closed: false,
            orders: VecDeque::new(),
        }
    }

    pub(super) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// A record to be worked on.
    pub(super) fn submit(&mut self, place: Place, id: String, line: Vec<u8>, now: Now) -> Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        if self.closed {
            self.orders.push_back(Order::Tell { ticket, fate: Fate::NotRun });
            return ticket;
        }
        let queue = if self.suspects.contains(&place) { &mut self.lone_queue } else { &mut self.queue };
        queue.push_back(ticket);
        self.waiting += 1;
        self.jobs.insert(ticket, Job { place, id, line, stage: Stage::Queued });
        self.assign_work(now);
        ticket
    }

    /// Takes a job back if no process has it yet; whether it did.
    pub(super) fn withdraw(&mut self, ticket: Ticket) -> bool {
        let queued = self.jobs.get(&ticket).is_some_and(|job| matches!(job.stage, Stage::Queued));
        if queued {
            // The queues pass over what is not there any more.
            self.jobs.remove(&ticket);
            self.waiting -= 1;
        }
        queued
    }

    /// Nobody waits for this job any more.
    pub(super) fn drop_job(&mut self, ticket: Ticket) {
        if self.withdraw(ticket) {
            return;
        }
        if let Some(job) = self.jobs.get_mut(&ticket) {
            if !job.stage.is_given_up() {
                self.given_up += 1;
            }
            job.stage = Stage::Dropped;
            self.kill_where_all_is_given_up();
        }
    }

    pub(super) fn ready(&mut self, seat: usize, concurrency: usize, now: Now) -> Result<(), &'static str> {
        match self.seats[seat].phase {
            Phase::Starting { .. } => {
                let capacity = if self.is_lone(seat) { 1 } else { concurrency };
                self.seats[seat].phase = Phase::Ready { capacity };
                self.seats[seat].idle_since = now;
                self.assign_work(now);
                Ok(())
            }
            Phase::Ready { .. } => Err("it says ready a second time"),
            Phase::Out { .. } | Phase::Ending => Ok(()),
        }
    }

    /// A process answered for a record.
    pub(super) fn answered(&mut self, seat: usize, id: &str, answer: Answer, now: Now) -> Result<(), &'static str> {
        if matches!(self.seats[seat].phase, Phase::Starting { .. }) {
            return Err("it answers before it says ready");
        }
        let jobs = &self.jobs;
        let found = self.seats[seat].work.iter().position(|t| jobs.get(t).is_some_and(|job| job.id == id));
        let Some(at) = found else {
            return match self.seats[seat].phase {
                Phase::Ready { .. } => Err("it answers for an id that it does not have: unknown, or answered before"),
                _ => Ok(()),
            };
        };
        let ticket = self.seats[seat].work.swap_remove(at);
        self.seats[seat].failures = 0;
        self.seats[seat].idle_since = now;
        if let Some(job) = self.jobs.remove(&ticket) {
            self.acquit(&job.place);
            self.given_up -= usize::from(job.stage.is_given_up());
            let fate = match job.stage {
                Stage::Late => Some(Fate::TimedOut),
                Stage::Dropped => None,
                Stage::Queued | Stage::InWork => Some(Fate::Answered(answer)),
            };
            self.orders.extend(fate.map(|fate| Order::Tell { ticket, fate }));
        }
        self.assign_work(now);
        self.kill_where_all_is_given_up();
        Ok(())
    }

    /// A process broke the protocol: it is ended, and what it had in work is treated as at a crash.
    pub(super) fn broken(&mut self, seat: usize) {
        if !matches!(self.seats[seat].phase, Phase::Out { .. } | Phase::Ending) {
            self.seats[seat].phase = Phase::Ending;
            self.orders.push_back(Order::Kill { seat });
        }
    }

    /// A process has ended, or could not be started. Returns how long until it is started again.
    pub(super) fn exited(&mut self, seat: usize, now: Now) -> Option<Duration> {
        let work = std::mem::take(&mut self.seats[seat].work);
        let alone = work.len() == 1;
        for ticket in work {
            let Some(job) = self.jobs.remove(&ticket) else { continue };
            self.given_up -= usize::from(job.stage.is_given_up());
            let fate = match job.stage {
                Stage::Late => Fate::TimedOut,
                Stage::Dropped => continue,
                Stage::Queued | Stage::InWork => {
                    self.suspect(job.place);
                    if alone { Fate::Crashed } else { Fate::NotRun }
                }
            };
            self.orders.push_back(Order::Tell { ticket, fate });
        }
        let is_needed = !self.is_lone(seat) || !self.lone_queue.is_empty();
        let at = &mut self.seats[seat];
        let wait = LONGEST_BACK_OFF.min(FIRST_BACK_OFF * 2u32.saturating_pow(at.failures.min(16)));
        at.failures = at.failures.saturating_add(1);
        at.phase = Phase::Out { until: is_needed.then_some(now + wait) };
        (is_needed && !self.closed).then_some(wait)
    }

    /// Takes no more work, and tells what waits that it is not run.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.waiting = 0;
        for ticket in self.queue.drain(..).chain(self.lone_queue.drain(..)) {
            if self.jobs.remove(&ticket).is_some() {
                self.orders.push_back(Order::Tell { ticket, fate: Fate::NotRun });
            }
        }
    }

    /// When [`tick`](Self::tick) is due next.
    pub(super) fn next_timer(&self) -> Option<Now> {
        let lone = self.seats.len() - 1;
        let seats = self.seats.iter().enumerate().filter_map(|(n, seat)| match seat.phase {
            Phase::Out { until } if !self.closed => until,
            Phase::Starting { since } => Some(since + READY_LIMIT),
            Phase::Ready { .. } if n == lone && seat.work.is_empty() => Some(seat.idle_since + LONE_IDLE),
            _ => None,
        });
        seats.chain(self.deadlines.front().map(|(deadline, _)| *deadline)).min()
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, now: Now) {
        while let Some((deadline, ticket)) = self.deadlines.front()
            && *deadline <= now
        {
            if let Some(job) = self.jobs.get_mut(ticket)
                && matches!(job.stage, Stage::InWork)
            {
                job.stage = Stage::Late;
                self.given_up += 1;
            }
            self.deadlines.pop_front();
        }
        self.kill_where_all_is_given_up();
        for seat in 0..self.seats.len() {
            match self.seats[seat].phase {
                Phase::Out { until: Some(until) } if until <= now && !self.closed => {
                    self.seats[seat].phase = Phase::Starting { since: now };
                    self.orders.push_back(Order::Start { seat });
                }
                Phase::Starting { since } if since + READY_LIMIT <= now => self.broken(seat),
                Phase::Ready { .. }
                    if self.is_lone(seat)
                        && self.seats[seat].work.is_empty()
                        && self.seats[seat].idle_since + LONE_IDLE <= now =>
                {
                    self.seats[seat].phase = Phase::Ending;
                    self.orders.push_back(Order::Retire { seat });
                }
                _ => {}
            }
        }
    }

    /// Processes that can work, of how many; and how many records wait for one.
    pub(super) fn readiness(&self) -> (usize, usize, usize) {
        let (lone, others) = (self.seats.len() - 1, &self.seats[..self.seats.len() - 1]);
        let ready = others.iter().filter(|seat| matches!(seat.phase, Phase::Ready { .. })).count();
        (ready, lone, self.waiting)
    }

    pub(super) fn is_lone(&self, seat: usize) -> bool {
        seat + 1 == self.seats.len()
    }

    /// Sends what waits to the processes that have least to do.
    fn assign_work(&mut self, now: Now) {
        let lone = self.seats.len() - 1;
        loop {
            let jobs = &self.jobs;
            while self.queue.front().is_some_and(|ticket| !jobs.contains_key(ticket)) {
                self.queue.pop_front();
            }
            if self.queue.is_empty() {
                break;
            }
            let free = self.seats[..lone].iter().enumerate().filter(|(_, seat)| takes_more(seat, jobs));
            let Some((seat, _)) = free.min_by_key(|(_, seat)| seat.work.len()) else { break };
            if let Some(ticket) = self.queue.pop_front() {
                self.send(seat, ticket, now);
            }
        }
        while self.lone_queue.front().is_some_and(|ticket| !self.jobs.contains_key(ticket)) {
            self.lone_queue.pop_front();
        }
        if self.lone_queue.is_empty() {
            return;
        }
        if self.seats[lone].phase == (Phase::Out { until: None }) {
            self.seats[lone].phase = Phase::Starting { since: now };
            self.orders.push_back(Order::Start { seat: lone });
        } else if takes_more(&self.seats[lone], &self.jobs)
            && let Some(ticket) = self.lone_queue.pop_front()
        {
            self.send(lone, ticket, now);
        }
    }

    fn send(&mut self, seat: usize, ticket: Ticket, now: Now) {
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        job.stage = Stage::InWork;
        let line = std::mem::take(&mut job.line);
        self.waiting -= 1;
        self.deadlines.push_back((now + self.timeout, ticket));
        // Those answered meanwhile need no deadline.
        while let Some((_, first)) = self.deadlines.front()
            && !self.jobs.contains_key(first)
        {
            self.deadlines.pop_front();
        }
        self.seats[seat].work.push(ticket);
        self.orders.push_back(Order::Send { seat, line });
    }

    fn kill_where_all_is_given_up(&mut self) {
        if self.given_up == 0 {
            return;
        }
        for seat in 0..self.seats.len() {
            let at = &self.seats[seat];
            let given_up = |ticket: &Ticket| self.jobs.get(ticket).is_some_and(|job| job.stage.is_given_up());
            if matches!(at.phase, Phase::Ready { .. }) && !at.work.is_empty() && at.work.iter().all(given_up) {
                // It did nothing wrong but be slow: no back-off.
                self.seats[seat].failures = 0;
                self.broken(seat);
            }
        }
    }

    fn suspect(&mut self, place: Place) {
        if self.suspects.insert(place.clone()) {
            self.suspects_by_age.push_back(place);
        }
        while self.suspects.len() > MAX_SUSPECTS
            && let Some(oldest) = self.suspects_by_age.pop_front()
        {
            self.suspects.remove(&oldest);
        }
    }

    fn acquit(&mut self, place: &Place) {
        if self.suspects.remove(place) {
            self.suspects_by_age.retain(|other| other != place);
        }
    }
}

fn takes_more(seat: &Seat, jobs: &BTreeMap<Ticket, Job>) -> bool {
    let Phase::Ready { capacity } = seat.phase else { return false };
    seat.work.len() < capacity
        && !seat.work.iter().any(|ticket| jobs.get(ticket).is_some_and(|job| job.stage.is_given_up()))
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
