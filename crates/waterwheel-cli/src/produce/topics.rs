//! The topics that records are for: there, with the partitions that are named. Asked before the first record of each is sent,
//! since a record that is sent to a topic that is not there may make it, or waits for it.

use std::collections::HashMap;
use std::sync::Arc;

use waterwheel::admin::Admin;
use waterwheel::config::check_topic;

use super::unit::{Made, Problem};
use crate::exit::{Exit, Failure};

/// Topics that were asked for.
pub(super) struct Topics {
    admin: Admin,
    /// Their partitions; `None`: there is no such topic.
    known: HashMap<Arc<str>, Option<usize>>,
}

impl Topics {
    pub(super) fn new(admin: Admin) -> Self {
        Self { admin, known: HashMap::new() }
    }

    /// Whether there is such a topic with such a partition.
    pub(super) async fn check_place(
        &mut self,
        topic: &Arc<str>,
        partition: Option<i32>,
    ) -> Result<Result<(), Problem>, Failure> {
        let partitions = match self.known.get(topic) {
            Some(known) => *known,
            None => {
                if let Err(error) = check_topic(topic) {
                    return Ok(Err(Problem::new(error.to_string(), Exit::Usage)));
                }
                let partitions = self.ask(topic).await?;
                self.known.insert(topic.clone(), partitions);
                partitions
            }
        };
        Ok(match (partitions, partition) {
            (None, _) => Err(Problem::new(format!("there is no topic {topic}"), Exit::NotFound)),
            (Some(count), Some(partition)) if partition as usize >= count => {
                let text = format!("there is no partition {topic}-{partition}, only 0 to {}", count - 1);
                Err(Problem::new(text, Exit::NotFound))
            }
            _ => Ok(()),
        })
    }

    /// The same of a record's place.
    pub(super) async fn check(&mut self, made: &Made) -> Result<Result<(), Problem>, Failure> {
        self.check_place(&made.topic, made.partition).await
    }

    async fn ask(&self, topic: &str) -> Result<Option<usize>, Failure> {
        match self.admin.describe_topics(vec![topic.to_owned()]).await?.into_iter().next() {
            Some(Ok(described)) => Ok(Some(described.partitions.len())),
            Some(Err(error)) if !error.is_unknown_topic() => Err(Failure::from(error).about(format!("topic {topic}"))),
            _ => Ok(None),
        }
    }
}
