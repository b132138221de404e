//! One layout of a message for readers and the producer.

use std::ffi::c_void;

use rdkafka::bindings as sys;

/// The bindings' message, but with the error as a number (see `errors`).
#[repr(C)]
pub(super) struct Raw {
    pub(super) err: i32,
    pub(super) topic: *mut sys::rd_kafka_topic_t,
    pub(super) partition: i32,
    pub(super) payload: *mut c_void,
    pub(super) len: usize,
    pub(super) key: *mut c_void,
    pub(super) key_len: usize,
    pub(super) offset: i64,
    pub(super) private: *mut c_void,
}
const _: () = assert!(size_of::<Raw>() == size_of::<sys::rd_kafka_message_t>());
