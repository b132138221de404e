//! Topics: their names, what they are, what one may do with them.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_char};

use rdkafka::bindings as sys;

use super::{Asker, WAIT, Wanted, operations};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::handle::{Event, Topic};
use crate::client::librdkafka::list::c_string;
use crate::client::{Operation, PartitionDescription, TopicDescription};
use crate::error::{KafkaError, code};

type Names<'a> = BTreeMap<&'a str, CString>;
type Told<T> = HashMap<String, Result<T, KafkaError>>;
type Allowed = Option<Vec<Operation>>;

impl Asker {
    pub(super) fn list_topics(&self) -> Result<Vec<String>, KafkaError> {
        self.metadata(Wanted::Topics, |metadata| {
            let count = usize::try_from(metadata.topic_cnt).unwrap_or(0);
            // SAFETY: the answer has as many topics as it says, each with a name.
            let mut names: Vec<String> =
                (0..count).map(|i| unsafe { errors::text((*metadata.topics.add(i)).topic) }).collect();
            names.sort_unstable();
            Ok(names)
        })
    }

    pub(super) fn describe_topics(
        &self,
        topics: &[String],
    ) -> Result<Vec<Result<TopicDescription, KafkaError>>, KafkaError> {
        let names = names(topics)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let by_metadata = || names.keys().map(|name| ((*name).to_owned(), self.topic(name))).collect();
        let described = if self.has_controller()? {
            match self.describe(&names, Rights::Left) {
                Err(e) if e.code() == errors::UNSUPPORTED_FEATURE => by_metadata(),
                // SAFETY: what is read is a description of the answer.
                answer => answer.map(|event| unsafe { each_of(&event, |topic| description(topic)) })?,
            }
        } else {
            by_metadata()
        };
        Ok(in_order(topics, &described))
    }

    pub(super) fn allowed_on_topics(&self, topics: &[String]) -> Result<Vec<Result<Allowed, KafkaError>>, KafkaError> {
        let names = names(topics)?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        if !self.has_controller()? {
            return Ok(topics.iter().map(|_| Ok(None)).collect());
        }
        let event = self.describe(&names, Rights::Asked)?;
        // SAFETY: the topic is one of the answer, and so are the operations.
        let allowed = unsafe {
            each_of(&event, |topic| {
                let mut count = 0;
                let of = sys::rd_kafka_TopicDescription_authorized_operations(topic, &raw mut count);
                operations(of, count)
            })
        };
        Ok(in_order(topics, &allowed))
    }

    /// Whether there is a controller, which librdkafka asks to describe topics, and waits for in vain where there is none.
    /// The in-process cluster names one, 0, that is none of its brokers.
    fn has_controller(&self) -> Result<bool, KafkaError> {
        self.metadata(Wanted::Brokers, |metadata| {
            let count = usize::try_from(metadata.broker_cnt).unwrap_or(0);
            // SAFETY: the instance is live. Known from that very answer; -1: there is none for now.
            let controller = unsafe { sys::rd_kafka_controllerid(self.handle.as_ptr(), 1) };
            // SAFETY: the answer has as many brokers as it says.
            Ok(controller < 0 || (0..count).any(|i| unsafe { (*metadata.brokers.add(i)).id } == controller))
        })
    }

    fn describe(&self, names: &Names<'_>, rights: Rights) -> Result<Event, KafkaError> {
        let mut names: Vec<*const c_char> = names.values().map(|n| n.as_ptr()).collect();
        self.request(sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the names are copied, and the collection is ours to free. The option is one
            // of this question's.
            unsafe {
                let asked = i32::from(matches!(rights, Rights::Asked));
                let option = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, asked);
                let refused = errors::take(option, "");
                debug_assert!(refused.is_ok(), "{refused:?}");
                let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
                sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
                sys::rd_kafka_TopicCollection_destroy(topics);
            }
        })
    }

    /// For clusters that cannot describe topics.
    fn topic(&self, name: &str) -> Result<TopicDescription, KafkaError> {
        let topic = Topic::new(&self.handle, name)?;
        self.metadata(Wanted::Topic(&topic), |metadata| {
            if metadata.topic_cnt == 0 {
                return Err(errors::error(code::LOCAL_UNKNOWN_TOPIC, name));
            }
            // SAFETY: the answer has as many topics as it says, and a topic as many partitions. The error is read as the
            // number that it is.
            let (code, partitions) = unsafe {
                let topic = metadata.topics;
                let count = usize::try_from((*topic).partition_cnt).unwrap_or(0);
                let partitions = (0..count).map(|i| {
                    let partition = (*topic).partitions.add(i);
                    let brokers = |ids: *const i32, count: i32| {
                        (0..usize::try_from(count).unwrap_or(0)).map(|n| *ids.add(n)).collect()
                    };
                    PartitionDescription {
                        leader: Some((*partition).leader).filter(|leader| *leader >= 0),
                        replicas: brokers((*partition).replicas, (*partition).replica_cnt),
                        in_sync: brokers((*partition).isrs, (*partition).isr_cnt),
                    }
                });
                ((&raw const (*topic).err).cast::<i32>().read(), partitions.collect())
            };
            errors::check(code, name)?;
            Ok(TopicDescription { name: name.to_owned(), id: None, partitions })
        })
    }
}

/// Whether a description says what one may do.
enum Rights {
    Asked,
    Left,
}

/// A name that comes twice makes the whole question invalid.
fn names(topics: &[String]) -> Result<Names<'_>, KafkaError> {
    topics.iter().map(|t| Ok((t.as_str(), c_string(t)?))).collect()
}

fn in_order<T: Clone>(topics: &[String], told: &Told<T>) -> Vec<Result<T, KafkaError>> {
    let missing = || Err(errors::error(code::LOCAL_UNKNOWN_TOPIC, "the answer lacks the topic"));
    topics.iter().map(|t| told.get(t).cloned().unwrap_or_else(missing)).collect()
}

/// What `read` makes of each topic of an answer, or the topic's error.
///
/// # Safety
/// The event is the answer to a question that describes topics; `read` is sound with the topics of that answer.
unsafe fn each_of<T>(event: &Event, mut read: impl FnMut(*const sys::rd_kafka_TopicDescription_t) -> T) -> Told<T> {
    let mut told = Told::new();
    // SAFETY: the event is live; all that is read lives with it.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_DescribeTopics_result(event.as_ptr());
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        for i in 0..count {
            let topic = *topics.add(i);
            let name = errors::text(sys::rd_kafka_TopicDescription_name(topic));
            let code = errors::code_of(sys::rd_kafka_TopicDescription_error(topic));
            told.insert(name.clone(), errors::check(code, &name).map(|()| read(topic)));
        }
    }
    told
}

/// # Safety
/// The topic is live.
unsafe fn description(topic: *const sys::rd_kafka_TopicDescription_t) -> TopicDescription {
    // SAFETY: as the caller says; all that is read lives with the topic.
    unsafe {
        let mut count = 0;
        let infos = sys::rd_kafka_TopicDescription_partitions(topic, &raw mut count);
        let partitions = (0..count).map(|i| {
            let info = *infos.add(i);
            let leader = sys::rd_kafka_TopicPartitionInfo_leader(info);
            let ids = |nodes: *mut *const sys::rd_kafka_Node_t, count| {
                (0..count).map(|n| sys::rd_kafka_Node_id(*nodes.add(n))).collect()
            };
            let (mut replicas, mut in_sync) = (0, 0);
            let replica_nodes = sys::rd_kafka_TopicPartitionInfo_replicas(info, &raw mut replicas);
            let in_sync_nodes = sys::rd_kafka_TopicPartitionInfo_isr(info, &raw mut in_sync);
            let leader = (!leader.is_null()).then(|| sys::rd_kafka_Node_id(leader)).filter(|id| *id >= 0);
            PartitionDescription {
                leader,
                replicas: ids(replica_nodes, replicas),
                in_sync: ids(in_sync_nodes, in_sync),
            }
        });
        let partitions = partitions.collect();
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        let id = (!id.is_null()).then(|| {
            let high = sys::rd_kafka_Uuid_most_significant_bits(id) as u64;
            u128::from(high) << 64 | u128::from(sys::rd_kafka_Uuid_least_significant_bits(id) as u64)
        });
        TopicDescription {
            name: errors::text(sys::rd_kafka_TopicDescription_name(topic)),
            // Zero: the broker is too old for ids.
            id: id.filter(|id| *id != 0),
            partitions,
        }
    }
}
