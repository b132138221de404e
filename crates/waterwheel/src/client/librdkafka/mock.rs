//! librdkafka's own small cluster in this process, for tests: real connections, no real log.
//!
//! What it cannot do: no admin requests that change something, no transaction markers, and
//! commits are refused while a classic group rebalances.

use std::ffi::CString;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as sys;

use super::errors;
use super::handle::Handle;
use super::list::c_string;
use super::properties::Role;
use super::siblings::{Setup, Siblings};
use crate::client::Properties;
use crate::error::KafkaError;

/// A cluster; it ends when dropped.
pub(crate) struct MockCluster {
    cluster: *mut sys::rd_kafka_mock_cluster_t,
    /// The instance that the cluster runs in, dropped after it.
    _handle: Arc<Handle>,
}

// SAFETY: the calls send a message to the cluster's thread and wait for its answer.
unsafe impl Send for MockCluster {}
// SAFETY: as above.
unsafe impl Sync for MockCluster {}

impl MockCluster {
    pub(crate) fn start(brokers: usize) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Admin, &Setup::new(&Properties::new(), &Siblings::new(None, None)), 0)?;
        // SAFETY: the instance is live and kept for as long as the cluster.
        let cluster =
            unsafe { sys::rd_kafka_mock_cluster_new(handle.as_ptr(), i32::try_from(brokers).unwrap_or(i32::MAX)) };
        if cluster.is_null() {
            return Err(errors::error(errors::INVALID_ARGUMENT, "the mock cluster cannot be started"));
        }
        Ok(Self { cluster, _handle: handle })
    }

    /// The cluster's `bootstrap.servers`.
    pub(crate) fn bootstrap(&self) -> String {
        // SAFETY: the cluster is live, and the text with it.
        unsafe { errors::text(sys::rd_kafka_mock_cluster_bootstraps(self.cluster)) }
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: usize) -> Result<(), KafkaError> {
        let c_name: CString = c_string(name)?;
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        // SAFETY: the cluster is live, the name ends in NUL and is copied.
        let code = unsafe { sys::rd_kafka_mock_topic_create(self.cluster, c_name.as_ptr(), partitions, 1) as i32 };
        errors::check(code, name)
    }

    #[cfg(test)]
    /// The next requests of that kind (Kafka's API key) fail with these codes, one each.
    pub(crate) fn fail_requests(&self, api: i16, errors: &[sys::rd_kafka_resp_err_t]) {
        // SAFETY: the cluster is live; as many codes as said, which are copied.
        unsafe {
            sys::rd_kafka_mock_push_request_errors_array(self.cluster, api, errors.len(), errors.as_ptr());
        }
    }

    /// How long a classic group waits for members when it begins (3 s by default, as a real one).
    pub(crate) fn initial_rebalance_delay(&self, time: Duration) {
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the cluster is live.
        unsafe { sys::rd_kafka_mock_group_initial_rebalance_delay_ms(self.cluster, millis) }
    }

    /// How often members of a `group.protocol=consumer` group tell that they live, and so hear what is theirs (3 s by
    /// default; a real one: 5 s).
    pub(crate) fn group_heartbeat_interval(&self, time: Duration) {
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the cluster is live.
        unsafe { sys::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(self.cluster, millis) }
    }
}

impl Drop for MockCluster {
    fn drop(&mut self) {
        // SAFETY: made by `start`, freed once, before its instance.
        unsafe { sys::rd_kafka_mock_cluster_destroy(self.cluster) }
    }
}
