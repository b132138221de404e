//! What a group has committed, and commits for a group by who is no member of it.

use std::collections::HashMap;
use std::ptr;

use rdkafka::bindings as sys;

use super::{Asker, WAIT};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::list::{self, Entry, List, c_string};
use crate::client::{Commit, CommitOutcome, Committed};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

impl Asker {
    pub(super) fn committed(
        &self,
        group: &str,
        partitions: Option<&[TopicPartition]>,
    ) -> Result<Vec<Result<Committed, KafkaError>>, KafkaError> {
        let told = match partitions {
            Some([]) => return Ok(Vec::new()),
            Some(partitions) => {
                // A partition that comes twice makes the whole question invalid.
                let mut once: Vec<&TopicPartition> = partitions.iter().collect();
                once.sort_unstable();
                once.dedup();
                self.fetch(group, Some(&List::of_partitions(once)?))?
            }
            None => self.fetch(group, None)?,
        };
        let Some(partitions) = partitions else {
            let mut all: Vec<_> = told.into_iter().collect();
            all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            return Ok(all.into_iter().map(|(_, entry)| committed(&entry)).collect());
        };
        let missing = |p: &TopicPartition| Err(errors::error(code::LOCAL_UNKNOWN_PARTITION, p.to_string()));
        Ok(partitions.iter().map(|p| told.get(p).map_or_else(|| missing(p), committed)).collect())
    }

    fn fetch(&self, group: &str, partitions: Option<&List>) -> Result<HashMap<TopicPartition, Entry>, KafkaError> {
        let name = c_string(group)?;
        // SAFETY: the name ends in NUL; name and list are copied, null means all; what is made is ours to free.
        let mut question = unsafe {
            let partitions = partitions.map_or(ptr::null_mut(), List::as_ptr);
            sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), partitions)
        };
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the question is copied.
            unsafe { sys::rd_kafka_ListConsumerGroupOffsets(rk, &raw mut question, 1, options, queue) }
        });
        // SAFETY: made above, freed once.
        unsafe { sys::rd_kafka_ListConsumerGroupOffsets_destroy(question) };
        let event = event?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_ListConsumerGroupOffsets_result(event.as_ptr());
            entries(sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count), count, group)
        }
    }

    pub(super) fn commit(&self, group: &str, commits: &[Commit]) -> Result<Vec<CommitOutcome>, KafkaError> {
        if commits.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = List::with_capacity(commits.len());
        for commit in commits {
            list.add(&commit.partition.topic, commit.partition.partition)?
                .offset(commit.offset)
                .leader_epoch(commit.leader_epoch)
                .metadata(&commit.metadata);
        }
        let name = c_string(group)?;
        // SAFETY: the name ends in NUL; name and list are copied; what is made is ours to free.
        let mut order = unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_new(name.as_ptr(), list.as_ptr()) };
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERCONSUMERGROUPOFFSETS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the order is copied.
            unsafe { sys::rd_kafka_AlterConsumerGroupOffsets(rk, &raw mut order, 1, options, queue) }
        });
        // SAFETY: made above, freed once.
        unsafe { sys::rd_kafka_AlterConsumerGroupOffsets_destroy(order) };
        let event = event?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let told = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_AlterConsumerGroupOffsets_result(event.as_ptr());
            entries(sys::rd_kafka_AlterConsumerGroupOffsets_result_groups(result, &raw mut count), count, group)
        }?;
        Ok(outcomes(commits.iter().map(|commit| &commit.partition), &told))
    }

    pub(super) fn delete_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<CommitOutcome>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (name, list) = (c_string(group)?, List::of_partitions(partitions)?);
        // SAFETY: the name ends in NUL; name and list are copied; what is made is ours to free.
        let mut order = unsafe { sys::rd_kafka_DeleteConsumerGroupOffsets_new(name.as_ptr(), list.as_ptr()) };
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETECONSUMERGROUPOFFSETS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the order is copied.
            unsafe { sys::rd_kafka_DeleteConsumerGroupOffsets(rk, &raw mut order, 1, options, queue) }
        });
        // SAFETY: made above, freed once.
        unsafe { sys::rd_kafka_DeleteConsumerGroupOffsets_destroy(order) };
        let event = event?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let told = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteConsumerGroupOffsets_result(event.as_ptr());
            entries(sys::rd_kafka_DeleteConsumerGroupOffsets_result_groups(result, &raw mut count), count, group)
        }?;
        Ok(outcomes(partitions, &told))
    }
}

/// What was said to each partition, in the order asked.
fn outcomes<'a>(
    partitions: impl IntoIterator<Item = &'a TopicPartition>,
    told: &HashMap<TopicPartition, Entry>,
) -> Vec<CommitOutcome> {
    let outcome = |partition: &TopicPartition| {
        let code = told.get(partition).map_or(code::LOCAL_UNKNOWN_PARTITION, |entry| entry.code);
        CommitOutcome { partition: partition.clone(), result: errors::check(code, &partition.to_string()) }
    };
    partitions.into_iter().map(outcome).collect()
}

/// The partitions of an answer about one group, or the group's error.
///
/// # Safety
/// `groups` points to `count` live results.
unsafe fn entries(
    groups: *mut *const sys::rd_kafka_group_result_t,
    count: usize,
    group: &str,
) -> Result<HashMap<TopicPartition, Entry>, KafkaError> {
    if count == 0 {
        return Err(errors::error(code::GROUP_ID_NOT_FOUND, "the answer lacks the group"));
    }
    // SAFETY: as the caller says; all that is read lives with the result.
    unsafe {
        let result = *groups;
        errors::check(errors::code_of(sys::rd_kafka_group_result_error(result)), group)?;
        let entries = list::read(sys::rd_kafka_group_result_partitions(result));
        Ok(entries.into_iter().map(|entry| (entry.partition.clone(), entry)).collect())
    }
}

fn committed(entry: &Entry) -> Result<Committed, KafkaError> {
    errors::check(entry.code, &entry.partition.to_string())?;
    Ok(Committed {
        partition: entry.partition.clone(),
        // librdkafka's mark of none is negative.
        offset: Some(entry.offset).filter(|offset| *offset >= 0),
        leader_epoch: entry.leader_epoch,
        metadata: entry.metadata.clone(),
    })
}
