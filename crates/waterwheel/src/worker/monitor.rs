//! Looks at a worker from time to time: asks the cluster, judges how its partitions go forward, publishes metrics.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use waterwheel_core::Now;
use waterwheel_core::engine::{HoldReason, WorkStage};

use super::handle::{PartitionStatus, RecordStatus, Snapshot, WorkerHandle, WorkerState};
use crate::client::OffsetSpec;
use crate::driver::groupless::Course;
use crate::events::Event;
use crate::health::{Ends, Place, Progress, SURVEY_PATIENCE, Survey};
use crate::metrics::{PartitionFigures, Publisher};
use crate::record::TopicPartition;

/// Looks at the worker between two questions to the cluster.
const LOOKS: u32 = 3;

/// One worker's monitor.
pub(super) struct Monitor {
    handle: WorkerHandle,
    course: Option<Arc<Course>>,
    survey: Arc<OnceLock<Survey>>,
    every: Duration,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    /// The partitions whose ends are to be asked for.
    partitions: Vec<TopicPartition>,
    /// The ends were told since the last look.
    are_new: bool,
}

impl Monitor {
    pub(super) fn new(
        handle: WorkerHandle,
        course: Option<Arc<Course>>,
        survey: Arc<OnceLock<Survey>>,
        every: Duration,
    ) -> Self {
        Self { handle, course, survey, every, asked: Mutex::default() }
    }

    /// Looks for as long as it is polled.
    pub(super) async fn run(self) -> Infallible {
        tokio::select! {
            never = self.ask() => never,
            never = self.look() => never,
        }
    }

    fn asked<T>(&self, with: impl FnOnce(&mut Asked) -> T) -> T {
        with(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks the cluster while the worker has a session.
    async fn ask(&self) -> Infallible {
        loop {
            self.handle.until(WorkerState::has_session).await;
            if let Some(survey) = self.survey.get() {
                self.handle.trouble.surveyed(survey.look().await);
                let partitions = self.asked(|asked| std::mem::take(&mut asked.partitions));
                let of = partitions.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
                // Without an answer lag is not judged; what the cluster said to the survey tells why.
                if let Ok(Ok(told)) = tokio::time::timeout(SURVEY_PATIENCE, survey.admin.list_offsets(of)).await {
                    let told = partitions.into_iter().zip(told);
                    let ends = told.filter_map(|(partition, end)| Some((partition, end.ok()?))).collect();
                    self.handle.trouble.told_ends(ends);
                    self.asked(|asked| asked.are_new = true);
                }
            }
            tokio::time::sleep(self.every * LOOKS).await;
        }
    }

    async fn look(&self) -> Infallible {
        let mut publisher = Publisher::new(self.handle.name(), self.handle.group());
        let mut progress = Progress::default();
        let mut answered = self.now();
        let mut stalled = HashSet::new();
        loop {
            tokio::time::sleep(self.every).await;
            let snapshot = self.handle.snapshot().await;
            if snapshot.is_some() || !self.handle.state().has_session() {
                answered = self.now();
            }
            let common = &self.handle.common;
            if let Some(hooks) = &common.hooks {
                hooks.hanging(self.now()).into_iter().for_each(|event| common.tell_listeners(event));
            }
            publisher.counts(&self.handle.counts());
            publisher.state(self.handle.state());
            self.handle.common.gate.iter().for_each(|gate| publisher.limits(&gate.view()));
            self.handle.common.classes.iter().for_each(|classes| publisher.classes(classes));
            publisher.health(&self.handle.health_by(snapshot.as_ref()));
            publisher.poll_age(self.now().since(answered).as_secs_f64());
            let snapshot = snapshot.unwrap_or_default();
            self.tell_stalled(&snapshot, &mut stalled);
            let are_new = self.asked(|asked| {
                asked.partitions = snapshot.partitions.iter().map(|p| p.partition.clone()).collect();
                std::mem::take(&mut asked.are_new)
            });
            let ends = self.handle.trouble.ends();
            if are_new {
                let causes = progress.look(&places(&snapshot, &ends), self.handle.trouble.stall_after, self.now());
                self.handle.trouble.lags(causes);
            }
            let stages = || snapshot.in_work.iter().map(|record| record.stage);
            let running = stages().filter(|stage| matches!(stage, WorkStage::Running(_))).count();
            let failed = stages().filter(|stage| matches!(stage, WorkStage::Backoff(_))).count();
            let delayed = stages().filter(|stage| matches!(stage, WorkStage::Delayed(_))).count();
            publisher.partitions(&self.figures(&snapshot, &ends), running, failed + delayed);
            publisher.delayed(delayed);
            if let Some(course) = &self.course {
                publisher.history(course.is_caught_up(), course.remaining());
            }
        }
    }

    /// Tells of attempts that run for too long, of each once.
    fn tell_stalled(&self, snapshot: &Snapshot, told: &mut HashSet<(TopicPartition, i64, u32)>) {
        let stuck: Vec<_> = self.handle.stuck(snapshot).collect();
        let name = |record: &RecordStatus| (record.partition.clone(), record.offset, record.attempts);
        let now: HashSet<_> = stuck.iter().map(|record| name(record)).collect();
        for record in stuck {
            let WorkStage::Running(age) = record.stage else { continue };
            if told.contains(&name(record)) {
                continue;
            }
            let (partition, offset, attempts) = name(record);
            tracing::warn!(%partition, offset, attempts, ?age, "a handler runs for longer than stall_after");
            self.handle.common.tell(Event::Stalled { partition, offset, attempts, age });
        }
        *told = now;
    }

    fn figures(&self, snapshot: &Snapshot, ends: &Ends) -> Vec<PartitionFigures> {
        let wall_ms = self.handle.common.clock.wall_now_ms();
        // A record's time may lie ahead: clocks differ.
        let since = |at: i64| Duration::from_millis(u64::try_from(wall_ms.saturating_sub(at)).unwrap_or(0));
        let mut oldest: HashMap<&TopicPartition, Duration> = HashMap::new();
        for record in &snapshot.in_work {
            if let WorkStage::Running(age) = record.stage {
                let longest = oldest.entry(&record.partition).or_default();
                *longest = age.max(*longest);
            }
        }
        let figures = snapshot.partitions.iter().map(|p| PartitionFigures {
            partition: p.partition.clone(),
            position: p.next,
            frontier: p.frontier,
            finished_above: p.finished_above,
            held: p.held,
            waiting: p.waiting,
            bytes: p.bytes,
            oldest: oldest.get(&p.partition).copied().unwrap_or_default(),
            end: ends.get(&p.partition).copied(),
            head_age: p.head.map_or(Duration::ZERO, |head| head.age),
            time_lag: p.head.and_then(|head| head.timestamp_ms).map_or(Duration::ZERO, since),
        });
        figures.collect()
    }

    fn now(&self) -> Now {
        self.handle.common.clock.now()
    }
}

/// The partitions whose ends are known, as the judgement of their way forward needs them.
fn places(snapshot: &Snapshot, ends: &Ends) -> Vec<Place> {
    let in_work: HashSet<&TopicPartition> = snapshot.in_work.iter().map(|record| &record.partition).collect();
    let place = |p: &PartitionStatus| {
        Some(Place {
            partition: p.partition.clone(),
            finished: p.frontier.saturating_add(i64::try_from(p.finished_above).unwrap_or(i64::MAX)),
            end: *ends.get(&p.partition)?,
            // One that holds its share of bytes waits for its own records.
            is_explained: p.held.is_some_and(|reason| reason != HoldReason::Bytes)
                || p.running > 0
                || in_work.contains(&p.partition),
        })
    };
    snapshot.partitions.iter().filter_map(place).collect()
}
