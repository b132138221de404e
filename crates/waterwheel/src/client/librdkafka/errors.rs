//! librdkafka's errors as [`KafkaError`], and the calls that return a broker's error code as a plain number.
//!
//! The bindings give error codes a Rust enum. A broker newer than librdkafka may answer with a code that this enum does
//! not know, and such a value in it would be undefined behaviour; so every call and field through which a *broker's*
//! code can come is read as `i32` here, and no other file looks at one. So is what else a newer broker may number further.

use std::ffi::{CStr, c_char, c_int};

use rdkafka::bindings as sys;

use crate::error::{KafkaError, code};

/// The same functions as in the bindings, with codes as numbers.
pub(super) mod raw {
    use super::{c_char, c_int, sys};

    unsafe extern "C" {
        pub(in super::super) fn rd_kafka_err2str(code: i32) -> *const c_char;
        pub(in super::super) fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> i32;
        pub(in super::super) fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> i32;
        pub(in super::super) fn rd_kafka_last_error() -> i32;
        pub(in super::super) fn rd_kafka_fatal_error(rk: *mut sys::rd_kafka_t, text: *mut c_char, size: usize) -> i32;
        pub(in super::super) fn rd_kafka_topic_result_error(result: *const sys::rd_kafka_topic_result_t) -> i32;
        pub(in super::super) fn rd_kafka_ConfigResource_error(resource: *const sys::rd_kafka_ConfigResource_t) -> i32;
        pub(in super::super) fn rd_kafka_ConfigResource_type(resource: *const sys::rd_kafka_ConfigResource_t) -> i32;
        pub(in super::super) fn rd_kafka_ConfigEntry_source(entry: *const sys::rd_kafka_ConfigEntry_t) -> i32;
        pub(in super::super) fn rd_kafka_AclBinding_restype(rule: *const sys::rd_kafka_AclBinding_t) -> i32;
        pub(in super::super) fn rd_kafka_AclBinding_resource_pattern_type(
            rule: *const sys::rd_kafka_AclBinding_t,
        ) -> i32;
        pub(in super::super) fn rd_kafka_AclBinding_operation(rule: *const sys::rd_kafka_AclBinding_t) -> i32;
        pub(in super::super) fn rd_kafka_AclBinding_permission_type(rule: *const sys::rd_kafka_AclBinding_t) -> i32;
        pub(in super::super) fn rd_kafka_ScramCredentialInfo_mechanism(
            info: *const sys::rd_kafka_ScramCredentialInfo_t,
        ) -> i32;
        pub(in super::super) fn rd_kafka_subscribe(
            rk: *mut sys::rd_kafka_t,
            topics: *const sys::rd_kafka_topic_partition_list_t,
        ) -> i32;
        pub(in super::super) fn rd_kafka_assign(
            rk: *mut sys::rd_kafka_t,
            partitions: *const sys::rd_kafka_topic_partition_list_t,
        ) -> i32;
        pub(in super::super) fn rd_kafka_committed(
            rk: *mut sys::rd_kafka_t,
            partitions: *mut sys::rd_kafka_topic_partition_list_t,
            timeout_ms: c_int,
        ) -> i32;
        pub(in super::super) fn rd_kafka_metadata(
            rk: *mut sys::rd_kafka_t,
            all_topics: c_int,
            only: *mut sys::rd_kafka_topic_t,
            metadata: *mut *const sys::rd_kafka_metadata,
            timeout_ms: c_int,
        ) -> i32;
    }
}

/// A C string as text; empty for null.
///
/// # Safety
/// `text` is null or points to a string that ends in NUL and lives through the call.
pub(super) unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller vouches for the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The error of a code.
pub(super) fn error(code: i32, context: impl Into<String>) -> KafkaError {
    // SAFETY: the description is a constant, or for an unknown code a buffer of this thread.
    let name = unsafe { text(raw::rd_kafka_err2str(code)) };
    KafkaError::new(code, name.trim_start_matches("Local: ").trim_start_matches("Broker: "), context)
}

/// `Ok` for code 0.
pub(super) fn check(code: i32, context: &str) -> Result<(), KafkaError> {
    if code == 0 { Ok(()) } else { Err(error(code, context)) }
}

/// `Ok` for code 0; else an error with the broker's own words, where it has some.
pub(super) fn check_said(code: i32, of: &str, said: &str) -> Result<(), KafkaError> {
    match said {
        "" => check(code, of),
        said => check(code, &format!("{of}: {said}")),
    }
}

/// What an error object says, and frees it; `Ok` for null.
///
/// # Safety
/// `object` is null, or an error object that the caller owns.
pub(super) unsafe fn take(object: *mut sys::rd_kafka_error_t, context: &str) -> Result<(), KafkaError> {
    if object.is_null() {
        return Ok(());
    }
    // SAFETY: the object is live until it is destroyed here.
    let (code, said) = unsafe { (raw::rd_kafka_error_code(object), text(sys::rd_kafka_error_string(object))) };
    // SAFETY: the caller owned it, and it is not used after this.
    unsafe { sys::rd_kafka_error_destroy(object) };
    Err(KafkaError::new(code, said, context))
}

/// The code of an error object that stays its owner's; 0 for null.
///
/// # Safety
/// `object` is null or live.
pub(super) unsafe fn code_of(object: *const sys::rd_kafka_error_t) -> i32 {
    // SAFETY: not null, and the caller vouches for the rest.
    if object.is_null() { 0 } else { unsafe { raw::rd_kafka_error_code(object) } }
}

/// The error of the last failed call of this thread's legacy calls.
pub(super) fn last(context: impl Into<String>) -> KafkaError {
    // SAFETY: reads a variable of this thread.
    error(unsafe { raw::rd_kafka_last_error() }, context)
}

/// The error of a call on a client that has ended.
pub(super) fn ended() -> KafkaError {
    KafkaError::new(code::LOCAL_DESTROYED, "the client has ended", "")
}

/// The error of a thread that could not be started.
pub(super) fn no_thread(error: &std::io::Error) -> KafkaError {
    KafkaError::new(CRITICAL_RESOURCE, "no thread could be started", error.to_string())
}

/// librdkafka's code for a missing resource of the system.
const CRITICAL_RESOURCE: i32 = -194;
/// librdkafka's code for an answer that is not as it should be.
pub(super) const BAD_ANSWER: i32 = -199;
/// librdkafka's code for an invalid argument or property.
pub(super) const INVALID_ARGUMENT: i32 = -186;
/// librdkafka's code for what the broker does not know how to do.
pub(super) const UNSUPPORTED_FEATURE: i32 = -165;
