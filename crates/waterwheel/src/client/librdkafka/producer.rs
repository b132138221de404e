//! Records out, delivery reports back, without an allocation a record.
//!
//! One thread, `waterwheel-producer`, takes delivery reports as arrays and puts them where
//! [`Producer::poll_reports`] finds them. A record's ticket travels through librdkafka as the message's opaque. Runs of
//! records of one topic, without headers and times of their own, go in by one call; the others one by one, because the
//! batch call carries neither.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use rdkafka::bindings as sys;

use super::errors;
use super::handle::{Event, Handle, Queue, Topic, lock};
use super::message::Raw;
use super::properties::Role;
use crate::client::{Outgoing, PortFuture, Producer, Properties, Report, SendError};
use crate::error::{KafkaError, code};

// A ticket travels in a pointer.
const _: () = assert!(size_of::<usize>() >= size_of::<u64>());

/// A producer.
pub(super) struct Sender {
    /// `None` once closed.
    shared: Mutex<Option<Arc<Shared>>>,
    reports: Arc<Reports>,
}

struct Shared {
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
    queue: Queue,
    stop: AtomicBool,
    handle: Arc<Handle>,
}

/// Where the thread puts reports.
#[derive(Default)]
struct Reports {
    waiting: Mutex<Vec<Report>>,
    waker: AtomicWaker,
    /// Records not yet given to the reader.
    outstanding: AtomicUsize,
}

impl Sender {
    pub(super) fn new(properties: &Properties) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Produce, properties, sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR)?;
        let queue = Queue::main(&handle)?;
        let shared = Arc::new(Shared { topics: Mutex::default(), queue, stop: AtomicBool::new(false), handle });
        let reports = Arc::<Reports>::default();
        let (of_thread, to) = (shared.clone(), reports.clone());
        std::thread::Builder::new()
            .name("waterwheel-producer".into())
            .spawn(move || of_thread.report(&to))
            .map_err(|e| errors::no_thread(&e))?;
        Ok(Self { shared: Mutex::new(Some(shared)), reports })
    }

    fn stop(&self) -> Option<Arc<Shared>> {
        let shared = lock(&self.shared).take()?;
        shared.stop.store(true, Ordering::Release);
        shared.queue.interrupt();
        Some(shared)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Producer for Sender {
    fn enqueue(&self, records: &mut Vec<(u64, Outgoing)>) -> Result<(), KafkaError> {
        let shared = lock(&self.shared).clone().ok_or_else(errors::ended)?;
        // Counted before they can be reported.
        let all = records.len();
        self.reports.outstanding.fetch_add(all, Ordering::Relaxed);
        let (left, result) = shared.enqueue(records);
        self.reports.outstanding.fetch_sub(left.count(all), Ordering::Relaxed);
        left.keep(records);
        result
    }

    fn poll_reports(&self, cx: &mut Context<'_>, into: &mut Vec<Report>) -> Poll<()> {
        self.reports.waker.register(cx.waker());
        let mut waiting = lock(&self.reports.waiting);
        if waiting.is_empty() {
            return Poll::Pending;
        }
        self.reports.outstanding.fetch_sub(waiting.len(), Ordering::Relaxed);
        into.append(&mut waiting);
        Poll::Ready(())
    }

    fn queue_len(&self) -> usize {
        self.reports.outstanding.load(Ordering::Relaxed)
    }

    fn close(&self) -> PortFuture<()> {
        match self.stop() {
            Some(shared) => shared.handle.on_end(),
            None => Box::pin(async { Ok(()) }),
        }
    }
}

/// Which records were not taken.
#[derive(Default)]
struct Left {
    /// By their place, ascending: refused among others that were taken.
    some: Vec<usize>,
    /// All from here on.
    from: usize,
}

impl Left {
    fn count(&self, all: usize) -> usize {
        self.some.len() + (all - self.from)
    }

    fn keep(&self, records: &mut Vec<(u64, Outgoing)>) {
        if self.some.is_empty() {
            records.drain(..self.from);
            return;
        }
        let (mut place, mut some) = (0, self.some.iter().peekable());
        records.retain(|_| {
            let left = place >= self.from || some.next_if_eq(&&place).is_some();
            place += 1;
            left
        });
    }
}

/// Records given to the batch call at once.
const RUN: usize = 1_000;

impl Shared {
    fn topic(&self, name: &Arc<str>) -> Result<Arc<Topic>, KafkaError> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(name) {
            return Ok(topic.clone());
        }
        let topic = Arc::new(Topic::new(&self.handle, name)?);
        topics.insert(name.clone(), topic.clone());
        Ok(topic)
    }

    fn enqueue(&self, records: &[(u64, Outgoing)]) -> (Left, Result<(), KafkaError>) {
        let mut left = Left::default();
        while left.from < records.len() {
            let rest = &records[left.from..];
            let first = &rest[0].1;
            let topic = match self.topic(&first.topic) {
                Ok(topic) => topic,
                Err(e) => return (left, Err(e)),
            };
            let run = rest.iter().take(RUN).take_while(|(_, r)| is_plain(r) && r.topic == first.topic).count();
            let refused = if run == 0 {
                self.one(&topic, &rest[0]).err().map(|error| vec![(0, error)]).unwrap_or_default()
            } else {
                self.run(&topic, &rest[..run])
            };
            let step = run.max(1);
            if let Some(&(at, code::LOCAL_QUEUE_FULL)) =
                refused.iter().find(|(_, code)| *code == code::LOCAL_QUEUE_FULL)
            {
                // Those after it were not tried.
                left.some.extend(refused.iter().map(|(i, _)| left.from + i).filter(|i| *i < left.from + at));
                left.from += at;
                let error = refused.iter().find(|(i, _)| *i < at);
                return (left, error.map_or(Ok(()), |(_, code)| Err(errors::error(*code, &*first.topic))));
            }
            left.some.extend(refused.iter().map(|(i, _)| left.from + i));
            left.from += step;
            if let Some((_, code)) = refused.first() {
                return (left, Err(errors::error(*code, &*first.topic)));
            }
        }
        (left, Ok(()))
    }

    /// Gives a run of plain records to librdkafka; the places and codes of those that it refused.
    fn run(&self, topic: &Topic, records: &[(u64, Outgoing)]) -> Vec<(usize, i32)> {
        let mut messages: Vec<Raw> = records
            .iter()
            .map(|(ticket, r)| {
                let ((payload, len), (key, key_len)) = (parts(r.value.as_deref()), parts(r.key.as_deref()));
                Raw {
                    err: 0,
                    topic: null_mut(),
                    partition: r.partition.unwrap_or(UNASSIGNED),
                    payload,
                    len,
                    key,
                    key_len,
                    offset: 0,
                    private: std::ptr::without_provenance_mut(*ticket as usize),
                }
            })
            .collect();
        // SAFETY: the topic is live; as many messages as said, of the same layout, whose parts live through the call
        // and are copied.
        let taken = unsafe {
            sys::rd_kafka_produce_batch(
                topic.as_ptr(),
                UNASSIGNED,
                sys::RD_KAFKA_MSG_F_COPY | sys::RD_KAFKA_MSG_F_PARTITION,
                messages.as_mut_ptr().cast(),
                messages.len() as i32,
            )
        };
        if usize::try_from(taken) == Ok(messages.len()) {
            return Vec::new();
        }
        messages.iter().enumerate().filter(|(_, m)| m.err != 0).map(|(i, m)| (i, m.err)).collect()
    }

    /// Gives one record to librdkafka.
    fn one(&self, topic: &Topic, (ticket, record): &(u64, Outgoing)) -> Result<(), i32> {
        let (value, key) = (parts(record.value.as_deref()), parts(record.key.as_deref()));
        let headers = Headers::of(record);
        let mut arguments = [
            argument(Kind::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic.as_ptr()),
            argument(Kind::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = record.partition.unwrap_or(UNASSIGNED)),
            argument(Kind::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = sys::RD_KAFKA_MSG_F_COPY),
            argument(Kind::RD_KAFKA_VTYPE_VALUE, |u| u.mem = memory(value)),
            argument(Kind::RD_KAFKA_VTYPE_KEY, |u| u.mem = memory(key)),
            argument(Kind::RD_KAFKA_VTYPE_OPAQUE, |u| u.ptr = std::ptr::without_provenance_mut(*ticket as usize)),
            // 0 means now.
            argument(Kind::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = record.timestamp.unwrap_or(0)),
            argument(Kind::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers.0),
        ];
        // The last one only where there are headers.
        let count = arguments.len() - usize::from(headers.0.is_null());
        // SAFETY: instance and topic are live; value and key live through the call and are copied; the headers are
        // taken over where the call succeeds.
        let error = unsafe { sys::rd_kafka_produceva(self.handle.as_ptr(), arguments.as_mut_ptr(), count) };
        if error.is_null() {
            std::mem::forget(headers);
            return Ok(());
        }
        // SAFETY: the error object is ours.
        unsafe { errors::take(error, "") }.map_err(|e| e.code())
    }

    /// The thread: takes reports until the producer is stopped and has reported everything.
    fn report(&self, to: &Reports) {
        let mut purged = false;
        loop {
            if let Some(event) = self.queue.poll(100) {
                self.take(event, to);
                continue;
            }
            if self.stop.load(Ordering::Acquire) {
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
        lock(&self.topics).clear();
    }

    fn take(&self, event: Event, to: &Reports) {
        match event.kind() {
            sys::RD_KAFKA_EVENT_DR => {
                // SAFETY: the event is live; its messages are read before it is dropped.
                let mut reports = Vec::with_capacity(unsafe { sys::rd_kafka_event_message_count(event.as_ptr()) });
                loop {
                    // SAFETY: the event is live.
                    let message = unsafe { sys::rd_kafka_event_message_next(event.as_ptr()) };
                    if message.is_null() {
                        break;
                    }
                    // SAFETY: not null, live as long as the event.
                    reports.push(unsafe { report(message) });
                }
                // Frees the room in the queue; whoever hears of a report finds it free. Otherwise a caller that was
                // refused for a full queue could be refused again after the last report, and wait for ever.
                drop(event);
                lock(&to.waiting).append(&mut reports);
                to.waker.wake();
            }
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

/// # Safety
/// `message` is a live message of a delivery report.
unsafe fn report(message: *const sys::rd_kafka_message_t) -> Report {
    // SAFETY: live, and of the same layout.
    let raw = unsafe { &*message.cast::<Raw>() };
    let result = if raw.err == 0 {
        Ok((raw.partition, raw.offset))
    } else {
        // SAFETY: the message is live.
        let status = unsafe { sys::rd_kafka_message_status(message) };
        Err(SendError {
            error: errors::error(raw.err, "a record was not acknowledged"),
            possibly_written: status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED,
        })
    };
    Report { ticket: raw.private as usize as u64, result }
}

/// "Choose a partition."
const UNASSIGNED: i32 = -1;

/// Whether the batch call can carry it.
fn is_plain(record: &Outgoing) -> bool {
    record.headers.is_empty() && record.timestamp.is_none()
}

fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((null_mut(), 0), |b| (b.as_ptr().cast_mut().cast(), b.len()))
}

use sys::rd_kafka_vtype_t as Kind;

fn memory((ptr, size): (*mut c_void, usize)) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size }
}

fn argument(vtype: Kind, fill: impl FnOnce(&mut sys::rd_kafka_vu_s__bindgen_ty_1)) -> sys::rd_kafka_vu_t {
    let mut u = sys::rd_kafka_vu_s__bindgen_ty_1 { _pad: [0; 64] };
    fill(&mut u);
    sys::rd_kafka_vu_t { vtype, u }
}

/// Headers that no message owns yet; null for none.
struct Headers(*mut sys::rd_kafka_headers_t);

impl Headers {
    fn of(record: &Outgoing) -> Self {
        if record.headers.is_empty() {
            return Self(null_mut());
        }
        // SAFETY: allocates.
        let headers = Self(unsafe { sys::rd_kafka_headers_new(record.headers.len()) });
        for (name, value) in &record.headers {
            let (value, size) = parts(value.as_deref());
            // SAFETY: the list is live; name and value are as long as said and are copied. No name is longer than
            // memory, so no size turns negative.
            unsafe {
                sys::rd_kafka_header_add(headers.0, name.as_ptr().cast(), name.len() as isize, value, size as isize);
            }
        }
        headers
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: not taken over by a message, freed once.
            unsafe { sys::rd_kafka_headers_destroy(self.0) }
        }
    }
}
