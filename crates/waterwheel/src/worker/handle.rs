//! Handles: steering and watching a worker that runs.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::BoxStream;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use waterwheel_core::engine::{HoldReason, WorkStage};
pub use waterwheel_core::lifecycle::WorkerState;

use crate::driver::coordinator::{Ask, Stopping, Wishes};
use crate::driver::shard::Common;
use crate::driver::tally::Counts;
use crate::events::Event;
use crate::health::{Health, HealthLevel, Trouble};
use crate::record::TopicPartition;

/// Steers and watches a worker. Cheap to clone; works before, while and after the worker runs.
#[derive(Clone)]
pub struct WorkerHandle {
    pub(crate) name: Arc<str>,
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

    /// Stops the worker in order: drains for at most its drain timeout, commits, leaves the group. Returns at once; no
    /// effect on a worker that has ended.
    pub fn stop(&self) {
        self.wish(|w| w.stop = w.stop.max(Some(Stopping::InOrder)));
    }

    /// Stops the worker at once: what runs is cut off and comes again. Returns at once.
    pub fn stop_now(&self) {
        self.wish(|w| w.stop = Some(Stopping::AtOnce));
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

    /// Waits until the worker is in that state or past it. Dropping the future has no effect.
    pub async fn wait_for(&self, state: WorkerState) {
        // An error means that the worker is gone, which is past any state.
        let _ = self.state.clone().wait_for(|s| *s >= state).await;
    }

    /// What the worker has done so far.
    pub fn counts(&self) -> Counts {
        self.common.tally.read()
    }

    /// Everything that happens from now on. Never holds the worker up: with more than 1,024 events unread, the oldest are
    /// dropped and told as [`Event::Missed`].
    pub fn events(&self) -> Events {
        let receiver = self.common.events.subscribe();
        let stream = futures_util::stream::unfold(receiver, |mut receiver: broadcast::Receiver<Event>| async move {
            match receiver.recv().await {
                Ok(event) => Some((event, receiver)),
                Err(RecvError::Lagged(events)) => Some((Event::Missed { events }, receiver)),
                Err(RecvError::Closed) => None,
            }
        });
        Events(Box::pin(stream))
    }

    /// Every partition and every record in work, as they are now. `None` where the worker does not run or does not answer
    /// within five seconds. Dropping the future has no effect.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        if [WorkerState::Initialising, WorkerState::Closed].contains(&self.state()) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let asked = async {
            self.asks.send(Ask::View(sender)).await.ok()?;
            receiver.await.ok()
        };
        let views = tokio::time::timeout(Duration::from_secs(5), asked).await.ok()??;
        let mut snapshot = Snapshot { partitions: Vec::new(), in_work: Vec::new(), parked: 0 };
        for (names, view) in views {
            snapshot.parked += view.parked;
            snapshot.partitions.extend(view.partitions.iter().map(|p| PartitionStatus {
                partition: names[p.partition.index()].clone(),
                frontier: p.frontier,
                next: p.next,
                running: p.running,
                waiting: p.waiting + p.deferred,
                finished_above: p.finished_above,
                bytes: p.bytes,
                held: p.held,
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

    /// Whether the worker does its work, and if not, why. Dropping the future has no effect.
    pub async fn health(&self) -> Health {
        let mut causes = self.trouble.causes();
        if self.state() == WorkerState::Closed {
            causes = vec![(HealthLevel::Critical, "the worker has ended".to_owned())];
        } else if let Some(snapshot) = self.snapshot().await {
            if snapshot.parked > 0 {
                let n = snapshot.parked;
                causes.push((
                    HealthLevel::Critical,
                    format!("{n} records have failed all their attempts and are parked"),
                ));
            }
            for (reason, text) in [
                (HoldReason::DeadLetter, "held because their dead letters cannot be written"),
                (HoldReason::Lease, "held because the group's coordinator does not answer"),
            ] {
                let n = snapshot.partitions.iter().filter(|p| p.held == Some(reason)).count();
                if n > 0 {
                    causes.push((HealthLevel::Critical, format!("{n} partitions are {text}")));
                }
            }
        }
        Health::of(causes)
    }
}

/// A worker's events. See [`WorkerHandle::events`].
pub struct Events(BoxStream<'static, Event>);

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl Events {
    /// The next event; `None` once the worker and all its handles are gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|cx| self.0.as_mut().poll_next(cx)).await
    }
}

/// A worker as it is at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The partitions that the worker has.
    pub partitions: Vec<PartitionStatus>,
    /// The records that run, wait for a retry, or wait for their dead letter to be acknowledged.
    pub in_work: Vec<RecordStatus>,
    /// Records that have had all their attempts and are tried on for ever.
    pub parked: usize,
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
