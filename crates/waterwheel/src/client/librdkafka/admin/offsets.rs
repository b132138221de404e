//! Offsets of partitions: the ends of a log, and by time.

use std::collections::HashMap;

use rdkafka::bindings as sys;

use super::{Asker, WAIT};
use crate::client::OffsetSpec;
use crate::client::librdkafka::errors;
use crate::client::librdkafka::list::{self, List};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

impl Asker {
    pub(super) fn list_offsets(
        &self,
        of: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Vec<Result<i64, KafkaError>>, KafkaError> {
        let mut answers = self.offsets_of(of)?;
        // No record is as late as asked for: the end.
        let late: Vec<usize> =
            (0..of.len()).filter(|&i| matches!((&answers[i], of[i].1), (Ok(-1), OffsetSpec::Timestamp(_)))).collect();
        if !late.is_empty() {
            let ends: Vec<_> = late.iter().map(|&i| (of[i].0.clone(), OffsetSpec::Latest)).collect();
            for (i, end) in late.into_iter().zip(self.offsets_of(&ends)?) {
                answers[i] = end;
            }
        }
        let known = |(answer, (partition, _)): (Result<i64, KafkaError>, &(TopicPartition, OffsetSpec))| {
            // A leader that has just been elected may answer without an offset, and without an error.
            answer.and_then(|offset| {
                let told = if offset < 0 { Err(code::OFFSET_NOT_AVAILABLE) } else { Ok(offset) };
                told.map_err(|code| errors::error(code, partition.to_string()))
            })
        };
        Ok(answers.into_iter().zip(of).map(known).collect())
    }

    fn offsets_of(&self, of: &[(TopicPartition, OffsetSpec)]) -> Result<Vec<Result<i64, KafkaError>>, KafkaError> {
        let mut answers: Vec<Option<Result<i64, KafkaError>>> = vec![None; of.len()];
        // A partition that comes twice is asked for in another round: one question may name it once.
        while answers.iter().any(Option::is_none) {
            let mut asked = HashMap::new();
            for (i, (partition, _)) in of.iter().enumerate().filter(|(i, _)| answers[*i].is_none()) {
                asked.entry(partition).or_insert(i);
            }
            let mut told = self.offsets_once(asked.values().map(|&i| &of[i]))?;
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
    ) -> Result<HashMap<TopicPartition, Result<i64, KafkaError>>, KafkaError> {
        let mut asked = List::with_capacity(8);
        for (partition, spec) in of {
            asked.add(&partition.topic, partition.partition)?.offset(match spec {
                OffsetSpec::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST as i64,
                OffsetSpec::Latest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST as i64,
                OffsetSpec::Timestamp(t) => *t,
            });
        }
        let event =
            self.request(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS, WAIT, |rk, options, queue| {
                let level = if self.committed {
                    sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_COMMITTED
                } else {
                    sys::rd_kafka_IsolationLevel_t::RD_KAFKA_ISOLATION_LEVEL_READ_UNCOMMITTED
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
                let element = sys::rd_kafka_ListOffsetsResultInfo_topic_partition(*infos.add(i));
                let entry = list::entry(element);
                let context = entry.partition.to_string();
                told.insert(entry.partition, errors::check(entry.code, &context).map(|()| entry.offset));
            }
        }
        Ok(told)
    }
}
