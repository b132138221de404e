//! Which cluster a topic is on, and what groups are called: one program, several clusters or stages.

use std::collections::{BTreeMap, HashSet};

use crate::config::{ConfigError, check_brokers, check_group, check_topic};

/// Where topics are, beside the client's own cluster, and what groups' names begin with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    /// Brokers of topics that are elsewhere.
    topics: BTreeMap<String, String>,
    prefix: String,
}

impl Places {
    pub(crate) fn put(&mut self, topic: String, brokers: String) -> Result<(), ConfigError> {
        check_topic(&topic)?;
        check_brokers(&brokers)?;
        match self.topics.insert(topic.clone(), brokers) {
            Some(_) => Err(ConfigError::new(topic, "the topic's brokers are set twice").remedy("set them once")),
            None => Ok(()),
        }
    }

    pub(crate) fn set_prefix(&mut self, prefix: String) -> Result<(), ConfigError> {
        check_group(&prefix)?;
        if !self.prefix.is_empty() {
            return Err(ConfigError::new("group prefix", "is set twice").remedy("set it once"));
        }
        self.prefix = prefix;
        Ok(())
    }

    /// What a group is called at the brokers.
    pub(crate) fn group(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The brokers of a topic that is elsewhere.
    pub(crate) fn of(&self, topic: &str) -> Option<&str> {
        self.topics.get(topic).map(String::as_str)
    }

    /// The topics that are not on the cluster of these brokers, as far as anything was said of them.
    pub(crate) fn not_at(&self, brokers: &str) -> HashSet<String> {
        self.topics.iter().filter(|(_, at)| *at != brokers).map(|(topic, _)| topic.clone()).collect()
    }

    /// The brokers of topics that have to be on one cluster; `None`: the client's own.
    pub(crate) fn of_all<'a>(&self, topics: impl IntoIterator<Item = &'a str>) -> Result<Option<&str>, ConfigError> {
        let mut first: Option<(&str, Option<&str>)> = None;
        for topic in topics {
            let brokers = self.of(topic);
            match first {
                None => first = Some((topic, brokers)),
                Some((_, same)) if same == brokers => {}
                Some((other, _)) => {
                    let problem = format!("{other} and {topic} are on different clusters");
                    return Err(ConfigError::new("topics", problem).remedy("make one for each cluster"));
                }
            }
        }
        Ok(first.and_then(|(_, brokers)| brokers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_of_two_clusters_are_told_apart() {
        let mut places = Places::default();
        places.put("orders".into(), "other:9092".into()).unwrap();
        places.put("refunds".into(), "other:9092".into()).unwrap();
        assert_eq!(places.of_all(["orders", "refunds"]).unwrap(), Some("other:9092"));
        assert_eq!(places.of_all(["prices", "^.*"]).unwrap(), None);
        assert_eq!(
            places.of_all(["prices", "orders"]).unwrap_err().to_string(),
            "topics: prices and orders are on different clusters; make one for each cluster"
        );
        assert_eq!(places.not_at("own:9092").len(), 2);
        assert_eq!(places.not_at("other:9092"), HashSet::new());
        assert!(places.put("orders".into(), "third:9092".into()).is_err());
        assert!(Places::default().put("a b".into(), "h".into()).is_err());
        assert!(Places::default().put("a".into(), " ".into()).is_err());
    }
}
