//! The seam: five ports, and behind them a client of Kafka.
//!
//! A consumer is two clients (`ARCHITECTURE.md`, "Two clients"): a [`Membership`] takes part in the group and commits,
//! and never sees a record; a [`Fetcher`] reads partitions that it is told to read, and knows no group. [`Producer`],
//! its [`Transactions`] and [`Admin`] complete them. All speak in batches: one dynamic call a batch or a control action.
//!
//! No type of a backend leaves its folder, and a backend is named only by the function that builds a client, so that
//! another core can take its place.

mod access;
mod admin;
mod described;
mod events;
mod fetcher;
pub(crate) mod librdkafka;
mod membership;
#[cfg(feature = "__memory")]
pub(crate) mod memory;
mod producer;
mod statistics;
#[cfg(test)]
#[cfg(feature = "__memory")]
mod tests;
mod token;
mod topics;
mod transactions;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

pub(crate) use access::Names;
pub use access::{Acl, AclFilter, AclPattern, AclTarget, Permission, ScramChange, ScramMechanism, ScramUser};
pub(crate) use admin::Admin;
pub use admin::OffsetSpec;
pub use described::{
    BrokerDescription, ClusterDescription, GroupDescription, GroupList, GroupListing, GroupMember, GroupState,
    GroupType, Operation, PartitionDescription, TopicDescription,
};
pub use events::{ClientEvent, ClientRole};
pub(crate) use fetcher::{FetchFailure, FetchQueue, Fetched, Fetcher, Position};
pub use membership::{Commit, CommitOutcome, Committed};
pub(crate) use membership::{GroupProtocol, Membership, MembershipEvent};
pub use producer::Purge;
pub(crate) use producer::{
    Answers, Header, Outgoing, Parcel, Producer, Pull, SendError, Sent, SentAll, Source, Unsent, Written,
};
pub(crate) use statistics::StatisticsListener;
pub use statistics::{BrokerStatistics, ClientStatistics, PartitionStatistics};
pub use token::OAuthToken;
pub(crate) use token::TokenSource;
pub(crate) use topics::{ConfigChange, Deletion};
pub use topics::{
    ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, DeleteBelow, Isolation, ListedOffset, Mode,
    NewPartitions, NewTopic,
};
pub(crate) use transactions::{GroupMetadata, TransactionError, TransactionErrorKind, TransactionFuture, Transactions};

use tokio::sync::broadcast;

use crate::config::Secret;
use crate::error::KafkaError;

/// A future of a port. Dropping one gives up its answer, not the request.
pub(crate) type PortFuture<T> = Pin<Box<dyn Future<Output = Result<T, KafkaError>> + Send>>;

/// Client properties by librdkafka's names, checked by `config`.
pub(crate) type Properties = BTreeMap<String, String>;

/// The time of a cluster that does not go by the machine's clock but by the runtime's, which a test may pause.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WorldTime {
    pub(crate) start: tokio::time::Instant,
    /// Wall time at `start`, in milliseconds since the Unix epoch.
    pub(crate) wall_start_ms: i64,
}

/// Makes clients of one kind. Nothing connects before its first use.
pub(crate) trait Backend: Send + Sync {
    /// The cluster's time; `None`: the machine's.
    fn time(&self) -> Option<WorldTime> {
        None
    }

    fn membership(&self, properties: &Properties, topics: &[String]) -> Result<Arc<dyn Membership>, KafkaError>;
    fn fetcher(&self, properties: &Properties) -> Result<Arc<dyn Fetcher>, KafkaError>;
    fn producer(&self, properties: &Properties) -> Result<Arc<dyn Producer>, KafkaError>;
    /// A producer for transactions; `properties` have a `transactional.id`.
    fn transactions(&self, properties: &Properties) -> Result<Arc<dyn Transactions>, KafkaError>;
    fn admin(&self, properties: &Properties) -> Result<Arc<dyn Admin>, KafkaError>;

    /// What its clients have to say, from now on.
    fn events(&self) -> broadcast::Receiver<ClientEvent>;

    /// Has all clients that there are and that will be log in with these from now on.
    fn set_credentials(&self, user: &str, password: &Secret) -> Result<(), KafkaError>;
}
