//! Access rules, and the credentials of users.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, c_char};
use std::ptr;

use rdkafka::bindings as sys;

use super::{Asker, Objects, WAIT, operation};
use crate::client::librdkafka::errors;
use crate::client::librdkafka::handle::Said;
use crate::client::librdkafka::list::c_string;
use crate::client::{
    Acl, AclFilter, AclPattern, AclTarget, Names, Operation, Permission, ScramChange, ScramMechanism, ScramUser,
};
use crate::error::KafkaError;

type Rule = sys::rd_kafka_AclBinding_t;
type Resource = sys::rd_kafka_ResourceType_t;
type Pattern = sys::rd_kafka_ResourcePatternType_t;
type Allows = sys::rd_kafka_AclPermissionType_t;
type RawOperation = sys::rd_kafka_AclOperation_t;
type RawMechanism = sys::rd_kafka_ScramMechanism_t;

impl Asker {
    pub(super) fn acls(&self, filter: &AclFilter) -> Result<Vec<Acl>, KafkaError> {
        let mut asked = Objects::freed_by(sys::rd_kafka_AclBinding_destroy);
        let filter = new_filter(filter, &mut asked)?;
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEACLS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            // SAFETY: all pointers are live; the filter is copied.
            unsafe { sys::rd_kafka_DescribeAcls(rk, filter, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let mut acls = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeAcls_result(event.as_ptr());
            let rules = sys::rd_kafka_DescribeAcls_result_acls(result, &raw mut count);
            (0..count).map(|i| read(*rules.add(i))).collect::<Vec<_>>()
        };
        acls.sort_unstable();
        Ok(acls)
    }

    pub(super) fn create_acls(&self, acls: &[Acl]) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        if acls.is_empty() {
            return Ok(Vec::new());
        }
        let mut rules = Objects::freed_by(sys::rd_kafka_AclBinding_destroy);
        for acl in acls {
            new_rule(acl, &mut rules)?;
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_CREATEACLS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (rules, count) = rules.array();
            // SAFETY: all pointers are live; the rules are copied.
            unsafe { sys::rd_kafka_CreateAcls(rk, rules, count, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it. Answers come in the
        // order of the rules.
        let codes: Vec<_> = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_CreateAcls_result(event.as_ptr());
            let answers = sys::rd_kafka_CreateAcls_result_acls(result, &raw mut count);
            (0..count).map(|i| told(sys::rd_kafka_acl_result_error(*answers.add(i)))).collect()
        };
        let mut codes = codes.into_iter();
        let outcome = |acl: &Acl| {
            let missing = (errors::BAD_ANSWER, "the answer lacks the rule".to_owned());
            let (code, said) = codes.next().unwrap_or(missing);
            errors::check_said(code, &acl.to_string(), &said)
        };
        Ok(acls.iter().map(outcome).collect())
    }

    pub(super) fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Result<Vec<Acl>, KafkaError>>, KafkaError> {
        if filters.is_empty() {
            return Ok(Vec::new());
        }
        let mut asked = Objects::freed_by(sys::rd_kafka_AclBinding_destroy);
        for filter in filters {
            new_filter(filter, &mut asked)?;
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DELETEACLS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (asked, count) = asked.array();
            // SAFETY: all pointers are live; the filters are copied.
            unsafe { sys::rd_kafka_DeleteAcls(rk, asked, count, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it. Answers come in the
        // order of the filters.
        unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DeleteAcls_result(event.as_ptr());
            let answers = sys::rd_kafka_DeleteAcls_result_responses(result, &raw mut count);
            let deleted = |i| {
                let answer = *answers.add(i);
                let (code, said) = told(sys::rd_kafka_DeleteAcls_result_response_error(answer));
                errors::check_said(code, "deleting rules", &said)?;
                let mut count = 0;
                let rules = sys::rd_kafka_DeleteAcls_result_response_matching_acls(answer, &raw mut count);
                let mut deleted = Vec::with_capacity(count);
                for n in 0..count {
                    let rule = *rules.add(n);
                    let (code, said) = told(sys::rd_kafka_AclBinding_error(rule));
                    let acl = read(rule);
                    errors::check_said(code, &acl.to_string(), &said)?;
                    deleted.push(acl);
                }
                deleted.sort_unstable();
                Ok(deleted)
            };
            Ok((0..count).map(deleted).collect())
        }
    }

    pub(super) fn scram_users(
        &self,
        users: Option<&[String]>,
    ) -> Result<Vec<Result<ScramUser, KafkaError>>, KafkaError> {
        // A name that comes twice is refused, and none means all.
        let names: BTreeMap<&str, CString> = users
            .unwrap_or_default()
            .iter()
            .map(|user| Ok((user.as_str(), c_string(user)?)))
            .collect::<Result<_, KafkaError>>()?;
        if users.is_some_and(<[String]>::is_empty) {
            return Ok(Vec::new());
        }
        let mut pointers: Vec<*const c_char> = names.values().map(|name| name.as_ptr()).collect();
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBEUSERSCRAMCREDENTIALS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (names, count) = (pointers.as_mut_ptr(), pointers.len());
            // SAFETY: all pointers are live; the names are copied.
            unsafe { sys::rd_kafka_DescribeUserScramCredentials(rk, names, count, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let told: BTreeMap<String, Result<ScramUser, KafkaError>> = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_DescribeUserScramCredentials_result(event.as_ptr());
            let all = sys::rd_kafka_DescribeUserScramCredentials_result_descriptions(result, &raw mut count);
            (0..count).map(|i| user(*all.add(i))).collect()
        };
        Ok(match users {
            None => told.into_values().collect(),
            Some(users) => users.iter().map(|u| told.get(u).cloned().unwrap_or_else(|| Err(missing(u)))).collect(),
        })
    }

    pub(super) fn alter_scram_users(&self, changes: &[ScramChange]) -> Result<Vec<Result<(), KafkaError>>, KafkaError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let mut alterations = Objects::freed_by(sys::rd_kafka_UserScramCredentialAlteration_destroy);
        for ScramChange { user, mechanism, set } in changes {
            let (user, mechanism) = (c_string(user)?, raw_mechanism(*mechanism));
            // SAFETY: the name ends in NUL, the password is as long as said; both are copied. Without a salt librdkafka makes
            // a random one.
            alterations.add(unsafe {
                match set {
                    None => sys::rd_kafka_UserScramCredentialDeletion_new(user.as_ptr(), mechanism),
                    Some((password, iterations)) => sys::rd_kafka_UserScramCredentialUpsertion_new(
                        user.as_ptr(),
                        mechanism,
                        i32::try_from(*iterations).unwrap_or(i32::MAX),
                        password.expose().as_ptr(),
                        password.expose().len(),
                        ptr::null(),
                        0,
                    ),
                }
            });
        }
        let kind = sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_ALTERUSERSCRAMCREDENTIALS;
        let event = self.request(kind, WAIT, |rk, options, queue| {
            let (alterations, count) = alterations.array();
            // SAFETY: all pointers are live; the alterations are copied.
            unsafe { sys::rd_kafka_AlterUserScramCredentials(rk, alterations, count, options, queue) }
        })?;
        // SAFETY: the event is live and is the answer to that question; all that is read lives with it.
        let told: HashMap<String, (i32, String)> = unsafe {
            let mut count = 0;
            let result = sys::rd_kafka_event_AlterUserScramCredentials_result(event.as_ptr());
            let all = sys::rd_kafka_AlterUserScramCredentials_result_responses(result, &raw mut count);
            let answer = |i| {
                let answer = *all.add(i);
                let name = errors::text(sys::rd_kafka_AlterUserScramCredentials_result_response_user(answer));
                (name, told(sys::rd_kafka_AlterUserScramCredentials_result_response_error(answer)))
            };
            (0..count).map(answer).collect()
        };
        let outcome = |change: &ScramChange| match told.get(&change.user) {
            Some((code, said)) => errors::check_said(*code, &change.user, said),
            None => Err(missing(&change.user)),
        };
        Ok(changes.iter().map(outcome).collect())
    }
}

fn missing(user: &str) -> KafkaError {
    errors::error(errors::BAD_ANSWER, format!("the answer lacks {user}"))
}

/// What an error object that is not ours says; code 0 for null.
///
/// # Safety
/// The object is null or live.
unsafe fn told(object: *const sys::rd_kafka_error_t) -> (i32, String) {
    if object.is_null() {
        return (0, String::new());
    }
    // SAFETY: as the caller says.
    unsafe { (errors::code_of(object), errors::text(sys::rd_kafka_error_string(object))) }
}

/// # Safety
/// The description is live.
unsafe fn user(
    description: *const sys::rd_kafka_UserScramCredentialsDescription_t,
) -> (String, Result<ScramUser, KafkaError>) {
    // SAFETY: as the caller says; all that is read lives with it.
    unsafe {
        let name = errors::text(sys::rd_kafka_UserScramCredentialsDescription_user(description));
        let (code, said) = told(sys::rd_kafka_UserScramCredentialsDescription_error(description));
        if let Err(error) = errors::check_said(code, &name, &said) {
            return (name, Err(error));
        }
        let count = sys::rd_kafka_UserScramCredentialsDescription_scramcredentialinfo_count(description);
        let credential = |i| {
            let info = sys::rd_kafka_UserScramCredentialsDescription_scramcredentialinfo(description, i);
            let mechanism = match errors::raw::rd_kafka_ScramCredentialInfo_mechanism(info) {
                1 => ScramMechanism::Sha256,
                2 => ScramMechanism::Sha512,
                _ => ScramMechanism::Unknown,
            };
            (mechanism, u32::try_from(sys::rd_kafka_ScramCredentialInfo_iterations(info)).unwrap_or(0))
        };
        let mut credentials: Vec<_> = (0..count).map(credential).collect();
        credentials.sort_unstable();
        (name.clone(), Ok(ScramUser { name, credentials }))
    }
}

fn new_rule(acl: &Acl, rules: &mut Objects<Rule>) -> Result<(), KafkaError> {
    let (kind, name) = resource(&acl.target);
    let texts = [name.unwrap_or_default(), &acl.principal, &acl.host].map(c_string);
    let [name, principal, host] = texts;
    let (name, principal, host, mut said) = (name?, principal?, host?, Said::default());
    // SAFETY: all texts end in NUL and are copied; the buffer is as long as said.
    let rule = unsafe {
        sys::rd_kafka_AclBinding_new(
            kind,
            name.as_ptr(),
            pattern(acl.pattern),
            principal.as_ptr(),
            host.as_ptr(),
            raw_operation(acl.operation),
            allows(acl.permission),
            said.as_mut_ptr(),
            said.len(),
        )
    };
    if rule.is_null() {
        return Err(KafkaError::new(errors::INVALID_ARGUMENT, said.text(), acl.to_string()));
    }
    rules.add(rule);
    Ok(())
}

fn new_filter(filter: &AclFilter, filters: &mut Objects<Rule>) -> Result<*mut Rule, KafkaError> {
    let (kind, name) = filter.target.as_ref().map_or((Resource::RD_KAFKA_RESOURCE_ANY, None), resource);
    let text = |text: Option<&str>| text.map(c_string).transpose();
    let (name, mut said) = (text(name)?, Said::default());
    let (principal, host) = (text(filter.principal.as_deref())?, text(filter.host.as_deref())?);
    let pointer = |text: &Option<CString>| text.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    let pattern = match filter.names {
        Names::Any => Pattern::RD_KAFKA_RESOURCE_PATTERN_ANY,
        Names::Concerning => Pattern::RD_KAFKA_RESOURCE_PATTERN_MATCH,
        Names::Of(of) => pattern(of),
    };
    // SAFETY: all texts are null or end in NUL, and are copied; the buffer is as long as said.
    let made = unsafe {
        sys::rd_kafka_AclBindingFilter_new(
            kind,
            pointer(&name),
            pattern,
            pointer(&principal),
            pointer(&host),
            filter.operation.map_or(RawOperation::RD_KAFKA_ACL_OPERATION_ANY, raw_operation),
            filter.permission.map_or(Allows::RD_KAFKA_ACL_PERMISSION_TYPE_ANY, allows),
            said.as_mut_ptr(),
            said.len(),
        )
    };
    if made.is_null() {
        return Err(KafkaError::new(errors::INVALID_ARGUMENT, said.text(), "a filter of rules"));
    }
    filters.add(made);
    Ok(made)
}

/// # Safety
/// The rule is live.
unsafe fn read(rule: *const Rule) -> Acl {
    // SAFETY: as the caller says; all that is read lives with the rule.
    unsafe {
        let name = errors::text(sys::rd_kafka_AclBinding_name(rule));
        Acl {
            target: match errors::raw::rd_kafka_AclBinding_restype(rule) {
                TOPIC => AclTarget::Topic(name),
                GROUP => AclTarget::Group(name),
                TRANSACTIONAL_ID => AclTarget::TransactionalId(name),
                CLUSTER => AclTarget::Cluster,
                _ => AclTarget::Other(name),
            },
            pattern: match errors::raw::rd_kafka_AclBinding_resource_pattern_type(rule) {
                3 => AclPattern::Literal,
                4 => AclPattern::Prefixed,
                _ => AclPattern::Unknown,
            },
            principal: errors::text(sys::rd_kafka_AclBinding_principal(rule)),
            host: errors::text(sys::rd_kafka_AclBinding_host(rule)),
            operation: operation(errors::raw::rd_kafka_AclBinding_operation(rule)),
            permission: match errors::raw::rd_kafka_AclBinding_permission_type(rule) {
                2 => Permission::Deny,
                3 => Permission::Allow,
                _ => Permission::Unknown,
            },
        }
    }
}

fn resource(target: &AclTarget) -> (Resource, Option<&str>) {
    match target {
        AclTarget::Topic(name) => (Resource::RD_KAFKA_RESOURCE_TOPIC, Some(name)),
        AclTarget::Group(name) => (Resource::RD_KAFKA_RESOURCE_GROUP, Some(name)),
        AclTarget::TransactionalId(name) => (Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID, Some(name)),
        // librdkafka's name for it, and Kafka's for the only one there is.
        AclTarget::Cluster => (Resource::RD_KAFKA_RESOURCE_BROKER, Some("kafka-cluster")),
        AclTarget::Other(name) => (Resource::RD_KAFKA_RESOURCE_UNKNOWN, Some(name)),
    }
}

fn pattern(of: AclPattern) -> Pattern {
    match of {
        AclPattern::Literal => Pattern::RD_KAFKA_RESOURCE_PATTERN_LITERAL,
        AclPattern::Prefixed => Pattern::RD_KAFKA_RESOURCE_PATTERN_PREFIXED,
        AclPattern::Unknown => Pattern::RD_KAFKA_RESOURCE_PATTERN_UNKNOWN,
    }
}

fn allows(of: Permission) -> Allows {
    match of {
        Permission::Allow => Allows::RD_KAFKA_ACL_PERMISSION_TYPE_ALLOW,
        Permission::Deny => Allows::RD_KAFKA_ACL_PERMISSION_TYPE_DENY,
        Permission::Unknown => Allows::RD_KAFKA_ACL_PERMISSION_TYPE_UNKNOWN,
    }
}

fn raw_operation(of: Operation) -> RawOperation {
    match of {
        Operation::All => RawOperation::RD_KAFKA_ACL_OPERATION_ALL,
        Operation::Read => RawOperation::RD_KAFKA_ACL_OPERATION_READ,
        Operation::Write => RawOperation::RD_KAFKA_ACL_OPERATION_WRITE,
        Operation::Create => RawOperation::RD_KAFKA_ACL_OPERATION_CREATE,
        Operation::Delete => RawOperation::RD_KAFKA_ACL_OPERATION_DELETE,
        Operation::Alter => RawOperation::RD_KAFKA_ACL_OPERATION_ALTER,
        Operation::Describe => RawOperation::RD_KAFKA_ACL_OPERATION_DESCRIBE,
        Operation::ClusterAction => RawOperation::RD_KAFKA_ACL_OPERATION_CLUSTER_ACTION,
        Operation::DescribeConfigs => RawOperation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS,
        Operation::AlterConfigs => RawOperation::RD_KAFKA_ACL_OPERATION_ALTER_CONFIGS,
        Operation::IdempotentWrite => RawOperation::RD_KAFKA_ACL_OPERATION_IDEMPOTENT_WRITE,
        Operation::Other => RawOperation::RD_KAFKA_ACL_OPERATION_UNKNOWN,
    }
}

fn raw_mechanism(of: ScramMechanism) -> RawMechanism {
    match of {
        ScramMechanism::Sha256 => RawMechanism::RD_KAFKA_SCRAM_MECHANISM_SHA_256,
        ScramMechanism::Sha512 => RawMechanism::RD_KAFKA_SCRAM_MECHANISM_SHA_512,
        ScramMechanism::Unknown => RawMechanism::RD_KAFKA_SCRAM_MECHANISM_UNKNOWN,
    }
}

const TOPIC: i32 = Resource::RD_KAFKA_RESOURCE_TOPIC as i32;
const GROUP: i32 = Resource::RD_KAFKA_RESOURCE_GROUP as i32;
const CLUSTER: i32 = Resource::RD_KAFKA_RESOURCE_BROKER as i32;
const TRANSACTIONAL_ID: i32 = Resource::RD_KAFKA_RESOURCE_TRANSACTIONAL_ID as i32;
