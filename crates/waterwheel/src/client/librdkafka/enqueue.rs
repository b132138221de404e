//! The calls that put records in librdkafka's send queue.
//!
//! A run of records with keys goes in partition by partition, because the call for one partition does without
//! librdkafka's choice of one, two readings of the clock and four counters a record, and because a partition's messages
//! then lie side by side in memory when they are walked through: 0.41 instead of 0.81 CPU-s a million were measured.
//! Values are not copied ([`super::parcels`]).

use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use rdkafka::bindings as sys;

use super::errors;
use super::handle::{Handle, Topic};
use super::message::Raw;
use super::parcels::{Kind, Parcels, Ticket};
use crate::client::Outgoing;
use crate::error::{KafkaError, code};

/// A topic to write to.
pub(super) struct Target {
    topic: Topic,
    /// Its partitions when librdkafka last chose one for a key; 0: not known.
    partitions: Option<Arc<AtomicI32>>,
}

/// Who chooses the partition of a record with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Partitioner {
    /// We do, as Kafka's Java client would.
    Java,
    /// librdkafka, in another way.
    Other,
}

impl Target {
    pub(super) fn new(handle: &Arc<Handle>, name: &str, partitioner: Partitioner) -> Result<Self, KafkaError> {
        if partitioner == Partitioner::Other {
            return Ok(Self { topic: Topic::new(handle, name)?, partitions: None });
        }
        let partitions = Arc::new(AtomicI32::new(0));
        // What the partitioner writes to lives as long as the instance.
        handle.keep(partitions.clone());
        // SAFETY: the instance is live; the configuration is ours until the topic takes it, and the counter outlives the
        // instance.
        let topic = unsafe {
            let conf = sys::rd_kafka_default_topic_conf_dup(handle.as_ptr());
            sys::rd_kafka_topic_conf_set_opaque(conf, Arc::as_ptr(&partitions).cast_mut().cast());
            sys::rd_kafka_topic_conf_set_partitioner_cb(conf, Some(by_key));
            Topic::with(handle, name, conf)?
        };
        Ok(Self { topic, partitions: Some(partitions) })
    }
}

/// Kafka's Java client's partitioner, which also notes how many partitions there are.
unsafe extern "C" fn by_key(
    topic: *const sys::rd_kafka_topic_t,
    key: *const c_void,
    key_len: usize,
    partitions: i32,
    noted: *mut c_void,
    of_message: *mut c_void,
) -> i32 {
    // SAFETY: the opaque is the counter given with this partitioner, which outlives the instance.
    unsafe { &*noted.cast::<AtomicI32>() }.store(partitions, Ordering::Relaxed);
    // SAFETY: the arguments are librdkafka's own.
    unsafe { sys::rd_kafka_msg_partitioner_murmur2_random(topic, key, key_len, partitions, noted, of_message) }
}

/// The partition of a key, as [`by_key`] chooses it.
fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let (key, len) = parts(Some(key));
    // SAFETY: of its arguments the partitioner reads only the key, as long as said.
    unsafe { sys::rd_kafka_msg_partitioner_murmur2_random(null_mut(), key, len, partitions, null_mut(), null_mut()) }
}

/// Gives runs to librdkafka; has the room for one at a time.
#[derive(Default)]
pub(super) struct Enqueue {
    /// Partition, and place in the run, in the order of the calls.
    order: Vec<(i32, u32)>,
    messages: Vec<Raw>,
    /// What was refused for want of room, by place in the run.
    pub(super) refused: Vec<u32>,
    /// What was refused for another reason.
    pub(super) failed: Vec<(Ticket, i32)>,
}

// SAFETY: the pointers in `messages` are not used outside a call of `run`.
unsafe impl Send for Enqueue {}

/// "Choose a partition."
const UNASSIGNED: i32 = -1;

/// Fewer records are not worth their sorting.
const FEW: usize = 16;

impl Enqueue {
    /// Gives a run to librdkafka, which takes all but `refused` and `failed`.
    ///
    /// # Safety
    /// `parcels` lives until the instance of `target` has ended, and keeps the run's records until librdkafka has
    /// reported them: it reads their values where they are.
    pub(super) unsafe fn run(&mut self, target: &Target, kind: Kind, run: &[Ticket], parcels: &Parcels) {
        self.refused.clear();
        self.failed.clear();
        if kind == Kind::Apart {
            for (place, &ticket) in run.iter().enumerate() {
                match parcels.record(ticket).map_or(Ok(()), |record| one(&target.topic, ticket, record)) {
                    Ok(()) => {}
                    Err(code::LOCAL_QUEUE_FULL) => self.refused.push(place as u32),
                    Err(code) => self.failed.push((ticket, code)),
                }
            }
            return;
        }
        let mut partitions = 0;
        let mut from = 0;
        if let (Kind::Keyed, Some(noted), true) = (kind, &target.partitions, run.len() >= FEW) {
            // The first one is librdkafka's to place: so the number of partitions is the one that it goes by at this
            // moment, and keys change their partition when it learns of new ones, neither sooner nor later.
            self.order.clear();
            self.order.push((UNASSIGNED, 0));
            self.call(target, kind, run, parcels);
            partitions = noted.load(Ordering::Relaxed);
            from = 1;
        }
        self.order.clear();
        for (place, &ticket) in run.iter().enumerate().skip(from) {
            let record = parcels.record(ticket);
            let partition = match (kind, record.and_then(|r| r.key.as_deref())) {
                (Kind::Placed, _) => record.and_then(|r| r.partition).unwrap_or(UNASSIGNED),
                (_, Some(key)) if partitions > 0 => partition_of(key, partitions),
                _ => UNASSIGNED,
            };
            self.order.push((partition, place as u32));
        }
        // By partition, and within one as they were given.
        self.order.sort_unstable();
        self.call(target, kind, run, parcels);
    }

    /// Makes one call for each partition in `order`; none any more once there was no room for a record.
    fn call(&mut self, target: &Target, kind: Kind, run: &[Ticket], parcels: &Parcels) {
        self.messages.clear();
        self.messages.extend(self.order.iter().map(|&(partition, place)| {
            let ticket = run[place as usize];
            let record = parcels.record(ticket);
            let (payload, len) = parts(record.and_then(|r| r.value.as_deref()));
            let (key, key_len) = parts(record.and_then(|r| r.key.as_deref()));
            let private = std::ptr::without_provenance_mut(ticket.to_bits() as usize);
            Raw { err: 0, topic: null_mut(), partition, payload, len, key, key_len, offset: 0, private }
        }));
        let mut from = 0;
        for places in self.order.chunk_by(|a, b| a.0 == b.0) {
            let messages = &mut self.messages[from..][..places.len()];
            from += places.len();
            if !self.refused.is_empty() {
                self.refused.extend(places.iter().map(|&(_, place)| place));
                continue;
            }
            let mut taken = produce(&target.topic, places[0].0, messages);
            if kind == Kind::Keyed && messages.iter().all(|m| m.err == code::LOCAL_UNKNOWN_PARTITION) {
                // The topic was made again with fewer partitions just now.
                taken = produce(&target.topic, UNASSIGNED, messages);
            }
            if taken == messages.len() {
                continue;
            }
            for (message, &(_, place)) in messages.iter().zip(places) {
                match message.err {
                    0 => {}
                    code::LOCAL_QUEUE_FULL => self.refused.push(place),
                    code => self.failed.push((run[place as usize], code)),
                }
            }
        }
    }
}

/// Gives messages for one partition to librdkafka, or has it choose for each; how many it took. Those have the error 0.
///
/// The call that takes a partition for each message is not used: it loses a message whose partition does not exist
/// (librdkafka 2.12.1), and an instance with a lost message never ends.
fn produce(topic: &Topic, partition: i32, messages: &mut [Raw]) -> usize {
    // SAFETY: the topic is live; as many messages as said, of the same layout. Keys live through the call and are copied;
    // values live as the caller of `Enqueue::run` vouches.
    let taken = unsafe {
        sys::rd_kafka_produce_batch(
            topic.as_ptr(),
            partition,
            NOT_COPIED,
            messages.as_mut_ptr().cast(),
            messages.len() as i32,
        )
    };
    usize::try_from(taken).unwrap_or(0)
}

/// Message flags: values are neither copied nor freed by librdkafka.
const NOT_COPIED: i32 = 0;

/// Gives one record to librdkafka, with its headers and time; or the code of its refusal.
fn one(topic: &Topic, ticket: Ticket, record: &Outgoing) -> Result<(), i32> {
    let (value, key) = (parts(record.value.as_deref()), parts(record.key.as_deref()));
    let headers = Headers::of(record);
    let mut arguments = [
        argument(Argument::RD_KAFKA_VTYPE_RKT, |u| u.rkt = topic.as_ptr()),
        argument(Argument::RD_KAFKA_VTYPE_PARTITION, |u| u.i32_ = record.partition.unwrap_or(UNASSIGNED)),
        argument(Argument::RD_KAFKA_VTYPE_MSGFLAGS, |u| u.i = NOT_COPIED),
        argument(Argument::RD_KAFKA_VTYPE_VALUE, |u| u.mem = sized(value)),
        argument(Argument::RD_KAFKA_VTYPE_KEY, |u| u.mem = sized(key)),
        argument(Argument::RD_KAFKA_VTYPE_OPAQUE, |u| {
            u.ptr = std::ptr::without_provenance_mut(ticket.to_bits() as usize)
        }),
        // 0 means now.
        argument(Argument::RD_KAFKA_VTYPE_TIMESTAMP, |u| u.i64_ = record.timestamp.unwrap_or(0)),
        argument(Argument::RD_KAFKA_VTYPE_HEADERS, |u| u.headers = headers.0),
    ];
    // The last one only where there are headers.
    let count = arguments.len() - usize::from(headers.0.is_null());
    // SAFETY: instance and topic are live; the key lives through the call and is copied, the value lives as the caller of
    // `Enqueue::run` vouches; the headers are taken over where the call succeeds.
    let error = unsafe { sys::rd_kafka_produceva(topic.handle().as_ptr(), arguments.as_mut_ptr(), count) };
    if error.is_null() {
        std::mem::forget(headers);
        return Ok(());
    }
    // SAFETY: the error object is ours.
    unsafe { errors::take(error, "") }.map_err(|e| e.code())
}

fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    bytes.map_or((null_mut(), 0), |b| (b.as_ptr().cast_mut().cast(), b.len()))
}

use sys::rd_kafka_vtype_t as Argument;

fn sized((ptr, size): (*mut c_void, usize)) -> sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
    sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size }
}

fn argument(vtype: Argument, fill: impl FnOnce(&mut sys::rd_kafka_vu_s__bindgen_ty_1)) -> sys::rd_kafka_vu_t {
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
