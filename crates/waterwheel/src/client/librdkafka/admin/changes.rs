//! Changes of topics: making and deleting them, more partitions, fewer records.

use std::collections::{BTreeSet, HashMap};
use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings as sys;

use super::{Asker, Objects, WAIT, dry_run};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::handle::Said;
use crate::client::librdkafka::list::{self, List, c_string};
use crate::client::{DeleteBelow, Deletion, Mode, NewPartitions, NewTopic};
use crate::error::{KafkaError, code};

impl Asker {
    pub(super) fn create_topics(
        &self,
        topics: &[NewTopic],
        mode: Mode,
        timeout: Duration,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let mut made = Objects::freed_by(sys::rd_kafka_NewTopic_destroy);
        for topic in topics {
            new_topic(topic, &mut made)?;
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS;
        let event = self.request(kind, timeout, |rk, options, queue| {
            let (topics, count) = made.array();
            // SAFETY: all pointers are live; the topics are copied. The option is one of this question's.
            unsafe {
                dry_run(options, mode);
                sys::rd_kafka_CreateTopics(rk, topics, count, options, queue);
            }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreateTopics_result(event.as_ptr());
            let told = sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            Ok(outcomes(topics.iter().map(|t| t.name.as_str()), told, count))
        }
    }

    pub(super) fn delete_topics(&self, topics: &[String]) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        // A name that comes twice makes the whole question invalid.
        let names: BTreeSet<CString> = topics.iter().map(|t| c_string(t)).collect::<Result<_, KafkaError>>()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut deletions = Objects::freed_by(sys::rd_kafka_DeleteTopic_destroy);
        for name in &names {
            // SAFETY: the name ends in NUL and is copied.
            deletions.add(unsafe { sys::rd_kafka_DeleteTopic_new(name.as_ptr()) });
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETETOPICS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (deletions, count) = deletions.array();
            // SAFETY: all pointers are live; the deletions are copied.
            unsafe { sys::rd_kafka_DeleteTopics(rk, deletions, count, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteTopics_result(event.as_ptr());
            let told = sys::rd_kafka_DeleteTopics_result_topics(result, &raw mut count);
            Ok(outcomes(topics.iter().map(String::as_str), told, count))
        }
    }

    pub(super) fn create_partitions(
        &self,
        of: &[NewPartitions],
        mode: Mode,
    ) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut wanted = Objects::freed_by(sys::rd_kafka_NewPartitions_destroy);
        for NewPartitions { topic, total, replicas } in of {
            let (name, mut said) = (c_string(topic)?, Said::default());
            // SAFETY: the name ends in NUL and is copied; the buffer is as long as said.
            let partitions =
                unsafe { sys::rd_kafka_NewPartitions_new(name.as_ptr(), *total, said.as_mut_ptr(), said.len()) };
            if partitions.is_null() {
                return Err(refused(&said, topic));
            }
            wanted.add(partitions);
            for (i, brokers) in (0..).zip(replicas) {
                let (mut brokers, mut said) = (brokers.clone(), Said::default());
                // SAFETY: the partitions are live, as many brokers as said, which are copied; so is the buffer.
                let code = unsafe {
                    let (ids, count) = (brokers.as_mut_ptr(), brokers.len());
                    let (text, size) = (said.as_mut_ptr(), said.len());
                    sys::rd_kafka_NewPartitions_set_replica_assignment(partitions, i, ids, count, text, size) as i32
                };
                if code != 0 {
                    return Err(refused(&said, topic));
                }
            }
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (wanted, count) = wanted.array();
            // SAFETY: all pointers are live; what is wanted is copied. The option is one of this question's.
            unsafe {
                dry_run(options, mode);
                sys::rd_kafka_CreatePartitions(rk, wanted, count, options, queue);
            }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreatePartitions_result(event.as_ptr());
            let told = sys::rd_kafka_CreatePartitions_result_topics(result, &raw mut count);
            Ok(outcomes(of.iter().map(|p| p.topic.as_str()), told, count))
        }
    }

    pub(super) fn delete_records(&self, of: &[Deletion]) -> Result<Vec<Result<i64, KafkaError>>, KafkaError> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut below = List::with_capacity(of.len());
        for (partition, up_to) in of {
            below.add(&partition.topic, partition.partition)?.offset(match up_to {
                DeleteBelow::Offset(offset) => *offset,
                DeleteBelow::End => i64::from(sys::RD_KAFKA_OFFSET_END),
            });
        }
        let mut deletion = Objects::freed_by(sys::rd_kafka_DeleteRecords_destroy);
        // SAFETY: the list is live and is copied.
        deletion.add(unsafe { sys::rd_kafka_DeleteRecords_new(below.as_ptr()) });
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETERECORDS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (deletion, count) = deletion.array();
            // SAFETY: all pointers are live; the deletion is copied.
            unsafe { sys::rd_kafka_DeleteRecords(rk, deletion, count, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let told: HashMap<_, _> = unsafe {
            let result = sys::rd_kafka_event_DeleteRecords_result(event.as_ptr());
            let entries = list::read(sys::rd_kafka_DeleteRecords_result_offsets(result));
            entries.into_iter().map(|entry| (entry.partition.clone(), entry)).collect()
        };
        let outcome = |(partition, _): &Deletion| {
            let code = told.get(partition).map_or(code::LOCAL_UNKNOWN_PARTITION, |entry| entry.code);
            errors::check(code, &partition.to_string()).map(|()| told[partition].offset)
        };
        Ok(of.iter().map(outcome).collect())
    }
}

fn new_topic(topic: &NewTopic, made: &mut Objects<sys::rd_kafka_NewTopic_t>) -> Result<(), KafkaError> {
    let (name, mut said) = (c_string(&topic.name)?, Said::default());
    let number = |of: usize| i32::try_from(of).unwrap_or(i32::MAX);
    // -1: as the cluster says. With brokers for each partition, librdkafka wants their number here and no factor.
    let partitions = match topic.replicas.len() {
        0 => topic.partitions.map_or(-1, number),
        count => number(count),
    };
    let factor = topic.replication.map_or(-1, number);
    // SAFETY: the name ends in NUL and is copied; the buffer is as long as said.
    let new = unsafe { sys::rd_kafka_NewTopic_new(name.as_ptr(), partitions, factor, said.as_mut_ptr(), said.len()) };
    if new.is_null() {
        return Err(refused(&said, &topic.name));
    }
    made.add(new);
    for (i, brokers) in (0..).zip(&topic.replicas) {
        let mut brokers = brokers.clone();
        // SAFETY: the topic is live, as many brokers as said, which are copied; so is the buffer.
        let code = unsafe {
            let (ids, count) = (brokers.as_mut_ptr(), brokers.len());
            let (text, size) = (said.as_mut_ptr(), said.len());
            sys::rd_kafka_NewTopic_set_replica_assignment(new, i, ids, count, text, size) as i32
        };
        if code != 0 {
            return Err(refused(&said, &topic.name));
        }
    }
    for (name, value) in &topic.configs {
        let (name, value) = (c_string(name)?, c_string(value)?);
        // SAFETY: the topic is live, both texts end in NUL and are copied.
        let code = unsafe { sys::rd_kafka_NewTopic_set_config(new, name.as_ptr(), value.as_ptr()) as i32 };
        errors::check(code, &topic.name)?;
    }
    Ok(())
}

fn refused(said: &Said, of: &str) -> KafkaError {
    KafkaError::new(errors::INVALID_ARGUMENT, said.text(), of)
}

/// What was said to each topic, in the order asked.
///
/// # Safety
/// `told` points to `count` live results.
unsafe fn outcomes<'a>(
    asked: impl Iterator<Item = &'a str>,
    told: *mut *const sys::rd_kafka_topic_result_t,
    count: usize,
) -> Vec<Result<(), KafkaError>> {
    let outcome = |i| {
        // SAFETY: as the caller says.
        let (code, name, said) = unsafe {
            let topic = *told.add(i);
            (
                errors::raw::rd_kafka_topic_result_error(topic),
                errors::text(sys::rd_kafka_topic_result_name(topic)),
                errors::text(sys::rd_kafka_topic_result_error_string(topic)),
            )
        };
        let outcome = errors::check_said(code, &name, &said);
        (name, outcome)
    };
    let told: HashMap<String, Result<(), KafkaError>> = (0..count).map(outcome).collect();
    let missing = || Err(errors::error(code::LOCAL_UNKNOWN_TOPIC, "the answer lacks the topic"));
    asked.map(|name| told.get(name).cloned().unwrap_or_else(missing)).collect()
}
