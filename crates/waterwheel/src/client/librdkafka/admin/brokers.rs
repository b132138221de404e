//! Brokers: which there are, and whether one answers.

use std::ffi::c_void;

use rdkafka::bindings as sys;

use super::{Asker, WAIT, Wanted};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::list::c_string;
use crate::client::{BrokerDescription, ClusterDescription};
use crate::error::KafkaError;

impl Asker {
    pub(super) fn describe_cluster(&self) -> Result<ClusterDescription, KafkaError> {
        self.metadata(Wanted::Brokers, |metadata| {
            let count = usize::try_from(metadata.broker_cnt).unwrap_or(0);
            // SAFETY: the answer has as many brokers as it says, each with a host; the id is ours to free.
            let (mut brokers, id, controller): (Vec<_>, _, _) = unsafe {
                let broker = |i| {
                    let broker = metadata.brokers.add(i);
                    let port = u16::try_from((*broker).port).unwrap_or(0);
                    BrokerDescription { id: (*broker).id, host: errors::text((*broker).host), port }
                };
                // Known from that very answer.
                let id = sys::rd_kafka_clusterid(self.handle.as_ptr(), 1);
                let text = errors::text(id);
                if !id.is_null() {
                    sys::rd_kafka_mem_free(self.handle.as_ptr(), id.cast::<c_void>());
                }
                ((0..count).map(broker).collect(), text, sys::rd_kafka_controllerid(self.handle.as_ptr(), 1))
            };
            brokers.sort_unstable_by_key(|broker| broker.id);
            let controller = Some(controller).filter(|id| brokers.iter().any(|broker| broker.id == *id));
            Ok(ClusterDescription { id: Some(id).filter(|id| !id.is_empty()), brokers, controller })
        })
    }

    /// Asks for the broker's configuration, which goes to that very broker; what it says of it does not matter.
    pub(super) fn ask_broker(&self, id: i32) -> Result<(), KafkaError> {
        let name = c_string(&id.to_string())?;
        // SAFETY: the name ends in NUL and is copied; the resource is ours to free.
        let mut resource = unsafe {
            sys::rd_kafka_ConfigResource_new(sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_BROKER, name.as_ptr())
        };
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS;
        let answer = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the resource is copied.
            unsafe { sys::rd_kafka_DescribeConfigs(rk, &raw mut resource, 1, options, queue) }
        });
        // SAFETY: made above, freed once.
        unsafe { sys::rd_kafka_ConfigResource_destroy(resource) };
        match answer {
            // A broker's own codes are positive.
            Err(error) if error.code() < 0 => Err(error),
            _ => Ok(()),
        }
    }
}
