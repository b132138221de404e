//! What is seen of a running demo: gathered from the members' handles, drawn on a screen or told in lines.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use waterwheel::{Counts, Event, HoldReason, TopicPartition, WorkerHandle};

use super::plan::PARTITIONS;
use super::produce::Produced;

/// Events kept for the screen.
const EVENTS: usize = 200;
/// Rates are those of this time.
const RATE_OVER: Duration = Duration::from_secs(2);
/// A member that does not answer by then is shown as it was.
const ANSWER: Duration = Duration::from_millis(300);

/// One moment of a demo.
#[derive(Clone, Default)]
pub(super) struct View {
    pub(super) elapsed: Duration,
    pub(super) produced: u64,
    pub(super) produced_rate: f64,
    pub(super) finished: u64,
    pub(super) finished_rate: f64,
    /// Finished a second, oldest first.
    pub(super) history: Vec<u64>,
    /// Records that run, wait for their key, for their next attempt, or for their dead letter's acknowledgement.
    pub(super) in_work: usize,
    pub(super) retries: u64,
    pub(super) dead_letters: u64,
    pub(super) lag: i64,
    pub(super) partitions: Vec<PartitionRow>,
    pub(super) events: Vec<Told>,
}

/// A partition and who has it.
#[derive(Clone, Default)]
pub(super) struct PartitionRow {
    pub(super) owner: Option<char>,
    /// Everything below is finished: what the next commit says.
    pub(super) frontier: i64,
    pub(super) end: i64,
    pub(super) finished_above: u64,
    pub(super) running: usize,
    pub(super) waiting: usize,
    pub(super) held: Option<HoldReason>,
}

impl PartitionRow {
    pub(super) fn lag(&self) -> i64 {
        (self.end - self.frontier).max(0)
    }
}

/// An event and when it was.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) at: Duration,
    pub(super) member: char,
    pub(super) text: String,
    pub(super) kind: Kind,
}

/// What an event is about; for its colour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Group,
    Retry,
    DeadLetter,
    Trouble,
}

/// Watches the members, those that have left included.
pub(super) struct Watch {
    begun: Instant,
    produced: Arc<Produced>,
    members: Vec<(char, WorkerHandle)>,
    rows: Vec<PartitionRow>,
    in_work: usize,
    /// When, produced and finished by then; for the rates.
    past: VecDeque<(Duration, u64, u64)>,
    history: Vec<u64>,
    told: Arc<Mutex<VecDeque<Told>>>,
    listeners: JoinSet<()>,
}

impl Watch {
    pub(super) fn new(produced: Arc<Produced>) -> Self {
        Self {
            begun: Instant::now(),
            produced,
            members: Vec::new(),
            rows: vec![PartitionRow::default(); PARTITIONS],
            in_work: 0,
            past: VecDeque::new(),
            history: Vec::new(),
            told: Arc::default(),
            listeners: JoinSet::new(),
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(super) fn member(&mut self, name: char, handle: WorkerHandle) {
        let (mut events, told, begun) = (handle.events(), self.told.clone(), self.begun);
        self.listeners.spawn(async move {
            while let Some(event) = events.next().await {
                if let Some((kind, text)) = words(&event) {
                    note(&told, Told { at: begun.elapsed(), member: name, text, kind });
                }
            }
        });
        self.members.push((name, handle));
    }

    /// Something that no worker tells.
    pub(super) fn tell(&self, member: char, text: impl Into<String>) {
        note(&self.told, Told { at: self.elapsed(), member, text: text.into(), kind: Kind::Group });
    }

    /// All members' counts.
    pub(super) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        for (_, handle) in &self.members {
            let one = handle.counts();
            all.attempts += one.attempts;
            all.succeeded += one.succeeded;
            all.retried += one.retried;
            all.dead_lettered += one.dead_lettered;
            all.skipped += one.skipped;
            all.cut_off += one.cut_off;
            all.commits += one.commits;
            all.commit_failures += one.commit_failures;
        }
        all
    }

    /// Whether everything acknowledged so far is finished, as the last look showed it.
    pub(super) fn is_finished(&self) -> bool {
        self.rows.iter().all(|row| row.owner.is_some() && row.frontier >= row.end)
    }

    /// Looks at everything.
    pub(super) async fn look(&mut self) -> View {
        let mut snapshots = Vec::new();
        for (name, handle) in &self.members {
            if let Ok(Some(snapshot)) = timeout(ANSWER, handle.snapshot()).await {
                snapshots.push((*name, snapshot));
            }
        }
        for (number, row) in self.rows.iter_mut().enumerate() {
            *row = PartitionRow { frontier: row.frontier, end: self.produced.end(number), ..PartitionRow::default() };
        }
        for (name, status) in snapshots.iter().flat_map(|(name, s)| s.partitions.iter().map(move |p| (*name, p))) {
            let number = usize::try_from(status.partition.partition).ok();
            if let Some(row) = number.and_then(|number| self.rows.get_mut(number)) {
                row.owner = Some(name);
                row.frontier = status.frontier.max(row.frontier);
                row.finished_above = status.finished_above;
                row.running = status.running;
                row.waiting = status.waiting;
                row.held = status.held;
            }
        }
        let waiting: usize = self.rows.iter().map(|row| row.waiting).sum();
        self.in_work = waiting + snapshots.iter().map(|(_, snapshot)| snapshot.in_work.len()).sum::<usize>();
        self.view()
    }

    fn view(&mut self) -> View {
        let (elapsed, counts) = (self.elapsed(), self.counts());
        let (produced, finished) =
            (self.produced.acknowledged(), counts.succeeded + counts.dead_lettered + counts.skipped);
        while self.past.front().is_some_and(|(at, ..)| elapsed.saturating_sub(*at) > RATE_OVER) {
            self.past.pop_front();
        }
        let (since, produced_then, finished_then) = self.past.front().copied().unwrap_or_default();
        let seconds = elapsed.saturating_sub(since).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| (now.saturating_sub(then)) as f64 / seconds;
        self.past.push_back((elapsed, produced, finished));
        let finished_rate = rate(finished, finished_then);
        self.history.resize(elapsed.as_secs() as usize + 1, finished_rate as u64);
        View {
            elapsed,
            produced,
            produced_rate: rate(produced, produced_then),
            finished,
            finished_rate,
            history: self.history.clone(),
            in_work: self.in_work,
            retries: counts.retried,
            dead_letters: counts.dead_lettered,
            lag: self.rows.iter().map(PartitionRow::lag).sum(),
            partitions: self.rows.clone(),
            events: self.told.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
        }
    }
}

fn note(told: &Mutex<VecDeque<Told>>, event: Told) {
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    if told.len() == EVENTS {
        told.pop_front();
    }
    told.push_back(event);
}

/// An event in words; `None` for those that are not worth a line.
fn words(event: &Event) -> Option<(Kind, String)> {
    Some(match event {
        // A rebalance that gave this member nothing.
        Event::Assigned { partitions } if partitions.is_empty() => return None,
        Event::Assigned { partitions } => (Kind::Group, format!("gets {}", list(partitions))),
        Event::Revoking { partitions, .. } => (Kind::Group, format!("drains {}", list(partitions))),
        Event::Revoked { partitions } => (Kind::Group, format!("gave back {}", list(partitions))),
        Event::Lost { partitions } => (Kind::Trouble, format!("lost {}", list(partitions))),
        Event::Retrying { partition, offset, attempts, after, .. } => {
            let (partition, after) = (partition.partition, after.as_millis());
            (Kind::Retry, format!("{partition}@{offset} failed, attempt {attempts}; again in {after} ms"))
        }
        Event::DeadLettered { partition, offset, class } => {
            (Kind::DeadLetter, format!("{}@{offset} to the dead letters ({class})", partition.partition))
        }
        Event::DeadLetterFailed { partition, offset, .. } => {
            (Kind::Trouble, format!("{}@{offset}: dead letter not written", partition.partition))
        }
        Event::CutOff { partition, attempts } => {
            (Kind::Trouble, format!("cut off {attempts} attempts of {}", partition.partition))
        }
        Event::Uncommitted { partitions } => {
            (Kind::Trouble, format!("{} partitions were given back without their last commit", partitions.len()))
        }
        Event::Gap { partition, to, .. } => (Kind::Trouble, format!("gap: {} goes on at {to}", partition.partition)),
        Event::CommitFailed { error } => (Kind::Trouble, format!("commit failed: {error}")),
        Event::Trouble { error } => (Kind::Trouble, error.to_string()),
        Event::MapRefused { reason, .. } => (Kind::Trouble, format!("commit map refused: {reason}")),
        Event::Missed { events } => (Kind::Trouble, format!("{events} events were not shown")),
        _ => return None,
    })
}

fn list(partitions: &[TopicPartition]) -> String {
    let mut numbers: Vec<i32> = partitions.iter().map(|p| p.partition).collect();
    numbers.sort_unstable();
    let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
    match numbers.len() {
        0 => "no partition".to_owned(),
        1 => format!("partition {}", numbers[0]),
        _ => format!("partitions {}", numbers.join(" ")),
    }
}
