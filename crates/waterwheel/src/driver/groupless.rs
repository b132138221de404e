//! A membership without a group: finds the partitions of its topics, gives them all to the one member there is, and keeps
//! what is "committed" to itself, as the position from which a history tells whether it is caught up (I10).
//!
//! Targets are captured before a partition is given, so that no record is handled before it is known whether it counts.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{self, FutureExt};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use waterwheel_core::Now;
use waterwheel_core::history::Targets;

use super::clock::Clock;
use super::places::places;
use crate::client::{
    Admin, Commit, CommitOutcome, Committed, GroupMetadata, GroupProtocol, Membership, MembershipEvent, OffsetSpec,
    PortFuture,
};
use crate::error::KafkaError;
use crate::record::TopicPartition;
use crate::settings::Start;

/// How often the log's ends are asked for while there is something to catch up with, and after a failure.
const SOON: Duration = Duration::from_secs(1);
/// How often new partitions are looked for after that.
const LATER: Duration = Duration::from_secs(5);
/// How far back the rate looks.
const RATE_WINDOW: Duration = Duration::from_secs(10);

/// How far a history has come. Shared with its handles.
pub(crate) struct Course {
    clock: Clock,
    state: Mutex<State>,
    caught_up: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    targets: Targets<TopicPartition>,
    /// Offsets handled by then, oldest first, over at most the window.
    samples: VecDeque<(Now, i64)>,
}

impl Course {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock, state: Mutex::default(), caught_up: watch::Sender::new(false) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what is known, and tells those who wait if that is the moment.
    fn change(&self, change: impl FnOnce(&mut Targets<TopicPartition>)) {
        let fires = {
            let mut state = self.state();
            change(&mut state.targets);
            state.targets.fires()
        };
        if fires {
            tracing::info!("caught up");
            self.caught_up.send_replace(true);
        }
    }

    fn handled(&self, commits: &[Commit]) {
        self.change(|targets| commits.iter().for_each(|c| targets.handled(&c.partition, c.offset)));
        let now = self.clock.now();
        let mut state = self.state();
        let done = state.targets.iter().map(|(_, target)| target.position - target.start).sum();
        state.samples.push_back((now, done));
        while state.samples.len() > 2 && now.since(state.samples[0].0) > RATE_WINDOW {
            state.samples.pop_front();
        }
    }

    pub(crate) fn caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.subscribe()
    }

    pub(crate) fn is_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// Offsets to go until it is caught up.
    pub(crate) fn remaining(&self) -> u64 {
        self.state().targets.iter().map(|(_, target)| target.remaining()).sum()
    }

    /// What is known, and the offsets a second of the last ten seconds.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Targets<TopicPartition>, Option<f64>) -> T) -> T {
        let state = self.state();
        let rate = match (state.samples.front(), state.samples.back()) {
            (Some((from, less)), Some((to, more))) if to > from => {
                Some((more - less).max(0) as f64 / to.since(*from).as_secs_f64())
            }
            _ => None,
        };
        look(&state.targets, rate)
    }
}

/// The one member.
pub(crate) struct Groupless {
    events: Mutex<BoxStream<'static, MembershipEvent>>,
    course: Arc<Course>,
}

impl Groupless {
    /// Reads these topics from where `start` says; not [`Start::Nowhere`].
    pub(crate) fn new(admin: Arc<dyn Admin>, topics: Vec<String>, start: Start, course: Arc<Course>) -> Self {
        let finder = Finder {
            admin,
            topics,
            start,
            course: course.clone(),
            given: BTreeSet::new(),
            told: VecDeque::new(),
            wait: None,
            failed: false,
        };
        Self { events: Mutex::new(stream::unfold(finder, Finder::next).boxed()), course }
    }
}

impl Membership for Groupless {
    fn poll_event(&self, cx: &mut Context<'_>) -> Poll<MembershipEvent> {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        match events.poll_next_unpin(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(event),
            // After a fatal event there is nothing more to tell.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    fn release(&self) {}

    fn commit(&self, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>> {
        self.course.handled(&commits);
        let kept = |commit: Commit| CommitOutcome { partition: commit.partition, result: Ok(()) };
        future::ready(Ok(commits.into_iter().map(kept).collect())).boxed()
    }

    /// Where reading begins, as it was captured, or goes on after a stop; after the log was cut off, too: what is gone is
    /// told as a gap.
    fn committed(&self, partitions: Vec<TopicPartition>) -> PortFuture<Vec<Committed>> {
        let found = self.course.read(|targets, _| {
            let committed = partitions.into_iter().map(|partition| Committed {
                offset: targets.get(&partition).map(|target| target.position),
                partition,
                leader_epoch: None,
                metadata: String::new(),
            });
            committed.collect()
        });
        future::ready(Ok(found)).boxed()
    }

    fn protocol(&self) -> GroupProtocol {
        GroupProtocol::Incremental
    }

    /// It is no group's member.
    fn group_metadata(&self) -> Option<GroupMetadata> {
        None
    }

    fn close(&self) -> PortFuture<()> {
        future::ready(Ok(())).boxed()
    }
}

/// Looks for partitions and their ends, again and again.
struct Finder {
    admin: Arc<dyn Admin>,
    topics: Vec<String>,
    start: Start,
    course: Arc<Course>,
    /// The partitions that were told of.
    given: BTreeSet<TopicPartition>,
    told: VecDeque<MembershipEvent>,
    /// How long until the next look; none before the first.
    wait: Option<Duration>,
    /// What cannot be looked for: nothing more is to be told.
    failed: bool,
}

impl Finder {
    async fn next(mut self) -> Option<(MembershipEvent, Self)> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some((event, self));
            }
            if self.failed {
                return None;
            }
            if let Some(wait) = self.wait {
                tokio::time::sleep(wait).await;
            }
            let first = self.wait.is_none() || !self.course.read(|targets, _| targets.iter().next().is_some());
            match self.look().await {
                Ok(new) => {
                    let behind = !self.course.is_caught_up();
                    self.wait = Some(if behind { SOON } else { LATER });
                    self.given.extend(new.iter().cloned());
                    if first || !new.is_empty() {
                        self.told.push_back(MembershipEvent::Assigned(new));
                    }
                    self.told.push_back(MembershipEvent::CoordinatorAnswered { ago: Duration::ZERO });
                }
                Err(error) => {
                    // A topic that is gone may be on its way to be made again; the fetch client says if it is not.
                    let passes = if error.is_unknown_topic() { !first } else { error.may_pass() };
                    if passes {
                        self.wait = Some(SOON);
                        self.told.push_back(MembershipEvent::Trouble(error));
                    } else {
                        self.failed = true;
                        self.told.push_back(MembershipEvent::Fatal(error));
                    }
                }
            }
        }
    }

    /// The partitions that are new, captured; and the ends of those that are not caught up.
    async fn look(&self) -> Result<Vec<TopicPartition>, KafkaError> {
        let mut all = Vec::new();
        for description in self.admin.describe_topics(self.topics.clone()).await? {
            let topic = description?;
            all.extend((0..topic.partitions.len()).map(|n| TopicPartition::new(topic.name.as_str(), n as i32)));
        }
        let (mut new, mut behind) = (Vec::new(), Vec::new());
        self.course.read(|targets, _| {
            let caught_up = targets.is_caught_up();
            new.extend(all.iter().filter(|partition| !self.given.contains(partition)).cloned());
            behind.extend(targets.iter().filter(|(_, t)| !caught_up && !t.is_reached()).map(|(p, _)| p.clone()));
        });
        let ends = |of: &[TopicPartition]| of.iter().map(|p| (p.clone(), OffsetSpec::Latest)).collect();
        let starts: Vec<_> = new.iter().map(|partition| (partition.clone(), self.start)).collect();
        let (starts, new_ends, behind_ends) = future::try_join3(
            places(&*self.admin, &starts),
            self.admin.list_offsets(ends(&new)),
            self.admin.list_offsets(ends(&behind)),
        )
        .await?;
        let captured = new
            .iter()
            .zip(starts.into_iter().zip(new_ends))
            .map(|(partition, (start, end))| Ok((partition.clone(), start?, end?)));
        let captured: Vec<_> = captured.collect::<Result<_, KafkaError>>()?;
        self.course.change(|targets| {
            captured.into_iter().for_each(|(partition, start, end)| targets.capture(partition, start, end));
            // One that cannot be told now is asked again.
            for (partition, end) in behind.iter().zip(behind_ends) {
                if let Ok(end) = end {
                    targets.ends(partition, end);
                }
            }
            targets.all_captured();
        });
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends come from several shards at once, and again after a hand-over: partitions are a set, and are not counted.
    #[test]
    fn partitions_that_end_at_once_or_twice_are_not_told_early_nor_twice() {
        const PARTITIONS: i32 = 64;
        const SHARDS: i32 = 4;
        let partition = |n: i32| TopicPartition::new("t", n);
        let at = |n: i32, offset: i64| {
            vec![Commit { partition: partition(n), offset, leader_epoch: None, metadata: String::new() }]
        };
        for round in 0..1_000 {
            let course = Course::new(Clock::start(None));
            let told = course.caught_up();
            course.change(|targets| {
                (0..PARTITIONS).for_each(|n| targets.capture(partition(n), 0, 10));
                targets.all_captured();
            });
            let late = round % PARTITIONS;
            std::thread::scope(|scope| {
                for shard in 0..SHARDS {
                    let course = &course;
                    scope.spawn(move || {
                        let of_it = (0..PARTITIONS).filter(|n| n % SHARDS == shard && *n != late);
                        for n in of_it {
                            course.handled(&at(n, 10));
                            course.handled(&at(n, 12));
                        }
                    });
                }
            });
            assert!(!*told.borrow(), "partition {late} is not at its end");
            course.handled(&at(late, 9));
            assert!(!told.has_changed().unwrap());
            course.handled(&at(late, 10));
            assert!(*told.borrow());
            let mut once = course.caught_up();
            course.handled(&at(late, 11));
            assert!(!once.has_changed().unwrap() && *once.borrow_and_update(), "told once");
        }
    }
}
