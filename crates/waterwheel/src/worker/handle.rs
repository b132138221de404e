//! Handles: steering and watching a worker that runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use waterwheel_core::breaker::BreakerState;
use waterwheel_core::engine::{HoldReason, WorkStage};
pub use waterwheel_core::lifecycle::WorkerState;

use super::limits::BreakerStatus;
use crate::driver::coordinator::{Ask, Stopping, Wishes};
use crate::driver::shard::Common;
use crate::driver::tally::Counts;
use crate::events::Event;
use crate::explain::{Explanation, Subject};
use crate::health::{Cause, CheckKind, Health, Trouble};
use crate::record::TopicPartition;
use crate::subscription::Subscription;

/// Steers and watches a worker. Cheap to clone; works before, while and after the worker runs.
#[derive(Clone)]
pub struct WorkerHandle {
    pub(crate) name: Arc<str>,
    pub(crate) group: Arc<str>,
    pub(crate) wishes: Arc<watch::Sender<Wishes>>,
    pub(crate) asks: mpsc::Sender<Ask>,
    pub(crate) state: watch::Receiver<WorkerState>,
    pub(crate) common: Arc<Common>,
    pub(crate) trouble: Arc<Trouble>,
}

impl WorkerHandle {
    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The worker's consumer group; of a history, a name for logs only.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Starts a worker that is stopped, or is to be: with new clients, as a new member of its group. Counts go on. Returns
    /// at once; no effect on one that runs or has ended. Before the run, it takes back
    /// [`start_stopped`](crate::WorkerBuilder::start_stopped).
    pub fn start(&self) {
        self.wish(|w| w.stopped = false);
    }

    /// Stops the worker: drains for at most its drain timeout, commits, leaves the group and ends its clients; the run
    /// goes on in [`WorkerState::Stopped`]. Returns at once; no effect on a worker that has ended.
    pub fn stop(&self) {
        self.wish(|w| w.stopped = true);
    }

    /// [Stops](Self::stop) the worker, and waits until it is stopped: no handler runs any more, and the last commit was
    /// answered or given up. False where it is not by that deadline; it goes on stopping. Handlers that may go on after a
    /// drain ([`OnDrainDeadline::Abandon`](crate::OnDrainDeadline::Abandon),
    /// [`Execution::Blocking`](crate::Execution::Blocking)) may still run. Dropping the future takes nothing back.
    pub async fn stop_and_wait(&self, deadline: Duration) -> bool {
        use WorkerState::{Closed, Initialising, Stopped};
        self.stop();
        // A worker that has ended is not started again, and one that does not run yet begins stopped.
        let stopped = self.until(|state| matches!(state, Initialising | Stopped | Closed));
        tokio::time::timeout(deadline, stopped).await.is_ok()
    }

    /// Ends the worker in order: drains for at most its drain timeout, commits, leaves the group; then its run ends.
    /// Returns at once; no effect on a worker that has ended.
    pub fn close(&self) {
        self.wish(|w| w.close = w.close.max(Some(Stopping::InOrder)));
    }

    /// Ends the worker at once: what runs is cut off and comes again. Returns at once.
    pub fn close_now(&self) {
        self.wish(|w| w.close = Some(Stopping::AtOnce));
    }

    /// Starts no more records until [`resume`](Self::resume). What runs goes on, and the worker stays in its group.
    pub fn pause(&self) {
        self.wish(|w| w.paused = true);
    }

    /// Starts records again.
    pub fn resume(&self) {
        self.wish(|w| w.paused = false);
    }

    /// Wishes are kept, not queued: none is lost, however busy the worker is, or before it runs.
    fn wish(&self, change: impl FnOnce(&mut Wishes)) {
        self.wishes.send_modify(change);
    }

    /// What the worker is doing.
    pub fn state(&self) -> WorkerState {
        *self.state.borrow()
    }

    /// Waits until the worker is in that state, or in the one that comes of it by itself: consuming for
    /// [`WorkerState::Starting`], stopped for [`WorkerState::Stopping`], closed for [`WorkerState::Closing`]. False where
    /// it is not by that deadline, or has ended and will never be. Dropping the future has no effect.
    pub async fn wait_for(&self, state: WorkerState, deadline: Duration) -> bool {
        let reached = self.until(|now| now.has_reached(state) || now == WorkerState::Closed);
        tokio::time::timeout(deadline, reached).await.is_ok() && self.state().has_reached(state)
    }

    /// Waits for a state.
    pub(crate) async fn until(&self, is: impl Fn(WorkerState) -> bool) {
        // An error means that the worker is gone, and closed by that.
        let _ = self.state.clone().wait_for(|state| is(*state)).await;
    }

    /// What the worker has done so far.
    pub fn counts(&self) -> Counts {
        self.common.tally.read()
    }

    /// Everything that happens from now on. Never holds the worker up: with more than 1,024 events unread, the oldest are
    /// dropped and told as [`Event::Missed`].
    pub fn events(&self) -> Subscription<Event> {
        Subscription::new(self.common.events.subscribe(), |events| Event::Missed { events })
    }

    /// Every partition and every record in work, as they are now. `None` where the worker does not run or does not answer
    /// within five seconds. Dropping the future has no effect.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        let views = self.asked(Ask::View).await?;
        let mut snapshot = Snapshot::default();
        for (names, view) in views {
            snapshot.parked += view.parked;
            snapshot.followed.extend(view.followed.iter().map(|(id, offset)| (names[id.index()].clone(), *offset)));
            let heads: HashMap<_, _> = view.heads.iter().map(|head| (head.partition, head)).collect();
            let head = |id| heads.get(&id).map(|head| HeadStatus { age: head.age, timestamp_ms: head.timestamp_ms });
            snapshot.partitions.extend(view.partitions.iter().map(|p| PartitionStatus {
                partition: names[p.partition.index()].clone(),
                frontier: p.frontier,
                next: p.next,
                running: p.running,
                waiting: p.waiting + p.deferred,
                finished_above: p.finished_above,
                bytes: p.bytes,
                held: p.held,
                head: head(p.partition),
            }));
            snapshot.in_work.extend(view.in_work.iter().map(|w| RecordStatus {
                partition: names[w.partition.index()].clone(),
                offset: w.offset,
                attempts: w.attempts,
                stage: w.stage,
            }));
        }
        snapshot.partitions.sort_by(|a, b| a.partition.cmp(&b.partition));
        Some(snapshot)
    }

    /// What the partitions, the record or the key that is asked about wait for: which record holds the commit and since
    /// when, attempts and the next retry, the queue of the key, why a partition is held, and the size of the commit map.
    /// `None` where the worker does not run or does not answer within five seconds; an answer without partitions where it
    /// has none of those. Costs a walk over what is in work. Dropping the future has no effect.
    ///
    /// ```no_run
    /// # async fn run(handle: waterwheel::WorkerHandle) {
    /// use waterwheel::{Subject, TopicPartition};
    ///
    /// if let Some(why) = handle.explain(Subject::Offset(TopicPartition::new("orders", 3), 4711)).await {
    ///     println!("{why}");
    /// }
    /// # }
    /// ```
    pub async fn explain(&self, subject: Subject) -> Option<Explanation> {
        let mut partitions = self.asked(|answer| Ask::Explain { subject, answer }).await?;
        let ends = self.trouble.ends();
        partitions.iter_mut().for_each(|p| p.end = ends.get(&p.partition).copied());
        let (worker, group) = (self.name().to_owned(), self.group().to_owned());
        Some(Explanation { worker, group, state: self.state(), partitions })
    }

    /// The answer to a question, if the worker runs and gives it in time.
    pub(super) async fn asked<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        if !self.has_tasks() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.asks.send(ask(sender)).await.ok()?;
            receiver.await.ok()
        };
        tokio::time::timeout(Duration::from_secs(5), asked).await.ok()?
    }

    /// Whether there is someone to answer for partitions and records.
    fn has_tasks(&self) -> bool {
        self.state().has_session() || self.state() == WorkerState::Closing
    }

    /// Whether the worker does its work, and if not, why. What the cluster was asked is at most three intervals of
    /// [`check_every`](crate::WorkerBuilder::check_every) old. Answers within five seconds. Dropping the future has no
    /// effect.
    pub async fn health(&self) -> Health {
        self.health_by(self.snapshot().await.as_ref())
    }

    /// Whether the process is worth keeping as it is: the worker's tasks answer, no attempt runs for longer than
    /// [`stall_after`](crate::WorkerBuilder::stall_after), and it has not failed. Does not depend on brokers, lag,
    /// rebalances, or what handlers call. Answers within five seconds. Dropping the future has no effect.
    pub async fn is_live(&self) -> bool {
        match self.state() {
            WorkerState::Starting | WorkerState::Consuming => {
                let snapshot = self.snapshot().await;
                // It may have begun to stop meanwhile.
                let goes_on = matches!(self.state(), WorkerState::Starting | WorkerState::Consuming);
                snapshot.map_or(!goes_on, |snapshot| self.stuck(&snapshot).next().is_none())
            }
            _ => self.trouble.failure().is_none(),
        }
    }

    /// Whether it has joined its group, also without partitions, and is not about to leave it.
    pub fn is_ready(&self) -> bool {
        self.state() == WorkerState::Consuming
    }

    /// Attempts that run for too long.
    pub(super) fn stuck<'a>(&self, snapshot: &'a Snapshot) -> impl Iterator<Item = &'a RecordStatus> {
        let limit = self.trouble.stall_after;
        snapshot.in_work.iter().filter(move |record| matches!(record.stage, WorkStage::Running(age) if age >= limit))
    }

    /// Health by what is written down and that view of the worker.
    pub(crate) fn health_by(&self, snapshot: Option<&Snapshot>) -> Health {
        let state = self.state();
        if state == WorkerState::Closed {
            return self.trouble.at_the_end();
        }
        let mut causes = self.trouble.around();
        if state != WorkerState::Stopped {
            causes.extend(self.trouble.within());
        }
        match snapshot {
            Some(snapshot) => causes.extend(self.causes_in(snapshot)),
            None if matches!(state, WorkerState::Starting | WorkerState::Consuming) => {
                causes.push(Cause::critical(CheckKind::Worker, "its tasks do not answer"));
            }
            None => {}
        }
        Health::of(causes)
    }

    fn causes_in(&self, snapshot: &Snapshot) -> Vec<Cause> {
        let mut causes = Vec::new();
        let stuck = self.stuck(snapshot).count();
        if stuck > 0 {
            let text = format!("{stuck} attempts run for more than {:?}", self.trouble.stall_after);
            causes.push(Cause::critical(CheckKind::Handlers, text));
        }
        if snapshot.parked > 0 {
            let text = format!("{} records have failed all their attempts and are parked", snapshot.parked);
            causes.push(Cause::critical(CheckKind::Handlers, text));
        }
        let is_closed = |breaker: &BreakerStatus| breaker.state == BreakerState::Closed;
        let limits = self.limits();
        if limits.breaker.is_some_and(|breaker| !is_closed(&breaker)) {
            let text = "the circuit breaker is open: what handlers need seems to be missing";
            causes.push(Cause::warning(CheckKind::Handlers, text));
        }
        let open = limits.classes.iter().filter(|(_, breaker)| !is_closed(breaker)).count();
        if open > 0 {
            let classes = if open == 1 { "1 class".to_owned() } else { format!("{open} classes") };
            let text = format!("the circuit breaker of {classes} is open: what handlers need seems to be missing");
            causes.push(Cause::warning(CheckKind::Handlers, text));
        }
        for (reason, check, text) in [
            (HoldReason::DeadLetter, CheckKind::DeadLetters, "held because their dead letters cannot be written"),
            (HoldReason::Lease, CheckKind::Group, "held because the group's coordinator does not answer"),
        ] {
            let n = snapshot.partitions.iter().filter(|p| p.held == Some(reason)).count();
            if n > 0 {
                causes.push(Cause::critical(check, format!("{n} partitions are {text}")));
            }
        }
        causes
    }
}

/// A worker as it is at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// The partitions that the worker has.
    pub partitions: Vec<PartitionStatus>,
    /// The records that run, wait for a retry, or wait for their dead letter to be acknowledged.
    pub in_work: Vec<RecordStatus>,
    /// Records that have had all their attempts and are tried on for ever.
    pub parked: usize,
    /// The dead letters, by partition and offset, that later records of their keys follow.
    pub followed: Vec<(TopicPartition, i64)>,
}

/// One partition of a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// Which.
    pub partition: TopicPartition,
    /// The lowest offset that is not finished: what the next commit says.
    pub frontier: i64,
    /// The next offset to be taken up.
    pub next: i64,
    /// Attempts that run.
    pub running: usize,
    /// Records that wait for their key.
    pub waiting: usize,
    /// Records finished above the frontier.
    pub finished_above: u64,
    /// Bytes of fetched records held.
    pub bytes: usize,
    /// Why it yields no records; `None` while it does.
    pub held: Option<HoldReason>,
    /// The record at the frontier, which holds the commit; `None` where nothing that was fetched is unfinished.
    pub head: Option<HeadStatus>,
}

/// The record that holds a partition's commit.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct HeadStatus {
    /// For how long it has, known to an interval of [`commit_every`](crate::WorkerBuilder::commit_every); where transactions
    /// commit, of [`check_every`](crate::WorkerBuilder::check_every).
    pub age: Duration,
    /// Its own time, in milliseconds since the Unix epoch; `None` where it has none or is not in memory.
    pub timestamp_ms: Option<i64>,
}

/// One record in work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RecordStatus {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Attempts begun.
    pub attempts: u32,
    /// What it is doing.
    pub stage: WorkStage,
}
