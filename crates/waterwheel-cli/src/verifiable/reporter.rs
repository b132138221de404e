//! What the consumer tells, in the order that the protocol demands: records before the commit, the hand-over or the
//! assignment that follows them; records and commits only of partitions that are this member's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::Notify;
use waterwheel::{KafkaError, Record, TopicPartition, Witness};

use super::lines::{Lines, Nothing, text};

/// Records told at once at most: what a poll of Java's consumer returns.
const AT_ONCE: u64 = 500;

/// What is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Each record, beside the summaries.
    pub(super) records: bool,
    pub(super) commits: bool,
    /// Each assignment comes after a revocation, if one of nothing: Java's consumer tells it so where assignors are eager.
    pub(super) revocations: bool,
    /// Records after which no more are taken.
    pub(super) most: Option<u64>,
}

/// Tells what a worker does on stdout.
pub(super) struct Reporter {
    wanted: Wanted,
    state: Mutex<State>,
    /// Notified when there is no more to take: the most was reached, or stdout is gone.
    pub(super) done: Notify,
}

#[derive(Default)]
struct State {
    lines: Lines,
    /// The partitions of this member, and the next offset of each that is being read.
    held: BTreeMap<TopicPartition, Option<i64>>,
    /// Whether the last that was told of the group is an assignment.
    joined: bool,
    /// Partitions of which records were told since something was last revoked. Kafka's harness forgets all positions at a
    /// revocation, and takes no commit of a partition whose position it does not know.
    placed: BTreeSet<TopicPartition>,
    taken: u64,
    count: u64,
    batch: BTreeMap<TopicPartition, Span>,
    answers: Vec<Answer>,
}

#[derive(Clone, Copy)]
struct Span {
    count: u64,
    min: i64,
    max: i64,
}

struct Answer {
    partition: TopicPartition,
    offset: i64,
    error: Option<String>,
}

impl Reporter {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, state: Mutex::default(), done: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Before anything else.
    pub(super) fn begin(&self) {
        let mut state = self.state();
        state.lines.add("startup_complete", Nothing {});
        self.write(&mut state);
    }

    /// Takes a record; `false` if it is none of this member's any more, or beyond the last that is wanted.
    pub(super) fn take(&self, record: &Record) -> bool {
        let mut state = self.state();
        let (partition, offset) = (record.topic_partition(), record.offset());
        let Some(Some(next)) = state.held.get(partition).copied() else { return false };
        if offset < next {
            // Told already: a straggler of an earlier assignment.
            return true;
        }
        if self.wanted.most.is_some_and(|most| state.taken >= most) {
            return false;
        }
        state.held.insert(partition.clone(), Some(offset + 1));
        state.taken += 1;
        state.count += 1;
        let span = state.batch.entry(partition.clone()).or_insert(Span { count: 0, min: offset, max: offset });
        span.count += 1;
        span.max = offset;
        if self.wanted.records {
            // A record is none before its partition's assignment.
            state.rejoin();
            let (key, value) = (text(record.key()), text(record.value()));
            let (topic, partition) = (record.topic(), record.partition());
            state.lines.add("record_data", RecordData { key, value, topic, partition, offset });
        }
        let is_last = self.wanted.most == Some(state.taken);
        if is_last || state.count >= AT_ONCE {
            self.tell(&mut state);
        }
        if is_last {
            self.done.notify_one();
        }
        true
    }

    /// Tells what there is; called every few milliseconds.
    pub(super) fn flush(&self) {
        self.tell(&mut self.state());
    }

    /// The worker has ended.
    pub(super) fn end(&self) -> Result<(), io::Error> {
        let mut state = self.state();
        self.tell(&mut state);
        let rest: Vec<TopicPartition> = state.held.keys().cloned().collect();
        state.revoke(&rest);
        state.lines.add("shutdown_complete", Nothing {});
        self.write(&mut state);
        state.lines.broken().map_or(Ok(()), Err)
    }

    fn tell(&self, state: &mut State) {
        state.tell_records();
        state.tell_commits();
        self.write(state);
    }

    fn write(&self, state: &mut State) {
        if !state.lines.write() {
            self.done.notify_one();
        }
    }
}

impl State {
    /// After a revocation the protocol has an assignment before the next records, if one of nothing.
    fn rejoin(&mut self) {
        if !self.joined {
            self.joined = true;
            self.lines.add("partitions_assigned", Partitions { partitions: Vec::new() });
        }
    }

    fn tell_records(&mut self) {
        if self.count == 0 {
            return;
        }
        self.rejoin();
        let count = std::mem::take(&mut self.count);
        let batch = std::mem::take(&mut self.batch);
        let summary = |(partition, span): (&TopicPartition, &Span)| Summary {
            topic: partition.topic.to_string(),
            partition: partition.partition,
            count: span.count,
            min_offset: span.min,
            max_offset: span.max,
        };
        let partitions: Vec<Summary> = batch.iter().map(summary).collect();
        self.lines.add("records_consumed", RecordsConsumed { count, partitions });
        self.placed.extend(batch.into_keys());
    }

    fn tell_commits(&mut self) {
        let mut answers = std::mem::take(&mut self.answers);
        answers.retain(|answer| answer.error.is_some() || matches!(self.held.get(&answer.partition), Some(Some(_))));
        if answers.is_empty() {
            return;
        }
        self.tell_positions(&answers);
        let success = answers.iter().any(|answer| answer.error.is_none());
        let error = answers.iter().find_map(|answer| answer.error.clone());
        let offset = |answer: Answer| CommittedOffset {
            topic: answer.partition.topic.to_string(),
            partition: answer.partition.partition,
            offset: answer.offset,
            error: answer.error,
        };
        let offsets = answers.into_iter().map(offset).collect();
        self.lines.add("offsets_committed", OffsetsCommitted { offsets, error, success });
    }

    /// Tells the positions that are not known, as those of no records.
    fn tell_positions(&mut self, answers: &[Answer]) {
        let mut partitions = Vec::new();
        for Answer { partition, .. } in answers.iter().filter(|answer| answer.error.is_none()) {
            if let Some(Some(next)) = self.held.get(partition).copied()
                && self.placed.insert(partition.clone())
            {
                let (topic, partition) = (partition.topic.to_string(), partition.partition);
                partitions.push(Summary { topic, partition, count: 0, min_offset: next, max_offset: next - 1 });
            }
        }
        if !partitions.is_empty() {
            self.rejoin();
            self.lines.add("records_consumed", RecordsConsumed { count: 0, partitions });
        }
    }

    fn revoke(&mut self, partitions: &[TopicPartition]) {
        let gone: Vec<&TopicPartition> = partitions.iter().filter(|p| self.held.remove(*p).is_some()).collect();
        if !gone.is_empty() {
            self.joined = false;
            self.placed.clear();
            self.lines.add("partitions_revoked", Partitions { partitions: names(gone) });
        }
    }
}

impl Witness for Reporter {
    fn given(&self, partitions: &[TopicPartition]) {
        let mut state = self.state();
        self.tell(&mut state);
        if self.wanted.revocations && state.joined {
            state.placed.clear();
            state.lines.add("partitions_revoked", Partitions { partitions: Vec::new() });
        }
        state.held.extend(partitions.iter().map(|partition| (partition.clone(), None)));
        state.joined = true;
        state.lines.add("partitions_assigned", Partitions { partitions: names(partitions) });
        self.write(&mut state);
    }

    fn assigned(&self, partition: &TopicPartition, _epoch: u64, start: i64) {
        if let Some(next) = self.state().held.get_mut(partition) {
            *next = Some(start);
        }
    }

    fn lost(&self, partition: &TopicPartition, _epoch: u64) {
        if let Some(next) = self.state().held.get_mut(partition) {
            *next = None;
        }
    }

    fn taken(&self, partitions: &[TopicPartition]) {
        let mut state = self.state();
        self.tell(&mut state);
        state.revoke(partitions);
        self.write(&mut state);
    }

    fn committing(&self, _partition: &TopicPartition, _offset: i64) {
        self.flush();
    }

    fn committed(&self, partition: &TopicPartition, offset: i64, answer: Result<(), &KafkaError>) {
        if self.wanted.commits {
            let error = answer.err().map(ToString::to_string);
            self.state().answers.push(Answer { partition: partition.clone(), offset, error });
        }
    }
}

fn names<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<Name<'a>> {
    partitions.into_iter().map(|p| Name { topic: &p.topic, partition: p.partition }).collect()
}

#[derive(Serialize)]
struct Name<'a> {
    topic: &'a str,
    partition: i32,
}

#[derive(Serialize)]
struct Partitions<'a> {
    partitions: Vec<Name<'a>>,
}

#[derive(Serialize)]
struct RecordData<'a> {
    key: Option<std::borrow::Cow<'a, str>>,
    value: Option<std::borrow::Cow<'a, str>>,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct RecordsConsumed {
    count: u64,
    partitions: Vec<Summary>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    topic: String,
    partition: i32,
    count: u64,
    min_offset: i64,
    max_offset: i64,
}

#[derive(Serialize)]
struct OffsetsCommitted {
    offsets: Vec<CommittedOffset>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    success: bool,
}

#[derive(Serialize)]
struct CommittedOffset {
    topic: String,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}
