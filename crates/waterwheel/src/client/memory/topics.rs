//! What tools change of topics: making and deleting them, partitions, records, configurations.

use super::error;
use super::groups::BROKER;
use super::refusal;
use super::world::{State, Topic};
use crate::client::{
    ConfigChange, ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, DeleteBelow, Mode, NewPartitions, NewTopic,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

impl State {
    pub(super) fn create_topic(&mut self, topic: NewTopic, mode: Mode) -> Result<(), KafkaError> {
        let name = &topic.name;
        let is_valid = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > 249 || !name.chars().all(is_valid) {
            return Err(error(code::INVALID_TOPIC, name));
        }
        if self.topics.contains_key(name.as_str()) {
            return Err(error(code::TOPIC_ALREADY_EXISTS, name));
        }
        if topic.replication.is_some_and(|factor| factor != 1) {
            return Err(error(refusal::INVALID_REPLICATION_FACTOR, format!("{name}: there is one broker")));
        }
        check_replicas(name, &topic.replicas)?;
        let partitions = match topic.replicas.len() {
            0 => topic.partitions.unwrap_or(1),
            count => count,
        };
        if partitions == 0 {
            return Err(error(refusal::INVALID_PARTITIONS, name));
        }
        for (config, value) in &topic.configs {
            check_config(name, config, value)?;
        }
        if mode == Mode::Execute {
            self.make_topic(name, partitions);
            if let Some(made) = self.topics.get_mut(name.as_str()) {
                made.configs = topic.configs.into_iter().collect();
            }
        }
        Ok(())
    }

    pub(super) fn create_partitions(&mut self, wanted: &NewPartitions, mode: Mode) -> Result<(), KafkaError> {
        let has = self.topic(&wanted.topic)?.logs.len();
        if wanted.total <= has {
            let said = format!("{}: has {has} partitions", wanted.topic);
            return Err(error(refusal::INVALID_PARTITIONS, said));
        }
        check_replicas(&wanted.topic, &wanted.replicas)?;
        if !wanted.replicas.is_empty() && wanted.replicas.len() != wanted.total - has {
            return Err(error(refusal::INVALID_REPLICA_ASSIGNMENT, &wanted.topic));
        }
        if mode == Mode::Execute {
            self.make_topic(&wanted.topic, wanted.total);
        }
        Ok(())
    }

    /// Where the log begins now.
    pub(super) fn delete_records(&mut self, of: &TopicPartition, below: DeleteBelow) -> Result<i64, KafkaError> {
        let missing = || error(code::UNKNOWN_TOPIC_OR_PARTITION, of.to_string());
        let log = self.log_mut(of).ok_or_else(missing)?;
        let end = log.end(false);
        let offset = match below {
            DeleteBelow::End => end,
            DeleteBelow::Offset(offset) if (0..=end).contains(&offset) => offset,
            DeleteBelow::Offset(offset) => return Err(error(code::OFFSET_OUT_OF_RANGE, format!("{of}@{offset}"))),
        };
        log.delete_below(offset);
        Ok(log.start())
    }

    pub(super) fn configs(&self, of: &ConfigResource) -> Result<Vec<ConfigEntry>, KafkaError> {
        let ConfigResource::Topic(name) = of else { return Err(error(refusal::UNSUPPORTED_VERSION, of.to_string())) };
        let set = &self.topic(name)?.configs;
        let entry = |(name, default): &(&str, &str)| {
            let value = set.get(*name);
            ConfigEntry {
                name: (*name).to_owned(),
                value: Some(value.map_or_else(|| (*default).to_owned(), String::clone)),
                source: if value.is_some() { ConfigSource::Topic } else { ConfigSource::Default },
                is_read_only: false,
                is_sensitive: false,
            }
        };
        Ok(CONFIGS.iter().map(entry).collect())
    }

    pub(super) fn alter_configs(&mut self, changes: &ConfigChanges, mode: Mode) -> Result<(), KafkaError> {
        let of = &changes.resource;
        let ConfigResource::Topic(name) = of else { return Err(error(refusal::UNSUPPORTED_VERSION, of.to_string())) };
        let mut configs = self.topic(name)?.configs.clone();
        for (config, change) in &changes.changes {
            let words = |configs: &std::collections::BTreeMap<String, String>| -> Vec<String> {
                let value = configs.get(config).map(String::as_str).or_else(|| default_of(config));
                value.into_iter().flat_map(|v| v.split(',')).filter(|w| !w.is_empty()).map(str::to_owned).collect()
            };
            let value = match change {
                ConfigChange::Unset => {
                    check_config(name, config, default_of(config).unwrap_or_default())?;
                    configs.remove(config);
                    continue;
                }
                ConfigChange::Set(value) => value.clone(),
                ConfigChange::Append(more) => {
                    let mut all = words(&configs);
                    all.extend(more.split(',').map(str::to_owned));
                    all.join(",")
                }
                ConfigChange::Subtract(fewer) => {
                    let mut all = words(&configs);
                    all.retain(|word| !fewer.split(',').any(|gone| gone == word));
                    all.join(",")
                }
            };
            check_config(name, config, &value)?;
            configs.insert(config.clone(), value);
        }
        if mode == Mode::Execute
            && let Some(topic) = self.topics.get_mut(name.as_str())
        {
            topic.configs = configs;
        }
        Ok(())
    }

    fn topic(&self, name: &str) -> Result<&Topic, KafkaError> {
        self.topics.get(name).ok_or_else(|| error(code::UNKNOWN_TOPIC_OR_PARTITION, name))
    }
}

fn check_replicas(topic: &str, replicas: &[Vec<i32>]) -> Result<(), KafkaError> {
    match replicas.iter().all(|brokers| brokers == &[BROKER]) {
        true => Ok(()),
        false => Err(error(refusal::INVALID_REPLICA_ASSIGNMENT, format!("{topic}: there is broker {BROKER} alone"))),
    }
}

fn default_of(config: &str) -> Option<&'static str> {
    CONFIGS.iter().find(|(name, _)| *name == config).map(|(_, default)| *default)
}

/// A value is of the kind that the default is: a number, a truth value, or words.
fn check_config(topic: &str, config: &str, value: &str) -> Result<(), KafkaError> {
    let fits = default_of(config).is_some_and(|default| match default {
        "true" | "false" => ["true", "false"].contains(&value),
        number if number.parse::<i64>().is_ok() => value.parse::<i64>().is_ok(),
        number if number.parse::<f64>().is_ok() => value.parse::<f64>().is_ok(),
        _ if config == "cleanup.policy" => value.split(',').all(|word| ["compact", "delete"].contains(&word)),
        _ => true,
    });
    if fits { Ok(()) } else { Err(error(refusal::INVALID_CONFIG, format!("{topic}: {config}"))) }
}

/// A topic's configurations and their defaults, as Kafka 4.1.1 tells them.
const CONFIGS: &[(&str, &str)] = &[
    ("cleanup.policy", "delete"),
    ("compression.gzip.level", "-1"),
    ("compression.lz4.level", "9"),
    ("compression.type", "producer"),
    ("compression.zstd.level", "3"),
    ("delete.retention.ms", "86400000"),
    ("file.delete.delay.ms", "60000"),
    ("flush.messages", "9223372036854775807"),
    ("flush.ms", "9223372036854775807"),
    ("follower.replication.throttled.replicas", ""),
    ("index.interval.bytes", "4096"),
    ("leader.replication.throttled.replicas", ""),
    ("local.retention.bytes", "-2"),
    ("local.retention.ms", "-2"),
    ("max.compaction.lag.ms", "9223372036854775807"),
    ("max.message.bytes", "1048588"),
    ("message.timestamp.after.max.ms", "3600000"),
    ("message.timestamp.before.max.ms", "9223372036854775807"),
    ("message.timestamp.type", "CreateTime"),
    ("min.cleanable.dirty.ratio", "0.5"),
    ("min.compaction.lag.ms", "0"),
    ("min.insync.replicas", "1"),
    ("preallocate", "false"),
    ("remote.log.copy.disable", "false"),
    ("remote.log.delete.on.disable", "false"),
    ("remote.storage.enable", "false"),
    ("retention.bytes", "-1"),
    ("retention.ms", "604800000"),
    ("segment.bytes", "1073741824"),
    ("segment.index.bytes", "10485760"),
    ("segment.jitter.ms", "0"),
    ("segment.ms", "604800000"),
    ("unclean.leader.election.enable", "false"),
];
