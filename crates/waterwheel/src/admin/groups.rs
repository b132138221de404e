//! Groups: which there are, what they have committed, and changes to it.

use std::time::Duration;

use super::Admin;
use crate::client::{Commit, CommitOutcome, Committed, GroupDescription, GroupList, GroupState};
use crate::error::{Error, KafkaError, code};
use crate::record::TopicPartition;

/// How long after a coordinator that was new to a group a commit is repeated.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Admin {
    /// All groups of consumers that this client may see.
    pub async fn groups(&self) -> Result<GroupList, Error> {
        self.within(self.port.list_groups()).await
    }

    /// Describes groups. Where there is none, an error of which [`is_unknown_group`](KafkaError::is_unknown_group) holds.
    pub async fn describe_groups(
        &self,
        groups: Vec<String>,
    ) -> Result<Vec<Result<GroupDescription, KafkaError>>, Error> {
        let described = self.within(self.port.describe_groups(groups)).await?;
        // Brokers before Kafka 4.0 describe a group that does not exist as dead.
        let existing = |group: GroupDescription| match group.state {
            GroupState::Dead => Err(KafkaError::new(code::GROUP_ID_NOT_FOUND, "no such group", group.name)),
            _ => Ok(group),
        };
        Ok(described.into_iter().map(|group| group.and_then(existing)).collect())
    }

    /// What a group has committed: for `partitions`, in their order, or with `None` for all for which it has committed
    /// something, by topic and partition. A group that does not exist has committed nothing.
    pub async fn committed(
        &self,
        group: impl Into<String>,
        partitions: Option<Vec<TopicPartition>>,
    ) -> Result<Vec<Result<Committed, KafkaError>>, Error> {
        self.within(self.port.committed(group.into(), partitions)).await
    }

    /// Commits for a group without being a member of it: its next members begin there. Where the group has members,
    /// errors of which [`is_active_group`](KafkaError::is_active_group) holds. Makes the group where there is none. Repeated
    /// while the group's coordinator is new to it.
    pub async fn commit(&self, group: impl Into<String>, commits: Vec<Commit>) -> Result<Vec<CommitOutcome>, Error> {
        const NEW: [i32; 3] =
            [code::COORDINATOR_LOAD_IN_PROGRESS, code::COORDINATOR_NOT_AVAILABLE, code::NOT_COORDINATOR];
        let is_new = |outcome: &CommitOutcome| outcome.result.as_ref().is_err_and(|e| NEW.contains(&e.code()));
        let (port, group) = (self.port.clone(), group.into());
        let repeated = async move {
            loop {
                let outcomes = port.commit(group.clone(), commits.clone()).await?;
                if !outcomes.iter().any(is_new) {
                    return Ok(outcomes);
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        };
        self.within(Box::pin(repeated)).await
    }

    /// Takes back what a group has committed for partitions: its next members begin there as if it had committed nothing.
    /// An error for a partition of a topic that a member subscribes to.
    pub async fn delete_offsets(
        &self,
        group: impl Into<String>,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<CommitOutcome>, Error> {
        self.within(self.port.delete_offsets(group.into(), partitions)).await
    }

    /// Deletes groups with all that they committed. A group that has members stays: an error of which
    /// [`is_active_group`](KafkaError::is_active_group) holds.
    pub async fn delete_groups(&self, groups: Vec<String>) -> Result<Vec<Result<(), KafkaError>>, Error> {
        self.within(self.port.delete_groups(groups)).await
    }
}
