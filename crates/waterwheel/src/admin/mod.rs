//! Questions about a cluster and changes to it: what operators need, and the command's verbs.

mod acls;
mod groups;
mod offsets;
mod topics;
mod users;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use crate::client::{
    Acl, AclFilter, AclPattern, AclTarget, BrokerDescription, ClusterDescription, Commit, CommitOutcome, Committed,
    ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, DeleteBelow, GroupDescription, GroupList, GroupListing,
    GroupMember, GroupState, GroupType, Isolation, ListedOffset, Mode, NewPartitions, NewTopic, OffsetSpec, Operation,
    PartitionDescription, Permission, ScramChange, ScramMechanism, ScramUser, TopicDescription,
};

use crate::client::{Admin as Port, Fetcher, PortFuture};
use crate::connection::Client;
use crate::error::{Error, KafkaError, code};

/// Asks a cluster about its brokers, topics, configurations and groups, and changes them. Made by
/// [`Client::admin`]; cheap to clone.
///
/// Every call is given up after [`deadline`](Self::deadline), 10 s unless set, with an error of which
/// [`is_unreachable`](KafkaError::is_unreachable) holds and which tells what was in the way. Wrong credentials or an untrusted
/// certificate end a call after 2 s. Dropping a call's future gives up its answer; a change that was sent may still be made.
///
/// A call that is about several things answers each, in the order asked, with what was found or why not.
#[derive(Clone)]
pub struct Admin {
    port: Arc<dyn Port>,
    deadline: Duration,
    client: Client,
    /// Made when records are first read.
    fetcher: Arc<OnceLock<Arc<dyn Fetcher>>>,
}

impl Client {
    /// Questions and changes that concern topics and groups. Connects at the first of them.
    pub fn admin(&self) -> Result<Admin, Error> {
        let port = self.backend().admin(self.properties())?;
        Ok(Admin { port, deadline: Duration::from_secs(10), client: self.clone(), fetcher: Arc::default() })
    }
}

impl Admin {
    /// Gives calls up after as long, at most 30 s; 10 s by default.
    #[must_use]
    pub fn deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// The cluster's id and brokers.
    pub async fn cluster(&self) -> Result<ClusterDescription, Error> {
        self.within(self.port.describe_cluster()).await
    }

    /// Asks one broker, by the address that it tells clients. `Ok` where it answers, whatever it says.
    pub async fn ask_broker(&self, id: i32) -> Result<(), Error> {
        self.within(self.port.ask_broker(id)).await
    }

    async fn within<T>(&self, answer: PortFuture<T>) -> Result<T, Error> {
        let late = || {
            let trouble = self.port.trouble().map_or_else(String::new, |trouble| format!(": {trouble}"));
            KafkaError::new(
                code::LOCAL_TIMED_OUT,
                "timed out",
                format!("no answer within {:?}{trouble}", self.deadline),
            )
        };
        Ok(tokio::time::timeout(self.deadline, answer).await.unwrap_or_else(|_| Err(late()))?)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("deadline", &self.deadline).finish_non_exhaustive()
    }
}
