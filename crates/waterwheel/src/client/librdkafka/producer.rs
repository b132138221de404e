//! Records out, answers back, with neither an allocation nor a copy of its value a record.
//!
//! Who sends puts a parcel in ([`super::parcels`]) and hands over what there is room for ([`super::enqueue`]). One thread,
//! `waterwheel-producer`, takes the delivery reports, answers the parcels that they complete, and hands over more.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as sys;
use tokio::sync::Notify;

use super::enqueue::{Enqueue, Partitioner, Target};
use super::errors;
use super::handle::{Event, Handle, Queue, lock};
use super::message::Raw;
use super::parcels::{Answer, Parcels, Ticket};
use super::properties::Role;
use super::siblings::Setup;
use crate::client::{Parcel, PortFuture, Producer, Pull, Purge, SendError, Source, Written};
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
    /// What the thread is to take parcels from; `None` once it has ended.
    sources: Mutex<Option<Vec<Arc<dyn Source>>>>,
    unanswered: AtomicUsize,
    /// Answers that are being told.
    telling: AtomicUsize,
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
    pub(super) fn new(properties: &Setup) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Produce, properties, sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR)?;
        let client = Arc::new(Client { queue: Queue::main(&handle)?, handle: handle.clone() });
        let shared = Arc::new(Shared {
            desk: Mutex::new(Desk::new(handle.clone())),
            stop: AtomicBool::new(false),
            sources: Mutex::new(Some(Vec::new())),
            unanswered: AtomicUsize::new(0),
            telling: AtomicUsize::new(0),
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
        let error = errors::error(code::LOCAL_PURGE_QUEUE, "given up");
        let why = SendError { error, possibly_written: false, fatal: false };
        let mut answers = Vec::new();
        lock(&self.shared.desk).parcels.give_up(&why, &mut answers);
        self.shared.tell(answers);
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
        self.send_in_place(|| Some(parcel));
    }

    fn pull(&self, source: &Arc<dyn Source>, when: Pull) {
        if when == Pull::Soon
            && let Some(sources) = &mut *lock(&self.shared.sources)
        {
            sources.push(source.clone());
        } else {
            return self.send_in_place(|| source.take());
        }
        self.interrupt();
    }

    fn hurry(&self, within: Duration) {
        let Some(client) = lock(&self.client).clone() else { return };
        let shared = self.shared.clone();
        let hurry = move || client.hurry(&shared, within);
        if let Err(error) = std::thread::Builder::new().name("waterwheel-flush".into()).spawn(hurry) {
            tracing::warn!(%error, "no thread to flush on; batches wait for as long as they linger");
        }
    }

    fn purge(&self, what: Purge) {
        let Some(client) = lock(&self.client).clone() else { return };
        self.fail_waiting();
        client.purge(what);
    }

    fn unanswered(&self) -> usize {
        self.shared.unanswered.load(Ordering::Relaxed)
    }

    fn answered(&self) -> PortFuture<()> {
        let shared = self.shared.clone();
        Box::pin(async move {
            loop {
                let told = shared.answered.notified();
                if shared.unanswered.load(Ordering::Acquire) == 0 && shared.telling.load(Ordering::Acquire) == 0 {
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

impl Sender {
    /// Sends a parcel that is taken with the desk locked, so that what is taken first goes first.
    fn send_in_place(&self, parcel: impl FnOnce() -> Option<Parcel>) {
        let mut answers = Vec::new();
        let mut desk = lock(&self.shared.desk);
        let first = desk.topics.is_empty();
        self.shared.take_in(&mut desk, parcel());
        for _ in 0..RUNS_IN_PLACE {
            desk.hand_over(&mut answers);
        }
        let more = desk.has_work() || (first && !desk.topics.is_empty());
        drop(desk);
        self.shared.tell(answers);
        if more {
            self.interrupt();
        }
    }

    /// Has the thread look for what there is to do.
    fn interrupt(&self) {
        if let Some(client) = &*lock(&self.client) {
            client.queue.interrupt();
        }
    }
}

impl Shared {
    fn take_in(&self, desk: &mut Desk, parcel: Option<Parcel>) {
        if let Some(parcel) = parcel {
            // Counted before they can be answered.
            self.unanswered.fetch_add(parcel.records().len(), Ordering::Relaxed);
            desk.parcels.take_in(parcel);
        }
    }

    /// Takes in what sources have; whether there were any.
    fn take_from_sources(&self, desk: &mut Desk, ends: bool) {
        let mut sources = lock(&self.sources);
        let told = if ends { sources.take() } else { sources.as_mut().map(std::mem::take) };
        drop(sources);
        for source in told.into_iter().flatten() {
            self.take_in(desk, source.take());
        }
    }

    fn tell(&self, answers: Vec<Answer>) {
        if answers.is_empty() {
            return;
        }
        if let Some(why) = answers.iter().find_map(Answer::failure) {
            lock(&self.failure).get_or_insert_with(|| why.clone());
        }
        let records = answers.iter().map(Answer::len).sum();
        self.telling.fetch_add(1, Ordering::Relaxed);
        self.unanswered.fetch_sub(records, Ordering::Release);
        answers.into_iter().for_each(Answer::tell);
        let others = self.telling.fetch_sub(1, Ordering::AcqRel) - 1;
        if others == 0 && self.unanswered.load(Ordering::Acquire) == 0 {
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
    fn hand_over(&mut self, answers: &mut Vec<Answer>) {
        if !self.has_work() {
            return;
        }
        let Some(handle) = self.handle.clone() else {
            let error = SendError { error: errors::ended(), possibly_written: false, fatal: false };
            self.parcels.give_up(&error, answers);
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
                        let error = SendError { error: error.clone(), possibly_written: false, fatal: false };
                        self.parcels.failed(ticket, error, answers);
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
    fn handed_over(&mut self, run: &[Ticket], topic: &str, answers: &mut Vec<Answer>) {
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
            let fatal = (code == code::LOCAL_FATAL).then(|| self.handle.as_ref()?.fatal()).flatten();
            let error = SendError {
                fatal: fatal.is_some(),
                error: fatal.unwrap_or_else(|| errors::error(code, topic)),
                possibly_written: false,
            };
            self.parcels.failed(ticket, error, answers);
        }
    }

    /// Notes what was said of records. librdkafka has freed their room by now; whoever hears of one finds room.
    fn note(&mut self, told: &mut Told, answers: &mut Vec<Answer>) {
        if told.records == 0 {
            return;
        }
        self.inside -= std::mem::take(&mut told.records);
        self.full = false;
        for (parcel, count) in told.acknowledged.drain(..) {
            self.parcels.acknowledged(parcel, count, answers);
        }
        for (parcel, written) in told.written.drain(..) {
            self.parcels.written(parcel, written, answers);
        }
        for (ticket, error) in told.failed.drain(..) {
            self.parcels.failed(ticket, error, answers);
        }
    }
}

/// What delivery reports said.
#[derive(Default)]
struct Told {
    records: usize,
    /// Records of one parcel in a row that do not ask where they were written: the parcel, how many.
    acknowledged: Vec<(u32, u32)>,
    /// Records of one parcel in a row that do, by their places.
    written: Vec<(u32, Vec<(u32, Written)>)>,
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
            shared.take_from_sources(&mut desk, false);
            desk.hand_over(&mut answers);
            let more = desk.has_work();
            let has_topic = !desk.topics.is_empty();
            drop(desk);
            shared.tell(answers);
            let stopped = shared.stop.load(Ordering::Acquire);
            if has_topic && questions > 0 && !stopped {
                questions = if self.hasten() { 0 } else { questions - 1 };
            }
            if let Some(event) = self.queue.poll(if more { 0 } else { 100 }) {
                self.take(event, &mut told);
            } else if stopped && !more {
                if !purged {
                    purged = true;
                    // What was not sent and what is under way fails now.
                    self.purge(Purge::All);
                // SAFETY: the instance is live.
                } else if unsafe { sys::rd_kafka_outq_len(self.handle.as_ptr()) } == 0 {
                    break;
                }
            }
        }
        let mut answers = Vec::new();
        let mut desk = lock(&shared.desk);
        // What comes later is refused by whoever brings it.
        shared.take_from_sources(&mut desk, true);
        desk.hand_over(&mut answers);
        // Topics go before the instance does.
        desk.topics.clear();
        drop(desk);
        shared.tell(answers);
    }

    /// Has librdkafka send without lingering, on a thread that may block. librdkafka does so while a flush is under way.
    fn hurry(&self, shared: &Shared, within: Duration) {
        let end = tokio::time::Instant::now() + within;
        while shared.unanswered.load(Ordering::Acquire) > 0 && !shared.stop.load(Ordering::Acquire) {
            let left = end.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return;
            }
            // SAFETY: the instance is live. What is reported goes to the queue that the other thread polls.
            unsafe { sys::rd_kafka_flush(self.handle.as_ptr(), left.min(SLICE).as_millis().max(1) as i32) };
            // librdkafka may have nothing left while the last reports are still being told.
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    fn purge(&self, what: Purge) {
        let flags = match what {
            Purge::Unsent => sys::RD_KAFKA_PURGE_F_QUEUE,
            Purge::All => sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT,
        };
        // SAFETY: the instance is live.
        unsafe { sys::rd_kafka_purge(self.handle.as_ptr(), flags | sys::RD_KAFKA_PURGE_F_NON_BLOCKING) };
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
                unsafe { told.add(message, &self.handle) };
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

/// How long a flush that hurries sleeps at most before it looks whether the producer is stopped.
const SLICE: Duration = Duration::from_millis(100);

/// How often a new producer asks for metadata, each time for at most 100 ms.
const QUESTIONS: u32 = 10;

impl Told {
    /// # Safety
    /// `message` is a live message of a delivery report.
    unsafe fn add(&mut self, message: *const sys::rd_kafka_message_t, handle: &Handle) {
        // SAFETY: live, and of the same layout.
        let raw = unsafe { &*message.cast::<Raw>() };
        let ticket = Ticket::from_bits(raw.private as usize as u64);
        self.records += 1;
        if raw.err == 0 && ticket.asks {
            // SAFETY: the message is live.
            let timestamp = unsafe { sys::rd_kafka_message_timestamp(message, std::ptr::null_mut()) };
            let known = |number: i64| (number >= 0).then_some(number);
            let at = Written { partition: raw.partition, offset: known(raw.offset), timestamp: known(timestamp) };
            match self.written.last_mut().filter(|(parcel, _)| *parcel == ticket.parcel) {
                Some((_, written)) => written.push((ticket.place, at)),
                None => self.written.push((ticket.parcel, vec![(ticket.place, at)])),
            }
        } else if raw.err == 0 {
            match self.acknowledged.last_mut().filter(|(parcel, _)| *parcel == ticket.parcel) {
                Some((_, count)) => *count += 1,
                None => self.acknowledged.push((ticket.parcel, 1)),
            }
        } else {
            // SAFETY: the message is live.
            let status = unsafe { sys::rd_kafka_message_status(message) };
            // After a fatal error each record fails, with that one or as purged.
            let fatal = handle.fatal();
            let error = SendError {
                fatal: fatal.is_some(),
                error: fatal.unwrap_or_else(|| errors::error(raw.err, "a record was not acknowledged")),
                possibly_written: status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
            };
            self.failed.push((ticket, error));
        }
    }
}
