//! Questions and changes that concern topics.
//!
//! Each call runs on a short-lived thread: they are rare, and some of librdkafka's calls block.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_char};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;
use tokio::sync::oneshot;

use super::errors;
use super::handle::{Event, Handle, Queue, Said, Topic};
use super::list::{self, List, c_string};
use super::properties::Role;
use crate::client::{Admin, OffsetSpec, PortFuture, Properties, TopicDescription};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// Asks and changes.
pub(super) struct AdminClient {
    asker: Arc<Asker>,
}

impl AdminClient {
    pub(super) fn new(properties: &Properties) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Admin, properties, 0)?;
        // librdkafka's default, too.
        let committed = properties.get("isolation.level").is_none_or(|level| level != "read_uncommitted");
        Ok(Self { asker: Arc::new(Asker { handle, committed }) })
    }

    fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Asker) -> Result<T, KafkaError> + Send + 'static,
    ) -> PortFuture<T> {
        let (asker, (tell, told)) = (self.asker.clone(), oneshot::channel());
        let run = move || {
            // The caller may have given up.
            _ = tell.send(ask(&asker));
        };
        let thread = std::thread::Builder::new().name("waterwheel-admin".into()).spawn(run);
        Box::pin(async move {
            thread.map_err(|e| errors::no_thread(&e))?;
            told.await.unwrap_or_else(|_| Err(errors::ended()))
        })
    }
}

impl Admin for AdminClient {
    fn describe_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<TopicDescription, KafkaError>>> {
        self.ask(move |asker| asker.describe_topics(&topics))
    }

    fn list_offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> PortFuture<Vec<Result<i64, KafkaError>>> {
        self.ask(move |asker| asker.list_offsets(&of))
    }

    fn create_topic(&self, name: String, partitions: usize, timeout: Duration) -> PortFuture<()> {
        self.ask(move |asker| asker.create_topic(&name, partitions, timeout))
    }
}

struct Asker {
    handle: Arc<Handle>,
    /// Whether "latest" is the last stable offset.
    committed: bool,
}

/// A question is given up after as long.
const WAIT: Duration = Duration::from_secs(30);

type Described = HashMap<String, Result<TopicDescription, KafkaError>>;

impl Asker {
    fn describe_topics(&self, topics: &[String]) -> Result<Vec<Result<TopicDescription, KafkaError>>, KafkaError> {
        // A name that comes twice makes the whole question invalid.
        let names: BTreeMap<&str, CString> =
            topics.iter().map(|t| Ok((t.as_str(), c_string(t)?))).collect::<Result<_, KafkaError>>()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let by_metadata = || names.keys().map(|name| ((*name).to_owned(), self.metadata(name))).collect();
        let described = if self.has_controller()? {
            match self.describe(names.values()) {
                Err(e) if e.code() == errors::UNSUPPORTED_FEATURE => by_metadata(),
                answer => answer?,
            }
        } else {
            by_metadata()
        };
        let missing = || Err(errors::error(code::LOCAL_UNKNOWN_TOPIC, "the answer lacks the topic"));
        Ok(topics.iter().map(|t| described.get(t).cloned().unwrap_or_else(missing)).collect())
    }

    /// Whether there is a controller, which librdkafka asks to describe topics, and waits for in vain where there is none.
    /// The in-process cluster names one, 0, that is none of its brokers.
    fn has_controller(&self) -> Result<bool, KafkaError> {
        let mut metadata = std::ptr::null();
        // SAFETY: the instance is live; no topic is asked for; the answer is ours to free where there is one.
        unsafe {
            let (rk, no_topic) = (self.handle.as_ptr(), std::ptr::null_mut());
            let code = errors::raw::rd_kafka_metadata(rk, 0, no_topic, &raw mut metadata, WAIT.as_millis() as i32);
            errors::check(code, "asking for the brokers")?;
            let (brokers, count) = ((*metadata).brokers, usize::try_from((*metadata).broker_cnt).unwrap_or(0));
            // Known from that very answer; -1: there is none for now.
            let controller = sys::rd_kafka_controllerid(rk, 1);
            let found = controller < 0 || (0..count).any(|i| (*brokers.add(i)).id == controller);
            sys::rd_kafka_metadata_destroy(metadata);
            Ok(found)
        }
    }

    fn describe<'a>(&self, names: impl Iterator<Item = &'a CString>) -> Result<Described, KafkaError> {
        let mut names: Vec<*const c_char> = names.map(|n| n.as_ptr()).collect();
        let event =
            self.request(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, WAIT, |rk, options, queue| {
                // SAFETY: all pointers are live; the names are copied, and the collection is ours to free.
                unsafe {
                    let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                    sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
                    sys::rd_kafka_TopicCollection_destroy(topics);
                }
            })?;
        let mut described = Described::new();
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeTopics_result(event.as_ptr());
            let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
            for i in 0..count {
                let topic = *topics.add(i);
                let name = errors::text(sys::rd_kafka_TopicDescription_name(topic));
                let error = sys::rd_kafka_TopicDescription_error(topic);
                let code = if error.is_null() { 0 } else { errors::raw::rd_kafka_error_code(error) };
                let mut partitions = 0;
                sys::rd_kafka_TopicDescription_partitions(topic, &raw mut partitions);
                let id = sys::rd_kafka_TopicDescription_topic_id(topic);
                let id = (!id.is_null()).then(|| {
                    let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
                    u128::from(high) << 64 | u128::from(sys::rd_kafka_Uuid_least_significant_bits(id) as u64)
                });
                let description = errors::check(code, &name).map(|()| TopicDescription {
                    name: name.clone(),
                    // Zero: the broker is too old for ids.
                    id: id.filter(|id| *id != 0),
                    partitions,
                });
                described.insert(name, description);
            }
        }
        Ok(described)
    }

    /// For clusters that cannot describe topics.
    fn metadata(&self, name: &str) -> Result<TopicDescription, KafkaError> {
        let topic = Topic::new(&self.handle, name)?;
        let mut metadata = std::ptr::null();
        // SAFETY: instance and topic are live; the answer is ours to free where there is one.
        unsafe {
            let code = errors::raw::rd_kafka_metadata(
                self.handle.as_ptr(),
                0,
                topic.as_ptr(),
                &raw mut metadata,
                WAIT.as_millis() as i32,
            );
            errors::check(code, name)?;
            let answer = if (*metadata).topic_cnt > 0 {
                let topic = (*metadata).topics;
                errors::check((&raw const (*topic).err).cast::<i32>().read(), name).map(|()| TopicDescription {
                    name: name.to_owned(),
                    id: None,
                    partitions: usize::try_from((*topic).partition_cnt).unwrap_or(0),
                })
            } else {
                Err(errors::error(code::LOCAL_UNKNOWN_TOPIC, name))
            };
            sys::rd_kafka_metadata_destroy(metadata);
            answer
        }
    }

    fn list_offsets(&self, of: &[(TopicPartition, OffsetSpec)]) -> Result<Vec<Result<i64, KafkaError>>, KafkaError> {
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

    fn create_topic(&self, name: &str, partitions: usize, timeout: Duration) -> Result<(), KafkaError> {
        let c_name = c_string(name)?;
        let mut said = Said::default();
        // SAFETY: the name ends in NUL and is copied; the buffer is as long as said. -1: the cluster's replication.
        let mut topic = unsafe {
            sys::rd_kafka_NewTopic_new(
                c_name.as_ptr(),
                i32::try_from(partitions).unwrap_or(i32::MAX),
                -1,
                said.as_mut_ptr(),
                said.len(),
            )
        };
        if topic.is_null() {
            return Err(KafkaError::new(errors::INVALID_ARGUMENT, said.text(), name));
        }
        let event =
            self.request(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATETOPICS, timeout, |rk, options, queue| {
                // SAFETY: all pointers are live; the topic is copied.
                unsafe { sys::rd_kafka_CreateTopics(rk, &raw mut topic, 1, options, queue) }
            });
        // SAFETY: made above, freed once.
        unsafe { sys::rd_kafka_NewTopic_destroy(topic) };
        let event = event?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let (code, said) = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreateTopics_result(event.as_ptr());
            let topics = sys::rd_kafka_CreateTopics_result_topics(result, &raw mut count);
            if count == 0 {
                return Err(errors::error(code::LOCAL_UNKNOWN_TOPIC, name));
            }
            let topic = *topics;
            (
                errors::raw::rd_kafka_topic_result_error(topic),
                errors::text(sys::rd_kafka_topic_result_error_string(topic)),
            )
        };
        if code == TOPIC_EXISTS { Ok(()) } else { errors::check(code, &format!("creating {name}: {said}")) }
    }

    /// Sends a request and waits for its answer.
    fn request(
        &self,
        kind: sys::rd_kafka_admin_op_t,
        timeout: Duration,
        send: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Event, KafkaError> {
        let queue = Queue::new(&self.handle)?;
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).clamp(1, 3_600_000);
        let mut said = Said::default();
        // SAFETY: the instance is live; the options are ours to free; the buffer is as long as said.
        let options = unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.handle.as_ptr(), kind);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, said.as_mut_ptr(), said.len());
            options
        };
        send(self.handle.as_ptr(), options, queue.as_ptr());
        // SAFETY: made above, copied by the request, freed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(options) };
        // The request has a time-out of its own; a little more for its answer to come.
        let event = queue.poll(millis + 5_000).ok_or_else(|| errors::error(code::LOCAL_TIMED_OUT, ""))?;
        if event.code() != 0 { Err(event.error(&self.handle)) } else { Ok(event) }
    }
}

const TOPIC_EXISTS: i32 = 36;
