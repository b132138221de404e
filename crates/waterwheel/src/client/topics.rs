//! What can be asked of topics: to be made, to get partitions, to lose records, to be configured.

use std::fmt;

use crate::record::TopicPartition;

/// Whether a change is made, or only judged by the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is made.
    Execute,
    /// The cluster answers as if it made it, rights and limits included, and changes nothing.
    DryRun,
}

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: Option<usize>,
    pub(crate) replication: Option<usize>,
    pub(crate) replicas: Vec<Vec<i32>>,
    pub(crate) configs: Vec<(String, String)>,
}

impl NewTopic {
    /// With the cluster's default number of partitions (`num.partitions`) and of replicas (`default.replication.factor`).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: None, replication: None, replicas: Vec::new(), configs: Vec::new() }
    }

    /// How many partitions; by default as many as the cluster says.
    #[must_use]
    pub fn partitions(self, count: usize) -> Self {
        Self { partitions: Some(count), ..self }
    }

    /// On how many brokers each partition is; by default as many as the cluster says.
    #[must_use]
    pub fn replication(self, factor: usize) -> Self {
        Self { replication: Some(factor), ..self }
    }

    /// The brokers of each partition, from partition 0 on, the preferred leader first; by default the cluster's choice. Takes
    /// the place of [`partitions`](Self::partitions) and [`replication`](Self::replication), and is refused beside them.
    #[must_use]
    pub fn replicas(self, of_partitions: Vec<Vec<i32>>) -> Self {
        Self { replicas: of_partitions, ..self }
    }

    /// A configuration of the topic, as `cleanup.policy`; what is not set follows the brokers.
    #[must_use]
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.push((name.into(), value.into()));
        self
    }
}

/// Partitions to be added to a topic. Keys of records move: what a key was written to before stays where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    pub(crate) topic: String,
    pub(crate) total: usize,
    pub(crate) replicas: Vec<Vec<i32>>,
}

impl NewPartitions {
    /// So that the topic has `total` partitions.
    pub fn up_to(topic: impl Into<String>, total: usize) -> Self {
        Self { topic: topic.into(), total, replicas: Vec::new() }
    }

    /// The brokers of each new partition, in their order, the preferred leader first; by default the cluster's choice.
    #[must_use]
    pub fn replicas(self, of_new: Vec<Vec<i32>>) -> Self {
        Self { replicas: of_new, ..self }
    }
}

/// Which records of a partition are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteBelow {
    /// Those below that offset.
    Offset(i64),
    /// All that are there (up to the high watermark).
    End,
}

/// Which records count for the end of a log, and as the latest by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those below the last stable offset, that is below the first record of an open transaction.
    ReadCommitted,
    /// All.
    ReadUncommitted,
}

/// An offset that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListedOffset {
    /// The offset; `None` where no record is as asked for.
    pub offset: Option<i64>,
    /// The time of the record there, in milliseconds since the Unix epoch, where it was asked for by time.
    pub timestamp: Option<i64>,
}

/// What has a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic.
    Topic(String),
    /// A broker, by its id.
    Broker(i32),
    /// A group (Kafka 4.0 and newer).
    Group(String),
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// Where a configuration's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set for the topic.
    Topic,
    /// Set for the group.
    Group,
    /// Set for the broker at run time.
    Broker,
    /// Set for all brokers at run time.
    AllBrokers,
    /// In the broker's file.
    BrokerFile,
    /// Kafka's default.
    Default,
    /// The cluster does not say, or the client does not know its word.
    Unknown,
}

impl ConfigSource {
    /// `topic`, `group`, `broker`, `all-brokers`, `broker-file`, `default`, or `unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Group => "group",
            Self::Broker => "broker",
            Self::AllBrokers => "all-brokers",
            Self::BrokerFile => "broker-file",
            Self::Default => "default",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A configuration and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigEntry {
    /// Its name.
    pub name: String,
    /// `None` where it has none, or where it is a secret, which brokers never tell.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can only be changed by a broker's file.
    pub is_read_only: bool,
    /// Whether its value is a secret.
    pub is_sensitive: bool,
}

/// Changes to one resource's configurations: made all or not at all. What is not named stays.
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigChanges {
    pub(crate) resource: ConfigResource,
    pub(crate) changes: Vec<(String, ConfigChange)>,
}

/// What happens to one configuration.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum ConfigChange {
    Set(String),
    Unset,
    Append(String),
    Subtract(String),
}

impl ConfigChanges {
    /// Of that resource, none so far.
    pub fn of(resource: ConfigResource) -> Self {
        Self { resource, changes: Vec::new() }
    }

    fn change(mut self, name: impl Into<String>, change: ConfigChange) -> Self {
        self.changes.push((name.into(), change));
        self
    }

    /// Gives a configuration a value.
    #[must_use]
    pub fn set(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.change(name, ConfigChange::Set(value.into()))
    }

    /// Takes its value back: it follows the brokers again.
    #[must_use]
    pub fn unset(self, name: impl Into<String>) -> Self {
        self.change(name, ConfigChange::Unset)
    }

    /// Adds words, separated by commas, to one that is a list.
    #[must_use]
    pub fn append(self, name: impl Into<String>, words: impl Into<String>) -> Self {
        self.change(name, ConfigChange::Append(words.into()))
    }

    /// Takes words, separated by commas, out of one that is a list.
    #[must_use]
    pub fn subtract(self, name: impl Into<String>, words: impl Into<String>) -> Self {
        self.change(name, ConfigChange::Subtract(words.into()))
    }
}

/// Without values: one may be a secret.
impl fmt::Debug for ConfigChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.changes.iter().map(|(name, _)| name).collect();
        f.debug_struct("ConfigChanges").field("resource", &self.resource).field("changes", &names).finish()
    }
}

/// Deletes records of a partition.
pub(crate) type Deletion = (TopicPartition, DeleteBelow);
