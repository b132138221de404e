//! What is told of groups, and what tools from outside change.

use super::error;
use super::group::Group;
use super::world::State;
use crate::client::{
    Commit, CommitOutcome, Committed, GroupDescription, GroupListing, GroupMember, GroupProtocol, GroupState,
    GroupType, Operation,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// The only broker.
pub(super) const BROKER: i32 = 0;
/// What everybody may do here.
pub(super) const ALLOWED: [Operation; 4] = [Operation::Read, Operation::Write, Operation::Describe, Operation::Delete];
/// A member subscribes to the topic.
const GROUP_SUBSCRIBED_TO_TOPIC: i32 = 86;

impl State {
    pub(super) fn list_groups(&self) -> Vec<GroupListing> {
        let listing = |(name, group): (&String, &Group)| GroupListing {
            name: name.clone(),
            protocol: Some(kind(group)),
            state: self.doing(group),
        };
        self.groups.iter().map(listing).collect()
    }

    fn doing(&self, group: &Group) -> GroupState {
        let is_asked = |number: &u64| self.seats.get(number).is_some_and(|seat| seat.open.is_some());
        match kind(group) {
            _ if group.members.is_empty() => GroupState::Empty,
            GroupType::Classic if group.members.keys().any(is_asked) => GroupState::PreparingRebalance,
            GroupType::Consumer if group.members.keys().any(is_asked) => GroupState::Reconciling,
            _ => GroupState::Stable,
        }
    }

    pub(super) fn describe_group(&self, name: &str) -> Result<GroupDescription, KafkaError> {
        let group = self.group(name)?;
        let members = group.members.iter().map(|(number, member)| GroupMember {
            id: format!("{}-{}", member.client_id, member.identity),
            client_id: member.client_id.clone(),
            host: self.seats.get(number).map_or_else(|| "memory".to_owned(), |seat| format!("host-{}", seat.host)),
            instance_id: member.instance.clone(),
            partitions: Group::of(&group.owners, *number).into_iter().collect(),
        });
        let mut members: Vec<_> = members.collect();
        members.sort_by(|a, b| (&a.client_id, &a.host, &a.id).cmp(&(&b.client_id, &b.host, &b.id)));
        let assignor = group.members.values().next().map(|member| match (member.is_new, member.protocol) {
            (true, _) => "uniform",
            (false, GroupProtocol::Incremental) => "cooperative-sticky",
            (false, GroupProtocol::Eager) => "range",
        });
        Ok(GroupDescription {
            name: name.to_owned(),
            protocol: Some(kind(group)),
            state: self.doing(group),
            assignor: assignor.map(str::to_owned),
            coordinator: Some(BROKER),
            members,
            allowed: Some(ALLOWED.to_vec()),
        })
    }

    fn group(&self, name: &str) -> Result<&Group, KafkaError> {
        self.groups.get(name).ok_or_else(|| error(code::GROUP_ID_NOT_FOUND, name))
    }

    pub(super) fn committed_by(&self, name: &str, partitions: Option<Vec<TopicPartition>>) -> Vec<Committed> {
        let nobody = Group::default();
        let group = self.groups.get(name).unwrap_or(&nobody);
        match partitions {
            Some(partitions) => partitions.iter().map(|partition| group.committed(partition)).collect(),
            None => group.committed.values().cloned().collect(),
        }
    }

    /// Refused where the group has members.
    pub(super) fn commit_from_outside(&mut self, name: &str, commits: Vec<Commit>) -> Vec<CommitOutcome> {
        let is_active = self.groups.get(name).is_some_and(|group| !group.members.is_empty());
        let commit = |commit: Commit| {
            let partition = commit.partition.clone();
            let result = if is_active {
                Err(error(code::UNKNOWN_MEMBER_ID, name))
            } else if self.log(&partition).is_none() {
                Err(error(code::UNKNOWN_TOPIC_OR_PARTITION, partition.to_string()))
            } else {
                self.groups.entry(name.to_owned()).or_default().keep(commit);
                Ok(())
            };
            CommitOutcome { partition, result }
        };
        commits.into_iter().map(commit).collect()
    }

    /// Refused where a member subscribes to the topic.
    pub(super) fn delete_offsets(
        &mut self,
        name: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<CommitOutcome>, KafkaError> {
        self.group(name)?;
        let delete = |partition: TopicPartition| {
            let Some(group) = self.groups.get_mut(name) else {
                return CommitOutcome { result: Err(error(code::GROUP_ID_NOT_FOUND, name)), partition };
            };
            let is_read = |topic: &String| super::pattern::matches(topic, &partition.topic);
            let result = if group.members.values().any(|member| member.topics.iter().any(is_read)) {
                Err(error(GROUP_SUBSCRIBED_TO_TOPIC, partition.to_string()))
            } else {
                group.committed.remove(&partition);
                Ok(())
            };
            CommitOutcome { partition, result }
        };
        Ok(partitions.into_iter().map(delete).collect())
    }

    /// Refused where the group has members.
    pub(super) fn delete_group(&mut self, name: &str) -> Result<(), KafkaError> {
        if !self.group(name)?.members.is_empty() {
            return Err(error(code::NON_EMPTY_GROUP, name));
        }
        self.groups.remove(name);
        Ok(())
    }
}

fn kind(group: &Group) -> GroupType {
    if group.members.values().any(|member| member.is_new) { GroupType::Consumer } else { GroupType::Classic }
}
