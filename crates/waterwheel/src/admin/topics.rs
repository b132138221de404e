//! Topics: which there are, what they are, and changes to them.

use std::collections::BTreeSet;

use super::Admin;
use crate::client::{
    ConfigChanges, ConfigEntry, ConfigResource, DeleteBelow, Mode, NewPartitions, NewTopic, Operation, TopicDescription,
};
use crate::config::{ConfigError, check_group, check_topic};
use crate::error::{Error, KafkaError};
use crate::record::TopicPartition;

impl Admin {
    /// The names of all topics that this client may see, in their order, Kafka's own (`__consumer_offsets`) among them.
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        self.within(self.port.list_topics()).await
    }

    /// Describes topics. Where there is none, an error of which [`is_unknown_topic`](KafkaError::is_unknown_topic) holds;
    /// asking makes none.
    pub async fn describe_topics(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<Result<TopicDescription, KafkaError>>, Error> {
        self.within(self.port.describe_topics(topics)).await
    }

    /// What this client may do with topics; `None` where the cluster does not tell.
    pub async fn allowed_on_topics(
        &self,
        topics: Vec<String>,
    ) -> Result<Vec<Result<Option<Vec<Operation>>, KafkaError>>, Error> {
        self.within(self.port.allowed_on_topics(topics)).await
    }

    /// Makes topics. Where there is one of that name, an error of which [`is_existing_topic`](KafkaError::is_existing_topic)
    /// holds. A broker may know of a new topic a moment after this has ended.
    ///
    /// A name that Kafka does not allow, or that comes twice, or settings that do not go together, are refused for the whole
    /// call, before anything is sent.
    pub async fn create_topics(&self, topics: Vec<NewTopic>, mode: Mode) -> Result<Vec<Result<(), KafkaError>>, Error> {
        check_names(topics.iter().map(|topic| topic.name.as_str()))?;
        for topic in &topics {
            check_new(topic)?;
        }
        self.within(self.port.create_topics(topics, mode, self.deadline)).await
    }

    /// Deletes topics with all their records, and what groups have committed for them. There is no way back, and no dry run
    /// in Kafka. A wrong name is refused for the whole call, before anything is sent.
    pub async fn delete_topics(&self, topics: Vec<String>) -> Result<Vec<Result<(), KafkaError>>, Error> {
        check_names(topics.iter().map(String::as_str))?;
        self.within(self.port.delete_topics(topics)).await
    }

    /// Adds partitions to topics. Keys of records move, so that the order of a key ends at the change; workers find the new
    /// partitions by themselves (`topic.metadata.refresh.interval.ms`, 5 minutes by default).
    pub async fn create_partitions(
        &self,
        of: Vec<NewPartitions>,
        mode: Mode,
    ) -> Result<Vec<Result<(), KafkaError>>, Error> {
        check_names(of.iter().map(|partitions| partitions.topic.as_str()))?;
        for partitions in &of {
            check_replicas(&partitions.topic, &partitions.replicas)?;
        }
        self.within(self.port.create_partitions(of, mode)).await
    }

    /// Deletes the first records of partitions; where each log begins now. There is no way back, and no dry run in Kafka. An
    /// offset behind the end of the log is refused by the broker (code 1). A partition may be named once.
    pub async fn delete_records(
        &self,
        of: Vec<(TopicPartition, DeleteBelow)>,
    ) -> Result<Vec<Result<i64, KafkaError>>, Error> {
        let mut seen = BTreeSet::new();
        for (partition, below) in &of {
            check_topic(&partition.topic)?;
            if matches!(below, DeleteBelow::Offset(offset) if *offset < 0) {
                return Err(ConfigError::new(partition.to_string(), "the offset is negative")
                    .remedy("from 0 on")
                    .into());
            }
            if !seen.insert(partition) {
                return Err(twice(&partition.to_string()));
            }
        }
        self.within(self.port.delete_records(of)).await
    }

    /// All configurations of resources, by name. Which values a broker does not tell, [`ConfigEntry`] says.
    pub async fn configs(&self, of: Vec<ConfigResource>) -> Result<Vec<Result<Vec<ConfigEntry>, KafkaError>>, Error> {
        of.iter().try_for_each(check_resource)?;
        self.within(self.port.configs(of)).await
    }

    /// Changes configurations, those that are named; the others stay (KIP-339). A resource may be named once.
    pub async fn alter_configs(
        &self,
        changes: Vec<ConfigChanges>,
        mode: Mode,
    ) -> Result<Vec<Result<(), KafkaError>>, Error> {
        let mut seen = BTreeSet::new();
        for ConfigChanges { resource, changes } in &changes {
            check_resource(resource)?;
            if !seen.insert(resource) {
                return Err(twice(&resource.to_string()));
            }
            let mut names = BTreeSet::new();
            if let Some((name, _)) = changes.iter().find(|(name, _)| !names.insert(name)) {
                return Err(twice(name));
            }
            if changes.is_empty() {
                return Err(ConfigError::new(resource.to_string(), "no change is named")
                    .remedy("set or unset one")
                    .into());
            }
        }
        self.within(self.port.alter_configs(changes, mode)).await
    }
}

fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in names {
        check_topic(name)?;
        if !seen.insert(name) {
            return Err(twice(name));
        }
    }
    Ok(())
}

fn twice(name: &str) -> Error {
    ConfigError::new(name, "is named twice").remedy("name it once").into()
}

fn check_new(topic: &NewTopic) -> Result<(), Error> {
    let refuse = |problem: &str, remedy: &str| Err(ConfigError::new(&*topic.name, problem).remedy(remedy).into());
    if topic.partitions == Some(0) || topic.replication == Some(0) {
        return refuse(
            "a topic has at least one partition, on at least one broker",
            "leave it out, or name at least 1",
        );
    }
    if !topic.replicas.is_empty() && (topic.partitions.is_some() || topic.replication.is_some()) {
        return refuse("the brokers of each partition are named, and numbers of them too", "leave out the numbers");
    }
    let mut names = BTreeSet::new();
    if let Some((name, _)) = topic.configs.iter().find(|(name, _)| !names.insert(name)) {
        return Err(twice(name));
    }
    check_replicas(&topic.name, &topic.replicas)
}

fn check_replicas(topic: &str, replicas: &[Vec<i32>]) -> Result<(), Error> {
    let is_wrong = |brokers: &Vec<i32>| {
        let once: BTreeSet<_> = brokers.iter().collect();
        brokers.is_empty() || once.len() < brokers.len()
    };
    match replicas.iter().any(is_wrong) {
        true => Err(ConfigError::new(topic, "a partition's brokers are none, or one of them is named twice")
            .remedy("name at least one for each partition")
            .into()),
        false => Ok(()),
    }
}

fn check_resource(resource: &ConfigResource) -> Result<(), Error> {
    match resource {
        ConfigResource::Topic(name) => Ok(check_topic(name)?),
        ConfigResource::Group(name) => Ok(check_group(name)?),
        ConfigResource::Broker(id) if *id >= 0 => Ok(()),
        ConfigResource::Broker(_) => Err(ConfigError::new(resource.to_string(), "is no broker's number")
            .remedy("see the cluster's brokers")
            .into()),
    }
}
