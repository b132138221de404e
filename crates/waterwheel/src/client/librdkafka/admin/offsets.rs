//! Offsets of partitions: the ends of a log, and by time.

use std::collections::HashMap;

use rdkafka::bindings as sys;

use super::{Asker, WAIT};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::list::{self, List};
use crate::client::{Isolation, ListedOffset, OffsetSpec};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

impl Asker {
    /// The end where no record is as asked for.
    pub(super) fn list_offsets(
        &self,
        of: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Vec<Result<i64, KafkaError>>, KafkaError> {
        let mut answers = self.find_offsets(of, self.isolation)?;
        let late: Vec<usize> =
            (0..of.len()).filter(|&i| answers[i].as_ref().is_ok_and(|found| found.offset.is_none())).collect();
        if !late.is_empty() {
            let ends: Vec<_> = late.iter().map(|&i| (of[i].0.clone(), OffsetSpec::Latest)).collect();
            for (i, end) in late.into_iter().zip(self.find_offsets(&ends, self.isolation)?) {
                answers[i] = end;
            }
        }
        let known = |(answer, (partition, _)): (Result<ListedOffset, KafkaError>, &(TopicPartition, _))| {
            answer?.offset.ok_or_else(|| errors::error(code::OFFSET_NOT_AVAILABLE, partition.to_string()))
        };
        Ok(answers.into_iter().zip(of).map(known).collect())
    }

    pub(super) fn find_offsets(
        &self,
        of: &[(TopicPartition, OffsetSpec)],
        isolation: Isolation,
    ) -> Result<Vec<Result<ListedOffset, KafkaError>>, KafkaError> {
        let known = |(answer, (partition, spec)): (Result<ListedOffset, KafkaError>, &(TopicPartition, OffsetSpec))| {
            let found = answer?;
            // A leader that has just been elected may answer without an offset, and without an error.
            match (found.offset, spec) {
                (None, OffsetSpec::Earliest | OffsetSpec::Latest) => {
                    Err(errors::error(code::OFFSET_NOT_AVAILABLE, partition.to_string()))
                }
                _ => Ok(found),
            }
        };
        Ok(self.offsets_of(of, isolation)?.into_iter().zip(of).map(known).collect())
    }

    fn offsets_of(
        &self,
        of: &[(TopicPartition, OffsetSpec)],
        isolation: Isolation,
    ) -> Result<Vec<Result<ListedOffset, KafkaError>>, KafkaError> {
        let mut answers: Vec<Option<Result<ListedOffset, KafkaError>>> = vec![None; of.len()];
        // A partition that comes twice is asked for in another round: one question may name it once.
        while answers.iter().any(Option::is_none) {
            let mut asked = HashMap::new();
            for (i, (partition, _)) in of.iter().enumerate().filter(|(i, _)| answers[*i].is_none()) {
                asked.entry(partition).or_insert(i);
            }
            let mut told = self.offsets_once(asked.values().map(|&i| &of[i]), isolation)?;
            for (partition, i) in asked {
                let missing = || Err(errors::error(code::LOCAL_UNKNOWN_PARTITION, partition.to_string()));
                answers[i] = Some(told.remove(partition).unwrap_or_else(missing));
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    fn offsets_once<'a>(
        &self,
        of: impl Iterator<Item = &'a (TopicPartition, OffsetSpec)>,
        isolation: Isolation,
    ) -> Result<HashMap<TopicPartition, Result<ListedOffset, KafkaError>>, KafkaError> {
        let mut asked = List::with_capacity(8);
        for (partition, spec) in of {
            asked.add(&partition.topic, partition.partition)?.offset(match spec {
                OffsetSpec::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
                OffsetSpec::Latest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
                OffsetSpec::Timestamp(t) => *t,
                OffsetSpec::MaxTimestamp => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP as i64,
            });
        }
        let event =
            self.request(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, WAIT, |rk, options, queue| {
                use sys::rd_kafka_IsolationLevel_t as raw;
                let level = match isolation {
                    Isolation::ReadCommitted => raw::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED,
                    Isolation::ReadUncommitted => raw::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED,
                };
                // SAFETY: all pointers are live; the list is copied. The option is one of this question's.
                unsafe {
                    let refused = errors::take(sys::rd_kafka_AdminOptions_set_isolation_level(options, level), "");
                    debug_assert!(refused.is_ok(), "{refused:?}");
                    sys::rd_kafka_ListOffsets(rk, asked.as_ptr(), options, queue);
                }
            })?;
        let mut told = HashMap::new();
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_ListOffsets_result(event.as_ptr());
            let infos = sys::rd_kafka_ListOffsets_result_infos(result, &raw mut count);
            for i in 0..count {
                let entry = list::entry(sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i)));
                let timestamp = sys::rd_kafka_ListOffsetsResultInfo_timestamp(*infos.add(i));
                // librdkafka's mark of none is negative.
                let known = |number: i64| Some(number).filter(|number| *number >= 0);
                let found = ListedOffset { offset: known(entry.offset), timestamp: known(timestamp) };
                let context = entry.partition.to_string();
                told.insert(entry.partition, errors::check(entry.code, &context).map(|()| found));
            }
        }
        Ok(told)
    }
}
