//! Lists of partitions: ours and librdkafka's.

use std::ffi::{CStr, CString};
use std::sync::Arc;

use rdkafka::bindings as sys;

use super::errors;
use crate::client::Commit;
use crate::error::KafkaError;
use crate::record::TopicPartition;

/// A list of librdkafka's that is ours to free.
pub(super) struct List(*mut sys::rd_kafka_topic_partition_list_t);

// SAFETY: a list is plain memory without ties to a thread; it is used through one owner.
unsafe impl Send for List {}

impl List {
    pub(super) fn with_capacity(elements: usize) -> Self {
        // SAFETY: allocates; librdkafka ends the process where memory is out.
        Self(unsafe { sys::rd_kafka_topic_partition_list_new(i32::try_from(elements).unwrap_or(i32::MAX)) })
    }

    /// Names of topics, for a subscription.
    pub(super) fn of_topics<'a>(topics: impl IntoIterator<Item = &'a String>) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(4);
        for topic in topics {
            list.add(topic, PARTITION_ANY)?;
        }
        Ok(list)
    }

    pub(super) fn of_partitions<'a>(
        partitions: impl IntoIterator<Item = &'a TopicPartition>,
    ) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(8);
        for p in partitions {
            list.add(&p.topic, p.partition)?;
        }
        Ok(list)
    }

    /// Offsets with their metadata, for a commit.
    pub(super) fn of_commits(commits: &[Commit]) -> Result<Self, KafkaError> {
        let mut list = Self::with_capacity(commits.len());
        for c in commits {
            list.add(&c.partition.topic, c.partition.partition)?
                .offset(c.offset)
                .leader_epoch(c.leader_epoch)
                .metadata(&c.metadata);
        }
        Ok(list)
    }

    /// Adds an element and gives it to be filled in; it stays where it is until the next `add`.
    pub(super) fn add(&mut self, topic: &str, partition: i32) -> Result<Element<'_>, KafkaError> {
        let topic = c_string(topic)?;
        // SAFETY: the list is live, the name ends in NUL and is copied.
        let raw = unsafe { sys::rd_kafka_topic_partition_list_add(self.0, topic.as_ptr(), partition) };
        // SAFETY: `add` returns a pointer to an element of the list, which is borrowed mutably for as long.
        Ok(Element(unsafe { &mut *raw.cast::<Raw>() }))
    }

    pub(super) fn as_ptr(&self) -> *mut sys::rd_kafka_topic_partition_list_t {
        self.0
    }

    /// What the list holds.
    pub(super) fn read(&self) -> Vec<Entry> {
        // SAFETY: the list is live.
        unsafe { read(self.0) }
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: made by `with_capacity`, freed once.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0) }
    }
}

/// "Any partition", where only a topic is named.
pub(super) const PARTITION_ANY: i32 = -1;

/// The bindings' element, but with the error as a number (see `errors`).
#[repr(C)]
struct Raw {
    topic: *mut std::ffi::c_char,
    partition: i32,
    offset: i64,
    metadata: *mut std::ffi::c_void,
    metadata_size: usize,
    opaque: *mut std::ffi::c_void,
    err: i32,
    private: *mut std::ffi::c_void,
}
const _: () = assert!(size_of::<Raw>() == size_of::<sys::rd_kafka_topic_partition_t>());

/// An element of a list under construction.
pub(super) struct Element<'a>(&'a mut Raw);

impl Element<'_> {
    pub(super) fn offset(self, offset: i64) -> Self {
        self.0.offset = offset;
        self
    }

    pub(super) fn leader_epoch(self, epoch: Option<i32>) -> Self {
        // SAFETY: the element is live; -1 stands for an unknown epoch.
        unsafe {
            sys::rd_kafka_topic_partition_set_leader_epoch((&raw mut *self.0).cast(), epoch.unwrap_or(-1));
        }
        self
    }

    pub(super) fn metadata(self, metadata: &str) -> Self {
        if metadata.is_empty() {
            return self;
        }
        // SAFETY: librdkafka frees an element's metadata with C's `free`, so it has to come from its allocator; the
        // copy fits what was allocated. A null client is allowed and means the same allocator.
        unsafe {
            let copy = sys::rd_kafka_mem_malloc(std::ptr::null_mut(), metadata.len());
            if !copy.is_null() {
                std::ptr::copy_nonoverlapping(metadata.as_ptr(), copy.cast::<u8>(), metadata.len());
                self.0.metadata = copy;
                self.0.metadata_size = metadata.len();
            }
        }
        self
    }
}

/// An element as read.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) leader_epoch: Option<i32>,
    /// Empty where it is not text: no metadata of ours is.
    pub(super) metadata: String,
    pub(super) code: i32,
}

/// The elements of a list that librdkafka owns; none for null.
///
/// # Safety
/// `list` is null or live through the call.
pub(super) unsafe fn read(list: *const sys::rd_kafka_topic_partition_list_t) -> Vec<Entry> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list is live.
    let (elements, count) = unsafe { ((*list).elems, usize::try_from((*list).cnt).unwrap_or(0)) };
    let mut topic: Option<Arc<str>> = None;
    // SAFETY: `elems` points to `cnt` elements.
    (0..count).map(|i| unsafe { entry_of(elements.add(i), &mut topic) }).collect()
}

/// One element.
///
/// # Safety
/// `element` points to a live element.
pub(super) unsafe fn entry(element: *const sys::rd_kafka_topic_partition_t) -> Entry {
    // SAFETY: as the caller says.
    unsafe { entry_of(element, &mut None) }
}

/// Lists come topic by topic, so `topic` is the one before and is shared where it is the same.
///
/// # Safety
/// `element` points to a live element.
unsafe fn entry_of(element: *const sys::rd_kafka_topic_partition_t, topic: &mut Option<Arc<str>>) -> Entry {
    // SAFETY: live, and of the same layout.
    let raw = unsafe { &*element.cast::<Raw>() };
    // SAFETY: an element always has a topic, which ends in NUL.
    let name = unsafe { CStr::from_ptr(raw.topic) }.to_string_lossy();
    let name = match topic {
        Some(t) if **t == *name => t.clone(),
        _ => topic.insert(Arc::from(&*name)).clone(),
    };
    let metadata = if raw.metadata.is_null() {
        ""
    } else {
        // SAFETY: librdkafka says where the metadata is and how long.
        let bytes = unsafe { std::slice::from_raw_parts(raw.metadata.cast::<u8>(), raw.metadata_size) };
        std::str::from_utf8(bytes).unwrap_or_default()
    };
    // SAFETY: the element is live.
    let epoch = unsafe { sys::rd_kafka_topic_partition_get_leader_epoch(element) };
    Entry {
        partition: TopicPartition::new(name, raw.partition),
        offset: raw.offset,
        leader_epoch: (epoch >= 0).then_some(epoch),
        metadata: metadata.to_owned(),
        code: raw.err,
    }
}

/// A name for C.
pub(super) fn c_string(text: &str) -> Result<CString, KafkaError> {
    CString::new(text).map_err(|_| errors::error(errors::INVALID_ARGUMENT, "a name contains a NUL"))
}
