//! Records out, answers back.
//!
//! A producer's records go out one after the other: one that has to wait (for its topic, or after a failure that may pass)
//! holds up those behind it, as the idempotent producer's do within a partition.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::faults::Request;
use super::world::{State, World};
use super::{ended, error};
use crate::client::{
    Answers, Outgoing, Parcel, PortFuture, Producer, Properties, Pull, Purge, SendError, Sent, SentAll, Source, Unsent,
    Written,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// A producer.
pub(super) struct Sender {
    world: Arc<World>,
    number: u64,
}

/// What a producer has not sent yet.
pub(super) struct Outbox {
    host: u32,
    waiting: VecDeque<Waiting>,
    unanswered: usize,
    /// A job will go on with it.
    will_go_on: bool,
    next_partition: i32,
    most_bytes: usize,
    /// How long a record may take, and how long its topic may be missing.
    patience: Duration,
    topic_patience: Duration,
}

/// A parcel that has not been answered.
struct Waiting {
    records: Vec<Outgoing>,
    since: Instant,
    /// The first that was not sent.
    next: usize,
    failed: Vec<(usize, SendError)>,
    written: Vec<(u32, Written)>,
    answer: Answer,
}

enum Answer {
    One(oneshot::Sender<Sent>),
    Many(oneshot::Sender<SentAll>),
    Each(Arc<dyn Answers>),
}

/// What became of a record.
enum Fate {
    Written(Written),
    Failed(SendError),
    Waits,
}

/// How long after a failure that may pass a record is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Sender {
    pub(super) fn new(world: Arc<World>, host: u32, properties: &Properties) -> Self {
        let millis = |names: &[&str], default: u64| {
            let set = names.iter().find_map(|name| properties.get(*name)?.parse().ok());
            Duration::from_millis(set.unwrap_or(default))
        };
        let outbox = Outbox {
            host,
            waiting: VecDeque::new(),
            unanswered: 0,
            will_go_on: false,
            next_partition: 0,
            most_bytes: properties.get("message.max.bytes").and_then(|v| v.parse().ok()).unwrap_or(1_000_000),
            patience: millis(&["delivery.timeout.ms", "message.timeout.ms"], 300_000),
            topic_patience: millis(&["topic.metadata.propagation.max.ms"], 30_000),
        };
        let number = world.look(|state| {
            let number = state.number();
            state.outboxes.insert(number, outbox);
            number
        });
        Self { world, number }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    fn end(&self) {
        self.world.change(|state| {
            state.end_transactor(self.number);
            if let Some(outbox) = state.outboxes.remove(&self.number) {
                outbox.waiting.into_iter().for_each(|waiting| waiting.give_up(state, ended()));
            }
        });
    }

    fn take_in(&self, state: &mut State, parcel: Option<Parcel>) {
        let Some(parcel) = parcel else { return };
        let (records, answer) = match parcel {
            Parcel::One(record, to) => (vec![record], Answer::One(to)),
            Parcel::Many(records, to) => (records, Answer::Many(to)),
            Parcel::Each(records, to) => (records, Answer::Each(to)),
        };
        let waiting = Waiting { records, since: state.now, next: 0, failed: Vec::new(), written: Vec::new(), answer };
        let Some(outbox) = state.outboxes.get_mut(&self.number) else { return waiting.give_up(state, ended()) };
        let latency = state.faults.latency(outbox.host, Request::Produce);
        outbox.unanswered += waiting.records.len();
        outbox.waiting.push_back(waiting);
        state.go_on(self.number, latency);
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

impl Producer for Sender {
    fn send(&self, parcel: Parcel) {
        self.world.change(|state| self.take_in(state, Some(parcel)));
    }

    /// At once, whichever is asked: nothing is gained by waiting here.
    fn pull(&self, source: &Arc<dyn Source>, _when: Pull) {
        self.world.change(|state| self.take_in(state, source.take()));
    }

    /// Nothing lingers here.
    fn hurry(&self, _within: Duration) {}

    /// Nothing is under way here but what was not sent.
    fn purge(&self, _what: Purge) {
        self.world.change(|state| state.purge(self.number));
    }

    fn unanswered(&self) -> usize {
        self.world.look(|state| state.outboxes.get(&self.number).map_or(0, |outbox| outbox.unanswered))
    }

    fn answered(&self) -> PortFuture<()> {
        let number = self.number;
        self.world.until(move |state| state.outboxes.get(&number).is_none_or(|outbox| outbox.unanswered == 0))
    }

    fn close(&self) -> PortFuture<()> {
        self.end();
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Outbox {
    /// Records that have no answer yet.
    pub(super) fn unanswered(&self) -> usize {
        self.unanswered
    }
}

impl Waiting {
    /// Tells what became of it; of those not sent yet, why not.
    fn give_up(mut self, state: &mut State, error: KafkaError) {
        let why = SendError { error, possibly_written: false, fatal: false };
        self.failed.extend((self.next..self.records.len()).map(|place| (place, why.clone())));
        self.tell(state);
    }

    fn tell(mut self, state: &mut State) {
        // Who has gone is told nothing.
        match self.answer {
            Answer::Many(to) => _ = to.send(SentAll { records: self.records, failed: self.failed }),
            Answer::One(to) => {
                let sent = match (self.failed.pop(), self.records.pop()) {
                    (Some((_, why)), Some(record)) => Err(Box::new(Unsent { record, why })),
                    (None, Some(record)) => self.written.pop().map(|(_, at)| at).ok_or_else(|| {
                        let why = SendError { error: ended(), possibly_written: false, fatal: false };
                        Box::new(Unsent { record, why })
                    }),
                    (_, None) => return,
                };
                _ = to.send(sent);
            }
            Answer::Each(to) => {
                let failed = self.failed.into_iter();
                let unsent = failed.map(|(i, why)| (i as u32, Unsent { record: self.records[i].clone(), why }));
                let (written, failed) = (self.written, unsent.collect());
                state.tell(move || to.told(&written, failed));
            }
        }
    }
}

impl State {
    /// Sends what an outbox holds, after a while.
    fn go_on(&mut self, number: u64, after: Duration) {
        if after.is_zero() {
            return self.send_out(number);
        }
        let Some(outbox) = self.outboxes.get_mut(&number).filter(|outbox| !outbox.will_go_on) else { return };
        outbox.will_go_on = true;
        self.later(after, move |state| {
            if let Some(outbox) = state.outboxes.get_mut(&number) {
                outbox.will_go_on = false;
            }
            state.send_out(number);
        });
    }

    fn send_out(&mut self, number: u64) {
        // Taken out for as long, so that the logs can be changed.
        let Some(mut outbox) = self.outboxes.remove(&number) else { return };
        let mut waits = outbox.will_go_on;
        while !waits && let Some(mut parcel) = outbox.waiting.pop_front() {
            while !waits && parcel.next < parcel.records.len() {
                match self.write(number, &mut outbox, &parcel.records[parcel.next], parcel.since) {
                    Fate::Written(at) => parcel.written.push((parcel.next as u32, at)),
                    Fate::Failed(why) => {
                        self.fails(number, &why.error);
                        parcel.failed.push((parcel.next, why));
                    }
                    Fate::Waits => {
                        waits = true;
                        continue;
                    }
                }
                parcel.next += 1;
            }
            if waits {
                outbox.waiting.push_front(parcel);
            } else {
                outbox.unanswered -= parcel.records.len();
                parcel.tell(self);
            }
        }
        self.outboxes.insert(number, outbox);
        if waits {
            self.go_on(number, AGAIN_AFTER);
        } else {
            // A commit may have waited for them.
            self.make_calls(number);
        }
    }

    /// Fails what an outbox has not sent.
    pub(super) fn purge(&mut self, number: u64) {
        let Some(outbox) = self.outboxes.get_mut(&number) else { return };
        outbox.unanswered = 0;
        for waiting in std::mem::take(&mut outbox.waiting) {
            waiting.give_up(self, error(code::LOCAL_PURGE_QUEUE, "given up"));
        }
    }

    fn write(&mut self, number: u64, outbox: &mut Outbox, record: &Outgoing, since: Instant) -> Fate {
        let now = self.now;
        let failed = |code: i32, possibly_written: bool| {
            Fate::Failed(SendError { error: error(code, &*record.topic), possibly_written, fatal: false })
        };
        let size = record.key.as_ref().map_or(0, |k| k.len()) + record.value.as_ref().map_or(0, |v| v.len());
        if size > outbox.most_bytes {
            return failed(code::MESSAGE_TOO_LARGE, false);
        }
        let is_late = now - since >= outbox.patience;
        if !self.faults.reaches_brokers(outbox.host) {
            return if is_late { failed(code::LOCAL_MSG_TIMED_OUT, false) } else { Fate::Waits };
        }
        let Some(topic) = self.topics.get(&record.topic) else {
            let gone = now - since >= outbox.topic_patience;
            return match (gone, is_late) {
                (true, _) => failed(code::LOCAL_UNKNOWN_TOPIC, false),
                (_, true) => failed(code::LOCAL_MSG_TIMED_OUT, false),
                _ => Fate::Waits,
            };
        };
        let partitions = i32::try_from(topic.logs.len()).unwrap_or(i32::MAX);
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => i32::try_from(murmur2(key) & 0x7fff_ffff).unwrap_or_default() % partitions,
            (None, None) => {
                outbox.next_partition = (outbox.next_partition + 1) % partitions;
                outbox.next_partition
            }
        };
        if !(0..partitions).contains(&partition) {
            return failed(code::LOCAL_UNKNOWN_PARTITION, false);
        }
        if let Some(code) = self.faults.meet(outbox.host, Request::Produce, now) {
            return match error(code, "").is_retriable() {
                true if is_late => failed(code::LOCAL_MSG_TIMED_OUT, true),
                true => Fate::Waits,
                false => failed(code, false),
            };
        }
        let (wall, at) = (self.wall_ms, TopicPartition::new(record.topic.clone(), partition));
        let transaction = match self.transaction_of(number) {
            Ok(transaction) => transaction,
            Err(code) => return failed(code, false),
        };
        match self.log_mut(&at) {
            Some(log) => {
                let offset = Some(log.append(record, wall, transaction));
                Fate::Written(Written { partition, offset, timestamp: Some(record.timestamp.unwrap_or(wall)) })
            }
            None => failed(code::LOCAL_UNKNOWN_PARTITION, false),
        }
    }
}

/// `org.apache.kafka.common.utils.Utils.murmur2`, by which Kafka's Java client chooses a key's partition.
pub(in crate::client) fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    for (i, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ h >> 15
}
