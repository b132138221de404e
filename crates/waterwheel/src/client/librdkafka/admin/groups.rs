//! Groups: which there are, what they are, deleting them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CString, c_char};

use rdkafka::bindings as sys;

use super::{Asker, WAIT, operations};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::list::{self, c_string};
use crate::client::{GroupDescription, GroupList, GroupListing, GroupMember, GroupState, GroupType};
use crate::error::{KafkaError, code};

impl Asker {
    pub(super) fn list_groups(&self) -> Result<GroupList, KafkaError> {
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live.
            unsafe { sys::rd_kafka_ListConsumerGroups(rk, options, queue) }
        })?;
        let mut list = GroupList::default();
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroups_result(event.as_ptr());
            let mut count = 0;
            let groups = sys::rd_kafka_ListConsumerGroups_result_valid(result, &raw mut count);
            for i in 0..count {
                let group = *groups.add(i);
                let protocol = group_type(sys::rd_kafka_ConsumerGroupListing_type(group));
                list.groups.push(GroupListing {
                    name: errors::text(sys::rd_kafka_ConsumerGroupListing_group_id(group)),
                    protocol,
                    state: state(sys::rd_kafka_ConsumerGroupListing_state(group), protocol),
                });
            }
            let failures = sys::rd_kafka_ListConsumerGroups_result_errors(result, &raw mut count);
            for i in 0..count {
                let failure = *failures.add(i);
                let said = self.handle.redact(&errors::text(sys::rd_kafka_error_string(failure)));
                list.failures.push(errors::error(errors::code_of(failure), said));
            }
        }
        list.groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(list)
    }

    pub(super) fn describe_groups(
        &self,
        groups: &[String],
    ) -> Result<Vec<Result<GroupDescription, KafkaError>>, KafkaError> {
        // A name that comes twice makes the whole question invalid.
        let names: BTreeMap<&str, CString> =
            groups.iter().map(|g| Ok((g.as_str(), c_string(g)?))).collect::<Result<_, KafkaError>>()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let mut pointers: Vec<*const c_char> = names.values().map(|n| n.as_ptr()).collect();
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the names are copied. The option is one of this question's.
            unsafe {
                let option = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                let refused = errors::take(option, "");
                debug_assert!(refused.is_ok(), "{refused:?}");
                sys::rd_kafka_DescribeConsumerGroups(rk, pointers.as_mut_ptr(), pointers.len(), options, queue);
            }
        })?;
        let mut told = HashMap::new();
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeConsumerGroups_result(event.as_ptr());
            let descriptions = sys::rd_kafka_DescribeConsumerGroups_result_groups(result, &raw mut count);
            for i in 0..count {
                let group = *descriptions.add(i);
                let name = errors::text(sys::rd_kafka_ConsumerGroupDescription_group_id(group));
                let code = errors::code_of(sys::rd_kafka_ConsumerGroupDescription_error(group));
                told.insert(name.clone(), errors::check(code, &name).map(|()| description(group)));
            }
        }
        let missing = || Err(errors::error(code::GROUP_ID_NOT_FOUND, "the answer lacks the group"));
        Ok(groups.iter().map(|g| told.get(g).cloned().unwrap_or_else(missing)).collect())
    }

    pub(super) fn delete_groups(&self, groups: &[String]) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        let names: BTreeSet<CString> = groups.iter().map(|g| c_string(g)).collect::<Result<_, KafkaError>>()?;
        if names.is_empty() {
            return Ok(Vec::new());
        }
        // SAFETY: the names end in NUL and are copied; what is made is ours to free.
        let mut deletions: Vec<_> =
            names.iter().map(|name| unsafe { sys::rd_kafka_DeleteGroup_new(name.as_ptr()) }).collect();
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEGROUPS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the deletions are copied.
            unsafe { sys::rd_kafka_DeleteGroups(rk, deletions.as_mut_ptr(), deletions.len(), options, queue) }
        });
        // SAFETY: made above, freed once.
        unsafe { sys::rd_kafka_DeleteGroup_destroy_array(deletions.as_mut_ptr(), deletions.len()) };
        let event = event?;
        let mut told = HashMap::new();
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteGroups_result(event.as_ptr());
            let results = sys::rd_kafka_DeleteGroups_result_groups(result, &raw mut count);
            for i in 0..count {
                let result = *results.add(i);
                let name = errors::text(sys::rd_kafka_group_result_name(result));
                let code = errors::code_of(sys::rd_kafka_group_result_error(result));
                told.insert(name.clone(), errors::check(code, &name));
            }
        }
        let missing = || Err(errors::error(code::GROUP_ID_NOT_FOUND, "the answer lacks the group"));
        Ok(groups.iter().map(|g| told.get(g).cloned().unwrap_or_else(missing)).collect())
    }
}

/// # Safety
/// The group is live.
unsafe fn description(group: *const sys::rd_kafka_ConsumerGroupDescription_t) -> GroupDescription {
    // SAFETY: as the caller says; all that is read lives with the group.
    unsafe {
        let protocol = group_type(sys::rd_kafka_ConsumerGroupDescription_type(group));
        let coordinator = sys::rd_kafka_ConsumerGroupDescription_coordinator(group);
        let mut count = 0;
        let allowed = sys::rd_kafka_ConsumerGroupDescription_authorized_operations(group, &raw mut count);
        let member_count = sys::rd_kafka_ConsumerGroupDescription_member_count(group);
        let mut members: Vec<GroupMember> =
            (0..member_count).map(|i| member(sys::rd_kafka_ConsumerGroupDescription_member(group, i))).collect();
        members.sort_unstable_by(|a, b| (&a.client_id, &a.host, &a.id).cmp(&(&b.client_id, &b.host, &b.id)));
        let assignor = errors::text(sys::rd_kafka_ConsumerGroupDescription_partition_assignor(group));
        GroupDescription {
            name: errors::text(sys::rd_kafka_ConsumerGroupDescription_group_id(group)),
            protocol,
            state: state(sys::rd_kafka_ConsumerGroupDescription_state(group), protocol),
            assignor: Some(assignor).filter(|assignor| !assignor.is_empty()),
            coordinator: (!coordinator.is_null()).then(|| sys::rd_kafka_Node_id(coordinator)),
            members,
            allowed: operations(allowed, count),
        }
    }
}

/// # Safety
/// The member is live.
unsafe fn member(member: *const sys::rd_kafka_MemberDescription_t) -> GroupMember {
    // SAFETY: as the caller says; all that is read lives with the member.
    unsafe {
        let assignment = sys::rd_kafka_MemberDescription_assignment(member);
        let partitions = if assignment.is_null() {
            Vec::new()
        } else {
            list::read(sys::rd_kafka_MemberAssignment_partitions(assignment))
        };
        let mut partitions: Vec<_> = partitions.into_iter().map(|entry| entry.partition).collect();
        partitions.sort_unstable();
        let instance_id = errors::text(sys::rd_kafka_MemberDescription_group_instance_id(member));
        GroupMember {
            id: errors::text(sys::rd_kafka_MemberDescription_consumer_id(member)),
            client_id: errors::text(sys::rd_kafka_MemberDescription_client_id(member)),
            // Java writes addresses as "/10.0.0.1".
            host: errors::text(sys::rd_kafka_MemberDescription_host(member)).trim_start_matches('/').to_owned(),
            instance_id: Some(instance_id).filter(|id| !id.is_empty()),
            partitions,
        }
    }
}

fn group_type(of: sys::rd_kafka_consumer_group_type_t) -> Option<GroupType> {
    use sys::rd_kafka_consumer_group_type_t as raw;
    match of {
        raw::RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => Some(GroupType::Classic),
        raw::RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => Some(GroupType::Consumer),
        _ => None,
    }
}

fn state(of: sys::rd_kafka_consumer_group_state_t, protocol: Option<GroupType>) -> GroupState {
    use sys::rd_kafka_consumer_group_state_t as raw;
    match (of, protocol) {
        (raw::RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE, _) => GroupState::PreparingRebalance,
        (raw::RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE, _) => GroupState::CompletingRebalance,
        (raw::RD_KAFKA_CONSUMER_GROUP_STATE_STABLE, _) => GroupState::Stable,
        (raw::RD_KAFKA_CONSUMER_GROUP_STATE_DEAD, _) => GroupState::Dead,
        (raw::RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY, _) => GroupState::Empty,
        // librdkafka 2.12.1 does not know "Assigning" and "Reconciling", the other two that such a group can be in.
        (_, Some(GroupType::Consumer)) => GroupState::Reconciling,
        _ => GroupState::Unknown,
    }
}
