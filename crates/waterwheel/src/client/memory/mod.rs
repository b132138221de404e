//! A whole small Kafka in memory behind the ports, for tests: topics, groups with several members, rebalances on command,
//! faults, and a time that is the runtime's, so that a test may pause it.
//!
//! All of it is one [`world::World`] behind one lock. What happens later (a request that takes its time, a session that
//! expires) is a job that a task of the caller's runtime carries out. Nothing is random, and with a paused clock on one
//! thread the same test runs the same way each time.
//!
//! | file | job |
//! |---|---|
//! | `world` | the state, its time, its jobs, and who is woken by a change |
//! | `log` | one partition: records, gaps, transactions, leader epochs |
//! | `group`, `balance` | the coordinator: members, rebalances, commits; who gets what |
//! | `groups` | what is told of groups, and what tools change |
//! | `topics` | what tools change of topics, and their configurations |
//! | `pattern` | which topics a subscription takes |
//! | `faults` | what goes wrong on command |
//! | `membership`, `fetcher`, `producer`, `transactions`, `admin` | the ports |
//! | `control` | what a test does to it |
//!
//! What it does not do: compression and limits of a broker's request sizes, quotas, rights (a fault stands in for them),
//! replication (a leader's change is a new epoch, with or without records cut off), what a topic's configurations say (they are
//! kept and told, nothing goes by them), access rules and users.

mod admin;
mod balance;
pub(crate) mod control;
mod faults;
mod fetcher;
mod group;
mod groups;
mod log;
mod membership;
mod pattern;
mod producer;
#[cfg(test)]
mod tests;
mod topics;
mod transactions;
mod world;

use std::sync::Arc;

use tokio::sync::broadcast;

#[cfg(test)]
pub(super) use producer::murmur2;
pub(crate) use world::World;

use super::{Admin, Backend, ClientEvent, Fetcher, Membership, Producer, Properties, Transactions, WorldTime};
use crate::config::Secret;
use crate::error::{KafkaError, code};

/// Clients of a world, all on one host.
pub(crate) struct Memory {
    world: Arc<World>,
    host: u32,
    /// Nothing is said on it.
    events: broadcast::Sender<ClientEvent>,
}

impl Memory {
    pub(crate) fn new(world: Arc<World>, host: u32) -> Self {
        Self { world, host, events: broadcast::Sender::new(1) }
    }
}

impl Backend for Memory {
    fn time(&self) -> Option<WorldTime> {
        Some(self.world.time())
    }

    fn membership(&self, properties: &Properties, topics: &[String]) -> Result<Arc<dyn Membership>, KafkaError> {
        Ok(Arc::new(membership::Member::join(self.world.clone(), self.host, properties, topics)?))
    }

    fn fetcher(&self, properties: &Properties) -> Result<Arc<dyn Fetcher>, KafkaError> {
        Ok(Arc::new(fetcher::FetchClient::new(self.world.clone(), self.host, properties)))
    }

    fn producer(&self, properties: &Properties) -> Result<Arc<dyn Producer>, KafkaError> {
        Ok(Arc::new(producer::Sender::new(self.world.clone(), self.host, properties)))
    }

    fn transactions(&self, properties: &Properties) -> Result<Arc<dyn Transactions>, KafkaError> {
        Ok(Arc::new(transactions::Transactor::new(self.world.clone(), self.host, properties)))
    }

    fn admin(&self, properties: &Properties) -> Result<Arc<dyn Admin>, KafkaError> {
        Ok(Arc::new(admin::AdminClient::new(self.world.clone(), self.host, properties)))
    }

    fn events(&self) -> broadcast::Receiver<ClientEvent> {
        self.events.subscribe()
    }

    /// Nobody logs in here.
    fn set_credentials(&self, _: &str, _: &Secret) -> Result<(), KafkaError> {
        Err(error(refusal::UNSUPPORTED_VERSION, "credentials"))
    }
}

/// Whether only what is committed is read; the default of librdkafka, too.
fn reads_committed(properties: &Properties) -> bool {
    properties.get("isolation.level").is_none_or(|level| level != "read_uncommitted")
}

/// Kafka's codes by which tools are refused.
pub(crate) mod refusal {
    pub(crate) const UNSUPPORTED_VERSION: i32 = 35;
    pub(crate) const INVALID_PARTITIONS: i32 = 37;
    pub(crate) const INVALID_REPLICATION_FACTOR: i32 = 38;
    pub(crate) const INVALID_REPLICA_ASSIGNMENT: i32 = 39;
    pub(crate) const INVALID_CONFIG: i32 = 40;
}

/// The error of a code.
fn error(code: i32, context: impl Into<String>) -> KafkaError {
    let name = match code {
        code::OFFSET_OUT_OF_RANGE => "offset out of range",
        code::UNKNOWN_TOPIC_OR_PARTITION => "unknown topic or partition",
        code::MESSAGE_TOO_LARGE => "message size too large",
        code::OFFSET_METADATA_TOO_LARGE => "offset metadata too large",
        code::INVALID_TOPIC => "invalid topic",
        code::ILLEGAL_GENERATION => "specified group generation id is not valid",
        code::UNKNOWN_MEMBER_ID => "unknown member",
        code::FENCED_INSTANCE_ID => "static consumer fenced by another consumer with the same group.instance.id",
        code::UNRELEASED_INSTANCE_ID => "the instance id is still used by another member",
        code::STALE_MEMBER_EPOCH => "the member epoch is stale",
        refusal::UNSUPPORTED_VERSION => "the cluster in memory does not do this",
        code::TOPIC_ALREADY_EXISTS => "topic already exists",
        refusal::INVALID_PARTITIONS => "invalid number of partitions",
        refusal::INVALID_REPLICATION_FACTOR => "invalid replication factor",
        refusal::INVALID_REPLICA_ASSIGNMENT => "invalid replica assignment",
        refusal::INVALID_CONFIG => "invalid configuration",
        code::NON_EMPTY_GROUP => "the group is not empty",
        code::GROUP_ID_NOT_FOUND => "the group id does not exist",
        code::LOCAL_DESTROYED => "the client has ended",
        code::LOCAL_STATE => "erroneous state",
        code::LOCAL_PURGE_QUEUE => "purged in queue",
        code::LOCAL_FENCED => "this instance has been fenced by a newer instance",
        code::LOCAL_TRANSPORT => "broker transport failure",
        code::LOCAL_MSG_TIMED_OUT => "message timed out",
        code::LOCAL_UNKNOWN_PARTITION => "unknown partition",
        code::LOCAL_UNKNOWN_TOPIC => "unknown topic",
        code::LOCAL_TIMED_OUT => "timed out",
        _ => "an error that the test asked for",
    };
    KafkaError::new(code, name, context)
}

/// The error of a call on a client that has ended.
fn ended() -> KafkaError {
    error(code::LOCAL_DESTROYED, "")
}
