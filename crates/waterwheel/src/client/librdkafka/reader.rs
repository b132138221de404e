//! One partition being read: its queue, and how messages become batches.

use std::ffi::{c_char, c_void};
use std::ptr::null_mut;
use std::sync::Arc;

use rdkafka::bindings as sys;

use super::errors;
use super::handle::{Handle, Queue, Topic};
use super::message::Raw;
use super::ready::{self, Signal};
use crate::error::KafkaError;
use crate::record::{Assignment, Batch, BatchBuilder};

/// Payload of a batch, keys, values and headers; a larger record is a batch by itself.
const BATCH_BYTES: usize = 256 * 1024;
/// Records that are taken from a queue at once, at most.
const TAKE: usize = 1000;

/// A partition being read from some offset on. Reading stops when it is dropped.
pub(super) struct Reader {
    topic: Arc<Topic>,
    partition: i32,
    queue: Queue,
    signal: Box<Signal>,
    /// Bytes of a record lately, so that a turn takes about one batch.
    usual: usize,
}

impl Reader {
    pub(super) fn start(
        handle: &Arc<Handle>,
        topic: Arc<Topic>,
        partition: i32,
        offset: i64,
        signal: Signal,
    ) -> Result<Self, KafkaError> {
        let queue = Queue::new(handle)?;
        let signal = Box::new(signal);
        // SAFETY: `signal` is boxed and the reader's drop ends the calls before it frees it.
        unsafe { queue.on_first(Some(ready::on_first), (&raw const *signal).cast_mut().cast()) };
        // From here on the drop does the rest.
        let reader = Self { topic, partition, queue, signal, usual: 1024 };
        // SAFETY: topic and queue are live.
        let code = unsafe {
            sys::rd_kafka_consume_start_queue(reader.topic.as_ptr(), partition, offset, reader.queue.as_ptr())
        };
        if code == 0 { Ok(reader) } else { Err(errors::last(format!("reading partition {partition}"))) }
    }

    pub(super) fn signal(&self) -> &Signal {
        &self.signal
    }

    /// Takes what has come, about a batch of it, without waiting.
    pub(super) fn take<'a>(&mut self, room: &'a mut Room) -> Taken<'a> {
        let want = (BATCH_BYTES / self.usual.max(1)).clamp(1, TAKE);
        room.messages.resize(TAKE, null_mut());
        // SAFETY: the queue is live, and there is room for as many. With a wait the call would wait for a full array.
        let got =
            unsafe { sys::rd_kafka_consume_batch_queue(self.queue.as_ptr(), 0, room.messages.as_mut_ptr(), want) };
        room.messages.truncate(usize::try_from(got).unwrap_or(0));
        let taken = Taken { room };
        if !taken.room.messages.is_empty() {
            let bytes: usize = (0..taken.len()).map(|i| taken.message(i).payload_len()).sum();
            self.usual = bytes / taken.len() + 1;
        }
        taken
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // SAFETY: ends the calls; then the topic is live, and stopping a partition that never started does no harm. Its
        // answer comes from librdkafka's main thread, which waits for no broker.
        unsafe {
            self.queue.on_first(None, null_mut());
            sys::rd_kafka_consume_stop(self.topic.as_ptr(), self.partition);
        }
    }
}

/// Reused by every turn of a shard.
#[derive(Default)]
pub(super) struct Room {
    messages: Vec<*mut sys::rd_kafka_message_t>,
    /// The headers of the messages of the batch being made; null for none.
    headers: Vec<*mut sys::rd_kafka_headers_t>,
}

// SAFETY: between turns it holds no live pointer.
unsafe impl Send for Room {}

/// Messages taken from a queue; given back when dropped.
pub(super) struct Taken<'a> {
    room: &'a mut Room,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        for &message in &self.room.messages {
            // SAFETY: taken from the queue, destroyed once. Their headers go with them.
            unsafe { sys::rd_kafka_message_destroy(message) }
        }
        self.room.messages.clear();
        self.room.headers.clear();
    }
}

/// One piece of what was taken.
pub(super) enum Piece {
    Batch(Batch),
    /// An error in place of a record, and the offset it names.
    Error(KafkaError, i64),
}

impl Taken<'_> {
    pub(super) fn len(&self) -> usize {
        self.room.messages.len()
    }

    /// Gives back the records, but not the errors, of which `keep` says no to the offset. In order.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(i64) -> bool) {
        self.room.messages.retain(|&message| {
            // SAFETY: taken from the queue, live until it is destroyed here.
            let raw = unsafe { &*message.cast_const().cast::<Raw>() };
            let kept = raw.err != 0 || keep(raw.offset);
            if !kept {
                // SAFETY: leaves the array with this, so it is destroyed once.
                unsafe { sys::rd_kafka_message_destroy(message) }
            }
            kept
        });
    }

    pub(super) fn message(&self, index: usize) -> Message<'_> {
        // SAFETY: taken from the queue, not null, of the same layout, and live until `self` is dropped.
        Message(unsafe { &*self.room.messages[index].cast_const().cast::<Raw>() })
    }

    /// Cuts what was taken into batches, from `from` on; the index after the piece.
    pub(super) fn piece(&mut self, from: usize, assignment: &Arc<Assignment>) -> (Piece, usize) {
        if let Some(error) = self.message(from).error() {
            let offset = self.message(from).offset();
            return (Piece::Error(error, offset), from + 1);
        }
        let epoch = self.message(from).leader_epoch();
        let (mut end, mut bytes) = (from, 0);
        self.room.headers.clear();
        while end < self.len() {
            let message = self.message(end);
            if message.code() != 0 || message.leader_epoch() != epoch {
                break;
            }
            let headers = message.headers();
            let size = message.payload_len() + headers_len(headers);
            if end > from && bytes + size > BATCH_BYTES {
                break;
            }
            bytes += size;
            self.room.headers.push(headers);
            end += 1;
        }
        // One allocation each: the sizes are exact.
        let mut builder = BatchBuilder::with_capacity(end - from, bytes);
        for i in from..end {
            self.message(i).copy_to(&mut builder, self.room.headers[i - from]);
        }
        (Piece::Batch(builder.build(assignment.clone(), epoch)), end)
    }
}

/// A message that lives as long as what it was taken with.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a Raw);

impl<'a> Message<'a> {
    fn as_ptr(self) -> *const sys::rd_kafka_message_t {
        (&raw const *self.0).cast()
    }

    fn code(self) -> i32 {
        self.0.err
    }

    pub(super) fn error(self) -> Option<KafkaError> {
        let code = self.code();
        // SAFETY: the message is live, and the text with it.
        (code != 0).then(|| errors::error(code, unsafe { errors::text(sys::rd_kafka_message_errstr(self.as_ptr())) }))
    }

    pub(super) fn offset(self) -> i64 {
        self.0.offset
    }

    pub(super) fn leader_epoch(self) -> Option<i32> {
        // SAFETY: the message is live.
        let epoch = unsafe { sys::rd_kafka_message_leader_epoch(self.as_ptr()) };
        (epoch >= 0).then_some(epoch)
    }

    fn payload_len(self) -> usize {
        self.0.key_len + self.0.len
    }

    fn key(self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka says where the key is and how long; it lives as long as the message.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    fn value(self) -> Option<&'a [u8]> {
        // SAFETY: as for the key, and this is no error, whose payload would be its text.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    fn timestamp(self) -> Option<i64> {
        // SAFETY: the message is live; the kind of time is not asked for.
        let t = unsafe { sys::rd_kafka_message_timestamp(self.as_ptr(), null_mut()) };
        (t >= 0).then_some(t)
    }

    /// Null where there are none.
    pub(super) fn headers(self) -> *mut sys::rd_kafka_headers_t {
        let mut headers = null_mut();
        // SAFETY: the message is live; the headers stay its own. Unparsable ones leave null.
        unsafe { sys::rd_kafka_message_headers(self.as_ptr(), &raw mut headers) };
        headers
    }

    /// Appends the record; `headers` are this message's.
    pub(super) fn copy_to(self, builder: &mut BatchBuilder, headers: *mut sys::rd_kafka_headers_t) {
        builder.push(self.offset(), self.timestamp(), self.key(), self.value());
        each_header(headers, |name, value| builder.header(name, value));
    }
}

/// What `headers` take in a batch.
fn headers_len(headers: *mut sys::rd_kafka_headers_t) -> usize {
    let mut bytes = 0;
    each_header(headers, |name, value| bytes += 8 + name.len() + value.map_or(0, <[u8]>::len));
    bytes
}

/// In order; nothing for null. A name that contains NUL ends there: librdkafka hands out C strings.
fn each_header(headers: *mut sys::rd_kafka_headers_t, mut each: impl FnMut(&[u8], Option<&[u8]>)) {
    if headers.is_null() {
        return;
    }
    for i in 0.. {
        let (mut name, mut value, mut size): (*const c_char, *const c_void, usize) = (null_mut(), null_mut(), 0);
        // SAFETY: not null, so the headers of a live message; the pointers are filled in where there is an i-th.
        let code = unsafe { sys::rd_kafka_header_get_all(headers, i, &raw mut name, &raw mut value, &raw mut size) };
        if code != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return;
        }
        // SAFETY: the name ends in NUL, the value is as long as said; both live as long as the message.
        unsafe { each(std::ffi::CStr::from_ptr(name).to_bytes(), bytes(value, size)) };
    }
}

/// # Safety
/// `at` is null or points to `len` bytes that live as long as `'a`.
unsafe fn bytes<'a>(at: *const c_void, len: usize) -> Option<&'a [u8]> {
    // SAFETY: the caller vouches for it.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast::<u8>(), len) })
}
