//! Records out, answers back, with neither an allocation nor a copy of its value a record.
//!
//! Who sends puts a parcel in ([`super::parcels`]) and hands over what there is room for ([`super::enqueue`]). One thread,
//! `waterwheel-producer`, takes the delivery reports, answers the parcels that they complete, and hands over more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rdkafka::bindings as sys;
use tokio::sync::Notify;

use super::enqueue::{Enqueue, Partitioner, Target};
use super::errors;
use super::handle::{Event, Handle, Queue, lock};
use super::message::Raw;
use super::parcels::{Held, Parcels, Ticket};
use super::properties::Role;
use crate::client::{Parcel, PortFuture, Producer, Properties, SendError};
use crate::error::{KafkaError, code};

// A ticket travels in a pointer.
const _: () = assert!(size_of::<usize>() >= size_of::<u64>());

/// A producer.
pub(super) struct Sender {
    /// `None` once closed.
    client: Mutex<Option<Arc<Client>>>,
    shared: Arc<Shared>,
}

/// What the thread serves.
struct Client {
    queue: Queue,
    handle: Arc<Handle>,
}

/// Kept by the instance until it has ended: librdkafka reads the values of the records in it.
struct Shared {
    desk: Mutex<Desk>,
    stop: AtomicBool,
    unanswered: AtomicUsize,
    /// Told when nothing is unanswered any more.
    answered: Notify,
    /// For transactions: why the first record failed.
    failure: Mutex<Option<KafkaError>>,
}

struct Desk {
    /// `None` once closed.
    handle: Option<Arc<Handle>>,
    topics: HashMap<Arc<str>, Arc<Target>>,
    parcels: Parcels,
    /// Records that librdkafka has.
    inside: usize,
    /// How many it takes.
    most: usize,
    /// It has no room for the next record, whatever `most` says.
    full: bool,
    partitioner: Partitioner,
    run: Vec<Ticket>,
    enqueue: Enqueue,
}

/// Records handed over at once, and between two looks at what else there is to do: some 200 µs.
const RUN: usize = 1_000;

/// Runs that a sender hands over itself; more is left to the thread, so that no task is held up for long.
const RUNS_IN_PLACE: usize = 2;

impl Sender {
    pub(super) fn new(properties: &Properties) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Produce, properties, sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR)?;
        let client = Arc::new(Client { queue: Queue::main(&handle)?, handle: handle.clone() });
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk::new(handle.clone())),
            stop: AtomicBool::new(false),
            unanswered: AtomicUsize::new(0),
            answered: Notify::new(),
            failure: Mutex::new(None),
        });
        handle.keep(shared.clone());
        let sender = Self { client: Mutex::new(Some(client.clone())), shared: shared.clone() };
        std::thread::Builder::new()
            .name("waterwheel-producer".into())
            .spawn(move || client.serve(&shared))
            .map_err(|e| errors::no_thread(&e))?;
        Ok(sender)
    }

    /// The instance; `None` once closed.
    pub(super) fn handle(&self) -> Option<Arc<Handle>> {
        lock(&self.client).as_ref().map(|client| client.handle.clone())
    }

    /// Whether records wait for room.
    pub(super) fn is_waiting(&self) -> bool {
        lock(&self.shared.desk).parcels.is_waiting()
    }

    /// Fails what waits for room.
    pub(super) fn fail_waiting(&self) {
        let why = SendError { error: errors::error(code::LOCAL_PURGE_QUEUE, ""), possibly_written: false };
        let answers = lock(&self.shared.desk).parcels.give_up(&why);
        self.shared.answer(answers);
    }

    /// Why the first record failed that failed since [`Self::forget_failure`].
    pub(super) fn failure(&self) -> Option<KafkaError> {
        lock(&self.shared.failure).clone()
    }

    pub(super) fn forget_failure(&self) {
        *lock(&self.shared.failure) = None;
    }

    fn stop(&self) -> Option<Arc<Client>> {
        let client = lock(&self.client).take()?;
        lock(&self.shared.desk).handle = None;
        self.shared.stop.store(true, Ordering::Release);
        client.queue.interrupt();
        Some(client)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Producer for Sender {
    fn send(&self, parcel: Parcel) {
        // Counted before they can be answered.
        self.shared.unanswered.fetch_add(parcel.records().len(), Ordering::Relaxed);
        let mut answers = Vec::new();
        let mut desk = lock(&self.shared.desk);
        let first = desk.topics.is_empty();
        desk.parcels.take_in(parcel);
        for _ in 0..RUNS_IN_PLACE {
            desk.hand_over(&mut answers);
        }
        let more = desk.has_work() || (first && !desk.topics.is_empty());
        drop(desk);
        self.shared.answer(answers);
        if more && let Some(client) = &*lock(&self.client) {
            client.queue.interrupt();
        }
    }

    fn unanswered(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }

    fn answered(&self) -> PortFuture<()> {
        let shared = self.shared.clone();
        Box::pin(async move {
            loop {
                let told = shared.answered.notified();
                if shared.unanswered.load(Ordering::Acquire) == 0 {
                    return Ok(());
                }
                told.await;
            }
        })
    }

    fn close(&self) -> PortFuture<()> {
        match self.stop() {
            Some(client) => client.handle.on_end(),
            None => Box::pin(async { Ok(()) }),
        }
    }
}

impl Shared {
    fn answer(&self, answers: Vec<Held>) {
        if answers.is_empty() {
            return;
        }
        if let Some(why) = answers.iter().find_map(Held::failure) {
            lock(&self.failure).get_or_insert_with(|| why.clone());
        }
        let records = answers.iter().map(Held::len).sum();
        let before = self.unanswered.fetch_sub(records, Ordering::Release);
        for held in answers {
            held.answer();
        }
        if before == records {
            self.answered.notify_waiters();
        }
    }
}

impl Desk {
    fn new(handle: Arc<Handle>) -> Self {
        let most = handle.property("queue.buffering.max.messages");
        let most = most.and_then(|most| most.parse().ok()).filter(|&most| most > 0).unwrap_or(usize::MAX);
        let java = handle.property("partitioner").is_some_and(|p| p == "murmur2_random");
        Self {
            handle: Some(handle),
            topics: HashMap::new(),
            parcels: Parcels::default(),
            inside: 0,
            most,
            full: false,
            partitioner: if java { Partitioner::Java } else { Partitioner::Other },
            run: Vec::new(),
            enqueue: Enqueue::default(),
        }
    }

    /// Whether [`Self::hand_over`] would do something.
    fn has_work(&self) -> bool {
        self.parcels.is_waiting() && (self.handle.is_none() || !(self.full || self.inside >= self.most))
    }

    /// Hands over a run, if there is room for a record. Once closed, all that waits fails.
    fn hand_over(&mut self, answers: &mut Vec<Held>) {
        if !self.has_work() {
            return;
        }
        let Some(handle) = self.handle.clone() else {
            let error = SendError { error: errors::ended(), possibly_written: false };
            answers.extend(self.parcels.give_up(&error));
            return;
        };
        let mut run = std::mem::take(&mut self.run);
        let kind = self.parcels.next_run(RUN.min(self.most - self.inside), &mut run);
        let topic = run.first().and_then(|&first| self.parcels.record(first)).map(|record| record.topic.clone());
        if let (Some(kind), Some(topic)) = (kind, topic) {
            match self.target(&handle, &topic) {
                Ok(target) => {
                    // SAFETY: the instance keeps the parcels until it has ended, and they keep a record until it is
                    // reported.
                    unsafe { self.enqueue.run(&target, kind, &run, &self.parcels) };
                    self.handed_over(&run, &topic, answers);
                }
                Err(error) => {
                    self.parcels.handed_over(&run, &mut []);
                    for &ticket in &run {
                        let error = SendError { error: error.clone(), possibly_written: false };
                        answers.extend(self.parcels.failed(ticket, error));
                    }
                }
            }
        }
        self.run = run;
    }

    fn target(&mut self, handle: &Arc<Handle>, topic: &Arc<str>) -> Result<Arc<Target>, KafkaError> {
        if let Some(target) = self.topics.get(topic) {
            return Ok(target.clone());
        }
        let target = Arc::new(Target::new(handle, topic, self.partitioner)?);
        self.topics.insert(topic.clone(), target.clone());
        Ok(target)
    }

    /// Sorts out what librdkafka did not take.
    fn handed_over(&mut self, run: &[Ticket], topic: &str, answers: &mut Vec<Held>) {
        let Enqueue { refused, failed, .. } = &mut self.enqueue;
        self.inside += run.len() - refused.len() - failed.len();
        self.full = !refused.is_empty();
        if self.full && self.inside == 0 {
            // It would not fit an empty queue either.
            self.full = false;
            failed.push((run[refused.remove(0) as usize], code::LOCAL_QUEUE_FULL));
        }
        self.parcels.handed_over(run, refused);
        for (ticket, code) in failed.drain(..) {
            let error = SendError { error: errors::error(code, topic), possibly_written: false };
            answers.extend(self.parcels.failed(ticket, error));
        }
    }

    /// Notes what was said of records. librdkafka has freed their room by now; whoever hears of one finds room.
    fn note(&mut self, told: &mut Told, answers: &mut Vec<Held>) {
        if told.records == 0 {
            return;
        }
        self.inside -= std::mem::take(&mut told.records);
        self.full = false;
        let acknowledged = told.acknowledged.drain(..);
        answers.extend(acknowledged.filter_map(|(parcel, count, at)| self.parcels.acknowledged(parcel, count, at)));
        answers.extend(told.failed.drain(..).filter_map(|(ticket, error)| self.parcels.failed(ticket, error)));
    }
}

/// What delivery reports said.
#[derive(Default)]
struct Told {
    records: usize,
    /// Records of one parcel in a row: the parcel, how many, where the last one was written.
    acknowledged: Vec<(u32, u32, (i32, i64))>,
    failed: Vec<(Ticket, SendError)>,
}

impl Client {
    /// The thread: takes reports until the producer is stopped and everything is reported.
    fn serve(&self, shared: &Shared) {
        let mut told = Told::default();
        let mut purged = false;
        let mut questions =
            if self.handle.property("enable.idempotence").is_some_and(|p| p == "true") { QUESTIONS } else { 0 };
        loop {
            let mut answers = Vec::new();
            let mut desk = lock(&shared.desk);
            desk.note(&mut told, &mut answers);
            desk.hand_over(&mut answers);
            let more = desk.has_work();
            let has_topic = !desk.topics.is_empty();
            drop(desk);
            shared.answer(answers);
            let stopped = shared.stop.load(Ordering::Acquire);
            if has_topic && questions > 0 && !stopped {
                questions = if self.hasten() { 0 } else { questions - 1 };
            }
            if let Some(event) = self.queue.poll(if more { 0 } else { 100 }) {
                self.take(event, &mut told);
            } else if stopped && !more {
                if !purged {
                    purged = true;
                    // SAFETY: the instance is live. What was not sent and what is under way fails now.
                    unsafe {
                        sys::rd_kafka_purge(
                            self.handle.as_ptr(),
                            sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT,
                        );
                    }
                // SAFETY: the instance is live.
                } else if unsafe { sys::rd_kafka_outq_len(self.handle.as_ptr()) } == 0 {
                    break;
                }
            }
        }
        // Topics go before the instance does.
        lock(&shared.desk).topics.clear();
    }

    /// Has librdkafka get the producer id that idempotence needs, without which nothing is sent; whether it has now. It
    /// does so when metadata comes from a broker that it stays connected to, and else by a timer of 500 ms, which a new
    /// producer's first record would wait for: with this question it waits for some 60 ms.
    fn hasten(&self) -> bool {
        let mut metadata = std::ptr::null();
        let (known_topics, no_other) = (0, std::ptr::null_mut());
        // SAFETY: the instance is live.
        let code = unsafe {
            errors::raw::rd_kafka_metadata(self.handle.as_ptr(), known_topics, no_other, &raw mut metadata, 100)
        };
        if code != 0 {
            return false;
        }
        // SAFETY: the call succeeded, so the metadata is there and ours.
        let by = unsafe {
            let by = (*metadata).orig_broker_id;
            sys::rd_kafka_metadata_destroy(metadata);
            by
        };
        // A bootstrap broker, which has no id, is left as soon as the brokers are known.
        by >= 0
    }

    fn take(&self, event: Event, told: &mut Told) {
        match event.kind() {
            sys::RD_KAFKA_EVENT_DR => loop {
                // SAFETY: the event is live; its messages are read before it is dropped.
                let message = unsafe { sys::rd_kafka_event_message_next(event.as_ptr()) };
                if message.is_null() {
                    break;
                }
                // SAFETY: not null, live as long as the event.
                unsafe { told.add(message) };
            },
            sys::RD_KAFKA_EVENT_ERROR => {
                // What concerns records comes with their reports; after a fatal error every record fails with it.
                let error = event.error(&self.handle);
                if event.is_fatal() {
                    tracing::warn!(%error, "the producer ended");
                } else {
                    tracing::debug!(%error, "producer");
                }
            }
            _ => {}
        }
    }
}

/// How often a new producer asks for metadata, each time for at most 100 ms.
const QUESTIONS: u32 = 10;

impl Told {
    /// # Safety
    /// `message` is a live message of a delivery report.
    unsafe fn add(&mut self, message: *const sys::rd_kafka_message_t) {
        // SAFETY: live, and of the same layout.
        let raw = unsafe { &*message.cast::<Raw>() };
        let ticket = Ticket::from_bits(raw.private as usize as u64);
        self.records += 1;
        if raw.err == 0 {
            let at = (raw.partition, raw.offset);
            match self.acknowledged.last_mut().filter(|(parcel, ..)| *parcel == ticket.parcel) {
                Some((_, count, last)) => (*count, *last) = (*count + 1, at),
                None => self.acknowledged.push((ticket.parcel, 1, at)),
            }
        } else {
            // SAFETY: the message is live.
            let status = unsafe { sys::rd_kafka_message_status(message) };
            let error = SendError {
                error: errors::error(raw.err, "a record was not acknowledged"),
                possibly_written: status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
            };
            self.failed.push((ticket, error));
        }
    }
}
