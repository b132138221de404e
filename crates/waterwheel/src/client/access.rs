//! Who may do what: access rules, and the credentials of users.

use std::fmt;

use super::Operation;
use crate::config::Secret;

/// What an access rule is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AclTarget {
    /// A topic, or those whose names begin so; `*` stands for all.
    Topic(String),
    /// A group, or those whose names begin so; `*` stands for all.
    Group(String),
    /// A `transactional.id`, or those that begin so; `*` stands for all.
    TransactionalId(String),
    /// The cluster.
    Cluster,
    /// What the client under this library does not know, as delegation tokens. Cannot be asked for.
    Other(String),
}

/// How a rule's name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum AclPattern {
    /// As it is.
    Literal,
    /// As the beginning of names.
    Prefixed,
    /// The client does not know the broker's word.
    Unknown,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Permission {
    /// It allows.
    Allow,
    /// It forbids, whatever else allows.
    Deny,
    /// The client does not know the broker's word.
    Unknown,
}

/// An access rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Acl {
    /// What it is about.
    pub target: AclTarget,
    /// How its name is taken.
    pub pattern: AclPattern,
    /// Who, as `User:billing`; `User:*` stands for all.
    pub principal: String,
    /// From which address; `*` stands for all.
    pub host: String,
    /// What one does.
    pub operation: Operation,
    /// Whether one may.
    pub permission: Permission,
}

impl Acl {
    fn new(permission: Permission, principal: String, operation: Operation, target: AclTarget) -> Self {
        Self { target, pattern: AclPattern::Literal, principal, host: "*".to_owned(), operation, permission }
    }

    /// Lets who is named (`User:billing`) do it, from every address.
    pub fn allow(principal: impl Into<String>, operation: Operation, target: AclTarget) -> Self {
        Self::new(Permission::Allow, principal.into(), operation, target)
    }

    /// Forbids it, whatever else allows it.
    pub fn deny(principal: impl Into<String>, operation: Operation, target: AclTarget) -> Self {
        Self::new(Permission::Deny, principal.into(), operation, target)
    }

    /// Takes the name as the beginning of names.
    #[must_use]
    pub fn prefixed(self) -> Self {
        Self { pattern: AclPattern::Prefixed, ..self }
    }

    /// From one address only.
    #[must_use]
    pub fn from_host(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, pattern, principal, host, operation, permission } = self;
        let permission = if *permission == Permission::Deny { "may not" } else { "may" };
        write!(f, "{principal} from {host} {permission} {operation:?} {target:?} ({pattern:?})")
    }
}

/// Which names a filter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    Any,
    Of(AclPattern),
    /// Rules that concern the name: literally, as a prefix, or as `*`.
    Concerning,
}

/// Which access rules: all that nothing of it rules out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclFilter {
    pub(crate) target: Option<AclTarget>,
    pub(crate) names: Names,
    pub(crate) principal: Option<String>,
    pub(crate) host: Option<String>,
    pub(crate) operation: Option<Operation>,
    pub(crate) permission: Option<Permission>,
}

impl AclFilter {
    /// All rules there are.
    pub fn all() -> Self {
        Self { target: None, names: Names::Any, principal: None, host: None, operation: None, permission: None }
    }

    /// This rule alone.
    pub fn exactly(acl: &Acl) -> Self {
        Self {
            target: Some(acl.target.clone()),
            names: Names::Of(acl.pattern),
            principal: Some(acl.principal.clone()),
            host: Some(acl.host.clone()),
            operation: Some(acl.operation),
            permission: Some(acl.permission),
        }
    }

    /// Rules with that very name.
    pub fn named(target: AclTarget) -> Self {
        Self { target: Some(target), ..Self::all() }
    }

    /// Rules that decide about it: with its name, with a beginning of it, or with `*`.
    pub fn concerning(target: AclTarget) -> Self {
        Self { target: Some(target), names: Names::Concerning, ..Self::all() }
    }

    /// Those of one principal, as `User:billing`.
    #[must_use]
    pub fn principal(self, principal: impl Into<String>) -> Self {
        Self { principal: Some(principal.into()), ..self }
    }

    /// Those of one operation.
    #[must_use]
    pub fn operation(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }

    /// Those that allow, or those that forbid.
    #[must_use]
    pub fn permission(self, permission: Permission) -> Self {
        Self { permission: Some(permission), ..self }
    }
}

/// How a password is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ScramMechanism {
    /// `SCRAM-SHA-256`.
    Sha256,
    /// `SCRAM-SHA-512`.
    Sha512,
    /// The client does not know the broker's word.
    Unknown,
}

/// A user's credentials; the cluster tells no more of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScramUser {
    /// The user's name.
    pub name: String,
    /// By mechanism: how often the password is hashed.
    pub credentials: Vec<(ScramMechanism, u32)>,
}

/// A change to a user's credentials.
#[derive(Clone, Debug)]
pub struct ScramChange {
    pub(crate) user: String,
    pub(crate) mechanism: ScramMechanism,
    /// `None`: the credentials go.
    pub(crate) set: Option<(Secret, u32)>,
}

/// Kafka's least, and the number that its own tools use.
const ITERATIONS: u32 = 4_096;

impl ScramChange {
    /// Gives the user a password, and makes the user where there is none. It is hashed here, 4,096 times unless
    /// [`iterations`](Self::iterations) says otherwise, with a random salt, and does not leave this process.
    pub fn set(user: impl Into<String>, mechanism: ScramMechanism, password: impl Into<Secret>) -> Self {
        Self { user: user.into(), mechanism, set: Some((password.into(), ITERATIONS)) }
    }

    /// Takes the user's password of one mechanism away.
    pub fn delete(user: impl Into<String>, mechanism: ScramMechanism) -> Self {
        Self { user: user.into(), mechanism, set: None }
    }

    /// How often the password is hashed; Kafka takes 4,096 to 16,384.
    #[must_use]
    pub fn iterations(mut self, iterations: u32) -> Self {
        if let Some((_, count)) = &mut self.set {
            *count = iterations;
        }
        self
    }
}
