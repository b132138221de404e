//! What a cluster says about itself: brokers, topics, groups and their members.

use std::fmt;

use crate::error::KafkaError;
use crate::record::TopicPartition;

/// A cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// The cluster's id, where it has one.
    pub id: Option<String>,
    /// By id.
    pub brokers: Vec<BrokerDescription>,
    /// The broker that takes changes of topics; `None` while there is none.
    pub controller: Option<i32>,
}

/// A broker, by the address that it tells clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerDescription {
    /// Its number.
    pub id: i32,
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id (KIP-516); `None` where the cluster tells none. A topic made again has another one.
    pub id: Option<u128>,
    /// Its partitions, numbered from 0.
    pub partitions: Vec<PartitionDescription>,
}

/// Where a partition is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// The broker that leads it; `None` while there is none, and it can be neither read nor written.
    pub leader: Option<i32>,
    /// The brokers that should have it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those that have all of it.
    pub in_sync: Vec<i32>,
}

/// By which protocol a group shares its partitions out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupType {
    /// By its members: `group.protocol=classic`.
    Classic,
    /// By the broker: `group.protocol=consumer` (KIP-848).
    Consumer,
}

impl GroupType {
    /// `classic` or `consumer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

impl fmt::Display for GroupType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a group is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupState {
    /// Classic: members join.
    PreparingRebalance,
    /// Classic: the partitions are being shared out.
    CompletingRebalance,
    /// Consumer protocol: partitions are being shared out or handed over.
    Reconciling,
    /// Its members have their partitions.
    Stable,
    /// It has no members; what it has committed stands.
    Empty,
    /// It does not exist, or is about to go.
    Dead,
    /// The client does not know the broker's word for it.
    Unknown,
}

impl GroupState {
    /// `preparing-rebalance`, `completing-rebalance`, `reconciling`, `stable`, `empty`, `dead`, or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreparingRebalance => "preparing-rebalance",
            Self::CompletingRebalance => "completing-rebalance",
            Self::Reconciling => "reconciling",
            Self::Stable => "stable",
            Self::Empty => "empty",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for GroupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The groups of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupList {
    /// By name.
    pub groups: Vec<GroupListing>,
    /// Brokers that did not answer: their groups are not in the list.
    pub failures: Vec<KafkaError>,
}

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupListing {
    /// Its name.
    pub name: String,
    /// `None` where the broker is too old to tell.
    pub protocol: Option<GroupType>,
    /// What it is doing.
    pub state: GroupState,
}

/// A group and its members.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupDescription {
    /// Its name.
    pub name: String,
    /// `None` where the broker is too old to tell.
    pub protocol: Option<GroupType>,
    /// What it is doing.
    pub state: GroupState,
    /// What shares the partitions out, as `cooperative-sticky` or `uniform`; `None` where the group has no members.
    pub assignor: Option<String>,
    /// The broker that coordinates it.
    pub coordinator: Option<i32>,
    /// By client id, host and member id.
    pub members: Vec<GroupMember>,
    /// What this client may do with the group; `None` where the cluster does not tell.
    pub allowed: Option<Vec<Operation>>,
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupMember {
    /// The id that the coordinator or the client gave it.
    pub id: String,
    /// Its `client.id`.
    pub client_id: String,
    /// Where its connection comes from.
    pub host: String,
    /// Its `group.instance.id`, if it is a static member.
    pub instance_id: Option<String>,
    /// By topic and partition.
    pub partitions: Vec<TopicPartition>,
}

/// What an access rule allows or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// All of them.
    All,
    /// Fetch from a topic; join a group and commit for it.
    Read,
    /// Write to a topic.
    Write,
    /// Make it.
    Create,
    /// Delete it.
    Delete,
    /// Change it: partitions of a topic, access rules and users of a cluster.
    Alter,
    /// Learn that it exists and where it is; read a group's commits.
    Describe,
    /// What brokers do to each other.
    ClusterAction,
    /// Read its configurations.
    DescribeConfigs,
    /// Change its configurations.
    AlterConfigs,
    /// Write idempotently, to a cluster of before Kafka 2.8.
    IdempotentWrite,
    /// Any other.
    Other,
}
