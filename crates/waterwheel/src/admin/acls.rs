//! Access rules.

use super::Admin;
use crate::client::{Acl, AclFilter, AclPattern, AclTarget, Operation, Permission};
use crate::config::{ConfigError, check_group, check_topic};
use crate::error::{Error, KafkaError};

impl Admin {
    /// The access rules that a filter takes. None are told, too, where this client may not describe the cluster, or the cluster
    /// has no authorizer: librdkafka 2.12.1 drops the refusal of this one question.
    pub async fn acls(&self, filter: AclFilter) -> Result<Vec<Acl>, Error> {
        check_filter(&filter)?;
        self.within(self.port.acls(filter)).await
    }

    /// Makes access rules; one that is there already stays. A rule that cannot be is refused for the whole call, before
    /// anything is sent. Brokers go by a rule a moment after it was made.
    pub async fn create_acls(&self, acls: Vec<Acl>) -> Result<Vec<Result<(), KafkaError>>, Error> {
        acls.iter().try_for_each(check_acl)?;
        self.within(self.port.create_acls(acls)).await
    }

    /// Deletes the access rules that each filter takes, and tells which. There is no way back, and no dry run in Kafka: ask
    /// with [`acls`](Self::acls) first.
    pub async fn delete_acls(&self, filters: Vec<AclFilter>) -> Result<Vec<Result<Vec<Acl>, KafkaError>>, Error> {
        filters.iter().try_for_each(check_filter)?;
        self.within(self.port.delete_acls(filters)).await
    }
}

fn refuse(key: &str, problem: &str, remedy: &str) -> Result<(), ConfigError> {
    Err(ConfigError::new(key, problem).remedy(remedy))
}

fn check_acl(acl: &Acl) -> Result<(), ConfigError> {
    let Acl { target, pattern, principal, host, operation, permission } = acl;
    check_target(target)?;
    check_principal(principal)?;
    if host.is_empty() {
        return refuse("host", "is empty", "name an address, or * for all");
    }
    if *pattern == AclPattern::Unknown || *permission == Permission::Unknown || *operation == Operation::Other {
        return refuse("acl", "is of a kind that the client does not know", "make it with Kafka's own tools");
    }
    if *pattern == AclPattern::Prefixed && *target == AclTarget::Cluster {
        return refuse("acl", "the cluster has no prefix", "leave it out");
    }
    Ok(())
}

fn check_filter(filter: &AclFilter) -> Result<(), ConfigError> {
    filter.target.iter().try_for_each(check_target)?;
    filter.principal.iter().try_for_each(|principal| check_principal(principal))
}

fn check_target(target: &AclTarget) -> Result<(), ConfigError> {
    match target {
        AclTarget::Topic(name) | AclTarget::Group(name) | AclTarget::TransactionalId(name) if name == "*" => Ok(()),
        AclTarget::Topic(name) => check_topic(name),
        AclTarget::Group(name) => check_group(name),
        AclTarget::TransactionalId(name) if name.is_empty() => refuse("transactional.id", "is empty", "name one, or *"),
        AclTarget::TransactionalId(_) | AclTarget::Cluster => Ok(()),
        AclTarget::Other(_) => {
            refuse("acl", "is about something that the client does not know", "use Kafka's own tools")
        }
    }
}

fn check_principal(principal: &str) -> Result<(), ConfigError> {
    match principal.split_once(':') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(()),
        _ => refuse("principal", "is no kind and name", "write User:name"),
    }
}
